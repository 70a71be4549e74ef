import Base
import Contracts
import Crypto
import DataModel
import GatewayKit
import Net

/// Sends the statements of one session to nodes: alone ones to any node, those of a transaction to its home.
///
/// A reply has as many rows as a node gives at a time; the rest is fetched from where it came, while the client takes
/// it. A request to cancel, a time-out and the end of the session reach the node, which says what has become of the
/// statement.
///
/// A statement about one record, once a node has said that it is one, goes to the record's shard as a call of its own
/// (`PointStatements.swift`).
final class NodePlanRunner: PlanRunner, ReplyReceiver {
    /// What is under way: an object, which many look at for one of its fields.
    final class Work {
        let token: UInt64
        let isAlone: Bool
        var statement: PlannedStatement?
        var request: QueryRequest
        var columnCount = 0
        /// Rows that may still be given; nil: all.
        var rowsLeft: Int?
        /// Under which number the session knows the rest.
        var cursor: UInt32 = 0
        var isFetch = false
        /// Rows given by now.
        var given: Int64 = 0
        var reason: StatementError?
        /// The node that was asked, if it is in no transaction.
        var node: NodeID?
        /// It was sent to the shard of its one record.
        var isPoint = false
        var copy: CopyRun?

        init(token: UInt64, isAlone: Bool, statement: PlannedStatement?, request: QueryRequest) {
            (self.token, self.isAlone, self.statement, self.request) = (token, isAlone, statement, request)
        }
    }

    /// The rest of a result: its number at a node, and at which one; nil: at the transaction's home.
    private struct OpenCursor {
        let number: UInt64
        let node: NodeID?
        let columnCount: Int
    }

    let router: NodeRouter
    let loop: EventLoop
    let connection: UInt64
    weak var client: ClientConnection?
    var link: HomeLink?
    var work: Work?
    /// Tables that the transaction has made or emptied, as they were written.
    var freshTables: Set<[String]> = []
    /// Statements that are known to be about one record, by their fingerprints; all under the settings of now.
    var points: [Bytes: KnownPoint] = [:]
    /// Those of them that a node has not known which only led the shard, and was not the transaction's home.
    var strange: Set<Bytes> = []
    /// The settings that travel with statements, and the version of the session's that they are of.
    private var settings: [QueryRequest.Setting] = []
    private var settingsVersion: UInt64?
    private var cursors: [UInt32: OpenCursor] = [:]
    /// What the session has drawn from sequences.
    private(set) var sequences = SessionSequences()
    /// Rows that the session was not ready for, and what is to be done after them.
    var held: (() -> Void)?
    private var timer: LoopTimer?
    /// Names the statements of this session at nodes: by numbers that others cannot guess.
    private var lastStatement = randomBytes(8).reduce(UInt64(0)) { $0 << 8 | UInt64($1) }

    init(_ router: NodeRouter, loop: EventLoop, connection: UInt64) {
        (self.router, self.loop, self.connection) = (router, loop, connection)
    }

    // MARK: What the session wants

    func prepare(_ token: UInt64, _ statement: PlannedStatement, types: [UInt32], _ context: SessionContext) {
        guard statement.verb != "copy" else {
            let nothing = StatementDescription(parameters: [], columns: nil)
            return loop.runLater { [weak client] in client?.event { $0.prepared(token, nothing) } }
        }
        var request = QueryRequest(.prepare)
        request.parameterTypes = types.map { Self.form(PostgresTypes.type(oid: $0)) }
        (request.plan, request.fingerprint) = (statement.plan, statement.fingerprint)
        request.settings = settings(context)
        request.wantsColumns = true
        begin(Work(token: token, isAlone: link == nil, statement: statement, request: request), context)
        send(at: nil)
    }

