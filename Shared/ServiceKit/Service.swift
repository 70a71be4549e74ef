import Base
import Crypto
import Glibc
import Net

/// What a process says about itself before it runs.
package struct ServiceDescription: Sendable {
    /// The executable's name, which is its role in the cluster: `storage-node`.
    package let role: String
    /// One sentence for `--help`.
    package let summary: String
    package let options: [ConfigurationOption]
    /// Says what is wrong with settings that are good one by one: `config check` asks, a start finds out by itself.
    package let check: @Sendable (Configuration) throws -> Void

    package init(
        role: String, summary: String, options: [ConfigurationOption],
        check: @escaping @Sendable (Configuration) throws -> Void = { _ in }
    ) {
        self.role = role
        self.summary = summary
        self.options = options
        self.check = check
    }

    /// The release that this source tree is.
    package static let version = "0.1.0"

    /// The options that every service has, before its own. `listen` and what else differs is each service's own.
    package static let standardOptions: [ConfigurationOption] = [
        ConfigurationOption("admin", .address, default: "127.0.0.1:0", help: "Admin port: health, metrics, status"),
        ConfigurationOption("log-format", .choice(["text", "json"]), default: "text", help: "Form of log lines"),
        ConfigurationOption(
            "log-level", .choice(["debug", "info", "warning", "error"]), default: "info", help: "Lowest level logged"),
        ConfigurationOption("drain-timeout", .duration, default: "10s", help: "Grace period after SIGTERM"),
        ConfigurationOption("insecure", .bool, default: "no", help: "No TLS between processes: anybody may connect"),
        ConfigurationOption("tls-ca", .path, help: "Certificate authority of the cluster (PEM)"),
        ConfigurationOption("tls-cert", .path, help: "Certificate of this process (PEM)"),
        ConfigurationOption("tls-key", .path, help: "Private key of this process (PEM)"),
    ]

    /// All options, the service's own first.
    var allOptions: [ConfigurationOption] {
        options + Self.standardOptions.filter { row in !options.contains { $0.name == row.name } }
    }
}

