import Base
import Contracts

// MULTI, EXEC, DISCARD, WATCH, UNWATCH.
//
//     MULTI ──▶ commands are checked and kept: QUEUED ──▶ EXEC: their calls leave as one plan, which is done as a
//                 │                                       whole or not at all; the answers become one array
//                 └── one is refused ──▶ EXECABORT
//
// A command is parsed when EXEC comes, as in Redis: wrong arguments are an error in the array, and the others are done.
// Commands that the gateway answers itself are carried out when the plan has been, in their places between the replies:
// a transaction that is not done must not have changed anything. A session with such commands under way takes nothing
// from its input; without them a pipeline of transactions goes on.

extension RESPSession {
    /// Steps of transactions under way, and bytes of one, beyond which the session waits for their end.
    private static let stepLimit = 4096, sizeLimit = 1 << 20

    // MARK: Before EXEC

    /// MULTI
    func openTransaction() throws(DatabaseError) {
        guard transaction == nil else { throw DatabaseError(.invalidArgument, "MULTI calls can not be nested") }
        transaction = Transaction()
    }

    /// DISCARD
    func discardTransaction() throws(DatabaseError) {
        guard transaction != nil else { throw DatabaseError(.invalidArgument, "DISCARD without MULTI") }
        forgetTransaction()
    }

    /// What was queued and what was watched goes.
    func forgetTransaction() {
        transaction = nil
        watched = WatchedKeys()
    }

    /// Inside MULTI: keeps the command for EXEC, or refuses it. False when it is one that acts at once.
    func queue(_ command: RESPCommand, _ index: Int, _ words: Words, _ output: inout ByteBuffer) -> Bool {
        guard let transaction, !command.flags.contains(.immediate) else { return false }
        noteCommand(index)
        var row = command
        if case .container(_, let alone) = command.body, words.count > 1 || alone == nil {
            guard let subcommand = command.subcommand(words[1]) else {
                refuseSubcommand(of: command, words, &output)
                return true
            }
            guard subcommand.accepts(words.count) else {
                refuseArity(subcommand, &output)
                return true
            }
            guard isUnrestricted || mayUse(subcommand, words, &output) else { return true }
            row = subcommand
        }
        let countsKeys = row === RESPCommand.info && ServerInformation.sections(words).contains(.keyspace)
        guard !row.flags.contains(.unqueueable), !countsKeys else {
            refuse(row, "ERR Command not allowed inside a transaction", &output)
            return true
        }
        do throws(DatabaseError) {
            try transaction.append(row, index, words, limit: server.limits.command)
        } catch {
            refuse(row, error.respText, &output)
            return true
        }
        answer(&output) { $0.append("+QUEUED\r\n") }
        return true
    }

    /// WATCH key [key ...]: answered when the versions of the keys are known; so nothing overtakes it.
    func watch(_ words: Words, _ reply: inout ByteBuffer) throws(DatabaseError) {
        guard transaction == nil else { throw DatabaseError(.invalidArgument, "WATCH inside MULTI is not allowed") }
        guard !isInteractive else {
            throw DatabaseError(
                .invalidArgument, "WATCH inside a transaction is not allowed: it finds out itself what has changed")
        }
        let keys = try watched.begin(words, database)
        guard !keys.isEmpty else { return reply.append("+OK\r\n") }
        postpone(.watch(nextToken, database: database, keys)) { $0.append("+OK\r\n") }
    }

    /// The versions of the keys of a WATCH are known, in its order, or cannot be. In that case EXEC will find that they
    /// have changed: a client that has not looked at the answer of WATCH must not lose an update.
    package func watched<Sink: SessionSink>(
        _ token: UInt64, _ versions: Result<[UInt64], DatabaseError>, output: inout ByteBuffer, to sink: Sink
    ) {
        guard wait == .other(token) else { return }
        switch versions {
        case .success(let versions):
            watched.end(versions)
            finish(token, output: &output, to: sink)
        case .failure(let error):
            watched.end(nil)
            finish(token, error: error, output: &output, to: sink)
        }
    }

    // MARK: EXEC

    /// EXEC: answers, or hands the plan over and waits.
    func execute(_ reply: inout ByteBuffer) throws(DatabaseError) {
        guard let transaction else { throw DatabaseError(.invalidArgument, "EXEC without MULTI") }
        let watched = watched
        forgetTransaction()
        if transaction.isBroken {
            server.errorCount &+= 1
            return reply.append("-EXECABORT Transaction discarded because of previous errors.\r\n")
        }
        guard !watched.isLost else { return reply.appendNullArray(version) }
        var execution = Execution(token: nextToken), plan = TransactionPlan(watches: watched.list)
        let isLocal = arrange(transaction, &execution, &plan)
        if isLocal { execution.transaction = transaction }
        guard !plan.calls.isEmpty || !plan.watches.isEmpty else {
            return write(execution, ByteView(start: nil, count: 0), version, &reply)
        }
        let steps = executions.reduce(execution.steps.count) { $0 + $1.steps.count }
        executions.append(execution)
        if isLocal || isInteractive || steps > Self.stepLimit || transaction.size > Self.sizeLimit {
            wait = .other(nextToken)
        }
        deferred = .execute(nextToken, plan)
    }

