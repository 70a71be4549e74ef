import Base

/// Values as text, in and out, exactly as PostgreSQL 15 has them with DateStyle ISO, IntervalStyle postgres,
/// bytea_output hex and the shortest floating-point numbers that read back the same.
package enum ValueText {
    /// Reads a value; a type with a modifier rounds or refuses as an assignment does. The `reg` kinds are read as
    /// numbers: names need a catalog. Throws in PostgreSQL's words.
    package static func parse(
        _ text: String, as type: DataType, _ settings: TextSettings = TextSettings()
    ) throws(StatementError) -> Value {
        if type.isArray { return try ArrayText.parse(text, type.element, settings) }
        return try parseScalar(text, as: type, settings).coerced(to: type, isExplicit: false)
    }

    /// The same of text as a client sent it. Throws also for what is not UTF-8.
    package static func parse(
        _ view: ByteView, as type: DataType, _ settings: TextSettings = TextSettings()
    ) throws(StatementError) -> Value {
        if let number = plainInteger(view, type) { return .integer(number) }
        return try parse(try ValueBinary.text(view), as: type, settings)
    }

    /// A whole number of at most 18 digits, as most keys are, read without a string of them. Nil for anything else.
    package static func plainInteger(_ view: ByteView, _ type: DataType) -> Int64? {
        let range: ClosedRange<Int64>
        switch type.kind {
        case .int16: range = Int64(Int16.min)...Int64(Int16.max)
        case .int32: range = Int64(Int32.min)...Int64(Int32.max)
        case .int64: range = .min ... .max
        case _: return nil
        }
        let isNegative = view.first == UInt8(ascii: "-"), digits = view.count - (isNegative ? 1 : 0)
        guard (1...18).contains(digits), !type.isArray else { return nil }
        var number: Int64 = 0
        for byte in view[(view.count - digits)...] {
            guard (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) else { return nil }
            number = number &* 10 &+ Int64(byte &- UInt8(ascii: "0"))
        }
        if isNegative { number = -number }
        return range.contains(number) ? number : nil
    }

    private static func parseScalar(
        _ text: String, as type: DataType, _ settings: TextSettings
    ) throws(StatementError) -> Value {
        switch type.kind {
        case .bool: return .bool(try bool(text))
        case .int16, .int32, .int64: return .integer(try NumberText.integer(text, type))
        case .oid, .regclass, .regtype, .regproc, .regnamespace, .regrole, .transactionID:
            return .integer(try NumberText.objectNumber(text, type))
        case .float32, .float64: return .float(try NumberText.float(text, type))
        case .decimal:
            do throws(DatabaseError) { return .decimal(try Decimal(parsing: text)) } catch {
                throw StatementError(error)
            }
        case .text, .varchar, .char, .unknown: return .text(text)
        case .name: return .text(text.limited(toBytes: 63))
        case .internalChar: return .text(text.limited(toBytes: 1))
        case .bytes: return .bytes(try BytesText.parse(text))
        case .uuid: return try BytesText.uuid(text)
        case .json:
            try JSONParser.check(text)
            return .text(text)
        case .jsonb: return .json(try JSONBinary(parsing: text))
        case .date: return .date(try DateTimeText.date(text, settings))
        case .time: return .time(try DateTimeText.time(text, settings, "time").microseconds)
        case .timeWithZone:
            let (microseconds, zone) = try DateTimeText.time(text, settings, "time with time zone")
            return .timeWithZone(microseconds: microseconds, zone: zone)
        case .timestamp: return .timestamp(try DateTimeText.timestamp(text, settings, hasZone: false))
        case .timestampWithZone: return .timestamp(try DateTimeText.timestamp(text, settings, hasZone: true))
        case .interval: return .interval(try IntervalText.parse(text, IntervalFields(modifier: type.modifier)))
        case .int16Vector, .oidVector: return try vector(text, type, settings)
        case .void: return .null
        case .record:
            throw StatementError(.featureNotSupported, "input of anonymous composite types is not implemented")
        }
    }

    static func invalid(_ text: String, _ type: DataType) -> StatementError {
        StatementError(.invalidTextRepresentation, "invalid input syntax for type \(type.title): \"\(text)\"")
    }

    /// Any beginning of true, false, yes, no; on, off; 1, 0.
    private static func bool(_ text: String) throws(StatementError) -> Bool {
        let word = text.trimmedASCII.lowercasedASCII
        switch word {
        case "t", "tr", "tru", "true", "y", "ye", "yes", "on", "1": return true
        case "f", "fa", "fal", "fals", "false", "n", "no", "of", "off", "0": return false
        case _: throw invalid(text, .bool)
        }
    }

    /// Numbers with blanks between, counting from 0.
    private static func vector(
        _ text: String, _ type: DataType, _ settings: TextSettings
    ) throws(StatementError) -> Value {
        var elements: [Value] = []
        for word in text.utf8.split(separator: 0x20) {
            elements.append(try parse(String(Substring(word)), as: type.element, settings))
        }
        let dimension = ArrayValue.Dimension(count: Int32(clamping: elements.count), lowerBound: 0)
        let array = ArrayValue(type.element, dimensions: elements.isEmpty ? [] : [dimension], elements: elements)
        return array.map(Value.array) ?? .null
    }

    // MARK: Out

    /// Prints a value that is not NULL (which has no text: "").
    package static func text(of value: Value, as type: DataType, _ settings: TextSettings = TextSettings()) -> String {
        var buffer = ByteBuffer(capacity: 64)
        append(value, as: type, settings, into: &buffer)
        return String(decoding: buffer.readable, as: UTF8.self)
    }

    /// Likewise, behind what a buffer holds.
    package static func append(
        _ value: Value, as type: DataType, _ settings: TextSettings, into buffer: inout ByteBuffer
    ) {
        switch value {
        case .null: break
        case .bool(let value): buffer.append(UInt8(ascii: value ? "t" : "f"))
        case .integer(let value): buffer.append(decimal: value)
        case .float(let value): NumberText.append(value, isSingle: type.kind == .float32, into: &buffer)
        case .decimal(let value): buffer.append(text: value.text)
        case .text(let value): buffer.append(text: value)
        case .bytes(let value): BytesText.append(value, into: &buffer)
        case .uuid(let high, let low): BytesText.append(high, low, into: &buffer)
        case .date(let days): DateTimeText.append(days: days, into: &buffer)
        case .time(let microseconds): DateTimeText.append(time: microseconds, into: &buffer)
        case .timeWithZone(let microseconds, let zone):
            DateTimeText.append(time: microseconds, into: &buffer)
            DateTimeText.append(zone: zone, into: &buffer)
        case .timestamp(let moment):
            let zone = type.kind == .timestampWithZone ? settings.zone : nil
            DateTimeText.append(moment: moment, zone, into: &buffer)
        case .interval(let interval): IntervalText.append(interval, into: &buffer)
        case .json(let document): document.withView { $0.append(text: &buffer, depth: 0) }
        case .array(let array) where !type.isArray && type.isArrayLike:
            for (index, element) in array.elements.enumerated() {
                if index > 0 { buffer.append(UInt8(ascii: " ")) }
                append(element, as: type.element, settings, into: &buffer)
            }
        case .array(let array): ArrayText.append(array, settings, into: &buffer)
        case .tuple(let values): RowText.append(values, settings, into: &buffer)
        }
    }
}

