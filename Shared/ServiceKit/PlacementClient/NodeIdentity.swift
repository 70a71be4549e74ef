import Base
import Placement

/// Who a storage node is, from its data directory: a uid made once, the number of this start, and its cluster.
///
/// File `identity`: lines `key = value`. It is written durably before it is used, so that no two starts share an
/// incarnation and the coordinator can tell a late message of an earlier life.
package struct NodeIdentity: Hashable, Sendable {
    package let uid: NodeUID
    package let incarnation: UInt64
    /// 0 until the node has joined one.
    package private(set) var cluster: UInt64
    /// Its number in the cluster; nil until it has been given one (or by a release that did not write it down).
    package private(set) var node: NodeID?

    private static let fileName = "identity"

    /// Reads the identity, or makes one in a new directory, and counts this start.
    package static func open(
        _ directory: String, disk: any Disk, random: any RandomSource = SystemRandom()
    ) throws -> NodeIdentity {
        let path = "\(directory)/\(fileName)"
        var random = random
        var identity: NodeIdentity
        if disk.exists(path) {
            let text = String(decoding: try disk.read(path, limit: 4096), as: UTF8.self)
            guard let known = NodeIdentity(parsing: text) else {
                throw DatabaseError(
                    .corruption, "\(path) is damaged: restore it from a copy, or the node's data belongs to nobody")
            }
            identity = NodeIdentity(
                uid: known.uid, incarnation: known.incarnation + 1, cluster: known.cluster, node: known.node)
        } else {
            try makeDurable(directory, disk)
            identity = NodeIdentity(
                uid: NodeUID(high: random.next(), low: random.next()), incarnation: 1, cluster: 0, node: nil)
        }
        try identity.save(directory, disk)
        return identity
    }

    /// Each directory that is new must be durable in the one above it, or power loss takes the identity away with it.
    private static func makeDurable(_ directory: String, _ disk: any Disk) throws {
        var parents = [disk.directory(of: directory)]
        while let last = parents.last, !disk.exists(last), last != disk.directory(of: last) {
            parents.append(disk.directory(of: last))
        }
        try disk.makeDirectory(directory)
        for parent in parents.reversed() { try disk.syncDirectory(parent) }
    }

    /// The number under which the node in `directory` last served, without counting a start; nil if that is not known.
    package static func lastNode(_ directory: String, disk: any Disk) -> NodeID? {
        guard let bytes = try? disk.read("\(directory)/\(fileName)", limit: 4096) else { return nil }
        return NodeIdentity(parsing: String(decoding: bytes, as: UTF8.self))?.node
    }

    /// Remembers the cluster that the node joined, and as whom; from then on no other accepts its data.
    package mutating func join(_ cluster: UInt64, as node: NodeID, _ directory: String, disk: any Disk) throws {
        guard self.cluster != cluster || self.node != node else { return }
        guard self.cluster == 0 || self.cluster == cluster else {
            throw DatabaseError(.invalidArgument, "the data in \(directory) belongs to another cluster")
        }
        (self.cluster, self.node) = (cluster, node)
        try save(directory, disk)
    }

    private func save(_ directory: String, _ disk: any Disk) throws {
        let number = node.map { "node = \($0.rawValue)\n" } ?? ""
        let text = "uid = \(uid)\nincarnation = \(incarnation)\ncluster = \(cluster)\n\(number)"
        try Bytes(text.utf8).withUnsafeBytes { try disk.replace("\(directory)/\(Self.fileName)", with: $0) }
    }

    private init(uid: NodeUID, incarnation: UInt64, cluster: UInt64, node: NodeID?) {
        self.uid = uid
        self.incarnation = incarnation
        self.cluster = cluster
        self.node = node
    }

    private init?(parsing text: String) {
        var values: [Substring: Substring] = [:]
        for line in text.split(separator: "\n") {
            let parts = line.split(separator: " ")
            guard parts.count == 3, parts[1] == "=" else { return nil }
            values[parts[0]] = parts[2]
        }
        guard let uid = values["uid"].flatMap({ NodeUID(parsing: $0) }),
            let incarnation = values["incarnation"].flatMap({ UInt64($0) }), incarnation < .max,
            let cluster = values["cluster"].flatMap({ UInt64($0) })
        else { return nil }
        let node = values["node"].flatMap { UInt32($0) }
        guard node != nil || values["node"] == nil else { return nil }
        self.init(
            uid: uid, incarnation: incarnation, cluster: cluster, node: node.map { NodeID(rawValue: $0) })
    }
}
