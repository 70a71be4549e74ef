import Base
import Contracts

/// ALTER, DROP, COMMENT ON.
extension SQLParser {
    mutating func alter() throws(StatementError) -> Int32 {
        let start = offset
        advance()
        switch token.text {
        case "table" where accept("table"): return try alterRelation(.table, at: start)
        case "index" where accept("index"): return try alterRelation(.index, at: start)
        case "view" where accept("view"): return try alterRelation(.view, at: start)
        case "sequence" where accept("sequence"): return try alterSequence(at: start)
        case "schema" where accept("schema"):
            let name = try columnName()
            let action: Int32 =
                at("rename") ? try rename(isColumns: false) : try owner()
            return try emit(.alterSchema, [action], name: name, at: start)
        case "database" where at("database"): return try alterDatabase(at: start)
        case "role" where at("role"), "user" where at("user"), "group" where at("group"):
            if at("user", "mapping") { throw unsupported("ALTER USER MAPPING") }
            return try alterRole(at: start)
        case _: throw unknownObject("ALTER")
        }
    }

    private mutating func alterRelation(_ object: PlanObject, at start: Int) throws(StatementError) -> Int32 {
        if at("all", "in") { throw unsupported("ALTER … ALL IN TABLESPACE") }
        let flags = ifExists()
        let relation = try relation(alias: 0)
        let actions: Int32
        if at("rename") {
            actions = try list([try rename(isColumns: true)])
        } else if at("set", "schema") {
            actions = try list([try setSchema()])
        } else if at("attach") || at("detach") || at("depends") || at("no", "depends") {
            throw unsupported("ALTER … \(token.text.uppercased())")
        } else {
            actions = try commaList { parser throws(StatementError) in try parser.alterAction() }
        }
        return try emit(.alter, [relation, actions], number: object.rawValue, flags: flags, at: start)
    }

    /// Of a database only parameters are set.
    private mutating func alterDatabase(at start: Int) throws(StatementError) -> Int32 {
        var ahead = self
        ahead.index += 1
        _ = try ahead.columnName()
        guard ahead.at("set") || ahead.at("reset"), !ahead.peek().says("tablespace") else {
            throw unknownObject("ALTER")
        }
        advance()
        let name = offset
        let object = try emit(.table, [0, 0], name: try columnName(), at: name)
        let place = offset, isReset = at("reset")
        advance()
        let parameter = isReset && accept("all") ? "all" : try parameterName()
        let action: Int32
        if isReset {
            action = try emit(.reset, name: parameter, at: place)
        } else {
            guard accept("to") || accept("=") else { throw syntaxError() }
            let values =
                accept("default")
                ? 0 : try commaList { parser throws(StatementError) in try parser.parameterValue() }
            action = try emit(.set, [values], name: parameter, at: place)
        }
        return try emit(.alter, [object, try list([action])], number: PlanObject.database.rawValue, at: start)
    }

    private mutating func rename(isColumns: Bool) throws(StatementError) -> Int32 {
        let start = offset
        advance()
        if accept("to") { return try emit(.rename, [try identifier()], at: start) }
        guard isColumns else { throw syntaxError() }
        let isConstraint = accept("constraint")
        if !isConstraint { _ = accept("column") }
        let name = try columnName()
        try expect("to")
        return try emit(
            isConstraint ? .renameConstraint : .renameColumn, [try identifier()], name: name, at: start)
    }

    private mutating func setSchema() throws(StatementError) -> Int32 {
        let start = offset
        index += 2
        return try emit(.setSchema, name: try columnName(), at: start)
    }

    private mutating func owner() throws(StatementError) -> Int32 {
        let start = offset
        try expect("owner", "to")
        return try emit(.setOwner, name: try roleName(), at: start)
    }

    private mutating func alterSequence(at start: Int) throws(StatementError) -> Int32 {
        let flags = ifExists()
        if at("if") { throw syntaxError() }
        var ahead = self
        _ = try ahead.relationName()
        guard ahead.startsSequenceOption else {
            let relation = try relation(alias: 0)
            let action: Int32 =
                at("rename")
                ? try rename(isColumns: true)
                : at("set", "schema") ? try setSchema() : try alterAction()
            return try emit(
                .alter, [relation, try list([action])], number: PlanObject.sequence.rawValue, flags: flags, at: start)
        }
        let name = try relationName()
        let sequence = try nameNode(name.parts, at: name.offset)
        var options: [Int32] = []
        while startsSequenceOption { options.append(try sequenceOption()) }
        return try emit(.alterSequence, [sequence, try list(options)], flags: flags, at: start)
    }

