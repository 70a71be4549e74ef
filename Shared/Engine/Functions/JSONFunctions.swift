import Base
import DataModel

/// What is read out of JSON, and what makes it of other values.
enum JSONFunctions {
    static let rows: [ScalarFunction] = access + paths + tests + shapes + building

    // MARK: Access

    private static func json(_ text: JSONText?) -> Value { text.map { .text($0.text) } ?? .null }

    private static func plain(_ text: JSONText?) throws(StatementError) -> Value {
        guard let found = try text?.unquoted() else { return .null }
        return .text(found)
    }

    private static func document(_ value: Value) -> JSONBinary {
        if case .json(let document) = value { return document }
        return JSONNode.null.binary
    }

    private static func jsonb(_ document: JSONBinary?) -> Value { document.map { .json($0) } ?? .null }

    private static func plain(_ document: JSONBinary?) -> Value { document?.unquotedText.map { .text($0) } ?? .null }

    private static func element(_ document: JSONBinary, _ index: Int64) -> JSONBinary? {
        switch document.kind {
        case .array: document.element(at: Int(index))
        case .object: nil
        // PostgreSQL keeps a scalar as the only element of an array, and finds it as that.
        case _: index == 0 || index == -1 ? document : nil
        }
    }

    private static let access: [ScalarFunction] = [
        .row("->", [.json, .text], .json, ("'{\"a\": {\"b\":1}}'::json -> 'a'", "{\"b\":1}")) {
            a, _ throws(StatementError) in json(try JSONText(checking: a[0].string).value(forKey: a[1].string))
        },
        .row("->", [.json, .int32], .json, ("'[1, {\"a\": 2}]'::json -> 1", "{\"a\": 2}")) {
            a, _ throws(StatementError) in
            json(try JSONText(checking: a[0].string).element(at: a[1].int))
        },
        .row("->>", [.json, .text], .text, ("'{\"a\": \"b\\u00e4\"}'::json ->> 'a'", "bä")) {
            a, _ throws(StatementError) in try plain(try JSONText(checking: a[0].string).value(forKey: a[1].string))
        },
        .row("->>", [.json, .int32], .text, ("'[1, \"x\"]'::json ->> -1", "x")) { a, _ throws(StatementError) in
            try plain(try JSONText(checking: a[0].string).element(at: a[1].int))
        },
        .row("->", [.jsonb, .text], .jsonb, ("'{\"a\": {\"b\":1}}'::jsonb -> 'a'", "{\"b\": 1}")) {
            a, _ throws(StatementError) in jsonb(document(a[0]).value(forKey: a[1].string))
        },
        .row("->", [.jsonb, .int32], .jsonb, ("'[1, 2]'::jsonb -> 1", "2")) { a, _ throws(StatementError) in
            jsonb(element(document(a[0]), a[1].int))
        },
        .row("->>", [.jsonb, .text], .text, ("'{\"a\": \"b\"}'::jsonb ->> 'a'", "b")) { a, _ throws(StatementError) in
            plain(document(a[0]).value(forKey: a[1].string))
        },
        .row("->>", [.jsonb, .int32], .text, ("'[1, 2.50]'::jsonb ->> 1", "2.50")) { a, _ throws(StatementError) in
            plain(element(document(a[0]), a[1].int))
        },
    ]

    /// The steps of a path; nil if one is NULL.
    static func steps(_ value: Value) -> [String]? {
        guard case .array(let array) = value else { return [] }
        var steps: [String] = []
        for element in array.elements {
            guard case .text(let step) = element else { return nil }
            steps.append(step)
        }
        return steps
    }

    private static func find(_ text: String, _ path: [String]?) throws(StatementError) -> JSONText? {
        guard let path else { return nil }
        return try JSONText(checking: text).value(atPath: path)
    }

    private static func find(_ value: Value, _ path: [String]?) -> JSONBinary? {
        path.flatMap { document(value).value(atPath: $0) }
    }

