import Base
import Contracts

/// CONFIG: the settings that are real (`Settings.rows`).
enum ConfigCommands {
    static let rows: [RESPCommand] = [
        .configGet, .configHelp, .configResetStatistics, .configSet,
    ]
}

extension RESPCommand {
    static let config = RESPCommand(
        "config", .server, since: "2.0.0",
        summary: "A container for server configuration commands", subcommands: ConfigCommands.rows
    )

    static let configGet = RESPCommand(
        "config|get", -3, [.admin, .noScript, .loading, .stale], .server, since: "2.0.0",
        complexity: "O(N) when N is the number of configuration parameters provided",
        summary: "Get the values of configuration parameters"
    ) { words, session, reply throws(DatabaseError) in
        let patterns = (2..<words.count).map { words[$0] }
        let rows = Settings.rows.filter { row in
            patterns.contains { pattern in
                Array(row.name.utf8).withUnsafeBytes { Glob.matches(pattern, $0, ignoringCase: true) }
            }
        }
        reply.appendMap(rows.count, session.version)
        for row in rows {
            reply.appendBulk(row.name)
            reply.appendBulk(row.get(session.server.settings))
        }
    }

    static let configHelp = RESPCommand(
        "config|help", 2, [.loading, .stale], .server, since: "5.0.0",
        summary: "Show helpful text about the different subcommands"
    ) { _, _, reply throws(DatabaseError) in
        reply.appendHelp([
            "CONFIG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
            "GET <pattern>",
            "    Return parameters matching the glob-like <pattern> and their values.",
            "SET <directive> <value>",
            "    Set the configuration <directive> to <value>.",
            "RESETSTAT",
            "    Reset statistics reported by the INFO command.",
            "HELP",
            "    Prints this help.",
        ])
    }

    static let configResetStatistics = RESPCommand(
        "config|resetstat", 2, [.admin, .noScript, .loading, .stale], .server, since: "2.0.0",
        summary: "Reset the stats returned by INFO"
    ) { _, session, reply throws(DatabaseError) in
        session.server.resetStatistics()
        reply.append("+OK\r\n")
    }

    static let configSet = RESPCommand(
        "config|set", -4, [.admin, .noScript, .loading, .stale], .server,
        tips: ["request_policy:all_nodes", "response_policy:all_succeeded"], since: "2.0.0",
        complexity: "O(N) when N is the number of configuration parameters provided",
        summary: "Set configuration parameters to the given values"
    ) { words, session, reply throws(DatabaseError) in
        let server = session.server, notifications = server.settings.notifications
        try setOptions(words, session)
        // Who subscribed before hears of everything that comes after the answer; within EXEC nothing may wait.
        guard server.settings.notifications != notifications, session.runningCommands == nil else {
            return reply.append("+OK\r\n")
        }
        session.postpone(.listen(session.nextToken, KeyspaceInterest())) { $0.append("+OK\r\n") }
    }
}

/// CONFIG SET name value [name value ...]: all or nothing.
private func setOptions(_ words: Words, _ session: RESPSession) throws(DatabaseError) {
    guard words.count % 2 == 0 else { throw .wrongArity("config|set") }
    var settings = session.server.settings, seen: Set<String> = []
    for position in stride(from: 2, to: words.count, by: 2) {
        let name = words[position].text.lowercased()
        guard let row = Settings.rows.first(where: { $0.name == name }) else {
            throw DatabaseError(
                .invalidArgument,
                "Unknown option or number of arguments for CONFIG SET - '\(words[position].text)'")
        }
        let problem: String? =
            if !seen.insert(name).inserted {
                "duplicate parameter"
            } else if let set = row.set {
                set(&settings, words[position + 1].text)
            } else {
                "can't set immutable config"
            }
        if let problem {
            throw DatabaseError(
                .invalidArgument, "CONFIG SET failed (possibly related to argument '\(name)') - \(problem)")
        }
    }
    session.server.settings = settings
}
