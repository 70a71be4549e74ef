import Base
import Contracts
import Coordinator
import Crypto
import Net
import Placement
import TestKit
import Testing

/// The coordinator over TCP: certificates decide.
@Suite("PlacementService over TLS")
struct PlacementTLSTests {
    private static func settings(
        _ role: TLSContext.Role, _ authority: CertificateAuthority, _ identity: CertificateAuthority.Issued?
    ) -> TLSContext.Settings {
        TLSContext.Settings(
            role: role, certificate: identity?.certificatePEM, privateKey: identity?.privateKeyPEM,
            authorities: authority.certificatePEM, verification: .required, applicationProtocols: ["h2"])
    }

    @Test("lets in who the cluster's authority named, to what is their role's")
    func roles() throws {
        let now = Int64(SystemClock().wallMilliseconds() / 1000)
        let authority = try CertificateAuthority.make(now: now)
        let foreign = try CertificateAuthority.make(now: now)
        let loop = try EventLoop()
        var settings = PlacementNode.Settings(directory: "/c")
        settings.segmentBytes = 1 << 20
        let node = try PlacementNode(
            settings, loop: loop, disk: SimulatedDisk(seed: 1), access: PlacementAccess(user: 0, isInsecure: false),
            logger: .silent)
        let own = try authority.issue(role: "coordinator", id: "coordinator-1", now: now)
        let listener = try node.server.listen(
            on: SocketAddress(parsing: "127.0.0.1:0"), tls: TLSContext(Self.settings(.server, authority, own)))

        let register = RegisterRequest(uid: Bytes(0..<16), addresses: ["a:1"], incarnation: 1, cluster: 0).encode()
        let calls: [(identity: CertificateAuthority.Issued?, path: String, request: Bytes, code: GRPCStatus.Code)] = [
            (try authority.issue(role: "storage-node", id: "n1", now: now), PlacementPath.registerNode, register, .ok),
            (try authority.issue(role: "resp-gw", id: "g1", now: now), PlacementPath.describe, [], .ok),
            (
                try authority.issue(role: "resp-gw", id: "g1", now: now), PlacementPath.registerNode, register,
                .permissionDenied
            ),
            (try foreign.issue(role: "storage-node", id: "n1", now: now), PlacementPath.describe, [], .unavailable),
            (nil, PlacementPath.describe, [], .unavailable),
        ]
        var codes = [GRPCStatus.Code?](repeating: nil, count: calls.count)
        var left = calls.count
        let channels = try calls.map { call in
            GRPCClientChannel(
                loop: loop, address: listener.boundAddress,
                tls: try TLSContext(Self.settings(.client, authority, call.identity)))
        }
        loop.schedule(afterMilliseconds: HangLimit.milliseconds) { loop.stop() }
        for (index, call) in calls.enumerated() {
            channels[index].unary(path: call.path, request: call.request) { result in
                switch result {
                case .success: codes[index] = .ok
                case .failure(let status): codes[index] = status.code
                }
                left -= 1
                guard left == 0 else { return }
                for channel in channels { channel.close() }
                node.drain { loop.stop() }
            }
        }
        loop.run()
        #expect(codes == calls.map(\.code))
    }
}
