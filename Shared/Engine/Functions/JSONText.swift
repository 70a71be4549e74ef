import Base
import DataModel

/// A value of type `json`, read in place: it keeps its text, so what is taken out of it is a piece of that text.
struct JSONText {
    private let bytes: ArraySlice<UInt8>

    init(_ text: String) { self.init(Array(text.utf8)[...]) }

    /// Looks at all escapes too: what is read in it is text, which half a character is not.
    init(checking text: String) throws(StatementError) {
        if text.utf8.contains(UInt8(ascii: "\\")) { _ = try JSONBinary(parsing: text) }
        self.init(text)
    }

    private init(_ bytes: ArraySlice<UInt8>) {
        var bytes = bytes
        while let first = bytes.first, Self.isBlank(first) { bytes.removeFirst() }
        while let last = bytes.last, Self.isBlank(last) { bytes.removeLast() }
        self.bytes = bytes
    }

    private static func isBlank(_ byte: UInt8) -> Bool { byte == 0x20 || (0x09...0x0d).contains(byte) }

    var text: String { String(decoding: bytes, as: UTF8.self) }

    var kind: JSONBinary.Kind {
        switch bytes.first {
        case UInt8(ascii: "{"): .object
        case UInt8(ascii: "["): .array
        case UInt8(ascii: "\""): .string
        case UInt8(ascii: "t"), UInt8(ascii: "f"): .bool
        case UInt8(ascii: "n"): .null
        case _: .number
        }
    }

    /// What it is worth as a text: a string without its quotes, nothing for null.
    func unquoted() throws(StatementError) -> String? {
        switch kind {
        case .null: return nil
        case .string:
            guard bytes.contains(UInt8(ascii: "\\")) else {
                return String(decoding: bytes.dropFirst().dropLast(), as: UTF8.self)
            }
            return try JSONBinary(parsing: text).unquotedText
        case .number, .bool, .array, .object: return text
        }
    }

    /// The pieces between the commas of this level; the text is known to be well-formed.
    private func pieces(of range: ArraySlice<UInt8>, separator: UInt8) -> [ArraySlice<UInt8>] {
        var pieces: [ArraySlice<UInt8>] = [], depth = 0, isString = false, isEscaped = false, start = range.startIndex
        for index in range.indices {
            let byte = range[index]
            if isString {
                if isEscaped {
                    isEscaped = false
                } else if byte == UInt8(ascii: "\\") {
                    isEscaped = true
                } else {
                    isString = byte != UInt8(ascii: "\"")
                }
                continue
            }
            switch byte {
            case UInt8(ascii: "\""): isString = true
            case UInt8(ascii: "{"), UInt8(ascii: "["): depth += 1
            case UInt8(ascii: "}"), UInt8(ascii: "]"): depth -= 1
            case separator where depth == 0:
                pieces.append(range[start..<index])
                start = index + 1
            case _: break
            }
        }
        pieces.append(range[start..<range.endIndex])
        return pieces
    }

    private var inside: ArraySlice<UInt8> { bytes.dropFirst().dropLast() }

    /// Of an array.
    var elements: [JSONText] {
        guard kind == .array, inside.contains(where: { !Self.isBlank($0) }) else { return [] }
        return pieces(of: inside, separator: UInt8(ascii: ",")).map { JSONText($0) }
    }

    /// Of an object, as they are written, doubles included.
    func members() throws(StatementError) -> [(key: String, value: JSONText)] {
        guard kind == .object, inside.contains(where: { !Self.isBlank($0) }) else { return [] }
        var members: [(key: String, value: JSONText)] = []
        for piece in pieces(of: inside, separator: UInt8(ascii: ",")) {
            let parts = pieces(of: piece, separator: UInt8(ascii: ":"))
            guard parts.count == 2 else { continue }
            members.append((try JSONText(parts[0]).unquoted() ?? "", JSONText(parts[1])))
        }
        return members
    }

    /// The last one of that key counts.
    func value(forKey key: String) throws(StatementError) -> JSONText? {
        try members().last { Value.compareBytes($0.key, key) == 0 }?.value
    }

    func element(at index: Int64) -> JSONText? {
        let all = elements, place = index < 0 ? index + Int64(all.count) : index
        return place >= 0 && place < Int64(all.count) ? all[Int(place)] : nil
    }

    func value(atPath path: [String]) throws(StatementError) -> JSONText? {
        var current = self
        for step in path {
            switch current.kind {
            case .object:
                guard let next = try current.value(forKey: step) else { return nil }
                current = next
            case .array:
                guard let index = Int32(step), let next = current.element(at: Int64(index)) else { return nil }
                current = next
            case .null, .string, .number, .bool: return nil
            }
        }
        return current
    }

    /// With its own members or elements each on a line, and nothing else changed.
    func broken() -> String {
        guard kind == .object || kind == .array else { return text }
        let parts = pieces(of: inside, separator: UInt8(ascii: ",")).map { String(decoding: $0, as: UTF8.self) }
        return (kind == .object ? "{" : "[") + parts.joined(separator: ",\n ") + (kind == .object ? "}" : "]")
    }

