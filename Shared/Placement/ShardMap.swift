/// Placement: which node holds what, as values.
///
/// The cluster's keys fall into buckets, ranges of buckets into shards, shards onto nodes. `ShardMap` is that
/// assignment at one epoch, what gateways and nodes watch; `RoutingTable` is the same made flat, for one load per key.
/// `PlacementState` is the coordinator's state machine: commands go in, events come out, and a replay of the same
/// commands gives the same state on every replica. `LeaseTable` and `ReplicaReports` hold what depends on time.
///
/// The map says which replicas *are to be*; nodes watch it and make it so, and each shard's leader reports what is in
/// force. `PlacementPlanner` compares the two with what is wished for and proposes the next safe steps.
///
/// Invariants: every bucket belongs to exactly one shard; the epoch rises with every change of the map and only then;
/// a fencing token is never given twice, and a later registration has a higher one. Pure: no clock, disk or socket.
import Base

/// Which shard owns which buckets and which node leads it, at one epoch.
///
/// Only valid maps exist: the initialiser refuses a map in which a bucket has no shard or two, or a shard names a node
/// that is not there, because a map also comes from the network.
package struct ShardMap: Hashable, Sendable {
    /// One Raft group and its buckets.
    package struct Shard: Hashable, Sendable {
        package let id: ShardID
        package let buckets: [Range<Int>]
        /// Who leads, as far as is known. Nil until nodes are assigned, and then until a leader is elected.
        package let leader: NodeID?
        /// Of `leader`; whoever leads in a lower one leads no more. 0 for a shard that was never replicated.
        package let term: Term
        /// Who is to hold the shard.
        package let membership: ShardMembership
        /// Rises with every change of `membership`'s voters and learners. A replica of version 1 begins the group with
        /// these voters; one that is told of the shard later begins empty and waits for the leader.
        package let version: UInt64
        /// The newest version that a leader has reported to be in force. What it removed may be deleted then.
        package let versionInForce: UInt64

        package init(
            id: ShardID, buckets: [Range<Int>], leader: NodeID?, term: Term, membership: ShardMembership,
            version: UInt64, versionInForce: UInt64
        ) {
            self.id = id
            self.buckets = buckets
            self.leader = leader
            self.term = term
            self.membership = membership
            self.version = version
            self.versionInForce = versionInForce
        }

        /// A shard as it was first shared out.
        package init(id: ShardID, buckets: [Range<Int>], leader: NodeID?, replicas: [NodeID]) {
            let version: UInt64 = replicas.isEmpty ? 0 : 1
            self.init(
                id: id, buckets: buckets, leader: leader, term: Term(rawValue: 0),
                membership: ShardMembership(voters: replicas), version: version, versionInForce: version)
        }

        /// Voters, then learners.
        package var replicas: [NodeID] { membership.members }
        package var voters: [NodeID] { membership.voters }
        package var learners: [NodeID] { membership.learners }
        /// The group is as it is to be.
        package var isInForce: Bool { version == versionInForce }
    }

    /// A storage node as the coordinator knows it.
    package struct Node: Hashable, Sendable {
        package let id: NodeID
        package let uid: NodeUID
        /// Where it serves invocations, in the form `SocketAddress` parses; the first that works is used.
        package let addresses: [String]
        /// Of its current registration: whoever shows a lower one speaks for a life that is over.
        package let fencingToken: UInt64
        package let state: NodeState
        /// What fails together with it: a machine, a rack, a data centre. Empty without a label.
        package let zone: String
        /// It is to give up its replicas and leadership.
        package let isDraining: Bool

        package init(
            id: NodeID, uid: NodeUID, addresses: [String], fencingToken: UInt64, state: NodeState, zone: String = "",
            isDraining: Bool = false
        ) {
            self.id = id
            self.uid = uid
            self.addresses = addresses
            self.fencingToken = fencingToken
            self.state = state
            self.zone = zone
            self.isDraining = isDraining
        }
    }

    /// Buckets that a cluster may have: a power of two, at most one per slot.
    package static let bucketLimit = RoutingTable.slotCount

    package let epoch: MapEpoch
    /// Given when the cluster is created: a process that was pointed at another cluster finds out.
    package let cluster: UInt64
    package let bucketCount: Int
    /// In order of id.
    package let shards: [Shard]
    /// In order of id.
    package let nodes: [Node]

    package init(epoch: MapEpoch, cluster: UInt64, bucketCount: Int, shards: [Shard], nodes: [Node])
        throws(DatabaseError)
    {
        guard (1...Self.bucketLimit).contains(bucketCount), bucketCount.nonzeroBitCount == 1 else {
            throw DatabaseError(.invalidArgument, "a cluster has 1 to 16384 buckets, a power of two")
        }
        try Self.checkShards(shards, bucketCount: bucketCount, nodes: Set(nodes.map(\.id)))
        guard Set(nodes.map(\.id)).count == nodes.count, Set(nodes.map(\.uid)).count == nodes.count else {
            throw DatabaseError(.invalidArgument, "a shard map names a node twice")
        }
        self.epoch = epoch
        self.cluster = cluster
        self.bucketCount = bucketCount
        self.shards = shards.sorted { $0.id < $1.id }
        self.nodes = nodes.sorted { $0.id < $1.id }
    }

    private static func checkShards(_ shards: [Shard], bucketCount: Int, nodes: Set<NodeID>) throws(DatabaseError) {
        var isTaken = [Bool](repeating: false, count: bucketCount)
        var ids: Set<ShardID> = []
        for shard in shards {
            guard ids.insert(shard.id).inserted else {
                throw DatabaseError(.invalidArgument, "a shard map names shard \(shard.id) twice")
            }
            for range in shard.buckets {
                guard range.lowerBound >= 0, range.upperBound <= bucketCount else {
                    throw DatabaseError(.invalidArgument, "shard \(shard.id) has buckets that do not exist")
                }
                for bucket in range {
                    guard !isTaken[bucket] else {
                        throw DatabaseError(.invalidArgument, "bucket \(bucket) has two shards")
                    }
                    isTaken[bucket] = true
                }
            }
            guard shard.replicas.allSatisfy(nodes.contains), Set(shard.replicas).count == shard.replicas.count,
                shard.leader.map(shard.voters.contains) ?? true, shard.versionInForce <= shard.version
            else { throw DatabaseError(.invalidArgument, "shard \(shard.id) lies on nodes that are not in the map") }
        }
        guard isTaken.allSatisfy({ $0 }) else {
            throw DatabaseError(.invalidArgument, "a shard map leaves a bucket without a shard")
        }
    }

    /// The node with that id, if it is in the map.
    package func node(_ id: NodeID) -> Node? { nodes.first { $0.id == id } }

    /// The shard with that id, if it is in the map.
    package func shard(_ id: ShardID) -> Shard? { shards.first { $0.id == id } }

    /// The shards that have a replica on a node.
    package func shards(on node: NodeID) -> [Shard] { shards.filter { $0.replicas.contains(node) } }

    /// True when every shard has a leader that is up: the whole key space could be served.
    package var isServed: Bool {
        let up = Set(nodes.filter { $0.state == .up }.map(\.id))
        return shards.allSatisfy { shard in shard.leader.map(up.contains) ?? false }
    }
}

