import Base
import Contracts

/// Commands about the server and whole databases.
enum ServerCommands {
    static let rows: [RESPCommand] = [
        .acl, .command, .config, .databaseSize, .debug, .flushAll, .flushDatabase, .info, .latency, .memory, .slowLog,
        .time,
    ]
}

extension RESPCommand {
    static let databaseSize = RESPCommand(
        "dbsize", 1, [.readonly, .fast], .server, acl: .keyspace,
        tips: ["request_policy:all_shards", "response_policy:agg_sum"], since: "1.0.0",
        summary: "Return the number of keys in the selected database"
    ) { _, call throws(DatabaseError) in
        call.call(.databaseSize, on: .everyShard)
    }

    static let debug = RESPCommand(
        "debug", -2, [.admin, .noScript, .loading, .stale, .unqueueable], .server, since: "1.0.0",
        complexity: "Depends on subcommand.", summary: "A container for debugging commands"
    ) { words, session, _ throws(DatabaseError) in
        guard words.matches(1, "sleep"), words.count == 3 else {
            throw DatabaseError(
                .syntax,
                "unknown subcommand or wrong number of arguments for '\(words[1].text)'. Try DEBUG SLEEP seconds.")
        }
        // Only this client waits: the loop, and with it everybody else, goes on.
        guard let seconds = Double(words[2].text), seconds >= 0, seconds <= 86_400 else {
            throw DatabaseError(.notAFloat, "value is not a valid float")
        }
        session.postpone(.delay(session.nextToken, milliseconds: UInt64(seconds * 1000))) { $0.append("+OK\r\n") }
    }

    static let info = RESPCommand(
        "info", -1, [.loading, .stale], .server, acl: .dangerous,
        tips: ["nondeterministic_output", "request_policy:all_shards", "response_policy:special"], since: "1.0.0",
        summary: "Get information and statistics about the server"
    ) { words, session, reply throws(DatabaseError) in
        let sections = ServerInformation.sections(words)
        if sections.contains(.keyspace) {
            session.postpone(.countKeys(session.nextToken)) { _ in }
            session.pendingSections = sections
        } else {
            reply.appendVerbatim(ServerInformation.text(sections, session.server, keys: []), session.version)
        }
    }

    static let flushAll = RESPCommand(
        "flushall", -1, .write, .server, acl: [.keyspace, .dangerous],
        tips: ["request_policy:all_shards", "response_policy:all_succeeded"], since: "1.0.0",
        summary: "Remove all keys from all databases"
    ) { words, call throws(DatabaseError) in
        try checkFlushMode(words)
        call.call(.flushAll, on: .everyShard)
    }

    static let flushDatabase = RESPCommand(
        "flushdb", -1, .write, .server, acl: [.keyspace, .dangerous],
        tips: ["request_policy:all_shards", "response_policy:all_succeeded"], since: "1.0.0",
        summary: "Remove all keys from the current database"
    ) { words, call throws(DatabaseError) in
        try checkFlushMode(words)
        call.call(.flushDatabase, on: .everyShard)
    }

    static let time = RESPCommand(
        "time", 1, [.loading, .stale, .fast], .server, tips: ["nondeterministic_output"], since: "2.6.0",
        summary: "Return the current server time"
    ) { _, session, reply throws(DatabaseError) in
        let now = session.server.wallMilliseconds
        reply.appendArray(2)
        reply.appendBulk(String(now / 1000))
        reply.appendBulk(String(now % 1000 * 1000))
    }
}

/// ASYNC and SYNC are the same here: a flush costs the same for any number of keys, and the space is collected later.
private func checkFlushMode(_ words: Words) throws(DatabaseError) {
    guard words.count == 1 || (words.count == 2 && (words.matches(1, "async") || words.matches(1, "sync"))) else {
        throw .syntaxError
    }
}
