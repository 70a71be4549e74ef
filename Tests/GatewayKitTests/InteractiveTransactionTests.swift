import Base
import Contracts
import Testing

@testable import GatewayKit

/// What an interactive transaction does when, without anybody who does it.
@Suite("Interactive transactions")
struct InteractiveTransactionTests {
    typealias Duty = InteractiveTransaction.Duty

    private var transaction = InteractiveTransaction(id: 4, priority: 77, .init(), now: 0)
    private static let (first, second): (UInt32, UInt32) = (0, 8192)

    private static func time(_ value: UInt64) -> Timestamp { Timestamp(rawValue: value) }

    private mutating func begin(
        _ isolation: InteractiveTransaction.Isolation = .readCommitted,
        _ change: (inout InteractiveTransaction.Options) -> Void = { _ in }
    ) {
        var options = InteractiveTransaction.Options()
        options.isolation = isolation
        change(&options)
        transaction = InteractiveTransaction(id: 4, priority: 77, options, now: 0)
    }

    /// Begins a statement; what it writes is at these slots, what it reads at those.
    private mutating func execute(
        writes: [UInt32] = [], reads: [UInt32] = [], now: UInt64 = 1, waitsUntil: UInt64? = nil
    ) throws -> [Duty] {
        var duties: [Duty] = []
        let shares =
            writes.map { InteractiveTransaction.Share(slot: $0, isWrite: true) }
            + reads.map { InteractiveTransaction.Share(slot: $0, isWrite: false) }
        try transaction.execute(shares, now: now, waitsUntil: waitsUntil, into: &duties)
        return duties
    }

    private mutating func replied(
        _ participant: Int, _ reply: InteractiveTransaction.ShareReply, now: UInt64 = 2
    ) -> [Duty] {
        var duties: [Duty] = []
        transaction.replied(participant, statement: transaction.statement, reply, now: now, into: &duties)
        return duties
    }

    /// A statement that is done everywhere, each shard with the incarnation 100 + its position.
    private mutating func run(writes: [UInt32] = [], reads: [UInt32] = [], now: UInt64 = 1) throws {
        var duties = try execute(writes: writes, reads: reads, now: now)
        if duties == [.sample] {
            duties = []
            transaction.sampled(.success(Self.time(50)), now: now, into: &duties)
        }
        guard case .execute(_, let participants)? = duties.first else {
            Issue.record("nothing is executed: \(duties)")
            return
        }
        for (count, participant) in participants.enumerated() {
            let answer = replied(participant, .done(incarnation: UInt64(100 + participant)), now: now)
            #expect(answer == (count + 1 == participants.count ? [.answer(nil)] : []))
        }
    }

    private mutating func stepped(
        _ kind: TransactionStep.Kind, _ participant: Int, _ reply: InteractiveTransaction.ScopeReply, now: UInt64 = 3
    ) -> [Duty] {
        var duties: [Duty] = []
        transaction.stepped(kind, participant, reply, now: now, into: &duties)
        return duties
    }

    private mutating func commit() throws -> [Duty] {
        var duties: [Duty] = []
        try transaction.commit(now: 9, into: &duties)
        return duties
    }

    private mutating func concluded(_ ending: InteractiveTransaction.Ending) -> [Duty] {
        var duties: [Duty] = []
        transaction.concluded(ending, into: &duties)
        return duties
    }

    private mutating func tick(_ now: UInt64) -> [Duty] {
        var duties: [Duty] = []
        transaction.tick(now: now, into: &duties)
        return duties
    }

    private mutating func rollBack(to name: String) throws -> [Duty] {
        var duties: [Duty] = []
        try transaction.rollBack(to: Array(name.utf8), now: 5, into: &duties)
        return duties
    }

    private mutating func savepoint(_ name: String) throws { try transaction.savepoint(Array(name.utf8), now: 4) }

    /// A step as it must be, to whom, and whose answer is awaited.
    private static func send(
        _ kind: TransactionStep.Kind, _ slot: UInt32, incarnation: UInt64, statement: UInt32 = 0,
        isolation: InteractiveTransaction.Isolation = .readCommitted, at time: UInt64 = 0, awaited: Int? = nil
    ) -> Duty {
        var step = TransactionStep(
            kind, id: 4, timestamp: Self.time(time), participants: kind == .keepAlive ? [] : [slot])
        (step.priority, step.incarnation, step.statement, step.isolation) = (77, incarnation, statement, isolation)
        return .send(step, slot: slot, participant: awaited)
    }

