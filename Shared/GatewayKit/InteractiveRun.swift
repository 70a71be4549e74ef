import Base
import Contracts
import DataModel
import Transactions

/// Carries out what an interactive transaction (`InteractiveTransaction`) wants: sends, keeps the replies, and tells
/// its owner.
///
/// Invariants. One command is under way at a time; its completion is called once, and never from inside a call of the
/// owner's. An owner that goes away calls `rollBack`. Until it is over the router keeps the transaction and tells it
/// the time.
package final class InteractiveRun: ReplyReceiver {
    package typealias Ending = InteractiveTransaction.Ending
    /// Of a statement; of one that failed nothing was done, and `transaction` says what that means for it.
    package typealias Outcome = TransactionRun.Outcome

    /// What a statement has for one shard: an encoded `CallBatch`, and a slot of the shard.
    package struct Share: Sendable {
        package let slot: UInt32, body: Bytes, isWrite: Bool

        package init(slot: UInt32, body: Bytes, isWrite: Bool) {
            (self.slot, self.body, self.isWrite) = (slot, body, isWrite)
        }
    }

    /// As it is; to be read only.
    package private(set) var transaction: InteractiveTransaction
    /// Its way to the shards.
    package let router: NodeRouter
    let connection: UInt64
    private var shares: [Share] = []
    private var lock = InvocationScope.LockMode.none, wait = InvocationScope.WaitPolicy.wait
    /// Milliseconds that statements wait for a lock from now on; 0: as the transaction was begun; `.max`: as long as it
    /// takes.
    package var lockTimeout: UInt32 = 0
    /// When it began, for statements that ask: microseconds since 1970.
    package var time: Int64 = 0
    /// Until when the statement under way waits; nil: as long as the shards like.
    private var waitsUntil: UInt64?
    /// By slot.
    private var replies: [UInt32: Bytes] = [:]
    private var onAnswer: ((Outcome) -> Void)?
    private var onEnd: ((Ending) -> Void)?
    private var duties: [InteractiveTransaction.Duty] = []
    private var isCarryingOut = false
    /// Those that prepare, in the order in which the driver knows them.
    private var committers: [Int] = []
    /// COMMIT_ONE, and when it was sent first.
    private var commitStep: (TransactionStep, slot: UInt32)?
    private var committedAt: UInt64 = 0
    private var isCommitInDoubt = false
    /// For how long it is asked what has become of it: less than shards remember, and how often.
    private static let askMilliseconds: UInt64 = 120_000, askPause = 250

    init(_ router: NodeRouter, _ transaction: InteractiveTransaction, connection: UInt64) {
        (self.router, self.transaction, self.connection) = (router, transaction, connection)
    }

    // MARK: Commands

    /// Has a statement done at its shards, or at none. `lock` and `wait` are for keys that it only reads. Throws when
    /// it is refused as it is; otherwise `completion` is called later.
    package func execute(
        _ shares: [Share], lock: InvocationScope.LockMode = .none, wait: InvocationScope.WaitPolicy = .wait,
        completion: @escaping (Outcome) -> Void
    ) throws(DatabaseError) {
        var placed: [Share] = [], wanted: [InteractiveTransaction.Share] = []
        for share in shares {
            guard let index = router.shardIndex(ofSlot: share.slot), let slot = router.anySlot(ofShardIndex: index)
            else {
                throw NodeRouter.noLeader
            }
            guard !placed.contains(where: { $0.slot == slot }) else {
                throw DatabaseError(.staleMap, "The shards have changed meanwhile; try again")
            }
            placed.append(Share(slot: slot, body: share.body, isWrite: share.isWrite))
            wanted.append(.init(slot: slot, isWrite: share.isWrite, isLocking: lock != .none))
        }
        let now = router.milliseconds, patience = lockTimeout == 0 ? transaction.options.lockTimeout : lockTimeout
        let waitsUntil = patience == .max ? UInt64.max : patience == 0 ? nil : now &+ UInt64(patience)
        try transaction.execute(wanted, now: now, waitsUntil: wait == .wait ? waitsUntil : nil, into: &duties)
        self.waitsUntil = waitsUntil
        (self.shares, self.lock, self.wait, replies, onAnswer) = (placed, lock, wait, [:], completion)
        carryOut()
    }

    package func savepoint(_ name: Bytes) throws(DatabaseError) {
        try transaction.savepoint(name, now: router.milliseconds)
    }

    package func release(_ name: Bytes) throws(DatabaseError) {
        try transaction.release(name, now: router.milliseconds)
    }

    /// Undoes what came behind the savepoint, which stays.
    package func rollBack(to name: Bytes, completion: @escaping (DatabaseError?) -> Void) throws(DatabaseError) {
        try transaction.rollBack(to: name, now: router.milliseconds, into: &duties)
        onAnswer = { outcome in
            if case .failed(let error) = outcome { completion(error) } else { completion(nil) }
        }
        carryOut()
    }

    package func commit(completion: @escaping (Ending) -> Void) throws(DatabaseError) {
        try transaction.commit(now: router.milliseconds, into: &duties)
        onEnd = completion
        carryOut()
    }

    /// Whatever is under way is forgotten; its completion is not called any more.
    package func rollBack() {
        onAnswer = nil
        guard (try? transaction.rollBack(into: &duties)) != nil else { return }
        carryOut()
    }

    /// The owner has found an error in a statement that the shards have nothing to do with.
    package func failStatement(_ error: DatabaseError) {
        transaction.failStatement(error, into: &duties)
        carryOut()
    }

    /// Gives up the statement that is under way, and with it the transaction, unless there is a savepoint.
    package func cancel(_ error: DatabaseError) {
        transaction.cancel(error, into: &duties)
        carryOut()
    }

    /// The owner cannot tell what the last statement has done; with it goes the transaction.
    package func abandon(_ error: DatabaseError) {
        transaction.abandon(error, into: &duties)
        carryOut()
    }

    func tick() {
        transaction.tick(now: router.milliseconds, into: &duties)
        carryOut()
    }

    // MARK: Duties

    /// Something that is sent may fail at once and bring more duties: they come behind those that are there.
    private func carryOut() {
        guard !isCarryingOut else { return }
        isCarryingOut = true
        var next = 0
        while next < duties.count {
            carryOut(duties[next])
            next += 1
        }
        duties.removeAll(keepingCapacity: true)
        isCarryingOut = false
    }

    private func carryOut(_ duty: InteractiveTransaction.Duty) {
        switch duty {
        case .sample:
            let transaction = transaction.id
            router.readTimestamp { [self] time in
                guard transaction == self.transaction.id else { return }
                self.transaction.sampled(time, now: router.milliseconds, into: &duties)
                carryOut()
            }
        case .execute(let statement, let participants):
            for participant in participants { send(participant, statement) }
        case .send(let step, let slot, let participant):
            let ticket: Ticket
            switch (step.kind, participant) {
            case (.commitOne, _):
                ticket = Ticket(.commitOne, 0, 0)
                (commitStep, committedAt) = ((step, slot), router.milliseconds)
            case (.rollbackTo, let participant?): ticket = Ticket(.rollbackTo, participant, transaction.statement)
            case (.keepAlive, let participant?): ticket = Ticket(.keepAlive, participant, transaction.statement)
            case (_, _): ticket = Ticket(.nothing, 0, 0)
            }
            router.step(
                connection: connection, slot: slot, step, isUrgent: true, receiver: self, ticket: ticket.rawValue)
        case .commit(let participants):
            committers = participants
            begin()
        case .answer(let error): answer(error)
        case .end(let ending):
            let completion = onEnd
            onEnd = nil
            if let completion { router.after(milliseconds: nil) { completion(ending) } }
        }
    }

    private func send(_ participant: Int, _ statement: UInt32) {
        guard transaction.participants.indices.contains(participant) else { return }
        let slot = transaction.participants[participant].slot
        guard let share = shares.first(where: { $0.slot == slot }) else { return }
        // A write for the router, whatever it is: nobody knows of one that is lost whether it has opened a scope.
        var scope = transaction.scope(of: participant, lock: lock, wait: wait)
        scope.time = time
        if let waitsUntil, !transaction.options.needsNoScopes {
            let now = router.milliseconds, left = waitsUntil > now ? waitsUntil &- now : 1
            scope.lockTimeoutMilliseconds = UInt32(clamping: min(left, router.longestLockWait))
        }
        share.body.withView { body in
            router.scoped(
                connection: connection, slot: slot, transaction: transaction.scopedID, scope: scope, .batch(body),
                isWrite: transaction.scopedID != 0, isUrgent: true, receiver: self,
                ticket: Ticket(.share, participant, statement).rawValue)
        }
    }

    private func answer(_ error: DatabaseError?) {
        guard let completion = onAnswer else { return }
        onAnswer = nil
        var outcome = Outcome.failed(Self.damaged)
        if let error {
            outcome = error == Self.changed ? .changed : .failed(error)
        } else {
            let batches = shares.compactMap { replies[$0.slot] }
            if batches.count == shares.count { outcome = .done(batches) }
        }
        (shares, replies) = ([], [:])
        router.after(milliseconds: nil) { completion(outcome) }
    }

    /// Stands for a condition that did not hold: no harm is done.
    private static let changed = DatabaseError(.noSuchKey, "A condition of the statement did not hold")
    private static let damaged = DatabaseError(.internalFailure, "A shard answered with something else than was asked")

    // MARK: Replies

    private struct Ticket {
        enum Kind: UInt8 { case nothing, share, rollbackTo, keepAlive, commitOne }

        let kind: Kind, participant: Int, statement: UInt32

        init(_ kind: Kind, _ participant: Int, _ statement: UInt32) {
            (self.kind, self.participant, self.statement) = (kind, participant, statement)
        }

        init(_ rawValue: UInt64) {
            kind = Kind(rawValue: UInt8(truncatingIfNeeded: rawValue)) ?? .nothing
            participant = Int(rawValue >> 8 & 0xFF_FFFF)
            statement = UInt32(truncatingIfNeeded: rawValue >> 32)
        }

        var rawValue: UInt64 { UInt64(statement) << 32 | UInt64(participant & 0xFF_FFFF) << 8 | UInt64(kind.rawValue) }
    }

    /// What is said once a transaction has another id was meant for the first.
    package func completed(_ ticket: UInt64, _ reply: borrowing ReplyView) {
        let ticket = Ticket(ticket)
        switch ticket.kind {
        case .nothing: return
        case .share: replied(ticket, note(ticket, reply))
        case .rollbackTo: stepped(.rollbackTo, ticket, Self.scopeReply(reply))
        case .keepAlive: stepped(.keepAlive, ticket, Self.scopeReply(reply))
        case .commitOne: conclude(ending(reply))
        }
        carryOut()
    }

    package func failed(_ ticket: UInt64, _ error: DatabaseError) {
        let ticket = Ticket(ticket)
        switch ticket.kind {
        case .nothing: return
        case .share:
            let isUnsent = error.code == .unavailable || error.code == .busy || error.code == .limitExceeded
            replied(ticket, isUnsent ? .unsent(error) : .lost)
        case .rollbackTo: stepped(.rollbackTo, ticket, .unknown)
        case .keepAlive: stepped(.keepAlive, ticket, .unknown)
        case .commitOne:
            if error.code == .outcomeUnknown { isCommitInDoubt = true }
            conclude(isCommitInDoubt ? nil : .rolledBack(error))
        }
        carryOut()
    }

    /// Ends the transaction with what COMMIT_ONE came to. Nil: nobody knows; then it is asked again, for a shard
    /// remembers that for a while, and so does a new leader.
    private func conclude(_ ending: Ending?) {
        if let ending { return transaction.concluded(ending, into: &duties) }
        guard let (step, slot) = commitStep, !router.isClosed,
            router.milliseconds &- committedAt < Self.askMilliseconds
        else {
            return transaction.concluded(
                isCommitInDoubt ? .unknown(TransactionRun.unknown) : .rolledBack(Self.busy), into: &duties)
        }
        router.after(milliseconds: Self.askPause) { [self] in
            router.step(
                connection: connection, slot: slot, step, receiver: self, ticket: Ticket(.commitOne, 0, 0).rawValue)
        }
    }

    private func replied(_ ticket: Ticket, _ reply: InteractiveTransaction.ShareReply) {
        transaction.replied(
            ticket.participant, statement: ticket.statement, reply, now: router.milliseconds, into: &duties)
    }

    private func stepped(
        _ kind: TransactionStep.Kind, _ ticket: Ticket, _ reply: InteractiveTransaction.ScopeReply
    ) {
        transaction.stepped(kind, ticket.participant, reply, now: router.milliseconds, into: &duties)
    }

    private func note(_ ticket: Ticket, _ reply: borrowing ReplyView) -> InteractiveTransaction.ShareReply {
        let incarnation = reply.position.rawValue
        switch reply.kind {
        case .batch:
            guard transaction.participants.indices.contains(ticket.participant) else { return .lost }
            replies[transaction.participants[ticket.participant].slot] = reply.data.bytes
            return .done(incarnation: incarnation)
        case .null: return .refused(Self.changed, incarnation: incarnation)
        case .error: return .refused(reply.error, incarnation: incarnation)
        case .ok, .integer, .number, .data, .list: return .lost
        }
    }

    private static func scopeReply(_ reply: borrowing ReplyView) -> InteractiveTransaction.ScopeReply {
        switch reply.kind {
        case .data:
            switch StepAnswer(decoding: reply.data) {
            case .held: return .done
            case .nothing, .notHeld, .aborted, .committed, .refused: return .gone
            case .prepared, .busy, nil: return .unknown
            }
        case .error:
            let code = reply.errorCode
            return code == .transactionAborted || code == .noSuchTransaction ? .gone : .unknown
        case .null, .ok, .integer, .number, .list, .batch: return .unknown
        }
    }

    /// What COMMIT_ONE came to; nil: nobody knows yet.
    private func ending(_ reply: borrowing ReplyView) -> Ending? {
        switch reply.kind {
        case .data:
            switch StepAnswer(decoding: reply.data) {
            case .committed(let time): return .committed(time)
            case .aborted, .nothing, .notHeld: return .rolledBack(InteractiveTransaction.lost)
            case .refused(.repeated), .busy: return nil
            case .refused(let refusal): return .rolledBack(refusal.error)
            case .prepared, .held, nil: return .unknown(Self.damaged)
            }
        case .error:
            let error = reply.error
            // Of a shard that knows nothing of it the answer is certain: what is done is remembered.
            let isCertain = !isCommitInDoubt || error.code == .transactionAborted
            return error.code != .outcomeUnknown && isCertain ? .rolledBack(error) : nil
        case .null, .ok, .integer, .number, .list, .batch: return .unknown(Self.damaged)
        }
    }
}

