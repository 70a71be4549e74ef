import DataModel

// What a plan makes and what it needs from outside.

extension RelationalPlan {
    /// The attributes of its rows, in the order of their columns.
    var attributes: [Attribute] {
        switch self {
        case .single: []
        case .scan(let scan): scan.attributes
        case .values(_, let outputs), .shared(_, let outputs), .working(_, let outputs), .input(let outputs):
            outputs.map(\.attribute)
        case .filter(let child, _), .sort(let child, _, _), .limit(let child, _), .distinct(let child, _),
            .with(_, let child), .lock(let child, _):
            child.attributes
        case .project(_, let projections): projections.map(\.attribute)
        case .join(let kind, let left, let right, _):
            kind == .semi || kind == .anti ? left.attributes : left.attributes + right.attributes
        case .merge(let plan):
            plan.kind == .semi || plan.kind == .anti
                ? plan.left.attributes : plan.left.attributes + plan.right.attributes
        case .apply(let left, let right, let kind):
            switch kind {
            case .join: left.attributes + right.attributes
            case .value(_, let attribute): left.attributes + [attribute]
            }
        case .aggregate(let plan): plan.attributes
        case .combine(let plan): plan.outputs.map(\.attribute)
        case .rows(let plan): plan.outputs.map(\.attribute) + (plan.ordinality.map { [$0] } ?? [])
        case .unroll(let child, let calls): child.attributes + calls.map(\.attribute)
        case .window(let child, let calls): child.attributes + calls.map(\.attribute)
        case .recursive(let plan): plan.outputs.map(\.attribute)
        case .modify(let plan): plan.outputs.map(\.attribute)
        }
    }

    /// The plans right below, those of subqueries included.
    var children: [RelationalPlan] {
        switch self {
        case .single, .scan, .values, .input, .shared, .working, .rows: []
        case .filter(let child, _), .sort(let child, _, _), .limit(let child, _), .distinct(let child, _),
            .lock(let child, _), .project(let child, _), .unroll(let child, _), .window(let child, _):
            [child]
        case .with(let tables, let child): tables.map(\.plan) + [child]
        case .join(_, let left, let right, _), .apply(let left, let right, _): [left, right]
        case .merge(let plan): [plan.left, plan.right]
        case .aggregate(let plan): [plan.child]
        case .combine(let plan): [plan.left, plan.right]
        case .recursive(let plan): [plan.start, plan.step]
        case .modify(let plan): [plan.child]
        }
    }

    /// The expressions of this node alone.
    var expressions: [BoundExpression] {
        switch self {
        case .single, .input, .shared, .working, .with, .combine, .recursive: []
        case .lock(_, let plan):
            plan.relations.map { .attribute($0.key, .bytes) } + (plan.condition.map { [$0] } ?? []) + plan.limits
        case .scan(let scan):
            (scan.filter.map { [$0] } ?? []) + (scan.keys?.expressions ?? [])
                + (scan.index?.condition.expressions ?? []) + (scan.limit.map { [$0] } ?? [])
                + (scan.partial?.expressions ?? []) + (scan.order?.expressions ?? [])
        case .values(let rows, _): rows.flatMap { $0 }
        case .filter(_, let condition): [condition]
        case .project(_, let projections): projections.map(\.expression)
        case .join(_, _, _, let condition): condition.map { [$0] } ?? []
        case .merge(let plan): plan.keys.flatMap { [$0.left, $0.right] } + (plan.rest.map { [$0] } ?? [])
        case .apply(_, _, let kind):
            switch kind {
            case .join(_, let condition): condition.map { [$0] } ?? []
            case .value(let subquery, _): subquery.comparands + subquery.compared
            }
        case .aggregate(let plan):
            plan.groups.map(\.expression)
                + (plan.states?.map { .attribute($0.attribute, $0.type) } ?? plan.calls.flatMap { $0.call.operands })
                + (plan.runs?.map(\.expression) ?? [])
        case .sort(_, let terms, let limit): terms.map(\.expression) + (limit.map { [$0] } ?? [])
        case .limit(_, let plan):
            [plan.count, plan.offset].compactMap { $0 } + (plan.ties?.map(\.expression) ?? [])
        case .distinct(_, let on): on ?? []
        case .rows(let plan): plan.arguments
        case .unroll(_, let calls): calls.map(\.call)
        case .window(_, let calls): calls.flatMap { $0.call.operands }
        case .modify(let plan):
            plan.checks.map(\.condition) + plan.returning.map(\.expression) + plan.conflictExpressions
        }
    }

    /// What this node and those below make.
    private func collectMade(into made: inout Set<Attribute>) {
        made.formUnion(attributes)
        if case .scan(let scan) = self, scan.partial != nil { made.formUnion(scan.outputs.map(\.attribute)) }
        if case .modify(let plan) = self {
            made.formUnion(plan.old.map(\.attribute))
        }
        for child in children { child.collectMade(into: &made) }
    }

