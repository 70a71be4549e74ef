import Base
import Contracts

/// Calls that SQL spells in forms of their own. They become ordinary calls of the functions that PostgreSQL has for
/// them, marked as built in.
extension SQLParser {
    /// A special form, if one begins here.
    mutating func specialForm() throws(StatementError) -> Int32? {
        let start = offset, word = token.text
        switch word {
        case "current_date", "current_role", "current_user", "session_user", "user", "current_catalog":
            advance()
            return try emit(.specialValue, name: word, number: -1, at: start)
        case "current_schema" where !peek().says("("):
            advance()
            return try emit(.specialValue, name: word, number: -1, at: start)
        case "current_time", "current_timestamp", "localtime", "localtimestamp":
            advance()
            let precision = try parenthesisedNumber()
            return try emit(.specialValue, name: word, number: precision ?? -1, at: start)
        case "collation" where peek().says("for"):
            index += 2
            return try inParentheses { parser throws(StatementError) in
                try parser.builtIn("pg_collation_for", [try parser.expression()], at: start)
            }
        case "cast": return try cast()
        case _ where peek().says("("): break
        case _: return nil
        }
        switch word {
        case "coalesce", "greatest", "least", "nullif":
            advance()
            return try conditional(word, at: start)
        case "extract", "normalize", "overlay", "position", "substring", "trim":
            advance()
            try enter()
            let result = try inParentheses { parser throws(StatementError) in try parser.function(word, at: start) }
            leave()
            return result
        case "treat", "xmlconcat", "xmlelement", "xmlexists", "xmlforest", "xmlparse", "xmlpi", "xmlroot",
            "xmlserialize":
            throw unsupported(word.uppercased())
        case _: return nil
        }
    }

    /// True where a special form begins that may stand for a function in FROM.
    var startsSpecialForm: Bool {
        switch token.text {
        case "current_date", "current_role", "current_user", "session_user", "user", "current_catalog",
            "current_schema", "current_time", "current_timestamp", "localtime", "localtimestamp", "cast":
            if case .keyword = token.kind { return true }
            return false
        case "coalesce", "greatest", "least", "nullif", "extract", "normalize", "overlay", "position", "substring",
            "trim", "treat":
            if case .keyword = token.kind { return peek().says("(") }
            return false
        case "collation": return at("collation", "for")
        case _: return false
        }
    }

    private mutating func inParentheses(
        _ content: (inout SQLParser) throws(StatementError) -> Int32
    ) throws(StatementError) -> Int32 {
        try expect("(")
        let result = try content(&self)
        try expect(")")
        return result
    }

    private mutating func cast() throws(StatementError) -> Int32 {
        let start = offset
        advance()
        try expect("(")
        let operand = try expression()
        try expect("as")
        let type = try typeName()
        try expect(")")
        return try emit(.cast, [operand, type], at: start)
    }

    private mutating func conditional(_ word: String, at start: Int) throws(StatementError) -> Int32 {
        try expect("(")
        if word == "nullif" {
            let left = try expression()
            try expect(",")
            let right = try expression()
            try expect(")")
            return try emit(.nullIf, [left, right], at: start)
        }
        let operands = try expressions()
        try expect(")")
        let kind: PlanKind = word == "coalesce" ? .coalesce : word == "greatest" ? .greatest : .least
        return try emit(kind, operands, at: start)
    }

    private mutating func function(_ word: String, at start: Int) throws(StatementError) -> Int32 {
        switch word {
        case "extract": return try extract(at: start)
        case "normalize":
            var arguments = [try expression()]
            if accept(",") {
                guard ["nfc", "nfd", "nfkc", "nfkd"].contains(where: at) else { throw syntaxError() }
                arguments.append(try emit(.string, name: token.text.uppercased(), at: offset))
                advance()
            }
            return try builtIn("normalize", arguments, at: start)
        case "position":
            let part = try expression(above: 0, .restricted)
            try expect("in")
            let whole = try expression(above: 0, .restricted)
            return try builtIn("position", [whole, part], at: start)
        case "trim": return try trim(at: start)
        case "overlay": return try overlay(at: start)
        case _: return try substring(at: start)
        }
    }

