import Base
import DataModel
import QueryLanguages

/// What statements do.
extension PgSession {
    /// Carries a statement out, or sends it to a node; with the portal whose statement it is.
    func perform(_ statement: SessionStatement, portal: Portal?, rowLimit: Int = 0) throws(StatementError) {
        switch statement {
        case .node(let planned):
            try run(planned, portal, rowLimit)
            return
        case .show(let name) where Self.isTransactionToken(name):
            showTransaction(portal, rowLimit)
            return
        case .show, .showAll:
            try showSettings(statement, portal, rowLimit)
            return
        case .fetch(let name, let fetch):
            try self.fetch(name, fetch, outer: portal)
            return
        case .execute(let name, let arguments):
            try executeNamed(name, arguments, portal, rowLimit)
            return
        case .begin, .commit, .rollback, .savepoint, .release, .rollbackTo, .set, .setTransaction, .reset, .resetAll,
            .prepare, .deallocate, .discard, .declare, .closeCursor, .unlisten, .refused:
            portal?.state = .done
        }
        switch statement {
        case .begin(let modes): try beginBlock(modes)
        case .commit(let chains): try endBlock(commits: true, chains: chains)
        case .rollback(let chains): try endBlock(commits: false, chains: chains)
        case .savepoint(let name): try savepoint(name)
        case .release(let name): try release(name)
        case .rollbackTo(let name): try rollBackTo(name)
        case .set(let name, let values, _) where Self.isTransactionToken(name):
            try setTransaction(token: values?.first)
        case .reset(let name) where Self.isTransactionToken(name): try setTransaction(token: nil)
        case .set(let name, let values, let isLocal) where SessionSettings.isIdentity(name):
            try assume(name, values, isLocal: isLocal)
        case .set(let name, let values, let isLocal): try set(name, values, isLocal: isLocal)
        case .setTransaction(let modes, let isSession): try setTransaction(modes, isSession: isSession)
        case .reset(let name):
            noteUse()
            if SessionSettings.isIdentity(name) {
                settings.assume(name, nil, isLocal: false)
            } else {
                try settings.set(name, to: nil, isLocal: false)
            }
            complete(StatementCompletion("RESET"))
        case .resetAll:
            noteUse()
            settings.resetAll()
            complete(StatementCompletion("RESET"))
        case .prepare(let name, let types, let planned): try prepareNamed(name, types, planned)
        case .deallocate(let name): try deallocate(name)
        case .discard(let what): try discard(what)
        case .declare(let name, let planned): try declare(name, planned, portal)
        case .closeCursor(let name): try closeCursor(name)
        case .unlisten: complete(StatementCompletion("UNLISTEN"))
        case .refused(let error): throw error
        case .node, .show, .showAll, .fetch, .execute: break  // Above.
        }
    }

    /// A statement is done.
    func complete(_ completion: StatementCompletion) { output.appendCommandComplete(completion) }

    // MARK: For nodes

    private func run(_ planned: PlannedStatement, _ portal: Portal?, _ rowLimit: Int) throws(StatementError) {
        let isFirst = status == .idle && !isEngaged, terms = isFirst ? settings.defaultTerms : settings.currentTerms
        if terms.isReadOnly, ["insert", "update", "delete"].contains(planned.verb) {
            throw StatementError.inReadOnlyTransaction(planned.verb.uppercased())
        }
        // Of other statements the transaction knows whether they write.
        let isRefused = terms.isReadOnly && !["select", "values", "table"].contains(planned.verb)
        let isAlone = isFirst && isLastOfGroup && rowLimit == 0 && !isRefused
        let use = isAlone ? TransactionUse.alone : .within(terms)
        if !isAlone { engage() }
        noteUse()
        if isFirst, !isAlone { settings.adopt(terms) }
        lastCursor &+= 1
        let description = portal?.prepared.description
        let columns = description?.columns, formats = portal?.formats(columns?.count ?? 0) ?? []
        activity = .running(Run(portal: portal, columns: columns, formats: formats, isDescribed: portal != nil))
        let token = nextToken(), context = context(), cursor = portal?.cursor ?? lastCursor
        if let portal {
            portal.withBinding { parameters, formats, _ in
                runner.execute(
                    token,
                    ExecuteCall(
                        statement: planned, description: description, parameters: parameters, formats: formats,
                        use: use, rowLimit: rowLimit, cursor: cursor), context)
            }
        } else {
            let none = ByteView(start: nil, count: 0)
            runner.execute(
                token,
                ExecuteCall(
                    statement: planned, description: nil, parameters: BoundParameters(count: 0, none),
                    formats: FormatCodes(none), use: use, rowLimit: 0, cursor: cursor), context)
        }
    }

    /// From now on the runner has a transaction.
    func engage() { isEngaged = true }

