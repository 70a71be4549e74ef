import Base
import TestKit
import Testing

import PgGateway

/// The decoders, fed every way a network can.
@Suite("PostgreSQL messages")
struct WireTests {
    static func bytes(_ number: Int32) -> Bytes { withUnsafeBytes(of: number.bigEndian) { Bytes($0) } }
    static func bytes(_ number: Int16) -> Bytes { withUnsafeBytes(of: number.bigEndian) { Bytes($0) } }
    static func text(_ text: String) -> Bytes { Bytes(text.utf8) + [0] }

    static func message(_ type: Character, _ body: Bytes) -> Bytes {
        [type.asciiValue ?? 0] + bytes(Int32(body.count + 4)) + body
    }

    static func startup(_ parameters: [(String, String)], version: Int32 = 3 << 16) -> Bytes {
        let body = bytes(version) + parameters.flatMap { text($0.0) + text($0.1) } + [0]
        return bytes(Int32(body.count + 4)) + body
    }

    static let bind =
        text("p") + text("s") + bytes(Int16(2)) + bytes(Int16(0)) + bytes(Int16(1)) + bytes(Int16(2))
        + bytes(Int32(2)) + Bytes("ab".utf8) + bytes(Int32(-1)) + bytes(Int16(1)) + bytes(Int16(1))

    static let stream: Bytes =
        message("Q", text("select 1"))
        + message("P", text("s") + text("select $1") + bytes(Int16(1)) + bytes(Int32(23)))
        + message("B", bind) + message("D", [0x53] + text("s")) + message("D", [0x50] + text("p"))
        + message("E", text("p") + bytes(Int32(7))) + message("C", [0x53] + text("s")) + message("H", [])
        + message("S", []) + message("d", [1, 2, 0]) + message("c", []) + message("f", text("no"))
        + message("F", [0, 1]) + message("X", [])

    static let expected = [
        "query select 1", "parse s select $1 [23]", "bind p s ab text,NULL binary results [binary]",
        "describe statement s", "describe portal p", "execute p 7", "close statement s", "flush", "sync",
        "copy 3", "copy done", "copy fail no", "function call", "terminate",
    ]

    static func describe(_ message: FrontendMessage) -> String {
        func text(_ view: ByteView) -> String { String(decoding: view, as: UTF8.self) }
        switch message {
        case .query(let view): return "query \(text(view))"
        case .parse(let parse): return "parse \(text(parse.name)) \(text(parse.text)) \(parse.parameterTypes)"
        case .bind(let bind):
            let values = bind.parameters.enumerated().map { index, value in
                "\(value.map(text) ?? "NULL") \(bind.parameterFormats[index])"
            }
            let results = (0..<bind.resultFormats.count).map { bind.resultFormats[$0] }
            return "bind \(text(bind.portal)) \(text(bind.statement)) \(values.joined(separator: ",")) "
                + "results [\(results.map { "\($0)" }.joined(separator: ","))]"
        case .describe(let target, let name): return "describe \(target) \(text(name))"
        case .execute(let portal, let limit): return "execute \(text(portal)) \(limit)"
        case .close(let target, let name): return "close \(target) \(text(name))"
        case .flush: return "flush"
        case .sync: return "sync"
        case .terminate: return "terminate"
        case .functionCall: return "function call"
        case .copyData(let data): return "copy \(data.count)"
        case .copyDone: return "copy done"
        case .copyFail(let reason): return "copy fail \(text(reason))"
        }
    }

    /// Feeds `pieces` one by one, keeping the unread rest, as a connection does.
    static func decode(_ pieces: [Bytes], limit: Int = 1 << 20) -> [String] {
        var buffer = ByteBuffer(capacity: 64), found: [String] = []
        for piece in pieces {
            buffer.append(piece)
            while true {
                do throws(StatementError) {
                    guard let frame = try MessageFrame.next(buffer.readable, limit: limit) else { break }
                    do throws(StatementError) {
                        found.append(describe(try FrontendMessage(frame)))
                    } catch {
                        found.append("error \(error.message)")
                    }
                    buffer.consume(frame.byteCount)
                } catch {
                    return found + ["fatal \(error.message)"]
                }
            }
        }
        return found
    }

