import Actors
import Base
import Contracts
import DataModel
import Net
import Placement

/// `orbit.v1.DirectoryService`: where the actor of a type and key lives, and which actors are in memory.
///
/// There is no table of actors anywhere in the cluster, and none is needed: the key names the shard, and the shard's
/// leader has the actor in memory or nobody has. So the directory is a look into the runtimes of this node. It costs
/// the calls of the actors nothing, and it does not make an actor that is asked for.
final class DirectoryService {
    /// Actors of a page unless the caller wants fewer or more, and at most.
    static let pageSize = 100, pageLimit = 1000
    /// A page ends after so many bytes of keys: well below what foreign clients take in one message.
    static let pageBytes = 1 << 20
    /// Entries of tables that one page looks at, however few of them are wanted: a third of a millisecond of the loop.
    static let pageSteps = 16_384

    private let node: Node
    /// What page tokens of this process carry. Places in the tables mean nothing in another.
    private let life: UInt64

    init(_ node: Node) {
        self.node = node
        life = node.random.next()
    }

    /// Offers the methods on `server`.
    func register(on server: GRPCServer) {
        server.registerUnary(path: DirectoryPath.locate) { [self] request, call in
            answer(call) { () throws(DatabaseError) in try locate(LocateRequest(decoding: request), call) }
        }
        server.registerUnary(path: DirectoryPath.listActors) { [self] request, call in
            answer(call) { () throws(DatabaseError) in try list(ListActorsRequest(decoding: request), call) }
        }
    }

    private func answer(_ call: GRPCUnaryCall, _ body: () throws(DatabaseError) -> Void) {
        do throws(DatabaseError) { try body() } catch { call.fail(GRPCStatus(error)) }
    }

    private func map() throws(DatabaseError) -> ShardMap {
        guard let map = node.adopted?.map else { throw DatabaseError(.unavailable, "This node has no shard map yet") }
        return map
    }

    /// The type that a request names; nil for any.
    private static func type(named name: String) throws(DatabaseError) -> NativeType? {
        if name.isEmpty { return nil }
        guard let type = NativeType.allCases.first(where: { "\($0.name)" == name }) else {
            throw DatabaseError(.invalidArgument, "There is no such type of actor; there are string and hash")
        }
        return type
    }

    // MARK: Locate

    private func locate(_ request: LocateRequest, _ call: GRPCUnaryCall) throws(DatabaseError) {
        let map = try map(), type = try Self.type(named: request.type)
        guard request.database < UInt32(ActorRuntime.databaseCount) else {
            throw DatabaseError(.invalidArgument, "DB index is out of range")
        }
        guard request.key.count <= ActorLimits().keyBytes else {
            throw DatabaseError(.limitExceeded, "The key is longer than any actor's")
        }
        let bucket = request.key.withUnsafeBytes { Slot.of($0) }.bucket(of: map.bucketCount)
        let owner = map.shards.first { $0.buckets.contains { $0.contains(Int(bucket.rawValue)) } }
        guard let shard = owner?.id else { throw DatabaseError(.internalFailure, "A bucket without a shard") }
        guard let executor = node.leader(of: shard) else { return refuse(call, shard) }
        // A leader that was cut off may not know it: another may lead by now, and have the actor.
        executor.group.readIndex { [self] confirmation in
            if case .failure(let error) = confirmation, error.code != .notLeader { return call.fail(GRPCStatus(error)) }
            guard case .success(let confirmed) = confirmation, executor.isServing else { return refuse(call, shard) }
            var actor = request.key.withUnsafeBytes {
                executor.runtime.active(UInt8(request.database), $0, now: executor.clock.wallMilliseconds)
            }
            if let type, actor?.type != type { actor = nil }
            let response = LocateResponse(
                bucket: UInt32(bucket.rawValue), shard: shard.rawValue, node: node.nodeID?.rawValue ?? 0,
                addresses: node.addresses(of: node.nodeID), term: executor.group.term.rawValue,
                mapEpoch: node.mapEpoch.rawValue, actor: actor.map { Self.message($0, of: executor) }
            ).encode()
            // The process may have stood still since the lease was looked at.
            guard !confirmed.isUnderLease || executor.group.leaseIsValid else { return refuse(call, shard) }
            call.reply(response)
        }
    }

    func refuse(_ call: GRPCUnaryCall, _ shard: ShardID) {
        let directions = node.directions(to: shard)
        call.fail(GRPCStatus(directions.error), trailers: directions.trailers)
    }

