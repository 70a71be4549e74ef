import Base
import Contracts

/// What is asked of one shard at a time, or within an interactive transaction, as it is encoded
/// (`CallBatchEncoder`).
package enum ScopedOperation {
    /// One call, as `CallBatchEncoder.encode` has written it.
    case call(ByteView)
    /// Calls that are done at once.
    case batch(ByteView)

    var size: Int {
        switch self {
        case .call(let view), .batch(let view): view.count
        }
    }
}

extension InvocationBatchEncoder {
    mutating func append(
        id: UInt64, connection: UInt64, slot: UInt32, transaction: UInt64, scope: InvocationScope,
        _ operation: ScopedOperation
    ) {
        switch operation {
        case .call(let call):
            append(id: id, connection: connection, slot: slot, transaction: transaction, scope: scope, call: call)
        case .batch(let batch):
            append(id: id, connection: connection, slot: slot, transaction: transaction, scope: scope, batch: batch)
        }
    }
}

/// One question to all leaders: what is your time? The highest answer is the read timestamp of everybody who had asked
/// before the question was sent: whatever was acknowledged to anybody by then lies at or below it (decision 0011).
private final class ClockRound: ReplyReceiver {
    typealias Completion = (Result<Timestamp, DatabaseError>) -> Void

    private let completions: [Completion]
    private var missing: Int
    private var highest = Timestamp.zero
    private var failure: DatabaseError?
    private unowned let router: NodeRouter

    init(_ router: NodeRouter, questions: Int, for completions: [Completion]) {
        (self.router, self.completions, missing) = (router, completions, questions)
    }

    func completed(_ ticket: UInt64, _ reply: borrowing ReplyView) {
        switch reply.kind {
        case .integer: highest = max(highest, Timestamp(rawValue: UInt64(bitPattern: reply.integer)))
        case .error: failure = reply.error
        case .null, .ok, .number, .data, .list, .batch:
            failure = DatabaseError(.internalFailure, "A node answered with something else than its time")
        }
        answered()
    }

    func failed(_ ticket: UInt64, _ error: DatabaseError) {
        failure = error
        answered()
    }

    /// Also called once when all questions are sent, so that a refusal at once does not end the round too early.
    func answered() {
        missing -= 1
        guard missing < 0 else { return }
        let result: Result<Timestamp, DatabaseError> = failure.map { .failure($0) } ?? .success(highest)
        // Never from inside whoever made the router fail a question.
        router.after(milliseconds: nil) { [completions] in
            for completion in completions { completion(result) }
        }
    }
}

extension NodeRouter {
    /// A timestamp to read at that shows everything acknowledged to anybody so far; `completion` is called later. All
    /// who ask in the same tick share one round of questions.
    package func readTimestamp(_ completion: @escaping (Result<Timestamp, DatabaseError>) -> Void) {
        timestampAskers.append(completion)
        guard timestampAskers.count == 1 else { return }
        after(milliseconds: nil) { [unowned self] in beginClockRound() }
    }

    private func beginClockRound() {
        let askers = timestampAskers
        timestampAskers = []
        let slots = clockSlots
        guard !slots.isEmpty, !isClosed else {
            for asker in askers { asker(.failure(Self.noLeader)) }
            return
        }
        let round = ClockRound(self, questions: slots.count, for: askers)
        for slot in slots {
            step(connection: 0, slot: slot, TransactionStep(.sample, id: 0), receiver: round, ticket: 0)
        }
        round.answered()
    }

    /// Whom to ask: a shard's leader, of every shard, because only the answer shows that it leads. A shard with one
    /// replica cannot be led elsewhere, so one question to each node will do.
    private var clockSlots: [UInt32] {
        guard !hasReplicas else { return slotOfEachShard }
        var nodes: Set<ObjectIdentifier> = []
        return shards.indices.compactMap { index in
            guard let slot = anySlot(ofShardIndex: index) else { return nil }
            guard let stream = route(index).target else { return slot }
            return nodes.insert(ObjectIdentifier(stream)).inserted ? slot : nil
        }
    }

    /// Has something done at a time, or within an interactive transaction (0: in none), on the shard that owns `slot`.
    /// With `isUrgent` the receiver may be told of the answer before this returns.
    package func scoped(
        connection: UInt64, slot: UInt32, transaction: UInt64, scope: InvocationScope, _ operation: ScopedOperation,
        isWrite: Bool, isUrgent: Bool = false, receiver: any ReplyReceiver, ticket: UInt64
    ) {
        guard let index = shardIndex(ofSlot: slot), let stream = route(index).target else {
            return park(slot, operation.size, isWrite: isWrite, receiver, ticket) {
                $0.append(
                    id: 0, connection: connection, slot: slot, transaction: transaction, scope: scope, operation)
            }
        }
        stream.scoped(
            connection: connection, slot: slot, transaction: transaction, scope: scope, operation, isWrite: isWrite,
            isUrgent: isUrgent, receiver: receiver, ticket: ticket)
    }
}
