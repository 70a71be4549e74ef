import Base

extension SQLWriter {
    /// A query without parentheses around it.
    mutating func writeQuery(_ index: Int32) -> Bool {
        let node = plan[index]
        if children(node, 0) != 0, !with(plan[children(node, 0)]) { return false }
        switch node.kind {
        case .select: guard select(node) else { return false }
        case .values:
            text += "VALUES "
            let isWritten = commas(plan.list(children(node, 1))) { writer, row in
                writer.text += "("
                guard writer.expressions(writer.plan.list(row)) else { return false }
                writer.text += ")"
                return true
            }
            guard isWritten else { return false }
        case .setOperation:
            guard (0..<3).contains(node.number), subquery(children(node, 1)) else { return false }
            text += " " + ["UNION", "INTERSECT", "EXCEPT"][Int(node.number)]
            text += node.flags.contains(.isAll) ? " ALL " : " "
            guard subquery(children(node, 2)) else { return false }
        case _: return false
        }
        return tail(node)
    }

    private mutating func with(_ node: LogicalPlan.Node) -> Bool {
        text += node.flags.contains(.isRecursive) ? "WITH RECURSIVE " : "WITH "
        let isWritten = commas(node.children) { writer, index in
            let table = writer.plan[index]
            writer.text += Self.quoted(table.name)
            writer.columns(writer.children(table, 0))
            writer.text += " AS " + ["", "MATERIALIZED ", "NOT MATERIALIZED "][Int(min(max(table.number, 0), 2))]
            return writer.subquery(writer.children(table, 1))
        }
        text += " "
        return isWritten
    }

    /// ` (a, b)` of a list of names; nothing for none.
    mutating func columns(_ list: Int32) {
        let names = plan.list(list).map { Self.quoted(plan[$0].name) }
        if !names.isEmpty { text += " (\(names.joined(separator: ", ")))" }
    }

    private mutating func select(_ node: LogicalPlan.Node) -> Bool {
        text += "SELECT "
        if node.flags.contains(.isDistinct) {
            text += "DISTINCT "
            if children(node, 1) != 0 {
                text += "ON ("
                guard expressions(plan.list(children(node, 1))) else { return false }
                text += ") "
            }
        }
        let hasTargets = commas(plan.list(children(node, 2))) { writer, index in
            let target = writer.plan[index]
            guard writer.write(writer.children(target, 0)) else { return false }
            let value = writer.plan[writer.children(target, 0)]
            // In a query of the catalog every target has a name.
            let isSaid = value.kind == .columnReference && value.number != 0 && value.name == target.name
            if !target.name.isEmpty, !isSaid { writer.text += " AS " + Self.quoted(target.name) }
            return true
        }
        guard hasTargets else { return false }
        if children(node, 3) != 0 {
            text += " FROM "
            guard commas(plan.list(children(node, 3)), { $0.relation($1) }) else { return false }
        }
        guard clause(" WHERE ", children(node, 4)) else { return false }
        if children(node, 5) != 0 {
            text += node.flags.contains(.isGroupDistinct) ? " GROUP BY DISTINCT " : " GROUP BY "
            guard commas(plan.list(children(node, 5)), { $0.groupingElement($1) }) else { return false }
        }
        guard clause(" HAVING ", children(node, 6)) else { return false }
        guard children(node, 7) != 0 else { return true }
        text += " WINDOW "
        return commas(plan.list(children(node, 7))) { writer, index in
            let named = writer.plan[index]
            writer.text += Self.quoted(named.name) + " AS "
            return writer.window(writer.plan[writer.children(named, 0)])
        }
    }

    private mutating func clause(_ word: String, _ index: Int32) -> Bool {
        guard index != 0 else { return true }
        text += word
        return write(index)
    }

    private mutating func groupingElement(_ index: Int32) -> Bool {
        let node = plan[index]
        guard node.kind == .groupingSet else { return write(index) }
        text += [2: "ROLLUP", 3: "CUBE", 4: "GROUPING SETS "][node.number] ?? ""
        text += "("
        guard commas(node.children, { $0.groupingElement($1) }) else { return false }
        text += ")"
        return true
    }

