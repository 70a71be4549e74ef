import Base

/// Records at rest: columns by number, so that a record outlives ADD COLUMN and DROP COLUMN.
///
/// A version byte, then the columns that are there, in ascending order of their numbers: how much the number is above
/// that of the column before (the first: above zero) as a varint, a tag, and the payload whose length the tag knows or
/// begins with. A column that is absent was not there when the record was written: it is NULL, or has the default that
/// it was added with; a NULL that somebody wrote may be written too.
///
///     01                      version
///     01 11 2a                column 1, an integer of one byte: 42
///     01 43 41 64 61          column 2, a text of three bytes: Ada
///     02 00                   column 4: NULL
///
/// Tags and payloads, integers little-endian:
///
///     null 00, false 01, true 02
///     integer     10…18: as many bytes of its zigzag form as the tag says over 10      0 → 10 · -1 → 11 01
///     float       20 four bytes where they hold it exactly, 21 eight
///     uuid        22 sixteen bytes, as it is printed
///     date        23 four bytes · time 24 eight · timetz 25 eight and four of the zone · timestamp 26 eight
///     interval    27 months, days (four bytes each), microseconds (eight)
///     text        40…5f: as many bytes of UTF-8 as the tag says over 40; 60: a varint, then so many
///     bytes       61, decimal 62, json 63, array 64, tuple 65: a varint, then so many bytes
///
/// A decimal is as `Decimal.appendPayload` says, json as `JSONBinary`. A tuple is its elements, tag and payload each;
/// an array the kind of its elements (a byte), their modifier (zigzag varint), the number of dimensions (a byte), count
/// (varint) and lower bound (zigzag varint) of each, and the elements likewise. Frozen: records are on disk.
package enum RecordEncoding {
    static let version: UInt8 = 1
    static let nullTag: UInt8 = 0, falseTag: UInt8 = 1, trueTag: UInt8 = 2, zeroTag: UInt8 = 0x10
    static let float32Tag: UInt8 = 0x20, float64Tag: UInt8 = 0x21, uuidTag: UInt8 = 0x22, dateTag: UInt8 = 0x23
    static let timeTag: UInt8 = 0x24, zonedTimeTag: UInt8 = 0x25, timestampTag: UInt8 = 0x26
    static let intervalTag: UInt8 = 0x27
    static let shortTextTag: UInt8 = 0x40, textTag: UInt8 = 0x60, bytesTag: UInt8 = 0x61, decimalTag: UInt8 = 0x62
    static let jsonTag: UInt8 = 0x63, arrayTag: UInt8 = 0x64, tupleTag: UInt8 = 0x65
    static let shortTextLimit = 32

    /// Arrays and tuples nest this deep at most: a record from outside must not exhaust the stack.
    package static let depthLimit = 32

    /// A record of columns in ascending order of their numbers; NULL is written where it is given.
    package static func encode(_ columns: [(column: UInt32, value: Value)]) -> Bytes {
        var buffer = ByteBuffer(capacity: 128)
        var writer = ColumnWriter(into: &buffer)
        for column in columns { writer.append(column.value, column: column.column, into: &buffer) }
        return buffer.readable.bytes
    }

    /// All columns of a record; nil where it is damaged or cut.
    package static func decode(_ view: ByteView) -> [(column: UInt32, value: Value)]? {
        guard var reader = ColumnReader(view) else { return nil }
        var columns: [(column: UInt32, value: Value)] = []
        while let field = reader.next() {
            guard let value = field.value else { return nil }
            columns.append((field.column, value))
        }
        return reader.isAtEnd ? columns : nil
    }

    // MARK: Values

    static func append(_ value: Value, into buffer: inout ByteBuffer) {
        switch value {
        case .null: buffer.append(nullTag)
        case .bool(let value): buffer.append(value ? trueTag : falseTag)
        case .integer(let value): append(integer: value, into: &buffer)
        case .float(let value):
            if let half = Float(exactly: value) {
                buffer.append(float32Tag)
                buffer.append(littleEndian: half.bitPattern)
            } else {
                buffer.append(float64Tag)
                buffer.append(littleEndian: value.bitPattern)
            }
        case .decimal(let value): appendSized(decimalTag, into: &buffer) { value.appendPayload(into: &$0) }
        case .text(let value):
            var value = value
            value.withUTF8 { append(text: ByteView($0), into: &buffer) }
        case .bytes(let value):
            buffer.append(bytesTag)
            buffer.append(varint: UInt64(value.count))
            buffer.append(value)
        case .uuid(let high, let low):
            buffer.append(uuidTag)
            buffer.append(bigEndian: high)
            buffer.append(bigEndian: low)
        case .date(let days):
            buffer.append(dateTag)
            buffer.append(littleEndian: days)
        case .time(let microseconds): append(timeTag, microseconds, into: &buffer)
        case .timeWithZone(let microseconds, let zone):
            append(zonedTimeTag, microseconds, into: &buffer)
            buffer.append(littleEndian: zone)
        case .timestamp(let microseconds): append(timestampTag, microseconds, into: &buffer)
        case .interval(let interval):
            buffer.append(intervalTag)
            buffer.append(littleEndian: interval.months)
            buffer.append(littleEndian: interval.days)
            buffer.append(littleEndian: interval.microseconds)
        case .json(let document):
            buffer.append(jsonTag)
            buffer.append(varint: UInt64(document.bytes.count))
            buffer.append(document.bytes)
        case .array(let array): appendSized(arrayTag, into: &buffer) { append(array, into: &$0) }
        case .tuple(let values):
            appendSized(tupleTag, into: &buffer) { buffer in for value in values { append(value, into: &buffer) } }
        }
    }

    static func append(integer value: Int64, into buffer: inout ByteBuffer) {
        var rest = zigzag(value)
        let size = (71 - rest.leadingZeroBitCount) / 8
        buffer.append(zeroTag + UInt8(size))
        for _ in 0..<size {
            buffer.append(UInt8(truncatingIfNeeded: rest))
            rest >>= 8
        }
    }

    static func append(text: ByteView, into buffer: inout ByteBuffer) {
        if text.count < shortTextLimit {
            buffer.append(shortTextTag + UInt8(text.count))
        } else {
            buffer.append(textTag)
            buffer.append(varint: UInt64(text.count))
        }
        buffer.append(text)
    }

    private static func append(_ tag: UInt8, _ value: Int64, into buffer: inout ByteBuffer) {
        buffer.append(tag)
        buffer.append(littleEndian: value)
    }

    private static func appendSized(_ tag: UInt8, into buffer: inout ByteBuffer, _ body: (inout ByteBuffer) -> Void) {
        var payload = ByteBuffer(capacity: 64)
        body(&payload)
        buffer.append(tag)
        buffer.append(varint: UInt64(payload.count))
        buffer.append(payload.readable)
    }

    private static func append(_ array: ArrayValue, into buffer: inout ByteBuffer) {
        buffer.append(array.element.kind.rawValue)
        buffer.append(varint: zigzag(Int64(array.element.modifier)))
        buffer.append(UInt8(truncatingIfNeeded: array.dimensions.count))
        for dimension in array.dimensions {
            buffer.append(varint: UInt64(max(dimension.count, 0)))
            buffer.append(varint: zigzag(Int64(dimension.lowerBound)))
        }
        for element in array.elements { append(element, into: &buffer) }
    }
}

