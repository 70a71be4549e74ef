import Base
import Contracts
import GatewayKit

// CLIENT TRANSACTION: interactive transactions (docs/transactions.md).
//
//     BEGIN ──▶ every command on data is a statement: done at once, seen by nobody else ──▶ COMMIT or ROLLBACK
//
// A statement is answered before the next command is looked at, for what follows may depend on it. MULTI … EXEC inside
// is one statement. Commands that the gateway answers itself are as always.

/// What CLIENT TRANSACTION asks of the driver.
package enum InteractiveAction: Hashable, Sendable {
    /// At a moment of the past, if there is one.
    case begin(InteractiveTransaction.Options, at: ReadMoment? = nil)
    case commit, rollBack
    /// Take part in a transaction of another connection; take part no more.
    case join(TransactionToken), leave
    /// By which token others may join.
    case identify
    case savepoint(Bytes), release(Bytes), rollBackTo(Bytes)
    /// How it stands.
    case describe
    /// Have a plan of one call done; the reply to the call is the answer.
    case statement(TransactionPlan)
    /// Lock the keys of a plan that only reads; answer like an EXEC.
    case lock(TransactionPlan, InvocationScope.LockMode, InvocationScope.WaitPolicy)
    /// The client has forgotten the transaction, or has gone: nobody waits for an answer.
    case abandon
}

/// What the driver has to say to an action.
package enum InteractiveAnswer: Hashable, Sendable {
    case done
    case described(TransactionStatus)
    case identified(TransactionToken)

    /// Nil: OK.
    fileprivate var text: ((inout ByteBuffer, RESPVersion) -> Void)? {
        switch self {
        case .done: nil
        case .described(let status): { status.append(to: &$0, $1) }
        case .identified(let token): { reply, _ in reply.appendBulk(token.description) }
        }
    }
}

extension TransactionStatus {
    private var level: String {
        switch isolation {
        case .readCommitted: "read-committed"
        case .snapshot: "snapshot"
        case .serializable: "serializable"
        }
    }

    func append(to reply: inout ByteBuffer, _ version: RESPVersion) {
        reply.appendMap(9, version)
        reply.appendBulk("id")
        reply.appendBulk(String(id, radix: 16))
        reply.appendBulk("isolation")
        reply.appendBulk(level)
        reply.appendBulk("read-only")
        reply.appendInteger(isReadOnly ? 1 : 0)
        reply.appendBulk("state")
        reply.appendBulk(failure == nil ? "active" : "failed")
        reply.appendBulk("read-timestamp")
        if let readTimestamp {
            reply.appendInteger(Int64(clamping: readTimestamp.rawValue))
        } else {
            reply.appendNull(version)
        }
        reply.appendBulk("statements")
        reply.appendInteger(Int64(statements))
        reply.appendBulk("shards")
        reply.appendInteger(Int64(shards))
        reply.appendBulk("members")
        reply.appendInteger(Int64(members))
        reply.appendBulk("savepoints")
        reply.appendArray(savepoints.count)
        for savepoint in savepoints { savepoint.withView { reply.appendBulk($0) } }
    }
}

extension RESPSession {
    // MARK: Statements

    /// Inside BEGIN … COMMIT: has a command on data done there. False for one that goes its ordinary way: the gateway
    /// answers it itself, or refuses it.
    func beginStatement(_ command: RESPCommand, _ index: Int, _ words: Words, _ output: inout ByteBuffer) -> Bool {
        var row = command
        if case .container = command.body, words.count > 1 {
            guard let subcommand = command.subcommand(words[1]), subcommand.accepts(words.count) else { return false }
            row = subcommand
        }
        guard let parse = row.parse else { return false }
        guard isUnrestricted || mayUse(row, words, &output) else { return true }
        noteCommand(index)
        commandCount &+= 1
        server.count(index)
        let frame = server.frame
        frame.begin(row, words, database: database)
        do throws(DatabaseError) {
            try parse(words, frame)
            guard frame.method != .flushAll, frame.method != .flushDatabase else { throw Self.unfit }
        } catch {
            fail(error.respText, &output)
            return true
        }
        var entry = ReplyRing.Entry()
        (entry.shape, entry.version, entry.isMuted) = (frame.shape, version, takeMute())
        entry.command = UInt16(truncatingIfNeeded: index)
        entry.started = server.monotonic
        entry.argument = ArgumentPrefix(words[1], words: words.count)
        wait = .other(nextToken)
        actions.append(.interactive(nextToken, .statement(TransactionPlan(calls: [frame.snapshot]))))
        ring.push(entry)
        return true
    }

