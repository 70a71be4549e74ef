import Base
import DataModel
import Testing
import Transactions

/// What one shard does in every situation of the table in ParticipantSteps.swift.
@Suite("Participant")
struct ParticipantTests {
    static let anchor = Slot(rawValue: 10), other = Slot(rawValue: 5000)
    static let transaction = TransactionID(rawValue: 77)

    private var participant = Participant(bucketCount: 64)
    private var index: UInt64 = 1
    private var now: UInt64 = 1000
    private var tokens: UInt64 = 100
    /// What the store would have.
    private var records: [Bytes: Bytes] = [:]

    private var moment: Participant.Moment {
        Participant.Moment(now: now, entryIndex: LogIndex(rawValue: index))
    }

    private func part(
        _ slot: Slot, key: UInt8 = 1, id: TransactionID = ParticipantTests.transaction, isReadOnly: Bool = false
    ) -> Part {
        Part(
            id: PartID(id, slot), priority: 5, participants: [Self.anchor, Self.other], isReadOnly: isReadOnly,
            scope: .keys([LockKey(0, [key])]))
    }

    private mutating func admit(_ part: Part) -> Participant.Admission {
        tokens += 1
        return participant.admit(
            part, WaitingCall(token: tokens, lane: 0, bytes: 1, deadline: now + 10_000), moment)
    }

    private mutating func keep(_ duties: [ParticipantDuty]) -> [ParticipantDuty] {
        for duty in duties {
            if case .put(let key, let value) = duty { records[key] = value }
            if case .delete(let key) = duty { records[key] = nil }
        }
        return duties
    }

    private mutating func prepare(_ slot: Slot, key: UInt8 = 1) {
        #expect(admit(part(slot, key: key)) == .evaluate)
        var duties: [ParticipantDuty] = []
        participant.prepare(
            PartID(Self.transaction, slot), PartEffects(payload: [9]), timestamp: Timestamp(rawValue: 50), moment,
            into: &duties)
        _ = keep(duties)
    }

    /// A step; what it asks for at once.
    private mutating func step(
        _ kind: CommitStep.Kind, _ slot: Slot, timestamp: UInt64 = 60
    ) -> [ParticipantDuty] {
        var duties: [ParticipantDuty] = []
        participant.handle(
            CommitStep(
                kind, Self.transaction, timestamp: Timestamp(rawValue: timestamp),
                participants: [Self.anchor, Self.other]),
            at: slot, token: 1, moment, into: &duties)
        return keep(duties)
    }

    /// The open entry is committed; what follows.
    private mutating func commit() -> [ParticipantDuty] {
        var duties: [ParticipantDuty] = []
        participant.committed(upTo: LogIndex(rawValue: index), now: now, into: &duties)
        index += 1
        return keep(duties)
    }

    private mutating func changeLeader() {
        participant.reset(committed: LogIndex(rawValue: index))
        index += 2
        for (key, value) in records {
            let isIntact = key.withUnsafeBytes { key in
                value.withUnsafeBytes { participant.restore(key: key, value: $0, now: now) }
            }
            #expect(isIntact)
        }
    }

    private func answers(_ duties: [ParticipantDuty]) -> [StepAnswer] {
        duties.compactMap { if case .answer(_, let answer) = $0 { answer } else { nil } }
    }

    private func sent(_ duties: [ParticipantDuty]) -> [CommitStep.Kind] {
        duties.compactMap { if case .send(let step, _, _) = $0 { step.kind } else { nil } }
    }

    private func applies(_ duties: [ParticipantDuty]) -> [CommittedPart] {
        duties.compactMap { if case .apply(let part) = $0 { part } else { nil } }
    }

    @Test("nothing is here: COMMIT has nothing to do, ABORT, RESOLVE and FENCE make sure that nothing comes")
    mutating func absent() {
        #expect(answers(step(.commit, Self.other)) == [.nothing])
        #expect(answers(step(.forget, Self.anchor)) == [.nothing])
        #expect(answers(step(.confirm, Self.other)) == [.notHeld])
        #expect(answers(step(.resolve, Self.other)) == [.nothing])
        #expect(answers(step(.fence, Self.other)) == [])
        #expect(answers(step(.abort, Self.other)) == [])
        #expect(answers(commit()) == [.aborted, .aborted])
        #expect(answers(step(.resolve, Self.anchor)) == [])
        #expect(answers(commit()) == [.aborted])
        #expect(admit(part(Self.other)) == .refuse(.over))
        changeLeader()
        #expect(admit(part(Self.anchor)) == .refuse(.over))
        #expect(answers(step(.commit, Self.other)) == [.aborted])
    }

