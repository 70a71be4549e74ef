import DataModel

/// A node of a plan as EXPLAIN shows it. Projections are not shown, filters and joins are by what they do.
struct ExplainTree {
    /// Of the node among all of the plan (`ExplainProbe`).
    let number: Int
    var kind: String
    /// What is thought of it before it is executed.
    var estimate = Estimate()
    var relation: String?
    var alias: String?
    var details: [(label: String, value: String)] = []
    var children: [ExplainTree] = []
    /// What a part is called that does not simply feed the node above it: `CTE name`.
    var section: String?

    struct Estimate {
        /// Until the first row, and in all.
        var start = 0.0, total = 0.0
        var rows = 0.0
        var width = 0
    }

    var title: String {
        guard let relation else { return kind }
        return "\(kind) on \(relation)" + (alias.map { $0 == relation ? "" : " " + $0 } ?? "")
    }

    static func make(_ plan: RelationalPlan, _ settings: EngineSettings, isVerbose: Bool) -> ExplainTree {
        var builder = ExplainBuilder(plan, settings, isVerbose: isVerbose)
        return builder.node(plan)
    }
}

/// Walks a plan from the root down, children in their order, as it is compiled.
private struct ExplainBuilder {
    private var text: ShownExpression
    private let estimator: Estimator
    private let isVerbose: Bool
    private let isQualified: Bool
    private var count = 0
    private var subplans = 0

    init(_ plan: RelationalPlan, _ settings: EngineSettings, isVerbose: Bool) {
        text = ShownExpression(settings: settings)
        estimator = Estimator(plan)
        self.isVerbose = isVerbose
        isQualified = isVerbose || plan.relationCount > 1
    }

    mutating func node(_ plan: RelationalPlan) -> ExplainTree {
        var tree = ExplainTree(number: count, kind: "", estimate: estimate(plan))
        count += 1
        switch plan {
        case .project(let child, let projections): return project(child, projections)
        case .with(let tables, let child): return with(tables, child)
        case .modify(let modify): return self.modify(modify, tree)
        case .scan(let scan): describe(scan, &tree)
        case .apply(let left, let right, let kind): return apply(left, right, kind, tree)
        case .single: tree.kind = "Result"
        case .input(let outputs):
            tree.kind = "Input"
            name(outputs, nil)
        case .values(let rows, let outputs):
            tree.kind = "Values Scan"
            tree.details.append(("Rows", "\(rows.count)"))
            name(outputs, "\"*VALUES*\"")
        case .rows(let rows):
            tree.kind = "Function Scan"
            tree.relation = rows.function.name.isEmpty ? "expression" : rows.function.name
            name(rows.outputs, rows.function.name)
            if isVerbose {
                tree.details.append(("Function Call", "\(rows.function.name)(\(text.list(rows.arguments)))"))
            }
        case .shared(let table, let outputs):
            (tree.kind, tree.relation) = ("CTE Scan", table.name)
            name(outputs, table.name)
        case .working(_, let outputs):
            tree.kind = "WorkTable Scan"
            name(outputs, nil)
        case .filter, .join, .merge, .aggregate, .sort, .limit, .distinct, .combine, .unroll, .window, .recursive,
            .lock:
            tree.children = plan.children.map { node($0) }
            describe(plan, &tree)
        }
        return tree
    }

    private func estimate(_ plan: RelationalPlan) -> ExplainTree.Estimate {
        var estimate = ExplainTree.Estimate(total: estimator.cost(plan), rows: estimator.rows(plan))
        estimate.width = estimator.width(plan.attributes)
        switch plan {
        case .sort, .aggregate, .window: estimate.start = plan.children.reduce(0) { $0 + estimator.cost($1) }
        case .single, .scan, .values, .input, .filter, .project, .join, .merge, .apply, .limit, .distinct, .combine,
            .rows, .unroll, .with, .shared, .working, .recursive, .modify, .lock:
            break
        }
        if case .modify(let modify) = plan, modify.returning.isEmpty { (estimate.rows, estimate.width) = (0, 0) }
        return estimate
    }

