import Base
import DataModel

/// Reads a part of a table's rows, and makes statistics of them. There is no result.
///
/// What is read are whole buckets, into which keys are hashed: any of them is as good as another. Of what is read, some
/// rows are kept, each with the same chance; values are counted in those.
final class AnalyzeOperator: Operator {
    /// Rows that are read at least, and kept at most.
    private static let wanted = 30_000, kept = 10_000
    /// Bytes of values in the statistics of a table: all shards keep them, in each of their buckets.
    private static let room = 16 << 10

    private let collection: CollectionDescriptor
    private var columns: ArraySlice<ColumnID>
    private let cursor: any RowCursor
    private var sample: [Bytes] = []
    private var read: UInt64 = 0
    private var isRead = false
    private var room = AnalyzeOperator.room
    /// About how many rows there are.
    private(set) var rows: UInt64 = 0
    private(set) var found: [ColumnID: CollectionDescriptor.Statistics.Column] = [:]

    init(
        _ collection: CollectionDescriptor, _ columns: [ColumnID], _ access: any RowAccess, _ context: ExecutionContext
    ) throws(StatementError) {
        (self.collection, self.columns) = (collection, columns[...])
        cursor = try access.scan(
            ScanRequest(collection: collection, range: .all, columns: columns, sample: Self.wanted))
        super.init(layout: Layout([]), types: [], context: context)
    }

    override func next() throws(StatementError) -> OperatorStep {
        while !isRead {
            switch try cursor.next() {
            case .waiting: return .waiting
            case .columns, .blocks: throw StatementError(.internalError, "rows of a table come as records")
            case .rows(let page): try take(page)
            case .end:
                isRead = true
                rows = UInt64(max(Double(read) / max(cursor.share, 0.000_001), 0).rounded())
            }
            if !isRead, try context.isSliceOver() { return .waiting }
        }
        while let column = columns.popFirst() {
            try count(column)
            if try context.isSliceOver() { return .waiting }
        }
        return .end
    }

    private func take(_ page: StoredRows) throws(StatementError) {
        var more = 0
        for record in page.records {
            guard let record else { continue }
            read += 1
            if sample.count < Self.kept {
                sample.append(record)
                more += record.count + 32
                continue
            }
            let place = context.settings.random() % read
            if place < UInt64(Self.kept) { sample[Int(place)] = record }
        }
        try context.charge(more)
    }

    private func count(_ id: ColumnID) throws(StatementError) {
        guard let column = collection.column(id) else { return }
        let decoder = RecordColumns(collection, [id], hasKey: false)
        let batch = try decoder.decode(
            StoredRows(keys: [], records: sample.map { $0 }), [column.type])
        var values = ValueCounts(column.type)
        for row in 0..<batch.count { values.add(batch.columns[0].value(at: row)) }
        var statistics = values.statistics(of: id, rows: rows)
        let size = (statistics.common.map(\.value) + statistics.bounds).reduce(0) {
            $0 + KeyForms.encode([$1], [column.type]).count + 8
        }
        if size > room { (statistics.common, statistics.bounds) = ([], []) } else { room -= size }
        found[id] = statistics
    }
}

/// The values of a column in a sample of rows, and how often each of them is there.
struct ValueCounts {
    /// How many frequent values are told, and into how many parts the others are divided.
    private static let common = 16, parts = 32
    /// Longer values are not told.
    private static let longest = 128

    private let type: DataType
    private var counts: [Bytes: (value: Value, rows: Int)] = [:]
    private var rows = 0, nulls = 0, bytes = 0

    init(_ type: DataType) { self.type = type }

    mutating func add(_ value: Value) {
        rows += 1
        if value.isNull {
            nulls += 1
            return
        }
        let key = KeyForms.encode([value], [type])
        bytes += type.isArray || type.postgres.length < 0 ? max(key.count - 1, 1) : Int(type.postgres.length)
        counts[key, default: (value, 0)].rows += 1
    }

    /// For a table of so many rows.
    func statistics(of column: ColumnID, rows all: UInt64) -> CollectionDescriptor.Statistics.Column {
        let scale = rows > 0 ? Double(all) / Double(rows) : 0
        var result = CollectionDescriptor.Statistics.Column(
            column: column, nulls: UInt64((Double(nulls) * scale).rounded()), distinct: 0)
        let there = rows - nulls
        guard there > 0 else { return result }
        result.width = UInt32(clamping: bytes / there)
        result.distinct = UInt64(distinct(of: Double(there) * scale).rounded())
        let frequent = frequent(there)
        result.common = frequent.map { .init(value: $0.value, rows: UInt64((Double($0.rows) * scale).rounded())) }
        let isComplete = frequent.count == counts.count
        if counts.count > 1, !isComplete { result.bounds = bounds(there) }
        return result
    }

    /// How many different values all rows have: what Haas and Stokes conclude from those that came once, as
    /// PostgreSQL does.
    private func distinct(of all: Double) -> Double {
        let there = Double(rows - nulls), different = Double(counts.count)
        let once = Double(counts.values.reduce(0) { $0 + ($1.rows == 1 ? 1 : 0) })
        if all <= there || once == 0 { return different }
        if once == there { return all }
        return min(max(there * different / (there - once + once * there / all), different), all)
    }

    /// Those that are there more than once, and more often than most.
    private func frequent(_ there: Int) -> [(value: Value, rows: Int)] {
        let mean = Double(there) / Double(counts.count)
        let isAll = counts.count <= Self.common && !counts.values.contains { $0.rows == 1 }
        let candidates = counts.filter { key, entry in
            key.count <= Self.longest && entry.rows > 1 && (isAll || Double(entry.rows) > mean * 1.25)
        }
        let sorted = candidates.sorted { left, right in
            left.value.rows == right.value.rows
                ? left.key.lexicographicallyPrecedes(right.key) : left.value.rows > right.value.rows
        }
        return sorted.prefix(Self.common).map(\.value)
    }

    private func bounds(_ there: Int) -> [Value] {
        let sorted = counts.sorted { $0.key.lexicographicallyPrecedes($1.key) }
        guard !sorted.contains(where: { $0.key.count > Self.longest }) else { return [] }
        var bounds: [Value] = [], passed = 0
        let parts = min(Self.parts, counts.count - 1)
        for (_, entry) in sorted {
            passed += entry.rows
            // The value at the end of each part, the first and the last one among them.
            while bounds.count <= parts, passed > (there - 1) * bounds.count / parts { bounds.append(entry.value) }
        }
        return bounds
    }
}