    private static let paths: [ScalarFunction] = {
        let object = "'{\"a\": {\"b\": [1,\"x\"]}}'"
        var rows: [ScalarFunction] = [
            .row("#>", [.json, .text.array], .json, ("\(object)::json #> '{a,b}'", "[1,\"x\"]")) {
                a, _ throws(StatementError) in json(try find(a[0].string, steps(a[1])))
            },
            .row("#>>", [.json, .text.array], .text, ("\(object)::json #>> '{a,b,1}'", "x")) {
                a, _ throws(StatementError) in try plain(try find(a[0].string, steps(a[1])))
            },
            .row("#>", [.jsonb, .text.array], .jsonb, ("\(object)::jsonb #> '{a,b}'", "[1, \"x\"]")) {
                a, _ throws(StatementError) in jsonb(find(a[0], steps(a[1])))
            },
            .row("#>>", [.jsonb, .text.array], .text, ("\(object)::jsonb #>> '{a,b,-1}'", "x")) {
                a, _ throws(StatementError) in plain(find(a[0], steps(a[1])))
            },
        ]
        func path(_ a: [Value]) -> [String] { a.dropFirst().map(\.string) }
        for (name, isText) in [("json_extract_path", false), ("json_extract_path_text", true)] {
            rows.append(
                ScalarFunction(
                    name, [.of(.json), .of(.text)], .of(isText ? .text : .json), isVariadic: true,
                    example: ("\(name)(\(object), 'a', 'b', '1')", isText ? "x" : "\"x\"")
                ) { a, _ throws(StatementError) in
                    let found = try JSONText(a[0].string).value(atPath: a.dropFirst().map(\.string))
                    return isText ? try plain(found) : json(found)
                })
            rows.append(
                ScalarFunction(
                    "jsonb" + name.dropFirst(4), [.of(.jsonb), .of(.text)], .of(isText ? .text : .jsonb),
                    isVariadic: true,
                    example: ("jsonb\(name.dropFirst(4))(\(object), 'a', 'b', '1')", isText ? "x" : "\"x\"")
                ) { a, _ throws(StatementError) in
                    let found = document(a[0]).value(atPath: a.dropFirst().map(\.string))
                    return isText ? plain(found) : jsonb(found)
                })
        }
        return rows
    }()

    /// `document['a'][1]`.
    static let subscription = ScalarFunction(
        "jsonb subscript", [.of(.jsonb), .of(.text)], .of(.jsonb), isVariadic: true, example: nil
    ) { a, _ throws(StatementError) in
        jsonb(document(a[0]).value(atPath: a.dropFirst().map(\.string)))
    }

    // MARK: Tests

    private static func hasAny(_ a: [Value], isAll: Bool) -> Value {
        let keys = ArrayFunctions.elements(a[1]).filter { !$0.isNull }.map(\.string)
        let document = document(a[0])
        return .bool(isAll ? keys.allSatisfy { document.hasKey($0) } : keys.contains { document.hasKey($0) })
    }

    private static let tests: [ScalarFunction] = [
        .row("@>", [.jsonb, .jsonb], .bool, ("'{\"a\":1, \"b\":2}'::jsonb @> '{\"b\":2}'", "true")) {
            a, _ throws(StatementError) in .bool(document(a[0]).contains(document(a[1])))
        },
        .row("<@", [.jsonb, .jsonb], .bool, ("'[1]'::jsonb <@ '[1,2]'::jsonb", "true")) { a, _ throws(StatementError) in
            .bool(document(a[1]).contains(document(a[0])))
        },
        .row("?", [.jsonb, .text], .bool, ("'{\"a\":1}'::jsonb ? 'a'", "true")) { a, _ throws(StatementError) in
            .bool(document(a[0]).hasKey(a[1].string))
        },
        .row("?|", [.jsonb, .text.array], .bool, ("'{\"a\":1}'::jsonb ?| '{b,a}'", "true")) {
            a, _ throws(StatementError) in hasAny(a, isAll: false)
        },
        .row("?&", [.jsonb, .text.array], .bool, ("'[\"a\",\"b\"]'::jsonb ?& '{b,a}'", "true")) {
            a, _ throws(StatementError) in hasAny(a, isAll: true)
        },
    ]

    // MARK: Shapes

    private static func title(_ kind: JSONBinary.Kind) -> Value {
        switch kind {
        case .null: .text("null")
        case .string: .text("string")
        case .number: .text("number")
        case .bool: .text("boolean")
        case .array: .text("array")
        case .object: .text("object")
        }
    }