    func execute(_ token: UInt64, _ call: ExecuteCall, _ context: SessionContext) {
        guard call.statement.verb != "copy" else { return beginCopy(token, call, context) }
        var request = QueryRequest(.execute)
        request.fingerprint = call.statement.fingerprint
        // A node that has prepared it most likely still knows it.
        if call.wantsColumns { request.plan = call.statement.plan }
        request.parameterTypes = (call.description?.parameters ?? []).map { Self.form($0) }
        for (index, value) in call.parameters.enumerated() {
            request.parameters.append(.init(value?.bytes, isBinary: call.formats[index] == .binary))
        }
        for number in call.statement.numbers {
            request.parameterTypes.append(Self.form(number.type))
            request.parameters.append(.init(number.text))
        }
        request.settings = settings(context)
        request.wantsColumns = call.wantsColumns
        request.rowLimit = UInt32(clamping: call.rowLimit)
        request.lockTimeout = Self.lockTimeout(context)
        if !sequences.isEmpty { request.sequences = sequences.list }
        let isAlone: Bool
        switch call.use {
        case .alone: isAlone = true
        case .within(let terms):
            isAlone = false
            open(terms, context)
        }
        let work = Work(token: token, isAlone: isAlone, statement: call.statement, request: request)
        work.columnCount = call.description?.columns?.count ?? 0
        (work.rowsLeft, work.cursor) = (call.rowLimit == 0 ? nil : call.rowLimit, call.cursor)
        begin(work, context)
        // A call of a shard has its own time to wait for locks, the home of a transaction any; and there is nothing
        // left of its row for later.
        if isAlone ? context.lockTimeout == 0 : call.rowLimit == 0, callPoint(token) { return }
        send(at: nil)
    }

    func fetch(_ token: UInt64, cursor: UInt32, rowLimit: Int) {
        guard let open = cursors.removeValue(forKey: cursor) else {
            let error = StatementError(.invalidCursorName, "the cursor is closed")
            return loop.runLater { [weak client] in client?.event { $0.failed(token, error) } }
        }
        var request = QueryRequest(.fetch)
        request.cursor = open.number
        request.rowLimit = UInt32(clamping: rowLimit)
        let work = Work(token: token, isAlone: open.node != nil, statement: nil, request: request)
        (work.columnCount, work.cursor, work.isFetch) = (open.columnCount, cursor, true)
        work.rowsLeft = rowLimit == 0 ? nil : rowLimit
        self.work = work
        send(at: open.node)
    }

    func resume(_ token: UInt64) {
        guard work?.token == token, let held else { return }
        self.held = nil
        loop.runLater(held)
    }

    func close(cursor: UInt32) {
        guard let open = cursors.removeValue(forKey: cursor) else { return }
        var request = QueryRequest(.close)
        request.cursor = open.number
        if let node = open.node {
            router.statement(request.encode(), at: node, connection: connection, principal: principal) { _ in }
        } else {
            link?.statement(request.encode()) { _ in }
        }
    }

    func control(_ token: UInt64, _ control: TransactionControl, _ use: TransactionUse, _ context: SessionContext) {
        freshTables = []
        switch control {
        case .commit, .rollback:
            cursors.removeAll()
            guard let link else { return ended(token, nil) }
            self.link = nil
            let completion: HomeLink.Completion = { [weak self] error in self?.ended(token, error) }
            if control == .commit { link.commit(completion: completion) } else { link.rollBack(completion: completion) }
            return
        case .join(let text): return join(token, text)
        case .leave:
            cursors.removeAll()
            link?.leave()
            link = nil
            return ended(token, nil)
        case .savepoint, .release, .rollbackTo, .identify: break
        }
        if case .within(let terms) = use { open(terms, context) }
        let completion: HomeLink.Completion = { [weak self] error in self?.ended(token, error) }
        switch control {
        case .savepoint(let name): link?.savepoint(Bytes(name.utf8), completion: completion)
        case .release(let name): link?.release(Bytes(name.utf8), completion: completion)
        case .rollbackTo(let name): link?.rollBack(to: Bytes(name.utf8), completion: completion)
        case .identify:
            link?.identify { [weak self] result in
                switch result {
                case .success(let name): self?.ended(token, nil, tag: name.description)
                case .failure(let error): self?.ended(token, error)
                }
            }
        case .commit, .rollback, .join, .leave: break  // Above.
        }
    }

