import Base
import DataModel

/// Conditions sink to where their columns come from: past projections, into joins, to the scans.
enum PredicatePushdownRule {
    static func apply(_ plan: RelationalPlan) throws(StatementError) -> RelationalPlan {
        try plan.transformed { node throws(StatementError) in
            switch node {
            case .filter(let child, let condition): return try push(condition.conjuncts, into: child)
            case .join(.inner, let left, let right, let condition?):
                return try push(condition.conjuncts, into: .join(.inner, left, right, condition: nil))
            default: return node  // Nothing to sink.
            }
        }
    }

    private static func push(_ conditions: [BoundExpression], into plan: RelationalPlan) throws(StatementError)
        -> RelationalPlan
    {
        if conditions.isEmpty { return plan }
        switch plan {
        case .filter(let child, let condition): return try push(condition.conjuncts + conditions, into: child)
        case .project(let child, let projections):
            var sinking: [BoundExpression] = [], staying: [BoundExpression] = []
            for condition in conditions {
                if let moved = try replaced(condition, projections) {
                    sinking.append(moved)
                } else {
                    staying.append(condition)
                }
            }
            return filter(.project(try push(sinking, into: child), projections), staying)
        case .join(let kind, let left, let right, let condition):
            return try push(conditions, join: kind, left, right, condition)
        case .apply(let left, let right, let kind):
            let outer = Set(left.attributes), all = Set(plan.attributes)
            let (sinking, staying) = split(conditions) { $0.attributes.intersection(all).isSubset(of: outer) }
            return filter(.apply(try push(sinking, into: left), right, kind), staying)
        case .sort(let child, let terms, nil): return .sort(try push(conditions, into: child), terms, limit: nil)
        case .lock(let child, var lock) where lock.limits.isEmpty:
            // A row that is not asked for is not locked; one that is, is asked again when it is locked.
            let own = Set(lock.relations.flatMap { $0.outputs.map(\.attribute) }), all = Set(plan.attributes)
            let (sinking, staying) = split(conditions) { $0.attributes.intersection(all).isSubset(of: own) }
            lock.condition = BoundExpression.all((lock.condition?.conjuncts ?? []) + sinking)
            return filter(.lock(try push(sinking, into: child), lock), staying)
        case .single, .scan, .values, .merge, .aggregate, .sort, .limit, .distinct, .combine, .rows, .unroll, .window,
            .with, .input, .shared, .working, .recursive, .modify, .lock:
            return filter(plan, conditions)
        }
    }

    private static func filter(_ plan: RelationalPlan, _ conditions: [BoundExpression]) -> RelationalPlan {
        guard let condition = BoundExpression.all(conditions) else { return plan }
        return .filter(plan, condition)
    }

    private static func split(_ conditions: [BoundExpression], _ test: (BoundExpression) -> Bool)
        -> ([BoundExpression], [BoundExpression])
    {
        (conditions.filter { !$0.isVolatile && test($0) }, conditions.filter { $0.isVolatile || !test($0) })
    }

    /// The condition over what a projection computes from; nil if that would compute something twice that it must not.
    private static func replaced(_ condition: BoundExpression, _ projections: [Projection]) throws(StatementError)
        -> BoundExpression?
    {
        let read = condition.attributes
        let sources = projections.filter { read.contains($0.attribute) }
        guard !condition.isVolatile, !sources.contains(where: { $0.expression.isVolatile }) else { return nil }
        return try condition.rewritten { part throws(StatementError) in
            guard let attribute = part.attribute else { return nil }
            return sources.first { $0.attribute == attribute }?.expression
        }
    }

    private static func push(
        _ conditions: [BoundExpression], join kind: JoinKind, _ left: RelationalPlan, _ right: RelationalPlan,
        _ condition: BoundExpression?
    ) throws(StatementError) -> RelationalPlan {
        let leftSide = Set(left.attributes), rightSide = Set(right.attributes)
        let all = leftSide.union(rightSide)
        func reads(_ side: Set<Attribute>, _ expression: BoundExpression) -> Bool {
            expression.attributes.intersection(all).isSubset(of: side)
        }
        switch kind {
        case .inner:
            let (toLeft, others) = split(conditions + (condition?.conjuncts ?? [])) { reads(leftSide, $0) }
            let (toRight, staying) = split(others) { reads(rightSide, $0) }
            let stable = staying.filter { !$0.isVolatile }, volatile = staying.filter(\.isVolatile)
            let joined = RelationalPlan.join(
                .inner, try push(toLeft, into: left), try push(toRight, into: right),
                condition: BoundExpression.all(stable))
            return filter(joined, volatile)
        case .left, .semi, .anti:
            let (toLeft, staying) = split(conditions) { reads(leftSide, $0) }
            return filter(.join(kind, try push(toLeft, into: left), right, condition: condition), staying)
        case .right:
            let (toRight, staying) = split(conditions) { reads(rightSide, $0) }
            return filter(.join(kind, left, try push(toRight, into: right), condition: condition), staying)
        case .full: return filter(.join(kind, left, right, condition: condition), conditions)
        }
    }
}
