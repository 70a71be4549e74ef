import Base
import Contracts

extension SQLParser {
    // MARK: Transactions

    mutating func transactionStatement() throws(StatementError) -> Int32 {
        let start = offset, word = token.text
        advance()
        switch word {
        case "begin", "start":
            if word == "start" { try expect("transaction") } else { skipWork() }
            let modes = startsMode ? try transactionModes() : 0
            return try emit(.begin, [modes], at: start)
        case "savepoint": return try emit(.savepoint, name: try columnName(), at: start)
        case "release":
            if at("savepoint"), peek().isColumnName { advance() }
            return try emit(.releaseSavepoint, name: try columnName(), at: start)
        case _: break
        }
        let isCommit = word == "commit" || word == "end"
        if word == "commit" || word == "rollback", accept("prepared") {
            return try emit(isCommit ? .commitPrepared : .rollbackPrepared, name: try string(), at: start)
        }
        skipWork()
        if word == "rollback", accept("to") {
            if at("savepoint"), peek().isColumnName { advance() }
            return try emit(.rollbackTo, name: try columnName(), at: start)
        }
        var flags: PlanFlags = []
        if accept("and") {
            if !accept("no") { flags = .isMarked }
            try expect("chain")
        }
        return try emit(isCommit ? .commit : .rollback, flags: flags, at: start)
    }

    private mutating func skipWork() {
        if !accept("work") { _ = accept("transaction") }
    }

    private var startsMode: Bool { at("isolation") || at("read") || at("deferrable") || at("not") }

    private mutating func transactionModes() throws(StatementError) -> Int32 {
        var modes: [Int32] = []
        repeat {
            let start = offset
            if accept("isolation") {
                try expect("level")
                modes.append(try option("isolation", string: try isolationLevel(), at: start))
            } else if accept("read") {
                let isReadOnly = accept("only")
                if !isReadOnly { try expect("write") }
                modes.append(try option("read_only", is: isReadOnly, at: start))
            } else if accept("not") {
                try expect("deferrable")
                modes.append(try option("deferrable", is: false, at: start))
            } else {
                try expect("deferrable")
                modes.append(try option("deferrable", is: true, at: start))
            }
        } while accept(",") || startsMode
        return try list(modes)
    }

    private mutating func isolationLevel() throws(StatementError) -> String {
        if accept("serializable") { return "serializable" }
        if accept("repeatable") {
            try expect("read")
            return "repeatable read"
        }
        try expect("read")
        if accept("committed") { return "read committed" }
        try expect("uncommitted")
        return "read uncommitted"
    }

    // MARK: Parameters

    mutating func set() throws(StatementError) -> Int32 {
        let start = offset
        advance()
        if at("constraints") { return try setConstraints(at: start) }
        var flags: PlanFlags = []
        if at("local"), !peek().says("to"), !peek().says("="), !peek().says(".") {
            advance()
            flags = .isMarked
        } else if at("session"), !peek().says("to"), !peek().says("="), !peek().says("."),
            !peek().says("authorization"), !peek().says("characteristics")
        {
            advance()
        }
        if at("transaction"), !peek().says("to"), !peek().says("=") {
            advance()
            if at("snapshot") { throw unsupported("SET TRANSACTION SNAPSHOT") }
            return try emit(.setTransaction, [try transactionModes()], at: start)
        }
        if accept("session", "characteristics") {
            try expect("as", "transaction")
            return try emit(.setTransaction, [try transactionModes()], flags: .isMarked, at: start)
        }
        if let special = try setSpecial(flags, at: start) { return special }
        let name = try parameterName()
        if accept("from") {
            try expect("current")
            throw unsupported("SET FROM CURRENT", at: start)
        }
        guard accept("to") || accept("=") else { throw syntaxError() }
        if accept("default") { return try emit(.set, [0], name: name, flags: flags, at: start) }
        let values = try commaList { parser throws(StatementError) in try parser.parameterValue() }
        return try emit(.set, [values], name: name, flags: flags, at: start)
    }

