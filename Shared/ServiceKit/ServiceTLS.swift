import Base
import Crypto
import Net

extension Service {
    /// The TLS of this process towards others of its cluster, from `--tls-ca`, `--tls-cert` and `--tls-key`: both ends
    /// show a certificate of the cluster's authority. Nil with `--insecure`, which is said in the log on every start,
    /// and when no certificate is configured (Unix sockets need none; `requireTLS` refuses TCP then).
    package func clusterTLS(_ role: TLSContext.Role) throws -> TLSContext? {
        if configuration.bool("insecure") {
            logger.warning("INSECURE: no TLS and no authentication between processes (--insecure)")
            return nil
        }
        let names = ["tls-ca", "tls-cert", "tls-key"]
        let paths = names.compactMap { configuration.optionalString($0) }
        if paths.isEmpty { return nil }
        guard paths.count == names.count else {
            throw ConfigurationError("--tls-ca, --tls-cert and --tls-key go together")
        }
        let disk = PosixDisk()
        let files = try paths.map { try disk.read($0, limit: 1 << 20) }
        return try TLSContext(
            TLSContext.Settings(
                role: role, certificate: files[1], privateKey: files[2], authorities: files[0],
                verification: .required, applicationProtocols: ["h2"]))
    }

    /// The TLS for one listener or peer: none over a Unix socket, where file permissions and peer credentials take its
    /// place; over TCP the cluster's, or a refusal.
    package func requireTLS(_ context: TLSContext?, for address: SocketAddress) throws -> TLSContext? {
        if case .unix = address { return nil }
        if context == nil, !configuration.bool("insecure") {
            throw ConfigurationError(
                "\(address) needs --tls-ca, --tls-cert and --tls-key (or --insecure, which lets anybody in)")
        }
        return context
    }

    /// The addresses of option `listen`, one or several with commas between.
    package func listenAddresses(_ name: String = "listen") throws -> [SocketAddress] {
        try configuration.list(name).map { try SocketAddress(parsing: $0) }
    }
}
