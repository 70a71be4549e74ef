// StorageNode: the process that holds the data.
//
//     gateways ──gRPC──▶ InvocationStream ──▶ ShardExecutor ──▶ ActorRuntime   (evaluate against pending state)
//                              ▲                   │
//                              │ replies           ▼ effects
//                              └─ committed ── NodeLog (log thread, one fdatasync for all shards)
//                                                  │ applied blindly
//                                                  ▼
//                                             ShardStore (overlay) ──StoreFlusher, worker──▶ RocksDB
//
// One loop owns all shards and streams, so single-record work needs no locks; the log has a thread of its own, and the
// store is written by a worker. At start: store, log (recovered), lease at the coordinator, shard map, shards (replayed
// above what the store holds), the clock's bound logged, then serving.

import Actors
import Base
import Contracts
import DataModel
import GatewayKit
import Net
import Peers
import Placement
import Raft
import Replication
import ServiceKit
import Storage
import Transactions

/// What a node is told at its start.
struct NodeSettings {
    var directory: String
    /// Who the node was when it wrote its log; nil if it does not know.
    var id: NodeID?
    var durability: Durability
    /// Memory of activations over all shards, in bytes.
    var actorMemory: Int
    var store = RocksDBOptions()
    /// Columns of tables that are kept decoded, in bytes.
    var columnMemory = 256 << 20
    var log = SegmentedLog.Options()
    /// Bytes of replies that one stream may have outstanding, and one client connection of it; past that, calls wait.
    var replyBacklog = 64 << 20, replyShare = 4 << 20
    /// What a shard remembers of calls with tokens.
    var outcomes = OutcomeLimits()
    /// How much of the past is kept.
    var history = HistorySettings()
    /// What a shard remembers of transactions over several shards, and when it asks about them.
    var transactions = Participant.Limits()
    /// What a shard keeps of transactions that are open.
    var scopes = ShardScopes.Limits()
    /// What a shard keeps of sagas.
    var sagas = SagaLimits()

    /// The share of each shard that the node has a replica of, whoever leads it: any of them may come to lead.
    func actorMemory(shards: Int) -> Int { max(actorMemory / max(shards, 1), 1 << 20) }
}

/// The shards of one process and what they share.
final class Node {
    let loop: EventLoop
    let logger: Logger
    let settings: NodeSettings
    private let fatal: (String, any Error) -> Never
    let store: any Store
    let clock: NodeClock
    let log: NodeLog
    let workers = WorkerPool(threads: 2)
    private(set) var flusher: StoreFlusher?
    let history: HistoryRetention
    private var timer: LoopTimer?
    /// What the log knew of each shard when it was opened, and the shard's records with the log replayed.
    ///
    /// Of a replica that has left since, what it begins with if it comes back.
    private var recoveredReplicas: [ShardID: RecoveredReplica] = [:]
    private var recoveredStores: [ShardID: ShardStore]
    let systemClock: any Clock
    /// The way to other replicas; nil where there are none.
    var peers: PeerLinks?
    let snapshotArea: SnapshotArea
    var snapshots: ShardSnapshots?
    var snapshotLinks: SnapshotLinks?
    /// The way to other participants of transactions; nil where there are none.
    private(set) var steps: StepLinks?
    /// Transactions that this node drives; nil where it drives none.
    private(set) var homes: HomeTransactions?
    /// Statements on single records, which the shards evaluate.
    private(set) lazy var programs = PointPrograms(clock: { [clock] in clock.wallMilliseconds })
    /// What statements do with many rows, at the shards.
    let fragments = Fragments()
    private(set) lazy var columns = ColumnMemory(limit: settings.columnMemory)
    /// Executes statements of query languages, over those.
    private(set) var queries: Queries?
    /// Who listens to changes; nil where nobody may.
    var changeFeeds: ChangeFeedService?
    /// The clock of this node is not to be trusted.
    var isFenced = false
    /// The map in force, and who this node is in it.
    private(set) var adopted: (map: ShardMap, id: NodeID)?
    /// Replicas that leave this node.
    let departures: Departures
    private(set) var executors: [ShardExecutor] = []
    /// For each bucket, who serves it here.
    private var owners: [ShardExecutor?] = []
    private var slotsPerBucket = Slot.count
    private(set) var mapEpoch = MapEpoch(rawValue: 0)
    private(set) var isDraining = false
    /// Called once, when the shards can take a write for the first time.
    var onServing: (() -> Void)?
    private(set) var isServing = false
    /// Called when the coordinator should hear of a shard soon: who leads it, or who belongs to it, has changed.
    var onReport: (() -> Void)?
    private var ticks: UInt64 = 0
    var random = SystemRandom()
    /// Where a read below strong consistency is evaluated.
    private let scratch = ReplyBatchEncoder()
    private var refusalsNoted: (second: UInt64, count: Int) = (0, 0)
    /// Invocations that came in.
    private(set) var invocations: UInt64 = 0

