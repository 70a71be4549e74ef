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
    /// What is to be done to a shard is in the map.
    case movePlanned(PlacementMove)
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
        var zone = ""
        var isDraining = false
        /// The common name of the certificate it first registered with; nobody else may speak for it. Empty while it
        /// has only come over a Unix socket, whose peer the system vouches for.
        var certificateName = ""
    }

    /// A shard and its place.
    struct Shard: Hashable, Sendable {
        let id: ShardID
        var buckets: [Range<Int>]
        var leader: NodeID?
        var term = Term(rawValue: 0)
        var membership = ShardMembership()
        var version: UInt64 = 0
        var versionInForce: UInt64 = 0
    }

    /// Bounds on what a client may ask for, so that the state stays small.
    package enum Limits {
        static let nodes = 1024, shards = 16384, addresses = 16, addressBytes = 256, kinds = 256, kindBytes = 64
        static let zoneBytes = 64, nameBytes = 256
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
    /// What an operator has set.
    package internal(set) var settings = PlacementSettings()
    /// How many replicas of a shard the cluster's nodes can keep; at 1 nothing can move, because a move needs two.
    /// It only rises, with the release that all processes run.
    package internal(set) var replicaLimit = 1

    /// Before the cluster is created.
    package init() {}

    /// Applies a command, or refuses it and leaves the state as it is.
    package mutating func apply(_ command: PlacementCommand) throws(DatabaseError) -> [PlacementEvent] {
        switch command {
        case .createCluster(let id, let bucketCount, let shardCount, let nodeCount):
            try create(id: id, bucketCount: bucketCount, shardCount: shardCount, nodeCount: nodeCount)
        case .registerNode(let registration):
            try register(registration)
        case .expireLease(let node, let fencingToken):
            try expire(node, fencingToken)
        case .removeNode(let node):
            try remove(node)
        case .allocateIDs(let kind, let count):
            try allocate(kind: kind, count: count)
        case .snapshot(let state):
            install(state)
        case .setDraining(let node, let isDraining):
            try setDraining(node, isDraining)
        case .configure(let settings):
            try configure(settings)
        case .allowReplicas(let limit):
            try allowReplicas(limit)
        case .reportLeaders(let reports):
            note(reports)
        case .move(let move):
            try plan(move)
        }
    }

    /// The map at this epoch; nil until the cluster is created.
    package var map: ShardMap? {
        guard let cluster else { return nil }
        return try? ShardMap(
            epoch: epoch, cluster: cluster, bucketCount: bucketCount,
            shards: shards.map {
                ShardMap.Shard(
                    id: $0.id, buckets: $0.buckets, leader: $0.leader, term: $0.term, membership: $0.membership,
                    version: $0.version, versionInForce: $0.versionInForce)
            },
            nodes: nodes.map { id, node in
                ShardMap.Node(
                    id: id, uid: node.uid, addresses: node.addresses, fencingToken: node.fencingToken,
                    state: node.state, zone: node.zone, isDraining: node.isDraining)
            })
    }

    /// Nodes that hold no lease.
    package var downNodes: [NodeID] { nodes.filter { $0.value.state == .down }.keys.sorted() }

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
            return Shard(id: ShardID(rawValue: UInt32(index)), buckets: [range], leader: nil)
        }
        return [.clusterCreated(id: id), changeMap()]
    }

    private mutating func register(_ registration: NodeRegistration) throws(DatabaseError) -> [PlacementEvent] {
        guard cluster != nil else { throw DatabaseError(.unavailable, "the cluster is not created yet") }
        try Self.check(registration)
        let existing = nodes.first { $0.value.uid == registration.uid }
        try checkCertificate(of: registration, existing?.value)
        var node = Node(
            uid: registration.uid, addresses: registration.addresses, incarnation: registration.incarnation,
            fencingToken: 0, state: .up, zone: registration.zone, certificateName: registration.certificateName)
        if let (id, known) = existing.map({ ($0.key, $0.value) }) {
            guard node.incarnation >= known.incarnation else {
                throw DatabaseError(
                    .staleMap, "node \(id) has started again since: a process that is over tried to register")
            }
            if node.certificateName.isEmpty { node.certificateName = known.certificateName }
            node.isDraining = known.isDraining
            node.fencingToken = known.fencingToken
            // The answer was lost and the node asks again: it is the same life and keeps its token.
            if node == known { return [.nodeRegistered(id, fencingToken: known.fencingToken)] }
        }
        guard existing != nil || nodes.count < Limits.nodes else {
            throw DatabaseError(.limitExceeded, "a cluster has at most \(Limits.nodes) nodes")
        }
        let id = existing?.key ?? nextNodeID()
        lastFencingToken += 1
        node.fencingToken = lastFencingToken
        nodes[id] = node
        shareOut()
        return [.nodeRegistered(id, fencingToken: lastFencingToken), changeMap()]
    }

    private static func check(_ registration: NodeRegistration) throws(DatabaseError) {
        let isSane = registration.addresses.allSatisfy {
            !$0.isEmpty && $0.utf8.count <= Limits.addressBytes && !$0.utf8.contains(0)
        }
        guard (1...Limits.addresses).contains(registration.addresses.count), isSane else {
            throw DatabaseError(.invalidArgument, "a node registers 1 to \(Limits.addresses) addresses")
        }
        guard registration.zone.utf8.count <= Limits.zoneBytes,
            registration.zone.utf8.allSatisfy({ $0 > 0x20 && $0 != 0x7F })
        else {
            throw DatabaseError(.invalidArgument, "a zone's label has up to \(Limits.zoneBytes) bytes and no blanks")
        }
        guard registration.certificateName.utf8.count <= Limits.nameBytes else {
            throw DatabaseError(.invalidArgument, "the certificate's name is too long")
        }
    }

    /// A certificate is one node's: the first that a node registers with is its own for ever, and while it is up no
    /// other node may come with it. (A node that lost its directory comes back as a new one with the old certificate.)
    private func checkCertificate(of registration: NodeRegistration, _ known: Node?) throws(DatabaseError) {
        let name = registration.certificateName
        guard !name.isEmpty else { return }
        if let known, !known.certificateName.isEmpty, known.certificateName != name {
            throw DatabaseError(.permissionDenied, "the node registered with another certificate before")
        }
        let other = nodes.values.contains {
            $0.uid != registration.uid && $0.certificateName == name && $0.state == .up
        }
        guard !other else {
            throw DatabaseError(.permissionDenied, "another node is up with the certificate of \(name)")
        }
    }

    /// Whether the holder of a certificate may speak for a node; an empty name is a peer that the system vouches for.
    package func isCertificate(_ name: String, of node: NodeID) -> Bool {
        guard let known = nodes[node], !known.certificateName.isEmpty, !name.isEmpty else { return true }
        return known.certificateName == name
    }

    private mutating func nextNodeID() -> NodeID {
        lastNodeID += 1
        return NodeID(rawValue: lastNodeID)
    }

    /// Gives the shards their first nodes, once all nodes that the cluster starts with are there. Neighbouring shards
    /// lie on one node, and nodes differ by one shard at most; further replicas lie in other zones where there are any.
    /// Several replicas elect their leader; nodes that join later get theirs from the planner.
    private mutating func shareOut() {
        guard nodes.count == nodeCount, shards.allSatisfy({ $0.membership.voters.isEmpty }) else { return }
        let first = PlacementPlanner.firstVoters(
            shards: shards.count, zones: nodes.mapValues(\.zone),
            replicas: min(settings.replicationFactor, replicaLimit))
        for (index, voters) in first.enumerated() {
            shards[index].membership = ShardMembership(voters: voters)
            shards[index].version = 1
            shards[index].leader = voters.count == 1 ? voters.first : nil
            shards[index].versionInForce = voters.count == 1 ? 1 : 0
        }
    }

    private mutating func expire(_ id: NodeID, _ fencingToken: UInt64) throws(DatabaseError) -> [PlacementEvent] {
        try checkLease(id, fencingToken)
        nodes[id]?.state = .down
        endTransfers(to: id)
        return [.leaseExpired(id, fencingToken: fencingToken), changeMap()]
    }

    private mutating func remove(_ id: NodeID) throws(DatabaseError) -> [PlacementEvent] {
        guard let node = nodes[id] else { throw DatabaseError(.noSuchKey, "node \(id) is not registered") }
        guard node.state == .down else { throw DatabaseError(.busy, "node \(id) still holds a lease") }
        guard !shards.contains(where: { $0.membership.members.contains(id) }) else {
            throw DatabaseError(.busy, "node \(id) holds shards: drain it first")
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

    mutating func changeMap() -> PlacementEvent {
        epoch = MapEpoch(rawValue: epoch.rawValue + 1)
        return .mapChanged(epoch)
    }
}
