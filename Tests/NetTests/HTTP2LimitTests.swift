import Base
import Net
import Testing

@Suite("HTTP2 limits and hostile input")
struct HTTP2LimitTests {
    @Test("refuses streams above the limit")
    func concurrentStreams() throws {
        var limits = HTTP2Limits()
        limits.concurrentStreams = 2
        let link = try SessionLink(server: limits)
        let recorders = try (0..<3).map { _ in try link.request().1 }
        link.settle()
        #expect(link.server.opened.count == 2)
        // The client holds the third back, or had it refused when it did not know the limit yet.
        #expect(recorders[2].closed == [] || recorders[2].closed == [.refusedStream])
    }

    @Test("resets a stream whose header list is too large, and only that")
    func headerList() throws {
        let link = try SessionLink()
        let (_, small) = try link.request()
        let fields = (0..<200).map { ("x-\($0)", String(repeating: "v", count: 100)) }
        let (_, large) = try link.request(extra: fields)
        link.settle()
        #expect(large.closed == [.enhanceYourCalm])
        #expect(small.closed == [])
        #expect(link.server.opened.count == 1)
        let (_, next) = try link.request("/next")
        link.settle()
        #expect(next.closed == [])
        #expect(link.server.opened.last?.headers.text(of: ":path") == "/next")
    }

    /// Opens and resets `count` streams at `now`.
    private func rapidly(_ count: Int, _ link: SessionLink, now: UInt64) {
        for _ in 0..<count {
            guard let (stream, _) = try? link.request() else { break }
            link.server.feed(link.client.take(), now: now)
            stream.reset(.cancel)
            link.server.feed(link.client.take(), now: now)
        }
        link.settle(now: now)
    }

    @Test("ends the connection of a client that opens and resets rapidly")
    func rapidReset() throws {
        var limits = HTTP2Limits()
        limits.resetsPerSecond = 50
        let link = try SessionLink(server: limits)
        link.settle()
        rapidly(50, link, now: 1)
        rapidly(50, link, now: 2_000_000_000)  // A second later the count starts anew.
        #expect(link.client.goAways.isEmpty)
        rapidly(1, link, now: 2_000_000_001)
        #expect(link.client.goAways == [.enhanceYourCalm])
        #expect(link.server.session.isFinished)
    }

    @Test(
        "ends a connection that floods control frames",
        arguments: [
            [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8] as Bytes,  // PING
            [0, 0, 0, 4, 0, 0, 0, 0, 0],  // SETTINGS
            [0, 0, 5, 2, 0, 0, 0, 0, 3, 0, 0, 0, 0, 16],  // PRIORITY
            [0, 0, 0, 0, 0, 0, 0, 0, 1],  // empty DATA on an open stream
        ])
    func controlFlood(_ frame: Bytes) throws {
        var limits = HTTP2Limits()
        limits.controlFramesPerSecond = 100
        let link = try SessionLink(server: limits)
        _ = try link.request()
        link.settle()
        for _ in 0..<1000 where !link.server.session.isFinished {
            link.server.feed(frame)
            _ = link.server.take()
        }
        #expect(link.server.session.isFinished)
    }

    @Test("ends a connection that asks for acknowledgements and never reads them")
    func unreadAcknowledgements() throws {
        let link = try SessionLink()
        link.settle()
        for _ in 0..<300 { link.server.feed([0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]) }
        #expect(link.server.failure != nil || link.server.session.isFinished)
    }

    @Test("refuses what is not HTTP/2")
    func notHTTP2() throws {
        let server = try SessionEnd(.server)
        server.feed(Bytes("GET / HTTP/1.1\r\nHost: a\r\n\r\n".utf8))
        #expect(server.failure != nil)
    }

    /// What a client sends in a small conversation, as the corpus to damage.
    private func conversation() throws -> Bytes {
        let link = try SessionLink()
        var all: Bytes = []
        for round in 0..<4 {
            let (stream, _) = try link.request("/path/\(round)", extra: [("x-k", "v\(round)")])
            stream.write(Bytes(repeating: UInt8(round), count: 50 * round))
            if round % 2 == 0 { stream.end() }
            all += link.client.take()
            link.client.session.ping()
            if round == 3 { stream.reset(.cancel) }
            all += link.client.take()
        }
        return all
    }

    private func answeringServer() throws -> SessionEnd {
        let server = try SessionEnd(.server)
        server.onOpen = { _, recorder in
            recorder.onEnd = { stream in
                stream.respond(okHeaders(), endsStream: false)
                stream.write(recorder.data)
                stream.end(trailers: grpcTrailers())
            }
        }
        return server
    }

    @Test("takes corrupted bytes without a trap", arguments: [UInt64(1), 2, 3, 4])
    func corrupted(_ seed: UInt64) throws {
        let original = try conversation()
        var generator = SplitMix64(seed: seed)
        for _ in 0..<500 {
            let server = try answeringServer()
            var bytes = original
            for _ in 0..<Int.random(in: 1...8, using: &generator) {
                let position = Int.random(in: 0..<bytes.count, using: &generator)
                bytes[position] = UInt8.random(in: .min ... .max, using: &generator)
            }
            for piece in pieces(bytes, .randomPieces, &generator) {
                server.feed(piece)
                _ = server.take()
            }
            server.session.abort(.cancel)
            #expect(server.session.openStreams == 0)
            #expect(server.opened.allSatisfy { $0.recorder.closed.count == 1 }, "seed \(seed)")
        }
    }

    @Test("takes truncated bytes without a trap")
    func truncated() throws {
        let original = try conversation()
        for length in 0..<original.count {
            let server = try answeringServer()
            server.feed(Bytes(original[0..<length]))
            _ = server.take()
            server.session.abort(.cancel)
            #expect(server.opened.allSatisfy { $0.recorder.closed.count == 1 })
        }
    }
}