    private static let inTheWay = DatabaseError(.lockTimeout, "locked"),
        changed = DatabaseError(
            .serializationFailure, "changed")

    // MARK: Statements and the end

    @Test("statements go to their shards with what those have said, and the only one that wrote commits alone")
    mutating func commitsOne() throws {
        #expect(try execute(writes: [Self.first]) == [.execute(statement: 1, participants: [0])])
        #expect(transaction.scope(of: 0, lock: .none, wait: .wait).incarnation == 0)
        #expect(throws: DatabaseError.self) { try self.execute(reads: [0]) }
        #expect(replied(0, .done(incarnation: 100)) == [.answer(nil)])
        #expect(replied(0, .done(incarnation: 100)) == [])
        let both = try execute(writes: [Self.first], reads: [Self.second])
        #expect(both == [.execute(statement: 2, participants: [0, 1])])
        let scope = transaction.scope(of: 0, lock: .update, wait: .noWait)
        #expect(scope.incarnation == 100 && scope.statement == 2 && scope.priority == 77 && scope.lock == .update)
        #expect(replied(1, .done(incarnation: 101)) == [])
        #expect(replied(0, .done(incarnation: 100)) == [.answer(nil)])
        #expect(try commit() == [Self.send(.commitOne, Self.first, incarnation: 100, statement: 2, awaited: 0)])
        #expect(
            concluded(.committed(Self.time(9))) == [
                Self.send(.abort, Self.second, incarnation: 101), .end(.committed(Self.time(9))),
            ])
        #expect(transaction.isOver && tick(90_000) == [])
        #expect(throws: DatabaseError.self) { try self.commit() }
    }

    @Test("a lock that a shard has waited for long enough is waited for once more, until the statement's time is over")
    mutating func waitsOn() throws {
        begin { $0.refusals = .transaction }
        let both = [Self.first, Self.second]
        #expect(try execute(writes: both, waitsUntil: 100) == [.execute(statement: 1, participants: [0, 1])])
        #expect(replied(0, .done(incarnation: 100)) == [])
        // What was done elsewhere is undone first; nobody hears of it.
        let undo = Self.send(.rollbackTo, Self.first, incarnation: 100, statement: 0, awaited: 0)
        #expect(replied(1, .refused(Self.inTheWay, incarnation: 0), now: 20) == [undo])
        #expect(stepped(.rollbackTo, 0, .done, now: 21) == [.execute(statement: 2, participants: [0, 1])])
        // Late.
        var late: [Duty] = []
        transaction.replied(1, statement: 1, .done(incarnation: 7), now: 22, into: &late)
        #expect(late == [] && transaction.scope(of: 0, lock: .none, wait: .wait).statement == 2)
        #expect(replied(0, .refused(Self.inTheWay, incarnation: 0), now: 40) == [])
        #expect(
            replied(1, .refused(Self.inTheWay, incarnation: 0), now: 40) == [
                .execute(statement: 3, participants: [0, 1])
            ])
        #expect(replied(0, .done(incarnation: 100), now: 60) == [])
        #expect(replied(1, .done(incarnation: 101), now: 60) == [.answer(nil)])
        #expect(try commit() == [.commit(participants: [0, 1])])
        #expect(transaction.participants.map(\.lastStatement) == [3, 3])
    }

    @Test("a wait ends when its time is over, by another refusal, and when the statement is given up")
    mutating func waitsNoLonger() throws {
        _ = try execute(writes: [Self.first], waitsUntil: 100)
        #expect(
            replied(0, .refused(Self.inTheWay, incarnation: 100), now: 99) == [
                .execute(statement: 2, participants: [0])
            ])
        #expect(replied(0, .refused(Self.inTheWay, incarnation: 100), now: 100) == [.answer(Self.inTheWay)])
        // The next statement has a time of its own.
        _ = try execute(writes: [Self.first], now: 100)
        #expect(replied(0, .refused(Self.inTheWay, incarnation: 100), now: 101) == [.answer(Self.inTheWay)])
        let full = DatabaseError(.busy, "full")
        _ = try execute(writes: [Self.first], now: 102, waitsUntil: .max)
        #expect(replied(0, .refused(full, incarnation: 100), now: 103) == [.answer(full)])
        _ = try execute(writes: [Self.first, Self.second], now: 104, waitsUntil: .max)
        _ = replied(0, .done(incarnation: 100), now: 105)
        _ = replied(1, .refused(Self.inTheWay, incarnation: 0), now: 106)
        var duties: [Duty] = []
        transaction.cancel(full, into: &duties)
        #expect(duties.last == .answer(full) && transaction.isDead)
        #expect(stepped(.rollbackTo, 0, .done, now: 107) == [])
    }

    @Test("a statement that is given up leaves a transaction with a savepoint to go back to")
    mutating func givenUp() throws {
        begin { $0.refusals = .transaction }
        try run(writes: [Self.first])
        try savepoint("s")
        _ = try execute(writes: [Self.first, Self.second], now: 5, waitsUntil: .max)
        #expect(replied(0, .done(incarnation: 100)) == [])
        let reason = DatabaseError(.transactionAborted, "given up")
        var duties: [Duty] = []
        transaction.cancel(reason, into: &duties)
        transaction.cancel(reason, into: &duties)
        // The one that waits is called back; it answers for itself.
        #expect(duties == [Self.send(.rollbackTo, Self.second, incarnation: 0, statement: 1)])
        #expect(
            replied(1, .refused(Self.inTheWay, incarnation: 0)) == [
                Self.send(.rollbackTo, Self.first, incarnation: 100, statement: 1), .answer(reason),
            ])
        #expect(transaction.failure == reason && !transaction.isDead)
        #expect(throws: DatabaseError.self) { try self.execute(writes: [Self.first]) }
        #expect(
            try rollBack(to: "s") == [Self.send(.rollbackTo, Self.first, incarnation: 100, statement: 1, awaited: 0)])
        #expect(stepped(.rollbackTo, 0, .done) == [.answer(nil)] && transaction.failure == nil)
        try run(writes: [Self.second], now: 6)
        #expect(try commit() == [.commit(participants: [0, 1])])
    }

    @Test("who is given up is not waited for long, and without a savepoint not at all")
    mutating func givenUpAtOnce() throws {
        begin { $0.refusals = .transaction }
        let reason = DatabaseError(.transactionAborted, "given up")
        var duties: [Duty] = []
        for hasSavepoint in [false, true] {
            begin { $0.refusals = .transaction }
            if hasSavepoint { try savepoint("s") }
            _ = try execute(writes: [Self.first], waitsUntil: .max)
            duties = []
            transaction.cancel(reason, into: &duties)
            if hasSavepoint {
                #expect(duties.count == 1 && tick(500) == [] && tick(1_499) == [])
                duties = tick(1_500)
            }
            #expect(duties == [Self.send(.abort, Self.first, incarnation: 0), .answer(reason)])
            #expect(transaction.isDead)
        }
    }

    @Test("several that wrote are prepared, the others go when that is decided")
    mutating func commitsSeveral() throws {
        try run(reads: [16])
        try run(writes: [Self.first, Self.second])
        #expect(try commit() == [.commit(participants: [1, 2])])
        var step = TransactionStep(.prepare, id: 4, participants: [Self.first, Self.second])
        (step.priority, step.incarnation, step.statement) = (77, 101, 2)
        #expect(transaction.prepare(1, with: [Self.first, Self.second]) == step)
        let committing = transaction
        #expect(
            concluded(.committed(Self.time(9))) == [
                Self.send(.abort, 16, incarnation: 100), .end(.committed(Self.time(9))),
            ])
        transaction = committing
        let unknown = InteractiveTransaction.Ending.unknown(DatabaseError(.outcomeUnknown, "who knows"))
        #expect(concluded(unknown) == [Self.send(.abort, 16, incarnation: 100), .end(unknown)])
        transaction = committing
        #expect(
            concluded(.rolledBack(Self.changed)) == [
                Self.send(.abort, 16, incarnation: 100), Self.send(.abort, Self.first, incarnation: 101),
                Self.send(.abort, Self.second, incarnation: 102), .end(.rolledBack(Self.changed)),
            ])
    }

    @Test("who only reads has nothing to commit; under SERIALIZABLE a writer's reads are asked")
    mutating func commitsReads() throws {
        try run(reads: [Self.first, Self.second])
        #expect(
            try commit() == [
                Self.send(.abort, Self.first, incarnation: 100), Self.send(.abort, Self.second, incarnation: 101),
                .end(.committed(nil)),
            ])
        begin(.serializable)
        try run(reads: [Self.first])
        try run(writes: [Self.second])
        #expect(try commit() == [.commit(participants: [1, 0])])
        begin(.snapshot)
        try run(reads: [Self.first])
        try run(writes: [Self.second])
        #expect(
            try commit() == [
                Self.send(
                    .commitOne, Self.second, incarnation: 101, statement: 2, isolation: .snapshot, at: 50, awaited: 1)
            ])
    }

    @Test("a snapshot is taken once; reads of it that lock nothing need no scopes")
    mutating func samples() throws {
        begin(.snapshot)
        #expect(try execute(reads: [Self.first]) == [.sample])
        var duties: [Duty] = []
        transaction.sampled(.failure(NodeRouter.noLeader), now: 1, into: &duties)
        #expect(duties == [.answer(NodeRouter.noLeader)])
        try run(reads: [Self.first])
        try run(reads: [Self.first])
        #expect(transaction.scope(of: 0, lock: .none, wait: .wait).readTimestamp == Self.time(50))
        begin(.serializable) { $0.isReadOnly = true }
        try run(reads: [Self.first, Self.second])
        #expect(transaction.scopedID == 0)
        var scope = InvocationScope(asOf: Self.time(50))
        scope.isolation = .snapshot
        #expect(transaction.scope(of: 0, lock: .none, wait: .wait) == scope)
        #expect(throws: InteractiveTransaction.readOnly) { try self.execute(writes: [Self.first]) }
        #expect(tick(60_000) == [])
        #expect(try commit() == [.end(.committed(Self.time(50)))])
        begin(.readCommitted) { $0.asOf = Self.time(7) }
        #expect(try execute(reads: [Self.first]) == [.execute(statement: 1, participants: [0])])
        #expect(transaction.scope(of: 0, lock: .none, wait: .wait) == InvocationScope(asOf: Self.time(7)))
    }

    @Test("a first statement that a new leader cannot answer is tried at a later time, under a new id")
    mutating func restarts() throws {
        let stale = DatabaseError(.tooStale, "leads since then")
        begin(.snapshot)
        _ = try execute(writes: [Self.first, Self.second])
        var duties: [Duty] = []
        transaction.sampled(.success(Self.time(50)), now: 1, into: &duties)
        _ = replied(0, .done(incarnation: 100))
        #expect(
            replied(1, .refused(stale, incarnation: 0)) == [
                Self.send(.abort, Self.first, incarnation: 100, isolation: .snapshot), .sample,
            ])
        #expect(transaction.id == 5)
        duties = []
        transaction.sampled(.success(Self.time(60)), now: 1, into: &duties)
        #expect(duties == [.execute(statement: 1, participants: [0, 1])])
        _ = replied(0, .done(incarnation: 100))
        #expect(replied(1, .done(incarnation: 101)) == [.answer(nil)])
        // Behind that, the client has seen what was there at the earlier time.
        _ = try execute(reads: [Self.first])
        guard case .answer(let error?)? = replied(0, .refused(stale, incarnation: 0)).last else {
            Issue.record("no error")
            return
        }
        #expect(error.code == .serializationFailure && transaction.isDead)
    }

    // MARK: Refusals

    @Test("a statement that one shard refuses is undone at the others, and the next may go on")
    mutating func undoes() throws {
        try run(reads: [Self.first])
        _ = try execute(writes: [Self.first, Self.second])
        #expect(replied(1, .refused(Self.inTheWay, incarnation: 0)) == [])
        #expect(
            replied(0, .done(incarnation: 100)) == [
                Self.send(.rollbackTo, Self.first, incarnation: 100, statement: 1, awaited: 0)
            ])
        #expect(stepped(.rollbackTo, 0, .done) == [.answer(Self.inTheWay)])
        #expect(transaction.participants.count == 2 && !transaction.hasWritten && transaction.failure == nil)
        try run(writes: [Self.second])
        #expect(transaction.participants.count == 2)
        // And if it cannot be undone, nothing of it stays.
        _ = try execute(writes: [Self.first, Self.second])
        _ = replied(1, .refused(Self.inTheWay, incarnation: 0))
        _ = replied(0, .done(incarnation: 100))
        #expect(
            stepped(.rollbackTo, 0, .gone) == [
                Self.send(.abort, Self.first, incarnation: 100), Self.send(.abort, Self.second, incarnation: 101),
                .answer(InteractiveTransaction.lost),
            ])
        #expect(throws: DatabaseError.self) { try self.execute(reads: [Self.first]) }
        #expect(try commit() == [.end(.rolledBack(InteractiveTransaction.lost))])
    }

    @Test("PREPARE names what the shard has admitted; a scope that nobody has named is fenced at the end")
    mutating func admitted() throws {
        try run(writes: [Self.first])
        _ = try execute(writes: [Self.first])
        #expect(replied(0, .refused(Self.inTheWay, incarnation: 0)) == [.answer(Self.inTheWay)])
        _ = try execute(writes: [Self.first])
        let unsent = DatabaseError(.unavailable, "no leader")
        #expect(replied(0, .unsent(unsent)) == [.answer(unsent)])
        _ = try execute(writes: [Self.second])
        #expect(replied(1, .refused(Self.inTheWay, incarnation: 0)) == [.answer(Self.inTheWay)])
        #expect(try commit() == [Self.send(.commitOne, Self.first, incarnation: 100, statement: 2, awaited: 0)])
        #expect(
            concluded(.committed(Self.time(9))) == [
                Self.send(.abort, Self.second, incarnation: 0), .end(.committed(Self.time(9))),
            ])
    }

    @Test("a conflict ends it at once, for others may wait for its locks")
    mutating func conflicts() throws {
        try run(writes: [Self.first])
        _ = try execute(writes: [Self.second])
        #expect(
            replied(1, .refused(Self.changed, incarnation: 0)) == [
                Self.send(.abort, Self.first, incarnation: 100), .answer(Self.changed),
            ])
        #expect(transaction.failure == Self.changed)
        var duties: [Duty] = []
        try transaction.rollBack(into: &duties)
        #expect(duties == [.end(.rolledBack(nil))])
    }

    @Test("whoever has not answered is fenced, so that no scope is opened later")
    mutating func fences() throws {
        try run(writes: [Self.first])
        _ = try execute(writes: [Self.first, Self.second])
        #expect(replied(0, .done(incarnation: 100)) == [])
        #expect(
            replied(1, .lost) == [
                Self.send(.abort, Self.first, incarnation: 100), Self.send(.abort, Self.second, incarnation: 0),
                .answer(InteractiveTransaction.lost),
            ])
        // A leader that does not know the scope opens another: what the first one held is gone.
        begin()
        try run(writes: [Self.first])
        _ = try execute(writes: [Self.first])
        #expect(
            replied(0, .done(incarnation: 200)) == [
                Self.send(.abort, Self.first, incarnation: 100), .answer(InteractiveTransaction.lost),
            ])
        // The client goes away in the middle.
        begin()
        _ = try execute(writes: [Self.first])
        var duties: [Duty] = []
        try transaction.rollBack(into: &duties)
        #expect(duties == [Self.send(.abort, Self.first, incarnation: 0), .end(.rolledBack(nil))])
        #expect(replied(0, .done(incarnation: 100)) == [])
    }

    // MARK: Savepoints

    @Test("ROLLBACK TO undoes what came later and keeps the savepoint; names hide one another")
    mutating func savepoints() throws {
        try run(writes: [Self.first])
        try savepoint("a")
        try run(writes: [Self.second])
        try savepoint("a")
        try run(writes: [Self.second])
        #expect(
            try rollBack(to: "a") == [Self.send(.rollbackTo, Self.second, incarnation: 101, statement: 2, awaited: 1)])
        #expect(stepped(.rollbackTo, 1, .done) == [.answer(nil)])
        #expect(transaction.savepointNames.count == 2 && transaction.participants[1].firstWrite == 2)
        try transaction.release(Array("a".utf8), now: 5)
        #expect(
            try rollBack(to: "a") == [Self.send(.rollbackTo, Self.second, incarnation: 101, statement: 1, awaited: 1)])
        #expect(stepped(.rollbackTo, 1, .done) == [.answer(nil)])
        #expect(try rollBack(to: "a").last != .answer(nil))  // It stays, and may be used again.
        #expect(stepped(.rollbackTo, 1, .done) == [.answer(nil)])
        #expect(throws: DatabaseError.self) { try self.rollBack(to: "b") }
        // What was undone needs no commit.
        #expect(try commit() == [Self.send(.commitOne, Self.first, incarnation: 100, statement: 1, awaited: 0)])
    }

    @Test("as PostgreSQL has it: every refusal fails the transaction, and a savepoint saves it")
    mutating func failedState() throws {
        begin { $0.refusals = .transaction }
        try run(writes: [Self.first])
        try savepoint("a")
        try savepoint("b")
        _ = try execute(writes: [Self.first, Self.second])
        _ = replied(0, .done(incarnation: 100))
        #expect(
            replied(1, .refused(Self.inTheWay, incarnation: 0)) == [
                Self.send(.rollbackTo, Self.first, incarnation: 100, statement: 1), .answer(Self.inTheWay),
            ])
        #expect(transaction.failure == Self.inTheWay && !transaction.isDead)
        #expect(throws: DatabaseError.self) { try self.execute(reads: [Self.first]) }
        #expect(throws: DatabaseError.self) { try self.savepoint("c") }
        _ = try rollBack(to: "a")
        #expect(stepped(.rollbackTo, 0, .done) == [.answer(nil)])
        #expect(transaction.failure == nil && transaction.savepointNames == [Array("a".utf8)])
        try run(reads: [Self.first])
        var duties: [Duty] = []
        transaction.failStatement(DatabaseError(.wrongType, "as the gateway found"), into: &duties)
        #expect(duties == [Self.send(.rollbackTo, Self.first, incarnation: 100, statement: 1)])
        #expect(
            try commit() == [
                Self.send(.abort, Self.first, incarnation: 100), Self.send(.abort, Self.second, incarnation: 0),
                .end(.rolledBack(DatabaseError(.wrongType, "as the gateway found"))),
            ])
        begin { $0.refusals = .transaction }
        try run(writes: [Self.first])
        duties = []
        transaction.failStatement(Self.changed, into: &duties)
        #expect(duties == [Self.send(.abort, Self.first, incarnation: 100)] && transaction.isDead)
    }

    // MARK: Time

    @Test("scopes that hear nothing are told that the transaction lives; one that is gone ends it")
    mutating func keepsAlive() throws {
        try run(writes: [Self.first], now: 1)
        try run(writes: [Self.second], now: 3_000)
        #expect(tick(4_000) == [])
        #expect(tick(5_001) == [Self.send(.keepAlive, Self.first, incarnation: 100, statement: 1, awaited: 0)])
        #expect(tick(5_100) == [])
        #expect(stepped(.keepAlive, 0, .unknown) == [])
        #expect(stepped(.keepAlive, 0, .done) == [])
        #expect(
            stepped(.keepAlive, 1, .gone) == [
                Self.send(.abort, Self.first, incarnation: 100), Self.send(.abort, Self.second, incarnation: 101),
            ])
        #expect(transaction.isDead)
    }

    @Test("an idle client, and one that takes too long, are rolled back")
    mutating func timeLimits() throws {
        begin { ($0.idleLimit, $0.timeLimit) = (1_000, 3_000) }
        try run(writes: [Self.first], now: 500)
        #expect(tick(1_499) == [])
        #expect(tick(1_500) == [Self.send(.abort, Self.first, incarnation: 100)])
        #expect(transaction.failure?.code == .idleTimeout && tick(9_000) == [])
        begin { $0.timeLimit = 3_000 }
        _ = try execute(writes: [Self.first], now: 2_000)
        let duties = tick(3_000)
        #expect(duties.first == Self.send(.abort, Self.first, incarnation: 0))
        guard case .answer(let error?)? = duties.last else {
            Issue.record("no error")
            return
        }
        #expect(error.code == .transactionAborted)
    }
}
