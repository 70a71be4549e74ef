import Base
import DataModel

/// Strings of bytes behind one another: string `i` lies at `offsets[i] ..< offsets[i + 1]`.
package struct ByteColumn: Sendable {
    package var offsets: [Int32] = [0]
    package var data: Bytes = []

    @inline(__always) var count: Int { offsets.count - 1 }

    mutating func append(_ view: ByteView) {
        data.append(contentsOf: view)
        offsets.append(Int32(truncatingIfNeeded: data.count))
    }

    mutating func append(_ text: String) {
        var text = text
        text.withUTF8 { data.append(contentsOf: $0) }
        offsets.append(Int32(truncatingIfNeeded: data.count))
    }

    @inline(__always) func withBytes<Result>(at index: Int, _ body: (ByteView) -> Result) -> Result {
        data.withUnsafeBytes { all in
            body(ByteView(rebasing: all[Int(offsets[index])..<Int(offsets[index + 1])]))
        }
    }
}

/// How the values of a column lie in memory; a type has one form.
enum ColumnForm: UInt8, Sendable { case integers, floats, booleans, bytes, values }

/// The values of one column in a batch: typed storage and, where there are NULLs, a bitmap of what is there.
///
/// A constant column holds one element for all its rows, so that a kernel reads a literal without a copy for every row.
/// Operators see flat columns only (`flattened`); constants live inside the evaluation of an expression.
package struct Column: Sendable {
    /// What holds the values.
    package enum Storage: Sendable {
        case integers([Int64])
        case floats([Double])
        case booleans([Bool])
        case bytes(ByteColumn)
        case values([Value])
    }

    package let type: DataType
    package let storage: Storage
    /// Nil: no row is NULL.
    package let validity: Bitmap?
    package let count: Int
    let isConstant: Bool

    init(_ type: DataType, _ storage: Storage, validity: Bitmap? = nil, count: Int) {
        self.type = type
        self.storage = storage
        self.validity = validity
        self.count = count
        isConstant = false
    }

    private init(constant storage: Storage, type: DataType, isNull: Bool, count: Int) {
        self.type = type
        self.storage = storage
        validity = isNull ? Bitmap(repeating: false, count: count) : nil
        self.count = count
        isConstant = true
    }

    /// The same value in every row.
    static func constant(_ value: Value, _ type: DataType, count: Int) -> Column {
        var builder = ColumnBuilder(type)
        builder.append(value)
        return Column(constant: builder.finish().storage, type: type, isNull: value.isNull, count: count)
    }

    /// A constant for another number of rows.
    func recounted(_ count: Int) -> Column {
        Column(constant: storage, type: type, isNull: validity != nil, count: count)
    }

    /// What is added to an index from row to row: 0 for a constant.
    @inline(__always) var stride: Int { isConstant ? 0 : 1 }

    /// Whether a row has no value.
    @inline(__always) package func isNull(at row: Int) -> Bool {
        guard let validity else { return false }
        return !validity[row]
    }

    /// The value of a row. Not for kernels.
    package func value(at row: Int) -> Value {
        if isNull(at: row) { return .null }
        let index = isConstant ? 0 : row
        switch storage {
        case .integers(let values): return type.value(ofInteger: values[index])
        case .floats(let values): return .float(values[index])
        case .booleans(let values): return .bool(values[index])
        case .bytes(let values): return type.value(ofBytes: values, at: index)
        case .values(let values): return values[index]
        }
    }

    /// Storage for every row.
    func flattened() -> Column {
        guard isConstant else { return self }
        let fresh: Storage
        switch storage {
        case .integers(let values): fresh = .integers(Array(repeating: values[0], count: count))
        case .floats(let values): fresh = .floats(Array(repeating: values[0], count: count))
        case .booleans(let values): fresh = .booleans(Array(repeating: values[0], count: count))
        case .values(let values): fresh = .values(Array(repeating: values[0], count: count))
        case .bytes(let values):
            var all = ByteColumn()
            all.data.reserveCapacity(values.data.count * count)
            for _ in 0..<count { values.withBytes(at: 0) { all.append($0) } }
            fresh = .bytes(all)
        }
        return Column(type, fresh, validity: validity, count: count)
    }

    /// The same values under another type of the same form.
    func labelled(_ type: DataType) -> Column { self.type == type ? self : retyped(type) }

    func retyped(_ type: DataType) -> Column {
        isConstant
            ? Column(constant: storage, type: type, isNull: validity != nil, count: count)
            : Column(type, storage, validity: validity, count: count)
    }

    /// The rows at `rows`, in that order; a negative row is NULL.
    func gathered(_ rows: [Int32]) -> Column {
        var builder = ColumnBuilder(type)
        builder.append(self, rows: rows)
        return builder.finish()
    }

    /// Rows `range`.
    func slice(_ range: Range<Int>) -> Column {
        var builder = ColumnBuilder(type)
        builder.append(self, range: range)
        return builder.finish()
    }

    /// Only NULLs.
    static func nulls(_ type: DataType, count: Int) -> Column {
        Column.constant(.null, type, count: count).flattened()
    }
}

