import Base
import Contracts
import RespGateway
import Testing

/// Transactions of a session against a model that knows no pipelines: whatever order answers come in and however the
/// input is cut, the client sees what it would see if every command had been done by itself.
@Suite("RESP transactions")
struct TransactionTests {
    /// A shard in memory: it does calls in the order in which they are made, and answers when it is told to.
    final class Shard: SessionSink {
        let server = ServerState(users: UserDirectory(isOpen: true))
        let session: RESPSession
        var input = ByteBuffer(), output = ByteBuffer()
        var store = Store()
        var isPaused = false
        private(set) var isClosed = false
        private var answers: [() -> Void] = []

        init() {
            guard let session = server.admit(address: "peer", localAddress: "here") else {
                fatalError("a fresh server takes a client")
            }
            self.session = session
        }

        var isBusy: Bool { !answers.isEmpty }
        var dueAnswers: Int { answers.count }
        /// Calls with that key are for several shards.
        var heldKey: Bytes?

        func invoke(_ token: UInt64, _ call: CallFrame) throws(DatabaseError) {
            let frame = Self.frame { [self] in store.perform(call.snapshot).encode(token, $0) }
            let isHeld = call.snapshot.key == heldKey
            if isHeld { session.hold(until: token) }
            answers.append { [self] in
                if isHeld { session.release(token) }
                var decoder = ReplyBatchDecoder()
                frame.withView { view in
                    try? decoder.decode(view) { session.complete($0.id, $0, output: &output, to: self) }
                }
            }
        }

        func perform(_ action: SessionAction) {
            switch action {
            case .pauseReading: isPaused = true
            case .resumeReading: isPaused = false
            case .watch(let token, let database, let keys):
                let versions = keys.map { store.version(Store.Name(database: database, key: $0)) }
                answers.append { [self] in
                    session.watched(token, .success(versions), output: &output, to: self)
                }
            case .execute(let token, let plan): execute(token, plan)
            case .close: isClosed = true
            case .interactive, .findMoment, .authenticate, .delay, .countKeys, .changeUsers, .beginPause, .endPause,
                .kill, .listen:
                Issue.record("not asked for: \(action)")
            }
        }

        private func execute(_ token: UInt64, _ plan: TransactionPlan) {
            let isUnchanged = plan.watches.allSatisfy {
                store.version(Store.Name(database: $0.database, key: $0.key)) == $0.version
            }
            guard isUnchanged else {
                answers.append { [self] in session.executed(token, .changed, output: &output, to: self) }
                return
            }
            let frame = Self.frame { [self] encoder in
                for (id, call) in plan.calls.enumerated() { store.perform(call).encode(UInt64(id), encoder) }
            }
            answers.append { [self] in
                frame.withView { session.executed(token, .done($0), output: &output, to: self) }
            }
        }

        private static func frame(_ fill: (ReplyBatchEncoder) -> Void) -> Bytes {
            let encoder = ReplyBatchEncoder()
            fill(encoder)
            var frame = ByteBuffer()
            encoder.write(bookmark: .zero, mapEpoch: MapEpoch(rawValue: 0), into: &frame)
            return frame.readable.bytes
        }

        func receive(_ bytes: Bytes = []) {
            input.append(bytes)
            session.receive(&input, output: &output, to: self)
        }

        /// One of the answers that are due leaves; then what the driver does after `resumeReading`.
        func answer(_ index: Int) {
            answers.remove(at: index)()
            while !isPaused, !input.isEmpty {
                let before = input.count
                receive()
                if input.count == before { return }
            }
        }

        func answerOne(_ random: inout SplitMix64) { answer(Int(random.next() % UInt64(answers.count))) }
    }

    /// Strings and counters, with versions that rise by every change.
    struct Store {
        struct Name: Hashable { let database: UInt8, key: Bytes }

        enum Answer {
            case ok, null, integer(Int64), data(Bytes), failed(DatabaseError)

