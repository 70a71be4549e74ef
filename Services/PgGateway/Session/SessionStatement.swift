import Base
import Contracts
import QueryLanguages

/// A statement as the session sees it: what it does itself, and what is for the nodes.
enum SessionStatement: Hashable {
    case begin(TransactionModes)
    case commit(chains: Bool)
    case rollback(chains: Bool)
    case savepoint(String), release(String), rollbackTo(String)
    /// nil is DEFAULT.
    case set(String, [String]?, isLocal: Bool)
    /// SET TRANSACTION, and SET SESSION CHARACTERISTICS.
    case setTransaction(TransactionModes, isSession: Bool)
    case reset(String), resetAll
    case show(String), showAll
    case prepare(String, types: [String], PlannedStatement)
    case execute(String, [Argument])
    /// nil is ALL.
    case deallocate(String?)
    case discard(Discard)
    case declare(String, PlannedStatement)
    case fetch(String, Fetch)
    case closeCursor(String?)
    /// Nothing is listened to; so this is done.
    case unlisten
    case refused(StatementError)
    case node(PlannedStatement)

    enum Discard: String, Hashable { case all, plans, sequences, temp }

    /// FETCH and MOVE; nil is ALL.
    struct Fetch: Hashable { var count: Int?, isMove = false }

    /// A constant for a parameter of EXECUTE; nil is NULL.
    struct Argument: Hashable { let text: String? }

    /// Whether it may run in a transaction that has failed.
    var endsTransaction: Bool {
        switch self {
        case .commit, .rollback, .rollbackTo: true
        case .begin, .savepoint, .release, .set, .setTransaction, .reset, .resetAll, .show, .showAll, .prepare,
            .execute, .deallocate, .discard, .declare, .fetch, .closeCursor, .unlisten, .refused, .node:
            false
        }
    }
}

/// What BEGIN and SET TRANSACTION say; what they do not say is nil.
struct TransactionModes: Hashable {
    var isolation: IsolationLevel?
    var isReadOnly: Bool?
    var isDeferrable: Bool?
    /// What the statement is answered with.
    var tag = "BEGIN"

    func applied(to terms: TransactionTerms) -> TransactionTerms {
        var terms = terms
        if let isolation { terms.isolation = isolation }
        if let isReadOnly { terms.isReadOnly = isReadOnly }
        if let isDeferrable { terms.isDeferrable = isDeferrable }
        return terms
    }
}

/// Reads a query string: cuts it at its semicolons, and reads the statements that are the session's.
struct StatementReader {
    let text: Bytes
    private let tokens: [SQLToken]
    private var index = 0
    /// Behind the last token of the statement.
    private var end = 0

    /// The statements of a text, empty ones left out. One that cannot be read refuses them all.
    static func read(_ text: Bytes) throws(StatementError) -> [SessionStatement] {
        try parse(text).map(\.statement)
    }

    /// The same, with their plans.
    static func parse(_ text: Bytes) throws(StatementError) -> [(statement: SessionStatement, plan: LogicalPlan)] {
        let parsed = try SQLParser.parse(text)
        var tokens: [SQLToken] = [], statements: [(statement: SessionStatement, plan: LogicalPlan)] = []
        for statement in parsed {
            let verb = Self.verb(text[statement.range])
            guard sessionVerbs.contains(verb) else {
                let plan = statement.plan.encode()
                let planned = PlannedStatement(text: Bytes(text[statement.range]), verb: verb, plan: plan)
                statements.append((.node(planned), statement.plan))
                continue
            }
            if tokens.isEmpty { tokens = try self.tokens(text) }
            guard let start = tokens.firstIndex(where: { $0.range.lowerBound >= statement.range.lowerBound }),
                let end = tokens.firstIndex(where: { $0.range.lowerBound >= statement.range.upperBound })
            else { continue }
            var reader = StatementReader(text: text, tokens: tokens, index: start, end: end)
            statements.append((try reader.statement(), statement.plan))
        }
        return statements
    }

