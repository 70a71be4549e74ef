import Base
import Contracts

/// INSERT, UPDATE, DELETE, TRUNCATE.
extension SQLParser {
    mutating func insert(_ with: Int32) throws(StatementError) -> Int32 {
        let start = offset
        advance()
        try expect("into")
        let name = try relationName()
        var alias: Int32 = 0
        if at("as") {
            let aliasStart = offset
            advance()
            alias = try emit(.alias, [0], name: try columnName(), at: aliasStart)
        }
        let (qualifier, last) = try qualified(name.parts, at: name.offset)
        let target = try emit(.table, [qualifier, alias], name: last, at: name.offset)
        var columns: Int32 = 0, source: Int32 = 0, overriding: Int64 = 0
        if at("default") {
            advance()
            try expect("values")
        } else {
            if at("("), !isQueryInParentheses {
                columns = try parenthesisedList { parser throws(StatementError) in try parser.targetColumn() }
            }
            if accept("overriding") {
                if accept("user") { overriding = 1 } else { try expect("system") }
                if overriding == 0 { overriding = 2 }
                try expect("value")
            }
            source = try query()
        }
        let conflict = at("on") ? try conflict() : 0
        let returning = accept("returning") ? try targetList() : 0
        return try emit(
            .insert, [with, target, columns, source, conflict, returning], number: overriding, at: start)
    }

    /// Behind the table of INSERT: a query in parentheses, not a list of columns.
    private var isQueryInParentheses: Bool {
        var ahead = self
        while ahead.accept("(") {}
        return ahead.startsQuery || peek().says("(")
    }

    /// A column that is written.
    private mutating func targetColumn() throws(StatementError) -> Int32 {
        let column = try identifier()
        if at(".") || at("[") { throw unsupported("a part of a column as a target") }
        return column
    }

    private mutating func conflict() throws(StatementError) -> Int32 {
        let start = offset
        advance()
        try expect("conflict")
        var elements: Int32 = 0, elementsWhere: Int32 = 0, name = ""
        if at("(") {
            elements = try parenthesisedList { parser throws(StatementError) in try parser.indexElement() }
            if accept("where") { elementsWhere = try expression() }
        } else if accept("on") {
            try expect("constraint")
            name = try columnName()
        }
        try expect("do")
        if accept("nothing") {
            return try emit(.conflict, [elements, elementsWhere, 0, 0], name: name, at: start)
        }
        try expect("update", "set")
        if elements == 0, name.isEmpty {
            throw failure(
                "ON CONFLICT DO UPDATE requires inference specification or constraint name",
                hint: "For example, ON CONFLICT (column_name).", at: start)
        }
        let assignments = try assignments()
        let condition = accept("where") ? try expression() : 0
        return try emit(
            .conflict, [elements, elementsWhere, assignments, condition], name: name, at: start)
    }

    private mutating func assignments() throws(StatementError) -> Int32 {
        try commaList { parser throws(StatementError) in
            let start = parser.offset
            if parser.at("(") {
                let columns = try parser.parenthesisedList { inner throws(StatementError) in
                    try inner.targetColumn()
                }
                try parser.expect("=")
                return try parser.emit(.multipleAssignment, [columns, try parser.expression()], at: start)
            }
            let name = try parser.columnName()
            if parser.at(".") || parser.at("[") { throw parser.unsupported("a part of a column as a target") }
            try parser.expect("=")
            return try parser.emit(.assignment, [try parser.expression()], name: name, at: start)
        }
    }

    /// The table of UPDATE and DELETE, with an alias without columns; `word` goes on behind it.
    private mutating func changedTable(before word: String) throws(StatementError) -> Int32 {
        let table = try relation(alias: 0)
        let start = offset
        guard at("as") || token.isColumnName && !at(word) else { return table }
        _ = accept("as")
        let alias = try emit(.alias, [0], name: try columnName(), at: start)
        var node = remove(table)
        node.children[1] = alias
        return try add(node)
    }

    private mutating func changedRows() throws(StatementError) -> Int32 {
        guard accept("where") else { return 0 }
        guard at("current", "of") else { return try expression() }
        let start = offset
        index += 2
        return try emit(.currentOf, name: try columnName(), at: start)
    }

    mutating func update(_ with: Int32) throws(StatementError) -> Int32 {
        let start = offset
        advance()
        let target = try changedTable(before: "set")
        try expect("set")
        let assignments = try assignments()
        let from = accept("from") ? try fromList() : 0
        let condition = try changedRows()
        let returning = accept("returning") ? try targetList() : 0
        return try emit(.update, [with, target, assignments, from, condition, returning], at: start)
    }

    mutating func delete(_ with: Int32) throws(StatementError) -> Int32 {
        let start = offset
        advance()
        try expect("from")
        let target = try changedTable(before: "set")
        let using = accept("using") ? try fromList() : 0
        let condition = try changedRows()
        let returning = accept("returning") ? try targetList() : 0
        return try emit(.delete, [with, target, using, condition, returning], at: start)
    }

    mutating func truncate() throws(StatementError) -> Int32 {
        let start = offset
        advance()
        _ = accept("table")
        let tables = try commaList { parser throws(StatementError) in try parser.relation(alias: 0) }
        var flags: PlanFlags = []
        if accept("restart") {
            try expect("identity")
            flags = .isMarked
        } else if accept("continue") {
            try expect("identity")
        }
        flags.formUnion(dropBehavior())
        return try emit(.truncate, [tables], flags: flags, at: start)
    }
}