    @Test("a step for an intent that is not durable waits for it")
    mutating func early() {
        prepare(Self.other)
        #expect(step(.fence, Self.other).isEmpty)
        #expect(step(.commit, Self.other).isEmpty)
        var again: [CommitStep.Kind] = []
        for duty in commit() { if case .again(let step, _, _) = duty { again.append(step.kind) } }
        #expect(again == [.fence, .commit])
        #expect(answers(step(.fence, Self.other)) == [.prepared(Timestamp(rawValue: 50))])
    }

    @Test("COMMIT: effects, and the keys are locked until they are applied; again: the same answer")
    mutating func commits() {
        prepare(Self.other)
        _ = commit()
        #expect(admit(part(Self.other)) == .refuse(.repeated))
        let duties = step(.commit, Self.other)
        #expect(applies(duties).map(\.timestamp) == [Timestamp(rawValue: 60)])
        #expect(answers(duties) == [] && !participant.locks.isFree)
        #expect(answers(step(.fence, Self.other)) == [])
        #expect(answers(commit()) == [.committed(Timestamp(rawValue: 60)), .committed(Timestamp(rawValue: 60))])
        #expect(applies(step(.commit, Self.other)).isEmpty)
        #expect(answers(step(.abort, Self.other)) == [.committed(Timestamp(rawValue: 60))])
        #expect(admit(part(Self.other)) == .refuse(.over))
    }

    @Test("COMMIT at a leader that has only read the intent: its keys stay locked until the entry is applied")
    mutating func commitRestored() {
        prepare(Self.other)
        _ = commit()
        changeLeader()
        #expect(!participant.locks.isFree)
        let duties = step(.commit, Self.other, timestamp: 40)
        #expect(applies(duties).map(\.effects.payload) == [[9]])
        // Never below its own time.
        #expect(applies(duties).map(\.timestamp) == [Timestamp(rawValue: 50)])
        #expect(!participant.locks.isFree)
        let after = commit()
        #expect(after.contains(.reread(.keys([LockKey(0, [1])]))))
        #expect(participant.locks.isFree)
    }

    @Test("ABORT: the keys are free when it is durable")
    mutating func abort() {
        prepare(Self.other)
        _ = commit()
        #expect(admit(part(Self.other, id: TransactionID(rawValue: 3))) == .wait)
        #expect(answers(step(.abort, Self.other)) == [])
        #expect(commit() == [.run(tokens), .answer(1, .aborted)])
    }

    @Test("the anchor keeps a record until FORGET; a change of leader in between changes nothing")
    mutating func anchorCommits() {
        prepare(Self.anchor)
        _ = commit()
        #expect(answers(step(.forget, Self.anchor)) == [.prepared(Timestamp(rawValue: 50))])
        _ = step(.commit, Self.anchor)
        _ = commit()
        changeLeader()
        #expect(participant.locks.isFree)
        #expect(answers(step(.resolve, Self.anchor)) == [.committed(Timestamp(rawValue: 60))])
        #expect(answers(step(.abort, Self.anchor)) == [.committed(Timestamp(rawValue: 60))])
        _ = step(.forget, Self.anchor)
        #expect(answers(commit()) == [.committed(Timestamp(rawValue: 60))])
        #expect(participant.partCount == 0)
        #expect(answers(step(.resolve, Self.anchor)) == [.committed(Timestamp(rawValue: 60))])
    }

    private mutating func fenceAnswered(_ kind: CommitStep.Kind, _ answer: StepAnswer?) -> [ParticipantDuty] {
        var duties: [ParticipantDuty] = []
        participant.answered(
            kind, from: Self.other, to: PartID(Self.transaction, Self.anchor), answer, moment, into: &duties)
        return keep(duties)
    }