    /// Parses what was queued. True if there are commands among it that the gateway answers itself.
    private func arrange(
        _ transaction: Transaction, _ execution: inout Execution, _ plan: inout TransactionPlan
    ) -> Bool {
        var isLocal = false, database = database
        execution.steps.reserveCapacity(transaction.commands.count)
        for (position, command) in transaction.commands.enumerated() {
            transaction.withWords(command) { words in
                let row = command.row
                execution.indices.append(command.index)
                if !isUnrestricted, let refusal = user?.refusal(of: row, words), !row.flags.contains(.noAuth) {
                    return execution.steps.append(.refused(refusal.afterQueueing))
                }
                guard let parse = row.parse else {
                    isLocal = true
                    if row === RESPCommand.select { adoptDatabase(words, &database) }
                    return execution.steps.append(.local(position))
                }
                let frame = server.frame
                frame.begin(row, words, database: database)
                do throws(DatabaseError) {
                    try parse(words, frame)
                    plan.calls.append(frame.snapshot)
                    execution.steps.append(.call(frame.shape))
                } catch {
                    execution.steps.append(.refused(error.respText))
                }
            }
        }
        return isLocal
    }

    /// What a SELECT among the commands means for those behind it.
    private func adoptDatabase(_ words: Words, _ database: inout UInt8) {
        guard let number = try? parseDatabase(words[1]) else { return }
        database = UInt8(truncatingIfNeeded: number)
    }

    /// The plan of an EXEC was carried out, or not.
    package func executed<Sink: SessionSink>(
        _ token: UInt64, _ outcome: TransactionOutcome, output: inout ByteBuffer, to sink: Sink
    ) {
        guard let position = executions.firstIndex(where: { $0.token == token }) else { return }
        let execution = executions.remove(at: position)
        guard ring.isWaiting(token) else { return }
        let entry = ring[token]
        if server.monotonic &- entry.started >= server.slowThreshold { server.noteSlow(entry, self) }
        finish(token, output: &output, to: sink) { session, reply in
            let mark = reply.count
            switch outcome {
            case .done(let replies): session.write(execution, replies, entry.version, &reply)
            case .changed: reply.appendNullArray(entry.version)
            case .failed(let error):
                session.server.errorCount &+= 1
                reply.appendError(error.respText)
            }
            session.learn(reply.count - mark)
        }
    }

    /// Appends the array of answers.
    private func write(
        _ execution: Execution, _ replies: ByteView, _ version: RESPVersion, _ output: inout ByteBuffer
    ) {
        let mark = output.count
        var next = 0, isDamaged = false
        runningCommands = execution.steps.count
        output.appendArray(execution.steps.count)
        var decoder = ReplyBatchDecoder()
        do throws(DatabaseError) {
            try decoder.decode(replies) { reply in
                writeOwn(execution, &next, &output)
                guard next < execution.steps.count, case .call(let shape) = execution.steps[next] else {
                    isDamaged = true
                    return
                }
                server.count(execution.indices[next])
                if reply.kind == .error { server.errorCount &+= 1 }
                output.append(reply, shape, version)
                next += 1
            }
        } catch {
            isDamaged = true
        }
        writeOwn(execution, &next, &output)
        runningCommands = nil
        guard isDamaged || next < execution.steps.count else { return }
        output.truncate(to: mark)
        server.errorCount &+= 1
        output.append("-ERR The answers of the transaction cannot be read; it was carried out\r\n")
    }

    /// Appends the answers up to the next call: of commands that were refused, and of those that the gateway answers.
    private func writeOwn(_ execution: Execution, _ next: inout Int, _ output: inout ByteBuffer) {
        while next < execution.steps.count {
            switch execution.steps[next] {
            case .call: return
            case .refused(let text):
                server.errorCount &+= 1
                output.appendError(text)
            case .local(let position):
                server.count(execution.indices[next])
                carryOut(position, of: execution, &output)
            }
            next += 1
        }
    }

    private func carryOut(_ position: Int, of execution: Execution, _ output: inout ByteBuffer) {
        guard let transaction = execution.transaction else { return }
        let mark = output.count
        let command = transaction.commands[position]
        transaction.withWords(command) { words in
            switch command.row.body {
            case .answer(let answer), .container(_, alone: .some(let answer)): write(answer, words, &output, mark)
            case .call, .container(_, alone: nil): break  // The first has a parser, the second is never queued.
            }
        }
        // Whatever makes its client wait is refused when it is queued; should a row be forgotten there, it fails here.
        guard deferred != nil || output.count == mark else { return }
        (deferred, pendingAnswer) = (nil, nil)
        if isWaiting { wait = .nothing }
        output.truncate(to: mark)
        output.append("-ERR Command not allowed inside a transaction\r\n")
    }
}

extension ACLUser.Refusal {
    /// The answer to a command that was allowed when it was queued, and is not any more when EXEC comes.
    fileprivate var afterQueueing: String {
        let reason =
            switch self {
            case .command: "no permission to execute the command or subcommand"
            case .key: "no permission to touch the specified keys"
            case .channel: "no permission to access the channel used as argument"
            }
        return "NOPERM ACLs rules changed between the moment the transaction was accumulated and the EXEC call. "
            + "This command is no longer allowed for the following reason: " + reason
    }
}
