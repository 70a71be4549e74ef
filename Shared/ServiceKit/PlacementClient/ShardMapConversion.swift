import Base
import Contracts
import Placement

extension ShardMap {
    /// A map from the wire; refused when it contradicts itself.
    package init(_ message: ShardMapMessage) throws(DatabaseError) {
        var nodes: [Node] = []
        for node in message.nodes {
            guard let uid = node.uid.withUnsafeBytes({ NodeUID($0) }) else {
                throw DatabaseError(.protocolViolation, "a node's uid has 16 bytes")
            }
            // A state of a later version is not `up` as we know it: nobody is sent there.
            let state = UInt8(exactly: node.state).flatMap { NodeState(rawValue: $0) } ?? .down
            nodes.append(
                Node(
                    id: NodeID(rawValue: node.id), uid: uid, addresses: node.addresses, fencingToken: node.fencingToken,
                    state: state, zone: node.zone, isDraining: node.isDraining))
        }
        var shards: [Shard] = []
        for shard in message.shards { shards.append(try Shard(shard)) }
        try self.init(
            epoch: MapEpoch(rawValue: message.epoch), cluster: message.cluster, bucketCount: Int(message.bucketCount),
            shards: shards, nodes: nodes)
    }
}

extension ShardMap.Shard {
    fileprivate init(_ message: ShardMapMessage.Shard) throws(DatabaseError) {
        func nodes(_ ids: [UInt32]) -> [NodeID] { ids.map { NodeID(rawValue: $0) } }
        func node(_ id: UInt32) -> NodeID? { id == 0 ? nil : NodeID(rawValue: id) }
        let membership = ShardMembership(
            voters: nodes(message.voters), learners: nodes(message.learners),
            move: node(message.adding).map { ReplicaMove(adding: $0, replacing: node(message.replacing)) },
            transfer: node(message.nextLeader))
        guard let membership else {
            throw DatabaseError(.protocolViolation, "the replicas of shard \(message.id) contradict each other")
        }
        self.init(
            id: ShardID(rawValue: message.id),
            buckets: message.buckets.map { Int($0.first)..<Int($0.first) + Int($0.count) },
            leader: node(message.leader), term: Term(rawValue: message.term), membership: membership,
            version: message.version, versionInForce: message.versionInForce)
    }
}

extension ShardMapMessage {
    /// The wire form of a map.
    package init(_ map: ShardMap) {
        self.init(
            epoch: map.epoch.rawValue, cluster: map.cluster, bucketCount: UInt32(map.bucketCount),
            shards: map.shards.map { Shard($0) }, nodes: map.nodes.map { Node($0) })
    }
}

extension ShardMapMessage.Shard {
    fileprivate init(_ shard: ShardMap.Shard) {
        self.init(
            id: shard.id.rawValue,
            buckets: shard.buckets.map {
                ShardMapMessage.BucketRange(first: UInt32($0.lowerBound), count: UInt32($0.count))
            },
            leader: shard.leader?.rawValue ?? 0, voters: shard.voters.map(\.rawValue))
        learners = shard.learners.map(\.rawValue)
        term = shard.term.rawValue
        (version, versionInForce) = (shard.version, shard.versionInForce)
        adding = shard.membership.move?.adding.rawValue ?? 0
        replacing = shard.membership.move?.replacing?.rawValue ?? 0
        nextLeader = shard.membership.transfer?.rawValue ?? 0
    }
}

extension ShardMapMessage.Node {
    fileprivate init(_ node: ShardMap.Node) {
        self.init(
            id: node.id.rawValue, uid: node.uid.bytes, addresses: node.addresses, fencingToken: node.fencingToken,
            state: UInt32(node.state.rawValue))
        zone = node.zone
        isDraining = node.isDraining
    }
}

extension ReplicaReport {
    /// A report from the wire; every number stands for itself.
    package init(_ message: ReplicaReportMessage) {
        self.init(
            shard: ShardID(rawValue: message.shard), term: Term(rawValue: message.term), isLeader: message.isLeader,
            version: message.membershipVersion, applied: LogIndex(rawValue: message.appliedIndex),
            committed: LogIndex(rawValue: message.committedIndex), bytes: message.bytes, rate: message.rate)
    }
}

extension ReplicaReportMessage {
    /// The wire form of a report.
    package init(_ report: ReplicaReport) {
        self.init(
            shard: report.shard.rawValue, term: report.term.rawValue, isLeader: report.isLeader,
            membershipVersion: report.version, appliedIndex: report.applied.rawValue,
            committedIndex: report.committed.rawValue, bytes: report.bytes, rate: report.rate)
    }
}
