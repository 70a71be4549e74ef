import Base
import Net
import Testing

@Suite("gRPC encodings and hostile input")
struct GRPCHostileTests {
    @Test(
        "percent-encodes status messages",
        arguments: ["", "plain", "100 %", "ä\n\0", "%41", String(repeating: "x", count: 50)])
    func percent(_ text: String) {
        let encoded = PercentEncoding.encode(text)
        #expect(encoded.allSatisfy { (0x20...0x7e).contains($0) })
        #expect(PercentEncoding.decode(encoded) == text)
    }

    @Test("keeps broken escapes as they are", arguments: ["%", "%4", "%zz", "a%"])
    func brokenEscapes(_ text: String) {
        #expect(PercentEncoding.decode(Bytes(text.utf8)) == text)
    }

    @Test("reads and writes timeouts")
    func timeouts() {
        #expect(GRPCTimeout.encode(1) == "1n")
        #expect(GRPCTimeout.encode(99_999_999) == "99999999n")
        #expect(GRPCTimeout.encode(100_000_001) == "100001u")
        #expect(GRPCTimeout.encode(.max) == "5124096H")
        #expect(GRPCTimeout.decode("250m") == 250_000_000)
        #expect(GRPCTimeout.decode("99999999H") == .max)
        for text in ["", "m", "5", "-5m", "+5m", "5 m", "123456789m", "5x", "5ms", "٥m"] {
            #expect(GRPCTimeout.decode(text) == nil, "\(text)")
        }
        for value in [1, 7, 999_999_999, 1_000_000_001, 86_400_000_000_000] as [UInt64] {
            #expect(GRPCTimeout.decode(GRPCTimeout.encode(value)).map { $0 >= value } == true)
        }
    }

    @Test("reads base64 with and without padding, and nothing else")
    func base64() {
        var generator = SplitMix64(seed: 5)
        for size in 0..<50 {
            let bytes = generator.bytes(size)
            let text = MetadataBase64.encode(bytes)
            #expect(MetadataBase64.decode(text) == bytes)
            #expect(
                MetadataBase64.decode(text + Bytes(repeating: UInt8(ascii: "="), count: (4 - text.count % 4) % 4))
                    == bytes)
        }
        #expect(MetadataBase64.encode([0xfb, 0xff]) == Bytes("+/8".utf8))
        for text in ["A", "AAAAA", "AA=A", "A A", "AA===", "ä"] {
            #expect(MetadataBase64.decode(text.utf8) == nil, "\(text)")
        }
    }

    /// A client's bytes over a few calls of each kind.
    private func conversation() throws -> Bytes {
        let link = try CallLink()
        _ = link.serve("/t.T/Echo")
        var all: Bytes = []
        for round in 0..<6 {
            var metadata = GRPCMetadata()
            metadata.add("x-data-bin", binary: [1, 2, UInt8(round)])
            let deadline = round % 2 == 0 ? UInt64.max : link.client.now + 1_000_000_000
            let path = round == 3 ? "/t.T/None" : round == 4 ? "/t.T/One" : "/t.T/Echo"
            let (stream, _) = try link.open(path, metadata: metadata, deadline: deadline)
            for size in 0..<round { stream.send(Bytes(repeating: 7, count: size * 40)) }
            if round % 2 == 0 { stream.end() }
            let bytes = link.client.take()
            all += bytes
            if round == 5 { stream.cancel() }
        }
        return all + link.client.take()
    }

    /// A server that echoes; `recorders` collects the handler of every call.
    private func server(_ recorders: Recorders) throws -> ConnectionEnd {
        let services = GRPCServices()
        services.register(path: "/t.T/Echo") { stream in
            let recorder = CallRecorder()
            recorders.all.append(recorder)
            recorder.onMessage = { stream.send($0) }
            recorder.onEnd = { stream.finish(.ok) }
            return recorder
        }
        services.registerUnary(path: "/t.T/One") { request, call in call.reply(request.bytes) }
        return try ConnectionEnd(services, GRPCLimits())
    }

    private final class Recorders { var all: [CallRecorder] = [] }

    @Test("takes corrupted bytes without a trap, and ends every call once", arguments: [UInt64(11), 12, 13, 14])
    func corrupted(_ seed: UInt64) throws {
        let original = try conversation()
        var generator = SplitMix64(seed: seed)
        for _ in 0..<500 {
            let recorders = Recorders()
            let server = try server(recorders)
            var bytes = original
            for _ in 0..<Int.random(in: 1...6, using: &generator) {
                let position = Int.random(in: 24..<bytes.count, using: &generator)
                bytes[position] = UInt8.random(in: .min ... .max, using: &generator)
            }
            for piece in pieces(bytes, .randomPieces, &generator) {
                server.feed(piece)
                _ = server.take()
            }
            server.connection?.lose(GRPCStatus(.unavailable))
            #expect(recorders.all.allSatisfy { $0.closed.count == 1 }, "seed \(seed)")
        }
    }

    @Test("takes truncated bytes without a trap, and ends every call once")
    func truncated() throws {
        let original = try conversation()
        for length in 0..<original.count {
            let recorders = Recorders()
            let server = try server(recorders)
            server.feed(Bytes(original[..<length]))
            _ = server.take()
            server.connection?.lose(GRPCStatus(.unavailable))
            #expect(recorders.all.allSatisfy { $0.closed.count == 1 })
        }
    }

    @Test("takes a corrupted server without a trap, and ends every call once", arguments: [UInt64(21), 22, 23])
    func corruptedServer(_ seed: UInt64) throws {
        var generator = SplitMix64(seed: seed)
        for _ in 0..<200 {
            let link = try CallLink()
            _ = link.serve("/t.T/Echo") { stream, recorder in
                recorder.onMessage = { stream.send($0) }
                recorder.onEnd = { stream.finish(GRPCStatus(.notFound, "ä")) }
            }
            var recorders: [CallRecorder] = []
            for round in 0..<4 {
                let (stream, recorder) = try link.open(round == 2 ? "/t.T/None" : "/t.T/Echo")
                stream.send(Bytes(repeating: 1, count: 30 * round))
                if round % 2 == 0 { stream.end() }
                recorders.append(recorder)
            }
            link.server.feed(link.client.take())
            var bytes = link.server.take()
            for _ in 0..<Int.random(in: 1...6, using: &generator) {
                let position = Int.random(in: 0..<bytes.count, using: &generator)
                bytes[position] = UInt8.random(in: .min ... .max, using: &generator)
            }
            for piece in pieces(bytes, .randomPieces, &generator) {
                link.client.feed(piece)
                _ = link.client.take()
            }
            link.client.connection?.lose(GRPCStatus(.unavailable))
            #expect(recorders.allSatisfy { $0.closed.count == 1 }, "seed \(seed)")
        }
    }
}
