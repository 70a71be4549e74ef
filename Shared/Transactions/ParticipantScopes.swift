import Base
import DataModel

/// What a transaction sees of others. The raw values are the wire's.
package enum Isolation: UInt8, CaseIterable, Hashable, Sendable {
    /// Every statement sees what was committed when it began.
    case readCommitted = 0
    /// Everything is read as it was at one moment, and what the transaction changes nobody has changed since.
    case snapshot = 1
    /// The same, and what it has read nobody has changed when it commits.
    case serializable = 2
}

/// A statement of an interactive transaction, as the shard has to know it before it evaluates it.
package struct ScopeStatement: Sendable {
    /// The session names a shard by one slot, the same in all calls and steps.
    package let id: PartID
    package let priority: UInt64
    package let isolation: Isolation
    /// What it reads at; zero in READ COMMITTED.
    package let snapshot: Timestamp
    /// As an earlier reply has named it; 0: open a scope, or join the one that is there.
    package let incarnation: UInt64
    /// Rises; calls of one statement have the same.
    package let number: UInt32
    /// What is locked for it: exclusively what its calls may change.
    package let locks: LockScope
    /// What it only reads, in `shared` and `shard`.
    package let reads: LockScope
    package let policy: WaitPolicy

    package init(
        id: PartID, priority: UInt64, isolation: Isolation, snapshot: Timestamp, incarnation: UInt64, number: UInt32,
        locks: LockScope, reads: LockScope, policy: WaitPolicy
    ) {
        (self.id, self.priority, self.isolation, self.snapshot) = (id, priority, isolation, snapshot)
        (self.incarnation, self.number) = (incarnation, number)
        (self.locks, self.reads, self.policy) = (locks, reads, policy)
    }

    var owner: LockOwner {
        LockOwner(id: id, rank: Rank(priority: priority, id.transaction), kind: .interactive)
    }
}

/// A statement may be evaluated.
package struct ScopeGrant: Hashable, Sendable {
    /// For the reply.
    package let incarnation: UInt64
    /// The scope has just been opened.
    package let isNew: Bool
    /// Keys that it is done without (`WaitPolicy.skipLocked`).
    package let skipped: [LockKey]
}

/// What to do with a statement that has come.
package enum ScopeAdmission: Hashable, Sendable {
    case evaluate(ScopeGrant)
    /// Keep it, and only then do the duties; `run` or `refuse` with its token follows, maybe among these already.
    case wait
    case refuse(PartRefusal)
}

/// What the executor may know of an open scope.
package struct ScopeView: Hashable, Sendable {
    package let incarnation: UInt64
    package let isolation: Isolation
    package let snapshot: Timestamp
    package let lastStatement: UInt32
}

/// Scopes: what an interactive transaction has at this shard until it is prepared. Locks, what it has read, and how far
/// it is; what it has done is kept by the executor. All of it is in memory only: a change of leader loses it, and with
/// it the transaction.
///
///     statement ─► locks ─► evaluated … PREPARE ─► nobody shares its keys ─► what it has read is locked
///               ─► sealed: nothing of that has changed ─► intent, and everything as with a part
///     COMMIT_ONE, of the only participant ─► the same ─► effects into the entry
///
/// Invariants:
/// - A scope has an incarnation that none before had. A call or step that names another one is refused: a transaction
///   that has lost something it did here cannot go on as if it had not.
/// - Nothing is said of a scope that is durable, and nothing need be, until it is sealed.
/// - A scope that nothing is heard of goes by itself.
///
/// Why SERIALIZABLE is what it says. Let the *lock point* of a transaction be the moment when its last participant is
/// prepared. At that moment it has all its locks at once: those of what it changes, hard, since it changed it, and
/// shared ones of what it has read, since the participant of each was prepared; and they stay until the transaction is
/// decided. So committed transactions are in the order of their lock points, as with two-phase locking:
/// 1. Reads are true at the lock point. They were of the snapshot; while the shared lock was taken nobody had a hard
///    lock (`share`), and afterwards nothing of it was found changed since the snapshot; and until the decision nobody
///    gets a hard one (`harden` waits for those who share; one-shot parts and calls wait for every lock).
/// 2. Who changes what this one has read comes behind it: his locks become hard when this one is decided. Who changed
///    it before the snapshot comes before it; who did so in between is found, and this one is refused.
/// 3. Timestamps are in the same order: a participant's is given when it is prepared, above everything that the shard's
///    clock has seen, and what is decided is seen by it before locks go (`apply`, of participants that only read too).
///    The commit's is the highest of them. So what is committed up to a moment is a beginning of that order, and a
///    transaction that reads at one moment and changes nothing needs neither locks nor a look at what it has read.
/// SNAPSHOT: the same without shared locks; that what it changes was not changed since the snapshot is asked by the
/// executor when it has the lock. READ COMMITTED: without asking.
extension Participant {
    struct Scope {
        let incarnation: UInt64
        let isolation: Isolation
        let snapshot: Timestamp
        let owner: LockOwner
        var lastStatement: UInt32
        /// Of SERIALIZABLE; beyond a limit, or with calls that read the whole shard, everything.
        var reads: Set<LockKey> = []
        var hasReadAll = false
    }

