import Base
import DataModel

/// Locks of one shard, and who waits for them.
///
/// A one-shot part takes all its locks at once or none; an interactive transaction takes them statement by statement,
/// and may make a shared one exclusive. Calls outside transactions leave no lock.
///
///     who has it            a read    a read of T    a write    shared    exclusive
///     shared                passes    passes         waits      passes    waits
///     exclusive, provis.    passes    passes         waits      waits     waits
///     exclusive, hard       waits     waits *        waits      waits     waits       * if prepared at T or before
///
/// An exclusive lock of an interactive transaction is *provisional* until that is prepared: what it will write is
/// nowhere yet, so reads outside transactions see the newest committed state past it, and so do transactions that only
/// read. Also past it, a transaction that is being prepared takes shared locks on what it has read (`share`); before
/// the other one makes its locks *hard*, it waits until these are gone (`harden`). So it comes behind in any order.
///
/// Invariants:
/// - Order: parts that conflict with anything (a key, the whole shard) go in the order in which they came, and so do
///   the calls of a lane and the requests of one transaction. A call waits for those who have locks, and keeps its
///   place before parts that come later; since it leaves no lock, it delays nobody. So nobody starves. Two exceptions
///   keep transactions from waiting in a circle where nobody need: who has a lock of a key overtakes those that wait
///   for that key; and nobody waits behind one that waits for him.
/// - No deadlock among one-shot transactions, over all shards (wait-die, Rosenkrantz et al. 1978): a part waits only
///   while it is older than every one-shot transaction that it waits for, *through* calls and parts before it in the
///   queue too; else it is refused. So along every chain of waits ages only fall, and there is no circle. Calls hold
///   nothing and are never waited for from another shard, so they always wait. A lock that is ending, because its
///   transaction is decided, waits for nobody; everybody may wait for it. Waits of and for interactive transactions
///   are edges of the wait-for graph instead (`edges`, `circle`, `WaitGraph`).
/// - `share` never waits, and `harden` only for older ones to be younger than: see there.
/// - Bounded: calls that wait, and bytes of keys and calls. What is over it is refused, not dropped.
/// - Cheap: when a lock goes, those are looked at that may be free now, not everybody who waits.
package struct LockTable: Sendable {
    /// What waiting may cost.
    package struct Limits: Hashable, Sendable {
        package var waiters = 4096
        package var bytes = 512 << 20
        /// Locks that a transaction lets go of at once; what it has beyond that goes later (`letGo`).
        package var slice = 1024
        package init() {}
    }

    /// Whether a call may go on.
    package enum Verdict: Hashable, Sendable {
        /// It has the locks (a call outside transactions: nobody has them).
        case granted
        case waits
        case refused(PartRefusal)
    }

    /// A call that need not wait any longer. A part or a statement has its locks.
    struct Woken {
        let token: UInt64
        let part: PartID?
        let isHardening: Bool
        /// What it is told, if its time is over.
        var refusal = PartRefusal.busy
    }

    struct Holder: Sendable {
        let owner: LockOwner
        var locks: [LockKey: LockMode] = [:]
        var shard: LockMode?
        /// Locks that are exclusive.
        var exclusive = 0
        /// Nobody passes its exclusive locks.
        var isHard: Bool
        /// It waits until that is so.
        var isHardening = false
        /// The transaction is decided.
        var isEnding = false
        /// It is over: its locks go, some at a time.
        var isLeaving = false
        var preparedAt: Timestamp?
        var bytes = 0
    }

    /// Those that wait for a key stand in three lines.
    enum Line: CaseIterable {
        /// Who wants to lock or to change it.
        case main
        /// Who wants to look at the newest state, or to share it with provisional locks.
        case reads
        /// Who wants to look at an earlier moment.
        case moments
    }

    struct Key: Sendable {
        var exclusive: PartID?
        var shared: [PartID] = []
        var main = LockQueue()
        var reads = LockQueue()
        var moments = LockQueue()

        var isUnused: Bool {
            exclusive == nil && shared.isEmpty && main.isEmpty && reads.isEmpty && moments.isEmpty
        }

        subscript(line: Line) -> LockQueue {
            get {
                switch line {
                case .main: main
                case .reads: reads
                case .moments: moments
                }
            }
            _modify {
                switch line {
                case .main: yield &main
                case .reads: yield &reads
                case .moments: yield &moments
                }
            }
        }
    }

    let limits: Limits
    let bugs: TransactionBugs
    var holders: [PartID: Holder] = [:]
    var keys: [LockKey: Key] = [:]
    /// Who has locked the whole shard.
    var shardHolders: [PartID: LockMode] = [:]
    /// By their sequence numbers.
    var waiting: [UInt64: LockRequest] = [:]
    private var sequences: [UInt64: UInt64] = [:]
    /// Those that are over, and have locks yet.
    private var leaving: [PartID] = []
    /// Those that want the whole shard.
    var shardLine = LockQueue()
    /// Connections, and parts, with requests that wait.
    var lanes: [UInt64: LockQueue] = [:]
    var ownLines: [PartID: LockQueue] = [:]
    private var lastSequence: UInt64 = 0
    private var bytes = 0
    private var earliestDeadline = UInt64.max
    /// No lock is held and nobody waits: nothing has to be asked. The one flag on the path of every call.
    package private(set) var isFree = true

    package init(limits: Limits = .init(), bugs: TransactionBugs = []) { (self.limits, self.bugs) = (limits, bugs) }

    func sequence(of token: UInt64) -> UInt64? { sequences[token] }

    /// Parts and scopes with locks.
    package var holderCount: Int { holders.count }

    /// Requests that wait.
    package var waiterCount: Int { waiting.count }

    /// Whether a transaction has the key: maintenance leaves it alone.
    package func isLocked(_ database: UInt8, _ key: ByteView) -> Bool {
        if holders.isEmpty { return false }
        if !shardHolders.isEmpty { return true }
        guard let state = keys[LockKey(database, key.bytes)] else { return false }
        return state.exclusive != nil || !state.shared.isEmpty
    }

    /// Whether a transaction changes the key that is prepared, or about to be: what is there may be past already.
    package func isHardLocked(_ database: UInt8, _ key: ByteView) -> Bool {
        guard !holders.isEmpty, let part = keys[LockKey(database, key.bytes)]?.exclusive else { return false }
        return holders[part]?.isHard ?? false
    }

    /// Who may change the key, and whether that is prepared, or about to be.
    package func holder(_ database: UInt8, _ key: ByteView) -> (id: PartID, isHard: Bool)? {
        guard !holders.isEmpty, let part = keys[LockKey(database, key.bytes)]?.exclusive else { return nil }
        return (part, holders[part]?.isHard ?? false)
    }

    /// Whether some key like that may be changed by a transaction. Looks at all of them.
    package func isAnyWritten(_ isMeant: (LockKey) -> Bool) -> Bool {
        keys.contains { $0.value.exclusive != nil && isMeant($0.key) }
    }

    /// Whether a transaction has any key.
    package var isAnyLocked: Bool { !holders.isEmpty }

    // MARK: Asking

    /// For a call outside transactions: may it be evaluated?
    mutating func request(_ scope: LockScope, asOf: Timestamp? = nil, _ call: WaitingCall) -> Verdict {
        isFree ? .granted : request(LockRequest(scope, asOf: asOf, call))
    }

    /// For a part: locks for all of its keys.
    mutating func request(_ part: Part, _ call: WaitingCall, now: UInt64 = 0) -> Verdict {
        let owner = LockOwner(id: part.id, rank: part.rank, kind: part.isReadOnly ? .reader : .oneShot)
        return request(request(part.scope, of: owner, call, now))
    }

    /// For a statement of an interactive transaction: locks that it has not yet, and a look at what it reads.
    mutating func request(
        _ owner: LockOwner, locks: LockScope, reads: LockScope, asOf: Timestamp?, _ policy: WaitPolicy,
        _ call: WaitingCall, now: UInt64, skipped: inout [LockKey]
    ) -> Verdict {
        var request = request(locks, of: owner, call, now)
        request.timeout = .lockTimeout
        switch policy {
        case .wait: break
        case .noWait: if !unavailable(request).isEmpty { return .refused(.lockNotAvailable) }
        case .skipLocked:
            let taken = unavailable(request)
            request.claims.removeAll { claim in claim.key.map(taken.contains) ?? false }
            skipped = locks.exclusive.filter(taken.contains) + locks.shared.filter(taken.contains)
        }
        if !reads.isEmpty {
            request.asOf = asOf
            let mine = holders[owner.id]
            for key in reads.shared where mine?.locks[key] == nil {
                request.claims.append(LockClaim(key: key, want: .read))
            }
            if reads.shard != nil { request.claims.append(LockClaim(key: nil, want: .read)) }
        }
        if policy != .wait, isBlocked(numbered(request)) { return .refused(.lockNotAvailable) }
        return self.request(request)
    }

    private func request(_ scope: LockScope, of owner: LockOwner, _ call: WaitingCall, _ now: UInt64) -> LockRequest {
        var request = LockRequest(call, owner)
        request.since = now
        let mine = holders[owner.id]
        for key in scope.exclusive where mine?.locks[key] != .exclusive && mine?.shard != .exclusive {
            request.claims.append(LockClaim(key: key, want: .exclusive))
        }
        for key in scope.shared where mine?.locks[key] == nil && mine?.shard == nil {
            request.claims.append(LockClaim(key: key, want: .shared))
        }
        if let mode = scope.shard, mine?.shard != .exclusive, mine?.shard != mode {
            request.claims.append(LockClaim(key: nil, want: mode == .shared ? .shared : .exclusive))
        }
        return request
    }

    func numbered(_ request: LockRequest) -> LockRequest {
        var request = request
        request.sequence = lastSequence &+ 1
        return request
    }

    /// The keys that it cannot lock now.
    private func unavailable(_ request: LockRequest) -> Set<LockKey> {
        var taken: Set<LockKey> = []
        for claim in request.claims {
            var single = numbered(request)
            single.claims = [claim]
            if let key = claim.key, isBlocked(single, byClaims: true) { taken.insert(key) }
        }
        return taken
    }

    private mutating func request(_ given: LockRequest) -> Verdict {
        // It would take what is going for its own. Who is over asks for nothing, but a message may be late.
        if let owner = given.owner, holders[owner.id]?.isLeaving == true { return .refused(.busy) }
        var request = numbered(given)
        guard isBlocked(request) else {
            guard let owner = request.owner else { return .granted }
            guard bytes &+ request.bytes <= limits.bytes else { return .refused(.busy) }
            take(request.claims, owner)
            return .granted
        }
        let eldest = eldest(before: request)
        if let owner = request.owner, owner.kind != .interactive {
            if let eldest, eldest <= owner.rank, !bugs.contains(.youngerWaits) { return .refused(.conflict) }
        } else {
            request.eldest = eldest
        }
        return enqueue(request)
    }

    mutating func enqueue(_ request: LockRequest) -> Verdict {
        guard waiting.count < limits.waiters, bytes &+ request.bytes <= limits.bytes else { return .refused(.busy) }
        lastSequence &+= 1
        bytes &+= request.bytes
        isFree = false
        earliestDeadline = min(earliestDeadline, request.call.deadline)
        waiting[request.sequence] = request
        sequences[request.call.token] = request.sequence
        let mine = request.owner.flatMap { holders[$0.id] }
        func place(_ want: LockClaim.Want) -> LockQueue.Place {
            let eldest = request.owner.map { $0.kind == .interactive ? nil : $0.rank } ?? request.eldest
            return LockQueue.Place(
                sequence: request.sequence, want: want, owner: request.owner?.id, eldest: eldest,
                hasLocks: mine != nil)
        }
        for claim in request.claims {
            if let key = claim.key {
                let line = line(of: claim, request)
                keys[key, default: Key()][line].append(place(claim.want))
            } else {
                shardLine.append(place(claim.want))
            }
        }
        if request.call.lane != 0 { lanes[request.call.lane, default: LockQueue()].append(place(.read)) }
        if let owner = request.owner { ownLines[owner.id, default: LockQueue()].append(place(.read)) }
        return .waits
    }

    func line(of claim: LockClaim, _ request: LockRequest) -> Line {
        switch claim.want {
        case .read: request.asOf == nil ? .reads : .moments
        case .shared: request.passesProvisional ? .reads : .main
        case .write, .exclusive: .main
        }
    }

    // MARK: Having

    /// Takes locks that nobody can contest: those of an intent that was read from the store.
    mutating func restore(_ scope: LockScope, _ part: PartID, _ rank: Rank, preparedAt: Timestamp) {
        let owner = LockOwner(id: part, rank: rank, kind: .oneShot)
        take(request(scope, of: owner, WaitingCall(token: 0, lane: 0, bytes: 0, deadline: 0), 0).claims, owner)
        holders[part]?.preparedAt = preparedAt
    }

    mutating func take(_ claims: [LockClaim], _ owner: LockOwner) {
        guard owner.kind != .interactive || claims.contains(where: { $0.want == .shared || $0.want == .exclusive })
        else { return }
        var holder = holders.removeValue(forKey: owner.id) ?? Holder(owner: owner, isHard: owner.kind != .interactive)
        for claim in claims {
            let mode: LockMode
            switch claim.want {
            case .read, .write: continue
            case .shared: mode = .shared
            case .exclusive: mode = .exclusive
            }
            if mode == .exclusive { holder.exclusive += 1 }
            guard let key = claim.key else {
                holder.shard = mode
                shardHolders[owner.id] = mode
                continue
            }
            if holder.locks.updateValue(mode, forKey: key) == nil {
                holder.bytes += LockScope.bytes(of: key)
                bytes &+= LockScope.bytes(of: key)
            } else {
                keys[key]?.shared.removeAll { $0 == owner.id }
            }
            switch mode {
            case .shared: keys[key, default: Key()].shared.append(owner.id)
            case .exclusive: keys[key, default: Key()].exclusive = owner.id
            }
        }
        holders[owner.id] = holder
        isFree = false
    }

    /// The transaction is decided: its locks go soon, whatever others do.
    mutating func markEnding(_ part: PartID) { holders[part]?.isEnding = true }

    /// It is prepared: reads of earlier moments need not wait for it.
    mutating func markPrepared(_ part: PartID, at timestamp: Timestamp) { holders[part]?.preparedAt = timestamp }

    /// What a part or scope has.
    func locks(of part: PartID) -> LockScope {
        guard let holder = holders[part] else { return LockScope() }
        var exclusive: [LockKey] = [], shared: [LockKey] = []
        for (key, mode) in holder.locks {
            switch mode {
            case .exclusive: exclusive.append(key)
            case .shared: shared.append(key)
            }
        }
        return LockScope(distinct: exclusive, shared, shard: holder.shard)
    }

    // MARK: Letting go

    /// Lets go of a part's locks; those who need not wait any longer are appended in their order. Of very many the
    /// others stay for `letGo`: until they have gone they are locks like any.
    mutating func release(_ part: PartID, into woken: inout [Woken]) {
        guard let count = holders[part]?.locks.count, holders[part]?.isLeaving == false else { return }
        if waiting.isEmpty, holders.count == 1 {
            // There is nobody else: a million keys need not be looked at.
            bytes &-= holders.removeValue(forKey: part)?.bytes ?? 0
            shardHolders = [:]
            keys.removeAll()
            isFree = true
            return
        }
        if count > limits.slice {
            holders[part]?.isLeaving = true
            holders[part]?.isEnding = true
            leaving.append(part)
        }
        release(part, limits.slice, into: &woken)
    }

    /// Whether some that are over have locks yet.
    var isLeaving: Bool { !leaving.isEmpty }

    /// Lets go of more of them.
    mutating func letGo(into woken: inout [Woken]) {
        guard let part = leaving.first else { return }
        release(part, limits.slice, into: &woken)
        if holders[part] == nil { leaving.removeFirst() }
    }

    /// Lets go of some of a part's locks; with the last of them it has none.
    private mutating func release(_ part: PartID, _ count: Int, into woken: inout [Woken]) {
        guard var holder = holders.removeValue(forKey: part) else { return }
        let some = holder.locks.count > count ? Array(holder.locks.keys.prefix(count)) : Array(holder.locks.keys)
        let isLast = some.count == holder.locks.count
        for key in some {
            if let place = keys.index(forKey: key) {
                if keys.values[place].exclusive == part { keys.values[place].exclusive = nil }
                if !keys.values[place].shared.isEmpty { keys.values[place].shared.removeAll { $0 == part } }
            }
            guard !isLast else { continue }
            if holder.locks.removeValue(forKey: key) == .exclusive { holder.exclusive -= 1 }
            holder.bytes -= LockScope.bytes(of: key)
            bytes &-= LockScope.bytes(of: key)
        }
        if isLast { bytes &-= holder.bytes } else { holders[part] = holder }
        var agenda = LockAgenda()
        for key in some { consider(key, &agenda) }
        if isLast, shardHolders.removeValue(forKey: part) != nil { considerAll(&agenda) }
        finish(&agenda, into: &woken)
    }

    /// Takes a request out of the queue. False if it is not in it.
    @discardableResult
    mutating func cancel(_ token: UInt64, into woken: inout [Woken]) -> Bool {
        guard let sequence = sequences[token] else { return false }
        var agenda = LockAgenda()
        remove(sequence, &agenda)
        finish(&agenda, into: &woken)
        return true
    }

    /// Looks again at the transactions that wait since `limit` or longer and have locks: one behind which they stand
    /// may have come to wait for them since, because somebody else did, and nobody waits behind one that waits for him.
    mutating func overtake(waitingSince limit: UInt64, into woken: inout [Woken]) {
        var agenda = LockAgenda()
        for (sequence, request) in waiting where request.since <= limit {
            guard let owner = request.owner, holders[owner.id] != nil else { continue }
            agenda.push(.init(sequence: sequence, key: nil, line: nil))
        }
        finish(&agenda, into: &woken)
    }

    /// Takes those out of the queue that have waited too long, and returns them.
    mutating func expire(_ now: UInt64, into woken: inout [Woken]) -> [Woken] {
        guard now >= earliestDeadline else { return [] }
        earliestDeadline = .max
        var expired: [Woken] = [], agenda = LockAgenda()
        for (sequence, request) in waiting.sorted(by: { $0.key < $1.key }) {
            guard request.call.deadline <= now else {
                earliestDeadline = min(earliestDeadline, request.call.deadline)
                continue
            }
            remove(sequence, &agenda)
            expired.append(woke(request))
        }
        finish(&agenda, into: &woken)
        return expired
    }

    func woke(_ request: LockRequest) -> Woken {
        Woken(
            token: request.call.token, part: request.owner?.id, isHardening: request.isHardening,
            refusal: request.timeout)
    }

    /// The request leaves the queue; whoever was behind it is on the agenda.
    mutating func remove(_ sequence: UInt64, _ agenda: inout LockAgenda) {
        guard let request = waiting.removeValue(forKey: sequence) else { return }
        bytes &-= request.bytes
        sequences[request.call.token] = nil
        if request.isHardening, let id = request.owner?.id { holders[id]?.isHardening = false }
        for claim in request.claims {
            guard let key = claim.key else {
                shardLine.remove(sequence)
                considerAll(&agenda)
                continue
            }
            let line = line(of: claim, request)
            keys[key]?[line].remove(sequence)
            consider(key, after: sequence, &agenda)
        }
        if lanes[request.call.lane] != nil {
            lanes[request.call.lane]?.remove(sequence)
            if let next = lanes[request.call.lane]?.next(after: sequence) {
                agenda.push(.init(sequence: next, key: nil, line: nil))
            } else if lanes[request.call.lane]?.isEmpty == true {
                lanes[request.call.lane] = nil
            }
        }
        if let id = request.owner?.id {
            ownLines[id]?.remove(sequence)
            if let next = ownLines[id]?.next(after: sequence) {
                agenda.push(.init(sequence: next, key: nil, line: nil))
            } else if ownLines[id]?.isEmpty == true {
                ownLines[id] = nil
            }
        }
    }

    mutating func finish(_ agenda: inout LockAgenda, into woken: inout [Woken]) {
        if !waiting.isEmpty { settle(&agenda, into: &woken) }
        isFree = holders.isEmpty && waiting.isEmpty
        if isFree { keys.removeAll() }
    }
}
