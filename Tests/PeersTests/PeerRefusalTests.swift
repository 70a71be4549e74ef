import Base
import Contracts
import Crypto
import Net
import Peers
import TestKit
import Testing

/// Who is let in, and who is not.
@Suite("Peers are refused", .serialized)
struct PeerRefusalTests {
    struct Case: Sendable, CustomTestStringConvertible {
        let testDescription: String
        let code: GRPCStatus.Code
        let change: @Sendable (inout PeerHello) -> Void

        init(_ name: String, _ code: GRPCStatus.Code, _ change: @escaping @Sendable (inout PeerHello) -> Void) {
            (testDescription, self.code, self.change) = (name, code, change)
        }
    }

    static let cases = [
        Case("of another cluster", .failedPrecondition) { $0.cluster = 8 },
        Case("with another role", .permissionDenied) { $0.role = "coordinator" },
        Case("that are too new", .failedPrecondition) { ($0.protocolMinimum, $0.protocolMaximum) = (2, 9) },
        Case("that are too old", .failedPrecondition) { ($0.protocolMinimum, $0.protocolMaximum) = (0, 0) },
        Case("that mean somebody else", .failedPrecondition) { $0.peer = NodeID(rawValue: 3) },
        Case("that claim to be us", .failedPrecondition) { $0.node = NodeID(rawValue: 1) },
        Case("that nobody knows", .unavailable) { $0.node = NodeID(rawValue: 9) },
        Case("with another data directory", .permissionDenied) { $0.uid[0] = 99 },
        Case("without a uid", .permissionDenied) { $0.uid = [] },
        Case("that are of an earlier life", .failedPrecondition) { $0.incarnation = 4 },
    ]

    static func hello() -> PeerHello {
        PeerHello(
            role: "storage-node", cluster: 7, node: NodeID(rawValue: 2), peer: NodeID(rawValue: 1),
            uid: Replica.uid(2), incarnation: 5, clock: PeerClock(sent: 1, time: .zero))
    }

    @Test("by their hello", arguments: cases)
    func hello(_ row: Case) throws {
        try Stage.with { stage in
            let one = try stage.start(1, of: 2)
            let good = stage.call(1)
            good.send(Self.hello().encodeBatch())
            #expect(stage.run { good.answers.count == 1 })
            #expect(good.answers.first?.hello?.node == one.node)
            let bad = stage.call(1)
            var hello = Self.hello()
            row.change(&hello)
            bad.send(hello.encodeBatch())
            #expect(stage.run { bad.status != nil })
            #expect(bad.status?.code == row.code && bad.answers.isEmpty, "\(String(describing: bad.status))")
            #expect(good.status == nil, "the good one goes on")
        }
    }

    @Test("by the caller too", arguments: cases)
    func answer(_ row: Case) throws {
        try Stage.with { stage in
            var peers: [RawPeer] = []
            try stage.serve(2) { stream in
                let made = RawPeer(stream) { raw, hello in
                    var answer = RawPeer.answer(hello)
                    answer.hello?.incarnation = 5
                    if peers.count == 1 {
                        // Good at first, so that it is known; then it ends, and comes back changed.
                        raw.stream.send { $0.append(answer.encode()) }
                        raw.stream.finish(GRPCStatus(.unavailable, "again"))
                        return
                    }
                    if var changed = answer.hello {
                        row.change(&changed)
                        if row.testDescription == "that mean somebody else" { changed.peer = NodeID(rawValue: 3) }
                        answer.hello = changed
                    }
                    raw.stream.send { $0.append(answer.encode()) }
                }
                peers.append(made)
                return made
            }
            let one = try stage.start(1, of: 2)
            #expect(stage.run { peers.count >= 4 })
            #expect(one.recorder.news.filter { $0 == "up 2" }.count == 1)
        }
    }

