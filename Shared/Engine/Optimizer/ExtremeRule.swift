import Base
import DataModel

/// min and max of a column without groups are the first value in the order of a key or of an index, from the one end or
/// the other: one row is read for each.
enum ExtremeRule {
    static func apply(_ plan: RelationalPlan, _ rule: OrderedScanRule) -> RelationalPlan {
        let plan = plan.replacingChildren(plan.children.map { apply($0, rule) })
        guard case .aggregate(let aggregate) = plan, aggregate.groups.isEmpty, aggregate.sets == [[]],
            aggregate.groupingID == nil, !aggregate.calls.isEmpty
        else { return plan }
        var parts: [RelationalPlan] = []
        for (attribute, call) in aggregate.calls {
            guard let rows = firstRow(for: call, of: aggregate.child, rule) else { return plan }
            var part = aggregate
            part.child = rows
            part.calls = [(attribute, call)]
            parts.append(.aggregate(part))
        }
        // Each of them is one row.
        return parts.dropFirst().reduce(parts[0]) { .join(.inner, $0, $1, condition: nil) }
    }

    private static func firstRow(for call: AggregateCall, of child: RelationalPlan, _ rule: OrderedScanRule)
        -> RelationalPlan?
    {
        guard ["min", "max"].contains(call.function.name), call.arguments.count == 1, call.filter == nil,
            let attribute = call.arguments[0].attribute, let (scan, source) = source(of: attribute, in: child)
        else { return nil }
        var rows = scan
        let isFilled =
            scan.outputs.first { $0.attribute == source }?.column.map { column in
                scan.collection.primaryKey.contains(column) || scan.collection.column(column)?.isNotNull == true
            } ?? false
        if !isFilled {
            let value = BoundExpression.attribute(source, call.arguments[0].type)
            let condition = BoundExpression(form: .isNull(value, isNegated: true), type: .bool)
            rows.filter = BoundExpression.all((scan.filter?.conjuncts ?? []) + [condition])
        }
        let isDescending = call.function.name == "max"
        let term = SortTerm(
            expression: .attribute(attribute, call.arguments[0].type), isDescending: isDescending,
            isNullsFirst: isDescending)
        let one = LimitPlan(count: .constant(.integer(1), .int64))
        return rule.ordered(replacingScan(of: child, with: rows), [term], one, sortLimit: one.count)
            .map { .limit($0, one) }
    }

    /// The scan whose column an attribute is, if nothing but projections lies over it.
    private static func source(of attribute: Attribute, in plan: RelationalPlan) -> (ScanPlan, Attribute)? {
        switch plan {
        case .scan(let scan): return (scan, attribute)
        case .project(let child, let projections):
            let below = projections.first { $0.attribute == attribute }?.expression.attribute
            return below.flatMap { source(of: $0, in: child) }
        default: return nil  // Other rows than those of a table.
        }
    }

    private static func replacingScan(of plan: RelationalPlan, with scan: ScanPlan) -> RelationalPlan {
        if case .project(let child, let projections) = plan {
            return .project(replacingScan(of: child, with: scan), projections)
        }
        return .scan(scan)
    }
}