    private static let unfit = DatabaseError(
        .featureNotSupported, "This command cannot be in an interactive transaction")

    // MARK: CLIENT TRANSACTION

    /// CLIENT TRANSACTION subcommand [argument ...]
    func interact(_ words: Words, _ reply: inout ByteBuffer) throws(DatabaseError) {
        if words.matches(2, "begin") { return try beginInteractive(words) }
        if words.matches(2, "join"), words.count == 4 { return try joinInteractive(words) }
        guard isInteractive else {
            throw DatabaseError(
                .noSuchTransaction,
                "There is no transaction: CLIENT TRANSACTION BEGIN opens one, JOIN takes part in another's")
        }
        switch words.count {
        case 3:
            if words.matches(2, "commit") { return ask(.commit) }
            if words.matches(2, "rollback") { return ask(.rollBack) }
            if words.matches(2, "info") { return ask(.describe) }
            if words.matches(2, "id") { return ask(.identify) }
            if words.matches(2, "leave") { return ask(.leave) }
        case 4:
            if words.matches(2, "savepoint") { return ask(.savepoint(words[3].bytes)) }
            if words.matches(2, "release") { return ask(.release(words[3].bytes)) }
        case 5 where words.matches(2, "rollback") && words.matches(3, "to"):
            return ask(.rollBackTo(words[4].bytes))
        case _: break
        }
        guard words.matches(2, "lock"), words.count > 4 else { throw .syntaxError }
        try lock(words)
    }

    private func ask(_ action: InteractiveAction) {
        postpone(.interactive(nextToken, action)) { $0.append("+OK\r\n") }
    }

    /// JOIN token
    private func joinInteractive(_ words: Words) throws(DatabaseError) {
        try mayBeInTransaction()
        guard let token = TransactionToken(parsing: words[3].text) else {
            throw DatabaseError(.invalidArgument, "That is no token: CLIENT TRANSACTION ID tells one")
        }
        ask(.join(token))
    }

    private func mayBeInTransaction() throws(DatabaseError) {
        guard !isInteractive else { throw DatabaseError(.invalidArgument, "A transaction is open already") }
        guard watched.isEmpty else {
            throw DatabaseError(.invalidArgument, "Keys are watched: a transaction finds out itself what has changed")
        }
    }

    /// BEGIN [ISOLATION level] [READONLY] [ASOF moment] [TIMEOUT ms] [IDLE ms] [LOCKTIMEOUT ms]
    private func beginInteractive(_ words: Words) throws(DatabaseError) {
        try mayBeInTransaction()
        var moment: ReadMoment?
        var options = InteractiveTransaction.Options()
        (options.isolation, options.timeLimit, options.idleLimit) = (.serializable, 600_000, 60_000)
        var position = 3
        while position < words.count {
            if words.matches(position, "readonly") {
                options.isReadOnly = true
                position += 1
                continue
            }
            guard position + 1 < words.count else { throw .syntaxError }
            if words.matches(position, "isolation") {
                options.isolation = try Self.isolation(words, position + 1)
            } else if words.matches(position, "asof") {
                moment = try ReadMoment(parsing: words[position + 1])
                options.isReadOnly = true
            } else if words.matches(position, "timeout") {
                options.timeLimit = try Self.milliseconds(words, position + 1)
            } else if words.matches(position, "idle") {
                options.idleLimit = try Self.milliseconds(words, position + 1)
            } else if words.matches(position, "locktimeout") {
                options.lockTimeout = UInt32(clamping: try Self.milliseconds(words, position + 1))
            } else {
                throw .syntaxError
            }
            position += 2
        }
        ask(.begin(options, at: moment))
    }

