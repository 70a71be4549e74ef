import Contracts
import Net

/// Who may call a node. A peer over a Unix socket must be our own user; over TCP its certificate must come from the
/// cluster's authority (TLS has checked that) and name a role of this cluster. Data, and the directory, which shows
/// keys, are for gateways, and for `orbit`, which creates the first user; backups are for `orbit` alone; Raft is for
/// other nodes, and so are the steps of transactions that they recover; health and reflection are for every process
/// of the cluster.
struct InvocationAccess {
    /// The user that peers over Unix sockets must be.
    let user: UInt32
    /// Anybody may do anything: said in the log on every start.
    let isInsecure: Bool

    private static let service = "/orbit.v1.InvocationService/"
    private static let node = "storage-node"

    /// What a peer that was let in may demand: only a gateway has seen its clients' passwords, and may speak for them.
    /// Our own user is trusted with everything: it could read the gateway's memory.
    func rights(of peer: PeerIdentity) -> CallerRights {
        if isInsecure { return CallerRights(mayNamePrincipal: true) }
        return switch peer {
        case .process: CallerRights(mayNamePrincipal: true)
        case .certificate(let subject):
            CallerRights(
                mayNamePrincipal: subject.organizationalUnit?.hasSuffix("-gw") ?? false,
                isLimitedToSteps: subject.organizationalUnit == Self.node)
        case .none: CallerRights(mayNamePrincipal: false)
        }
    }

    /// Nil to let the call through, else what to answer.
    func refusal(path: String, peer: PeerIdentity) -> GRPCStatus? {
        if isInsecure { return nil }
        switch peer {
        case .process(let user, _, _):
            return user == self.user ? nil : GRPCStatus(.permissionDenied, "only user \(self.user) may use this socket")
        case .certificate(let subject):
            guard subject.organization == "orbit", let role = subject.organizationalUnit else {
                return GRPCStatus(.unauthenticated, "the certificate names no role in this cluster")
            }
            if PeerPath.contains(path) {
                return role == Self.node ? nil : GRPCStatus(.permissionDenied, "role \(role) is no storage node")
            }
            if path.hasPrefix("/\(BackupPath.service)/") {
                return role == "orbit" ? nil : GRPCStatus(.permissionDenied, "role \(role) may not back up or restore")
            }
            let isFeed = path.hasPrefix("/\(ChangeFeedPath.service)/")
            let dataServices = [
                Self.service, "/\(DirectoryPath.service)/", "/\(SagaPath.service)/", "/\(TransactionPath.service)/",
            ]
            let isData = isFeed || dataServices.contains { path.hasPrefix($0) }
            let mayRead = isData ? role == "orbit" : ["orbit", Self.node, "coordinator"].contains(role)
            // Of the data, nodes only take part in transactions and do steps of sagas: see `CallerRights`.
            // And they pass on each other's feeds.
            let maySend = role == Self.node && (path == Self.service + "Stream" || isFeed)
            return mayRead || maySend || role.hasSuffix("-gw")
                ? nil : GRPCStatus(.permissionDenied, "role \(role) may not call \(path)")
        case .none:
            return GRPCStatus(.unauthenticated, "a certificate of the cluster is needed")
        }
    }
}
