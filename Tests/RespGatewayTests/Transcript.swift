import Base
import Contracts
import RespGateway

/// A golden file: stories, each one connection, told in steps.
///
///     # A comment; it stays where it is.
///     > SET k v                  the client sends a command (quotes as in redis-cli)
///     >> PING\r\n                the client sends these bytes
///     < #1 ok                    a node answers: ok, null, integer N, number X, data TEXT, list ITEM…,
///                                error CODE TEXT
///     login #1 accepted NAME     how a login ended: accepted NAME, refused, failed CODE TEXT
///     finish #1                  a delay is over, or users are changed; `finish #1 CODE TEXT` if not
///     counts #1 3 0              keys of the databases, for INFO
///     versions #1 7 8            versions of the keys of a WATCH; `versions #1 CODE TEXT` if not
///     now #1 7 123               everything acknowledged lies at or below that time, in milliseconds and steps, for
///                                CLIENT ASOF; `now #1 CODE TEXT` if nobody can tell
///     open #1 2-00…              what CLIENT TRANSACTION asked for is done, and a transaction is open; its token, if
///                                that was asked for
///     over #1 CODE TEXT          it is not, or not any more; and why, unless that was wanted
///     done #1 ok ; integer 3     an EXEC was carried out, with these answers of its calls
///     changed #1                 it was not: a watched key has changed
///     failed #1 CODE TEXT        it was not, or nobody knows
///     clock +1500                milliseconds pass
///     user alice on ~a* +get     the catalog has this user now
///     pause-changed              a pause ended, or its time has come
///     message news text          somebody says that on a channel
///     drop                       the client has gone
///     other CLIENT PAUSE 1000    another client sends a command; what comes of it is not told
///     ---
///     invoke #1 set k v          what came of it
///     send +OK
///
/// An empty line ends a step, `===` a story.
struct Transcript {
    /// Runs all stories of `text` and returns it with the true outcomes in place.
    static func replay(_ text: String) -> String {
        var output: [String] = [], runner = StoryRunner(), isOutcome = false
        var lines = text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
        if lines.last == "" { lines.removeLast() }
        func flush() {
            guard isOutcome else { return }
            output += runner.takeOutcome()
            isOutcome = false
        }
        for line in lines {
            if line == "===" {
                flush()
                runner = StoryRunner()
                output.append(line)
            } else if line.isEmpty {
                flush()
                output.append(line)
            } else if line == "---" {
                output.append(line)
                isOutcome = true
            } else if isOutcome {
                continue
            } else {
                output.append(line)
                if !line.hasPrefix("#") { runner.play(line) }
            }
        }
        flush()
        return output.joined(separator: "\n") + "\n"
    }
}

/// One connection of a transcript.
final class StoryRunner {
    private let server: ServerState
    private let session: RESPSession
    private let recorder = Recorder()
    private var input = ByteBuffer(), output = ByteBuffer()

    init() {
        server = ServerState(users: UserDirectory(isOpen: true))
        server.wallMilliseconds = 1_700_000_000_000
        server.monotonicNanoseconds = 1_000_000_000
        guard let session = server.admit(address: "127.0.0.1:50000", localAddress: "127.0.0.1:6379") else {
            fatalError("the server of a story takes a client")
        }
        self.session = session
    }

    func takeOutcome() -> [String] {
        defer { recorder.lines = [] }
        return recorder.lines
    }

