import Base
import DataModel
import Testing
import Transactions

/// What a driver says, to whom and when.
@Suite("Commit driver")
struct CommitDriverTests {
    private static let slots = [Slot(rawValue: 1), Slot(rawValue: 2), Slot(rawValue: 3)]
    private var driver = CommitDriver(
        TransactionID(rawValue: 4), participants: CommitDriverTests.slots, isReadOnly: false, now: 0)

    private static func time(_ value: UInt64) -> Timestamp { Timestamp(rawValue: value) }

    private static func step(_ kind: CommitStep.Kind, _ timestamp: UInt64 = 0) -> CommitStep {
        CommitStep(kind, TransactionID(rawValue: 4), timestamp: time(timestamp), participants: slots)
    }

    private mutating func replied(
        _ part: Int, _ outcome: CommitDriver.PartOutcome, now: UInt64 = 1
    ) -> [CommitDriver.Duty] {
        var duties: [CommitDriver.Duty] = []
        driver.replied(part, outcome, now: now, into: &duties)
        return duties
    }

    private mutating func answered(
        _ kind: CommitStep.Kind, _ part: Int, _ answer: StepAnswer?, now: UInt64 = 1
    ) -> [CommitDriver.Duty] {
        var duties: [CommitDriver.Duty] = []
        driver.answered(kind, part, answer, now: now, into: &duties)
        return duties
    }

    private mutating func tick(_ now: UInt64) -> [CommitDriver.Duty] {
        var duties: [CommitDriver.Duty] = []
        driver.tick(now: now, into: &duties)
        return duties
    }

    @Test("all parts are done: the client is answered, then the anchor, the others and the anchor hear of it")
    mutating func commits() {
        var duties: [CommitDriver.Duty] = []
        driver.begin(into: &duties)
        #expect(duties == [.sendPart(0), .sendPart(1), .sendPart(2)])
        #expect(replied(1, .done(Self.time(7))) == [])
        #expect(replied(0, .done(Self.time(9))) == [])
        #expect(replied(0, .conflict) == [])  // The first word counts.
        #expect(
            replied(2, .done(Self.time(8))) == [
                .answer(.committed(Self.time(9), missing: [])), .send(Self.step(.commit, 9), to: 0),
            ])
        #expect(answered(.commit, 0, nil) == [])
        #expect(tick(600) == [.send(Self.step(.commit, 9), to: 0)])
        #expect(
            answered(.commit, 0, .committed(Self.time(9)), now: 601) == [
                .send(Self.step(.commit, 9), to: 1), .send(Self.step(.commit, 9), to: 2),
            ])
        #expect(answered(.commit, 2, .committed(Self.time(9))) == [])
        #expect(tick(1200) == [.send(Self.step(.commit, 9), to: 1)])
        #expect(answered(.commit, 1, .nothing) == [.send(Self.step(.forget), to: 0), .finished])
        #expect(driver.isFinished && tick(90_000) == [])
    }

    @Test("a part gives way: nobody is told before the anchor has confirmed the abort")
    mutating func aborts() {
        #expect(replied(1, .conflict) == [.send(Self.step(.abort), to: 0)])
        #expect(replied(2, .failed) == [])
        #expect(answered(.abort, 0, .busy) == [])
        #expect(answered(.abort, 1, .aborted) == [])  // Not the anchor.
        #expect(tick(600) == [.send(Self.step(.abort), to: 0)])
        #expect(answered(.abort, 0, .aborted) == [.answer(.aborted), .finished])
    }

    @Test("those that may have an intent hear of the abort, and the client why")
    mutating func tellsWhy() {
        #expect(replied(1, .done(Self.time(3))) == [])
        #expect(replied(0, .failed) == [.send(Self.step(.abort), to: 0)])
        #expect(
            answered(.abort, 0, .aborted) == [
                .send(Self.step(.abort), to: 1), .send(Self.step(.abort), to: 2), .answer(.failed(part: 0)), .finished,
            ])
    }

    @Test("somebody has recovered it to a commit: so it is, even without all replies")
    mutating func recovered() {
        #expect(replied(0, .done(Self.time(3))) == [])
        #expect(replied(2, .unknown) == [.send(Self.step(.abort), to: 0)])
        #expect(replied(1, .done(Self.time(4))) == [])
        #expect(
            answered(.abort, 0, .committed(Self.time(5))) == [
                .answer(.committed(Self.time(5), missing: [2])), .finished,
            ])
    }

    @Test("parts that do not answer are given up; an anchor that does not, leaves it unknown")
    mutating func silence() {
        #expect(replied(0, .done(Self.time(3))) == [])
        #expect(tick(9999) == [])
        #expect(tick(10_000) == [.send(Self.step(.abort), to: 0)])
        #expect(tick(10_400) == [])
        #expect(tick(10_500) == [.send(Self.step(.abort), to: 0)])
        #expect(tick(30_000) == [.answer(.unknown), .finished])
    }

    @Test("a driver that has slept believes nobody, whatever came in meanwhile")
    mutating func slept() {
        #expect(replied(0, .done(Self.time(3))) == [])
        #expect(replied(1, .done(Self.time(3))) == [])
        #expect(replied(2, .done(Self.time(3)), now: 700_000) == [.answer(.unknown), .finished])
    }

    @Test("reads are confirmed by all, or tried again")
    mutating func reads() {
        driver = CommitDriver(TransactionID(rawValue: 4), participants: Self.slots, isReadOnly: true, now: 0)
        for part in 0..<2 { #expect(replied(part, .done(Self.time(3))) == []) }
        #expect(
            replied(2, .done(Self.time(5))) == [
                .send(Self.step(.confirm, 3), to: 0), .send(Self.step(.confirm, 3), to: 1),
                .send(Self.step(.confirm, 5), to: 2),
            ])
        let confirmed = driver
        #expect(answered(.confirm, 1, .held) == [])
        #expect(answered(.confirm, 0, .held) == [])
        #expect(answered(.confirm, 2, .held) == [.answer(.committed(Self.time(5), missing: [])), .finished])
        driver = confirmed
        #expect(answered(.confirm, 1, .notHeld) == [.answer(.aborted), .finished])
        driver = CommitDriver(TransactionID(rawValue: 4), participants: Self.slots, isReadOnly: true, now: 0)
        #expect(
            replied(1, .conflict) == [
                .send(Self.step(.confirm), to: 0), .send(Self.step(.confirm), to: 2), .answer(.aborted), .finished,
            ])
    }
}
