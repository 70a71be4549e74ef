import Base
import DataModel

/// Changes of jsonb: they take it apart, and make it anew.
enum JSONChanges {
    static let rows: [ScalarFunction] = [
        .row("||", [.jsonb, .jsonb], .jsonb, ("'{\"a\":1}'::jsonb || '{\"b\":2}'::jsonb", "{\"a\": 1, \"b\": 2}")) {
            a, _ throws(StatementError) in .json(try limited(joined(node(a[0]), node(a[1]))).binary)
        },
        .row("-", [.jsonb, .text], .jsonb, ("'{\"a\":1, \"b\":2}'::jsonb - 'a'", "{\"b\": 2}")) {
            a, _ throws(StatementError) in .json(try without(node(a[0]), [a[1].string]).binary)
        },
        .row("-", [.jsonb, .int32], .jsonb, ("'[1,2,3]'::jsonb - 1", "[1, 3]")) { a, _ throws(StatementError) in
            try withoutElement(a[0], a[1].int)
        },
        .row("-", [.jsonb, .text.array], .jsonb, ("'{\"a\":1, \"b\":2}'::jsonb - '{a,c}'::text[]", "{\"b\": 2}")) {
            a, _ throws(StatementError) in
            guard case .array(let array) = a[1], array.dimensions.count <= 1 else {
                throw StatementError(.arraySubscriptError, "wrong number of array subscripts")
            }
            let keys = array.elements.filter { !$0.isNull }.map(\.string)
            return .json(try without(node(a[0]), keys).binary)
        },
        .row("#-", [.jsonb, .text.array], .jsonb, ("'{\"a\":[1,2]}'::jsonb #- '{a,0}'", "{\"a\": [2]}")) {
            a, _ throws(StatementError) in try withoutPath(a[0], a[1])
        },
        .row(
            "jsonb_set", [.jsonb, .text.array, .jsonb], .jsonb,
            ("jsonb_set('{\"a\":[1,2]}', '{a,1}', '\"x\"')", "{\"a\": [1, \"x\"]}")
        ) { a, _ throws(StatementError) in
            try replaced(a[0], a[1], a[2], creates: true)
        },
        .row(
            "jsonb_set", [.jsonb, .text.array, .jsonb, .bool], .jsonb,
            ("jsonb_set('{\"a\":1}', '{b}', '2', false)", "{\"a\": 1}")
        ) { a, _ throws(StatementError) in
            try replaced(a[0], a[1], a[2], creates: a[3].flag)
        },
        .row(
            "jsonb_insert", [.jsonb, .text.array, .jsonb], .jsonb,
            ("jsonb_insert('{\"a\":[0,1]}', '{a,1}', '9')", "{\"a\": [0, 9, 1]}")
        ) { a, _ throws(StatementError) in
            try change(a[0], a[1], .insert(node(a[2]), isAfter: false), "cannot set path in scalar")
        },
        .row(
            "jsonb_insert", [.jsonb, .text.array, .jsonb, .bool], .jsonb,
            ("jsonb_insert('{\"a\":[0,1]}', '{a,1}', '9', true)", "{\"a\": [0, 1, 9]}")
        ) { a, _ throws(StatementError) in
            try change(a[0], a[1], .insert(node(a[2]), isAfter: a[3].flag), "cannot set path in scalar")
        },
    ]

    static func withoutPath(_ target: Value, _ path: Value) throws(StatementError) -> Value {
        try change(target, path, .delete, "cannot delete path in scalar")
    }

    static func replaced(_ target: Value, _ path: Value, _ fresh: Value, creates: Bool) throws(StatementError) -> Value
    {
        try change(target, path, .set(node(fresh), creates: creates), "cannot set path in scalar")
    }

    static func node(_ value: Value) -> JSONNode {
        if case .json(let document) = value { return document.node ?? .null }
        return .null
    }

    private static func elements(_ node: JSONNode) -> [JSONNode] {
        if case .array(let elements) = node { return elements }
        return [node]
    }

    private static func joined(_ left: JSONNode, _ right: JSONNode) -> JSONNode {
        if case .object(let mine) = left, case .object(let theirs) = right { return .object(mine + theirs) }
        return .array(elements(left) + elements(right))
    }

    private static func isSame(_ left: String, _ right: String) -> Bool { Value.compareBytes(left, right) == 0 }

    private static func without(_ node: JSONNode, _ keys: [String]) throws(StatementError) -> JSONNode {
        switch node {
        case .object(let members):
            return .object(members.filter { member in !keys.contains { isSame($0, member.key) } })
        case .array(let elements):
            return .array(
                elements.filter { element in
                    guard case .string(let text) = element else { return true }
                    return !keys.contains { isSame($0, text) }
                })
        case .null, .bool, .number, .string:
            throw StatementError(.invalidParameterValue, "cannot delete from scalar")
        }
    }

