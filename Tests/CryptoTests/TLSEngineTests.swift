import Base
import Crypto
import Testing

/// Seconds since 1970 at which the test authorities issue: the verifier uses the system's clock, so validity is wide.
private let issueTime: Int64 = 1_700_000_000

/// A cluster of two: one authority, a node and a gateway, made once because keys are slow in debug builds.
struct Identities {
    static let shared = Result { try Identities() }

    let authority: CertificateAuthority
    let node: CertificateAuthority.Issued
    let gateway: CertificateAuthority.Issued
    let stranger: CertificateAuthority.Issued
    let expired: CertificateAuthority.Issued

    init() throws {
        authority = try .make(now: issueTime, validForDays: 36500)
        node = try authority.issue(role: "storage-node", id: "node-1", now: issueTime, validForDays: 36500)
        gateway = try authority.issue(role: "resp-gw", id: "gw-1", now: issueTime, validForDays: 36500)
        expired = try authority.issue(role: "resp-gw", id: "gw-2", now: issueTime, validForDays: 1)
        stranger = try CertificateAuthority.make(now: issueTime, validForDays: 36500)
            .issue(role: "resp-gw", id: "gw-1", now: issueTime, validForDays: 36500)
    }

    func settings(_ role: TLSContext.Role, _ identity: CertificateAuthority.Issued?, alpn: [String] = ["h2"])
        -> TLSContext.Settings
    {
        TLSContext.Settings(
            role: role, certificate: identity?.certificatePEM, privateKey: identity?.privateKeyPEM,
            authorities: authority.certificatePEM, verification: .required, applicationProtocols: alpn)
    }
}

/// Two engines back to back, with a network between them that the test chooses.
private final class Wire {
    let client: TLSEngine
    let server: TLSEngine
    var atClient = ByteBuffer()
    var atServer = ByteBuffer()

    init(
        client: TLSContext.Settings, server: TLSContext.Settings, serverName: String? = nil
    ) throws {
        self.client = try TLSContext(client).makeEngine(serverName: serverName)
        self.server = try TLSContext(server).makeEngine()
    }

    /// Moves bytes until nobody has any; `deliver` hands a flight to the receiver and may damage it.
    func pump(_ deliver: (TLSEngine, inout ByteBuffer, ByteView) -> Void = Wire.whole) {
        for _ in 0..<100 where client.hasOutput || server.hasOutput {
            var flight = ByteBuffer()
            client.drain(into: &flight)
            deliver(server, &atServer, flight.readable)
            flight.removeAll()
            server.drain(into: &flight)
            deliver(client, &atClient, flight.readable)
        }
    }

    static func whole(_ engine: TLSEngine, _ plaintext: inout ByteBuffer, _ flight: ByteView) {
        engine.feed(flight)
        engine.read(into: &plaintext)
    }

    static func byteByByte(_ engine: TLSEngine, _ plaintext: inout ByteBuffer, _ flight: ByteView) {
        for index in flight.indices {
            engine.feed(ByteView(rebasing: flight[index..<index + 1]))
            engine.read(into: &plaintext)
        }
    }
}

@Suite("TLSEngine")
struct TLSEngineTests {
    private func identities() throws -> Identities { try Identities.shared.get() }

    private func isFailed(_ engine: TLSEngine) -> Bool {
        if case .failed = engine.state { true } else { false }
    }

    @Test("shakes hands, names both peers, agrees on h2 and carries bytes", arguments: [false, true])
    func handshake(byteByByte: Bool) throws {
        let cluster = try identities()
        let wire = try Wire(
            client: cluster.settings(.client, cluster.gateway), server: cluster.settings(.server, cluster.node),
            serverName: "localhost")
        let deliver = byteByByte ? Wire.byteByByte : Wire.whole
        #expect(Bytes("early".utf8).withUnsafeBytes { wire.client.write($0) } == 0)
        wire.pump(deliver)
        #expect(wire.client.state == .established)
        #expect(wire.server.state == .established)
        #expect(wire.client.peerSubject?.organizationalUnit == "storage-node")
        #expect(wire.client.peerSubject?.commonName == "node-1")
        #expect(wire.client.peerSubject?.dnsNames == ["localhost"])
        #expect(wire.client.peerSubject?.addresses == ["127.0.0.1", "0:0:0:0:0:0:0:1"])
        #expect(wire.client.peerSubject?.notAfter == issueTime + 36500 * 86400)
        #expect(wire.server.peerSubject?.organizationalUnit == "resp-gw")
        #expect(wire.server.peerSubject?.organization == "orbit")
        #expect(wire.client.applicationProtocol == "h2")
        #expect(wire.server.applicationProtocol == "h2")
        #expect(wire.client.protocolDescription.hasPrefix("TLSv1.3 "))

        let request = Bytes((0..<100_000).map { UInt8(truncatingIfNeeded: $0 &* 31) })
        #expect(request.withUnsafeBytes { wire.client.write($0) } == request.count)
        #expect(Bytes("pong".utf8).withUnsafeBytes { wire.server.write($0) } == 4)
        wire.pump(deliver)
        #expect(wire.atServer.readable.bytes == request)
        #expect(wire.atClient.readable.bytes == Bytes("pong".utf8))

        wire.client.close()
        wire.pump(deliver)
        #expect(wire.server.state == .peerClosed)
        #expect(wire.client.state == .established)
    }