    private mutating func name(_ outputs: [OutputColumn], _ relation: String?) {
        for output in outputs {
            text.name(output.attribute, isQualified ? (relation.map { $0 + "." } ?? "") + output.name : output.name)
        }
    }

    private mutating func project(_ child: RelationalPlan, _ projections: [Projection]) -> ExplainTree {
        var tree = node(child)
        for projection in projections where text.names[projection.attribute] == nil {
            text.name(projection.attribute, text.text(projection.expression))
        }
        if isVerbose {
            tree.details.removeAll { $0.label == "Output" }
            tree.details.insert(("Output", text.list(projections.map(\.expression))), at: 0)
        }
        return tree
    }

    private mutating func with(_ tables: [CommonTable], _ child: RelationalPlan) -> ExplainTree {
        var sections: [ExplainTree] = []
        for table in tables {
            var section = node(table.plan)
            section.section = table.use == .first ? "Snapshot \(table.name)" : "CTE \(table.name)"
            sections.append(section)
        }
        var tree = node(child)
        tree.children = sections + tree.children
        return tree
    }

    private mutating func modify(_ plan: ModifyPlan, _ empty: ExplainTree) -> ExplainTree {
        var tree = empty
        tree.children = [node(plan.child)]
        tree.relation = plan.collection.name
        switch plan.action {
        case .insert(let conflict):
            tree.kind = "Insert"
            switch conflict {
            case .fail: break
            case .nothing: tree.details.append(("Conflict Resolution", "NOTHING"))
            case .update: tree.details.append(("Conflict Resolution", "UPDATE"))
            }
        case .update: tree.kind = "Update"
        case .delete: tree.kind = "Delete"
        }
        return tree
    }

    private mutating func apply(
        _ left: RelationalPlan, _ right: RelationalPlan, _ kind: ApplyKind, _ empty: ExplainTree
    ) -> ExplainTree {
        var tree = empty
        switch kind {
        case .join(let isLeft, let condition):
            tree.kind = isLeft ? "Nested Loop Left Join" : "Nested Loop"
            tree.children = [node(left), node(right)]
            if let condition { tree.details.append(("Join Filter", text.text(condition))) }
        case .value(_, let attribute):
            tree.kind = "Apply"
            tree.children = [node(left), node(right)]
            subplans += 1
            tree.children[1].section = "SubPlan \(subplans)"
            text.name(attribute, "(SubPlan \(subplans))")
        }
        return tree
    }

    private mutating func describe(_ scan: ScanPlan, _ tree: inout ExplainTree) {
        let alias = scan.alias.isEmpty ? scan.collection.name : scan.alias
        (tree.relation, tree.alias) = (scan.collection.name, alias)
        name(scan.outputs, alias)
        for group in scan.partial?.groups ?? [] { text.name(group.attribute, text.text(group.expression)) }
        if let order = scan.order {
            let name = order.index?.name ?? scan.collection.primaryKeyName
            tree.kind = "Index Scan \(order.isDescending ? "Backward " : "")using \(name)"
            if !order.condition.isEmpty {
                let columns = order.index?.columns ?? scan.collection.primaryKey
                tree.details.append(("Index Cond", condition(order.condition, columns, scan)))
            }
        } else if let keys = scan.keys {
            tree.kind = keys.isComplete ? "Key Lookup" : "Key Range Scan"
            tree.details.append(("Key Cond", condition(keys, scan.collection.primaryKey, scan)))
        } else if let use = scan.index {
            tree.kind = "Index Scan using \(use.index.name)"
            tree.details.append(("Index Cond", condition(use.condition, use.index.columns, scan)))
        } else if let lookup = scan.lookup {
            let known = KeyCondition(equal: lookup.values.map { [.value($0)] })
            tree.kind = lookup.index.map { "Index Scan using \($0.name)" } ?? "Key Lookup"
            let columns = lookup.index?.columns ?? scan.collection.primaryKey
            tree.details.append((lookup.index == nil ? "Key Cond" : "Index Cond", condition(known, columns, scan)))
        } else {
            tree.kind = "Seq Scan"
        }
        if scan.isForUpdate { tree.details.append(("Locks", "rows, as they are read")) }
        // What the keys say is among the conditions; it is asked of the rows all the same.
        if let filter = scan.filter { tree.details.append(("Filter", text.text(filter))) }
        if let limit = scan.limit { tree.details.append(("Limit", text.text(limit))) }
        if isVerbose {
            tree.details.insert(
                ("Output", scan.outputs.map { text.names[$0.attribute] ?? "?" }.joined(separator: ", ")), at: 0)
            if let partial = scan.partial {
                let calls = partial.calls.map { text.aggregate($0) }.joined(separator: ", ")
                tree.details.append(("Partial Aggregate", calls))
            }
        }
    }

