import Base

/// What changes the coordinator's state, and an entry of its log. Raw values of kinds are on disk: never renumber.
package enum PlacementCommand: Hashable, Sendable {
    /// Once per cluster: how the keys are cut, and how many nodes share the shards out at first.
    case createCluster(id: UInt64, bucketCount: Int, shardCount: Int, nodeCount: Int)
    /// A life of a node begins.
    case registerNode(NodeRegistration)
    /// The lease of that registration ran out, or was given back.
    case expireLease(node: NodeID, fencingToken: UInt64)
    /// The node holds no shard and is not coming back.
    case removeNode(NodeID)
    /// A range of numbers that nobody else ever gets.
    case allocateIDs(kind: String, count: UInt64)
    /// All of the state: what came before it in the log is not needed any more.
    case snapshot(PlacementState)
    /// The node is to give up its replicas, or may have some again.
    case setDraining(NodeID, Bool)
    /// What an operator sets.
    case configure(PlacementSettings)
    /// From now on the nodes can keep so many replicas of a shard.
    case allowReplicas(Int)
    /// Who leads, and what is in force.
    case reportLeaders([LeaderReport])
    /// A step that the planner proposed.
    case move(PlacementMove)
}

/// What a node says of itself when it starts.
package struct NodeRegistration: Hashable, Sendable {
    package var uid: NodeUID
    package var addresses: [String]
    /// Rises with every start of the node.
    package var incarnation: UInt64
    package var zone: String
    /// The common name of the certificate it came with; empty over a Unix socket.
    package var certificateName: String

    package init(
        uid: NodeUID, addresses: [String], incarnation: UInt64, zone: String = "", certificateName: String = ""
    ) {
        self.uid = uid
        self.addresses = addresses
        self.incarnation = incarnation
        self.zone = zone
        self.certificateName = certificateName
    }
}

/// What the leader of a shard says of it.
package struct LeaderReport: Hashable, Sendable {
    package var shard: ShardID
    package var leader: NodeID
    package var term: Term
    /// The newest version of the planned membership that is in force.
    package var version: UInt64

    package init(shard: ShardID, leader: NodeID, term: Term, version: UInt64) {
        self.shard = shard
        self.leader = leader
        self.term = term
        self.version = version
    }
}

extension PlacementCommand {
    /// A registration without zone and certificate.
    package static func registerNode(uid: NodeUID, addresses: [String], incarnation: UInt64) -> PlacementCommand {
        .registerNode(NodeRegistration(uid: uid, addresses: addresses, incarnation: incarnation))
    }
}

/// The form of commands on disk: format version, kind, then fixed-width little-endian numbers and varint-length texts.
/// Format 1, before shards had several replicas, is still read; format 2 is written.
extension PlacementCommand {
    static let formatVersion: UInt8 = 2

    package func encode(into buffer: inout ByteBuffer) {
        buffer.append(Self.formatVersion)
        switch self {
        case .createCluster(let id, let bucketCount, let shardCount, let nodeCount):
            buffer.append(1 as UInt8)
            buffer.append(littleEndian: id)
            for count in [bucketCount, shardCount, nodeCount] { buffer.append(varint: UInt64(count)) }
        case .registerNode(let registration):
            buffer.append(2 as UInt8)
            buffer.append(registration.uid.bytes)
            buffer.append(littleEndian: registration.incarnation)
            buffer.append(addresses: registration.addresses)
            buffer.append(delimited: registration.zone)
            buffer.append(delimited: registration.certificateName)
        case .expireLease(let node, let fencingToken):
            buffer.append(3 as UInt8)
            buffer.append(littleEndian: node.rawValue)
            buffer.append(littleEndian: fencingToken)
        case .removeNode(let node):
            buffer.append(4 as UInt8)
            buffer.append(littleEndian: node.rawValue)
        case .allocateIDs(let kind, let count):
            buffer.append(5 as UInt8)
            buffer.append(delimited: kind)
            buffer.append(littleEndian: count)
        case .snapshot(let state):
            buffer.append(6 as UInt8)
            state.encode(into: &buffer)
        case .setDraining(let node, let isDraining):
            buffer.append(7 as UInt8)
            buffer.append(littleEndian: node.rawValue)
            buffer.append(isDraining ? 1 : 0 as UInt8)
        case .configure(let settings):
            buffer.append(8 as UInt8)
            settings.encode(into: &buffer)
        case .allowReplicas(let limit):
            buffer.append(9 as UInt8)
            buffer.append(varint: UInt64(limit))
        case .reportLeaders(let reports):
            buffer.append(10 as UInt8)
            buffer.append(varint: UInt64(reports.count))
            for report in reports { report.encode(into: &buffer) }
        case .move(let move):
            buffer.append(11 as UInt8)
            move.encode(into: &buffer)
        }
    }

    /// Reads an entry; `corruption` when it is not one, `featureNotSupported` when a newer version wrote it.
    package init(decoding bytes: ByteView) throws(DatabaseError) {
        var reader = ByteReader(bytes)
        guard let version = reader.byte() else { throw Self.corrupt }
        guard (1...Self.formatVersion).contains(version) else {
            throw DatabaseError(.featureNotSupported, "placement log entry of format \(version): use a newer version")
        }
        guard let command = try Self.read(&reader, format: version), reader.isAtEnd else { throw Self.corrupt }
        self = command
    }

    static let corrupt = DatabaseError(.corruption, "damaged entry in the placement log")

