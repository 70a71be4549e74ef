import Base
import DataModel

/// A statement with changes in its WITH sees all rows as they were before it: the scans of what another part of it
/// changes are made first of all.
///
/// A change reads all of its own rows before it writes the first one, so a statement with one change that nothing else
/// reads the table of needs nothing.
enum SnapshotRule {
    static func apply(_ plan: RelationalPlan) -> RelationalPlan {
        var tables: [CommonTable] = [], child = plan
        if case .with(let known, let rest) = plan { (tables, child) = (known, rest) }
        guard tables.contains(where: { $0.use == .toTheEnd }) || child.isOverChange else { return plan }
        let parts = tables.map(\.plan) + [child]
        let written = parts.map(\.writtenCollection)
        var early = Early()
        var fresh: [RelationalPlan] = []
        for (index, part) in parts.enumerated() {
            let others = written.enumerated().filter { $0.offset != index }.compactMap(\.element)
            let own = written[index].map { [$0] } ?? []
            fresh.append(early.replaced(part, within: Set(others), above: Set(others + own)))
        }
        let kept = zip(tables, fresh).map { table, plan in
            CommonTable(id: table.id, name: table.name, plan: plan, outputs: table.outputs, use: table.use)
        }
        let all = early.tables + kept
        return all.isEmpty ? plan : .with(all, fresh[fresh.count - 1])
    }

    /// Scans that are made before the statement does anything.
    private struct Early {
        var tables: [CommonTable] = []

        /// `above`: what is written, as seen from over the part's own change; `within`: from what it reads itself.
        mutating func replaced(_ plan: RelationalPlan, within: Set<CollectionID>, above: Set<CollectionID>)
            -> RelationalPlan
        {
            if case .scan(let scan) = plan { return above.contains(scan.collection.id) ? shared(scan) : plan }
            if case .modify = plan {
                return plan.replacingChildren(plan.children.map { replaced($0, within: within, above: within) })
            }
            if case .with(let inner, let child) = plan {
                // The tables of a WITH within it may read what is written as well.
                let kept = inner.map { table in
                    CommonTable(
                        id: table.id, name: table.name, plan: replaced(table.plan, within: within, above: within),
                        outputs: table.outputs, use: table.use)
                }
                return .with(kept, replaced(child, within: within, above: above))
            }
            return plan.replacingChildren(plan.children.map { replaced($0, within: within, above: above) })
        }

        /// What depends on outer rows is asked of the rows when they are read.
        private mutating func shared(_ scan: ScanPlan) -> RelationalPlan {
            var scan = scan
            let outputs =
                scan.outputs
                + (scan.key.map { [OutputColumn(attribute: $0, name: "", type: .bytes)] } ?? [])
            let own = Set(outputs.map(\.attribute))
            let conditions = scan.filter?.conjuncts ?? []
            let late = conditions.filter { !$0.attributes.isSubset(of: own) }
            scan.filter = BoundExpression.all(conditions.filter { $0.attributes.isSubset(of: own) })
            if scan.keys?.expressions.contains(where: { !$0.attributes.isEmpty }) == true { scan.keys = nil }
            if scan.index?.condition.expressions.contains(where: { !$0.attributes.isEmpty }) == true {
                scan.index = nil
            }
            if scan.order?.condition.expressions.contains(where: { !$0.attributes.isEmpty }) == true {
                scan.order?.condition = KeyCondition()
            }
            scan.lookup = nil
            scan.limit = nil
            let table = CommonTable(
                id: -1 - Int32(tables.count), name: scan.collection.name, plan: .scan(scan), outputs: outputs,
                use: .first)
            tables.append(table)
            let rows = RelationalPlan.shared(table, outputs: outputs)
            return BoundExpression.all(late).map { .filter(rows, $0) } ?? rows
        }
    }
}

extension RelationalPlan {
    /// RETURNING asks something of other rows.
    fileprivate var isOverChange: Bool {
        if case .modify = self { return false }
        return writtenCollection != nil
    }

    /// The same, where the change's rows do not count for the statement.
    var uncounted: RelationalPlan {
        switch self {
        case .modify(var plan):
            plan.isCounted = false
            return .modify(plan)
        case .with(let tables, let child): return .with(tables, child.uncounted)
        case .project(let child, let projections): return .project(child.uncounted, projections)
        case .apply(let left, let right, .value(let subquery, let attribute)):
            return .apply(left.uncounted, right, .value(subquery, attribute))
        case .single, .scan, .values, .input, .filter, .join, .merge, .apply, .aggregate, .sort, .limit, .distinct,
            .combine,
            .rows, .unroll, .window, .shared, .working, .recursive, .lock:
            return self
        }
    }

    /// What a part of a statement changes.
    fileprivate var writtenCollection: CollectionID? {
        switch self {
        case .modify(let plan): plan.collection.id
        case .with(_, let child), .project(let child, _), .apply(let child, _, .value): child.writtenCollection
        case .single, .scan, .values, .input, .filter, .join, .merge, .apply, .aggregate, .sort, .limit, .distinct,
            .combine,
            .rows, .unroll, .window, .shared, .working, .recursive, .lock:
            nil
        }
    }
}
