import Base
import DataModel

/// A statement that runs, or a portal that goes on.
struct Run {
    /// Whose state changes when it ends.
    let portal: Portal?
    /// nil: not known yet, or it gives no rows.
    var columns: [ResultColumn]?
    /// Of the columns; fewer than there are: the others are texts.
    var formats: [WireFormat]
    /// The client knows the columns.
    var isDescribed: Bool
    var rows: Int64 = 0
    /// FETCH and MOVE count rows in their tag; MOVE shows none.
    var isFetch = false, isMove = false
    /// The runner waits until the client has taken what it was sent.
    var isHeld = false

    init(portal: Portal?, columns: [ResultColumn]?, formats: [WireFormat], isDescribed: Bool) {
        (self.portal, self.columns, self.formats, self.isDescribed) = (portal, columns, formats, isDescribed)
    }

    func held(_ isHeld: Bool) -> Run {
        var run = self
        run.isHeld = isHeld
        return run
    }
}

/// What the runner has to say. An answer that nobody waits for any more changes nothing.
extension PgSession {
    private func isCurrent(_ token: UInt64) -> Bool { token == self.token && phase == .ready }

    /// After `PlanRunner.prepare`.
    package func prepared(_ token: UInt64, _ description: StatementDescription) {
        if isCurrent(token), case .controlling(.assume) = activity {
            activity = .none
            complete(StatementCompletion("SET"))
            return goOn()
        }
        guard isCurrent(token), case .preparing(let preparation) = activity else { return }
        activity = .none
        prepared(
            preparation,
            PreparedStatement(preparation.statement, byteCount: preparation.byteCount, description: description))
        goOn()
    }

    func prepared(_ preparation: Preparation, _ prepared: PreparedStatement) {
        switch preparation.origin {
        case .parse:
            keep(prepared, preparation)
            output.appendParseComplete()
        case .sql:
            keep(prepared, preparation)
            complete(StatementCompletion("PREPARE"))
        case .cursor:
            do throws(StatementError) {
                try addCursor(preparation.name, prepared, message: [])
            } catch {
                fail(error)
            }
        }
    }

    private func keep(_ prepared: PreparedStatement, _ preparation: Preparation) {
        statements[preparation.name] = prepared
        statementBytes += preparation.byteCount
    }

    /// The columns of the rows that will come.
    package func began(_ token: UInt64, _ columns: [ResultColumn]) {
        guard isCurrent(token), case .running(var run) = activity, !run.isDescribed else { return }
        run.columns = columns
        run.isDescribed = true
        output.appendRowDescription(columns.map(ColumnField.init)) { _ in .text }
        activity = .running(run)
    }

    /// Rows. False: no more before `PlanRunner.resume`.
    package func rows(_ token: UInt64, _ batch: RowBatch) -> Bool {
        guard isCurrent(token), case .running(var run) = activity, let columns = run.columns,
            columns.count == batch.columnCount
        else { return true }
        run.rows &+= Int64(batch.records.count)
        server.rowCount &+= UInt64(batch.records.count)
        let before = output.count, writer = rowWriter()
        for record in batch.records where !run.isMove {
            let isWritten = record.withUnsafeBytes { writer.append($0, columns, run.formats, into: &output) }
            guard isWritten else {
                output.truncate(to: before)
                runner.cancel(token)
                failed(token, StatementError(.internalError, "a node has sent a row that is none"))
                return true
            }
        }
        run.isHeld = output.count >= server.limits.output
        activity = .running(run)
        settle()
        return !run.isHeld
    }

    /// The statement is done, or the transaction control.
    package func completed(_ token: UInt64, _ completion: StatementCompletion) {
        guard isCurrent(token) else { return }
        switch activity {
        case .running(let run), .copying(let run):
            activity = .none
            isCopyHeld = false
            setState(run, .done)
            if run.isFetch {
                complete(StatementCompletion(run.isMove ? "MOVE" : "FETCH", rows: run.rows))
            } else {
                complete(completion)
            }
        case .controlling(let step): controlled(step, completion)
        case .none, .preparing: return
        }
        goOn()
    }

    /// The rows that were wanted have come, and there are more.
    package func suspended(_ token: UInt64) {
        guard isCurrent(token), case .running(let run) = activity else { return }
        activity = .none
        setState(run, .suspended)
        if run.isFetch {
            complete(StatementCompletion(run.isMove ? "MOVE" : "FETCH", rows: run.rows))
        } else {
            output.appendPortalSuspended()
        }
        goOn()
    }

    private func setState(_ run: Run, _ state: Portal.State) {
        run.portal?.state = state
        run.portal?.outer?.state = state
    }

    /// It could not be done. Positions count in the statement's own text.
    package func failed(_ token: UInt64, _ error: StatementError) {
        guard isCurrent(token) else { return }
        switch activity {
        case .none: return
        case .controlling(let step): controlFailed(step, error)
        case .preparing(let preparation):
            activity = .none
            fail(placed(error, preparation.statement))
        case .running(let run), .copying(let run):
            activity = .none
            isCopyHeld = false
            setState(run, .done)
            fail(placed(error, run.portal?.prepared.statement ?? scriptStatement))
        }
        goOn()
    }

    /// The statement of the script that runs now.
    private var scriptStatement: SessionStatement? {
        script.flatMap { $0.next > 0 ? $0.statements[$0.next - 1] : nil }
    }

    private func placed(_ error: StatementError, _ statement: SessionStatement?) -> StatementError {
        guard error.position > 0, case .node(let planned) = statement else { return error }
        var error = error
        error.position += planned.characterOffset
        return error
    }

    /// Something that the client should know, and that is no error.
    package func noticed(_ severity: Severity, _ notice: StatementError) {
        guard phase == .ready, !severity.isError else { return }
        notify(severity, notice)
    }

    /// The transaction that was open at the runner is gone, without the client's doing: its node is lost, or it was
    /// idle for too long. What is under way is answered by itself.
    package func transactionLost() {
        guard phase == .ready, isEngaged else { return }
        if status == .inBlock { status = .failed }
        if status == .idle { hasGroupFailed = true }
    }

    // MARK: COPY

    /// The statement is a COPY: the client may send its data, or shall take some.
    package func copyBegan(_ token: UInt64, _ direction: CopyDirection, _ format: WireFormat, columns: Int) {
        guard isCurrent(token), case .running(let run) = activity else { return }
        output.appendCopyBegin(direction, format, columns: columns)
        guard direction == .fromClient else { return }
        activity = .copying(run)
        goOn()
    }

    /// A piece for the client. False: no more before `PlanRunner.resume`.
    package func copyOut(_ token: UInt64, _ data: ByteView) -> Bool {
        guard isCurrent(token), case .running(let run) = activity else { return true }
        output.appendCopyData(data)
        let isHeld = output.count >= server.limits.output
        if isHeld != run.isHeld { activity = .running(run.held(isHeld)) }
        settle()
        return !isHeld
    }

    /// The client has been sent everything; `completed` follows.
    package func copyOutEnded(_ token: UInt64) {
        guard isCurrent(token), case .running = activity else { return }
        output.appendCopyDone()
    }

    /// The runner takes data of a COPY again.
    package func copyReady(_ token: UInt64) {
        guard isCurrent(token), case .copying = activity, isCopyHeld else { return }
        isCopyHeld = false
        goOn()
    }
}
