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
                    state: state))
        }
        let shards = message.shards.map { shard in
            Shard(
                id: ShardID(rawValue: shard.id),
                buckets: shard.buckets.map { Int($0.first)..<Int($0.first) + Int($0.count) },
                leader: shard.leader == 0 ? nil : NodeID(rawValue: shard.leader),
                replicas: shard.replicas.map { NodeID(rawValue: $0) })
        }
        try self.init(
            epoch: MapEpoch(rawValue: message.epoch), cluster: message.cluster, bucketCount: Int(message.bucketCount),
            shards: shards, nodes: nodes)
    }
}

extension ShardMapMessage {
    /// The wire form of a map.
    package init(_ map: ShardMap) {
        self.init(
            epoch: map.epoch.rawValue, cluster: map.cluster, bucketCount: UInt32(map.bucketCount),
            shards: map.shards.map { shard in
                Shard(
                    id: shard.id.rawValue,
                    buckets: shard.buckets.map { BucketRange(first: UInt32($0.lowerBound), count: UInt32($0.count)) },
                    leader: shard.leader?.rawValue ?? 0, replicas: shard.replicas.map(\.rawValue))
            },
            nodes: map.nodes.map { node in
                Node(
                    id: node.id.rawValue, uid: node.uid.bytes, addresses: node.addresses,
                    fencingToken: node.fencingToken, state: UInt32(node.state.rawValue))
            })
    }
}
