import Base
import DataModel

/// Joins and groups along an order (`MergeJoinOperator`, `RunAggregateOperator`) where that costs less than a hash
/// table, or where there is no room for one: under a limit over a sort, if the rows come in that order by themselves,
/// so that no more are read than are wanted; and where a table of the keys would need more memory than a statement may
/// have.
struct OrderRule {
    /// Without statistics, an order has to be that many times cheaper.
    private static let doubt = 3.0
    /// Plans of more joins stay as they are: each order of each side would be tried.
    private static let mostJoins = 6

    let estimator: Estimator
    let settings: EngineSettings

    static func apply(_ plan: RelationalPlan, _ estimator: Estimator, _ settings: EngineSettings) -> RelationalPlan {
        OrderRule(estimator: estimator, settings: settings).applied(plan)
    }

    func applied(_ plan: RelationalPlan) -> RelationalPlan {
        switch plan {
        case .limit(let child, let limit) where limit.count != nil:
            if let ordered = underLimit(child, limit) { return .limit(ordered, limit) }
        case .sort(let child, let terms, let limit):
            if let core = core(child), isTooLarge(core), let ordered = ordered(child, terms, part: 1) {
                return ordered
            }
            let child = applied(child)
            return child.deliveredOrder.begins(with: terms) ? child : .sort(child, terms, limit: limit)
        case .aggregate(let aggregate) where isTooLarge(plan):
            if let ordered = grouped(aggregate, [], part: 1) { return ordered }
        case .join(let kind, let left, let right, let condition) where isTooLarge(plan):
            if let ordered = merged(kind, left, right, condition, [], part: 1) { return ordered }
        default: break  // It keeps no table of keys.
        }
        return plan.replacingChildren(plan.children.map { applied($0) })
    }

    /// What is under a limit in the order of the sort in it, read as far as the limit goes; nil: it is not worth it.
    private func underLimit(_ plan: RelationalPlan, _ limit: LimitPlan) -> RelationalPlan? {
        switch plan {
        case .project(let child, let projections):
            return underLimit(child, limit).map { .project($0, projections) }
        case .sort(let child, let terms, let sortLimit):
            guard core(child) != nil, plan.joinCount <= Self.mostJoins else { return nil }
            let part = min(estimator.wanted(limit.count, limit.offset) / estimator.rows(child), 1)
            guard let candidate = ordered(child, terms, part: part) else { return nil }
            let usual = RelationalPlan.sort(applied(child), terms, limit: sortLimit)
            let doubt = child.isCounted ? 1 : Self.doubt
            return estimator.cost(candidate) * doubt < estimator.cost(usual) ? candidate : nil
        default: return nil  // Others may drop or make rows.
        }
    }

    /// The join or the aggregate whose rows these are.
    private func core(_ plan: RelationalPlan) -> RelationalPlan? {
        switch plan {
        case .project(let child, _), .filter(let child, _), .apply(let child, _, .value): core(child)
        case .join, .aggregate: plan
        default: nil  // Rows of something else.
        }
    }

    // MARK: Room

    /// What a table of keys, or the rows of a sort, may take: a statement has several such.
    private var room: Double { Double(settings.memoryLimit) * 0.75 }

    /// Whether a hash table for it is too large, or not wanted.
    func isTooLarge(_ plan: RelationalPlan) -> Bool {
        switch plan {
        case .aggregate(let aggregate): return settings.avoidsHashAggregates || bytes(aggregate) > room
        case .join(_, let left, let right, let condition):
            guard plan.joinCount <= Self.mostJoins else { return false }
            if settings.avoidsHashJoins { return true }
            if case .scan(let scan) = right, scan.lookup != nil, estimator.looksUp(scan, for: left) { return false }
            let keys = JoinCondition(condition, left: Set(left.attributes), right: Set(right.attributes)).equations
            let width = estimator.width(right.attributes) + 48 + 9 * keys.count
            return estimator.rows(right) * Double(width) > room
        default: return false  // It keeps no table of keys.
        }
    }

