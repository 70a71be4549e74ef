import Base
import DataModel
import QueryLanguages

/// Messages of a client that has logged in.
extension PgSession {
    func receive(_ frame: MessageFrame) {
        if case .copying(let run) = activity { return receiveCopy(frame, run) }
        let isSync = frame.type == UInt8(ascii: "S"), isEnd = frame.type == UInt8(ascii: "X")
        if isSkipping, !isSync, !isEnd { return }
        do throws(StatementError) {
            switch try FrontendMessage(frame) {
            case .query(let text): try query(text)
            case .parse(let message): try parse(message)
            case .bind(let message): try bind(message, frame.body)
            case .describe(let target, let name): try describe(target, name)
            case .execute(let portal, let rowLimit): try execute(portal, rowLimit: Int(rowLimit))
            case .close(let target, let name): try closeTarget(target, name)
            case .flush: mustFlush = true
            case .sync:
                isSkipping = false
                endGroup()
            case .terminate: close()
            case .functionCall:
                isSkipping = false
                fail(StatementError(.featureNotSupported, "function calls of the protocol are not supported"))
                isSkipping = false
                endGroup()
            case .copyData, .copyDone, .copyFail: break  // Of a COPY that has failed; the client could not know.
            }
        } catch {
            fail(error)
            if frame.type == UInt8(ascii: "Q") {
                isSkipping = false
                endGroup()
            }
        }
    }

    /// Tells an error. What it ends: the script, or everything up to Sync; and the transaction.
    func fail(_ error: StatementError) {
        server.errorCount &+= 1
        output.appendReport(.error, error)
        if status == .inBlock { status = .failed }
        if status == .idle { hasGroupFailed = true }
        if script != nil { script?.isFailed = true } else { isSkipping = true }
    }

    static var inFailedTransaction: StatementError {
        StatementError(
            .inFailedSQLTransaction,
            "current transaction is aborted, commands ignored until end of transaction block")
    }

    func text(_ view: ByteView) throws(StatementError) -> Bytes {
        guard String(validating: view, as: UTF8.self) != nil else { throw ClientText.invalid(view) }
        return view.bytes
    }

    // MARK: Simple query

    /// The statements of one Query message.
    struct Script {
        let statements: [SessionStatement]
        var next = 0
        var isFailed = false
    }

    private func query(_ view: ByteView) throws(StatementError) {
        dropPortal("")
        dropStatement("")
        let statements = try shapes.read(try text(view))
        guard !statements.isEmpty else {
            output.appendEmptyQueryResponse()
            return endGroup()
        }
        script = Script(statements: statements)
        continueScript()
    }

    /// Goes on with the script until something has to be waited for, or the client has too much to read.
    func continueScript() {
        while let script, case .none = activity, phase == .ready {
            guard output.count < server.limits.output else { return }
            guard !script.isFailed, script.next < script.statements.count else {
                self.script = nil
                return endGroup()
            }
            let statement = script.statements[script.next]
            self.script?.next += 1
            isLastOfGroup = script.statements.count == 1
            do throws(StatementError) {
                if status == .failed, !statement.endsTransaction { throw Self.inFailedTransaction }
                server.statementCount &+= 1
                try perform(statement, portal: nil)
            } catch {
                fail(error)
            }
        }
    }

    // MARK: Extended query

    private func parse(_ message: ParseMessage) throws(StatementError) {
        let name = try ClientText.string(message.name), text = try text(message.text)
        let statements = try StatementReader.read(text)
        guard statements.count <= 1 else {
            throw StatementError(.syntaxError, "cannot insert multiple commands into a prepared statement")
        }
        if let statement = statements.first, status == .failed, !statement.endsTransaction {
            throw Self.inFailedTransaction
        }
        if name.isEmpty {
            dropStatement("")
        } else if self.statements[name] != nil {
            throw StatementError(.duplicatePreparedStatement, "prepared statement \"\(name)\" already exists")
        }
        let preparation = Preparation(name: name, byteCount: text.count, statements.first, origin: .parse)
        try prepare(preparation, types: message.parameterTypes)
    }

