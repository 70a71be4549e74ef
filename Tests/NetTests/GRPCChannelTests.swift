import Base
import Crypto
import Glibc
import Net
import TestKit
import Testing

/// Runs `body` on a loop of its own thread and waits until it calls `finish`; a test that never does is reported.
func onLoop(_ body: @escaping @Sendable (EventLoop, _ finish: @escaping () -> Void) throws -> Void) async throws {
    try await Harness.with { harness in
        try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
            harness.loop.execute { [loop = harness.loop] in
                var waiting: CheckedContinuation<Void, any Error>? = continuation
                func end(_ error: (any Error)? = nil) {
                    if let error { waiting?.resume(throwing: error) } else { waiting?.resume() }
                    waiting = nil
                }
                let guardian = loop.schedule(afterMilliseconds: HangLimit.milliseconds) {
                    end(GRPCStatus(.deadlineExceeded, "the test did not finish"))
                }
                do {
                    try body(loop) {
                        guardian.cancel()
                        end()
                    }
                } catch {
                    end(error)
                }
            }
        }
    }
}

@Suite("gRPC over sockets")
struct GRPCChannelTests {
    private static let anyPort = SocketAddress.ipv4(address: 0x7f00_0001, port: 0)

    fileprivate static func echoServer(_ loop: EventLoop) -> GRPCServer {
        let server = GRPCServer(loop: loop)
        server.register(path: "/t.T/Echo") { stream in
            let recorder = CallRecorder()
            recorder.onMessage = { stream.send($0) }
            recorder.onEnd = { stream.finish(.ok) }
            return recorder
        }
        server.registerUnary(path: "/t.T/Reverse") { request, call in call.reply(request.bytes.reversed()) }
        server.register(path: "/t.T/Wait") { _ in CallRecorder() }
        return server
    }

    private static func contexts() throws -> (server: TLSContext, client: TLSContext) {
        let now = Int64(time(nil))
        let authority = try CertificateAuthority.make(now: now)
        func context(_ role: TLSContext.Role, _ name: String) throws -> TLSContext {
            let issued = try authority.issue(role: name, id: "\(name)-1", now: now)
            return try TLSContext(
                TLSContext.Settings(
                    role: role, certificate: issued.certificatePEM, privateKey: issued.privateKeyPEM,
                    authorities: authority.certificatePEM, applicationProtocols: ["h2"]))
        }
        return (try context(.server, "storage-node"), try context(.client, "resp-gw"))
    }

    enum Transport: CaseIterable, Sendable { case tcp, unix, tls }

