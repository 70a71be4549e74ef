import Base

/// What a command brought about. Whoever drives the state machine answers and notifies by these.
package enum PlacementEvent: Hashable, Sendable {
    case clusterCreated(id: UInt64)
    /// Under this fencing token the node may act until its lease ends.
    case nodeRegistered(NodeID, fencingToken: UInt64)
    case leaseExpired(NodeID, fencingToken: UInt64)
    case nodeRemoved(NodeID)
    /// The numbers belong to whoever asked.
    case idsAllocated(kind: String, Range<UInt64>)
    case snapshotInstalled
    /// Those who watch get the new map.
    case mapChanged(MapEpoch)
}

/// The coordinator's state: a pure function of the commands that were applied to it.
///
/// A command that is refused changes nothing and is refused again when it is replayed. Leases are not in here: that a
/// lease is still running depends on time and is forgotten in a restart (`LeaseTable`); that it has ended is a command.
package struct PlacementState: Hashable, Sendable {
    /// A node as registered; survives its lease.
    struct Node: Hashable, Sendable {
        let uid: NodeUID
        var addresses: [String]
        var incarnation: UInt64
        var fencingToken: UInt64
        var state: NodeState
    }

    /// A shard and its place.
    struct Shard: Hashable, Sendable {
        let id: ShardID
        var buckets: [Range<Int>]
        var leader: NodeID?
        var replicas: [NodeID]
    }

    /// Bounds on what a client may ask for, so that the state stays small.
    package enum Limits {
        static let nodes = 1024, shards = 16384, addresses = 16, addressBytes = 256, kinds = 256, kindBytes = 64
        static let idsAtOnce: UInt64 = 1 << 32
    }

    /// Nil until the cluster is created.
    package internal(set) var cluster: UInt64?
    var bucketCount = 0
    /// Nodes that register before the shards are shared out among them.
    var nodeCount = 0
    var epoch = MapEpoch(rawValue: 0)
    var nodes: [NodeID: Node] = [:]
    var shards: [Shard] = []
    var lastNodeID: UInt32 = 0
    /// The last token given: it rises over all nodes, so tokens order lives even across nodes.
    var lastFencingToken: UInt64 = 0
    var nextIDs: [String: UInt64] = [:]

    /// Before the cluster is created.
    package init() {}

    /// Applies a command, or refuses it and leaves the state as it is.
    package mutating func apply(_ command: PlacementCommand) throws(DatabaseError) -> [PlacementEvent] {
        switch command {
        case .createCluster(let id, let bucketCount, let shardCount, let nodeCount):
            try create(id: id, bucketCount: bucketCount, shardCount: shardCount, nodeCount: nodeCount)
        case .registerNode(let uid, let addresses, let incarnation):
            try register(uid: uid, addresses: addresses, incarnation: incarnation)
        case .expireLease(let node, let fencingToken):
            try expire(node, fencingToken)
        case .removeNode(let node):
            try remove(node)
        case .allocateIDs(let kind, let count):
            try allocate(kind: kind, count: count)
        case .snapshot(let state):
            install(state)
        }
    }

    /// The map at this epoch; nil until the cluster is created.
    package var map: ShardMap? {
        guard let cluster else { return nil }
        return try? ShardMap(
            epoch: epoch, cluster: cluster, bucketCount: bucketCount,
            shards: shards.map {
                ShardMap.Shard(id: $0.id, buckets: $0.buckets, leader: $0.leader, replicas: $0.replicas)
            },
            nodes: nodes.map { id, node in
                ShardMap.Node(
                    id: id, uid: node.uid, addresses: node.addresses, fencingToken: node.fencingToken,
                    state: node.state)
            })
    }

    /// Nodes that hold a lease as far as the log knows, with their tokens, in order of id.
    package var leaseHolders: [(node: NodeID, fencingToken: UInt64)] {
        nodes.filter { $0.value.state == .up }.map { ($0.key, $0.value.fencingToken) }.sorted { $0.0 < $1.0 }
    }

    /// Whether that registration is the node's current one and has not ended; the words for the node if it is not.
    package func checkLease(_ node: NodeID, _ fencingToken: UInt64) throws(DatabaseError) {
        guard let known = nodes[node] else { throw DatabaseError(.staleMap, "node \(node) is not registered") }
        guard known.fencingToken == fencingToken, known.state == .up else {
            throw DatabaseError(.staleMap, "the lease with token \(fencingToken) of node \(node) has ended")
        }
    }

    // MARK: Commands

    private mutating func create(
        id: UInt64, bucketCount: Int, shardCount: Int, nodeCount: Int
    ) throws(DatabaseError) -> [PlacementEvent] {
        guard cluster == nil else { throw DatabaseError(.invalidArgument, "the cluster exists already") }
        guard id != 0 else { throw DatabaseError(.invalidArgument, "a cluster's id is not 0") }
        guard (1...ShardMap.bucketLimit).contains(bucketCount), bucketCount.nonzeroBitCount == 1 else {
            throw DatabaseError(.invalidArgument, "a cluster has 1 to 16384 buckets, a power of two")
        }
        guard (1...min(bucketCount, Limits.shards)).contains(shardCount) else {
            throw DatabaseError(.invalidArgument, "a cluster of \(bucketCount) buckets has 1 to \(bucketCount) shards")
        }
        guard (1...Limits.nodes).contains(nodeCount) else {
            throw DatabaseError(.invalidArgument, "a cluster starts with 1 to \(Limits.nodes) nodes")
        }
        cluster = id
        self.bucketCount = bucketCount
        self.nodeCount = nodeCount
        // Contiguous, and even to within one bucket: a scan of a shard is a scan of one key range.
        shards = (0..<shardCount).map { index in
            let range = index * bucketCount / shardCount..<(index + 1) * bucketCount / shardCount
            return Shard(id: ShardID(rawValue: UInt32(index)), buckets: [range], leader: nil, replicas: [])
        }
        return [.clusterCreated(id: id), changeMap()]
    }

    private mutating func register(
        uid: NodeUID, addresses: [String], incarnation: UInt64
    ) throws(DatabaseError) -> [PlacementEvent] {
        guard cluster != nil else { throw DatabaseError(.unavailable, "the cluster is not created yet") }
        let isSane = addresses.allSatisfy {
            !$0.isEmpty && $0.utf8.count <= Limits.addressBytes && !$0.utf8.contains(0)
        }
        guard (1...Limits.addresses).contains(addresses.count), isSane else {
            throw DatabaseError(.invalidArgument, "a node registers 1 to \(Limits.addresses) addresses")
        }
        let existing = nodes.first { $0.value.uid == uid }
        if let (id, node) = existing.map({ ($0.key, $0.value) }) {
            guard incarnation >= node.incarnation else {
                throw DatabaseError(
                    .staleMap, "node \(id) has started again since: a process that is over tried to register")
            }
            // The answer was lost and the node asks again: it is the same life and keeps its token.
            if incarnation == node.incarnation, node.state == .up, node.addresses == addresses {
                return [.nodeRegistered(id, fencingToken: node.fencingToken)]
            }
        }
        guard existing != nil || nodes.count < Limits.nodes else {
            throw DatabaseError(.limitExceeded, "a cluster has at most \(Limits.nodes) nodes")
        }
        let id = existing?.key ?? nextNodeID()
        lastFencingToken += 1
        nodes[id] = Node(
            uid: uid, addresses: addresses, incarnation: incarnation, fencingToken: lastFencingToken, state: .up)
        shareOut()
        return [.nodeRegistered(id, fencingToken: lastFencingToken), changeMap()]
    }

    private mutating func nextNodeID() -> NodeID {
        lastNodeID += 1
        return NodeID(rawValue: lastNodeID)
    }

    /// Gives the shards their first nodes, once all nodes that the cluster starts with are there. Neighbouring shards
    /// lie on one node, and nodes differ by one shard at most. Nodes that join later get none until shards can move.
    private mutating func shareOut() {
        guard nodes.count == nodeCount, shards.allSatisfy({ $0.replicas.isEmpty }) else { return }
        let ids = nodes.keys.sorted()
        for index in shards.indices {
            let node = ids[index * ids.count / shards.count]
            shards[index].leader = node
            shards[index].replicas = [node]
        }
    }

    private mutating func expire(_ id: NodeID, _ fencingToken: UInt64) throws(DatabaseError) -> [PlacementEvent] {
        try checkLease(id, fencingToken)
        nodes[id]?.state = .down
        return [.leaseExpired(id, fencingToken: fencingToken), changeMap()]
    }

    private mutating func remove(_ id: NodeID) throws(DatabaseError) -> [PlacementEvent] {
        guard let node = nodes[id] else { throw DatabaseError(.noSuchKey, "node \(id) is not registered") }
        guard node.state == .down else { throw DatabaseError(.busy, "node \(id) still holds a lease") }
        guard !shards.contains(where: { $0.replicas.contains(id) }) else {
            throw DatabaseError(.featureNotSupported, "node \(id) holds shards, and shards cannot be moved yet")
        }
        nodes[id] = nil
        return [.nodeRemoved(id), changeMap()]
    }

    private mutating func allocate(kind: String, count: UInt64) throws(DatabaseError) -> [PlacementEvent] {
        guard (1...Limits.kindBytes).contains(kind.utf8.count), kind.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F }) else {
            throw DatabaseError(.invalidArgument, "a kind of ids has a name of 1 to \(Limits.kindBytes) characters")
        }
        guard (1...Limits.idsAtOnce).contains(count) else {
            throw DatabaseError(.invalidArgument, "1 to \(Limits.idsAtOnce) ids can be had at once")
        }
        guard nextIDs[kind] != nil || nextIDs.count < Limits.kinds else {
            throw DatabaseError(.limitExceeded, "at most \(Limits.kinds) kinds of ids")
        }
        let first = nextIDs[kind] ?? Self.firstID(kind)
        let (next, overflow) = first.addingReportingOverflow(count)
        guard !overflow else { throw DatabaseError(.overflow, "the ids of kind '\(kind)' are used up") }
        nextIDs[kind] = next
        return [.idsAllocated(kind: kind, first..<next)]
    }

    /// Collections below 1024 are reserved for the system.
    private static func firstID(_ kind: String) -> UInt64 { kind == "collection" ? 1024 : 1 }

    private mutating func install(_ state: PlacementState) -> [PlacementEvent] {
        let isSameMap = state.epoch == epoch
        self = state
        return isSameMap ? [.snapshotInstalled] : [.snapshotInstalled, .mapChanged(epoch)]
    }

    private mutating func changeMap() -> PlacementEvent {
        epoch = MapEpoch(rawValue: epoch.rawValue + 1)
        return .mapChanged(epoch)
    }
}

