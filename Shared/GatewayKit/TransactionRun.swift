import Base
import Contracts
import DataModel
import Transactions

/// A transaction over several shards: `CommitDriver` decides, this sends, keeps the replies, and tries again.
///
/// Invariants. `completion` is called once, and never from inside a call of the owner's. An attempt that has been
/// answered goes on until its driver has finished; nobody waits for that. A transaction that gave way to others begins
/// anew with a new id and its old priority, after a pause that grows, until `patience` is over.
package final class TransactionRun {
    /// What one shard has to do: an encoded `CallBatch` without its part, and a slot of the shard.
    package struct Share: Sendable {
        package let slot: UInt32, body: Bytes

        package init(slot: UInt32, body: Bytes) { (self.slot, self.body) = (slot, body) }
    }

    /// How it ended.
    package enum Outcome: Hashable, Sendable {
        /// All was done: an encoded `ReplyBatch` of each share, in their order.
        case done([Bytes])
        /// A condition did not hold: nothing was done.
        case changed
        case failed(DatabaseError)
    }

    /// How long it is tried again while others are in the way, and how long the longest pause between is.
    static let patience: UInt64 = 10_000, longestPause: UInt64 = 64

    let router: NodeRouter
    let shares: [Share]
    let connection: UInt64
    let isReadOnly: Bool
    let priority: UInt64
    private let random: () -> UInt64
    private var completion: ((Outcome) -> Void)?
    private let startedAt: UInt64
    private var attempts = 0

    init(
        _ router: NodeRouter, _ shares: [Share], connection: UInt64, isReadOnly: Bool, priority: UInt64,
        random: @escaping () -> UInt64, completion: @escaping (Outcome) -> Void
    ) {
        (self.router, self.shares, self.connection) = (router, shares, connection)
        (self.isReadOnly, self.priority, self.random, self.completion) = (isReadOnly, priority, random, completion)
        startedAt = router.milliseconds
    }

    func attempt() {
        attempts += 1
        let attempt = TransactionAttempt(self, TransactionID(rawValue: max(random(), 1)))
        router.attempts.append(attempt)
        attempt.begin()
    }

    /// An attempt gave way.
    func tryAgain() {
        guard router.milliseconds &- startedAt < Self.patience, !router.isClosed else {
            return end(.failed(Self.crowded))
        }
        let longest = min(1 &<< UInt64(min(attempts, 16)), Self.longestPause)
        router.after(milliseconds: Int(random() % (longest + 1))) { self.attempt() }
    }

    private static let crowded = DatabaseError(
        .busy, "Other transactions were in the way for too long; nothing was done")

    func end(_ outcome: Outcome) {
        guard let completion else { return }
        self.completion = nil
        router.after(milliseconds: nil) { completion(outcome) }
    }
}

/// One attempt: what its driver wants is sent, what comes back is told to it.
final class TransactionAttempt: ReplyReceiver {
    private enum Reply { case done(Bytes), changed, refused(DatabaseError) }

    private let run: TransactionRun
    private var driver: CommitDriver
    private var replies: [Reply?]
    private var duties: [CommitDriver.Duty] = []
    private var isCarryingOut = false

    init(_ run: TransactionRun, _ transaction: TransactionID) {
        self.run = run
        driver = CommitDriver(
            transaction, participants: run.shares.map { Slot(rawValue: UInt16(truncatingIfNeeded: $0.slot)) },
            isReadOnly: run.isReadOnly, now: run.router.milliseconds)
        replies = Array(repeating: nil, count: run.shares.count)
    }

    var isFinished: Bool { driver.isFinished }

    func begin() {
        driver.begin(into: &duties)
        carryOut()
    }

    func tick() {
        driver.tick(now: run.router.milliseconds, into: &duties)
        carryOut()
    }

    // MARK: Duties

    /// Something that is sent may fail at once and bring more duties: they come behind those that are there.
    private func carryOut() {
        guard !isCarryingOut else { return }
        isCarryingOut = true
        var next = 0
        while next < duties.count {
            switch duties[next] {
            case .sendPart(let part): send(part)
            case .send(let step, let part): send(step, to: part)
            case .answer(let answer): conclude(answer)
            case .finished: break
            }
            next += 1
        }
        duties.removeAll(keepingCapacity: true)
        isCarryingOut = false
    }

    private func send(_ part: Int) {
        var encoder = CallBatchEncoder(), message = ByteBuffer(capacity: run.shares[part].body.count + 256)
        encoder.append(
            TransactionPart(
                id: driver.transaction.rawValue, priority: run.priority, participants: run.shares.map(\.slot),
                isReadOnly: run.isReadOnly))
        message.append(run.shares[part].body)
        message.append(encoder.message)
        run.router.batch(
            connection: run.connection, slot: run.shares[part].slot, body: message.readable,
            isWrite: !run.isReadOnly, receiver: self, ticket: Self.ticket(part, nil))
    }

