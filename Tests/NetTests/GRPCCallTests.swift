import Base
import Net
import Testing

@Suite("gRPC calls")
struct GRPCCallTests {
    @Test("answers a unary call", arguments: Delivery.allCases)
    func unary(_ delivery: Delivery) throws {
        let link = try CallLink()
        link.services.registerUnary(path: "/t.T/Reverse") { request, call in call.reply(request.bytes.reversed()) }
        let (stream, recorder) = try link.open("/t.T/Reverse")
        stream.send([1, 2, 3])
        stream.end()
        link.settle(delivery)
        #expect(recorder.messages == [[3, 2, 1]])
        #expect(recorder.closed == [.ok])
        #expect(recorder.ended)
        #expect(link.client.isReady && link.server.isReady)
        #expect(link.client.connection?.openCalls == 0)
        #expect(link.server.connection?.openCalls == 0)
    }

    @Test("carries messages of every size both ways on one stream", arguments: Delivery.allCases)
    func bidirectional(_ delivery: Delivery) throws {
        let link = try CallLink()
        let served = link.serve("/t.T/Echo") { stream, recorder in
            recorder.onMessage = { message in stream.send(message) }
            recorder.onEnd = { stream.finish(.ok) }
        }
        let (stream, recorder) = try link.open("/t.T/Echo")
        var generator = SplitMix64(seed: 3)
        var sent: [Bytes] = []
        for size in [0, 1, 4, 5, 6, 100, 1000, 20_000] {
            for _ in 0..<3 {
                let message = generator.bytes(size)
                sent.append(message)
                #expect(stream.send(message))
            }
            link.settle(delivery)
        }
        #expect(recorder.messages == sent)
        #expect(recorder.closed.isEmpty)
        stream.end()
        #expect(!stream.send([1]))
        link.settle(delivery)
        #expect(recorder.closed == [.ok])
        #expect(served.calls[0].recorder.messages == sent)
        #expect(served.calls[0].recorder.closed == [.ok])
        #expect(!served.calls[0].stream.send([1]))
    }

    @Test("sends everything of one tick in one frame")
    func oneFrame() throws {
        let link = try CallLink()
        let served = link.serve("/t.T/Sink")
        let (stream, _) = try link.open("/t.T/Sink")
        link.settle()
        for index in 0..<100 { stream.send(Bytes(repeating: UInt8(index), count: 200)) }
        #expect(link.client.take().count == 9 + 100 * 205)
        #expect(served.calls.count == 1)
    }

    @Test("streams from the server and hands on trailers-only endings")
    func serverStreaming() throws {
        let link = try CallLink()
        _ = link.serve("/t.T/Count") { stream, recorder in
            recorder.onEnd = {
                for value in 0..<5 { stream.send([UInt8(value)]) }
                stream.finish(.ok)
            }
        }
        let (stream, recorder) = try link.open("/t.T/Count")
        stream.send([])
        stream.end()
        let (_, unknown) = try link.open("/t.T/Unknown")
        link.settle()
        #expect(recorder.messages == [[0], [1], [2], [3], [4]])
        #expect(recorder.closed == [.ok])
        #expect(unknown.closed.map(\.code) == [.unimplemented])
        #expect(unknown.messages.isEmpty)
    }

    @Test("carries a status message of any text, and metadata both ways")
    func statusAndMetadata() throws {
        let link = try CallLink()
        var seen: GRPCMetadata?
        _ = link.serve("/t.T/Fail") { stream, _ in
            seen = stream.metadata
            var headers = GRPCMetadata()
            headers.add("x-answer", "yes")
            stream.sendHeaders(headers)
            stream.finish(GRPCStatus(.notFound, "Schlüssel „k%“\nfehlt"))
        }
        var metadata = GRPCMetadata()
        let accepted = [
            metadata.add("x-name", "value with spaces"), metadata.add("x-data-bin", binary: [0, 255, 10]),
            metadata.add("X-Upper", "v"), metadata.add("x-text", "line\nbreak"), metadata.add("grpc-status", "0"),
            metadata.add("x-data-bin", "text"),
        ]
        #expect(accepted == [true, true, false, false, false, false])
        let (_, recorder) = try link.open("/t.T/Fail", metadata: metadata)
        link.settle()
        #expect(seen?.text("x-name") == "value with spaces")
        #expect(seen?.binary("x-data-bin") == [0, 255, 10])
        #expect(recorder.headers?.text("x-answer") == "yes")
        #expect(recorder.closed == [GRPCStatus(.notFound, "Schlüssel „k%“\nfehlt")])
    }

