import Base
import Contracts
import DataModel
import GatewayKit
import Net
import TestKit
import Testing
import Transactions

@testable import StorageNode

/// Drives one transaction over the shards of a stage, as a gateway would, unless it dies on the way.
final class MortalDriver: ReplyReceiver {
    /// The calls for the shard of a slot.
    struct Part {
        let slot: Slot
        let build: (inout CallBatchEncoder) -> Void

        init(at key: String, _ build: @escaping (inout CallBatchEncoder) -> Void) {
            slot = Bytes(key.utf8).withUnsafeBytes { Slot.of($0) }
            self.build = build
        }
    }

    private let stage: Stage
    private var driver: CommitDriver
    private let parts: [Part]
    private let priority: UInt64
    private let completion: (CommitDriver.Answer) -> Void
    private var asked: [UInt64: (kind: CommitStep.Kind, part: Int)] = [:]
    private var lastTicket: UInt64
    private var timer: LoopTimer?
    /// Duties that it still does; then it is gone without a word.
    private var life: Int
    var id: UInt64 { driver.transaction.rawValue }

    /// What each part was answered.
    private(set) var replies: [Reply?]
    private(set) var answer: CommitDriver.Answer?

    var isDead: Bool { life <= 0 }

    init(
        _ stage: Stage, id: UInt64, priority: UInt64, parts: [Part], isReadOnly: Bool = false, life: Int = .max,
        completion: @escaping (CommitDriver.Answer) -> Void = { _ in }
    ) {
        (self.stage, self.parts, self.priority, self.life) = (stage, parts, priority, life)
        self.completion = completion
        driver = CommitDriver(
            TransactionID(rawValue: id), participants: parts.map(\.slot), isReadOnly: isReadOnly,
            now: stage.loop.now / 1_000_000)
        replies = Array(repeating: nil, count: parts.count)
        lastTicket = UInt64(parts.count)
    }

    private var now: UInt64 { stage.loop.now / 1_000_000 }

    /// Is gone without a word.
    func die() {
        life = 0
        end()
    }

    func begin() {
        timer = stage.loop.schedule(afterMilliseconds: 50, repeating: true) { [self] in
            happen { $0.tick(now: now, into: &$1) }
        }
        happen { $0.begin(into: &$1) }
    }

    private func happen(_ event: (inout CommitDriver, inout [CommitDriver.Duty]) -> Void) {
        guard life > 0 else { return }
        var duties: [CommitDriver.Duty] = []
        event(&driver, &duties)
        for duty in duties {
            guard life > 0 else { break }
            life -= 1
            carryOut(duty)
        }
        if life <= 0 { end() }
    }

    private func end() {
        timer?.cancel()
        timer = nil
    }

    private func carryOut(_ duty: CommitDriver.Duty) {
        switch duty {
        case .sendPart(let position):
            var encoder = CallBatchEncoder()
            parts[position].build(&encoder)
            encoder.append(
                TransactionPart(
                    id: driver.transaction.rawValue, priority: priority,
                    participants: parts.map { UInt32($0.slot.rawValue) }, isReadOnly: driver.isReadOnly))
            stage.router.batch(
                connection: 0, slot: UInt32(parts[position].slot.rawValue), body: encoder.message, isWrite: true,
                receiver: self, ticket: UInt64(position))
        case .send(let step, let position):
            lastTicket += 1
            asked[lastTicket] = (step.kind, position)
            guard let kind = TransactionStep.Kind(rawValue: step.kind.rawValue) else { return }
            stage.router.step(
                connection: 0, slot: UInt32(parts[position].slot.rawValue),
                TransactionStep(
                    kind, id: step.transaction.rawValue, timestamp: step.timestamp,
                    participants: step.participants.map { UInt32($0.rawValue) }),
                receiver: self, ticket: lastTicket)
        case .answer(let answer):
            self.answer = answer
            completion(answer)
        case .finished: end()
        }
    }

    func completed(_ ticket: UInt64, _ reply: borrowing ReplyView) {
        guard ticket < UInt64(parts.count) else {
            let answer = reply.kind == .data ? StepAnswer(decoding: reply.data) : nil
            return stepAnswered(ticket, answer)
        }
        let outcome: CommitDriver.PartOutcome =
            switch reply.kind {
            case .batch: .done(reply.timestamp)
            case .error:
                switch reply.errorCode {
                case .transactionConflict: .conflict
                case .alreadyExecuted, .outcomeUnknown: .unknown
                case _: .failed
                }
            case .null, .ok, .integer, .number, .data, .list: .failed
            }
        replies[Int(ticket)] = Reply(reply)
        happen { $0.replied(Int(ticket), outcome, now: now, into: &$1) }
    }

    func failed(_ ticket: UInt64, _ error: DatabaseError) {
        guard ticket < UInt64(parts.count) else { return stepAnswered(ticket, nil) }
        happen { $0.replied(Int(ticket), .unknown, now: now, into: &$1) }
    }

    private func stepAnswered(_ ticket: UInt64, _ answer: StepAnswer?) {
        guard let (kind, part) = asked.removeValue(forKey: ticket) else { return }
        happen { $0.answered(kind, part, answer, now: now, into: &$1) }
    }
}

extension Stage {
    /// No shard has anything left of a transaction that is not over.
    var isQuiet: Bool {
        node.executors.allSatisfy {
            $0.isServing && $0.transactions.participant.partCount == 0 && $0.transactions.participant.locks.isFree
        }
    }

    /// A key of each of the two shards, with a name that begins as told.
    func pair(_ name: String) -> (String, String) {
        var found: [String?] = [nil, nil]
        var number = 0
        while found.contains(nil) {
            let key = "\(name).\(number)"
            let slot = Bytes(key.utf8).withUnsafeBytes { UInt32(Slot.of($0).rawValue) }
            if let shard = router.shardIndex(ofSlot: slot), shard < 2, found[shard] == nil { found[shard] = key }
            number += 1
        }
        return (found[0] ?? "", found[1] ?? "")
    }
}
