import Base
import Contracts
import DataModel
import GatewayKit
import Net

/// Carries out what a session decides: one object per client connection.
///
/// During a call of the session the connection's output is lent to it; whatever would touch the connection then (a
/// refusal by the router, closing) is noted and done right after, in `settle`.
final class ClientConnection: ConnectionHandler, SessionSink, ReplyReceiver {
    /// How long a client may take to log in.
    private static let loginMilliseconds = 10_000

    let gateway: Gateway
    private let router: NodeRouter
    private let records: RecordDirectory
    private let server: ServerState
    private let connection: Connection
    let session: RESPSession

    /// The session has the output now.
    private var isLent = false
    /// Something of the four below has to be done.
    private var needsSettling = false
    private var refusals: [(token: UInt64, error: DatabaseError)] = []
    private var closesSoon = false, resumesSoon = false, pausesSoon = false

    /// Of a client that has said READONLY.
    private struct ReplicaState {
        /// The token of READONLY.
        var since: UInt64?
        /// Calls with lower tokens went to leaders: they are answered before a replica is asked.
        var awaited: UInt64 = 0
        /// What the client has seen of leaders; nil: to be taken from the router once those are answered.
        var bookmark: Timestamp?
    }

    private var replicaState = ReplicaState()
    /// Between CLIENT TRANSACTION BEGIN, or JOIN, and its end.
    var interactive: HomeLink?
    /// The client has closed the connection.
    private(set) var isGone = false
    /// Calls that were refused as they had been routed, and are made anew.
    var stale: [StaleCall] = []
    /// Who asks for the time, once everything before is answered.
    private var waitsForTime: (token: UInt64, moment: ReadMoment)?
    /// Who wants to listen, once everything before is answered.
    private var waitsToListen: (token: UInt64, interest: KeyspaceInterest)?
    /// Since when more waits for a listener than it may leave for long, in monotonic nanoseconds.
    private var isBehindSince: UInt64?

    init(_ gateway: Gateway, _ connection: Connection, _ session: RESPSession) {
        self.gateway = gateway
        self.connection = connection
        self.session = session
        (router, records) = (gateway.router, gateway.records)
        server = gateway.server
        if !session.isAuthenticated { connection.setDeadline(afterMilliseconds: Self.loginMilliseconds) }
    }

    // MARK: The client

    func received(_ connection: Connection, _ input: inout ByteBuffer) {
        gateway.beginEvent()
        let (read, written) = (input.count, connection.output.count)
        isLent = true
        session.receive(&input, output: &connection.output, to: self)
        isLent = false
        server.bytesIn &+= UInt64(read - input.count)
        finishEvent(written)
    }

    func inputEnded(_ connection: Connection) {
        // Redis answers what it has read before it notices the end; so do we, though our answers take longer.
        lend { session.inputEnded(connection.output.count, to: self) }
    }

    func outputDrained(_ connection: Connection) {
        gateway.beginEvent()
        lend { session.outputDrained(connection.output.count, to: self) }
    }

    func closed(_ connection: Connection, _ reason: CloseReason) {
        session.peerClosed()
        isGone = true
        interactive?.leave()
        interactive = nil
        gateway.remove(self)
        connection.handler = nil
    }

    /// Closes without ado: CLIENT KILL, a removed user, the end of the drain.
    func kill() { connection.close(reason: .local) }

    /// The pause that held its next command back may have ended.
    func pauseChanged() {
        gateway.beginEvent()
        lend { session.pauseChanged(connection.output.count, to: self) }
    }

    // MARK: Answers

    @inline(__always)
    func completed(_ ticket: UInt64, _ reply: borrowing ReplyView) {
        gateway.beginEvent()
        let written = connection.output.count
        isLent = true
        session.complete(ticket, reply, output: &connection.output, to: self)
        isLent = false
        finishEvent(written)
    }

    func failed(_ ticket: UInt64, _ error: DatabaseError) {
        guard !isLent else {
            refusals.append((ticket, error))
            needsSettling = true
            return
        }
        gateway.beginEvent()
        lend { session.fail(ticket, error, output: &connection.output, to: self) }
    }

