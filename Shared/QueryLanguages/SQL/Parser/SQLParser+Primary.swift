import Base
import Contracts

extension SQLParser {
    /// A literal, a reference, a call, something in parentheses (PostgreSQL's c_expr).
    mutating func primary() throws(StatementError) -> Int32 {
        let start = offset, text = token.text
        switch token.kind {
        case .integer(let value):
            advance()
            return try emit(.integer, number: value, at: start)
        case .number:
            advance()
            return try emit(.decimal, name: text, at: start)
        case .string:
            advance()
            return try emit(.string, name: text, at: start)
        case .bits, .hexadecimal:
            let prefix = token.kind == .bits ? "b" : "x"
            advance()
            return try emit(.bits, name: prefix + text, at: start)
        case .parameter(let number):
            advance()
            return try indirection(try emit(.parameter, number: Int64(number), at: start))
        case .identifier: return try reference()
        case .punctuation where at("("):
            switch try parenthesised() {
            case .query(let query): return try indirection(try emit(.scalarQuery, [query], at: start))
            case .expressions(let values): return try grouped(values, at: start)
            }
        case .keyword(let word): return try keyword(word)
        case .symbol, .punctuation, .end: throw syntaxError()
        }
    }

    private mutating func keyword(_ word: SQLKeyword) throws(StatementError) -> Int32 {
        let start = offset
        switch token.text {
        case "null":
            advance()
            return try emit(.null, at: start)
        case "true", "false":
            advance()
            return try emit(.boolean, number: tokens[index - 1].text == "true" ? 1 : 0, at: start)
        case "case": return try caseExpression()
        case "array": return try arrayExpression()
        case "exists" where peek().says("("):
            advance()
            return try emit(.exists, [try queryInParentheses()], at: start)
        case "row" where peek().says("("):
            advance()
            return try overlaps(try emit(.row, try rowElements(), flags: .isExplicit, at: start))
        case "grouping" where peek().says("("):
            index += 2
            let arguments = try expressions()
            try expect(")")
            return try emit(.grouping, arguments, at: start)
        case _: break
        }
        if let special = try specialForm() { return special }
        if startsTypedLiteral { return try typedLiteral() }
        switch word.category {
        case .reserved: throw syntaxError()
        case .unreserved, .columnName, .typeOrFunctionName: return try reference()
        }
    }

    /// A query in parentheses, where nothing else may stand.
    mutating func queryInParentheses() throws(StatementError) -> Int32 {
        let start = index
        try expect("(")
        while accept("(") {}
        guard startsQuery else { throw syntaxError() }
        index = start
        guard case .query(let query) = try parenthesised() else { throw syntaxError() }
        return query
    }

    private mutating func caseExpression() throws(StatementError) -> Int32 {
        let start = offset
        advance()
        let operand = at("when") ? 0 : try expression()
        var whens: [Int32] = []
        while at("when") {
            let whenStart = offset
            advance()
            let condition = try expression()
            try expect("then")
            whens.append(try emit(.when, [condition, try expression()], at: whenStart))
        }
        guard !whens.isEmpty else { throw syntaxError() }
        let otherwise = accept("else") ? try expression() : 0
        try expect("end")
        return try emit(.case, [operand, try list(whens), otherwise], at: start)
    }

    /// ARRAY[…], ARRAY(query).
    private mutating func arrayExpression() throws(StatementError) -> Int32 {
        let start = offset
        advance()
        if at("(") {
            return try emit(.arrayQuery, [try queryInParentheses()], at: start)
        }
        guard at("[") else { throw syntaxError() }
        return try arrayElements(at: start)
    }

    private mutating func arrayElements(at start: Int) throws(StatementError) -> Int32 {
        try enter()
        try expect("[")
        var elements: [Int32] = []
        if at("[") {
            repeat {
                guard at("[") else { throw syntaxError() }
                elements.append(try arrayElements(at: offset))
            } while accept(",")
        } else if !at("]") {
            elements = try expressions()
        }
        try expect("]")
        leave()
        return try emit(.arrayConstructor, elements, at: start)
    }

    // MARK: References

    /// `.name`, `.*`, `[index]`, `[low:high]` behind a value.
    mutating func indirection(_ operand: Int32) throws(StatementError) -> Int32 {
        var result = operand
        while true {
            let start = offset
            if at("[") {
                // (a[1:2])[1] takes an element of the slice, a[1:2][1] a slice of two dimensions.
                let isApart = result == operand && [.arraySubscript, .arraySlice].contains(nodes[Int(operand)].kind)
                result = try subscripted(result, isApart ? .isMarked : [])
            } else if at(".") {
                advance()
                if accept("*") {
                    try checkStar()
                    return try emit(.allFields, [result], at: start)
                }
                result = try emit(.fieldSelection, [result], name: try label(), at: start)
            } else {
                return result
            }
        }
    }

    /// A star ends a reference; PostgreSQL notices behind all that follows it.
    private mutating func checkStar() throws(StatementError) {
        guard at(".") || at("[") else { return }
        while at(".") || at("[") {
            if accept(".") {
                if !accept("*") { _ = try label() }
            } else {
                _ = try subscripted(0)
            }
        }
        throw syntaxError("improper use of \"*\"")
    }