/// Writes one record behind what a buffer holds; columns must come in ascending order of their numbers.
package struct ColumnWriter {
    private var last: UInt32 = 0

    package init(into buffer: inout ByteBuffer) { buffer.append(RecordEncoding.version) }

    private mutating func begin(_ column: UInt32, _ buffer: inout ByteBuffer) {
        buffer.append(varint: UInt64(column &- last))
        last = column
    }

    /// A NULL is written as such; leave it out if absence says the same.
    package mutating func append(_ value: Value, column: UInt32, into buffer: inout ByteBuffer) {
        begin(column, &buffer)
        RecordEncoding.append(value, into: &buffer)
    }

    package mutating func append(integer: Int64, column: UInt32, into buffer: inout ByteBuffer) {
        begin(column, &buffer)
        RecordEncoding.append(integer: integer, into: &buffer)
    }

    /// `text` must be UTF-8.
    package mutating func append(text: ByteView, column: UInt32, into buffer: inout ByteBuffer) {
        begin(column, &buffer)
        RecordEncoding.append(text: text, into: &buffer)
    }

    /// A column as it stands in another record, undecoded.
    package mutating func append(_ field: RecordField, into buffer: inout ByteBuffer) {
        begin(field.column, &buffer)
        buffer.append(field.encoded)
    }
}