    /// Opens store and log, and replays the log above what the store holds. `fatal` must end the process. Without
    /// `store` it is the RocksDB in the directory.
    init(
        settings: NodeSettings, loop: EventLoop, systemClock: any Clock, logger: Logger, disk: any Disk = PosixDisk(),
        store: (any Store)? = nil, fatal: @escaping (String, any Error) -> Never
    ) throws {
        (self.settings, self.loop, self.logger, self.fatal) = (settings, loop, logger, fatal)
        self.systemClock = systemClock
        try disk.makeDirectory(settings.directory)
        let store = try store ?? RocksDBStore(directory: settings.directory + "/store", options: settings.store)
        let segments = try SegmentedLog(disk: disk, directory: settings.directory + "/log", options: settings.log)
        let started = loop.now
        let emptied = try Departures.finish(segments, over: store)
        recoveredStores = try Self.replay(segments, as: settings.id, over: store)
        var bound = Timestamp.zero
        let applied = recoveredStores.mapValues(\.appliedIndex)
        snapshotArea = SnapshotArea(disk, path: settings.directory + "/snapshots")
        let gone = Set(segments.shards.filter { $0.value.removal != nil }.keys)
        try snapshotArea.sweep { (shard: ShardID) throws(StoreError) in
            gone.contains(shard) ? LogIndex(rawValue: .max) : applied[shard] ?? .zero
        }
        for (shard, records) in recoveredStores {
            bound = max(bound, try ClockBoundRecord.read(shard, from: records))
            recoveredReplicas[shard] = try segments.recovered(
                shard, applied: records.appliedIndex, on: settings.id)
        }
        self.store = store
        history = HistoryRetention(settings.history)
        departures = Departures(
            loop: loop, workers: workers, store: store, logger: logger,
            onFailure: { fatal("the store cannot be written", $0) })
        clock = NodeClock(loop: loop, clock: HybridClock(clock: systemClock, above: bound))
        log = try NodeLog(loop: loop, log: segments, durability: settings.durability)
        if !emptied.isEmpty { departures.reclaim(emptied) }
        logger.info(
            "recovered",
            [
                "shards": .count(recoveredStores.count - gone.count), "segments": .count(segments.recovery.segments),
                "records": .count(segments.recovery.records), "torn": .bool(segments.recovery.wasCut),
                "since": .count(Int(started / 1_000_000_000)),
            ])
    }

    /// Applies what the log holds above each shard's store, of shards with one replica: of the others only the leader
    /// knows what is committed, and their groups hand it out.
    private static func replay(
        _ log: SegmentedLog, as id: NodeID?, over store: any Store
    ) throws -> [ShardID: ShardStore] {
        var stores: [ShardID: ShardStore] = [:]
        for shard in log.shards.keys { stores[shard] = try ShardStore(shard: shard, store: store) }
        try log.replay { (record: LogRecord) throws(DatabaseError) in
            guard let shard = stores[record.shard], record.index > shard.appliedIndex,
                log.isSingle(record.shard, on: id)
            else { return }
            let effects = record.kind == .entry ? record.payload : ByteView(start: nil, count: 0)
            do throws(StoreError) { try shard.apply(effects, index: record.index) } catch { throw error.databaseError }
        }
        return stores
    }

