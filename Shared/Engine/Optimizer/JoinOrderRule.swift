import Base
import DataModel

/// Inner joins of several tables begin with the one that gives the fewest rows, and go on with whatever keeps them few.
///
/// Only among tables that have been analyzed: without statistics, the order of the statement is as good a guess.
enum JoinOrderRule {
    /// More are joined as they are written.
    private static let limit = 12

    static func apply(_ plan: RelationalPlan, _ estimator: Estimator) -> RelationalPlan {
        guard case .join(.inner, _, _, _) = plan else {
            return plan.replacingChildren(plan.children.map { apply($0, estimator) })
        }
        var leaves: [RelationalPlan] = [], conditions: [BoundExpression] = []
        flatten(plan, &leaves, &conditions)
        guard (3...limit).contains(leaves.count), leaves.allSatisfy(\.isCounted) else {
            return plan.replacingChildren(plan.children.map { apply($0, estimator) })
        }
        return ordered(leaves.map { apply($0, estimator) }, conditions, estimator)
    }

    private static func flatten(
        _ plan: RelationalPlan, _ leaves: inout [RelationalPlan], _ conditions: inout [BoundExpression]
    ) {
        guard case .join(.inner, let left, let right, let condition) = plan else {
            return leaves.append(plan.withoutLookup)
        }
        flatten(left, &leaves, &conditions)
        flatten(right, &leaves, &conditions)
        conditions += condition?.conjuncts ?? []
    }

    private static func ordered(
        _ leaves: [RelationalPlan], _ conditions: [BoundExpression], _ estimator: Estimator
    ) -> RelationalPlan {
        let all = Set(leaves.flatMap(\.attributes))
        var waiting = leaves, left = conditions
        func take(_ place: Int) -> RelationalPlan { waiting.remove(at: place) }
        let sizes = leaves.map { estimator.rows($0) }
        var joined = take(sizes.indices.min { sizes[$0] < sizes[$1] } ?? 0)
        while !waiting.isEmpty {
            let mine = Set(joined.attributes), rows = estimator.rows(joined)
            var best: (place: Int, rows: Double, isConnected: Bool)?
            for (place, leaf) in waiting.enumerated() {
                let reach = mine.union(leaf.attributes)
                let usable = left.filter { $0.attributes.intersection(all).isSubset(of: reach) }
                let isConnected = !JoinCondition(BoundExpression.all(usable), left: mine, right: Set(leaf.attributes))
                    .equations.isEmpty
                let pairs = estimator.pairs(
                    rows, mine, estimator.rows(leaf), Set(leaf.attributes), BoundExpression.all(usable))
                if let best, best.isConnected, !isConnected { continue }
                if let best, best.isConnected == isConnected, best.rows <= pairs { continue }
                best = (place, pairs, isConnected)
            }
            let leaf = take(best?.place ?? 0)
            let reach = mine.union(leaf.attributes)
            let usable = left.filter { $0.attributes.intersection(all).isSubset(of: reach) }
            left.removeAll { $0.attributes.intersection(all).isSubset(of: reach) }
            joined = .join(.inner, joined, leaf, condition: BoundExpression.all(usable))
        }
        return joined
    }
}