    private func collectUsed(into used: inout Set<Attribute>) {
        for expression in expressions { expression.collectAttributes(into: &used) }
        for child in children { child.collectUsed(into: &used) }
        // A WITH query that lies further out may read what is outside of it, and of this.
        if case .shared(let table, _) = self { used.formUnion(table.plan.freeAttributes) }
    }

    /// The attributes of which something is made here or below, or asked; not those that are only passed on.
    func collectRead(into read: inout Set<Attribute>) {
        switch self {
        case .project(_, let projections):
            for projection in projections where projection.expression.attribute != projection.attribute {
                projection.expression.collectAttributes(into: &read)
            }
        case .combine(let plan): read.formUnion(plan.leftAttributes + plan.rightAttributes)
        case .recursive(let plan): read.formUnion(plan.startAttributes + plan.stepAttributes)
        case .apply(_, _, .value(let subquery, _)):
            read.formUnion(subquery.outputs.map(\.attribute))
            for expression in expressions { expression.collectAttributes(into: &read) }
        case .single, .scan, .values, .input, .filter, .join, .merge, .apply, .aggregate, .sort, .limit, .distinct,
            .rows, .unroll, .window, .with, .shared, .working, .modify, .lock:
            for expression in expressions { expression.collectAttributes(into: &read) }
        }
        if case .with(let tables, _) = self { read.formUnion(tables.flatMap { $0.outputs.map(\.attribute) }) }
        for child in children { child.collectRead(into: &read) }
    }

    /// The attributes that it reads and does not make: the columns of outer queries.
    var freeAttributes: Set<Attribute> {
        var made: Set<Attribute> = [], used: Set<Attribute> = []
        collectMade(into: &made)
        collectUsed(into: &used)
        return used.subtracting(made)
    }

    /// Which of these attributes is read first in the text of the statement, and where.
    func firstReading(of wanted: Set<Attribute>) -> (attribute: Attribute, position: Int32)? {
        var first: (attribute: Attribute, position: Int32)?
        func look(_ plan: RelationalPlan) {
            for expression in plan.expressions {
                _ = expression.contains { part in
                    guard case .attribute(let attribute) = part.form, wanted.contains(attribute), part.position > 0,
                        part.position < first?.position ?? .max
                    else { return false }
                    first = (attribute, part.position)
                    return false
                }
            }
            for child in plan.children { look(child) }
            if case .shared(let table, _) = plan { look(table.plan) }
        }
        look(self)
        return first
    }

    /// The same node over other plans, as many as `children` has.
    func replacingChildren(_ fresh: [RelationalPlan]) -> RelationalPlan {
        switch self {
        case .single, .scan, .values, .input, .shared, .working, .rows: return self
        case .filter(_, let condition): return .filter(fresh[0], condition)
        case .sort(_, let terms, let limit): return .sort(fresh[0], terms, limit: limit)
        case .limit(_, let plan): return .limit(fresh[0], plan)
        case .distinct(_, let on): return .distinct(fresh[0], on: on)
        case .lock(_, let plan): return .lock(fresh[0], plan)
        case .project(_, let projections): return .project(fresh[0], projections)
        case .unroll(_, let calls): return .unroll(fresh[0], calls)
        case .window(_, let calls): return .window(fresh[0], calls)
        case .with(let tables, _):
            let changed = zip(tables, fresh).map { table, plan in
                CommonTable(id: table.id, name: table.name, plan: plan, outputs: table.outputs, use: table.use)
            }
            return .with(changed, fresh[fresh.count - 1])
        case .join(let kind, _, _, let condition): return .join(kind, fresh[0], fresh[1], condition: condition)
        case .apply(_, _, let kind): return .apply(fresh[0], fresh[1], kind)
        case .merge(var plan):
            (plan.left, plan.right) = (fresh[0], fresh[1])
            return .merge(plan)
        case .aggregate(var plan):
            plan.child = fresh[0]
            return .aggregate(plan)
        case .combine(var plan):
            (plan.left, plan.right) = (fresh[0], fresh[1])
            return .combine(plan)
        case .recursive(var plan):
            (plan.start, plan.step) = (fresh[0], fresh[1])
            return .recursive(plan)
        case .modify(var plan):
            plan.child = fresh[0]
            return .modify(plan)
        }
    }
}

extension KeyCondition {
    var expressions: [BoundExpression] {
        equal.flatMap { $0 }.compactMap(\.expression)
            + [lower?.expression, upper?.expression, pattern].compactMap { $0 }
    }
}

extension KeyCondition.Choice {
    var expression: BoundExpression? {
        switch self {
        case .value(let value), .elements(let value): value
        case .null: nil
        }
    }
}

extension ModifyPlan {
    var conflictExpressions: [BoundExpression] {
        guard case .insert(.update(let values, let condition)) = action else { return [] }
        return values + (condition.map { [$0] } ?? [])
    }
}