    private static func tokens(_ text: Bytes) throws(StatementError) -> [SQLToken] {
        do throws(SQLSyntaxError) {
            return try SQLLexer.tokens(text)
        } catch {
            throw StatementError(
                SQLState(rawValue: error.code.row.sqlState), error.message, position: error.position(in: text))
        }
    }

    /// First words of the statements that the session may do itself.
    private static let sessionVerbs: Set<String> = [
        "begin", "start", "commit", "end", "rollback", "abort", "savepoint", "release", "set", "reset", "show",
        "prepare", "execute", "deallocate", "discard", "declare", "fetch", "move", "close", "listen", "notify",
        "unlisten", "load",
    ]

    /// The first word, in lower case; it has no more letters than any verb.
    private static func verb(_ text: ArraySlice<UInt8>) -> String {
        let letters = text.prefix(16).prefix { (0x41...0x5a).contains($0) || (0x61...0x7a).contains($0) }
        return String(decoding: letters.map { $0 | 0x20 }, as: UTF8.self)
    }

    private init(text: Bytes, tokens: [SQLToken], index: Int, end: Int) {
        (self.text, self.tokens, self.index, self.end) = (text, tokens, index, end)
    }

    // MARK: Tokens

    private var isAtEnd: Bool { index >= end }

    private func syntaxError() -> StatementError {
        let token = tokens[min(index, end)]
        let position = SQLSyntaxError("", at: token.range.lowerBound).position(in: text)
        guard token.kind != .end else {
            return StatementError(.syntaxError, "syntax error at end of input", position: position)
        }
        let word = String(decoding: text[token.range], as: UTF8.self)
        return StatementError(.syntaxError, "syntax error at or near \"\(word)\"", position: position)
    }

    /// The next word, if it is an unquoted one: a keyword, or what is none in the list of keywords.
    private var word: String? {
        guard !isAtEnd else { return nil }
        switch tokens[index].kind {
        case .keyword: return tokens[index].text
        case .identifier where text[tokens[index].range.lowerBound] != UInt8(ascii: "\""): return tokens[index].text
        case .identifier, .string, .bits, .hexadecimal, .integer, .number, .parameter, .symbol, .punctuation, .end:
            return nil
        }
    }

    private mutating func accept(_ words: String...) -> Bool {
        let start = index
        for expected in words {
            guard word == expected else {
                index = start
                return false
            }
            index += 1
        }
        return true
    }

    private mutating func accept(sign: String) -> Bool {
        guard !isAtEnd, tokens[index].text == sign else { return false }
        switch tokens[index].kind {
        case .punctuation, .symbol:
            index += 1
            return true
        case .keyword, .identifier, .string, .bits, .hexadecimal, .integer, .number, .parameter, .end: return false
        }
    }

    private mutating func expect(_ words: String...) throws(StatementError) {
        for expected in words {
            guard word == expected else { throw syntaxError() }
            index += 1
        }
    }

    /// A name: an identifier, or a keyword that may be one.
    private mutating func name() throws(StatementError) -> String {
        guard !isAtEnd else { throw syntaxError() }
        let token = tokens[index]
        switch token.kind {
        case .identifier: break
        case .keyword(let keyword) where keyword.category == .unreserved || keyword.category == .columnName: break
        case .keyword, .string, .bits, .hexadecimal, .integer, .number, .parameter, .symbol, .punctuation, .end:
            throw syntaxError()
        }
        index += 1
        return token.text
    }

    /// Nothing may follow. Mutating, so that the parts of the statement are read before.
    private mutating func finished(_ statement: SessionStatement) throws(StatementError) -> SessionStatement {
        guard isAtEnd else { throw syntaxError() }
        return statement
    }

    /// What is left of the statement, for a node; its positions count from its own beginning.
    private mutating func planned() throws(StatementError) -> PlannedStatement {
        guard !isAtEnd else { throw syntaxError() }
        let start = tokens[index].range.lowerBound, stop = tokens[end - 1].range.upperBound
        let inner = Bytes(text[start..<stop]), offset = SQLSyntaxError("", at: start).position(in: text) - 1
        index = end
        do throws(StatementError) {
            // It was read before, as a part of the whole.
            guard let plan = try SQLParser.parse(inner).first?.plan else { throw syntaxError() }
            return PlannedStatement(
                text: inner, characterOffset: offset, verb: Self.verb(inner[...]), plan: plan.encode())
        } catch {
            var error = error
            if error.position > 0 { error.position += offset }
            throw error
        }
    }

