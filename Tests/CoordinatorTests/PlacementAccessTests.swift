import Base
import Contracts
import Coordinator
import Crypto
import Net
import Testing

@Suite("PlacementAccess")
struct PlacementAccessTests {
    private let access = PlacementAccess(user: 1000, isInsecure: false)

    private func code(_ path: String, _ peer: PeerIdentity) -> GRPCStatus.Code? {
        access.refusal(path: path, peer: peer)?.code
    }

    private func certificate(_ role: String?, organization: String? = "orbit") -> PeerIdentity {
        .certificate(CertificateSubject(organization: organization, organizationalUnit: role, commonName: "x"))
    }

    @Test("lets roles do what is theirs and nothing else")
    func roles() {
        let writes = [PlacementPath.registerNode, PlacementPath.renewLease, PlacementPath.releaseLease]
        for path in writes {
            #expect(code(path, certificate("storage-node")) == nil)
            for role in ["resp-gw", "orbit", "coordinator", "storage-nodes", "gw", ""] {
                #expect(code(path, certificate(role)) == .permissionDenied, "\(role) \(path)")
            }
        }
        #expect(code(PeerPath.exchange, certificate("coordinator")) == nil)
        for role in ["storage-node", "resp-gw", "orbit"] {
            #expect(code(PeerPath.exchange, certificate(role)) == .permissionDenied, "\(role)")
        }
        #expect(code(PlacementPath.allocateIDs, certificate("storage-node")) == nil)
        #expect(code(PlacementPath.allocateIDs, certificate("resp-gw")) == .permissionDenied)
        for path in [PlacementPath.watch, PlacementPath.describe, "/grpc.health.v1.Health/Check"] {
            for role in ["storage-node", "resp-gw", "pg-gw", "orbit", "coordinator"] {
                #expect(code(path, certificate(role)) == nil, "\(role) \(path)")
            }
            #expect(code(path, certificate("stranger")) == .permissionDenied)
            #expect(code(path, certificate(nil)) == .unauthenticated)
            #expect(code(path, certificate("orbit", organization: "elsewhere")) == .unauthenticated)
            #expect(code(path, .none) == .unauthenticated)
        }
    }

    @Test("lets only our own user in over Unix sockets")
    func users() {
        #expect(code(PlacementPath.registerNode, .process(user: 1000, group: 1, process: 7)) == nil)
        #expect(code(PlacementPath.watch, .process(user: 1001, group: 1000, process: 7)) == .permissionDenied)
        #expect(code(PlacementPath.watch, .process(user: 0, group: 0, process: 7)) == .permissionDenied)
    }

    @Test("lets anybody in when told to be insecure")
    func insecure() {
        let open = PlacementAccess(user: 1000, isInsecure: true)
        #expect(open.refusal(path: PlacementPath.registerNode, peer: .none) == nil)
    }
}
