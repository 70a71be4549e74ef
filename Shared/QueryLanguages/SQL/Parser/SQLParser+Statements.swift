import Base
import Contracts

extension SQLParser {
    /// One statement; what follows it is looked at by the caller.
    mutating func statement() throws(StatementError) -> Int32 {
        try enter()
        defer { leave() }
        into = nil
        let start = offset
        if at("(") || startsQuery || at("insert") || at("update") || at("delete") || at("merge") {
            return try selectInto(try preparableStatement(), at: start)
        }
        guard case .keyword = token.kind else { throw syntaxError() }
        if let result = try sessionStatement() { return result }
        if let result = try definition() { return result }
        throw unknownStatement()
    }

    /// SELECT … INTO is CREATE TABLE AS.
    private mutating func selectInto(_ query: Int32, at start: Int) throws(StatementError) -> Int32 {
        guard let target = into else { return query }
        into = nil
        guard nodes[Int(query)].kind.shape.family == .query else {
            throw failure("SELECT ... INTO is not allowed here", at: target.offset)
        }
        let qualifier = try nameNode(target.table.qualifier, at: target.offset)
        let table = try emit(.name, [qualifier], name: target.table.name, at: target.offset)
        return try emit(.createTableAs, [table, 0, query, 0], flags: target.flags, at: start)
    }

    /// Statements of PostgreSQL that are refused by their first words, whatever follows.
    private static let refused: Set<String> = [
        "call", "cluster", "do", "import", "listen", "load", "notify", "reassign", "refresh", "reindex", "security",
        "unlisten",
    ]

    private func unknownStatement() -> StatementError {
        guard Self.refused.contains(token.text) else { return syntaxError() }
        let second = ["import", "reassign", "refresh", "security"].contains(token.text) ? " " + peek().text : ""
        return unsupported((token.text + second).uppercased())
    }

    private mutating func sessionStatement() throws(StatementError) -> Int32? {
        switch token.text {
        case "begin", "start", "commit", "end", "rollback", "abort", "savepoint", "release":
            return try transactionStatement()
        case "set": return try set()
        case "show", "reset": return try showOrReset()
        case "prepare", "execute", "deallocate": return try preparedStatement()
        case "declare", "fetch", "move", "close": return try cursorStatement()
        case "discard": return try discard()
        case "explain": return try explain()
        case "copy": return try copy()
        case "lock": return try lock()
        case "vacuum", "analyze", "analyse": return try vacuum()
        case "checkpoint":
            advance()
            return try emit(.checkpoint, at: tokens[index - 1].range.lowerBound)
        case _: return nil
        }
    }

    private mutating func definition() throws(StatementError) -> Int32? {
        switch token.text {
        case "create": return try create()
        case "alter": return try alter()
        case "drop": return try drop()
        case "truncate": return try truncate()
        case "comment": return try comment()
        case "grant", "revoke": return try grant()
        case _: return nil
        }
    }

    // MARK: Options

    /// A value of an option: a word is an `identifier`.
    mutating func optionValue() throws(StatementError) -> Int32 {
        let start = offset, text = token.text
        switch token.kind {
        case .string:
            advance()
            return try emit(.string, name: text, at: start)
        case .integer, .number, .symbol: return try numericLiteral()
        case .identifier, .keyword:
            if at("true") || at("false") {
                advance()
                return try emit(.boolean, number: text == "true" ? 1 : 0, at: start)
            }
            guard token.isUnreservedWord || at("on") else { throw syntaxError() }
            advance()
            return try emit(.identifier, name: text, at: start)
        case .bits, .hexadecimal, .parameter, .punctuation, .end: throw syntaxError()
        }
    }

    /// `(name value, …)` of EXPLAIN, VACUUM, ANALYZE.
    private mutating func utilityOptions() throws(StatementError) -> Int32 {
        try parenthesisedList { parser throws(StatementError) in
            let start = parser.offset
            let isAnalyze = parser.at("analyze") || parser.at("analyse")
            guard isAnalyze || parser.token.isUnreservedWord else { throw parser.syntaxError() }
            let name = isAnalyze ? "analyze" : parser.token.text
            parser.advance()
            let isBare = parser.at(",") || parser.at(")")
            return try parser.option(name, isBare ? 0 : try parser.optionValue(), at: start)
        }
    }

    // MARK: EXPLAIN, VACUUM, ANALYZE

    private mutating func explain() throws(StatementError) -> Int32 {
        let start = offset
        advance()
        var options: Int32 = 0
        var ahead = self
        while ahead.accept("(") {}
        if at("("), !ahead.startsQuery, !peek().says("(") {
            options = try utilityOptions()
        } else {
            var words: [Int32] = []
            if at("analyze") || at("analyse") {
                words.append(try option("analyze", at: offset))
                advance()
            }
            if at("verbose") {
                words.append(try option("verbose", at: offset))
                advance()
            }
            options = try list(words)
        }
        return try emit(.explain, [try explainable(), options], at: start)
    }

    private mutating func explainable() throws(StatementError) -> Int32 {
        switch token.text {
        case "declare" where at("declare"): return try cursorStatement()
        case "execute" where at("execute"): return try preparedStatement()
        case "create" where at("create"): return try create(isQuery: true)
        case "refresh" where at("refresh"): throw unsupported("REFRESH MATERIALIZED VIEW")
        case _:
            let start = offset
            return try selectInto(try preparableStatement(), at: start)
        }
    }