    @Test("accepts an IP address as the server's name")
    func addressName() throws {
        let cluster = try identities()
        let wire = try Wire(
            client: cluster.settings(.client, cluster.gateway), server: cluster.settings(.server, cluster.node),
            serverName: "127.0.0.1")
        wire.pump()
        #expect(wire.client.state == .established)
    }

    @Test("refuses a server of another name", arguments: ["example.com", "10.0.0.1"])
    func wrongName(_ name: String) throws {
        let cluster = try identities()
        let wire = try Wire(
            client: cluster.settings(.client, cluster.gateway), server: cluster.settings(.server, cluster.node),
            serverName: name)
        wire.pump()
        #expect(isFailed(wire.client))
        #expect(isFailed(wire.server), "the alert must reach the server")
    }

    @Test("refuses a client without a certificate, of another authority, or with an expired one")
    func refusedClients() throws {
        let cluster = try identities()
        for identity in [nil, cluster.stranger, cluster.expired] {
            let wire = try Wire(
                client: cluster.settings(.client, identity), server: cluster.settings(.server, cluster.node))
            wire.pump()
            #expect(isFailed(wire.server))
            #expect(isFailed(wire.client))
            #expect(wire.server.peerSubject == nil)
        }
    }

    @Test("refuses a client that offers only unknown protocols, and accepts one that offers none")
    func protocols() throws {
        let cluster = try identities()
        let wire = try Wire(
            client: cluster.settings(.client, cluster.gateway, alpn: ["http/1.1"]),
            server: cluster.settings(.server, cluster.node))
        wire.pump()
        #expect(isFailed(wire.server))
        #expect(isFailed(wire.client))

        let silent = try Wire(
            client: cluster.settings(.client, cluster.gateway, alpn: []),
            server: cluster.settings(.server, cluster.node))
        silent.pump()
        #expect(silent.server.state == .established)
        #expect(silent.server.applicationProtocol == nil)
    }

    @Test("does not ask the public for certificates when told so")
    func publicServer() throws {
        let cluster = try identities()
        var settings = cluster.settings(.server, cluster.node, alpn: [])
        settings.verification = .none
        settings.authorities = nil
        let wire = try Wire(client: cluster.settings(.client, nil, alpn: []), server: settings)
        wire.pump()
        #expect(wire.server.state == .established)
        #expect(wire.server.peerSubject == nil)
        #expect(wire.client.peerSubject?.commonName == "node-1")
    }

    @Test("never delivers anything but what was sent, whichever byte of the exchange is damaged", arguments: 0..<60)
    func corrupted(_ seed: UInt64) throws {
        let cluster = try identities()
        let wire = try Wire(
            client: cluster.settings(.client, cluster.gateway), server: cluster.settings(.server, cluster.node))
        // The damaged byte lies somewhere in the first 2 KB that cross the wire, spread over the seeds.
        var position = Int(seed &* 2_654_435_761 % 2048)
        let secret = Bytes("secret".utf8)
        var damaged = false
        let deliver: (TLSEngine, inout ByteBuffer, ByteView) -> Void = { engine, plaintext, flight in
            var copy = flight.bytes
            if !damaged, position < copy.count {
                copy[position] ^= UInt8(1 << (seed % 8))
                damaged = true
            }
            position -= copy.count
            copy.withUnsafeBytes { Wire.whole(engine, &plaintext, $0) }
        }
        wire.pump(deliver)
        _ = secret.withUnsafeBytes { wire.client.write($0) }
        wire.pump(deliver)
        let received = wire.atServer.readable.bytes
        #expect(damaged)
        #expect(received.isEmpty || received == secret, "seed \(seed)")
        // Versions in record headers and the compatibility record are not authenticated: all else must be noticed.
        if wire.client.state == .established && wire.server.state == .established {
            #expect(received == secret, "seed \(seed)")
            #expect(wire.server.peerSubject?.commonName == "gw-1", "seed \(seed)")
        }
    }

    @Test("survives noise instead of a handshake", arguments: 0..<20)
    func noise(_ seed: UInt64) throws {
        let cluster = try identities()
        let engine = try TLSContext(cluster.settings(.server, cluster.node)).makeEngine()
        var state = seed &+ 1
        let noise = Bytes(
            (0..<5000).map { _ in
                state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                return UInt8(truncatingIfNeeded: state >> 33)
            })
        var plaintext = ByteBuffer()
        noise.withUnsafeBytes { Wire.whole(engine, &plaintext, $0) }
        #expect(isFailed(engine), "seed \(seed)")
        #expect(plaintext.readable.isEmpty)
        noise.withUnsafeBytes { Wire.whole(engine, &plaintext, $0) }
        #expect(plaintext.readable.isEmpty)
    }

    @Test("refuses settings that cannot work")
    func badSettings() throws {
        let cluster = try identities()
        #expect(throws: CryptoError.self) { try TLSContext(.init(role: .server, verification: .none)) }
        #expect(throws: CryptoError.self) { try TLSContext(.init(role: .client, verification: .required)) }
        var mixed = cluster.settings(.server, cluster.node)
        mixed.privateKey = cluster.gateway.privateKeyPEM
        #expect(throws: CryptoError.self) { try TLSContext(mixed) }
        var broken = cluster.settings(.server, cluster.node)
        broken.certificate = Bytes("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".utf8)
        #expect(throws: CryptoError.self) { try TLSContext(broken) }
    }
}
