import Base
import Contracts

extension SQLParser {
    /// A query, in parentheses or not (PostgreSQL's SelectStmt).
    mutating func query() throws(StatementError) -> Int32 {
        try enter()
        let start = offset
        let with = at("with") ? try withClause() : 0
        let first = try operand()
        let whole = try combined(first, above: 1)
        let result = try tail(whole, with: with, at: start)
        leave()
        return result
    }

    /// Reads on behind a query in parentheses.
    mutating func continuedQuery(_ first: Int32) throws(StatementError) -> Int32 {
        try tail(try combined(first, above: 1), with: 0, at: offset)
    }

    /// UNION and EXCEPT (1), INTERSECT (2) behind a query.
    private mutating func combined(_ first: Int32, above level: Int) throws(StatementError) -> Int32 {
        var left = first
        while true {
            let number: Int64, precedence: Int
            switch token.text {
            case "union" where at("union"): (number, precedence) = (0, 1)
            case "intersect" where at("intersect"): (number, precedence) = (1, 2)
            case "except" where at("except"): (number, precedence) = (2, 1)
            case _: return left
            }
            guard precedence >= level else { return left }
            let start = offset
            advance()
            let flags: PlanFlags = accept("all") ? .isAll : []
            if flags.isEmpty { _ = accept("distinct") }
            let right = try combined(try operand(), above: precedence + 1)
            left = try emit(
                .setOperation, [0, left, right, 0, 0, 0, 0], number: number, flags: flags, at: start)
        }
    }

    /// One side of a set operation.
    private mutating func operand() throws(StatementError) -> Int32 {
        if at("(") { return try queryInParentheses() }
        let start = offset
        if at("select") { return try selectBlock() }
        if accept("values") {
            let rows = try commaList { parser throws(StatementError) in
                try parser.expect("(")
                let row = try parser.list(try parser.expressions())
                try parser.expect(")")
                return row
            }
            return try emit(.values, [0, rows, 0, 0, 0, 0], at: start)
        }
        try expect("table")
        let table = try relation(alias: 0)
        let star = try emit(.target, [try emit(.star, [0], at: start)], at: start)
        return try emit(
            .select, [0, 0, try list([star]), try list([table]), 0, 0, 0, 0, 0, 0, 0, 0], at: start)
    }

    // MARK: What stands around a query

    /// ORDER BY, LIMIT, OFFSET and FOR … behind a query, and WITH in front of it, become children of its node.
    private mutating func tail(_ query: Int32, with: Int32, at start: Int) throws(StatementError) -> Int32 {
        let orderStart = peek(2).range.lowerBound
        let order = try orderBy()
        var limits = Limits(), locking: [Int32] = []
        if at("for") {
            try lockingClauses(&locking)
            try limitClauses(&limits)
        } else {
            try limitClauses(&limits)
            try lockingClauses(&locking)
        }
        guard with != 0 || order != 0 || limits.isPresent || !locking.isEmpty else { return query }
        var node = remove(query)
        let last = node.children.count - 1
        let (orderSlot, limitSlot, offsetSlot) = (last - 3, last - 2, last - 1)
        if order != 0 {
            guard node.children[orderSlot] == 0 else {
                throw failure("multiple ORDER BY clauses not allowed", at: orderStart)
            }
            node.children[orderSlot] = order
        }
        if limits.offset != 0 {
            guard node.children[offsetSlot] == 0 else {
                throw failure("multiple OFFSET clauses not allowed", at: limits.offsetStart)
            }
            node.children[offsetSlot] = limits.offset
        }
        if limits.hasLimit {
            guard node.children[limitSlot] == 0 else {
                throw failure("multiple LIMIT clauses not allowed", at: limits.start)
            }
            node.children[limitSlot] = limits.limit
        }
        if limits.isWithTies {
            guard node.children[orderSlot] != 0 else {
                throw failure("WITH TIES cannot be specified without ORDER BY clause", at: limits.start)
            }
            node.flags.insert(.isWithTies)
        }
        if with != 0 {
            guard node.children[0] == 0 else { throw failure("multiple WITH clauses not allowed", at: start) }
            node.children[0] = with
        }
        if !locking.isEmpty {
            let old = node.children[last] == 0 ? [] : remove(node.children[last]).children
            node.children[last] = try list(old + locking)
        }
        return try add(node)
    }

    private struct Limits {
        var limit: Int32 = 0, offset: Int32 = 0, start = 0, offsetStart = 0
        var hasLimit = false, isWithTies = false
        var isPresent: Bool { hasLimit || offset != 0 }
    }