    private func condition(_ keys: KeyCondition, _ columns: [ColumnID], _ scan: ScanPlan) -> String {
        let columns = columns.compactMap { scan.collection.column($0)?.name }
        var parts = zip(columns, keys.equal).map { column, choices in self.choices(choices, of: column) }
        if columns.indices.contains(keys.equal.count) {
            let column = columns[keys.equal.count]
            if let lower = keys.lower {
                parts.append("(\(column) \(lower.isInclusive ? ">=" : ">") \(text.text(lower.expression)))")
            }
            if let upper = keys.upper {
                parts.append("(\(column) \(upper.isInclusive ? "<=" : "<") \(text.text(upper.expression)))")
            }
            if let pattern = keys.pattern { parts.append("(\(column) ~~ \(text.text(pattern)))") }
        }
        return parts.count == 1 ? parts[0] : "(\(parts.joined(separator: " AND ")))"
    }

    private func choices(_ choices: [KeyCondition.Choice], of column: String) -> String {
        var values: [String] = [], others: [String] = []
        for choice in choices {
            switch choice {
            case .value(let value): values.append(text.text(value))
            case .elements(let array): others.append("(\(column) = ANY (\(text.text(array))))")
            case .null: others.append("(\(column) IS NULL)")
            }
        }
        if values.count == 1 { others.insert("(\(column) = \(values[0]))", at: 0) }
        if values.count > 1 { others.insert("(\(column) IN (\(values.joined(separator: ", "))))", at: 0) }
        return others.count == 1 ? others[0] : "(\(others.joined(separator: " OR ")))"
    }

    /// Of nodes whose children have been described.
    private mutating func describe(_ plan: RelationalPlan, _ tree: inout ExplainTree) {
        switch plan {
        case .filter(_, let condition):
            tree.kind = "Filter"
            tree.details.append(("Filter", text.text(condition)))
        case .join(let kind, let left, let right, let condition): join(kind, left, right, condition, &tree)
        case .merge(let merge): describe(merge, &tree)
        case .aggregate(let aggregate): describe(aggregate, &tree)
        case .sort(_, let terms, let limit):
            tree.kind = limit == nil ? "Sort" : "Top-N Sort"
            tree.details.append(("Sort Key", text.terms(terms)))
        case .limit: tree.kind = "Limit"
        case .distinct(_, let on):
            tree.kind = "Unique"
            if let on { tree.details.append(("Key", text.list(on))) }
        case .combine(let combine):
            let names: [SetOperation: String] = [.union: "Union", .intersect: "Intersect", .except: "Except"]
            let name = names[combine.operation] ?? ""
            tree.kind = combine.operation == .union && combine.isAll ? "Append" : "HashSetOp \(name)"
            if combine.isAll, combine.operation != .union { tree.kind += " All" }
            for (output, source) in zip(combine.outputs, combine.leftAttributes) {
                text.name(output.attribute, text.names[source] ?? output.name)
            }
        case .unroll(_, let calls):
            tree.kind = "ProjectSet"
            for (attribute, call) in calls { text.name(attribute, text.text(call)) }
        case .window(_, let calls):
            tree.kind = "WindowAgg"
            for (attribute, call) in calls { text.name(attribute, text.window(call)) }
            if let call = calls.first?.call {
                if !call.partition.isEmpty { tree.details.append(("Partition Key", text.list(call.partition))) }
                if !call.order.isEmpty { tree.details.append(("Order Key", text.terms(call.order))) }
            }
        case .recursive(let recursive):
            tree.kind = "Recursive Union"
            name(recursive.outputs, nil)
        case .lock(_, let lock):
            tree.kind = "LockRows"
            tree.details.append(("Relations", lock.relations.map(\.collection.name).joined(separator: ", ")))
            if let condition = lock.condition { tree.details.append(("Recheck Cond", text.text(condition))) }
        case .single, .scan, .values, .input, .project, .apply, .rows, .with, .shared, .working, .modify: break
        }
    }