    @Test("recovery finds all intents: committed, carried round, forgotten")
    mutating func recoverCommit() {
        prepare(Self.anchor)
        _ = commit()
        now += 1000
        var duties: [ParticipantDuty] = []
        participant.tick(moment, into: &duties)
        #expect(sent(duties) == [.fence])
        #expect(step(.resolve, Self.anchor).isEmpty)  // Who asks meanwhile, waits.
        #expect(fenceAnswered(.fence, nil).isEmpty)
        #expect(fenceAnswered(.fence, .busy).isEmpty)
        let decided = fenceAnswered(.fence, .prepared(Timestamp(rawValue: 80)))
        #expect(applies(decided).map(\.timestamp) == [Timestamp(rawValue: 80)])
        #expect(sent(decided) == [] && answers(decided) == [])
        let after = commit()
        #expect(sent(after) == [.commit] && answers(after) == [.committed(Timestamp(rawValue: 80))])
        #expect(fenceAnswered(.commit, .busy).isEmpty)
        _ = fenceAnswered(.commit, .committed(Timestamp(rawValue: 80)))
        #expect(participant.partCount == 0)
        #expect(answers(commit() + step(.resolve, Self.anchor)) == [.committed(Timestamp(rawValue: 80))])
    }

    @Test("recovery misses an intent: aborted; the driver that comes later hears so")
    mutating func recoverAbort() {
        prepare(Self.anchor)
        _ = commit()
        _ = step(.resolve, Self.anchor)
        let decided = fenceAnswered(.fence, .aborted)
        #expect(answers(decided) == [])
        let after = commit()
        #expect(answers(after) == [.aborted] && sent(after) == [.abort])
        #expect(answers(step(.abort, Self.anchor)) == [.aborted])
        #expect(participant.locks.isFree)
    }

    @Test("an intent without news asks the anchor, and does what it says")
    mutating func orphan() {
        prepare(Self.other)
        _ = commit()
        var duties: [ParticipantDuty] = []
        participant.tick(moment, into: &duties)
        #expect(duties.isEmpty)
        now += 1000
        participant.tick(moment, into: &duties)
        #expect(sent(duties) == [.resolve])
        duties = []
        participant.tick(moment, into: &duties)
        #expect(duties.isEmpty)
        participant.answered(
            .resolve, from: Self.anchor, to: PartID(Self.transaction, Self.other), .committed(Timestamp(rawValue: 90)),
            moment, into: &duties)
        #expect(applies(duties).map(\.timestamp) == [Timestamp(rawValue: 90)])
    }

    @Test("reads hold their locks until CONFIRM, or for a while")
    mutating func reads() {
        let id = PartID(Self.transaction, Self.other)
        #expect(admit(part(Self.other, isReadOnly: true)) == .evaluate)
        participant.hold(id, timestamp: Timestamp(rawValue: 60), moment)
        #expect(!participant.locks.isFree)
        #expect(step(.confirm, Self.other) == [.answer(1, .held)])
        #expect(participant.locks.isFree)
        #expect(step(.confirm, Self.other) == [.answer(1, .notHeld)])
        // A second copy of the part has locks of its own.
        #expect(admit(part(Self.other, isReadOnly: true)) == .evaluate)
        participant.hold(id, timestamp: Timestamp(rawValue: 61), moment)
        #expect(step(.confirm, Self.other) == [.answer(1, .notHeld)])
        #expect(participant.locks.isFree)
        #expect(admit(part(Self.other, isReadOnly: true)) == .evaluate)
        participant.hold(id, timestamp: Timestamp(rawValue: 60), moment)
        now += 5000
        var duties: [ParticipantDuty] = []
        participant.tick(moment, into: &duties)
        #expect(participant.locks.isFree && records.isEmpty)
        #expect(step(.confirm, Self.other) == [.answer(1, .notHeld)])
    }

    @Test("a fence takes a part out of the queue")
    mutating func fencedWhileWaiting() {
        prepare(Self.anchor)
        let waiting = part(Self.other)
        #expect(admit(waiting) == .refuse(.conflict) || participant.partCount == 2)
        let older = Part(
            id: PartID(TransactionID(rawValue: 8), Self.other), priority: 1, participants: [Self.anchor, Self.other],
            isReadOnly: false, scope: .keys([LockKey(0, [1])]))
        #expect(admit(older) == .wait)
        var duties: [ParticipantDuty] = []
        participant.handle(
            CommitStep(.fence, older.id.transaction, participants: older.participants), at: Self.other, token: 2,
            moment, into: &duties)
        #expect(duties.first == .refuse(tokens, .over))
        #expect(participant.locks.waiterCount == 0)
    }