/// The commit over several shards: PREPARE takes the place of the parts.
extension InteractiveRun: AttemptOwner {
    var driverLimits: CommitDriver.Limits { .interactive }

    var slots: [UInt32] { committers.map { transaction.participants[$0].slot } }

    var isReadOnly: Bool { false }

    private func begin() {
        let attempt = TransactionAttempt(self, TransactionID(rawValue: transaction.id))
        router.attempts.append(attempt)
        attempt.begin()
    }

    func send(_ part: Int, of attempt: TransactionID, receiver: any ReplyReceiver, ticket: UInt64) {
        let step = transaction.prepare(committers[part], with: slots)
        router.step(
            connection: connection, slot: transaction.participants[committers[part]].slot, step, receiver: receiver,
            ticket: ticket)
    }

    func read(_ reply: borrowing ReplyView) -> (CommitDriver.PartOutcome, PartReply)? {
        guard reply.kind == .data else { return nil }
        switch StepAnswer(decoding: reply.data) {
        case .prepared(let time): return (.done(time), .done([]))
        case .refused(let refusal): return (CommitDriver.PartOutcome(refusal), .refused(refusal.error))
        case .busy: return (.failed, .refused(Self.busy))
        case .committed, .aborted, .nothing, .held, .notHeld, nil: return nil  // Nobody knows: it is aborted.
        }
    }

