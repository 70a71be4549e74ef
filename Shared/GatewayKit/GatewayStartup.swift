import Base
import Crypto
import Glibc
import Net
import Placement
import ServiceKit

/// What the process asks of the system when it starts.
package enum ProcessFacts {
    package static var id: Int32 { getpid() }

    /// As many descriptors as the system lets us have: each client needs one.
    package static func raiseDescriptorLimit() {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return }
        limit.rlim_cur = limit.rlim_max
        setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    }
}

extension ShardMap {
    /// The map of a cluster that is one node with one shard.
    package init(soleNode address: String) throws(DatabaseError) {
        let id = NodeID(rawValue: 1)
        try self.init(
            epoch: MapEpoch(rawValue: 1), cluster: 0, bucketCount: 64,
            shards: [Shard(id: ShardID(rawValue: 1), buckets: [0..<64], leader: id, replicas: [id])],
            nodes: [
                Node(
                    id: id, uid: NodeUID(high: 0, low: 1), addresses: [address], fencingToken: 0, state: .up)
            ])
    }
}

/// Has the router follow the coordinator's map, or adopt the one of a cluster that is one node.
package func watchPlacement(_ service: Service, _ router: NodeRouter, _ tls: TLSContext?) throws -> PlacementWatcher? {
    let options = service.configuration
    if let node = options.optionalString("node") {
        router.adopt(try ShardMap(soleNode: node))
        return nil
    }
    let watcher = PlacementWatcher(coordinators: try service.coordinators(tls: tls), logger: service.logger)
    watcher.onChange = { map in router.adopt(map) }
    watcher.start()
    return watcher
}

/// The TLS that clients see: options `client-cert`, `client-key` and `client-ca`.
package func clientTLS(_ options: Configuration) throws -> TLSContext {
    guard let certificate = options.optionalString("client-cert"), let key = options.optionalString("client-key") else {
        throw ConfigurationError("TLS for clients needs --client-cert and --client-key")
    }
    let disk = PosixDisk()
    let authorities = try options.optionalString("client-ca").map { try disk.read($0, limit: 1 << 20) }
    return try TLSContext(
        TLSContext.Settings(
            role: .server, certificate: try disk.read(certificate, limit: 1 << 20),
            privateKey: try disk.read(key, limit: 1 << 20), authorities: authorities,
            verification: authorities == nil ? .none : .required))
}
