import DataModel

/// Columns that nothing above reads are not read, not computed, not carried.
enum ColumnPruningRule {
    static func apply(_ plan: RelationalPlan, needed: Set<Attribute>) -> RelationalPlan {
        switch plan {
        case .scan(var scan):
            var wanted = needed
            for expression in plan.expressions { expression.collectAttributes(into: &wanted) }
            scan.outputs = scan.outputs.filter { wanted.contains($0.attribute) }
            if let key = scan.key, !wanted.contains(key) { scan.key = nil }
            return .scan(scan)
        case .project(let child, let projections):
            let kept = projections.filter { needed.contains($0.attribute) || $0.expression.isVolatile }
            var below: Set<Attribute> = []
            for projection in kept { projection.expression.collectAttributes(into: &below) }
            return .project(apply(child, needed: below), kept)
        case .combine, .recursive, .with, .modify, .distinct(_, on: nil):
            // All columns of what is below count.
            return plan.replacingChildren(plan.children.map { apply($0, needed: needed.union($0.attributes)) })
        case .lock(let child, var lock):
            var wanted = needed
            for expression in plan.expressions { expression.collectAttributes(into: &wanted) }
            for index in lock.relations.indices {
                lock.relations[index].outputs.removeAll { !wanted.contains($0.attribute) }
            }
            return .lock(apply(child, needed: wanted), lock)
        case .single, .values, .filter, .join, .merge, .apply, .aggregate, .sort, .limit, .distinct, .rows, .unroll,
            .window,
            .input, .shared, .working:
            var wanted = needed
            for expression in plan.expressions { expression.collectAttributes(into: &wanted) }
            // A right side that is made for every row of the left reads columns of it.
            if case .apply(_, let right, let kind) = plan {
                wanted.formUnion(right.freeAttributes)
                if case .value(let subquery, _) = kind { wanted.formUnion(subquery.outputs.map(\.attribute)) }
            }
            return plan.replacingChildren(plan.children.map { apply($0, needed: wanted) })
        }
    }
}
