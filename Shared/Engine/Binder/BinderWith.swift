import Base
import Contracts
import DataModel

// WITH: tables of a statement's own, and those that are made of themselves.

extension Binder {
    /// The tables of a WITH clause, in the order in which they may use one another.
    func bindWith(_ index: Int32, _ scope: Scope) throws(StatementError) -> [CommonTable] {
        guard index != 0 else { return [] }
        let node = plan[index]
        var names: Set<String> = []
        for child in node.children where !names.insert(plan[child].name).inserted {
            throw StatementError(
                .duplicateAlias, "WITH query name \"\(plan[child].name)\" specified more than once",
                position: plan[child].position)
        }
        let isRecursive = node.flags.contains(.isRecursive)
        var tables: [CommonTable] = []
        for child in isRecursive ? try ordered(node.children) : node.children {
            let item = plan[child]
            let names = plan.list(item.children[0]).map { plan[$0].name }
            let body = plan[item.children[1]]
            let isChange = body.kind == .insert || body.kind == .update || body.kind == .delete
            if isChange { try checkChange(item, isTop: index == plan[topStatement].children[0]) }
            var query: Query
            if isRecursive, plan.mentions(item.name, item.children[1]) {
                var check = RecursionCheck(plan, item)
                try check.run(isChange: isChange)
                query = try bindRecursive(item, body, names, scope)
            } else {
                query = try bindQuery(item.children[1], in: scope)
            }
            guard names.count <= query.outputs.count else {
                throw StatementError(
                    .invalidColumnReference,
                    "WITH query \"\(item.name)\" has \(query.outputs.count) columns available but \(names.count) "
                        + "columns specified", position: item.position)
            }
            for (place, name) in names.enumerated() { query.outputs[place].name = name }
            if isChange { query.plan = query.plan.uncounted }
            // What reads it is not known yet: all of its columns are made.
            let made = try Optimizer.optimize(query.plan, needed: Set(query.outputs.map(\.attribute)), settings)
            let table = newCommonTable(item.name, made, query.outputs, isChange: isChange)
            scope.commonTables[item.name] = .made(table)
            tables.append(table)
        }
        return tables
    }

    /// The tables of WITH RECURSIVE, those first that others read.
    private func ordered(_ items: [Int32]) throws(StatementError) -> [Int32] {
        var left = items, result: [Int32] = []
        while !left.isEmpty {
            let ready = left.firstIndex { item in
                !left.contains { other in
                    other != item && plan.mentions(plan[other].name, plan[item].children[1])
                }
            }
            guard let ready else {
                throw StatementError(
                    .featureNotSupported, "mutual recursion between WITH items is not implemented",
                    position: plan[left[0]].position)
            }
            result.append(left.remove(at: ready))
        }
        return result
    }

    /// A statement that changes rows is executed once, whatever reads it: so it stands at the top alone.
    private func checkChange(_ item: LogicalPlan.Node, isTop: Bool) throws(StatementError) {
        guard recorder == nil else {
            throw StatementError(
                .featureNotSupported, "views must not contain data-modifying statements in WITH")
        }
        guard isTop, !isStored else {
            throw StatementError(
                .featureNotSupported,
                "WITH clause containing a data-modifying statement must be at the top level",
                position: item.position)
        }
    }

    private func bindRecursive(
        _ item: LogicalPlan.Node, _ body: LogicalPlan.Node, _ names: [String], _ scope: Scope
    ) throws(StatementError) -> Query {
        let inner = Scope(parent: scope)
        let tables = try bindWith(body.children[0], inner)
        let start = try bindQuery(body.children[1], in: inner)
        let id = newRecursion()
        var columns = start.outputs
        for index in columns.indices {
            if index < names.count { columns[index].name = names[index] }
            columns[index].attribute = newAttribute()
            if let state = collations[start.outputs[index].attribute] {
                collations.set(state, of: columns[index].attribute)
            }
            (columns[index].collection, columns[index].column) = (nil, nil)
        }
        inner.commonTables[item.name] = .working(id, name: item.name, outputs: columns)
        var step = try bindArm(body.children[2], in: inner)
        guard step.outputs.count == columns.count else {
            throw StatementError(
                .syntaxError, "each UNION query must have the same number of columns", position: body.position)
        }
        for (index, mine) in columns.enumerated() {
            let theirs = step.outputs[index]
            try checkCollation(of: mine, with: theirs, item, index, at: body.position)
            if theirs.type.isOpen {
                try step.settle(index, as: mine.type, self)
                continue
            }
            guard mine.type != theirs.type else { continue }
            // Of two lengths of one type there is none in common.
            let type =
                mine.type.unconstrained == theirs.type.unconstrained
                ? mine.type.unconstrained
                : try commonType(
                    [.attribute(mine.attribute, mine.type), .attribute(theirs.attribute, theirs.type)], place: "UNION",
                    at: body.position
                ).unconstrained
            guard type == mine.type else {
                throw StatementError(
                    .datatypeMismatch,
                    "recursive query \"\(item.name)\" column \(index + 1) has type \(mine.type.formatted) in "
                        + "non-recursive term but type \(type.formatted) overall",
                    hint: "Cast the output of the non-recursive term to the correct type.", position: item.position)
            }
        }
        let (stepPlan, stepAttributes) = try retype(step, to: columns.map(\.type), at: body.position)
        let recursive = RelationalPlan.recursive(
            RecursivePlan(
                id: id, isAll: body.flags.contains(.isAll), start: start.plan,
                startAttributes: start.outputs.map(\.attribute), step: stepPlan, stepAttributes: stepAttributes,
                outputs: columns))
        return Query(plan: tables.isEmpty ? recursive : .with(tables, recursive), outputs: columns)
    }
}