/// The frame of every process: settings, logger, loop, admin port, signals, drain.
///
///     Service.run(description) { service in
///         let node = try Node(service.configuration, loop: service.loop)
///         service.readiness("log") { node.isRecovered ? nil : "recovering" }
///         service.onDrain { done in node.drain(then: done) }
///     }
///
/// `run` reads the settings (or answers `config print`, `config check`, `--help`, `--version` and exits), opens the
/// admin port, calls the body on the loop's thread before the loop runs, and then runs the loop until the process is
/// drained.
///
/// Lifecycle: *starting* (`/livez` 200, `/startupz` 503) until every readiness probe has said yes once; *ready* while
/// all say yes; *draining* after SIGTERM or SIGINT (`/readyz` 503): drain handlers run one after another, the loop
/// stops when the last is done or the grace period is over. A second signal exits at once.
package final class Service {
    package let description: ServiceDescription
    package let configuration: Configuration
    package let logger: Logger
    package let metrics = Metrics()
    package let loop: EventLoop
    package let clock: any Clock = SystemClock()
    /// What `orbit status` shows: set by the body.
    package var id = ""
    package var dataDirectory: String?
    /// Where the process serves, as bound.
    package var addresses: [SocketAddress] = []

    private var probes: [(name: String, probe: () -> String?)] = []
    private var drains: [(@escaping () -> Void) -> Void] = []
    private var statusLines: () -> [JSON.Member] = { [] }
    private var hasStarted = false
    private var admin: HTTPServer?
    private let startedAt: UInt64
    package private(set) var isDraining = false
    private var exitStatus: Int32 = 0

    private init(_ description: ServiceDescription, _ configuration: Configuration) throws {
        self.description = description
        self.configuration = configuration
        let level = LogLevel.allCases.first { $0.name == configuration.string("log-level") } ?? .info
        let format = Logger.Format(rawValue: configuration.string("log-format")) ?? .text
        logger = Logger(process: description.role, format: format, level: level)
        loop = try EventLoop()
        startedAt = clock.monotonicNanoseconds()
        id = description.role
    }

    /// Runs the process from its command line to its end.
    package static func run(_ description: ServiceDescription, _ body: (Service) throws -> Void) -> Never {
        Allocator.keepMore()
        // A peer that closes early is an error of one write, not the end of the process.
        signal(SIGPIPE, SIG_IGN)
        raiseDescriptorLimit()
        let configuration = settings(of: description)
        do {
            let service = try Service(description, configuration)
            try service.openAdmin()
            service.watchSignals()
            for variable in configuration.unknownVariables where !shared(variable) {
                service.logger.warning("unknown variable in the environment", ["variable": .text(variable)])
            }
            try body(service)
            service.registerMetrics()
            service.logger.info(
                "started",
                [
                    "version": .text(ServiceDescription.version), "pid": .count(getpid()),
                    "addresses": .text(service.addresses.map(\.description).joined(separator: ",")),
                    "admin": .text(service.admin?.boundAddress?.description ?? ""),
                ])
            service.loop.run()
            service.admin?.close()
            service.logger.info("stopped")
            exit(service.exitStatus)
        } catch {
            fail("\(description.role): \(error)")
        }
    }

    // MARK: For the body

    /// Adds a probe to `/readyz`: nil when that part could serve a request, else why it could not.
    package func readiness(_ name: String, _ probe: @escaping () -> String?) { probes.append((name, probe)) }

    /// Adds a step of the drain; it calls `done` on the loop when it has finished. Steps run in the order they were
    /// added.
    package func onDrain(_ step: @escaping (_ done: @escaping () -> Void) -> Void) { drains.append(step) }

    /// Adds role-specific members to `/status`.
    package func status(_ lines: @escaping () -> [JSON.Member]) { statusLines = lines }

    /// Ends the process because it cannot go on: a disk that fails, a lost lease. Logged, exit status 1, no drain.
    package func fail(_ message: String, _ error: any Error) -> Never {
        logger.error(message, ["error": .describing(error)])
        exit(1)
    }

    /// Begins the drain, as SIGTERM does.
    package func drain() {
        guard !isDraining else { return }
        isDraining = true
        logger.info("draining")
        let limit = configuration.integer("drain-timeout")
        loop.schedule(afterMilliseconds: limit) { [self] in
            logger.warning("the grace period is over: exiting undrained")
            exitStatus = 1
            loop.stop()
        }
        nextDrain(0)
    }

    // MARK: Start

    private static func settings(of description: ServiceDescription) -> Configuration {
        let words = Array(CommandLine.arguments.dropFirst())
        if words == ["--version"] { answer("\(description.role) \(ServiceDescription.version)\n") }
        let configuration: Configuration
        do throws(ConfigurationError) { configuration = try Configuration(description.allOptions) } catch {
            fail("\(description.role): \(error)", status: 64)
        }
        if configuration.bool("help") {
            let usage = "usage: \(description.role) [config print|config check] [options]"
            answer("\(usage)\n\n\(description.summary)\n\n\(Configuration.help(description.allOptions))")
        }
        let command = configuration.positionals
        if !command.isEmpty { answer(result(of: command, configuration, description)) }
        return configuration
    }

    /// What `config print` and `config check` show. A function of its own: as a switch in `settings`, over an array,
    /// the optimizer of Swift 6.3.1 called `printed` without its argument, and a release build crashed.
    private static func result(
        of command: [String], _ configuration: Configuration, _ description: ServiceDescription
    ) -> String {
        switch command.joined(separator: " ") {
        case "config print": return configuration.printed()
        case "config check":
            do {
                _ = try SocketAddress(parsing: configuration.string("admin"))
                _ = try configuration.clusterTLS(.server)
                try description.check(configuration)
            } catch {
                fail("\(description.role): \(error)")
            }
            return "\(description.role): the configuration is good\n"
        case let unknown: fail("\(description.role): unknown command: \(unknown)", status: 64)
        }
    }

    /// As many descriptors as the system allows: the usual soft limit of 1024 is for programs that use `select`.
    private static func raiseDescriptorLimit() {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return }
        limit.rlim_cur = limit.rlim_max
        _ = setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    }

    /// The whole result of a command line such as `--help`.
    private static func answer(_ text: String) -> Never {
        print(text, terminator: "")  // tidy:allow print: it is what was asked for
        exit(0)
    }

    private static func fail(_ message: String, status: Int32 = 1) -> Never {
        Bytes((message + "\n").utf8).withUnsafeBytes { Logger.standardError($0) }
        exit(status)
    }

    /// Variables that belong to `orbit` and the scripts, and mean nothing to a service.
    private static func shared(_ variable: String) -> Bool {
        ["ORBIT_PASSWORD", "ORBIT_DATA", "ORBIT_BIN", "ORBIT_SIMULATION_SEEDS", "ORBIT_CRASH_ROUNDS"].contains {
            variable.hasPrefix($0)
        }
    }

    private func openAdmin() throws {
        let server = try HTTPServer(loop: loop, address: SocketAddress(parsing: configuration.string("admin")))
        server.route("/livez") { _ in HTTPResponse(text: "ok\n") }
        server.route("/readyz") { [self] _ in health(readinessComplaints()) }
        server.route("/startupz") { [self] _ in
            hasStarted = hasStarted || readinessComplaints().isEmpty
            return health(hasStarted ? [] : readinessComplaints())
        }
        server.route("/metrics") { [self] _ in
            HTTPResponse(text: metrics.prometheusText(), contentType: "text/plain; version=0.0.4; charset=utf-8")
        }
        server.route("/status") { [self] _ in
            HTTPResponse(text: statusDocument().encoded() + "\n", contentType: "application/json")
        }
        try server.start()
        admin = server
    }

    private func health(_ complaints: [String]) -> HTTPResponse {
        if complaints.isEmpty { return HTTPResponse(text: "ok\n") }
        return HTTPResponse(status: 503, text: complaints.map { $0 + "\n" }.joined())
    }

    private func readinessComplaints() -> [String] {
        if isDraining { return ["draining"] }
        let complaints = probes.compactMap { row in row.probe().map { "\(row.name): \($0)" } }
        if complaints.isEmpty { hasStarted = true }
        return complaints
    }

    private func statusDocument() -> JSON {
        var members: [JSON.Member] = [
            .init("role", .text(description.role)), .init("id", .text(id)), .init("pid", .integer(Int64(getpid()))),
            .init("version", .text(ServiceDescription.version)),
            .init("uptimeSeconds", .integer(Int64((clock.monotonicNanoseconds() - startedAt) / 1_000_000_000))),
            .init("ready", .bool(readinessComplaints().isEmpty)), .init("draining", .bool(isDraining)),
            .init("addresses", .array(addresses.map { .text($0.description) })),
            .init("admin", .text(admin?.boundAddress?.description ?? "")),
        ]
        if let dataDirectory { members.append(.init("data", .text(dataDirectory))) }
        return .object(members + statusLines())
    }

    private func registerMetrics() {
        metrics.sampledGauge("orbit_ready", help: "1 while the process could serve a request") { [self] in
            readinessComplaints().isEmpty ? 1 : 0
        }
        metrics.sampledGauge("orbit_uptime_seconds", help: "Seconds since the process started") { [self] in
            Double((clock.monotonicNanoseconds() - startedAt) / 1_000_000_000)
        }
    }

    // MARK: End

    private func watchSignals() {
        let bound = LoopBound(self, loop: loop)
        for number in [SIGTERM, SIGINT] {
            loop.onSignal(number) {
                let service = bound.value
                if service.isDraining {
                    service.logger.warning("second signal: exiting at once")
                    exit(1)
                }
                service.drain()
            }
        }
    }

    private func nextDrain(_ index: Int) {
        guard index < drains.count else {
            // Replies written by the last step leave at the end of this tick, before the loop stops.
            loop.schedule(afterMilliseconds: 0) { [self] in loop.stop() }
            return
        }
        var isDone = false
        let step = drains[index]
        step { [self] in
            if isDone { return }
            isDone = true
            nextDrain(index + 1)
        }
    }
}