    func play(_ line: String) {
        let words = Self.split(line)
        let verb = String(decoding: words.first ?? [], as: UTF8.self)
        let rest = words.dropFirst().map { String(decoding: $0, as: UTF8.self) }
        switch verb {
        case ">": feed(Self.encode(Array(words.dropFirst())))
        case ">>": feed(Self.unescape(String(line.dropFirst(3))))
        case "<":
            var decoder = ReplyBatchDecoder()
            let frame = Self.frame { answer(token(rest[0]), Array(words.dropFirst(2)), $0) }
            try? decoder.decode(frame.readable) { reply in
                session.complete(reply.id, reply, output: &output, to: recorder)
            }
        case "login":
            login(token(rest[0]), Array(rest.dropFirst()))
        case "finish":
            let failure = rest.count > 1 ? Self.error(Array(rest.dropFirst())) : nil
            session.finish(token(rest[0]), error: failure, output: &output, to: recorder)
        case "counts":
            let counts = rest.dropFirst().map { UInt64($0) ?? 0 }
            session.counted(token(rest[0]), .success(counts), output: &output, to: recorder)
        case "versions":
            let versions = rest.dropFirst().compactMap { UInt64($0) }
            session.watched(
                token(rest[0]),
                versions.isEmpty ? .failure(Self.error(Array(rest.dropFirst()))) : .success(versions),
                output: &output, to: recorder)
        case "now":
            guard let moment = recorder.moments[token(rest[0])] else { return recorder.lines.append("? \(line)") }
            let now: Result<Timestamp, DatabaseError> =
                if let time = UInt64(rest[1]), let step = UInt16(rest[2]) {
                    .success(Timestamp(milliseconds: time, counter: step))
                } else {
                    .failure(Self.error(Array(rest.dropFirst())))
                }
            session.found(token(rest[0]), moment, now: now, output: &output, to: recorder)
        case "open", "over": interacted(rest, isOpen: verb == "open")
        case "done":
            let frame = Self.frame { encoder in
                for (id, part) in words.dropFirst(2).split(separator: Bytes(";".utf8)).enumerated() {
                    answer(UInt64(id), Array(part), encoder)
                }
            }
            session.executed(token(rest[0]), .done(frame.readable), output: &output, to: recorder)
        case "changed":
            session.executed(token(rest[0]), .changed, output: &output, to: recorder)
        case "failed":
            session.executed(
                token(rest[0]), .failed(Self.error(Array(rest.dropFirst()))), output: &output, to: recorder)
        case "clock":
            let milliseconds = UInt64(rest[0].dropFirst()) ?? 0
            server.wallMilliseconds += milliseconds
            server.monotonicNanoseconds += milliseconds * 1_000_000
        case "user": setUser(rest)
        case "pause-changed":
            _ = server.endPauseIfDue()
            session.pauseChanged(output.count, to: recorder)
        case "other":
            var input = ByteBuffer(), output = ByteBuffer()
            input.append(Self.encode(Array(words.dropFirst())))
            let other = server.admit(address: "127.0.0.1:50001", localAddress: "127.0.0.1:6379")
            other?.receive(&input, output: &output, to: Recorder())
        case "message": publish(words[1], words[2])
        case "drop":
            session.peerClosed()
        default:
            recorder.lines.append("? \(line)")
        }
        collect()
    }

    /// `open` and `over`: what became of a CLIENT TRANSACTION.
    private func interacted(_ words: [String], isOpen: Bool) {
        var result: Result<InteractiveAnswer, DatabaseError> = .success(.done)
        if let text = words.dropFirst().first {
            let identified = TransactionToken(parsing: text).map { InteractiveAnswer.identified($0) }
            result = identified.map { .success($0) } ?? .failure(Self.error(Array(words.dropFirst())))
        }
        session.interacted(token(words[0]), result, isOpen: isOpen, output: &output, to: recorder)
    }

    /// Whoever listens besides the client is `other`, whose output is not told.
    private func publish(_ channel: Bytes, _ message: Bytes) {
        server.channels.forEachListener(of: channel) { id, pattern in
            guard id == session.id else { return recorder.lines.append("other \(id)") }
            message.withUnsafeBytes { session.deliver(channel, $0, pattern: pattern, output: &output) }
        }
    }

    private func feed(_ bytes: Bytes) {
        input.append(bytes)
        session.receive(&input, output: &output, to: recorder)
        while recorder.resumes {
            recorder.resumes = false
            session.receive(&input, output: &output, to: recorder)
        }
    }

    private func collect() {
        if recorder.resumes {  // What had been read already is handed over again, as the driver does.
            recorder.resumes = false
            session.receive(&input, output: &output, to: recorder)
        }
        guard !output.isEmpty else { return }
        var text = Self.escape(output.readable)
        if text.hasSuffix("\\r\\n") { text.removeLast(4) }
        let isClosing = recorder.lines.last == "close"  // Which is done after the output has been sent.
        if isClosing { recorder.lines.removeLast() }
        recorder.lines += text.components(separatedBy: "\\r\\n").map { "send \($0)" }
        if isClosing { recorder.lines.append("close") }
        output.removeAll()
    }

    private func token(_ text: String) -> UInt64 { UInt64(text.dropFirst()) ?? 0 }

