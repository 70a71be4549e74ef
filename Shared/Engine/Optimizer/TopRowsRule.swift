import Base
import DataModel

/// A limit over a sort: the sort need not keep more rows than that. A limit over a scan: it need not read more.
enum TopRowsRule {
    static func apply(_ plan: RelationalPlan) -> RelationalPlan {
        let plan = plan.replacingChildren(plan.children.map { apply($0) })
        guard case .limit(let child, let limits) = plan, limits.offset == nil, limits.ties == nil,
            let count = limits.count
        else { return plan }
        return .limit(pushed(count, into: child), limits)
    }

    private static func pushed(_ count: BoundExpression, into plan: RelationalPlan) -> RelationalPlan {
        switch plan {
        case .sort(let child, let terms, _): return .sort(child, terms, limit: count)
        case .project(let child, let projections): return .project(pushed(count, into: child), projections)
        case .scan(var scan) where !scan.isForUpdate || scan.filter == nil:
            scan.limit = count
            return .scan(scan)
        default: return plan  // Others may drop or make rows.
        }
    }
}
