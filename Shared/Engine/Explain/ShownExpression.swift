import Contracts
import DataModel

/// Expressions as they are shown to people: nearly SQL again, with the names that columns have in the plan.
struct ShownExpression {
    private(set) var names: [Attribute: String] = [:]
    let settings: EngineSettings

    init(settings: EngineSettings) { self.settings = settings }

    mutating func name(_ attribute: Attribute, _ text: String) { names[attribute] = text }

    func list(_ expressions: [BoundExpression]) -> String { expressions.map(text).joined(separator: ", ") }

    func terms(_ terms: [SortTerm]) -> String {
        terms.map { term in
            var result = sorted(term.expression)
            if term.isDescending { result += " DESC" }
            if term.isNullsFirst != term.isDescending { result += term.isNullsFirst ? " NULLS FIRST" : " NULLS LAST" }
            return result
        }.joined(separator: ", ")
    }

    /// What is sorted by: a text by its key, which is not shown, under a collation that is.
    private func sorted(_ expression: BoundExpression) -> String {
        guard case .call(let function, let operands) = expression.form, CollationFunctions.isKey(function) else {
            return text(expression)
        }
        let shown = text(operands[0]), clause = " COLLATE " + SQLWriter.quoted(Collation.root.name)
        return shown.hasSuffix(clause + ")") ? shown : shown + clause
    }

    func text(_ expression: BoundExpression) -> String {
        guard let collation = expression.collation else { return bare(expression) }
        return "(\(bare(expression)) COLLATE \(SQLWriter.quoted(collation.name)))"
    }

    private func bare(_ expression: BoundExpression) -> String {
        switch expression.form {
        case .attribute(let attribute): return names[attribute] ?? "?"
        case .constant(let value): return constant(value, expression.type)
        case .parameter(let index): return "$\(index + 1)"
        case .call(let function, let arguments): return call(function, arguments, expression.type)
        case .and(let parts): return joined(parts, " AND ")
        case .or(let parts): return joined(parts, " OR ")
        case .not(let part): return "(NOT \(text(part)))"
        case .isNull(let part, let isNegated): return "(\(text(part)) IS \(isNegated ? "NOT " : "")NULL)"
        case .choice(let branches, let otherwise):
            var result = "CASE"
            for branch in branches { result += " WHEN \(text(branch.condition)) THEN \(text(branch.result))" }
            if let otherwise { result += " ELSE \(text(otherwise))" }
            return result + " END"
        case .coalesce(let parts): return "COALESCE(\(list(parts)))"
        case .array(let parts): return "ARRAY[\(list(parts))]"
        case .row(let parts): return "ROW(\(list(parts)))"
        case .subquery: return "(SubPlan)"
        case .aggregate(let call): return aggregate(call)
        case .window(let call): return window(call)
        case .rows(let function, let arguments): return "\(function.name)(\(list(arguments)))"
        }
    }

    private func joined(_ parts: [BoundExpression], _ word: String) -> String {
        "(\(parts.map(text).joined(separator: word)))"
    }

    private func constant(_ value: Value, _ type: DataType) -> String {
        if value.isNull { return "NULL::\(type.title)" }
        let written = TextForms.text(value, type, settings)
        switch type.isArray ? .text : type.kind {
        case .int16, .int32, .int64: return written.hasPrefix("-") ? "'\(written)'::\(type.title)" : written
        case .bool: return written == "t" ? "true" : "false"
        case .decimal where !written.hasPrefix("-"): return written
        case _: return "'\(written.replacing("'", with: "''"))'::\(type.title)"
        }
    }

    private func call(_ function: ScalarFunction, _ arguments: [BoundExpression], _ type: DataType) -> String {
        if CollationFunctions.isKey(function) || CollationFunctions.isText(function) { return text(arguments[0]) }
        if function.name.hasPrefix("cast to ") || function.name == type.formatted, arguments.count == 1 {
            return "(\(text(arguments[0])))::\(type.title)"
        }
        let isWord = function.name.utf8.first.map { $0 == 0x5f || (0x61...0x7a).contains($0 | 0x20) } ?? false
        if !isWord, arguments.count == 2 { return "(\(text(arguments[0])) \(function.name) \(text(arguments[1])))" }
        if !isWord, arguments.count == 1 { return "(\(function.name) \(text(arguments[0])))" }
        return "\(function.name)(\(list(arguments)))"
    }

    func aggregate(_ call: AggregateCall) -> String {
        var inside = call.arguments.isEmpty ? "*" : list(call.arguments)
        if call.isDistinct { inside = "DISTINCT " + inside }
        if !call.order.isEmpty { inside += " ORDER BY " + terms(call.order) }
        let filter = call.filter.map { " FILTER (WHERE \(text($0)))" } ?? ""
        return "\(call.function.name)(\(inside))\(filter)"
    }

    func window(_ call: WindowCall) -> String {
        switch call.function {
        case .native(let function): return "\(function.rawValue)(\(list(call.arguments))) OVER (?)"
        case .aggregate(let function):
            let filter = call.filter.map { " FILTER (WHERE \(text($0)))" } ?? ""
            return "\(function.name)(\(call.arguments.isEmpty ? "*" : list(call.arguments)))\(filter) OVER (?)"
        }
    }
}
