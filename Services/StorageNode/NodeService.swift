import Base
import Net
import ServiceKit

// How a node shows itself: its gRPC methods, its metrics, its lines of `orbit status`.

extension Node {
    /// Offers the invocation service to whom `access` lets in, the directory of actors, sagas, and the feed of changes.
    func register(on server: GRPCServer, access: InvocationAccess, feedLinks: FeedLinks? = nil) {
        let feeds = ChangeFeedService(self, feedLinks ?? FeedLinks(loop: loop, tls: nil))
        feeds.register(on: server)
        changeFeeds = feeds
        for (method, isUnary) in [("Stream", false), ("Invoke", true)] {
            server.register(path: "/orbit.v1.InvocationService/" + method) { [self] stream in
                InvocationStream(
                    loop: loop, node: self, channel: stream, isUnary: isUnary, rights: access.rights(of: stream.peer))
            }
        }
        let directory = DirectoryService(self)
        directory.register(on: server)
        SagaService(self, directory).register(on: server)
        TransactionService(self, access).register(on: server)
        BackupService(self).register(on: server)
    }

    func registerMetrics(_ metrics: Metrics) {
        registerHistory(metrics)
        metrics.sampledCounter("orbit_invocations_total", help: "Invocations received") { [self] in Double(invocations)
        }
        metrics.sampledGauge("orbit_shards_led", help: "Shards this node leads") { [self] in
            Double(executors.count { $0.isServing })
        }
        metrics.sampledGauge("orbit_overlay_bytes", help: "Applied and not yet in the store") { [self] in
            Double(executors.reduce(0) { $0 + $1.store.overlayBytes })
        }
        metrics.sampledGauge("orbit_activations", help: "Actors in memory") { [self] in
            Double(executors.reduce(0) { $0 + $1.activations })
        }
        metrics.sampledGauge("orbit_outcomes", help: "Outcomes of calls with tokens that led shards remember") {
            [self] in
            Double(executors.reduce(0) { $0 + $1.outcomes.count })
        }
        registerTransactions(metrics)
        homes?.register(metrics)
        queries?.register(metrics)
        columns.register(metrics)
        metrics.sampledGauge("orbit_change_feeds", help: "Subscribers of changes, of shards that are led here") {
            [self] in
            Double(executors.reduce(0) { $0 + ($1.feed?.subscriberCount ?? 0) })
        }
        registerSagas(metrics)
        metrics.sampledCounter("orbit_replica_reads_total", help: "Reads answered as a follower") { [self] in
            Double(executors.reduce(0) { $0 + $1.reads.answered })
        }
        metrics.sampledCounter("orbit_replica_reads_refused_total", help: "Reads refused as too stale") { [self] in
            Double(executors.reduce(0) { $0 + $1.reads.refused })
        }
        metrics.sampledCounter("orbit_log_bytes_total", help: "Bytes written to the log") { [self] in
            Double(logStatistics.bytes)
        }
        metrics.sampledCounter("orbit_log_syncs_total", help: "fdatasync calls of the log") { [self] in
            Double(logStatistics.syncs)
        }
        metrics.sampledCounter("orbit_log_sync_seconds_total", help: "Time in fdatasync of the log") { [self] in
            Double(logStatistics.syncNanoseconds) / 1e9
        }
        metrics.sampledGauge("orbit_log_full", help: "1 while the log's disk is full") { [self] in
            logStatistics.isFull ? 1 : 0
        }
        metrics.sampledGauge("orbit_fsync_always", help: "1 if a write is synced before it is acknowledged") { [self] in
            isSyncedAlways ? 1 : 0
        }
    }

    /// Role-specific members of `/status`.
    var statusMembers: [JSON.Member] {
        [
            .init(
                "shards",
                .array(
                    executors.map { executor in
                        .object([
                            .init("id", .integer(Int64(executor.shard.rawValue))),
                            .init("leader", .bool(executor.isServing)),
                            .init("restoring", .bool(executor.isServing && executor.restores.isActive)),
                            .init("committed", .integer(Int64(clamping: executor.group.committedIndex.rawValue))),
                            .init("flushed", .integer(Int64(clamping: executor.store.flushedIndex.rawValue))),
                        ])
                    })),
            .init("invocations", .integer(Int64(clamping: invocations))),
            .init("replicaReads", .integer(Int64(clamping: executors.reduce(0) { $0 + $1.reads.answered }))),
            .init("storeBytes", .integer(Int64(clamping: storeBytes))),
        ] + restoreMembers
    }

    /// Only while there is something to say.
    private var restoreMembers: [JSON.Member] {
        guard executors.contains(where: { $0.isServing && $0.restores.isActive }) else { return [] }
        return [.init("restore", .text("half restored, and nothing is served: orbit restore goes on with it"))]
    }
}
