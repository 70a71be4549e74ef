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
        package var voters: [UInt32]
        package var learners: [UInt32] = []
        package var term: UInt64 = 0
        package var version: UInt64 = 0
        package var versionInForce: UInt64 = 0
        /// 0: nobody; so are the next two.
        package var adding: UInt32 = 0
        package var replacing: UInt32 = 0
        package var nextLeader: UInt32 = 0

        package init(id: UInt32, buckets: [BucketRange], leader: UInt32, voters: [UInt32]) {
            self.id = id
            self.buckets = buckets
            self.leader = leader
            self.voters = voters
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
        package var zone = ""
        package var isDraining = false

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
        shards = Protobuf.messages(message.shards, message.n_shards).map(Shard.init)
        nodes = Protobuf.messages(message.nodes, message.n_nodes).map(Node.init)
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
            ($0.voters, $0.n_voters) = (arena.array(shard.voters), shard.voters.count)
            ($0.learners, $0.n_learners) = (arena.array(shard.learners), shard.learners.count)
            $0.term = shard.term
            $0.version = shard.version
            $0.version_in_force = shard.versionInForce
            $0.adding = shard.adding
            $0.replacing = shard.replacing
            $0.next_leader = shard.nextLeader
        }
    }

    private static func build(_ node: Node, _ arena: ProtobufArena) -> UnsafeMutablePointer<Orbit__V1__Node>? {
        arena.make(orbit__v1__node__init) {
            $0.id = node.id
            $0.uid = arena.data(node.uid)
            ($0.addresses, $0.n_addresses) = (arena.texts(node.addresses), node.addresses.count)
            $0.fencing_token = node.fencingToken
            $0.state = Orbit__V1__Node__State(rawValue: .init(truncatingIfNeeded: node.state))
            $0.zone = arena.text(node.zone)
            $0.draining = node.isDraining ? 1 : 0
        }
    }
}

extension ShardMapMessage.Shard {
    fileprivate init(_ message: Orbit__V1__Shard) {
        self.init(
            id: message.id,
            buckets: Protobuf.messages(message.buckets, message.n_buckets).map {
                ShardMapMessage.BucketRange(first: $0.first, count: $0.count)
            },
            leader: message.leader, voters: Protobuf.numbers(message.voters, message.n_voters))
        learners = Protobuf.numbers(message.learners, message.n_learners)
        term = message.term
        version = message.version
        versionInForce = message.version_in_force
        adding = message.adding
        replacing = message.replacing
        nextLeader = message.next_leader
    }
}

extension ShardMapMessage.Node {
    fileprivate init(_ message: Orbit__V1__Node) {
        self.init(
            id: message.id, uid: Protobuf.bytes(message.uid),
            addresses: Protobuf.texts(message.addresses, message.n_addresses), fencingToken: message.fencing_token,
            state: UInt32(truncatingIfNeeded: message.state.rawValue))
        zone = Protobuf.text(message.zone)
        isDraining = message.draining != 0
    }
}
