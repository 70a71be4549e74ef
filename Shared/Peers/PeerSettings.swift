import Base
import Net

/// How links behave. The same for all links of a process.
package struct PeerSettings: Sendable {
    /// The process's role, which its peers must have too: `storage-node` or `coordinator`.
    package var role: String
    /// The user that peers over Unix sockets must be.
    package var user: UInt32
    /// Anybody may be a peer: said in the log on every start.
    package var isInsecure = false
    /// The versions of the service that are spoken.
    package var protocols: ClosedRange<UInt32>

    /// What may wait for one peer, in bytes; a single message may exceed it. It is less than what a receiver takes as
    /// one gRPC message, 20 MB, by more than the largest entry exceeds it.
    package var queueBytes = 16 << 20
    /// What may wait for one peer, in messages.
    package var queueMessages = 1 << 16
    /// Bytes at which a batch leaves before the tick ends: the peer works while the rest is gathered.
    package var batchBytes = 1 << 20

    /// How often a peer is asked for its clock, and whether it is there.
    package var probeMilliseconds = 100
    /// A peer that does not answer for this long counts as down.
    package var silenceMilliseconds: UInt64 = 500
    /// A connection without an answer for this long is given up: after a network has healed, TCP would wait for the
    /// end of a pause that has grown with the outage.
    package var patienceMilliseconds: UInt64 = 2_000
    /// How long connecting and greeting may take.
    package var attemptMilliseconds = 1_000
    /// Waits between attempts: doubling from the first to the last, ± 25 %.
    package var firstBackOff: UInt64 = 20, lastBackOff: UInt64 = 1_000

    /// Two clocks of a cluster that are further apart are a fault.
    package var maximumOffsetMilliseconds = HLC.defaultMaxOffsetMilliseconds

    package init(role: String, user: UInt32, protocols: ClosedRange<UInt32> = 1...1) {
        self.role = role
        self.user = user
        self.protocols = protocols
    }

    /// Why a connection is none of a peer's, as far as the transport proves who is there: certificates name a role,
    /// Unix sockets a user.
    package func refusal(of peer: PeerIdentity) -> GRPCStatus? {
        if isInsecure { return nil }
        switch peer {
        case .process(let user, _, _):
            return user == self.user ? nil : GRPCStatus(.permissionDenied, "only user \(self.user) may be a peer")
        case .certificate(let subject):
            guard subject.organization == "orbit", let role = subject.organizationalUnit else {
                return GRPCStatus(.unauthenticated, "the certificate names no role in this cluster")
            }
            return role == self.role ? nil : GRPCStatus(.permissionDenied, "role \(role) is no peer of \(self.role)")
        case .none:
            return GRPCStatus(.unauthenticated, "a certificate of the cluster is needed")
        }
    }
}