    private static func withoutElement(_ value: Value, _ index: Int64) throws(StatementError) -> Value {
        switch node(value) {
        case .array(var elements):
            let place = index < 0 ? index + Int64(elements.count) : index
            guard place >= 0, place < Int64(elements.count) else { return value }
            elements.remove(at: Int(place))
            return .json(JSONNode.array(elements).binary)
        case .object:
            throw StatementError(.invalidParameterValue, "cannot delete from object using integer index")
        case .null, .bool, .number, .string:
            throw StatementError(.invalidParameterValue, "cannot delete from scalar")
        }
    }

    // MARK: Paths

    private enum Change {
        case delete
        case set(JSONNode, creates: Bool)
        case insert(JSONNode, isAfter: Bool)

        var isDelete: Bool { if case .delete = self { true } else { false } }
    }

    private static func change(_ target: Value, _ path: Value, _ change: Change, _ refusal: String)
        throws(StatementError) -> Value
    {
        guard case .array(let array) = path, array.dimensions.count <= 1 else {
            throw StatementError(.arraySubscriptError, "wrong number of array subscripts")
        }
        let root = node(target)
        switch root {
        case .null, .bool, .number, .string: throw StatementError(.invalidParameterValue, refusal)
        case .array, .object: break
        }
        guard !array.elements.isEmpty else { return target }
        return .json(try limited(try changed(root, array.elements[...], change)).binary)
    }

    private static func limited(_ node: JSONNode) throws(StatementError) -> JSONNode {
        guard depth(node) <= JSONNode.depthLimit else {
            throw StatementError(.statementTooComplex, "stack depth limit exceeded")
        }
        return node
    }

    private static func depth(_ node: JSONNode) -> Int {
        switch node {
        case .object(let members): 1 + (members.map { depth($0.value) }.max() ?? 0)
        case .array(let elements): 1 + (elements.map { depth($0) }.max() ?? 0)
        case .null, .bool, .number, .string: 0
        }
    }

    private static func changed(_ node: JSONNode, _ path: ArraySlice<Value>, _ change: Change)
        throws(StatementError) -> JSONNode
    {
        guard let step = path.first else { return node }
        let position = path.startIndex + 1, isLast = path.count == 1
        guard case .text(let key) = step else {
            throw StatementError(.nullValueNotAllowed, "path element at position \(position) is null")
        }
        switch node {
        case .object(var members):
            guard let place = members.lastIndex(where: { isSame($0.key, key) }) else {
                guard isLast else { return node }
                switch change {
                case .set(let fresh, true), .insert(let fresh, _): members.append((key, fresh))
                case .set, .delete: return node
                }
                return .object(members)
            }
            if !isLast {
                members[place].value = try changed(members[place].value, path.dropFirst(), change)
                return .object(members)
            }
            switch change {
            case .delete: members.remove(at: place)
            case .set(let fresh, _): members[place].value = fresh
            case .insert:
                throw StatementError(
                    .invalidParameterValue, "cannot replace existing key",
                    hint: "Try using the function jsonb_set to replace key value.")
            }
            return .object(members)
        case .array(var elements):
            guard let index = Int32(key) else {
                throw StatementError(
                    .invalidTextRepresentation, "path element at position \(position) is not an integer: \"\(key)\"")
            }
            let place = index < 0 ? Int(index) + elements.count : Int(index)
            let isThere = elements.indices.contains(place)
            if !isLast {
                guard isThere else { return node }
                elements[place] = try changed(elements[place], path.dropFirst(), change)
                return .array(elements)
            }
            switch change {
            case .delete: if isThere { elements.remove(at: place) }
            case .set(let fresh, let creates):
                if isThere {
                    elements[place] = fresh
                } else if creates {
                    elements.insert(fresh, at: place < 0 ? 0 : elements.count)
                }
            case .insert(let fresh, let isAfter):
                let wanted = isThere ? place + (isAfter ? 1 : 0) : place < 0 ? 0 : elements.count
                elements.insert(fresh, at: wanted)
            }
            return .array(elements)
        case .null, .bool, .number, .string: return node
        }
    }

    static func strippingNulls(_ node: JSONNode) -> JSONNode {
        switch node {
        case .object(let members):
            .object(
                members.compactMap { key, value in
                    if case .null = value { return nil }
                    return (key, strippingNulls(value))
                })
        case .array(let elements): .array(elements.map { strippingNulls($0) })
        case .null, .bool, .number, .string: node
        }
    }

    /// One member or element to a line.
    static func pretty(_ node: JSONNode, _ level: Int) -> String {
        let inner = String(repeating: "    ", count: level + 1), outer = String(repeating: "    ", count: level)
        switch node {
        case .object(let members):
            let lines = members.map { inner + JSONMaking.quoted($0.key) + ": " + pretty($0.value, level + 1) }
            return "{\n" + lines.joined(separator: ",\n") + (lines.isEmpty ? "" : "\n") + outer + "}"
        case .array(let elements):
            let lines = elements.map { inner + pretty($0, level + 1) }
            return "[\n" + lines.joined(separator: ",\n") + (lines.isEmpty ? "" : "\n") + outer + "]"
        case .null, .bool, .number, .string: return node.binary.text
        }
    }
}
