import Base
import Contracts
import RespGateway
import Testing

/// The session against a model: whatever order answers come in and however the input is cut, the client sees what it
/// would see if every command had been answered at once.
@Suite("RESP session")
struct SessionTests {
    /// A connection with its buffers, and a node that answers when it is told to.
    final class Peer: SessionSink {
        let server = ServerState(users: UserDirectory(isOpen: true))
        let session: RESPSession
        var input = ByteBuffer(), output = ByteBuffer()
        /// Calls in flight and the key of each.
        var calls: [(token: UInt64, key: String)] = []
        var actions: [SessionAction] = []
        var isPaused = false, wasPaused = false
        var largestFlight = 0

        init() {
            guard let session = server.admit(address: "peer", localAddress: "here") else {
                fatalError("a fresh server takes a client")
            }
            self.session = session
        }

        func invoke(_ token: UInt64, _ call: CallFrame) throws(DatabaseError) {
            let key = String(decoding: call.snapshot.key, as: UTF8.self)
            if key == "refused" { throw DatabaseError(.crossShard, "Keys in request don't hash to the same slot") }
            calls.append((token, key))
            largestFlight = max(largestFlight, calls.count)
        }

        func perform(_ action: SessionAction) {
            switch action {
            case .pauseReading: (isPaused, wasPaused) = (true, true)
            case .resumeReading: isPaused = false
            case .interactive, .authenticate, .delay, .countKeys, .changeUsers, .watch, .findMoment, .execute,
                .listen, .beginPause, .endPause, .kill, .close:
                actions.append(action)
            }
        }

        func receive(_ bytes: Bytes = []) {
            input.append(bytes)
            session.receive(&input, output: &output, to: self)
        }

        /// Answers the call at `index` with `=key`, and what is to follow it.
        func answer(_ index: Int, _ padding: Bytes = []) {
            let call = calls.remove(at: index)
            let encoder = ReplyBatchEncoder()
            (Bytes("=\(call.key)".utf8) + padding).withUnsafeBytes { encoder.data(call.token, $0) }
            var frame = ByteBuffer()
            encoder.write(bookmark: .zero, mapEpoch: MapEpoch(rawValue: 0), into: &frame)
            var decoder = ReplyBatchDecoder()
            try? decoder.decode(frame.readable) { reply in
                session.complete(reply.id, reply, output: &output, to: self)
            }
            goOn()
        }

        /// What the driver does after `resumeReading`.
        func goOn() {
            while !isPaused, !input.isEmpty {
                let before = input.count
                receive()
                if input.count == before { return }
            }
        }
    }

    static func get(_ key: String) -> Bytes { Bytes("*2\r\n$3\r\nGET\r\n$\(key.utf8.count)\r\n\(key)\r\n".utf8) }

    static func value(_ key: String) -> Bytes { Bytes("$\(key.utf8.count + 1)\r\n=\(key)\r\n".utf8) }

    @Test("answers in any order, input in any pieces: the client sees its own", arguments: 0..<60 as Range<UInt64>)
    func order(_ seed: UInt64) {
        var random = SplitMix64(seed: seed)
        let peer = Peer()
        var stream: Bytes = [], expected: Bytes = []
        for number in 0..<300 {
            switch random.next() % 8 {
            case 0:
                stream += Bytes("PING\r\n".utf8)
                expected += Bytes("+PONG\r\n".utf8)
            case 1:
                stream += Bytes("nosuch\r\n".utf8)
                expected += Bytes("-ERR unknown command 'nosuch', with args beginning with: \r\n".utf8)
            case 2:
                stream += Self.get("refused")
                expected += Bytes("-CROSSSLOT Keys in request don't hash to the same slot\r\n".utf8)
            default:
                stream += Self.get("k\(number)")
                expected += Self.value("k\(number)")
            }
        }
        var sent = 0
        while sent < stream.count || !peer.calls.isEmpty {
            if sent < stream.count, random.next() % 3 == 0 || peer.calls.isEmpty {
                let piece = min(Int(random.next() % 200) + 1, stream.count - sent)
                peer.receive(Bytes(stream[sent..<sent + piece]))
                sent += piece
            } else {
                peer.answer(Int(random.next() % UInt64(peer.calls.count)))
            }
        }
        #expect(peer.output.readable.bytes == expected, "seed \(seed)")
        #expect(peer.session.inFlight == 0 && peer.input.isEmpty)
    }

    @Test("a long pipeline is held at the bound and let go at half of it")
    func pipeline() {
        let peer = Peer(), first = peer.session.callLimit
        #expect(first < RESPSession.inFlightLimit)
        // Small answers let more be under way.
        let count = first + 1000 + 3 * RESPSession.inFlightLimit
        peer.receive((0..<first + 1000).flatMap { Self.get("\($0)") })
        #expect(peer.calls.count == first && peer.isPaused)
        while !peer.calls.isEmpty { peer.answer(0) }
        #expect(peer.session.callLimit == RESPSession.inFlightLimit && !peer.isPaused)
        peer.receive((first + 1000..<count).flatMap { Self.get("\($0)") })
        #expect(peer.calls.count == RESPSession.inFlightLimit && peer.isPaused)
        for _ in 0..<RESPSession.inFlightLimit / 2 - 1 { peer.answer(0) }
        #expect(peer.isPaused)
        peer.answer(0)
        #expect(peer.calls.count == RESPSession.inFlightLimit)
        while !peer.calls.isEmpty { peer.answer(0) }
        #expect(peer.output.readable.bytes == (0..<count).flatMap { Self.value("\($0)") })
        #expect(peer.largestFlight == RESPSession.inFlightLimit)
    }

