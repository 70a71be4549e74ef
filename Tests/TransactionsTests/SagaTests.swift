import Base
import DataModel
import TestKit
import Testing

@testable import Transactions

@Suite("Sagas")
struct SagaTests {
    /// Runs a script; answers how many deeds it took.
    @discardableResult
    private func check(_ script: SagaWorld.Script, _ expected: Saga.Status?) throws -> Int {
        var world = try SagaWorld(script)
        guard world.run() else {
            Issue.record("not over: \(script), \(world.saga)")
            return 0
        }
        if let fault = world.fault { Issue.record("\(fault) in \(script)") }
        if let expected, world.saga.status != expected {
            Issue.record("\(world.saga.status) (\(world.saga.reason)) in \(script)")
        }
        return world.deeds
    }

    private static let shapes: [(steps: Int, undoable: Set<Int>)] = [
        (1, []), (1, [0]), (2, [0]), (2, [0, 1]), (3, [0, 2]), (3, [0, 1, 2]), (4, [1]),
    ]

    @Test("the driver dies before any deed, and before any two: each step once, and all undone in order")
    func crashes() throws {
        for shape in Self.shapes {
            for failing in [nil] + (0..<shape.steps).map({ Optional($0) }) {
                var script = SagaWorld.Script(steps: shape.steps, undoable: shape.undoable, failing: failing)
                let expected: Saga.Status = failing == nil ? .completed : .compensated
                let deeds = try check(script, expected)
                for first in 1...deeds + 4 {
                    script.crashes = [first]
                    try check(script, expected)
                    for second in first + 1...deeds + 8 {
                        script.crashes = [first, second]
                        try check(script, expected)
                    }
                }
            }
        }
    }

    @Test("refusals and lost answers are tried again, whatever dies meanwhile", arguments: 0..<3, 0..<3)
    func again(_ refusals: Int, _ losses: Int) throws {
        var script = SagaWorld.Script(steps: 3, undoable: [0, 1], refusals: refusals, losses: losses)
        for failing in [nil, 2] {
            script.failing = failing
            let deeds = try check(script, failing == nil ? .completed : .compensated)
            for crash in 1...deeds {
                script.crashes = [crash]
                try check(script, failing == nil ? .completed : .compensated)
            }
            script.crashes = []
        }
    }

    @Test("cancelled before any deed, with a crash before any other, and late messages at any time")
    func cancelled() throws {
        for shape in Self.shapes {
            var script = SagaWorld.Script(steps: shape.steps, undoable: shape.undoable)
            let deeds = try check(script, .completed)
            for cancel in 1...deeds + 1 {
                script.cancelledAt = cancel
                (script.crashes, script.lateAt) = ([], nil)
                try check(script, nil)
                for crash in 1...deeds + 4 {
                    script.crashes = [crash]
                    for late in stride(from: crash, to: deeds + 12, by: 2) {
                        script.lateAt = late
                        try check(script, nil)
                    }
                }
            }
        }
    }

    @Test("a step that nobody hears is given up; should it arrive later it is not executed")
    func deaf() throws {
        var script = SagaWorld.Script(steps: 2, undoable: [0, 1], deaf: .action)
        for late in 1..<60 {
            script.lateAt = late
            var world = try SagaWorld(script)
            let isOver = world.run()
            #expect(isOver && world.fault == nil && world.saga.status == .compensated, "\(world.log), \(world.saga)")
        }
        script = SagaWorld.Script(steps: 2, undoable: [0, 1], failing: 1, deaf: .compensation)
        try check(script, .failed)
        script.losses = 9
        script.deaf = .fence
        script.failing = nil
        try check(script, .failed)
    }

    @Test("what may be forgotten is not tried again unless somebody insists")
    func forgotten() throws {
        let action = SagaDefinition.Action(slot: Slot(rawValue: 1), calls: [1])
        let definition = try SagaDefinition(
            steps: [.init(action: action, compensation: action)], maximumAttempts: 1000)
        let timing = Saga.Timing()
        var saga = Saga(id: "a", definition, session: 1, now: 0), now: UInt64 = 10
        saga.begin(now: now)
        while saga.status == .running {
            guard let call = saga.call(now: now) else {
                now = saga.nextCallAt ?? now
                continue
            }
            saga.sent()
            saga.answered(call.attempt, .unknown("no answer"), now: now, timing)
        }
        #expect(saga.status == .failed && now >= timing.certainty && now < timing.certainty + 2 * timing.longestPause)
        #expect(saga.reason.contains("unknown for too long: no answer"))
        #expect(throws: DatabaseError.self) { try saga.retry(now: now, isForced: false, timing) }
        #expect(throws: DatabaseError.self) { try saga.cancel(now: now) }
        try saga.retry(now: now, isForced: true, timing)
        let fence = try #require(saga.call(now: now))
        #expect(fence.kind == .fence && fence.token == 1)
        saga.sent()
        saga.answered(fence.attempt, .fenced(wasExecuted: true), now: now, timing)
        let undo = try #require(saga.call(now: now))
        #expect(undo.kind == .execute && undo.token == 2)
        saga.sent()
        saga.answered(undo.attempt, .refused("wrong type", isFinal: true), now: now, timing)
        #expect(saga.status == .failed && saga.reason == "wrong type" && saga.stepsDone == 1)
        // A refusal is certain: it may be tried again at any time.
        try saga.retry(now: now + 10 * timing.certainty, isForced: false, timing)
        #expect(saga.status == .compensating)
    }