    /// Takes part in a transaction that somebody else has begun.
    private func join(_ token: UInt64, _ text: String) {
        guard link == nil, let name = TransactionToken(parsing: text) else {
            return ended(
                token,
                DatabaseError(
                    .invalidArgument, "\"\(text)\" is no token of a transaction: SHOW orbit.transaction_id tells one"))
        }
        let joined = HomeLink(router, joining: name, principal: principal, connection: connection)
        link = joined
        joined.join { [weak self] error in
            if error != nil { self?.link = nil }
            self?.ended(token, error)
        }
    }

    private func ended(_ token: UInt64, _ error: DatabaseError?, tag: String = "") {
        loop.runLater { [weak client] in
            client?.event { session in
                if let error {
                    session.failed(token, StatementError(error))
                } else {
                    session.completed(token, StatementCompletion(tag))
                }
            }
        }
    }

    func forgetSequences() { sequences = SessionSequences() }

    func cancel(_ token: UInt64) {
        interrupt(token, StatementError(.queryCanceled, "canceling statement due to user request"))
    }

    private func interrupt(_ token: UInt64, _ reason: StatementError) {
        guard work?.token == token, work?.reason == nil else { return }
        work?.reason = reason
        if held != nil {
            resume(token)  // Rows wait for the client: they need not.
        } else if !interruptPoint(token, reason), !interruptCopy(token, reason) {
            callBack()
        }
    }

    func end() {
        timer?.cancel()
        callBack()
        for cursor in cursors.keys.sorted() where cursors[cursor]?.node != nil { close(cursor: cursor) }
        link?.rollBack { _ in }
        (link, work, held) = (nil, nil, nil)
    }

    // MARK: Asking

    /// What is known of statements holds as long as the settings do.
    private func settings(_ context: SessionContext) -> [QueryRequest.Setting] {
        guard settingsVersion != context.version else { return settings }
        (settings, settingsVersion) = (Self.settings(context), context.version)
        (points, strange) = ([:], [])
        return settings
    }

    private var principal: String { client?.session.user ?? "" }

    func begin(_ work: Work, _ context: SessionContext) {
        self.work = work
        timer?.cancel()
        timer = nil
        guard context.statementTimeout > 0 else { return }
        let token = work.token
        timer = loop.schedule(afterMilliseconds: Int(clamping: context.statementTimeout)) { [weak self] in
            self?.interrupt(
                token, StatementError(.queryCanceled, "canceling statement due to statement timeout"))
        }
    }

    /// As a home is told: 0 would leave it to the shards.
    static func lockTimeout(_ context: SessionContext) -> UInt32 {
        context.lockTimeout == 0 ? .max : UInt32(clamping: context.lockTimeout)
    }

    func open(_ terms: TransactionTerms, _ context: SessionContext) {
        guard link == nil else { return }
        var options = HomeOperation.Options()
        switch terms.isolation {
        case .readUncommitted, .readCommitted: options.isolation = .readCommitted
        case .repeatableRead: options.isolation = .snapshot
        case .serializable: options.isolation = .serializable
        }
        (options.isReadOnly, options.failsWhole) = (terms.isReadOnly, true)
        options.lockTimeout = Self.lockTimeout(context)
        link = HomeLink(router, beginning: options, principal: principal, connection: connection)
    }

    /// Has the node give up what is under way there. It answers for that itself.
    private func callBack() {
        guard let work, work.request.statement != 0 else { return }
        var request = QueryRequest(.cancel)
        request.statement = work.request.statement
        if !work.isAlone {
            link?.statement(request.encode()) { _ in }
        } else if let node = work.node {
            router.statement(request.encode(), at: node, connection: connection, principal: principal) { _ in }
        }
    }

    func send(at node: NodeID?) {
        nameStatement()
        if let work { transmit(work.request, at: node) }
    }