/// The state on disk, inside a snapshot entry: nodes, shards and ids in a fixed order, so that equal states have equal
/// bytes.
extension PlacementState {
    func encode(into buffer: inout ByteBuffer) {
        buffer.append(littleEndian: cluster ?? 0)
        buffer.append(varint: UInt64(bucketCount))
        buffer.append(varint: UInt64(nodeCount))
        buffer.append(littleEndian: epoch.rawValue)
        buffer.append(littleEndian: lastNodeID)
        buffer.append(littleEndian: lastFencingToken)
        buffer.append(varint: UInt64(nodes.count))
        for (id, node) in nodes.sorted(by: { $0.key < $1.key }) {
            buffer.append(littleEndian: id.rawValue)
            buffer.append(node.uid.bytes)
            buffer.append(littleEndian: node.incarnation)
            buffer.append(littleEndian: node.fencingToken)
            buffer.append(node.state.rawValue)
            buffer.append(addresses: node.addresses)
        }
        buffer.append(varint: UInt64(shards.count))
        for shard in shards {
            buffer.append(littleEndian: shard.id.rawValue)
            buffer.append(littleEndian: shard.leader?.rawValue ?? 0)
            buffer.append(varint: UInt64(shard.replicas.count))
            for replica in shard.replicas { buffer.append(littleEndian: replica.rawValue) }
            buffer.append(varint: UInt64(shard.buckets.count))
            for range in shard.buckets {
                buffer.append(varint: UInt64(range.lowerBound))
                buffer.append(varint: UInt64(range.count))
            }
        }
        buffer.append(varint: UInt64(nextIDs.count))
        for (kind, next) in nextIDs.sorted(by: { $0.key < $1.key }) {
            buffer.append(delimited: kind)
            buffer.append(littleEndian: next)
        }
    }

