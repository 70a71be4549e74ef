import Base
import Contracts
import DataModel

/// CREATE, ALTER and DROP ROLE, and who is a member of what.
extension DefinitionPlanner {
    /// Of roles, and of what they may do; answers the tag.
    mutating func defineRights(_ node: LogicalPlan.Node) throws(StatementError) -> String {
        let isRevoke = node.flags.contains(.isNegated)
        switch node.kind {
        case .createRole:
            try createRole(node)
            return "CREATE ROLE"
        case .alterRole:
            try alterRole(node)
            return "ALTER ROLE"
        case .dropRole:
            try dropRole(node)
            return "DROP ROLE"
        case .grant:
            try grant(node)
            return isRevoke ? "REVOKE" : "GRANT"
        case .grantRole:
            try grantRole(node)
            return isRevoke ? "REVOKE ROLE" : "GRANT ROLE"
        case .alterSchema:
            try alterSchema(node)
            return "ALTER SCHEMA"
        case _: throw StatementError(.internalError, "\(node.kind) is about no rights")
        }
    }

    mutating func createRole(_ node: LogicalPlan.Node) throws(StatementError) {
        let name = node.name
        guard !Self.isReserved(name) else { throw Self.reserved(name) }
        guard !isRole(name) else {
            throw StatementError(.duplicateObject, "role \"\(name)\" already exists")
        }
        let id = RoleID(rawValue: try newCollection().rawValue)
        var role = RoleDescriptor(
            id: id, name: name, attributes: node.flags.contains(.isMarked) ? [.inherit, .login] : .inherit)
        var seen: Set<String> = [], members: [(name: String, isAdmin: Bool)] = []
        for index in plan.list(node.children[0]) {
            let option = plan[index]
            guard seen.insert(option.name).inserted else { throw Self.redundant(option.position) }
            let names = plan.list(option.children[0]).map { roleName($0) }
            switch option.name {
            case "in_role":
                for other in names {
                    try checkRole(other)
                    guard !SystemRole.predefined.contains(where: { $0.name == other }) else {
                        throw Self.unsupported("being a member of \(other)")
                    }
                    role.memberships.append(.init(role: other, grantor: context.owner, isAdmin: false))
                }
            case "role", "members": members += names.map { ($0, false) }
            case "admin": members += names.map { ($0, true) }
            case "sysid":
                notices.append(StatementError(.successfulCompletion, "SYSID can no longer be specified"))
            case _: try set(option, of: &role)
            }
        }
        put(role)
        for member in members { try add(name, to: member.name, isAdmin: member.isAdmin) }
    }

    mutating func alterRole(_ node: LogicalPlan.Node) throws(StatementError) {
        guard var role = catalog.role(named: node.name) else {
            throw isRole(node.name)
                ? Self.unsupported("ALTER ROLE of a user that CREATE ROLE has not made")
                : Self.unknownRole(node.name)
        }
        var seen: Set<String> = []
        for index in plan.list(node.children[0]) {
            let option = plan[index]
            guard seen.insert(option.name).inserted else { throw Self.redundant(option.position) }
            switch option.name {
            case "rename": throw Self.unsupported("ALTER ROLE … RENAME", at: option.position)
            case "members", "role", "admin", "in_role", "sysid":
                throw Self.unsupported("members in ALTER ROLE", at: option.position)
            case _: try set(option, of: &role)
            }
        }
        put(role)
    }

    private func set(_ option: LogicalPlan.Node, of role: inout RoleDescriptor) throws(StatementError) {
        let value = plan[option.children[0]]
        let attributes: [String: RoleDescriptor.Attributes] = [
            "superuser": .superuser, "inherit": .inherit, "createrole": .createRole, "createdb": .createDatabase,
            "login": .login, "replication": .replication, "bypassrls": .bypassRowSecurity,
        ]
        if let attribute = attributes[option.name] {
            if value.number == 1 { role.attributes.insert(attribute) } else { role.attributes.remove(attribute) }
            return
        }
        switch option.name {
        case "password":
            guard value.kind != .null else {
                role.verifier = nil
                return
            }
            guard let derive = context.verifier else { throw Self.unsupported("PASSWORD here") }
            role.verifier = try derive(value.name)
        case "connection_limit":
            guard value.number >= -1 else {
                throw StatementError(.invalidParameterValue, "invalid connection limit: \(value.number)")
            }
            guard value.number == -1 else { throw Self.unsupported("CONNECTION LIMIT", at: option.position) }
        case "valid_until":
            let time = try TextForms.parse(value.name, .timestampWithZone, context.settings)
            guard case .timestamp(let moment) = time else {
                role.validUntil = nil
                return
            }
            role.validUntil = moment
        case _: throw Self.unsupported("\(option.name) of a role", at: option.position)
        }
    }

    mutating func dropRole(_ node: LogicalPlan.Node) throws(StatementError) {
        if let sender { try SchemaChange.mayDropRoles(sender, catalog) }
        for index in plan.list(node.children[0]) {
            let name = roleName(index)
            guard let role = catalog.role(named: name) else {
                if isRole(name) { throw Self.unsupported("DROP ROLE of a user that CREATE ROLE has not made") }
                guard node.flags.contains(.isConditional) else { throw Self.unknownRole(name) }
                notices.append(StatementError(.undefinedObject, "role \"\(name)\" does not exist, skipping"))
                continue
            }
            guard name != context.owner else {
                throw StatementError(.objectInUse, "current user cannot be dropped")
            }
            guard name != context.settings.sessionUser else {
                throw StatementError(.objectInUse, "session user cannot be dropped")
            }
            let reasons = dependencies(on: name)
            guard reasons.isEmpty else {
                throw StatementError(
                    .dependentObjectsStillExist,
                    "role \"\(name)\" cannot be dropped because some objects depend on it",
                    detail: reasons.joined(separator: "\n"))
            }
            for member in catalog.roles.values.sorted(by: { $0.id < $1.id })
            where member.memberships.contains(where: { $0.role == name }) {
                var changed = member
                changed.memberships.removeAll { $0.role == name }
                put(changed)
            }
            drop(role.id)
        }
    }

