import Base
import Net

/// What `orbit up` was asked for.
package struct ClusterOptions: Hashable, Sendable {
    /// Absolute path of the cluster's directory.
    package var data: String
    package var nodes = 1
    package var shards = 1
    /// One, or three that survive the loss of one of them. Fixed when the cluster is made.
    package var coordinators = 1
    package var portOffset = 0
    /// The address that gateways bind.
    package var listen = "127.0.0.1"
    package var fsync = "always"
    package var isInsecure = false
    package var restarts = true
    /// Whether there is a gateway for clients of PostgreSQL.
    package var servesPostgres = true
    /// Replicas of a shard; nil leaves it to the coordinator.
    package var replicationFactor: Int?
    /// Given to the nodes in turn; empty: nodes have no zone.
    package var zones: [String] = []

    package init(data: String) { self.data = data }

    /// How many coordinators a new cluster of so many nodes gets: whoever asks for three nodes wants to lose one.
    package static func coordinators(forNodes nodes: Int) -> Int { nodes >= 3 ? 3 : 1 }

    /// The labels of `--zone`. An empty list takes the nodes' zones away.
    package static func zones(_ list: String, nodes: Int) throws(UsageError) -> [String] {
        if list.isEmpty { return [] }
        let zones = list.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
        for zone in zones {
            guard (1...64).contains(zone.utf8.count), zone.utf8.allSatisfy({ $0 > 0x20 && $0 != 0x7F }) else {
                throw UsageError("--zone takes labels of 1 to 64 bytes without blanks, with commas between")
            }
        }
        guard zones.count <= nodes else {
            throw UsageError("--zone names \(zones.count) zones, and nodes there are \(nodes)")
        }
        return zones
    }
}

/// One process of the cluster: what it is and how it is started.
package struct ProcessSpec: Hashable, Sendable {
    package let role: Role
    /// `storage-node-1`: unique in the cluster, the name that `orbit start` and `orbit stop` take.
    package let id: String
    package let arguments: [String]
    /// Where it serves: first its Unix socket (if it has one), then TCP.
    package let addresses: [String]
    /// The last of its addresses, if clients speak TLS there, with a certificate of the cluster's authority.
    package var tlsAddress: String?
    /// Its admin port.
    package let admin: String
    package let dataDirectory: String?

    /// The executables that a cluster is made of, in the order in which they are needed.
    package enum Role: String, CaseIterable, Hashable, Sendable {
        case coordinator
        case storageNode = "storage-node"
        case respGateway = "resp-gw"
        case pgGateway = "pg-gw"

        /// It serves clients, and shows them a certificate.
        package var isGateway: Bool {
            switch self {
            case .coordinator, .storageNode: false
            case .respGateway, .pgGateway: true
            }
        }

        /// Before any `--port-offset`; storage nodes count up from theirs, coordinators down.
        package var port: Int {
            switch self {
            case .coordinator: 50050
            case .storageNode: 50051
            case .respGateway: 6379
            case .pgGateway: 5432
            }
        }

        /// Where clients speak TLS from their first byte; nil where there is no such port.
        package var tlsPort: Int? {
            switch self {
            case .coordinator, .storageNode, .pgGateway: nil
            case .respGateway: 6380
            }
        }
    }
}

/// The files of a cluster's directory.
package struct ClusterPaths: Hashable, Sendable {
    package let data: String

    package init(data: String) { self.data = data }

    package var state: String { "\(data)/cluster.json" }
    package var password: String { "\(data)/password" }
    package var run: String { "\(data)/run" }
    package var log: String { "\(data)/log" }
    package var tls: String { "\(data)/tls" }
    /// Held by the supervisor for as long as it lives.
    package var lock: String { "\(run)/lock" }
    /// Where the supervisor takes orders.
    package var control: String { "\(run)/orbit" }

    /// The files of one process.
    package func logFile(_ id: String) -> String { "\(log)/\(id).log" }
    /// Says which process runs; removed when it ends.
    package func pidFile(_ id: String) -> String { "\(run)/\(id).pid" }
    /// The certificate of a process, signed by the cluster's authority.
    package func certificate(_ id: String) -> String { "\(tls)/\(id).pem" }
    package func key(_ id: String) -> String { "\(tls)/\(id).key" }
    /// What a gateway shows to its clients: not the certificate that it has among processes.
    package func clientCertificate(_ id: String) -> String { "\(tls)/\(id).clients.pem" }
    /// The private key of `clientCertificate`.
    package func clientKey(_ id: String) -> String { "\(tls)/\(id).clients.key" }
    package var authority: String { "\(tls)/ca.pem" }
    package var authorityKey: String { "\(tls)/ca.key" }
}