    // MARK: Statements

    private mutating func statement() throws(StatementError) -> SessionStatement {
        let start = index
        guard let verb = word else { throw syntaxError() }
        index += 1
        switch verb {
        case "begin":
            _ = accept("work") || accept("transaction")
            return .begin(try modes())
        case "start":
            try expect("transaction")
            var modes = try modes()
            modes.tag = "START TRANSACTION"
            return .begin(modes)
        case "commit", "end":
            if verb == "commit", word == "prepared" { return .refused(Self.unsupported("COMMIT PREPARED")) }
            return try finished(.commit(chains: try chain()))
        case "rollback", "abort": return try rollback(verb)
        case "savepoint": return try finished(.savepoint(try name()))
        case "release":
            _ = accept("savepoint")
            return try finished(.release(try name()))
        case "set": return try set()
        case "reset": return try reset()
        case "show": return try show()
        case "prepare": return try prepare()
        case "execute": return try execute()
        case "deallocate":
            if word == "prepare", index + 1 < end { index += 1 }
            return try finished(.deallocate(accept("all") ? nil : try name()))
        case "discard": return try discard()
        case "declare": return try declare()
        case "fetch", "move": return try fetch(isMove: verb == "move")
        case "close": return try finished(.closeCursor(accept("all") ? nil : try name()))
        case "listen", "notify", "load": return .refused(Self.unsupported(verb.uppercased()))
        case "unlisten":
            if !accept(sign: "*") { _ = try name() }
            return try finished(.unlisten)
        case _:
            index = start
            return .node(try planned())
        }
    }

    private static func unsupported(_ what: String) -> StatementError {
        StatementError(.featureNotSupported, "\(what) is not supported")
    }

    private mutating func modes() throws(StatementError) -> TransactionModes {
        var modes = TransactionModes()
        while !isAtEnd {
            if accept("isolation", "level") {
                if accept("serializable") {
                    modes.isolation = .serializable
                } else if accept("repeatable", "read") {
                    modes.isolation = .repeatableRead
                } else if accept("read", "committed") {
                    modes.isolation = .readCommitted
                } else if accept("read", "uncommitted") {
                    modes.isolation = .readUncommitted
                } else {
                    throw syntaxError()
                }
            } else if accept("read", "only") {
                modes.isReadOnly = true
            } else if accept("read", "write") {
                modes.isReadOnly = false
            } else if accept("deferrable") {
                modes.isDeferrable = true
            } else if accept("not", "deferrable") {
                modes.isDeferrable = false
            } else {
                throw syntaxError()
            }
            if accept(sign: ","), isAtEnd { throw syntaxError() }
        }
        return modes
    }

    private mutating func chain() throws(StatementError) -> Bool {
        _ = accept("work") || accept("transaction")
        guard accept("and") else { return false }
        let isChained = !accept("no")
        try expect("chain")
        return isChained
    }

    private mutating func rollback(_ verb: String) throws(StatementError) -> SessionStatement {
        if verb == "rollback", word == "prepared" { return .refused(Self.unsupported("ROLLBACK PREPARED")) }
        let start = index
        _ = accept("work") || accept("transaction")
        if verb == "rollback", accept("to") {
            _ = accept("savepoint")
            return try finished(.rollbackTo(try name()))
        }
        index = start
        return try finished(.rollback(chains: try chain()))
    }

    // MARK: Settings

