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
            .init(
                "shards",
                .array(
                    map.shards.map { shard in
                        .object([
                            .init("id", .integer(Int64(shard.id.rawValue))),
                            .init("leader", .integer(Int64(shard.leader?.rawValue ?? 0))),
                            .init("term", .integer(Int64(clamping: shard.term.rawValue))),
                            .init("replicas", .array(shard.voters.map { .integer(Int64($0.rawValue)) })),
                            .init("learners", .array(shard.learners.map { .integer(Int64($0.rawValue)) })),
                            .init("settled", .bool(shard.isInForce && shard.membership.move == nil)),
                            .init(
                                "buckets",
                                .array(
                                    shard.buckets.map { range in
                                        .array([.integer(Int64(range.lowerBound)), .integer(Int64(range.upperBound))])
                                    })),
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