            func encode(_ id: UInt64, _ encoder: ReplyBatchEncoder) {
                switch self {
                case .ok: encoder.ok(id)
                case .null: encoder.null(id)
                case .integer(let value): encoder.integer(id, value)
                case .data(let bytes): bytes.withView { encoder.data(id, $0) }
                case .failed(let error): encoder.error(id, error)
                }
            }

            var text: String {
                switch self {
                case .ok: "+OK\r\n"
                case .null: "$-1\r\n"
                case .integer(let value): ":\(value)\r\n"
                case .data(let bytes): "$\(bytes.count)\r\n\(String(decoding: bytes, as: UTF8.self))\r\n"
                case .failed(let error): "-ERR \(error.message)\r\n"
                }
            }
        }

        private var values: [Name: Bytes] = [:]
        private var versions: [Name: UInt64] = [:]

        func version(_ name: Name) -> UInt64 { versions[name] ?? 0 }

        mutating func set(_ name: Name, _ value: Bytes) -> Answer {
            (values[name], versions[name]) = (value, version(name) + 1)
            return .ok
        }

        func get(_ name: Name) -> Answer { values[name].map { .data($0) } ?? .null }

        mutating func increment(_ name: Name) -> Answer {
            guard let value = Int64(String(decoding: values[name] ?? Bytes("0".utf8), as: UTF8.self)) else {
                return .failed(DatabaseError(.notAnInteger, "value is not an integer or out of range"))
            }
            _ = set(name, Bytes(String(value + 1).utf8))
            return .integer(value + 1)
        }

        mutating func perform(_ call: CallSnapshot) -> Answer {
            let name = Name(database: call.database, key: call.key)
            switch call.method {
            case .get: return get(name)
            case .set: return set(name, call.arguments.first ?? [])
            case .incrementBy: return increment(name)
            default:
                Issue.record("not in the model: \(call.method)")
                return .null
            }
        }
    }

    /// A client's commands, done one by one.
    struct Model {
        var store = Store()
        private var database: UInt8 = 0
        private var queue: [[String]]?
        private var isBroken = false
        private var watched: [Store.Name: UInt64] = [:]

        mutating func perform(_ words: [String]) -> String {
            switch words[0] {
            case "NOSUCH": return refuse("ERR unknown command 'NOSUCH', with args beginning with: ")
            case "GET" where words.count == 1: return refuse("ERR wrong number of arguments for 'get' command")
            case "MULTI":
                guard queue == nil else { return "-ERR MULTI calls can not be nested\r\n" }
                queue = []
                return "+OK\r\n"
            case "EXEC": return execute()
            case "DISCARD":
                guard queue != nil else { return "-ERR DISCARD without MULTI\r\n" }
                end()
                return "+OK\r\n"
            case "WATCH":
                guard queue == nil else { return "-ERR WATCH inside MULTI is not allowed\r\n" }
                for word in words.dropFirst() where watched[name(word)] == nil {
                    watched[name(word)] = store.version(name(word))
                }
                return "+OK\r\n"
            case "HELLO" where queue != nil: return refuse("ERR Command not allowed inside a transaction")
            default:
                guard queue != nil else { return answer(words) }
                queue?.append(words)
                return "+QUEUED\r\n"
            }
        }

        private mutating func answer(_ words: [String]) -> String {
            switch words[0] {
            case "PING": return "+PONG\r\n"
            case "UNWATCH":
                watched = [:]
                return "+OK\r\n"
            case "SELECT":
                guard let number = UInt8(words[1]), number < 16 else { return "-ERR DB index is out of range\r\n" }
                database = number
                return "+OK\r\n"
            case "GET": return store.get(name(words[1])).text
            case "INCR": return store.increment(name(words[1])).text
            case "SET" where words.count == 3: return store.set(name(words[1]), Bytes(words[2].utf8)).text
            default: return "-ERR syntax error\r\n"
            }
        }

