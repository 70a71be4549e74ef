import Base
import DataModel

/// A key of the shard, as locks name it.
package struct LockKey: Hashable, Sendable {
    package let database: UInt8
    package let key: Bytes

    package init(_ database: UInt8, _ key: Bytes) { (self.database, self.key) = (database, key) }
}

/// What a call or a part touches.
package enum LockScope: Hashable, Sendable {
    case keys([LockKey])
    /// Calls that have no single key: FLUSHALL, SCAN, DBSIZE …
    case shard

    var bytes: Int {
        switch self {
        case .keys(let keys): keys.reduce(0) { $0 + $1.key.count + 64 }
        case .shard: 64
        }
    }
}

/// A call that may have to wait, whole: it is kept by who asks, under `token`, and begins anew when it is woken.
package struct WaitingCall: Hashable, Sendable {
    package let token: UInt64
    /// The client connection that it comes from; a later call of a lane waits behind an earlier one. 0: none.
    package let lane: UInt64
    /// What it takes to keep it.
    package let bytes: Int
    /// In milliseconds; then it is refused.
    package let deadline: UInt64

    package init(token: UInt64, lane: UInt64, bytes: Int, deadline: UInt64) {
        (self.token, self.lane, self.bytes, self.deadline) = (token, lane, bytes, deadline)
    }
}

