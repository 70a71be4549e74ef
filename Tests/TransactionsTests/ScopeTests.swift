import Base
import DataModel
import Testing

@testable import Transactions

/// Locks and scopes of interactive transactions, one situation after the other. A key for every letter.
@Suite("Scopes")
struct ScopeTests {
    private var participant = Participant(bucketCount: 64)
    private var now: UInt64 = 1000
    private var index: UInt64 = 1
    private var tokens: UInt64 = 100
    private var clock: UInt64 = 500
    private var duties: [ParticipantDuty] = []

    private var moment: Participant.Moment { .init(now: now, entryIndex: LogIndex(rawValue: index)) }

    private func id(_ transaction: UInt64) -> PartID {
        PartID(TransactionID(rawValue: transaction), Slot(rawValue: 1))
    }

    private func keys(_ text: String) -> [LockKey] { text.utf8.map { LockKey(0, [$0]) } }

    private mutating func call(_ token: UInt64 = 0) -> WaitingCall {
        tokens += 1
        return WaitingCall(token: token == 0 ? tokens : token, lane: 0, bytes: 1, deadline: now + 5000)
    }

    /// Its number is its age too.
    private mutating func ask(
        _ transaction: UInt64, _ exclusive: String = "", shared: String = "", reads: String = "",
        _ policy: WaitPolicy = .wait, incarnation: UInt64 = 0, number: UInt32 = 1, level: Isolation = .serializable
    ) -> ScopeAdmission {
        clock += 1
        let statement = ScopeStatement(
            id: id(transaction), priority: transaction, isolation: level, snapshot: Timestamp(rawValue: 400),
            incarnation: incarnation, number: number,
            locks: LockScope(exclusive: keys(exclusive), shared: keys(shared)), reads: LockScope(shared: keys(reads)),
            policy: policy)
        return participant.admit(
            statement, call(transaction), timestamp: Timestamp(rawValue: clock), moment, into: &duties)
    }

    private func isGranted(_ admission: ScopeAdmission) -> Bool {
        if case .evaluate = admission { true } else { false }
    }

    private mutating func step(
        _ kind: CommitStep.Kind, _ transaction: UInt64, incarnation: UInt64? = nil, statement: UInt32 = 1
    ) -> [ParticipantDuty] {
        duties = []
        var step = CommitStep(
            kind, TransactionID(rawValue: transaction), participants: [Slot(rawValue: 1), Slot(rawValue: 9000)])
        step.incarnation = incarnation ?? participant.scope(id(transaction))?.incarnation ?? 7
        step.statement = statement
        participant.handle(step, at: Slot(rawValue: 1), token: 10 + transaction, moment, into: &duties)
        return duties
    }

    private mutating func commitEntry() -> [ParticipantDuty] {
        duties = []
        participant.committed(upTo: LogIndex(rawValue: index), now: now, into: &duties)
        index += 1
        return duties
    }

    private mutating func plain(_ scope: LockScope, asOf: UInt64? = nil) -> Participant.Admission {
        participant.admit(scope, asOf: asOf.map { Timestamp(rawValue: $0) }, call())
    }

    @Test("a call that writes by a definition waits while it is being changed, and stops nobody who uses it")
    mutating func steady() {
        var write = LockScope(exclusive: keys("k"), shared: keys("d"))
        #expect(isGranted(ask(1, shared: "d")))
        #expect(plain(write) == .evaluate)
        _ = step(.abort, 1)
        #expect(isGranted(ask(2, "d")))
        // What only reads it passes while the change is provisional.
        #expect(plain(LockScope(shared: keys("dk"))) == .evaluate)
        write.steady = Set(keys("d"))
        #expect(plain(write) == .wait)
        _ = step(.abort, 2)
        #expect(isGranted(ask(3, shared: "d")))
        #expect(plain(write) == .evaluate)
    }

    @Test("what is shared may be shared, who has a lock may have more of it, and nobody is passed over")
    mutating func modes() {
        #expect(isGranted(ask(1, shared: "a")))
        #expect(isGranted(ask(2, shared: "a")))
        #expect(ask(3, "a") == .wait)
        #expect(ask(4, shared: "a") == .wait)
        // It has the key already: it need not wait behind those that wait for it, only for the other one.
        #expect(isGranted(ask(2, shared: "a", number: 2)))
        #expect(ask(2, "a", number: 3) == .wait)
        #expect(step(.abort, 1) == [.dropScope(id(1)), .run(2), .answer(11, .aborted)])
        #expect(step(.abort, 2) == [.dropScope(id(2)), .run(3), .answer(12, .aborted)])
        #expect(step(.abort, 3) == [.dropScope(id(3)), .run(4), .answer(13, .aborted)])
    }

