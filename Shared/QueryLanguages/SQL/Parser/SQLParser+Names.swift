import Base
import Contracts

extension SQLParser {
    /// A name of a column, a table, …
    mutating func columnName() throws(StatementError) -> String {
        guard token.isColumnName else { throw syntaxError() }
        defer { advance() }
        return token.text
    }

    /// Any word, behind AS or a dot.
    mutating func label() throws(StatementError) -> String {
        guard token.isLabel else { throw syntaxError() }
        defer { advance() }
        return token.text
    }

    /// A word that is not reserved: a role, a language, a configuration's value.
    mutating func unreservedWord() throws(StatementError) -> String {
        guard token.isUnreservedWord else { throw syntaxError() }
        defer { advance() }
        return token.text
    }

    mutating func string() throws(StatementError) -> String {
        guard token.isString else { throw syntaxError() }
        defer { advance() }
        return token.text
    }

    /// A whole number that fits 32 bits, as PostgreSQL's Iconst.
    mutating func wholeNumber() throws(StatementError) -> Int64 {
        guard case .integer(let value) = token.kind, value <= Int64(Int32.max) else { throw syntaxError() }
        advance()
        return value
    }

    mutating func signedNumber() throws(StatementError) -> Int64 {
        if accept("-") { return -(try wholeNumber()) }
        _ = accept("+")
        return try wholeNumber()
    }

    /// A role: a word, or one of the special ones (`current_user` …) as its name.
    mutating func roleName() throws(StatementError) -> String {
        for word in ["current_role", "current_user", "session_user"] where at(word) {
            advance()
            return word
        }
        if at("none") { throw failure("role name \"none\" is reserved", .reservedName, at: offset) }
        return try unreservedWord()
    }

    /// `a`, `a.b`, `a.b.c`: its parts, and where it begins.
    mutating func dottedName() throws(StatementError) -> (parts: [String], offset: Int) {
        let start = offset
        var parts = [try columnName()]
        while at(".") {
            advance()
            parts.append(try label())
        }
        return (parts, start)
    }

    /// A dotted name as parts of a node: what it lies in, and its last part.
    mutating func qualified(_ parts: [String], at offset: Int) throws(StatementError) -> (Int32, String) {
        guard let last = parts.last else { return (0, "") }
        return (try nameNode(Array(parts.dropLast()), at: offset), last)
    }

    /// A `name` node; 0 for no parts.
    mutating func nameNode(_ parts: [String], at offset: Int) throws(StatementError) -> Int32 {
        var node: Int32 = 0
        for part in parts { node = try emit(.name, [node], name: part, at: offset) }
        return node
    }

    /// A name of a table, a type, an index: at most catalog, schema, name.
    mutating func relationName() throws(StatementError) -> (parts: [String], offset: Int) {
        let name = try dottedName()
        if at("[") { throw syntaxError() }
        guard name.parts.count <= 3 else {
            throw failure(
                "improper qualified name (too many dotted names): \(name.parts.joined(separator: "."))",
                at: name.offset)
        }
        return name
    }

    /// A name of something with dots in it, as a node.
    mutating func anyName() throws(StatementError) -> Int32 {
        let name = try dottedName()
        return try nameNode(name.parts, at: name.offset)
    }

    mutating func anyNames() throws(StatementError) -> Int32 {
        try commaList { parser throws(StatementError) in try parser.anyName() }
    }

    /// `element, element, …` as a list.
    mutating func commaList(
        _ element: (inout SQLParser) throws(StatementError) -> Int32
    ) throws(StatementError) -> Int32 {
        var elements = [try element(&self)]
        while accept(",") { elements.append(try element(&self)) }
        return try list(elements)
    }

    /// `(element, …)` as a list.
    mutating func parenthesisedList(
        _ element: (inout SQLParser) throws(StatementError) -> Int32
    ) throws(StatementError) -> Int32 {
        try expect("(")
        let result = try commaList(element)
        try expect(")")
        return result
    }

    /// A bare name as a node.
    mutating func identifier() throws(StatementError) -> Int32 {
        let start = offset
        return try emit(.identifier, name: try columnName(), at: start)
    }

    /// `(a, b, c)` as a list of identifiers.
    mutating func columnNames() throws(StatementError) -> Int32 {
        try parenthesisedList { parser throws(StatementError) in try parser.identifier() }
    }

    /// An option of a statement.
    mutating func option(
        _ name: String, _ value: Int32 = 0, number: Int64 = 0, at offset: Int
    ) throws(StatementError) -> Int32 {
        try emit(.option, [value], name: name, number: number, at: offset)
    }

    mutating func option(_ name: String, is value: Bool, at offset: Int) throws(StatementError) -> Int32 {
        try option(name, try emit(.boolean, number: value ? 1 : 0, at: offset), at: offset)
    }

    mutating func option(_ name: String, string value: String, at offset: Int) throws(StatementError) -> Int32 {
        try option(name, try emit(.string, name: value, at: offset), at: offset)
    }

    /// A number with its sign, as an expression.
    mutating func numericLiteral() throws(StatementError) -> Int32 {
        let start = offset
        let isNegative = at("-")
        if isNegative || at("+") { advance() }
        defer { advance() }
        switch token.kind {
        case .integer(let value): return try emit(.integer, number: isNegative ? -value : value, at: start)
        case .number: return try emit(.decimal, name: (isNegative ? "-" : "") + token.text, at: start)
        case .keyword, .identifier, .string, .bits, .hexadecimal, .parameter, .symbol, .punctuation, .end:
            throw syntaxError()
        }
    }

    /// CASCADE or RESTRICT, or neither.
    mutating func dropBehavior() -> PlanFlags {
        if accept("cascade") { return .isCascade }
        _ = accept("restrict")
        return []
    }

    /// IF NOT EXISTS.
    mutating func ifNotExists() throws(StatementError) -> PlanFlags {
        guard at("if", "not") else { return [] }
        index += 2
        try expect("exists")
        return .isConditional
    }

    /// IF EXISTS.
    mutating func ifExists() -> PlanFlags { accept("if", "exists") ? .isConditional : [] }
}