    private mutating func set() throws(StatementError) -> SessionStatement {
        if accept("transaction") {
            if word == "snapshot" { return .refused(Self.unsupported("SET TRANSACTION SNAPSHOT")) }
            return .setTransaction(try atLeastOneMode(), isSession: false)
        }
        if accept("session", "characteristics", "as", "transaction") {
            return .setTransaction(try atLeastOneMode(), isSession: true)
        }
        if accept("constraints") { return .refused(Self.unsupported("SET CONSTRAINTS")) }
        let isLocal = accept("local")
        if !isLocal || index + 1 < end && tokens[index + 1].text == "authorization" { _ = accept("session") }
        if accept("time", "zone") { return try timeZone(isLocal) }
        if accept("authorization") {
            let name = accept("default") ? nil : [try value()]
            return try finished(.set("session_authorization", name, isLocal: isLocal))
        }
        if word == "role", index + 1 < end, tokens[index + 1].text != "=", tokens[index + 1].text != "to" {
            index += 1
            return try finished(.set("role", [try value()], isLocal: isLocal))
        }
        if accept("names") {
            let encoding = isAtEnd || accept("default") ? nil : [try string()]
            return try finished(.set("client_encoding", encoding, isLocal: isLocal))
        }
        if accept("schema") { return try finished(.set("search_path", [try string()], isLocal: isLocal)) }
        let name = try settingName()
        guard accept("to") || accept(sign: "=") else { throw syntaxError() }
        if accept("default") { return try finished(.set(name, nil, isLocal: isLocal)) }
        var values = [try value()]
        while accept(sign: ",") { values.append(try value()) }
        return try finished(.set(name, values, isLocal: isLocal))
    }

    private mutating func atLeastOneMode() throws(StatementError) -> TransactionModes {
        guard !isAtEnd else { throw syntaxError() }
        return try modes()
    }

    private mutating func settingName() throws(StatementError) -> String {
        var full = try name()
        while accept(sign: ".") { full += "." + (try name()) }
        return full
    }

    private mutating func string() throws(StatementError) -> String {
        guard !isAtEnd, tokens[index].kind == .string else { throw syntaxError() }
        index += 1
        return tokens[index - 1].text
    }

    /// A word, a string or a number.
    private mutating func value() throws(StatementError) -> String {
        var sign = ""
        if accept(sign: "-") { sign = "-" } else { _ = accept(sign: "+") }
        guard !isAtEnd else { throw syntaxError() }
        let token = tokens[index]
        switch token.kind {
        case .integer, .number:
            index += 1
            return sign + token.text
        case .string where sign.isEmpty, .identifier where sign.isEmpty:
            index += 1
            return token.text
        case .keyword(let keyword) where sign.isEmpty && (keyword.category != .reserved || Self.isSwitch(token.text)):
            index += 1
            return token.text
        case .keyword, .string, .identifier, .bits, .hexadecimal, .parameter, .symbol, .punctuation, .end:
            throw syntaxError()
        }
    }

    private static func isSwitch(_ word: String) -> Bool { word == "true" || word == "false" || word == "on" }

    private mutating func timeZone(_ isLocal: Bool) throws(StatementError) -> SessionStatement {
        if accept("default") || accept("local") { return try finished(.set("TimeZone", nil, isLocal: isLocal)) }
        if accept("interval") { return .refused(Self.unsupported("SET TIME ZONE INTERVAL")) }
        return try finished(.set("TimeZone", [try value()], isLocal: isLocal))
    }

    private mutating func reset() throws(StatementError) -> SessionStatement {
        if accept("all") { return try finished(.resetAll) }
        if accept("time", "zone") { return try finished(.reset("TimeZone")) }
        if accept("transaction", "isolation", "level") { return try finished(.reset("transaction_isolation")) }
        if accept("session", "authorization") { return try finished(.reset("session_authorization")) }
        return try finished(.reset(try settingName()))
    }

    private mutating func show() throws(StatementError) -> SessionStatement {
        if accept("all") { return try finished(.showAll) }
        if accept("time", "zone") { return try finished(.show("TimeZone")) }
        if accept("transaction", "isolation", "level") { return try finished(.show("transaction_isolation")) }
        if accept("session", "authorization") { return try finished(.show("session_authorization")) }
        return try finished(.show(try settingName()))
    }

    // MARK: Prepared statements and cursors