    @Test("two that want more of the same key are a circle: the younger one gives way at once")
    mutating func upgrade() {
        #expect(isGranted(ask(1, shared: "a")))
        #expect(isGranted(ask(2, shared: "a")))
        #expect(ask(1, "a", number: 2) == .wait)
        #expect(ask(2, "a", number: 2) == .refuse(.deadlock))
        #expect(duties == [.dropScope(id(2)), .run(1)])
        #expect(participant.counts.deadlocks == 1)
        #expect(ask(2, incarnation: 502, number: 3) == .refuse(.deadlock))
    }

    @Test("the youngest of a circle gives way, also when another one has closed it")
    mutating func victim() {
        #expect(isGranted(ask(1, "a")))
        #expect(isGranted(ask(2, "b")))
        #expect(isGranted(ask(3, "c")))
        #expect(ask(2, "c", number: 2) == .wait)
        #expect(ask(3, "a", number: 2) == .wait)
        duties = []
        #expect(ask(1, "b", number: 2) == .wait)
        #expect(duties == [.dropScope(id(3)), .refuse(3, .deadlock), .run(2)])
    }

    @Test("one that waits for me, I need not wait for")
    mutating func overtaking() {
        #expect(isGranted(ask(1, "a")))
        #expect(ask(2, "ab") == .wait)
        #expect(ask(3, "b") == .wait)
        #expect(isGranted(ask(1, "b", number: 2)))
        #expect(step(.abort, 1) == [.dropScope(id(1)), .run(2), .answer(11, .aborted)])
    }

    @Test("NOWAIT is refused, SKIP LOCKED is done without, and both wait for nothing")
    mutating func policies() {
        #expect(isGranted(ask(1, "ab")))
        #expect(ask(2, "bc", .noWait) == .refuse(.lockNotAvailable))
        #expect(participant.scope(id(2)) == nil)
        guard case .evaluate(let grant) = ask(2, "bc", .skipLocked) else {
            Issue.record("SKIP LOCKED waits")
            return
        }
        #expect(grant.skipped == keys("b") && grant.isNew)
        #expect(participant.locks.isLocked(0, ByteView(start: nil, count: 0)) == false)
        #expect(ask(3, "c", .noWait) == .refuse(.lockNotAvailable))
    }

    @Test("reads pass what is provisional, and wait for what is prepared; those of a moment only if it was then")
    mutating func provisional() {
        #expect(isGranted(ask(1, "a")))
        let read = LockScope(shared: keys("a"))
        #expect(plain(read) == .evaluate && plain(read, asOf: 600) == .evaluate)
        #expect(plain(.keys(keys("a"))) == .wait)
        #expect(step(.prepare, 1) == [.seal(id(1), isOnly: false, 11)])
        participant.prepare(
            id(1), PartEffects(payload: [1]), timestamp: Timestamp(rawValue: 550), moment, into: &duties)
        #expect(commitEntry() == [.answer(11, .prepared(Timestamp(rawValue: 550)))])
        #expect(plain(read) == .wait)
        #expect(plain(read, asOf: 549) == .evaluate)
        #expect(plain(read, asOf: 550) == .wait)
        #expect(step(.keepAlive, 1) == [.answer(11, .held)])
        _ = step(.abort, 1)
        #expect(participant.counts.aborted == 1)
        #expect(commitEntry().count == 4)
        #expect(participant.locks.isFree)
    }

    @Test("an intent that would not fit into an entry with its keys is refused")
    mutating func largeIntent() {
        #expect(isGranted(ask(1, "a")))
        #expect(step(.prepare, 1) == [.seal(id(1), isOnly: false, 11)])
        let payload = Bytes(repeating: 1, count: Participant.Limits().intentSize - 6)
        participant.prepare(
            id(1), PartEffects(payload: payload), timestamp: Timestamp(rawValue: 550), moment, into: &duties)
        #expect(duties.suffix(2) == [.dropScope(id(1)), .answer(11, .refused(.tooLarge))])
        #expect(participant.locks.isFree && participant.scopeCount == 0)
    }