    /// From here on it can be called back.
    func nameStatement() {
        lastStatement = max(lastStatement &+ 1, 1)
        work?.request.statement = lastStatement
    }

    /// It takes longer than a call may: the node is asked again what has become of it.
    private func wait(at node: NodeID?) {
        guard let work else { return }
        var request = QueryRequest(.wait)
        request.statement = work.request.statement
        transmit(request, at: node)
    }

    private func transmit(_ request: QueryRequest, at node: NodeID?) {
        guard let work else { return }
        let token = work.token, request = request.encode()
        if work.isAlone {
            self.work?.node = router.statement(request, at: node, connection: connection, principal: principal) {
                [weak self] result in
                switch result {
                case .success(let answer): self?.answered(token, answer.reply, answer.node)
                case .failure(let error): self?.fail(token, StatementError(error))
                }
            }
        } else {
            link?.statement(request) { [weak self] result in
                switch result {
                case .success(let reply): self?.answered(token, reply, nil)
                case .failure(let error): self?.fail(token, StatementError(error))
                }
            }
        }
    }

    // MARK: Answers

    func answered(_ token: UInt64, _ reply: QueryReply, _ node: NodeID?) {
        for news in reply.sequences { sequences.note(news) }
        guard let work, work.token == token else { return abandon(reply, node) }
        if reply.isPending { return wait(at: node) }
        if work.isPoint, reply.error == nil { return pointWaited(work, reply) }
        if reply.isUnknown {
            guard work.request.plan.isEmpty, let statement = work.statement else {
                return fail(
                    token, StatementError(.internalError, "a node does not know the statement that it was sent"))
            }
            if let reason = work.reason { return fail(token, reason) }
            work.request.plan = statement.plan
            return send(at: node)
        }
        for notice in reply.notices {
            client?.event { $0.noticed(Severity(name: notice.severity), notice.error) }
        }
        if let error = reply.error {
            return fail(token, error.error.state == .queryCanceled ? work.reason ?? error.error : error.error)
        }
        if let point = reply.point, work.request.kind == .execute { learn(point, reply, work.request) }
        if work.request.kind == .prepare { return work.copy == nil ? prepared(work, reply) : beginInput(work, reply) }
        if work.request.wantsColumns, reply.givesRows {
            guard let columns = Self.columns(reply) else { return fail(token, Self.unknownType) }
            work.columnCount = columns.count
            work.request.wantsColumns = false
            if work.copy == nil {
                client?.event { $0.began(token, columns) }
            } else if let error = beginOutput(work, columns) {
                return fail(token, error)
            }
        }
        work.given &+= Int64(reply.rows.count)
        if let left = work.rowsLeft { work.rowsLeft = max(0, left - reply.rows.count) }
        var wantsMore = true
        if !reply.rows.isEmpty {
            if work.copy != nil {
                wantsMore = sendCopy(token, reply.rows)
            } else {
                let batch = RowBatch(columnCount: work.columnCount, records: reply.rows)
                client?.event { wantsMore = $0.rows(token, batch) }
            }
        }
        // The session may have given it up: a record that is none.
        guard self.work?.token == token else { return abandon(reply, node) }
        let next = { [weak self] () -> Void in self?.goOn(token, reply, node) }
        if wantsMore { next() } else { held = next }
    }

    /// After the rows of a reply: more of them, or the end.
    private func goOn(_ token: UInt64, _ reply: QueryReply, _ node: NodeID?) {
        guard let work, work.token == token else { return abandon(reply, node) }
        guard reply.cursor != 0 else { return complete(work, reply) }
        if let reason = work.reason {
            abandon(reply, node)
            return fail(token, reason)
        }
        if work.rowsLeft == 0 {
            cursors[work.cursor] = OpenCursor(number: reply.cursor, node: node, columnCount: work.columnCount)
            finish()
            client?.event { $0.suspended(token) }
            return
        }
        var request = QueryRequest(.fetch)
        request.cursor = reply.cursor
        request.rowLimit = UInt32(clamping: work.rowsLeft ?? 0)
        (work.request, work.statement) = (request, nil)
        send(at: node)
    }

