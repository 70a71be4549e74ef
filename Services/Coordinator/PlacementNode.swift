import Base
import Net
import Placement
import Raft
import Replication
import ServiceKit

/// The coordinator's parts on one loop: log, state machine, gRPC. Time to open is the length of the log since its
/// newest snapshot.
package final class PlacementNode: TickFlushable {
    /// What differs between clusters and tests.
    package struct Settings: Sendable {
        package var directory: String
        package var bucketCount = 64
        package var shardCount = 1
        package var nodeCount = 1
        package var leaseMilliseconds: UInt64 = 10_000
        package var snapshotInterval = 1000
        /// Room for a snapshot of the largest state, and quick to fill with zeros at the first start.
        package var segmentBytes = 16 << 20
        /// How many replicas of a shard the storage nodes of this release can keep.
        package var supportedReplicas = ShardMembership.voterLimit
        /// What an operator asked for at this start; nil leaves it as it is.
        package var replicationFactor: Int?
        package var strategy: PlacementStrategy?
        package var replacementDelayMilliseconds: UInt64?

        package init(directory: String) { self.directory = directory }
    }

    /// The log holds one group; the number is free, the shards of nodes are in other logs.
    private static let shard = ShardID(rawValue: 0)

    package var isFlushPending = false
    package let ledger: CommandLedger
    package let service: PlacementService
    package let server: GRPCServer
    package let health = HealthService()
    private let loop: EventLoop
    private let groups: ReplicaGroups

    /// Opens the log and goes on from it; a new directory becomes a new cluster.
    package init(
        _ settings: Settings, loop: EventLoop, disk: any Disk, access: PlacementAccess, logger: Logger,
        clock: any Clock = SystemClock(), random: any RandomSource = SystemRandom()
    ) throws {
        self.loop = loop
        var options = SegmentedLog.Options()
        options.segmentBytes = settings.segmentBytes
        let segments = try SegmentedLog(disk: disk, directory: "\(settings.directory)/log", options: options)
        var replay = CommandLedger.Replay()
        try segments.replay { record throws(DatabaseError) in
            if record.kind == .entry { try replay.add(record.index, record.payload) }
        }
        let (state, entries) = try replay.finish()
        let recovered = try segments.recovered(Self.shard, applied: segments.state(of: Self.shard).lastIndex)
        let completion = LogCompletion(loop: loop)
        let writer = try LogWriter(log: segments, durability: .always, onDurable: { completion.durable($0) })
        let id = NodeID(rawValue: 1)
        groups = ReplicaGroups(id: id, writer: writer, clock: clock, random: random)
        let log = groups.add(recovered, founding: Membership(voters: [id]))
        ledger = CommandLedger(
            log: log, state: state, entriesSinceSnapshot: entries, snapshotInterval: settings.snapshotInterval)
        server = GRPCServer(loop: loop)
        service = PlacementService(
            loop: loop, ledger: ledger, access: access, leaseMilliseconds: settings.leaseMilliseconds, logger: logger,
            committedIndex: { [log] in log.committedIndex })
        log.onCommitted = { [unowned self] index in ledger.committed(index) }
        log.onApply = { [unowned self] index, _ in ledger.committed(index) }  // Raft's own: nothing to apply.
        groups.onPending = { [unowned self] in loop.flushUpstream(self) }
        completion.writer = writer
        service.register(on: server)
        health.register(on: server)
        ReflectionService.register(on: server)
        loop.flushUpstream(self)
        log.start()
        try createCluster(settings, logger, random)
        configurePlacement(settings, logger)
    }

    /// Makes what this start says of placement part of the state.
    private func configurePlacement(_ settings: Settings, _ logger: Logger) {
        if let factor = settings.replicationFactor, factor > settings.supportedReplicas {
            logger.warning(
                "the storage nodes of this release keep fewer replicas of a shard than were asked for",
                ["asked": .count(factor), "kept": .count(settings.supportedReplicas)])
        }
        var wanted = ledger.state.settings
        wanted.replicationFactor = settings.replicationFactor ?? wanted.replicationFactor
        wanted.strategy = settings.strategy ?? wanted.strategy
        wanted.replacementDelayMilliseconds =
            settings.replacementDelayMilliseconds ?? wanted.replacementDelayMilliseconds
        for command in [PlacementCommand.configure(wanted), .allowReplicas(settings.supportedReplicas)] {
            ledger.submit(command) { result in
                guard case .failure(let error) = result else { return }
                logger.error("placement is not configured", ["error": .describing(error)])
            }
        }
    }

    /// A new directory becomes a cluster with a new random id; an old one must be the cluster that the settings name.
    private func createCluster(_ settings: Settings, _ logger: Logger, _ random: any RandomSource) throws {
        if let cluster = ledger.state.cluster {
            let map = ledger.state.map
            if map?.shards.count != settings.shardCount || map?.bucketCount != settings.bucketCount {
                logger.warning(
                    "the cluster exists: its numbers of buckets and shards stay as they are",
                    ["cluster": .count(cluster), "shards": .count(map?.shards.count ?? 0)])
            }
            return
        }
        var random = random
        let id = max(random.next(), 1)
        var failure: DatabaseError?
        ledger.submit(
            .createCluster(
                id: id, bucketCount: settings.bucketCount, shardCount: settings.shardCount,
                nodeCount: settings.nodeCount)
        ) { result in
            switch result {
            case .success:
                logger.info("cluster created", ["cluster": .count(id), "shards": .count(settings.shardCount)])
            case .failure(let error):
                failure = error
            }
        }
        if ledger.state.cluster == nil { throw failure ?? DatabaseError(.diskFull, "the cluster was not created") }
    }

    /// Nil when the coordinator could answer: everything so far is durable.
    package var readinessComplaint: String? {
        if ledger.publishedMap == nil { return "the cluster is being created" }
        return groups.writer.isFull ? "the disk is full" : nil
    }

    /// Hands this tick's entries to the log thread.
    package func flushAtTickEnd() { groups.endTick() }

    /// Ends watches and calls, then closes the log. What was accepted is durable when `completion` runs.
    package func drain(_ completion: @escaping () -> Void) {
        health.shutDown()
        service.shutDown()
        server.drain { [self] in
            ledger.whenDurable { [self] in
                groups.close()
                completion()
            }
        }
    }
}

/// Carries the log thread's word to the loop. The writer is set before the first submission, on the loop.
private final class LogCompletion: @unchecked Sendable {
    private let loop: EventLoop
    /// Loop-confined.
    weak var writer: LogWriter?

    init(loop: EventLoop) { self.loop = loop }

    func durable(_ ticket: LogTicket) {
        loop.execute { [self] in writer?.complete(upTo: ticket) }
    }
}