    /// What the groups take.
    private func bytes(_ plan: AggregatePlan) -> Double {
        if plan.groups.isEmpty { return 0 }
        let rows = estimator.rows(plan.child)
        let width = plan.groups.reduce(0) { sum, group in
            sum + (group.expression.attribute.map { estimator.width([$0]) } ?? 16)
        }
        let each = 48 + width + 24 * (plan.groups.count + plan.calls.count)
        var bytes = estimator.rows(.aggregate(plan)) * Double(each)
        for (_, call) in plan.calls {
            let isGathered = call.function.make(call.arguments.map(\.type), call.type) is GatheringAccumulator
            if call.isDistinct || !call.order.isEmpty || isGathered { bytes += rows * 64 }
        }
        return bytes
    }

    /// The rows of one side of a join in an order: as they come, or sorted if there is room for them.
    func inOrder(_ plan: RelationalPlan, _ terms: [SortTerm], part: Double) -> RelationalPlan? {
        let ordered = ordered(plan, terms, part: part)
        if ordered != nil, !plan.isScan { return ordered }
        let bytes = estimator.rows(plan) * Double(estimator.width(plan.attributes) + 16)
        guard settings.avoidsHashJoins || bytes < room / 2 else { return ordered }
        let sorted = RelationalPlan.sort(applied(plan), terms, limit: nil)
        guard let ordered, estimator.cost(ordered) <= estimator.cost(sorted) else { return sorted }
        return ordered
    }
}

extension RelationalPlan {
    /// The order in which its rows come, as far as it has one.
    var deliveredOrder: [SortTerm] {
        switch self {
        case .scan(let scan): return scan.order?.terms ?? []
        case .sort(_, let terms, _): return terms
        case .filter(let child, _), .limit(let child, _), .apply(let child, _, .value): return child.deliveredOrder
        case .project(let child, let projections):
            var terms: [SortTerm] = []
            for var term in child.deliveredOrder {
                guard let source = term.expression.attribute,
                    let projection = projections.first(where: { $0.expression.attribute == source })
                else { break }
                term.expression = .attribute(projection.attribute, term.expression.type)
                terms.append(term)
            }
            return terms
        case .merge(let plan):
            switch plan.kind {
            case .inner, .left, .semi, .anti: return plan.left.deliveredOrder
            case .right: return Array(plan.right.deliveredOrder.prefix(plan.keys.count))
            case .full: return []
            }
        case .aggregate(let plan):
            return (plan.runs ?? []).compactMap { run in
                plan.groups.first { $0.expression.attribute == run.expression.attribute }.map { group in
                    var term = run
                    term.expression = .attribute(group.attribute, group.expression.type)
                    return term
                }
            }
        case .single, .values, .input, .join, .apply, .distinct, .combine, .rows, .unroll, .window, .with, .shared,
            .working, .recursive, .modify, .lock:
            return []
        }
    }

    /// How many joins it has.
    fileprivate var joinCount: Int {
        var count = children.reduce(0) { $0 + $1.joinCount }
        if case .join = self { count += 1 }
        return count
    }

    /// Rows of one table, and nothing else.
    fileprivate var isScan: Bool {
        switch self {
        case .scan: true
        case .project(let child, _), .filter(let child, _): child.isScan
        default: false  // Rows of something else.
        }
    }
}

extension [SortTerm] {
    /// Whether rows in this order are in the order of `terms`.
    func begins(with terms: [SortTerm]) -> Bool {
        guard terms.count <= count else { return false }
        return zip(self, terms).allSatisfy { mine, other in
            mine.expression.attribute != nil && mine.expression.attribute == other.expression.attribute
                && mine.isDescending == other.isDescending && mine.isNullsFirst == other.isNullsFirst
        }
    }
}
