import Base

/// One shard's records: an overlay of what was applied, in front of the store that all shards of a node share.
///
/// Write-behind. `apply` puts effects into the overlay and nothing else; the store is written in the background:
///
///     loop    let job = try shardStore.beginFlush()      the overlay is frozen, a new one takes over
///     worker  try job.write(); try store.flush()         several shards' jobs may share one flush
///     loop    shardStore.finishFlush(job)                flushedIndex moves; the log may be cut up to it
///
/// If the worker fails, the job is kept and can be written again (`job.write()` is idempotent: the same puts and
/// deletes).
///
/// Applying before commit. A leader may apply an entry when it proposes it, so that its reads see pending state in
/// one place. Then (1) a job may be written only once its `index` is committed, and (2) whoever loses leadership
/// calls `discardOverlay` and applies again from the log, above `flushedIndex`.
///
/// Loop-confined; only the job travels.
package final class ShardStore {
    package let shard: ShardID
    let store: any Store
    private(set) var overlay = Overlay()
    private(set) var frozen: FlushJob?
    private var installing: SnapshotInstall?
    /// The newest entry that reads see.
    package private(set) var appliedIndex: LogIndex
    /// The newest entry that is durable in the store: the log is needed above it only.
    package private(set) var flushedIndex: LogIndex
    /// How far the past can be read, and who holds that.
    var history: HistoryLedger
    /// Who hears of changes as they are applied.
    package let watches = RangeWatch()
    /// The buckets of the shard, once they are known: then the store may drop what the floor has passed.
    package var buckets: Range<Int> = 0..<0 {
        didSet { store.setHistoryFloor(durableFloor, buckets: buckets) }
    }
    /// What a restart would find as floor.
    private var durableFloor: Timestamp
    /// What the last installed snapshot said of the log. If it lies behind the log's end, or the log has another term
    /// at its index, a crash came between an install and the log's reset: nothing of the log may be replayed.
    package private(set) var base: SnapshotBase?

    /// Reads how far the store got; the caller then replays the log above `appliedIndex`.
    package init(shard: ShardID, store: any Store) throws(StoreError) {
        self.shard = shard
        self.store = store
        // Everything that survived in the store is durable, so a restart begins with both equal.
        let applied = try AppliedIndex.read(shard, from: store)
        appliedIndex = applied.index
        flushedIndex = applied.index
        history = HistoryLedger(floor: applied.floor, newest: applied.newest)
        durableFloor = applied.floor
        base = try SnapshotBase.read(shard, from: store)
    }

    // MARK: Writing

    /// Puts the effects of the entry after `appliedIndex` in front of the store. An error means damage or a skipped
    /// entry: the replica must stop.
    package func apply(_ effects: ByteView, index: LogIndex) throws(StoreError) {
        guard installing == nil else { throw StoreError(.misuse, "shard \(shard): a snapshot is being installed") }
        guard index.rawValue == appliedIndex.rawValue &+ 1 else {
            throw StoreError(.corruption, "shard \(shard): entry \(index) cannot follow \(appliedIndex)")
        }
        try overlay.apply(effects)
        if !watches.isEmpty { try watches.note(effects) }
        appliedIndex = index
    }

    /// Memory that the overlays take: what a flush is due by, and what back-pressure counts.
    package var overlayBytes: Int { overlay.byteCount + (frozen?.overlay.byteCount ?? 0) }

    /// The number of keys in the overlays.
    package var overlayCount: Int { overlay.count + (frozen?.overlay.count ?? 0) }

    /// Changes in the overlays: what a flush would keep versions of.
    package var overlayChanges: Int { overlay.changeCount + (frozen?.overlay.changeCount ?? 0) }

    package var isFlushing: Bool { frozen != nil }

    /// Freezes the overlay for a worker to write; nil when a flush or an install is under way, or nothing is
    /// new. `historyBudget`: if there were more changes than that, the flush keeps no superseded versions: the history
    /// floor rises to the newest timestamp, or as far as holds allow.
    ///
    /// `ofFloor`: also where nothing is new but how far the past may be read.
    package func beginFlush(historyBudget: Int = .max, ofFloor: Bool = false) -> FlushJob? {
        guard frozen == nil, installing == nil, appliedIndex > flushedIndex || ofFloor && isFloorNew else { return nil }
        let newest = newestTimestamp
        var floor = historyFloor
        if overlay.changeCount > historyBudget { floor = max(floor, history.oldestHold(above: floor) ?? newest) }
        // At once: the worker takes away what is not kept while the frozen overlay is still read.
        history.wrote(floor: floor, newest: history.newest)
        let job = FlushJob(
            shard: shard, store: store, overlay: overlay, index: appliedIndex, floor: floor, newest: newest)
        overlay = Overlay(expected: job.overlay.count)
        frozen = job
        return job
    }

    /// The floor is higher than a restart would find it.
    package var isFloorNew: Bool { historyFloor > durableFloor }

    /// What the store may let go of in some collections of the shard; nil: in all of them. `rewrites`: what is left
    /// is to be written anew as well.
    package func reclaiming(_ collections: [CollectionID]?, rewrites: Bool) -> Reclaiming {
        Reclaiming(buckets: buckets, floor: durableFloor, collections: collections, rewrites: rewrites)
    }

    /// Ends a flush whose `write` and the store's `flush` have succeeded.
    package func finishFlush(_ job: FlushJob) {
        precondition(job === frozen, "a flush ends once, at the shard where it began")
        frozen = nil
        flushedIndex = job.index
        history.wrote(floor: job.floor, newest: job.newest)
        history.wrote(job.overlay.changes)
        durableFloor = job.floor
        store.setHistoryFloor(durableFloor, buckets: buckets)
    }

    /// Freezes, writes and flushes at once: for tests, simulation and shutdown.
    package func flush() throws(StoreError) {
        while let job = frozen ?? beginFlush() {  // Twice when a flush was under way.
            try job.write()
            try store.flush()
            finishFlush(job)
        }
    }

    /// Forgets everything above the store, also a frozen overlay that has not been written (the job must not run any
    /// more).
    package func discardOverlay() throws(StoreError) {
        overlay = Overlay()
        watches.forgetAll()
        frozen = nil
        let applied = try AppliedIndex.read(shard, from: store)
        appliedIndex = applied.index
        history.wrote(floor: applied.floor, newest: applied.newest)
    }

    // MARK: Snapshots

    /// What the store holds of the shard now; entries above the view's index are in the overlay only.
    package func openView() throws(StoreError) -> ShardView { try ShardView(shard, in: store) }

    package var isInstalling: Bool { installing != nil }

    /// Prepares to replace everything by a snapshot; a worker then runs the steps of what it returns. Until
    /// `finishInstall` nothing may be applied, and reads show the old records up to the moment of its last step, then
    /// a mixture: serve none. `ranges` are the shard's keys as this node knows them.
    package func beginInstall(
        _ manifest: SnapshotManifest, from directory: SnapshotDirectory, ranges: [KeyRange]
    ) throws(StoreError) -> SnapshotInstall {
        guard frozen == nil, installing == nil else {
            throw StoreError(.misuse, "shard \(shard): a flush or an install is under way")
        }
        guard manifest.shard == shard, manifest.ranges == ranges else {
            throw StoreError(.misuse, "shard \(shard): the snapshot is of shard \(manifest.shard), or of other keys")
        }
        guard manifest.index > appliedIndex else {
            throw StoreError(
                .misuse, "shard \(shard): a snapshot at \(manifest.index) is behind what is applied, \(appliedIndex)")
        }
        // The records that come may have an older past than those that go.
        store.setHistoryFloor(min(durableFloor, manifest.floor), buckets: buckets)
        let install = SnapshotInstall(manifest, from: directory, into: store)
        installing = install
        return install
    }

    /// Ends an install that is complete: the overlay is of the past.
    package func finishInstall(_ install: SnapshotInstall) {
        precondition(install === installing && install.isComplete, "an install ends once, when it is complete")
        overlay = Overlay()
        watches.forgetAll()
        installing = nil
        let manifest = install.manifest
        (appliedIndex, flushedIndex) = (manifest.index, manifest.index)
        history.replaced(floor: manifest.floor, newest: manifest.newest)
        durableFloor = manifest.floor
        store.setHistoryFloor(durableFloor, buckets: buckets)
        base = SnapshotBase(index: manifest.index, term: manifest.term, membership: manifest.membership)
    }

    /// Ends an install that failed. False: the shard is as it was before. True: the store put the snapshot in force
    /// although it reported a failure, and the shard is at its index.
    package func abandonInstall(_ install: SnapshotInstall) throws(StoreError) -> Bool {
        precondition(install === installing, "an install ends once, at the shard where it began")
        let stored = try AppliedIndex.read(shard, from: store)
        watches.forgetAll()
        installing = nil
        durableFloor = stored.floor
        store.setHistoryFloor(durableFloor, buckets: buckets)
        guard stored.index == install.manifest.index else { return false }
        overlay = Overlay()
        (appliedIndex, flushedIndex) = (stored.index, stored.index)
        history.replaced(floor: stored.floor, newest: stored.newest)
        base = try SnapshotBase.read(shard, from: store)
        return true
    }

    // MARK: Reading

    /// The value of `key`, copied.
    package func get(_ key: ByteView) throws(StoreError) -> Bytes? {
        var result: Bytes?
        try withValue(key) { result = $0?.bytes }
        return result
    }

    /// Calls `body` once with the value of `key` in place, nil when there is none. The view is valid during the call
    /// only, and `body` must not apply.
    package func withValue(_ key: ByteView, _ body: (ByteView?) -> Void) throws(StoreError) {
        switch overlay.lookup(key) {
        case .found(let value): return body(value)
        case .deleted: return body(nil)
        case .absent: break
        }
        if let frozen {
            switch frozen.overlay.lookup(key) {
            case .found(let value): return body(value)
            case .deleted: return body(nil)
            case .absent: break
            }
        }
        var isDamaged = false
        try store.withValue(key) { stored in
            guard let stored else { return body(nil) }
            guard let split = StoredValue.split(stored) else {
                isDamaged = true
                return
            }
            body(split.value)
        }
        if isDamaged { throw StoredValue.damaged }
    }

    /// Calls `body` with the records `from <= key < to` (an empty `to`: to the end) in order of key, until it returns
    /// false. The views are valid during the call only, and `body` must not apply.
    package func scan(
        from: ByteView, to: ByteView, _ body: (_ key: ByteView, _ value: ByteView) -> Bool
    ) throws(StoreError) {
        let end = to.isEmpty ? AppliedIndex.prefix : to.bytes
        let below = try store.scan(from: from.bytes, to: end)
        let isIntact = end.withUnsafeBytes { end in
            var merge = MergedScan(
                upper: overlay, middle: frozen?.overlay, store: below, from: from, to: end)
            while let record = merge.next() {
                guard body(record.key, record.value) else { return true }
            }
            return !merge.isDamaged
        }
        guard isIntact else { throw StoredValue.damaged }
        try below.check()
    }

    /// Where to begin to find the last records before `to`: from that key on there are `count` records at least, unless
    /// they were deleted, and not many times as many. Nil: at `from`. A hint: what there is, a scan says.
    package func key(_ count: Int, before to: ByteView, from: ByteView) throws(StoreError) -> Bytes? {
        let end = to.isEmpty ? AppliedIndex.prefix : to.bytes
        var found = try store.key(count, before: end, from: from.bytes)
        end.withUnsafeBytes { end in
            for key in [
                overlay.key(count, before: end, from: from), frozen?.overlay.key(count, before: end, from: from),
            ] {
                guard let key else { continue }
                if let best = found, key.lexicographicallyPrecedes(best) { continue }
                found = key
            }
        }
        return found
    }
}
