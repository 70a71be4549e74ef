import Base

/// JSON in a form that finds a key or an element without reading what is before it. It says what PostgreSQL's jsonb
/// says: keys in order of length and bytes, the last of equal ones, numbers exact.
///
/// A value is a tag byte and what follows it up to its end, which its container knows:
///
///     null 00, false 01, true 02
///     number 03, then a decimal (`Decimal.appendPayload`)     1.5 → 03 00 01 00 01 00 88 13
///     string 04, then UTF-8                                   "a" → 04 61
///     array  05, the count, the ends of the elements, the elements          [null] → 05 01000000 01000000 00
///     object 06, the count, the ends of the keys, those of the values, keys, values
///                                                             {"a": true} → 06 01000000 01000000 02000000 61 02
///
/// Counts and ends are 32 bits, little-endian; ends count from behind their table.
package struct JSONBinary: Sendable {
    /// The encoded document; damage shows as absent values, never as a trap.
    package let bytes: Bytes

    package init(encoded bytes: Bytes) { self.bytes = bytes }

    /// What jsonb reads. Throws in PostgreSQL's words.
    package init(parsing text: String) throws(StatementError) {
        self = try JSONParser.parse(text).binary
    }

    static let nullTag: UInt8 = 0, falseTag: UInt8 = 1, trueTag: UInt8 = 2, numberTag: UInt8 = 3
    static let stringTag: UInt8 = 4, arrayTag: UInt8 = 5, objectTag: UInt8 = 6

    /// What a value is; raw values are the order in which kinds compare.
    package enum Kind: Int, Sendable { case null, string, number, bool, array, object }

    /// Calls with a look at the document that copies nothing.
    package func withView<Result>(_ body: (JSONView) -> Result) -> Result {
        bytes.withUnsafeBytes { body(JSONView($0)) }
    }

    package var kind: Kind { withView(\.kind) }

    /// Of arrays and objects; else 0.
    package var count: Int { withView(\.count) }

    /// As PostgreSQL prints jsonb: one blank behind each comma and colon.
    package var text: String {
        var buffer = ByteBuffer(capacity: 256)
        withView { $0.append(text: &buffer, depth: 0) }
        return String(decoding: buffer.readable, as: UTF8.self)
    }

    /// `->` with a key: nil where there is no such key, or no object.
    package func value(forKey key: String) -> JSONBinary? {
        withView { view in view.value(forKey: key).map(JSONBinary.init) }
    }

    /// `->` with a number; negative ones count from the end.
    package func element(at index: Int) -> JSONBinary? {
        withView { view in view.element(at: index).map(JSONBinary.init) }
    }

    /// `#>`: keys, and numbers for arrays.
    package func value(atPath path: [String]) -> JSONBinary? {
        withView { view in
            var view: JSONView? = view
            for step in path { view = view?.child(step) }
            return view.map(JSONBinary.init)
        }
    }

    /// `->>`: strings without quotes, null as nil.
    package var unquotedText: String? {
        switch kind {
        case .null: nil
        case .string: withView(\.string)
        case .number, .bool, .array, .object: text
        }
    }

    package init(_ view: JSONView) { bytes = view.bytes.bytes }

    /// The document as a tree, to be changed; nil where it is damaged.
    package var node: JSONNode? { withView { $0.node(depth: 0) } }

    static func compareKeys(_ left: String, _ right: String) -> Int {
        left.utf8.count == right.utf8.count ? Value.compareBytes(left, right) : left.utf8.count - right.utf8.count
    }
}