    init(decoding reader: inout ByteReader) throws(DatabaseError) {
        guard let cluster = reader.littleEndian(UInt64.self), let bucketCount = reader.count(),
            let nodeCount = reader.count(), let epoch = reader.littleEndian(UInt64.self),
            let lastNodeID = reader.littleEndian(UInt32.self), let lastToken = reader.littleEndian(UInt64.self),
            let nodes = Self.nodes(&reader), let shards = Self.shards(&reader), let nextIDs = Self.nextIDs(&reader)
        else { throw PlacementCommand.corrupt }
        self.cluster = cluster == 0 ? nil : cluster
        self.bucketCount = bucketCount
        self.nodeCount = nodeCount
        self.epoch = MapEpoch(rawValue: epoch)
        self.nodes = nodes
        self.shards = shards
        self.lastNodeID = lastNodeID
        lastFencingToken = lastToken
        self.nextIDs = nextIDs
        // The map checks what commands take for granted: that buckets, shards and nodes fit together.
        guard self.cluster == nil || map != nil, nodes.values.allSatisfy({ $0.fencingToken <= lastToken }),
            nodes.keys.allSatisfy({ $0.rawValue <= lastNodeID })
        else { throw PlacementCommand.corrupt }
    }

    private static func nodes(_ reader: inout ByteReader) -> [NodeID: Node]? {
        guard let count = reader.count(), count <= Limits.nodes else { return nil }
        var nodes: [NodeID: Node] = [:]
        for _ in 0..<count {
            guard let id = reader.littleEndian(UInt32.self), let uid = reader.view(16).flatMap({ NodeUID($0) }),
                let incarnation = reader.littleEndian(UInt64.self), let token = reader.littleEndian(UInt64.self),
                let state = reader.byte().flatMap({ NodeState(rawValue: $0) }), let addresses = reader.addresses()
            else { return nil }
            nodes[NodeID(rawValue: id)] = Node(
                uid: uid, addresses: addresses, incarnation: incarnation, fencingToken: token, state: state)
        }
        return nodes.count == count ? nodes : nil
    }

