import Base
import DataModel
import Engine
import Storage

/// The memory that columns of tables may take in a node.
final class ColumnMemory {
    let limit: Int
    fileprivate(set) var used = 0
    /// Blocks that were made, and such as were asked for and there.
    fileprivate(set) var made: UInt64 = 0
    fileprivate(set) var found: UInt64 = 0

    init(limit: Int) { self.limit = limit }

    func register(_ metrics: Metrics) {
        metrics.sampledGauge("orbit_column_bytes", help: "Columns of tables that are kept in memory") { [self] in
            Double(used)
        }
        metrics.sampledCounter("orbit_column_blocks_made_total", help: "Blocks of columns made of rows") { [self] in
            Double(made)
        }
        metrics.sampledCounter("orbit_column_blocks_found_total", help: "Blocks of columns in place of rows") {
            [self] in Double(found)
        }
    }
}

/// Columns of a shard's tables, decoded block by block by the first scan that aggregates or filters them, and kept for
/// the next ones as long as no row of the block changes.
///
/// A block is as its rows were at a time, and nothing of them that was applied by then has a later timestamp: so it is
/// as they are at every time from their newest change on, until the next one, with which it goes (`WatchedRange`). A
/// read at a time comes here when everything up to that time is applied (`PastReads`).
final class ShardColumns {
    /// Columns of one table, and tables.
    private static let columnLimit = 16, tableLimit = 64

    /// Some rows of a table.
    private final class Block {
        let version: UInt64
        let columns: [ColumnID]
        let rows: RowBlock
        private let size: Int
        private let memory: ColumnMemory

        init(_ rows: RowBlock, _ columns: [ColumnID], version: UInt64, _ memory: ColumnMemory) {
            (self.rows, self.columns, self.version, self.memory) = (rows, columns, version, memory)
            size = Self.size(rows)
            memory.used += size
        }

        deinit { memory.used -= size }

        static func size(_ rows: RowBlock) -> Int { rows.footprint + 256 }
    }

    private struct Table {
        let version: UInt64
        /// Those that statements have asked for.
        var columns: [ColumnID]
        var lastUse: UInt64
    }

    private let store: ShardStore
    private let memory: ColumnMemory
    private let time: () -> Timestamp
    private var tables: [CollectionID: Table] = [:]
    private var uses: UInt64 = 0

    /// `time`: of the rows that are being read.
    init(_ store: ShardStore, _ memory: ColumnMemory, time: @escaping () -> Timestamp) {
        (self.store, self.memory, self.time) = (store, memory, time)
    }

    /// A fragment comes; answers what else of its table should be read than it needs.
    func want(_ fragment: ScanFragment) -> [ColumnID] {
        guard memory.limit > 0 else { return [] }
        uses += 1
        let (id, version) = (fragment.collection.id, fragment.collection.version)
        if tables[id] == nil, tables.count >= Self.tableLimit { dropOldest(but: id) }
        var table = tables[id] ?? Table(version: version, columns: [], lastUse: uses)
        if table.version != version || !store.watches.isWatched(id) {
            store.watches.forget(id)
            table = Table(version: version, columns: [], lastUse: uses)
            store.watch(id)
        }
        let wanted = fragment.columns
        let fresh = wanted.filter { !table.columns.contains($0) }
        if table.columns.count + fresh.count > Self.columnLimit {
            table.columns = wanted
        } else {
            table.columns += fresh
        }
        table.lastUse = uses
        tables[id] = table
        return table.columns.filter { !wanted.contains($0) }
    }

    /// The rows from a key on, with the columns of the fragment, if they are there; and where they end.
    func block(of fragment: ScanFragment, _ bucket: Int, _ key: ByteView) -> (RowBlock, end: Bytes?)? {
        guard let (range, end) = range(fragment, bucket, key), let block = range.content as? Block,
            range.newest <= time(), block.version == fragment.collection.version,
            range.from.withUnsafeBytes({ $0.equals(key) })
        else { return nil }
        var places: [Int] = []
        for column in fragment.columns {
            guard let place = block.columns.firstIndex(of: column) else { return nil }
            places.append(place)
        }
        memory.found &+= 1
        return (block.rows.selecting(places), end)
    }

    func range(_ fragment: ScanFragment, _ bucket: Int, _ key: ByteView) -> (range: WatchedRange, end: Bytes?)? {
        memory.limit > 0 ? store.watches.range(fragment.collection.id, bucket: bucket, at: key) : nil
    }

    /// Keeps the rows of a range, which were read from its beginning until a key (nil: to the end of the bucket).
    func keep(
        _ rows: RowBlock, _ columns: [ColumnID], of fragment: ScanFragment, _ range: WatchedRange, _ bucket: Int,
        until key: Bytes?
    ) {
        let id = fragment.collection.id
        guard range.newest <= time() else { return }
        range.content = nil
        let size = Block.size(rows)
        while memory.used + size > memory.limit { guard dropOldest(but: id) else { return } }
        if let key { store.watches.split(id, bucket: bucket, at: key) }
        range.content = Block(rows, columns, version: fragment.collection.version, memory)
        memory.made &+= 1
    }

    @discardableResult
    private func dropOldest(but id: CollectionID) -> Bool {
        guard let oldest = tables.filter({ $0.key != id }).min(by: { $0.value.lastUse < $1.value.lastUse })?.key else {
            return false
        }
        tables[oldest] = nil
        store.watches.forget(oldest)
        return true
    }
}