    struct Departure {
        let incarnation: UInt64
        let reason: PartRefusal
    }

    // MARK: Statements

    /// A statement has come. `timestamp` was never given before: it names the scope, if this opens one.
    package mutating func admit(
        _ statement: ScopeStatement, _ call: WaitingCall, timestamp: Timestamp, _ moment: Moment,
        into duties: inout [ParticipantDuty]
    ) -> ScopeAdmission {
        let id = statement.id, isNew = parts[id] == nil
        if let refusal = isNew ? refusalOfNew(statement) : refusal(of: statement) { return .refuse(refusal) }
        if isNew { begin(statement, timestamp, moment) }
        guard var scope = parts[id]?.scope else { return .refuse(.aborted) }
        scope.lastStatement = statement.number
        note(statement.reads, &scope)
        parts[id]?.scope = scope
        extend(id, max(call.deadline, moment.now))
        var skipped: [LockKey] = []
        let asOf = statement.isolation == .readCommitted ? nil : statement.snapshot
        let verdict = locks.request(
            scope.owner, locks: statement.locks, reads: statement.reads, asOf: asOf, statement.policy, call,
            now: moment.now, skipped: &skipped)
        switch verdict {
        case .granted:
            return .evaluate(ScopeGrant(incarnation: scope.incarnation, isNew: isNew, skipped: skipped))
        case .refused(let refusal):
            if isNew { remove(id) }
            return .refuse(refusal)
        case .waits:
            counts.waits += 1
            return breakCircles(scope.owner, call, moment, &duties) ? .wait : .refuse(.deadlock)
        }
    }

    private func refusalOfNew(_ statement: ScopeStatement) -> PartRefusal? {
        let id = statement.id
        guard id.transaction.rawValue != 0 else { return .malformed }
        guard verdicts[id] == nil else { return .aborted }
        if statement.incarnation != 0 {
            guard let known = departed[id], known.incarnation == statement.incarnation else { return .aborted }
            return known.reason
        }
        return scopeCount < limits.scopes && parts.count < limits.parts ? nil : .busy
    }

    private func refusal(of statement: ScopeStatement) -> PartRefusal? {
        guard let state = parts[statement.id], case .open = state.stage, let scope = state.scope else {
            return .aborted  // It is being prepared, or is a part.
        }
        let isKnown = statement.incarnation == 0 || statement.incarnation == scope.incarnation
        guard isKnown || limits.bugs.contains(.anyIncarnation) else { return .aborted }
        guard statement.isolation == scope.isolation, statement.snapshot == scope.snapshot else { return .malformed }
        return statement.number >= scope.lastStatement ? nil : .disordered
    }

    private mutating func begin(_ statement: ScopeStatement, _ timestamp: Timestamp, _ moment: Moment) {
        let part = Part(
            id: statement.id, priority: statement.priority, participants: [], isReadOnly: false, scope: LockScope())
        var state = State(part: part, stage: .open, due: moment.now)
        state.scope = Scope(
            incarnation: timestamp.rawValue, isolation: statement.isolation, snapshot: statement.snapshot,
            owner: statement.owner, lastStatement: statement.number)
        parts[statement.id] = state
        scopeCount += 1
        counts.scopesOpened += 1
    }

