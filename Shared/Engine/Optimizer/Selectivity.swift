import Base
import DataModel

/// Which part of the rows conditions leave, from 0 to 1: by the values that ANALYZE has seen, or as PostgreSQL guesses.
struct Selectivity {
    static let equality = 0.005, inequality = 1.0 / 3, range = 0.005, other = 1.0 / 3, isNull = 0.005

    private let estimator: Estimator

    init(_ estimator: Estimator) { self.estimator = estimator }

    /// Of all conditions together; bounds of one column are taken as a range.
    func of(_ conditions: [BoundExpression]) -> Double {
        var result = 1.0, lower: [Attribute: Double] = [:], upper: [Attribute: Double] = [:]
        for condition in conditions {
            guard let (attribute, name, value) = comparison(condition), name != "=" else {
                result *= of(condition)
                continue
            }
            let part = share(below: value, of: attribute)
            if name.hasPrefix("<") {
                upper[attribute] = min(upper[attribute] ?? 1, part ?? -1)
            } else {
                lower[attribute] = min(lower[attribute] ?? 1, part.map { 1 - $0 } ?? -1)
            }
        }
        for attribute in Set(lower.keys).union(upper.keys) {
            let values = 1 - nulls(attribute)
            switch (lower[attribute], upper[attribute]) {
            case (let from?, let to?):
                result *= from < 0 || to < 0 ? Self.range : max(from + to - 1, 0.0001) * values
            case (let one?, nil), (nil, let one?): result *= one < 0 ? Self.inequality : max(one, 0.0001) * values
            case (nil, nil): break
            }
        }
        return min(max(result, 0), 1)
    }

    /// Of what is known of the first columns of an index, or of the primary key.
    func of(_ condition: KeyCondition, _ scan: ScanPlan, _ index: TableIndex?) -> Double {
        let columns = index?.columns ?? scan.collection.primaryKey
        let rows = Estimator.rows(of: scan.collection)
        var result = 1.0
        for (column, choices) in zip(columns, condition.equal) {
            guard let output = scan.outputs.first(where: { $0.column == column }) else { continue }
            result *= min(choices.reduce(0) { $0 + of($1, output.attribute) }, 1)
        }
        if index?.isUnique ?? true, condition.isComplete { return min(result, Estimator.count(condition) / rows) }
        guard columns.indices.contains(condition.equal.count),
            let output = scan.outputs.first(where: { $0.column == columns[condition.equal.count] })
        else { return result }
        let attribute = output.attribute, values = 1 - nulls(attribute)
        let from = condition.lower.map { share(below: $0.expression, of: attribute).map { 1 - $0 } ?? -1 }
        let to = condition.upper.map { share(below: $0.expression, of: attribute) ?? -1 }
        switch (from, to) {
        case (let from?, let to?): result *= from < 0 || to < 0 ? Self.range : max(from + to - 1, 0.0001) * values
        case (let one?, nil), (nil, let one?): result *= one < 0 ? Self.inequality : max(one, 0.0001) * values
        case (nil, nil): break
        }
        if let pattern = condition.pattern { result *= self.pattern(pattern, attribute) }
        return result
    }

    private func of(_ choice: KeyCondition.Choice, _ attribute: Attribute) -> Double {
        switch choice {
        case .value(let value): return equal(attribute, value.constantValue)
        case .null: return nulls(attribute)
        case .elements(let array):
            if case .array(let values)? = array.constantValue {
                return values.elements.reduce(0) { $0 + ($1.isNull ? 0 : equal(attribute, $1)) }
            }
            if case .array(let parts) = array.form {
                return parts.reduce(0) { $0 + equal(attribute, $1.constantValue) }
            }
            return min(10 * equal(attribute, nil), 1)
        }
    }