    func conclude(_ answer: CommitDriver.Answer, _ replies: [PartReply?]) {
        let refusals = replies.map { reply -> DatabaseError? in
            if case .refused(let error) = reply { error } else { nil }
        }
        let ending: Ending
        switch answer {
        case .committed(let time, _): ending = .committed(time)
        case .aborted:
            ending = .rolledBack(refusals.compactMap { $0 }.first { $0.code != .outcomeUnknown } ?? Self.late)
        case .failed(let part): ending = .rolledBack(refusals[part] ?? Self.late)
        case .unknown: ending = .unknown(TransactionRun.unknown)
        }
        transaction.concluded(ending, into: &duties)
        carryOut()
    }

    private static let busy = DatabaseError(.busy, "A shard has too much to do; the transaction was rolled back")
    private static let late = DatabaseError(
        .transactionAborted, "A shard could not prepare the transaction; it was rolled back")
}

/// Interactive transactions.
extension NodeRouter {
    /// Opens one. Nobody is asked before its first statement. `priority` is the lower the older it is.
    package func begin(
        _ options: InteractiveTransaction.Options, connection: UInt64, priority: UInt64, random: () -> UInt64
    ) -> InteractiveRun {
        let id = max(random(), 1)
        let run = InteractiveRun(
            self, InteractiveTransaction(id: id, priority: priority, options, now: milliseconds), connection: connection
        )
        openTransactions.append(run)
        return run
    }

    /// Called a few times a second.
    func tickTransactions() {
        for run in openTransactions { run.tick() }
        openTransactions.removeAll { $0.transaction.isOver }
    }
}