    // MARK: Shards

    /// Who this node is; nil before it has a map.
    var nodeID: NodeID? { adopted?.id }

    /// Why the node could not serve a request; nil when it could.
    var complaint: String? {
        // A node that was drained, or has just joined, holds no shard and is well.
        guard let adopted, adopted.map.shards.allSatisfy({ !$0.replicas.isEmpty }) else {
            return "no shard is assigned to this node"
        }
        if let shard = executors.first(where: { $0.isPlanned && !$0.isServing && !$0.isFollowing }) {
            return "shard \(shard.shard) has no leader"
        }
        return nil
    }

    /// Takes part in the shards that have a replica on this node, which is `id`.
    func adopt(_ map: ShardMap, as id: NodeID) {
        adopted = (map, id)
        mapEpoch = map.epoch
        updatePeers(map)
        steps?.adopt(map)
        homes?.adopt(map, as: id)
        slotsPerBucket = Slot.count / map.bucketCount
        var owners: [ShardExecutor?] = Array(repeating: nil, count: map.bucketCount)
        for executor in executors { executor.isPlanned = map.shard(executor.shard)?.replicas.contains(id) ?? false }
        let memory = settings.actorMemory(shards: map.shards.count { $0.replicas.contains(id) })
        // One that has not quite left comes back when it has: see `hasDeparted`.
        for shard in map.shards where shard.replicas.contains(id) && !departures.isLeaving(shard.id) {
            do {
                let executor =
                    try executors.first { $0.shard == shard.id } ?? start(shard, as: id, bucketCount: map.bucketCount)
                executor.runtime.memoryLimit = memory
                for bucket in shard.buckets.joined() { owners[bucket] = executor }
            } catch {
                fatal("shard \(shard.id) did not start", error)
            }
        }
        self.owners = owners
        servingChanged()
    }

    // MARK: Replicas that leave

    /// The executor's replica leaves: nothing reaches it any more.
    func forget(_ executor: ShardExecutor) { executors.removeAll { $0 === executor } }

    /// Whether there are replicas of an earlier life of this process that have not been started.
    var hasUnstarted: Bool { recoveredReplicas.contains { !$0.value.isGone } }

    /// Whether there is one of this shard.
    func isRecovered(_ shard: ShardID) -> Bool { recoveredReplicas[shard].map { !$0.isGone } ?? false }

    /// A replica of an earlier life of this process, to do with as one likes; its records are the store's business.
    func takeRecovered(_ shard: ShardID) -> RecoveredReplica? {
        recoveredStores[shard] = nil
        return recoveredReplicas.removeValue(forKey: shard)
    }

    /// Nothing is left of a replica. Perhaps the map wants it back by now.
    func hasDeparted(_ replica: RecoveredReplica) {
        recoveredReplicas[replica.shard] = replica
        if !isDraining, let adopted { adopt(adopted.map, as: adopted.id) }
    }

    /// Gives the shards a way to other participants of transactions.
    func attach(_ steps: StepLinks) {
        self.steps = steps
        if let adopted { steps.adopt(adopted.map) }
    }

    /// Has the node drive transactions.
    func attach(_ homes: HomeTransactions) {
        self.homes = homes
        homes.local = LocalInvocations(self)
        queries = Queries(
            loop: loop, homes: homes, programs: programs, fragments: fragments,
            clock: { [clock] in clock.wallMilliseconds }
        ) { [unowned self] () throws(DatabaseError) in
            guard let executor = executors.first(where: \.isEvaluating) else {
                throw DatabaseError(.unavailable, "This node leads no shard: it has no catalog")
            }
            return try executor.settledCatalog()
        }
        queries?.reclaim = { [unowned self] in reclaim($0, rewrites: $1, then: $2) }
        programs.catalogVersion = { [unowned self] in
            (try? executors.first(where: \.isEvaluating)?.settledCatalog())?.version
        }
        if let adopted { homes.adopt(adopted.map, as: adopted.id) }
    }