    /// Without members that are null, as short as can be.
    func strippingNulls(depth: Int = 0) throws(StatementError) -> String {
        guard depth <= JSONNode.depthLimit else {
            throw StatementError(.statementTooComplex, "stack depth limit exceeded")
        }
        switch kind {
        case .object:
            var parts: [String] = []
            for (key, value) in try members() where value.kind != .null {
                parts.append(JSONMaking.quoted(key) + ":" + (try value.strippingNulls(depth: depth + 1)))
            }
            return "{" + parts.joined(separator: ",") + "}"
        case .array:
            var parts: [String] = []
            for element in elements { parts.append(try element.strippingNulls(depth: depth + 1)) }
            return "[" + parts.joined(separator: ",") + "]"
        case .null, .string, .number, .bool: return text
        }
    }
}

/// JSON out of values of any type.
enum JSONMaking {
    static func quoted(_ text: String) -> String {
        var buffer = ByteBuffer(capacity: 64), text = text
        text.withUTF8 { JSONView.append(quoted: ByteView($0), into: &buffer) }
        return String(decoding: buffer.readable, as: UTF8.self)
    }

    /// As `to_json` writes it.
    static func text(_ value: Value, _ type: DataType, _ settings: EngineSettings) -> String {
        switch value {
        case .null: return "null"
        case .bool(let flag): return flag ? "true" : "false"
        case .integer:
            let text = TextForms.text(value, type, settings)
            return type.category == "N" && Int64(text) != nil ? text : quoted(text)
        case .float(let number) where number.isFinite: return TextForms.text(value, type, settings)
        case .decimal(let number) where number.isFinite: return number.text
        case .json(let document): return document.text
        // A whole row was made to JSON where its names were known.
        case .text(let text) where type.kind == .json || type.kind == .record: return text
        case .timestamp(let moment) where moment != .max && moment != .min:
            return quoted(stamp(moment, type, settings))
        case .array(let array):
            let element = type.isArrayLike ? type.element : array.element
            return nested(array, 0, 0, element, settings)
        case .tuple(let values):
            let members = values.enumerated().map { index, value in
                "\"f\(index + 1)\":" + text(value, TextForms.type(of: value), settings)
            }
            return "{" + members.joined(separator: ",") + "}"
        case .float, .decimal, .text, .bytes, .uuid, .date, .time, .timeWithZone, .timestamp, .interval:
            return quoted(TextForms.text(value, type, settings))
        }
    }

    /// ISO 8601: with a T, and the zone with its minutes.
    private static func stamp(_ moment: Int64, _ type: DataType, _ settings: EngineSettings) -> String {
        var text = TextForms.text(.timestamp(moment), type, settings)
        if let blank = text.firstIndex(of: " ") { text.replaceSubrange(blank...blank, with: "T") }
        guard type.kind == .timestampWithZone, let sign = text.lastIndex(where: { $0 == "+" || $0 == "-" }) else {
            return text
        }
        let hasEra = text.hasSuffix(" BC")
        let zone = text[sign...].utf8.count - (hasEra ? 3 : 0)
        if zone == 3 { text.insert(contentsOf: ":00", at: text.index(sign, offsetBy: 3)) }
        return text
    }

    private static func nested(
        _ array: ArrayValue, _ dimension: Int, _ start: Int, _ element: DataType, _ settings: EngineSettings
    ) -> String {
        guard dimension < array.dimensions.count else { return "[]" }
        let count = Int(array.dimensions[dimension].count)
        let width = array.dimensions.dropFirst(dimension + 1).reduce(1) { $0 * Int($1.count) }
        let parts = (0..<count).map { index in
            let place = start + index * width
            return dimension + 1 < array.dimensions.count
                ? nested(array, dimension + 1, place, element, settings)
                : text(array.elements[place], element, settings)
        }
        return "[" + parts.joined(separator: ",") + "]"
    }

    /// A value as the key of an object.
    static func key(_ value: Value, _ type: DataType, _ settings: EngineSettings) throws(StatementError) -> String {
        switch value {
        case .array, .tuple, .json: throw notScalar
        case .text where type.kind == .json || type.kind == .record: throw notScalar
        case .bool(let flag): return flag ? "true" : "false"
        case .timestamp(let moment) where moment != .max && moment != .min: return stamp(moment, type, settings)
        case .null, .integer, .float, .decimal, .text, .bytes, .uuid, .date, .time, .timeWithZone, .timestamp,
            .interval:
            return TextForms.text(value, type, settings)
        }
    }

    private static var notScalar: StatementError {
        StatementError(.invalidParameterValue, "key value must be scalar, not array, composite, or json")
    }

    /// As jsonb.
    static func binary(_ value: Value, _ type: DataType, _ settings: EngineSettings) throws(StatementError) -> Value {
        if case .json = value { return value }
        return .json(try JSONBinary(parsing: text(value, type, settings)))
    }
}
