import Base
import DataModel

/// Decodes stored rows into columns, without making values of what has typed storage.
struct RecordColumns {
    private let wanted: [(id: UInt32, place: Int, type: DataType, missing: Value?)]
    fileprivate let count: Int
    fileprivate let hasKey: Bool

    init(_ collection: CollectionDescriptor, _ columns: [ColumnID], hasKey: Bool) {
        var wanted: [(id: UInt32, place: Int, type: DataType, missing: Value?)] = []
        for (place, id) in columns.enumerated() {
            let column = collection.column(id)
            wanted.append((UInt32(id.rawValue), place, column?.type ?? .unknown, column?.missing))
        }
        // Records have their columns in ascending order.
        self.wanted = wanted.sorted { $0.id < $1.id }
        count = columns.count
        self.hasKey = hasKey
    }

    /// Of rows that are not stored: column n has the id n + 1.
    init(types: [DataType]) {
        wanted = types.enumerated().map { (id: UInt32($0 + 1), place: $0, type: $1, missing: nil) }
        count = types.count
        hasKey = false
    }

    /// Rows that come one by one.
    struct Gathering {
        fileprivate let columns: RecordColumns
        fileprivate let types: [DataType]
        fileprivate var builders: [ColumnBuilder]
        fileprivate(set) var count = 0

        /// False where the record is damaged.
        mutating func append(_ key: ByteView, _ record: ByteView) -> Bool {
            guard columns.append(record, to: &builders) else { return false }
            if columns.hasKey { builders[columns.count].append(view: key) }
            count += 1
            return true
        }

        /// What has come; empty afterwards.
        mutating func take() -> ColumnBatch {
            let batch = ColumnBatch(builders.map { $0.finish() }, count: count)
            builders = types.map { ColumnBuilder($0) }
            count = 0
            return batch
        }
    }

    func gathering(_ types: [DataType]) -> Gathering {
        Gathering(columns: self, types: types, builders: types.map { ColumnBuilder($0) })
    }

    func decode(_ rows: StoredRows, _ types: [DataType]) throws(StatementError) -> ColumnBatch {
        var builders = types.map { ColumnBuilder($0) }
        var taken = 0
        for (index, record) in rows.records.enumerated() {
            guard let record else { continue }
            let isWhole = record.withUnsafeBytes { append($0, to: &builders) }
            guard isWhole else {
                throw StatementError(.dataCorrupted, "a stored row cannot be read")
            }
            if hasKey { rows.keys[index].withUnsafeBytes { builders[count].append(view: $0) } }
            taken += 1
        }
        return ColumnBatch(builders.map { $0.finish() }, count: taken)
    }

    /// Reads one record into `places` of `values`, one for each of the columns; false where it is damaged.
    func read(_ record: ByteView, into values: inout [Value], at places: [Int]) -> Bool {
        guard var reader = ColumnReader(record) else { return false }
        for (id, place, _, missing) in wanted {
            guard let field = reader.field(id) else {
                if let missing { values[places[place]] = missing }
                continue
            }
            guard let value = field.value else { return false }
            values[places[place]] = value
        }
        return true
    }

    /// False where the record is damaged.
    fileprivate func append(_ record: ByteView, to builders: inout [ColumnBuilder]) -> Bool {
        guard var reader = ColumnReader(record) else { return false }
        for (id, place, type, missing) in wanted {
            guard let field = reader.field(id) else {
                if let missing { builders[place].append(missing) } else { builders[place].appendNull() }
                continue
            }
            if field.isNull {
                builders[place].appendNull()
                continue
            }
            if !append(field, type, to: &builders[place]) { return false }
        }
        return true
    }

    @inline(__always)
    private func append(_ field: RecordField, _ type: DataType, to builder: inout ColumnBuilder) -> Bool {
        switch type.form {
        case .integers:
            guard let number = field.integer ?? field.moment else { return false }
            builder.append(integer: number)
        case .floats:
            guard let number = field.float else { return false }
            builder.append(float: number)
        case .booleans:
            guard let flag = field.bool else { return false }
            builder.append(boolean: flag)
        case .bytes:
            guard let view = field.text ?? field.bytes else { return false }
            builder.append(view: view)
        case .values:
            guard let value = field.value else { return false }
            builder.append(value)
        }
        return true
    }
}

/// Writes rows of a collection as they are stored: the one place that knows what a column's absence says.
struct RecordForm: Sendable {
    /// In a record's order; `place` is that among the collection's columns.
    private let columns: [(id: UInt32, place: Int, saysNull: Bool)]

    init(_ collection: CollectionDescriptor) {
        columns = collection.columns.enumerated()
            .map { (id: UInt32($1.id.rawValue), place: $0, saysNull: $1.missing != nil) }
            .sorted { $0.id < $1.id }
    }

    /// `value` gives the value of a column by its place. NULL is said where absence means something else.
    func encode(_ value: (Int) -> Value) -> Bytes {
        var buffer = ByteBuffer(capacity: 128)
        var writer = ColumnWriter(into: &buffer)
        for column in columns {
            let value = value(column.place)
            if !value.isNull || column.saysNull { writer.append(value, column: column.id, into: &buffer) }
        }
        return buffer.readable.bytes
    }
}

/// Keys of rows, as the shards have them.
enum KeyForms {
    static func encode(_ values: [Value], _ types: [DataType]) -> Bytes {
        KeyEncoding.encode(zip(values, types).map { $0.forKey(as: $1) })
    }

    /// Behind the encoding of NULL, and before that of every value.
    static let afterNull = successor(encode([.null], [.text])) ?? []

    /// Of a text, whose bytes may end in the middle of a character.
    static func encode(_ text: Bytes) -> Bytes {
        var buffer = ByteBuffer(capacity: text.count + 8)
        text.withUnsafeBytes { KeyEncoding.append(text: $0, into: &buffer) }
        return buffer.readable.bytes
    }

    /// The first key behind all that begin with exactly these values; nil: none, as there are no values. A tag follows
    /// them, or nothing; ff follows in what has a longer value with a zero byte, which lies behind.
    static func end(_ values: Bytes) -> Bytes? { values.isEmpty ? nil : values + [0xff] }

    /// The first key behind all that begin so; nil if there is none.
    static func successor(_ prefix: Bytes) -> Bytes? {
        var key = prefix
        while let last = key.popLast() {
            if last < 255 { return key + [last + 1] }
        }
        return nil
    }
}
