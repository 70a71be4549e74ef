import Base
import Contracts
import DataModel
import GatewayKit
import QueryLanguages
import ServiceKit

/// A COPY that is under way.
struct CopyRun {
    let statement: CopyStatement
    let settings: TextSettings
    /// It is not part of a transaction: it has one of its own.
    let isAlone: Bool
    var input: CopyInput?
    var output: CopyOutput?
    /// A page is at the node; the client has sent everything; it was told to wait; nothing of it counts any more.
    var isSending = false, isEnded = false, isHeld = false, isBroken = false
    var rows: Int64 = 0

    init(_ statement: CopyStatement, _ settings: TextSettings, isAlone: Bool) {
        (self.statement, self.settings, self.isAlone) = (statement, settings, isAlone)
    }
}

// COPY: the node executes an INSERT, a page of rows at a time, in one transaction; or a query, whose rows are written
// as the client wants them.

extension NodePlanRunner {
    /// Bytes of a COPY FROM that wait while a page is under way.
    private static let heldBytes = 512 << 10

    func beginCopy(_ token: UInt64, _ call: ExecuteCall, _ context: SessionContext) {
        let copy: CopyStatement
        do throws(StatementError) {
            copy = try Self.statement(call.statement)
            if copy.isFrom, case .within(let terms) = call.use, terms.isReadOnly {
                throw StatementError.inReadOnlyTransaction("COPY FROM")
            }
            try checkFreeze(copy, call.use)
        } catch {
            return loop.runLater { [weak client] in client?.event { $0.failed(token, error) } }
        }
        let statement = PlannedStatement(
            text: call.statement.text, characterOffset: call.statement.characterOffset, verb: "copy",
            plan: copy.plan.encode())
        // Rows are made ready by a plan that says first what they are; a query says it with its first rows.
        var request = QueryRequest(copy.isFrom ? .prepare : .execute)
        (request.plan, request.fingerprint) = (statement.plan, statement.fingerprint)
        request.settings = Self.settings(context)
        request.lockTimeout = Self.lockTimeout(context)
        request.wantsColumns = true
        let isAlone = call.use == .alone
        if case .within(let terms) = call.use { open(terms, context) }
        if isAlone, copy.isFrom { open(TransactionTerms(), context) }
        let work = Work(token: token, isAlone: isAlone && !copy.isFrom, statement: statement, request: request)
        work.copy = CopyRun(copy, textSettings(context), isAlone: isAlone)
        begin(work, context)
        send(at: nil)
    }

    private static func statement(_ planned: PlannedStatement) throws(StatementError) -> CopyStatement {
        let plan: LogicalPlan
        do throws(DatabaseError) {
            plan = try planned.plan.withView { (view: ByteView) throws(DatabaseError) in
                try LogicalPlan(decoding: view)
            }
        } catch {
            throw StatementError(error)
        }
        return try CopyStatement(plan)
    }

    private func textSettings(_ context: SessionContext) -> TextSettings {
        let zone = client?.session.server.zones.rules(context.timeZone) ?? .utc
        let now = Int64(clamping: SystemClock().wallMilliseconds()) &* 1000
        var settings = TextSettings(zone: zone, now: now) { ZoneFiles.rules($0) }
        switch context.dateOrder {
        case "DMY": settings.dateOrder = .dayMonthYear
        case "YMD": settings.dateOrder = .yearMonthDay
        case _: settings.dateOrder = .monthDayYear
        }
        return settings
    }

    // MARK: FREEZE

    /// Rows are seen by nobody before the transaction is committed, frozen or not: so it changes nothing where it is
    /// allowed.
    private func checkFreeze(_ copy: CopyStatement, _ use: TransactionUse) throws(StatementError) {
        guard copy.isFrom, copy.format.isFreeze else { return }
        guard use != .alone, freshTables.contains(copy.qualifiedTable) else {
            throw StatementError(
                .objectNotInPrerequisiteState,
                "cannot perform COPY FREEZE because the table was not created or truncated in the current "
                    + "subtransaction")
        }
    }

    /// A statement is done: does it leave tables without rows?
    func noteFreshTables(_ statement: PlannedStatement?) {
        guard link != nil, let statement, statement.verb == "create" || statement.verb == "truncate",
            freshTables.count < 1024,
            let plan = statement.plan.withUnsafeBytes({ try? LogicalPlan(decoding: $0) })
        else { return }
        let root = plan[plan.root]
        switch root.kind {
        case .createTable: freshTables.insert(plan.qualifiedName(root.children.first ?? 0))
        case .truncate:
            for table in plan.list(root.children.first ?? 0) { freshTables.insert(plan.qualifiedName(table)) }
        case _: return
        }
    }

    // MARK: FROM

    /// The node has said what rows it takes.
    func beginInput(_ work: Work, _ reply: QueryReply) {
        guard let copy = work.copy, let columns = Self.columns(reply.inputs) else {
            return fail(work.token, Self.unknownType)
        }
        do throws(StatementError) {
            let input = try CopyInput(copy.statement, columns: columns, settings: copy.settings)
            self.work?.copy?.input = input
            let format: WireFormat = copy.statement.format.kind == .binary ? .binary : .text
            client?.event { $0.copyBegan(work.token, .fromClient, format, columns: columns.count) }
        } catch {
            fail(work.token, error)
        }
    }

    func copyData(_ token: UInt64, _ data: ByteView) -> Bool {
        guard let copy = work?.copy, work?.token == token, !copy.isBroken else { return true }
        work?.copy?.input?.append(data)
        pumpCopy(token)
        let isHeld = work?.copy?.isSending ?? false && work?.copy?.input?.pending ?? 0 > Self.heldBytes
        work?.copy?.isHeld = isHeld
        return !isHeld
    }

