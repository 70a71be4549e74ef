import Contracts
import DataModel

/// What is known of the whole cluster: databases, roles, settings.
enum ClusterTables {
    static let tables: [SystemTable] = [
        databases, accounts, roles, members, users, tablespaces, settings, defaults,
    ]

    /// The one database, under both of its names.
    static let names: [(UInt32, String)] = [(16_384, "orbit"), (5, "postgres")]

    private static let databases = SystemTable("pg_database", 1262, rows: { _ in names }) { table in
        table.add("oid", .oid) { row, _ in .oid(row.0) }
        table.add("datname", .name) { row, _ in .text(row.1) }
        table.constant("datdba", .oid, .oid(10))
        table.constant("encoding", .int32, .integer(Int64(TextEncoding.utf8)))
        table.constant("datlocprovider", .internalChar, .text("c"))
        table.constant("datistemplate", .bool, .bool(false))
        table.constant("datallowconn", .bool, .bool(true))
        table.constant("datconnlimit", .int32, .integer(-1))
        table.constant("datfrozenxid", .transactionID, .integer(0))
        table.constant("datminmxid", .transactionID, .integer(0))
        table.constant("dattablespace", .oid, .oid(1663))
        table.constant("datcollate", .text, .text("C"))
        table.constant("datctype", .text, .text("C.UTF-8"))
        table.constant("daticulocale", .text, .null)
        table.constant("datcollversion", .text, .null)
        table.constant("datacl", .text.array, .null)
    }

    private typealias Attributes = RoleDescriptor.Attributes

    /// The attributes of roles, by the names of their columns.
    private static func rights(_ table: inout SystemTable.Columns<SystemRole>, _ names: [(String, Attributes)]) {
        for (name, attribute) in names {
            table.add(name, .bool) { role, _ in .bool(role.attributes.contains(attribute)) }
        }
    }

    private static func end(_ role: SystemRole) -> Value { role.descriptor?.validUntil.map(Value.timestamp) ?? .null }

    private static let common: [(String, Attributes)] = [
        ("rolsuper", .superuser), ("rolinherit", .inherit), ("rolcreaterole", .createRole),
        ("rolcreatedb", .createDatabase), ("rolcanlogin", .login), ("rolreplication", .replication),
    ]

    private static let accounts = SystemTable("pg_authid", 1260, rows: { $0.roles }) { table in
        table.add("oid", .oid) { row, _ in .oid(row.oid) }
        table.add("rolname", .name) { row, _ in .text(row.name) }
        rights(&table, common + [("rolbypassrls", .bypassRowSecurity)])
        table.constant("rolconnlimit", .int32, .integer(-1))
        table.constant("rolpassword", .text, .null)
        table.optional("rolvaliduntil", .timestampWithZone) { row, _ in end(row) }
    }

    private static let roles = SystemTable("pg_roles", 12_000, isView: true, rows: { $0.roles }) { table in
        table.add("rolname", .name) { row, _ in .text(row.name) }
        rights(&table, common)
        table.constant("rolconnlimit", .int32, .integer(-1))
        table.constant("rolpassword", .text, .text("********"))
        table.optional("rolvaliduntil", .timestampWithZone) { row, _ in end(row) }
        rights(&table, [("rolbypassrls", .bypassRowSecurity)])
        table.constant("rolconfig", .text.array, .null)
        table.add("oid", .oid) { row, _ in .oid(row.oid) }
    }

    private static let members = SystemTable(
        "pg_auth_members", 1261,
        rows: { system in
            system.roles.flatMap { role in (role.descriptor?.memberships ?? []).map { (role, $0) } }
        }
    ) { table in
        table.add("roleid", .oid) { row, system in .oid(system.roleNumber(row.1.role)) }
        table.add("member", .oid) { row, _ in .oid(row.0.oid) }
        table.add("grantor", .oid) { row, _ in .oid(ObjectNumbers.role(row.1.grantor)) }
        table.add("admin_option", .bool) { row, _ in .bool(row.1.isAdmin) }
    }

    private static let users = SystemTable(
        "pg_user", 12_014, isView: true, rows: { system in system.roles.filter(\.isUser) }
    ) { table in
        table.add("usename", .name) { row, _ in .text(row.name) }
        table.add("usesysid", .oid) { row, _ in .oid(row.oid) }
        rights(
            &table,
            [
                ("usecreatedb", .createDatabase), ("usesuper", .superuser), ("userepl", .replication),
                ("usebypassrls", .bypassRowSecurity),
            ])
        table.constant("passwd", .text, .text("********"))
        table.optional("valuntil", .timestampWithZone) { row, _ in end(row) }
        table.constant("useconfig", .text.array, .null)
    }

