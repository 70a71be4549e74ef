import Base
import Raft
import Replication
import Storage
import TestKit

/// What a log without a thread reports, from inside the calls of its owner.
private final class LogReports: @unchecked Sendable {  // A simulation has one thread.
    var durable: LogTicket = 0
    var failure: LogError?
}

/// One machine: a disk, a store, a clock, and the process of a storage node on it, with the product's own driver of
/// replicas. The process may be dead or stopped; the machine may lose power.
final class SimulatedNode {
    static let directory = "/node/log"

    let id: NodeID
    let number: Int
    unowned let world: ClusterSimulation
    let disk: SimulatedDisk
    let store = MemoryStore()
    let clock = VirtualClock()
    private let area: SnapshotArea

    /// Which life of the process this is; events of an earlier one are void.
    private(set) var life: UInt32 = 0
    private(set) var isAlive = false
    /// Counts stops; above zero in `stop` while the process is stopped (SIGSTOP).
    private(set) var stop: UInt32 = 0
    private(set) var isStopped = false
    private var backlog: [NodeEvent] = []
    /// The process ends when the event that it is at is done: its disk has failed.
    private(set) var mustDie = false
    /// A stop waits for the next read under a lease: between the read and the question whether the lease runs.
    var stopsAtLease: UInt64?
    var slowSync: UInt64 = 0
    /// Its disk fails at a moment to come.
    var isFaultPlanted = false

    private(set) var groups: ReplicaGroups?
    private(set) var shards: [SimulatedShard] = []
    private var reports = LogReports()
    private var isSyncing = false
    /// The log may be cut.
    private var isFlushNoted = false
    private var random: SplitMix64

    init(_ number: Int, in world: ClusterSimulation, random: inout SplitMix64) {
        id = NodeID(rawValue: UInt32(number))
        self.number = number
        self.world = world
        disk = SimulatedDisk(seed: random.next())
        area = SnapshotArea(disk, path: "/node/snapshots", reserve: 0)
        self.random = SplitMix64(seed: random.next())
    }

    // MARK: Life

    /// Starts the process. False when it refuses, or its disk fails: then it is tried again.
    func start() -> Bool {
        life += 1
        mustDie = false
        do {
            try open()
        } catch {
            world.trace?("node \(id) does not start: \(error)")
            close()
            if let error = error as? LogError, error.kind == .damaged { world.damaged(self, error) }
            return false
        }
        isAlive = true
        for shard in shards { shard.group.start() }
        groups?.endTick()
        after(.tick, in: tickDelay)
        after(.flush, in: 500_000_000 + random.next(below: 1_500_000_000))
        finishEvent()
        return isAlive
    }

    private func open() throws {
        var options = SegmentedLog.Options()
        options.segmentBytes = world.plan.segmentBytes
        let segments = try SegmentedLog(
            disk: disk, directory: Self.directory, options: options, random: SplitMix64(seed: random.next()))
        if segments.recovery.wasCut { world.report.cutLogs += 1 }
        var recovered: [(ShardStore, RecoveredReplica)] = []
        for number in 0..<world.plan.shards {
            let shard = ShardID(rawValue: UInt32(number + 1))
            let shardStore = try ShardStore(shard: shard, store: store)
            recovered.append(
                (shardStore, try segments.recovered(shard, applied: shardStore.appliedIndex, on: id)))
        }
        let reports = LogReports()
        let writer = LogWriter(
            stepped: segments, durability: .always, onDurable: { reports.durable = $0 },
            onFailure: { reports.failure = $0 })
        var options2 = ReplicaGroups.Options()
        options2.cacheBytes = world.plan.cacheBytes
        options2.retainedBytes = world.plan.retainedBytes
        let groups = ReplicaGroups(
            id: id, writer: writer, clock: clock, random: SplitMix64(seed: random.next()), options: options2,
            raft: world.plan.configuration(world.bug)
        ) { [unowned self] error in
            world.trace?("node \(id): \(error)")
            mustDie = true
        }
        groups.transport = self
        groups.snapshotSource = self
        groups.snapshotSink = self
        (self.reports, self.groups) = (reports, groups)
        shards = recovered.enumerated().map { number, found in
            SimulatedShard(number, groups.add(found.1, founding: world.founding), found.0, on: self)
        }
        for shard in shards { world.begins(shard, at: shard.store.appliedIndex) }
    }

