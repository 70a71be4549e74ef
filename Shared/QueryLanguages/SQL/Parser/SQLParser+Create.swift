import Base
import Contracts

extension SQLParser {
    /// CREATE …; of a query only, where EXPLAIN stands in front.
    mutating func create(isQuery: Bool = false) throws(StatementError) -> Int32 {
        let start = offset
        advance()
        var flags: PlanFlags = []
        if accept("or") {
            try expect("replace")
            flags = .isReplace
        }
        if at("local") || at("global") {
            guard peek().says("temp") || peek().says("temporary") else {
                advance()
                throw syntaxError()
            }
            advance()
        }
        if accept("temporary") || accept("temp") {
            flags.insert(.isTemporary)
        } else if accept("unlogged") {
            flags.insert(.isUnlogged)
        }
        if flags.contains(.isReplace), !at("view"), !at("recursive") { throw unknownObject("CREATE OR REPLACE") }
        if isQuery, !at("table") { throw at("materialized") ? unknownObject("CREATE") : syntaxError() }
        switch token.text {
        case "table" where at("table"): return try createTable(flags, isQuery: isQuery, at: start)
        case "sequence" where at("sequence"): return try createSequence(flags, at: start)
        case "view" where at("view"), "recursive" where at("recursive"):
            return try createView(flags, at: start)
        case _ where !flags.isEmpty: throw unknownObject("CREATE")
        case "unique" where at("unique"), "index" where at("index"): return try createIndex(at: start)
        case "schema" where at("schema"): return try createSchema(at: start)
        case "role" where at("role"), "user" where at("user"), "group" where at("group"):
            if at("user", "mapping") { throw unsupported("CREATE USER MAPPING") }
            return try createRole(at: start)
        case _: throw unknownObject("CREATE")
        }
    }

    /// What PostgreSQL makes, changes and drops and we do not, by its first words.
    private static let objects: Set<String> = [
        "access", "aggregate", "cast", "collation", "conversion", "constraint", "database", "default", "domain",
        "event", "extension", "foreign", "function", "language", "large", "materialized", "operator", "policy",
        "owned", "procedural", "procedure", "publication", "routine", "rule", "server", "statistics", "subscription",
        "system", "tablespace", "text", "transform", "trigger", "trusted", "type",
    ]
    /// Of the words above, those that say what is meant only with the next one.
    private static let prefixes: Set<String> = [
        "access", "constraint", "default", "event", "foreign", "large", "materialized", "owned", "procedural",
        "text", "trusted",
    ]

    func unknownObject(_ verb: String) -> StatementError {
        guard case .keyword = token.kind, Self.objects.contains(token.text) else { return syntaxError() }
        let second = Self.prefixes.contains(token.text) ? " " + peek().text : ""
        return unsupported("\(verb) \((token.text + second).uppercased())")
    }

    // MARK: Tables

    private mutating func createTable(
        _ flags: PlanFlags, isQuery: Bool, at start: Int
    ) throws(StatementError) -> Int32 {
        advance()
        let flags = flags.union(try ifNotExists())
        let name = try relationName()
        let table = try nameNode(name.parts, at: name.offset)
        if at("of") { throw unsupported("CREATE TABLE OF", at: start) }
        if at("partition") { throw unsupported("PARTITION OF") }
        var elements: Int32 = 0
        if at("("), !isColumnList, !isQuery {
            elements = try tableElements()
        } else {
            let columns = at("(") ? try columnNames() : 0
            return try createTableAs(table, columns, flags, at: start)
        }
        if at("inherits") { throw unsupported("INHERITS") }
        if at("partition") { throw unsupported("PARTITION BY") }
        let (options, onCommit) = try tableOptions()
        // Without columns a query may follow: `CREATE TABLE t () AS …` is none, so only a list of names had one.
        return try emit(.createTable, [table, elements, options], number: onCommit, flags: flags, at: start)
    }

    /// `(a, b) AS` rather than `(a int, …)`.
    private var isColumnList: Bool {
        peek().isColumnName && (peek(2).says(",") || peek(2).says(")"))
    }

    /// USING, WITH, ON COMMIT, TABLESPACE.
    private mutating func tableOptions() throws(StatementError) -> (options: Int32, onCommit: Int64) {
        if at("using") { throw unsupported("USING of a table access method") }
        var options: Int32 = 0, onCommit: Int64 = 0
        if at("with") {
            advance()
            options = try storageOptions()
        } else if accept("without") {
            try expect("oids")
        }
        if accept("on") {
            try expect("commit")
            if accept("drop") {
                onCommit = 3
            } else if accept("delete") {
                try expect("rows")
                onCommit = 2
            } else {
                try expect("preserve", "rows")
                onCommit = 1
            }
        }
        if at("tablespace") { throw unsupported("TABLESPACE") }
        return (options, onCommit)
    }

