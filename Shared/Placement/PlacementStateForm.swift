import Base

/// The state on disk, inside a snapshot entry: nodes, shards and ids in a fixed order, so that equal states have equal
/// bytes. Format 1 had no zones, certificates, terms, learners or settings.
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
            buffer.append(delimited: node.zone)
            buffer.append(node.isDraining ? 1 : 0 as UInt8)
            buffer.append(delimited: node.certificateName)
        }
        buffer.append(varint: UInt64(shards.count))
        for shard in shards {
            buffer.append(littleEndian: shard.id.rawValue)
            buffer.append(littleEndian: shard.leader?.rawValue ?? 0)
            buffer.append(nodes: shard.membership.voters)
            buffer.append(varint: UInt64(shard.buckets.count))
            for range in shard.buckets {
                buffer.append(varint: UInt64(range.lowerBound))
                buffer.append(varint: UInt64(range.count))
            }
            buffer.append(littleEndian: shard.term.rawValue)
            buffer.append(nodes: shard.membership.learners)
            let move = shard.membership.move
            for node in [move?.adding, move?.replacing, shard.membership.transfer] {
                buffer.append(littleEndian: node?.rawValue ?? 0)
            }
            buffer.append(varint: shard.version)
            buffer.append(varint: shard.versionInForce)
        }
        buffer.append(varint: UInt64(nextIDs.count))
        for (kind, next) in nextIDs.sorted(by: { $0.key < $1.key }) {
            buffer.append(delimited: kind)
            buffer.append(littleEndian: next)
        }
        settings.encode(into: &buffer)
        buffer.append(varint: UInt64(replicaLimit))
    }

    init(decoding reader: inout ByteReader, format: UInt8) throws(DatabaseError) {
        guard let cluster = reader.littleEndian(UInt64.self), let bucketCount = reader.count(),
            let nodeCount = reader.count(), let epoch = reader.littleEndian(UInt64.self),
            let lastNodeID = reader.littleEndian(UInt32.self), let lastToken = reader.littleEndian(UInt64.self),
            let nodes = Self.nodes(&reader, format), let shards = Self.shards(&reader, format),
            let nextIDs = Self.nextIDs(&reader)
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
        if format > 1 {
            guard let settings = PlacementSettings(&reader), let limit = reader.count(),
                (1...ShardMembership.voterLimit).contains(limit)
            else { throw PlacementCommand.corrupt }
            self.settings = settings
            replicaLimit = limit
        }
        // The map checks what commands take for granted: that buckets, shards and nodes fit together.
        guard self.cluster == nil || map != nil, nodes.values.allSatisfy({ $0.fencingToken <= lastToken }),
            nodes.keys.allSatisfy({ $0.rawValue <= lastNodeID })
        else { throw PlacementCommand.corrupt }
    }

    private static func nodes(_ reader: inout ByteReader, _ format: UInt8) -> [NodeID: Node]? {
        guard let count = reader.count(), count <= Limits.nodes else { return nil }
        var nodes: [NodeID: Node] = [:]
        for _ in 0..<count {
            guard let id = reader.littleEndian(UInt32.self), let uid = reader.view(16).flatMap({ NodeUID($0) }),
                let incarnation = reader.littleEndian(UInt64.self), let token = reader.littleEndian(UInt64.self),
                let state = reader.byte().flatMap({ NodeState(rawValue: $0) }), let addresses = reader.addresses()
            else { return nil }
            var node = Node(
                uid: uid, addresses: addresses, incarnation: incarnation, fencingToken: token, state: state)
            if format > 1 {
                guard let zone = reader.text(), let isDraining = reader.flag(), let name = reader.text() else {
                    return nil
                }
                (node.zone, node.isDraining, node.certificateName) = (zone, isDraining, name)
            }
            nodes[NodeID(rawValue: id)] = node
        }
        return nodes.count == count ? nodes : nil
    }

    private static func shards(_ reader: inout ByteReader, _ format: UInt8) -> [Shard]? {
        guard let count = reader.count(), count <= Limits.shards else { return nil }
        var shards: [Shard] = []
        for _ in 0..<count {
            guard let id = reader.littleEndian(UInt32.self), let leader = reader.node(), let voters = reader.nodes(),
                let rangeCount = reader.count(), rangeCount <= ShardMap.bucketLimit
            else { return nil }
            var shard = Shard(id: ShardID(rawValue: id), buckets: [], leader: leader.id)
            for _ in 0..<rangeCount {
                guard let first = reader.count(), let length = reader.count() else { return nil }
                shard.buckets.append(first..<first + length)
            }
            if format > 1 {
                guard read(&reader, voters, into: &shard) else { return nil }
            } else {
                guard let membership = ShardMembership(voters: voters, learners: [], move: nil, transfer: nil) else {
                    return nil
                }
                shard.membership = membership
                shard.version = voters.isEmpty ? 0 : 1
                shard.versionInForce = shard.version
            }
            shards.append(shard)
        }
        return shards
    }

    /// What format 2 knows of a shard beyond format 1.
    private static func read(_ reader: inout ByteReader, _ voters: [NodeID], into shard: inout Shard) -> Bool {
        guard let term = reader.littleEndian(UInt64.self), let learners = reader.nodes(), let adding = reader.node(),
            let replacing = reader.node(), let transfer = reader.node(), let version = reader.varint(),
            let versionInForce = reader.varint(), adding.id != nil || replacing.id == nil,
            let membership = ShardMembership(
                voters: voters, learners: learners,
                move: adding.id.map { ReplicaMove(adding: $0, replacing: replacing.id) }, transfer: transfer.id)
        else { return false }
        shard.term = Term(rawValue: term)
        shard.membership = membership
        (shard.version, shard.versionInForce) = (version, versionInForce)
        return true
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

extension PlacementSettings {
    func encode(into buffer: inout ByteBuffer) {
        buffer.append(varint: UInt64(replicationFactor))
        buffer.append(strategy.rawValue)
        buffer.append(littleEndian: replacementDelayMilliseconds)
    }

    init?(_ reader: inout ByteReader) {
        guard let factor = reader.count(), Self.replicationFactors.contains(factor),
            let strategy = reader.byte().flatMap({ PlacementStrategy(rawValue: $0) }),
            let delay = reader.littleEndian(UInt64.self)
        else { return nil }
        self.init(replicationFactor: factor, strategy: strategy, replacementDelayMilliseconds: delay)
    }
}

extension ByteBuffer {
    mutating func append(nodes: [NodeID]) {
        append(varint: UInt64(nodes.count))
        for node in nodes { append(littleEndian: node.rawValue) }
    }
}

extension ByteReader {
    mutating func flag() -> Bool? { byte().flatMap { $0 <= 1 ? $0 == 1 : nil } }

    /// A node that may be absent; nil when there are no bytes for it.
    mutating func node() -> (id: NodeID?, Void)? {
        littleEndian(UInt32.self).map { ($0 == 0 ? nil : NodeID(rawValue: $0), ()) }
    }

    /// The replicas of one shard.
    mutating func nodes() -> [NodeID]? {
        guard let count = count(), count <= ShardMembership.voterLimit else { return nil }
        var nodes: [NodeID] = []
        for _ in 0..<count {
            guard let node = littleEndian(UInt32.self) else { return nil }
            nodes.append(NodeID(rawValue: node))
        }
        return nodes
    }
}