    private mutating func limitClauses(_ limits: inout Limits) throws(StatementError) {
        var hasOffset = false
        while true {
            if at("offset"), !hasOffset {
                hasOffset = true
                advance()
                limits.offsetStart = offset
                limits.offset = try expression()
                if !accept("row") { _ = accept("rows") }
            } else if at("limit"), !limits.hasLimit {
                let start = offset
                advance()
                limits.start = offset
                limits.hasLimit = true
                if !accept("all") { limits.limit = try expression() }
                if at(",") {
                    throw failure(
                        "LIMIT #,# syntax is not supported", hint: "Use separate LIMIT and OFFSET clauses.",
                        at: start)
                }
            } else if at("fetch"), !limits.hasLimit {
                try fetchFirst(&limits)
            } else {
                return
            }
        }
    }

    /// FETCH FIRST n ROWS ONLY.
    private mutating func fetchFirst(_ limits: inout Limits) throws(StatementError) {
        advance()
        guard accept("first") || accept("next") else { throw syntaxError() }
        limits.start = offset
        limits.hasLimit = true
        let isBare = (at("row") || at("rows")) && (peek().says("only") || peek().says("with"))
        if isBare {
            limits.limit = try emit(.integer, number: 1, at: offset)
        } else if at("+") || at("-") {
            limits.limit = try numericLiteral()
        } else {
            limits.limit = try primary()
        }
        guard accept("row") || accept("rows") else { throw syntaxError() }
        if accept("only") { return }
        try expect("with", "ties")
        limits.isWithTies = true
    }

    private mutating func lockingClauses(_ locking: inout [Int32]) throws(StatementError) {
        while at("for") {
            let start = offset
            advance()
            if accept("read", "only") { return }
            let number: Int64
            if accept("update") {
                number = 3
            } else if accept("no") {
                try expect("key", "update")
                number = 2
            } else if accept("share") {
                number = 1
            } else {
                try expect("key", "share")
                number = 0
            }
            let relations =
                accept("of")
                ? try commaList { parser throws(StatementError) in
                    let name = try parser.relationName()
                    return try parser.nameNode(name.parts, at: name.offset)
                } : 0
            var flags: PlanFlags = []
            if accept("nowait") { flags = .isNoWait } else if accept("skip", "locked") { flags = .isSkipLocked }
            locking.append(try emit(.locking, [relations], number: number, flags: flags, at: start))
        }
    }

    /// ORDER BY …; 0 if there is none.
    mutating func orderBy() throws(StatementError) -> Int32 {
        guard at("order") else { return 0 }
        advance()
        try expect("by")
        return try commaList { parser throws(StatementError) in
            let start = parser.offset
            let value = try parser.expression()
            var flags: PlanFlags = [], qualifier: Int32 = 0, name = ""
            if parser.accept("using") {
                if parser.at("operator", "(") {
                    (qualifier, name) = try parser.qualifiedOperator()
                } else {
                    guard case .symbol = parser.token.kind else { throw parser.syntaxError() }
                    name = parser.token.text
                    parser.advance()
                }
            } else if parser.accept("desc") {
                flags = .isDescending
            } else {
                _ = parser.accept("asc")
            }
            flags.formUnion(parser.nullsOrder())
            return try parser.emit(.orderItem, [value, qualifier], name: name, flags: flags, at: start)
        }
    }

    mutating func nullsOrder() -> PlanFlags {
        accept("nulls", "first") ? .isNullsFirst : accept("nulls", "last") ? .isNullsLast : []
    }

    // MARK: WITH

    mutating func withClause() throws(StatementError) -> Int32 {
        let start = offset
        try expect("with")
        let flags: PlanFlags = accept("recursive") ? .isRecursive : []
        var tables = [try commonTable()]
        while accept(",") { tables.append(try commonTable()) }
        return try emit(.with, tables, flags: flags, at: start)
    }

    private mutating func commonTable() throws(StatementError) -> Int32 {
        let start = offset
        let name = try columnName()
        let columns = at("(") ? try columnNames() : 0
        try expect("as")
        var number: Int64 = 0
        if accept("materialized") {
            number = 1
        } else if accept("not") {
            try expect("materialized")
            number = 2
        }
        try expect("(")
        let statement = try preparableStatement()
        try expect(")")
        if at("search") || at("cycle") { throw unsupported("\(token.text.uppercased()) of a WITH query") }
        return try emit(.commonTable, [columns, statement], name: name, number: number, at: start)
    }