    private func join(
        _ kind: JoinKind, _ left: RelationalPlan, _ right: RelationalPlan, _ condition: BoundExpression?,
        _ tree: inout ExplainTree
    ) {
        let parts = JoinCondition(condition, left: Set(left.attributes), right: Set(right.attributes))
        let word = kind.word
        if case .scan(let scan) = right, scan.lookup != nil {
            // What the condition says is with the side that is looked up.
            tree.kind = "Lookup\(word) Join"
        } else if parts.equations.isEmpty {
            tree.kind = kind == .inner ? "Nested Loop" : "Nested Loop\(word) Join"
        } else {
            tree.kind = "Hash\(word) Join"
            tree.details.append(("Hash Cond", equations(parts)))
        }
        if let rest = BoundExpression.all(parts.rest) { tree.details.append(("Join Filter", text.text(rest))) }
    }

    private func equations(_ condition: JoinCondition) -> String {
        let equations = condition.equations.map { "(\(text.text($0.left)) = \(text.text($0.right)))" }
        return equations.count == 1 ? equations[0] : "(\(equations.joined(separator: " AND ")))"
    }

    private func describe(_ plan: MergePlan, _ tree: inout ExplainTree) {
        tree.kind = "Merge\(plan.kind.word) Join"
        tree.details.append(("Merge Cond", equations(JoinCondition(plan))))
        if let rest = plan.rest { tree.details.append(("Join Filter", text.text(rest))) }
    }

    private mutating func describe(_ plan: AggregatePlan, _ tree: inout ExplainTree) {
        for group in plan.groups { text.name(group.attribute, text.text(group.expression)) }
        for (attribute, call) in plan.calls { text.name(attribute, text.aggregate(call)) }
        if let grouping = plan.groupingID { text.name(grouping, "GROUPING()") }
        tree.kind = plan.groups.isEmpty ? "Aggregate" : plan.runs == nil ? "HashAggregate" : "GroupAggregate"
        for set in plan.sets where !plan.groups.isEmpty {
            let keys = set.map { text.text(plan.groups[$0].expression) }
            tree.details.append(("Group Key", keys.isEmpty ? "()" : keys.joined(separator: ", ")))
        }
    }
}

extension JoinKind {
    fileprivate var word: String {
        switch self {
        case .inner: ""
        case .left: " Left"
        case .right: " Right"
        case .full: " Full"
        case .semi: " Semi"
        case .anti: " Anti"
        }
    }
}

extension RelationalPlan {
    /// How many relations have columns that may need a name in front.
    fileprivate var relationCount: Int {
        switch self {
        case .scan, .values, .rows, .shared, .working: 1
        case .single, .input, .filter, .project, .join, .merge, .apply, .aggregate, .sort, .limit, .distinct, .combine,
            .unroll, .window, .with, .recursive, .modify, .lock:
            children.reduce(0) { $0 + $1.relationCount }
        }
    }
}