/// A column of a record whose bytes somebody else owns.
package struct RecordField {
    package let column: UInt32
    let tag: UInt8
    let payload: ByteView
    /// Tag and payload, to be copied into another record.
    package let encoded: ByteView

    package var isNull: Bool { tag == RecordEncoding.nullTag }

    /// Without making a value; nil if it is no integer.
    package var integer: Int64? {
        guard tag >= RecordEncoding.zeroTag, tag <= RecordEncoding.zeroTag + 8 else { return nil }
        var bits: UInt64 = 0
        for byte in payload.reversed() { bits = bits << 8 | UInt64(byte) }
        return unzigzag(bits)
    }

    /// Without making a value; nil if it is no floating-point number.
    package var float: Double? {
        var reader = ByteReader(payload)
        switch tag {
        case RecordEncoding.float32Tag: return reader.littleEndian(UInt32.self).map { Double(Float(bitPattern: $0)) }
        case RecordEncoding.float64Tag: return reader.littleEndian(UInt64.self).map { Double(bitPattern: $0) }
        case _: return nil
        }
    }

    package var bool: Bool? {
        tag == RecordEncoding.trueTag ? true : (tag == RecordEncoding.falseTag ? false : nil)
    }

    /// UTF-8 as it was written; nil if it is no text.
    package var text: ByteView? {
        tag >= RecordEncoding.shortTextTag && tag <= RecordEncoding.textTag ? payload : nil
    }

    /// Bytes as they were written; nil if they are none.
    package var bytes: ByteView? { tag == RecordEncoding.bytesTag ? payload : nil }

    /// Microseconds or days, of the kinds that are one such number.
    package var moment: Int64? {
        var reader = ByteReader(payload)
        switch tag {
        case RecordEncoding.timestampTag, RecordEncoding.timeTag: return reader.littleEndian(Int64.self)
        case RecordEncoding.dateTag: return reader.littleEndian(Int32.self).map(Int64.init)
        case _: return nil
        }
    }

    /// Nil where the payload is damaged.
    package var value: Value? { RecordEncoding.value(tag, payload, depth: 0) }
}

/// Goes through a record from the first column on, without decoding what nobody asks for. It must not outlive the bytes
/// it looks at.
package struct ColumnReader {
    private var reader: ByteReader
    private var last: UInt32 = 0
    private var isDamaged = false

    /// Nil where the bytes are no record of a version that we know.
    package init?(_ view: ByteView) {
        reader = ByteReader(view)
        guard reader.byte() == RecordEncoding.version else { return nil }
    }

    /// Whether all columns were read, and none was damaged.
    package var isAtEnd: Bool { reader.isAtEnd && !isDamaged }

    /// The next column; nil at the end or where the record is damaged.
    package mutating func next() -> RecordField? {
        guard !isDamaged, !reader.isAtEnd else { return nil }
        guard let step = reader.varint(), let column = UInt32(exactly: step).map({ last &+ $0 }), column >= last,
            column > last || last == 0, let field = readField(column)
        else {
            isDamaged = true
            return nil
        }
        last = column
        return field
    }

    private mutating func readField(_ column: UInt32) -> RecordField? {
        let start = reader.rest
        guard let (tag, payload) = RecordEncoding.readTagged(&reader) else { return nil }
        let count = start.count - reader.remaining
        return RecordField(column: column, tag: tag, payload: payload, encoded: ByteView(rebasing: start[..<count]))
    }

    /// Jumps to a column at or behind where the reader stands; nil if the record has none, and the reader then stands
    /// before the first one behind.
    package mutating func field(_ column: UInt32) -> RecordField? {
        while true {
            let before = self
            guard let field = next() else { return nil }
            if field.column == column { return field }
            if field.column > column {
                self = before
                return nil
            }
        }
    }
}

