import Base
import Contracts
import GatewayKit

/// A plan that only reads, at a time: each shard answers for itself, because what is past is the same whenever it is
/// asked for. So it takes no locks, and its parts may be answered in any order.
final class PastRequest: ReplyReceiver {
    private let client: ClientConnection
    private let division: PlanDivision
    private let random: UInt64
    private let completion: (TransactionOutcome) -> Void
    private var batches: [Bytes]
    private var missing: Int
    private var failure: DatabaseError?

    private init(
        _ division: PlanDivision, random: UInt64, for client: ClientConnection,
        _ completion: @escaping (TransactionOutcome) -> Void
    ) {
        (self.division, self.random, self.client, self.completion) = (division, random, client, completion)
        batches = Array(repeating: [], count: division.shares.count)
        missing = division.shares.count
    }

    /// `completion` is called later, never from inside. Throws when the plan cannot be carried out; nothing was sent
    /// then.
    static func begin(
        _ plan: TransactionPlan, at time: Timestamp, for client: ClientConnection, _ gateway: Gateway,
        _ completion: @escaping (TransactionOutcome) -> Void
    ) throws(DatabaseError) {
        let retry = StaleRetry(client, completion) { retry throws(DatabaseError) in
            try attempt(plan, at: time, for: client, gateway) { retry.conclude($0) }
        }
        try retry.begin()
    }

    private static func attempt(
        _ plan: TransactionPlan, at time: Timestamp, for client: ClientConnection, _ gateway: Gateway,
        _ completion: @escaping (TransactionOutcome) -> Void
    ) throws(DatabaseError) {
        let division = try PlanDivision(plan, ShardPlaces(gateway))
        let request = PastRequest(division, random: gateway.random(), for: client, completion)
        var encoder = CallBatchEncoder()
        for (position, share) in division.shares.enumerated() {
            encoder.reset()
            division.encode(share, into: &encoder)
            gateway.router.scoped(
                connection: client.session.id, slot: share.slot, transaction: 0, scope: InvocationScope(asOf: time),
                .batch(encoder.message), isWrite: false, receiver: request, ticket: UInt64(position))
        }
    }

    func completed(_ ticket: UInt64, _ reply: borrowing ReplyView) {
        switch reply.kind {
        case .batch: batches[Int(ticket)] = reply.data.bytes
        case .error: failure = reply.error
        case .null, .ok, .integer, .number, .data, .list:
            failure = DatabaseError(.internalFailure, "A shard answered with something else than was asked")
        }
        partDone()
    }

    func failed(_ ticket: UInt64, _ error: DatabaseError) {
        client.later { [self] in
            failure = error
            partDone()
        }
    }

    private func partDone() {
        missing -= 1
        guard missing == 0 else { return }
        if let failure { return completion(.failed(failure)) }
        division.conclude(batches, random: random, completion)
    }
}
