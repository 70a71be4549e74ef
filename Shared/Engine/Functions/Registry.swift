import DataModel

/// All functions, operators and aggregates, by name.
package enum Registry {
    static let scalars: [ScalarFunction] = [
        ComparisonFunctions.rows, ArithmeticFunctions.rows, MathFunctions.rows, TextFunctions.rows,
        PatternFunctions.rows, ArrayFunctions.rows, SessionFunctions.rows, DateTimeFunctions.rows, DateTimeParts.rows,
        FormattingFunctions.rows, JSONFunctions.rows, JSONChanges.rows, RegexFunctions.rows, BytesFunctions.rows,
        TextComposition.rows, ArrayChanges.rows, DecimalFunctions.rows, JSONOperatorFunctions.rows,
        DegreeFunctions.rows, SizeFunctions.rows, IdentifierFunctions.rows,
        CatalogFunctions.rows, AccessFunctions.rows, SequenceFunctions.rows,
    ].flatMap { $0 }

    static let aggregates: [AggregateFunction] =
        AggregateFunction.rows + JSONAggregates.rows + StatisticsAggregates.rows
    static let rows: [RowsFunction] = RowsFunctions.rows + JSONRows.rows + SeriesRows.rows + [KeywordRows.function]

    private static let scalarsByName = Dictionary(grouping: scalars, by: { $0.name })
    private static let aggregatesByName = Dictionary(grouping: aggregates, by: { $0.name })
    private static let rowsByName = Dictionary(grouping: rows, by: { $0.name })

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

    static func isWord(_ byte: UInt8) -> Bool {
        byte == UInt8(ascii: "_") || byte | 0x20 >= UInt8(ascii: "a") && byte | 0x20 <= UInt8(ascii: "z")
    }

    /// What every row says of itself: a query, and the text of its one value.
    package static var examples: [(query: String, result: String)] {
        scalars.compactMap { row in
            row.example.map { (query: "SELECT (\($0.expression))::text", result: $0.result) }
        }
            + aggregates.map {
                (
                    query: "SELECT (\($0.example.expression))::text FROM (VALUES \($0.example.values)) v(x, y)",
                    result: $0.example.result
                )
            }
            + rows.map {
                (
                    query: "SELECT string_agg((\($0.columns.first?.name ?? "t"))::text, ',') FROM "
                        + $0.example.expression + ($0.columns.isEmpty ? " AS f(t)" : ""),
                    result: $0.example.result
                )
            }
    }
}
