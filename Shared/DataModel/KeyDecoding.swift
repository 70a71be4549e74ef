import Base

// Keys are read back from what a client or a peer sent, too: nothing that is damaged, cut, or not in the one form that
// writing gives is taken for a key.

extension KeyEncoding {
    /// All elements of an encoded key; nil when it is damaged, cut, or not in the one form that writing gives.
    package static func decode(_ view: ByteView) -> [Value]? {
        var reader = ByteReader(view)
        var elements: [Value] = []
        while !reader.isAtEnd {
            guard let element = read(&reader) else { return nil }
            elements.append(element)
        }
        return elements
    }

    /// The next element, leaving the reader behind it.
    package static func read(_ reader: inout ByteReader) -> Value? { read(&reader, depth: 0) }

    /// The next part of an index that was written with this order.
    package static func read(_ reader: inout ByteReader, _ order: Order) -> Value? {
        guard let tag = reader.rest.first else { return nil }
        if tag == order.nullTag {
            _ = reader.byte()
            return .null
        }
        guard order.isDescending else {
            // The other tag of a null: not where this order has it.
            return tag == nullTag ? nil : read(&reader, depth: 0)
        }
        let inverted = reader.rest.map { ~$0 }
        let result: (value: Value, count: Int)? = inverted.withUnsafeBytes { view in
            var inner = ByteReader(view)
            guard let value = read(&inner, depth: 0), !value.isNull else { return nil }
            return (value, inner.offset)
        }
        guard let result else { return nil }
        _ = reader.view(result.count)
        return result.value
    }

