import Base
import Glibc
import Net
import TestKit
import Testing

@Suite(.timeLimit(.minutes(10))) struct HTTPTests {
    private static let anyPort = SocketAddress.ipv4(address: 0x7f00_0001, port: 0)

    /// Of a server that takes no client for idle while other tests hold its task up.
    private static var patient: HTTPLimits {
        var limits = HTTPLimits()
        (limits.idleMilliseconds, limits.answerMilliseconds) = (600_000, 600_000)
        return limits
    }

    /// A server with a few routes, and its address.
    private func withServer(
        _ limits: HTTPLimits = patient, _ test: (Harness, SocketAddress) async throws -> Void
    ) async throws {
        try await Harness.with { harness in
            let (server, address) = try await harness.run { loop in
                let server = try HTTPServer(loop: loop, address: Self.anyPort, limits: limits)
                server.route("/livez") { _ in HTTPResponse(text: "ok\n") }
                server.route("/echo", method: "POST") { request in
                    HTTPResponse(fields: [HTTPField("x-query", request.query ?? "")], body: request.body)
                }
                server.routeLater("/later") { _, reply in
                    loop.schedule(afterMilliseconds: 5) { reply.send(HTTPResponse(text: "later\n")) }
                }
                server.routeLater("/never") { _, reply in loop.schedule(afterMilliseconds: 60_000) { _ = reply } }
                try server.start()
                return (LoopBound(server, loop: loop), try #require(server.boundAddress))
            }
            try await test(harness, address)
            try await harness.run { _ in server.value.close() }
        }
    }

    /// Sends `text` in pieces of `size` bytes and returns everything until the server's end.
    private func exchange(
        _ harness: Harness, _ address: SocketAddress, _ text: String, size: Int = .max
    ) async throws -> String {
        let client = Witness()
        let bytes = Array(text.utf8)
        var offset = min(bytes.count, size)
        let first = Array(bytes[..<offset])
        try await harness.run { loop in
            Connector.connect(loop: loop, to: address) { result in
                switch result {
                case .success(let connection):
                    client.attach(connection)
                    // At once: the test's task may get its turn only when the server takes the client for idle.
                    connection.output.append(first)
                    connection.setNeedsFlush()
                case .failure(let error): client.fail(error)
                }
            }
            return
        }
        await client.until(harness) { $0.connection != nil || $0.failure != nil || $0.reason != nil }
        while offset < bytes.count {
            let end = min(bytes.count, size == .max ? bytes.count : offset + size)
            try await client.send(harness, Array(bytes[offset..<end]))
            offset = end
        }
        await client.until(harness) { $0.reason != nil }
        return String(decoding: try await harness.run { _ in client.bytes }, as: UTF8.self)
    }

    @Test func clientAndServerUnderstandEachOther() async throws {
        try await withServer { harness, address in
            let answer = try await HTTPClient.get(loop: harness.loop, address, "/livez")
            #expect(answer.status == 200)
            #expect(answer.body == Array("ok\n".utf8))
            #expect(answer.field("content-type") == "text/plain; charset=utf-8")
            #expect(try await HTTPClient.get(loop: harness.loop, address, "/later").body == Array("later\n".utf8))
            let echo = try await HTTPClient.request(
                loop: harness.loop, address, "/echo?a=b", method: "POST", body: Array("body".utf8))
            #expect(echo.body == Array("body".utf8))
            #expect(echo.field("x-query") == "a=b")
            #expect(try await HTTPClient.get(loop: harness.loop, address, "/none").status == 404)
            let refused = try await HTTPClient.get(loop: harness.loop, address, "/echo")
            #expect(refused.status == 405)
            #expect(refused.field("allow") == "POST")
            let head = try await HTTPClient.request(
                loop: harness.loop, address, "/livez", method: "HEAD", body: [])
            #expect(head.status == 200 && head.body.isEmpty)
            #expect(head.field("content-length") == "3")
        }
    }

    @Test(arguments: [1, 2, 7, Int.max]) func keepsTheConnectionAndTheOrder(_ size: Int) async throws {
        let requests =
            "GET /later HTTP/1.1\r\nHost: a\r\n\r\n" + "HEAD /livez HTTP/1.1\r\nHost: a\r\n\r\n"
            + "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
            + "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nde\r\n1\r\nf\r\n0\r\n\r\n"
            + "GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        let text = "content-type: text/plain; charset=utf-8\r\n"
        let expected =
            "HTTP/1.1 200 OK\r\n\(text)content-length: 6\r\n\r\nlater\n"
            + "HTTP/1.1 200 OK\r\n\(text)content-length: 3\r\n\r\n"
            + "HTTP/1.1 200 OK\r\nx-query: \r\ncontent-length: 3\r\n\r\nabc"
            + "HTTP/1.1 200 OK\r\nx-query: \r\ncontent-length: 3\r\n\r\ndef"
            + "HTTP/1.1 200 OK\r\n\(text)content-length: 3\r\nconnection: close\r\n\r\nok\n"
        try await withServer { harness, address in
            let answers = try await exchange(harness, address, requests, size: size)
            #expect(answers == expected)
        }
    }

    @Test(arguments: [
        ("nonsense\r\n\r\n", 400), ("GET /livez HTTP/1.1\r\n\r\n", 400),
        ("GET /livez HTTP/1.1\r\nhost: a\r\nx: " + String(repeating: "y", count: 17_000) + "\r\n\r\n", 431),
        ("GET /" + String(repeating: "y", count: 17_000) + " HTTP/1.1\r\nhost: a\r\n\r\n", 431),
        ("POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 70000\r\n\r\n", 413),
        ("POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n", 400),
        ("POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n", 400),
        (
            "POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n11000\r\n"
                + String(repeating: "z", count: 0x11000) + "\r\n0\r\n\r\n", 413
        ),
        ("CONNECT a:1 HTTP/1.1\r\nhost: a\r\n\r\n", 404), ("GET /livez HTTP/1.0\r\n\r\n", 200),
    ])
    func answersAndClosesAtOnce(_ request: String, _ status: Int) async throws {
        try await withServer { harness, address in
            let answer = try await exchange(harness, address, request)
            #expect(answer.hasPrefix("HTTP/1.1 \(status) "), "\(answer)")
            #expect(answer.contains("connection: close\r\n"))
        }
    }

    @Test func saysContinueToAClientThatWaitsForIt() async throws {
        try await withServer { harness, address in
            let client = try RawClient(address)
            client.send(
                "POST /echo HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 2\r\n"
                    + "connection: close\r\n\r\n")
            let interim = "HTTP/1.1 100 Continue\r\n\r\n"
            #expect(client.receive(interim.utf8.count) == Array(interim.utf8))
            client.send("ab")
            let answer = String(decoding: client.receiveAll(), as: UTF8.self)
            #expect(answer.hasPrefix("HTTP/1.1 200 OK\r\n") && answer.hasSuffix("\r\n\r\nab"))
            client.close()
        }
    }

    @Test func closesIdleClientsAndAnswersSlowOnes() async throws {
        var limits = HTTPLimits()
        limits.idleMilliseconds = 50
        limits.answerMilliseconds = 50
        try await withServer(limits) { harness, address in
            let idle = try await exchange(harness, address, "")
            #expect(idle == "")
        }
        // Long enough for the request to get there.
        limits.idleMilliseconds = 2000
        try await withServer(limits) { harness, address in
            let slow = try await exchange(harness, address, "GET /livez HT")
            #expect(slow.hasPrefix("HTTP/1.1 408 "))
            let unanswered = try await exchange(harness, address, "GET /never HTTP/1.1\r\nhost: a\r\n\r\n")
            #expect(unanswered.hasPrefix("HTTP/1.1 503 "))
        }
    }

    @Test func theClientGivesUpOnASilentServer() async throws {
        try await withServer { harness, address in
            await #expect(throws: HTTPError.timedOut) {
                try await HTTPClient.get(loop: harness.loop, address, "/never", timeoutMilliseconds: 50)
            }
        }
    }

    @Test func theClientReadsAnswersWithoutALengthAndRefusesNonsense() async throws {
        try await Harness.with { harness in
            for (text, expected) in [
                ("HTTP/1.1 200 OK\r\n\r\nuntil the end", Result<String, HTTPError>.success("until the end")),
                ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", .success("ok")),
                ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok", .failure(.closed(.endOfStream))),
                ("+PONG\r\n", .failure(.malformed("invalid constant string"))),
            ] {
                let server = Witness()
                let (listener, address) = try await harness.run { loop in
                    let listener = try Listener(loop: loop, address: Self.anyPort) { connection in
                        server.attach(connection)
                        server.onReceived = { connection in
                            connection.output.append(text: text)
                            connection.close(afterFlush: true)
                        }
                    }
                    try listener.start()
                    return (LoopBound(listener, loop: loop), listener.boundAddress)
                }
                let result: Result<String, HTTPError>
                do throws(HTTPError) {
                    let response = try await HTTPClient.get(loop: harness.loop, address, "/")
                    result = .success(String(decoding: response.body, as: UTF8.self))
                } catch {
                    result = .failure(error)
                }
                #expect(result == expected)
                try await harness.run { _ in listener.value.close() }
            }
        }
    }

    /// Random damage to a valid request: any answer, never a trap, and the connection always ends.
    @Test func survivesDamagedRequests() async throws {
        let seed = freshSeed("damaged requests")
        var random = SplitMix64(seed: seed)
        let valid = Array("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc".utf8)
        var limits = HTTPLimits()
        limits.idleMilliseconds = 1
        try await withServer(limits) { harness, address in
            for _ in 0..<50 {
                var bytes = valid
                for _ in 0...Int(random.next() % 4) {
                    bytes[Int(random.next() % UInt64(bytes.count))] = UInt8(truncatingIfNeeded: random.next())
                }
                bytes = Array(bytes.prefix(Int(random.next() % UInt64(bytes.count + 1))))
                _ = try await exchange(harness, address, String(decoding: bytes, as: UTF8.self))
            }
        }
    }
}
