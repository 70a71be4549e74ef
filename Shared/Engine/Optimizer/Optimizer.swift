import Base
import DataModel

/// Rules, one file each, put to a plan in a fixed order.
enum Optimizer {
    static func optimize(
        _ plan: RelationalPlan, needed: Set<Attribute>, _ settings: EngineSettings
    ) throws(StatementError) -> RelationalPlan {
        let avoidsScans = settings.avoidsScans
        var plan = try SemiJoinRule.apply(plan)
        plan = try PredicatePushdownRule.apply(plan)
        plan = try KeyLookupRule.apply(plan)
        let estimator = Estimator(plan)
        plan = try IndexLookupRule.apply(plan, estimator, avoidsScans: avoidsScans)
        plan = JoinOrderRule.apply(plan, estimator)
        plan = try LookupJoinRule.apply(plan, estimator)
        plan = try LockingScanRule.apply(plan)
        plan = TopRowsRule.apply(plan)
        plan = OrderedScanRule.apply(plan, estimator, avoidsScans: avoidsScans)
        plan = ExtremeRule.apply(plan, OrderedScanRule(estimator: estimator, avoidsScans: avoidsScans))
        plan = ColumnPruningRule.apply(plan, needed: needed)
        return OrderRule.apply(plan, estimator, settings)
    }
}

extension RelationalPlan {
    /// The plan with `change` put to every node, from below.
    func transformed(_ change: (RelationalPlan) throws(StatementError) -> RelationalPlan) throws(StatementError)
        -> RelationalPlan
    {
        var fresh: [RelationalPlan] = []
        for child in children { fresh.append(try child.transformed(change)) }
        return try change(replacingChildren(fresh))
    }
}