    private func close() {
        groups?.abandon()
        (groups, shards, backlog) = (nil, [], [])
        (isAlive, isSyncing, isStopped, stopsAtLease) = (false, false, false, nil)
    }

    /// The process dies, perhaps with the machine.
    func die(powerLoss: Bool) {
        world.trace?("node \(id) dies\(powerLoss ? ", power lost" : "")")
        isAlive = false
        if powerLoss, random.oneIn(2) {
            // In the middle of a round: written in part, or written and not synced.
            disk.losePower(afterChanges: Int(random.next(below: 4)))
            groups?.writer.runRound()
        }
        close()
        life += 1
        if powerLoss {
            disk.crash()
            isFaultPlanted = false
        }
        store.crash(surviving: Int(random.next(below: 3)))
    }

    func stopProcess() {
        isStopped = true
        stop += 1
    }

    func resume(_ stop: UInt32) {
        guard isStopped, stop == self.stop, isAlive else { return }
        isStopped = false
        var events = backlog
        backlog = []
        // Each connection keeps its order, but nobody says which one is read first: clients may come before peers.
        if random.oneIn(2) {
            let requests = events.filter { if case .request = $0 { true } else { false } }
            events = requests + events.filter { if case .request = $0 { false } else { true } }
        }
        for event in events where isAlive { handle(event) }
    }

    // MARK: Events

    private var tickDelay: UInt64 {
        let configuration = RaftConfiguration(id: id, seed: 0)
        return clock.trueDuration(of: configuration.tickInterval)
    }

    func after(_ event: NodeEvent, in delay: UInt64) {
        world.scheduler.schedule(.node(number, life: life, event), after: delay)
    }

    func handle(_ event: NodeEvent) {
        guard isAlive, let groups else { return }
        if isStopped {
            if backlog.count < 20_000 { backlog.append(event) }
            return
        }
        switch event {
        case .tick:
            after(.tick, in: tickDelay)
            groups.tick()
        case .peer(let delivery):
            delivery.payload.withUnsafeBytes { groups.received(delivery.message, of: delivery.shard, payload: $0) }
        case .snapshot(let delivery): stage(delivery)
        case .staged(let delivery, let isDone): delivery.completion(isDone)
        case .request(let request): shards[request.key % shards.count].handle(request)
        case .synced: synced()
        case .flush:
            after(.flush, in: 500_000_000 + random.next(below: 2_500_000_000))
            for shard in shards { shard.flush() }
            isFlushNoted = true
            if random.oneIn(3) { shards[0].evict(Int(random.next(below: UInt64(world.plan.keys)))) }
        case .release(let read): shards[read.shard].release(read)
        case .peerDown(let peer): groups.peerDown(peer)
        case .later(let body): body()
        }
        finishEvent()
    }

    /// The end of a tick of the loop. What it wrote is durable some time later.
    private func finishEvent() {
        groups?.endTick()
        if hasFailed { return die(powerLoss: false) }
        // What is left of a tick that has written nothing is the room for a header.
        let isIdle = (groups?.writer.queuedBytes ?? 0) <= LogFormat.batchHeaderSize && !isFlushNoted
        guard let groups, !isSyncing, !isIdle else { return }
        isSyncing = true
        isFlushNoted = false
        if world.bug == .driver(.acknowledgeBeforeSync) { groups.complete(upTo: .max) }
        after(.synced, in: 50_000 + random.next(below: 400_000) + (slowSync > 0 ? random.next(below: slowSync) : 0))
    }

    private func synced() {
        isSyncing = false
        guard let groups else { return }
        groups.writer.runRound()
        if !hasFailed { groups.complete(upTo: reports.durable) }
    }