/// Exclusive locks of one shard, and who waits for them.
///
/// A part takes all its locks at once or none. Calls outside transactions hold none: they wait until nobody does.
///
/// Invariants:
/// - Order: parts that conflict with anything (a key, the whole shard) go in the order in which they came, and so do
///   the calls of a lane. A call waits behind parts and behind its lane, not behind other calls: it delays nobody. So
///   nobody starves.
/// - No deadlock, over all shards (wait-die, Rosenkrantz et al. 1978): a part waits only while it is older than every
///   transaction that it waits for, *through* calls and parts before it in the queue too; else it is refused. So along
///   every chain of waits ages only fall, and there is no circle. Calls hold nothing and are never waited for from
///   another shard, so they always wait. A lock that is ending, because its transaction is decided, waits for nobody;
///   everybody may wait for it.
/// - Bounded: calls that wait, and bytes of keys and calls. What is over it is refused, not dropped.
package struct LockTable: Sendable {
    /// What waiting may cost.
    package struct Limits: Hashable, Sendable {
        package var waiters = 4096
        package var bytes = 128 << 20
        package init() {}
    }

    /// Whether a call may go on.
    package enum Verdict: Hashable, Sendable {
        /// It has the locks (a call outside transactions: nobody has them).
        case granted
        case waits
        case refused(PartRefusal)
    }

    /// A call that need not wait any longer. A part has its locks.
    struct Woken {
        let token: UInt64
        let part: PartID?
    }

    private struct Holder {
        let rank: Rank
        let scope: LockScope
        var isEnding = false
    }

    private struct Waiter {
        let call: WaitingCall
        let part: (id: PartID, rank: Rank)?
        let scope: LockScope
    }

    /// Something is in the way: the oldest transaction of that, if one of them could itself wait for others.
    private struct Obstacle {
        var eldest: Rank?

        mutating func merge(_ rank: Rank?) {
            guard let rank else { return }
            eldest = eldest.map { min($0, rank) } ?? rank
        }
    }

    /// What those in the queue want, and through them wait for.
    private struct Wanted {
        /// The same of the parts among them alone.
        var keysOfParts: [LockKey: Obstacle] = [:]
        var shardOfParts: Obstacle?
        var anythingOfParts: Obstacle?
        var keys: [LockKey: Obstacle] = [:]
        var lanes: [UInt64: Obstacle] = [:]
        var shard: Obstacle?
        var anything: Obstacle?

        mutating func add(_ waiter: Waiter, behind obstacle: Obstacle) {
            var whole = obstacle
            whole.merge(waiter.part?.rank)
            switch waiter.scope {
            case .keys(let list):
                for key in list { keys[key, default: whole].merge(whole.eldest) }
            case .shard:
                shard = shard ?? whole
                shard?.merge(whole.eldest)
            }
            if waiter.call.lane != 0 { lanes[waiter.call.lane, default: whole].merge(whole.eldest) }
            anything = anything ?? whole
            anything?.merge(whole.eldest)
            if waiter.part != nil { addPart(waiter.scope, whole) }
        }

        private mutating func addPart(_ scope: LockScope, _ whole: Obstacle) {
            switch scope {
            case .keys(let list):
                for key in list { keysOfParts[key, default: whole].merge(whole.eldest) }
            case .shard:
                shardOfParts = shardOfParts ?? whole
                shardOfParts?.merge(whole.eldest)
            }
            anythingOfParts = anythingOfParts ?? whole
            anythingOfParts?.merge(whole.eldest)
        }
    }

    private let limits: Limits
    private let bugs: TransactionBugs
    private var holders: [PartID: Holder] = [:]
    private var owners: [LockKey: PartID] = [:]
    private var shardOwner: PartID?
    private var waiters: [Waiter] = []
    private var wanted = Wanted()
    private var bytes = 0
    /// No lock is held and nobody waits: nothing has to be asked. The one flag on the path of every call.
    package private(set) var isFree = true

    package init(limits: Limits = .init(), bugs: TransactionBugs = []) { (self.limits, self.bugs) = (limits, bugs) }

    /// Locks are held.
    package var holderCount: Int { holders.count }

    /// Calls that wait.
    package var waiterCount: Int { waiters.count }

    /// Whether a transaction has the key: maintenance leaves it alone.
    package func isLocked(_ database: UInt8, _ key: ByteView) -> Bool {
        if isFree { return false }
        return shardOwner != nil || (!owners.isEmpty && owners[LockKey(database, key.bytes)] != nil)
    }

    /// Whether a transaction has any key.
    package var isAnyLocked: Bool { !holders.isEmpty }

    // MARK: Asking

    /// For a call outside transactions: may it be evaluated?
    mutating func request(_ scope: LockScope, _ call: WaitingCall) -> Verdict {
        isFree ? .granted : request(scope, call, nil)
    }

    /// For a part: locks for all of its keys.
    mutating func request(_ part: Part, _ call: WaitingCall) -> Verdict {
        request(part.scope, call, (part.id, part.rank))
    }

    private mutating func request(_ scope: LockScope, _ call: WaitingCall, _ part: (id: PartID, rank: Rank)?) -> Verdict
    {
        let waiter = Waiter(call: call, part: part, scope: scope)
        if let obstacle = obstacle(for: waiter) {
            if let rank = part?.rank, let eldest = obstacle.eldest, eldest <= rank, !bugs.contains(.youngerWaits) {
                return .refused(.conflict)
            }
            guard waiters.count < limits.waiters, bytes &+ cost(of: waiter) <= limits.bytes else {
                return .refused(.busy)
            }
            bytes += cost(of: waiter)
            waiters.append(waiter)
            wanted.add(waiter, behind: obstacle)
            return .waits
        }
        if let part {
            guard bytes &+ scope.bytes <= limits.bytes else { return .refused(.busy) }
            hold(scope, part.id, part.rank)
        }
        return .granted
    }

    /// Takes locks that nobody can contest: those of an intent that was read from the store.
    mutating func restore(_ scope: LockScope, _ part: PartID, _ rank: Rank) { hold(scope, part, rank) }

    private mutating func hold(_ scope: LockScope, _ part: PartID, _ rank: Rank) {
        holders[part] = Holder(rank: rank, scope: scope)
        bytes += scope.bytes
        switch scope {
        case .keys(let keys): for key in keys { owners[key] = part }
        case .shard: shardOwner = part
        }
        isFree = false
    }

    private func cost(of waiter: Waiter) -> Int { waiter.call.bytes &+ waiter.scope.bytes &+ 64 }

    /// What is in the way of a call that comes now, behind all that wait; nil: nothing.
    private func obstacle(for waiter: Waiter) -> Obstacle? {
        var found: Obstacle?
        func meet(_ obstacle: Obstacle?) {
            guard let obstacle else { return }
            found = found ?? obstacle
            found?.merge(obstacle.eldest)
        }
        func meet(_ owner: PartID?) {
            guard let owner, let holder = holders[owner] else { return }
            meet(Obstacle(eldest: holder.isEnding ? nil : holder.rank))
        }
        switch waiter.scope {
        case .keys(let keys):
            if !owners.isEmpty { for key in keys { meet(owners[key]) } }
            if waiter.part == nil {
                for key in keys { meet(wanted.keysOfParts[key]) }
                meet(wanted.shardOfParts)
            } else {
                for key in keys { meet(wanted.keys[key]) }
                meet(wanted.shard)
            }
        case .shard:
            for owner in holders.keys { meet(owner) }
            meet(waiter.part == nil ? wanted.anythingOfParts : wanted.anything)
        }
        meet(shardOwner)
        if waiter.call.lane != 0 { meet(wanted.lanes[waiter.call.lane]) }
        return found
    }

    // MARK: Letting go

    /// The transaction is decided: its locks go soon, whatever others do.
    mutating func markEnding(_ part: PartID) { holders[part]?.isEnding = true }

    /// Lets go of a part's locks; those who need not wait any longer are appended in their order.
    mutating func release(_ part: PartID, into woken: inout [Woken]) {
        guard let holder = holders.removeValue(forKey: part) else { return }
        bytes -= holder.scope.bytes
        switch holder.scope {
        case .keys(let keys): for key in keys where owners[key] == part { owners[key] = nil }
        case .shard: if shardOwner == part { shardOwner = nil }
        }
        wake(into: &woken)
    }

    /// Takes a call out of the queue. False if it is not in it.
    @discardableResult
    mutating func cancel(_ token: UInt64, into woken: inout [Woken]) -> Bool {
        guard let position = waiters.firstIndex(where: { $0.call.token == token }) else { return false }
        bytes -= cost(of: waiters.remove(at: position))
        wake(into: &woken)
        return true
    }

    /// Takes those out of the queue that have waited too long, and returns them.
    mutating func expire(_ now: UInt64, into woken: inout [Woken]) -> [Woken] {
        guard waiters.contains(where: { $0.call.deadline <= now }) else { return [] }
        var expired: [Woken] = [], kept: [Waiter] = []
        for waiter in waiters {
            if waiter.call.deadline > now {
                kept.append(waiter)
            } else {
                bytes -= cost(of: waiter)
                expired.append(Woken(token: waiter.call.token, part: waiter.part?.id))
            }
        }
        waiters = kept
        wake(into: &woken)
        return expired
    }

    /// Looks anew at everybody who waits, in order.
    private mutating func wake(into woken: inout [Woken]) {
        wanted = Wanted()
        if !waiters.isEmpty {
            var kept: [Waiter] = []
            for waiter in waiters {
                if let obstacle = obstacle(for: waiter) {
                    wanted.add(waiter, behind: obstacle)
                    kept.append(waiter)
                    continue
                }
                bytes -= cost(of: waiter)
                if let part = waiter.part { hold(waiter.scope, part.id, part.rank) }
                woken.append(Woken(token: waiter.call.token, part: waiter.part?.id))
            }
            waiters = kept
        }
        isFree = holders.isEmpty && waiters.isEmpty
    }
}