    /// Something is done that a failure of the transaction must undo.
    func noteUse() {
        guard !isGroupBegun else { return }
        isGroupBegun = true
        if status == .idle { settings.beginTransaction() }
    }

    /// Goes on with a portal that was suspended.
    func fetch(_ portal: Portal, rowLimit: Int) {
        if !portal.localRows.isEmpty { return sendLocalRows(portal, rowLimit) }
        let columns = portal.prepared.description?.columns, formats = portal.formats(columns?.count ?? 0)
        activity = .running(Run(portal: portal, columns: columns, formats: formats, isDescribed: true))
        runner.fetch(nextToken(), cursor: portal.cursor, rowLimit: rowLimit)
    }

    // MARK: SHOW

    /// The columns of what the session answers itself; nil: none.
    func localColumns(_ statement: SessionStatement?) throws(StatementError) -> [ColumnField]? {
        switch statement {
        case .show(let name) where Self.isTransactionToken(name): return [.text(Self.transactionToken)]
        case .show(let name): return [.text(try settings.show(name).name)]
        case .showAll: return [.text("name"), .text("setting"), .text("description")]
        case .execute(let name, _): return try prepared(named: name).columns
        case .fetch(let name, let fetch): return fetch.isMove ? nil : try cursor(named: name).prepared.columns
        case .begin, .commit, .rollback, .savepoint, .release, .rollbackTo, .set, .setTransaction, .reset, .resetAll,
            .prepare, .deallocate, .discard, .declare, .closeCursor, .unlisten, .refused, .node, nil:
            return nil
        }
    }

    private func showSettings(
        _ statement: SessionStatement, _ portal: Portal?, _ rowLimit: Int
    ) throws(StatementError) {
        let columns = try localColumns(statement) ?? [], rows: [[String?]]
        if case .show(let name) = statement {
            rows = [[try settings.show(name).value]]
        } else {
            rows = settings.table.rows.enumerated().map { [$1.name, $1.shown(settings[$0]), $1.summary] }
        }
        sendShown(columns, rows, portal, rowLimit)
    }

    /// The rows of a SHOW.
    func sendShown(_ columns: [ColumnField], _ rows: [[String?]], _ portal: Portal?, _ rowLimit: Int) {
        guard let portal else {
            output.appendRowDescription(columns) { _ in .text }
            for row in rows { output.appendDataRow(texts: row) }
            return complete(StatementCompletion("SHOW"))
        }
        portal.localRows = rows[...]
        sendLocalRows(portal, rowLimit)
    }

    private func sendLocalRows(_ portal: Portal, _ rowLimit: Int) {
        let count = rowLimit == 0 ? portal.localRows.count : min(rowLimit, portal.localRows.count)
        for row in portal.localRows.prefix(count) { output.appendDataRow(texts: row) }
        portal.localRows = portal.localRows.dropFirst(count)
        if rowLimit > 0, count == rowLimit, !portal.localRows.isEmpty {
            portal.state = .suspended
            return output.appendPortalSuspended()
        }
        portal.state = .done
        complete(StatementCompletion("SHOW"))
    }

    // MARK: SET

    private func set(_ name: String, _ values: [String]?, isLocal: Bool) throws(StatementError) {
        guard let values else { return try set(name, to: nil, isLocal) }
        var text = values[0]
        if let index = settings.table.index(of: name) {
            switch settings.table.rows[index].kind {
            case .identifiers: text = values.map(Identifiers.quoted).joined(separator: ", ")
            case .dateStyle: text = values.joined(separator: ", ")
            case .bool, .integer, .real, .choice, .text, .timeZone, .encoding:
                guard values.count == 1 else {
                    throw StatementError(.invalidParameterValue, "SET \(name) takes only one argument")
                }
            }
        } else {
            text = values.joined(separator: ", ")
        }
        try set(name, to: text, isLocal)
    }

    private func set(_ name: String, to value: String?, _ isLocal: Bool) throws(StatementError) {
        if let modes = try transactionModes(name, value) { return try setTransaction(modes, isSession: false) }
        noteLocal(isLocal)
        try settings.set(name, to: value, isLocal: isLocal)
        complete(StatementCompletion("SET"))
    }

    private func noteLocal(_ isLocal: Bool) {
        noteUse()
        if isLocal, status == .idle, !isInScript {
            notify(
                .warning,
                StatementError(.noActiveSQLTransaction, "SET LOCAL can only be used in transaction blocks"))
        }
    }

