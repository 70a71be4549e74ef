import Base
import DataModel

/// Operators of jsonb by the names that PostgreSQL has for them: clients to which `?` is a parameter call these.
enum JSONOperatorFunctions {
    static let rows: [ScalarFunction] = named + lax

    private static let named: [ScalarFunction] = [
        ("jsonb_exists", "?", .text, "jsonb_exists('{\"a\":1}', 'a')", "true"),
        ("jsonb_exists_any", "?|", .text.array, "jsonb_exists_any('{\"a\":1}', '{b,a}')", "true"),
        ("jsonb_exists_all", "?&", .text.array, "jsonb_exists_all('{\"a\":1}', '{b,a}')", "false"),
        ("jsonb_contains", "@>", .jsonb, "jsonb_contains('{\"a\":1, \"b\":2}', '{\"b\":2}')", "true"),
        ("jsonb_contained", "<@", .jsonb, "jsonb_contained('[1]', '[1,2]')", "true"),
        ("jsonb_concat", "||", .jsonb, "jsonb_concat('{\"a\":1}', '{\"b\":2}')", "{\"a\": 1, \"b\": 2}"),
        ("jsonb_delete", "-", .text, "jsonb_delete('{\"a\":1, \"b\":2}', 'a')", "{\"b\": 2}"),
        ("jsonb_delete", "-", .int32, "jsonb_delete('[1,2,3]', 1)", "[1, 3]"),
        ("jsonb_delete", "-", .text.array, "jsonb_delete('{\"a\":1}', '{a}'::text[])", "{}"),
        ("jsonb_delete_path", "#-", .text.array, "jsonb_delete_path('{\"a\":[1,2]}', '{a,0}')", "{\"a\": [2]}"),
    ].compactMap { (name: String, symbol: String, right: DataType, call: String, result: String) in
        let all = JSONFunctions.rows + JSONChanges.rows
        let found = all.first { $0.name == symbol && $0.parameters == [.of(.jsonb), .of(right)] }
        guard let found else { return nil }
        return ScalarFunction(name, found.parameters, found.result, example: (call, result), body: found.body)
    }

    /// jsonb_set, where a new value that is NULL need not make all of it NULL.
    private static let lax: [ScalarFunction] = (3...5).map { count in
        let types: [DataType] = [.jsonb, .text.array, .jsonb, .bool, .text]
        let tails = ["", ", true", ", true, 'delete_key'"]
        return .row(
            "jsonb_set_lax", Array(types.prefix(count)), .jsonb,
            (
                "jsonb_set_lax('{\"a\":1, \"b\":2}', '{a}', NULL\(tails[count - 3]))",
                count == 5 ? "{\"b\": 2}" : "{\"a\": null, \"b\": 2}"
            ), isStrict: false
        ) { a, context throws(StatementError) in
            guard !a[0].isNull, !a[1].isNull, count < 4 || !a[3].isNull else { return .null }
            let creates: Value = count < 4 ? .bool(true) : a[3]
            let treatment = count < 5 ? "use_json_null" : a[4].string
            guard count < 5 || !a[4].isNull,
                ["raise_exception", "use_json_null", "delete_key", "return_target"].contains(treatment) || !a[2].isNull
            else { throw treatments }
            var fresh = a[2]
            if fresh.isNull {
                switch treatment {
                case "raise_exception":
                    throw StatementError(
                        .nullValueNotAllowed, "JSON value must not be null",
                        detail: "Exception was raised because null_value_treatment is \"raise_exception\".",
                        hint: "To avoid, either change the null_value_treatment argument or ensure that an SQL NULL "
                            + "is not passed.")
                case "delete_key": return try JSONChanges.withoutPath(a[0], a[1])
                case "return_target": return a[0]
                case _: fresh = .json(JSONNode.null.binary)
                }
            }
            return try JSONChanges.replaced(a[0], a[1], fresh, creates: creates.flag)
        }
    }

    private static var treatments: StatementError {
        StatementError(
            .invalidParameterValue,
            "null_value_treatment must be \"delete_key\", \"return_target\", \"use_json_null\", or \"raise_exception\"")
    }
}
