import Base

/// The settings of one session: what the client has set, for the session or for the transaction, and what becomes of
/// that when the transaction ends. A value: transactions and savepoints keep copies, which share what is equal.
package struct SessionSettings: Sendable {
    package let table: SettingsTable
    package let zones: TimeZoneNames
    /// What RESET brings back: the start-up packet's wishes, else the table's.
    private var defaults: [String]
    private var current: State
    /// What is in force again if the transaction fails.
    private var atBegin: State?
    private var savepoints: [(name: String, state: State)] = []
    /// Rows of what a transaction is like, of the one that is open and of those to come: isolation, read only,
    /// deferrable.
    private let termRows: [Int], defaultTermRows: [Int]
    /// Grows with every change, but for how a transaction is, which nothing else is made of.
    package private(set) var version: UInt64 = 1
    private var versionAtBegin: UInt64 = 0

    private struct State: Sendable {
        /// By row; nil: the default.
        var session: [String?]
        /// SET LOCAL: until the end of the transaction.
        var local: [Int: String] = [:]
        /// Settings with a dot in their name: anybody's own.
        var own: [String: String] = [:], ownLocal: [String: String] = [:]
    }

    package init(_ table: SettingsTable, _ zones: TimeZoneNames) {
        (self.table, self.zones) = (table, zones)
        defaults = table.rows.map(\.initial)
        let names = ["isolation", "read_only", "deferrable"]
        termRows = names.compactMap { table.index(of: "transaction_" + $0) }
        defaultTermRows = names.compactMap { table.index(of: "default_transaction_" + $0) }
        current = State(session: Array(repeating: nil, count: table.rows.count))
    }

    // MARK: Reading

    /// The value in force, as it is kept.
    package subscript(index: Int) -> String {
        if let value = current.local[index] ?? current.session[index] { return value }
        return table.fallbacks[index].map { self[$0] } ?? defaults[index]
    }

    package subscript(name: String) -> String { table.index(of: name).map { self[$0] } ?? "" }

    /// What SHOW shows, and under which name.
    package func show(_ name: String) throws(StatementError) -> (name: String, value: String) {
        if let index = table.index(of: name) { return (table.rows[index].name, table.rows[index].shown(self[index])) }
        let folded = name.asciiLowercased
        if folded.contains("."), let value = current.ownLocal[folded] ?? current.own[folded] { return (folded, value) }
        throw Self.unknown(name)
    }

    static func unknown(_ name: String) -> StatementError {
        StatementError(.undefinedObject, "unrecognized configuration parameter \"\(name)\"")
    }

    /// Milliseconds of a time-out.
    func milliseconds(_ name: String) -> Int64 { Int64(self[name]) ?? 0 }

    // MARK: Changing

    /// From the start-up packet: what RESET brings back from now on.
    package mutating func begin(with name: String, _ value: String) throws(StatementError) {
        let row = try changeable(name, at: true)
        guard let row else {
            current.own[name.asciiLowercased] = value
            return
        }
        defaults[row] = try table.rows[row].canonical(value, zones: zones)
        version &+= 1
    }

    /// What the gateway knows of the session; not to be changed by it.
    package mutating func fix(_ name: String, _ value: String) {
        guard let row = table.index(of: name) else { return }
        defaults[row] = value
        version &+= 1
    }

    /// SET; nil is DEFAULT.
    package mutating func set(_ name: String, to value: String?, isLocal: Bool) throws(StatementError) {
        version &+= 1
        guard let row = try changeable(name) else {
            let folded = name.asciiLowercased
            if isLocal {
                current.ownLocal[folded] = value ?? current.own[folded] ?? ""
            } else {
                current.ownLocal[folded] = nil
                current.own[folded] = value
            }
            return
        }
        let value = try value.map { (text) throws(StatementError) in try table.rows[row].canonical(text, zones: zones) }
        if isLocal {
            current.local[row] = value ?? defaults[row]
        } else {
            current.local[row] = nil
            current.session[row] = value
        }
    }

    /// RESET ALL.
    package mutating func resetAll() {
        let kept = ["transaction_isolation", "transaction_read_only", "transaction_deferrable"] + Self.identities
        let rows = kept.compactMap { table.index(of: $0) }
        let old = current
        current.local = [:]
        current.session = Array(repeating: nil, count: table.rows.count)
        (current.own, current.ownLocal) = ([:], [:])
        for row in rows { (current.local[row], current.session[row]) = (old.local[row], old.session[row]) }
        version &+= 1
    }

    // MARK: Who it is

    private static let identities = ["session_authorization", "role"]

    /// Whether a name is that of a setting that says in whose name statements are: it is set by `assume` alone.
    package static func isIdentity(_ name: String) -> Bool { identities.contains(name.asciiLowercased) }

    /// Says in whose name statements are from now on; nil: as it was at the beginning. Who is another user has no role
    /// of its own.
    package mutating func assume(_ name: String, _ value: String?, isLocal: Bool) {
        let folded = name.asciiLowercased
        for other in Self.identities where other == folded || folded == Self.identities[0] {
            guard let row = table.index(of: other) else { continue }
            let value = other == folded ? value : nil
            if isLocal {
                current.local[row] = value ?? defaults[row]
            } else {
                (current.local[row], current.session[row]) = (nil, value)
            }
        }
        version &+= 1
    }

    /// The row of a setting that may be changed; nil for one with a dot in its name.
    private func changeable(_ name: String, at start: Bool = false) throws(StatementError) -> Int? {
        guard let row = table.index(of: name) else {
            guard Self.isOwn(name) else { throw Self.unknown(name) }
            return nil
        }
        switch table.rows[row].access {
        case .user: return row
        case .start where start: return row
        case .fixed, .start:
            throw StatementError(
                .cantChangeRuntimeParam, "parameter \"\(table.rows[row].name)\" cannot be changed")
        }
    }

    private static func isOwn(_ name: String) -> Bool {
        let parts = name.split(separator: ".", omittingEmptySubsequences: false)
        return parts.count >= 2
            && parts.allSatisfy { part in
                guard let first = part.utf8.first, !(0x30...0x39).contains(first), first != 0x24 else { return false }
                return part.utf8.allSatisfy {
                    (0x30...0x39).contains($0) || (0x41...0x5a).contains($0) || (0x61...0x7a).contains($0)
                        || $0 == 0x5f || $0 == 0x24 || $0 >= 0x80
                }
            }
    }

    // MARK: Transactions

    /// A transaction begins, or a savepoint is set: of what is set from now on, it can be asked to forget it.
    package mutating func beginTransaction() { (versionAtBegin, atBegin) = (version, current) }

    /// What is set from now on, `rollBackTo` forgets.
    package mutating func setSavepoint(_ name: String) { savepoints.append((name, current)) }

    /// The savepoint and those after it are gone; what was set since stays.
    package mutating func releaseSavepoint(_ name: String) {
        guard let place = savepoints.lastIndex(where: { $0.name == name }) else { return }
        savepoints.removeSubrange(place...)
    }

    /// As it was at the savepoint, which stays.
    package mutating func rollBackTo(_ name: String) {
        guard let place = savepoints.lastIndex(where: { $0.name == name }) else { return }
        current = savepoints[place].state
        savepoints.removeSubrange((place + 1)...)
        version &+= 1
    }

    /// Whether a savepoint of that name is set.
    package func hasSavepoint(_ name: String) -> Bool { savepoints.contains { $0.name == name } }

    /// The transaction has ended: what was set for it alone is over, and if it failed, what was set at all.
    package mutating func endTransaction(isCommitted: Bool) {
        // Nearly all transactions set nothing: what was made of the settings stays good.
        let isAsBefore =
            version == versionAtBegin && current.ownLocal.isEmpty && current.local.keys.allSatisfy(termRows.contains)
        if !isCommitted, let atBegin { current = atBegin }
        current.local = [:]
        current.ownLocal = [:]
        atBegin = nil
        savepoints = []
        if !isAsBefore { version &+= 1 }
    }

    // MARK: For others

    /// What a transaction is begun with that does not say.
    package var defaultTerms: TransactionTerms { terms(defaultTermRows) }

    /// The terms of the transaction that is open.
    package var currentTerms: TransactionTerms { terms(termRows) }

    private func terms(_ rows: [Int]) -> TransactionTerms {
        var terms = TransactionTerms()
        guard rows.count == 3 else { return terms }
        terms.isolation = IsolationLevel(rawValue: self[rows[0]]) ?? .readCommitted
        terms.isReadOnly = self[rows[1]] == "on"
        terms.isDeferrable = self[rows[2]] == "on"
        return terms
    }

    /// Shows the terms of a transaction while it lasts.
    package mutating func adopt(_ terms: TransactionTerms) {
        guard termRows.count == 3 else { return }
        current.local[termRows[0]] = terms.isolation.rawValue
        current.local[termRows[1]] = terms.isReadOnly ? "on" : "off"
        current.local[termRows[2]] = terms.isDeferrable ? "on" : "off"
    }

    /// What statements are to know.
    package func context(user: String, role: UInt32? = nil, database: String) -> SessionContext {
        var context = SessionContext()
        (context.user, context.roleNumber, context.database) = (user, role, database)
        context.sessionUser = self["session_authorization"]
        context.role = self["role"]
        context.applicationName = self["application_name"]
        context.searchPath = Identifiers.split(self["search_path"]) ?? []
        context.timeZone = self["TimeZone"]
        context.dateOrder = String(self["DateStyle"].suffix(3))
        context.switchedOff = SessionContext.planSwitches.filter { self[$0] == "off" }
        context.statementTimeout = milliseconds("statement_timeout")
        context.lockTimeout = milliseconds("lock_timeout")
        context.idleInTransactionSessionTimeout = milliseconds("idle_in_transaction_session_timeout")
        context.version = version
        return context
    }
}
