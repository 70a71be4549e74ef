import DataModel

/// The registry as a document: docs/functions.md, which a test compares with it.
extension Registry {
    /// One line for each name, with its signatures and the first of its examples.
    package static var document: String {
        let operators = scalars.filter { !isWord($0.name.utf8.first ?? 0) }
        let functions = scalars.filter { isWord($0.name.utf8.first ?? 0) }
        func lines(_ rows: [ScalarFunction]) -> [String] {
            Dictionary(grouping: rows, by: \.name).map { name, rows in
                line(
                    name, rows.map { signature($0.parameters, $0.isVariadic, $0.result) },
                    rows.lazy.compactMap(\.example).first.map { ($0.expression, $0.result) })
            }.sorted()
        }
        let aggregateLines = Dictionary(grouping: aggregates, by: \.name).map { name, rows in
            let example = rows[0].example
            return line(
                name, rows.map { signature($0.parameters, $0.isVariadic, $0.result) },
                ("\(example.expression) over \(example.values)", example.result))
        }
        let rowLines = Dictionary(grouping: self.rows, by: \.name).map { name, rows in
            line(
                name,
                rows.map { row in
                    let columns = row.columns.map { "\($0.name) \($0.type.title)" }.joined(separator: ", ")
                    return signature(row.parameters, row.isVariadic, row.result)
                        + (columns.isEmpty ? "" : " (\(columns))")
                }, (rows[0].example.expression, rows[0].example.result))
        }
        return [
            section("Operators", lines(operators)), section("Functions", lines(functions)),
            section("Aggregates", aggregateLines.sorted()), section("Functions that give rows", rowLines.sorted()),
        ].joined(separator: "\n")
    }

    private static func section(_ title: String, _ lines: [String]) -> String {
        "## \(title)\n\n| name | takes → gives | example | its result |\n|---|---|---|---|\n"
            + lines.joined(separator: "\n") + "\n"
    }

    private static func line(_ name: String, _ signatures: [String], _ example: (String, String)?) -> String {
        var distinct: [String] = []
        for signature in signatures where !distinct.contains(signature) { distinct.append(signature) }
        let more = distinct.count > 6 ? "; and \(distinct.count - 6) more" : ""
        let taken = distinct.prefix(6).joined(separator: "; ") + more
        let shown = example.map { "`\(cell($0.0))` | `\(cell($0.1))`" } ?? " | "
        return "| `\(cell(name))` | \(cell(taken)) | \(shown) |"
    }

    private static func cell(_ text: String) -> String {
        var result = ""
        for character in text {
            switch character {
            case "|": result += "\\|"
            case "\n": result += "\\n"
            case "`": result += "'"
            case _: result.append(character)
            }
        }
        return result
    }

    private static func signature(_ parameters: [ParameterType], _ isVariadic: Bool, _ result: ResultType) -> String {
        let names = parameters.map { parameter in
            switch parameter {
            case .of(let type): type.title
            case .anyElement: "anyelement"
            case .anyArray: "anyarray"
            case .anyCompatible: "anycompatible"
            case .anyCompatibleArray: "anycompatiblearray"
            case .any: "any"
            case .anyNonArray: "anynonarray"
            }
        }
        let given =
            switch result {
            case .of(let type): type.title
            case .element: "anyelement"
            case .array: "anyarray"
            case .common: "anycompatible"
            case .commonArray: "anycompatiblearray"
            }
        return "(" + names.joined(separator: ", ") + (isVariadic ? ", …" : "") + ") → " + given
    }
}
