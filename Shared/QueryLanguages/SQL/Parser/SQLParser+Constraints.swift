import Base
import Contracts

extension SQLParser {
    // MARK: Of a column

    /// The constraints of a column; COLLATE may stand among them.
    mutating func columnConstraints(_ collation: inout Int32) throws(StatementError) -> [Int32] {
        var constraints: [Int32] = []
        while true {
            if at("collate") {
                let start = offset
                advance()
                guard collation == 0 else { throw failure("multiple COLLATE clauses not allowed", at: start) }
                collation = try anyName()
                continue
            }
            let start = offset
            if let flags = try deferrability() {
                try postpone(constraints.last, flags, at: start)
                continue
            }
            let name = accept("constraint") ? try columnName() : ""
            guard let constraint = try columnConstraint(name, at: start) else {
                guard name.isEmpty else { throw syntaxError() }
                return constraints
            }
            constraints.append(constraint)
        }
    }

    /// DEFERRABLE, NOT DEFERRABLE, INITIALLY …: bits to set; nil if there is none.
    private mutating func deferrability() throws(StatementError) -> PlanFlags? {
        if accept("deferrable") { return .isDeferrable }
        if accept("not", "deferrable") { return [] }
        guard accept("initially") else { return nil }
        if accept("deferred") { return [.isDeferrable, .isInitiallyDeferred] }
        try expect("immediate")
        return []
    }

    private mutating func postpone(_ constraint: Int32?, _ flags: PlanFlags, at start: Int) throws(StatementError) {
        guard let constraint, Self.canBeDeferred(nodes[Int(constraint)].kind) else {
            throw failure("misplaced DEFERRABLE clause", at: start)
        }
        nodes[Int(constraint)].flags.formUnion(flags)
    }

    private static func canBeDeferred(_ kind: PlanKind) -> Bool {
        [.primaryKeyConstraint, .uniqueConstraint, .foreignKeyConstraint].contains(kind)
    }

    private mutating func columnConstraint(_ name: String, at start: Int) throws(StatementError) -> Int32? {
        if accept("not", "null") { return try emit(.notNullConstraint, name: name, at: start) }
        if at("not"), peek().text != "deferrable" {
            advance()
            throw syntaxError()
        }
        switch token.text {
        case "null" where accept("null"): return try emit(.nullConstraint, name: name, at: start)
        case "default" where accept("default"):
            let value = try expression(above: 0, .restricted)
            return try emit(.defaultConstraint, [value], name: name, at: start)
        case "check" where at("check"):
            let check = try check(name, at: start)
            if accept("no") {
                try expect("inherit")
                nodes[Int(check)].flags.insert(.isMarked)
            }
            return check
        case "unique" where accept("unique"):
            let flags = try nullsDistinct()
            return try emit(
                .uniqueConstraint, [0, 0, try indexParameters()], name: name, flags: flags, at: start)
        case "primary" where accept("primary"):
            try expect("key")
            return try emit(.primaryKeyConstraint, [0, 0, try indexParameters()], name: name, at: start)
        case "references" where at("references"): return try references(name, columns: 0, at: start)
        case "generated" where accept("generated"): return try generated(name, at: start)
        case _: return nil
        }
    }

    private mutating func check(_ name: String, at start: Int) throws(StatementError) -> Int32 {
        advance()
        try expect("(")
        let condition = try expression()
        try expect(")")
        return try emit(.checkConstraint, [condition], name: name, at: start)
    }

    private mutating func nullsDistinct() throws(StatementError) -> PlanFlags {
        guard accept("nulls") else { return [] }
        let flags: PlanFlags = accept("not") ? .isMarked : []
        try expect("distinct")
        return flags
    }

    /// WITH (…), USING INDEX TABLESPACE.
    private mutating func indexParameters() throws(StatementError) -> Int32 {
        let options = accept("with") ? try storageOptions() : 0
        if at("using", "index") { throw unsupported("USING INDEX TABLESPACE") }
        return options
    }

    private mutating func generated(_ name: String, at start: Int) throws(StatementError) -> Int32 {
        let whenStart = offset
        let isAlways = accept("always")
        if !isAlways { try expect("by", "default") }
        try expect("as")
        if accept("identity") {
            var options: [Int32] = []
            if accept("(") {
                repeat {
                    guard startsSequenceOption else { throw syntaxError() }
                    options.append(try sequenceOption())
                } while !at(")")
                advance()
            }
            return try emit(
                .identityConstraint, [try list(options)], name: name, flags: isAlways ? .isAll : [], at: start)
        }
        try expect("(")
        let value = try expression()
        try expect(")")
        try expect("stored")
        guard isAlways else {
            throw failure("for a generated column, GENERATED ALWAYS must be specified", at: whenStart)
        }
        return try emit(.generatedConstraint, [value], name: name, at: start)
    }

