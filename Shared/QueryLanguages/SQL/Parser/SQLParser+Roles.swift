import Base
import Contracts

/// CREATE and ALTER ROLE, GRANT, REVOKE.
extension SQLParser {
    mutating func createRole(at start: Int) throws(StatementError) -> Int32 {
        let flags: PlanFlags = at("user") ? .isMarked : []
        advance()
        let name = try roleName()
        _ = accept("with")
        var options: [Int32] = []
        while let option = try roleOption(isCreation: true) { options.append(option) }
        return try emit(.createRole, [try list(options)], name: name, flags: flags, at: start)
    }

    mutating func alterRole(at start: Int) throws(StatementError) -> Int32 {
        let isGroup = at("group")
        advance()
        if at("all") { throw unsupported("ALTER ROLE ALL") }
        let name = try roleName()
        if isGroup, at("add") || at("drop") { throw unsupported("ALTER GROUP \(token.text.uppercased())") }
        if at("set") || at("reset") || at("in") { throw unsupported("ALTER ROLE \(token.text.uppercased())") }
        let renameStart = offset
        if accept("rename") {
            try expect("to")
            let option = try option("rename", try identifier(), at: renameStart)
            return try emit(.alterRole, [try list([option])], name: name, at: start)
        }
        _ = accept("with")
        var options: [Int32] = []
        while let option = try roleOption(isCreation: false) { options.append(option) }
        return try emit(.alterRole, [try list(options)], name: name, at: start)
    }

    private mutating func roleNames() throws(StatementError) -> Int32 {
        try commaList { parser throws(StatementError) in
            let start = parser.offset
            return try parser.emit(.identifier, name: try parser.roleName(), at: start)
        }
    }

    private mutating func roleOption(isCreation: Bool) throws(StatementError) -> Int32? {
        let start = offset, word = token.text
        switch word {
        case "password" where accept("password"):
            if accept("null") { return try option("password", try emit(.null, at: start), at: start) }
            return try option("password", string: try string(), at: start)
        case "encrypted" where accept("encrypted"):
            try expect("password")
            return try option("password", string: try string(), at: start)
        case "inherit" where accept("inherit"): return try option("inherit", is: true, at: start)
        case "connection" where accept("connection"):
            try expect("limit")
            let value = try emit(.integer, number: try signedNumber(), at: start)
            return try option("connection_limit", value, at: start)
        case "valid" where accept("valid"):
            try expect("until")
            return try option("valid_until", string: try string(), at: start)
        case "user" where accept("user"): return try option("members", try roleNames(), at: start)
        case "role" where isCreation && accept("role"): return try option("role", try roleNames(), at: start)
        case "admin" where isCreation && accept("admin"): return try option("admin", try roleNames(), at: start)
        case "in" where isCreation && accept("in"):
            if !accept("role") { try expect("group") }
            return try option("in_role", try roleNames(), at: start)
        case "sysid" where isCreation && accept("sysid"):
            return try option("sysid", try emit(.integer, number: try wholeNumber(), at: start), at: start)
        case _: break
        }
        guard token.kind == .identifier else { return nil }
        for attribute in ["superuser", "createdb", "createrole", "login", "replication", "bypassrls"] {
            if word == attribute || word == "no" + attribute {
                advance()
                return try option(attribute, is: word == attribute, at: start)
            }
        }
        if word == "noinherit" {
            advance()
            return try option("inherit", is: false, at: start)
        }
        throw failure("unrecognized role option \"\(word)\"", at: start)
    }

    // MARK: GRANT, REVOKE

