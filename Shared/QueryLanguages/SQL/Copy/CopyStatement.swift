import Base
import Contracts

/// A COPY, as what it comes to: an INSERT whose rows come with it, or a query, and how the data looks.
package struct CopyStatement: Sendable {
    package let isFrom: Bool
    /// The table as errors name it, without its schema; empty for a query.
    package let table: String
    /// The table as it was written, to be compared with other statements.
    package let qualifiedTable: [String]
    /// Columns that the statement names; empty: all of them.
    package let columns: [String]
    package let format: CopyFormat
    package let plan: LogicalPlan

    /// Of a plan whose root is a `copy`; throws in PostgreSQL's words for what is none, or is not supported.
    package init(_ source: LogicalPlan) throws(StatementError) {
        let node = source[source.root]
        guard node.kind == .copy, node.children.count == 5 else {
            throw StatementError(.internalError, "the plan is no COPY")
        }
        isFrom = node.flags.contains(.isMarked)
        guard node.name.isEmpty, !node.flags.contains(.isExplicit) else {
            throw StatementError(
                .featureNotSupported, "COPY of a file or a program of the server is not supported",
                hint: "Use COPY FROM STDIN or COPY TO STDOUT; psql's \\copy command works so.")
        }
        let target = source[node.children[0]]
        table = node.children[0] == 0 ? "" : target.name
        qualifiedTable = node.children[0] == 0 ? [] : source.name(of: target)
        columns = source.list(node.children[1]).map { source[$0].name }
        format = try CopyFormat(source.list(node.children[3]), of: source, isFrom: isFrom)
        try Self.checkUnique(columns)
        guard node.children[4] == 0 else {
            throw StatementError(
                .featureNotSupported, "WHERE of COPY FROM is not supported",
                position: Int(source[node.children[4]].position))
        }
        var builder = Builder(source)
        if isFrom {
            plan = builder.insert(into: node.children[0], columns)
        } else if node.children[2] == 0 {
            plan = builder.select(from: node.children[0], columns)
        } else {
            try Self.checkReturning(source, node.children[2])
            plan = builder.statement(node.children[2])
        }
    }

    static func checkUnique(_ names: [String]) throws(StatementError) {
        var seen: Set<String> = []
        for name in names where !seen.insert(name).inserted {
            throw StatementError(.duplicateColumn, "column \"\(name)\" specified more than once")
        }
    }

    private static func checkReturning(_ plan: LogicalPlan, _ index: Int32) throws(StatementError) {
        let query = plan[index], returning: Int32?
        switch query.kind {
        case .insert, .update: returning = query.children.last
        case .delete: returning = query.children.last
        case _: returning = nil
        }
        guard returning == 0 else { return }
        throw StatementError(.featureNotSupported, "COPY query must have a RETURNING clause")
    }
}

extension LogicalPlan {
    /// A table's name with what it lies in, from the outside in.
    fileprivate func name(of table: Node) -> [String] {
        var names = [table.name], qualifier = table.children.first ?? 0
        while qualifier != 0 {
            names.insert(self[qualifier].name, at: 0)
            qualifier = self[qualifier].children.first ?? 0
        }
        return names
    }
}

/// Makes statements from parts of another plan.
private struct Builder {
    private let source: LogicalPlan
    private var nodes = [LogicalPlan.Node(.none)]
    private var isQuery = false

    init(_ source: LogicalPlan) { self.source = source }

    private mutating func add(_ node: LogicalPlan.Node) -> Int32 {
        nodes.append(node)
        return Int32(truncatingIfNeeded: nodes.count - 1)
    }

    /// Plans are not deep: those that came were validated.
    private mutating func copy(_ index: Int32) -> Int32 {
        guard index != 0 else { return 0 }
        var node = source[index]
        if !isQuery { node.position = 0 }  // PostgreSQL does not point at the table of a COPY.
        for place in node.children.indices { node.children[place] = copy(node.children[place]) }
        return add(node)
    }

    private func finished(_ root: Int32) -> LogicalPlan {
        LogicalPlan(dialect: source.dialect, nodes: nodes, root: root)
    }

    /// A query, whose errors point at what it has written.
    mutating func statement(_ index: Int32) -> LogicalPlan {
        isQuery = true
        let root = copy(index)
        return finished(root)
    }

    /// Rows of a COPY may have values for columns that are always generated.
    mutating func insert(into table: Int32, _ columns: [String]) -> LogicalPlan {
        let table = copy(table), names = columns.map { add(.init(.identifier, name: $0)) }
        let list = names.isEmpty ? 0 : add(.init(.list, names)), input = add(.init(.input))
        let root = add(.init(.insert, [0, table, list, input, 0, 0], number: 2))
        return finished(root)
    }

    mutating func select(from table: Int32, _ columns: [String]) -> LogicalPlan {
        let values =
            columns.isEmpty
            ? [add(.init(.star, [0]))] : columns.map { add(.init(.columnReference, [0], name: $0)) }
        let targets = values.map { add(.init(.target, [$0])) }
        let list = add(.init(.list, targets)), from = copy(table), relations = add(.init(.list, [from]))
        let rest = [Int32](repeating: 0, count: 8)
        let root = add(.init(.select, [0, 0, list, relations] + rest))
        return finished(root)
    }
}