    private static func length(_ kind: JSONBinary.Kind, _ count: Int) throws(StatementError) -> Value {
        switch kind {
        case .array: return .integer(Int64(count))
        case .object:
            throw StatementError(.invalidParameterValue, "cannot get array length of a non-array")
        case .null, .string, .number, .bool:
            throw StatementError(.invalidParameterValue, "cannot get array length of a scalar")
        }
    }

    private static let shapes: [ScalarFunction] = [
        .row("json_typeof", [.json], .text, ("json_typeof('-1.5')", "number")) { a, _ throws(StatementError) in
            title(JSONText(a[0].string).kind)
        },
        .row("jsonb_typeof", [.jsonb], .text, ("jsonb_typeof('{}')", "object")) { a, _ throws(StatementError) in
            title(document(a[0]).kind)
        },
        .row("json_array_length", [.json], .int32, ("json_array_length('[1,[2,3]]')", "2")) {
            a, _ throws(StatementError) in
            let text = JSONText(a[0].string)
            return try length(text.kind, text.elements.count)
        },
        .row("jsonb_array_length", [.jsonb], .int32, ("jsonb_array_length('[1,[2,3]]')", "2")) {
            a, _ throws(StatementError) in try length(document(a[0]).kind, document(a[0]).count)
        },
        .row("json_strip_nulls", [.json], .json, ("json_strip_nulls('{\"a\":null, \"b\":[null]}')", "{\"b\":[null]}")) {
            a, _ throws(StatementError) in .text(try JSONText(a[0].string).strippingNulls())
        },
        .row(
            "jsonb_strip_nulls", [.jsonb], .jsonb,
            ("jsonb_strip_nulls('{\"a\":null, \"b\":[null]}')", "{\"b\": [null]}")
        ) { a, _ throws(StatementError) in .json(JSONChanges.strippingNulls(JSONChanges.node(a[0])).binary) },
        .row(
            "jsonb_pretty", [.jsonb], .text,
            ("jsonb_pretty('{\"a\":[1,{}]}')", "{\n    \"a\": [\n        1,\n        {\n        }\n    ]\n}")
        ) { a, _ throws(StatementError) in .text(JSONChanges.pretty(JSONChanges.node(a[0]), 0)) },
    ]

    // MARK: Building

    private static let building: [ScalarFunction] = {
        var rows: [ScalarFunction] = []
        for isBinary in [false, true] {
            let type: DataType = isBinary ? .jsonb : .json, name = type.name
            @Sendable func made(_ text: String) throws(StatementError) -> Value {
                isBinary ? .json(try JSONBinary(parsing: text)) : .text(text)
            }
            rows.append(
                ScalarFunction(
                    "to_\(name)", [.anyElement], .of(type), volatility: .stable,
                    example: ("to_\(name)(ARRAY['a', 'b\"c'])", isBinary ? "[\"a\", \"b\\\"c\"]" : "[\"a\",\"b\\\"c\"]")
                ) { types, _ in
                    { a, context throws(StatementError) in
                        try made(JSONMaking.text(a[0], types[0], context.settings))
                    }
                })
            rows.append(
                .row("\(name)_build_array", [], type, ("\(name)_build_array()", "[]")) {
                    _, _ throws(StatementError) in try made("[]")
                })
            rows.append(
                .row("\(name)_build_object", [], type, ("\(name)_build_object()", "{}")) {
                    _, _ throws(StatementError) in try made("{}")
                })
            rows.append(
                ScalarFunction(
                    "\(name)_build_array", [.any], .of(type), volatility: .stable, isStrict: false, isVariadic: true,
                    example: ("\(name)_build_array(1, 'a', NULL)", "[1, \"a\", null]")
                ) { types, _ in
                    { a, context throws(StatementError) in
                        let parts = a.indices.map { JSONMaking.text(a[$0], types[$0], context.settings) }
                        return try made("[" + parts.joined(separator: ", ") + "]")
                    }
                })
            rows.append(
                ScalarFunction(
                    "\(name)_build_object", [.any], .of(type), volatility: .stable, isStrict: false, isVariadic: true,
                    example: (
                        "\(name)_build_object('a', 1, 2, true)",
                        isBinary ? "{\"2\": true, \"a\": 1}" : "{\"a\" : 1, \"2\" : true}"
                    )
                ) { types, _ in
                    { a, context throws(StatementError) in
                        try made(try object(a, types, name, context.settings))
                    }
                })
            rows += objects(name, type, made)
        }
        rows.append(
            .row(
                "row_to_json", [.record], .json, ("row_to_json(row(1,'foo'))", "{\"f1\":1,\"f2\":\"foo\"}"),
                volatility: .stable
            ) {
                a, context throws(StatementError) in .text(JSONMaking.text(a[0], .record, context.settings))
            })
        rows.append(
            .row(
                "row_to_json", [.record, .bool], .json,
                ("row_to_json(row(1,'foo'), true)", "{\"f1\":1,\n \"f2\":\"foo\"}"), volatility: .stable
            ) { a, context throws(StatementError) in
                let text = JSONMaking.text(a[0], .record, context.settings)
                return .text(a[1].flag ? JSONText(text).broken() : text)
            })
        return rows
    }()

