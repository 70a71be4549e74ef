import Base
import DataModel

/// Rows out of JSON.
enum JSONRows {
    static let rows: [RowsFunction] = elements + members + keys

    private static let elements: [RowsFunction] = [false, true].flatMap { (isText: Bool) -> [RowsFunction] in
        let suffix = isText ? "_text" : ""
        return [
            RowsFunction(
                "json_array_elements\(suffix)", [.of(.json)], .of(isText ? .text : .json),
                columns: [("value", isText ? .text : .json)],
                example: ("json_array_elements\(suffix)('[1, \"a\", [2]]')", isText ? "1,a,[2]" : "1,\"a\",[2]")
            ) { a, _ throws(StatementError) in
                let text = JSONText(a[0].string)
                guard text.kind == .array else {
                    throw StatementError(
                        .invalidParameterValue,
                        text.kind == .object
                            ? "cannot call json_array_elements\(suffix) on a non-array"
                            : "cannot call json_array_elements\(suffix) on a scalar")
                }
                var rows: [[Value]] = []
                for element in text.elements {
                    rows.append([
                        isText ? try element.unquoted().map { .text($0) } ?? .null : .text(element.text)
                    ])
                }
                return rows
            },
            RowsFunction(
                "jsonb_array_elements\(suffix)", [.of(.jsonb)], .of(isText ? .text : .jsonb),
                columns: [("value", isText ? .text : .jsonb)],
                example: ("jsonb_array_elements\(suffix)('[1, \"a\", [2]]')", isText ? "1,a,[2]" : "1,\"a\",[2]")
            ) { a, _ throws(StatementError) in
                guard case .json(let document) = a[0] else { return [] }
                guard document.kind == .array else {
                    throw StatementError(
                        .invalidParameterValue,
                        document.kind == .object
                            ? "cannot extract elements from an object" : "cannot extract elements from a scalar")
                }
                return (0..<document.count).map { index in
                    let element = document.element(at: index)
                    return [isText ? plain(element) : element.map { .json($0) } ?? .null]
                }
            },
        ]
    }

    private static func plain(_ document: JSONBinary?) -> Value { document?.unquotedText.map { .text($0) } ?? .null }

    private static let members: [RowsFunction] = [false, true].flatMap { (isText: Bool) -> [RowsFunction] in
        let suffix = isText ? "_text" : ""
        return [
            RowsFunction(
                "json_each\(suffix)", [.of(.json)], .of(.record),
                columns: [("key", .text), ("value", isText ? .text : .json)],
                example: ("json_each\(suffix)('{\"a\":1, \"b\":\"x\"}')", "a,b")
            ) { a, _ throws(StatementError) in
                let text = JSONText(a[0].string)
                guard text.kind == .object else { throw refused("json_each\(suffix)", text.kind) }
                var rows: [[Value]] = []
                for (key, value) in try text.members() {
                    let shown: Value = isText ? try value.unquoted().map { .text($0) } ?? .null : .text(value.text)
                    rows.append([.text(key), shown])
                }
                return rows
            },
            RowsFunction(
                "jsonb_each\(suffix)", [.of(.jsonb)], .of(.record),
                columns: [("key", .text), ("value", isText ? .text : .jsonb)],
                example: ("jsonb_each\(suffix)('{\"b\":\"x\", \"a\":1}')", "a,b")
            ) { a, _ throws(StatementError) in
                guard case .json(let document) = a[0] else { return [] }
                guard document.kind == .object else {
                    throw StatementError(.invalidParameterValue, "cannot call jsonb_each\(suffix) on a non-object")
                }
                return keys(of: document).map { key in
                    let value = document.value(forKey: key)
                    return [.text(key), isText ? plain(value) : value.map { .json($0) } ?? .null]
                }
            },
        ]
    }

    private static func refused(_ name: String, _ kind: JSONBinary.Kind) -> StatementError {
        StatementError(
            .invalidParameterValue,
            kind == .array ? "cannot deconstruct an array as an object" : "cannot deconstruct a scalar")
    }

    static func keys(of document: JSONBinary) -> [String] {
        document.withView { view in (0..<view.count).compactMap { view.key(at: $0) } }
    }