    private func setUser(_ words: [String]) {
        let user = ACLUser(name: words[0])
        do throws(DatabaseError) {
            for rule in words.dropFirst() { try user.apply(rule, server.table) }
        } catch {
            recorder.lines.append("? \(error)")
        }
        let others = server.users.users.values.filter { $0.name != user.name }
        server.users.replace(with: others + [user])
        for id in server.usersChanged() { recorder.lines.append("logout \(id)") }
    }

    private func login(_ token: UInt64, _ words: [String]) {
        let outcome: AuthenticationOutcome =
            switch words[0] {
            case "accepted": .accepted(user: words[1])
            case "refused": .refused
            default: .failed(Self.error(Array(words.dropFirst())))
            }
        session.authenticated(token, outcome, output: &output, to: recorder)
    }

    private static func frame(_ fill: (ReplyBatchEncoder) -> Void) -> ByteBuffer {
        let encoder = ReplyBatchEncoder()
        fill(encoder)
        var frame = ByteBuffer()
        encoder.write(bookmark: .zero, mapEpoch: MapEpoch(rawValue: 0), into: &frame)
        return frame
    }

    /// The first word says of what kind the answer is.
    private func answer(_ token: UInt64, _ kindAndWords: [Bytes], _ encoder: ReplyBatchEncoder) {
        let kind = String(decoding: kindAndWords.first ?? [], as: UTF8.self), words = Array(kindAndWords.dropFirst())
        func text(_ index: Int) -> String { index < words.count ? String(decoding: words[index], as: UTF8.self) : "" }
        switch kind {
        case "ok": encoder.ok(token)
        case "null": encoder.null(token)
        case "integer": encoder.integer(token, Int64(text(0)) ?? 0)
        case "number": encoder.number(token, Double(text(0)) ?? 0)
        case "data": (words.first ?? []).withUnsafeBytes { encoder.data(token, $0) }
        case "error": encoder.error(token, Self.error((0..<words.count).map(text)))
        case "list":
            encoder.beginList(token)
            for (index, word) in words.enumerated() {
                if text(index) == "null" {
                    encoder.listNull()
                } else if text(index).hasPrefix(":"), let value = Int64(text(index).dropFirst()) {
                    encoder.listInteger(value)
                } else {
                    word.withUnsafeBytes { encoder.listData($0) }
                }
            }
            encoder.endList()
        default: recorder.lines.append("? \(kind)")
        }
    }

    private static func error(_ words: [String]) -> DatabaseError {
        let code = ErrorCode.allCases.first { "\($0)" == words[0] } ?? .internalFailure
        return DatabaseError(code, words.dropFirst().joined(separator: " "))
    }

    // MARK: Bytes and text

    static func encode(_ words: [Bytes]) -> Bytes {
        var bytes = Bytes("*\(words.count)\r\n".utf8)
        for word in words { bytes += Bytes("$\(word.count)\r\n".utf8) + word + [13, 10] }
        return bytes
    }

    /// Splits with the parser under test: an inline command is what a line of a transcript is.
    static func split(_ line: String) -> [Bytes] {
        let parser = RESPParser()
        var bytes = Bytes(line.utf8) + [10]
        return bytes.withUnsafeMutableBytes { room in
            guard (try? parser.parse(room, limits: RESPLimits())) == .command, let base = room.baseAddress else {
                return []
            }
            let words = parser.words(at: UnsafeRawPointer(base))
            return (0..<words.count).map { words[$0].bytes }
        }
    }

    static func escape(_ view: ByteView) -> String {
        var text = ""
        for byte in view {
            switch byte {
            case 13: text += "\\r"
            case 10: text += "\\n"
            case 92: text += "\\\\"
            case 32...126: text.unicodeScalars.append(UnicodeScalar(byte))
            default: text += "\\x" + String(byte >> 4, radix: 16) + String(byte & 15, radix: 16)
            }
        }
        return text
    }

    static func unescape(_ text: String) -> Bytes {
        var result: Bytes = [], rest = Bytes(text.utf8)[...]
        while let byte = rest.popFirst() {
            guard byte == 92, let next = rest.popFirst() else {
                result.append(byte)
                continue
            }
            switch next {
            case UInt8(ascii: "r"): result.append(13)
            case UInt8(ascii: "n"): result.append(10)
            case UInt8(ascii: "x"):
                let digits = String(decoding: rest.prefix(2), as: UTF8.self)
                rest = rest.dropFirst(2)
                result.append(UInt8(digits, radix: 16) ?? 0)
            default: result.append(next)
            }
        }
        return result
    }
}