    private mutating func vacuum() throws(StatementError) -> Int32 {
        let start = offset
        let isAnalyze = !at("vacuum")
        advance()
        var options: Int32 = 0
        if at("(") {
            options = try utilityOptions()
        } else {
            var words: [Int32] = []
            for word in isAnalyze ? ["verbose"] : ["full", "freeze", "verbose", "analyze"] {
                guard at(word) || word == "analyze" && at("analyse") else { continue }
                words.append(try option(word, at: offset))
                advance()
            }
            options = try list(words)
        }
        var tables: Int32 = 0
        if token.isColumnName {
            tables = try commaList { parser throws(StatementError) in
                let start = parser.offset
                let table = try parser.relation(alias: 0)
                let columns = parser.at("(") ? try parser.columnNames() : 0
                return try parser.emit(.vacuumTarget, [table, columns], at: start)
            }
        }
        return try emit(.vacuum, [tables, options], flags: isAnalyze ? .isMarked : [], at: start)
    }

    // MARK: LOCK

    private static let lockModes: [[String]] = [
        ["access", "share"], ["row", "share"], ["row", "exclusive"], ["share", "update", "exclusive"], ["share"],
        ["share", "row", "exclusive"], ["exclusive"], ["access", "exclusive"],
    ]

    private mutating func lock() throws(StatementError) -> Int32 {
        let start = offset
        advance()
        _ = accept("table")
        let tables = try commaList { parser throws(StatementError) in try parser.relation(alias: 0) }
        var number: Int64 = 8
        if accept("in") {
            var words: [String] = []
            while !at("mode") {
                let next = words + [token.text]
                guard token.isLabel, Self.lockModes.contains(where: { $0.starts(with: next) }) else {
                    throw syntaxError()
                }
                words = next
                advance()
            }
            guard let mode = Self.lockModes.firstIndex(of: words) else { throw syntaxError() }
            advance()
            number = Int64(mode + 1)
        }
        let flags: PlanFlags = accept("nowait") ? .isNoWait : []
        return try emit(.lock, [tables], number: number, flags: flags, at: start)
    }

    // MARK: COPY

    private mutating func copy() throws(StatementError) -> Int32 {
        let start = offset
        advance()
        var table: Int32 = 0, columns: Int32 = 0, query: Int32 = 0, options: [Int32] = []
        var flags: PlanFlags = []
        if accept("(") {
            query = try preparableStatement()
            try expect(")")
            try expect("to")
        } else {
            if at("binary") {
                options.append(try option("format", string: "binary", at: offset))
                advance()
            }
            table = try relation(alias: 0)
            if at("(") { columns = try columnNames() }
            if accept("from") { flags = .isMarked } else { try expect("to") }
        }
        if accept("program") { flags.insert(.isExplicit) }
        var name = ""
        if token.isString || flags.contains(.isExplicit) {
            name = try string()
        } else if !accept("stdin"), !accept("stdout") {
            throw syntaxError()
        }
        if at("using") || at("delimiters") {
            let optionStart = offset
            _ = accept("using")
            try expect("delimiters")
            options.append(try option("delimiter", string: try string(), at: optionStart))
        }
        _ = accept("with")
        if at("(") { options += try copyOptions() } else { try oldCopyOptions(&options) }
        let whereStart = offset
        let condition = accept("where") ? try expression() : 0
        if condition != 0, !flags.contains(.isMarked) {
            throw failure("WHERE clause not allowed with COPY TO", at: whereStart)
        }
        return try emit(
            .copy, [table, columns, query, try list(options), condition], name: name, flags: flags, at: start)
    }

    private mutating func copyOptions() throws(StatementError) -> [Int32] {
        var options: [Int32] = []
        try expect("(")
        repeat {
            let start = offset
            let name = try label()
            if at(",") || at(")") {
                options.append(try option(name, at: start))
            } else if accept("*") {
                options.append(try option(name, try emit(.star, [0], at: start), at: start))
            } else if at("(") {
                let values = try parenthesisedList { parser throws(StatementError) in try parser.optionValue() }
                options.append(try option(name, values, at: start))
            } else {
                options.append(try option(name, try optionValue(), at: start))
            }
        } while accept(",")
        try expect(")")
        return options
    }

    /// The options as they were written before version 9.
    private mutating func oldCopyOptions(_ options: inout [Int32]) throws(StatementError) {
        while true {
            let start = offset, word = token.text
            switch word {
            case "binary" where accept("binary"), "csv" where accept("csv"):
                options.append(try option("format", string: word, at: start))
            case "freeze" where accept("freeze"), "header" where accept("header"):
                options.append(try option(word, is: true, at: start))
            case "delimiter" where accept("delimiter"), "null" where accept("null"),
                "quote" where accept("quote"), "escape" where accept("escape"):
                _ = accept("as")
                options.append(try option(word, string: try string(), at: start))
            case "encoding" where accept("encoding"):
                options.append(try option(word, string: try string(), at: start))
            case "force" where accept("force"): options.append(try forceOption(at: start))
            case _: return
            }
        }
    }

    private mutating func forceOption(at start: Int) throws(StatementError) -> Int32 {
        let name: String
        if accept("quote") {
            if accept("*") { return try option("force_quote", try emit(.star, [0], at: start), at: start) }
            name = "force_quote"
        } else if accept("not") {
            try expect("null")
            name = "force_not_null"
        } else {
            try expect("null")
            name = "force_null"
        }
        return try option(
            name, try commaList { parser throws(StatementError) in try parser.identifier() }, at: start)
    }
}
