import Base
import DataModel

/// A frozen overlay on its way into the store, and what it supersedes on its way into the history.
package final class FlushJob: @unchecked Sendable {  // One thread at a time; see `Overlay` on who reads what.
    package let shard: ShardID
    /// The newest entry that the overlay holds.
    package let index: LogIndex
    let overlay: Overlay
    private let store: any Store
    /// Nothing is kept of what was superseded by then: below, the store cannot tell the past.
    let floor: Timestamp
    /// The newest commit timestamp of all that the store has then.
    package let newest: Timestamp
    /// Keys whose superseded versions were kept, and bytes that they take in the store.
    package private(set) var historyKeys = 0, historyBytes = 0
    private var isWritten = false
    /// Bytes of history gathered before they are written: what was superseded may be far more than what is new.
    private static let historyBatch = 256 << 10

    init(
        shard: ShardID, store: any Store, overlay: Overlay, index: LogIndex, floor: Timestamp, newest: Timestamp
    ) {
        self.shard = shard
        self.store = store
        self.overlay = overlay
        self.index = index
        self.floor = floor
        self.newest = newest
    }

    /// Writes the overlay and the index it reaches in one batch. Any thread; it is durable after the store's `flush`.
    ///
    /// Most of the history may be written before: it says what was the newest until when, which is true and asked for
    /// only where a newer version is found. If a crash comes between, the same is written once more.
    package func write() throws(StoreError) {
        // Once it is in the store, the store no longer shows what it has superseded.
        guard !isWritten else { return }
        let entries = overlay.entries
        var batch = WriteBatch(capacity: entries.reduce(4096) { $0 + $1.storedSize })
        overlay.tombstones.forEach { batch.deleteRange(from: $0, to: $1) }
        let history = HistoryWriter()
        var reads = AscendingReads(store)
        (historyKeys, historyBytes) = (0, 0)
        // In order of the keys: RocksDB's skip list then inserts beside its last place, and a flush costs half.
        for place in Self.sorted(entries) {
            let entry = entries[place.position]
            if !entry.isDeleted {
                batch.put(entry.keyView, entry.valueView, entry.timestamp)
            } else if entry.state == Overlay.Entry.deleted {
                batch.delete(entry.keyView)
            }
            try keep(entry, history, &reads)
            guard history.batch.effects.count > Self.historyBatch else { continue }
            try store.write(history.batch)
            historyBytes += history.batch.effects.count
            history.reset()
        }
        historyBytes += history.batch.effects.count
        batch.append(history.batch)
        AppliedIndex(index: index, floor: floor, newest: newest).put(shard, into: &batch)
        try store.write(batch)
        isWritten = true
    }

    /// An entry, and the beginning of its key as numbers.
    private struct Place {
        let first: UInt64, second: UInt64
        let position: Int

        init(_ key: ByteView, _ position: Int) {
            // What a short key has not counts as zero: nothing is less.
            var words: (UInt64, UInt64) = (0, 0)
            withUnsafeMutableBytes(of: &words) { words in
                words.copyMemory(from: ByteView(rebasing: key.prefix(words.count)))
            }
            (first, second) = (UInt64(bigEndian: words.0), UInt64(bigEndian: words.1))
            self.position = position
        }
    }

    /// Entries in the order of their keys. Most comparisons look at neither entries nor keys, which lie all over the
    /// memory: where an entry lies, and 16 bytes of its key, are enough.
    private static func sorted(_ entries: ContiguousArray<Overlay.Entry>) -> [Place] {
        var places: [Place] = []
        places.reserveCapacity(entries.count)
        for position in entries.indices { places.append(Place(entries[position].keyView, position)) }
        places.sort { left, right in
            if left.first != right.first { return left.first < right.first }
            if left.second != right.second { return left.second < right.second }
            return compareKeys(entries[left.position].keyView, entries[right.position].keyView) < 0
        }
        return places
    }

    private struct Superseded {
        let version: Overlay.Version
        let until: Timestamp
    }
    private var chain: [Superseded] = []

    /// Writes what the entry superseded and the floor does not hide: versions that the overlay has, and the one that
    /// the store has.
    private func keep(
        _ entry: Overlay.Entry, _ history: HistoryWriter, _ reads: inout AscendingReads
    ) throws(StoreError) {
        guard entry.timestamp > floor, entry.state != Overlay.Entry.covered, HistoryKey.isKept(entry.keyView) else {
            return
        }
        historyKeys += 1
        chain.removeAll(keepingCapacity: true)
        var until = entry.timestamp
        var next = entry.previous
        var isStoreHidden = false
        while let place = next, until > floor {
            let version = Overlay.Version(at: place)
            if version.state == Overlay.Entry.covered {
                isStoreHidden = true
                break
            }
            if !version.isDeleted { chain.append(Superseded(version: version, until: until)) }
            until = version.timestamp
            next = version.previous
        }
        if !isStoreHidden, until > floor, !overlay.tombstones.contains(entry.keyView) {
            try keepStored(entry.keyView, until, history, &reads)
        }
        for superseded in chain.reversed() {
            let version = superseded.version
            history.add(
                HistoryRecord.Version(
                    value: version.valueView, timestamp: version.timestamp, until: superseded.until),
                of: entry.keyView)
        }
        history.finish(entry.keyView)
    }

    private func keepStored(
        _ key: ByteView, _ until: Timestamp, _ history: HistoryWriter, _ reads: inout AscendingReads
    ) throws(StoreError) {
        var isDamaged = false
        try reads.withValue(key) { stored in
            guard let stored else { return }
            guard let split = StoredValue.split(stored) else {
                isDamaged = true
                return
            }
            guard split.timestamp < until else { return }
            history.add(
                HistoryRecord.Version(value: split.value, timestamp: split.timestamp, until: until), of: key)
        }
        if isDamaged { throw StoredValue.damaged }
    }
}