    /// `field FROM value`.
    private mutating func extract(at start: Int) throws(StatementError) -> Int32 {
        let field = token
        switch field.kind {
        case .identifier, .string: break
        case .keyword:
            guard ["year", "month", "day", "hour", "minute", "second"].contains(field.text) else {
                throw syntaxError()
            }
        case .bits, .hexadecimal, .integer, .number, .parameter, .symbol, .punctuation, .end: throw syntaxError()
        }
        let name = try emit(.string, name: field.text, at: offset)
        advance()
        try expect("from")
        return try builtIn("extract", [name, try expression()], at: start)
    }

    private mutating func trim(at start: Int) throws(StatementError) -> Int32 {
        var name = "btrim"
        if accept("leading") {
            name = "ltrim"
        } else if accept("trailing") {
            name = "rtrim"
        } else {
            _ = accept("both")
        }
        if accept("from") { return try builtIn(name, try expressions(), at: start) }
        let first = try expression()
        if accept("from") { return try builtIn(name, try expressions() + [first], at: start) }
        var values = [first]
        while accept(",") { values.append(try expression()) }
        return try builtIn(name, values, at: start)
    }

    /// Arguments of SUBSTRING and OVERLAY in the form of an ordinary call: then it is one, found by the search path.
    private mutating func ordinary(_ name: String, _ first: Int32?, at start: Int) throws(StatementError) -> Int32 {
        var values = first.map { [$0] } ?? []
        if first != nil {
            while accept(",") { values.append(try namedOrPlain()) }
        } else if !at(")") {
            repeat { values.append(try namedOrPlain()) } while accept(",")
        }
        return try emit(.functionCall, [0, try list(values), 0, 0, 0], name: name, at: start)
    }

    private mutating func namedOrPlain() throws(StatementError) -> Int32 {
        guard startsNamedArgument else { return try expression() }
        let start = offset, name = token.text
        index += 2
        return try emit(.namedArgument, [try expression()], name: name, at: start)
    }

    private var startsNamedArgument: Bool { token.isTypeOrFunctionName && (peek().says(":=") || peek().says("=>")) }

    private mutating func overlay(at start: Int) throws(StatementError) -> Int32 {
        if at(")") || startsNamedArgument { return try ordinary("overlay", nil, at: start) }
        let value = try expression()
        guard accept("placing") else { return try ordinary("overlay", value, at: start) }
        var arguments = [value, try expression()]
        try expect("from")
        arguments.append(try expression())
        if accept("for") { arguments.append(try expression()) }
        return try builtIn("overlay", arguments, at: start)
    }

    private mutating func substring(at start: Int) throws(StatementError) -> Int32 {
        if at(")") || startsNamedArgument { return try ordinary("substring", nil, at: start) }
        let value = try expression()
        if accept("similar") {
            let pattern = try expression()
            try expect("escape")
            return try builtIn("substring", [value, pattern, try expression()], at: start)
        }
        if accept("from") {
            let from = try expression()
            let arguments = accept("for") ? [value, from, try expression()] : [value, from]
            return try builtIn("substring", arguments, at: start)
        }
        guard at("for") else { return try ordinary("substring", value, at: start) }
        advance()
        let count = try expression()
        if accept("from") { return try builtIn("substring", [value, try expression(), count], at: start) }
        // Without a start the count must be a whole number: there is another substring(text, text, text).
        let first = try emit(.integer, number: 1, at: -1)
        let type = try emit(.typeName, [0, 0], name: "int4", flags: .isBuiltIn, at: -1)
        return try builtIn("substring", [value, first, try emit(.cast, [count, type], at: start)], at: start)
    }
}