    private mutating func references(
        _ name: String, columns: Int32, at start: Int
    ) throws(StatementError) -> Int32 {
        try expect("references")
        let tableName = try relationName()
        let (qualifier, last) = try qualified(tableName.parts, at: tableName.offset)
        let table = try emit(.table, [qualifier, 0], name: last, at: tableName.offset)
        let referenced = at("(") ? try columnNames() : 0
        var number: Int64 = 0, setColumns: Int32 = 0
        let matchStart = offset
        if accept("match") {
            if accept("full") {
                number = 1
            } else if accept("partial") {
                throw failure("MATCH PARTIAL not yet implemented", .featureNotSupported, at: matchStart)
            } else {
                try expect("simple")
            }
        }
        var hasUpdate = false, hasDelete = false
        while at("on"), peek().says("update") || peek().says("delete") {
            let isUpdate = peek().says("update")
            guard isUpdate ? !hasUpdate : !hasDelete else { throw Self.repeated(self) }
            index += 2
            let action = try referentialAction(&setColumns, isUpdate: isUpdate)
            number += action * (isUpdate ? 16 : 256)
            if isUpdate { hasUpdate = true } else { hasDelete = true }
        }
        return try emit(
            .foreignKeyConstraint, [columns, table, referenced, setColumns], name: name, number: number, at: start)
    }

    private static func repeated(_ parser: SQLParser) -> StatementError {
        var behind = parser
        behind.advance()
        return behind.syntaxError()
    }

    private mutating func referentialAction(
        _ setColumns: inout Int32, isUpdate: Bool
    ) throws(StatementError) -> Int64 {
        if accept("no") {
            try expect("action")
            return 0
        }
        if accept("restrict") { return 1 }
        if accept("cascade") { return 2 }
        try expect("set")
        let isNull = accept("null")
        if !isNull { try expect("default") }
        let start = offset
        if at("(") {
            setColumns = try columnNames()
            if isUpdate {
                throw failure(
                    "a column list with SET \(isNull ? "NULL" : "DEFAULT") is only supported for ON DELETE actions",
                    .featureNotSupported, at: start)
            }
        }
        return isNull ? 3 : 4
    }

    // MARK: Of a table

    var startsTableConstraint: Bool {
        at("constraint") || at("check") || at("unique") || at("primary") || at("foreign")
            || at("exclude") && (peek().says("using") || peek().says("("))
    }

    mutating func tableConstraint() throws(StatementError) -> Int32 {
        let start = offset
        let name = accept("constraint") ? try columnName() : ""
        let constraint: Int32
        switch token.text {
        case "check" where at("check"): constraint = try check(name, at: start)
        case "unique" where accept("unique"): constraint = try key(.uniqueConstraint, name, at: start)
        case "primary" where accept("primary"):
            try expect("key")
            constraint = try key(.primaryKeyConstraint, name, at: start)
        case "foreign" where accept("foreign"):
            try expect("key")
            constraint = try references(name, columns: try columnNames(), at: start)
        case "exclude" where at("exclude"): throw unsupported("EXCLUDE")
        case _: throw syntaxError()
        }
        try attributes(of: constraint)
        return constraint
    }

    private mutating func key(_ kind: PlanKind, _ name: String, at start: Int) throws(StatementError) -> Int32 {
        let flags = kind == .uniqueConstraint ? try nullsDistinct() : []
        if at("using", "index") { throw unsupported("a constraint USING INDEX") }
        let columns = try columnNames()
        let include = accept("include") ? try columnNames() : 0
        return try emit(kind, [columns, include, try indexParameters()], name: name, flags: flags, at: start)
    }

    /// DEFERRABLE, INITIALLY …, NOT VALID, NO INHERIT behind a constraint of a table.
    private mutating func attributes(of constraint: Int32) throws(StatementError) {
        let kind = nodes[Int(constraint)].kind
        let title = kind == .checkConstraint ? "CHECK" : kind == .uniqueConstraint ? "UNIQUE" : "PRIMARY KEY"
        while true {
            let start = offset
            if let flags = try deferrability() {
                if !flags.isEmpty, !Self.canBeDeferred(kind) {
                    throw failure(
                        "\(title) constraints cannot be marked DEFERRABLE", .featureNotSupported, at: start)
                }
                nodes[Int(constraint)].flags.formUnion(flags)
            } else if accept("not", "valid") {
                guard kind == .checkConstraint || kind == .foreignKeyConstraint else {
                    throw failure(
                        "\(title) constraints cannot be marked NOT VALID", .featureNotSupported, at: start)
                }
                nodes[Int(constraint)].flags.insert(.isWithoutData)
            } else if accept("no") {
                try expect("inherit")
                guard kind == .checkConstraint else {
                    let subject = kind == .foreignKeyConstraint ? "FOREIGN KEY" : title
                    throw failure(
                        "\(subject) constraints cannot be marked NO INHERIT", .featureNotSupported, at: start)
                }
                nodes[Int(constraint)].flags.insert(.isMarked)
            } else {
                return
            }
        }
    }

    /// ALTER CONSTRAINT name …
    mutating func alterConstraint() throws(StatementError) -> Int32 {
        let start = offset
        let name = try columnName()
        var flags: PlanFlags = []
        while let more = try deferrability() { flags.formUnion(more) }
        return try emit(.alterConstraint, name: name, flags: flags, at: start)
    }
}
