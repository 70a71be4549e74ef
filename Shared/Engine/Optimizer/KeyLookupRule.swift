import Base
import DataModel

/// A filter right over a scan is evaluated by the scan; and where it says what the primary key is, or its first parts,
/// only those rows are read.
enum KeyLookupRule {
    static func apply(_ plan: RelationalPlan) throws(StatementError) -> RelationalPlan {
        try plan.transformed { node throws(StatementError) in
            guard case .filter(.scan(var scan), let condition) = node else { return node }
            scan.filter = BoundExpression.all((scan.filter?.conjuncts ?? []) + condition.conjuncts)
            scan.keys = keys(scan)
            return .scan(scan)
        }
    }

    private static func keys(_ scan: ScanPlan) -> KeyCondition? {
        let conjuncts = scan.filter?.conjuncts ?? []
        let own = Set(scan.outputs.map(\.attribute))
        var condition = KeyCondition(equal: [], isComplete: false)
        let isOfKeyspace = KeyspaceTables.table(scan.collection) != nil
        for id in scan.collection.primaryKey {
            guard let output = scan.outputs.first(where: { $0.column == id }) else { break }
            if let choices = conjuncts.lazy.compactMap({ equal($0, output, own) }).first {
                condition.equal.append(choices)
                // Several values of one part and more parts to come: the product of all, within reason.
                if condition.equal.reduce(1, { $0 * $1.count }) > 10_000 { return nil }
                continue
            }
            if isOfKeyspace, id == KeyspaceTables.database {
                // There are few, and a key in all of them has one place.
                condition.equal.append(KeyspaceTables.databases)
                continue
            }
            for conjunct in conjuncts { bound(conjunct, output, own, &condition) }
            break
        }
        // Of a hash that is known, fields are looked up as rows of known keys are.
        let parts = isOfKeyspace ? 2 : scan.collection.primaryKey.count
        condition.isComplete = parts > 0 && condition.equal.count >= parts
        if !condition.isComplete, condition.equal.contains(where: { $0.count > 1 }) { return nil }
        return condition.equal.isEmpty && condition.lower == nil && condition.upper == nil ? nil : condition
    }

    /// The other side of a comparison of this column with something that does not depend on the row, and has the same
    /// type, so that both have one encoding.
    private static func comparison(_ expression: BoundExpression, _ output: OutputColumn, _ own: Set<Attribute>)
        -> (name: String, value: BoundExpression)?
    {
        guard case .call(let function, let sides) = expression.form, sides.count == 2 else { return nil }
        let flipped = ["<": ">", ">": "<", "<=": ">=", ">=": "<=", "=": "="]
        guard let mirror = flipped[function.name] else { return nil }
        for (mine, other, name) in [(sides[0], sides[1], function.name), (sides[1], sides[0], mirror)] {
            guard mine.attribute == output.attribute, other.attributes.isDisjoint(with: own), !other.isVolatile,
                isSameEncoding(output.type, other.type)
            else { continue }
            return (name, other)
        }
        return nil
    }

    private static func isSameEncoding(_ left: DataType, _ right: DataType) -> Bool {
        if left.unconstrained == right.unconstrained { return true }
        let integers: Set<DataType.Kind> = [.int16, .int32, .int64]
        let texts: Set<DataType.Kind> = [.text, .varchar, .name]
        guard !left.isArray, !right.isArray else { return false }
        return integers.contains(left.kind) && integers.contains(right.kind)
            || texts.contains(left.kind) && texts.contains(right.kind)
    }

    private static func equal(_ expression: BoundExpression, _ output: OutputColumn, _ own: Set<Attribute>)
        -> [BoundExpression]?
    {
        if let (name, value) = comparison(expression, output, own), name == "=" { return [value] }
        guard case .or(let parts) = expression.form else { return nil }
        var choices: [BoundExpression] = []
        for part in parts {
            guard let more = equal(part, output, own) else { return nil }
            choices += more
        }
        return choices
    }

    private static func bound(
        _ expression: BoundExpression, _ output: OutputColumn, _ own: Set<Attribute>, _ condition: inout KeyCondition
    ) {
        guard let (name, value) = comparison(expression, output, own) else { return }
        let bound = KeyCondition.Bound(expression: value, isInclusive: name.hasSuffix("="))
        switch name {
        case ">", ">=": if condition.lower == nil { condition.lower = bound }
        case "<", "<=": if condition.upper == nil { condition.upper = bound }
        case _: break  // An equation was found before.
        }
    }
}