    private static func object(_ a: [Value], _ types: [DataType], _ name: String, _ settings: EngineSettings)
        throws(StatementError) -> String
    {
        guard a.count.isMultiple(of: 2) else {
            throw StatementError(
                .invalidParameterValue, "argument list must have even number of elements",
                hint: "The arguments of \(name)_build_object() must consist of alternating keys and values.")
        }
        var parts: [String] = []
        for index in stride(from: 0, to: a.count, by: 2) {
            guard !a[index].isNull else {
                throw name == "jsonb"
                    ? StatementError(.invalidParameterValue, "argument \(index + 1): key must not be null")
                    : StatementError(
                        .invalidParameterValue, "argument \(index + 1) cannot be null",
                        hint: "Object keys should be text.")
            }
            let key = JSONMaking.quoted(try JSONMaking.key(a[index], types[index], settings))
            parts.append(key + " : " + JSONMaking.text(a[index + 1], types[index + 1], settings))
        }
        return "{" + parts.joined(separator: ", ") + "}"
    }

    /// json_object of arrays of texts.
    private static func objects(
        _ name: String, _ type: DataType, _ made: @escaping @Sendable (String) throws(StatementError) -> Value
    ) -> [ScalarFunction] {
        @Sendable func object(_ keys: [Value], _ values: [Value]) throws(StatementError) -> Value {
            var parts: [String] = []
            for (key, value) in zip(keys, values) {
                guard case .text(let key) = key else {
                    throw StatementError(.nullValueNotAllowed, "null value not allowed for object key")
                }
                parts.append(JSONMaking.quoted(key) + " : " + (value.isNull ? "null" : JSONMaking.quoted(value.string)))
            }
            return try made("{" + parts.joined(separator: ", ") + "}")
        }
        let separator = name == "json" ? " : " : ": "
        return [
            .row(
                "\(name)_object", [.text.array], type,
                ("\(name)_object('{a,1,b,NULL}')", "{\"a\"\(separator)\"1\", \"b\"\(separator)null}")
            ) {
                a, _ throws(StatementError) in
                guard case .array(let array) = a[0] else { return .null }
                let isOdd = array.elements.count % 2 != 0
                if array.dimensions.count > 2 || array.dimensions.count == 2 && array.dimensions[1].count != 2 {
                    throw StatementError(
                        .arraySubscriptError,
                        array.dimensions.count > 2
                            ? "wrong number of array subscripts" : "array must have two columns")
                }
                guard !isOdd else {
                    throw StatementError(.arraySubscriptError, "array must have even number of elements")
                }
                let places = Array(stride(from: 0, to: array.elements.count, by: 2))
                return try object(places.map { array.elements[$0] }, places.map { array.elements[$0 + 1] })
            },
            .row(
                "\(name)_object", [.text.array, .text.array], type,
                ("\(name)_object('{a,b}', '{1,2}')", "{\"a\"\(separator)\"1\", \"b\"\(separator)\"2\"}")
            ) {
                a, _ throws(StatementError) in
                guard case .array(let first) = a[0], case .array(let second) = a[1] else { return .null }
                guard first.dimensions.count <= 1, first.dimensions.count == second.dimensions.count else {
                    throw StatementError(.arraySubscriptError, "wrong number of array subscripts")
                }
                let keys = first.elements, values = second.elements
                guard keys.count == values.count else {
                    throw StatementError(.arraySubscriptError, "mismatched array dimensions")
                }
                return try object(keys, values)
            },
        ]
    }
}
