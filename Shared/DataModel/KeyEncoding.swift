import Base

/// A value that can be part of a key, in the order in which the kinds sort.
package enum KeyElement: Hashable, Sendable {
    case null
    case bool(Bool)
    /// int16, int32 and int64 are one kind: equal numbers are equal keys.
    case integer(Int64)
    /// float32 and float64. NaN sorts last, as in PostgreSQL, and -0 is 0.
    case float(Double)
    /// Orders by code point (PostgreSQL's collation "C").
    case text(String)
    case bytes(Bytes)
    case uuid(high: UInt64, low: UInt64)
    /// Microseconds since 1970 UTC; dates and zoneless timestamps use the same scale.
    case timestamp(microseconds: Int64)
    case tuple([KeyElement])
}

/// Keys whose byte order is the value order, and which show where they end.
///
/// A value is a tag byte and what follows it. Tags order the kinds; within a kind, bytes order the values:
///
///     null        01
///     false, true 02, 03
///     integer     10…20: tag 18 ± n, then n bytes of the magnitude, big-endian; inverted when negative.
///                 A longer magnitude has a tag further from 18, so tags decide first:
///                 0 → 18 · 1 → 19 01 · 42 → 19 2a · 256 → 1a 01 00 · -1 → 17 fe · -256 → 16 fe ff
///     float       28, then the IEEE bits, big-endian: sign bit flipped when positive, all bits flipped when negative
///                 1.5 → 28 bf f8 00 00 00 00 00 00
///     text        30, the UTF-8 with 00 written as 00 ff, then 00        "a" → 30 61 00
///     bytes       31, likewise                                      [00] → 31 00 ff 00
///     uuid        38, sixteen bytes
///     timestamp   40, microseconds as eight bytes, big-endian, sign bit flipped
///     tuple       50, the elements, then 00                      (1, "a") → 50 19 01 30 61 00 00
///
/// The terminator 00 is below every tag and below the escape 00 ff, so a prefix sorts before what extends it. No tag
/// is ff or
/// 00, so an element that follows a terminator cannot be taken for an escape. Concatenated elements sort like their
/// tuple. Frozen: keys are on disk. New kinds take free tags.
package enum KeyEncoding {
    static let nullTag: UInt8 = 0x01, falseTag: UInt8 = 0x02, trueTag: UInt8 = 0x03, zeroTag: UInt8 = 0x18
    static let floatTag: UInt8 = 0x28, textTag: UInt8 = 0x30, bytesTag: UInt8 = 0x31, uuidTag: UInt8 = 0x38
    static let timestampTag: UInt8 = 0x40, tupleTag: UInt8 = 0x50
    private static let signBit: UInt64 = 1 << 63

    /// Tuples nest this deep at most: a key from outside must not exhaust the stack.
    package static let depthLimit = 32

    // MARK: Writing

    package static func append(_ element: KeyElement, into buffer: inout ByteBuffer) {
        switch element {
        case .null: buffer.append(nullTag)
        case .bool(let value): buffer.append(value ? trueTag : falseTag)
        case .integer(let value): append(integer: value, into: &buffer)
        case .float(let value): append(float: value, into: &buffer)
        case .text(let value):
            var value = value
            value.withUTF8 { append(text: ByteView($0), into: &buffer) }
        case .bytes(let value): value.withUnsafeBytes { append(bytes: $0, into: &buffer) }
        case .uuid(let high, let low):
            buffer.append(uuidTag)
            buffer.append(bigEndian: high)
            buffer.append(bigEndian: low)
        case .timestamp(let microseconds):
            buffer.append(timestampTag)
            buffer.append(bigEndian: UInt64(bitPattern: microseconds) ^ signBit)
        case .tuple(let elements):
            buffer.append(tupleTag)
            for element in elements { append(element, into: &buffer) }
            buffer.append(0 as UInt8)
        }
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

    /// `text` must be UTF-8; reading refuses anything else.
    package static func append(text: ByteView, into buffer: inout ByteBuffer) {
        buffer.append(textTag)
        appendEscaped(text, into: &buffer)
    }

    package static func append(bytes: ByteView, into buffer: inout ByteBuffer) {
        buffer.append(bytesTag)
        appendEscaped(bytes, into: &buffer)
    }

    private static func appendEscaped(_ view: ByteView, into buffer: inout ByteBuffer) {
        buffer.reserve(view.count + 1)
        for byte in view {
            buffer.append(byte)
            if byte == 0 { buffer.append(0xff as UInt8) }
        }
        buffer.append(0 as UInt8)
    }

    /// The elements one after another, without a tuple around them: the encoded key of a record.
    package static func encode(_ elements: [KeyElement]) -> Bytes {
        var buffer = ByteBuffer(capacity: 64)
        for element in elements { append(element, into: &buffer) }
        return buffer.readable.bytes
    }

    /// The store key of a record: the prefix of its collection's index, then its encoded key.
    package static func appendRecordKey(
        _ bucket: BucketID, _ collection: CollectionID, index: UInt8 = 0, _ elements: [KeyElement],
        into buffer: inout ByteBuffer
    ) {
        NativeKeyLayout.appendPrefix(bucket, collection, index: index, into: &buffer)
        for element in elements { append(element, into: &buffer) }
    }

    // MARK: Reading

    /// All elements of an encoded key; nil when it is damaged, cut, or not in the one form that writing gives.
    package static func decode(_ view: ByteView) -> [KeyElement]? {
        var reader = ByteReader(view)
        var elements: [KeyElement] = []
        while !reader.isAtEnd {
            guard let element = read(&reader) else { return nil }
            elements.append(element)
        }
        return elements
    }

    /// The next element, leaving the reader behind it.
    package static func read(_ reader: inout ByteReader) -> KeyElement? { read(&reader, depth: 0) }

    private static func read(_ reader: inout ByteReader, depth: Int) -> KeyElement? {
        guard let tag = reader.byte() else { return nil }
        switch tag {
        case nullTag: return .null
        case falseTag: return .bool(false)
        case trueTag: return .bool(true)
        case 0x10...0x20: return readInteger(tag, &reader).map(KeyElement.integer)
        case floatTag: return readFloat(&reader).map(KeyElement.float)
        case textTag: return readEscaped(&reader).flatMap { String(validating: $0, as: UTF8.self) }.map(KeyElement.text)
        case bytesTag: return readEscaped(&reader).map(KeyElement.bytes)
        case uuidTag:
            guard let high = reader.bigEndian(UInt64.self), let low = reader.bigEndian(UInt64.self) else { return nil }
            return .uuid(high: high, low: low)
        case timestampTag:
            return reader.bigEndian(UInt64.self).map { .timestamp(microseconds: Int64(bitPattern: $0 ^ signBit)) }
        case tupleTag: return readTuple(&reader, depth: depth + 1)
        case _: return nil
        }
    }

    private static func readInteger(_ tag: UInt8, _ reader: inout ByteReader) -> Int64? {
        let isNegative = tag < zeroTag
        let size = isNegative ? Int(zeroTag - tag) : Int(tag - zeroTag)
        guard let view = reader.view(size) else { return nil }
        var magnitude: UInt64 = 0
        for byte in view { magnitude = magnitude << 8 | UInt64(isNegative ? ~byte : byte) }
        // A leading zero byte would be a second form of the same number.
        guard (71 - magnitude.leadingZeroBitCount) / 8 == size else { return nil }
        if isNegative { return magnitude <= signBit ? Int64(truncatingIfNeeded: 0 &- magnitude) : nil }
        return Int64(exactly: magnitude)
    }

    private static func readFloat(_ reader: inout ByteReader) -> Double? {
        guard let encoded = reader.bigEndian(UInt64.self) else { return nil }
        let value = Double(bitPattern: encoded & signBit != 0 ? encoded ^ signBit : ~encoded)
        if value.isNaN { return value.bitPattern == Double.nan.bitPattern ? value : nil }
        return value == 0 && value.sign == .minus ? nil : value
    }

    private static func readEscaped(_ reader: inout ByteReader) -> Bytes? {
        var result: Bytes = []
        while let byte = reader.byte() {
            guard byte == 0 else {
                result.append(byte)
                continue
            }
            guard reader.rest.first == 0xff else { return result }
            _ = reader.byte()
            result.append(0)
        }
        return nil
    }

    private static func readTuple(_ reader: inout ByteReader, depth: Int) -> KeyElement? {
        guard depth <= depthLimit else { return nil }
        var elements: [KeyElement] = []
        while let next = reader.rest.first {
            if next == 0 {
                _ = reader.byte()
                return .tuple(elements)
            }
            guard let element = read(&reader, depth: depth) else { return nil }
            elements.append(element)
        }
        return nil
    }
}
