import Base
import Contracts

extension SQLParser {
    mutating func fromList() throws(StatementError) -> Int32 {
        try commaList { parser throws(StatementError) in try parser.tableReference() }
    }

    private mutating func tableReference() throws(StatementError) -> Int32 {
        try enter()
        let first = try tableFactor()
        let result = try joined(first)
        leave()
        return result
    }

    // MARK: Joins

    /// A join's type, if one begins here.
    private var startsQualifiedJoin: Bool {
        ["join", "inner", "left", "right", "full"].contains(where: at)
    }

    /// Joins behind a table, from left to right; a join that has no condition yet takes those behind it first.
    private mutating func joined(_ first: Int32) throws(StatementError) -> Int32 {
        var left = first
        while true {
            let start = offset
            if accept("cross") {
                try expect("join")
                left = try emit(.join, [left, try tableFactor(), 0, 0, 0], number: 4, at: start)
            } else if accept("natural") {
                let number = try joinType()
                left = try emit(
                    .join, [left, try tableFactor(), 0, 0, 0], number: number, flags: .isNatural, at: start)
            } else if startsQualifiedJoin {
                let number = try joinType()
                var right = try tableFactor()
                if !at("on"), !at("using") {
                    try enter()
                    right = try joined(right)
                    leave()
                }
                left = try qualifiedJoin(left, right, number, at: start)
            } else {
                return left
            }
        }
    }

    private mutating func joinType() throws(StatementError) -> Int64 {
        var number: Int64 = 0
        if let index = ["left", "right", "full"].firstIndex(where: at) {
            advance()
            _ = accept("outer")
            number = Int64(index + 1)
        } else {
            _ = accept("inner")
        }
        try expect("join")
        return number
    }

    private mutating func qualifiedJoin(
        _ left: Int32, _ right: Int32, _ number: Int64, at start: Int
    ) throws(StatementError) -> Int32 {
        if accept("on") {
            return try emit(.join, [left, right, try expression(), 0, 0], number: number, at: start)
        }
        try expect("using")
        let columns = try columnNames()
        let name = accept("as") ? try columnName() : ""
        return try emit(.join, [left, right, 0, columns, 0], name: name, number: number, at: start)
    }

    // MARK: Tables

    private mutating func tableFactor() throws(StatementError) -> Int32 {
        let start = offset
        let isLateral = accept("lateral"), place = offset
        if at("(") {
            if isLateral { return try derivedTable(try queryInParentheses(), isLateral: true, at: place) }
            switch try parenthesisedTable() {
            case .query(let query): return try derivedTable(query, isLateral: false, at: start)
            case .join(let join):
                guard at("as") || token.isColumnName else { return join }
                let alias = try alias()
                var node = remove(join)
                // A join that has an alias keeps it: another pair of parentheses cannot add one.
                if node.children[4] != 0 { throw unsupported("an alias of a join that has one", at: start) }
                node.children[4] = alias
                return try add(node)
            }
        }
        if at("rows"), peek().says("from"), peek(2).says("(") { return try rowsFrom(isLateral, at: start) }
        if at("xmltable", "(") { throw unsupported("XMLTABLE") }
        if startsSpecialForm { return try functionTable(isLateral, at: start) }
        var ahead = index + 1
        while tokens[min(ahead, tokens.count - 1)].says("."), ahead + 2 < tokens.count { ahead += 2 }
        let isCall = tokens[min(ahead, tokens.count - 1)].says("(")
        let isFunction = isCall && (token.isTypeOrFunctionName || token.isColumnName && ahead > index + 1)
        if isFunction, !at("only") { return try functionTable(isLateral, at: start) }
        guard !isLateral else {
            // Only a query or a call may be LATERAL: the fault is what stands where its parenthesis should.
            if token.isLabel { index = min(ahead, tokens.count - 1) }
            throw syntaxError()
        }
        let table = try relation(alias: nil)
        if at("tablesample") { throw unsupported("TABLESAMPLE") }
        return table
    }

    private enum ParenthesisedTable {
        case query(Int32)
        case join(Int32)
    }

    /// `(query)` or `(a JOIN b …)`: only its end tells them apart where parentheses nest.
    private mutating func parenthesisedTable() throws(StatementError) -> ParenthesisedTable {
        try enter()
        defer { leave() }
        let start = offset
        try expect("(")
        if startsQuery {
            let query = try query()
            try expect(")")
            return .query(query)
        }
        var first: Int32
        var isJoin = false
        if at("(") {
            switch try parenthesisedTable() {
            case .query(let query):
                if accept(")") { return .query(query) }
                let goesOn = ["union", "intersect", "except", "order", "limit", "offset", "fetch", "for"]
                if goesOn.contains(where: at) {
                    let whole = try continuedQuery(query)
                    try expect(")")
                    return .query(whole)
                }
                first = try derivedTable(query, isLateral: false, at: start)
            case .join(let join):
                (first, isJoin) = (join, true)
                if at("as") || token.isColumnName, nodes[Int(join)].children[4] == 0 {
                    let alias = try alias()
                    var node = remove(join)
                    node.children[4] = alias
                    first = try add(node)
                    isJoin = false
                }
            }
        } else {
            first = try tableFactor()
        }
        let before = first
        first = try joined(first)
        guard isJoin || first != before else { throw syntaxError() }
        try expect(")")
        return .join(first)
    }

