import Base
import Contracts
import DataModel
import GatewayKit

/// What one shard has to do with a transaction.
struct ShardShare: Hashable {
    /// Its position among the shards, and a slot of it.
    let shard: Int, slot: UInt32
    /// Positions in the plan, rising.
    var calls: [Int] = [], watches: [Int] = []
}

extension TransactionPlan {
    /// Divides the plan among shards, in the order in which they come up. A call whose keys live on several shards, and
    /// one for all shards where there are several, cannot be divided. `shard` answers nil while no map is known.
    func shares(
        of slots: [UInt32], shard: (UInt32) -> Int?
    ) throws(DatabaseError) -> [ShardShare] {
        var shares: [ShardShare] = []
        func share(_ slot: UInt32) throws(DatabaseError) -> Int {
            guard let shard = shard(slot) else { throw DatabaseError(.unavailable, "The shard map is not known yet") }
            if let position = shares.firstIndex(where: { $0.shard == shard }) { return position }
            shares.append(ShardShare(shard: shard, slot: slot))
            return shares.count - 1
        }
        for (position, watch) in watches.enumerated() {
            shares[try share(Self.slot(of: watch.key))].watches.append(position)
        }
        for (position, call) in calls.enumerated() {
            let slot: UInt32
            switch call.target {
            case .key: slot = Self.slot(of: call.key)
            case .keys:
                slot = Self.slot(of: call.key)
                for key in call.keys where shard(Self.slot(of: key)) != shard(slot) { throw .crossShard }
            case .everyShard, .cursor, .anyShard:
                guard slots.count <= 1 else { throw .crossShard }
                slot = slots.first ?? 0
            }
            shares[try share(slot)].calls.append(position)
        }
        return shares
    }

    private static func slot(of key: Bytes) -> UInt32 { key.withView { UInt32(Slot.of($0).rawValue) } }

    /// The share as the shard is told of it.
    func encode(_ share: ShardShare, into encoder: inout CallBatchEncoder) {
        for position in share.watches {
            let watch = watches[position]
            watch.key.withView { encoder.append(watch: $0, database: watch.database, version: watch.version) }
        }
        var room = ByteBuffer(capacity: 1024), views: [ByteView] = []
        for position in share.calls {
            let call = calls[position]
            room.removeAll()
            room.append(call.key)
            for argument in call.arguments { room.append(argument) }
            let bytes = room.readable
            var start = call.key.count
            views.removeAll(keepingCapacity: true)
            for argument in call.arguments {
                views.append(ByteView(rebasing: bytes[start..<start + argument.count]))
                start += argument.count
            }
            call.numbers.withUnsafeBufferPointer { numbers in
                views.withUnsafeBufferPointer { arguments in
                    encoder.append(
                        method: call.method, database: call.database,
                        key: ByteView(rebasing: bytes[..<call.key.count]), flags: call.flags, numbers: numbers,
                        arguments: arguments)
                }
            }
        }
    }
}

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
            let shares = try plan.shares(of: router.slotOfEachShard) { router.shardIndex(ofSlot: $0) }
            guard let share = shares.first, shares.count == 1 else { throw .crossShard }
            var encoder = CallBatchEncoder()
            plan.encode(share, into: &encoder)
            router.batch(
                connection: client.session.id, slot: share.slot, body: encoder.message,
                isWrite: plan.calls.contains { $0.method.isWrite }, receiver: request, ticket: 0)
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