    private var hasFailed: Bool {
        if let failure = reports.failure { world.trace?("node \(id): \(failure)") }
        return mustDie || reports.failure != nil
    }

    func reply(_ request: ClientRequest, _ content: ClientReply.Content) {
        world.send(ClientReply(request, content), from: number)
    }

    func release(_ read: LeasedRead) {
        if let pause = stopsAtLease {
            stopsAtLease = nil
            world.pause(self, for: pause)
        }
        after(.release(read), in: random.next(below: 300_000))
    }
}

// MARK: - The way to the peers

extension SimulatedNode: PeerTransport {
    func send(_ message: Message, of shard: ShardID, payload: (inout ByteBuffer) -> Void) -> Bool {
        var buffer = ByteBuffer(capacity: 64)
        payload(&buffer)
        world.send(PeerDelivery(message, shard, buffer.readable.bytes))
        return true
    }
}

// MARK: - Snapshots

extension SimulatedNode: SnapshotSource, SnapshotSink {
    func sendSnapshot(
        of shard: ShardID, to peer: NodeID, message: @escaping (LogIndex) -> Message?,
        completion: @escaping (Bool) -> Void
    ) {
        do {
            let replica = shards[Int(shard.rawValue) - 1]
            let view = try replica.store.openView()
            guard let message = message(view.index), case .snapshot(let metadata) = message.body else {
                return after(.later { completion(false) }, in: 1_000_000)
            }
            let directory = area.outgoing(shard, view.index)
            let export = try SnapshotExport(
                view, term: metadata.last.term, membership: metadata.membership.encoded(),
                ranges: [SimulatedKey.range(replica.number)], into: directory)
            let manifest = try export.run()
            world.trace?("node \(id) sends a snapshot of shard \(shard) at \(metadata.last) to \(peer)")
            let files = try manifest.files.indices.map { number throws(StoreError) in
                try directory.read(file: number, offset: 0, count: Int(manifest.files[number].size))
            }
            try directory.remove()
            world.send(
                SnapshotDelivery(message, shard, manifest, files, life: life, completion: completion), from: self)
        } catch {
            world.trace?("node \(id): a snapshot was not made: \(error)")
            after(.later { completion(false) }, in: 1_000_000)
        }
    }

    private func stage(_ delivery: SnapshotDelivery) {
        do {
            let directory = area.incoming(delivery.shard)
            try directory.create()
            try directory.write(delivery.manifest)
            for (number, bytes) in delivery.files.enumerated() {
                try bytes.withView { view throws(StoreError) in
                    try directory.write(file: number, offset: 0, view)
                }
            }
            groups?.received(delivery.message, of: delivery.shard, payload: ByteView(start: nil, count: 0))
            world.staged(delivery, by: self, isDone: true)
        } catch {
            world.trace?("node \(id): a snapshot was not staged: \(error)")
            if error.kind == .inputOutput { mustDie = true }
            world.staged(delivery, by: self, isDone: false)
        }
    }

    func installSnapshot(_ metadata: SnapshotMetadata, of shard: ShardID, completion: @escaping (Bool) -> Void) {
        let replica = shards[Int(shard.rawValue) - 1]
        var isDone = false
        do {
            let directory = area.incoming(shard)
            if let manifest = try directory.manifest(), manifest.index == metadata.last.index {
                let install = try replica.store.beginInstall(
                    manifest, from: directory, ranges: [SimulatedKey.range(replica.number)])
                do {
                    try install.run()
                    replica.store.finishInstall(install)
                    isDone = true
                } catch {
                    isDone = try replica.store.abandonInstall(install)
                }
                try directory.remove()
            }
        } catch {
            world.trace?("node \(id): a snapshot was not installed: \(error)")
        }
        if isDone {
            world.report.snapshots += 1
            world.trace?("node \(id) installs a snapshot of shard \(shard) at \(metadata.last)")
            replica.installed(metadata.last.index)
        }
        // The driver must not be answered from inside its own call.
        let result = isDone
        after(.later { completion(result) }, in: 100_000 + random.next(below: 2_000_000))
    }
}