    @Test("what was read is locked when it is prepared: who would change it comes behind, or was first")
    mutating func serializable() {
        #expect(isGranted(ask(1, "a", reads: "b")))
        #expect(isGranted(ask(2, "b", reads: "a")))
        #expect(participant.readSet(of: id(1)) == LockScope(shared: keys("b")))
        #expect(step(.prepare, 2) == [.seal(id(2), isOnly: false, 12)])
        participant.prepare(id(2), PartEffects(), timestamp: Timestamp(rawValue: 550), moment, into: &duties)
        // The older one waits for the younger, which is prepared; it has read what that one changes.
        #expect(step(.prepare, 1) == [])
        #expect(step(.prepare, 1, incarnation: 501) == [.answer(11, .busy)])
        _ = commitEntry()
        _ = step(.abort, 2)
        #expect(commitEntry().contains(.seal(id(1), isOnly: false, 11)))
        participant.fail(id(1), .serializationFailure, moment, into: &duties)
        #expect(duties.suffix(2) == [.dropScope(id(1)), .answer(11, .refused(.serializationFailure))])
        #expect(participant.locks.isFree && participant.scopeCount == 0)
    }

    @Test("a younger one that would have to wait to be prepared is refused, and so is who has read what is prepared")
    mutating func refusedAtPrepare() {
        #expect(isGranted(ask(1, "a", reads: "b")))
        #expect(isGranted(ask(2, "b")))
        #expect(isGranted(ask(3, "c", reads: "a")))
        #expect(step(.prepare, 1) == [.seal(id(1), isOnly: false, 11)])
        #expect(step(.prepare, 2).contains(.answer(12, .refused(.serializationFailure))))
        #expect(step(.prepare, 3).contains(.answer(13, .refused(.serializationFailure))))
    }

    @Test("COMMIT_ONE: a verdict, locks until it is applied, and the same answer again")
    mutating func commitOne() {
        #expect(isGranted(ask(1, "a")))
        #expect(step(.commitOne, 1) == [.seal(id(1), isOnly: true, 11)])
        participant.commitOne(id(1), timestamp: Timestamp(rawValue: 600), moment, into: &duties)
        #expect(duties.contains { if case .put = $0 { true } else { false } })
        #expect(plain(LockScope(shared: keys("a"))) == .wait)
        #expect(
            commitEntry().prefix(2) == [
                .answer(11, .committed(Timestamp(rawValue: 600))), .reread(.keys(keys("a"))),
            ])
        #expect(step(.commitOne, 1) == [.answer(11, .committed(Timestamp(rawValue: 600)))])
        #expect(ask(1, "a") == .refuse(.aborted))
    }

    @Test("who names a scope that is not here is refused, and told why while that is known")
    mutating func incarnations() {
        #expect(isGranted(ask(1, "a")))
        #expect(isGranted(ask(1, "b", incarnation: 501, number: 2)))
        #expect(ask(1, "b", incarnation: 502, number: 3) == .refuse(.aborted))
        #expect(ask(1, "b", number: 1) == .refuse(.disordered))
        #expect(step(.prepare, 1, incarnation: 502, statement: 2) == [.answer(11, .refused(.aborted))])
        #expect(step(.rollbackTo, 1, statement: 1) == [.rollBack(id(1), to: 1), .answer(11, .held)])
        now += 14_000
        #expect(step(.keepAlive, 1) == [.answer(11, .held)])
        now += 14_999
        duties = []
        participant.tick(moment, into: &duties)
        #expect(duties == [])
        now += 1
        participant.tick(moment, into: &duties)
        #expect(duties == [.dropScope(id(1))])
        #expect(ask(1, "b", incarnation: 501, number: 3) == .refuse(.idleTimeout))
        #expect(step(.keepAlive, 1, incarnation: 501) == [.answer(11, .notHeld)])
        #expect(step(.commitOne, 1, incarnation: 501) == [.answer(11, .refused(.idleTimeout))])
        #expect(step(.abort, 1, incarnation: 501) == [.answer(11, .aborted)])
        participant.reset(committed: LogIndex(rawValue: 1))
        #expect(ask(1, "b", incarnation: 501, number: 3) == .refuse(.aborted))
        // A statement that PREPARE knows of has not arrived.
        #expect(isGranted(ask(4, "a")))
        #expect(step(.prepare, 4, statement: 2) == [.dropScope(id(4)), .answer(14, .refused(.aborted))])
    }

    @Test("a statement waits for so long, and no longer; its scope stays")
    mutating func timeouts() {
        #expect(isGranted(ask(1, "a")))
        #expect(isGranted(ask(2, "b")))
        #expect(ask(2, "a", number: 2) == .wait)
        now += 5000
        duties = []
        participant.tick(moment, into: &duties)
        #expect(duties == [.refuse(2, .lockTimeout)])
        #expect(participant.scope(id(2)) != nil && participant.counts.lockTimeouts == 1)
    }

    @Test("a statement that is given up waits no more, whoever stands behind it goes on, and the scope stays")
    mutating func givenUp() {
        #expect(isGranted(ask(1, "a")))
        #expect(ask(2, "a") == .wait)
        #expect(ask(3, "a") == .wait)
        // It has never heard the name of its scope.
        #expect(
            step(.rollbackTo, 2, incarnation: 0, statement: 0) == [
                .refuse(2, .lockTimeout), .rollBack(id(2), to: 0), .answer(12, .held),
            ])
        #expect(participant.scope(id(2)) != nil && participant.counts.lockTimeouts == 0)
        #expect(step(.abort, 1) == [.dropScope(id(1)), .run(3), .answer(11, .aborted)])
        #expect(isGranted(ask(2, "b", number: 2)))
        #expect(step(.rollbackTo, 9, incarnation: 0, statement: 0) == [.answer(19, .notHeld)])
    }

    @Test("one after the other is woken, not everybody: thousands that wait for one key are little work")
    mutating func crowd() {
        #expect(isGranted(ask(1, "a")))
        for transaction in 2...4000 as ClosedRange<UInt64> { #expect(ask(transaction, "a") == .wait) }
        for transaction in 1..<4000 as Range<UInt64> {
            #expect(step(.abort, transaction).contains(.run(transaction + 1)))
        }
    }

    @Test("waits are reported, also through calls; the victim gives way")
    mutating func edges() {
        #expect(isGranted(ask(1, "a")))
        #expect(ask(2, "a") == .wait)
        #expect(participant.edges(waitingSince: now - 1, count: 10).isEmpty)
        #expect(plain(.keys(keys("ab"))) == .wait)
        #expect(ask(3, "b") == .wait)
        func rank(_ id: UInt64) -> Rank { Rank(priority: id, TransactionID(rawValue: id)) }
        #expect(
            Set(participant.edges(waitingSince: now, count: 10)) == [
                WaitEdge(waiter: rank(2), holder: rank(1)), WaitEdge(waiter: rank(3), holder: rank(1)),
            ])
        duties = []
        participant.refuseVictim(TransactionID(rawValue: 2), moment, into: &duties)
        #expect(duties == [.dropScope(id(2)), .refuse(2, .deadlock)])
    }
}

