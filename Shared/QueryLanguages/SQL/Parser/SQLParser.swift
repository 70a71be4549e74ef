import Base
import Contracts

/// A statement of a query string, and where it stands in it.
package struct ParsedStatement: Hashable, Sendable {
    package let plan: LogicalPlan
    /// Bytes of the query string, without the semicolon.
    package let range: Range<Int>
}

/// Reads statements by PostgreSQL 15's grammar and writes plans, without a tree in between.
///
/// Recursive descent, one token at a time, with precedence climbing for expressions; what PostgreSQL's parser refuses
/// is refused at the same token and in the same words, since both refuse the first token that no statement can have
/// there. Linear in the length of the text: no token is read twice. Recursion is bounded by `depthLimit`.
package struct SQLParser {
    /// Bytes of a query string.
    package static let lengthLimit = 64 << 20
    /// How deep parentheses and subqueries nest.
    package static let depthLimit = 128

    let text: Bytes
    let tokens: [SQLToken]
    /// Why the text cannot be cut into tokens behind the last one.
    private let lexicalError: SQLSyntaxError?
    /// The token that is read next.
    var index = 0
    var nodes: [LogicalPlan.Node] = [.init(.none)]
    private var depths: [UInt16] = [0]
    private var depth = 0
    /// Characters before every `blockSize`th byte; none if all bytes are characters.
    private let charactersBefore: [Int32]
    /// Where SELECT INTO puts its rows, until the statement is complete.
    var into: SelectInto?

    /// SELECT … INTO.
    struct SelectInto {
        let table: (qualifier: [String], name: String), flags: PlanFlags, offset: Int
    }

    private init(_ statement: Bytes) {
        text = statement
        var lexer = SQLLexer(statement), tokens: [SQLToken] = []
        tokens.reserveCapacity(min(statement.count / 4 + 2, 1 << 16))
        var failure: SQLSyntaxError?
        do throws(SQLSyntaxError) {
            while true {
                let token = try lexer.next()
                tokens.append(token)
                if token.kind == .end { break }
            }
        } catch {
            failure = error
            let offset = min(max(error.offset, 0), statement.count)
            tokens.append(SQLToken(kind: .end, text: "", range: offset..<offset))
        }
        (self.tokens, lexicalError) = (tokens, failure)
        charactersBefore = Self.characters(statement)
    }

    private static let blockSize = 64

    private static func characters(_ statement: Bytes) -> [Int32] {
        guard statement.contains(where: { $0 >= 0x80 }) else { return [] }
        var table: [Int32] = [], characters: Int32 = 0
        for (index, byte) in statement.enumerated() {
            if index % blockSize == 0 { table.append(characters) }
            if byte & 0xc0 != 0x80 { characters += 1 }
        }
        return table
    }

    /// The statements of a query string, empty ones left out. One that cannot be read refuses them all.
    package static func parse(_ text: Bytes) throws(StatementError) -> [ParsedStatement] {
        guard text.count <= lengthLimit else {
            throw StatementError(.programLimitExceeded, "statement is longer than \(lengthLimit) bytes")
        }
        var parser = SQLParser(text), statements: [ParsedStatement] = []
        while true {
            while parser.accept(";") {}
            if parser.isAtEnd { break }
            let start = parser.token.range.lowerBound
            let root = try parser.statement()
            let end = parser.tokens[parser.index - 1].range.upperBound
            guard parser.isAtEnd || parser.at(";") else { throw parser.syntaxError() }
            statements.append(ParsedStatement(plan: parser.takePlan(root), range: start..<end))
        }
        if parser.lexicalError != nil { throw parser.syntaxError() }
        return statements
    }

    /// An expression alone, as a default or a check is kept: the plan of `SELECT` with it as its only target.
    package static func parse(expression text: Bytes) throws(StatementError) -> LogicalPlan {
        guard text.count <= lengthLimit else {
            throw StatementError(.programLimitExceeded, "expression is longer than \(lengthLimit) bytes")
        }
        var parser = SQLParser(text)
        let value = try parser.expression()
        guard parser.isAtEnd, parser.lexicalError == nil else { throw parser.syntaxError() }
        let target = try parser.emit(.target, [value], at: 0)
        let targets = try parser.list([target])
        let root = try parser.emit(.select, [0, 0, targets, 0, 0, 0, 0, 0, 0, 0, 0, 0], at: 0)
        return parser.takePlan(root)
    }

    private mutating func takePlan(_ root: Int32) -> LogicalPlan {
        let plan = LogicalPlan(dialect: .postgres, nodes: nodes, root: root)
        (nodes, depths) = ([.init(.none)], [0])
        return plan
    }

    // MARK: Nodes

    /// Adds a node that begins at a byte of the statement.
    mutating func emit(
        _ kind: PlanKind, _ children: [Int32] = [], name: String = "", number: Int64 = 0, flags: PlanFlags = [],
        at offset: Int
    ) throws(StatementError) -> Int32 {
        guard nodes.count < LogicalPlan.nodeLimit else {
            throw StatementError(.programLimitExceeded, "statement has more than \(LogicalPlan.nodeLimit) parts")
        }
        var depth: UInt16 = 0
        for child in children where child != 0 { depth = max(depth, depths[Int(child)] &+ 1) }
        // The statement around it needs some more.
        guard depth < LogicalPlan.depthLimit - 50 else { throw Self.tooDeep }
        nodes.append(
            LogicalPlan.Node(
                kind, children, name: name, number: number, flags: flags, position: position(of: offset)))
        depths.append(depth)
        return Int32(nodes.count - 1)
    }

    /// A list, or 0 for none.
    mutating func list(_ elements: [Int32]) throws(StatementError) -> Int32 {
        if elements.isEmpty { return 0 }
        return try emit(.list, elements, at: -1)
    }

    /// Takes a node out of the plan, to add it again with other children behind what was added since.
    mutating func remove(_ index: Int32) -> LogicalPlan.Node {
        let node = nodes[Int(index)]
        if Int(index) == nodes.count - 1 {
            nodes.removeLast()
            depths.removeLast()
        } else {
            nodes[Int(index)] = .init(.list)
        }
        return node
    }

    /// Adds a node that was removed.
    mutating func add(_ node: LogicalPlan.Node) throws(StatementError) -> Int32 {
        let index = try emit(
            node.kind, node.children, name: node.name, number: node.number, flags: node.flags, at: -1)
        nodes[Int(index)].position = node.position
        return index
    }

    /// The position that errors tell: characters, from 1; 0 for no place.
    private func position(of offset: Int) -> Int32 {
        guard offset >= 0, offset <= text.count else { return 0 }
        let block = offset / Self.blockSize
        guard block < charactersBefore.count else {
            return Int32(clamping: charactersBefore.isEmpty ? offset + 1 : failurePosition(offset))
        }
        var characters = charactersBefore[block]
        for byte in text[block * Self.blockSize..<offset] where byte & 0xc0 != 0x80 { characters += 1 }
        return characters + 1
    }

    private func failurePosition(_ offset: Int) -> Int {
        text.prefix(max(offset, 0)).reduce(1) { $1 & 0xc0 != 0x80 ? $0 + 1 : $0 }
    }

    // MARK: Depth

    private static let tooDeep = StatementError(
        .statementTooComplex, "stack depth limit exceeded",
        hint: "The statement nests deeper than \(depthLimit) levels: write it with fewer.")

    /// Counts one level of recursion; `leave` ends it.
    mutating func enter() throws(StatementError) {
        guard depth < Self.depthLimit else { throw Self.tooDeep }
        depth += 1
    }

    mutating func leave() { depth -= 1 }

    // MARK: Tokens

    var token: SQLToken { tokens[index] }

    /// Where the next token begins, in bytes.
    var offset: Int { tokens[index].range.lowerBound }

    var isAtEnd: Bool { tokens[index].kind == .end }

    func peek(_ distance: Int = 1) -> SQLToken { tokens[min(index + distance, tokens.count - 1)] }

    mutating func advance() { index = min(index + 1, tokens.count - 1) }

    /// True if the next token is this keyword, operator or punctuation.
    func at(_ text: String) -> Bool { tokens[index].says(text) }

    func at(_ first: String, _ second: String) -> Bool { at(first) && peek().says(second) }

    mutating func accept(_ text: String) -> Bool {
        guard at(text) else { return false }
        advance()
        return true
    }

    /// Takes both words or neither.
    mutating func accept(_ first: String, _ second: String) -> Bool {
        guard at(first, second) else { return false }
        index += 2
        return true
    }

    mutating func expect(_ text: String) throws(StatementError) {
        guard accept(text) else { throw syntaxError() }
    }

    mutating func expect(_ first: String, _ second: String) throws(StatementError) {
        try expect(first)
        try expect(second)
    }

    // MARK: Errors

    /// PostgreSQL's answer to a token that cannot stand here.
    func syntaxError(_ what: String = "syntax error") -> StatementError {
        if isAtEnd, let lexicalError {
            return StatementError(
                SQLState(rawValue: lexicalError.code.row.sqlState), lexicalError.message,
                position: lexicalError.position(in: text))
        }
        guard !isAtEnd else { return failure("\(what) at end of input", at: text.count) }
        return failure(
            "\(what) at or near \"\(String(decoding: text[token.range], as: UTF8.self))\"", at: offset)
    }

    /// Another refusal, of the place that begins at a byte.
    func failure(
        _ message: String, _ state: SQLState = .syntaxError, hint: String? = nil, at offset: Int
    ) -> StatementError {
        StatementError(state, message, hint: hint, position: failurePosition(offset))
    }

    /// What PostgreSQL would do and we do not.
    func unsupported(_ what: String, at offset: Int? = nil) -> StatementError {
        failure("\(what) is not supported", .featureNotSupported, at: offset ?? self.offset)
    }
}

