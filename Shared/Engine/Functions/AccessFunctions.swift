import Base
import DataModel

/// What a user may do, how large things are, and what settings say.
enum AccessFunctions {
    static let rows: [ScalarFunction] = privileges + sizes + settings

    private static func text(_ value: Value) -> String { TextFunctions.text(value) }

    // MARK: Rights

    /// Which words there are for each kind of object.
    private static let kinds: [(name: String, type: DataType.Kind?, words: Set<String>)] = [
        (
            "table", .regclass,
            ["SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER", "RULE"]
        ),
        ("any_column", .regclass, ["SELECT", "INSERT", "UPDATE", "REFERENCES"]),
        ("sequence", .regclass, ["USAGE", "SELECT", "UPDATE"]),
        ("schema", .regnamespace, ["CREATE", "USAGE"]),
        ("database", nil, ["CREATE", "TEMPORARY", "TEMP", "CONNECT"]),
        ("function", nil, ["EXECUTE"]), ("language", nil, ["USAGE"]), ("type", .regtype, ["USAGE"]),
        ("tablespace", nil, ["CREATE"]), ("server", nil, ["USAGE"]), ("foreign_data_wrapper", nil, ["USAGE"]),
    ]

    private static let privileges: [ScalarFunction] = {
        var rows: [ScalarFunction] = []
        let users: [[DataType]] = [[], [.name], [.oid]]
        for kind in kinds {
            for user in users {
                for object in [DataType.text, .oid] {
                    rows.append(privilege(kind, user + [object, .text]))
                }
            }
        }
        for user in users {
            for object in [DataType.text, .oid] {
                for column in [DataType.text, .int16] { rows.append(columnPrivilege(user + [object, column, .text])) }
                rows.append(roleMembership(user + [object == .text ? .name : .oid, .text]))
            }
        }
        return rows
    }()

    private static func privilege(
        _ kind: (name: String, type: DataType.Kind?, words: Set<String>), _ parameters: [DataType]
    ) -> ScalarFunction {
        CatalogFunctions.row("has_\(kind.name)_privilege", parameters, .bool, nil) { a, system throws(StatementError) in
            let wanted = try check(text(a[a.count - 1]), kind.words)
            guard try found(a[a.count - 2], kind.type, system) else { return .null }
            let user = try user(a.count > 2 ? a[0] : nil, system)
            if try isAllowed(user, wanted, a[a.count - 2], kind.type, system) { return .bool(true) }
            guard kind.name == "any_column" else { return .bool(false) }
            let relation = system.relation(try number(a[a.count - 2], .regclass, system))
            let rights = AccessRights(system.catalog)
            return .bool(
                relation.map { relation in
                    relation.collection.columns.contains { column in
                        allows(rights.privileges(of: user, on: column, of: relation.collection), wanted)
                    }
                } ?? false)
        }
    }

    private static func columnPrivilege(_ parameters: [DataType]) -> ScalarFunction {
        CatalogFunctions.row("has_column_privilege", parameters, .bool, nil) { a, system throws(StatementError) in
            let wanted = try check(text(a[a.count - 1]), ["SELECT", "INSERT", "UPDATE", "REFERENCES"])
            guard try found(a[a.count - 3], .regclass, system) else { return .null }
            let user = try user(a.count > 3 ? a[0] : nil, system), table = a[a.count - 3]
            let number = try number(table, .regclass, system)
            guard let relation = system.relation(number) else { return .null }
            let columns = relation.collection.columns
            let column: CollectionDescriptor.Column?
            if case .integer(let number) = a[a.count - 2] {
                column = columns.first { Int64($0.id.rawValue) == number }
            } else {
                column = columns.first { $0.name == text(a[a.count - 2]) }
                guard column != nil else {
                    throw StatementError(
                        .undefinedColumn,
                        "column \"\(text(a[a.count - 2]))\" of relation \"\(relation.name)\" does not exist")
                }
            }
            guard let column else { return .null }
            guard !SystemCatalogs.isComputed(relation.collection) else {
                return .bool(try isAllowed(user, wanted, table, .regclass, system))
            }
            let has = AccessRights(system.catalog).privileges(of: user, on: column, of: relation.collection)
            return .bool(allows(has, wanted))
        }
    }

    private static func allows(_ has: (rights: Privileges, grantable: Privileges), _ wanted: [Wanted]) -> Bool {
        wanted.contains { ($0.isOption ? has.grantable : has.rights).contains($0.right) && !$0.right.isEmpty }
    }

    private static func number(
        _ object: Value, _ kind: DataType.Kind, _ system: SystemCatalog
    ) throws(StatementError) -> UInt32 {
        if case .integer(let given) = object { return UInt32(truncatingIfNeeded: given) }
        return try ObjectNames(system).number(text(object), kind)
    }

    private static func roleMembership(_ parameters: [DataType]) -> ScalarFunction {
        CatalogFunctions.row("pg_has_role", parameters, .bool, nil) { a, system throws(StatementError) in
            // USAGE is having its rights; MEMBER, being able to take them.
            var isMember = false
            for part in text(a[a.count - 1]).split(separator: ",") {
                let word = String(part).trimmingBlanks.uppercased()
                isMember = isMember || word.hasPrefix("MEMBER")
                guard word.hasPrefix("MEMBER") || word.hasPrefix("USAGE") else {
                    throw StatementError(
                        .invalidParameterValue, "unrecognized privilege type: \"\(String(part).trimmingBlanks)\"")
                }
            }
            let user = try user(a.count > 2 ? a[0] : nil, system), role = try Self.user(a[a.count - 2], system)
            let rights = AccessRights(system.catalog)
            return .bool(rights.isSuperuser(user) || rights.roles(of: user, anyway: isMember).contains(role))
        }
    }