    /// What a role owns, and what is granted to it.
    private func dependencies(on name: String) -> [String] {
        var found: [String] = []
        for namespace in catalog.namespaces.values.sorted(by: { $0.id < $1.id }) {
            if namespace.owner == name { found.append("owner of schema \(namespace.name)") }
            if namespace.effectiveGrants.contains(where: {
                namespace.owner != name && ($0.grantee == name || $0.grantor == name)
            }) {
                found.append("privileges for schema \(namespace.name)")
            }
        }
        for collection in catalog.collections.values.sorted(by: { $0.id < $1.id }) where collection.entriesOf == nil {
            let title = "\(collection.kind) \(shownName(collection))"
            if collection.owner == name { found.append("owner of \(title)") }
            if collection.effectiveGrants.contains(where: {
                collection.owner != name && ($0.grantee == name || $0.grantor == name)
            }) {
                found.append("privileges for \(title)")
            }
            for column in collection.columns
            where (column.grants ?? []).contains(where: { $0.grantee == name || $0.grantor == name }) {
                found.append("privileges for column \(column.name) of \(title)")
            }
        }
        return found
    }

    // MARK: Members

    mutating func grantRole(_ node: LogicalPlan.Node) throws(StatementError) {
        let isRevoke = node.flags.contains(.isNegated), isMarked = node.flags.contains(.isMarked)
        if node.children[2] != 0 { throw Self.unsupported("GRANTED BY", at: node.position) }
        for index in plan.list(node.children[0]) {
            let role = plan[index].name
            try checkRole(role)
            for member in plan.list(node.children[1]) {
                if isRevoke {
                    try remove(role, from: roleName(member), adminOnly: isMarked)
                } else {
                    try add(role, to: roleName(member), isAdmin: isMarked)
                }
            }
        }
    }

    private mutating func add(_ role: String, to name: String, isAdmin: Bool) throws(StatementError) {
        guard !SystemRole.predefined.contains(where: { $0.name == role }) else {
            throw Self.unsupported("being a member of \(role)")
        }
        guard var member = catalog.role(named: name) else {
            throw isRole(name)
                ? Self.unsupported("making a user a member that CREATE ROLE has not made") : Self.unknownRole(name)
        }
        guard role != name, !AccessRights(catalog).roles(of: role, anyway: true).contains(name) else {
            throw StatementError(.invalidGrantOperation, "role \"\(role)\" is a member of role \"\(name)\"")
        }
        if let place = member.memberships.firstIndex(where: { $0.role == role }) {
            guard isAdmin, !member.memberships[place].isAdmin else {
                return notices.append(
                    StatementError(
                        .successfulCompletion, "role \"\(name)\" is already a member of role \"\(role)\""))
            }
            member.memberships[place].isAdmin = true
        } else {
            member.memberships.append(.init(role: role, grantor: context.owner, isAdmin: isAdmin))
        }
        put(member)
    }

    private mutating func remove(_ role: String, from name: String, adminOnly: Bool) throws(StatementError) {
        try checkRole(name)
        guard var member = catalog.role(named: name),
            let place = member.memberships.firstIndex(where: { $0.role == role })
        else {
            return notices.append(
                StatementError(.warning, "role \"\(name)\" is not a member of role \"\(role)\""))
        }
        if adminOnly { member.memberships[place].isAdmin = false } else { member.memberships.remove(at: place) }
        put(member)
    }

    // MARK: Names

    /// A role as a statement names it.
    func roleName(_ index: Int32) -> String { roleName(plan[index].name) }

    func roleName(_ name: String) -> String {
        switch name {
        case "current_user", "current_role": context.owner
        case "session_user": context.settings.sessionUser
        case let name: name
        }
    }

    /// Whether there is such a role: of the catalog, a user of the cluster who is known here, one of PostgreSQL's.
    func isRole(_ name: String) -> Bool {
        catalog.role(named: name) != nil || name == SystemCatalog.owner || name == context.owner
            || SystemRole.predefined.contains { $0.name == name }
    }

    func checkRole(_ name: String) throws(StatementError) {
        guard isRole(name) else { throw Self.unknownRole(name) }
    }

    static func unknownRole(_ name: String) -> StatementError {
        StatementError(.undefinedObject, "role \"\(name)\" does not exist")
    }

    private static func isReserved(_ name: String) -> Bool {
        // `default` is who gives Redis no name.
        name == "public" || name == "none" || name == "default" || name.utf8.starts(with: "pg_".utf8)
    }

    private static func reserved(_ name: String) -> StatementError {
        StatementError(
            .reservedName, "role name \"\(name)\" is reserved",
            detail: name.utf8.starts(with: "pg_".utf8) ? "Role names starting with \"pg_\" are reserved." : nil)
    }

    private static func redundant(_ position: Int32) -> StatementError {
        StatementError(.syntaxError, "conflicting or redundant options", position: Int(position))
    }
}