    private mutating func subscripted(_ operand: Int32, _ flags: PlanFlags = []) throws(StatementError) -> Int32 {
        let start = offset
        try expect("[")
        if accept(":") { return try emit(.arraySlice, [operand, 0, try sliceEnd()], flags: flags, at: start) }
        let index = try expression()
        if accept(":") { return try emit(.arraySlice, [operand, index, try sliceEnd()], flags: flags, at: start) }
        try expect("]")
        return try emit(.arraySubscript, [operand, index], flags: flags, at: start)
    }

    private mutating func sliceEnd() throws(StatementError) -> Int32 {
        if accept("]") { return 0 }
        let high = try expression()
        try expect("]")
        return high
    }

    /// A word: a column, `t.*`, a call, a literal with its type in front of it.
    private mutating func reference() throws(StatementError) -> Int32 {
        let start = offset, first = token
        advance()
        var parts = [first.text]
        while at("."), first.isColumnName {
            if peek().says("*") {
                index += 2
                try checkStar()
                return try emit(.star, [try nameNode(parts, at: start)], at: start)
            }
            advance()
            parts.append(try label())
        }
        let isFunctionName = parts.count > 1 || first.isTypeOrFunctionName
        if isFunctionName, at("(") { return try call(parts, at: start) }
        if isFunctionName, token.isString { return try typedString(parts, modifiers: [], at: start) }
        guard first.isColumnName else { throw syntaxError() }
        let (qualifier, name) = try qualified(parts, at: start)
        return try indirection(try emit(.columnReference, [qualifier], name: name, at: start))
    }

    /// `name 'text'`.
    private mutating func typedString(
        _ parts: [String], modifiers: [Int32], at start: Int
    ) throws(StatementError) -> Int32 {
        let (qualifier, name) = try qualified(parts, at: start)
        let type = try emit(.typeName, [qualifier, try list(modifiers)], name: name, at: start)
        let text = try emit(.string, name: token.text, at: offset)
        advance()
        return try emit(.cast, [text, type], at: start)
    }

    // MARK: Calls

    /// A call of something that the language spells in a form of its own.
    mutating func builtIn(_ name: String, _ arguments: [Int32], at start: Int) throws(StatementError) -> Int32 {
        try emit(.functionCall, [0, try list(arguments), 0, 0, 0], name: name, flags: .isBuiltIn, at: start)
    }

    /// What is in the parentheses of a call.
    private struct Arguments {
        var values: [Int32] = [], orderBy: Int32 = 0, flags: PlanFlags = []
        var hasNames = false
    }

    /// Behind the name of a function.
    private mutating func call(_ parts: [String], at start: Int) throws(StatementError) -> Int32 {
        try enter()
        var arguments = try arguments()
        leave()
        if token.isString, arguments.flags.isEmpty, !arguments.values.isEmpty {
            if arguments.hasNames { throw failure("type modifier cannot have parameter name", at: start) }
            if arguments.orderBy != 0 { throw failure("type modifier cannot have ORDER BY", at: start) }
            return try typedString(parts, modifiers: arguments.values, at: start)
        }
        if at("within", "group") { try withinGroup(&arguments) }
        var filter: Int32 = 0
        if accept("filter") {
            try expect("(")
            try expect("where")
            filter = try expression()
            try expect(")")
        }
        var over: Int32 = 0
        if at("over") {
            let overStart = offset
            advance()
            over =
                at("(")
                ? try windowSpecification() : try emit(.windowReference, name: try columnName(), at: overStart)
        }
        let (qualifier, name) = try qualified(parts, at: start)
        return try emit(
            .functionCall, [qualifier, try list(arguments.values), arguments.orderBy, filter, over], name: name,
            flags: arguments.flags, at: start)
    }

    private mutating func withinGroup(_ arguments: inout Arguments) throws(StatementError) {
        let start = offset
        index += 2
        try expect("(")
        let order = try orderBy()
        guard order != 0 else { throw syntaxError() }
        try expect(")")
        let fault: String? =
            arguments.orderBy != 0
            ? "cannot use multiple ORDER BY clauses with WITHIN GROUP"
            : arguments.flags.contains(.isDistinct)
                ? "cannot use DISTINCT with WITHIN GROUP"
                : arguments.flags.contains(.isVariadic) ? "cannot use VARIADIC with WITHIN GROUP" : nil
        if let fault { throw failure(fault, at: start) }
        arguments.orderBy = order
        arguments.flags.insert(.isWithinGroup)
    }

    private mutating func arguments() throws(StatementError) -> Arguments {
        var arguments = Arguments()
        try expect("(")
        if accept(")") { return arguments }
        if at("*") {
            advance()
            try expect(")")
            arguments.flags = .isStar
            return arguments
        }
        let canBeVariadic = !at("distinct") && !at("all")
        if accept("distinct") { arguments.flags = .isDistinct } else { _ = accept("all") }
        repeat {
            if canBeVariadic, accept("variadic") {
                arguments.flags.insert(.isVariadic)
                arguments.values.append(try argument(&arguments))
                break
            }
            arguments.values.append(try argument(&arguments))
        } while accept(",")
        arguments.orderBy = try orderBy()
        try expect(")")
        return arguments
    }

    private mutating func argument(_ arguments: inout Arguments) throws(StatementError) -> Int32 {
        guard token.isTypeOrFunctionName, peek().says(":=") || peek().says("=>") else { return try expression() }
        let start = offset, name = token.text
        index += 2
        arguments.hasNames = true
        return try emit(.namedArgument, [try expression()], name: name, at: start)
    }
}
