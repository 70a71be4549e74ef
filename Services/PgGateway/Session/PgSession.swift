import Base
import Contracts
import Crypto
import DataModel

/// What one connection of a PostgreSQL client does next. Pure: no socket, no clock, no `await`.
///
/// Bytes come in through `receive`, what the runner has to say through `prepared`, `rows`, `completed` …; answers are
/// in `output`, everything else in `takeActions`. Messages are handled in their order, one statement at a time: while
/// one is under way, what the client sends meanwhile waits in `backlog`, up to a bound beyond which nothing is read.
/// The same holds while the client has not taken `limits.output` bytes.
package final class PgSession {
    enum Phase: Equatable {
        /// Nothing is known of the client yet.
        case startup
        /// The client has said who it is.
        case login(LoginStep)
        case ready
        /// The last message is in `output`; or the connection is gone.
        case closing, closed
    }

    enum LoginStep: Equatable { case findingUser, password, saslFirst, saslFinal, checking }

    /// The one thing that is under way.
    enum Activity {
        case none
        case preparing(Preparation)
        case running(Run)
        /// The client sends the data of a COPY.
        case copying(Run)
        case controlling(ControlStep)
    }

    /// The process id that the client was told, and the secret that a CancelRequest must know.
    package let id: Int32
    package let secret: Int32
    let server: PgServer
    let runner: any PlanRunner
    /// There are too many clients: it is told so when it has said who it is.
    let isSurplus: Bool
    /// Set by the driver, for connections that are under TLS from their beginning.
    package var isEncrypted = false

    /// What the client is to be sent: appended here, taken by the driver.
    package var output = ByteBuffer(capacity: 64)
    /// Something in `output` must not wait for what is under way: the client has asked for it, or may act on it.
    var mustFlush = false
    private var backlog = ByteBuffer(capacity: 64)
    private var actions: [PgSessionAction] = []

    var phase = Phase.startup
    var activity = Activity.none
    /// The token of what is under way.
    var token: UInt64 = 0
    private var isReadingPaused = false, isInputEnded = false, awaitsDrain = false
    /// The client sends more data of a COPY than the runner takes.
    var isCopyHeld = false

    // Login.
    var startup: StartupMessage?
    var scram: SCRAMExchange?
    var record: UserRecord?
    /// As which the user has logged in; nil: it is a user of the cluster.
    var role: UserRecord.Role?
    package private(set) var user = ""
    package private(set) var database = ""

    /// Texts of simple queries that were read before.
    var shapes = StatementShapes()

    // Settings and transactions.
    var settings: SessionSettings
    private var reportedVersion: UInt64 = 0
    private var reported: [Int: String] = [:]
    private var knownContext = SessionContext()
    package internal(set) var status = TransactionStatus.idle
    /// The runner has a transaction open for us.
    var isEngaged = false
    /// Of statements outside a block, one has failed: all are undone.
    var hasGroupFailed = false
    /// `settings` keeps what is to come back if the transaction fails.
    var isGroupBegun = false

    // Statements.
    var script: Script?
    /// After an error, messages are skipped until Sync.
    var isSkipping = false
    /// The message that is handled is followed by Sync: nothing else joins its transaction.
    var isLastOfGroup = false
    var statements: [String: PreparedStatement] = [:]
    var statementBytes = 0
    var portals: [String: Portal] = [:]
    var portalBytes = 0
    var lastCursor: UInt32 = 0
    private var knownWriter: (version: UInt64, writer: RowWriter)?
    /// When the client last did something, for time-outs.
    private(set) var lastActive: UInt64

    init(id: Int32, secret: Int32, server: PgServer, runner: any PlanRunner, isSurplus: Bool) {
        (self.id, self.secret, self.server, self.runner, self.isSurplus) = (id, secret, server, runner, isSurplus)
        settings = SessionSettings(server.table, server.zones)
        lastActive = server.monotonicMilliseconds
    }

    package var isReady: Bool { phase == .ready }

    /// Whether something is under way that the client waits for.
    package var isBusy: Bool {
        switch activity {
        case .none: script != nil
        case .preparing, .running, .copying, .controlling: true
        }
    }

    /// What the driver has to do, in order.
    package func takeActions() -> [PgSessionAction] {
        defer { actions.removeAll(keepingCapacity: true) }
        return actions
    }

    package var hasActions: Bool { !actions.isEmpty }

    /// Answers that are sent together with those of what is under way, in one piece; beyond that size PostgreSQL sends
    /// them, too.
    private static let heldOutput = 8192

    /// Whether `output` is to be sent now. Asked once after each event: what is to be sent then is taken as sent.
    package func takesFlush() -> Bool {
        switch activity {
        case .preparing, .running, .controlling:
            guard phase == .ready, !mustFlush, output.count < min(Self.heldOutput, server.limits.output) else { break }
            return false
        case .none, .copying: break
        }
        mustFlush = false
        return true
    }

    func act(_ action: PgSessionAction) { actions.append(action) }

    func nextToken() -> UInt64 {
        token &+= 1
        return token
    }

    // MARK: Events of the client

    /// Takes what has been read: all of it, but for a message that is not there to its end.
    package func receive(_ input: inout ByteBuffer) {
        lastActive = server.monotonicMilliseconds
        if phase == .closing || phase == .closed {
            input.removeAll()
            return
        }
        if backlog.isEmpty {
            input.consume(handle(input.readable))
            if mustWait { keep(&input) }
        } else {
            keep(&input)
            pump()
        }
        settle()
    }

    private func keep(_ input: inout ByteBuffer) {
        backlog.append(input.readable)
        input.removeAll()
    }

    /// Handles what waits, as far as possible now.
    func pump() {
        guard !backlog.isEmpty, !mustWait else { return }
        backlog.consume(handle(backlog.readable))
        backlog.trim(to: 4096)
    }

    /// Nothing more can be handled before something happens.
    private var mustWait: Bool {
        switch phase {
        case .startup: return false
        case .login(let step): return step == .findingUser || step == .checking
        case .closing, .closed: return false
        case .ready: break
        }
        if output.count >= server.limits.output { return true }
        switch activity {
        case .none: return script != nil
        case .copying: return isCopyHeld
        case .preparing, .running, .controlling: return true
        }
    }

    /// Handles every message of `view` that is there to its end; returns how many bytes that were.
    private func handle(_ view: ByteView) -> Int {
        var start = 0
        while start < view.count, !mustWait {
            let rest = ByteView(rebasing: view[start...]), count: Int
            switch phase {
            case .startup: count = handleStartup(rest)
            case .login(let step): count = handlePassword(rest, step)
            case .ready: count = handleMessage(rest)
            case .closing, .closed: count = rest.count
            }
            guard count > 0 else { break }
            start += count
        }
        return start
    }

    private func handleMessage(_ view: ByteView) -> Int {
        do throws(StatementError) {
            guard let frame = try MessageFrame.next(view, limit: server.limits.message) else { return 0 }
            isLastOfGroup = MessageFrame.isSync(ByteView(rebasing: view[frame.byteCount...]))
            receive(frame)
            return frame.byteCount
        } catch {
            server.protocolErrors &+= 1
            end(error)
            return view.count
        }
    }

    /// The client will send nothing more; what it has sent is answered, then the connection closes.
    package func inputEnded() {
        isInputEnded = true
        settle()
    }

    /// The client has taken what it was sent, or most of it.
    package func outputDrained() {
        guard output.count <= server.limits.output / 2 else { return act(.awaitDrain) }
        awaitsDrain = false
        if case .running(let run) = activity, run.isHeld {
            activity = .running(run.held(false))
            runner.resume(token)
        }
        goOn()
    }

    /// The connection is gone.
    package func peerClosed() {
        guard phase != .closed else { return }
        phase = .closed
        activity = .none
        script = nil
        portals = [:]
        statements = [:]
        backlog.removeAll()
        runner.end()
        server.remove(self)
    }

    // MARK: Going on

    /// Something that was under way is over: the next statement of the script, or the next message.
    func goOn() {
        guard phase == .ready else { return settle() }
        if case .none = activity, script != nil { continueScript() }
        pump()
        settle()
    }

    /// After each event: pauses or resumes reading, and asks to be told when the client has taken its answers.
    func settle() {
        if output.count >= server.limits.output, !awaitsDrain, phase == .ready {
            awaitsDrain = true
            act(.awaitDrain)
        }
        if phase == .closing || phase == .closed { return }
        let limit = phase == .ready ? server.limits.input : server.limits.login
        let isFull = mustWait && backlog.count >= limit
        if isFull != isReadingPaused {
            isReadingPaused = isFull
            act(isFull ? .pauseReading : .resumeReading)
        }
        if isInputEnded, !isFull, !mustWait, !isBusy { close() }
    }

    /// Ends the connection when everything has been sent.
    func close() {
        guard phase != .closing, phase != .closed else { return }
        phase = .closing
        act(.close)
    }

    /// Ends the connection with an error.
    func end(_ error: StatementError) {
        guard phase != .closing, phase != .closed else { return }
        server.errorCount &+= 1
        output.appendReport(.fatal, error)
        close()
    }

    /// The process ends, or the user is gone.
    package func terminate(_ error: StatementError) {
        if phase == .startup { close() } else { end(error) }
    }

    // MARK: Telling

    func begin(user: String, database: String) { (self.user, self.database) = (user, database) }

    /// A message that is no error, if the client wants those of its severity.
    func notify(_ severity: Severity, _ notice: StatementError) {
        let wanted: Severity =
            switch settings["client_min_messages"] {
            case "error": .error
            case "warning": .warning
            case "notice": .notice
            case "log": .log
            case _: .debug
            }
        guard severity >= wanted else { return }
        output.appendReport(severity, notice)
        mustFlush = true
    }

    /// Tells the client of settings that have changed and that it wants to know of.
    func reportSettings() {
        guard reportedVersion != settings.version else { return }
        reportedVersion = settings.version
        for (index, row) in settings.table.rows.enumerated() where row.isReported {
            let value = settings[index]
            guard reported[index] != value else { continue }
            reported[index] = value
            output.appendParameterStatus(row.name, value)
        }
    }

    /// What statements are to know besides their text.
    func context() -> SessionContext {
        if knownContext.version != settings.version {
            knownContext = settings.context(user: user, role: role?.number, database: database)
        }
        return knownContext
    }

    /// How rows are written now.
    func rowWriter() -> RowWriter {
        if let knownWriter, knownWriter.version == settings.version { return knownWriter.writer }
        let zone = server.zones.rules(settings["TimeZone"]) ?? .utc
        let writer = RowWriter(settings: TextSettings(zone: zone))
        knownWriter = (settings.version, writer)
        return writer
    }

    /// Ready for the next query.
    func becomeReady() {
        reportSettings()
        output.appendReadyForQuery(status)
        mustFlush = true
        lastActive = server.monotonicMilliseconds
    }

    // MARK: Time

    /// The client has been idle for longer than it wanted to be.
    package var isIdleTooLong: Bool {
        guard phase == .ready, !isBusy, backlog.isEmpty else { return false }
        let idle = server.monotonicMilliseconds &- lastActive
        let name = status == .idle ? "idle_session_timeout" : "idle_in_transaction_session_timeout"
        let limit = settings.milliseconds(name)
        return limit > 0 && idle >= UInt64(limit)
    }

    /// Called every second or so: ends the connection of a client that has been idle for longer than it wanted.
    package func checkIdle() {
        guard isIdleTooLong else { return }
        end(
            status == .idle
                ? StatementError(.idleSessionTimeout, "terminating connection due to idle-session timeout")
                : StatementError(
                    .idleInTransactionSessionTimeout, "terminating connection due to idle-in-transaction timeout"))
    }

    /// A CancelRequest: what is under way, if anything, is given up.
    package func cancel() {
        switch activity {
        case .preparing, .running, .copying: runner.cancel(token)
        case .none, .controlling: break
        }
    }
}