    private func note(_ reads: LockScope, _ scope: inout Scope) {
        guard scope.isolation == .serializable, !reads.isEmpty else { return }
        if reads.shard != nil { scope.hasReadAll = true }
        if scope.hasReadAll { return }
        scope.reads.formUnion(reads.shared)
        if scope.reads.count > limits.readKeys { (scope.reads, scope.hasReadAll) = ([], true) }
    }

    private mutating func extend(_ id: PartID, _ from: UInt64) {
        let due = from &+ limits.idleMilliseconds
        parts[id]?.due = due
        earliestDue = min(earliestDue, due)
    }

    /// A statement waits: whoever is the youngest of a circle that it closes gives way. False: it is the owner.
    private mutating func breakCircles(
        _ owner: LockOwner, _ call: WaitingCall, _ moment: Moment, _ duties: inout [ParticipantDuty]
    ) -> Bool {
        guard !limits.bugs.contains(.overlookCircles) else { return true }
        while let circle = locks.circle(through: call.token), let youngest = circle.max(by: { $0.rank < $1.rank }) {
            counts.deadlocks += 1
            guard youngest.id != owner.id else {
                var woken: [LockTable.Woken] = []
                locks.cancel(call.token, into: &woken)  // Its caller is told by what this returns.
                wake(woken, moment, &duties)
                drop(owner.id, .deadlock, moment, &duties)
                return false
            }
            drop(youngest.id, .deadlock, moment, &duties)
        }
        return true
    }

    /// An open scope; nil: there is none.
    package func scope(_ id: PartID) -> ScopeView? {
        guard let state = parts[id], case .open = state.stage, let scope = state.scope else { return nil }
        return ScopeView(
            incarnation: scope.incarnation, isolation: scope.isolation, snapshot: scope.snapshot,
            lastStatement: scope.lastStatement)
    }

    /// What a SERIALIZABLE scope has read and has no lock for that would keep it: to be looked at when it is sealed.
    /// Empty for other levels.
    package func readSet(of id: PartID) -> LockScope {
        guard let scope = parts[id]?.scope else { return LockScope() }
        let own = locks.holders[id]?.locks ?? [:]
        return LockScope(
            shared: scope.reads.filter { own[$0] != .exclusive }, shard: scope.hasReadAll ? .shared : nil)
    }

    // MARK: Steps

    /// A step to a scope, or about one. False: it is none of that.
    mutating func handleScope(
        _ step: CommitStep, _ id: PartID, _ token: UInt64, _ moment: Moment, _ duties: inout [ParticipantDuty]
    ) -> Bool {
        switch step.kind {
        case .prepare, .commitOne, .rollbackTo, .keepAlive, .abort: break
        case .commit, .forget, .resolve, .fence, .confirm: return false
        }
        guard verdicts[id] == nil else { return false }
        guard let state = parts[id] else {
            guard step.incarnation != 0 else { return false }
            return handleGone(step, id, token, &duties)
        }
        guard let scope = state.scope else {
            // Prepared already, maybe not durable: the step may come again.
            if case .preparing = state.stage, step.kind == .keepAlive {
                answer(token, .held, &duties)
                return true
            }
            return false
        }
        // Whoever gives up its first wait here has not been told the scope's name.
        let isUnnamed = step.kind == .rollbackTo && step.incarnation == 0
        guard step.incarnation == scope.incarnation || isUnnamed || limits.bugs.contains(.anyIncarnation) else {
            guard step.kind == .abort, step.incarnation == 0 else { return handleGone(step, id, token, &duties) }
            return false  // Whoever sends it has never heard of the scope: a fence.
        }
        switch step.kind {
        case .abort:
            drop(id, .aborted, moment, &duties)
            answer(token, .aborted, &duties)
        case .keepAlive:
            if case .open = state.stage { extend(id, moment.now) }
            answer(token, .held, &duties)
        case .rollbackTo:
            guard case .open = state.stage else { return handleGone(step, id, token, &duties) }
            extend(id, moment.now)
            withdraw(id, moment, &duties)
            duties.append(.rollBack(id, to: step.statement))
            answer(token, .held, &duties)
        case .prepare, .commitOne: seal(step, id, scope, token, moment, &duties)
        case .commit, .forget, .resolve, .fence, .confirm: return false
        }
        return true
    }

