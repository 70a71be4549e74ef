import Base
import Contracts

/// How tightly operators bind, loosest first (gram.y's table of precedences, in its order).
enum SQLPrecedence {
    static let or = 1, and = 2, not = 3, `is` = 4, comparison = 5, like = 6, other = 9, sum = 10, product = 11
    static let power = 12, zone = 13, collate = 14, sign = 15, cast = 17

    /// Of an operator between two operands.
    static func of(_ symbol: String) -> Int {
        switch symbol {
        case "<", ">", "=", "<=", ">=", "<>": comparison
        case "+", "-": sum
        case "*", "/", "%": product
        case "^": power
        case _: other
        }
    }

    /// Operators of this precedence do not follow one another without parentheses.
    static func isAlone(_ level: Int) -> Bool { level == `is` || level == comparison || level == like }
}

/// Which operators an expression may have at its top.
enum SQLExpressionKind {
    case any
    /// PostgreSQL's b_expr: without AND, OR, NOT, LIKE, IN, BETWEEN and tests, where AND or IN belong to something
    /// around it.
    case restricted
    /// Of a list of targets: a word that might be an operator is a label if nothing follows it.
    case target
}

/// What parentheses held.
enum SQLParenthesised {
    case query(Int32)
    case expressions([Int32])
}

extension SQLParser {
    mutating func expression() throws(StatementError) -> Int32 { try expression(above: 0, .any) }

    /// An expression whose operators bind tighter than `level` allows: at least `level`.
    mutating func expression(above level: Int, _ kind: SQLExpressionKind) throws(StatementError) -> Int32 {
        try enter()
        let left = try prefixed(kind)
        let result = try continued(left, above: level, kind)
        leave()
        return result
    }

    /// `expression, …`
    mutating func expressions() throws(StatementError) -> [Int32] {
        var result = [try expression()]
        while accept(",") { result.append(try expression()) }
        return result
    }

    /// The kind of an operand of an expression.
    private func inner(_ kind: SQLExpressionKind) -> SQLExpressionKind { kind == .restricted ? .restricted : .any }

    private mutating func prefixed(_ kind: SQLExpressionKind) throws(StatementError) -> Int32 {
        let start = offset
        switch token.kind {
        case .symbol:
            let name = token.text
            switch name {
            case "+", "-":
                advance()
                return try emit(
                    .operator, [0, try expression(above: SQLPrecedence.sign, inner(kind)), 0], name: name, at: start)
            case "<", ">", "=", "<=", ">=", "<>", "*", "/", "%", "^": throw syntaxError()
            case _:
                advance()
                return try emit(
                    .operator, [0, try expression(above: SQLPrecedence.sum, inner(kind)), 0], name: name, at: start)
            }
        case .keyword:
            if at("not"), kind != .restricted {
                advance()
                return try emit(.not, [try expression(above: SQLPrecedence.not, .any)], at: start)
            }
            if at("operator", "(") {
                let (qualifier, name) = try qualifiedOperator()
                return try emit(
                    .operator, [0, try expression(above: SQLPrecedence.sum, inner(kind)), qualifier], name: name,
                    at: start)
            }
            if at("default"), kind != .restricted {
                advance()
                return try emit(.default, at: start)
            }
            return try primary()
        case .identifier, .string, .bits, .hexadecimal, .integer, .number, .parameter, .punctuation, .end:
            return try primary()
        }
    }

    /// `OPERATOR(schema.+)`.
    mutating func qualifiedOperator() throws(StatementError) -> (qualifier: Int32, name: String) {
        let start = offset
        index += 2
        var parts: [String] = []
        while token.isColumnName {
            parts.append(token.text)
            advance()
            try expect(".")
        }
        guard case .symbol = token.kind else { throw syntaxError() }
        let name = token.text
        advance()
        try expect(")")
        // Nothing else has this name; an operator without a schema is what it is without OPERATOR.
        return (try nameNode(parts, at: start), name)
    }

