import CSystem
import Crypto

/// Who is at the other end of a connection, as far as the transport proves it.
package enum PeerIdentity: Hashable, Sendable {
    /// TCP without a verified certificate: anybody.
    case none
    /// A Unix socket: the kernel vouches for the process that connected.
    case process(user: UInt32, group: UInt32, process: Int32)
    /// TLS with a certificate that our authority signed.
    case certificate(CertificateSubject)

    /// The peer of a connected Unix socket.
    static func process(of fd: Int32) -> PeerIdentity {
        var process: Int32 = 0
        var user: UInt32 = 0
        var group: UInt32 = 0
        guard orbit_peer_credentials(fd, &process, &user, &group) == 0 else { return .none }
        return .process(user: user, group: group, process: process)
    }
}