    /// Statements that wait for locks are refused: they were given up.
    private mutating func withdraw(_ id: PartID, _ moment: Moment, _ duties: inout [ParticipantDuty]) {
        var woken: [LockTable.Woken] = []
        for request in locks.requests(at: id) where !request.isHardening {
            locks.cancel(request.call.token, into: &woken)
            duties.append(.refuse(request.call.token, .lockTimeout))
        }
        wake(woken, moment, &duties)
    }

    private mutating func handleGone(
        _ step: CommitStep, _ id: PartID, _ token: UInt64, _ duties: inout [ParticipantDuty]
    ) -> Bool {
        switch step.kind {
        case .abort: answer(token, .aborted, &duties)
        case .prepare, .commitOne:
            let known = departed[id].flatMap { $0.incarnation == step.incarnation ? $0.reason : nil }
            answer(token, .refused(known ?? .aborted), &duties)
        case .rollbackTo, .keepAlive: answer(token, .notHeld, &duties)
        case .commit, .forget, .resolve, .fence, .confirm: return false
        }
        return true
    }

    // MARK: The end of a scope

    /// PREPARE or COMMIT_ONE: the scope gets no more statements, and its locks become hard.
    private mutating func seal(
        _ step: CommitStep, _ id: PartID, _ scope: Scope, _ token: UInt64, _ moment: Moment,
        _ duties: inout [ParticipantDuty]
    ) {
        guard case .open = parts[id]?.stage, let state = parts[id] else {
            return answer(token, .busy, &duties)  // The same has come before, and is under way.
        }
        let isOnly = step.kind == .commitOne
        let part = Part(
            id: id, priority: state.part.priority, participants: isOnly ? [id.slot] : step.participants,
            isReadOnly: false, scope: LockScope())
        guard step.statement == scope.lastStatement else {
            // Something that the transaction did has not arrived.
            drop(id, .aborted, moment, &duties)
            return answer(token, .refused(.aborted), &duties)
        }
        guard part.isWellFormed, intentBytes < limits.intentBytes else {
            drop(id, .aborted, moment, &duties)
            return answer(token, .refused(part.isWellFormed ? .busy : .malformed), &duties)
        }
        parts[id]?.part = part
        parts[id]?.stage = .sealing(token: token, isOnly: isOnly)
        extend(id, moment.now)
        let call = WaitingCall(
            token: token, lane: 0, bytes: 64, deadline: moment.now &+ limits.holdMilliseconds)
        switch locks.harden(scope.owner, call, now: moment.now) {
        case .granted: sealed(id, moment, &duties)
        case .waits: counts.waits += 1
        case .refused(let refusal): drop(id, refusal, moment, &duties)
        }
    }

    /// Nobody passes its locks any more. Now what it has read is locked, and looked at by the executor.
    mutating func sealed(_ id: PartID, _ moment: Moment, _ duties: inout [ParticipantDuty]) {
        guard let state = parts[id], let scope = state.scope, case .sealing(let token, let isOnly) = state.stage
        else { return }
        guard locks.share(readSet(of: id), scope.owner) || limits.bugs.contains(.readWithoutLocks) else {
            return drop(id, .serializationFailure, moment, &duties)
        }
        parts[id]?.stage = .sealed(token: token, isOnly: isOnly)
        parts[id]?.part = Part(
            id: id, priority: state.part.priority, participants: state.part.participants, isReadOnly: false,
            scope: locks.locks(of: id))
        parts[id]?.due = moment.now &+ limits.holdMilliseconds
        earliestDue = min(earliestDue, moment.now &+ limits.holdMilliseconds)
        duties.append(.seal(id, isOnly: isOnly, token))
    }

    /// The sealed scope of the only participant: its effects are in the open entry, which commits them. A verdict goes
    /// with them, for a COMMIT_ONE whose answer is lost. Locks stay until the entry is applied, as with a part.
    package mutating func commitOne(
        _ id: PartID, timestamp: Timestamp, _ moment: Moment, into duties: inout [ParticipantDuty]
    ) {
        guard var state = parts[id], case .sealed(let token, isOnly: true) = state.stage else { return }
        close(&state)
        counts.scopesCommittedOne += 1
        conclude(id, committed: timestamp, isFirm: false, moment, &duties)
        locks.markPrepared(id, at: timestamp)
        locks.markEnding(id)
        answer(token, .committed(timestamp), after: moment.entryIndex, &duties)
        follow(.release(id, forgetting: state.part.scope), moment)
    }

