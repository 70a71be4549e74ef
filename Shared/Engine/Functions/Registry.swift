import DataModel

/// All functions, operators and aggregates, by name.
package enum Registry {
    static let scalars: [ScalarFunction] = [
        ComparisonFunctions.rows, ArithmeticFunctions.rows, MathFunctions.rows, TextFunctions.rows,
        PatternFunctions.rows, ArrayFunctions.rows, SessionFunctions.rows, DateTimeFunctions.rows,
    ].flatMap { $0 }

    private static let scalarsByName = Dictionary(grouping: scalars, by: { $0.name })
    private static let aggregatesByName = Dictionary(grouping: AggregateFunction.rows, by: { $0.name })
    private static let rowsByName = Dictionary(grouping: RowsFunctions.rows, by: { $0.name })

    /// Operators are functions whose names are no words.
    static func operators(_ name: String, _ arity: Int) -> [ScalarFunction] {
        (scalarsByName[name == "!=" ? "<>" : name] ?? []).filter { $0.parameters.count == arity }
    }

    static func functions(_ name: String) -> [ScalarFunction] {
        guard let first = name.utf8.first, isWord(first) else { return [] }
        return scalarsByName[name] ?? []
    }

    static func aggregates(_ name: String) -> [AggregateFunction] { aggregatesByName[name] ?? [] }

    static func rows(_ name: String) -> [RowsFunction] { rowsByName[name] ?? [] }

    private static func isWord(_ byte: UInt8) -> Bool {
        byte == UInt8(ascii: "_") || byte | 0x20 >= UInt8(ascii: "a") && byte | 0x20 <= UInt8(ascii: "z")
    }

    /// What every row says of itself: a query, and the text of its one value.
    package static var examples: [(query: String, result: String)] {
        scalars.compactMap { row in
            row.example.map { (query: "SELECT (\($0.expression))::text", result: $0.result) }
        }
            + AggregateFunction.rows.map {
                (
                    query: "SELECT (\($0.example.expression))::text FROM (VALUES \($0.example.values)) v(x, y)",
                    result: $0.example.result
                )
            }
            + RowsFunctions.rows.map {
                (
                    query: "SELECT string_agg(t::text, ',') FROM \($0.example.expression) AS f(t)",
                    result: $0.example.result
                )
            }
    }
}