    private func send(_ step: CommitStep, to part: Int) {
        guard let message = TransactionStep(step) else { return }
        run.router.step(
            connection: run.connection, slot: run.shares[part].slot, message, receiver: self,
            ticket: Self.ticket(part, step.kind))
    }

    private func conclude(_ answer: CommitDriver.Answer) {
        switch answer {
        case .committed(_, let missing):
            let batches = replies.compactMap { reply -> Bytes? in
                if case .done(let batch) = reply { batch } else { nil }
            }
            guard missing.isEmpty, batches.count == replies.count else { return run.end(.failed(Self.lost)) }
            run.end(.done(batches))
        case .aborted: run.tryAgain()
        case .failed(let part):
            switch replies[part] {
            case .changed: run.end(.changed)
            case .refused(let error): run.end(.failed(error))
            case .done, nil: run.end(.failed(Self.unknown))  // A part that was done has not failed.
            }
        case .unknown: run.end(.failed(Self.unknown))
        }
    }

    private static let lost = DatabaseError(
        .outcomeUnknown, "Some answers of the shards are lost; the outcome is unknown")
    private static let unknown = DatabaseError(
        .outcomeUnknown, "The shards of the transaction did not answer in time; the outcome is unknown")

    // MARK: Replies

    /// A part has no step.
    private static func ticket(_ part: Int, _ step: CommitStep.Kind?) -> UInt64 {
        UInt64(part) << 8 | UInt64(step?.rawValue ?? .max)
    }

    func completed(_ ticket: UInt64, _ reply: borrowing ReplyView) {
        let part = Int(ticket >> 8), now = run.router.milliseconds
        if let kind = CommitStep.Kind(rawValue: UInt8(truncatingIfNeeded: ticket)) {
            let answer = reply.kind == .data ? StepAnswer(decoding: reply.data) : nil
            driver.answered(kind, part, answer, now: now, into: &duties)
        } else {
            driver.replied(part, note(part, reply), now: now, into: &duties)
        }
        carryOut()
    }

    private func note(_ part: Int, _ reply: borrowing ReplyView) -> CommitDriver.PartOutcome {
        switch reply.kind {
        case .batch:
            replies[part] = .done(reply.data.bytes)
            return .done(reply.timestamp)
        case .null:
            replies[part] = .changed
            return .failed
        case .error: return note(part, reply.error)
        case .ok, .integer, .number, .data, .list:
            let error = DatabaseError(.internalFailure, "A shard answered with something else than was asked")
            replies[part] = .refused(error)
            return .unknown
        }
    }

    private func note(_ part: Int, _ error: DatabaseError) -> CommitDriver.PartOutcome {
        replies[part] = .refused(error)
        if error.code == .transactionConflict { return .conflict }
        return Self.uncertain.contains(error.code) ? .unknown : .failed
    }

    /// It was sent twice, or nobody knows whether it is there.
    private static let uncertain: Set<ErrorCode> = [
        .alreadyExecuted, .outcomeUnknown, .deadlineExceeded, .internalFailure,
    ]

    func failed(_ ticket: UInt64, _ error: DatabaseError) {
        let part = Int(ticket >> 8), now = run.router.milliseconds
        if let kind = CommitStep.Kind(rawValue: UInt8(truncatingIfNeeded: ticket)) {
            driver.answered(kind, part, nil, now: now, into: &duties)
        } else {
            driver.replied(part, note(part, error), now: now, into: &duties)
        }
        carryOut()
    }
}

extension TransactionStep {
    /// A step as it travels; their kinds have the same numbers.
    package init?(_ step: CommitStep) {
        guard let kind = Kind(rawValue: step.kind.rawValue) else { return nil }
        self.init(
            kind, id: step.transaction.rawValue, timestamp: step.timestamp,
            participants: step.participants.map { UInt32($0.rawValue) })
    }
}

/// Transactions over several shards.
extension NodeRouter {
    /// Carries out the shares at once or not at all; `completion` is called later. `priority` is the lower the older
    /// the transaction is, by clocks that need not agree well.
    package func transact(
        _ shares: [TransactionRun.Share], connection: UInt64, isReadOnly: Bool, priority: UInt64,
        random: @escaping () -> UInt64, completion: @escaping (TransactionRun.Outcome) -> Void
    ) {
        TransactionRun(
            self, shares, connection: connection, isReadOnly: isReadOnly, priority: priority, random: random,
            completion: completion
        ).attempt()
    }

    /// The loop's time in milliseconds.
    var milliseconds: UInt64 { now / 1_000_000 }

    /// Called a few times a second.
    func tickAttempts() {
        for attempt in attempts { attempt.tick() }
        attempts.removeAll { $0.isFinished }
    }
}
