import Base

extension SQLWriter {
    mutating func call(_ node: LogicalPlan.Node) -> Bool {
        let arguments = plan.list(children(node, 1))
        if node.flags.contains(.isBuiltIn) { return special(node.name, arguments) }
        qualifier(children(node, 0))
        text += Self.quoted(node.name) + "("
        if node.flags.contains(.isDistinct) { text += "DISTINCT " }
        if node.flags.contains(.isStar) { text += "*" }
        for (index, argument) in arguments.enumerated() {
            if index > 0 { text += ", " }
            if node.flags.contains(.isVariadic), index == arguments.count - 1 { text += "VARIADIC " }
            guard write(argument) else { return false }
        }
        let isWithinGroup = node.flags.contains(.isWithinGroup)
        if isWithinGroup { text += ") WITHIN GROUP (" }
        if children(node, 2) != 0 {
            if !isWithinGroup { text += " " }
            guard order(children(node, 2)) else { return false }
        }
        text += ")"
        if children(node, 3) != 0 {
            text += " FILTER (WHERE "
            guard write(children(node, 3)) else { return false }
            text += ")"
        }
        guard children(node, 4) != 0 else { return true }
        text += " OVER "
        let over = plan[children(node, 4)]
        if over.kind == .windowReference {
            text += Self.quoted(over.name)
            return true
        }
        return window(over)
    }

    /// A form of the language, of the function that it became.
    private mutating func special(_ name: String, _ values: [Int32]) -> Bool {
        switch (name, values.count) {
        case ("extract", 2): return form("EXTRACT(", values, [" FROM "], ")", firstIsWord: true)
        case ("timezone", 2): return form("(", [values[1], values[0]], [" AT TIME ZONE "], ")")
        case ("overlaps", 4): return form("((", values, [", ", ") OVERLAPS (", ", "], "))")
        case ("position", 2): return form("POSITION((", [values[1], values[0]], [") IN ("], "))")
        case ("overlay", 3), ("overlay", 4): return form("OVERLAY(", values, [" PLACING ", " FROM ", " FOR "], ")")
        case ("substring", 2), ("substring", 3): return form("SUBSTRING(", values, [" FROM ", " FOR "], ")")
        case ("btrim", 2): return form("TRIM(BOTH ", [values[1], values[0]], [" FROM "], ")")
        case ("ltrim", 2): return form("TRIM(LEADING ", [values[1], values[0]], [" FROM "], ")")
        case ("rtrim", 2): return form("TRIM(TRAILING ", [values[1], values[0]], [" FROM "], ")")
        case ("btrim", 1): return form("TRIM(BOTH FROM ", values, [], ")")
        case ("ltrim", 1): return form("TRIM(LEADING FROM ", values, [], ")")
        case ("rtrim", 1): return form("TRIM(TRAILING FROM ", values, [], ")")
        case ("pg_collation_for", 1): return form("COLLATION FOR (", values, [], ")")
        case ("normalize", 1): return form("NORMALIZE(", values, [], ")")
        case ("normalize", 2):
            guard form("NORMALIZE(", [values[0]], [], ", ") else { return false }
            text += plan[values[1]].name + ")"
            return true
        case ("is_normalized", 1): return form("(", values, [], " IS NORMALIZED)")
        case ("is_normalized", 2): return form("(", [values[0]], [], " IS \(plan[values[1]].name) NORMALIZED)")
        case _: return false
        }
    }

    private mutating func form(
        _ before: String, _ values: [Int32], _ between: [String], _ behind: String, firstIsWord: Bool = false
    ) -> Bool {
        text += before
        for (index, value) in values.enumerated() {
            if index > 0, index <= between.count { text += between[index - 1] }
            if index == 0, firstIsWord {
                text += Self.quoted(plan[value].name)
            } else {
                guard write(value) else { return false }
            }
        }
        text += behind
        return true
    }

    // MARK: Order and windows

    mutating func order(_ list: Int32) -> Bool {
        text += "ORDER BY "
        return commas(plan.list(list)) { writer, index in
            let item = writer.plan[index]
            guard item.kind == .orderItem, writer.write(writer.children(item, 0)) else { return false }
            if !item.name.isEmpty {
                writer.text += " USING "
                if writer.children(item, 1) != 0 {
                    writer.text += "OPERATOR("
                    writer.qualifier(writer.children(item, 1))
                    writer.text += item.name + ")"
                } else {
                    writer.text += item.name
                }
            }
            if item.flags.contains(.isDescending) { writer.text += " DESC" }
            if item.flags.contains(.isNullsFirst) { writer.text += " NULLS FIRST" }
            if item.flags.contains(.isNullsLast) { writer.text += " NULLS LAST" }
            return true
        }
    }

    mutating func window(_ node: LogicalPlan.Node) -> Bool {
        guard node.kind == .window else { return false }
        text += "("
        var space = ""
        if !node.name.isEmpty {
            text += Self.quoted(node.name)
            space = " "
        }
        if children(node, 0) != 0 {
            text += space + "PARTITION BY "
            guard expressions(plan.list(children(node, 0))) else { return false }
            space = " "
        }
        if children(node, 1) != 0 {
            text += space
            guard order(children(node, 1)) else { return false }
            space = " "
        }
        if children(node, 2) != 0 {
            text += space
            guard frame(plan[children(node, 2)]) else { return false }
        }
        text += ")"
        return true
    }

    private mutating func frame(_ node: LogicalPlan.Node) -> Bool {
        guard node.kind == .frame, (0..<16).contains(node.number), node.number & 3 < 3 else { return false }
        text += ["RANGE", "ROWS", "GROUPS"][Int(node.number & 3)]
        let hasEnd = children(node, 1) != 0
        text += hasEnd ? " BETWEEN " : " "
        guard bound(plan[children(node, 0)]) else { return false }
        if hasEnd {
            text += " AND "
            guard bound(plan[children(node, 1)]) else { return false }
        }
        text += ["", " EXCLUDE CURRENT ROW", " EXCLUDE GROUP", " EXCLUDE TIES"][Int(node.number >> 2)]
        return true
    }

    private mutating func bound(_ node: LogicalPlan.Node) -> Bool {
        guard node.kind == .frameBound else { return false }
        switch node.number {
        case 0: text += "UNBOUNDED PRECEDING"
        case 2: text += "CURRENT ROW"
        case 4: text += "UNBOUNDED FOLLOWING"
        case _:
            guard write(children(node, 0)) else { return false }
            text += node.number == 1 ? " PRECEDING" : " FOLLOWING"
        }
        return true
    }
}
