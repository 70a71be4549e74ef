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
        }
        return try configuration.clusterTLS(role)
    }

    /// The TLS for one listener or peer: none over a Unix socket, where file permissions and peer credentials take its
    /// place; over TCP the cluster's, or a refusal.
    package func requireTLS(_ context: TLSContext?, for address: SocketAddress) throws -> TLSContext? {
        try configuration.requireTLS(context, for: address)
    }

    /// The addresses of option `listen`, one or several with commas between.
    package func listenAddresses(_ name: String = "listen") throws -> [SocketAddress] {
        try configuration.addresses(name)
    }
}

extension Configuration {
    /// What the three options of TLS between processes say; nil without them, and with `--insecure`.
    package func clusterTLS(_ role: TLSContext.Role) throws -> TLSContext? {
        if bool("insecure") { return nil }
        let names = ["tls-ca", "tls-cert", "tls-key"]
        let paths = names.compactMap { optionalString($0) }
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

    /// The TLS for one listener or peer, as `Service.requireTLS` says.
    package func requireTLS(_ context: TLSContext?, for address: SocketAddress) throws -> TLSContext? {
        if case .unix = address { return nil }
        if context == nil, !bool("insecure") {
            throw ConfigurationError(
                "\(address) needs --tls-ca, --tls-cert and --tls-key (or --insecure, which lets anybody in)")
        }
        return context
    }

    /// The addresses of an option, one or several with commas between.
    package func addresses(_ name: String) throws -> [SocketAddress] {
        try list(name).map { try SocketAddress(parsing: $0) }
    }

    /// For `config check` of a process that serves others of its cluster: every address is one, and has the TLS that it
    /// needs.
    package func checkAddresses(_ names: String...) throws {
        let context = try clusterTLS(.server)
        for name in names {
            for address in try addresses(name) { _ = try requireTLS(context, for: address) }
        }
    }
}
