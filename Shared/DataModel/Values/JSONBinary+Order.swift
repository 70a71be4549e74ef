import Base

// Printing, order, containment and keys of JSON, as of PostgreSQL's jsonb.

extension JSONView {
    package func append(text buffer: inout ByteBuffer, depth: Int) {
        // Damage can nest deeper than any document that was written.
        guard depth <= JSONNode.depthLimit + 1 else { return }
        switch kind {
        case .null: buffer.append("null")
        case .bool: if bool { buffer.append("true") } else { buffer.append("false") }
        case .number: buffer.append(text: number.text)
        case .string: Self.append(quoted: ByteView(rebasing: bytes.dropFirst()), into: &buffer)
        case .array:
            buffer.append("[")
            for index in 0..<count {
                if index > 0 { buffer.append(", ") }
                element(at: index)?.append(text: &buffer, depth: depth + 1)
            }
            buffer.append("]")
        case .object:
            buffer.append("{")
            for index in 0..<count {
                if index > 0 { buffer.append(", ") }
                if let key = keyBytes(at: index) { Self.append(quoted: key, into: &buffer) }
                buffer.append(": ")
                value(at: index)?.append(text: &buffer, depth: depth + 1)
            }
            buffer.append("}")
        }
    }

    /// A string of JSON, with quotes and escapes.
    package static func append(quoted text: ByteView, into buffer: inout ByteBuffer) {
        buffer.append(UInt8(ascii: "\""))
        for byte in text {
            switch byte {
            case UInt8(ascii: "\""): buffer.append("\\\"")
            case UInt8(ascii: "\\"): buffer.append("\\\\")
            case 0x08: buffer.append("\\b")
            case 0x0c: buffer.append("\\f")
            case 0x0a: buffer.append("\\n")
            case 0x0d: buffer.append("\\r")
            case 0x09: buffer.append("\\t")
            case 0..<0x20:
                let digits = String(byte, radix: 16)
                buffer.append(text: (digits.count < 2 ? "\\u000" : "\\u00") + digits)
            case _: buffer.append(byte)
            }
        }
        buffer.append(UInt8(ascii: "\""))
    }

    // MARK: Order

    /// Kinds first, containers by their size, then member by member.
    static func compare(_ left: JSONView, _ right: JSONView, depth: Int) -> Int {
        guard depth <= JSONNode.depthLimit + 1 else { return 0 }
        if depth == 0 {
            // PostgreSQL keeps a lone scalar as an array of one, so an empty array is below it.
            let isLeftEmpty = left.kind == .array && left.count == 0
            let isRightEmpty = right.kind == .array && right.count == 0
            if isLeftEmpty || isRightEmpty { return (isLeftEmpty ? 0 : 1) - (isRightEmpty ? 0 : 1) }
        }
        guard left.kind == right.kind else { return left.kind.rawValue - right.kind.rawValue }
        switch left.kind {
        case .null: return 0
        case .bool: return (left.bool ? 1 : 0) - (right.bool ? 1 : 0)
        case .number:
            let first = left.number, second = right.number
            return first < second ? -1 : (first == second ? 0 : 1)
        case .string: return compareKeys(left.bytes, right.bytes)
        case .array, .object: return compareContainers(left, right, depth: depth)
        }
    }

    private static func compareContainers(_ left: JSONView, _ right: JSONView, depth: Int) -> Int {
        let count = left.count
        guard count == right.count else { return count - right.count }
        for index in 0..<count {
            if left.kind == .object, let first = left.keyBytes(at: index), let second = right.keyBytes(at: index) {
                let order = compareKeys(first, second)
                if order != 0 { return order }
            }
            let isArray = left.kind == .array
            guard let first = isArray ? left.element(at: index) : left.value(at: index),
                let second = isArray ? right.element(at: index) : right.value(at: index)
            else { continue }
            let order = compare(first, second, depth: depth + 1)
            if order != 0 { return order }
        }
        return 0
    }

    // MARK: Containment

    /// `@>`: objects hold their keys with values that hold, arrays hold each element somewhere; a top-level array holds
    /// a scalar that is one of its elements.
    static func contains(_ outer: JSONView, _ inner: JSONView, depth: Int) -> Bool {
        guard depth <= JSONNode.depthLimit + 1 else { return false }
        switch (outer.kind, inner.kind) {
        case (.object, .object):
            return (0..<inner.count).allSatisfy { index in
                guard let key = inner.keyBytes(at: index), let position = outer.position(of: key),
                    let theirs = outer.value(at: position), let ours = inner.value(at: index)
                else { return false }
                return contains(theirs, ours, depth: depth + 1)
            }
        case (.array, .array):
            return (0..<inner.count).allSatisfy { index in
                inner.element(at: index).map { hasElement(outer, $0, depth: depth) } ?? false
            }
        case (.array, .null), (.array, .bool), (.array, .number), (.array, .string):
            return depth == 0 && hasElement(outer, inner, depth: depth)
        case (_, .array), (_, .object), (.object, _): return false
        case (_, .null), (_, .bool), (_, .number), (_, .string): return compare(outer, inner, depth: depth + 1) == 0
        }
    }