    // MARK: Actions of ALTER TABLE

    private mutating func alterAction() throws(StatementError) -> Int32 {
        let start = offset
        switch token.text {
        case "add" where accept("add"): return try addAction(at: start)
        case "drop" where accept("drop"):
            let isConstraint = accept("constraint")
            if !isConstraint { _ = accept("column") }
            let flags = ifExists()
            let name = try columnName()
            return try emit(
                isConstraint ? .dropConstraint : .dropColumn, name: name, flags: flags.union(dropBehavior()),
                at: start)
        case "alter" where accept("alter"):
            if accept("constraint") { return try alterConstraint() }
            _ = accept("column")
            if token.isNumeric { throw unsupported("ALTER of a column by its number") }
            return try alterColumn(try columnName(), at: start)
        case "validate" where accept("validate"):
            try expect("constraint")
            return try emit(.validateConstraint, name: try columnName(), at: start)
        case "owner": return try owner()
        case "set" where at("set", "("):
            advance()
            return try emit(.setOptions, [try storageOptions()], at: start)
        case "reset" where accept("reset"):
            return try emit(.setOptions, [try storageOptions()], flags: .isNegated, at: start)
        case "set" where accept("set"):
            guard ["without", "logged", "unlogged", "access", "tablespace"].contains(where: at) else {
                throw syntaxError()
            }
            throw unsupported("ALTER TABLE SET \(token.text.uppercased())", at: start)
        case "cluster", "disable", "enable", "force", "inherit", "no", "not", "of", "replica", "options":
            guard case .keyword = token.kind else { throw syntaxError() }
            throw unsupported("ALTER TABLE \(token.text.uppercased())")
        case _: throw syntaxError()
        }
    }

    private mutating func addAction(at start: Int) throws(StatementError) -> Int32 {
        if startsTableConstraint { return try emit(.addConstraint, [try tableConstraint()], at: start) }
        _ = accept("column")
        let flags = try ifNotExists()
        return try emit(.addColumn, [try columnDefinition()], flags: flags, at: start)
    }

    private mutating func alterColumn(_ name: String, at start: Int) throws(StatementError) -> Int32 {
        if accept("type") || at("set", "data") { return try columnType(name, at: start) }
        if accept("drop") { return try dropOfColumn(name, at: start) }
        if accept("reset") {
            _ = try storageOptions()
            throw unsupported("RESET of a column's options", at: start)
        }
        if accept("add") {
            try expect("generated")
            let isAlways = accept("always")
            if !isAlways { try expect("by", "default") }
            try expect("as", "identity")
            var options: [Int32] = []
            if accept("(") {
                while startsSequenceOption { options.append(try sequenceOption()) }
                try expect(")")
            }
            return try emit(
                .addIdentity, [try list(options)], name: name, flags: isAlways ? .isAll : [], at: start)
        }
        if at("restart") || at("set", "generated") || isSetOfSequence {
            return try identityOptions(name, at: start)
        }
        try expect("set")
        if accept("default") { return try emit(.setColumnDefault, [try expression()], name: name, at: start) }
        if accept("not") {
            try expect("null")
            return try emit(.setColumnNotNull, name: name, at: start)
        }
        let isAttribute = ["statistics", "storage", "compression", "("].contains(where: at)
        guard isAttribute else { throw syntaxError() }
        return try columnAttribute(name, at: start)
    }

    /// SET in front of an option of a sequence.
    private var isSetOfSequence: Bool {
        guard at("set") else { return false }
        return ["cache", "cycle", "no", "increment", "maxvalue", "minvalue", "sequence", "start", "restart"]
            .contains { peek().says($0) }
    }

    private mutating func columnType(_ name: String, at start: Int) throws(StatementError) -> Int32 {
        if accept("set", "data") { try expect("type") }
        let type = try typeName()
        let collation = accept("collate") ? try anyName() : 0
        let using = accept("using") ? try expression() : 0
        return try emit(.setColumnType, [type, collation, using], name: name, at: start)
    }

