// The coordinator: keeps who is a member, who holds which shard and who holds a lease, and tells everybody.
//
// One loop thread decides, one log thread makes durable. Nothing is said before it is durable. Data does not pass
// through here: while the coordinator is away the cluster goes on with the map it has, until leases run out. Of three
// one leads; while two of them are there the cluster has a coordinator.

import Base
import Crypto
import Glibc
import Net
import Placement
import ServiceKit

let description = ServiceDescription(
    role: "coordinator",
    summary: "Keeps the cluster's membership, leases and shard map, and tells nodes and gateways of every change.",
    options: [
        ConfigurationOption("data", .path, default: "data/coordinator", help: "Directory of its log"),
        ConfigurationOption(
            "listen", .list, default: "127.0.0.1:50050", help: "Addresses to serve: host:port (TLS) and unix:/path"),
        ConfigurationOption(
            "nodes", .integer(1...1024), default: "1", help: "Nodes that share the shards out when the cluster starts"),
        ConfigurationOption(
            "shards", .integer(1...16384), help: "Shards of a new cluster (default: one per node)"),
        ConfigurationOption(
            "buckets", .integer(1...16384), default: "64", help: "Buckets of a new cluster: a power of two, for ever"),
        ConfigurationOption(
            "replication-factor", .integer(1...9),
            help: "Replicas of a shard (default 3), fewer when there are fewer nodes"),
        ConfigurationOption(
            "placement", .choice(PlacementStrategy.allCases.map(\.row.name)),
            help: "What is evened out: spread (numbers; the default), least-loaded (bytes and work), sticky (nothing)"),
        ConfigurationOption(
            "replacement-delay", .duration, help: "How long a node may be down before it is replaced (default 5m)"),
        ConfigurationOption(
            "id", .integer(1...9999), default: "1", help: "The number of this coordinator among several"),
        ConfigurationOption(
            "peers", .list,
            help: "All coordinators where there are several (3 or 5), this one too: 1=host:port,2=…,3=…; for ever"),
        ConfigurationOption("lease", .duration, default: "10s", help: "How long a silent node counts as a member"),
    ],
    check: { configuration in
        try configuration.checkAddresses("listen")
        try checkPeers(configuration, configuration.clusterTLS(.client))
        try checkLease(configuration)
    })

@Sendable func checkLease(_ configuration: Configuration) throws {
    guard (500...3_600_000).contains(configuration.milliseconds("lease")) else {
        throw ConfigurationError("--lease takes 500ms to 1h")
    }
}

/// The coordinators as configured; every one of them has the TLS that its addresses need.
@discardableResult
@Sendable func checkPeers(_ configuration: Configuration, _ tls: TLSContext?) throws -> CoordinatorGroup {
    let group = try CoordinatorGroup(id: configuration.integer("id"), members: configuration.list("peers"))
    for address in group.addresses.values.joined() { _ = try configuration.requireTLS(tls, for: address) }
    return group
}

Service.run(description) { service in
    let configuration = service.configuration
    var settings = PlacementNode.Settings(directory: configuration.string("data"))
    settings.nodeCount = configuration.integer("nodes")
    settings.shardCount = configuration.optionalInteger("shards") ?? settings.nodeCount
    settings.bucketCount = configuration.integer("buckets")
    settings.leaseMilliseconds = configuration.milliseconds("lease")
    try checkLease(configuration)
    settings.replicationFactor = configuration.optionalInteger("replication-factor")
    settings.strategy = configuration.optionalString("placement").flatMap { PlacementStrategy(named: $0) }
    settings.replacementDelayMilliseconds = configuration.optionalInteger("replacement-delay").map {
        UInt64(clamping: $0)
    }
    let clientTLS = try configuration.clusterTLS(.client)
    settings.group = try checkPeers(configuration, clientTLS)
    let disk = PosixDisk()
    let lock = try DirectoryLock(settings.directory, disk: disk)
    let access = PlacementAccess(user: getuid(), isInsecure: configuration.bool("insecure"))
    let tls = try service.clusterTLS(.server)
    let node = try PlacementNode(
        settings, loop: service.loop, disk: disk, access: access, logger: service.logger, tls: clientTLS,
        metrics: service.metrics)
    for address in try service.listenAddresses() {
        let listener = try node.server.listen(on: address, tls: try service.requireTLS(tls, for: address))
        service.addresses.append(listener.boundAddress)
    }
    service.dataDirectory = settings.directory
    service.readiness("placement") { node.readinessComplaint }
    service.status { node.statusMembers }
    node.registerMetrics(service.metrics)
    service.loop.schedule(afterMilliseconds: 100, repeating: true) {
        let isServing = node.readinessComplaint == nil && !service.isDraining
        for name in ["", "orbit.v1.PlacementService"] { node.health.set(isServing ? .serving : .notServing, for: name) }
    }
    service.onDrain { done in
        node.drain {
            withExtendedLifetime(lock) { done() }
        }
    }
}