    /// ORDER BY, LIMIT, OFFSET, FOR: the last four children of a query.
    private mutating func tail(_ node: LogicalPlan.Node) -> Bool {
        let last = node.children.count - 1
        if children(node, last - 3) != 0 {
            text += " "
            guard order(children(node, last - 3)) else { return false }
        }
        guard clause(" OFFSET ", children(node, last - 1)) else { return false }
        if node.flags.contains(.isWithTies) {
            text += " FETCH FIRST ("
            guard write(children(node, last - 2)) else { return false }
            text += ") ROWS WITH TIES"
        } else {
            guard clause(" LIMIT ", children(node, last - 2)) else { return false }
        }
        for index in plan.list(children(node, last)) {
            let locking = plan[index]
            let strength = ["KEY SHARE", "SHARE", "NO KEY UPDATE", "UPDATE"][Int(min(max(locking.number, 0), 3))]
            text += " FOR " + strength
            let relations = plan.list(children(locking, 0))
            if !relations.isEmpty {
                text += " OF "
                _ = commas(relations) { writer, relation in
                    writer.name(relation)
                    return true
                }
            }
            if locking.flags.contains(.isNoWait) { text += " NOWAIT" }
            if locking.flags.contains(.isSkipLocked) { text += " SKIP LOCKED" }
        }
        return true
    }

    // MARK: FROM

    private mutating func relation(_ index: Int32) -> Bool {
        let node = plan[index]
        switch node.kind {
        case .table:
            if node.flags.contains(.isOnly) { text += "ONLY " }
            name(index)
            if node.number == 0 || plan[children(node, 1)].name != node.name || plan[children(node, 1)].children != [0]
            {
                alias(children(node, 1))
            }
            return true
        case .derivedTable:
            if node.flags.contains(.isLateral) { text += "LATERAL " }
            guard subquery(children(node, 0)) else { return false }
            alias(children(node, 1))
            return true
        case .functionTable: return functions(node)
        case .join: return join(node)
        case _: return false
        }
    }

    private mutating func alias(_ index: Int32) {
        guard index != 0 else { return }
        text += " " + Self.quoted(plan[index].name)
        columns(children(plan[index], 0))
    }

    private mutating func functions(_ node: LogicalPlan.Node) -> Bool {
        let calls = plan.list(children(node, 0))
        guard calls.count == 1 || calls.allSatisfy({ children(plan[$0], 1) == 0 }) else { return false }
        if node.flags.contains(.isLateral) { text += "LATERAL " }
        if calls.count > 1 { text += "ROWS FROM (" }
        guard commas(calls, { $0.write($0.children($0.plan[$1], 0)) }) else { return false }
        if calls.count > 1 { text += ")" }
        if node.flags.contains(.isWithOrdinality) { text += " WITH ORDINALITY" }
        let definitions = calls.first.map { plan.list(children(plan[$0], 1)) } ?? []
        guard !definitions.isEmpty else {
            alias(children(node, 1))
            return true
        }
        text += " AS " + (children(node, 1) == 0 ? "" : Self.quoted(plan[children(node, 1)].name) + " ") + "("
        let isWritten = commas(definitions) { writer, index in
            writer.text += Self.quoted(writer.plan[index].name) + " "
            return writer.type(writer.children(writer.plan[index], 0))
        }
        text += ")"
        return isWritten
    }

    private mutating func join(_ node: LogicalPlan.Node) -> Bool {
        guard (0..<5).contains(node.number) else { return false }
        let hasAlias = children(node, 4) != 0
        text += "("
        guard relation(children(node, 0)) else { return false }
        text += node.flags.contains(.isNatural) ? " NATURAL" : ""
        text += ["", " LEFT", " RIGHT", " FULL", " CROSS"][Int(node.number)] + " JOIN "
        guard relation(children(node, 1)), clause(" ON ", children(node, 2)) else { return false }
        if children(node, 3) != 0 {
            text += " USING"
            columns(children(node, 3))
            if !node.name.isEmpty { text += " AS " + Self.quoted(node.name) }
        }
        text += ")"
        if hasAlias { alias(children(node, 4)) }
        return true
    }
}