    /// The role that a name or a number means; who asks, if there is none.
    private static func user(_ value: Value?, _ system: SystemCatalog) throws(StatementError) -> String {
        guard let value else { return system.settings.user }
        if case .integer(let number) = value {
            return system.roleName(UInt32(truncatingIfNeeded: number)) ?? ""
        }
        let name = text(value)
        guard system.roles.contains(where: { $0.name == name }) else {
            throw StatementError(.undefinedObject, "role \"\(name)\" does not exist")
        }
        return name
    }

    private typealias Wanted = (right: Privileges, isOption: Bool)

    /// Whether a user has one of the rights.
    private static func isAllowed(
        _ user: String, _ wanted: [Wanted], _ object: Value, _ kind: DataType.Kind?, _ system: SystemCatalog
    ) throws(StatementError) -> Bool {
        guard let kind, kind == .regclass || kind == .regnamespace else { return true }
        let rights = AccessRights(system.catalog), number = try number(object, kind, system)
        let has: (rights: Privileges, grantable: Privileges)
        if kind == .regclass {
            guard let collection = system.relation(number)?.collection else { return true }
            guard !SystemCatalogs.isComputed(collection) else {
                return rights.isSuperuser(user) || wanted.contains { $0.right == .select && !$0.isOption }
            }
            has = rights.privileges(
                of: user, collection.effectiveGrants, owner: collection.owner, all: collection.allPrivileges)
        } else {
            guard
                let namespace = system.catalog.namespaces.values.first(where: {
                    ObjectNumbers.namespace($0.id) == number
                })
            else { return rights.isSuperuser(user) || wanted.contains { $0.right == .usage && !$0.isOption } }
            has = rights.privileges(
                of: user, namespace.effectiveGrants, owner: namespace.owner, all: .ofSchemas)
        }
        return allows(has, wanted)
    }

    /// Words with commas between, each with or without WITH GRANT OPTION.
    private static func check(_ list: String, _ words: Set<String>) throws(StatementError) -> [Wanted] {
        var wanted: [Wanted] = []
        for part in list.split(separator: ",", omittingEmptySubsequences: false) {
            var word = String(part).trimmingBlanks.uppercased()
            let isOption = word.hasSuffix(" WITH GRANT OPTION")
            if isOption { word = String(word.dropLast(18)) }
            guard words.contains(word) else {
                throw StatementError(
                    .invalidParameterValue, "unrecognized privilege type: \"\(String(part).trimmingBlanks)\"")
            }
            let right = Privileges.all.first { $0.name == word.lowercased() }?.right ?? []
            wanted.append((right, isOption))
        }
        return wanted
    }

    /// A name that means nothing is an error, a number is not.
    private static func found(
        _ object: Value, _ kind: DataType.Kind?, _ system: SystemCatalog
    ) throws(StatementError) -> Bool {
        guard case .integer(let number) = object else {
            if let kind { _ = try ObjectNames(system).number(text(object), kind) }
            return true
        }
        let oid = UInt32(truncatingIfNeeded: number)
        switch kind {
        case .regclass: return system.relation(oid) != nil
        case .regnamespace: return system.namespaceName(oid) != nil
        case _: return true
        }
    }

    // MARK: Sizes

    /// Nobody measures single tables: their records lie among those of others.
    private static let sizes: [ScalarFunction] = {
        var rows: [ScalarFunction] = []
        for name in ["pg_relation_size", "pg_table_size", "pg_total_relation_size", "pg_indexes_size"] {
            rows.append(size(name, [.regclass]))
        }
        rows.append(size("pg_relation_size", [.regclass, .text]))
        for name in ["pg_database_size", "pg_tablespace_size"] {
            rows.append(size(name, [.oid]))
            rows.append(size(name, [.name]))
        }
        rows.append(size("pg_sequence_last_value", [.regclass]))
        return rows
    }()

    private static func size(_ name: String, _ parameters: [DataType]) -> ScalarFunction {
        CatalogFunctions.row(name, parameters, .int64, nil) { _, _ throws(StatementError) in .null }
    }

    // MARK: Settings

    private static let settings: [ScalarFunction] = [
        CatalogFunctions.row(
            "current_setting", [.text], .text, ("current_setting('server_encoding')", "UTF8")
        ) { a, system throws(StatementError) in
            guard let value = system.setting(text(a[0])) else { throw unknown(text(a[0])) }
            return .text(value)
        },
        CatalogFunctions.row(
            "current_setting", [.text, .bool], .text, ("current_setting('no.such', true)", "NULL")
        ) { a, system throws(StatementError) in
            if let value = system.setting(text(a[0])) { return .text(value) }
            guard CatalogFunctions.flag(a[1]) else { throw unknown(text(a[0])) }
            return .null
        },
        // Settings are the session's, which is at a gateway: here nothing can be set to another value.
        ScalarFunction(
            "set_config", [.of(.text), .of(.text), .of(.bool)], .of(.text), volatility: .volatile,
            example: ("set_config('server_encoding', 'UTF8', false)", "UTF8")
        ) { a, context throws(StatementError) in
            guard let value = context.system.setting(text(a[0])) else { throw unknown(text(a[0])) }
            guard value == text(a[1]) else {
                throw StatementError(
                    .featureNotSupported, "set_config is not supported", hint: "Use SET \(text(a[0])).")
            }
            return .text(value)
        },
    ]

    private static func unknown(_ name: String) -> StatementError {
        StatementError(.undefinedObject, "unrecognized configuration parameter \"\(name)\"")
    }
}