    @Test("a part that was woken and is not evaluated keeps its locks for a while only")
    mutating func forgotten() {
        let id = PartID(Self.transaction, Self.other)
        #expect(admit(part(Self.other)) == .evaluate)
        #expect(participant.isAdmitted(id))
        var duties: [ParticipantDuty] = []
        now += 15_000
        participant.tick(moment, into: &duties)
        #expect(!participant.isAdmitted(id) && participant.locks.isFree && duties.isEmpty)
        // Its executor comes back too late: nothing is written.
        participant.prepare(id, PartEffects(), timestamp: Timestamp(rawValue: 1), moment, into: &duties)
        #expect(duties.isEmpty)
    }

    @Test("counts: every part ends once, also when the leader changes")
    mutating func counts() {
        prepare(Self.anchor)
        #expect(admit(part(Self.other, id: TransactionID(rawValue: 78))) == .refuse(.conflict))
        #expect(participant.admit(.keys([LockKey(0, [1])]), call(token: 9)) == .wait)
        #expect(participant.intentCount == 1 && participant.counts.started == 1)
        #expect(participant.counts.conflicts == 1 && participant.counts.waits == 1)
        _ = commit()
        changeLeader()
        #expect(participant.intentCount == 1)
        _ = step(.commit, Self.anchor)
        _ = commit()
        #expect(participant.intentCount == 0 && participant.counts.committed == 1)
        #expect(admit(part(Self.other, key: 2, isReadOnly: true)) == .evaluate)
        participant.hold(PartID(Self.transaction, Self.other), timestamp: Timestamp(rawValue: 60), moment)
        _ = step(.confirm, Self.other)
        #expect(participant.counts.committed == 2 && participant.counts.aborted == 0)
        _ = step(.resolve, Self.other)
        _ = step(.fence, Self.other)
        #expect(participant.counts.aborted == 0 && participant.counts.recovered == 0 && participant.counts.started == 2)
    }

    private func call(token: UInt64) -> WaitingCall {
        WaitingCall(token: token, lane: 0, bytes: 1, deadline: now + 10_000)
    }

    @Test("lists that cannot be one are refused, and so is what is too much")
    mutating func bounds() {
        for slots in [[], [Self.other], [Self.anchor, Self.anchor]] {
            let wrong = Part(
                id: PartID(Self.transaction, Self.anchor), priority: 1, participants: slots, isReadOnly: false,
                scope: .shard)
            #expect(admit(wrong) == .refuse(.malformed))
        }
        var limits = Participant.Limits()
        (limits.parts, limits.firmVerdicts) = (1, 1)
        participant = Participant(bucketCount: 64, limits: limits)
        prepare(Self.anchor)
        #expect(admit(part(Self.other, key: 2)) == .refuse(.busy))
        _ = step(.fence, Self.other)
        #expect(answers(commit()) == [.aborted])
        var duties: [ParticipantDuty] = []
        participant.handle(
            CommitStep(.fence, TransactionID(rawValue: 9), participants: []), at: Self.other, token: 3, moment,
            into: &duties)
        #expect(duties == [.answer(3, .busy)])
    }

    @Test("nothing is closed beyond an intent, also one that was found, until it is decided")
    mutating func closed() {
        #expect(participant.closedMilliseconds(at: now) == now)
        #expect(admit(part(Self.anchor)) == .evaluate)
        #expect(participant.closedMilliseconds(at: now) == now)
        var duties: [ParticipantDuty] = []
        participant.prepare(
            PartID(Self.transaction, Self.anchor), PartEffects(), timestamp: Timestamp(milliseconds: 900), moment,
            into: &duties)
        _ = keep(duties)
        #expect(participant.closedMilliseconds(at: now) == 899 && participant.closedMilliseconds(at: 500) == 500)
        _ = commit()
        #expect(participant.closedMilliseconds(at: now) == 899)
        changeLeader()
        #expect(participant.closedMilliseconds(at: now) == 899)
        _ = step(.commit, Self.anchor)
        #expect(participant.closedMilliseconds(at: now) == now)
    }
}