    @Test("large answers let few calls be under way, however long the pipeline", arguments: [100_000, 1_000_000])
    func largeAnswers(size: Int) {
        let peer = Peer(), first = peer.session.callLimit, count = 300
        peer.receive((0..<count).flatMap { Self.get("\($0)") })
        #expect(peer.calls.count == first)
        let padding = Bytes(repeating: 0x78, count: size)
        var answered = 0, largest = 0
        while !peer.calls.isEmpty {
            peer.answer(0, padding)
            answered += 1
            #expect(peer.output.count > size)
            peer.output.removeAll()
            if answered > first { largest = max(largest, peer.calls.count) }
        }
        #expect(answered == count && largest > 0 && largest <= RESPSession.replyBudget / size)
    }

    @Test("a client that does not read is not read from")
    func unreadOutput() {
        let peer = Peer()
        peer.output.append(Bytes(repeating: 0, count: RESPSession.outputLimit))
        peer.receive(Self.get("k"))
        #expect(peer.isPaused && peer.calls.isEmpty)
        peer.output.removeAll()
        peer.session.outputDrained(0, to: peer)
        peer.goOn()
        #expect(!peer.isPaused && peer.calls.count == 1)
    }

    @Test("the end of the input waits for the answers")
    func halfClosed() {
        let peer = Peer()
        peer.receive(Self.get("a") + Self.get("b"))
        peer.session.inputEnded(peer.output.count, to: peer)
        #expect(peer.actions.isEmpty)
        peer.answer(1)
        #expect(peer.actions.isEmpty)
        peer.answer(0)
        #expect(peer.actions == [.close])
        #expect(peer.output.readable.bytes == Self.value("a") + Self.value("b"))
    }

    @Test("an idle client that hangs up is let go at once")
    func idleHangUp() {
        let peer = Peer()
        peer.session.inputEnded(0, to: peer)
        #expect(peer.actions == [.close])
    }

    @Test("random bytes: nothing traps, and everything is answered", arguments: 0..<300 as Range<UInt64>)
    func noise(_ seed: UInt64) {
        var random = SplitMix64(seed: seed)
        let peer = Peer()
        let words = [
            "*", "$", "3", "-1", "\r\n", "GET", "SET", " ", "\"", "AUTH", "HELLO", "\u{0}", "99999999999", "BITFIELD",
        ]
        for _ in 0..<50 {
            var bytes: Bytes = []
            for _ in 0..<random.next() % 30 { bytes += Bytes(words[Int(random.next() % UInt64(words.count))].utf8) }
            if random.next() % 4 == 0 { bytes.append(UInt8(truncatingIfNeeded: random.next())) }
            peer.receive(bytes)
            while !peer.calls.isEmpty { peer.answer(0) }
        }
        #expect(peer.session.inFlight <= 1, "seed \(seed)")
    }

    @Test("every command with too few, too many and odd words is refused or sent, and nothing traps")
    func everyCommand() {
        let odd = ["", "x", "0", "-1", "9223372036854775807", "\"", "nosuch", "GET", "(", "u8", "#1", "*"]
        var random = SplitMix64(seed: 7)
        for command in CommandTable.standard.commands where command.name != "quit" {
            let names = [[command.name]] + command.subcommands.map { [command.name, String($0.lastName)] }
            for name in names {
                for extra in 0..<8 {
                    let peer = Peer()
                    let words = name + (0..<extra).map { _ in odd[Int(random.next() % UInt64(odd.count))] }
                    peer.receive(StoryRunner.encode(words.map { Bytes($0.utf8) }))
                    let isAnswered = !peer.output.isEmpty || !peer.calls.isEmpty || !peer.actions.isEmpty
                    #expect(isAnswered || command.name == "client", "\(words)")
                }
            }
        }
    }
}

@Suite("Command table")
struct CommandTableTests {
    @Test("every command is found by its name in any case, and nothing else is")
    func lookup() {
        let table = CommandTable.standard
        func index(_ name: String) -> Int? { Array(name.utf8).withUnsafeBytes { table.index(of: $0) } }
        for (number, command) in table.commands.enumerated() {
            #expect(index(command.name) == number)
            #expect(index(command.name.uppercased()) == number)
            #expect(index(command.name + "\u{0}") == nil)
            #expect(index(String(command.name.dropLast())) != number)
        }
        #expect(index("") == nil && index("averyveryverylongname") == nil)
        #expect(Set(table.commands.map(\.name)).count == table.commands.count)
    }

    @Test("patterns")
    func patterns() {
        let cases: [(String, String, Bool)] = [
            ("*", "", true), ("*", "abc", true), ("a*c", "abbbc", true), ("a*c", "abbb", false), ("a?c", "abc", true),
            ("a?c", "ac", false), ("[a-c]x", "bx", true), ("[a-c]x", "dx", false), ("[^a]x", "bx", true),
            ("[^a]x", "ax", false), ("\\*", "*", true), ("\\*", "a", false), ("[\\]]", "]", true), ("", "", true),
            ("", "a", false), ("a*b*c*d", "a1b2c3d", true), ("[c-a]", "b", true), ("[a", "a", true),
            ("**a**", "a", true),
        ]
        for (pattern, text, matches) in cases {
            let result = Array(pattern.utf8).withUnsafeBytes { pattern in
                Array(text.utf8).withUnsafeBytes { Glob.matches(pattern, $0) }
            }
            #expect(result == matches, "\(pattern) on \(text)")
        }
    }

    @Test("a pattern cannot make matching explode")
    func patternCost() {
        let pattern = Bytes(String(repeating: "*a", count: 200).utf8) + Bytes("b".utf8)
        let text = Bytes(repeating: UInt8(ascii: "a"), count: 20_000)
        let isMatch = pattern.withUnsafeBytes { pattern in text.withUnsafeBytes { Glob.matches(pattern, $0) } }
        #expect(!isMatch)
    }
}
