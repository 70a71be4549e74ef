import Base
import Glibc
import Net
import ServiceKit

extension Command {
    static let up = Command(
        "up", summary: "Starts a local cluster of real processes and keeps it running.",
        options: [
            .data, .json,
            CommandOption(
                "nodes", "N", "storage nodes; fixed when the cluster is made (default 1); from 3 on, 3 coordinators"),
            CommandOption("shards", "N", "shards; fixed when the cluster is made (default: one per node)"),
            CommandOption("replication-factor", "N", "replicas of a shard (default 3), as far as nodes can keep them"),
            CommandOption(
                "zone", "LIST", "zones for the nodes in turn, with commas between; replicas are spread over them"),
            CommandOption("detach", nil, "return when the cluster is ready; orbit down ends it"),
            CommandOption("port-offset", "K", "add K to every port, so that clusters live side by side"),
            CommandOption("listen", "ADDR", "interface on which gateways serve clients (default 127.0.0.1)"),
            CommandOption("fsync", "POLICY", "always (default): durable before the reply; everysec: once a second"),
            CommandOption("insecure", nil, "no TLS between processes: anybody who reaches a port may connect"),
            CommandOption("no-postgres", nil, "no gateway for clients of PostgreSQL"),
            CommandOption("no-restart", nil, "leave a process that dies where it is"),
        ]
    ) { arguments in try UpCommand(arguments).run() }

    /// What `orbit up --detach` leaves running; not listed in the help.
    static let supervise = Command("supervise", summary: "", options: [.data]) { arguments in
        let data = try ClusterDirectory.path(arguments)
        guard let state = try ClusterState.load(data: data) else { throw UsageError("there is no cluster in \(data)") }
        let directory = ClusterDirectory(data: data)
        guard try directory.lock() else { throw UsageError("the cluster in \(data) is up already") }
        return try SuperviseSession(plan: ClusterPlan(state.options), disk: directory.disk).run()
    }
}

/// `orbit up`: prepares the cluster's directory, starts its processes, waits until all are ready, says how to connect.
struct UpCommand {
    private let arguments: Arguments
    private let console: Console
    private let directory: ClusterDirectory
    private let plan: ClusterPlan
    private let isNew: Bool

    init(_ arguments: Arguments) throws {
        self.arguments = arguments
        console = Console(isQuiet: arguments.has("json"))
        let data = try ClusterDirectory.path(arguments)
        directory = ClusterDirectory(data: data)
        let known = try ClusterState.load(data: data)
        isNew = known == nil
        plan = try ClusterPlan(Self.options(arguments, data: data, known: known?.options))
    }

    /// The options of this start; what was fixed when the cluster was made must not be contradicted.
    package static func options(
        _ arguments: Arguments, data: String, known: ClusterOptions?
    ) throws(UsageError) -> ClusterOptions {
        var options = ClusterOptions(data: data)
        let nodes = try arguments.number("nodes", in: 1...64)
        let shards = try arguments.number("shards", in: 1...1024)
        options.nodes = nodes ?? known?.nodes ?? 1
        options.shards = shards ?? known?.shards ?? options.nodes
        options.coordinators = known?.coordinators ?? ClusterOptions.coordinators(forNodes: options.nodes)
        if let known, known.nodes != options.nodes || known.shards != options.shards {
            throw UsageError(
                "the cluster in \(data) was made with \(known.nodes) nodes and \(known.shards) shards; "
                    + "that cannot be changed yet (use another --data)")
        }
        options.portOffset = try arguments.number("port-offset", in: 0...15_000) ?? 0
        options.listen = arguments.text("listen") ?? options.listen
        options.fsync = try arguments.choice("fsync", of: ["always", "everysec"]) ?? options.fsync
        options.isInsecure = arguments.has("insecure")
        options.restarts = !arguments.has("no-restart")
        options.servesPostgres = !arguments.has("no-postgres")
        options.replicationFactor =
            try arguments.number("replication-factor", in: 1...9) ?? known?.replicationFactor
        let zones = try arguments.text("zone").map { (text) throws(UsageError) in
            try ClusterOptions.zones(text, nodes: options.nodes)
        }
        options.zones = zones ?? known?.zones ?? []
        return options
    }

    func run() throws -> Int32 {
        let clock = SystemClock()
        let began = clock.monotonicNanoseconds()
        console.progress("\(console.styled("orbit \(ServiceDescription.version)", .bold)) · \(directory.paths.data)")
        try directory.make()
        if directory.isSupervised {
            throw UsageError("the cluster in \(directory.paths.data) is up already; orbit status shows it")
        }
        try stopLeftovers()
        try checkPorts()
        if plan.options.isInsecure {
            console.warn("INSECURE", "no TLS between processes; anybody who reaches a port may connect")
        }
        if try directory.makeCertificates(plan, now: Int64(clock.wallMilliseconds() / 1000)) {
            console.done("certificate authority", "made, in \(directory.paths.tls)")
        }
        let password = try directory.password()
        try SmallFile.replace(directory.paths.state, ClusterState(options: plan.options).encode(), on: directory.disk)

        let report = ReadyReport(plan: plan, password: password, console: console, began: began)
        if arguments.has("detach") {
            return try DetachedStart(plan: plan, report: report, console: console).run()
        }
        guard try directory.lock() else { throw UsageError("another orbit up has just begun here") }
        return try SuperviseSession(plan: plan, disk: directory.disk, console: console, report: report).run()
    }