    /// Calls `body` when this connection is not lent.
    func later(_ body: @escaping () -> Void) { gateway.loop.runLater(body) }

    private func lend(_ body: () -> Void) {
        let written = connection.output.count
        isLent = true
        body()
        isLent = false
        finishEvent(written)
    }

    @inline(__always)
    private func finishEvent(_ written: Int) {
        let count = connection.output.count
        if count != written {
            server.bytesOut &+= UInt64(max(count - written, 0))
            connection.setNeedsFlush()
        }
        if needsSettling { settle() }
    }

    private func settle() {
        needsSettling = false
        if let (token, moment) = waitsForTime { findMoment(token, moment) }
        if let (token, interest) = waitsToListen { listen(token, interest) }
        let refused = refusals
        refusals = []
        for (token, error) in refused {
            lend { session.fail(token, error, output: &connection.output, to: self) }
        }
        if pausesSoon {
            pausesSoon = false
            connection.pauseReading()
            // The watermarks speak only of output that the kernel did not take: look again after this tick's flush.
            if connection.output.count >= RESPSession.outputLimit {
                gateway.loop.schedule(afterMilliseconds: 0) { [self] in outputDrained(connection) }
            }
        }
        if resumesSoon {
            resumesSoon = false
            connection.resumeReading()
            gateway.loop.runLater { [self] in lend { session.redelivered(connection.output.count, to: self) } }
        }
        if closesSoon {
            closesSoon = false
            connection.close(afterFlush: true)
        }
    }

    // MARK: What the session wants

    @inline(__always)
    func invoke(_ token: UInt64, _ call: CallFrame) throws(DatabaseError) {
        switch call.target {
        case .key:
            if records.isAny, call.database == 0, records.isRuled(call.method, call.key) {
                return try sendInPieces(token, call)
            }
            send(token, call, records.slot(call.database, call.key), self)
        case .keys: try sendToOneShard(token, call)
        case .everyShard, .cursor, .anyShard: try FanOut.begin(token, call, self, router, random: gateway.random)
        }
    }

    @inline(__always)
    func send(_ ticket: UInt64, _ call: CallFrame, _ slot: UInt32, _ receiver: any ReplyReceiver) {
        if session.isDiverted, divert(ticket, call, slot, receiver) { return }
        router.call(
            connection: session.id, slot: slot, method: call.method, database: call.database, key: call.key,
            flags: call.flags, numbers: call.numbers, arguments: call.arguments, receiver: receiver, ticket: ticket)
    }

    /// Sends a call of a client that has asked for something else than the newest from the leader. False: it goes to
    /// the leader all the same.
    @inline(never)
    private func divert(
        _ ticket: UInt64, _ call: CallFrame, _ slot: UInt32, _ receiver: any ReplyReceiver
    ) -> Bool {
        guard let time = session.asOf else { return readFromReplica(ticket, call, slot, receiver) }
        var body = ByteBuffer(capacity: 256)
        CallBatchEncoder.encode(
            method: call.method, database: call.database, key: call.key, flags: call.flags, numbers: call.numbers,
            arguments: call.arguments, into: &body)
        router.scoped(
            connection: session.id, slot: slot, transaction: 0, scope: InvocationScope(asOf: time),
            .call(body.readable), isWrite: false, receiver: receiver, ticket: ticket)
        return true
    }

    /// Asks for the time, or waits until everything before is answered: what the client has written, it wants to see.
    private func findMoment(_ token: UInt64, _ moment: ReadMoment) {
        guard session.hasAnswered(before: token) else {
            waitsForTime = (token, moment)
            needsSettling = true
            return
        }
        waitsForTime = nil
        router.readTimestamp { [self] now in
            gateway.beginEvent()
            lend { session.found(token, moment, now: now, output: &connection.output, to: self) }
        }
    }