extension DataType {
    /// The form in which columns of this type are kept.
    var form: ColumnForm {
        if isArray { return .values }
        switch kind {
        case .bool: return .booleans
        case .int16, .int32, .int64, .oid, .regclass, .regtype, .regproc, .regnamespace, .regrole, .transactionID:
            return .integers
        case .date, .time, .timestamp, .timestampWithZone: return .integers
        case .float32, .float64: return .floats
        case .text, .varchar, .char, .name, .json, .bytes, .internalChar, .unknown: return .bytes
        case .decimal, .uuid, .timeWithZone, .interval, .jsonb, .int16Vector, .oidVector, .record, .void: return .values
        }
    }

    /// What an integer stands for in a column of this type.
    @inline(__always) func value(ofInteger integer: Int64) -> Value {
        switch kind {
        case .date: .date(Int32(truncatingIfNeeded: integer))
        case .time: .time(integer)
        case .timestamp, .timestampWithZone: .timestamp(integer)
        default: .integer(integer)  // Of a larger enum: the kinds whose form is integers, see `form`.
        }
    }

    @inline(__always) func value(ofBytes column: ByteColumn, at index: Int) -> Value {
        let isBytes = kind == .bytes
        return column.withBytes(at: index) { view in
            isBytes ? .bytes(view.bytes) : .text(String(decoding: view, as: UTF8.self))
        }
    }
}

extension Value {
    /// The integer that stands for this value in a column of integers.
    @inline(__always) var columnInteger: Int64 {
        switch self {
        case .integer(let value), .time(let value), .timestamp(let value): value
        case .date(let days): Int64(days)
        case .bool(let flag): flag ? 1 : 0
        default: 0  // Types were checked when the statement was bound: nothing else gets into such a column.
        }
    }
}

/// Rows as columns: all have `count` rows.
package struct ColumnBatch: Sendable {
    /// The number of rows in a full batch.
    package static let rows = 1024

    package let columns: [Column]
    package let count: Int

    init(_ columns: [Column], count: Int) {
        self.columns = columns
        self.count = count
    }

    func gathered(_ rows: [Int32]) -> ColumnBatch {
        ColumnBatch(columns.map { $0.gathered(rows) }, count: rows.count)
    }

    func slice(_ range: Range<Int>) -> ColumnBatch {
        range == 0..<count ? self : ColumnBatch(columns.map { $0.slice(range) }, count: range.count)
    }

    /// The values of a row, for tests and for what is done row by row.
    package func row(_ index: Int) -> [Value] { columns.map { $0.value(at: index) } }

    /// About how much memory it takes.
    var footprint: Int {
        var bytes = 64
        for column in columns {
            switch column.storage {
            case .integers, .floats: bytes += column.count * 8
            case .booleans: bytes += column.count
            case .bytes(let strings): bytes += strings.data.count + strings.offsets.count * 4
            case .values: bytes += column.count * 48
            }
        }
        return bytes
    }
}