    /// Sends a step for a shard that takes part in its transaction; the shard hears the answer.
    private func send(_ step: CommitStep, to slot: Slot, from part: PartID, of executor: ShardExecutor) {
        guard let message = TransactionStep(step) else { return }
        steps?.send(message, to: UInt32(slot.rawValue)) { data in
            let answer = data.flatMap { $0.withUnsafeBytes { StepAnswer(decoding: $0) } }
            executor.stepAnswered(step.kind, from: slot, to: part, answer)
        }
    }

    private func updatePeers(_ map: ShardMap) {
        peers?.update(
            map.nodes.map { node in
                PeerLinks.Peer(
                    node: node.id, uid: node.uid.bytes,
                    addresses: node.addresses.compactMap { try? SocketAddress(parsing: $0) })
            })
    }

    /// A shard's buckets as one range: this version does not run a shard with gaps.
    private static func contiguous(_ ranges: [Range<Int>]) throws(DatabaseError) -> Range<Int> {
        guard let first = ranges.first, let last = ranges.last,
            ranges.reduce(0, { $0 + $1.count }) == last.upperBound - first.lowerBound
        else { throw DatabaseError(.featureNotSupported, "a shard whose buckets are not one range") }
        return first.lowerBound..<last.upperBound
    }

    private func start(_ shard: ShardMap.Shard, as id: NodeID, bucketCount: Int) throws -> ShardExecutor {
        let records = try recoveredStores.removeValue(forKey: shard.id) ?? ShardStore(shard: shard.id, store: store)
        let group = groups(as: id).add(
            recoveredReplicas.removeValue(forKey: shard.id) ?? RecoveredReplica(new: shard.id),
            founding: Self.founding(shard, as: id))
        let reader = CommittedRecords(records)
        var limits = ActorLimits()
        limits.memoryBytes = settings.actorMemory
        limits.replyBytes = InvocationStream.replyLimit
        let buckets = try Self.contiguous(shard.buckets)
        records.buckets = buckets
        let runtime = ActorRuntime(
            reader: reader, buckets: buckets, bucketCount: bucketCount, limits: limits, seed: random.next())
        runtime.programs = programs
        runtime.reset(committed: group.committedIndex, floor: .zero)  // Again before it serves.
        let reads = CommittedReads(
            records, buckets: buckets, bucketCount: bucketCount, limits: limits, seed: random.next())
        let past = PastReads(
            records, buckets: buckets, bucketCount: bucketCount, limits: limits, catalog: runtime.catalog,
            fragments: fragments, columns: columns, seed: random.next())
        let executor = ShardExecutor(
            shard: shard.id, buckets: shard.buckets, clock: clock, group: group, log: log, store: records,
            runtime: runtime,
            records: RecordTable(reader: reader, buckets: buckets, bucketCount: bucketCount),
            outcomes: OutcomeMemory(reader: reader, buckets: buckets, limits: settings.outcomes),
            reads: reads, past: past,
            transactions: ShardTransactions(
                bucketCount: bucketCount, limits: settings.transactions,
                scopes: scopes(beside: runtime, over: records, buckets, bucketCount: bucketCount, limits)),
            sagas: ShardSagas(limits: settings.sagas),
            onFatal: { [fatal] error in fatal("shard \(shard.id) cannot apply a committed entry", error) })
        executor.onServing = { [unowned self, unowned executor] in
            logger.info(
                executor.isServing ? "leading" : "following",
                [
                    "shard": .count(Int(shard.id.rawValue)), "term": .count(Int(clamping: group.term.rawValue)),
                    "applied": .count(Int(clamping: records.appliedIndex.rawValue)),
                ])
            servingChanged()
            onReport?()
        }
        executor.onReport = { [unowned self] in onReport?() }
        executor.transactions.send = { [unowned self, unowned executor] step, slot, part in
            send(step, to: slot, from: part, of: executor)
        }
        executor.transactions.report = { [unowned self, unowned executor] step in
            guard let steps else { return executor.reportAnswered(nil) }
            steps.send(step, to: ShardExecutor.reportSlot) { executor.reportAnswered($0) }
        }
        executor.sagas.send = { [unowned self] call, answered in
            guard let steps else { return loop.runLater { answered(.refused("not connected", isFinal: false)) } }
            steps.send(call, answered: answered)
        }
        executor.fence(isFenced)
        executors.append(executor)
        group.start()
        return executor
    }