    private static func message(_ actor: ActiveActor, of executor: ShardExecutor) -> ActiveActorMessage {
        ActiveActorMessage(
            database: UInt32(actor.database), type: "\(actor.type.name)", key: actor.key,
            shard: executor.shard.rawValue, term: executor.group.term.rawValue, activeSince: actor.activeSince,
            lastCalled: actor.lastCalled, memorySize: UInt64(clamping: actor.memorySize), isPending: actor.isPending)
    }

    // MARK: ListActors

    private func list(_ request: ListActorsRequest, _ call: GRPCUnaryCall) throws(DatabaseError) {
        let map = try map(), type = try Self.type(named: request.type)
        guard request.pageSize <= UInt32(Self.pageLimit) else {
            throw DatabaseError(.limitExceeded, "A page has at most \(Self.pageLimit) actors")
        }
        var begin: ActorCursor?
        if !request.pageToken.isEmpty {
            begin = request.pageToken.withUnsafeBytes { ActorCursor(decoding: $0, life: life) }
            guard let begin, request.shard == nil || request.shard == begin.shard.rawValue else {
                throw DatabaseError(
                    .invalidArgument,
                    "The page token is not of this list, or of an earlier life of the node; begin again")
            }
        }
        var shards = node.executors.filter(\.isServing)
        if let only = request.shard.map({ ShardID(rawValue: $0) }) {
            guard map.shard(only) != nil else { throw DatabaseError(.invalidArgument, "There is no shard \(only)") }
            shards.removeAll { $0.shard != only }
            if shards.isEmpty { return refuse(call, only) }
        }
        let size = request.pageSize == 0 ? Self.pageSize : Int(request.pageSize)
        call.reply(page(of: shards, type, size, from: begin).encode())
    }

    /// The shards are listed in the order of their numbers, the actors of a shard in the order of their places in its
    /// table. A cursor is a shard and a place, and both orders stand while actors come and go, tables grow, and shards
    /// get other leaders: so nothing that is there all the time is left out, and nothing is shown twice.
    private func page(
        of shards: [ShardExecutor], _ type: NativeType?, _ size: Int, from begin: ActorCursor?
    ) -> ListActorsResponse {
        var response = ListActorsResponse(actors: [], nextPageToken: [], shards: [])
        var steps = Self.pageSteps, bytes = 0
        for executor in shards.sorted(by: { $0.shard < $1.shard }) {
            if let begin, executor.shard < begin.shard { continue }
            guard response.actors.count < size, bytes < Self.pageBytes, steps > 0 else {
                response.nextPageToken = ActorCursor(shard: executor.shard, place: 0).encode(life: life)
                return response
            }
            let first = executor.shard == begin?.shard ? begin?.place ?? 0 : 0
            let next = executor.runtime.listActive(
                from: first, steps: &steps, now: executor.clock.wallMilliseconds
            ) { actor in
                guard type == nil || actor.type == type else { return true }
                response.actors.append(Self.message(actor, of: executor))
                bytes += actor.key.count
                return response.actors.count < size && bytes < Self.pageBytes
            }
            steps -= 1
            response.shards.append(
                .init(shard: executor.shard.rawValue, term: executor.group.term.rawValue, isComplete: next == nil))
            if let next {
                response.nextPageToken = ActorCursor(shard: executor.shard, place: next).encode(life: life)
                return response
            }
        }
        return response
    }
}

/// Where a list of actors goes on.
struct ActorCursor: Hashable {
    let shard: ShardID
    let place: UInt64

    init(shard: ShardID, place: UInt64) {
        self.shard = shard
        self.place = place
    }

    /// Nil for what is no cursor, or one of another process.
    init?(decoding bytes: ByteView, life: UInt64) {
        var reader = ByteReader(bytes)
        guard reader.littleEndian(UInt64.self) == life, let shard = reader.littleEndian(UInt32.self),
            let place = reader.littleEndian(UInt64.self), reader.isAtEnd
        else { return nil }
        (self.shard, self.place) = (ShardID(rawValue: shard), place)
    }

    func encode(life: UInt64) -> Bytes {
        var buffer = ByteBuffer(capacity: 20)
        buffer.append(littleEndian: life)
        buffer.append(littleEndian: shard.rawValue)
        buffer.append(littleEndian: place)
        return buffer.readable.bytes
    }
}