    /// Has the runner look at a statement for nodes; keeps any other as it is.
    func prepare(_ preparation: Preparation, types: [UInt32]) throws(StatementError) {
        guard statementBytes + preparation.byteCount <= server.limits.statementBytes,
            statements.count < server.limits.statements
        else { throw StatementError(.programLimitExceeded, "too many prepared statements") }
        guard let planned = preparation.planned else {
            if case .refused(let error) = preparation.statement { throw error }
            let columns = try localColumns(preparation.statement)
            return prepared(
                preparation,
                PreparedStatement(preparation.statement, byteCount: preparation.byteCount, columns: columns))
        }
        activity = .preparing(preparation)
        noteUse()
        runner.prepare(nextToken(), planned, types: types, context())
    }

    private func bind(_ message: BindMessage, _ body: ByteView) throws(StatementError) {
        let portal = try ClientText.string(message.portal), name = try ClientText.string(message.statement)
        guard let prepared = statements[name] else {
            throw StatementError(
                .invalidSQLStatementName,
                name.isEmpty
                    ? "unnamed prepared statement does not exist" : "prepared statement \"\(name)\" does not exist")
        }
        let count = message.parameters.count
        guard count == prepared.parameters.count else {
            throw .protocolViolation(
                "bind message supplies \(count) parameters, but prepared statement \"\(name)\" "
                    + "requires \(prepared.parameters.count)")
        }
        if status == .failed, !(prepared.statement?.endsTransaction ?? true) || count > 0 {
            throw Self.inFailedTransaction
        }
        if let unknown = message.parameterFormats.firstUnknown ?? message.resultFormats.firstUnknown {
            throw StatementError(.invalidParameterValue, "unsupported format code: \(unknown.code)")
        }
        let columns = prepared.columns?.count ?? 0, formats = message.resultFormats.count
        if formats > 1, formats != columns {
            throw .protocolViolation("bind message has \(formats) result formats but query has \(columns) columns")
        }
        if portal.isEmpty {
            dropPortal("")
        } else if portals[portal] != nil {
            throw StatementError(.duplicateCursor, "cursor \"\(portal)\" already exists")
        }
        try addPortal(portal, prepared, message: body.bytes)
        output.appendBindComplete()
    }

    /// Makes a portal.
    func addPortal(_ name: String, _ prepared: PreparedStatement, message: Bytes) throws(StatementError) {
        guard portals.count < server.limits.portals, portalBytes + message.count <= server.limits.portalBytes else {
            throw StatementError(.programLimitExceeded, "too many portals")
        }
        lastCursor &+= 1
        portalBytes += message.count
        portals[name] = Portal(name, prepared, message: message, cursor: lastCursor)
    }

    private func portal(_ name: ByteView) throws(StatementError) -> Portal {
        let name = try ClientText.string(name)
        guard let portal = portals[name] else {
            throw StatementError(.invalidCursorName, "portal \"\(name)\" does not exist")
        }
        return portal
    }

    private func describe(_ target: FrontendMessage.MessageTarget, _ name: ByteView) throws(StatementError) {
        switch target {
        case .statement:
            let name = try ClientText.string(name)
            guard let prepared = statements[name] else {
                throw StatementError(
                    .invalidSQLStatementName,
                    name.isEmpty
                        ? "unnamed prepared statement does not exist"
                        : "prepared statement \"\(name)\" does not exist")
            }
            if status == .failed, prepared.columns != nil { throw Self.inFailedTransaction }
            output.appendParameterDescription(prepared.parameters)
            appendDescription(prepared.columns) { _ in .text }
        case .portal:
            let portal = try portal(name)
            if status == .failed, portal.prepared.columns != nil { throw Self.inFailedTransaction }
            let formats = portal.formats(portal.prepared.columns?.count ?? 0)
            appendDescription(portal.prepared.columns) { formats[$0] }
        }
    }