    @Test("ends the other side of a cancelled call")
    func cancellation() throws {
        let link = try CallLink()
        let served = link.serve("/t.T/Wait")
        let (stream, recorder) = try link.open("/t.T/Wait")
        stream.send([1])
        link.settle()
        stream.cancel()
        #expect(recorder.closed.map(\.code) == [.cancelled])
        link.settle()
        #expect(served.calls[0].recorder.closed.map(\.code) == [.cancelled])
        #expect(!stream.send([2]))
        #expect(link.server.connection?.openCalls == 0)
    }

    @Test("lets a handler cancel from within a message")
    func cancelInside() throws {
        let link = try CallLink()
        _ = link.serve("/t.T/Many") { stream, _ in
            for value in 0..<5 { stream.send([UInt8(value)]) }
        }
        let (stream, recorder) = try link.open("/t.T/Many")
        recorder.onMessage = { _ in stream.cancel() }
        link.settle()
        #expect(recorder.messages == [[0]])
        #expect(recorder.closed.map(\.code) == [.cancelled])
    }

    @Test("keeps the deadline on both sides")
    func deadlines() throws {
        let link = try CallLink()
        let served = link.serve("/t.T/Wait")
        let now = link.client.now
        let (_, recorder) = try link.open("/t.T/Wait", deadline: now + 300_000_000)
        link.settle()
        #expect(served.calls[0].stream.deadline == link.server.now + 300_000_000)
        link.server.advance(to: now + 301_000_000)
        #expect(served.calls[0].stream.isFinished)
        link.client.advance(to: now + 301_000_000)
        #expect(recorder.closed.map(\.code) == [.deadlineExceeded])
        link.settle()
        #expect(served.calls[0].recorder.closed.count == 1)

        // A client that does not watch its clock is told by the server.
        let late = try link.open("/t.T/Wait", deadline: link.client.now + 300_000_000).1
        link.settle()
        link.server.advance(to: link.server.now + 301_000_000)
        link.settle()
        #expect(late.closed.map(\.code) == [.deadlineExceeded])
    }

    @Test("refuses a message above the limit, on either side")
    func messageLimit() throws {
        var small = GRPCLimits()
        small.messageSize = 1000
        let link = try CallLink(server: small)
        let served = link.serve("/t.T/Sink")
        let (stream, recorder) = try link.open("/t.T/Sink")
        stream.send(Bytes(repeating: 0, count: 1000))
        stream.send(Bytes(repeating: 0, count: 1001))
        link.settle()
        #expect(served.calls[0].recorder.messages.count == 1)
        #expect(recorder.closed.map(\.code) == [.resourceExhausted])

        let (other, _) = try link.open("/t.T/Sink")
        link.settle()
        #expect(!served.calls[1].stream.send(Bytes(repeating: 0, count: 1001)))
        #expect(served.calls[1].stream.bufferedBytes == 0)
        #expect(served.calls[1].stream.send([1]))
        other.cancel()
    }

    @Test("bounds the incomplete messages of a connection")
    func assemblyLimit() throws {
        var limits = GRPCLimits()
        limits.assemblySize = 100_000
        let link = try CallLink(server: limits)
        _ = link.serve("/t.T/Sink")
        let (stream, recorder) = try link.open("/t.T/Sink")
        link.settle()
        stream.send(Bytes(repeating: 0, count: 200_000))
        let bytes = link.client.take()
        link.server.feed(Bytes(bytes.prefix(90_000)))
        link.client.feed(link.server.take())
        #expect(recorder.closed.isEmpty)
        link.server.feed(Bytes(bytes[90_000..<150_000]))
        link.client.feed(link.server.take())
        #expect(recorder.closed.map(\.code) == [.resourceExhausted])
    }

