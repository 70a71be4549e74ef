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

    static let unknown = DatabaseError(
        .outcomeUnknown, "The shards of the transaction did not answer in time; the outcome is unknown")
    private static let lost = DatabaseError(
        .outcomeUnknown, "Some answers of the shards are lost; the outcome is unknown")
}

/// Its parts are the shares.
extension TransactionRun: AttemptOwner {
    var driverLimits: CommitDriver.Limits { CommitDriver.Limits() }

    var slots: [UInt32] { shares.map(\.slot) }

    func send(_ part: Int, of attempt: TransactionID, receiver: any ReplyReceiver, ticket: UInt64) {
        var encoder = CallBatchEncoder(), message = ByteBuffer(capacity: shares[part].body.count + 256)
        encoder.append(
            TransactionPart(id: attempt.rawValue, priority: priority, participants: slots, isReadOnly: isReadOnly))
        message.append(shares[part].body)
        message.append(encoder.message)
        router.batch(
            connection: connection, slot: shares[part].slot, body: message.readable, isWrite: !isReadOnly,
            receiver: receiver, ticket: ticket)
    }

    func read(_ reply: borrowing ReplyView) -> (CommitDriver.PartOutcome, PartReply)? {
        switch reply.kind {
        case .batch: (.done(reply.timestamp), .done(reply.data.bytes))
        case .null: (.failed, .changed)
        case .ok, .integer, .number, .data, .list, .error: nil
        }
    }

    func conclude(_ answer: CommitDriver.Answer, _ replies: [PartReply?]) {
        switch answer {
        case .committed(_, let missing):
            let batches = replies.compactMap { reply -> Bytes? in
                if case .done(let batch) = reply { batch } else { nil }
            }
            guard missing.isEmpty, batches.count == replies.count else { return end(.failed(Self.lost)) }
            end(.done(batches))
        case .aborted: tryAgain()
        case .failed(let part):
            switch replies[part] {
            case .changed: end(.changed)
            case .refused(let error): end(.failed(error))
            case .done, nil: end(.failed(Self.unknown))  // A part that was done has not failed.
            }
        case .unknown: end(.failed(Self.unknown))
        }
    }
}

/// Whose parts an attempt commits.
protocol AttemptOwner: AnyObject {
    var router: NodeRouter { get }
    var connection: UInt64 { get }
    /// A slot of every participant, the anchor's first.
    var slots: [UInt32] { get }
    var isReadOnly: Bool { get }
    /// How long what may take.
    var driverLimits: CommitDriver.Limits { get }

    /// Sends what makes the intent of a part.
    func send(_ part: Int, of attempt: TransactionID, receiver: any ReplyReceiver, ticket: UInt64)

    /// What the reply to it means, unless it is an error, and what to keep of it; nil: it is none that can be.
    func read(_ reply: borrowing ReplyView) -> (CommitDriver.PartOutcome, PartReply)?

    /// The attempt has ended.
    func conclude(_ answer: CommitDriver.Answer, _ replies: [PartReply?])
}

/// What a part was answered.
enum PartReply { case done(Bytes), changed, refused(DatabaseError) }

/// One attempt: what its driver wants is sent, what comes back is told to it.
final class TransactionAttempt: ReplyReceiver {
    private let run: any AttemptOwner
    private var driver: CommitDriver
    private let slots: [UInt32]
    private var replies: [PartReply?]
    private var duties: [CommitDriver.Duty] = []
    private var isCarryingOut = false

    init(_ run: any AttemptOwner, _ transaction: TransactionID) {
        (self.run, slots) = (run, run.slots)
        driver = CommitDriver(
            transaction, participants: slots.map { Slot(rawValue: UInt16(truncatingIfNeeded: $0)) },
            isReadOnly: run.isReadOnly, now: run.router.milliseconds, limits: run.driverLimits)
        replies = Array(repeating: nil, count: slots.count)
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
            case .sendPart(let part):
                run.send(part, of: driver.transaction, receiver: self, ticket: Self.ticket(part, nil))
            case .send(let step, let part): send(step, to: part)
            case .answer(let answer): run.conclude(answer, replies)
            case .finished: break
            }
            next += 1
        }
        duties.removeAll(keepingCapacity: true)
        isCarryingOut = false
    }

    private func send(_ step: CommitStep, to part: Int) {
        guard let message = TransactionStep(step) else { return }
        run.router.step(
            connection: run.connection, slot: slots[part], message, receiver: self,
            ticket: Self.ticket(part, step.kind))
    }

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
        if reply.kind == .error { return note(part, reply.error) }
        if let (outcome, kept) = run.read(reply) {
            replies[part] = kept
            return outcome
        }
        let error = DatabaseError(.internalFailure, "A shard answered with something else than was asked")
        replies[part] = .refused(error)
        return .unknown
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