    @Test("refusals alone never make a saga uncertain, however long they last")
    func patient() throws {
        let action = SagaDefinition.Action(slot: Slot(rawValue: 1), calls: [1])
        let definition = try SagaDefinition(steps: [.init(action: action, compensation: nil)], maximumAttempts: 100)
        var saga = Saga(id: "a", definition, session: 1, now: 0), now: UInt64 = 10, sent = 0
        saga.begin(now: now)
        while saga.isActive {
            guard let call = saga.call(now: now) else {
                now = max(now + 1, saga.nextCallAt ?? 0)
                continue
            }
            sent += 1
            saga.sent()
            saga.answered(call.attempt, .refused("busy", isFinal: false), now: now, Saga.Timing())
        }
        #expect(saga.status == .compensated && sent == 100 && now > 2 * Saga.Timing().certainty)
    }

    @Test("tokens rise, and there are never more than a shard remembers of a session")
    func tokens() throws {
        let steps = Set(0..<SagaDefinition.stepLimit)
        var world = try SagaWorld(.init(steps: steps.count, undoable: steps, failing: steps.count - 1))
        let isOver = world.run()
        #expect(isOver && world.fault == nil && world.log.count == 2 * (steps.count - 1))
        let definition = world.saga.definition, timing = Saga.Timing()
        var saga = Saga(id: "a", definition, session: 1, now: 0), last: UInt64 = 0, count = 0
        saga.begin(now: 0)
        while let call = saga.call(now: 0) {
            #expect(call.token > last)
            (last, count) = (call.token, count + 1)
            saga.sent()
            if count == steps.count { try saga.cancel(now: 0) }
            saga.answered(call.attempt, .done, now: 0, timing)
        }
        #expect(saga.status == .compensated && count == 64 && last == 64)
    }

    @Test("definitions and ids that cannot be are refused")
    func limits() {
        let action = SagaDefinition.Action(slot: Slot(rawValue: 1), calls: [1])
        let large = SagaDefinition.Action(slot: Slot(rawValue: 1), calls: Bytes(repeating: 0, count: 64 << 10))
        let larger = SagaDefinition.Action(slot: Slot(rawValue: 1), calls: Bytes(repeating: 0, count: 65 << 10))
        let name = String(repeating: "n", count: 65)
        let wrong: [([SagaDefinition.Step], UInt32)] = [
            ([], 1), (Array(repeating: .init(action: action, compensation: nil), count: 33), 1),
            ([.init(action: action, compensation: nil)], 0), ([.init(action: action, compensation: nil)], 1001),
            ([.init(action: larger, compensation: nil)], 1), ([.init(action: action, compensation: larger)], 1),
            ([.init(name: name, action: action, compensation: nil)], 1),
            (Array(repeating: .init(action: large, compensation: nil), count: 5), 1),
        ]
        for (steps, attempts) in wrong {
            #expect(throws: DatabaseError.self) { try SagaDefinition(steps: steps, maximumAttempts: attempts) }
        }
        for id in ["", "a\u{0}b", "a\nb", String(repeating: "i", count: 129)] {
            #expect(throws: DatabaseError.self) { try SagaDefinition.check(id: id) }
        }
        #expect(throws: Never.self) { try SagaDefinition.check(id: "order/1 ü") }
    }

    @Test("records that are cut or changed are refused or read, never a trap")
    func records() throws {
        var world = try SagaWorld(.init(steps: 3, undoable: [0, 2], failing: 2, refusals: 1))
        let isOver = world.run()
        #expect(isOver)
        var definition = ByteBuffer(), state = ByteBuffer()
        world.saga.definition.encode(into: &definition)
        world.saga.encodeState(into: &state)
        let whole = (definition.readable.bytes, state.readable.bytes)
        func read(_ definition: Bytes, _ state: Bytes) -> Saga? {
            definition.withUnsafeBytes { definition in
                state.withUnsafeBytes { Saga(id: "s", definition: definition, state: $0) }
            }
        }
        let again = try #require(read(whole.0, whole.1))
        #expect(again.status == .compensated && again.definition == world.saga.definition)
        #expect(again.session == 9 && again.updatedAt == world.saga.updatedAt && !again.mustWrite)
        for count in 0..<whole.0.count { #expect(read(Bytes(whole.0.prefix(count)), whole.1) == nil) }
        for count in 0..<41 { #expect(read(whole.0, Bytes(whole.1.prefix(count))) == nil) }
        var random = SplitMix64(seed: 3)
        for _ in 0..<5000 {
            var (first, second) = whole
            first[Int(random.next() % UInt64(first.count))] = UInt8(truncatingIfNeeded: random.next())
            second[Int(random.next() % UInt64(second.count))] = UInt8(truncatingIfNeeded: random.next())
            guard var saga = read(first, second) else { continue }
            saga.begin(now: 1)
            if let call = saga.call(now: .max) {
                saga.sent()
                saga.answered(call.attempt, .done, now: .max, Saga.Timing())
                saga.lost(now: .max, Saga.Timing())
            }
        }
    }

    @Test("keys of records say whose they are")
    func keys() {
        var buffer = ByteBuffer()
        SagaKey.append(BucketID(rawValue: 3), .state, id: "order/7", into: &buffer)
        #expect(SagaKey.parse(buffer.readable)?.record == .state)
        #expect(SagaKey.parse(buffer.readable)?.id == "order/7")
        let whole = buffer.readable.bytes
        for count in 0...7 {
            #expect(Bytes(whole.prefix(count)).withUnsafeBytes { SagaKey.parse($0) == nil })
        }
    }
}