    /// SET ROLE, SET SESSION AUTHORIZATION: set here, and a node says whether it may be, as it does whenever it binds a
    /// statement. If not, this fails, and with it what was set.
    private func assume(_ name: String, _ values: [String]?, isLocal: Bool) throws(StatementError) {
        guard values?.count ?? 1 == 1 else {
            throw StatementError(.invalidParameterValue, "SET \(name) takes only one argument")
        }
        noteLocal(isLocal)
        settings.assume(name, values?.first, isLocal: isLocal)
        // Everybody may be who it was at the beginning.
        let isPlain = values == nil || name.asciiLowercased == "role" && values == ["none"]
        guard !isPlain, let statement = Self.nothing else { return complete(StatementCompletion("SET")) }
        activity = .controlling(.assume)
        runner.prepare(nextToken(), statement, types: [], context())
    }

    /// A statement that does nothing.
    private static let nothing: PlannedStatement? = {
        guard let plan = try? SQLParser.parse(Bytes("SELECT 1".utf8)).first?.plan else { return nil }
        return PlannedStatement(text: Bytes("SELECT 1".utf8), verb: "select", plan: plan.encode())
    }()

    /// `SET transaction_isolation = …` is SET TRANSACTION in other words.
    private func transactionModes(_ name: String, _ value: String?) throws(StatementError) -> TransactionModes? {
        let folded = name.asciiLowercased
        guard folded.hasPrefix("transaction_"), let index = settings.table.index(of: folded) else { return nil }
        let fallback = settings["default_" + folded]
        let text = try value.map { (text) throws(StatementError) in
            try settings.table.rows[index].canonical(text, zones: settings.zones)
        }
        let chosen = text ?? fallback
        var modes = TransactionModes()
        switch folded {
        case "transaction_isolation": modes.isolation = IsolationLevel(rawValue: chosen)
        case "transaction_read_only": modes.isReadOnly = chosen == "on"
        case _: modes.isDeferrable = chosen == "on"
        }
        return modes
    }

    private func setTransaction(_ modes: TransactionModes, isSession: Bool) throws(StatementError) {
        noteUse()
        if isSession {
            if let level = modes.isolation {
                try settings.set("default_transaction_isolation", to: level.rawValue, isLocal: false)
            }
            if let isReadOnly = modes.isReadOnly {
                try settings.set("default_transaction_read_only", to: isReadOnly ? "on" : "off", isLocal: false)
            }
            if let isDeferrable = modes.isDeferrable {
                try settings.set("default_transaction_deferrable", to: isDeferrable ? "on" : "off", isLocal: false)
            }
        } else if status == .idle, !isInScript {
            notify(
                .warning,
                StatementError(.noActiveSQLTransaction, "SET TRANSACTION can only be used in transaction blocks"))
        } else {
            try adopt(modes)
        }
        complete(StatementCompletion("SET"))
    }

    // MARK: Prepared statements in SQL

    private func prepareNamed(
        _ name: String, _ types: [String], _ planned: PlannedStatement
    ) throws(StatementError) {
        guard statements[name] == nil else {
            throw StatementError(.duplicatePreparedStatement, "prepared statement \"\(name)\" already exists")
        }
        var oids: [UInt32] = []
        for type in types {
            guard let known = PostgresTypes.type(spelled: type) else {
                throw StatementError(.undefinedObject, "type \"\(type)\" does not exist")
            }
            oids.append(known.oid)
        }
        let preparation = Preparation(name: name, byteCount: planned.text.count, .node(planned), origin: .sql)
        try prepare(preparation, types: oids)
    }

    private func prepared(named name: String) throws(StatementError) -> PreparedStatement {
        guard let prepared = statements[name] else {
            throw StatementError(.invalidSQLStatementName, "prepared statement \"\(name)\" does not exist")
        }
        return prepared
    }

    /// EXECUTE: as if the client had bound the constants as texts.
    private func executeNamed(
        _ name: String, _ arguments: [SessionStatement.Argument], _ portal: Portal?, _ rowLimit: Int
    ) throws(StatementError) {
        let prepared = try prepared(named: name)
        guard arguments.count == prepared.parameters.count else {
            throw StatementError(
                .syntaxError, "wrong number of parameters for prepared statement \"\(name)\"",
                detail: "Expected \(prepared.parameters.count) parameters but got \(arguments.count).")
        }
        guard let statement = prepared.statement else { return output.appendEmptyQueryResponse() }
        if case .execute = statement {
            throw StatementError(.featureNotSupported, "EXECUTE of an EXECUTE is not supported")
        }
        var body = ByteBuffer(capacity: 64)
        body.append("\0\0\0\0")
        body.append(bigEndian: UInt16(truncatingIfNeeded: arguments.count))
        for argument in arguments {
            guard let text = argument.text else {
                body.append(bigEndian: Int32(-1))
                continue
            }
            body.append(bigEndian: Int32(truncatingIfNeeded: text.utf8.count))
            body.append(text: text)
        }
        let formats = portal?.formats(prepared.columns?.count ?? 0) ?? []
        body.append(bigEndian: UInt16(truncatingIfNeeded: formats.count))
        for format in formats { body.append(bigEndian: format.rawValue) }
        lastCursor &+= 1
        let bound = Portal(name, prepared, message: body.readable.bytes, cursor: portal?.cursor ?? lastCursor)
        if portal == nil, let columns = prepared.columns {
            output.appendRowDescription(columns) { _ in .text }
        }
        bound.outer = portal
        portal?.inner = bound
        try perform(statement, portal: bound, rowLimit: rowLimit)
    }

