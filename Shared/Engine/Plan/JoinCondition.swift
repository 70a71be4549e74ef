import DataModel

/// A join's condition taken apart: equations between the sides, and the rest.
struct JoinCondition {
    var equations: [(left: BoundExpression, right: BoundExpression)] = []
    /// The equations as they stand in the condition.
    var written: [BoundExpression] = []
    var rest: [BoundExpression] = []

    init(_ condition: BoundExpression?, left: Set<Attribute>, right: Set<Attribute>) {
        for conjunct in condition?.conjuncts ?? [] {
            if case .call(let function, let sides) = conjunct.form, function.name == "=", sides.count == 2,
                sides[0].type.form == sides[1].type.form, !sides[0].isVolatile, !sides[1].isVolatile
            {
                let first = sides[0].attributes, second = sides[1].attributes
                if !first.isDisjoint(with: left), first.isDisjoint(with: right), !second.isDisjoint(with: right),
                    second.isDisjoint(with: left)
                {
                    equations.append((sides[0], sides[1]))
                    written.append(conjunct)
                    continue
                }
                if !second.isDisjoint(with: left), second.isDisjoint(with: right), !first.isDisjoint(with: right),
                    first.isDisjoint(with: left)
                {
                    equations.append((sides[1], sides[0]))
                    written.append(conjunct)
                    continue
                }
            }
            rest.append(conjunct)
        }
    }

    /// Of a join along an order.
    init(_ plan: MergePlan) {
        equations = plan.keys.map { ($0.left, $0.right) }
        rest = plan.rest?.conjuncts ?? []
    }
}
