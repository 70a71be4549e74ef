import Base
import Placement
import ServiceKit

/// What operators see of a coordinator.
extension PlacementNode {
    /// For `/status`.
    package var statusMembers: [JSON.Member] {
        // The cluster is shown once, by who leads.
        let raft = isAlone ? [] : raftMembers
        return raft + (isAlone || ledger.isLeading ? clusterMembers : [])
    }

    private var raftMembers: [JSON.Member] {
        let status = raftStatus
        return [
            .init("raft", .text(ledger.isLeading ? "leads" : "follows")),
            .init("leader", .integer(Int64(status.leader?.rawValue ?? 0))),
            .init("term", .integer(Int64(clamping: status.term.rawValue))),
            .init("committed", .integer(Int64(clamping: status.commit.rawValue))),
            .init("coordinators", .array(status.membership.voters.map { .integer(Int64($0.rawValue)) })),
        ]
    }

    private var clusterMembers: [JSON.Member] {
        guard let map = ledger.publishedMap else { return [] }
        return [
            .init("cluster", .text(String(map.cluster, radix: 16))),
            .init("epoch", .integer(Int64(map.epoch.rawValue))),
            .init("buckets", .integer(Int64(map.bucketCount))), .init("served", .bool(map.isServed)),
            .init("replicationFactor", .integer(Int64(ledger.state.settings.replicationFactor))),
            .init("replicaLimit", .integer(Int64(ledger.state.replicaLimit))),
            .init("strategy", .text(ledger.state.settings.strategy.row.name)),
            .init("watchers", .integer(Int64(service.watcherCount))),
            .init(
                "nodes",
                .array(
                    map.nodes.map { node in
                        .object([
                            .init("id", .integer(Int64(node.id.rawValue))), .init("uid", .text(node.uid.description)),
                            .init("state", .text(node.state == .up ? "up" : "down")),
                            .init("zone", .text(node.zone)), .init("draining", .bool(node.isDraining)),
                            .init("addresses", .array(node.addresses.map { .text($0) })),
                            .init("fencingToken", .integer(Int64(clamping: node.fencingToken))),
                        ])
                    })),
            .init("shards", .array(map.shards.map { .object(Self.members(of: $0) + reported(of: $0)) })),
        ]
    }

    /// What the map says of a shard.
    private static func members(of shard: ShardMap.Shard) -> [JSON.Member] {
        func node(_ id: NodeID?) -> JSON { .integer(Int64(id?.rawValue ?? 0)) }
        return [
            .init("id", .integer(Int64(shard.id.rawValue))), .init("leader", node(shard.leader)),
            .init("term", .integer(Int64(clamping: shard.term.rawValue))),
            .init("replicas", .array(shard.voters.map { node($0) })),
            .init("learners", .array(shard.learners.map { node($0) })),
            .init("settled", .bool(shard.isInForce && shard.membership.move == nil)),
            .init(
                "buckets",
                .array(
                    shard.buckets.map { range in
                        .array([.integer(Int64(range.lowerBound)), .integer(Int64(range.upperBound))])
                    })),
            .init("version", .integer(Int64(clamping: shard.version))),
            .init("versionInForce", .integer(Int64(clamping: shard.versionInForce))),
            .init("adding", node(shard.membership.move?.adding)),
            .init("replacing", node(shard.membership.move?.replacing)),
            .init("nextLeader", node(shard.membership.transfer)),
        ]
    }

    /// What its replicas said last: nothing of those that have said nothing since this coordinator leads.
    private func reported(of shard: ShardMap.Shard) -> [JSON.Member] {
        let reports = service.director.reports
        guard let leader = shard.leader, let led = reports[shard.id, leader] else { return [] }
        let held = shard.replicas.compactMap { node in reports[shard.id, node].map { (node, $0.applied.rawValue) } }
        let end = led.committed.rawValue
        return [
            .init("bytes", .integer(Int64(clamping: led.bytes))), .init("rate", .integer(Int64(clamping: led.rate))),
            .init("committed", .integer(Int64(clamping: end))),
            .init(
                "applied",
                .array(
                    held.map { node, applied in
                        .object([
                            .init("node", .integer(Int64(node.rawValue))),
                            .init("applied", .integer(Int64(clamping: applied))),
                            .init("lag", .integer(Int64(clamping: end > applied ? end &- applied : 0))),
                        ])
                    })),
        ]
    }

    /// Rows of `/metrics`.
    package func registerMetrics(_ metrics: Metrics) {
        metrics.sampledGauge("orbit_placement_epoch", help: "Version of the shard map") { [self] in
            Double(ledger.publishedMap?.epoch.rawValue ?? 0)
        }
        metrics.sampledGauge("orbit_placement_nodes_up", help: "Nodes that hold a lease") { [self] in
            Double(ledger.state.leaseHolders.count)
        }
        metrics.sampledGauge("orbit_placement_watchers", help: "Streams that watch the shard map") { [self] in
            Double(service.watcherCount)
        }
        metrics.sampledGauge("orbit_placement_leading", help: "1 while this coordinator leads") { [self] in
            ledger.isLeading ? 1 : 0
        }
        metrics.sampledGauge("orbit_placement_served", help: "1 while every shard has a leader that is up") { [self] in
            ledger.publishedMap?.isServed == true ? 1 : 0
        }
    }
}