    @Test("carries messages from small to large, both ways at once", arguments: Transport.allCases)
    func echo(_ transport: Transport) async throws {
        try await withTemporaryDirectory { directory in
            try await onLoop { loop, finish in
                let tls = transport == .tls ? try Self.contexts() : nil
                let server = Self.echoServer(loop)
                let listener = try server.listen(
                    on: transport == .unix ? .unix(path: "\(directory)/s") : Self.anyPort, tls: tls?.server)
                let channel = GRPCClientChannel(loop: loop, address: listener.boundAddress, tls: tls?.client)
                var states: [GRPCClientChannel.State] = []
                channel.onStateChange = { states.append($0) }
                let recorder = CallRecorder()
                let stream = channel.open(path: "/t.T/Echo", handler: recorder)
                var random = SplitMix64(seed: 9)
                let messages = [0, 1, 100, 70_000, 1_000_000, 10_000_000].map { random.bytes($0) }
                for message in messages { #expect(stream.send(message)) }
                stream.end()
                recorder.onClosed = {
                    #expect(recorder.messages == messages)
                    #expect(recorder.closed == [.ok])
                    #expect(states == [.connecting, .ready])
                    #expect(server.connectionCount == 1)
                    channel.close()
                    server.close()
                    finish()
                }
            }
        }
    }

    @Test("answers unary calls and fails them in time")
    func unary() async throws {
        try await onLoop { loop, finish in
            let server = Self.echoServer(loop)
            let listener = try server.listen(on: Self.anyPort)
            let channel = GRPCClientChannel(loop: loop, address: listener.boundAddress)
            var open = 3
            func ended() {
                open -= 1
                guard open == 0 else { return }
                channel.close()
                server.close()
                finish()
            }
            channel.unary(path: "/t.T/Reverse", request: [1, 2, 3]) { result in
                #expect(result == .success([3, 2, 1]))
                ended()
            }
            channel.unary(path: "/t.T/None", request: []) { result in
                #expect(result == .failure(GRPCStatus(.unimplemented, "unknown method /t.T/None")))
                ended()
            }
            channel.unary(path: "/t.T/Wait", request: [], deadline: loop.now + 50_000_000) { result in
                #expect(result == .failure(GRPCStatus(.deadlineExceeded, "the call's deadline passed")))
                ended()
            }
        }
    }

    @Test("fails calls at once while nobody listens, and finds the server when it is there")
    func reconnect() async throws {
        try await withTemporaryDirectory { directory in
            try await onLoop { loop, finish in
                let address = SocketAddress.unix(path: "\(directory)/s")
                var backOff = GRPCBackOff()
                backOff.firstMilliseconds = 5
                let channel = GRPCClientChannel(
                    loop: loop, address: address, backOff: backOff, random: SplitMix64(seed: 1))
                var server: GRPCServer?
                var readies = 0
                var failures = 0
                let long = CallRecorder()
                channel.onStateChange = { state in
                    switch state {
                    case .failed:
                        failures += 1
                        let recorder = CallRecorder()
                        let stream = channel.open(path: "/t.T/Wait", handler: recorder)
                        #expect(recorder.closed.isEmpty)
                        recorder.onClosed = { #expect(recorder.closed.map(\.code) == [.unavailable]) }
                        stream.send([1])
                        if server == nil, failures == 2 {
                            let fresh = Self.echoServer(loop)
                            #expect(throws: Never.self) { try fresh.listen(on: address) }
                            server = fresh
                        }
                    case .ready:
                        readies += 1
                        if readies == 1 {
                            _ = channel.open(path: "/t.T/Wait", handler: long)
                            channel.unary(path: "/t.T/Reverse", request: [1]) { result in
                                #expect(result == .success([1]))
                                server?.close()
                                let fresh = Self.echoServer(loop)
                                #expect(throws: Never.self) { try fresh.listen(on: address) }
                                server = fresh
                            }
                        } else {
                            #expect(long.closed.map(\.code) == [.unavailable])
                            channel.close()
                            server?.close()
                            finish()
                        }
                    case .idle, .connecting, .closed: break
                    }
                }
                channel.connect()
            }
        }
    }

    @Test("gives up a connection: its calls end at once, nothing of theirs comes later, the next ones get another")
    func abandon() async throws {
        try await onLoop { loop, finish in
            let server = GRPCServer(loop: loop)
            var late: GRPCServerStream?
            server.register(path: "/t.T/Late") { stream in
                let recorder = CallRecorder()
                recorder.onMessage = { _ in late = stream }
                return recorder
            }
            server.registerUnary(path: "/t.T/Reverse") { request, call in call.reply(request.bytes.reversed()) }
            let listener = try server.listen(on: Self.anyPort)
            let channel = GRPCClientChannel(loop: loop, address: listener.boundAddress)
            let recorder = CallRecorder()
            channel.open(path: "/t.T/Late", handler: recorder).send([1])
            channel.onStateChange = { state in
                guard state == .ready else { return }
                func giveUp() {
                    // Once the call is with the server.
                    guard late != nil else { return loop.runLater(giveUp) }
                    channel.abandon("it hangs")
                    #expect(recorder.closed == [GRPCStatus(.unavailable, "it hangs")])
                }
                if recorder.closed.isEmpty { return giveUp() }
                late?.send([2])
                channel.unary(path: "/t.T/Reverse", request: [1, 2]) { result in
                    #expect(result == .success([2, 1]))
                    #expect(recorder.messages.isEmpty && recorder.closed.count == 1)
                    channel.close()
                    server.close()
                    finish()
                }
            }
        }
    }

    @Test("drains: open calls finish, new ones go elsewhere, then nothing is left")
    func drain() async throws {
        try await onLoop { loop, finish in
            let server = GRPCServer(loop: loop)
            var streams: [GRPCServerStream] = []
            let recorder = CallRecorder()
            var channel: GRPCClientChannel?
            server.register(path: "/t.T/Wait") { stream in
                streams.append(stream)
                server.drain {
                    #expect(server.connectionCount == 0)
                    #expect(recorder.closed == [.ok])
                    channel?.close()
                    finish()
                }
                return CallRecorder()
            }
            let listener = try server.listen(on: Self.anyPort)
            let client = GRPCClientChannel(loop: loop, address: listener.boundAddress)
            channel = client
            client.onStateChange = { state in
                guard case .failed = state, recorder.closed.isEmpty else { return }
                streams[0].send([7])
                streams[0].finish(.ok)
            }
            _ = client.open(path: "/t.T/Wait", handler: recorder)
        }
    }

    @Test("ends the calls that outlast the grace period of a drain")
    func drainGrace() async throws {
        try await onLoop { loop, finish in
            let server = Self.echoServer(loop)
            let listener = try server.listen(on: Self.anyPort)
            let channel = GRPCClientChannel(loop: loop, address: listener.boundAddress)
            let recorder = CallRecorder()
            _ = channel.open(path: "/t.T/Wait", handler: recorder)
            channel.onStateChange = { state in
                guard case .ready = state else { return }
                channel.unary(path: "/t.T/Reverse", request: []) { _ in
                    server.drain(graceMilliseconds: 10) {
                        #expect(recorder.closed == [GRPCStatus(.unavailable, "the server is shutting down")])
                        channel.close()
                        finish()
                    }
                }
            }
        }
    }

    @Test("closes what does not speak HTTP/2")
    func garbage() async throws {
        try await onLoop { loop, finish in
            let server = Self.echoServer(loop)
            let listener = try server.listen(on: Self.anyPort)
            let witness = Witness()
            Connector.connect(loop: loop, to: listener.boundAddress) { result in
                guard case .success(let connection) = result else { return }
                witness.attach(connection)
                connection.output.append("GET / HTTP/1.1\r\n\r\n")
                connection.setNeedsFlush()
            }
            loop.schedule(afterMilliseconds: 5, repeating: true) {
                guard witness.reason != nil, server.connectionCount == 0 else { return }
                server.close()
                finish()
            }
        }
    }
}
