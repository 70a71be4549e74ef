import Base
import RespGateway
import Testing

/// The parser, fed every way a network can.
@Suite("RESP parser")
struct ParserTests {
    enum Item: Equatable { case command([Bytes]), failure(RESPProtocolError) }

    /// Feeds `pieces` one by one, keeping the unread rest, as a connection does.
    static func parse(
        _ pieces: [Bytes], limits: RESPLimits = RESPLimits(), isAuthenticated: Bool = true
    ) -> [Item] {
        let parser = RESPParser()
        var buffer = ByteBuffer(capacity: 64), items: [Item] = []
        for piece in pieces {
            buffer.append(piece)
            var start = 0
            let bytes = buffer.mutableReadable
            while start < bytes.count {
                let rest = UnsafeMutableRawBufferPointer(rebasing: bytes[start...])
                do throws(RESPProtocolError) {
                    guard try parser.parse(rest, limits: limits, isAuthenticated: isAuthenticated) == .command else {
                        break
                    }
                } catch {
                    return items + [.failure(error)]
                }
                if let base = rest.baseAddress {
                    let words = parser.words(at: UnsafeRawPointer(base))
                    items.append(.command((0..<words.count).map { words[$0].bytes }))
                }
                start += parser.consumed
            }
            buffer.consume(start)
        }
        return items
    }

    static func command(_ words: String...) -> Item { .command(words.map { Bytes($0.utf8) }) }

    static let stream: Bytes = Bytes(
        ("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n" + "PING \"a b\\x41\\n\" 'it\\'s'\r\n" + "*0\r\n" + "\r\n"
            + "*-1\r\n" + "*1\r\n$5\r\nab\r\nc\r\n" + "GET  k\n"
            + "*2\r\n$3\r\nGET\r\n$20\r\n01234567890123456789\r\n").utf8)

    static let expected: [Item] = [
        command("SET", "k", ""), command("PING", "a bA\n", "it's"), .command([]), .command([]), .command([]),
        command("ab\r\nc"), command("GET", "k"), command("GET", "01234567890123456789"),
    ]

    @Test("whole")
    func whole() { #expect(Self.parse([Self.stream]) == Self.expected) }

    @Test("byte by byte")
    func byteByByte() { #expect(Self.parse(Self.stream.map { [$0] }) == Self.expected) }

    @Test("cut in two at every place")
    func cut() {
        for place in 0...Self.stream.count {
            let pieces = [Bytes(Self.stream[..<place]), Bytes(Self.stream[place...])]
            #expect(Self.parse(pieces) == Self.expected, "cut at \(place)")
        }
    }

    @Test("truncated at every place: never more than the complete commands")
    func truncated() {
        for place in 0..<Self.stream.count {
            let items = Self.parse([Bytes(Self.stream[..<place])])
            #expect(items.count <= Self.expected.count && items == Array(Self.expected.prefix(items.count)))
        }
    }

    @Test("corrupted: whole and in pieces agree, and nothing traps", arguments: 0..<200 as Range<UInt64>)
    func corrupted(_ seed: UInt64) {
        var random = SplitMix64(seed: seed)
        var bytes = Self.stream
        for _ in 0...random.next() % 4 {
            bytes[Int(random.next() % UInt64(bytes.count))] = UInt8(truncatingIfNeeded: random.next())
        }
        let whole = Self.parse([bytes])
        #expect(Self.parse(bytes.map { [$0] }) == whole, "seed \(seed)")
    }

    @Test("limits and malformed input answer in Redis' words")
    func failures() {
        let cases: [(String, String)] = [
            ("*x\r\n", "Protocol error: invalid multibulk length"),
            ("*99999999999\r\n", "Protocol error: invalid multibulk length"),
            ("*1\r\n$-1\r\n", "Protocol error: invalid bulk length"),
            ("*1\r\n$03\r\n", "Protocol error: invalid bulk length"),
            ("*1\r\n$99999999\r\n", "Protocol error: invalid bulk length"),
            ("*1\r\n:3\r\n", "Protocol error: expected '$', got ':'"),
            ("*1\r\n\r\n", "Protocol error: expected '$', got ' '"),
            ("SET \"a\r\n", "Protocol error: unbalanced quotes in request"),
            ("SET \"a\"b\r\n", "Protocol error: unbalanced quotes in request"),
            (String(repeating: "a", count: 70_000), "Protocol error: too big inline request"),
            ("*" + String(repeating: "1", count: 70_000), "Protocol error: too big mbulk count string"),
            ("*1\r\n$" + String(repeating: "1", count: 70_000), "Protocol error: too big bulk count string"),
        ]
        for (input, message) in cases {
            guard case .failure(let error)? = Self.parse([Bytes(input.utf8)]).last else {
                Issue.record("\(input.prefix(20)) was accepted")
                continue
            }
            #expect(error.message == message, "\(input.prefix(20))")
        }
    }

    @Test("before login the limits are small")
    func unauthenticated() {
        func failure(_ input: String) -> String? {
            let items = Self.parse([Bytes(input.utf8)], limits: .unauthenticated, isAuthenticated: false)
            guard case .failure(let error)? = items.last else { return nil }
            return error.message
        }
        #expect(failure("*11\r\n") == "Protocol error: unauthenticated multibulk length")
        #expect(failure("*10\r\n") == nil)
        #expect(failure("*1\r\n$16385\r\n") == "Protocol error: unauthenticated bulk length")
        #expect(failure("*1\r\n$16384\r\n") == nil)
    }

    @Test("a large bulk in small pieces is not scanned again and again")
    func largeBulk() {
        let payload = Bytes(repeating: 13, count: 4 << 20)
        var pieces: [Bytes] = [Bytes("*2\r\n$4\r\nECHO\r\n$\(payload.count)\r\n".utf8)]
        var start = 0
        while start < payload.count {
            pieces.append(Bytes(payload[start..<min(start + 1000, payload.count)]))
            start += 1000
        }
        pieces.append([13, 10])
        #expect(Self.parse(pieces) == [.command([Bytes("ECHO".utf8), payload])])
    }

    @Test("numbers have one spelling")
    func decimals() {
        let cases: [(String, Int64?)] = [
            ("0", 0), ("7", 7), ("-7", -7), ("9223372036854775807", .max), ("-9223372036854775808", .min),
            ("9223372036854775808", nil), ("-9223372036854775809", nil), ("", nil), ("-", nil), ("+1", nil),
            ("01", nil), ("-0", nil), (" 1", nil), ("1 ", nil), ("1a", nil), ("99999999999999999999", nil),
        ]
        for (text, value) in cases {
            #expect(Bytes(text.utf8).withUnsafeBytes { ByteView($0).decimal } == value, "\(text)")
        }
    }
}