    /// SELECT, INSERT, UPDATE, DELETE: what WITH, PREPARE, EXPLAIN and COPY take.
    mutating func preparableStatement() throws(StatementError) -> Int32 {
        try enter()
        defer { leave() }
        if startsQuery && !at("with") || at("(") { return try query() }
        let start = offset
        let with = at("with") ? try withClause() : 0
        switch token.text {
        case "insert" where at("insert"): return try insert(with)
        case "update" where at("update"): return try update(with)
        case "delete" where at("delete"): return try delete(with)
        case "merge" where at("merge"): throw unsupported("MERGE")
        case _:
            guard with != 0 else { throw syntaxError() }
            return try tail(try combined(try operand(), above: 1), with: with, at: start)
        }
    }

    // MARK: The block

    private mutating func selectBlock() throws(StatementError) -> Int32 {
        let start = offset
        advance()
        var flags: PlanFlags = [], distinctOn: Int32 = 0, targets: Int32 = 0
        if accept("distinct") {
            flags = .isDistinct
            if accept("on") {
                try expect("(")
                distinctOn = try list(try expressions())
                try expect(")")
            }
        } else {
            _ = accept("all")
        }
        if flags.contains(.isDistinct) || startsTarget { targets = try targetList() }
        if at("into") { try intoClause() }
        let from = accept("from") ? try fromList() : 0
        let condition = accept("where") ? try expression() : 0
        var group: Int32 = 0
        if at("group") {
            advance()
            try expect("by")
            if accept("distinct") { flags.insert(.isGroupDistinct) } else { _ = accept("all") }
            group = try commaList { parser throws(StatementError) in try parser.groupingElement() }
        }
        let having = accept("having") ? try expression() : 0
        let windows =
            accept("window")
            ? try commaList { parser throws(StatementError) in
                let start = parser.offset
                let name = try parser.columnName()
                try parser.expect("as")
                return try parser.emit(.namedWindow, [try parser.windowSpecification()], name: name, at: start)
            } : 0
        return try emit(
            .select, [0, distinctOn, targets, from, condition, group, having, windows, 0, 0, 0, 0], flags: flags,
            at: start)
    }

    /// False where a select block goes on, or ends, without targets.
    private var startsTarget: Bool {
        switch token.kind {
        case .end: return false
        case .punctuation: return !at(")") && !at(";")
        case .keyword:
            switch token.text {
            case "into", "from", "where", "group", "having", "window", "union", "intersect", "except", "order",
                "limit", "offset", "fetch", "for":
                return false
            case _: return true
            }
        case .identifier, .string, .bits, .hexadecimal, .integer, .number, .parameter, .symbol: return true
        }
    }

    mutating func targetList() throws(StatementError) -> Int32 {
        try commaList { parser throws(StatementError) in try parser.target() }
    }

    private mutating func target() throws(StatementError) -> Int32 {
        let start = offset
        if accept("*") { return try emit(.target, [try emit(.star, [0], at: start)], at: start) }
        let value = try expression(above: 0, .target)
        var name = ""
        if accept("as") {
            name = try label()
        } else if token.isBareLabel {
            name = token.text
            advance()
        }
        return try emit(.target, [value], name: name, at: start)
    }

    private mutating func intoClause() throws(StatementError) {
        let start = offset
        advance()
        var flags: PlanFlags = []
        if accept("local") || accept("global") {
            guard at("temporary") || at("temp") else { throw syntaxError() }
        }
        if accept("temporary") || accept("temp") {
            flags = .isTemporary
        } else if accept("unlogged") {
            flags = .isUnlogged
        }
        _ = accept("table")
        let name = try relationName()
        guard into == nil else { throw failure("SELECT ... INTO is not allowed here", at: start) }
        into = SelectInto(table: (Array(name.parts.dropLast()), name.parts.last ?? ""), flags: flags, offset: start)
    }

    private mutating func groupingElement() throws(StatementError) -> Int32 {
        let start = offset
        if accept("(", ")") { return try emit(.groupingSet, number: 0, at: start) }
        let words = ["rollup": Int64(2), "cube": 3]
        if let number = words[token.text], at(token.text, "(") {
            index += 2
            let contents = try expressions()
            try expect(")")
            return try emit(.groupingSet, contents, number: number, at: start)
        }
        guard accept("grouping", "sets") else { return try expression() }
        try enter()
        try expect("(")
        var contents = [try groupingElement()]
        while accept(",") { contents.append(try groupingElement()) }
        try expect(")")
        leave()
        return try emit(.groupingSet, contents, number: 4, at: start)
    }
}
