import Base
import Contracts
import DataModel
import GatewayKit

extension DatabaseError {
    /// What must be on one shard is not.
    static let crossShard = DatabaseError(.crossShard, "Keys in request don't hash to the same slot")
}

/// A plan on its way: all that it asks is done at once or not at all. What is for one shard goes there as it is; the
/// rest is a transaction over several shards.
final class TransactionRequest: ReplyReceiver {
    private let client: ClientConnection
    private let completion: (TransactionOutcome) -> Void

    private init(_ client: ClientConnection, _ completion: @escaping (TransactionOutcome) -> Void) {
        self.client = client
        self.completion = completion
    }

    /// `completion` is called later, never from inside. Throws when the plan cannot be carried out; nothing was sent
    /// then. Of several shards nothing may be asked on the client's connection before the answer: an attempt that is
    /// made anew would be overtaken.
    static func begin(
        _ plan: TransactionPlan, token: UInt64, for client: ClientConnection, _ gateway: Gateway,
        _ completion: @escaping (TransactionOutcome) -> Void
    ) throws(DatabaseError) {
        let retry = StaleRetry(client, completion) { retry throws(DatabaseError) in
            try attempt(plan, token: token, for: client, gateway) { retry.conclude($0) }
        }
        try retry.begin()
    }

    private static func attempt(
        _ plan: TransactionPlan, token: UInt64, for client: ClientConnection, _ gateway: Gateway,
        _ completion: @escaping (TransactionOutcome) -> Void
    ) throws(DatabaseError) {
        let router = gateway.router
        if gateway.records.isAny, plan.calls.contains(where: gateway.records.isRuled) {
            return RuledRequest.begin(plan, token: token, for: client, gateway, completion)
        }
        let places = ShardPlaces(gateway)
        if places.slots.count > 1, let gathering = try PlanGathering(plan, places) {
            return try GatheredRequest.begin(gathering, token: token, for: client, gateway, completion)
        }
        if let run = client.interactive { return try begin(plan, in: run, gateway, completion) }
        let division = try PlanDivision(plan, places)
        var encoder = CallBatchEncoder()
        if division.shares.count == 1, let share = division.shares.first {
            division.encode(share, into: &encoder)
            return router.batch(
                connection: client.session.id, slot: share.slot, body: encoder.message,
                isWrite: !division.isReadOnly, receiver: TransactionRequest(client, completion), ticket: 0)
        }
        let shares = division.shares.map { share in
            encoder.reset()
            division.encode(share, into: &encoder)
            return TransactionRun.Share(slot: share.slot, body: encoder.message.bytes)
        }
        client.session.hold(until: token)
        // Older is lower; the gateways' clocks agree well enough for that.
        let priority = gateway.server.wallMilliseconds << 20 | gateway.random() >> 44
        router.transact(
            shares, connection: client.session.id, isReadOnly: division.isReadOnly, priority: priority,
            random: gateway.random
        ) { outcome in
            conclude(outcome, division, gateway.random(), completion)
        }
    }

    static func conclude(
        _ outcome: TransactionRun.Outcome, _ division: PlanDivision, _ random: UInt64,
        _ completion: (TransactionOutcome) -> Void
    ) {
        switch outcome {
        case .done(let batches): division.conclude(batches, random: random, completion)
        case .changed: completion(.changed)
        case .failed(let error): completion(.failed(error))
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

extension ShardPlaces {
    /// As a gateway knows them now.
    init(_ gateway: Gateway) {
        let router = gateway.router, records = gateway.records
        self.init(
            slots: router.slotOfEachShard, shard: { router.shardIndex(ofSlot: $0) },
            firstSlot: { router.firstSlot(ofBucket: $0) }, slot: { records.slot($0, $1) })
    }
}

extension PlanDivision {
    /// Tells what the shares' replies make together.
    func conclude(_ batches: [Bytes], random: UInt64, _ completion: (TransactionOutcome) -> Void) {
        let merged = ReplyBatchEncoder()
        guard merge(batches, random: random, into: merged) else {
            return completion(
                .failed(DatabaseError(.internalFailure, "The answers of the shards cannot be put together")))
        }
        var frame = ByteBuffer(capacity: merged.size + 64)
        merged.write(bookmark: .zero, mapEpoch: MapEpoch(rawValue: 0), into: &frame)
        completion(.done(frame.readable))
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
        _ keys: [Bytes], _ database: UInt8, for client: ClientConnection, attempt: Int = 0,
        _ completion: @escaping (Result<[UInt64], DatabaseError>) -> Void
    ) {
        let request = WatchRequest(client, keys.count) { result in
            guard case .failure(let error) = result, StaleRetry.mayHelp(error, attempt) else {
                return completion(result)
            }
            client.gateway.records.refresh(attempt: attempt) {
                begin(keys, database, for: client, attempt: attempt + 1, completion)
            }
        }
        for (position, key) in keys.enumerated() {
            key.withView { key in
                client.gateway.router.call(
                    connection: client.session.id, slot: client.gateway.records.slot(database, key), method: .version,
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
