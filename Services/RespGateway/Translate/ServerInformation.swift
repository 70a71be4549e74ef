import Base

/// INFO: what this gateway knows about itself, in the sections and words that clients of Redis look for. What Redis
/// counts and a gateway does not have is left out rather than invented.
enum ServerInformation {
    enum Section: String, CaseIterable, Hashable, Sendable {
        case server, clients, memory, persistence, stats, replication, cpu, modules, commandstats, errorstats, cluster
        case keyspace
    }

    /// The sections that INFO's arguments name; all but the long ones when there are none.
    static func sections(_ words: Words) -> Set<Section> {
        let usual = Set(Section.allCases).subtracting([.commandstats])
        guard words.count > 1 else { return usual }
        var sections: Set<Section> = []
        for position in 1..<words.count {
            if words.matches(position, "default") {
                sections.formUnion(usual)
            } else if words.matches(position, "all") || words.matches(position, "everything") {
                sections.formUnion(Section.allCases)
            } else if let section = Section(rawValue: words[position].text.lowercased()) {
                sections.insert(section)
            }
        }
        return sections
    }

    static func text(_ sections: Set<Section>, _ server: ServerState, keys: [UInt64]) -> String {
        Section.allCases.filter(sections.contains).map { section in
            let title = section == .cpu ? "CPU" : section.rawValue.prefix(1).uppercased() + section.rawValue.dropFirst()
            return "# \(title)\r\n" + lines(section, server, keys).map { $0 + "\r\n" }.joined()
        }.joined(separator: "\r\n")
    }

    private static func lines(_ section: Section, _ server: ServerState, _ keys: [UInt64]) -> [String] {
        switch section {
        case .server: serverLines(server)
        case .clients:
            [
                "connected_clients:\(server.clients.count)", "maxclients:\(server.settings.maximumClients)",
                "blocked_clients:\(server.clients.values.count { $0.isWaiting })",
            ]
        case .memory:
            [
                "used_memory:\(server.resources().residentBytes)",
                "used_memory_rss:\(server.resources().residentBytes)", "maxmemory:0", "maxmemory_policy:noeviction",
            ]
        case .persistence:
            [
                "loading:0", "aof_enabled:1", "aof_last_write_status:ok", "rdb_bgsave_in_progress:0",
                "aof_rewrite_in_progress:0",
            ]
        case .stats:
            [
                "total_connections_received:\(server.connectionsReceived)",
                "total_commands_processed:\(server.commandsProcessed)",
                "total_net_input_bytes:\(server.inputBytes)", "total_net_output_bytes:\(server.outputBytes)",
                "rejected_connections:\(server.connectionsRejected)", "total_error_replies:\(server.errors)",
                "pubsub_channels:\(server.channels.channelCount)", "pubsub_patterns:\(server.channels.patternCount)",
            ]
        case .replication: ["role:master", "connected_slaves:0"]
        case .cpu: processorLines(server.resources())
        case .modules: []
        case .commandstats: commandLines(server)
        case .errorstats: ["errorstat_ALL:count=\(server.errors)"]
        case .cluster: ["cluster_enabled:0"]
        case .keyspace:
            keys.enumerated().filter { $0.element > 0 }.map { "db\($0.offset):keys=\($0.element),expires=0,avg_ttl=0" }
        }
    }

    private static func serverLines(_ server: ServerState) -> [String] {
        let facts = server.facts
        let uptime = (max(server.wallMilliseconds, facts.startedAtMilliseconds) - facts.startedAtMilliseconds) / 1000
        return [
            "redis_version:\(ServerFacts.redisVersion)", "orbit_version:\(facts.version)", "redis_mode:standalone",
            "os:\(facts.operatingSystem)", "arch_bits:64", "multiplexing_api:epoll", "process_id:\(facts.processID)",
            "run_id:\(facts.runID)", "tcp_port:\(facts.port)", "server_time_usec:\(server.wallMilliseconds * 1000)",
            "uptime_in_seconds:\(uptime)", "uptime_in_days:\(uptime / 86_400)", "hz:10", "configured_hz:10",
            "executable:\(facts.executable)", "config_file:\(facts.configurationFile)", "io_threads_active:0",
        ]
    }

    private static func processorLines(_ resources: ProcessResources) -> [String] {
        func seconds(_ microseconds: UInt64) -> String {
            let fraction = String(microseconds % 1_000_000)
            return "\(microseconds / 1_000_000)." + String(repeating: "0", count: 6 - fraction.count) + fraction
        }
        return [
            "used_cpu_sys:\(seconds(resources.systemMicroseconds))",
            "used_cpu_user:\(seconds(resources.userMicroseconds))",
        ]
    }

    private static func commandLines(_ server: ServerState) -> [String] {
        zip(server.table.commands, server.calls).filter { $0.1 > 0 }.map { command, calls in
            "cmdstat_\(command.name):calls=\(calls)"
        }
    }
}
