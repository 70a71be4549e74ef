import Base
import Contracts
import Net

/// Who may call what. A peer over a Unix socket must be our own user; over TCP its certificate must come from the
/// cluster's authority (TLS has checked that) and name a role to which the method belongs.
package struct PlacementAccess: Sendable {
    /// The user that peers over Unix sockets must be.
    package let user: UInt32
    /// Anybody may do anything: said in the log on every start.
    package let isInsecure: Bool

    package init(user: UInt32, isInsecure: Bool) {
        self.user = user
        self.isInsecure = isInsecure
    }

    /// The organisation that the cluster's authority writes into certificates.
    private static let organization = "orbit"

    /// Nil to let the call through, else what to answer.
    package func refusal(path: String, peer: PeerIdentity) -> GRPCStatus? {
        if isInsecure { return nil }
        switch peer {
        case .process(let user, _, _):
            if user == self.user { return nil }
            return GRPCStatus(.permissionDenied, "only user \(self.user) may use this socket")
        case .certificate(let subject):
            guard subject.organization == Self.organization, let role = subject.organizationalUnit else {
                return GRPCStatus(.unauthenticated, "the certificate names no role in this cluster")
            }
            if Self.permits(role: role, path: path) { return nil }
            return GRPCStatus(.permissionDenied, "role \(role) may not call \(path)")
        case .none:
            return GRPCStatus(.unauthenticated, "a certificate of the cluster is needed")
        }
    }

    /// The name on the peer's certificate, to which what a node says of itself is bound; empty where the system vouches
    /// for the peer, or nobody does.
    package func certificateName(of peer: PeerIdentity) -> String {
        guard !isInsecure, case .certificate(let subject) = peer else { return "" }
        return subject.commonName ?? ""
    }

    private static func permits(role: String, path: String) -> Bool {
        let isKnown = ["storage-node", "coordinator", "orbit"].contains(role) || role.hasSuffix("-gw")
        switch path {
        case PlacementPath.registerNode, PlacementPath.renewLease, PlacementPath.releaseLease:
            return role == "storage-node"
        case PlacementPath.drainNode, PlacementPath.activateNode, PlacementPath.rebalance:
            return role == "orbit"
        case PlacementPath.allocateIDs:
            return role == "storage-node" || role == "coordinator"
        case let path where PeerPath.contains(path):
            return role == "coordinator"
        default:
            return isKnown  // Reading: the map, the description, health and reflection.
        }
    }
}
