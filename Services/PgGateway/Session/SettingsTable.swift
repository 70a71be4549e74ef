import Base

/// Every setting there is. Those that PostgreSQL has and we do not are unknown here, rather than taken and ignored.
package struct SettingsTable: Sendable {
    package let rows: [Setting]
    private let byName: [String: Int]
    /// A transaction that does not say is begun with the defaults of the session.
    let fallbacks: [Int: Int]

    package init(_ rows: [Setting] = SettingsTable.client + SettingsTable.transaction + SettingsTable.facts) {
        self.rows = rows.sorted { $0.name.asciiLowercased < $1.name.asciiLowercased }
        let byName = Dictionary(
            self.rows.enumerated().map { ($1.name.asciiLowercased, $0) }, uniquingKeysWith: { first, _ in first })
        var fallbacks: [Int: Int] = [:]
        for (index, row) in self.rows.enumerated() where row.name.hasPrefix("transaction_") {
            fallbacks[index] = byName["default_" + row.name]
        }
        (self.byName, self.fallbacks) = (byName, fallbacks)
    }

    /// The row of a setting; names are read without regard to case.
    package func index(of name: String) -> Int? { byName[name.asciiLowercased] }

    /// What clients say about themselves, and how they want to be answered.
    static let client: [Setting] = [
        Setting("application_name", .text, "", isReported: true, "Name of the application, for status and logs."),
        Setting("client_encoding", .encoding, "UTF8", isReported: true, "Encoding of the client's text."),
        Setting(
            "client_min_messages",
            .choice(["debug5", "debug4", "debug3", "debug2", "debug1", "log", "notice", "warning", "error"]), "notice",
            "Lesser messages are not sent."),
        Setting("DateStyle", .dateStyle, "ISO, MDY", isReported: true, "How dates are written and read."),
        Setting(
            "IntervalStyle", .choice(["postgres", "postgres_verbose", "sql_standard", "iso_8601"]), "postgres",
            isReported: true, supported: ["postgres"], "How intervals are written."),
        Setting("TimeZone", .timeZone, "UTC", isReported: true, "Zone in which times are written and read."),
        Setting(
            "extra_float_digits", .integer(-15...3, nil), "1", supported: ["1", "2", "3"],
            "Digits of floating-point numbers; from 1 on the shortest text that is read back exactly."),
        Setting(
            "bytea_output", .choice(["escape", "hex"]), "hex", supported: ["hex"], "How byte strings are written."),
        Setting(
            "standard_conforming_strings", .bool, "on", isReported: true, supported: ["on"],
            "Backslashes in ordinary strings are themselves."),
        Setting(
            "backslash_quote", .choice(["safe_encoding", "on", "off"]), "safe_encoding", supported: ["safe_encoding"],
            "Whether \\' is a quote in strings with escapes."),
        Setting("search_path", .identifiers, "\"$user\", public", "Schemas in which names are looked up."),
        Setting("enable_seqscan", .bool, "on", "off: a whole table is read only where there is no other way."),
        Setting("enable_hashjoin", .bool, "on", "off: tables are joined along an order wherever that can be."),
        Setting("enable_mergejoin", .bool, "on", "off: tables are not joined along an order."),
        Setting("enable_hashagg", .bool, "on", "off: rows are grouped along an order wherever that can be."),
        Setting(
            "statement_timeout", .integer(0...2_147_483_647, .milliseconds), "0",
            "A statement that takes longer is cancelled; 0: none is."),
        Setting(
            "lock_timeout", .integer(0...2_147_483_647, .milliseconds), "0",
            "A statement that waits longer for a lock is cancelled; 0: none is."),
        Setting(
            "idle_in_transaction_session_timeout", .integer(0...2_147_483_647, .milliseconds), "0",
            "A client that is idle longer inside a transaction is disconnected; 0: none is."),
        Setting(
            "idle_session_timeout", .integer(0...2_147_483_647, .milliseconds), "0",
            "A client that is idle longer outside a transaction is disconnected; 0: none is."),
    ]

    /// How transactions are begun.
    static let transaction: [Setting] = [
        Setting(
            "default_transaction_isolation", .choice(isolationLevels), "read committed",
            "Isolation of transactions that do not say."),
        Setting(
            "default_transaction_read_only", .bool, "off", isReported: true,
            "Whether transactions that do not say may write."),
        Setting(
            "default_transaction_deferrable", .bool, "off",
            "Whether transactions that do not say wait for a safe moment."),
        Setting("transaction_isolation", .choice(isolationLevels), "read committed", "Isolation of this transaction."),
        Setting("transaction_read_only", .bool, "off", "Whether this transaction may write."),
        Setting("transaction_deferrable", .bool, "off", "Whether this transaction waits for a safe moment."),
        Setting(
            "synchronous_commit", .choice(["local", "remote_write", "remote_apply", "on", "off"]), "on",
            supported: ["on"], "Whether a commit is durable before it is acknowledged."),
    ]

    static let isolationLevels = ["serializable", "repeatable read", "read committed", "read uncommitted"]

    /// What is, and is shown.
    static let facts: [Setting] = [
        Setting(
            "server_version", .text, "15.0 (Orbit)", access: .fixed, isReported: true, "PostgreSQL that clients find."),
        Setting("server_version_num", .integer(0...999_999, nil), "150000", access: .fixed, "The same as a number."),
        Setting("server_encoding", .text, "UTF8", access: .fixed, isReported: true, "Encoding of stored text."),
        Setting("in_hot_standby", .bool, "off", access: .fixed, isReported: true, "Whether only reads are possible."),
        Setting(
            "integer_datetimes", .bool, "on", access: .fixed, isReported: true,
            "Times are counted in whole microseconds."),
        Setting("is_superuser", .bool, "off", access: .fixed, isReported: true, "Whether the user may do everything."),
        Setting("session_authorization", .text, "", access: .fixed, isReported: true, "The user of this session."),
        Setting("role", .text, "none", access: .fixed, "Whose rights count in place of the user's."),
        Setting("lc_collate", .text, "C", access: .fixed, "Order of text."),
        Setting("lc_ctype", .text, "C.UTF-8", access: .fixed, "What is a letter, and its case."),
        Setting("max_identifier_length", .integer(0...63, nil), "63", access: .fixed, "Bytes of a name."),
        Setting("max_index_keys", .integer(0...32, nil), "32", access: .fixed, "Columns of an index."),
    ]
}
