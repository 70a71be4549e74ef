import Base
import Crypto
import Glibc
import Net
import Testing

@Suite(.timeLimit(.minutes(10))) struct TLSConnectionTests {
    /// Contexts of both ends under one authority.
    private struct Contexts: Sendable {
        let server: TLSContext
        let client: TLSContext
        let stranger: TLSContext

        init(requiresClient: Bool = true) throws {
            let now = Int64(time(nil))
            let authority = try CertificateAuthority.make(now: now)
            let other = try CertificateAuthority.make(now: now)
            func settings(
                _ role: TLSContext.Role, _ issued: CertificateAuthority.Issued?, _ authority: CertificateAuthority
            ) -> TLSContext.Settings {
                TLSContext.Settings(
                    role: role, certificate: issued?.certificatePEM, privateKey: issued?.privateKeyPEM,
                    authorities: authority.certificatePEM, verification: role == .client ? .required : .required,
                    applicationProtocols: ["h2"])
            }
            let node = try authority.issue(role: "storage-node", id: "node-1", now: now)
            let gateway = try authority.issue(role: "resp-gw", id: "gw-1", now: now)
            let foreign = try other.issue(role: "resp-gw", id: "gw-1", now: now)
            var serverSettings = settings(.server, node, authority)
            if !requiresClient { serverSettings.verification = .none }
            server = try TLSContext(serverSettings)
            client = try TLSContext(settings(.client, gateway, authority))
            stranger = try TLSContext(settings(.client, foreign, authority))
        }
    }

    private struct Outcome: Sendable {
        let pair: Pair
        let listener: LoopBound<Listener>
    }

    private func connect(
        _ harness: Harness, _ contexts: Contexts, client: TLSContext?, serverName: String? = nil,
        options: ConnectionOptions = ConnectionOptions(),
        address: SocketAddress = .ipv4(address: 0x7f00_0001, port: 0)
    ) async throws -> Outcome {
        let pair = Pair(server: Witness(), client: Witness())
        let listener = try await harness.run { loop in
            var limits = ListenerLimits()
            limits.connection = options
            let listener = try Listener(loop: loop, address: address, tls: contexts.server, limits: limits) {
                pair.server.attach($0)
            }
            try listener.start()
            Connector.connect(
                loop: loop, to: listener.boundAddress, tls: client, serverName: serverName, options: options
            ) { result in
                switch result {
                case .success(let connection): pair.client.attach(connection)
                case .failure(let error): pair.client.fail(error)
                }
            }
            return LoopBound(listener, loop: loop)
        }
        await pair.client.until(harness) { $0.connection != nil || $0.failure != nil || $0.reason != nil }
        return Outcome(pair: pair, listener: listener)
    }

    @Test func authenticatesBothEndsAndCarriesMegabytes() async throws {
        let contexts = try Contexts()
        try await withTemporaryDirectory { directory in
            for address in [SocketAddress.ipv4(address: 0x7f00_0001, port: 0), .unix(path: "\(directory)/s")] {
                try await Harness.with { harness in
                    let outcome = try await connect(harness, contexts, client: contexts.client, address: address)
                    let pair = outcome.pair
                    await pair.server.until(harness) { $0.connection != nil }
                    try await harness.run { _ in
                        guard case .certificate(let subject) = pair.server.connection?.peer,
                            case .certificate(let node) = pair.client.connection?.peer
                        else {
                            Issue.record("no certificate: \(String(describing: pair.client.failure))")
                            return
                        }
                        #expect(subject.organizationalUnit == "resp-gw" && subject.commonName == "gw-1")
                        #expect(node.organizationalUnit == "storage-node" && node.commonName == "node-1")
                        #expect(pair.server.connection?.applicationProtocol == "h2")
                        #expect(pair.server.connection?.isEncrypted == true)
                    }
                    let payload = (0..<(5 << 20)).map { UInt8(truncatingIfNeeded: $0 &* 131 >> 3) }
                    try await pair.client.send(harness, payload)
                    try await pair.server.send(harness, payload)
                    await pair.server.until(harness) { $0.bytes.count >= payload.count }
                    await pair.client.until(harness) { $0.bytes.count >= payload.count }
                    let areEqual = try await harness.run { _ in
                        pair.server.bytes == payload && pair.client.bytes == payload
                    }
                    #expect(areEqual)
                    try await harness.run { _ in
                        pair.client.connection?.output.append("bye")
                        pair.client.connection?.close(afterFlush: true)
                    }
                    await pair.server.until(harness) { $0.reason == .endOfStream }
                    #expect(try await harness.run { _ in Array(pair.server.bytes.suffix(3)) } == Array("bye".utf8))
                    await pair.client.until(harness) { $0.reason == .local }
                    try await harness.run { _ in outcome.listener.value.close() }
                }
            }
        }
    }

    @Test func keepsDecryptedBytesAcrossAPause() async throws {
        let contexts = try Contexts()
        try await Harness.with { harness in
            let outcome = try await connect(harness, contexts, client: contexts.client)
            let pair = outcome.pair
            await pair.server.until(harness) { $0.connection != nil }
            try await harness.run { _ in
                pair.server.appetite = 1
                pair.server.onReceived = { $0.pauseReading() }
            }
            try await pair.client.send(harness, Array("abc".utf8))
            await pair.server.until(harness) { $0.bytes == Array("a".utf8) }
            try await harness.run { _ in
                pair.server.onReceived = nil
                pair.server.appetite = nil
                pair.server.connection?.resumeReading()
            }
            await pair.server.until(harness) { $0.bytes == Array("abc".utf8) }
            try await harness.run { _ in outcome.listener.value.close() }
        }
    }

    @Test func refusesAClientOfAnotherAuthority() async throws {
        let contexts = try Contexts()
        try await Harness.with { harness in
            let outcome = try await connect(harness, contexts, client: contexts.stranger)
            // In TLS 1.3 the client learns of the refusal after its own handshake.
            await outcome.pair.client.until(harness) { $0.failure != nil || $0.reason != nil }
            while try await harness.run({ _ in outcome.listener.value.handshakeFailuresTotal < 1 }) {}
            try await harness.run { _ in
                #expect(outcome.pair.server.connection == nil)
                #expect(outcome.listener.value.connectionCount == 0)
                outcome.listener.value.close()
            }
        }
    }

    @Test func refusesAServerUnderAnotherName() async throws {
        let contexts = try Contexts()
        try await Harness.with { harness in
            let outcome = try await connect(harness, contexts, client: contexts.client, serverName: "other.example")
            try await harness.run { _ in
                guard case .tls = outcome.pair.client.failure else {
                    Issue.record("\(String(describing: outcome.pair.client.failure))")
                    return
                }
                outcome.listener.value.close()
            }
        }
    }

    @Test func closesAClientThatSpeaksNoTLSOrNothingAtAll() async throws {
        let contexts = try Contexts(requiresClient: false)
        try await Harness.with { harness in
            var options = ConnectionOptions()
            options.handshakeMilliseconds = 100
            let outcome = try await connect(harness, contexts, client: contexts.client, options: options)
            let address = try await harness.run { _ in outcome.listener.value.boundAddress }
            let plain = try RawClient(address)
            plain.send("PING\r\nPING\r\nPING\r\n")
            _ = plain.receiveAll()  // An alert, then the end.
            plain.close()
            let silent = try RawClient(address)
            #expect(silent.receiveAll() == [])
            silent.close()
            // The count follows the close of the descriptor within the tick.
            while try await harness.run({ _ in outcome.listener.value.handshakeFailuresTotal < 2 }) {}
            try await harness.run { _ in
                #expect(outcome.listener.value.connectionCount == 1)
                #expect(outcome.pair.server.connection?.peer == PeerIdentity.none)
                outcome.listener.value.close()
            }
        }
    }
}
