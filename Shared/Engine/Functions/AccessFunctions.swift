import Base
import DataModel

/// What a user may do, how large things are, and what settings say.
enum AccessFunctions {
    static let rows: [ScalarFunction] = privileges + sizes + settings

    private static func text(_ value: Value) -> String { TextFunctions.text(value) }

    // MARK: Rights

    /// Which words there are for each kind of object. Who may use SQL may do everything (docs/postgresql.md).
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
                rows.append(
                    CatalogFunctions.row(
                        "pg_has_role", user + [object == .text ? .name : .oid, .text], .bool, nil
                    ) { _, _ throws(StatementError) in .bool(true) })
            }
        }
        return rows
    }()

    private static func privilege(
        _ kind: (name: String, type: DataType.Kind?, words: Set<String>), _ parameters: [DataType]
    ) -> ScalarFunction {
        CatalogFunctions.row("has_\(kind.name)_privilege", parameters, .bool, nil) { a, system throws(StatementError) in
            try check(text(a[a.count - 1]), kind.words)
            return try found(a[a.count - 2], kind.type, system) ? .bool(true) : .null
        }
    }

    private static func columnPrivilege(_ parameters: [DataType]) -> ScalarFunction {
        CatalogFunctions.row("has_column_privilege", parameters, .bool, nil) { a, system throws(StatementError) in
            try check(text(a[a.count - 1]), ["SELECT", "INSERT", "UPDATE", "REFERENCES"])
            return try found(a[a.count - 3], .regclass, system) ? .bool(true) : .null
        }
    }

    /// Words with commas between, each with or without WITH GRANT OPTION.
    private static func check(_ list: String, _ words: Set<String>) throws(StatementError) {
        for part in list.split(separator: ",", omittingEmptySubsequences: false) {
            var word = String(part).trimmingBlanks.uppercased()
            if word.hasSuffix(" WITH GRANT OPTION") { word = String(word.dropLast(18)) }
            guard words.contains(word) else {
                throw StatementError(
                    .invalidParameterValue, "unrecognized privilege type: \"\(String(part).trimmingBlanks)\"")
            }
        }
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