    private func deallocate(_ name: String?) throws(StatementError) {
        guard let name else {
            statements = [:]
            statementBytes = 0
            return complete(StatementCompletion("DEALLOCATE ALL"))
        }
        _ = try prepared(named: name)
        dropStatement(name)
        complete(StatementCompletion("DEALLOCATE"))
    }

    // MARK: DISCARD

    private func discard(_ what: SessionStatement.Discard) throws(StatementError) {
        switch what {
        case .all:
            guard status == .idle, !isEngaged, !isInScript else {
                throw StatementError(
                    .activeSQLTransaction, "DISCARD ALL cannot run inside a transaction block")
            }
            dropPortals()
            settings.assume("session_authorization", nil, isLocal: false)
            settings.resetAll()
            statements = [:]
            statementBytes = 0
            runner.forgetSequences()
            complete(StatementCompletion("DISCARD ALL"))
        // Plans are kept by nodes, which notice when one is stale; the others do not exist.
        case .plans: complete(StatementCompletion("DISCARD PLANS"))
        case .sequences:
            runner.forgetSequences()
            complete(StatementCompletion("DISCARD SEQUENCES"))
        case .temp: complete(StatementCompletion("DISCARD TEMP"))
        }
    }

    // MARK: Cursors

    /// By a portal: with what is bound there.
    private func declare(_ name: String, _ planned: PlannedStatement, _ portal: Portal?) throws(StatementError) {
        if !isInScript { try requireBlock("DECLARE CURSOR") }
        guard portals[name] == nil else {
            throw StatementError(.duplicateCursor, "cursor \"\(name)\" already exists")
        }
        if let portal, let description = portal.prepared.description {
            let query = PreparedStatement(
                .node(planned), byteCount: planned.text.count, description: description)
            return try addCursor(name, query, message: portal.message)
        }
        let preparation = Preparation(name: name, byteCount: planned.text.count, .node(planned), origin: .cursor)
        try prepare(preparation, types: [])
    }

    func addCursor(_ name: String, _ query: PreparedStatement, message: Bytes) throws(StatementError) {
        guard query.columns != nil else {
            throw StatementError(
                .invalidCursorDefinition, "DECLARE CURSOR must not contain data-modifying statements")
        }
        try addPortal(name, query, message: message)
        portals[name]?.isCursor = true
        complete(StatementCompletion("DECLARE CURSOR"))
    }

    private func cursor(named name: String) throws(StatementError) -> Portal {
        guard let portal = portals[name], portal.isCursor else {
            throw StatementError(.invalidCursorName, "cursor \"\(name)\" does not exist")
        }
        return portal
    }

    /// FETCH and MOVE, forward only; `outer` is the portal whose statement this is.
    private func fetch(
        _ name: String, _ fetch: SessionStatement.Fetch, outer: Portal?
    ) throws(StatementError) {
        let portal = try cursor(named: name), columns = portal.prepared.columns ?? []
        if !fetch.isMove, outer == nil { output.appendRowDescription(columns) { _ in .text } }
        outer?.state = .done
        let tag = fetch.isMove ? "MOVE" : "FETCH"
        guard fetch.count != 0, portal.state != .done else { return complete(StatementCompletion(tag, rows: 0)) }
        if portal.state == .suspended {
            self.fetch(portal, rowLimit: fetch.count ?? 0)
        } else if case .node(let planned) = portal.prepared.statement {
            try run(planned, portal, fetch.count ?? 0)
        }
        guard case .running(var run) = activity else { return }
        (run.isFetch, run.isMove, run.formats) = (true, fetch.isMove, outer?.formats(columns.count) ?? [])
        activity = .running(run)
    }

    private func closeCursor(_ name: String?) throws(StatementError) {
        guard let name else {
            for name in portals.values.filter(\.isCursor).map(\.name) { dropPortal(name) }
            return complete(StatementCompletion("CLOSE CURSOR ALL"))
        }
        _ = try cursor(named: name)
        dropPortal(name)
        complete(StatementCompletion("CLOSE CURSOR"))
    }

    /// Several statements of one query are a block of a kind.
    private var isInScript: Bool { (script?.statements.count ?? 1) > 1 }

    func requireBlock(_ what: String) throws(StatementError) {
        guard status == .idle else { return }
        throw StatementError(.noActiveSQLTransaction, "\(what) can only be used in transaction blocks")
    }
}