    /// `a.b.c`.
    mutating func parameterName() throws(StatementError) -> String {
        var name = try columnName()
        while accept(".") { name += "." + (try columnName()) }
        return name
    }

    /// A word is a string.
    mutating func parameterValue() throws(StatementError) -> Int32 {
        let value = try optionValue()
        switch nodes[Int(value)].kind {
        case .identifier: nodes[Int(value)].kind = .string
        case .boolean:
            let isTrue = nodes[Int(value)].number == 1
            nodes[Int(value)] = LogicalPlan.Node(
                .string, name: isTrue ? "true" : "false", position: nodes[Int(value)].position)
        case _: break
        }
        return value
    }

    /// SET forms of single parameters.
    private mutating func setSpecial(_ flags: PlanFlags, at start: Int) throws(StatementError) -> Int32? {
        if peek().says("to") || peek().says("=") || peek().says(".") { return nil }
        let name: String
        var value: Int32 = 0
        if accept("time", "zone") {
            name = "timezone"
            value = try zoneValue()
        } else if accept("session", "authorization") {
            name = "session_authorization"
            if !accept("default") { value = try wordOrString() }
        } else if at("role") {
            advance()
            name = "role"
            value = try wordOrString()
        } else if at("schema") {
            advance()
            name = "search_path"
            value = try emit(.string, name: try string(), at: offset)
        } else if at("names") {
            advance()
            name = "client_encoding"
            if token.isString {
                value = try wordOrString()
            } else {
                _ = accept("default")
            }
        } else if at("catalog") || at("xml") {
            throw unsupported("SET \(token.text.uppercased())")
        } else {
            return nil
        }
        return try emit(.set, [try list(value == 0 ? [] : [value])], name: name, flags: flags, at: start)
    }

    private mutating func wordOrString() throws(StatementError) -> Int32 {
        let start = offset
        let text = token.isString ? try string() : try unreservedWord()
        return try emit(.string, name: text, at: start)
    }

    /// 0 for DEFAULT and LOCAL.
    private mutating func zoneValue() throws(StatementError) -> Int32 {
        if accept("default") || accept("local") { return 0 }
        if at("interval") { return try typedLiteral() }
        let start = offset, text = token.text
        switch token.kind {
        case .string, .identifier:
            advance()
            return try emit(.string, name: text, at: start)
        case .integer, .number, .symbol: return try numericLiteral()
        case .keyword, .bits, .hexadecimal, .parameter, .punctuation, .end: throw syntaxError()
        }
    }

    private mutating func setConstraints(at start: Int) throws(StatementError) -> Int32 {
        advance()
        let names = accept("all") ? 0 : try anyNames()
        var flags: PlanFlags = []
        if accept("deferred") { flags = .isInitiallyDeferred } else { try expect("immediate") }
        return try emit(.setConstraints, [names], flags: flags, at: start)
    }

    mutating func showOrReset() throws(StatementError) -> Int32 {
        let start = offset
        let kind: PlanKind = at("show") ? .show : .reset
        advance()
        let name: String
        if accept("all") {
            name = "all"
        } else if accept("time", "zone") {
            name = "timezone"
        } else if accept("transaction", "isolation") {
            try expect("level")
            name = "transaction_isolation"
        } else if accept("session", "authorization") {
            name = "session_authorization"
        } else {
            name = try parameterName()
        }
        return try emit(kind, name: name, at: start)
    }

    // MARK: Prepared statements