    /// Reads on behind a left operand.
    mutating func continued(
        _ first: Int32, above level: Int, _ kind: SQLExpressionKind
    ) throws(StatementError) -> Int32 {
        var left = first
        // The precedence of the infix operator that `left` ends with, if it stands alone.
        var alone = -1
        while let next = infix(kind), next.level >= level {
            guard next.level != alone || !SQLPrecedence.isAlone(alone) else { throw syntaxError() }
            if kind == .target, next.isWord, endsTarget(peek()) { break }
            alone = next.level
            switch next.form {
            case .symbol:
                left = try symbolic(left, next.level, kind)
            case .logical:
                left = try logical(left, next.level, kind)
            case .test:
                if !(try test(&left, kind)) { alone = -1 }
            case .pattern:
                if !(try pattern(&left)) { alone = -1 }
            case .postfix:
                left = try postfix(left)
                alone = -1
            }
        }
        return left
    }

    /// What of an expression can follow an operand.
    private struct Infix {
        enum Form { case symbol, logical, test, pattern, postfix }
        let level: Int, form: Form
        var isWord = false
    }

    private func infix(_ kind: SQLExpressionKind) -> Infix? {
        switch token.kind {
        case .symbol: return Infix(level: SQLPrecedence.of(token.text), form: .symbol)
        case .punctuation:
            return at("::") ? Infix(level: SQLPrecedence.cast, form: .postfix) : nil
        case .keyword: break
        case .identifier, .string, .bits, .hexadecimal, .integer, .number, .parameter, .end: return nil
        }
        let isRestricted = kind == .restricted
        switch token.text {
        case "operator":
            return peek().says("(") ? Infix(level: SQLPrecedence.other, form: .symbol) : nil
        case "is":
            return Infix(level: SQLPrecedence.is, form: .test, isWord: true)
        case _ where isRestricted: return nil
        case "and": return Infix(level: SQLPrecedence.and, form: .logical, isWord: true)
        case "or": return Infix(level: SQLPrecedence.or, form: .logical, isWord: true)
        case "isnull", "notnull": return Infix(level: SQLPrecedence.is, form: .test)
        // SUBSTRING(a SIMILAR b ESCAPE c) has one without TO.
        case "similar" where !peek().says("to"): return nil
        case "like", "ilike", "similar", "between", "in":
            return Infix(level: SQLPrecedence.like, form: .pattern, isWord: true)
        case "not":
            switch peek().text {
            case "like", "ilike", "similar", "between", "in":
                guard case .keyword = peek().kind else { return nil }
                return Infix(level: SQLPrecedence.like, form: .pattern)
            case _: return nil
            }
        case "at":
            return peek().says("time") ? Infix(level: SQLPrecedence.zone, form: .postfix) : nil
        case "collate": return Infix(level: SQLPrecedence.collate, form: .postfix, isWord: true)
        case _: return nil
        }
    }

    /// True for what follows a target: the word before it is a label then.
    private func endsTarget(_ token: SQLToken) -> Bool {
        switch token.kind {
        case .end: true
        case .punctuation: token.text == "," || token.text == ")" || token.text == ";"
        case .keyword:
            switch token.text {
            case "from", "into", "where", "group", "having", "window", "union", "intersect", "except", "order",
                "limit", "offset", "fetch", "for":
                true
            case _: false
            }
        case .identifier, .string, .bits, .hexadecimal, .integer, .number, .parameter, .symbol: false
        }
    }

    // MARK: Operators

    private mutating func symbolic(
        _ left: Int32, _ level: Int, _ kind: SQLExpressionKind
    ) throws(StatementError) -> Int32 {
        let start = offset
        var name = token.text, qualifier: Int32 = 0
        if at("operator") {
            (qualifier, name) = try qualifiedOperator()
        } else {
            advance()
        }
        if kind != .restricted, let isAll = quantifier() {
            return try quantified(left, name, qualifier, isAll, at: start)
        }
        let right = try expression(above: level + 1, inner(kind))
        return try emit(.operator, [left, right, qualifier], name: name, at: start)
    }

    /// ANY, SOME or ALL in front of a parenthesis: true for ALL; nil for none of them.
    private mutating func quantifier() -> Bool? {
        guard at("any") || at("some") || at("all") else { return nil }
        defer { advance() }
        return at("all")
    }