    @Test("ends every call when the connection is lost, also inside a call")
    func loss() throws {
        let link = try CallLink()
        let served = link.serve("/t.T/Wait")
        let recorders = try (0..<3).map { _ in try link.open("/t.T/Wait").1 }
        link.settle()
        link.client.connection?.lose(GRPCStatus(.unavailable, "gone"))
        link.server.connection?.lose(GRPCStatus(.unavailable, "gone"))
        #expect(recorders.allSatisfy { $0.closed == [GRPCStatus(.unavailable, "gone")] })
        #expect(served.calls.allSatisfy { $0.recorder.closed == [GRPCStatus(.unavailable, "gone")] })

        let other = try CallLink()
        other.services.register(path: "/t.T/Die") { _ in
            other.server.connection?.lose(GRPCStatus(.unavailable, "gone"))
            return CallRecorder()
        }
        _ = try other.open("/t.T/Die")
        other.settle()
    }

    @Test("lets calls finish after a shutdown and refuses new ones")
    func shutDown() throws {
        let link = try CallLink()
        let served = link.serve("/t.T/Wait")
        let (_, recorder) = try link.open("/t.T/Wait")
        link.settle()
        link.server.connection?.shutDown()
        link.settle()
        #expect(link.client.isDraining)
        #expect(link.server.connection?.isFinished == false)
        #expect(served.calls[0].recorder.drainings == 1)
        served.calls[0].stream.finish(.ok)
        link.settle()
        #expect(recorder.closed == [.ok])
        #expect(link.server.connection?.isFinished == true)
        #expect(link.client.connection?.isFinished == true)
    }

    @Test("pings a silent peer and gives up one that does not answer")
    func keepAlive() throws {
        let link = try CallLink()
        link.settle()
        link.advance(milliseconds: 60_000)
        #expect(link.client.connection?.isFinished == false)
        #expect(link.server.connection?.isFinished == false)
        link.client.advance(to: link.client.now + 21_000_000_000)
        #expect(link.client.connection?.isFinished == true)
        #expect(link.client.connection?.failureReason?.code == .unavailable)
    }

    @Test("gives up a peer that never says hello")
    func handshake() throws {
        let link = try CallLink()
        link.server.advance(to: link.server.now + 11_000_000_000)
        #expect(link.server.connection?.isFinished == true)
    }

    @Test("asks admission before a handler is made")
    func admission() throws {
        let link = try CallLink()
        let served = link.serve("/t.T/Secret")
        link.services.admission = { stream in
            stream.metadata.text("x-key") == "right" ? nil : GRPCStatus(.permissionDenied, "no")
        }
        let (_, refused) = try link.open("/t.T/Secret")
        var metadata = GRPCMetadata()
        metadata.add("x-key", "right")
        let (_, admitted) = try link.open("/t.T/Secret", metadata: metadata)
        link.settle()
        #expect(refused.closed == [GRPCStatus(.permissionDenied, "no")])
        #expect(admitted.closed.isEmpty)
        #expect(served.calls.count == 1)
    }

    @Test("tells a sender when a blocked stream drains")
    func backPressure() throws {
        var limits = GRPCLimits()
        limits.streamHighMark = 100_000
        let link = try CallLink(client: limits)
        _ = link.serve("/t.T/Sink")
        let (stream, recorder) = try link.open("/t.T/Sink")
        link.settle()
        while stream.isWritable { stream.send(Bytes(repeating: 1, count: 10_000)) }
        #expect(stream.bufferedBytes >= 100_000)
        link.settle()
        #expect(recorder.writables == 1)
        #expect(stream.isWritable && stream.bufferedBytes == 0)
    }
}