    private static func isolation(
        _ words: Words, _ position: Int
    ) throws(DatabaseError) -> InteractiveTransaction.Isolation {
        if words.matches(position, "read-committed") { return .readCommitted }
        if words.matches(position, "snapshot") || words.matches(position, "repeatable-read") { return .snapshot }
        if words.matches(position, "serializable") { return .serializable }
        throw DatabaseError(.invalidArgument, "ISOLATION must be READ-COMMITTED, SNAPSHOT or SERIALIZABLE")
    }

    private static func milliseconds(_ words: Words, _ position: Int) throws(DatabaseError) -> UInt64 {
        let value = try words.integer(position)
        guard (0...86_400_000).contains(value) else {
            throw DatabaseError(.invalidArgument, "A time is a number of milliseconds, at most a day; 0: none")
        }
        return UInt64(value)
    }

    /// LOCK SHARE|UPDATE [NOWAIT|SKIP] key [key ...]: for each key, whether it is there and locked now.
    private func lock(_ words: Words) throws(DatabaseError) {
        let mode: InvocationScope.LockMode
        if words.matches(3, "share") {
            mode = .share
        } else if words.matches(3, "update") {
            mode = .update
        } else {
            throw .syntaxError
        }
        var policy = InvocationScope.WaitPolicy.wait, first = 4
        if words.count > 5, words.matches(4, "nowait") || words.matches(4, "skip") {
            policy = words.matches(4, "nowait") ? .noWait : .skipLocked
            first = 5
        }
        guard isUnrestricted || mayLock(words, from: first, isWrite: mode == .update) else {
            throw DatabaseError(
                .permissionDenied, "this user has no permissions to access one of the keys used as arguments")
        }
        var plan = TransactionPlan(), execution = Execution(token: nextToken)
        for position in first..<words.count {
            let key = words[position].bytes
            plan.calls.append(
                CallSnapshot(
                    method: .exists, target: .key, database: database, key: key, flags: 0, numbers: [], arguments: [],
                    keys: [key]))
            execution.steps.append(.call(.plain))
            execution.indices.append(lastCommandIndex)
        }
        executions.append(execution)
        wait = .other(nextToken)
        deferred = .interactive(nextToken, .lock(plan, mode, policy))
    }

    /// Whether the user may use the keys, as a command could that reads or writes them.
    private func mayLock(_ words: Words, from first: Int, isWrite: Bool) -> Bool {
        let keys = KeySpec(at: first, last: -1, isWrite ? [.readWrite, .access, .update] : [.readOnly, .access])
        let row = RESPCommand(
            RESPCommand.clientTransaction.name, -5, RESPCommand.clientTransaction.flags, .transactions, keys: [keys],
            acl: .connection, since: "7.0.0", summary: ""
        ) { _, _, _ throws(DatabaseError) in }
        return user?.denial(of: row, words) == nil
    }

    /// The driver has done what CLIENT TRANSACTION asked for, or not; `isOpen`: a transaction is open now.
    package func interacted<Sink: SessionSink>(
        _ token: UInt64, _ result: Result<InteractiveAnswer, DatabaseError>, isOpen: Bool,
        output: inout ByteBuffer, to sink: Sink
    ) {
        guard wait != .closed else { return }
        isInteractive = isOpen
        switch result {
        case .success(let answer):
            if let text = answer.text, ring.isWaiting(token) {
                let version = ring[token].version
                pendingAnswer = { text(&$0, version) }
            }
            finish(token, output: &output, to: sink)
        case .failure(let error): finish(token, error: error, output: &output, to: sink)
        }
    }
}