// MARK: Reading values

extension RecordEncoding {
    static func readTagged(_ reader: inout ByteReader) -> (tag: UInt8, payload: ByteView)? {
        guard let tag = reader.byte() else { return nil }
        let payload: ByteView?
        switch tag {
        case nullTag, falseTag, trueTag: payload = reader.view(0)
        case zeroTag...zeroTag + 8: payload = reader.view(Int(tag - zeroTag))
        case float32Tag, dateTag: payload = reader.view(4)
        case float64Tag, timeTag, timestampTag: payload = reader.view(8)
        case uuidTag, intervalTag: payload = reader.view(16)
        case zonedTimeTag: payload = reader.view(12)
        case shortTextTag..<textTag: payload = reader.view(Int(tag - shortTextTag))
        case textTag...tupleTag: payload = reader.delimited()
        case _: payload = nil
        }
        return payload.map { (tag, $0) }
    }

    static func value(_ tag: UInt8, _ payload: ByteView, depth: Int) -> Value? {
        let field = RecordField(column: 0, tag: tag, payload: payload, encoded: payload)
        var reader = ByteReader(payload)
        switch tag {
        case nullTag: return .null
        case falseTag, trueTag: return .bool(tag == trueTag)
        case zeroTag...zeroTag + 8: return field.integer.map(Value.integer)
        case float32Tag, float64Tag: return field.float.map(Value.float)
        case uuidTag:
            guard let high = reader.bigEndian(UInt64.self), let low = reader.bigEndian(UInt64.self) else { return nil }
            return .uuid(high: high, low: low)
        case dateTag: return reader.littleEndian(Int32.self).map(Value.date)
        case timeTag: return reader.littleEndian(Int64.self).map(Value.time)
        case zonedTimeTag:
            guard let time = reader.littleEndian(Int64.self), let zone = reader.littleEndian(Int32.self) else {
                return nil
            }
            return .timeWithZone(microseconds: time, zone: zone)
        case timestampTag: return reader.littleEndian(Int64.self).map(Value.timestamp)
        case intervalTag:
            guard let months = reader.littleEndian(Int32.self), let days = reader.littleEndian(Int32.self),
                let microseconds = reader.littleEndian(Int64.self)
            else { return nil }
            return .interval(Interval(months: months, days: days, microseconds: microseconds))
        case shortTextTag...textTag: return String(validating: payload, as: UTF8.self).map(Value.text)
        case bytesTag: return .bytes(payload.bytes)
        case decimalTag: return Decimal(payload: payload).map(Value.decimal)
        case jsonTag: return .json(JSONBinary(encoded: payload.bytes))
        case arrayTag: return readArray(&reader, depth: depth + 1)
        case tupleTag: return readElements(&reader, depth: depth + 1).map(Value.tuple)
        case _: return nil
        }
    }

    private static func readElements(_ reader: inout ByteReader, depth: Int) -> [Value]? {
        guard depth <= depthLimit else { return nil }
        var elements: [Value] = []
        while !reader.isAtEnd {
            guard let (tag, payload) = readTagged(&reader), let element = value(tag, payload, depth: depth) else {
                return nil
            }
            elements.append(element)
        }
        return elements
    }

    private static func readArray(_ reader: inout ByteReader, depth: Int) -> Value? {
        guard let number = reader.byte(), let kind = DataType.Kind(rawValue: number), let modifier = reader.varint(),
            let modifier = Int32(exactly: unzigzag(modifier)), let count = reader.byte(),
            count <= ArrayValue.dimensionLimit
        else { return nil }
        var dimensions: [ArrayValue.Dimension] = []
        for _ in 0..<count {
            guard let extent = reader.varint(), let extent = Int32(exactly: extent), let bound = reader.varint(),
                let bound = Int32(exactly: unzigzag(bound))
            else { return nil }
            dimensions.append(ArrayValue.Dimension(count: extent, lowerBound: bound))
        }
        guard let elements = readElements(&reader, depth: depth) else { return nil }
        return ArrayValue(DataType(kind, modifier: modifier), dimensions: dimensions, elements: elements)
            .map(Value.array)
    }
}
