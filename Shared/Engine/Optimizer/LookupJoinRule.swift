import Base
import DataModel

/// A join whose right side is a table with a key, or an index, on the columns that are compared: if few rows come from
/// the left side, only theirs are looked up (`LookupJoinOperator`). The sides of an inner join are exchanged where that
/// costs less: for this, or since the right side is kept in memory.
///
/// The operator counts the rows of the left side before it decides; so where nobody has counted them, it is left to it.
enum LookupJoinRule {
    static func apply(_ plan: RelationalPlan, _ estimator: Estimator) throws(StatementError) -> RelationalPlan {
        try plan.transformed { node throws(StatementError) in
            guard case .join(let kind, let first, let second, var condition?) = node else { return node }
            switch kind {
            case .right, .full: return node
            case .inner, .left, .semi, .anti: break
            }
            let left = first.withoutLookup
            var right = second.withoutLookup
            while kind == .semi || kind == .anti, let plain = try withoutProjection(right, condition) {
                (right, condition) = (plain.plan, plain.condition)
            }
            var best = RelationalPlan.join(kind, left, right, condition: condition)
            var least = estimator.cost(best), isLookup = false
            func consider(_ left: RelationalPlan, _ right: RelationalPlan) {
                guard let scan = lookedUp(right, from: left, condition) else { return }
                let candidate = RelationalPlan.join(kind, left, .scan(scan), condition: condition)
                let cost = estimator.cost(candidate)
                guard cost < least || cost == least && !left.isCounted && !isLookup else { return }
                (best, least, isLookup) = (candidate, cost, true)
            }
            consider(left, right)
            guard kind == .inner else { return best }
            let turned = RelationalPlan.join(.inner, right, left, condition: condition)
            if estimator.cost(turned) < least { (best, least, isLookup) = (turned, estimator.cost(turned), false) }
            consider(right, left)
            return best
        }
    }

    /// Of a side of which only the condition reads columns: what is below its projection, if that only names columns
    /// that the condition reads.
    private static func withoutProjection(_ side: RelationalPlan, _ condition: BoundExpression) throws(StatementError)
        -> (plan: RelationalPlan, condition: BoundExpression)?
    {
        guard case .project(let child, let projections) = side else { return nil }
        let read = condition.attributes
        var sources: [Attribute: BoundExpression] = [:]
        for projection in projections where read.contains(projection.attribute) {
            guard projection.expression.attribute != nil else { return nil }
            sources[projection.attribute] = projection.expression
        }
        let fresh = try condition.rewritten { part throws(StatementError) in part.attribute.flatMap { sources[$0] } }
        return (child.withoutLookup, fresh)
    }

    /// The scan with what is looked up in it; nil if it is none, or not by what is compared.
    private static func lookedUp(
        _ side: RelationalPlan, from outer: RelationalPlan, _ condition: BoundExpression
    ) -> ScanPlan? {
        guard case .scan(var scan) = side, scan.keys == nil, scan.index == nil, scan.limit == nil,
            !SystemCatalogs.isSystem(scan.collection)
        else { return nil }
        let parts = JoinCondition(condition, left: Set(outer.attributes), right: Set(side.attributes))
        var values: [ColumnID: BoundExpression] = [:]
        for (theirs, mine) in parts.equations {
            guard let output = scan.outputs.first(where: { $0.attribute == mine.attribute }), let id = output.column,
                output.type.isKeyed(as: theirs.type), values[id] == nil
            else { continue }
            values[id] = theirs
        }
        guard !values.isEmpty else { return nil }
        let key = scan.collection.primaryKey.compactMap { values[$0] }
        if !key.isEmpty, key.count == scan.collection.primaryKey.count {
            scan.lookup = ScanLookup(index: nil, values: key)
            return scan
        }
        var best: ScanLookup?
        for index in scan.indexes {
            let known = index.columns.prefix { values[$0] != nil }.compactMap { values[$0] }
            if known.count > best?.values.count ?? 0 { best = ScanLookup(index: index, values: known) }
        }
        guard let best else { return nil }
        scan.lookup = best
        return scan
    }
}

extension RelationalPlan {
    /// A scan as it is by itself: what was to be looked up in it belongs to the join that it was a side of.
    var withoutLookup: RelationalPlan {
        guard case .scan(var scan) = self else { return self }
        scan.lookup = nil
        return .scan(scan)
    }

    /// All tables that it reads have been analyzed.
    var isCounted: Bool {
        if case .scan(let scan) = self {
            return scan.collection.statistics != nil || SystemCatalogs.isSystem(scan.collection)
        }
        return children.allSatisfy(\.isCounted)
    }
}