    @Test("until this process has an identity")
    func noIdentity() throws {
        try Stage.with { stage in
            let one = Replica(1, on: stage.loop, settings: Stage.settings())
            try one.server.listen(on: stage.address(1))
            one.links.update(stage.peers(1...2))
            stage.replicas[1] = one
            let call = stage.call(1)
            call.send(Self.hello().encodeBatch())
            #expect(stage.run { call.status?.code == .unavailable })
            one.join()
            let again = stage.call(1)
            again.send(Self.hello().encodeBatch())
            #expect(stage.run { again.answers.count == 1 })
        }
    }

    @Test("when a newer stream of theirs is there")
    func replaced() throws {
        try Stage.with { stage in
            try stage.start(1, of: 2)
            let first = stage.call(1), second = stage.call(1)
            first.send(Self.hello().encodeBatch())
            #expect(stage.run { first.answers.count == 1 })
            second.send(Self.hello().encodeBatch())
            #expect(stage.run { first.status?.code == .aborted && second.answers.count == 1 })
            #expect(second.status == nil)
        }
    }

    @Test("by the user of their socket")
    func user() throws {
        try Stage.with { stage in
            let one = try stage.start(1, of: 2, settings: Stage.settings { $0.user &+= 1 })
            let call = stage.call(1)
            call.send(Self.hello().encodeBatch())
            #expect(stage.run { call.status?.code == .permissionDenied })
            #expect(one.recorder.heard.isEmpty)
        }
    }

    @Test("when they say no hello in time")
    func mute() throws {
        try Stage.with { stage in
            try stage.start(1, of: 2, settings: Stage.settings { $0.attemptMilliseconds = 30 })
            let call = stage.call(1)
            #expect(stage.run { call.status?.code == .deadlineExceeded })
        }
    }

    @Test("over TCP without a certificate of their role")
    func certificates() throws {
        let now = Int64(SystemClock().wallMilliseconds() / 1000)
        let authority = try CertificateAuthority.make(now: now)
        func context(_ side: TLSContext.Role, _ role: String) throws -> TLSContext {
            let issued = try authority.issue(role: role, id: "p", now: now)
            return try TLSContext(
                TLSContext.Settings(
                    role: side, certificate: issued.certificatePEM, privateKey: issued.privateKeyPEM,
                    authorities: authority.certificatePEM, verification: .required, applicationProtocols: ["h2"]))
        }
        try Stage.with { stage in
            // 1 and 2 are storage nodes; 3 says so, but its certificate is a coordinator's.
            let roles = ["storage-node", "storage-node", "coordinator"]
            var all: [Replica] = [], peers: [PeerLinks.Peer] = []
            for (index, role) in roles.enumerated() {
                let number = UInt32(index + 1)
                let one = Replica(
                    number, on: stage.loop, settings: Stage.settings(), tls: try context(.client, role))
                let listener = try one.server.listen(
                    on: SocketAddress(parsing: "127.0.0.1:0"), tls: try context(.server, role))
                all.append(one)
                stage.replicas[number] = one
                peers.append(.init(node: one.node, uid: Replica.uid(number), addresses: [listener.boundAddress]))
            }
            for one in all {
                one.links.update(peers)
                one.join()
            }
            #expect(stage.run { all[0].isUp(2) && all[1].isUp(1) })
            for index in 0..<100 { all[0].append(UInt64(index), to: 2) }
            #expect(stage.run { all[1].rounds == Array(0..<100) })
            #expect(stage.run { all[2].recorder.news.contains("unreachable 1") || all[2].recorder.news.isEmpty })
            #expect(!all[2].isUp(1) && !all[2].isUp(2) && !all[0].isUp(3) && !all[1].isUp(3))
            #expect(all[2].recorder.heard.isEmpty)
        }
    }

    @Test("anybody is a peer where nothing is checked")
    func insecure() throws {
        var settings = Stage.settings()
        settings.isInsecure = true
        #expect(settings.refusal(of: .none) == nil)
        settings.isInsecure = false
        #expect(settings.refusal(of: .none)?.code == .unauthenticated)
    }
}