    /// Sends a read of a client that has said READONLY to a replica. False for a write, for a read that came before
    /// everything that went to leaders is answered, and while keys are watched: those go to the leader, in the order of
    /// the connection.
    @inline(never)
    private func readFromReplica(
        _ ticket: UInt64, _ call: CallFrame, _ slot: UInt32, _ receiver: any ReplyReceiver
    ) -> Bool {
        if session.readOnlySince != replicaState.since {
            replicaState = ReplicaState(since: session.readOnlySince, awaited: ticket, bookmark: nil)
        }
        let isSettled = replicaState.bookmark != nil || session.hasAnswered(before: replicaState.awaited)
        guard isSettled, !call.method.isWrite, session.mayReadFromReplicas else {
            (replicaState.awaited, replicaState.bookmark) = (ticket &+ 1, nil)
            return false
        }
        let bookmark = replicaState.bookmark ?? router.bookmark
        replicaState.bookmark = bookmark
        var terms = ReadTerms(.any)
        let staleness = server.settings.replicaStaleness
        if staleness > 0 {
            terms = ReadTerms(.boundedStale)
            (terms.stalenessMilliseconds, terms.bookmark) = (staleness, bookmark)
        }
        router.read(
            terms, connection: session.id, slot: slot, method: call.method, database: call.database, key: call.key,
            flags: call.flags, numbers: call.numbers, arguments: call.arguments, receiver: receiver, ticket: ticket)
        return true
    }

    /// Several keys: all on one shard, or not at all, because nothing is done half.
    private func sendToOneShard(_ token: UInt64, _ call: CallFrame) throws(DatabaseError) {
        if records.isAny, records.isRuled(call.snapshot) { return try sendInPieces(token, call) }
        let slot = records.slot(call.database, call.key)
        if router.shards.count > 1 {
            let shard = router.shardIndex(ofSlot: slot)
            var isOneShard = true
            call.forEachKey { key in
                if router.shardIndex(ofSlot: records.slot(call.database, key)) != shard { isOneShard = false }
            }
            guard isOneShard else { return try sendInPieces(token, call) }
        }
        send(token, call, slot, self)
    }

    /// DEL, MSET, MGET … with keys on several shards, and what statements do: a transaction of one call.
    @inline(never)
    private func sendInPieces(_ token: UInt64, _ call: CallFrame) throws(DatabaseError) {
        (replicaState.awaited, replicaState.bookmark) = (token &+ 1, nil)
        let plan = TransactionPlan(calls: [call.snapshot])
        try begin(plan, token) { [self] outcome in
            answer(token, outcome)
        }
    }

    /// A plan of one call was carried out, or not: its reply is the answer.
    func answer(_ token: UInt64, _ outcome: TransactionOutcome) {
        session.release(token)
        switch outcome {
        case .done(let replies):
            var decoder = ReplyBatchDecoder()
            try? decoder.decode(replies) { reply in completed(token, reply) }  // Our own bytes: they decode.
        case .changed:  // MSETNX, and one of the keys exists.
            let replies = ReplyBatchEncoder()
            replies.integer(token, 0)
            replies.deliver(to: self)
        case .failed(let error): failed(token, error)
        }
    }

    func begin(
        _ plan: TransactionPlan, _ token: UInt64, _ completion: @escaping (TransactionOutcome) -> Void
    ) throws(DatabaseError) {
        if let time = session.asOf {
            try PastRequest.begin(plan, at: time, for: self, gateway, completion)
        } else {
            try TransactionRequest.begin(plan, token: token, for: self, gateway, completion)
        }
    }

    private func execute(_ token: UInt64, _ plan: TransactionPlan) {
        // A replica is not asked before this is answered.
        (replicaState.awaited, replicaState.bookmark) = (token &+ 1, nil)
        let completion = { [self] (outcome: TransactionOutcome) in executed(token, outcome) }
        do throws(DatabaseError) {
            try begin(plan, token, completion)
        } catch {
            later { completion(.failed(error)) }
        }
    }

