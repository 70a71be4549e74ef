import Contracts

// Names of columns that are made, and numbers whose sign belongs to them.

extension LogicalPlan {
    /// Where the text of an expression begins: that of its parts may come before its own operator.
    func leftmost(_ index: Int32) -> Int32 {
        let node = self[index]
        var first = node.position > 0 ? node.position : .max
        for child in node.children where child != 0 {
            let position = leftmost(child)
            if position > 0, position < first { first = position }
        }
        return first == .max ? 0 : first
    }
}

extension Binder {
    /// -2147483648 and -9223372036854775808: an integer and a bigint, though without their signs they are neither.
    func leastInteger(_ node: LogicalPlan.Node) -> BoundExpression? {
        guard node.children[0] == 0, node.name == "-" else { return nil }
        let number = plan[node.children[1]]
        if number.kind == .integer, number.number == Int64(Int32.max) + 1 {
            return BoundExpression(form: .constant(.integer(Int64(Int32.min))), type: .int32, position: node.position)
        }
        if number.kind == .decimal, number.name == "9223372036854775808" {
            return BoundExpression(form: .constant(.integer(.min)), type: .int64, position: node.position)
        }
        return nil
    }

    /// What a target without AS is called.
    func targetName(_ index: Int32) -> String { strongName(index) ?? weakName(index) ?? "?column?" }

    /// The name of a type or of CASE: it gives way to what is around it.
    private func weakName(_ index: Int32) -> String? {
        let node = plan[index]
        switch node.kind {
        case .cast: return plan[node.children[1]].name
        case .case: return "case"
        case .collate, .arraySubscript, .arraySlice: return weakName(node.children[0])
        case _: return nil
        }
    }

    private func strongName(_ index: Int32) -> String? {
        let node = plan[index]
        switch node.kind {
        case .columnReference, .functionCall, .fieldSelection: return node.name
        case .specialValue: return node.name
        case .cast: return strongName(node.children[0])
        case .case: return node.children[2] == 0 ? nil : strongName(node.children[2])
        case .coalesce: return "coalesce"
        case .nullIf: return "nullif"
        case .greatest: return "greatest"
        case .least: return "least"
        case .exists: return "exists"
        case .arrayConstructor, .arrayQuery: return "array"
        case .row: return "row"
        case .grouping: return "grouping"
        case .collate, .arraySubscript, .arraySlice: return strongName(node.children[0])
        case .scalarQuery: return queryName(node.children[0])
        case _: return nil  // Operators, literals, tests.
        }
    }

    private func queryName(_ index: Int32) -> String? {
        let node = plan[index]
        switch node.kind {
        case .select:
            guard let first = plan.list(node.children[2]).first else { return nil }
            return plan[first].name.isEmpty ? targetName(plan[first].children[0]) : plan[first].name
        case .setOperation: return queryName(node.children[1])
        case .values: return "column1"
        case _: return nil  // Changes.
        }
    }
}
