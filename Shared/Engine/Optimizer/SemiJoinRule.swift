import Base
import DataModel

/// EXISTS and IN as conditions of a query become semi joins, NOT EXISTS an anti join: the subquery is read once.
///
/// What the subquery says of the outer row must stand in its own WHERE, above everything that groups, limits or sorts.
/// NOT IN stays an apply: a NULL among the rows makes it neither true nor false.
enum SemiJoinRule {
    static func apply(_ plan: RelationalPlan) throws(StatementError) -> RelationalPlan {
        try plan.transformed { node throws(StatementError) in
            guard case .filter(let below, let condition) = node else { return node }
            var child = below
            var rest: [BoundExpression] = []
            for conjunct in condition.conjuncts {
                // The column goes away with the apply: nothing else may read it.
                let others = condition.conjuncts.filter { !$0.isSame(as: conjunct) }
                if let joined = convert(conjunct, child, beside: others) {
                    child = joined
                } else {
                    rest.append(conjunct)
                }
            }
            return BoundExpression.all(rest).map { .filter(child, $0) } ?? child
        }
    }

    /// The plan with the apply whose column this condition is, as a join.
    private static func convert(_ condition: BoundExpression, _ plan: RelationalPlan, beside others: [BoundExpression])
        -> RelationalPlan?
    {
        var attribute = condition.attribute
        var isNegated = false
        if case .not(let operand) = condition.form {
            attribute = operand.attribute
            isNegated = true
        }
        guard let attribute, !others.contains(where: { $0.attributes.contains(attribute) }) else { return nil }
        return replace(attribute, isNegated, plan)
    }

    private static func replace(_ attribute: Attribute, _ isNegated: Bool, _ plan: RelationalPlan) -> RelationalPlan? {
        guard case .apply(let left, let right, let kind) = plan, case .value(let subquery, let mine) = kind else {
            return nil
        }
        guard mine == attribute else {
            // Another apply above it: the column must be nothing to that one.
            guard !right.freeAttributes.contains(attribute),
                !subquery.comparands.contains(where: { $0.attributes.contains(attribute) }),
                let fresh = replace(attribute, isNegated, left)
            else { return nil }
            return .apply(fresh, right, kind)
        }
        var conditions: [BoundExpression] = []
        switch subquery.role {
        case .exists: break
        case .quantified(let functions, isAll: false) where !isNegated:
            for (index, function) in functions.enumerated() {
                let sides = [subquery.comparands[index], subquery.compared[index]]
                conditions.append(BoundExpression(form: .call(function, sides), type: .bool))
            }
        case .scalar, .array, .quantified: return nil
        }
        guard let inner = flattened(right, outer: Set(left.attributes), &conditions) else { return nil }
        return .join(isNegated ? .anti : .semi, left, inner, condition: BoundExpression.all(conditions))
    }

    /// The plan without what it says of the outer row, which goes into `conditions`; nil if it says so elsewhere.
    private static func flattened(
        _ plan: RelationalPlan, outer: Set<Attribute>, _ conditions: inout [BoundExpression]
    ) -> RelationalPlan? {
        if plan.freeAttributes.isDisjoint(with: outer) { return plan }
        switch plan {
        case .project(let child, let projections):
            guard projections.allSatisfy({ $0.expression.attributes.isDisjoint(with: outer) }),
                let inner = flattened(child, outer: outer, &conditions)
            else { return nil }
            // The conditions read columns below: they are carried along.
            let types = types(in: conditions)
            let carried = inner.attributes.filter { attribute in
                types[attribute] != nil && !projections.contains { $0.attribute == attribute }
            }
            let more = carried.map { attribute in
                Projection(attribute: attribute, expression: .attribute(attribute, types[attribute] ?? .unknown))
            }
            return .project(inner, projections + more)
        case .filter(let child, let condition):
            let correlated = condition.conjuncts.filter { !$0.attributes.isDisjoint(with: outer) }
            let own = condition.conjuncts.filter { $0.attributes.isDisjoint(with: outer) }
            guard !correlated.contains(where: \.isVolatile), let inner = flattened(child, outer: outer, &conditions)
            else { return nil }
            conditions += correlated
            return BoundExpression.all(own).map { .filter(inner, $0) } ?? inner
        default: return nil  // The outer row is read within something that must see its rows only.
        }
    }

    /// The types of attributes, as the conditions that read them say.
    private static func types(in conditions: [BoundExpression]) -> [Attribute: DataType] {
        var types: [Attribute: DataType] = [:]
        func visit(_ expression: BoundExpression) {
            if let attribute = expression.attribute { types[attribute] = expression.type }
            expression.operands.forEach(visit)
        }
        conditions.forEach(visit)
        return types
    }
}