/// A local cluster on paper: every process with its command line. Pure: it is made from options alone.
///
/// Processes of one cluster talk over Unix sockets in the cluster's owner-only directory; TCP addresses (mutual TLS,
/// unless `--insecure`) are for tools and for other machines. Socket names are short because a Unix socket's path is.
package struct ClusterPlan: Hashable, Sendable {
    package let options: ClusterOptions
    package let processes: [ProcessSpec]

    package var paths: ClusterPaths { ClusterPaths(data: options.data) }

    package init(_ options: ClusterOptions) throws(UsageError) {
        self.options = options
        let paths = ClusterPaths(data: options.data)
        let longest = "\(paths.run)/c1.admin"
        guard longest.utf8.count <= SocketAddress.maximumPathLength else {
            throw UsageError("\(options.data) is too long for the sockets in it: choose a shorter --data directory")
        }
        var processes: [ProcessSpec] = []
        for number in 1...options.coordinators { processes.append(Self.coordinator(number, options, paths)) }
        for number in 1...options.nodes { processes.append(Self.node(number, options, paths)) }
        processes.append(try Self.gateway(.respGateway, "g1", options, paths))
        if options.servesPostgres { processes.append(try Self.gateway(.pgGateway, "p1", options, paths)) }
        self.processes = processes
    }

    private static func coordinator(_ number: Int, _ options: ClusterOptions, _ paths: ClusterPaths) -> ProcessSpec {
        var more = ["--shards", "\(options.shards)", "--nodes", "\(options.nodes)"]
        if let factor = options.replicationFactor { more += ["--replication-factor", "\(factor)"] }
        if options.coordinators > 1 {
            let members = (1...options.coordinators).flatMap { member in
                coordinatorAddresses(member, options, paths).map { "\(member)=\($0)" }
            }
            more += ["--id", "\(number)", "--peers", members.joined(separator: ",")]
        }
        return spec(
            .coordinator, "coordinator-\(number)", "c\(number)", coordinatorAddresses(number, options, paths), paths,
            options, more)
    }

    private static func coordinatorAddresses(
        _ number: Int, _ options: ClusterOptions, _ paths: ClusterPaths
    ) -> [String] {
        let port = ProcessSpec.Role.coordinator.port - (number - 1) + options.portOffset
        return ["unix:\(paths.run)/c\(number)", "127.0.0.1:\(port)"]
    }

    /// Where the others find the coordinators.
    private static func coordinators(_ options: ClusterOptions, _ paths: ClusterPaths) -> String {
        (1...options.coordinators).map { "unix:\(paths.run)/c\($0)" }.joined(separator: ",")
    }

    private static func node(_ number: Int, _ options: ClusterOptions, _ paths: ClusterPaths) -> ProcessSpec {
        let id = "storage-node-\(number)"
        let port = ProcessSpec.Role.storageNode.port + number - 1 + options.portOffset
        var more = ["--coordinator", coordinators(options, paths), "--fsync", options.fsync]
        if !options.zones.isEmpty { more += ["--zone", options.zones[(number - 1) % options.zones.count]] }
        return spec(
            .storageNode, id, "n\(number)", ["unix:\(paths.run)/n\(number)", "127.0.0.1:\(port)"], paths, options, more)
    }

    private static func gateway(
        _ role: ProcessSpec.Role, _ socket: String, _ options: ClusterOptions, _ paths: ClusterPaths
    ) throws(UsageError) -> ProcessSpec {
        let id = "\(role.rawValue)-1"
        let host =
            options.listen.contains(":") && !options.listen.hasPrefix("[") ? "[\(options.listen)]" : options.listen
        let address = "\(host):\(role.port + options.portOffset)"
        do throws(DatabaseError) { _ = try SocketAddress(parsing: address) } catch {
            throw UsageError("--listen takes the address of an interface, such as 127.0.0.1 or ::; \(error.message)")
        }
        let admin = "unix:\(paths.run)/\(socket).admin"
        var addresses = [address]
        var arguments = ["--listen", address, "--coordinator", coordinators(options, paths), "--admin", admin]
        let tlsAddress = role.tlsPort.map { "\(host):\($0 + options.portOffset)" }
        if let tlsAddress {
            addresses.append(tlsAddress)
            arguments += ["--tls-listen", tlsAddress]
        }
        arguments += ["--client-cert", paths.clientCertificate(id), "--client-key", paths.clientKey(id)]
        return ProcessSpec(
            role: role, id: id, arguments: arguments, addresses: addresses, tlsAddress: tlsAddress, admin: admin,
            dataDirectory: nil)
    }

    /// What coordinator and node have in common: a directory, a Unix socket, a TCP port with the cluster's TLS.
    private static func spec(
        _ role: ProcessSpec.Role, _ id: String, _ socket: String, _ addresses: [String], _ paths: ClusterPaths,
        _ options: ClusterOptions, _ more: [String]
    ) -> ProcessSpec {
        let directory = "\(paths.data)/\(id)"
        let admin = "unix:\(paths.run)/\(socket).admin"
        let listen = addresses.joined(separator: ",")
        var arguments = ["--data", directory, "--listen", listen, "--admin", admin] + more
        if options.isInsecure {
            arguments.append("--insecure")
        } else {
            arguments += [
                "--tls-ca", paths.authority, "--tls-cert", paths.certificate(id), "--tls-key", paths.key(id),
            ]
        }
        return ProcessSpec(
            role: role, id: id, arguments: arguments, addresses: addresses, admin: admin, dataDirectory: directory)
    }
}