    /// The scope cannot be sealed: something that it has read was changed, or the executor cannot write.
    package mutating func fail(
        _ id: PartID, _ refusal: PartRefusal, _ moment: Moment, into duties: inout [ParticipantDuty]
    ) {
        guard case .sealed = parts[id]?.stage else { return }
        drop(id, refusal, moment, &duties)
    }

    /// The executor cannot go on with a scope: a key that it has locked was changed since the snapshot, it has grown
    /// too large, or its client is gone.
    package mutating func dropScope(
        _ id: PartID, _ reason: PartRefusal, _ moment: Moment, into duties: inout [ParticipantDuty]
    ) {
        guard parts[id]?.scope != nil else { return }
        drop(id, reason, moment, &duties)
    }

    /// The scope is gone, and whoever waits for it is told why.
    mutating func drop(
        _ id: PartID, _ reason: PartRefusal, _ moment: Moment, _ duties: inout [ParticipantDuty]
    ) {
        guard let state = parts[id], let scope = state.scope else { return }
        remove(id)
        counts.scopesDropped[reason, default: 0] += 1
        if departed.updateValue(Departure(incarnation: scope.incarnation, reason: reason), forKey: id) == nil {
            departures.append(id)
            if departures.count > limits.departed { departed[departures.removeFirst()] = nil }
        }
        duties.append(.dropScope(id))
        switch state.stage {
        case .sealing(let token, _), .sealed(let token, _), .writing(let token, _, _):
            answer(token, .refused(reason), &duties)
        case .open, .waiting, .admitted, .held, .preparing, .prepared, .applying, .committed: break
        }
        removePieces(of: state, &duties)
        var woken: [LockTable.Woken] = []
        for request in locks.requests(at: id) {
            locks.cancel(request.call.token, into: &woken)
            if !request.isHardening { duties.append(.refuse(request.call.token, reason)) }
        }
        wake(woken, moment, &duties)
        release(id, moment, &duties)
    }

    private mutating func remove(_ id: PartID) {
        if parts.removeValue(forKey: id)?.scope != nil { scopeCount -= 1 }
    }

    /// It is a part from now on.
    mutating func close(_ state: inout State) {
        state.scope = nil
        parts[state.part.id]?.scope = nil
        scopeCount -= 1
    }

    // MARK: Time

    /// A request has waited for too long.
    mutating func expired(_ call: LockTable.Woken, _ moment: Moment, _ duties: inout [ParticipantDuty]) {
        guard let id = call.part else { return duties.append(.refuse(call.token, call.refusal)) }
        if call.isHardening { return drop(id, call.refusal, moment, &duties) }
        if parts[id]?.scope == nil {
            parts[id] = nil
            counts.aborted += 1
        } else {
            counts.lockTimeouts += 1
        }
        duties.append(.refuse(call.token, call.refusal))
    }

    /// Nothing was heard of the scope for long; while a statement waits that is not its fault.
    mutating func lookAtScope(_ id: PartID, _ moment: Moment, _ duties: inout [ParticipantDuty]) {
        guard locks.requests(at: id).isEmpty else { return extend(id, moment.now) }
        drop(id, .idleTimeout, moment, &duties)
    }

    // MARK: Deadlocks

    /// Who has waited here since `limit` or longer, for whom: for `WaitGraph`.
    package func edges(waitingSince limit: UInt64, count: Int) -> [WaitEdge] {
        locks.edges(waitingSince: limit, count: count)
    }

    /// Whether there is anything to report.
    package func hasOldWaits(since limit: UInt64) -> Bool { locks.hasWaits(since: limit) }

    /// The transaction has to give way, if it still waits here. A one-shot transaction is tried again by its driver.
    package mutating func refuseVictim(
        _ transaction: TransactionID, _ moment: Moment, into duties: inout [ParticipantDuty]
    ) {
        for request in locks.requests(of: transaction) {
            guard let owner = request.owner, parts[owner.id] != nil else { continue }
            counts.deadlocks += 1
            if parts[owner.id]?.scope != nil {
                drop(owner.id, .deadlock, moment, &duties)
                continue
            }
            parts[owner.id] = nil
            counts.conflicts += 1
            var woken: [LockTable.Woken] = []
            locks.cancel(request.call.token, into: &woken)
            duties.append(.refuse(request.call.token, .conflict))
            wake(woken, moment, &duties)
        }
    }
}