    /// `(name = value, …)`.
    mutating func storageOptions() throws(StatementError) -> Int32 {
        try parenthesisedList { parser throws(StatementError) in
            let start = parser.offset
            var name = try parser.label()
            if parser.accept(".") { name += "." + (try parser.label()) }
            guard parser.accept("=") else { return try parser.option(name, at: start) }
            return try parser.option(name, try parser.storageValue(), at: start)
        }
    }

    private mutating func storageValue() throws(StatementError) -> Int32 {
        guard at("none") || token.isLabel && !token.isUnreservedWord && !at("true") && !at("false") else {
            return try optionValue()
        }
        defer { advance() }
        return try emit(.identifier, name: token.text, at: offset)
    }

    private mutating func createTableAs(
        _ table: Int32, _ columns: Int32, _ flags: PlanFlags, at start: Int
    ) throws(StatementError) -> Int32 {
        let (options, onCommit) = try tableOptions()
        try expect("as")
        let query = at("execute") ? try preparedStatement() : try query()
        var flags = flags
        if accept("with") {
            if accept("no") { flags.insert(.isWithoutData) }
            try expect("data")
        }
        return try emit(
            .createTableAs, [table, columns, query, options], number: onCommit, flags: flags, at: start)
    }

    private mutating func tableElements() throws(StatementError) -> Int32 {
        try expect("(")
        if accept(")") { return 0 }
        let elements = try commaList { parser throws(StatementError) in
            if parser.at("like") { return try parser.likeTable() }
            return parser.startsTableConstraint ? try parser.tableConstraint() : try parser.columnDefinition()
        }
        try expect(")")
        return elements
    }

    private mutating func likeTable() throws(StatementError) -> Int32 {
        let start = offset
        advance()
        let table = try relation(alias: 0)
        var options: [Int32] = []
        while at("including") || at("excluding") {
            let optionStart = offset
            let isIncluding = at("including")
            advance()
            let words = [
                "comments", "compression", "constraints", "defaults", "identity", "generated", "indexes",
                "statistics", "storage", "all",
            ]
            guard let word = words.first(where: { at($0) }) else { throw syntaxError() }
            advance()
            options.append(
                isIncluding
                    ? try option(word, at: optionStart) : try option(word, is: false, at: optionStart))
        }
        return try emit(.likeTable, [table, try list(options)], at: start)
    }

    mutating func columnDefinition() throws(StatementError) -> Int32 {
        let start = offset
        let name = try columnName()
        let type = try typeName()
        if at("compression") { throw unsupported("COMPRESSION of a column") }
        if at("options") { throw unsupported("OPTIONS of a column") }
        var collation: Int32 = 0
        let constraints = try columnConstraints(&collation)
        return try emit(.columnDefinition, [type, collation, try list(constraints)], name: name, at: start)
    }

    // MARK: Indexes

    private mutating func createIndex(at start: Int) throws(StatementError) -> Int32 {
        var flags: PlanFlags = accept("unique") ? .isUnique : []
        try expect("index")
        if accept("concurrently") { flags.insert(.isConcurrent) }
        flags.formUnion(try ifNotExists())
        var name = ""
        if !at("on") {
            name = try columnName()
        } else if flags.contains(.isConditional) {
            throw syntaxError()
        }
        try expect("on")
        let table = try relation(alias: 0)
        let method = accept("using") ? try identifier() : 0
        let elements = try parenthesisedList { parser throws(StatementError) in try parser.indexElement() }
        let include =
            accept("include")
            ? try parenthesisedList { parser throws(StatementError) in try parser.indexElement() } : 0
        if accept("nulls") {
            if !accept("not") { try expect("distinct") } else { flags.insert(.isMarked) }
            if flags.contains(.isMarked) { try expect("distinct") }
        }
        var options: Int32 = 0
        if accept("with") { options = try storageOptions() }
        if at("tablespace") { throw unsupported("TABLESPACE") }
        let condition = accept("where") ? try expression() : 0
        return try emit(
            .createIndex, [table, elements, include, condition, options, method], name: name, flags: flags,
            at: start)
    }

