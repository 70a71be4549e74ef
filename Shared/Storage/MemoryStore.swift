import Base
import Synchronization

/// A store in memory for tests and simulation: an array ordered by key, and the copy of it that the last flush made
/// durable.
///
/// `crash` forgets what was not flushed, all of it or (as RocksDB may) a part that was written first: batches reach a
/// disk in their order, so what survives is a prefix of the batches after the last flush.
package final class MemoryStore: Store {
    struct Record: Sendable {
        var key: Bytes
        var value: Bytes
    }

    private struct State {
        var records: [Record] = []
        /// What `flush` made durable, then one state for each later batch.
        var survivors: [[Record]] = [[]]
        var failNext: StoreError?
        var isClosed = false
    }

    private let state = Mutex(State())

    package init() {}

    package func get(_ key: ByteView) throws(StoreError) -> Bytes? {
        let records = try current()
        let position = Self.position(of: key, in: records)
        guard position < records.count, Self.holds(records[position], key) else { return nil }
        return records[position].value
    }

    package func withValue(_ key: ByteView, _ body: (ByteView?) -> Void) throws(StoreError) {
        guard let value = try get(key) else { return body(nil) }
        value.withUnsafeBytes { body($0) }
    }

    package func write(_ batch: borrowing WriteBatch) throws(StoreError) {
        var records = try current()
        try failIfAsked()
        var reader = try EffectReader(batch.effects)
        while let effect = try reader.next() {
            switch effect {
            case .put(let key, let value):
                let position = Self.position(of: key, in: records)
                if position < records.count, Self.holds(records[position], key) {
                    records[position].value = value.bytes
                } else {
                    records.insert(Record(key: key.bytes, value: value.bytes), at: position)
                }
            case .delete(let key):
                let position = Self.position(of: key, in: records)
                if position < records.count, Self.holds(records[position], key) { records.remove(at: position) }
            case .timestamp, .note: break
            case .deleteRange(let from, let to), .collectRange(let from, let to, _):
                let start = Self.position(of: from, in: records)
                let end = Self.position(of: to, in: records)
                if start < end { records.removeSubrange(start..<end) }
            }
        }
        let result = records
        state.withLock {
            $0.records = result
            $0.survivors.append(result)
        }
    }

    package func scan(from: Bytes, to: Bytes) throws(StoreError) -> any StoreIterator {
        MemoryStoreIterator(records: try current(), from: from, to: to)
    }

    package func key(_ count: Int, before to: Bytes, from: Bytes) throws(StoreError) -> Bytes? {
        let records = try current()
        let start = from.withUnsafeBytes { Self.position(of: $0, in: records) }
        let end = to.isEmpty ? records.count : to.withUnsafeBytes { Self.position(of: $0, in: records) }
        return end - start >= max(count, 1) ? records[end - max(count, 1)].key : nil
    }

    package func view() throws(StoreError) -> any StoreView { MemoryStoreView(try current()) }

    package func replace(
        _ ranges: [KeyRange], drafts: @escaping (Int) -> String
    ) throws(StoreError) -> any StoreReplacement {
        MemoryStoreReplacement(self, try RangeCursor(ranges))
    }

    /// What a replacement commits: durable at once, and with it all that was written before.
    func replace(
        _ ranges: [KeyRange], with added: [Record], _ batch: borrowing WriteBatch
    ) throws(StoreError) {
        try failIfAsked()
        let before = try current()
        var records: [Record] = []
        var next = 0
        for record in before where !record.key.withUnsafeBytes({ key in ranges.contains { $0.contains(key) } }) {
            while next < added.count, added[next].key.lexicographicallyPrecedes(record.key) {
                records.append(added[next])
                next += 1
            }
            records.append(record)
        }
        records += added[next...]
        state.withLock { $0.records = records }
        do throws(StoreError) { try write(batch) } catch {
            state.withLock { $0.records = before }
            throw error
        }
        state.withLock { $0.survivors = [$0.records] }
    }

    package func flush() throws(StoreError) {
        try failIfAsked()
        state.withLock { $0.survivors = [$0.records] }
    }

    package func reclaim(_ ranges: [KeyRange]) {}

    package func setHistoryFloor(_ floor: Timestamp, buckets: Range<Int>) {
        let floors = HistoryFloors()
        floors.set(floor, buckets: buckets)
        let isKept: (Record) -> Bool = { record in
            record.key.withUnsafeBytes { key in !floors.isOver(key) }
        }
        state.withLock { state in
            guard !state.records.allSatisfy(isKept) || state.survivors.count > 1 else { return }
            state.records = state.records.filter(isKept)
            state.survivors = state.survivors.map { $0.filter(isKept) }
        }
    }

    package func stopReclaiming() {}

    package var sizeEstimate: UInt64 {
        state.withLock { $0.records.reduce(0) { $0 + UInt64($1.key.count + $1.value.count) } }
    }

    package func close() {
        state.withLock { $0.isClosed = true }
    }

    /// The number of records.
    package var count: Int { state.withLock { $0.records.count } }

    /// Forgets what was not flushed, except for the first `surviving` batches written since the last flush; then the
    /// store is open again, as after a restart.
    package func crash(surviving: Int = 0) {
        state.withLock {
            let kept = min(max(surviving, 0), $0.survivors.count - 1)
            $0.records = $0.survivors[kept]
            $0.survivors = [$0.records]
            $0.isClosed = false
            $0.failNext = nil
        }
    }

    /// The number of batches that a crash now could lose.
    package var unflushedBatches: Int { state.withLock { $0.survivors.count - 1 } }

    /// Lets the next `write` or `flush` fail.
    package func failNext(with error: StoreError) {
        state.withLock { $0.failNext = error }
    }

    private func failIfAsked() throws(StoreError) {
        let error = state.withLock { (state: inout State) -> StoreError? in
            defer { state.failNext = nil }
            return state.failNext
        }
        if let error { throw error }
    }

    private func current() throws(StoreError) -> [Record] {
        let records = state.withLock { $0.isClosed ? nil : $0.records }
        guard let records else { throw StoreError(.misuse, "the store is closed") }
        return records
    }

    /// The first position whose key is not below `key`.
    static func position(of key: ByteView, in records: [Record]) -> Int {
        var low = 0
        var high = records.count
        while low < high {
            let middle = (low + high) / 2
            let isBelow = records[middle].key.withUnsafeBytes { compareKeys($0, key) < 0 }
            if isBelow { low = middle + 1 } else { high = middle }
        }
        return low
    }

    static func holds(_ record: Record, _ key: ByteView) -> Bool {
        record.key.withUnsafeBytes { $0.equals(key) }
    }
}