    func copyEnd(_ token: UInt64, failure: StatementError?) {
        guard work?.copy != nil, work?.token == token else { return }
        if let failure { return failLater(token, failure) }
        work?.copy?.isEnded = true
        work?.copy?.input?.finish()
        pumpCopy(token)
    }

    /// Sends the next page, if none is under way; after the last one the COPY ends.
    private func pumpCopy(_ token: UInt64) {
        guard let copy = work?.copy, !copy.isSending, !copy.isBroken else { return }
        if let reason = work?.reason { return failLater(token, reason) }
        do throws(StatementError) {
            if let page = try work?.copy?.input?.nextPage() {
                var request = QueryRequest(.execute)
                (request.fingerprint, request.rows) = (work?.statement?.fingerprint ?? [], page)
                (request.settings, request.lockTimeout) = (
                    work?.request.settings ?? [], work?.request.lockTimeout ?? 0
                )
                work?.request = request
                work?.copy?.isSending = true
                send(at: nil)
            } else if copy.isEnded {
                endCopy(token)
            }
        } catch {
            failLater(token, error)
        }
    }

    /// What the client was sending is given up; false: a node has something to give up.
    func interruptCopy(_ token: UInt64, _ reason: StatementError) -> Bool {
        guard let copy = work?.copy, copy.input != nil, !copy.isSending else { return false }
        if !copy.isBroken { failLater(token, reason) }
        return true
    }

    /// Not from inside of a call of the session's.
    private func failLater(_ token: UInt64, _ error: StatementError) {
        work?.copy?.isBroken = true
        loop.runLater { [weak self] in self?.fail(token, error) }
    }

    private func endCopy(_ token: UInt64) {
        work?.copy?.isBroken = true  // Nothing may follow.
        guard work?.copy?.isAlone == true, let link else {
            return loop.runLater { [weak self] in self?.endedCopy(token, nil) }
        }
        self.link = nil
        link.commit { [weak self] error in self?.endedCopy(token, error) }
    }

    private func endedCopy(_ token: UInt64, _ error: DatabaseError?) {
        guard let copy = work?.copy, work?.token == token else { return }
        if let error { return fail(token, StatementError(error)) }
        let completion = StatementCompletion("COPY", rows: copy.rows)
        finish()
        client?.event { $0.completed(token, completion) }
    }

    /// What an error of a COPY is told with, and what it undoes.
    func inCopy(_ error: StatementError) -> StatementError {
        guard let copy = work?.copy else { return error }
        if copy.isAlone, copy.statement.isFrom, let link {
            self.link = nil
            link.rollBack { _ in }
        }
        if let input = copy.input { return input.inTable(error) }
        guard error.state == .undefinedColumn, !copy.statement.isFrom, !copy.statement.columns.isEmpty else {
            return error
        }
        // The query that stands for it knows no better.
        let names = copy.statement.columns.filter { error.message.contains("\"\($0)\"") }
        guard let name = names.first else { return error }
        return StatementError(
            .undefinedColumn, "column \"\(name)\" of relation \"\(copy.statement.table)\" does not exist")
    }

    // MARK: TO

    func beginOutput(_ work: Work, _ columns: [ResultColumn]) -> StatementError? {
        guard var copy = work.copy else { return nil }
        do throws(StatementError) {
            let output = try CopyOutput(copy.statement, columns: columns, settings: copy.settings)
            copy.output = output
            work.copy = copy
            let token = work.token
            client?.event { session in
                session.copyBegan(token, .toClient, output.isBinary ? .binary : .text, columns: columns.count)
                if let header = output.header { _ = header.withUnsafeBytes { session.copyOut(token, $0) } }
            }
            return nil
        } catch {
            return error
        }
    }

    /// False: the client has enough for now.
    func sendCopy(_ token: UInt64, _ records: [Bytes]) -> Bool {
        guard let output = work?.copy?.output else { return true }
        var isWhole = true, wantsMore = true
        client?.event { session in
            for record in records {
                guard let row = output.row(record) else {
                    isWhole = false
                    return
                }
                wantsMore = row.withUnsafeBytes { session.copyOut(token, $0) }
            }
        }
        if !isWhole { fail(token, StatementError(.internalError, "a node has sent a row that is none")) }
        return wantsMore
    }

    /// A page was taken; or all rows have been sent.
    func completeCopy(_ work: Work, _ reply: QueryReply) {
        guard let copy = work.copy else { return }
        let token = work.token
        guard copy.statement.isFrom else {
            finish()
            let completion = StatementCompletion("COPY", rows: work.given)
            client?.event { session in
                if let trailer = copy.output?.trailer { _ = trailer.withUnsafeBytes { session.copyOut(token, $0) } }
                session.copyOutEnded(token)
                session.completed(token, completion)
            }
            return
        }
        self.work?.copy?.rows &+= Int64(clamping: reply.count ?? 0)
        self.work?.copy?.isSending = false
        pumpCopy(token)
        guard copy.isHeld, self.work?.copy?.isBroken == false else { return }
        self.work?.copy?.isHeld = false
        client?.event { $0.copyReady(token) }
    }
}

extension LogicalPlan {
    /// A table's name with what it lies in, from the outside in.
    fileprivate func qualifiedName(_ index: Int32) -> [String] {
        var names: [String] = [], next = index
        while next != 0 {
            names.insert(self[next].name, at: 0)
            next = self[next].children.first ?? 0
        }
        return names
    }
}