    @Test("whole, byte by byte, and cut in two at every place")
    func pieces() {
        #expect(Self.decode([Self.stream]) == Self.expected)
        #expect(Self.decode(Self.stream.map { [$0] }) == Self.expected)
        for place in 0...Self.stream.count {
            #expect(Self.decode([Bytes(Self.stream[..<place]), Bytes(Self.stream[place...])]) == Self.expected)
        }
    }

    @Test("a truncated body is refused in PostgreSQL's words")
    func truncated() {
        for count in 0..<Self.bind.count {
            let found = Self.decode([Self.message("B", Bytes(Self.bind[..<count]))])
            let words = ["error invalid string in message", "error insufficient data left in message"]
            #expect(found.count == 1 && words.contains(found[0]), "\(count): \(found)")
        }
        #expect(Self.decode([Self.message("B", Self.bind + [0])]) == ["error invalid message format"])
        #expect(Self.decode([Self.message("S", [0])]) == ["error invalid message format"])
        #expect(Self.decode([Self.message("D", [0x58, 0])]) == ["error invalid DESCRIBE message subtype 88"])
        let formats =
            Self.text("") + Self.text("") + Self.bytes(Int16(2)) + Self.bytes(Int32(0)) + Self.bytes(Int16(1))
            + Self.bytes(Int32(-1)) + Self.bytes(Int16(0))
        #expect(
            Self.decode([Self.message("B", formats)]) == ["error bind message has 2 parameter formats but 1 parameters"]
        )
    }

    @Test("types and lengths that are none end the connection")
    func fatal() {
        #expect(Self.decode([Bytes("GET / HTTP/1.1\r\n".utf8)]) == ["fatal invalid frontend message type 71"])
        #expect(Self.decode([[0x51, 0, 0, 0, 3]]) == ["fatal invalid message length"])
        #expect(Self.decode([[0x51, 0xff, 0xff, 0xff, 0xff]]) == ["fatal invalid message length"])
        #expect(Self.decode([[0x53, 0, 0, 0x40, 0]]) == ["fatal invalid message length"], "a Sync is never long")
        #expect(Self.decode([[0x51, 0, 0, 0x40, 0]], limit: 100) == ["fatal invalid message length"])
    }

    @Test("no byte of a client reaches a trap")
    func corrupted() {
        var random = SplitMix64(seed: freshSeed("PostgreSQL messages"))
        for bytes in Damage.corruptions(of: Self.stream, count: 3_000, using: &random) {
            _ = Self.decode([bytes], limit: 1 << 16)
        }
        let start = Self.startup([("user", "orbit"), ("options", "-c a=b\\ c"), ("_pq_.x", "1")])
        for bytes in Damage.corruptions(of: start, count: 3_000, using: &random) + Damage.truncations(of: start) {
            _ = Self.readStartup(bytes)
        }
    }

    static func readStartup(_ bytes: Bytes) -> String {
        bytes.withUnsafeBytes { view in
            do throws(StartupError) {
                guard let (packet, count) = try StartupPacket.next(view) else { return "more" }
                switch packet {
                case .requestTLS: return "tls \(count)"
                case .requestGSS: return "gss \(count)"
                case .cancel(let id, let secret): return "cancel \(id) \(secret)"
                case .startup(let message):
                    let settings = message.settings.map { "\($0.name)=\($0.value)" }.joined(separator: ",")
                    return "\(message.user)@\(message.database) 3.\(message.minorVersion) \(settings) "
                        + message.unknownOptions.joined(separator: ",")
                }
            } catch {
                switch error {
                case .silent(let why): return "silent \(why)"
                case .told(let error): return "\(error)"
                }
            }
        }
    }

    @Test("start-up packets")
    func startup() {
        let full = Self.startup(
            [("user", "u"), ("database", "d"), ("options", "-c work=1\\ 2 --a-b=c -cx=y"), ("TimeZone", "UTC")],
            version: Int32(3 << 16 | 2))
        #expect(Self.readStartup(full) == "u@d 3.2 work=1 2,a_b=c,x=y,TimeZone=UTC ")
        for count in 0..<full.count { #expect(Self.readStartup(Bytes(full[..<count])) == "more") }
        #expect(Self.readStartup(Self.startup([("user", "u"), ("_pq_.a", "")])) == "u@u 3.0  _pq_.a")
        #expect(Self.readStartup(Self.bytes(Int32(8)) + Self.bytes(Int32(80_877_103))) == "tls 8")
        #expect(Self.readStartup(Self.bytes(Int32(8)) + Self.bytes(Int32(80_877_104))) == "gss 8")
        let cancel =
            Self.bytes(Int32(16)) + Self.bytes(Int32(80_877_102)) + Self.bytes(Int32(7)) + Self.bytes(Int32(-9))
        #expect(Self.readStartup(cancel) == "cancel 7 -9")
        #expect(
            Self.readStartup(Self.startup([])) == "28000: no PostgreSQL user name specified in startup packet")
        #expect(
            Self.readStartup(Self.startup([("user", "u")], version: Int32(2 << 16)))
                == "0A000: unsupported frontend protocol 2.0: server supports 3.0 to 3.0")
        #expect(Self.readStartup(Self.bytes(Int32(7))) == "silent invalid length of startup packet")
        #expect(Self.readStartup([0x16, 3, 1, 0]) == "silent invalid length of startup packet")
        #expect(
            Self.readStartup(Self.bytes(Int32(12)) + Self.bytes(Int32(3 << 16)) + Bytes("user".utf8))
                == "08P01: invalid startup packet layout: expected terminator as last byte")
    }

    static func write(_ body: (inout ByteBuffer) -> Void) -> Bytes {
        var buffer = ByteBuffer()
        body(&buffer)
        return buffer.readable.bytes
    }

    @Test("messages to the client, byte by byte")
    func backend() {
        #expect(Self.write { $0.appendReadyForQuery(.inBlock) } == Self.message("Z", [0x54]))
        #expect(
            Self.write { $0.appendCommandComplete(StatementCompletion("INSERT", rows: 3)) }
                == Self.message("C", Self.text("INSERT 0 3")))
        #expect(
            Self.write { $0.appendCommandComplete(StatementCompletion("BEGIN")) }
                == Self.message("C", Self.text("BEGIN")))
        #expect(
            Self.write { $0.appendDataRow(texts: ["ab", nil]) }
                == Self.message(
                    "D", Self.bytes(Int16(2)) + Self.bytes(Int32(2)) + Bytes("ab".utf8) + Self.bytes(Int32(-1))))
        #expect(
            Self.write { buffer in
                var error = StatementError(.uniqueViolation, "a\0b", detail: "d", hint: "h", position: 7)
                (error.schema, error.table, error.column) = ("s", "t", "c")
                (error.dataType, error.constraint) = ("y", "n")
                buffer.appendReport(.error, error)
            }
                == Self.message(
                    "E",
                    ["SERROR", "VERROR", "C23505", "Mab", "Dd", "Hh", "P7", "ss", "tt", "cc", "dy", "nn"]
                        .flatMap(Self.text) + [0]))
        #expect(Self.write { $0.appendReport(.warning, StatementError(.warning, "w")) }.first == UInt8(ascii: "N"))
        #expect(
            Self.write { $0.appendCopyBegin(.fromClient, .binary, columns: 2) }
                == Self.message("G", [1] + Self.bytes(Int16(2)) + Self.bytes(Int16(1)) + Self.bytes(Int16(1))))
    }
}
