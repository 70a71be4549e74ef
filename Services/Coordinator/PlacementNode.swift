import Base
import Crypto
import Net
import Placement
import Raft
import Replication
import ServiceKit

/// The coordinator's parts on one loop: log, state machine, gRPC. Time to open is the length of the log since its
/// newest snapshot.
///
/// Alone, it leads when `init` returns. One of several follows first, and does whatever a leader does from when Raft
/// has elected it until it has not any more.
package final class PlacementNode: TickFlushable {
    /// What differs between clusters and tests.
    package struct Settings: Sendable {
        package var directory: String
        package var group = CoordinatorGroup.alone
        package var bucketCount = 64
        package var shardCount = 1
        package var nodeCount = 1
        package var leaseMilliseconds: UInt64 = 10_000
        package var snapshotInterval = 1000
        /// Room for a snapshot of the largest state, and quick to fill with zeros at the first start.
        package var segmentBytes = 16 << 20
        /// Of the log, for other coordinators that lag; one that lags further begins at the newest snapshot.
        package var retainedBytes = 16 << 20
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
    private let settings: Settings
    private let logger: Logger
    private let groups: ReplicaGroups
    private let replica: ReplicaGroup
    /// Nil when there are no others.
    private let links: CoordinatorLinks?
    private var random: any RandomSource
    private var creationFailure: DatabaseError?
    private var isDraining = false
    private var onHandedOver: (() -> Void)?

    /// Opens the log and goes on from it; a new directory becomes a new cluster, or joins that of the other
    /// coordinators.
    ///
    /// - Parameter tls: for the way to the others over TCP.
    package init(
        _ settings: Settings, loop: EventLoop, disk: any Disk, access: PlacementAccess, logger: Logger,
        clock: any Clock = SystemClock(), random: any RandomSource = SystemRandom(), tls: TLSContext? = nil,
        metrics: Metrics = Metrics()
    ) throws {
        (self.settings, self.loop, self.logger, self.random) = (settings, loop, logger, random)
        var options = SegmentedLog.Options()
        options.segmentBytes = settings.segmentBytes
        let segments = try SegmentedLog(disk: disk, directory: "\(settings.directory)/log", options: options)
        let (recovered, state, entries) = try Self.recover(segments, settings.group)
        let completion = LogCompletion(loop: loop)
        let writer = try LogWriter(log: segments, durability: .always, onDurable: { completion.durable($0) })
        groups = Self.makeGroups(settings, writer, clock, random)
        replica = groups.add(recovered, founding: settings.group.voters)
        ledger = CommandLedger(
            log: replica, state: state, entriesSinceSnapshot: entries, snapshotInterval: settings.snapshotInterval)
        server = GRPCServer(loop: loop)
        service = PlacementService(
            loop: loop, ledger: ledger, access: access, leaseMilliseconds: settings.leaseMilliseconds, logger: logger,
            committedIndex: { [replica] in replica.committedIndex },
            otherLeader: { [replica, group = settings.group] in
                if group.isAlone { return nil }
                return replica.leader.flatMap { $0 == group.id ? nil : group.text($0) } ?? ""
            })
        links =
            settings.group.isAlone
            ? nil
            : try CoordinatorLinks(
                settings, groups, on: server, loop: loop, disk: disk, access: access, tls: tls, clock: clock,
                metrics: metrics, logger: logger)
        completion.writer = writer
        service.register(on: server)
        health.register(on: server)
        ReflectionService.register(on: server)
        connect()
        loop.flushUpstream(self)
        replica.start()
        links?.start()
        if settings.group.isAlone, ledger.state.cluster == nil {
            throw creationFailure ?? DatabaseError(.diskFull, "the cluster was not created")
        }
    }

    /// What a restart finds. Alone, all of the log is committed; else only the leader knows what is.
    private static func recover(
        _ segments: SegmentedLog, _ group: CoordinatorGroup
    ) throws -> (replica: RecoveredReplica, state: PlacementState, entriesSinceSnapshot: Int) {
        let known = segments.state(of: shard)
        try group.check(known)
        if group.isAlone {
            var replay = CommandReplay()
            try segments.replay { record throws(DatabaseError) in
                if record.kind == .entry { try replay.add(record.index, record.payload) }
            }
            let (state, entries) = try replay.finish()
            return (try segments.recovered(shard, applied: known.lastIndex, on: group.id), state, entries)
        }
        var start = ReplayStart(mark: known.markIndex)
        try segments.replay { record throws(DatabaseError) in
            if record.kind == .entry { try start.add(record.index, record.payload) }
        }
        return (try segments.recovered(shard, applied: try start.finish(), on: group.id), PlacementState(), 0)
    }

    private static func makeGroups(
        _ settings: Settings, _ writer: LogWriter, _ clock: any Clock, _ random: any RandomSource
    ) -> ReplicaGroups {
        var options = ReplicaGroups.Options()
        options.cacheBytes = 4 << 20
        options.retainedBytes = UInt64(settings.retainedBytes)
        var raft = RaftConfiguration(id: settings.group.id, seed: 0)
        // One group that is hardly ever idle: heartbeats cost nothing, and a dead leader is noticed by their absence.
        raft.quiesceAfter = nil
        return ReplicaGroups(
            id: settings.group.id, writer: writer, clock: clock, random: random, options: options, raft: raft)
    }

    private func connect() {
        replica.onCommitted = { [unowned self] index in ledger.committed(index) }
        replica.onApply = { [unowned self] index, entry in ledger.apply(index, entry) }
        replica.onRole = { [unowned self] role in
            switch role {
            case .leader(let term): lead(term)
            case .follower: follow()
            }
        }
        groups.onPending = { [unowned self] in loop.flushUpstream(self) }
        // Answers that the log contradicts must not go out: as with a damaged log, an operator is needed.
        ledger.onDamage = { [unowned self] error in groups.onFailure(LogError(.damaged, error.message)) }
        guard let links else { return }
        links.newestSnapshot = { [unowned self] in ledger.lastSnapshot }
        let announce = ledger.onMapChanged
        ledger.onMapChanged = { map in
            announce?(map)
            links.note(cluster: map.cluster)
        }
    }

    // MARK: Leadership

    private func lead(_ term: Term) {
        if !settings.group.isAlone { logger.info("this coordinator leads", ["term": .count(term.rawValue)]) }
        ledger.lead()
        service.takeOver()
        createCluster()
        configurePlacement()
    }

    private func follow() {
        if ledger.isLeading { logger.info("this coordinator leads no more", ["term": .count(replica.term.rawValue)]) }
        ledger.follow()
        service.giveUp()
        guard let next = onHandedOver, replica.leader != nil else { return }
        onHandedOver = nil
        loop.runLater { next() }
    }

    /// Makes what this start says of placement part of the state.
    private func configurePlacement() {
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
            ledger.submit(command) { [logger] result in
                guard case .failure(let error) = result else { return }
                logger.error("placement is not configured", ["error": .describing(error)])
            }
        }
    }

    /// A new directory becomes a cluster with a new random id; an old one must be the cluster that the settings name.
    private func createCluster() {
        if let cluster = ledger.state.cluster {
            let map = ledger.state.map
            if map?.shards.count != settings.shardCount || map?.bucketCount != settings.bucketCount {
                logger.warning(
                    "the cluster exists: its numbers of buckets and shards stay as they are",
                    ["cluster": .count(cluster), "shards": .count(map?.shards.count ?? 0)])
            }
            return
        }
        let id = max(random.next(), 1)
        ledger.submit(
            .createCluster(
                id: id, bucketCount: settings.bucketCount, shardCount: settings.shardCount,
                nodeCount: settings.nodeCount)
        ) { [self] result in
            switch result {
            case .success:
                logger.info("cluster created", ["cluster": .count(id), "shards": .count(settings.shardCount)])
            case .failure(let error) where error.code == .outcomeUnknown || error.code == .notLeader:
                break  // The next leader does it, if it did not come to pass.
            case .failure(let error):
                logger.error("the cluster is not created", ["error": .describing(error)])
                creationFailure = error
            }
        }
    }

    /// Nil when the coordinator could answer, or say who does: everything so far is durable.
    package var readinessComplaint: String? {
        if groups.writer.isFull { return "the disk is full" }
        if settings.group.isAlone || ledger.isLeading {
            guard ledger.publishedMap == nil else { return nil }
            return creationFailure?.message ?? "the cluster is being created"
        }
        guard let leader = replica.leader, leader != settings.group.id else { return "no coordinator leads" }
        return nil
    }

    /// How Raft sees this coordinator.
    var raftStatus: RaftStatus { replica.status }
    var isAlone: Bool { settings.group.isAlone }

    /// Hands this tick's entries to the log thread.
    package func flushAtTickEnd() { groups.endTick() }

    /// Hands leadership over if there is somebody to take it, ends watches and calls, then closes the log. What was
    /// accepted is durable when `completion` runs.
    package func drain(_ completion: @escaping () -> Void) {
        health.shutDown()
        handOver { [self] in
            service.shutDown()
            if let links {
                // Their streams would keep the server; without them nothing more is decided here.
                links.close()
                ledger.follow()
            }
            server.drain { [self] in
                guard links == nil else {
                    groups.close()
                    return completion()
                }
                ledger.whenDurable { [self] _ in
                    groups.close()
                    completion()
                }
            }
        }
    }

    /// Ends at once, as if the process were killed: nobody is told.
    package func close() {
        service.stop()
        links?.close()
        server.close()
        groups.close()
    }

    private func handOver(_ completion: @escaping () -> Void) {
        let candidate = replica.status.peers.filter { $0.isActive && links?.isUp($0.id) == true }
            .max { ($0.matched, $1.id) < ($1.matched, $0.id) }
        guard !isDraining, ledger.isLeading, let candidate else {
            isDraining = true
            return completion()
        }
        isDraining = true
        onHandedOver = completion
        loop.schedule(afterMilliseconds: Self.handOverMilliseconds) { [weak self] in
            guard let self, let late = onHandedOver else { return }
            onHandedOver = nil
            late()
        }
        do throws(DatabaseError) { try replica.transferLeadership(to: candidate.id) } catch {
            logger.debug("leadership is not handed over", ["error": .describing(error)])
        }
    }

    /// Less than an election takes without it.
    private static let handOverMilliseconds = 500
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