    private mutating func quantified(
        _ left: Int32, _ name: String, _ qualifier: Int32, _ isAll: Bool, at start: Int
    ) throws(StatementError) -> Int32 {
        let flags: PlanFlags = isAll ? .isAll : []
        switch try parenthesised(isSingle: true) {
        case .query(let query):
            return try emit(.quantifiedQuery, [left, query, qualifier], name: name, flags: flags, at: start)
        case .expressions(let values):
            return try emit(.quantifiedArray, [left, values[0], qualifier], name: name, flags: flags, at: start)
        }
    }

    /// AND, OR: one node for a chain of them.
    private mutating func logical(
        _ left: Int32, _ level: Int, _ context: SQLExpressionKind
    ) throws(StatementError) -> Int32 {
        let start = offset, word = token.text
        let kind: PlanKind = word == "and" ? .and : .or
        var operands = [left]
        while at(word) {
            if operands.count > 1, context == .target, endsTarget(peek()) { break }
            advance()
            operands.append(try expression(above: level + 1, .any))
        }
        return try emit(kind, operands, at: start)
    }

    /// IS …, ISNULL, NOTNULL; true if it ends with an operand.
    private mutating func test(_ left: inout Int32, _ kind: SQLExpressionKind) throws(StatementError) -> Bool {
        let start = offset
        if at("isnull") || at("notnull") {
            left = try emit(.nullTest, [left], flags: at("notnull") ? .isNegated : [], at: start)
            advance()
            return false
        }
        try expect("is")
        let flags: PlanFlags = accept("not") ? .isNegated : []
        if accept("distinct") {
            try expect("from")
            let right = try expression(above: SQLPrecedence.is + 1, inner(kind))
            left = try emit(.distinctTest, [left, right], flags: flags, at: start)
            return true
        }
        if at("document") { throw unsupported("IS DOCUMENT", at: start) }
        guard kind != .restricted else { throw syntaxError() }
        if accept("null") {
            left = try emit(.nullTest, [left], flags: flags, at: start)
            return false
        }
        for (number, word) in ["true", "false", "unknown"].enumerated() where at(word) {
            advance()
            left = try emit(.booleanTest, [left], number: Int64(number), flags: flags, at: start)
            return false
        }
        left = try normalized(left, flags, at: start)
        return false
    }

    /// IS [NOT] [form] NORMALIZED.
    private mutating func normalized(
        _ left: Int32, _ flags: PlanFlags, at start: Int
    ) throws(StatementError) -> Int32 {
        var arguments = [left]
        if ["nfc", "nfd", "nfkc", "nfkd"].contains(where: at) {
            arguments.append(try emit(.string, name: token.text.uppercased(), at: offset))
            advance()
        }
        try expect("normalized")
        let call = try builtIn("is_normalized", arguments, at: start)
        return flags.contains(.isNegated) ? try emit(.not, [call], at: start) : call
    }

    /// [NOT] LIKE, ILIKE, SIMILAR TO, BETWEEN, IN; true if it ends with an operand.
    private mutating func pattern(_ left: inout Int32) throws(StatementError) -> Bool {
        let start = offset
        var flags: PlanFlags = accept("not") ? .isNegated : []
        let word = token.text
        advance()
        switch word {
        case "between":
            if accept("symmetric") { flags.insert(.isSymmetric) } else { _ = accept("asymmetric") }
            let low = try expression(above: 0, .restricted)
            try expect("and")
            let high = try expression(above: SQLPrecedence.like + 1, .any)
            left = try emit(.between, [left, low, high], flags: flags, at: start)
            return true
        case "in":
            switch try parenthesised() {
            case .query(let query): left = try emit(.inQuery, [left, query], flags: flags, at: start)
            case .expressions(let values):
                left = try emit(.inList, [left, try list(values)], flags: flags, at: start)
            }
            return false
        case "similar": try expect("to")
        case _:
            if let isAll = quantifier() {
                let name = (flags.contains(.isNegated) ? "!~~" : "~~") + (word == "ilike" ? "*" : "")
                left = try quantified(left, name, 0, isAll, at: start)
                return false
            }
        }
        let pattern = try expression(above: SQLPrecedence.like + 1, .any)
        let escape = accept("escape") ? try expression(above: SQLPrecedence.like + 1, .any) : 0
        let number: Int64 = word == "like" ? 0 : word == "ilike" ? 1 : 2
        left = try emit(.like, [left, pattern, escape], number: number, flags: flags, at: start)
        return true
    }