    mutating func grant() throws(StatementError) -> Int32 {
        let start = offset
        let isRevoke = at("revoke")
        advance()
        var flags: PlanFlags = isRevoke ? .isNegated : []
        if isRevoke, at("grant", "option") || at("admin", "option") {
            index += 2
            try expect("for")
            flags.insert(.isMarked)
        }
        let privilegesStart = offset
        var privileges: [Int32] = []
        if accept("all") {
            _ = accept("privileges")
            if at("(") {
                privileges = [try emit(.privilege, [try columnNames()], name: "all", at: privilegesStart)]
            }
        } else {
            repeat {
                let privilegeStart = offset
                guard token.isColumnName || at("select") || at("references") || at("create") else {
                    throw syntaxError()
                }
                var name = token.text
                advance()
                if name == "alter", accept("system") { name = "alter system" }
                let columns = at("(") ? try columnNames() : 0
                privileges.append(try emit(.privilege, [columns], name: name, at: privilegeStart))
            } while accept(",")
        }
        if !at("on"), at(isRevoke ? "from" : "to") {
            return try grantRole(privileges, flags, at: start)
        }
        try expect("on")
        let (object, objects) = try grantObjects(&flags)
        try expect(isRevoke ? "from" : "to")
        let grantees = try granteeList()
        if !isRevoke, accept("with") {
            try expect("grant", "option")
            flags.insert(.isMarked)
        }
        let grantor = try grantedBy()
        if isRevoke { flags.formUnion(dropBehavior()) }
        return try emit(
            .grant, [try list(privileges), objects, grantees, grantor], number: object.rawValue, flags: flags,
            at: start)
    }

    private mutating func granteeList() throws(StatementError) -> Int32 {
        try commaList { parser throws(StatementError) in
            _ = parser.at("group") && parser.peek().isLabel ? parser.accept("group") : false
            let start = parser.offset
            return try parser.emit(.identifier, name: try parser.roleName(), at: start)
        }
    }

    private mutating func grantedBy() throws(StatementError) -> Int32 {
        guard accept("granted") else { return 0 }
        try expect("by")
        let start = offset
        return try emit(.identifier, name: try roleName(), at: start)
    }

    private mutating func grantObjects(_ flags: inout PlanFlags) throws(StatementError) -> (PlanObject, Int32) {
        if accept("all") {
            let objects: [(String, PlanObject)] = [("tables", .table), ("sequences", .sequence)]
            guard let (_, object) = objects.first(where: { at($0.0) }) else {
                if at("functions") || at("procedures") || at("routines") {
                    throw unsupported("GRANT ON ALL \(token.text.uppercased())")
                }
                throw syntaxError()
            }
            advance()
            try expect("in", "schema")
            flags.insert(.isAll)
            return (object, try anyNames())
        }
        let objects: [(String, PlanObject)] = [
            ("table", .table), ("sequence", .sequence), ("schema", .schema), ("database", .database),
        ]
        if let (_, object) = objects.first(where: { at($0.0) }) {
            advance()
            return (object, try anyNames())
        }
        let refused = [
            "domain", "foreign", "function", "language", "large", "parameter", "procedure", "routine", "tablespace",
            "type",
        ]
        if refused.contains(where: at), peek().isLabel { throw unsupported("GRANT ON \(token.text.uppercased())") }
        return (.table, try anyNames())
    }

    private mutating func grantRole(
        _ privileges: [Int32], _ given: PlanFlags, at start: Int
    ) throws(StatementError) -> Int32 {
        var flags = given
        advance()
        var roles: [Int32] = []
        for privilege in privileges {
            let node = nodes[Int(privilege)]
            guard node.children == [0] else { throw failure("column names not allowed in a role", at: start) }
            nodes[Int(privilege)] = LogicalPlan.Node(.identifier, name: node.name, position: node.position)
            roles.append(privilege)
        }
        guard !roles.isEmpty else { throw syntaxError() }
        let grantees = try granteeList()
        if !flags.contains(.isNegated), accept("with") {
            try expect("admin", "option")
            flags.insert(.isMarked)
        }
        let grantor = try grantedBy()
        if flags.contains(.isNegated) { flags.formUnion(dropBehavior()) }
        return try emit(.grantRole, [try list(roles), grantees, grantor], flags: flags, at: start)
    }
}