    /// A column or an expression of an index, or of what ON CONFLICT infers one from.
    mutating func indexElement() throws(StatementError) -> Int32 {
        let start = offset
        let value: Int32
        if at("(") {
            advance()
            value = try expression()
            try expect(")")
        } else if token.isColumnName, !peek().says("("), !peek().says("."), !startsSpecialForm {
            value = try emit(.columnReference, [0], name: try columnName(), at: start)
        } else {
            guard token.isLabel else { throw syntaxError() }
            value = try primary()
            guard nodes[Int(value)].kind != .columnReference else { throw syntaxError() }
        }
        let collation = accept("collate") ? try anyName() : 0
        var operatorClass: Int32 = 0
        if token.isColumnName, !at("nulls", "first"), !at("nulls", "last") {
            operatorClass = try anyName()
            if at("(") { throw unsupported("parameters of an operator class") }
        }
        var flags: PlanFlags = []
        if accept("desc") { flags = .isDescending } else { _ = accept("asc") }
        flags.formUnion(nullsOrder())
        return try emit(.indexElement, [value, collation, operatorClass], flags: flags, at: start)
    }

    // MARK: Sequences, schemas, views

    private mutating func createSequence(_ flags: PlanFlags, at start: Int) throws(StatementError) -> Int32 {
        advance()
        let flags = flags.union(try ifNotExists())
        let name = try relationName()
        let sequence = try nameNode(name.parts, at: name.offset)
        var options: [Int32] = []
        while startsSequenceOption { options.append(try sequenceOption()) }
        return try emit(.createSequence, [sequence, try list(options)], flags: flags, at: start)
    }

    var startsSequenceOption: Bool {
        [
            "as", "cache", "cycle", "no", "increment", "maxvalue", "minvalue", "owned", "sequence", "start", "restart",
        ].contains(where: at)
    }

    mutating func sequenceOption() throws(StatementError) -> Int32 {
        let start = offset, word = token.text
        advance()
        switch word {
        case "as": return try option("as", try typeName(), at: start)
        case "cycle": return try option("cycle", is: true, at: start)
        case "no":
            for name in ["minvalue", "maxvalue", "cycle"] where accept(name) {
                return try option(name, is: false, at: start)
            }
            throw syntaxError()
        case "owned":
            try expect("by")
            return try option("owned_by", try anyName(), at: start)
        case "sequence":
            try expect("name")
            return try option("sequence_name", try anyName(), at: start)
        case "increment": _ = accept("by")
        case "start": _ = accept("with")
        case "restart":
            let isBare = !at("with") && !at("+") && !at("-") && !token.isNumeric
            if isBare { return try option("restart", at: start) }
            _ = accept("with")
        case _: break
        }
        return try option(word, try numericLiteral(), at: start)
    }

    private mutating func createSchema(at start: Int) throws(StatementError) -> Int32 {
        advance()
        let flags = try ifNotExists()
        var name = "", owner: Int32 = 0
        if !at("authorization") { name = try columnName() }
        if accept("authorization") {
            let ownerStart = offset
            owner = try emit(.identifier, name: try roleName(), at: ownerStart)
        }
        var elements: [Int32] = []
        while at("create") || at("grant") {
            if flags.contains(.isConditional) {
                throw failure(
                    "CREATE SCHEMA IF NOT EXISTS cannot include schema elements", .featureNotSupported, at: offset)
            }
            elements.append(at("create") ? try create() : try grant())
        }
        return try emit(.createSchema, [owner, try list(elements)], name: name, flags: flags, at: start)
    }

    private mutating func createView(_ flags: PlanFlags, at start: Int) throws(StatementError) -> Int32 {
        if accept("recursive") { throw unsupported("CREATE RECURSIVE VIEW", at: start) }
        advance()
        let name = try relationName()
        let view = try nameNode(name.parts, at: name.offset)
        let columns = at("(") ? try columnNames() : 0
        let options = accept("with") ? try storageOptions() : 0
        try expect("as")
        let query = try query()
        var number: Int64 = 0
        if accept("with") {
            if accept("local") {
                number = 1
            } else {
                _ = accept("cascaded")
                number = 2
            }
            try expect("check", "option")
        }
        return try emit(.createView, [view, columns, query, options], number: number, flags: flags, at: start)
    }
}

extension SQLToken {
    var isNumeric: Bool {
        switch kind {
        case .integer, .number: true
        case .keyword, .identifier, .string, .bits, .hexadecimal, .parameter, .symbol, .punctuation, .end: false
        }
    }
}
