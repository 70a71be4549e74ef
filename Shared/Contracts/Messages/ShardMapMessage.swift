import Base
import CProto

/// `orbit.v1.ShardMap` as it came: nothing is checked here, `Placement.ShardMap` refuses maps that contradict
/// themselves.
package struct ShardMapMessage: Hashable, Sendable {
    /// `orbit.v1.Shard`.
    package struct Shard: Hashable, Sendable {
        package var id: UInt32
        package var buckets: [BucketRange]
        /// 0: none yet.
        package var leader: UInt32
        package var replicas: [UInt32]

        package init(id: UInt32, buckets: [BucketRange], leader: UInt32, replicas: [UInt32]) {
            self.id = id
            self.buckets = buckets
            self.leader = leader
            self.replicas = replicas
        }
    }

    /// `orbit.v1.BucketRange`.
    package struct BucketRange: Hashable, Sendable {
        package var first: UInt32
        package var count: UInt32

        package init(first: UInt32, count: UInt32) {
            self.first = first
            self.count = count
        }
    }

    /// `orbit.v1.Node`.
    package struct Node: Hashable, Sendable {
        package var id: UInt32
        package var uid: Bytes
        package var addresses: [String]
        package var fencingToken: UInt64
        /// `Node.State` of the schema: 1 up, 2 down.
        package var state: UInt32

        package init(id: UInt32, uid: Bytes, addresses: [String], fencingToken: UInt64, state: UInt32) {
            self.id = id
            self.uid = uid
            self.addresses = addresses
            self.fencingToken = fencingToken
            self.state = state
        }
    }

    package var epoch: UInt64
    package var cluster: UInt64
    package var bucketCount: UInt32
    package var shards: [Shard]
    package var nodes: [Node]

    package init(epoch: UInt64, cluster: UInt64, bucketCount: UInt32, shards: [Shard], nodes: [Node]) {
        self.epoch = epoch
        self.cluster = cluster
        self.bucketCount = bucketCount
        self.shards = shards
        self.nodes = nodes
    }

    package init(decoding bytes: ByteView) throws(DatabaseError) {
        self = try Protobuf.decode(bytes, orbit__v1__shard_map__unpack, orbit__v1__shard_map__free_unpacked) {
            message throws(DatabaseError) in ShardMapMessage(message)
        }
    }

    package func encode() -> Bytes { Protobuf.encode(build) }

    init(_ message: Orbit__V1__ShardMap) {
        epoch = message.epoch
        cluster = message.cluster
        bucketCount = message.bucket_count
        shards = Protobuf.messages(message.shards, message.n_shards).map { shard in
            Shard(
                id: shard.id,
                buckets: Protobuf.messages(shard.buckets, shard.n_buckets).map {
                    BucketRange(first: $0.first, count: $0.count)
                },
                leader: shard.leader,
                replicas: Array(UnsafeBufferPointer(start: shard.replicas, count: shard.n_replicas)))
        }
        nodes = Protobuf.messages(message.nodes, message.n_nodes).map { node in
            Node(
                id: node.id, uid: Protobuf.bytes(node.uid),
                addresses: Protobuf.texts(node.addresses, node.n_addresses), fencingToken: node.fencing_token,
                state: UInt32(truncatingIfNeeded: node.state.rawValue))
        }
    }

    func build(_ arena: ProtobufArena) -> UnsafeMutablePointer<Orbit__V1__ShardMap> {
        arena.make(orbit__v1__shard_map__init) {
            $0.epoch = epoch
            $0.cluster = cluster
            $0.bucket_count = bucketCount
            $0.shards = arena.array(shards.map { Self.build($0, arena) })
            $0.n_shards = shards.count
            $0.nodes = arena.array(nodes.map { Self.build($0, arena) })
            $0.n_nodes = nodes.count
        }
    }

    private static func build(
        _ shard: Shard, _ arena: ProtobufArena
    ) -> UnsafeMutablePointer<Orbit__V1__Shard>? {
        arena.make(orbit__v1__shard__init) {
            $0.id = shard.id
            $0.buckets = arena.array(
                shard.buckets.map { range in
                    arena.make(orbit__v1__bucket_range__init) {
                        $0.first = range.first
                        $0.count = range.count
                    }
                })
            $0.n_buckets = shard.buckets.count
            $0.leader = shard.leader
            $0.replicas = arena.array(shard.replicas)
            $0.n_replicas = shard.replicas.count
        }
    }

    private static func build(_ node: Node, _ arena: ProtobufArena) -> UnsafeMutablePointer<Orbit__V1__Node>? {
        arena.make(orbit__v1__node__init) {
            $0.id = node.id
            $0.uid = arena.data(node.uid)
            ($0.addresses, $0.n_addresses) = (arena.texts(node.addresses), node.addresses.count)
            $0.fencing_token = node.fencingToken
            $0.state = Orbit__V1__Node__State(rawValue: .init(truncatingIfNeeded: node.state))
        }
    }
}