    func complete(_ work: Work, _ reply: QueryReply) {
        if work.copy != nil { return completeCopy(work, reply) }
        noteFreshTables(work.statement)
        var completion = StatementCompletion(reply.tag, rows: reply.count.map { Int64(clamping: $0) })
        // The tag of a portal counts what this Execute has given.
        if reply.tag == "SELECT" { completion.rows = work.given }
        if reply.tag == "EXPLAIN" { completion.rows = nil }
        if reply.tag == "INSERT 0" { completion.tag = "INSERT" }
        finish()
        client?.event { $0.completed(work.token, completion) }
    }

    private func prepared(_ work: Work, _ reply: QueryReply) {
        let parameters = reply.parameterTypes.compactMap(Self.type)
        guard parameters.count == reply.parameterTypes.count, let columns = Self.columns(reply) else {
            return fail(work.token, Self.unknownType)
        }
        finish()
        let description = StatementDescription(parameters: parameters, columns: reply.givesRows ? columns : nil)
        client?.event { $0.prepared(work.token, description) }
    }

    func fail(_ token: UInt64, _ error: StatementError) {
        guard work?.token == token else { return }
        let error = inCopy(error)
        finish()
        client?.event { $0.failed(token, error) }
    }

    func finish() {
        timer?.cancel()
        (work, held, timer) = (nil, nil, nil)
    }

    /// Nobody wants the rest.
    private func abandon(_ reply: QueryReply, _ node: NodeID?) {
        guard reply.cursor != 0 else { return }
        cursors[.max] = OpenCursor(number: reply.cursor, node: node, columnCount: 0)
        close(cursor: .max)
    }

    // MARK: Types

    static let unknownType = StatementError(
        .internalError, "a node speaks of a type that this gateway does not know")

    private static func form(_ type: DataType?) -> ValueTypeForm {
        guard let type else { return ValueTypeForm(kind: 0, modifier: -1, isArray: false) }
        return ValueTypeForm(kind: type.kind.rawValue, modifier: type.modifier, isArray: type.isArray)
    }

    static func type(_ form: ValueTypeForm) -> DataType? {
        DataType.Kind(rawValue: form.kind).map { DataType($0, modifier: form.modifier, isArray: form.isArray) }
    }

    static func columns(_ reply: QueryReply) -> [ResultColumn]? { columns(reply.columns) }

    static func columns(_ described: [QueryReply.Column]) -> [ResultColumn]? {
        var columns: [ResultColumn] = []
        for column in described {
            guard let type = type(column.type) else { return nil }
            columns.append(
                ResultColumn(
                    column.name, type, table: column.collection, number: Int16(clamping: column.column)))
        }
        return columns
    }

    static func settings(_ context: SessionContext) -> [QueryRequest.Setting] {
        [
            .init("search_path", context.searchPath.map(Identifiers.quoted).joined(separator: ", ")),
            .init("TimeZone", context.timeZone), .init("DateStyle", "ISO, \(context.dateOrder)"),
            .init("session_authorization", context.sessionUser), .init("database", context.database),
        ] + context.switchedOff.map { .init($0, "off") }
            + (context.roleNumber.map { [.init(QueryRequest.Setting.roleNumber, String($0))] } ?? [])
            + (context.role == "none" ? [] : [.init("role", context.role)])
    }
}

extension LiftedNumber {
    fileprivate var type: DataType {
        switch form {
        case .int32: .int32
        case .int64: .int64
        case .decimal: .decimal
        }
    }
}

extension Severity {
    /// By its name in a message of a node; what is none is a notice.
    init(name: String) {
        switch name {
        case "WARNING": self = .warning
        case "INFO": self = .info
        case "LOG": self = .log
        case "DEBUG": self = .debug
        case _: self = .notice
        }
    }
}