/// Rows as `(1,"two words",)`.
enum RowText {
    static func append(_ values: [Value], _ settings: TextSettings, into buffer: inout ByteBuffer) {
        buffer.append(UInt8(ascii: "("))
        for (index, value) in values.enumerated() {
            if index > 0 { buffer.append(UInt8(ascii: ",")) }
            guard !value.isNull else { continue }
            let text = Array(ValueText.text(of: value, as: value.plainType, settings).utf8)
            let isQuoted =
                text.isEmpty
                || text.contains { byte in
                    switch byte {
                    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "("), UInt8(ascii: ")"),
                        UInt8(ascii: ","):
                        true
                    case _: byte == 0x20 || (0x09...0x0d).contains(byte)
                    }
                }
            if isQuoted { buffer.append(UInt8(ascii: "\"")) }
            for byte in text {
                if byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "\\") { buffer.append(byte) }
                buffer.append(byte)
            }
            if isQuoted { buffer.append(UInt8(ascii: "\"")) }
        }
        buffer.append(UInt8(ascii: ")"))
    }
}

extension String {
    /// Without white space of ASCII at both ends.
    var trimmedASCII: String {
        let bytes = utf8
        guard let first = bytes.firstIndex(where: { !$0.isWhiteSpace }),
            let last = bytes.lastIndex(where: { !$0.isWhiteSpace })
        else { return "" }
        return String(self[first...last])
    }

    /// A to Z only: other letters are no part of any keyword.
    var lowercasedASCII: String {
        String(decoding: utf8.map { (0x41...0x5a).contains($0) ? $0 | 0x20 : $0 }, as: UTF8.self)
    }

    /// The longest beginning of whole characters that fits.
    package func limited(toBytes limit: Int) -> String {
        guard utf8.count > limit else { return self }
        var count = 0
        return String(
            String.UnicodeScalarView(
                unicodeScalars.prefix {
                    count += UTF8.width($0)
                    return count <= limit
                }))
    }
}

extension UInt8 {
    var isWhiteSpace: Bool { self == 0x20 || (0x09...0x0d).contains(self) }

    var isDigit: Bool { (0x30...0x39).contains(self) }

    var isLetter: Bool { (0x41...0x5a).contains(self) || (0x61...0x7a).contains(self) }
}
