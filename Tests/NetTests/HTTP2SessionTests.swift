import Base
import Net
import Testing

@Suite("HTTP2Session")
struct HTTP2SessionTests {
    @Test("carries a request, its data, a response and trailers", arguments: Delivery.allCases)
    func roundTrip(_ delivery: Delivery) throws {
        let link = try SessionLink()
        link.server.onOpen = { _, recorder in
            recorder.onEnd = { stream in
                stream.respond(okHeaders(), endsStream: false)
                stream.write(recorder.data.reversed())
                stream.end(trailers: grpcTrailers())
            }
        }
        let (stream, recorder) = try link.request("/a/b", extra: [("x-name", "värde")])
        stream.write([1, 2, 3])
        stream.write([4, 5])
        stream.end()
        link.settle(delivery)

        let opened = try #require(link.server.opened.first)
        #expect(opened.headers.text(of: ":path") == "/a/b")
        #expect(opened.headers.text(of: "x-name") == "värde")
        #expect(opened.headers.value(of: "absent") == nil)
        #expect(opened.recorder.data == [1, 2, 3, 4, 5])
        #expect(opened.recorder.ended)
        #expect(opened.recorder.closed == [.noError])
        #expect(recorder.data == [5, 4, 3, 2, 1])
        #expect(recorder.headers.count == 2)
        #expect(recorder.headers.last?.text(of: "grpc-status") == "0")
        #expect(recorder.closed == [.noError])
        #expect(link.client.session.openStreams == 0)
        #expect(link.server.session.openStreams == 0)
        #expect(link.client.settings == 1 && link.server.settings == 1)
    }

    @Test("wakes a deferred stream each time it gets output, and sends the appends of one tick as one frame")
    func deferAndResume() throws {
        let link = try SessionLink()
        link.server.onOpen = { stream, _ in stream.respond(okHeaders(), endsStream: false) }
        let (up, recorder) = try link.request()
        link.settle()
        let down = try #require(link.server.opened.first)
        for round in 1...50 {
            for part in 0..<10 { up.write([UInt8(round), UInt8(part)]) }
            let bytes = link.client.take()
            #expect(bytes.count == 9 + 20)
            link.server.feed(bytes)
            link.settle()
            down.stream.write([UInt8(round)])
            link.settle()
            #expect(down.recorder.data.count == 20 * round)
            #expect(down.recorder.chunks == round)
            #expect(recorder.data.count == round)
        }
        #expect(up.queuedBytes == 0)
        up.end()
        down.stream.end()
        link.settle()
        #expect(recorder.closed == [.noError])
    }

    @Test("streams more than every window through, and tells when output can be taken again")
    func flowControl() throws {
        var small = HTTP2Limits()
        small.streamWindow = 70_000
        small.connectionWindow = 80_000
        let link = try SessionLink(client: small, server: small)
        let (stream, recorder) = try link.request()
        link.settle()
        var generator = SplitMix64(seed: 7)
        let payload = (0..<3_000_000).map { _ in UInt8.random(in: .min ... .max, using: &generator) }
        stream.write(payload)
        #expect(!stream.isWritable)
        stream.end()
        link.settle()
        let opened = try #require(link.server.opened.first)
        #expect(opened.recorder.data == payload)
        #expect(opened.recorder.ended)
        #expect(stream.isWritable)
        #expect(recorder.drains == 1)
    }

    @Test("uses large frames and windows once the peer has announced them")
    func largeFrames() throws {
        let link = try SessionLink()
        let (stream, _) = try link.request()
        link.settle()
        stream.write(Bytes(repeating: 7, count: 3 << 20))
        let bytes = link.client.take()
        #expect(bytes.count == 3 << 20 + 3 * 9)
        link.server.feed(bytes)
        #expect(link.server.opened.first?.recorder.data.count == 3 << 20)
    }

    @Test("stops draining at the limit and goes on where it stopped")
    func boundedDrain() throws {
        let link = try SessionLink()
        let (stream, _) = try link.request()
        link.settle()
        stream.write(Bytes(repeating: 7, count: 3_500_000))
        stream.end()
        var rounds = 0
        while link.client.session.wantsWrite, rounds < 100 {
            let bytes = link.client.take(upTo: 1000)
            rounds += 1
            link.server.feed(bytes)
        }
        #expect(rounds == 4)
        #expect(link.server.opened.first?.recorder.data.count == 3_500_000)
        #expect(link.server.opened.first?.recorder.ended == true)
    }

    @Test("reports a reset to both ends, once")
    func reset() throws {
        let link = try SessionLink()
        let (stream, recorder) = try link.request()
        link.settle()
        stream.write(Bytes(repeating: 1, count: 100))
        stream.reset(.cancel)
        stream.reset(.cancel)
        link.settle()
        #expect(recorder.closed == [.cancel])
        #expect(link.server.opened.first?.recorder.closed == [.cancel])
        #expect(!stream.isOpen)
        stream.write([1])  // Harmless after the end.
        link.settle()
    }

    @Test("ends the request of a client that the server has answered early")
    func earlyAnswer() throws {
        let link = try SessionLink()
        link.server.onOpen = { stream, _ in stream.respond(okHeaders(), endsStream: true) }
        let (stream, recorder) = try link.request()
        stream.write([1])
        link.settle()
        #expect(recorder.headers.count == 1)
        #expect(recorder.closed == [.noError])
        #expect(link.server.session.openStreams == 0)
    }

    @Test("lets open streams finish after GOAWAY and refuses later ones")
    func goAway() throws {
        let link = try SessionLink()
        let (_, first) = try link.request()
        link.settle()
        link.server.session.goAway()
        let (_, second) = try link.request()
        link.client.feed(link.server.take())
        link.settle()
        #expect(link.client.goAways == [.noError])
        #expect(second.closed == [.refusedStream])
        let opened = try #require(link.server.opened.first)
        opened.stream.respond(okHeaders(), endsStream: true)
        link.settle()
        #expect(first.closed == [.noError])
        #expect(link.client.session.isFinished)
        #expect(link.server.session.isFinished)
    }

    @Test("closes every stream when the connection is lost")
    func abort() throws {
        let link = try SessionLink()
        let recorders = try (0..<3).map { _ in try link.request().1 }
        link.settle()
        link.client.session.abort(.connectError)
        #expect(recorders.map(\.closed) == [[.connectError], [.connectError], [.connectError]])
        link.client.feed([0, 0, 0])
        #expect(link.client.take().isEmpty)
        #expect(link.client.session.isFinished)
        #expect(throws: HTTP2Failure.self) { try link.request() }
    }

    @Test("answers pings")
    func ping() throws {
        let link = try SessionLink()
        link.settle()
        link.client.session.ping()
        link.settle()
        #expect(link.client.pings == 1)
    }

    @Test("survives a handler that drops the connection from inside")
    func abortInside() throws {
        let link = try SessionLink()
        link.server.onOpen = { [server = link.server] _, _ in server.session.abort(.cancel) }
        let (stream, recorder) = try link.request()
        stream.write([1, 2, 3])
        stream.end()
        link.settle()
        #expect(link.server.session.isFinished)
        link.client.session.abort(.connectError)
        #expect(recorder.closed == [.connectError])
    }
}