    static func read(_ reader: inout ByteReader, depth: Int) -> Value? {
        guard let tag = reader.byte() else { return nil }
        switch tag {
        case nullTag: return .null
        case falseTag: return .bool(false)
        case trueTag: return .bool(true)
        case 0x10...0x20: return readInteger(tag, &reader).map(Value.integer)
        case negativeInfinityTag...notANumberTag: return readDecimal(tag, &reader).map(Value.decimal)
        case floatTag: return readFloat(&reader).map(Value.float)
        case textTag: return readEscaped(&reader).flatMap { String(validating: $0, as: UTF8.self) }.map(Value.text)
        case bytesTag: return readEscaped(&reader).map(Value.bytes)
        case uuidTag:
            guard let high = reader.bigEndian(UInt64.self), let low = reader.bigEndian(UInt64.self) else { return nil }
            return .uuid(high: high, low: low)
        case timestampTag...intervalTag: return readMoment(tag, &reader)
        case jsonTag: return JSONBinary(key: &reader).map(Value.json)
        case tupleTag: return readElements(&reader, null: nullTag, depth: depth + 1).map(Value.tuple)
        case arrayTag: return readArray(&reader, depth: depth + 1)
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

    private static func readDecimal(_ tag: UInt8, _ reader: inout ByteReader) -> Decimal? {
        switch tag {
        case negativeInfinityTag: return .negativeInfinity
        case infinityTag: return .infinity
        case notANumberTag: return .notANumber
        case decimalZeroTag: return .zero
        case _: break
        }
        let isNegative = tag == negativeTag, mask: UInt8 = isNegative ? 0xff : 0
        guard let biased = reader.bigEndian(UInt16.self) else { return nil }
        let weight = Int(isNegative ? ~biased : biased) - weightBias
        guard Decimal.weights.contains(weight) else { return nil }
        var places: [UInt16] = []
        while let byte = reader.byte() {
            let upper = byte ^ mask
            guard upper != 0 else {
                // Zeros at an end would be a second form of the same number.
                guard let first = places.first, first != 0, places.last != 0 else { return nil }
                let value = Decimal(isNegative: isNegative, weight: weight, places: places, scale: 0).trimmed
                return value.scale <= Decimal.scaleLimit ? value : nil
            }
            guard upper & 0x80 != 0, let byte = reader.byte(), byte ^ mask < 0x80 else { return nil }
            let place = UInt16(upper & 0x7f) << 7 | UInt16(byte ^ mask)
            guard place < UInt16(Decimal.base) else { return nil }
            places.append(place)
        }
        return nil
    }

    private static func readMoment(_ tag: UInt8, _ reader: inout ByteReader) -> Value? {
        switch tag {
        case timestampTag: return readFlipped(&reader).map(Value.timestamp)
        case dateTag: return readFlippedHalf(&reader).map(Value.date)
        case timeTag: return readFlipped(&reader).map(Value.time)
        case zonedTimeTag:
            guard let moment = readFlipped(&reader), let inverted = readFlippedHalf(&reader) else { return nil }
            let zone = ~inverted
            return .timeWithZone(microseconds: moment &+ Int64(zone) &* 1_000_000, zone: zone)
        case _:
            guard let bits = reader.bigEndian(UInt128.self) else { return nil }
            return Interval(span: Int128(truncatingIfNeeded: bits ^ (1 << 127))).map(Value.interval)
        }
    }

    private static func readFlipped(_ reader: inout ByteReader) -> Int64? {
        reader.bigEndian(UInt64.self).map { Int64(bitPattern: $0 ^ signBit) }
    }

    private static func readFlippedHalf(_ reader: inout ByteReader) -> Int32? {
        reader.bigEndian(UInt32.self).map { Int32(bitPattern: $0 ^ (1 << 31)) }
    }

    /// The bytes of a text, which need not be UTF-8: what `append(text:into:)` has written. Nil for anything else.
    package static func readText(_ reader: inout ByteReader) -> Bytes? {
        reader.byte() == textTag ? readEscaped(&reader) : nil
    }

    static func readEscaped(_ reader: inout ByteReader) -> Bytes? {
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

    /// Up to the terminator, which is read.
    private static func readElements(_ reader: inout ByteReader, null: UInt8, depth: Int) -> [Value]? {
        guard depth <= depthLimit else { return nil }
        var elements: [Value] = []
        while let next = reader.rest.first {
            if next == 0 {
                _ = reader.byte()
                return elements
            }
            if next == null {
                _ = reader.byte()
                elements.append(.null)
                continue
            }
            guard next != nullTag, let element = read(&reader, depth: depth) else { return nil }
            elements.append(element)
        }
        return nil
    }

    /// The type of the elements is not in the key: it is guessed from the first of them, and the reader knows better.
    private static func readArray(_ reader: inout ByteReader, depth: Int) -> Value? {
        guard let elements = readElements(&reader, null: lastNullTag, depth: depth), let count = reader.byte(),
            count <= ArrayValue.dimensionLimit
        else { return nil }
        var dimensions: [ArrayValue.Dimension] = []
        for _ in 0..<count {
            guard let extent = readFlippedHalf(&reader) else { return nil }
            dimensions.append(ArrayValue.Dimension(count: extent))
        }
        for index in dimensions.indices {
            guard let bound = readFlippedHalf(&reader) else { return nil }
            dimensions[index].lowerBound = bound
        }
        let type = elements.first { !$0.isNull }?.plainType ?? .unknown
        return ArrayValue(type, dimensions: dimensions, elements: elements).map(Value.array)
    }
}

extension Interval {
    /// An interval of that length, in months of thirty days, days and the rest; nil when it is too long.
    package init?(span: Int128) {
        let day: Int128 = 86_400_000_000
        let months = Int32(clamping: span / (30 * day))
        let rest = span - Int128(months) * 30 * day
        let days = Int32(clamping: rest / day)
        guard let microseconds = Int64(exactly: rest - Int128(days) * day) else { return nil }
        self.init(months: months, days: days, microseconds: microseconds)
    }
}

extension Value {
    /// The widest type that has such values.
    package var plainType: DataType {
        switch self {
        case .null: .unknown
        case .bool: .bool
        case .integer: .int64
        case .float: .float64
        case .decimal: .decimal
        case .text: .text
        case .bytes: .bytes
        case .uuid: .uuid
        case .date: .date
        case .time: .time
        case .timeWithZone: .timeWithZone
        case .timestamp: .timestamp
        case .interval: .interval
        case .json: .jsonb
        case .array(let array): array.element.array
        case .tuple: .record
        }
    }
}