    private static func shards(_ reader: inout ByteReader) -> [Shard]? {
        guard let count = reader.count(), count <= Limits.shards else { return nil }
        var shards: [Shard] = []
        for _ in 0..<count {
            guard let id = reader.littleEndian(UInt32.self), let leader = reader.littleEndian(UInt32.self),
                let replicaCount = reader.count(), replicaCount <= Limits.nodes
            else { return nil }
            var shard = Shard(
                id: ShardID(rawValue: id), buckets: [], leader: leader == 0 ? nil : NodeID(rawValue: leader),
                replicas: [])
            for _ in 0..<replicaCount {
                guard let replica = reader.littleEndian(UInt32.self) else { return nil }
                shard.replicas.append(NodeID(rawValue: replica))
            }
            guard let rangeCount = reader.count(), rangeCount <= ShardMap.bucketLimit else { return nil }
            for _ in 0..<rangeCount {
                guard let first = reader.count(), let length = reader.count() else { return nil }
                shard.buckets.append(first..<first + length)
            }
            shards.append(shard)
        }
        return shards
    }

    private static func nextIDs(_ reader: inout ByteReader) -> [String: UInt64]? {
        guard let count = reader.count(), count <= Limits.kinds else { return nil }
        var nextIDs: [String: UInt64] = [:]
        for _ in 0..<count {
            guard let kind = reader.text(), let next = reader.littleEndian(UInt64.self) else { return nil }
            nextIDs[kind] = next
        }
        return nextIDs
    }
}