    func perform(_ action: SessionAction) {
        switch action {
        case .authenticate(let token, let user, let password):
            gateway.users.authenticate(user, password) { [self] outcome in loggedIn(token, outcome) }
        case .delay(let token, let milliseconds):
            gateway.loop.schedule(afterMilliseconds: Int(clamping: milliseconds)) { [self] in finished(token, nil) }
        case .changeUsers(let token, let changes):
            gateway.users.apply(changes) { [self] error in finished(token, error) }
        case .countKeys(let token):
            KeyCount.begin(router) { [self] counts in
                gateway.beginEvent()
                lend { session.counted(token, counts, output: &connection.output, to: self) }
            }
        case .watch(let token, let database, let keys):
            WatchRequest.begin(keys, database, for: self) { [self] versions in
                gateway.beginEvent()
                lend { session.watched(token, versions, output: &connection.output, to: self) }
            }
        case .execute(let token, let plan):
            execute(token, plan)
        case .interactive(let token, let action): perform(action, token)
        case .findMoment(let token, let moment):
            findMoment(token, moment)
        case .listen(let token, let interest): listen(token, interest)
        case .beginPause(let token):
            gateway.beginPause(by: self) { [self] in finished(token, nil) }
        case .endPause: gateway.loop.runLater { [gateway] in gateway.pauseChanged() }
        case .kill(let ids):
            for id in ids { gateway.clients[id]?.kill() }
        case .pauseReading:
            (pausesSoon, resumesSoon, needsSettling) = (true, false, true)
        case .resumeReading:
            (pausesSoon, resumesSoon, needsSettling) = (false, true, true)
        case .close:
            (closesSoon, needsSettling) = (true, true)
        }
    }

    private func loggedIn(_ token: UInt64, _ outcome: AuthenticationOutcome) {
        gateway.beginEvent()
        lend { session.authenticated(token, outcome, output: &connection.output, to: self) }
        if session.isAuthenticated { connection.clearDeadline() }
    }

    /// CLIENT TRANSACTION has done what it was asked for, or not.
    func interacted(_ token: UInt64, _ result: Result<InteractiveAnswer, DatabaseError>) {
        // Never from inside the session.
        later { [self] in
            gateway.beginEvent()
            lend {
                session.interacted(
                    token, result, isOpen: interactive != nil, output: &connection.output, to: self)
            }
        }
    }

    /// A plan that is answered like an EXEC was carried out, or not.
    func executed(_ token: UInt64, _ outcome: TransactionOutcome) {
        gateway.beginEvent()
        lend { session.executed(token, outcome, output: &connection.output, to: self) }
    }

    // MARK: Listening

    /// Begins to listen when everything before is answered.
    private func listen(_ token: UInt64, _ interest: KeyspaceInterest) {
        guard session.hasAnswered(before: token) else {
            waitsToListen = (token, interest)
            needsSettling = true
            return
        }
        waitsToListen = nil
        gateway.keyspace.ensure(interest) { [self] in finished(token, nil) }
    }

    /// A message on a channel that the client listens to. One that does not read is closed.
    func push(_ channel: Bytes, _ message: ByteView, _ pattern: Bytes?) {
        lend { session.deliver(channel, message, pattern: pattern, output: &connection.output) }
        checkOutput()
    }

    /// Whether more waits for a listener than it may leave: then it is closed.
    func checkOutput() {
        let bound = server.settings.listenerOutput, waiting = connection.output.count
        if session.isListener, bound.hard > 0, waiting > bound.hard { return kill() }
        guard session.isListener, bound.soft > 0, waiting > bound.soft else {
            isBehindSince = nil
            return
        }
        let since = isBehindSince ?? gateway.loop.now
        isBehindSince = since
        if gateway.loop.now &- since > bound.softSeconds &* 1_000_000_000 { kill() }
    }

    private func finished(_ token: UInt64, _ error: DatabaseError?) {
        gateway.beginEvent()
        lend { session.finish(token, error: error, output: &connection.output, to: self) }
    }
}