    private static let keys: [RowsFunction] = [
        RowsFunction(
            "json_object_keys", [.of(.json)], .of(.text), example: ("json_object_keys('{\"b\":1, \"a\":2}')", "b,a")
        ) { a, _ throws(StatementError) in
            let text = JSONText(a[0].string)
            guard text.kind == .object else {
                throw StatementError(
                    .invalidParameterValue,
                    text.kind == .array
                        ? "cannot call json_object_keys on an array" : "cannot call json_object_keys on a scalar")
            }
            return try text.members().map { [.text($0.key)] }
        },
        RowsFunction(
            "jsonb_object_keys", [.of(.jsonb)], .of(.text), example: ("jsonb_object_keys('{\"b\":1, \"a\":2}')", "a,b")
        ) { a, _ throws(StatementError) in
            guard case .json(let document) = a[0] else { return [] }
            guard document.kind == .object else {
                throw StatementError(
                    .invalidParameterValue,
                    document.kind == .array
                        ? "cannot call jsonb_object_keys on an array" : "cannot call jsonb_object_keys on a scalar")
            }
            return keys(of: document).map { [.text($0)] }
        },
    ]
}

/// Aggregates that make JSON.
enum JSONAggregates {
    static let rows: [AggregateFunction] = [false, true].flatMap { (isBinary: Bool) -> [AggregateFunction] in
        let type: DataType = isBinary ? .jsonb : .json, name = type.name
        let settings = EngineSettings()
        return [
            AggregateFunction(
                "\(name)_agg", [.anyElement], .of(type), isStrict: false,
                example: ("\(name)_agg(x)", "(1,0), (NULL,0)", "[1, null]")
            ) { types, _ in
                ContextualAccumulator { rows, context throws(StatementError) in
                    let isStructured = types[0].isArrayLike || types[0].kind == .record
                    let parts = rows.map { JSONMaking.text($0[0], types[0], context?.settings ?? settings) }
                    var text = "["
                    for (index, part) in parts.enumerated() {
                        if index > 0 { text += isStructured && !rows[index][0].isNull ? ", \n " : ", " }
                        text += part
                    }
                    text += "]"
                    return isBinary ? .json(try JSONBinary(parsing: text)) : .text(text)
                }
            },
            AggregateFunction(
                "\(name)_object_agg", [.any, .any], .of(type), isStrict: false,
                example: (
                    "\(name)_object_agg(x, y)", "('a',1), ('b',NULL)",
                    isBinary ? "{\"a\": 1, \"b\": null}" : "{ \"a\" : 1, \"b\" : null }"
                )
            ) { types, _ in
                ContextualAccumulator { rows, context throws(StatementError) in
                    let settings = context?.settings ?? settings
                    var parts: [String] = []
                    for row in rows {
                        guard !row[0].isNull else {
                            throw StatementError(.invalidParameterValue, "field name must not be null")
                        }
                        let key = JSONMaking.quoted(try JSONMaking.key(row[0], types[0], settings))
                        parts.append(key + " : " + JSONMaking.text(row[1], types[1], settings))
                    }
                    let text = "{ " + parts.joined(separator: ", ") + " }"
                    return isBinary ? .json(try JSONBinary(parsing: text)) : .text(text)
                }
            },
        ]
    }
}

/// As `GatheringAccumulator`, for what depends on the session.
final class ContextualAccumulator: Accumulator {
    private let finish: @Sendable ([[Value]], ExecutionContext?) throws(StatementError) -> Value
    private var rows: [[[Value]]] = []
    private var context: ExecutionContext?

    init(_ finish: @escaping @Sendable ([[Value]], ExecutionContext?) throws(StatementError) -> Value) {
        self.finish = finish
    }

    func grow(to groups: Int) { while rows.count < groups { rows.append([]) } }

    func add(_ arguments: [Column], rows: [Int32], groups: [Int32], context: ExecutionContext) throws(StatementError) {
        self.context = context
        for (row, group) in zip(rows, groups) {
            self.rows[Int(group)].append(arguments.map { $0.value(at: Int(row)) })
        }
        try context.charge(rows.count * 48 * max(arguments.count, 1))
    }

    func result(of group: Int) throws(StatementError) -> Value {
        rows[group].isEmpty ? .null : try finish(rows[group], context)
    }
}