    private func of(_ condition: BoundExpression) -> Double {
        switch condition.form {
        case .and(let parts): return of(parts)
        case .or(let parts): return 1 - parts.reduce(1) { $0 * (1 - of($1)) }
        case .not(let part): return 1 - of(part)
        case .isNull(let part, let isNegated):
            let share = part.attribute.map { nulls($0) } ?? Self.isNull
            return isNegated ? 1 - share : share
        case .constant(let value): return value == .bool(true) ? 1 : 0
        case .attribute: return 0.5
        case .call(let function, let sides) where sides.count == 2:
            if let (attribute, name, value) = comparison(condition) {
                return name == "=" ? equal(attribute, value.constantValue) : of([condition])
            }
            guard let attribute = sides[0].attribute else { return Self.other }
            switch function.name {
            case "<>": return 1 - equal(attribute, sides[1].constantValue)
            case "~~": return pattern(sides[1], attribute)
            case "any" where function.origin?.name == "=": return min(of(.elements(sides[1]), attribute), 1)
            case _: return Self.other
            }
        case .call, .parameter, .choice, .coalesce, .array, .row, .subquery, .aggregate, .window, .rows:
            return Self.other
        }
    }

    /// A column compared with something else than a column of the same row.
    private func comparison(_ expression: BoundExpression) -> (Attribute, String, BoundExpression)? {
        guard case .call(let function, let sides) = expression.form, sides.count == 2,
            let mirrored = Self.mirrored[function.name]
        else { return nil }
        if let attribute = sides[0].attribute, sides[1].attribute == nil { return (attribute, function.name, sides[1]) }
        if let attribute = sides[1].attribute, sides[0].attribute == nil { return (attribute, mirrored, sides[0]) }
        return nil
    }

    private static let mirrored = ["<": ">", ">": "<", "<=": ">=", ">=": "<=", "=": "="]

    // MARK: Columns

    private func nulls(_ attribute: Attribute) -> Double {
        guard let origin = estimator.origins[attribute], let column = origin.column else { return Self.isNull }
        return min(Double(column.nulls) / origin.rows, 1)
    }

    private func equal(_ attribute: Attribute, _ value: Value?) -> Double {
        guard let origin = estimator.origins[attribute] else { return Self.equality }
        if origin.isUnique { return min(1 / origin.rows, 1) }
        guard let column = origin.column else { return Self.equality }
        let common = column.common.reduce(0) { $0 + Double($1.rows) }
        if let value, let found = column.common.first(where: { Value.compare($0.value, value) == 0 }) {
            return min(Double(found.rows) / origin.rows, 1)
        }
        if value == nil { return min((1 - nulls(attribute)) / max(Double(column.distinct), 1), 1) }
        let rest = max(origin.rows - Double(column.nulls) - common, 0)
        let others = max(Double(column.distinct) - Double(column.common.count), 1)
        return min(rest / others / origin.rows, 1)
    }

    /// Which part of a column's values is less than a constant; nil if nobody knows.
    private func share(below bound: BoundExpression, of attribute: Attribute) -> Double? {
        guard let value = bound.constantValue, !value.isNull, let column = estimator.origins[attribute]?.column,
            let first = column.bounds.first, let last = column.bounds.last, column.bounds.count > 1
        else { return nil }
        if Value.compare(value, first) <= 0 { return 0 }
        if Value.compare(value, last) >= 0 { return 1 }
        var place = 0
        while place + 1 < column.bounds.count, Value.compare(column.bounds[place + 1], value) <= 0 { place += 1 }
        var inside = 0.5
        if let from = Self.number(column.bounds[place]), let to = Self.number(column.bounds[place + 1]),
            let wanted = Self.number(value), to > from
        {
            inside = (wanted - from) / (to - from)
        }
        return (Double(place) + inside) / Double(column.bounds.count - 1)
    }

    private static func number(_ value: Value) -> Double? {
        switch value {
        case .integer(let number): Double(number)
        case .float(let number): number.isFinite ? number : nil
        case .decimal(let number): number.double
        case .date(let days): Double(days)
        case .timestamp(let microseconds), .time(let microseconds): Double(microseconds)
        case .null, .bool, .text, .bytes, .uuid, .timeWithZone, .interval, .json, .array, .tuple:
            nil  // Nothing to reckon with.
        }
    }

    private func pattern(_ pattern: BoundExpression, _ attribute: Attribute) -> Double {
        guard case .text(let text)? = pattern.constantValue, let prefix = LikePrefix(text) else { return Self.equality }
        guard let column = estimator.origins[attribute]?.column, column.bounds.count > 1 else { return Self.equality }
        let inside = column.bounds.filter { bound in
            if case .text(let text) = bound { text.utf8.starts(with: prefix.bytes) } else { false }
        }
        return max(Double(inside.count) / Double(column.bounds.count), 1 / max(Double(column.distinct), 1))
    }
}
