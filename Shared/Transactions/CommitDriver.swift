import Base
import DataModel

/// One attempt of a transaction over several shards as its driver sees it, as a value: replies in, duties out.
///
///     parts ─► all done ─► the client is answered: committed
///       │                  COMMIT to the anchor ─► COMMIT to the others ─► FORGET to the anchor
///       └─► one is not ─► ABORT to the anchor ─► it says aborted: the client is answered, ABORT to the others
///                                             └► it says committed: somebody has recovered it
///     reads only: parts ─► all done ─► CONFIRM to everybody ─► all were held: the client is answered
///
/// Invariants:
/// - The client is answered exactly once: `committed` when all intents are durable or the anchor says so, `aborted`
///   and `failed` when the anchor says that nothing will be; `unknown` when neither is known in time.
/// - A driver that ceases to be at any point leaves nothing that recovery would not bring to the same end
///   (`Participant`). So nothing behind the client's answer is repeated for long.
/// - A part whose outcome is unknown is not asked after: the transaction is aborted, because its replies would be lost
///   even if it were committed, and then it can be tried again.
/// - A driver older than its life concludes nothing by itself and believes no answer: verdicts and fences that it
///   relies on may have been forgotten. The time is that of the event's processing, not of its arrival.
package struct CommitDriver: Sendable {
    /// How long what may take.
    package struct Limits: Hashable, Sendable {
        /// Parts that are not answered are given up.
        package var partMilliseconds: UInt64 = 10_000
        /// A step that is not answered is sent again.
        package var stepMilliseconds: UInt64 = 500
        /// Much less than participants keep firm verdicts, which is ten minutes.
        package var lifeMilliseconds: UInt64 = 30_000
        package var bugs: TransactionBugs = []
        package init() {}

        /// Of an interactive transaction, whose parts may be large: shards write them in pieces before they answer.
        package static var interactive: Limits {
            var limits = Limits()
            (limits.partMilliseconds, limits.lifeMilliseconds) = (100_000, 120_000)
            return limits
        }
    }

    /// What has become of a part.
    package enum PartOutcome: Hashable, Sendable {
        /// Its replies are here, and their time. They left when the intent was durable.
        case done(Timestamp)
        /// It gave way to another transaction; it has no intent.
        case conflict
        /// A condition did not hold, or it was refused for another reason; it has no intent.
        case failed
        /// Nobody knows: the connection broke, the leader changed, the part was there already.
        case unknown

        /// Of a refusal.
        package init(_ refusal: PartRefusal) {
            switch refusal {
            case .conflict, .over: self = .conflict
            case .repeated: self = .unknown
            case .busy, .malformed, .aborted, .deadlock, .lockNotAvailable, .lockTimeout, .serializationFailure,
                .tooLarge, .idleTimeout, .disordered:
                self = .failed
            }
        }

        /// Of an interactive transaction's PREPARE; nil: there was no answer.
        package init(_ answer: StepAnswer?) {
            switch answer {
            case .prepared(let timestamp): self = .done(timestamp)
            case .refused, .aborted, .nothing, .notHeld, .busy: self = .failed
            // Somebody has recovered it meanwhile: the anchor knows.
            case .committed, .held, nil: self = .unknown
            }
        }
    }

    /// What the client is told.
    package enum Answer: Hashable, Sendable {
        /// All was done. `missing`: the parts whose replies nobody has any more.
        case committed(Timestamp, missing: [Int])
        /// Nothing was done, and will not be; another attempt (new id, old priority) may succeed.
        case aborted
        /// Nothing was done, and will not be: what the part was answered says why.
        case failed(part: Int)
        case unknown
    }

    /// What the driver's owner does, in order. Participants are named by their position.
    package enum Duty: Hashable, Sendable {
        /// `replied` follows. Of an interactive transaction: PREPARE to its scope.
        case sendPart(Int)
        /// `answered` follows. Not before anything that was sent to this participant earlier.
        case send(CommitStep, to: Int)
        case answer(Answer)
        /// Nothing more comes; what is still under way is of no interest.
        case finished
    }

    private enum Phase: Hashable {
        case parts
        case confirming
        /// Why, until the anchor has confirmed it.
        case aborting(Answer)
        case recording
        case spreading
        case finished
    }

    package let transaction: TransactionID
    package let participants: [Slot]
    package let isReadOnly: Bool
    private let limits: Limits
    private let startedAt: UInt64
    private var phase = Phase.parts
    private var outcomes: [PartOutcome?]
    /// Who has answered the step of this phase.
    private var isAnswered: [Bool]
    private var askedAt: UInt64
    private var timestamp = Timestamp.zero
    private var hasAnswered = false

    /// - Parameter participants: a slot of each shard that has a part; the first one's shard is the anchor.
    package init(
        _ transaction: TransactionID, participants: [Slot], isReadOnly: Bool, now: UInt64, limits: Limits = .init()
    ) {
        (self.transaction, self.participants, self.isReadOnly) = (transaction, participants, isReadOnly)
        self.limits = limits
        (startedAt, askedAt) = (now, now)
        outcomes = Array(repeating: nil, count: participants.count)
        isAnswered = Array(repeating: false, count: participants.count)
    }

    package var isFinished: Bool { phase == .finished }

    /// Sends the parts.
    package mutating func begin(into duties: inout [Duty]) {
        for part in participants.indices { duties.append(.sendPart(part)) }
    }

    /// What became of a part. Only the first word about each counts.
    package mutating func replied(_ part: Int, _ outcome: PartOutcome, now: UInt64, into duties: inout [Duty]) {
        guard outcomes.indices.contains(part), outcomes[part] == nil else { return }
        outcomes[part] = outcome
        guard phase == .parts else { return }
        guard !isTooOld(now) else { return giveUp(&duties) }
        switch outcome {
        case .done(let time):
            timestamp = max(timestamp, time)
            if outcomes.allSatisfy({ $0 != nil }) { conclude(now, &duties) }
        case .conflict, .unknown: abort(.aborted, now, &duties)
        case .failed: abort(.failed(part: part), now, &duties)
        }
    }

    /// The answer to a step; nil: there is none, or nobody knows.
    package mutating func answered(
        _ kind: CommitStep.Kind, _ part: Int, _ answer: StepAnswer?, now: UInt64, into duties: inout [Duty]
    ) {
        guard isAnswered.indices.contains(part) else { return }
        guard !isTooOld(now) else { return giveUp(&duties) }
        switch (phase, kind) {
        case (.confirming, .confirm): confirmed(part, answer, &duties)
        case (.aborting(let reason), .abort):
            guard part == 0, let answer else { return }
            aborted(reason, answer, &duties)
        case (.recording, .commit):
            guard part == 0 else { return }
            switch answer {
            case .committed: spread(now, &duties)
            // The record is gone already, or somebody has broken the protocol: nothing is left to be done here.
            case .nothing, .aborted: finish(&duties)
            case .prepared, .held, .notHeld, .busy, .refused, nil: return  // Again, when time has passed.
            }
        case (.spreading, .commit):
            guard part != 0, !isAnswered[part] else { return }
            switch answer {
            case .committed, .nothing, .aborted: isAnswered[part] = true
            case .prepared, .held, .notHeld, .busy, .refused, nil: return
            }
            forgetIfSpread(&duties)
        case (.parts, _), (.confirming, _), (.aborting, _), (.recording, _), (.spreading, _), (.finished, _):
            return  // A late answer of an earlier phase.
        }
    }

    /// Time has passed: what is not answered is sent again, or given up.
    package mutating func tick(now: UInt64, into duties: inout [Duty]) {
        guard phase != .finished else { return }
        guard !isTooOld(now) else { return giveUp(&duties) }
        if phase == .parts {
            if now >= startedAt, now - startedAt >= limits.partMilliseconds { abort(.aborted, now, &duties) }
            return
        }
        guard now >= askedAt, now - askedAt >= limits.stepMilliseconds else { return }
        askedAt = now
        switch phase {
        case .parts, .finished: return
        case .confirming: return settle(.aborted, &duties)  // Reads may be tried again; a lock may be lost.
        case .aborting: send(.abort, to: 0, &duties)
        case .recording: send(.commit, to: 0, &duties)
        case .spreading: for part in participants.indices where !isAnswered[part] { send(.commit, to: part, &duties) }
        }
    }

    private func isTooOld(_ now: UInt64) -> Bool { now >= startedAt && now - startedAt >= limits.lifeMilliseconds }

    // MARK: All parts are done

    private mutating func conclude(_ now: UInt64, _ duties: inout [Duty]) {
        askedAt = now
        if isReadOnly {
            if limits.bugs.contains(.readWithoutConfirm) { return settle(.committed(timestamp, missing: []), &duties) }
            phase = .confirming
            for part in participants.indices { send(.confirm, to: part, &duties) }
            return
        }
        answer(.committed(timestamp, missing: []), &duties)
        phase = .recording
        send(.commit, to: 0, &duties)
        if limits.bugs.contains(.commitOthersFirst) { spread(now, &duties) }
    }

    private mutating func confirmed(_ part: Int, _ answer: StepAnswer?, _ duties: inout [Duty]) {
        switch answer {
        case .held: isAnswered[part] = true
        case .committed, .aborted, .prepared, .nothing, .notHeld, .busy, .refused, nil: return settle(.aborted, &duties)
        }
        if isAnswered.allSatisfy({ $0 }) { settle(.committed(timestamp, missing: []), &duties) }
    }

    /// The anchor's record says committed: now everybody may know.
    private mutating func spread(_ now: UInt64, _ duties: inout [Duty]) {
        phase = .spreading
        askedAt = now
        isAnswered[0] = true
        for part in participants.indices.dropFirst() { send(.commit, to: part, &duties) }
        if limits.bugs.contains(.forgetEarly) { send(.forget, to: 0, &duties) }
        forgetIfSpread(&duties)
    }

    private mutating func forgetIfSpread(_ duties: inout [Duty]) {
        guard isAnswered.allSatisfy({ $0 }) else { return }
        send(.forget, to: 0, &duties)  // If it is lost, the anchor sees to it.
        finish(&duties)
    }

    // MARK: One is not

    private mutating func abort(_ reason: Answer, _ now: UInt64, _ duties: inout [Duty]) {
        if isReadOnly {
            // Nothing to undo: the locks go, and what stays locked goes by itself.
            for part in participants.indices where mayBeThere(part) { send(.confirm, to: part, &duties) }
            return settle(reason, &duties)
        }
        if limits.bugs.contains(.answerBeforeAbort) { answer(reason, &duties) }
        phase = .aborting(reason)
        askedAt = now
        send(.abort, to: 0, &duties)
    }

    private mutating func aborted(_ reason: Answer, _ answer: StepAnswer, _ duties: inout [Duty]) {
        switch answer {
        case .aborted:
            for part in participants.indices.dropFirst() where mayBeThere(part) { send(.abort, to: part, &duties) }
            settle(reason, &duties)
        case .committed(let time):
            settle(.committed(time, missing: participants.indices.filter { !isDone($0) }), &duties)
        case .prepared, .nothing, .held, .notHeld, .busy, .refused: return  // Again, when time has passed.
        }
    }

    private func isDone(_ part: Int) -> Bool {
        if case .done = outcomes[part] { return true }
        return false
    }

    private func mayBeThere(_ part: Int) -> Bool {
        switch outcomes[part] {
        case .conflict, .failed: false
        case .done, .unknown, nil: true
        }
    }

    // MARK: The end

    private mutating func answer(_ answer: Answer, _ duties: inout [Duty]) {
        guard !hasAnswered else { return }
        hasAnswered = true
        duties.append(.answer(answer))
    }

    private mutating func settle(_ answer: Answer, _ duties: inout [Duty]) {
        self.answer(answer, &duties)
        finish(&duties)
    }

    private mutating func giveUp(_ duties: inout [Duty]) {
        guard phase != .finished else { return }
        settle(.unknown, &duties)
    }

    private mutating func finish(_ duties: inout [Duty]) {
        guard phase != .finished else { return }
        phase = .finished
        duties.append(.finished)
    }

    private func send(_ kind: CommitStep.Kind, to part: Int, _ duties: inout [Duty]) {
        let time: Timestamp =
            switch kind {
            case .commit: timestamp
            case .confirm: time(of: part)
            case .abort, .forget, .resolve, .fence, .prepare, .commitOne, .rollbackTo, .keepAlive: .zero
            }
        duties.append(.send(CommitStep(kind, transaction, timestamp: time, participants: participants), to: part))
    }

    private func time(of part: Int) -> Timestamp {
        if case .done(let time) = outcomes[part] { return time }
        return .zero
    }
}