    private mutating func derivedTable(
        _ query: Int32, isLateral: Bool, at start: Int
    ) throws(StatementError) -> Int32 {
        guard at("as") || token.isColumnName else {
            let isValues = nodes[Int(query)].kind == .values
            throw failure(
                "\(isValues ? "VALUES" : "subquery") in FROM must have an alias",
                hint: "For example, FROM (\(isValues ? "VALUES" : "SELECT") ...) [AS] foo.", at: start)
        }
        return try emit(
            .derivedTable, [query, try alias()], flags: isLateral ? .isLateral : [], at: start)
    }

    /// `[AS] name [(columns)]`.
    private mutating func alias() throws(StatementError) -> Int32 {
        let start = offset
        _ = accept("as")
        let name = try columnName()
        return try emit(.alias, [at("(") ? try columnNames() : 0], name: name, at: start)
    }

    /// A table by its name; nil: an alias with columns may follow, else the alias is given.
    mutating func relation(alias given: Int32?) throws(StatementError) -> Int32 {
        let start = offset
        var flags: PlanFlags = []
        let name: (parts: [String], offset: Int)
        if accept("only") {
            flags = .isOnly
            if accept("(") {
                name = try relationName()
                try expect(")")
            } else {
                name = try relationName()
            }
        } else {
            name = try relationName()
            _ = accept("*")
        }
        var alias = given ?? 0
        if given == nil, at("as") || token.isColumnName { alias = try self.alias() }
        let (qualifier, last) = try qualified(name.parts, at: name.offset)
        return try emit(
            .table, [qualifier, alias], name: last, flags: flags,
            at: flags.isEmpty ? name.offset : max(start, name.offset))
    }

    // MARK: Functions

    private mutating func functionTable(_ isLateral: Bool, at start: Int) throws(StatementError) -> Int32 {
        let callStart = offset
        let call = try primary()
        var flags: PlanFlags = isLateral ? .isLateral : []
        if accept("with", "ordinality") { flags.insert(.isWithOrdinality) }
        let (alias, columns) = try functionAlias()
        let function = try emit(.tableFunction, [call, columns], at: callStart)
        return try emit(.functionTable, [try list([function]), alias], flags: flags, at: start)
    }

    /// `[AS] name [(columns or definitions)]`, `AS (definitions)`.
    private mutating func functionAlias() throws(StatementError) -> (alias: Int32, columns: Int32) {
        let start = offset
        guard at("as") || token.isColumnName else { return (0, 0) }
        if accept("as", "(") {
            index -= 1
            return (0, try columnDefinitions())
        }
        _ = accept("as")
        let name = try columnName()
        var names: Int32 = 0, columns: Int32 = 0
        if at("(") {
            let isNames = peek(2).says(",") || peek(2).says(")")
            if isNames { names = try columnNames() } else { columns = try columnDefinitions() }
        }
        return (try emit(.alias, [names], name: name, at: start), columns)
    }

    private mutating func columnDefinitions() throws(StatementError) -> Int32 {
        try parenthesisedList { parser throws(StatementError) in
            let start = parser.offset
            let name = try parser.columnName()
            let type = try parser.typeName()
            let collation = parser.accept("collate") ? try parser.anyName() : 0
            return try parser.emit(.columnDefinition, [type, collation, 0], name: name, at: start)
        }
    }

    /// ROWS FROM (call, …).
    private mutating func rowsFrom(_ isLateral: Bool, at start: Int) throws(StatementError) -> Int32 {
        index += 2
        let calls = try parenthesisedList { parser throws(StatementError) in
            let start = parser.offset
            guard parser.token.isLabel else { throw parser.syntaxError() }
            let call = try parser.primary()
            let columns = parser.accept("as") ? try parser.columnDefinitions() : 0
            return try parser.emit(.tableFunction, [call, columns], at: start)
        }
        var flags: PlanFlags = isLateral ? .isLateral : []
        if accept("with", "ordinality") { flags.insert(.isWithOrdinality) }
        let alias = at("as") || token.isColumnName ? try alias() : 0
        return try emit(.functionTable, [calls, alias], flags: flags, at: start)
    }
}
