import Base
import Contracts

/// What one RESP connection does next. Pure: no socket, no clock, no `await`; time comes in with `ServerState`.
///
/// Bytes come in through `receive`, answers of nodes through `complete`; replies are appended to the connection's
/// output in the order of the commands, everything else goes to the sink. Every complete command of the read buffer is
/// sent before `receive` returns, so that a pipeline travels as one batch.
///
/// A session *stalls*, that is leaves the rest of the input where it is, while it
/// - waits for a login, a delay or a change of users, because what follows depends on it;
/// - has met a command that CLIENT PAUSE holds back;
/// - has `callLimit` calls under way, or `outputLimit` bytes that the client has not taken.
/// It asks to pause reading then, and to resume when it can go on. So memory is bounded and any pipeline is legitimate.
///
/// What a call brings is not known before, so `callLimit` follows from what the last ones have brought: as many calls
/// as fit `replyBudget`, at first as if their replies were large.
package final class RESPSession {
    package static let inFlightLimit = 4096
    /// Large, because many clients send a whole pipeline before they read the first answer: to stop reading means to
    /// stop them for good when their answers do not fit in here and the sockets' buffers.
    package static let outputLimit = 64 << 20
    /// Bytes of replies that the calls under way are expected to bring, at most; always allowed are `fewestCalls`.
    package static let replyBudget = 32 << 20, fewestCalls = 4
    /// A reply's size as expected at first.
    private static let firstExpectation = 256 << 10
    /// Replies up to this size leave room for `inFlightLimit` calls.
    private static let smallReply = replyBudget / inFlightLimit

    /// The one thing a stalled session waits for.
    enum Wait: Equatable {
        case nothing
        case login(UInt64, hello: Hello?)
        case other(UInt64)
        /// The end of a pause: the next command lies in the read buffer.
        case pause
        case closing, closed
    }

    /// What HELLO asks for, besides logging in.
    struct Hello: Equatable {
        var version: RESPVersion?
        var name: Bytes?
    }

    enum ReplyMode { case on, off }

    package let id: UInt64
    let server: ServerState
    /// Addresses as CLIENT LIST shows them.
    package let address: String, localAddress: String
    let createdAt: UInt64

    let parser = RESPParser()
    let ring = ReplyRing()
    var wait = Wait.nothing { didSet { isHeld = wait != .nothing } }
    /// `wait` is something: one bit for the path of every command.
    private var isHeld = false
    private var expectedReply = firstExpectation
    /// Calls that may be under way now.
    package private(set) var callLimit = replyBudget / firstExpectation
    private(set) var isReadingPaused = false
    private var isInputEnded = false
    /// Between resuming and the moment when the input that had been kept is there again.
    private var owesInput = false
    /// Set by an answer that cannot be given yet; taken by `begin`.
    var deferred: SessionAction?
    var actions: [SessionAction] = []

    /// nil before login.
    var user: ACLUser? { didSet { noteRights() } }
    /// By AUTH or HELLO, rather than as the user of those who have not.
    var hasLoggedIn = false
    /// The user may do anything: nothing is checked.
    private(set) var isUnrestricted = false
    /// So is the user, no transaction is open, and what is read is of now: a command is carried out. One bit for the
    /// path of every command.
    private var isPlain = false
    var version = RESPVersion.two { didSet { noteRights() } }
    var database: UInt8 = 0
    var name: Bytes = []
    var replyMode = ReplyMode.on
    var skipsNextReply = false
    var isEvictable = true
    /// Reads may be answered by followers: the token of READONLY; nil: by leaders only.
    var readOnlySince: UInt64? { didSet { noteWays() } }
    /// What is read is what was there at that time; nil: now.
    package var asOf: Timestamp? {
        didSet {
            noteRights()
            noteWays()
        }
    }
    /// Calls do not simply go to the leader of their shard. One bit for the path of every call.
    package private(set) var isDiverted = false
    /// For CLIENT LIST.
    private(set) var lastCommandIndex = -1, lastActive: UInt64
    private(set) var lastSubcommand: RESPCommand?
    var commandCount: UInt64 = 0

    /// Between MULTI and EXEC.
    var transaction: Transaction? { didSet { noteRights() } }
    /// Between CLIENT TRANSACTION BEGIN and its end.
    var isInteractive = false { didSet { noteRights() } }
    var watched = WatchedKeys()
    var subscriptions = Subscriptions()
    /// There are some.
    var isListening = false { didSet { noteRights() } }
    /// Every EXEC whose answer is to come, oldest first.
    var executions: [Execution] = []
    /// The commands of the transaction that is being answered now.
    var runningCommands: Int?

    /// What waits for the answer of the driver, besides the client: INFO's sections, DELUSER's count.
    var pendingAnswer: ((inout ByteBuffer) -> Void)?
    var pendingSections: Set<ServerInformation.Section> = []

    package init(id: UInt64, server: ServerState, address: String = "", localAddress: String = "") {
        self.id = id
        self.server = server
        self.address = address
        self.localAddress = localAddress
        createdAt = server.wall
        lastActive = server.wall
        user = server.users.defaultUser
        noteRights()
    }

    private func noteRights() {
        isUnrestricted = user?.allowsEverything ?? false
        isPlain =
            isUnrestricted && transaction == nil && !isInteractive && asOf == nil && !(isListening && version == .two)
    }

    private func noteWays() { isDiverted = readOnlySince != nil || asOf != nil }

    /// What was watched must not be read as it was before: followers are not asked.
    package var mayReadFromReplicas: Bool { watched.isEmpty }

    /// Nor the past.
    var mayReadPast: Bool { watched.isEmpty }

    package var isAuthenticated: Bool { user != nil }

    /// Whether the client has subscribed to anything.
    package var isListener: Bool { isListening }

    package var inFlight: Int { ring.count }

    /// Commands without an answer yet.
    package var unanswered: Int { ring.waitingCount }

    /// Whether every command with a token below `token` is answered, or nobody waits for the answers any more.
    package func hasAnswered(before token: UInt64) -> Bool { ring.head >= token || wait == .closed }

    /// How long the client has sent nothing.
    package var idleMilliseconds: UInt64 { max(server.wall, lastActive) - lastActive }

    /// Whether a pause holds its next command back.
    package var isPaused: Bool { wait == .pause }

    /// Whether the client waits for a login, a delay, the catalog of users or the end of a pause.
    var isWaiting: Bool {
        switch wait {
        case .login, .other, .pause: true
        case .nothing, .closing, .closed: false
        }
    }

    // MARK: Events

    /// Handles what has been read: sends every complete command and consumes it. Call it again, with or without new
    /// bytes, after `resumeReading`.
    package func receive<Sink: SessionSink>(_ input: inout ByteBuffer, output: inout ByteBuffer, to sink: Sink) {
        let bytes = input.mutableReadable
        var start = 0
        lastActive = server.wall
        while start < bytes.count, canGoOn(output.count) {
            let rest = UnsafeMutableRawBufferPointer(rebasing: bytes[start...])
            guard let base = rest.baseAddress else { break }
            do throws(RESPProtocolError) {
                let isKnown = isAuthenticated, limits = isKnown ? server.limits : RESPLimits.unauthenticated
                guard try parser.parse(rest, limits: limits, isAuthenticated: isKnown) == .command else { break }
            } catch {
                server.protocolErrors &+= 1
                fail("ERR " + error.message, &output)
                wait = .closing
                break
            }
            begin(parser.words(at: UnsafeRawPointer(base)), &output, sink)
            if isHeld, wait == .pause {
                parser.keep()
                break
            }
            start += parser.consumed
        }
        if wait == .closing || wait == .closed { start = bytes.count }
        input.consume(start)
        settle(output.count, sink)
    }

    /// A node answered.
    @inline(__always)
    package func complete<Sink: SessionSink>(
        _ token: UInt64, _ reply: borrowing ReplyView, output: inout ByteBuffer, to sink: Sink
    ) {
        // Too late: the call was given up and its client has an error, or the client has gone.
        guard ring.isWaiting(token), wait != .closed else { return }
        let entry = ring[token]
        if server.monotonic &- entry.started >= server.slowThreshold { server.noteSlow(entry, self) }
        if reply.kind == .error { server.errorCount &+= 1 }
        var size = output.count
        if token == ring.head {
            if !entry.isMuted { output.append(reply, entry.shape, entry.version) }
            size = output.count &- size
            ring.releaseHead(into: &output)
        } else {
            server.scratch.removeAll()
            if !entry.isMuted { server.scratch.append(reply, entry.shape, entry.version) }
            size = server.scratch.count
            ring.park(token, server.scratch.readable)
        }
        learn(size)
        if isReadingPaused || isInputEnded { settle(output.count, sink) }
    }

    @inline(__always) func learn(_ size: Int) {
        if size > Self.smallReply || callLimit < Self.inFlightLimit { expect(size) }
    }

    /// Learns from the size of a reply: at once from a large one, slowly from small ones.
    private func expect(_ size: Int) {
        expectedReply = max(size, expectedReply &- max((expectedReply &- size) >> 6, 1))
        callLimit = min(max(Self.replyBudget / max(expectedReply, 1), Self.fewestCalls), Self.inFlightLimit)
    }

    /// A call failed on its way: no node answered it.
    package func fail<Sink: SessionSink>(
        _ token: UInt64, _ error: DatabaseError, output: inout ByteBuffer, to sink: Sink
    ) {
        finish(token, output: &output, to: sink) { _, buffer in buffer.appendError(error.respText) }
    }

    /// The delay is over, or the change of users is made (or refused).
    package func finish<Sink: SessionSink>(
        _ token: UInt64, error: DatabaseError? = nil, output: inout ByteBuffer, to sink: Sink
    ) {
        finish(token, output: &output, to: sink) { session, buffer in
            let answer = session.pendingAnswer
            session.pendingAnswer = nil
            if let error {
                session.server.errorCount &+= 1
                buffer.appendError(error.respText)
            } else if let answer {
                answer(&buffer)
            } else {
                buffer.appendStatus("OK")
            }
        }
    }

    /// The keys of the databases are counted (or could not be).
    package func counted<Sink: SessionSink>(
        _ token: UInt64, _ counts: Result<[UInt64], DatabaseError>, output: inout ByteBuffer, to sink: Sink
    ) {
        switch counts {
        case .failure(let error):
            finish(token, error: error, output: &output, to: sink)
        case .success(let counts):
            let text = ServerInformation.text(pendingSections, server, keys: counts), version = ring[token].version
            pendingAnswer = { $0.appendVerbatim(text, version) }
            finish(token, output: &output, to: sink)
        }
    }

    /// The password was verified, or not.
    package func authenticated<Sink: SessionSink>(
        _ token: UInt64, _ outcome: AuthenticationOutcome, output: inout ByteBuffer, to sink: Sink
    ) {
        guard case .login(token, let hello) = wait else { return }
        finish(token, output: &output, to: sink) { session, buffer in session.conclude(outcome, hello, &buffer) }
    }

    /// A pause has ended, or holds less back: the command that waited is looked at again.
    package func pauseChanged<Sink: SessionSink>(_ outputCount: Int, to sink: Sink) {
        guard wait == .pause else { return }
        wait = .nothing
        settle(outputCount, sink)
    }

    /// From inside `SessionSink`: what is behind the command waits for its answer.
    package func hold(until token: UInt64) { if wait == .nothing { wait = .other(token) } }

    /// The answer to a command that was held for comes now.
    package func release(_ token: UInt64) { if wait == .other(token) { wait = .nothing } }

    /// The client took what it was sent.
    package func outputDrained<Sink: SessionSink>(_ outputCount: Int, to sink: Sink) { settle(outputCount, sink) }

    /// The client will send nothing more: what it has sent is answered, then the connection closes.
    package func inputEnded<Sink: SessionSink>(_ outputCount: Int, to sink: Sink) {
        isInputEnded = true
        settle(outputCount, sink)
    }

    /// After `resumeReading`: what had been read before has been handed over.
    package func redelivered<Sink: SessionSink>(_ outputCount: Int, to sink: Sink) {
        owesInput = false
        settle(outputCount, sink)
    }

    /// The connection is gone: whatever arrives now is dropped.
    package func peerClosed() {
        wait = .closed
        forgetTransaction()
        forgetSubscriptions()
        (executions, pendingAnswer) = ([], nil)
        server.remove(self)
    }

    // MARK: Decisions

    @inline(__always) private func canGoOn(_ outputCount: Int) -> Bool {
        !isHeld && ring.count < callLimit && outputCount + ring.parkedBytes < Self.outputLimit
    }

    /// After each event: pauses or resumes reading, and closes when the last answer is out.
    private func settle<Sink: SessionSink>(_ outputCount: Int, _ sink: Sink) {
        if !actions.isEmpty { perform(sink) }
        if canGoOn(outputCount) {
            // Not before half of them are answered: else a long pipeline would trickle in by single commands.
            if isReadingPaused, ring.count <= callLimit / 2 {
                isReadingPaused = false
                owesInput = true
                sink.perform(.resumeReading)
            }
            if isInputEnded, !owesInput, !isReadingPaused, ring.isEmpty {
                wait = .closed
                sink.perform(.close)
            }
            if ring.isEmpty { ring.trim() }
        } else {
            if !isReadingPaused, wait != .closed {
                isReadingPaused = true
                sink.perform(.pauseReading)
            }
            if wait == .closing, ring.isEmpty {
                wait = .closed
                sink.perform(.close)
            }
        }
    }

    private func perform<Sink: SessionSink>(_ sink: Sink) {
        for action in actions { sink.perform(action) }
        actions.removeAll(keepingCapacity: true)
    }

    func finish<Sink: SessionSink>(
        _ token: UInt64, output: inout ByteBuffer, to sink: Sink, _ write: (RESPSession, inout ByteBuffer) -> Void
    ) {
        guard ring.isWaiting(token), wait != .closed else { return }
        switch wait {
        case .login(token, _), .other(token): wait = .nothing
        case .nothing, .login, .other, .pause, .closing, .closed: break
        }
        let isMuted = ring[token].isMuted
        if token == ring.head {
            let mark = output.count
            write(self, &output)
            if isMuted { output.truncate(to: mark) }
            ring.releaseHead(into: &output)
        } else {
            var answer = ByteBuffer(capacity: 64)
            write(self, &answer)
            if isMuted { answer.removeAll() }
            ring.park(token, answer.readable)
        }
        settle(output.count, sink)
    }

    /// Executes one command: sends it, answers it, or refuses it.
    @inline(__always)
    private func begin<Sink: SessionSink>(_ words: Words, _ output: inout ByteBuffer, _ sink: Sink) {
        guard words.count > 0 else { return }
        guard let index = server.table.index(of: words[0]) else { return refuseUnknown(words, &output) }
        let command = server.table[index]
        guard command.accepts(words.count) else { return refuseArity(command, &output) }
        guard isPlain || admits(command, index, words, &output) else { return }
        if server.pause != .nothing, isHeldBack(command, words) { return }
        lastCommandIndex = index
        commandCount &+= 1
        server.count(index)
        if let parse = command.parse {
            send(command, index, parse, words, &output, sink)
        } else {
            beginLocal(command, index, words, &output, sink)
        }
    }

    /// Whether the command is to be carried out now; otherwise it is refused, held back, or kept for EXEC.
    @inline(never)
    private func admits(_ command: RESPCommand, _ index: Int, _ words: Words, _ output: inout ByteBuffer) -> Bool {
        guard isUnrestricted || mayUse(command, words, &output) else { return false }
        if let refusal = refusalOfListener(command, words) {
            refuse(command, refusal, &output)
            return false
        }
        if asOf != nil, let refusal = refusalOfPast(command, words) {
            refuse(command, refusal, &output)
            return false
        }
        guard transaction != nil || isInteractive else { return true }
        if server.pause != .nothing, isHeldBack(command, words) { return false }
        guard transaction == nil else { return !queue(command, index, words, &output) }
        return !beginStatement(command, index, words, &output)
    }

    /// A command is being kept for EXEC.
    func noteCommand(_ index: Int) { lastCommandIndex = index }

    /// Leaves the command where it is when a pause is for such: what is refused anyway has been refused already.
    private func isHeldBack(_ command: RESPCommand, _ words: Words) -> Bool {
        var leaf = command
        if case .container = command.body, words.count > 1 {
            guard let row = command.subcommand(words[1]), row.accepts(words.count),
                isUnrestricted || user?.denial(of: row, words) == nil
            else { return false }
            leaf = row
        }
        let isWritingEXEC = leaf === RESPCommand.execute && transaction?.writes ?? false
        guard server.pause.holdsBack(leaf) || isWritingEXEC else { return false }
        wait = .pause
        return true
    }

    private func beginLocal<Sink: SessionSink>(
        _ command: RESPCommand, _ index: Int, _ words: Words, _ output: inout ByteBuffer, _ sink: Sink
    ) {
        switch command.body {
        case .call: break  // It has a parser.
        case .answer(let answer):
            reply(index, answer, words, &output, sink)
        case .container(_, let alone):
            if words.count == 1, let alone {
                reply(index, alone, words, &output, sink)
            } else {
                beginSubcommand(of: command, index, words, &output, sink)
            }
        }
    }

    private func beginSubcommand<Sink: SessionSink>(
        of container: RESPCommand, _ index: Int, _ words: Words, _ output: inout ByteBuffer, _ sink: Sink
    ) {
        guard let command = container.subcommand(words[1]) else {
            return refuseSubcommand(of: container, words, &output)
        }
        guard command.accepts(words.count) else { return refuseArity(command, &output) }
        guard isUnrestricted || mayUse(command, words, &output) else { return }
        lastSubcommand = command
        switch command.body {
        case .call(let parse): send(command, index, parse, words, &output, sink)
        case .answer(let answer): reply(index, answer, words, &output, sink)
        case .container: break  // Containers do not nest.
        }
    }

    @inline(__always)
    private func send<Sink: SessionSink>(
        _ command: RESPCommand, _ index: Int, _ parse: RESPCommand.Parse, _ words: Words, _ output: inout ByteBuffer,
        _ sink: Sink
    ) {
        let frame = server.frame
        frame.begin(command, words, database: database)
        do throws(DatabaseError) {
            try parse(words, frame)
            try sink.invoke(ring.tail, frame)
        } catch {
            return fail(error.respText, &output)
        }
        var entry = ReplyRing.Entry()
        entry.shape = frame.shape
        entry.version = version
        entry.isMuted = takeMute()
        entry.command = UInt16(truncatingIfNeeded: index)
        entry.started = server.monotonic
        entry.argument = ArgumentPrefix(words[1], words: words.count)
        ring.push(entry)
    }

    private func reply<Sink: SessionSink>(
        _ index: Int, _ answer: RESPCommand.Answer, _ words: Words, _ output: inout ByteBuffer, _ sink: Sink
    ) {
        let skips = skipsNextReply, isOptional = !server.table[index].isAlwaysAnswered
        skipsNextReply = false
        var isMuted: Bool { isOptional && (skips || replyMode == .off) }  // The answer itself may change the mode.
        if ring.isEmpty {
            let mark = output.count
            write(answer, words, &output, mark)
            if isMuted { output.truncate(to: mark) }
        } else {
            var buffer = ByteBuffer(capacity: 256)
            write(answer, words, &buffer, 0)
            if isMuted { buffer.removeAll() }
            if !buffer.isEmpty { ring.push(answer: buffer.readable) }
        }
        if let action = deferred {
            deferred = nil
            var entry = ReplyRing.Entry()
            entry.version = version
            entry.isMuted = isMuted
            entry.command = UInt16(truncatingIfNeeded: index)
            entry.started = server.monotonic
            ring.push(entry)
            actions.append(action)
        }
        if !actions.isEmpty { perform(sink) }
    }

    /// Writes an answer, or the error that it ends with; `mark` is where it begins.
    func write(_ answer: RESPCommand.Answer, _ words: Words, _ buffer: inout ByteBuffer, _ mark: Int) {
        do throws(DatabaseError) {
            try answer(words, self, &buffer)
        } catch {
            buffer.truncate(to: mark)
            server.errorCount &+= 1
            buffer.appendError(error.respText)
        }
    }

    /// Lets the client, and what it sent after this command, wait for the driver; `answer` is what it gets then.
    func postpone(_ action: SessionAction, answer: @escaping (inout ByteBuffer) -> Void) {
        wait = .other(nextToken)
        deferred = action
        pendingAnswer = answer
    }

    /// Changes the catalog of users.
    func change(_ changes: [UserChange], answer: @escaping (inout ByteBuffer) -> Void) {
        postpone(.changeUsers(nextToken, changes), answer: answer)
    }

    /// The token that a deferred answer will have.
    package var nextToken: UInt64 { ring.tail }

    @inline(__always) func takeMute() -> Bool {
        guard replyMode == .off || skipsNextReply else { return false }
        skipsNextReply = false
        return true
    }

    /// Answers in its turn.
    func answer(_ output: inout ByteBuffer, _ write: (inout ByteBuffer) -> Void) {
        if takeMute() { return }
        if ring.isEmpty {
            write(&output)
        } else {
            var buffer = ByteBuffer(capacity: 128)
            write(&buffer)
            ring.push(answer: buffer.readable)
        }
    }

    /// Answers with an error, in its turn.
    func fail(_ text: String, _ output: inout ByteBuffer) {
        server.errorCount &+= 1
        answer(&output) { $0.appendError(text) }
    }
}

extension DatabaseError {
    /// The line of an error reply: code, space, words.
    package var respText: String { code.row.resp + " " + message }
}
