import Base

/// Keys whose byte order is the value order, and which show where they end.
///
/// A value is a tag byte and what follows it. Tags order the kinds; within a kind, bytes order the values:
///
///     null        01
///     false, true 02, 03
///     integer     10…20: tag 18 ± n, then n bytes of the magnitude, big-endian; inverted when negative.
///                 A longer magnitude has a tag further from 18, so tags decide first:
///                 0 → 18 · 1 → 19 01 · 42 → 19 2a · 256 → 1a 01 00 · -1 → 17 fe · -256 → 16 fe ff
///     decimal     22 -Infinity, 23 negative, 24 zero, 25 positive, 26 Infinity, 27 NaN. A number is weight + 16384 in
///                 two bytes (the power of 10 000 of its first place), then each place to the base 10 000 as 80 | upper
///                 seven bits and lower seven bits, then 00. All inverted when negative. 1.5 → 25 40 00 80 01 a7 08 00
///     float       28, then the IEEE bits, big-endian: sign bit flipped when positive, all bits flipped when negative
///                 1.5 → 28 bf f8 00 00 00 00 00 00
///     text        30, the UTF-8 with 00 written as 00 ff, then 00        "a" → 30 61 00
///     bytes       31, likewise                                      [00] → 31 00 ff 00
///     uuid        38, sixteen bytes
///     timestamp   40, microseconds as eight bytes, big-endian, sign bit flipped
///     date        41, days as four bytes, likewise                  1970-01-02 → 41 80 00 00 01
///     time        42, microseconds as eight bytes, likewise
///     timetz      43, the moment in UTC likewise, then four bytes of the zone, inverted: the more eastern is first
///     interval    44, the length in microseconds (a month has 30 days) as sixteen bytes, sign bit flipped
///     json        48, see JSONBinary+Key
///     tuple       50, the elements, then 00                      (1, "a") → 50 19 01 30 61 00 00
///     array       51, the elements, then 00, the number of dimensions, the count and lower bound of each (four bytes,
///                 sign bit flipped). NULL among the elements is 7f: after all others
///     null        7f where an index has it last; fe where that descends
///
/// The terminator 00 is below every tag and below the escape 00 ff, so a prefix sorts before what extends it. No tag
/// is ff or 00, so an element that follows a terminator cannot be taken for an escape. Concatenated elements sort like
/// their tuple. A part of an index that descends has all its bytes inverted. Frozen: keys are on disk. New kinds take
/// free tags.
///
/// Equal values are equal keys, so a key keeps a value's worth and not its looks: 1.0 comes back as 1, one month as 30
/// days, -0 as 0. `char` is keyed without its padding (`Value.forKey`).
package enum KeyEncoding {
    static let nullTag: UInt8 = 0x01, falseTag: UInt8 = 0x02, trueTag: UInt8 = 0x03, zeroTag: UInt8 = 0x18
    static let negativeInfinityTag: UInt8 = 0x22, negativeTag: UInt8 = 0x23, decimalZeroTag: UInt8 = 0x24
    static let positiveTag: UInt8 = 0x25, infinityTag: UInt8 = 0x26, notANumberTag: UInt8 = 0x27
    static let floatTag: UInt8 = 0x28, textTag: UInt8 = 0x30, bytesTag: UInt8 = 0x31, uuidTag: UInt8 = 0x38
    static let timestampTag: UInt8 = 0x40, dateTag: UInt8 = 0x41, timeTag: UInt8 = 0x42, zonedTimeTag: UInt8 = 0x43
    static let intervalTag: UInt8 = 0x44, jsonTag: UInt8 = 0x48, tupleTag: UInt8 = 0x50, arrayTag: UInt8 = 0x51
    static let lastNullTag: UInt8 = 0x7f
    static let signBit: UInt64 = 1 << 63
    static let weightBias = 0x4000

    /// Tuples nest this deep at most: a key from outside must not exhaust the stack.
    package static let depthLimit = 32

    /// How a part of an index is ordered.
    package struct Order: Hashable, Sendable {
        package var isDescending: Bool
        package var hasNullsFirst: Bool

        package init(isDescending: Bool = false, hasNullsFirst: Bool) {
            self.isDescending = isDescending
            self.hasNullsFirst = hasNullsFirst
        }

        /// Before or after the tags of all values, inverted or not.
        var nullTag: UInt8 {
            hasNullsFirst ? KeyEncoding.nullTag : (isDescending ? ~KeyEncoding.nullTag : KeyEncoding.lastNullTag)
        }
    }

    // MARK: Writing

    package static func append(_ element: Value, into buffer: inout ByteBuffer) {
        switch element {
        case .null: buffer.append(nullTag)
        case .bool(let value): buffer.append(value ? trueTag : falseTag)
        case .integer(let value): append(integer: value, into: &buffer)
        case .float(let value): append(float: value, into: &buffer)
        case .decimal(let value): append(decimal: value, into: &buffer)
        case .text(let value):
            var value = value
            value.withUTF8 { append(text: ByteView($0), into: &buffer) }
        case .bytes(let value): value.withUnsafeBytes { append(bytes: $0, into: &buffer) }
        case .uuid(let high, let low):
            buffer.append(uuidTag)
            buffer.append(bigEndian: high)
            buffer.append(bigEndian: low)
        case .timestamp(let microseconds): append(timestampTag, microseconds, into: &buffer)
        case .date(let days):
            buffer.append(dateTag)
            append(flipped: days, into: &buffer)
        case .time(let microseconds): append(timeTag, microseconds, into: &buffer)
        case .timeWithZone(let microseconds, let zone):
            append(zonedTimeTag, microseconds &- Int64(zone) &* 1_000_000, into: &buffer)
            append(flipped: ~zone, into: &buffer)
        case .interval(let interval):
            buffer.append(intervalTag)
            buffer.append(bigEndian: UInt128(bitPattern: interval.span) ^ (1 << 127))
        case .json(let document):
            buffer.append(jsonTag)
            document.appendKey(into: &buffer)
        case .tuple(let elements):
            buffer.append(tupleTag)
            for element in elements { append(element, into: &buffer) }
            buffer.append(0 as UInt8)
        case .array(let array): append(array, into: &buffer)
        }
    }

    /// One part of an index; read it with the same order.
    package static func append(_ element: Value, _ order: Order, into buffer: inout ByteBuffer) {
        guard !element.isNull else {
            buffer.append(order.nullTag)
            return
        }
        let start = buffer.count
        append(element, into: &buffer)
        if order.isDescending { invert(&buffer, from: start) }
    }

    private static func invert(_ buffer: inout ByteBuffer, from start: Int) {
        let bytes = buffer.mutableReadable
        for position in start..<bytes.count { bytes[position] = ~bytes[position] }
    }

    package static func append(integer value: Int64, into buffer: inout ByteBuffer) {
        let magnitude = value.magnitude
        let size = (71 - magnitude.leadingZeroBitCount) / 8
        buffer.append(value < 0 ? zeroTag - UInt8(size) : zeroTag + UInt8(size))
        let bits = value < 0 ? ~magnitude : magnitude
        var shift = size * 8
        while shift > 0 {
            shift -= 8
            buffer.append(UInt8(truncatingIfNeeded: bits >> UInt64(shift)))
        }
    }

    package static func append(float value: Double, into buffer: inout ByteBuffer) {
        // One bit pattern per value: -0 equals 0, and there is one NaN.
        let canonical = value.isNaN ? Double.nan : (value == 0 ? 0 : value)
        let bits = canonical.bitPattern
        buffer.append(floatTag)
        buffer.append(bigEndian: bits & signBit != 0 ? ~bits : bits | signBit)
    }

    private static func append(decimal value: Decimal, into buffer: inout ByteBuffer) {
        switch value.kind {
        case .nan: buffer.append(notANumberTag)
        case .infinity: buffer.append(infinityTag)
        case .negativeInfinity: buffer.append(negativeInfinityTag)
        case .finite where value.places.isEmpty: buffer.append(decimalZeroTag)
        case .finite:
            buffer.append(value.isNegative ? negativeTag : positiveTag)
            let start = buffer.count
            buffer.append(bigEndian: UInt16(clamping: value.weight + weightBias))
            for place in value.places {
                buffer.append(0x80 | UInt8(truncatingIfNeeded: place >> 7))
                buffer.append(UInt8(truncatingIfNeeded: place & 0x7f))
            }
            buffer.append(0 as UInt8)
            if value.isNegative { invert(&buffer, from: start) }
        }
    }

    private static func append(_ tag: UInt8, _ value: Int64, into buffer: inout ByteBuffer) {
        buffer.append(tag)
        buffer.append(bigEndian: UInt64(bitPattern: value) ^ signBit)
    }

    private static func append(flipped value: Int32, into buffer: inout ByteBuffer) {
        buffer.append(bigEndian: UInt32(bitPattern: value) ^ (1 << 31))
    }

    private static func append(_ array: ArrayValue, into buffer: inout ByteBuffer) {
        buffer.append(arrayTag)
        for element in array.elements {
            if element.isNull { buffer.append(lastNullTag) } else { append(element, into: &buffer) }
        }
        buffer.append(0 as UInt8)
        buffer.append(UInt8(truncatingIfNeeded: array.dimensions.count))
        for dimension in array.dimensions { append(flipped: dimension.count, into: &buffer) }
        for dimension in array.dimensions { append(flipped: dimension.lowerBound, into: &buffer) }
    }

    /// `text` must be UTF-8; reading refuses anything else.
    package static func append(text: ByteView, into buffer: inout ByteBuffer) {
        buffer.append(textTag)
        appendEscaped(text, into: &buffer)
    }

    package static func append(bytes: ByteView, into buffer: inout ByteBuffer) {
        buffer.append(bytesTag)
        appendEscaped(bytes, into: &buffer)
    }

    static func appendEscaped(_ view: ByteView, into buffer: inout ByteBuffer) {
        buffer.reserve(view.count + 1)
        for byte in view {
            buffer.append(byte)
            if byte == 0 { buffer.append(0xff as UInt8) }
        }
        buffer.append(0 as UInt8)
    }

    /// The elements one after another, without a tuple around them: the encoded key of a record.
    package static func encode(_ elements: [Value]) -> Bytes {
        var buffer = ByteBuffer(capacity: 64)
        for element in elements { append(element, into: &buffer) }
        return buffer.readable.bytes
    }

    /// The store key of a record: the prefix of its collection's index, then its encoded key.
    package static func appendRecordKey(
        _ bucket: BucketID, _ collection: CollectionID, index: UInt8 = 0, _ elements: [Value],
        into buffer: inout ByteBuffer
    ) {
        NativeKeyLayout.appendPrefix(bucket, collection, index: index, into: &buffer)
        for element in elements { append(element, into: &buffer) }
    }
}

extension Value {
    /// The value as keys, equality and hashing have it: `char` without the blanks at its end.
    package func forKey(as type: DataType) -> Value {
        guard type.kind == .char else { return self }
        switch self {
        case .text(let text): return .text(text.withoutTrailingBlanks)
        case .array(let array):
            let elements = array.elements.map { $0.forKey(as: type.element) }
            return ArrayValue(array.element, dimensions: array.dimensions, elements: elements).map(Value.array) ?? self
        case .null, .bool, .integer, .float, .decimal, .bytes, .uuid, .date, .time, .timeWithZone, .timestamp,
            .interval, .json, .tuple:
            return self
        }
    }
}

extension String {
    /// What counts of a `char(n)`.
    package var withoutTrailingBlanks: String {
        guard utf8.last == 0x20 else { return self }
        var rest = Substring(self).utf8
        while rest.last == 0x20 { rest.removeLast() }
        return String(Substring(rest))
    }
}