final class MemoryStoreView: StoreView {
    private let records: [MemoryStore.Record]

    init(_ records: [MemoryStore.Record]) { self.records = records }

    func get(_ key: ByteView) throws(StoreError) -> Bytes? {
        let position = MemoryStore.position(of: key, in: records)
        guard position < records.count, MemoryStore.holds(records[position], key) else { return nil }
        return records[position].value
    }

    func scan(from: Bytes, to: Bytes) throws(StoreError) -> any StoreIterator {
        MemoryStoreIterator(records: records, from: from, to: to)
    }

    /// A view is a copy.
    func historyFloor(in ranges: [KeyRange]) -> Timestamp { .zero }
}

final class MemoryStoreReplacement: StoreReplacement {
    private let store: MemoryStore
    private var cursor: RangeCursor
    private var added: [MemoryStore.Record] = []

    init(_ store: MemoryStore, _ cursor: RangeCursor) { (self.store, self.cursor) = (store, cursor) }

    func add(_ key: ByteView, _ value: ByteView) throws(StoreError) {
        try cursor.move(to: key)
        added.append(MemoryStore.Record(key: key.bytes, value: value.bytes))
    }

    func commit(_ batch: borrowing WriteBatch) throws(StoreError) {
        try store.replace(cursor.ranges, with: added, batch)
    }
}

/// Walks a copy of the records as they were when the scan began.
final class MemoryStoreIterator: StoreIterator {
    private let records: [MemoryStore.Record]
    private var position: Int
    private let start: Int
    private let end: Int
    /// The current record's bytes at a stable address, so that `key` and `value` can be views.
    private var held = ByteBuffer(capacity: 256)
    private var keyLength = 0

    init(records: [MemoryStore.Record], from: Bytes, to: Bytes) {
        self.records = records
        start = from.withUnsafeBytes { MemoryStore.position(of: $0, in: records) }
        let end = to.isEmpty ? records.count : to.withUnsafeBytes { MemoryStore.position(of: $0, in: records) }
        self.end = max(start, end)
        position = start
        hold()
    }

    var isValid: Bool { position < end }
    var key: ByteView { ByteView(rebasing: held.readable[..<keyLength]) }
    var value: ByteView { ByteView(rebasing: held.readable[keyLength...]) }

    func next() {
        position = min(position + 1, end)
        hold()
    }

    func seek(_ key: ByteView) {
        position = min(max(MemoryStore.position(of: key, in: records), start), end)
        hold()
    }

    func check() throws(StoreError) {}

    private func hold() {
        guard isValid else { return }
        held.removeAll()
        held.append(records[position].key)
        held.append(records[position].value)
        keyLength = records[position].key.count
    }
}