/// Writes down what a session decides.
final class Recorder: SessionSink {
    var lines: [String] = []
    /// Set by `resumeReading`: the input has to be handed over again.
    var resumes = false
    /// What CLIENT ASOF asked for.
    var moments: [UInt64: ReadMoment] = [:]
    /// Calls fail at once while this is set.
    var refusal: DatabaseError?

    func invoke(_ token: UInt64, _ call: CallFrame) throws(DatabaseError) {
        if let refusal { throw refusal }
        lines.append("invoke #\(token) " + Self.describe(call.snapshot))
    }

    private static func describe(_ call: CallSnapshot) -> String {
        var line = "\(call.method)"
        if !call.key.isEmpty || call.target == .key { line += " " + word(call.key) }
        for argument in call.arguments { line += " " + word(argument) }
        if !call.numbers.isEmpty { line += " numbers " + call.numbers.map(String.init).joined(separator: ",") }
        if call.flags != 0 { line += " flags \(call.flags)" }
        if call.database != 0 { line += " database \(call.database)" }
        switch call.target {
        case .key: break
        case .keys: line += " keys " + call.keys.map { word($0) }.joined(separator: ",")
        case .everyShard, .cursor, .anyShard: line += " at \(call.target)"
        }
        return line
    }

    func perform(_ action: SessionAction) {
        switch action {
        case .authenticate(let token, let user, let password):
            lines.append("authenticate #\(token) \(Self.word(user)) \(Self.word(password))")
        case .findMoment(let token, let moment):
            moments[token] = moment
            lines.append("find moment #\(token)")
        case .delay(let token, let milliseconds): lines.append("delay #\(token) \(milliseconds)")
        case .countKeys(let token): lines.append("count #\(token)")
        case .changeUsers(let token, let changes):
            for change in changes { lines.append("change #\(token) \(Self.describe(change))") }
        case .watch(let token, let database, let keys):
            let names = keys.map { Self.word($0) }.joined(separator: " ")
            lines.append("watch #\(token) \(names)" + (database == 0 ? "" : " database \(database)"))
        case .execute(let token, let plan):
            lines.append("execute #\(token)")
            for watch in plan.watches {
                let place = watch.database == 0 ? "" : " database \(watch.database)"
                let state = watch.version.map { "\($0)" } ?? "absent"
                lines.append("  if \(Self.word(watch.key)) is \(state)" + place)
            }
            lines += plan.calls.map { "  " + Self.describe($0) }
        case .interactive(let token, .begin(let options, let moment)):
            let more = (options.isReadOnly ? " read-only" : "") + (moment.map { " at \($0)" } ?? "")
            lines.append("interactive #\(token) begin \(options.isolation)" + more)
        case .interactive(let token, let action): lines.append("interactive #\(token) \(action)")
        case .listen(let token, let interest):
            let keys = interest.keys.map { $0.sorted { $0.lexicographicallyPrecedes($1) }.map { Self.word($0) } }
            let text = keys?.joined(separator: " ") ?? "all"
            lines.append("listen #\(token)" + (interest.isEmpty ? "" : " \(interest.databases) keys \(text)"))
        case .beginPause(let token): lines.append("begin pause #\(token)")
        case .endPause: lines.append("end pause")
        case .kill(let ids): lines.append("kill \(ids.map(String.init).joined(separator: ","))")
        case .pauseReading: lines.append("pause")
        case .resumeReading:
            lines.append("resume")
            resumes = true
        case .close: lines.append("close")
        }
    }

    private static func describe(_ change: UserChange) -> String {
        switch change {
        case .put(let name, let isEnabled, let rules, let passwords, let dropped, let keeps):
            let words = passwords.map { "+" + word($0) } + dropped.map { "-" + word($0) } + (keeps ? ["kept"] : [])
            return "put \(name) \(isEnabled ? "on" : "off") \"\(rules)\" passwords \(words.joined(separator: ","))"
        case .remove(let name): return "remove \(name)"
        }
    }

    private static func word(_ bytes: Bytes) -> String { bytes.withUnsafeBytes { word($0) } }

    private static func word(_ view: ByteView) -> String {
        let text = StoryRunner.escape(view)
        return text.isEmpty || text.contains(" ") ? "\"\(text)\"" : text
    }
}
