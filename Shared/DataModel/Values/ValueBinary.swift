import Base

/// Values in PostgreSQL's binary formats (its `send` and `recv` functions): what parameters and results are in where a
/// client asks for it. Integers are big-endian, moments count from 2000.
package enum ValueBinary {
    /// 2000-01-01 in microseconds and days since 1970.
    static let epoch: Int64 = 946_684_800_000_000, epochDay: Int32 = 10_957
    private static let positive: UInt16 = 0, negative: UInt16 = 0x4000, notANumber: UInt16 = 0xc000
    private static let infinity: UInt16 = 0xd000, negativeInfinity: UInt16 = 0xf000
    /// Arrays and rows nest this deep at most.
    private static let depthLimit = 32

    // MARK: Out

    /// A value that is not NULL, without its length in front.
    package static func append(_ value: Value, as type: DataType, into buffer: inout ByteBuffer) {
        switch value {
        case .null: break
        case .bool(let value): buffer.append(value ? 1 : 0 as UInt8)
        case .integer(let value): append(integer: value, type, into: &buffer)
        case .float(let value):
            if type.kind == .float32 {
                buffer.append(bigEndian: Float(value).bitPattern)
            } else {
                buffer.append(bigEndian: value.bitPattern)
            }
        case .decimal(let value): append(value, into: &buffer)
        case .text(let text):
            // A byte that is none of the others is what an empty "char" stands for.
            if type.kind == .internalChar, text.isEmpty { buffer.append(0 as UInt8) }
            buffer.append(text: text)
        case .bytes(let bytes): buffer.append(bytes)
        case .uuid(let high, let low):
            buffer.append(bigEndian: high)
            buffer.append(bigEndian: low)
        case .date(let days):
            buffer.append(bigEndian: days == .max || days == .min ? days : days &- epochDay)
        case .time(let microseconds): buffer.append(bigEndian: microseconds)
        case .timeWithZone(let microseconds, let zone):
            buffer.append(bigEndian: microseconds)
            buffer.append(bigEndian: 0 &- zone)
        case .timestamp(let moment):
            buffer.append(bigEndian: moment == .max || moment == .min ? moment : moment &- epoch)
        case .interval(let interval):
            buffer.append(bigEndian: interval.microseconds)
            buffer.append(bigEndian: interval.days)
            buffer.append(bigEndian: interval.months)
        case .json(let document):
            buffer.append(1 as UInt8)
            document.withView { $0.append(text: &buffer, depth: 0) }
        case .array(let array): append(array, into: &buffer)
        case .tuple(let values):
            buffer.append(bigEndian: Int32(clamping: values.count))
            for value in values {
                buffer.append(bigEndian: value.plainType.oid)
                append(sized: value, as: value.plainType, into: &buffer)
            }
        }
    }

    /// Likewise, with its length in front; -1 for NULL.
    package static func append(sized value: Value, as type: DataType, into buffer: inout ByteBuffer) {
        guard !value.isNull else {
            buffer.append(bigEndian: -1 as Int32)
            return
        }
        let start = buffer.count
        buffer.append(bigEndian: 0 as Int32)
        append(value, as: type, into: &buffer)
        let length = Int32(clamping: buffer.count - start - 4)
        buffer.mutableReadable.storeBytes(of: length.bigEndian, toByteOffset: start, as: Int32.self)
    }

    private static func append(integer value: Int64, _ type: DataType, into buffer: inout ByteBuffer) {
        switch type.kind {
        case .int16: buffer.append(bigEndian: Int16(truncatingIfNeeded: value))
        case .int32, .oid, .regclass, .regtype, .regproc, .regnamespace, .regrole, .transactionID:
            buffer.append(bigEndian: UInt32(truncatingIfNeeded: value))
        case .bool, .int64, .float32, .float64, .decimal, .text, .varchar, .char, .name, .bytes, .uuid, .date, .time,
            .timeWithZone, .timestamp, .timestampWithZone, .interval, .json, .jsonb, .internalChar, .int16Vector,
            .oidVector, .record, .void, .unknown:
            buffer.append(bigEndian: value)
        }
    }

    private static func append(_ value: Decimal, into buffer: inout ByteBuffer) {
        buffer.append(bigEndian: UInt16(clamping: value.places.count))
        buffer.append(bigEndian: Int16(clamping: value.places.isEmpty ? 0 : value.weight))
        switch value.kind {
        case .finite: buffer.append(bigEndian: value.isNegative ? negative : positive)
        case .nan: buffer.append(bigEndian: notANumber)
        case .infinity: buffer.append(bigEndian: infinity)
        case .negativeInfinity: buffer.append(bigEndian: negativeInfinity)
        }
        buffer.append(bigEndian: UInt16(clamping: value.scale))
        for place in value.places { buffer.append(bigEndian: place) }
    }

    private static func append(_ array: ArrayValue, into buffer: inout ByteBuffer) {
        buffer.append(bigEndian: Int32(array.dimensions.count))
        buffer.append(bigEndian: array.elements.contains { $0.isNull } ? 1 : 0 as Int32)
        buffer.append(bigEndian: array.element.oid)
        for dimension in array.dimensions {
            buffer.append(bigEndian: dimension.count)
            buffer.append(bigEndian: dimension.lowerBound)
        }
        for element in array.elements { append(sized: element, as: array.element, into: &buffer) }
    }

    // MARK: In

    /// Reads a value; a type with a modifier rounds or refuses as an assignment does. No bytes can do worse than throw.
    package static func decode(_ view: ByteView, as type: DataType) throws(StatementError) -> Value {
        try decode(view, type, depth: 0).coerced(to: type, isExplicit: false)
    }

    private static let short = StatementError(SQLState(rawValue: "08P01"), "insufficient data left in message")

    private static func malformed(_ message: String) -> StatementError {
        StatementError(.invalidBinaryRepresentation, message)
    }

    private static func outOfRange(_ what: String) -> StatementError {
        StatementError(.datetimeFieldOverflow, "\(what) out of range")
    }

    private static func decode(_ view: ByteView, _ type: DataType, depth: Int) throws(StatementError) -> Value {
        var reader = ByteReader(view)
        let value =
            type.isArrayLike
            ? try array(&reader, type, depth: depth + 1) : try scalar(&reader, type, depth: depth)
        guard reader.isAtEnd else { throw malformed("incorrect binary data format") }
        return value
    }

    private static func scalar(
        _ reader: inout ByteReader, _ type: DataType, depth: Int
    ) throws(StatementError) -> Value {
        switch type.kind {
        case .bool: return .bool(try fixed(&reader, UInt8.self) != 0)
        case .int16: return .integer(Int64(try fixed(&reader, Int16.self)))
        case .int32: return .integer(Int64(try fixed(&reader, Int32.self)))
        case .int64: return .integer(try fixed(&reader, Int64.self))
        case .oid, .regclass, .regtype, .regproc, .regnamespace, .regrole, .transactionID:
            return .integer(Int64(try fixed(&reader, UInt32.self)))
        case .float32: return .float(Double(Float(bitPattern: try fixed(&reader, UInt32.self))))
        case .float64: return .float(Double(bitPattern: try fixed(&reader, UInt64.self)))
        case .decimal: return .decimal(try decimal(&reader))
        case .text, .varchar, .char, .unknown: return .text(try text(&reader))
        case .name: return .text(try text(&reader).limited(toBytes: 63))
        case .internalChar:
            let byte = try fixed(&reader, UInt8.self)
            return .text(byte == 0 ? "" : String(decoding: [byte], as: UTF8.self))
        case .json:
            let text = try text(&reader)
            try JSONParser.check(text)
            return .text(text)
        case .jsonb:
            let version = try fixed(&reader, UInt8.self)
            guard version == 1 else {
                throw StatementError(.internalError, "unsupported jsonb version number \(version)")
            }
            return .json(try JSONBinary(parsing: try text(&reader)))
        case .bytes: return .bytes(reader.view(reader.remaining)?.bytes ?? [])
        case .uuid: return .uuid(high: try fixed(&reader, UInt64.self), low: try fixed(&reader, UInt64.self))
        case .date, .time, .timeWithZone, .timestamp, .timestampWithZone, .interval: return try moment(&reader, type)
        case .record: return try row(&reader, depth: depth + 1)
        case .void: return .null
        case .int16Vector, .oidVector: return try array(&reader, type, depth: depth + 1)
        }
    }

    private static func fixed<Number: FixedWidthInteger>(
        _ reader: inout ByteReader, _ type: Number.Type
    ) throws(StatementError) -> Number {
        guard let value = reader.bigEndian(type) else { throw short }
        return value
    }

    /// What a client sends as text must be UTF-8 without zero bytes.
    package static func text(_ view: ByteView) throws(StatementError) -> String {
        if !view.contains(0), let text = String(validating: view, as: UTF8.self) { return text }
        let position = view.firstIndex(of: 0) ?? view.count
        let valid = validPrefix(view)
        let bad = view.dropFirst(min(valid, position)).prefix(min(valid, position) == position ? 1 : 4)
        let digits = bad.map { byte in
            let digits = String(byte, radix: 16)
            return "0x" + (digits.count < 2 ? "0" : "") + digits
        }
        throw StatementError(
            .characterNotInRepertoire, "invalid byte sequence for encoding \"UTF8\": \(digits.joined(separator: " "))")
    }

    private static func validPrefix(_ view: ByteView) -> Int {
        var low = 0, high = view.count
        // The longest beginning that is valid, up to three bytes of a character that was cut.
        while low < high {
            let middle = (low + high + 1) / 2
            var end = middle
            while end > 0, end < view.count, view[end] & 0xc0 == 0x80, middle - end < 3 { end -= 1 }
            if String(validating: ByteView(rebasing: view[..<end]), as: UTF8.self) != nil {
                low = middle
            } else {
                high = middle - 1
            }
        }
        while low > 0, low < view.count, view[low] & 0xc0 == 0x80, view[low - 1] >= 0x80 { low -= 1 }
        return low
    }

    private static func text(_ reader: inout ByteReader) throws(StatementError) -> String {
        try text(reader.view(reader.remaining) ?? ByteView(start: nil, count: 0))
    }

    private static func decimal(_ reader: inout ByteReader) throws(StatementError) -> Decimal {
        let count = try fixed(&reader, UInt16.self), weight = try fixed(&reader, Int16.self)
        let sign = try fixed(&reader, UInt16.self), scale = try fixed(&reader, UInt16.self)
        var places: [UInt16] = []
        for _ in 0..<count {
            let place = try fixed(&reader, UInt16.self)
            guard place < UInt16(Decimal.base) else { throw malformed("invalid digit in external \"numeric\" value") }
            places.append(place)
        }
        switch sign {
        case notANumber: return .notANumber
        case infinity: return .infinity
        case negativeInfinity: return .negativeInfinity
        case positive, negative: break
        case _: throw malformed("invalid sign in external \"numeric\" value")
        }
        guard scale <= UInt16(Decimal.scaleLimit) else {
            throw malformed("invalid scale in external \"numeric\" value")
        }
        // Digits behind the scale are dropped, as PostgreSQL does.
        let value = Decimal(
            isNegative: sign == negative, weight: Int(weight), places: places, scale: Int(scale))
        return value.truncated(to: Int(scale))
    }

    private static func moment(_ reader: inout ByteReader, _ type: DataType) throws(StatementError) -> Value {
        switch type.kind {
        case .date:
            let days = try fixed(&reader, Int32.self)
            if days == .max || days == .min { return .date(days) }
            let (shifted, isOver) = days.addingReportingOverflow(epochDay)
            guard !isOver, (Calendar.firstDay..<Calendar.endOfDates).contains(Int(shifted)) else {
                throw outOfRange("date")
            }
            return .date(shifted)
        case .time, .timeWithZone:
            let microseconds = try fixed(&reader, Int64.self)
            guard (0...Calendar.microsecondsPerDay).contains(microseconds) else { throw outOfRange("time") }
            guard type.kind == .timeWithZone else { return .time(microseconds) }
            let west = try fixed(&reader, Int32.self)
            guard west > -16 * 3600, west < 16 * 3600 else {
                throw StatementError(.invalidTimeZoneDisplacementValue, "time zone displacement out of range")
            }
            return .timeWithZone(microseconds: microseconds, zone: -west)
        case .interval:
            let microseconds = try fixed(&reader, Int64.self), days = try fixed(&reader, Int32.self)
            return .interval(
                Interval(months: try fixed(&reader, Int32.self), days: days, microseconds: microseconds))
        case _:
            let moment = try fixed(&reader, Int64.self)
            if moment == .max || moment == .min { return .timestamp(moment) }
            let (shifted, isOver) = moment.addingReportingOverflow(epoch)
            guard !isOver, let checked = DateTimeFields.checked(shifted) else { throw outOfRange("timestamp") }
            return .timestamp(checked)
        }
    }

    private static func array(
        _ reader: inout ByteReader, _ type: DataType, depth: Int
    ) throws(StatementError) -> Value {
        let count = try fixed(&reader, Int32.self), flags = try fixed(&reader, Int32.self)
        let oid = try fixed(&reader, UInt32.self)
        guard count >= 0 else { throw malformed("invalid number of dimensions: \(count)") }
        guard count <= ArrayValue.dimensionLimit else {
            throw StatementError(
                .programLimitExceeded,
                "number of array dimensions (\(count)) exceeds the maximum allowed (\(ArrayValue.dimensionLimit))")
        }
        guard flags == 0 || flags == 1 else { throw malformed("invalid array flags") }
        let element = type.element
        guard oid == element.oid else { throw StatementError(.datatypeMismatch, "wrong element type") }
        guard depth <= depthLimit else { throw malformed("incorrect binary data format") }
        var dimensions: [ArrayValue.Dimension] = []
        for _ in 0..<count {
            let extent = try fixed(&reader, Int32.self)
            dimensions.append(ArrayValue.Dimension(count: extent, lowerBound: try fixed(&reader, Int32.self)))
        }
        var elements: [Value] = []
        while !reader.isAtEnd { elements.append(try sized(&reader, element, depth: depth)) }
        if elements.isEmpty, dimensions.allSatisfy({ $0.count == 0 }) { dimensions = [] }
        guard let array = ArrayValue(element, dimensions: dimensions, elements: elements) else {
            throw malformed("incorrect binary data format")
        }
        return .array(array)
    }

    private static func sized(
        _ reader: inout ByteReader, _ type: DataType, depth: Int
    ) throws(StatementError) -> Value {
        let length = try fixed(&reader, Int32.self)
        if length == -1 { return .null }
        guard let view = reader.view(Int(length)) else { throw short }
        return try decode(view, type, depth: depth)
    }

    private static func row(_ reader: inout ByteReader, depth: Int) throws(StatementError) -> Value {
        guard depth <= depthLimit else { throw malformed("incorrect binary data format") }
        var values: [Value] = []
        for _ in 0..<max(try fixed(&reader, Int32.self), 0) {
            guard let type = PostgresTypes.type(oid: try fixed(&reader, UInt32.self)) else {
                throw StatementError(.datatypeMismatch, "wrong element type")
            }
            values.append(try sized(&reader, type, depth: depth))
        }
        return .tuple(values)
    }
}