    private func appendDescription(_ columns: [ColumnField]?, formats: (Int) -> WireFormat) {
        if let columns {
            output.appendRowDescription(columns, formats: formats)
        } else {
            output.appendNoData()
        }
    }

    private func execute(_ name: ByteView, rowLimit: Int) throws(StatementError) {
        let portal = try portal(name)
        guard let statement = portal.prepared.statement else { return output.appendEmptyQueryResponse() }
        if status == .failed, !statement.endsTransaction { throw Self.inFailedTransaction }
        server.statementCount &+= 1
        try run(portal, rowLimit: max(rowLimit, 0))
    }

    /// Runs a portal, or goes on with it.
    func run(_ portal: Portal, rowLimit: Int) throws(StatementError) {
        guard let statement = portal.prepared.statement else { return }
        switch portal.state {
        case .ready: try perform(statement, portal: portal, rowLimit: rowLimit)
        case .suspended: fetch(portal.inner ?? portal, rowLimit: rowLimit)
        case .done:
            guard portal.prepared.columns != nil else {
                throw StatementError(
                    .objectNotInPrerequisiteState, "portal \"\(portal.name)\" cannot be run")
            }
            if case .node = statement {
                complete(StatementCompletion("SELECT", rows: 0))
            } else {
                complete(StatementCompletion("SHOW"))
            }
        }
    }

    private func closeTarget(_ target: FrontendMessage.MessageTarget, _ name: ByteView) throws(StatementError) {
        let name = try ClientText.string(name)
        switch target {
        case .statement: dropStatement(name)
        case .portal: dropPortal(name)
        }
        output.appendCloseComplete()
    }

    // MARK: Dropping

    func dropStatement(_ name: String) {
        if let old = statements.removeValue(forKey: name) { statementBytes -= old.byteCount }
    }

    func dropPortal(_ name: String) {
        guard let portal = portals.removeValue(forKey: name) else { return }
        portalBytes -= portal.message.count
        if portal.state == .suspended { runner.close(cursor: portal.cursor) }
    }

    /// With a transaction its portals end, and the runner's cursors.
    func dropPortals() {
        portals.removeAll(keepingCapacity: true)
        portalBytes = 0
    }

    // MARK: COPY

    private func receiveCopy(_ frame: MessageFrame, _ run: Run) {
        do throws(StatementError) {
            switch try FrontendMessage(frame) {
            case .copyData(let data): isCopyHeld = !runner.copyData(token, data)
            case .copyDone:
                activity = .running(run)
                runner.copyEnd(token, failure: nil)
            case .copyFail(let reason):
                let text = String(decoding: reason, as: UTF8.self)
                activity = .running(run)
                runner.copyEnd(
                    token, failure: StatementError(.queryCanceled, "COPY from stdin failed: \(text)"))
            case .flush, .sync: break  // Clients that use the extended protocol send them without knowing better.
            case .terminate: close()
            case .query, .parse, .bind, .describe, .execute, .close, .functionCall:
                let digits = String(frame.type, radix: 16, uppercase: true)
                throw .protocolViolation("unexpected message type 0x\(digits) during COPY from stdin")
            }
        } catch {
            server.errorCount &+= 1
            output.appendReport(.error, error)
            end(.protocolViolation("terminating connection because protocol synchronization was lost"))
        }
    }
}

/// A statement on its way to be prepared, and who asked.
final class Preparation {
    enum Origin { case parse, sql, cursor }

    let name: String
    let byteCount: Int
    let statement: SessionStatement?
    let origin: Origin

    init(name: String, byteCount: Int, _ statement: SessionStatement?, origin: Origin) {
        (self.name, self.byteCount, self.statement, self.origin) = (name, byteCount, statement, origin)
    }

    /// What a node has to look at; nil: nothing. The query of a DECLARE may have parameters, which are bound with it.
    var planned: PlannedStatement? {
        if case .node(let planned) = statement { return planned }
        if case .declare(_, let query) = statement, origin == .parse { return query }
        return nil
    }
}