    /// What ALTER DATABASE has set.
    private static let defaults = SystemTable(
        "pg_db_role_setting", 2964, rows: { system in system.catalog.namesRecords ? [] : names }
    ) { table in
        table.add("setdatabase", .oid) { row, _ in .oid(row.0) }
        table.constant("setrole", .oid, .oid(0))
        table.constant("setconfig", .text.array, .texts(["resp.records=off"]))
    }

    private static let tablespaces = SystemTable(
        "pg_tablespace", 1213, rows: { _ in [(1663 as UInt32, "pg_default"), (1664, "pg_global")] }
    ) { table in
        table.add("oid", .oid) { row, _ in .oid(row.0) }
        table.add("spcname", .name) { row, _ in .text(row.1) }
        table.constant("spcowner", .oid, .oid(10))
        table.constant("spcacl", .text.array, .null)
        table.constant("spcoptions", .text.array, .null)
    }

    private static let settings = SystemTable("pg_settings", 12_104, isView: true, rows: { $0.knownSettings }) {
        table in
        table.add("name", .text) { row, _ in .text(row.name) }
        table.add("setting", .text) { row, _ in .text(row.value) }
        table.constant("unit", .text, .null)
        table.constant("category", .text, .text("Client Connection Defaults"))
        table.constant("short_desc", .text, .text(""))
        table.constant("extra_desc", .text, .null)
        table.add("context", .text) { row, _ in .text(row.isFixed ? "internal" : "user") }
        table.constant("vartype", .text, .text("string"))
        table.add("source", .text) { row, _ in .text(row.isFixed ? "default" : "session") }
        table.constant("min_val", .text, .null)
        table.constant("max_val", .text, .null)
        table.constant("enumvals", .text.array, .null)
        table.add("boot_val", .text) { row, _ in .text(row.value) }
        table.add("reset_val", .text) { row, _ in .text(row.value) }
        table.constant("sourcefile", .text, .null)
        table.constant("sourceline", .int32, .null)
        table.constant("pending_restart", .bool, .bool(false))
    }
}

/// A setting that a node knows: what is so everywhere, and what the session sent along with its statement.
struct KnownSetting {
    let name: String
    let value: String
    let isFixed: Bool
}

extension SystemCatalog {
    /// What `SHOW` says in every session.
    private static let fixedSettings: [String: String] = [
        "block_size": "8192", "default_table_access_method": "heap", "default_tablespace": "",
        "default_with_oids": "off", "integer_datetimes": "on", "jit": "off", "lc_collate": "C",
        "lc_ctype": "C.UTF-8", "max_identifier_length": "63", "max_index_keys": "32",
        "server_encoding": "UTF8", "server_version": "15.0 (Orbit)", "server_version_num": "150000",
        "standard_conforming_strings": "on", "bytea_output": "hex", "client_encoding": "UTF8",
        "IntervalStyle": "postgres", "in_hot_standby": "off",
    ]

    var knownSettings: [KnownSetting] {
        var list = Self.fixedSettings
        var own: Set<String> = []
        for setting in settings.sessionSettings
        where ![QueryRequest.Setting.roleNumber, "database"].contains(setting.name) {
            list[setting.name] = setting.value
            own.insert(setting.name)
        }
        return list.sorted { $0.key.lowercased() < $1.key.lowercased() }.map { name, value in
            KnownSetting(name: name, value: value, isFixed: !own.contains(name))
        }
    }

    /// By a name that is written in any case.
    func setting(_ name: String) -> String? {
        let folded = name.lowercased()
        return knownSettings.first { $0.name.lowercased() == folded }?.value
    }
}

/// PostgreSQL's numbers of encodings.
enum TextEncoding {
    static let utf8: Int32 = 6

    static let names: [Int32: String] = [
        0: "SQL_ASCII", 1: "EUC_JP", 2: "EUC_CN", 3: "EUC_KR", 4: "EUC_TW", 5: "EUC_JIS_2004", 6: "UTF8",
        7: "MULE_INTERNAL", 8: "LATIN1", 9: "LATIN2", 10: "LATIN3", 11: "LATIN4", 12: "LATIN5", 13: "LATIN6",
        14: "LATIN7", 15: "LATIN8", 16: "LATIN9", 17: "LATIN10", 18: "WIN1256", 19: "WIN1258", 20: "WIN866",
        21: "WIN874", 22: "KOI8R", 23: "WIN1251", 24: "WIN1252", 25: "ISO_8859_5", 26: "ISO_8859_6",
        27: "ISO_8859_7", 28: "ISO_8859_8", 29: "WIN1250", 30: "WIN1253", 31: "WIN1254", 32: "WIN1255",
        33: "WIN1257", 34: "KOI8U", 35: "SJIS", 36: "BIG5", 37: "GBK", 38: "UHC", 39: "GB18030", 40: "JOHAB",
        41: "SHIFT_JIS_2004",
    ]
}