    /// What open transactions of a shard do.
    private func scopes(
        beside runtime: ActorRuntime, over store: ShardStore, _ buckets: Range<Int>, bucketCount: Int,
        _ actorLimits: ActorLimits
    ) -> ShardScopes {
        let (limits, seed, fragments) = (settings.scopes, random.next(), fragments)
        return ShardScopes(limits: limits, store: store) {
            let scope = ScopeEvaluation(
                reader: CommittedRecords(store), buckets: buckets, bucketCount: bucketCount, actorLimits: actorLimits,
                limits: limits.scope, seed: seed)
            scope.shareCatalog(runtime.catalog)
            scope.sharePrograms(runtime.programs)
            scope.shareFragments(ShardFragments(fragments))
            return scope
        }
    }

    /// Starts the periodic work: elections, expiry, flushes.
    func start() {
        flusher = StoreFlusher(
            loop: loop, workers: workers, store: store, history: history,
            shards: { [unowned self] in executors.map(\.store) },
            onFlushed: { [unowned self] in flushed() },
            onFailure: { [fatal] error in fatal("the store cannot be written", error) })
        timer = loop.schedule(afterMilliseconds: 50, repeating: true) { [unowned self] in tick() }
    }

    private func tick() {
        log.groups?.tick()
        ticks &+= 1
        guard ticks % 2 == 0 else { return }
        checkClock()
        if ticks % Self.closingTicks == 0 { announceClosed() }
        changeFeeds?.tick()
        for executor in executors {
            executor.retry()
            history.maintain(executor.store, nowMilliseconds: clock.wallMilliseconds)
            executor.maintain()
            executor.tickFeed()
            if ticks % 20 == 0 { executor.measure() }
            if let planned = adopted?.map.shard(executor.shard) { executor.pursue(planned) }
        }
        letGo()
        flusher?.check(logBytesSinceFlush: log.bytesSinceFlush, isLogFull: log.writer.isFull)
        servingChanged()
    }

    /// Tells, once, that the shards can be used.
    private func servingChanged() {
        guard !isServing, complaint == nil else { return }
        isServing = true
        onServing?()
    }

    private func flushed() {
        log.noteFlushed()
        for executor in executors { executor.group.noteFlushed(executor.store.flushedIndex) }
    }

    // MARK: Invocations

    /// Looks ahead to an invocation of a batch that is about to be dispatched.
    @inline(__always)
    func prefetch(_ invocation: borrowing InvocationView) {
        let bucket = Int(invocation.slot) / slotsPerBucket
        guard bucket < owners.count, let executor = owners[bucket], case .call(let call) = invocation.operation else {
            return
        }
        executor.prefetch(call)
    }

    func prefetched() {
        for executor in executors { executor.prefetched() }
    }

    /// Takes note of the newest timestamp that a session has seen: what it does next is later. Answers why the session
    /// cannot be served: its bookmark is further ahead than any clock of the cluster may be.
    @inline(__always)
    func observe(_ bookmark: Timestamp) -> DatabaseError? {
        guard bookmark > clock.last else { return nil }
        do throws(DatabaseError) {
            try clock.observe(bookmark)
            return nil
        } catch {
            return error
        }
    }

