import Base
import Contracts
import DataModel
import GatewayKit

extension DatabaseError {
    /// What must be on one shard is not.
    static let crossShard = DatabaseError(.crossShard, "Keys in request don't hash to the same slot")
}

/// An EXEC on its way: all that it asks is done by one shard, at once or not at all.
final class TransactionRequest: ReplyReceiver {
    private let client: ClientConnection
    private let completion: (TransactionOutcome) -> Void

    private init(_ client: ClientConnection, _ completion: @escaping (TransactionOutcome) -> Void) {
        self.client = client
        self.completion = completion
    }

    /// `completion` is called later, never from inside.
    static func begin(
        _ plan: TransactionPlan, for client: ClientConnection, _ router: NodeRouter,
        _ completion: @escaping (TransactionOutcome) -> Void
    ) {
        let request = TransactionRequest(client, completion)
        do throws(DatabaseError) {
            let places = ShardPlaces(
                slots: router.slotOfEachShard, shard: { router.shardIndex(ofSlot: $0) },
                firstSlot: { router.firstSlot(ofBucket: $0) })
            let division = try PlanDivision(plan, places)
            guard let share = division.shares.first, division.shares.count == 1 else { throw .crossShard }
            var encoder = CallBatchEncoder()
            division.encode(share, into: &encoder)
            router.batch(
                connection: client.session.id, slot: share.slot, body: encoder.message,
                isWrite: !division.isReadOnly, receiver: request, ticket: 0)
        } catch {
            request.failed(0, error)
        }
    }

    func completed(_ ticket: UInt64, _ reply: borrowing ReplyView) {
        switch reply.kind {
        case .batch: completion(.done(reply.data))
        case .null: completion(.changed)
        case .error: completion(.failed(reply.error))
        case .ok, .integer, .number, .data, .list:
            completion(.failed(DatabaseError(.internalFailure, "A shard answered with something else than was asked")))
        }
    }

    func failed(_ ticket: UInt64, _ error: DatabaseError) {
        client.later { [self] in completion(.failed(error)) }
    }
}

/// The versions of the keys of a WATCH.
final class WatchRequest: ReplyReceiver {
    private let client: ClientConnection
    private let completion: (Result<[UInt64], DatabaseError>) -> Void
    private var versions: [UInt64]
    private var missing: Int
    private var failure: DatabaseError?

    private init(
        _ client: ClientConnection, _ count: Int, _ completion: @escaping (Result<[UInt64], DatabaseError>) -> Void
    ) {
        self.client = client
        self.completion = completion
        versions = Array(repeating: 0, count: count)
        missing = count
    }

    /// `completion` is called later, never from inside.
    static func begin(
        _ keys: [Bytes], _ database: UInt8, for client: ClientConnection, _ router: NodeRouter,
        _ completion: @escaping (Result<[UInt64], DatabaseError>) -> Void
    ) {
        let request = WatchRequest(client, keys.count, completion)
        for (position, key) in keys.enumerated() {
            key.withView { key in
                router.call(
                    connection: client.session.id, slot: UInt32(Slot.of(key).rawValue), method: .version,
                    database: database, key: key, flags: 0, numbers: UnsafeBufferPointer(start: nil, count: 0),
                    arguments: UnsafeBufferPointer(start: nil, count: 0), receiver: request, ticket: UInt64(position))
            }
        }
    }

    func completed(_ ticket: UInt64, _ reply: borrowing ReplyView) {
        switch reply.kind {
        case .integer: versions[Int(ticket)] = UInt64(bitPattern: reply.integer)
        case .error: failure = reply.error
        case .null, .ok, .number, .data, .list, .batch:
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
        if missing == 0 { completion(failure.map { .failure($0) } ?? .success(versions)) }
    }
}
