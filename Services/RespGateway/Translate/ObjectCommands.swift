import Base
import Contracts

/// OBJECT: how a value is kept.
enum ObjectCommands {
    static let rows: [RESPCommand] = [
        .objectEncoding, .objectFrequency, .objectHelp, .objectIdleTime, .objectReferences,
    ]
}

extension RESPCommand {
    static let object = RESPCommand(
        "object", .generic, since: "2.2.3",
        summary: "A container for object introspection commands", subcommands: ObjectCommands.rows
    )

    static let objectEncoding = RESPCommand(
        "object|encoding", 3, .readonly, .generic, keys: [.init(at: 2, .readOnly)], acl: .keyspace,
        tips: ["nondeterministic_output"], since: "2.2.3",
        summary: "Inspect the internal encoding of a Redis object"
    ) { words, call throws(DatabaseError) in
        call.call(.objectEncoding, words[2])
    }

    static let objectFrequency = RESPCommand(
        "object|freq", 3, .readonly, .generic, keys: [.init(at: 2, .readOnly)], acl: .keyspace,
        tips: ["nondeterministic_output"], since: "4.0.0", reply: .frequency,
        summary: "Get the logarithmic access frequency counter of a Redis object"
    ) { words, call throws(DatabaseError) in
        call.call(.objectEncoding, words[2])
    }

    static let objectHelp = RESPCommand(
        "object|help", 2, [.loading, .stale], .generic, acl: .keyspace, since: "6.2.0",
        summary: "Show helpful text about the different subcommands"
    ) { _, _, reply throws(DatabaseError) in
        reply.appendHelp([
            "OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
            "ENCODING <key>",
            "    Return the kind of internal representation used in order to store the value",
            "    associated with a <key>.",
            "FREQ <key>",
            "    Return the access frequency index of the <key>. The returned integer is",
            "    proportional to the logarithm of the recent access frequency of the key.",
            "IDLETIME <key>",
            "    Return the idle time of the <key>, that is the approximated number of",
            "    seconds elapsed since the last access to the key.",
            "REFCOUNT <key>",
            "    Return the number of references of the value associated with the specified",
            "    <key>.",
            "HELP",
            "    Prints this help.",
        ])
    }

    static let objectIdleTime = RESPCommand(
        "object|idletime", 3, .readonly, .generic, keys: [.init(at: 2, .readOnly)], acl: .keyspace,
        tips: ["nondeterministic_output"], since: "2.2.3",
        summary: "Get the time since a Redis object was last accessed"
    ) { words, call throws(DatabaseError) in
        call.call(.objectIdleTime, words[2])
    }

    static let objectReferences = RESPCommand(
        "object|refcount", 3, .readonly, .generic, keys: [.init(at: 2, .readOnly)], acl: .keyspace,
        tips: ["nondeterministic_output"], since: "2.2.3", reply: .reference,
        summary: "Get the number of references to the value of the key"
    ) { words, call throws(DatabaseError) in
        call.call(.objectEncoding, words[2])
    }
}

/// MEMORY.
enum MemoryCommands {
    static let rows: [RESPCommand] = [
        .memoryHelp, .memoryUsage,
    ]
}

extension RESPCommand {
    static let memory = RESPCommand(
        "memory", .server, since: "4.0.0",
        summary: "A container for memory diagnostics commands", subcommands: MemoryCommands.rows
    )

    static let memoryHelp = RESPCommand(
        "memory|help", 2, [.loading, .stale], .server, since: "4.0.0",
        summary: "Show helpful text about the different subcommands"
    ) { _, _, reply throws(DatabaseError) in
        reply.appendHelp([
            "MEMORY <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
            "USAGE <key> [SAMPLES <count>]",
            "    Return memory in bytes used by <key> and its value. Nested values are",
            "    sampled up to <count> times (default: 5, 0 means sample all).",
            "HELP",
            "    Prints this help.",
        ])
    }

    static let memoryUsage = RESPCommand(
        "memory|usage", -3, .readonly, .server, keys: [.init(at: 2, .readOnly)], since: "4.0.0",
        complexity: "O(N) where N is the number of samples.", summary: "Estimate the memory usage of a key"
    ) { words, call throws(DatabaseError) in
        try parseUsage(words, call)
    }
}

/// MEMORY USAGE key [SAMPLES count]: the answer is an estimate of the whole value, so samples change nothing.
private func parseUsage(_ words: Words, _ call: CallFrame) throws(DatabaseError) {
    var position = 3
    while position < words.count {
        guard words.matches(position, "samples"), position + 1 < words.count else { throw .syntaxError }
        guard try words.integer(position + 1) >= 0 else { throw .syntaxError }
        position += 2
    }
    call.call(.memoryUsage, words[2])
}