extension LogicalPlan {
    /// Whether a table of that name, and not one of an inner WITH, is read somewhere below.
    fileprivate func mentions(_ name: String, _ index: Int32) -> Bool {
        let node = self[index]
        if node.kind == .table { return node.name == name && node.children[0] == 0 && node.number == 0 }
        guard node.hasWith, node.children[0] != 0, hides(name, node.children[0]) else {
            return node.children.contains { $0 != 0 && mentions(name, $0) }
        }
        // What stands before the inner one of that name still means this one.
        guard !self[node.children[0]].flags.contains(.isRecursive) else { return false }
        for item in self[node.children[0]].children {
            if mentions(name, item) { return true }
            if self[item].name == name { return false }
        }
        return false
    }

    fileprivate func hides(_ name: String, _ with: Int32) -> Bool {
        self[with].children.contains { self[$0].name == name }
    }
}

extension LogicalPlan.Node {
    /// Its first child is a WITH clause, or there is none.
    fileprivate var hasWith: Bool {
        [.select, .setOperation, .values, .insert, .update, .delete].contains(kind)
    }
}

/// Where a recursive query may read itself: PostgreSQL's rules, in the order in which it asks for them.
private struct RecursionCheck {
    private enum Place {
        case allowed, start, subquery, outerJoin, intersect, except

        var title: String {
            switch self {
            case .allowed: ""
            case .start: "its non-recursive term"
            case .subquery: "a subquery"
            case .outerJoin: "an outer join"
            case .intersect: "INTERSECT"
            case .except: "EXCEPT"
            }
        }
    }

    private let plan: LogicalPlan
    private let item: LogicalPlan.Node
    private var count = 0

    init(_ plan: LogicalPlan, _ item: LogicalPlan.Node) { (self.plan, self.item) = (plan, item) }

    mutating func run(isChange: Bool) throws(StatementError) {
        let body = plan[item.children[1]]
        guard !isChange else {
            throw StatementError(
                .invalidRecursion, "recursive query \"\(item.name)\" must not contain data-modifying statements",
                position: item.position)
        }
        guard body.kind == .setOperation, body.number == 0 else {
            throw StatementError(
                .invalidRecursion,
                "recursive query \"\(item.name)\" does not have the form non-recursive-term UNION [ALL] recursive-term",
                position: item.position)
        }
        if body.children[0] != 0 { try look(body.children[0], .subquery) }
        for (child, clause) in [(3, "ORDER BY"), (5, "OFFSET"), (4, "LIMIT"), (6, "FOR UPDATE/SHARE")] {
            guard body.children[child] != 0 else { continue }
            throw StatementError(
                .featureNotSupported, "\(clause) in a recursive query is not implemented",
                position: clause == "FOR UPDATE/SHARE" ? 0 : plan.leftmost(body.children[child]))
        }
        try look(body.children[1], .start)
        try look(body.children[2], .allowed)
    }

    private mutating func look(_ index: Int32, _ place: Place) throws(StatementError) {
        guard index != 0 else { return }
        let node = plan[index]
        switch node.kind {
        case .table: try found(node, place)
        case .join where place == .allowed && (1...3).contains(node.number):
            try look(node.children[0], node.number == 1 ? .allowed : .outerJoin)
            try look(node.children[1], node.number == 2 ? .allowed : .outerJoin)
            for child in node.children.dropFirst(2) { try look(child, place) }
        case .scalarQuery, .exists, .arrayQuery: try look(node.children[0], .subquery)
        case .inQuery, .quantifiedQuery:
            try look(node.children[0], place)
            try look(node.children[1], .subquery)
        case .select, .setOperation, .values, .insert, .update, .delete: try lookIntoQuery(node, place)
        case _:  // What is made of others.
            for child in node.children { try look(child, place) }
        }
    }

    private mutating func lookIntoQuery(_ node: LogicalPlan.Node, _ place: Place) throws(StatementError) {
        if node.children[0] != 0, plan.hides(item.name, node.children[0]) { return }
        guard place == .allowed, node.kind == .setOperation, node.number != 0 else {
            for child in node.children { try look(child, place) }
            return
        }
        let isAll = node.flags.contains(.isAll)
        try look(node.children[0], place)
        if node.number == 1 {
            try look(node.children[1], isAll ? .intersect : place)
            try look(node.children[2], isAll ? .intersect : place)
        } else {
            try look(node.children[1], isAll ? .except : place)
            try look(node.children[2], .except)
        }
        for child in node.children.dropFirst(3) { try look(child, place) }
    }

    private mutating func found(_ node: LogicalPlan.Node, _ place: Place) throws(StatementError) {
        guard node.name == item.name, node.children[0] == 0 else { return }
        guard place == .allowed else { throw misplaced("within \(place.title)", node) }
        count += 1
        if count > 1 { throw misplaced("more than once", node) }
    }

    private func misplaced(_ what: String, _ node: LogicalPlan.Node) -> StatementError {
        StatementError(
            .invalidRecursion, "recursive reference to query \"\(item.name)\" must not appear \(what)",
            position: node.position)
    }
}
