import Base

/// What changes the coordinator's state, and an entry of its log. Raw values of kinds are on disk: never renumber.
package enum PlacementCommand: Hashable, Sendable {
    /// Once per cluster: how the keys are cut, and how many nodes share the shards out at first.
    case createCluster(id: UInt64, bucketCount: Int, shardCount: Int, nodeCount: Int)
    /// A life of a node. `incarnation` rises with every start of the node.
    case registerNode(uid: NodeUID, addresses: [String], incarnation: UInt64)
    /// The lease of that registration ran out, or was given back.
    case expireLease(node: NodeID, fencingToken: UInt64)
    /// The node holds no shard and is not coming back.
    case removeNode(NodeID)
    /// A range of numbers that nobody else ever gets.
    case allocateIDs(kind: String, count: UInt64)
    /// All of the state: what came before it in the log is not needed any more.
    case snapshot(PlacementState)
}

/// The form of commands on disk: format version, kind, then fixed-width little-endian numbers and varint-length texts.
extension PlacementCommand {
    static let formatVersion: UInt8 = 1

    package func encode(into buffer: inout ByteBuffer) {
        buffer.append(Self.formatVersion)
        switch self {
        case .createCluster(let id, let bucketCount, let shardCount, let nodeCount):
            buffer.append(1 as UInt8)
            buffer.append(littleEndian: id)
            for count in [bucketCount, shardCount, nodeCount] { buffer.append(varint: UInt64(count)) }
        case .registerNode(let uid, let addresses, let incarnation):
            buffer.append(2 as UInt8)
            buffer.append(uid.bytes)
            buffer.append(littleEndian: incarnation)
            buffer.append(addresses: addresses)
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
        }
    }

    /// Reads an entry; `corruption` when it is not one, `featureNotSupported` when a newer version wrote it.
    package init(decoding bytes: ByteView) throws(DatabaseError) {
        var reader = ByteReader(bytes)
        guard let version = reader.byte() else { throw Self.corrupt }
        guard version == Self.formatVersion else {
            throw DatabaseError(.featureNotSupported, "placement log entry of format \(version): use a newer version")
        }
        guard let command = try Self.read(&reader), reader.isAtEnd else { throw Self.corrupt }
        self = command
    }

    static let corrupt = DatabaseError(.corruption, "damaged entry in the placement log")

    private static func read(_ reader: inout ByteReader) throws(DatabaseError) -> PlacementCommand? {
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
            return .registerNode(uid: uid, addresses: addresses, incarnation: incarnation)
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
            return .snapshot(try PlacementState(decoding: &reader))
        default:
            return nil
        }
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