    mutating func preparedStatement() throws(StatementError) -> Int32 {
        let start = offset, word = token.text
        advance()
        switch word {
        case "prepare":
            if at("transaction"), peek().isString {
                advance()
                return try emit(.prepareTransaction, name: try string(), at: start)
            }
            let name = try columnName()
            let types =
                at("(")
                ? try parenthesisedList { parser throws(StatementError) in try parser.typeName() } : 0
            try expect("as")
            return try emit(.prepare, [types, try preparableStatement()], name: name, at: start)
        case "execute":
            let name = try columnName()
            var arguments: Int32 = 0
            if accept("(") {
                arguments = try list(try expressions())
                try expect(")")
            }
            return try emit(.execute, [arguments], name: name, at: start)
        case _:
            if at("prepare"), peek().isColumnName || peek().says("all") { advance() }
            if accept("all") { return try emit(.deallocate, flags: .isAll, at: start) }
            return try emit(.deallocate, name: try columnName(), at: start)
        }
    }

    mutating func discard() throws(StatementError) -> Int32 {
        let start = offset
        advance()
        for word in ["all", "plans", "sequences", "temp", "temporary"] where accept(word) {
            return try emit(.discard, name: word == "temporary" ? "temp" : word, at: start)
        }
        throw syntaxError()
    }

    // MARK: Cursors

    mutating func cursorStatement() throws(StatementError) -> Int32 {
        switch token.text {
        case "declare": return try declareCursor()
        case "close":
            let start = offset
            advance()
            if accept("all") { return try emit(.closeCursor, flags: .isAll, at: start) }
            return try emit(.closeCursor, name: try columnName(), at: start)
        case _: return try fetch()
        }
    }

    private mutating func declareCursor() throws(StatementError) -> Int32 {
        let start = offset
        advance()
        let name = try columnName()
        var options: [Int32] = []
        while !at("cursor") {
            let optionStart = offset
            if accept("no") {
                try expect("scroll")
                options.append(try option("scroll", is: false, at: optionStart))
            } else if accept("scroll") {
                options.append(try option("scroll", is: true, at: optionStart))
            } else if accept("binary") {
                options.append(try option("binary", is: true, at: optionStart))
            } else if accept("insensitive") {
                options.append(try option("insensitive", is: true, at: optionStart))
            } else {
                try expect("asensitive")
                options.append(try option("insensitive", is: false, at: optionStart))
            }
        }
        advance()
        let holdStart = offset
        if accept("with") {
            try expect("hold")
            options.append(try option("hold", is: true, at: holdStart))
        } else if accept("without") {
            try expect("hold")
            options.append(try option("hold", is: false, at: holdStart))
        }
        try expect("for")
        return try emit(.declareCursor, [try query(), try list(options)], name: name, at: start)
    }

    /// FETCH and MOVE.
    private mutating func fetch() throws(StatementError) -> Int32 {
        let start = offset
        var flags: PlanFlags = at("move") ? .isMarked : []
        advance()
        var number: Int64 = 1
        let next = peek()
        let isName = token.isColumnName && (next.kind == .end || next.says(";") || next.says(")"))
        if !isName {
            switch token.text {
            case "next" where accept("next"): break
            case "prior" where accept("prior"): flags.insert(.isDescending)
            case "first" where accept("first"): flags.insert(.isExplicit)
            case "last" where accept("last"):
                flags.insert(.isExplicit)
                number = -1
            case "absolute" where accept("absolute"):
                flags.insert(.isExplicit)
                number = try signedNumber()
            case "relative" where accept("relative"):
                flags.insert(.isNatural)
                number = try signedNumber()
            case "all" where accept("all"): flags.insert(.isAll)
            case "forward" where accept("forward"), "backward" where accept("backward"):
                if tokens[index - 1].text == "backward" { flags.insert(.isDescending) }
                if accept("all") {
                    flags.insert(.isAll)
                } else if !token.isColumnName, !at("from"), !at("in") {
                    number = try signedNumber()
                }
            case _:
                if !token.isColumnName, !at("from"), !at("in") { number = try signedNumber() }
            }
            if !accept("from") { _ = accept("in") }
        }
        return try emit(.fetch, name: try columnName(), number: number, flags: flags, at: start)
    }
}
