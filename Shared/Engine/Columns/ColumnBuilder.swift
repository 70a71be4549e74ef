import Base
import DataModel

/// Makes a column, value by value or from rows of other columns.
///
/// Each form has an array of its own here, since growing the payload of an enum would copy it.
struct ColumnBuilder {
    let type: DataType
    private let form: ColumnForm
    private var integers: [Int64] = []
    private var floats: [Double] = []
    private var booleans: [Bool] = []
    private var strings = ByteColumn()
    private var values: [Value] = []
    private var validity = Bitmap(repeating: true, count: 0)
    private var hasNull = false
    private(set) var count = 0

    init(_ type: DataType) {
        self.type = type
        form = type.form
    }

    mutating func reserve(_ rows: Int) {
        switch form {
        case .integers: integers.reserveCapacity(rows)
        case .floats: floats.reserveCapacity(rows)
        case .booleans: booleans.reserveCapacity(rows)
        case .bytes: strings.offsets.reserveCapacity(rows + 1)
        case .values: values.reserveCapacity(rows)
        }
    }

    @inline(__always) private mutating func mark(_ isThere: Bool) {
        if !isThere, !hasNull {
            hasNull = true
            validity = Bitmap(repeating: true, count: count)
        }
        if hasNull { validity.append(isThere) }
        count += 1
    }

    mutating func appendNull() {
        mark(false)
        switch form {
        case .integers: integers.append(0)
        case .floats: floats.append(0)
        case .booleans: booleans.append(false)
        case .bytes: strings.offsets.append(strings.offsets[strings.offsets.count - 1])
        case .values: values.append(.null)
        }
    }

    mutating func append(integer: Int64) {
        mark(true)
        integers.append(integer)
    }

    mutating func append(float: Double) {
        mark(true)
        floats.append(float)
    }

    mutating func append(boolean: Bool) {
        mark(true)
        booleans.append(boolean)
    }

    mutating func append(view: ByteView) {
        mark(true)
        strings.append(view)
    }

    mutating func append(_ value: Value) {
        if value.isNull { return appendNull() }
        mark(true)
        switch form {
        case .integers: integers.append(value.columnInteger)
        case .floats: if case .float(let number) = value { floats.append(number) } else { floats.append(0) }
        case .booleans: if case .bool(let flag) = value { booleans.append(flag) } else { booleans.append(false) }
        case .bytes:
            switch value {
            case .text(let text): strings.append(text)
            case .bytes(let bytes): bytes.withUnsafeBytes { strings.append($0) }
            default: strings.append("")  // Types were checked when the statement was bound.
            }
        case .values: values.append(value)
        }
    }

    mutating func append(_ column: Column, range: Range<Int>) {
        for row in range { append(column, row: row) }
    }

    /// The rows at `rows`; a negative one appends NULL.
    mutating func append(_ column: Column, rows: [Int32]) {
        reserve(count + rows.count)
        guard column.validity == nil, !column.isConstant, !rows.contains(where: { $0 < 0 }), !hasNull else {
            for row in rows { append(column, row: Int(row)) }
            return
        }
        count += rows.count
        switch column.storage {
        case .integers(let source): for row in rows { integers.append(source[Int(row)]) }
        case .floats(let source): for row in rows { floats.append(source[Int(row)]) }
        case .booleans(let source): for row in rows { booleans.append(source[Int(row)]) }
        case .values(let source): for row in rows { values.append(source[Int(row)]) }
        case .bytes(let source): for row in rows { source.withBytes(at: Int(row)) { strings.append($0) } }
        }
    }

    mutating func append(_ column: Column, row: Int) {
        guard row >= 0, !column.isNull(at: row) else { return appendNull() }
        mark(true)
        let index = column.isConstant ? 0 : row
        switch column.storage {
        case .integers(let source): integers.append(source[index])
        case .floats(let source): floats.append(source[index])
        case .booleans(let source): booleans.append(source[index])
        case .values(let source): values.append(source[index])
        case .bytes(let source): source.withBytes(at: index) { strings.append($0) }
        }
    }

    /// The column; the builder is to be thrown away.
    consuming func finish() -> Column {
        let storage: Column.Storage
        switch form {
        case .integers: storage = .integers(integers)
        case .floats: storage = .floats(floats)
        case .booleans: storage = .booleans(booleans)
        case .bytes: storage = .bytes(strings)
        case .values: storage = .values(values)
        }
        return Column(type, storage, validity: hasNull ? validity : nil, count: count)
    }
}
