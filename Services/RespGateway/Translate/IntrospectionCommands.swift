import Base
import Contracts

/// COMMAND: what this server can do, from the same rows that do it.
enum IntrospectionCommands {
    static let rows: [RESPCommand] = [
        .commandCount, .commandDocs, .commandGetKeys, .commandGetKeysAndFlags, .commandHelp, .commandInfo,
        .commandList,
    ]
}

extension RESPCommand {
    /// Without a subcommand it describes everything; so it is not a plain container.
    static let command = RESPCommand(
        "command", -1, [.loading, .stale], .server, acl: .connection, tips: ["nondeterministic_output_order"],
        since: "2.8.13", complexity: "O(N) where N is the total number of Redis commands",
        summary: "Get array of Redis command details", subcommands: IntrospectionCommands.rows
    ) { _, session, reply throws(DatabaseError) in
        let commands = session.server.table.commands
        reply.appendArray(commands.count)
        for command in commands { CommandDescription.append(command, session.version, &reply) }
    }

    static let commandCount = RESPCommand(
        "command|count", 2, [.loading, .stale], .server, acl: .connection, since: "2.8.13",
        summary: "Get total number of Redis commands"
    ) { _, session, reply throws(DatabaseError) in
        reply.appendInteger(Int64(session.server.table.commands.count))
    }

    static let commandDocs = RESPCommand(
        "command|docs", -2, [.loading, .stale], .server, acl: .connection,
        tips: ["nondeterministic_output_order"], since: "7.0.0",
        complexity: "O(N) where N is the number of commands to look up",
        summary: "Get array of specific Redis command documentation"
    ) { words, session, reply throws(DatabaseError) in
        CommandDescription.docs(words, session, &reply)
    }

    static let commandGetKeys = RESPCommand(
        "command|getkeys", -4, [.loading, .stale], .server, acl: .connection, since: "2.8.13",
        complexity: "O(N) where N is the number of arguments to the command",
        summary: "Extract keys given a full Redis command"
    ) { words, session, reply throws(DatabaseError) in
        try CommandDescription.keys(words, session, &reply, withFlags: false)
    }

    static let commandGetKeysAndFlags = RESPCommand(
        "command|getkeysandflags", -4, [.loading, .stale], .server, acl: .connection, since: "7.0.0",
        complexity: "O(N) where N is the number of arguments to the command",
        summary: "Extract keys and access flags given a full Redis command"
    ) { words, session, reply throws(DatabaseError) in
        try CommandDescription.keys(words, session, &reply, withFlags: true)
    }

    static let commandHelp = RESPCommand(
        "command|help", 2, [.loading, .stale], .server, acl: .connection, since: "5.0.0",
        summary: "Show helpful text about the different subcommands"
    ) { _, _, reply throws(DatabaseError) in
        reply.appendHelp([
            "COMMAND <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
            "(no subcommand)",
            "    Return details about all Redis commands.",
            "COUNT",
            "    Return the total number of commands in this Redis server.",
            "LIST",
            "    Return a list of all commands in this Redis server.",
            "INFO [<command-name> ...]",
            "    Return details about multiple Redis commands.",
            "    If no command names are given, documentation details for all",
            "    commands are returned.",
            "DOCS [<command-name> ...]",
            "    Return documentation details about multiple Redis commands.",
            "    If no command names are given, documentation details for all",
            "    commands are returned.",
            "GETKEYS <full-command>",
            "    Return the keys from a full Redis command.",
            "GETKEYSANDFLAGS <full-command>",
            "    Return the keys and the access flags from a full Redis command.",
            "HELP",
            "    Prints this help.",
        ])
    }

    static let commandInfo = RESPCommand(
        "command|info", -2, [.loading, .stale], .server, acl: .connection,
        tips: ["nondeterministic_output_order"], since: "2.8.13",
        complexity: "O(N) where N is the number of commands to look up",
        summary: "Get array of specific Redis command details, or all when no argument is given."
    ) { words, session, reply throws(DatabaseError) in
        CommandDescription.info(words, session, &reply)
    }

    static let commandList = RESPCommand(
        "command|list", -2, [.loading, .stale], .server, acl: .connection,
        tips: ["nondeterministic_output_order"], since: "7.0.0",
        complexity: "O(N) where N is the total number of Redis commands",
        summary: "Get an array of Redis command names"
    ) { words, session, reply throws(DatabaseError) in
        try CommandDescription.list(words, session, &reply)
    }
}
