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
    private let store: any Store
    private var overlay = Overlay()
    private var frozen: FlushJob?
    /// The newest entry that reads see.
    package private(set) var appliedIndex: LogIndex
    /// The newest entry that is durable in the store: the log is needed above it only.
    package private(set) var flushedIndex: LogIndex

    /// Reads how far the store got; the caller then replays the log above `appliedIndex`.
    package init(shard: ShardID, store: any Store) throws(StoreError) {
        self.shard = shard
        self.store = store
        // Everything that survived in the store is durable, so a restart begins with both equal.
        appliedIndex = try AppliedIndex.read(shard, from: store)
        flushedIndex = appliedIndex
    }

    // MARK: Writing

    /// Puts the effects of the entry after `appliedIndex` in front of the store. An error means damage or a skipped
    /// entry: the replica must stop.
    package func apply(_ effects: ByteView, index: LogIndex) throws(StoreError) {
        guard index.rawValue == appliedIndex.rawValue &+ 1 else {
            throw StoreError(.corruption, "shard \(shard): entry \(index) cannot follow \(appliedIndex)")
        }
        try overlay.apply(effects)
        appliedIndex = index
    }

    /// Memory that the overlays take: what a flush is due by, and what back-pressure counts.
    package var overlayBytes: Int { overlay.byteCount + (frozen?.overlay.byteCount ?? 0) }

    /// The number of keys in the overlays.
    package var overlayCount: Int { overlay.count + (frozen?.overlay.count ?? 0) }

    package var isFlushing: Bool { frozen != nil }

    /// Freezes the overlay for a worker to write; nil when a flush is under way or nothing is new.
    package func beginFlush() -> FlushJob? {
        guard frozen == nil, appliedIndex > flushedIndex else { return nil }
        let job = FlushJob(shard: shard, store: store, overlay: overlay, index: appliedIndex)
        overlay = Overlay(expected: job.overlay.count)
        frozen = job
        return job
    }

    /// Ends a flush whose `write` and the store's `flush` have succeeded.
    package func finishFlush(_ job: FlushJob) {
        precondition(job === frozen, "a flush ends once, at the shard where it began")
        frozen = nil
        flushedIndex = job.index
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
        frozen = nil
        appliedIndex = try AppliedIndex.read(shard, from: store)
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
        try store.withValue(key, body)
    }

    /// Calls `body` with the records `from <= key < to` (an empty `to`: to the end) in order of key, until it returns
    /// false. The views are valid during the call only, and `body` must not apply.
    package func scan(
        from: ByteView, to: ByteView, _ body: (_ key: ByteView, _ value: ByteView) -> Bool
    ) throws(StoreError) {
        let end = to.isEmpty ? AppliedIndex.prefix : to.bytes
        let below = try store.scan(from: from.bytes, to: end)
        end.withUnsafeBytes { end in
            var merge = MergedScan(
                upper: overlay, middle: frozen?.overlay, store: below, from: from, to: end)
            while let record = merge.next() {
                guard body(record.key, record.value) else { return }
            }
        }
        try below.check()
    }
}

/// A frozen overlay on its way into the store.
package final class FlushJob: @unchecked Sendable {  // Immutable; see `Overlay` on who reads what.
    package let shard: ShardID
    /// The newest entry that the overlay holds.
    package let index: LogIndex
    let overlay: Overlay
    private let store: any Store

    init(shard: ShardID, store: any Store, overlay: Overlay, index: LogIndex) {
        self.shard = shard
        self.store = store
        self.overlay = overlay
        self.index = index
    }

    /// Writes the overlay and the index it reaches in one batch. Any thread; it is durable after the store's `flush`.
    package func write() throws(StoreError) {
        var batch = WriteBatch(capacity: 64 << 10)
        overlay.tombstones.forEach { batch.deleteRange(from: $0, to: $1) }
        // In order of the keys: RocksDB's skip list then inserts beside its last place, and a flush costs half.
        let entries = overlay.entries
        var order = Array(entries.indices)
        order.sort { compareKeys(entries[$0].keyView, entries[$1].keyView) < 0 }
        for position in order {
            let entry = entries[position]
            if !entry.isDeleted {
                batch.put(entry.keyView, entry.valueView)
            } else if entry.state == Overlay.Entry.deleted {
                batch.delete(entry.keyView)
            }
        }
        AppliedIndex.put(shard, index, into: &batch)
        try store.write(batch)
    }
}

/// The record that says how far a shard's log has been applied to the store.
///
/// Key: FF FF FF FF (no data key begins so: a bucket is at most 16383), shard u32 big-endian. Value: version u8 = 1,
/// index u64 little-endian.
enum AppliedIndex {
    /// The end of all data keys.
    static let prefix = Bytes(repeating: 0xff, count: 4)

    private static func key(_ shard: ShardID) -> Bytes {
        var key = prefix
        withUnsafeBytes(of: shard.rawValue.bigEndian) { key.append(contentsOf: $0) }
        return key
    }

    static func put(_ shard: ShardID, _ index: LogIndex, into batch: inout WriteBatch) {
        var value: Bytes = [1]
        withUnsafeBytes(of: index.rawValue.littleEndian) { value.append(contentsOf: $0) }
        batch.put(key(shard), value)
    }

    static func read(_ shard: ShardID, from store: any Store) throws(StoreError) -> LogIndex {
        guard let found = try store.get(key(shard)) else { return .zero }
        let index: UInt64? = found.withUnsafeBytes {
            var reader = ByteReader($0)
            guard reader.byte() == 1, let index = reader.littleEndian(UInt64.self), reader.isAtEnd else { return nil }
            return index
        }
        guard let index else {
            throw StoreError(
                .corruption, "shard \(shard): the record of the applied index is damaged or newer than this Orbit")
        }
        return LogIndex(rawValue: index)
    }
}