    private static func read(_ reader: inout ByteReader, format: UInt8) throws(DatabaseError) -> PlacementCommand? {
        switch reader.byte() {
        case 1:
            guard let id = reader.littleEndian(UInt64.self), let buckets = reader.count(), let shards = reader.count(),
                let nodes = reader.count()
            else { return nil }
            return .createCluster(id: id, bucketCount: buckets, shardCount: shards, nodeCount: nodes)
        case 2:
            guard let uid = reader.view(16).flatMap({ NodeUID($0) }),
                let incarnation = reader.littleEndian(UInt64.self),
                let addresses = reader.addresses()
            else { return nil }
            var registration = NodeRegistration(uid: uid, addresses: addresses, incarnation: incarnation)
            if format > 1 {
                guard let zone = reader.text(), let name = reader.text() else { return nil }
                (registration.zone, registration.certificateName) = (zone, name)
            }
            return .registerNode(registration)
        case 3:
            guard let node = reader.littleEndian(UInt32.self), let token = reader.littleEndian(UInt64.self) else {
                return nil
            }
            return .expireLease(node: NodeID(rawValue: node), fencingToken: token)
        case 4:
            return reader.littleEndian(UInt32.self).map { .removeNode(NodeID(rawValue: $0)) }
        case 5:
            guard let kind = reader.text(), let count = reader.littleEndian(UInt64.self) else { return nil }
            return .allocateIDs(kind: kind, count: count)
        case 6:
            return .snapshot(try PlacementState(decoding: &reader, format: format))
        case let kind?:
            return format > 1 ? readOfFormat2(kind, &reader) : nil
        case nil:
            return nil
        }
    }

    /// The kinds that format 2 added.
    private static func readOfFormat2(_ kind: UInt8, _ reader: inout ByteReader) -> PlacementCommand? {
        switch kind {
        case 7:
            guard let node = reader.littleEndian(UInt32.self), let isDraining = reader.flag() else { return nil }
            return .setDraining(NodeID(rawValue: node), isDraining)
        case 8:
            return PlacementSettings(&reader).map { .configure($0) }
        case 9:
            return reader.count().map { .allowReplicas($0) }
        case 10:
            guard let count = reader.count(), count <= PlacementState.Limits.shards else { return nil }
            var reports: [LeaderReport] = []
            for _ in 0..<count {
                guard let report = LeaderReport(&reader) else { return nil }
                reports.append(report)
            }
            return .reportLeaders(reports)
        case 11:
            return PlacementMove(&reader).map { .move($0) }
        default:
            return nil
        }
    }
}

extension LeaderReport {
    fileprivate func encode(into buffer: inout ByteBuffer) {
        buffer.append(littleEndian: shard.rawValue)
        buffer.append(littleEndian: leader.rawValue)
        buffer.append(littleEndian: term.rawValue)
        buffer.append(varint: version)
    }

    fileprivate init?(_ reader: inout ByteReader) {
        guard let shard = reader.littleEndian(UInt32.self), let leader = reader.littleEndian(UInt32.self),
            let term = reader.littleEndian(UInt64.self), let version = reader.varint()
        else { return nil }
        self.init(
            shard: ShardID(rawValue: shard), leader: NodeID(rawValue: leader), term: Term(rawValue: term),
            version: version)
    }
}

/// Kind, shard, node, and the node that is replaced or 0. Raw values of kinds are on disk: never renumber.
extension PlacementMove {
    fileprivate func encode(into buffer: inout ByteBuffer) {
        let (kind, replacing): (UInt8, NodeID?) =
            switch self {
            case .addReplica(_, _, let replacing): (1, replacing)
            case .promote(_, _, let replacing): (2, replacing)
            case .removeReplica: (3, nil)
            case .keepReplica: (4, nil)
            case .transferLeader: (5, nil)
            }
        buffer.append(kind)
        for raw in [shard.rawValue, node.rawValue, replacing?.rawValue ?? 0] { buffer.append(littleEndian: raw) }
    }

    fileprivate init?(_ reader: inout ByteReader) {
        guard let kind = reader.byte(), let shard = reader.littleEndian(UInt32.self).map({ ShardID(rawValue: $0) }),
            let node = reader.node()?.id, let replacing = reader.node()
        else { return nil }
        switch kind {
        case 1: self = .addReplica(shard, node, replacing: replacing.id)
        case 2: self = .promote(shard, node, replacing: replacing.id)
        case 3: self = .removeReplica(shard, node)
        case 4: self = .keepReplica(shard, node)
        case 5: self = .transferLeader(shard, to: node)
        default: return nil
        }
        guard kind <= 2 || replacing.id == nil else { return nil }
    }
}

extension ByteBuffer {
    mutating func append(delimited text: String) {
        append(varint: UInt64(text.utf8.count))
        append(text: text)
    }

    mutating func append(addresses: [String]) {
        append(varint: UInt64(addresses.count))
        for address in addresses { append(delimited: address) }
    }
}

extension ByteReader {
    /// A number of things; capped so that arithmetic on it cannot overflow.
    mutating func count() -> Int? { varint().flatMap { $0 <= 1 << 32 ? Int($0) : nil } }

    /// Valid UTF-8 only: other bytes would change when they are written again.
    mutating func text() -> String? { delimited().flatMap { String(validating: $0, as: UTF8.self) } }

    mutating func addresses() -> [String]? {
        guard let count = count(), count <= remaining else { return nil }
        var result: [String] = []
        for _ in 0..<count {
            guard let address = text() else { return nil }
            result.append(address)
        }
        return result
    }
}