    private mutating func dropOfColumn(_ name: String, at start: Int) throws(StatementError) -> Int32 {
        if accept("default") { return try emit(.setColumnDefault, [0], name: name, at: start) }
        if accept("identity") { return try emit(.dropIdentity, name: name, flags: ifExists(), at: start) }
        if accept("expression") { return try emit(.dropExpression, name: name, flags: ifExists(), at: start) }
        try expect("not", "null")
        return try emit(.setColumnNotNull, name: name, flags: .isNegated, at: start)
    }

    private mutating func identityOptions(_ name: String, at start: Int) throws(StatementError) -> Int32 {
        var options: [Int32] = []
        while at("restart") || at("set") {
            let optionStart = offset
            if accept("set", "generated") {
                let isAlways = accept("always")
                if !isAlways { try expect("by", "default") }
                options.append(try option("generated", is: isAlways, at: optionStart))
            } else {
                _ = accept("set")
                guard startsSequenceOption else { throw syntaxError() }
                options.append(try sequenceOption())
            }
        }
        return try emit(.setIdentity, [try list(options)], name: name, at: start)
    }

    private mutating func columnAttribute(_ name: String, at start: Int) throws(StatementError) -> Int32 {
        if at("(") { return try emit(.setColumnOptions, [try storageOptions()], name: name, at: start) }
        let optionStart = offset, word = token.text
        advance()
        let value: Int32
        if word == "statistics" {
            value = try emit(.integer, number: try signedNumber(), at: offset)
        } else {
            let valueStart = offset
            value = try emit(
                .identifier, name: accept("default") ? "default" : try columnName(), at: valueStart)
        }
        return try emit(
            .setColumnOptions, [try list([try option(word, value, at: optionStart)])], name: name, at: start)
    }

    // MARK: DROP

    mutating func drop() throws(StatementError) -> Int32 {
        let start = offset
        advance()
        let objects: [(String, PlanObject)] = [
            ("table", .table), ("index", .index), ("sequence", .sequence), ("view", .view), ("schema", .schema),
        ]
        if at("role") || at("user") || at("group") {
            if at("user", "mapping") { throw unsupported("DROP USER MAPPING") }
            advance()
            let flags = ifExists()
            let roles = try commaList { parser throws(StatementError) in
                let start = parser.offset
                return try parser.emit(.identifier, name: try parser.roleName(), at: start)
            }
            return try emit(.dropRole, [roles], flags: flags, at: start)
        }
        guard let (word, object) = objects.first(where: { at($0.0) }) else { throw unknownObject("DROP") }
        advance()
        var flags: PlanFlags = word == "index" && accept("concurrently") ? .isConcurrent : []
        flags.formUnion(ifExists())
        let names =
            object == .schema
            ? try commaList { parser throws(StatementError) in
                let start = parser.offset
                return try parser.nameNode([try parser.columnName()], at: start)
            } : try anyNames()
        return try emit(
            .drop, [names], number: object.rawValue, flags: flags.union(dropBehavior()), at: start)
    }

    // MARK: COMMENT ON

    mutating func comment() throws(StatementError) -> Int32 {
        let start = offset
        advance()
        try expect("on")
        let objects: [(String, PlanObject)] = [
            ("table", .table), ("index", .index), ("sequence", .sequence), ("view", .view), ("schema", .schema),
            ("column", .column), ("constraint", .constraint), ("role", .role), ("database", .database),
        ]
        guard let (_, object) = objects.first(where: { at($0.0) }) else { throw unknownObject("COMMENT ON") }
        advance()
        let isPlain = [.schema, .constraint, .role, .database].contains(object)
        let nameStart = offset
        let name = isPlain ? try nameNode([try columnName()], at: nameStart) : try anyName()
        var table: Int32 = 0
        if object == .constraint {
            try expect("on")
            if at("domain") { throw unsupported("COMMENT ON CONSTRAINT … ON DOMAIN") }
            table = try anyName()
        }
        try expect("is")
        let textStart = offset
        let text =
            accept("null") ? try emit(.null, at: textStart) : try emit(.string, name: try string(), at: textStart)
        return try emit(.comment, [name, table, text], number: object.rawValue, at: start)
    }
}