    private static func hasElement(_ array: JSONView, _ wanted: JSONView, depth: Int) -> Bool {
        (0..<array.count).contains { index in
            guard let element = array.element(at: index), element.kind == wanted.kind else { return false }
            return contains(element, wanted, depth: depth + 1)
        }
    }
}

extension JSONBinary: Hashable {
    /// The order of PostgreSQL's jsonb.
    package static func compare(_ left: JSONBinary, _ right: JSONBinary) -> Int {
        left.withView { left in right.withView { JSONView.compare(left, $0, depth: 0) } }
    }

    package static func == (left: JSONBinary, right: JSONBinary) -> Bool { compare(left, right) == 0 }

    /// Numbers that are equal may look different: the key form is one for equal documents.
    package func hash(into hasher: inout Hasher) {
        var buffer = ByteBuffer(capacity: 256)
        appendKey(into: &buffer)
        hasher.combine(bytes: buffer.readable)
    }

    /// `@>`.
    package func contains(_ other: JSONBinary) -> Bool {
        withView { outer in other.withView { JSONView.contains(outer, $0, depth: 0) } }
    }

    /// `?`: a key of an object, a string in an array, or the string itself.
    package func hasKey(_ key: String) -> Bool {
        withView { view in
            switch view.kind {
            case .object: return view.value(forKey: key) != nil
            case .array:
                return (0..<view.count).contains { index in
                    guard let element = view.element(at: index), element.kind == .string else { return false }
                    return Value.compareBytes(element.string, key) == 0
                }
            case .string: return Value.compareBytes(view.string, key) == 0
            case .null, .number, .bool: return false
            }
        }
    }
}

// MARK: Keys

/// Within a key (`KeyEncoding`): empty array at the top 00, null 01, string 02 and text as there, number 03 and a
/// decimal as there, false 04, true 05, array 06, its count in four bytes, its elements; object 07, its count, then
/// each key as a text and its value.
extension JSONBinary {
    func appendKey(into buffer: inout ByteBuffer) {
        withView { view in
            if view.kind == .array, view.count == 0 { buffer.append(0 as UInt8) } else { view.appendKey(into: &buffer) }
        }
    }

    /// Reads what `appendKey` wrote; nil where it is damaged.
    init?(key reader: inout ByteReader) {
        if reader.rest.first == 0 {
            _ = reader.byte()
            self = JSONNode.array([]).binary
            return
        }
        guard let node = JSONNode(key: &reader, depth: 0) else { return nil }
        if case .array(let elements) = node, elements.isEmpty { return nil }
        self = node.binary
    }
}

extension JSONView {
    fileprivate func appendKey(into buffer: inout ByteBuffer, depth: Int = 0) {
        switch kind {
        case .null: buffer.append(1 as UInt8)
        case .string:
            buffer.append(2 as UInt8)
            KeyEncoding.appendEscaped(ByteView(rebasing: bytes.dropFirst()), into: &buffer)
        case .number:
            buffer.append(3 as UInt8)
            KeyEncoding.append(.decimal(number), into: &buffer)
        case .bool: buffer.append(bool ? 5 : 4 as UInt8)
        case .array, .object:
            // Deeper than a document can be: damage.
            let count = depth <= JSONNode.depthLimit + 1 ? count : 0
            buffer.append(kind == .array ? 6 : 7 as UInt8)
            buffer.append(bigEndian: UInt32(count))
            for index in 0..<count {
                if let key = keyBytes(at: index) { KeyEncoding.appendEscaped(key, into: &buffer) }
                (kind == .array ? element(at: index) : value(at: index))?.appendKey(into: &buffer, depth: depth + 1)
            }
        }
    }
}

extension JSONNode {
    fileprivate init?(key reader: inout ByteReader, depth: Int) {
        guard depth <= Self.depthLimit + 1, let tag = reader.byte() else { return nil }
        switch tag {
        case 1: self = .null
        case 2:
            guard let bytes = KeyEncoding.readEscaped(&reader), let text = String(validating: bytes, as: UTF8.self)
            else { return nil }
            self = .string(text)
        case 3:
            guard case .decimal(let number) = KeyEncoding.read(&reader), number.isFinite else { return nil }
            self = .number(number)
        case 4, 5: self = .bool(tag == 5)
        case 6, 7:
            guard let count = reader.bigEndian(UInt32.self) else { return nil }
            var members: [(key: String, value: JSONNode)] = []
            for _ in 0..<count {
                var key = ""
                if tag == 7 {
                    guard let bytes = KeyEncoding.readEscaped(&reader),
                        let text = String(validating: bytes, as: UTF8.self)
                    else { return nil }
                    if let last = members.last, JSONBinary.compareKeys(last.key, text) >= 0 { return nil }
                    key = text
                }
                guard let value = JSONNode(key: &reader, depth: depth + 1) else { return nil }
                members.append((key, value))
            }
            self = tag == 6 ? .array(members.map(\.value)) : .object(members)
        case _: return nil
        }
    }
}
