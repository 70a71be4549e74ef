import Base
import DataModel

extension RelationalPlan {
    /// The plan with every expression of it and of those below put through `change`.
    func rewritingExpressions(_ change: (BoundExpression) throws(StatementError) -> BoundExpression)
        throws(StatementError) -> RelationalPlan
    {
        var fresh: [RelationalPlan] = []
        for child in children { fresh.append(try child.rewritingExpressions(change)) }
        return try replacingChildren(fresh).rewritingOwnExpressions(change)
    }

    private func rewritingOwnExpressions(_ change: (BoundExpression) throws(StatementError) -> BoundExpression)
        throws(StatementError) -> RelationalPlan
    {
        switch self {
        case .single, .input, .shared, .working, .with, .combine, .recursive: return self
        case .lock(let child, var plan):
            plan.condition = try maybe(plan.condition, change)
            plan.limits = try all(plan.limits, change)
            return .lock(child, plan)
        case .scan(var scan):
            scan.filter = try maybe(scan.filter, change)
            scan.limit = try maybe(scan.limit, change)
            if let keys = scan.keys { scan.keys = try rewritten(keys, change) }
            if let use = scan.index { scan.index?.condition = try rewritten(use.condition, change) }
            if var order = scan.order {
                order.condition = try rewritten(order.condition, change)
                order.terms = try terms(order.terms, change)
                order.sortLimit = try maybe(order.sortLimit, change)
                order.count = try maybe(order.count, change)
                order.offset = try maybe(order.offset, change)
                scan.order = order
            }
            if let lookup = scan.lookup {
                scan.lookup = ScanLookup(index: lookup.index, values: try all(lookup.values, change))
            }
            return .scan(scan)
        case .values(let rows, let outputs):
            var fresh: [[BoundExpression]] = []
            for row in rows { fresh.append(try all(row, change)) }
            return .values(rows: fresh, outputs: outputs)
        case .filter(let child, let condition): return .filter(child, try change(condition))
        case .project(let child, let list): return .project(child, try projections(list, change))
        case .join(let kind, let left, let right, let condition):
            return .join(kind, left, right, condition: try maybe(condition, change))
        case .apply(let left, let right, .join(let isLeft, let condition)):
            return .apply(left, right, .join(isLeft: isLeft, condition: try maybe(condition, change)))
        case .apply(let left, let right, .value(var subquery, let attribute)):
            subquery.comparands = try all(subquery.comparands, change)
            subquery.compared = try all(subquery.compared, change)
            return .apply(left, right, .value(subquery, attribute))
        case .merge(let plan): return .merge(try plan.rewriting(change))
        case .aggregate(let plan): return .aggregate(try plan.rewriting(change))
        case .sort(let child, let list, let limit):
            return .sort(child, try terms(list, change), limit: try maybe(limit, change))
        case .limit(let child, var plan):
            plan.count = try maybe(plan.count, change)
            plan.offset = try maybe(plan.offset, change)
            if let ties = plan.ties { plan.ties = try terms(ties, change) }
            return .limit(child, plan)
        case .distinct(let child, let on):
            if let on { return .distinct(child, on: try all(on, change)) }
            return self
        case .rows(var plan):
            plan.arguments = try all(plan.arguments, change)
            return .rows(plan)
        case .unroll(let child, var calls):
            for index in calls.indices { calls[index].call = try change(calls[index].call) }
            return .unroll(child, calls)
        case .window(let child, var calls):
            for index in calls.indices {
                calls[index].call = calls[index].call.replacingOperands(try all(calls[index].call.operands, change))
            }
            return .window(child, calls)
        case .modify(let plan): return .modify(try plan.rewriting(change))
        }
    }
}

extension MergePlan {
    fileprivate func rewriting(_ change: (BoundExpression) throws(StatementError) -> BoundExpression)
        throws(StatementError) -> MergePlan
    {
        var plan = self
        for index in keys.indices {
            plan.keys[index].left = try change(keys[index].left)
            plan.keys[index].right = try change(keys[index].right)
        }
        plan.rest = try maybe(rest, change)
        return plan
    }
}

extension AggregatePlan {
    fileprivate func rewriting(_ change: (BoundExpression) throws(StatementError) -> BoundExpression)
        throws(StatementError) -> AggregatePlan
    {
        var plan = self
        plan.groups = try projections(groups, change)
        if let runs { plan.runs = try terms(runs, change) }
        for index in calls.indices {
            plan.calls[index].call = calls[index].call.replacingOperands(
                try all(calls[index].call.operands, change))
        }
        return plan
    }
}

extension ModifyPlan {
    fileprivate func rewriting(_ change: (BoundExpression) throws(StatementError) -> BoundExpression)
        throws(StatementError) -> ModifyPlan
    {
        var plan = self
        for index in plan.checks.indices { plan.checks[index].condition = try change(plan.checks[index].condition) }
        plan.returning = try projections(plan.returning, change)
        if case .insert(.update(let values, let condition)) = plan.action {
            plan.action = .insert(.update(try all(values, change), condition: try maybe(condition, change)))
        }
        return plan
    }
}

private typealias Change = (BoundExpression) throws(StatementError) -> BoundExpression

private func all(_ list: [BoundExpression], _ change: Change) throws(StatementError) -> [BoundExpression] {
    var fresh: [BoundExpression] = []
    for expression in list { fresh.append(try change(expression)) }
    return fresh
}

private func maybe(_ expression: BoundExpression?, _ change: Change) throws(StatementError) -> BoundExpression? {
    if let expression { return try change(expression) }
    return nil
}

private func terms(_ list: [SortTerm], _ change: Change) throws(StatementError) -> [SortTerm] {
    var fresh = list
    for index in list.indices { fresh[index].expression = try change(list[index].expression) }
    return fresh
}

private func projections(_ list: [Projection], _ change: Change) throws(StatementError) -> [Projection] {
    var fresh = list
    for index in list.indices { fresh[index].expression = try change(list[index].expression) }
    return fresh
}

private func rewritten(_ condition: KeyCondition, _ change: Change) throws(StatementError) -> KeyCondition {
    var fresh = condition
    for part in condition.equal.indices {
        for (place, choice) in condition.equal[part].enumerated() {
            switch choice {
            case .value(let value): fresh.equal[part][place] = .value(try change(value))
            case .elements(let array): fresh.equal[part][place] = .elements(try change(array))
            case .null: break
            }
        }
    }
    if let bound = condition.lower { fresh.lower?.expression = try change(bound.expression) }
    if let bound = condition.upper { fresh.upper?.expression = try change(bound.expression) }
    fresh.pattern = try maybe(condition.pattern, change)
    return fresh
}
