import Base
import DataModel
import TestKit
import Testing

@testable import Transactions

/// A saga, a disk, and shards that know tokens: everything between them can be lost, late, or doubled.
struct SagaWorld {
    /// What becomes of the actions.
    struct Script {
        var steps = 3
        /// Steps that have something to undo.
        var undoable: Set<Int> = []
        /// The action that is refused for good.
        var failing: Int?
        /// How often each attempt is refused at first, and how often its answer is lost.
        var refusals = 0, losses = 0
        /// The driver dies before these of its deeds.
        var crashes: Set<Int> = []
        /// The deed before which the saga is cancelled.
        var cancelledAt: Int?
        /// The deed before which what was lost on its way arrives after all.
        var lateAt: Int?
        /// Nothing that is sent in this phase arrives.
        var deaf: Saga.Phase?
    }

    let script: Script
    private(set) var saga: Saga
    private var disk: (definition: Bytes, state: Bytes)
    private var now: UInt64 = 1_000_000
    /// Digests by token: what a shard remembers.
    private var known: [UInt64: Bytes] = [:]
    private var tries: [UInt64: Int] = [:]
    private var late: [Saga.Call] = []
    /// What was executed.
    private(set) var log: [String] = []
    private(set) var deeds = 0
    var timing = Saga.Timing()

    init(_ script: Script) throws {
        self.script = script
        let steps = (0..<script.steps).map { number in
            let undo = SagaDefinition.Action(slot: Slot(rawValue: 7), calls: Bytes("undo \(number)".utf8))
            return SagaDefinition.Step(
                action: .init(slot: Slot(rawValue: UInt16(number)), calls: Bytes("do \(number)".utf8)),
                compensation: script.undoable.contains(number) ? undo : nil)
        }
        saga = Saga(
            id: "s", try SagaDefinition(steps: steps, maximumAttempts: 5), session: 9, now: now)
        disk = ([], [])
        write()
    }

    private mutating func write() {
        var definition = ByteBuffer(), state = ByteBuffer()
        saga.definition.encode(into: &definition)
        saga.encodeState(into: &state)
        disk = (definition.readable.bytes, state.readable.bytes)
        saga.written()
    }

    private mutating func restore() {
        let found = disk.definition.withUnsafeBytes { definition in
            disk.state.withUnsafeBytes { Saga(id: "s", definition: definition, state: $0) }
        }
        guard let found else {
            Issue.record("what was written cannot be read")
            return
        }
        saga = found
    }

    /// Until the saga is over. False: it never is.
    mutating func run() -> Bool {
        saga.begin(now: now)
        while deeds < 500 {
            if saga.isOver, !saga.mustWrite { return true }
            if due() { continue }
            if saga.mustWrite {
                write()
            } else if let call = saga.call(now: now) {
                send(call)
            } else {
                now += 50
            }
        }
        return false
    }

    /// Counts a deed. True when the driver has died instead.
    private mutating func due() -> Bool {
        deeds += 1
        if script.lateAt == deeds {
            for call in late { _ = perform(call) }
            late = []
        }
        if script.cancelledAt == deeds { try? saga.cancel(now: now) }
        guard script.crashes.contains(deeds) else { return false }
        restore()
        if saga.status == .notStarted {
            // Who wanted it begun asks again.
            if script.cancelledAt.map({ $0 <= deeds }) ?? false { try? saga.cancel(now: now) }
            saga.begin(now: now)
        }
        return true
    }

    private mutating func send(_ call: Saga.Call) {
        saga.sent()
        if due() {
            late.append(call)  // It was on its way.
            return
        }
        if script.deaf == saga.phase {
            late.append(call)
            return saga.answered(call.attempt, .unknown("lost"), now: now, timing)
        }
        let outcome = perform(call)
        if due() { return }
        now += 10
        tries[call.token, default: 0] += 1
        if tries[call.token, default: 0] <= script.losses {
            return saga.answered(call.attempt, .unknown("no answer"), now: now, timing)
        }
        saga.answered(call.attempt, outcome, now: now, timing)
        saga.answered(call.attempt, .unknown("twice"), now: now, timing)
    }

    private mutating func perform(_ call: Saga.Call) -> Saga.Outcome {
        let name = call.kind == .fence ? [] : call.action.calls
        if let digest = known[call.token] {
            if call.kind == .fence { return .fenced(wasExecuted: digest != name) }
            return digest == name ? .done : .refused("another call", isFinal: true)
        }
        if call.kind == .execute {
            let text = String(decoding: name, as: UTF8.self)
            if script.failing.map({ "do \($0)" == text }) ?? false { return .refused("no", isFinal: true) }
            if tries[call.token, default: 0] < script.refusals { return .refused("busy", isFinal: false) }
            log.append(text)
        }
        known[call.token] = name
        return call.kind == .fence ? .fenced(wasExecuted: false) : .done
    }

    /// What is wrong with what was executed; nil: nothing.
    var fault: String? {
        let count = log.prefix { $0.hasPrefix("do ") }.count
        guard log.prefix(count).elementsEqual((0..<count).map { "do \($0)" }) else { return "steps: \(log)" }
        let undone = (0..<count).reversed().filter { script.undoable.contains($0) }.map { "undo \($0)" }
        let isWhole = count == script.steps && log.count == count
        switch saga.status {
        case .completed: return isWhole ? nil : "completed: \(log)"
        case .compensated: return log.dropFirst(count).elementsEqual(undone) ? nil : "compensated: \(log)"
        case .failed: return log.dropFirst(count).elementsEqual(undone.prefix(log.count - count)) ? nil : "\(log)"
        case .notStarted, .running, .compensating: return "\(saga.status)"
        }
    }
}