        private mutating func execute() -> String {
            guard let commands = queue else { return "-ERR EXEC without MULTI\r\n" }
            let (isBroken, isChanged) = (isBroken, watched.contains { store.version($0.key) != $0.value })
            end()
            if isBroken { return "-EXECABORT Transaction discarded because of previous errors.\r\n" }
            if isChanged { return "*-1\r\n" }
            return "*\(commands.count)\r\n" + commands.map { answer($0) }.joined()
        }

        private mutating func refuse(_ text: String) -> String {
            isBroken = queue != nil
            return "-\(text)\r\n"
        }

        private mutating func end() { (queue, isBroken, watched) = (nil, false, [:]) }

        private func name(_ key: String) -> Store.Name { Store.Name(database: database, key: Bytes(key.utf8)) }
    }

    static func command(_ random: inout SplitMix64) -> [String] {
        let key = ["a", "b", "c"][Int(random.next() % 3)]
        let choices: [[String]] = [
            ["MULTI"], ["MULTI"], ["EXEC"], ["EXEC"], ["EXEC"], ["DISCARD"], ["WATCH", key], ["WATCH", "a", key],
            ["UNWATCH"], ["GET", key], ["GET", key], ["SET", key, "\(random.next() % 50)"], ["SET", key, "text"],
            ["INCR", key], ["INCR", key], ["SET", key, "1", "FOO"], ["PING"], ["SELECT", "\(random.next() % 2)"],
            ["SELECT", "77"], ["MULTI"], ["EXEC"],
        ]
        switch random.next() % 60 {
        case 0: return ["NOSUCH"]
        case 1: return ["GET"]
        case 2: return ["HELLO", "2"]
        default: return choices[Int(random.next() % UInt64(choices.count))]
        }
    }

    @Test("the client sees what it would see of commands one by one", arguments: 0..<150 as Range<UInt64>)
    func model(_ seed: UInt64) {
        var random = SplitMix64(seed: seed)
        let shard = Shard()
        var model = Model(), stream: Bytes = [], expected = ""
        for _ in 0..<400 {
            let words = Self.command(&random)
            let answer = model.perform(words)
            guard words[0] != "HELLO" || answer.hasPrefix("-ERR Command not") else { continue }  // Not in the model.
            stream += StoryRunner.encode(words.map { Bytes($0.utf8) })
            expected += answer
        }
        let isByteByByte = seed % 3 == 0
        var sent = 0
        while sent < stream.count || shard.isBusy {
            if sent < stream.count, !shard.isBusy || random.next() % 3 == 0 {
                let piece = isByteByByte ? 1 : min(Int(random.next() % 300) + 1, stream.count - sent)
                shard.receive(Bytes(stream[sent..<sent + piece]))
                sent += piece
            } else {
                shard.answerOne(&random)
            }
        }
        #expect(String(decoding: shard.output.readable, as: UTF8.self) == expected, "seed \(seed)")
        #expect(shard.session.inFlight == 0 && shard.input.isEmpty)
    }

    @Test("behind a call over several shards everything waits for its answer")
    func held() {
        let shard = Shard()
        shard.heldKey = Bytes("far".utf8)
        shard.receive(
            Self.encode("SET", "near", "1") + Self.encode("SET", "far", "2") + Self.encode("GET", "near")
                + Self.encode("GET", "far"))
        #expect(shard.dueAnswers == 2 && shard.isPaused)
        shard.answer(1)
        #expect(shard.dueAnswers == 3 && shard.isPaused)  // Now for the GET of the far key.
        while shard.isBusy { shard.answer(0) }
        #expect(String(decoding: shard.output.readable, as: UTF8.self) == "+OK\r\n+OK\r\n$1\r\n1\r\n$1\r\n2\r\n")
        #expect(!shard.isPaused && shard.input.isEmpty)
    }

    static func encode(_ words: String...) -> Bytes { StoryRunner.encode(words.map { Bytes($0.utf8) }) }