    /// `::`, COLLATE, AT TIME ZONE.
    private mutating func postfix(_ left: Int32) throws(StatementError) -> Int32 {
        let start = offset
        if accept("::") { return try emit(.cast, [left, try typeName()], at: start) }
        if accept("collate") { return try emit(.collate, [left, try anyName()], at: start) }
        try expect("at")
        try expect("time", "zone")
        let zone = try expression(above: SQLPrecedence.zone + 1, .any)
        return try builtIn("timezone", [zone, left], at: start)
    }

    // MARK: Parentheses

    /// True where a query begins, parentheses aside.
    var startsQuery: Bool {
        at("select") || at("with") || at("table") || at("values") && peek().says("(")
    }

    /// What a query in parentheses may go on with.
    private var continuesQuery: Bool {
        ["union", "intersect", "except", "order", "limit", "offset", "fetch", "for"].contains(where: at)
    }

    /// `( … )`: a query, or expressions. Only its end tells `((SELECT 1) UNION SELECT 2)` from `((SELECT 1) + 2)`.
    mutating func parenthesised(isSingle: Bool = false) throws(StatementError) -> SQLParenthesised {
        try enter()
        try expect("(")
        var first: Int32
        if startsQuery {
            let query = try query()
            try expect(")")
            leave()
            return .query(query)
        }
        if at("(") {
            let start = offset
            switch try parenthesised() {
            case .query(let query) where at(")"):
                advance()
                leave()
                return .query(query)
            case .query(let query) where continuesQuery:
                let whole = try continuedQuery(query)
                try expect(")")
                leave()
                return .query(whole)
            case .query(let query):
                first = try indirection(try emit(.scalarQuery, [query], at: start))
            case .expressions(let values):
                first = try grouped(values, at: start)
            }
            first = try continued(first, above: 0, .any)
        } else {
            first = try expression()
        }
        var values = [first]
        while !isSingle, accept(",") { values.append(try expression()) }
        try expect(")")
        leave()
        return .expressions(values)
    }

    /// Expressions in parentheses as a value: one of them, or a row.
    mutating func grouped(_ values: [Int32], at start: Int) throws(StatementError) -> Int32 {
        if values.count == 1 { return try indirection(values[0]) }
        return try overlaps(try emit(.row, values, at: start))
    }

    /// `row OVERLAPS row`.
    mutating func overlaps(_ left: Int32) throws(StatementError) -> Int32 {
        guard at("overlaps") else { return left }
        let start = offset
        advance()
        let rightStart = offset
        let right: Int32
        if accept("row") {
            right = try emit(.row, try rowElements(), flags: .isExplicit, at: rightStart)
        } else {
            guard case .expressions(let values) = try parenthesised(), values.count > 1 else { throw syntaxError() }
            right = try emit(.row, values, at: rightStart)
        }
        let (first, second) = (nodes[Int(left)].children, nodes[Int(right)].children)
        for (side, row) in [("left", left), ("right", right)] where nodes[Int(row)].children.count != 2 {
            throw StatementError(
                .syntaxError, "wrong number of parameters on \(side) side of OVERLAPS expression",
                position: Int(nodes[Int(row)].position))
        }
        // The rows are only written: what they hold becomes arguments.
        _ = remove(right)
        _ = remove(left)
        return try builtIn("overlaps", first + second, at: start)
    }

    /// `(a, b)` behind ROW; empty too.
    mutating func rowElements() throws(StatementError) -> [Int32] {
        try expect("(")
        if accept(")") { return [] }
        let values = try expressions()
        try expect(")")
        return values
    }
}