/// Circles over several shards.
@Suite("Wait-for graph")
struct WaitGraphTests {
    private var graph = WaitGraph()

    private func edge(_ waiter: UInt64, _ holder: UInt64) -> WaitEdge {
        func rank(_ id: UInt64) -> Rank { Rank(priority: id, TransactionID(rawValue: id)) }
        return WaitEdge(waiter: rank(waiter), holder: rank(holder))
    }

    private mutating func report(_ source: UInt64, _ edges: [WaitEdge], _ now: UInt64) -> [UInt64] {
        graph.report(edges, from: source, now: now).map(\.rawValue)
    }

    @Test("the youngest of a circle is named where it waits, once the circle was there for a while")
    mutating func circle() {
        #expect(report(1, [edge(1, 2)], 1000) == [])
        #expect(report(2, [edge(2, 3), edge(9, 3)], 1010) == [])
        #expect(report(3, [edge(3, 1)], 1020) == [])
        #expect(report(1, [edge(1, 2)], 1100) == [])
        #expect(report(2, [edge(2, 3), edge(9, 3)], 1110) == [])
        #expect(report(3, [edge(3, 1)], 1120) == [3])
        #expect(report(3, [edge(3, 1)], 1130) == [])  // It was told.
        #expect(report(3, [edge(3, 1)], 2130) == [])  // The others are silent.
        #expect(report(1, [], 2131) == [] && graph.sourceCount == 1)
    }

    @Test("waits that were never there together are no circle")
    mutating func phantom() {
        #expect(report(1, [edge(1, 2)], 1000) == [])
        #expect(report(1, [edge(1, 2)], 1100) == [])
        #expect(report(2, [edge(2, 1)], 1101) == [])
        #expect(report(1, [edge(1, 3)], 1200) == [])
        #expect(report(2, [edge(2, 1)], 1201) == [])
        #expect(report(1, [edge(1, 2)], 1300) == [])
        #expect(report(2, [edge(2, 1)], 1301) == [])
        #expect(report(1, [edge(1, 2)], 1400) == [])
        #expect(report(2, [edge(2, 1)], 1401) == [2])
    }

    @Test("two circles have a victim each")
    mutating func two() {
        let first = [edge(1, 2), edge(3, 4)], second = [edge(2, 1), edge(4, 3)]
        for now in [1000, 1100] as [UInt64] {
            #expect(report(1, first, now) == [])
            #expect(report(2, second, now + 1).sorted() == (now == 1000 ? [] : [2, 4]))
        }
    }
}