    @Test("another client's write to a watched key undoes the transaction; to another key it does not")
    func race() {
        for (key, isDone) in [("w", false), ("x", true)] {
            let shard = Shard()
            shard.receive(Self.encode("WATCH", "w"))
            shard.answer(0)
            _ = shard.store.set(Store.Name(database: 0, key: Bytes(key.utf8)), Bytes("theirs".utf8))
            shard.receive(Self.encode("MULTI") + Self.encode("SET", "w", "ours") + Self.encode("EXEC"))
            shard.answer(0)
            let text = String(decoding: shard.output.readable, as: UTF8.self)
            #expect(text == "+OK\r\n+OK\r\n+QUEUED\r\n" + (isDone ? "*1\r\n+OK\r\n" : "*-1\r\n"))
        }
    }

    @Test("a transaction has a bounded number of commands and of bytes, and those beyond it spoil it")
    func bounds() {
        let tooMany = Shard()
        tooMany.receive(Self.encode("MULTI"))
        for _ in 0..<65536 { tooMany.receive(Self.encode("GET", "k")) }
        tooMany.output.removeAll()
        tooMany.receive(Self.encode("GET", "k") + Self.encode("GET", "k") + Self.encode("EXEC"))
        let refused =
            "-ERR A transaction has at most 65536 commands\r\n+QUEUED\r\n"
            + "-EXECABORT Transaction discarded because of previous errors.\r\n"
        #expect(String(decoding: tooMany.output.readable, as: UTF8.self) == refused)

        let tooLarge = Shard(), value = String(repeating: "x", count: 7 << 20)
        tooLarge.receive(Self.encode("MULTI"))
        for _ in 0..<9 { tooLarge.receive(Self.encode("SET", "k", value)) }
        tooLarge.output.removeAll()
        tooLarge.receive(Self.encode("SET", "k", value) + Self.encode("EXEC"))
        let large =
            "-ERR The commands of a transaction have at most 67108864 bytes\r\n"
            + "-EXECABORT Transaction discarded because of previous errors.\r\n"
        #expect(String(decoding: tooLarge.output.readable, as: UTF8.self) == large)
    }

    @Test("the number of watched keys is bounded, too")
    func watchBounds() {
        let shard = Shard()
        shard.receive(StoryRunner.encode([Bytes("WATCH".utf8)] + (0..<16384).map { Bytes("k\($0)".utf8) }))
        shard.answer(0)
        shard.receive(Self.encode("WATCH", "k7"))
        shard.receive(Self.encode("WATCH", "other"))
        let text = String(decoding: shard.output.readable, as: UTF8.self)
        #expect(text == "+OK\r\n+OK\r\n-ERR A client watches at most 16384 keys of 4194304 bytes\r\n")
    }

    @Test("whatever comes between MULTI and EXEC, nothing traps; all is answered", arguments: 0..<40 as Range<UInt64>)
    func everyCommand(_ seed: UInt64) {
        let odd = ["", "x", "0", "-1", "9223372036854775807", "GET", "u8", "#1", "*", "keyspace"]
        var random = SplitMix64(seed: seed)
        for command in CommandTable.standard.commands where !["quit", "reset", "exec"].contains(command.name) {
            for name in [[command.name]] + command.subcommands.map({ [command.name, String($0.lastName)] }) {
                let words = name + (0..<random.next() % 5).map { _ in odd[Int(random.next() % UInt64(odd.count))] }
                let story = StoryRunner()
                story.play("> MULTI")
                story.play("> PING")
                story.play("> " + words.map { "\"\($0)\"" }.joined(separator: " "))
                story.play("> EXEC")
                let lines = story.takeOutcome(), text = lines.joined(separator: "\n")
                guard command.name != "discard" || words.count > 1 else { continue }
                let isRefused = text.contains("send -EXECABORT Transaction discarded because of previous")
                let isDone = text.contains("send *2") && text.contains("send +PONG")
                let isSent = text.contains("execute #1\n  ")
                let isNested = (command.name == "multi" || command.name == "watch") && text.contains("send *1")
                #expect(isRefused || isDone || isSent || isNested, "\(words): \(text)")
            }
        }
    }
}
