import Base
import DataModel

// What the filter of a scan says of the first columns of its key, or of an index.
//
// It only says where to look: the filter is asked of every row that is found there. So a condition may be wider than
// the filter, and never narrower.

extension KeyCondition {
    /// Nil if the filter says nothing of the first of these columns.
    init?(on columns: [ColumnID], of scan: ScanPlan) {
        let conjuncts = scan.filter?.conjuncts ?? []
        let own = Set(scan.outputs.map(\.attribute) + (scan.key.map { [$0] } ?? []))
        let isOfKeyspace = KeyspaceTables.table(scan.collection) != nil
        for id in columns {
            guard let output = scan.outputs.first(where: { $0.column == id }) else { break }
            let part = KeyConditionPart(output: output, own: own)
            if let choices = conjuncts.lazy.compactMap({ part.choices($0) }).first {
                equal.append(choices)
                continue
            }
            if isOfKeyspace, id == KeyspaceTables.database {
                // There are few, and a key in all of them has one place.
                equal.append(KeyspaceTables.databases.map { .value($0) })
                continue
            }
            for conjunct in conjuncts { part.bound(conjunct, &self) }
            break
        }
        // Of a hash that is known, fields are looked up as rows of known keys are.
        let parts = isOfKeyspace ? 2 : columns.count
        isComplete = parts > 0 && equal.count >= parts
        if isComplete { (lower, upper, pattern) = (nil, nil, nil) }
        // Databases alone say nothing.
        if isOfKeyspace, !isComplete, equal.count == 1, equal[0].count == KeyspaceTables.databaseCount { return nil }
        if isEmpty { return nil }
    }
}

extension DataType {
    /// Values of both have one encoding in keys, and one order.
    func isKeyed(as other: DataType) -> Bool {
        if unconstrained == other.unconstrained { return true }
        guard !isArray, !other.isArray else { return false }
        let integers: Set<DataType.Kind> = [.int16, .int32, .int64], texts: Set<DataType.Kind> = [.text, .varchar]
        return integers.contains(kind) && integers.contains(other.kind)
            || texts.contains(kind) && texts.contains(other.kind)
    }
}

/// One column, and what conditions say of it that does not depend on the row.
private struct KeyConditionPart {
    let output: OutputColumn
    /// The columns of the row.
    let own: Set<Attribute>

    private func isSteady(_ expression: BoundExpression) -> Bool {
        expression.attributes.isDisjoint(with: own) && !expression.isVolatile
    }

    /// The other side of a comparison of the column with something of the same encoding.
    private func comparison(_ expression: BoundExpression) -> (name: String, value: BoundExpression)? {
        guard case .call(let function, let sides) = expression.form, sides.count == 2,
            let mirrored = Self.mirrored[function.name]
        else { return nil }
        for (mine, other, name) in [(sides[0], sides[1], function.name), (sides[1], sides[0], mirrored)]
        where mine.attribute == output.attribute && isSteady(other) && output.type.isKeyed(as: other.type) {
            return (name, other)
        }
        return nil
    }

    private static let mirrored = ["<": ">", ">": "<", "<=": ">=", ">=": "<=", "=": "="]

    /// What the column is one of; nil if the condition does not say it.
    func choices(_ expression: BoundExpression) -> [KeyCondition.Choice]? {
        if let (name, value) = comparison(expression) { return name == "=" ? [.value(value)] : nil }
        switch expression.form {
        case .or(let parts):
            var choices: [KeyCondition.Choice] = []
            for part in parts {
                guard let more = self.choices(part) else { return nil }
                choices += more
            }
            return choices
        case .isNull(let operand, isNegated: false): return operand.attribute == output.attribute ? [.null] : nil
        case .attribute(let attribute) where attribute == output.attribute && output.type == .bool:
            return [.value(.yes)]
        case .not(let operand) where operand.attribute == output.attribute && output.type == .bool:
            return [.value(.constant(.bool(false), .bool))]
        case .call(let function, let sides) where function.name == "any" && function.origin?.name == "=":
            guard sides.count == 2, sides[0].attribute == output.attribute, isSteady(sides[1]),
                sides[1].type.isArray, output.type.isKeyed(as: sides[1].type.element)
            else { return nil }
            return [.elements(sides[1])]
        case .attribute, .constant, .parameter, .call, .and, .not, .isNull, .choice, .coalesce, .array, .row, .subquery,
            .aggregate, .window, .rows:
            return nil
        }
    }

    /// What `a < x OR a = x AND …` says of a, which is how rows are compared: `a <= x`.
    private func inclusive(_ expression: BoundExpression) -> (name: String, value: BoundExpression)? {
        guard case .or(let parts) = expression.form, parts.count == 2, let (name, value) = comparison(parts[0]),
            name == "<" || name == ">", case .and(let both) = parts[1].form, let first = both.first,
            let (other, same) = comparison(first), other == "=", same.isSame(as: value)
        else { return nil }
        return (name + "=", value)
    }

    func bound(_ expression: BoundExpression, _ condition: inout KeyCondition) {
        if let (name, value) = comparison(expression) ?? inclusive(expression) {
            let bound = KeyCondition.Bound(expression: value, isInclusive: name.hasSuffix("="))
            if name.hasPrefix(">"), condition.lower == nil { condition.lower = bound }
            if name.hasPrefix("<"), condition.upper == nil { condition.upper = bound }
            return
        }
        guard condition.pattern == nil, case .call(let function, let sides) = expression.form, function.name == "~~",
            sides.count == 2, sides[0].attribute == output.attribute, isSteady(sides[1]),
            output.type.isKeyed(as: .text), !output.type.isArray
        else { return }
        if case .text(let pattern)? = sides[1].constantValue, LikePrefix(pattern) == nil { return }
        condition.pattern = sides[1]
    }
}

/// What all texts begin with that match a pattern of LIKE.
struct LikePrefix: Equatable {
    private(set) var bytes: Bytes = []
    /// There is nothing behind it.
    private(set) var isWhole = true

    /// Nil if the pattern says nothing of it, or is none.
    init?(_ pattern: String) {
        var units = pattern.utf8.makeIterator()
        scan: while let unit = units.next() {
            switch unit {
            case UInt8(ascii: "%"), UInt8(ascii: "_"):
                isWhole = false
                break scan
            case UInt8(ascii: "\\"):
                // One that ends with it is refused where it is matched.
                guard let escaped = units.next() else { return nil }
                bytes.append(escaped)
            case _: bytes.append(unit)
            }
        }
        if bytes.isEmpty, !isWhole { return nil }
    }
}