    /// Hands an invocation to the shard that owns its slot.
    @inline(__always)
    func dispatch(_ invocation: borrowing InvocationView, on stream: InvocationStream, ready: ReplyBatchEncoder) {
        invocations &+= 1
        let bucket = Int(invocation.slot) / slotsPerBucket
        let executor = bucket < owners.count ? owners[bucket] : nil
        if invocation.hasTerms {
            return dispatchWithTerms(invocation, to: executor, bucket: bucket, on: stream, ready: ready)
        }
        guard let executor else { return stream.refuse(invocation.id, leader: nil) }
        executor.evaluate(invocation, on: stream, ready: ready)
    }

    /// The same for a call that demands more than its operation.
    @inline(never)
    private func dispatchWithTerms(
        _ invocation: borrowing InvocationView, to executor: ShardExecutor?, bucket: Int, on stream: InvocationStream,
        ready: ReplyBatchEncoder
    ) {
        if let refusal = InvocationTerms.refusal(
            of: invocation, waitedMilliseconds: stream.waitedMilliseconds, rights: stream.rights)
        {
            if !invocation.trace.isEmpty { noteRefusal(refusal, id: invocation.id, trace: invocation.trace) }
            return ready.error(invocation.id, refusal)
        }
        if case .home(let command) = invocation.operation {
            return takeHome(command, invocation, on: stream, ready: ready)
        }
        if invocation.transaction != 0 {
            guard let executor else { return stream.refuse(invocation.id, leader: nil) }
            return executor.takeStatement(invocation, on: stream, ready: ready)
        }
        if invocation.hasScope {
            guard let executor else { return stream.refuse(invocation.id, leader: nil) }
            return executor.readPast(invocation, on: stream, ready: ready)
        }
        if let terms = invocation.readTerms {
            // Refused without a fence: these reads are in no order with the calls that only a leader takes.
            guard let executor else { return ready.error(invocation.id, Self.noReplica) }
            if executor.read(invocation, terms, bookmark: stream.bookmark, scratch: scratch, ready: ready) { return }
        }
        guard let executor else { return stream.refuse(invocation.id, leader: nil) }
        // A read may be made as often as one likes.
        guard invocation.isIdempotent, InvocationTerms.isWrite(invocation.operation) else {
            return executor.evaluate(invocation, on: stream, ready: ready)
        }
        do throws(DatabaseError) {
            let token = try InvocationToken(invocation, session: stream.session, bucket: bucket)
            executor.evaluate(invocation, token, on: stream, ready: ready)
        } catch {
            ready.error(invocation.id, error)
        }
    }

    private static let noReplica = DatabaseError(.tooStale, "This node has no replica of the slot's shard")

    /// Tells of a refused call that somebody traces; of a few a second, because each line costs microseconds.
    private func noteRefusal(_ error: DatabaseError, id: UInt64, trace: ByteView) {
        let second = loop.now / 1_000_000_000
        if refusalsNoted.second != second { refusalsNoted = (second, 0) }
        guard refusalsNoted.count < 10 else { return }
        refusalsNoted.count += 1
        logger.info(
            "refused a traced call",
            [
                "trace": .text(InvocationTerms.traceText(trace)), "id": .count(id), "error": .text("\(error)"),
            ])
    }

    // MARK: Figures

    var logStatistics: LogStatistics { log.writer.statistics }
    var storeBytes: UInt64 { store.sizeEstimate }
    var isSyncedAlways: Bool { if case .always = settings.durability { true } else { false } }

    // MARK: Drain

    /// Answers what is in flight, writes everything to the store, closes log and store.
    func drain(then done: @escaping () -> Void) {
        isDraining = true
        timer?.cancel()  // Nothing of the shards' own may meet a closed log or store.
        peers?.close()
        steps?.close()
        homes?.close()
        changeFeeds?.close()
        snapshotLinks?.close()
        snapshots?.close()
        guard let flusher else { return done() }
        flusher.flush { [self] in
            owners = []  // Whoever still calls is told that it is not led here, and not left without an answer.
            flushed()
            departures.close { [self] in
                log.close()
                store.close()
                workers.close()
                done()
            }
        }
    }
}