extension SQLToken {
    /// True for this keyword, operator or punctuation; a quoted name never is one.
    func says(_ word: String) -> Bool {
        switch kind {
        case .keyword, .symbol, .punctuation: text == word
        case .identifier, .string, .bits, .hexadecimal, .integer, .number, .parameter, .end: false
        }
    }

    /// A name of a column or a table.
    var isColumnName: Bool {
        switch kind {
        case .identifier: true
        case .keyword(let word): word.category == .unreserved || word.category == .columnName
        case .string, .bits, .hexadecimal, .integer, .number, .parameter, .symbol, .punctuation, .end: false
        }
    }

    /// A name of a function or a type.
    var isTypeOrFunctionName: Bool {
        switch kind {
        case .identifier: true
        case .keyword(let word): word.category == .unreserved || word.category == .typeOrFunctionName
        case .string, .bits, .hexadecimal, .integer, .number, .parameter, .symbol, .punctuation, .end: false
        }
    }

    /// A word that is not reserved.
    var isUnreservedWord: Bool {
        switch kind {
        case .identifier: true
        case .keyword(let word): word.category != .reserved
        case .string, .bits, .hexadecimal, .integer, .number, .parameter, .symbol, .punctuation, .end: false
        }
    }

    /// Any word: what may stand behind AS or a dot.
    var isLabel: Bool {
        switch kind {
        case .identifier, .keyword: true
        case .string, .bits, .hexadecimal, .integer, .number, .parameter, .symbol, .punctuation, .end: false
        }
    }

    /// A word that may label a column without AS.
    var isBareLabel: Bool {
        switch kind {
        case .identifier: true
        case .keyword(let word): word.isBareLabel
        case .string, .bits, .hexadecimal, .integer, .number, .parameter, .symbol, .punctuation, .end: false
        }
    }

    var isString: Bool { kind == .string }
}