    private mutating func prepare() throws(StatementError) -> SessionStatement {
        if word == "transaction", index + 1 < end, tokens[index + 1].kind == .string {
            return .refused(Self.unsupported("PREPARE TRANSACTION"))
        }
        let name = try name()
        var types: [String] = []
        if accept(sign: "(") {
            repeat { types.append(try typeName()) } while accept(sign: ",")
            guard accept(sign: ")") else { throw syntaxError() }
        }
        try expect("as")
        return .prepare(name, types: types, try planned())
    }

    /// Words up to a comma or the closing parenthesis, with modifiers and brackets.
    private mutating func typeName() throws(StatementError) -> String {
        var words: [String] = [], depth = 0
        while !isAtEnd {
            let token = tokens[index]
            if token.kind == .punctuation {
                if depth == 0, token.text == "," || token.text == ")" { break }
                if token.text == "(" { depth += 1 }
                if token.text == ")" { depth -= 1 }
            }
            words.append(token.text)
            index += 1
        }
        guard !words.isEmpty else { throw syntaxError() }
        return words.joined(separator: " ")
    }

    private mutating func execute() throws(StatementError) -> SessionStatement {
        let name = try name()
        var arguments: [SessionStatement.Argument] = []
        if accept(sign: "(") {
            repeat {
                guard let argument = try constant() else {
                    return .refused(Self.unsupported("EXECUTE with anything but constants"))
                }
                arguments.append(argument)
            } while accept(sign: ",")
            guard accept(sign: ")") else {
                return .refused(Self.unsupported("EXECUTE with anything but constants"))
            }
        }
        return try finished(.execute(name, arguments))
    }

    private mutating func constant() throws(StatementError) -> SessionStatement.Argument? {
        if accept("null") { return .init(text: nil) }
        if accept("true") { return .init(text: "true") }
        if accept("false") { return .init(text: "false") }
        guard !isAtEnd else { throw syntaxError() }
        if word != nil { return nil }
        return .init(text: try value())
    }

    private mutating func discard() throws(StatementError) -> SessionStatement {
        let target = try name0()
        guard let what = SessionStatement.Discard(rawValue: target == "temporary" ? "temp" : target) else {
            index -= 1
            throw syntaxError()
        }
        return try finished(.discard(what))
    }

    private mutating func name0() throws(StatementError) -> String {
        guard let word else { throw syntaxError() }
        index += 1
        return word
    }

    private mutating func declare() throws(StatementError) -> SessionStatement {
        let name = try name()
        while true {
            if accept("binary") { return .refused(Self.unsupported("DECLARE BINARY CURSOR")) }
            if accept("scroll") { return .refused(Self.unsupported("DECLARE SCROLL CURSOR")) }
            guard accept("insensitive") || accept("asensitive") || accept("no", "scroll") else { break }
        }
        try expect("cursor")
        if accept("with") {
            try expect("hold")
            return .refused(Self.unsupported("DECLARE CURSOR WITH HOLD"))
        }
        if accept("without") { try expect("hold") }
        try expect("for")
        return .declare(name, try planned())
    }

    private mutating func fetch(isMove: Bool) throws(StatementError) -> SessionStatement {
        var count: Int? = 1
        let start = index
        if accept("next") {
        } else if accept("all") || accept("forward", "all") {
            count = nil
        } else if word == "prior" || word == "first" || word == "last" || word == "absolute" || word == "relative"
            || word == "backward", index + 1 < end, tokens[index + 1].kind != .end
        {
            return .refused(
                StatementError(
                    .objectNotInPrerequisiteState, "cursor can only scan forward",
                    hint: "Declare it with SCROLL option to enable backward scan."))
        } else {
            _ = accept("forward")
            if !isAtEnd, case .integer(let number) = tokens[index].kind {
                index += 1
                count = Int(number)
            } else if accept(sign: "-") {
                return .refused(
                    StatementError(
                        .objectNotInPrerequisiteState, "cursor can only scan forward",
                        hint: "Declare it with SCROLL option to enable backward scan."))
            }
        }
        if !(accept("from") || accept("in")), isAtEnd { index = start }
        return try finished(.fetch(try name(), .init(count: count, isMove: isMove)))
    }
}
