import Base
import ServiceKit

/// What `cluster.json` remembers of a cluster: what it was made with, and how it was last started.
///
/// The numbers of nodes, shards and coordinators are fixed when the cluster is made; the rest may differ from start to
/// start.
package struct ClusterState: Hashable, Sendable {
    package static let formatVersion: Int64 = 1

    package var options: ClusterOptions

    package init(options: ClusterOptions) { self.options = options }

    /// The document that is stored.
    package func encode() -> String {
        var more = options.replicationFactor.map { [JSON.Member("replicationFactor", .integer(Int64($0)))] } ?? []
        if !options.servesPostgres { more.append(.init("postgres", .bool(false))) }
        if !options.zones.isEmpty { more.append(.init("zones", .array(options.zones.map { .text($0) }))) }
        return JSON.object(
            [
                .init("format", .integer(Self.formatVersion)), .init("nodes", .integer(Int64(options.nodes))),
                .init("shards", .integer(Int64(options.shards))),
                .init("coordinators", .integer(Int64(options.coordinators))),
                .init("portOffset", .integer(Int64(options.portOffset))),
                .init("listen", .text(options.listen)), .init("fsync", .text(options.fsync)),
                .init("insecure", .bool(options.isInsecure)), .init("restart", .bool(options.restarts)),
            ] + more
        ).encoded(isPretty: true) + "\n"
    }

    /// Reads the stored document of the cluster in `data`.
    package init(parsing bytes: Bytes, data: String) throws {
        let document = try JSON(parsing: bytes)
        guard document["format"]?.integer == Self.formatVersion else {
            throw DatabaseError(.featureNotSupported, "cluster.json was written by another release of orbit")
        }
        var options = ClusterOptions(data: data)
        guard let nodes = document["nodes"]?.integer, let shards = document["shards"]?.integer,
            let portOffset = document["portOffset"]?.integer, (1...64).contains(nodes), (1...1024).contains(shards),
            (0...60_000).contains(portOffset), let listen = document["listen"]?.text,
            let fsync = document["fsync"]?.text, let isInsecure = document["insecure"]?.bool,
            let restarts = document["restart"]?.bool
        else { throw DatabaseError(.corruption, "cluster.json lacks a member or holds a number out of range") }
        options.nodes = Int(nodes)
        options.shards = Int(shards)
        options.portOffset = Int(portOffset)
        options.listen = listen
        options.fsync = fsync
        options.isInsecure = isInsecure
        options.restarts = restarts
        // Clusters of before there could be several have one.
        let coordinators = document["coordinators"]?.integer ?? 1
        guard coordinators == 1 || coordinators == 3 else {
            throw DatabaseError(.corruption, "cluster.json holds a number out of range")
        }
        options.coordinators = Int(coordinators)
        if let factor = document["replicationFactor"]?.integer {
            guard (1...9).contains(factor) else {
                throw DatabaseError(.corruption, "cluster.json holds a number out of range")
            }
            options.replicationFactor = Int(factor)
        }
        options.servesPostgres = document["postgres"]?.bool ?? true
        options.zones = (document["zones"]?.elements ?? []).compactMap(\.text)
        self.options = options
    }

    /// The state of the cluster in `data`, or nil when there is none yet.
    static func load(data: String) throws -> ClusterState? {
        guard let bytes = SmallFile.read(ClusterPaths(data: data).state) else { return nil }
        return try ClusterState(parsing: bytes, data: data)
    }
}
