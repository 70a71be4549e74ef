import Base
import DataModel

/// Marks scans that shards may carry out with all that is done with their rows, and has an aggregate over one computed
/// in parts: each shard makes states of its rows, and the aggregate merges them.
///
/// The last of all rules: no other knows of states.
struct FragmentRule {
    private var count = 0
    /// Unused numbers begin here.
    private var nextAttribute: Int32

    /// `attributes`: how many the statement has; more may be needed for the states.
    static func apply(_ plan: RelationalPlan, attributes: inout Int32) -> RelationalPlan {
        var rule = FragmentRule(nextAttribute: attributes)
        let result = rule.marked(plan)
        attributes = rule.nextAttribute
        return result
    }

    private init(nextAttribute: Int32) { self.nextAttribute = nextAttribute }

    private mutating func marked(_ plan: RelationalPlan) -> RelationalPlan {
        switch plan {
        case .scan(let scan): return .scan(marked(scan))
        case .aggregate(var aggregate):
            guard case .scan(let scan) = aggregate.child else { break }
            var fragment = marked(scan)
            aggregate.child = .scan(fragment)
            guard fragment.fragment != nil, let partial = partial(aggregate, scan) else { return .aggregate(aggregate) }
            fragment.partial = partial
            aggregate.child = .scan(fragment)
            aggregate.states = partial.states
            // The keys come under their own attributes.
            aggregate.groups = aggregate.groups.map {
                Projection(attribute: $0.attribute, expression: .attribute($0.attribute, $0.expression.type))
            }
            return .aggregate(aggregate)
        case .single, .values, .input, .filter, .project, .join, .merge, .apply, .sort, .limit, .distinct, .combine,
            .rows,
            .unroll, .window, .with, .shared, .working, .recursive, .modify, .lock:
            break
        }
        return plan.replacingChildren(plan.children.map { marked($0) })
    }

    private mutating func marked(_ scan: ScanPlan) -> ScanPlan {
        // Rows that are found by entries or keys are read one by one.
        guard !SystemCatalogs.isSystem(scan.collection), !scan.isForUpdate, scan.keys?.isComplete != true,
            scan.index == nil, scan.lookup == nil, scan.order == nil,
            isLocal(scan.filter.map { [$0] } ?? [], scan), scan.outputs.allSatisfy({ $0.column != nil })
        else { return scan }
        var marked = scan
        marked.fragment = count
        count += 1
        return marked
    }

    /// Whether expressions ask for nothing but the row: not for rows of outer queries, and nothing that changes.
    private func isLocal(_ expressions: [BoundExpression], _ scan: ScanPlan) -> Bool {
        let own = Set(scan.attributes)
        return expressions.allSatisfy { !$0.isVolatile && $0.attributes.isSubset(of: own) }
    }

    /// Nil for an aggregate that needs all rows in one place.
    private mutating func partial(_ plan: AggregatePlan, _ scan: ScanPlan) -> PartialPlan? {
        guard plan.sets == [Array(plan.groups.indices)], plan.groupingID == nil, scan.limit == nil,
            isLocal(plan.groups.map(\.expression) + plan.calls.flatMap { $0.call.operands }, scan)
        else { return nil }
        var states: [OutputColumn] = []
        for (_, call) in plan.calls {
            guard !call.isDistinct, call.order.isEmpty,
                let accumulator = call.function.make(call.arguments.map(\.type), call.type) as? any PartialAccumulator
            else { return nil }
            states.append(
                OutputColumn(
                    attribute: Attribute(id: nextAttribute), name: "", type: accumulator.stateType(call.type)))
            nextAttribute += 1
        }
        return PartialPlan(groups: plan.groups, calls: plan.calls.map(\.call), states: states)
    }
}

extension RelationalPlan {
    /// The scans that are marked, in the order of their numbers.
    var fragments: [ScanFragment] {
        if case .scan(let scan) = self { return ScanFragment(scan).map { [$0] } ?? [] }
        return children.flatMap(\.fragments).sorted { $0.number < $1.number }
    }
}