    /// Processes that outlived a supervisor which was killed would hold the ports and the data: they are drained first.
    private func stopLeftovers() throws {
        let leftovers = directory.livePids(plan)
        guard !leftovers.isEmpty else { return }
        console.warn("earlier processes", "stopping \(leftovers.keys.sorted().joined(separator: ", "))")
        try StopProcesses(pids: Array(leftovers.values)).run()
    }

    /// A busy port is better reported here, with its owner, than by the process that fails on it.
    private func checkPorts() throws {
        for spec in plan.processes {
            for text in spec.addresses {
                let address = try SocketAddress(parsing: text)
                guard let port = address.port, let host = address.host else { continue }
                if PortOwner.isFree(host: host, port: Int(port)) { continue }
                throw UsageError(
                    "port \(port), for \(spec.id), is held by \(PortOwner.describe(port: Int(port))); "
                        + "free ports: orbit up --port-offset \(freeOffset())")
            }
        }
    }

    /// The first multiple of 100 at which every port of the plan is free.
    private func freeOffset() -> Int {
        let wanted = plan.processes.flatMap(\.addresses).compactMap { try? SocketAddress(parsing: $0) }
        for step in 1...150 where step * 100 != plan.options.portOffset {
            let shift = step * 100 - plan.options.portOffset
            let isFree = wanted.allSatisfy { address in
                guard let port = address.port, let host = address.host else { return true }
                return PortOwner.isFree(host: host, port: Int(port) + shift)
            }
            if isFree { return step * 100 }
        }
        return 100
    }
}

/// What `orbit up` says when the cluster is ready.
struct ReadyReport {
    let plan: ClusterPlan
    let password: ClusterDirectory.Password
    let console: Console
    /// Monotonic nanoseconds at the start of the command.
    let began: UInt64

    /// How the password appears in a line to copy: itself when it is new, else where it can be read.
    private var shownPassword: String {
        switch password {
        case .made(let text): text
        case .stored: "$(cat \(shellWord(plan.paths.password)))"
        case .given: "$ORBIT_PASSWORD"
        }
    }

    /// Where a protocol is served.
    private struct Endpoint {
        /// As in a URL: `redis`, `rediss`, `postgresql`.
        let scheme: String
        let address: String
        /// What follows the address in a URL.
        let path: String
    }

    private var endpoints: [Endpoint] {
        plan.processes.flatMap { spec in
            spec.addresses.compactMap { address in
                switch spec.role {
                case .coordinator, .storageNode: nil
                case .respGateway:
                    Endpoint(
                        scheme: address == spec.tlsAddress ? "rediss" : "redis", address: host(address), path: "")
                case .pgGateway: Endpoint(scheme: "postgresql", address: host(address), path: "/orbit")
                }
            }
        }
    }

    /// The line that connects a client.
    private func line(_ endpoint: Endpoint) -> String {
        let url = "\(endpoint.scheme)://orbit:\(shownPassword)@\(endpoint.address)\(endpoint.path)"
        let shown = console.styled(url, .bold)
        switch endpoint.scheme {
        case "rediss": return "  over TLS  redis-cli --tls --cacert \(shellWord(plan.paths.authority)) -u \(shown)"
        case "redis": return "  redis     redis-cli -u \(shown)"
        case _: return "  psql      psql \(shown)"
        }
    }

    private func host(_ text: String) -> String {
        // A wildcard is where to listen, not where to connect.
        return text.replacing("0.0.0.0:", with: "127.0.0.1:").replacing("[::]:", with: "[::1]:")
    }

    func show(processes: [(id: String, role: String, pid: Int)]) {
        let took = Int((SystemClock().monotonicNanoseconds() - began) / 1_000_000)
        if console.isQuiet {
            console.out(document(processes, took).encoded(isPretty: true))
            return
        }
        console.out()
        console.out("\(console.styled("Ready", .green)) in \(seconds(took)). Connect:")
        console.out()
        for endpoint in endpoints { console.out(line(endpoint)) }
        console.out()
        if case .made(let text) = password {
            console.out("The password of user orbit is \(text)")
            console.out("(shown this once; stored in \(plan.paths.password), readable by you only).")
        }
    }

    private func document(_ processes: [(id: String, role: String, pid: Int)], _ took: Int) -> JSON {
        let urls = endpoints.map { JSON.Member($0.scheme, .text("\($0.scheme)://orbit@\($0.address)\($0.path)")) }
        var members: [JSON.Member] = [
            .init("data", .text(plan.options.data)), .init("ready", .bool(true)),
            .init("milliseconds", .integer(Int64(took))), .init("user", .text("orbit")),
            .init("endpoints", .object(urls)), .init("authority", .text(plan.paths.authority)),
        ]
        if case .given = password {} else { members.append(.init("passwordFile", .text(plan.paths.password))) }
        let addresses = Dictionary(uniqueKeysWithValues: plan.processes.map { ($0.id, $0.addresses) })
        members.append(
            .init(
                "processes",
                .array(
                    processes.map { process in
                        .object([
                            .init("role", .text(process.role)), .init("id", .text(process.id)),
                            .init("pid", .integer(Int64(process.pid))),
                            .init("addresses", .array((addresses[process.id] ?? []).map { .text($0) })),
                        ])
                    })))
        return .object(members)
    }
}
