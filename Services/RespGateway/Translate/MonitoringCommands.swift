import Base
import Contracts

/// SLOWLOG.
enum SlowLogCommands {
    static let rows: [RESPCommand] = [
        .slowLogGet, .slowLogHelp, .slowLogLength, .slowLogReset,
    ]
}

extension RESPCommand {
    static let slowLog = RESPCommand(
        "slowlog", .server, since: "2.2.12",
        summary: "A container for slow log commands", subcommands: SlowLogCommands.rows
    )

    static let slowLogGet = RESPCommand(
        "slowlog|get", -2, [.admin, .loading, .stale], .server,
        tips: ["request_policy:all_nodes", "nondeterministic_output"], since: "2.2.12",
        complexity: "O(N) where N is the number of entries returned", summary: "Get the slow log's entries"
    ) { words, session, reply throws(DatabaseError) in
        try listSlow(words, session, &reply)
    }

    static let slowLogHelp = RESPCommand(
        "slowlog|help", 2, [.loading, .stale], .server, since: "6.2.0",
        summary: "Show helpful text about the different subcommands"
    ) { _, _, reply throws(DatabaseError) in
        reply.appendHelp([
            "SLOWLOG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
            "GET [<count>]",
            "    Return top <count> entries from the slowlog (default: 10, -1 mean all).",
            "    Entries are made of:",
            "    id, timestamp, time in microseconds, arguments array, client IP and port,",
            "    client name",
            "LEN",
            "    Return the length of the slowlog.",
            "RESET",
            "    Reset the slowlog.",
            "HELP",
            "    Prints this help.",
        ])
    }

    static let slowLogLength = RESPCommand(
        "slowlog|len", 2, [.admin, .loading, .stale], .server,
        tips: ["request_policy:all_nodes", "response_policy:agg_sum", "nondeterministic_output"],
        since: "2.2.12", summary: "Get the slow log's length"
    ) { _, session, reply throws(DatabaseError) in
        reply.appendInteger(Int64(session.server.slowLog.entries.count))
    }

    static let slowLogReset = RESPCommand(
        "slowlog|reset", 2, [.admin, .loading, .stale], .server,
        tips: ["request_policy:all_nodes", "response_policy:all_succeeded"], since: "2.2.12",
        complexity: "O(N) where N is the number of entries in the slowlog",
        summary: "Clear all entries from the slow log"
    ) { _, session, reply throws(DatabaseError) in
        session.server.slowLog.removeAll()
        reply.append("+OK\r\n")
    }
}

/// SLOWLOG GET [count]
private func listSlow(_ words: Words, _ session: RESPSession, _ reply: inout ByteBuffer) throws(DatabaseError) {
    guard words.count <= 3 else {
        throw DatabaseError(
            .syntax, "unknown subcommand or wrong number of arguments for 'get'. Try SLOWLOG HELP.")
    }
    var entries = session.server.slowLog.entries[...]
    var limit: Int64 = 10
    if words.count == 3 {
        guard let count = words[2].decimal, count >= -1 else {
            throw DatabaseError(.invalidArgument, "count should be greater than or equal to -1")
        }
        limit = count
    }
    if limit >= 0 { entries = entries.prefix(Int(min(limit, Int64(entries.count)))) }
    reply.appendArray(entries.count)
    for entry in entries {
        reply.appendArray(6)
        reply.appendInteger(Int64(truncatingIfNeeded: entry.id))
        reply.appendInteger(Int64(truncatingIfNeeded: entry.time))
        reply.appendInteger(Int64(truncatingIfNeeded: entry.microseconds))
        reply.appendArray(entry.words.count)
        for word in entry.words { word.withUnsafeBytes { reply.appendBulk($0) } }
        reply.appendBulk(entry.address)
        entry.name.withUnsafeBytes { reply.appendBulk($0) }
    }
}

/// LATENCY.
enum LatencyCommands {
    static let rows: [RESPCommand] = [
        .latencyHelp, .latencyHistory, .latencyLatest, .latencyReset,
    ]
}

extension RESPCommand {
    /// Minimal: no event is ever sampled here, the histograms are in the metrics.
    static let latency = RESPCommand(
        "latency", .server, since: "2.8.13",
        summary: "A container for latency diagnostics commands", subcommands: LatencyCommands.rows
    )

    static let latencyHelp = RESPCommand(
        "latency|help", 2, [.loading, .stale], .server, since: "2.8.13",
        summary: "Show helpful text about the different subcommands."
    ) { _, _, reply throws(DatabaseError) in
        reply.appendHelp([
            "LATENCY <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
            "HISTORY <event>",
            "    Return time-latency samples for the <event> class.",
            "LATEST",
            "    Return the latest latency samples for all events.",
            "RESET [<event> ...]",
            "    Reset latency data of one or more <event> classes.",
            "    (default: reset all data for all event classes)",
            "HELP",
            "    Prints this help.",
        ])
    }

    static let latencyHistory = RESPCommand(
        "latency|history", 3, [.admin, .noScript, .loading, .stale], .server,
        tips: ["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"],
        since: "2.8.13", summary: "Return timestamp-latency samples for the event."
    ) { _, _, reply throws(DatabaseError) in
        reply.appendArray(0)
    }

    static let latencyLatest = RESPCommand(
        "latency|latest", 2, [.admin, .noScript, .loading, .stale], .server,
        tips: ["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"],
        since: "2.8.13", summary: "Return the latest latency samples for all events."
    ) { _, _, reply throws(DatabaseError) in
        reply.appendArray(0)
    }

    static let latencyReset = RESPCommand(
        "latency|reset", -2, [.admin, .noScript, .loading, .stale], .server,
        tips: ["request_policy:all_nodes", "response_policy:all_succeeded"], since: "2.8.13",
        summary: "Reset latency data for one or more events."
    ) { _, _, reply throws(DatabaseError) in
        reply.appendInteger(0)
    }
}
