import Base
import DataModel

/// A saga: steps that are done one after another, each at one shard; if one cannot be done, those before it are undone,
/// the last first. A value without I/O or clock: what happens comes in, `call` and `mustWrite` say what is to be done.
///
/// What is promised. Each action is executed once: it carries a token (`call.token`), by which its shard knows it when
/// it comes again. Before an action is sent for the first time the saga is written with it under way (`since`), so
/// whoever finds the saga after a crash sends the same action with the same token. A shard remembers tokens for a time;
/// what is not known to be executed or not when that is nearly over is not tried again (`failed`), and never executed
/// twice. If a step is given up whose outcome is not known, its shard is asked to promise that it will never execute
/// it, or to say that it did (*fence*): in that case it is undone as well.
package struct Saga: Hashable, Sendable {
    package enum Status: UInt8, CaseIterable, Hashable, Sendable {
        case notStarted = 0, running = 1, completed = 2, compensating = 3, compensated = 4, failed = 5
    }

    /// What is under way at `position`.
    package enum Phase: UInt8, CaseIterable, Hashable, Sendable {
        /// The step's action.
        case action = 0
        /// It is not known whether the action was executed.
        case fence = 1
        /// What undoes it.
        case compensation = 2
    }

    /// Something to be sent.
    package struct Call: Hashable, Sendable {
        package enum Kind: UInt8, Hashable, Sendable { case execute, fence }

        package let kind: Kind
        package let action: SagaDefinition.Action
        package let session: UInt64, token: UInt64
        /// Tells answers to this attempt from those to others.
        package let attempt: UInt64
    }

    /// What has become of a call.
    package enum Outcome: Hashable, Sendable {
        /// Executed: now or before.
        case done
        /// Not executed; `isFinal`: nor would it be if it came again.
        case refused(String, isFinal: Bool)
        /// Perhaps executed, perhaps it will be.
        case unknown(String)
        /// Of a fence: whether the action was executed; if not it never will be.
        case fenced(wasExecuted: Bool)
    }

    /// For how long a shard remembers a token, less a margin, in milliseconds; pauses between attempts.
    package struct Timing: Hashable, Sendable {
        package var certainty: UInt64 = 450_000
        package var shortestPause: UInt64 = 100, longestPause: UInt64 = 30_000

        package init() {}
    }

    static let reasonLimit = 256

    package let id: String
    package let definition: SagaDefinition
    /// Random, not 0: with `token` what a shard knows an action by.
    package let session: UInt64
    package let createdAt: UInt64
    package internal(set) var updatedAt: UInt64
    package internal(set) var status = Status.notStarted
    package internal(set) var phase = Phase.action
    package internal(set) var position = 0
    /// Attempts of what is under way that have failed.
    package internal(set) var attempts: UInt32 = 0
    /// Before the action under way was sent for the first time.
    package internal(set) var since: UInt64 = 0
    package internal(set) var isCancelled = false
    /// Why it did not go on as it was meant to; of the newest obstacle.
    package internal(set) var reason = ""

    /// What is under way may have been executed, though no answer says so.
    package internal(set) var isUncertain = false

    // In memory only.

    var isInFlight = false
    var dueAt: UInt64 = 0
    var attempt: UInt64 = 0
    /// Changed since it was written.
    package internal(set) var mustWrite = true

    package init(id: String, _ definition: SagaDefinition, session: UInt64, now: UInt64) {
        (self.id, self.definition, self.session) = (id, definition, session)
        (createdAt, updatedAt) = (now, now)
    }

    package var isOver: Bool { status == .completed || status == .compensated || status == .failed }

    /// Something of it is under way.
    package var isActive: Bool { status == .running || status == .compensating }

    /// Steps that are done and not undone, as far as is known.
    package var stepsDone: Int {
        switch (status, phase) {
        case (.notStarted, _), (.compensated, _): 0
        case (.completed, _): definition.steps.count
        case (_, .action), (_, .fence): position
        case (_, .compensation): position + 1
        }
    }

    // MARK: What is to be sent

    /// What is to be sent at `now`, once the saga as it is now is written; then `sent`.
    package func call(now: UInt64) -> Call? {
        guard isActive, !isInFlight, now >= dueAt, position >= 0, position < definition.steps.count else { return nil }
        let step = definition.steps[position], forward = UInt64(position + 1)
        let count = UInt64(definition.steps.count)
        switch phase {
        case .action:
            return Call(kind: .execute, action: step.action, session: session, token: forward, attempt: attempt)
        case .fence:
            return Call(kind: .fence, action: step.action, session: session, token: forward, attempt: attempt)
        case .compensation:
            guard let action = step.compensation else { return nil }  // Passed over by `undo`.
            // Above all tokens before it: a shard remembers the highest ones of a session.
            return Call(
                kind: .execute, action: action, session: session, token: count + (count - UInt64(position)),
                attempt: attempt)
        }
    }

    /// When `call` will answer something; nil: not before something else happens.
    package var nextCallAt: UInt64? { isActive && !isInFlight ? dueAt : nil }

    /// The call was sent; `answered` follows, or `lost`.
    package mutating func sent() { isInFlight = true }

    // MARK: What happens

    /// Begins; not before there is room for it.
    package mutating func begin(now: UInt64) {
        guard status == .notStarted else { return }
        status = .running
        enter(.action, 0, now)
    }

    /// An answer to the attempt with that number.
    package mutating func answered(_ attempt: UInt64, _ outcome: Outcome, now: UInt64, _ timing: Timing) {
        guard isActive, isInFlight, attempt == self.attempt else { return }
        isInFlight = false
        self.attempt += 1
        switch (phase, outcome) {
        case (.action, .done): actionDone(now)
        case (.compensation, .done): undo(from: position - 1, now)
        case (.fence, .fenced(let wasExecuted)): undo(from: wasExecuted ? position : position - 1, now)
        case (_, .refused(let reason, let isFinal)): failed(reason, isFinal: isFinal, now, timing)
        case (_, .unknown(let reason)):
            isUncertain = true
            failed(reason, isFinal: false, now, timing)
        case (.action, .fenced), (.compensation, .fenced), (.fence, .done):
            isUncertain = true
            failed("a shard answered with something else than was asked", isFinal: false, now, timing)
        }
    }

    /// The leader goes back, or could not hear the answer: what was sent is sent again.
    package mutating func lost(now: UInt64, _ timing: Timing) {
        guard isInFlight else { return }
        isInFlight = false
        isUncertain = true
        attempt += 1
        dueAt = now &+ timing.shortestPause
    }

    /// Asks to undo what is done. Throws if it is too late.
    package mutating func cancel(now: UInt64) throws(DatabaseError) {
        switch status {
        case .compensating, .compensated: return
        case .completed, .failed:
            throw DatabaseError(.invalidArgument, "The saga is \(status.name) and cannot be cancelled")
        case .notStarted:
            (status, isCancelled, reason) = (.compensated, true, "cancelled")
            touch(now)
        case .running:
            guard !isCancelled else { return }
            (isCancelled, reason) = (true, "cancelled")
            touch(now)
            if !isInFlight { giveUp(now) }  // Else the answer decides how.
        }
    }

    /// Lets a failed saga go on undoing. `isForced`: even if something may be executed a second time.
    package mutating func retry(now: UInt64, isForced: Bool, _ timing: Timing) throws(DatabaseError) {
        guard status == .failed else {
            throw DatabaseError(.invalidArgument, "The saga is \(status.name): only a failed one can be tried again")
        }
        guard isForced || !isUncertain || !isTooLate(now, timing) else {
            throw DatabaseError(
                .outcomeUnknown,
                "It is not known whether step \(position + 1) was executed, and its shard may have forgotten; with "
                    + "`force` it may be executed a second time")
        }
        let wasUncertain = isUncertain
        status = .compensating
        let began = since
        enter(phase == .action ? .fence : phase, position, now)
        if wasUncertain, !isForced { (isUncertain, since) = (true, began) }
    }

    /// It can go.
    package var mayBeDeleted: Bool { isOver || status == .notStarted }

    /// It is written.
    package mutating func written() { mustWrite = false }

    /// After it was read: whatever it says is under way may have been sent.
    mutating func restored() {
        (isUncertain, mustWrite) = (isUncertain || isActive, false)
    }

    // MARK: Going on

    private mutating func touch(_ now: UInt64) { (mustWrite, updatedAt) = (true, max(now, updatedAt)) }

    private mutating func enter(_ phase: Phase, _ position: Int, _ now: UInt64) {
        (self.phase, self.position, attempts, since) = (phase, position, 0, now)
        (isUncertain, isInFlight, dueAt) = (false, false, 0)
        attempt += 1
        touch(now)
    }

    private mutating func end(_ status: Status, _ now: UInt64) {
        self.status = status
        touch(now)
    }

    private mutating func actionDone(_ now: UInt64) {
        if isCancelled { return undo(from: position, now) }
        if position + 1 < definition.steps.count { return enter(.action, position + 1, now) }
        end(.completed, now)
    }

    /// Undoes the steps from there down to the first, passing over those that have nothing to undo.
    private mutating func undo(from position: Int, _ now: UInt64) {
        status = .compensating
        var next = position
        while next >= 0, definition.steps[next].compensation == nil { next -= 1 }
        guard next >= 0 else {
            (self.position, phase) = (0, .compensation)
            return end(.compensated, now)
        }
        enter(.compensation, next, now)
    }

    /// The step under way will not be done.
    private mutating func giveUp(_ now: UInt64) {
        guard isUncertain else { return undo(from: position - 1, now) }
        let began = since
        status = .compensating
        enter(.fence, position, now)
        (isUncertain, since) = (true, began)  // The time of the action counts: its token may be forgotten.
    }

    private func isTooLate(_ now: UInt64, _ timing: Timing) -> Bool {
        now < since || now - since >= timing.certainty
    }

    private mutating func failed(_ reason: String, isFinal: Bool, _ now: UInt64, _ timing: Timing) {
        attempts = attempts == .max ? .max : attempts + 1
        if !isCancelled || phase != .action { self.reason = Self.shortened(reason) }
        if !isUncertain { since = now }  // Nothing sent until now will be executed.
        touch(now)
        if isUncertain, isTooLate(now, timing) {
            self.reason = Self.shortened("the outcome of step \(position + 1) is unknown for too long: \(reason)")
            return end(.failed, now)
        }
        let isEnough = isFinal || attempts >= definition.maximumAttempts
        if phase == .action, isEnough || isCancelled { return giveUp(now) }
        if isEnough { return end(.failed, now) }
        let doublings = UInt64(min(attempts, 20) - 1)
        dueAt = now &+ min(timing.shortestPause &<< doublings, timing.longestPause)
    }

    private static func shortened(_ text: String) -> String {
        var text = text
        while text.utf8.count > reasonLimit { text.removeLast() }
        return text
    }
}

extension Saga.Status {
    /// As people and metrics read it.
    package var name: String {
        switch self {
        case .notStarted: "not_started"
        case .running: "running"
        case .completed: "completed"
        case .compensating: "compensating"
        case .compensated: "compensated"
        case .failed: "failed"
        }
    }
}