/// A look at a JSON value whose bytes somebody else owns. Every read is checked: damage reads as null.
package struct JSONView {
    package let bytes: ByteView

    package init(_ bytes: ByteView) { self.bytes = bytes }

    package var kind: JSONBinary.Kind {
        switch bytes.first {
        case JSONBinary.falseTag, JSONBinary.trueTag: .bool
        case JSONBinary.numberTag: .number
        case JSONBinary.stringTag: .string
        case JSONBinary.arrayTag: .array
        case JSONBinary.objectTag: .object
        case _: .null
        }
    }

    package var bool: Bool { bytes.first == JSONBinary.trueTag }

    package var number: Decimal {
        bytes.first == JSONBinary.numberTag ? Decimal(payload: ByteView(rebasing: bytes.dropFirst())) ?? .zero : .zero
    }

    package var string: String {
        bytes.first == JSONBinary.stringTag ? String(decoding: bytes.dropFirst(), as: UTF8.self) : ""
    }

    private func word(at offset: Int) -> Int? {
        guard offset >= 0, offset <= bytes.count - 4 else { return nil }
        return Int(UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt32.self)))
    }

    /// Of arrays and objects; never more than there is room for.
    package var count: Int {
        guard kind == .array || kind == .object, let count = word(at: 1) else { return 0 }
        return min(count, (bytes.count - 5) / (kind == .object ? 8 : 4))
    }

    private func item(_ index: Int, of total: Int) -> ByteView? {
        guard index >= 0, index < total else { return nil }
        let base = 5 + total * 4
        guard let end = word(at: 5 + index * 4), let start = index == 0 ? 0 : word(at: 1 + index * 4), start <= end,
            base + end <= bytes.count
        else { return nil }
        return ByteView(rebasing: bytes[(base + start)..<(base + end)])
    }

    /// Negative numbers count from the end.
    package func element(at index: Int) -> JSONView? {
        guard kind == .array else { return nil }
        let count = count
        return item(index < 0 ? index &+ count : index, of: count).map(JSONView.init)
    }

    package func key(at index: Int) -> String? {
        keyBytes(at: index).map { String(decoding: $0, as: UTF8.self) }
    }

    func keyBytes(at index: Int) -> ByteView? {
        guard kind == .object, index < count else { return nil }
        return item(index, of: count * 2)
    }

    package func value(at index: Int) -> JSONView? {
        guard kind == .object, index >= 0, index < count else { return nil }
        return item(count + index, of: count * 2).map(JSONView.init)
    }

    /// By binary search.
    package func value(forKey key: String) -> JSONView? {
        var key = key
        return key.withUTF8 { wanted in position(of: ByteView(wanted)) }.flatMap { value(at: $0) }
    }

    func position(of wanted: ByteView) -> Int? {
        guard kind == .object else { return nil }
        var low = 0, high = count
        while low < high {
            let middle = (low + high) / 2
            guard let key = keyBytes(at: middle) else { return nil }
            let order = key.count == wanted.count ? compareKeys(key, wanted) : key.count - wanted.count
            if order == 0 { return middle }
            if order < 0 { low = middle + 1 } else { high = middle }
        }
        return nil
    }

    /// One step of a path.
    package func child(_ step: String) -> JSONView? {
        switch kind {
        case .object: value(forKey: step)
        case .array: Int32(step).flatMap { element(at: Int($0)) }
        case .null, .string, .number, .bool: nil
        }
    }

    func node(depth: Int) -> JSONNode? {
        guard depth <= JSONNode.depthLimit + 1, !bytes.isEmpty else { return nil }
        switch kind {
        case .null: return bytes.first == JSONBinary.nullTag ? .null : nil
        case .bool: return .bool(bool)
        case .number: return .number(number)
        case .string: return .string(string)
        case .array:
            var elements: [JSONNode] = []
            for index in 0..<count {
                guard let element = element(at: index)?.node(depth: depth + 1) else { return nil }
                elements.append(element)
            }
            return .array(elements)
        case .object:
            var members: [(key: String, value: JSONNode)] = []
            for index in 0..<count {
                guard let key = key(at: index), let value = value(at: index)?.node(depth: depth + 1) else { return nil }
                members.append((key, value))
            }
            return .object(members)
        }
    }
}