/// The name a node's data directory was given when it was made: 128 random bits.
///
/// It makes the node who it is: the same directory on another machine is the same node.
package struct NodeUID: Hashable, Sendable, CustomStringConvertible {
    package let high: UInt64
    package let low: UInt64

    package init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }

    /// From its 16 bytes; nil for another length.
    package init?(_ bytes: ByteView) {
        var reader = ByteReader(bytes)
        guard bytes.count == 16, let high = reader.bigEndian(UInt64.self), let low = reader.bigEndian(UInt64.self)
        else { return nil }
        self.init(high: high, low: low)
    }

    package var bytes: Bytes {
        var buffer = ByteBuffer(capacity: 64)
        buffer.append(bigEndian: high)
        buffer.append(bigEndian: low)
        return buffer.readable.bytes
    }

    /// 32 hexadecimal digits.
    package var description: String { Self.hex(high) + Self.hex(low) }

    /// Reads what `description` wrote.
    package init?(parsing text: some StringProtocol) {
        guard text.utf8.count == 32, text.utf8.allSatisfy({ $0 != UInt8(ascii: "+") && $0 != UInt8(ascii: "-") }),
            let high = UInt64(text.prefix(16), radix: 16), let low = UInt64(text.suffix(16), radix: 16)
        else { return nil }
        self.init(high: high, low: low)
    }

    private static func hex(_ value: UInt64) -> String {
        let digits = String(value, radix: 16)
        return String(repeating: "0", count: 16 - digits.count) + digits
    }
}

/// Whether a node holds a lease.
package enum NodeState: UInt8, Hashable, Sendable {
    case up = 1
    /// Its lease ran out or was given back; its shards wait for it.
    case down = 2
}
