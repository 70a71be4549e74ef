import Base
import Contracts

/// ACL: users and their rights.
enum ACLCommands {
    static let rows: [RESPCommand] = [
        .aclCategories, .aclDeleteUser, .aclDryRun, .aclGeneratePassword, .aclGetUser, .aclHelp, .aclList,
        .aclSetUser, .aclUsers, .aclWhoAmI,
    ]
}

extension RESPCommand {
    static let acl = RESPCommand(
        "acl", .server, since: "6.0.0",
        summary: "A container for Access List Control commands ", subcommands: ACLCommands.rows
    )

    static let aclCategories = RESPCommand(
        "acl|cat", -2, [.noScript, .loading, .stale], .server, since: "6.0.0",
        complexity: "O(1) since the categories and commands are a fixed set.",
        summary: "List the ACL categories or the commands inside a category"
    ) { words, session, reply throws(DatabaseError) in
        try ACLAnswers.categories(words, session, &reply)
    }

    static let aclDeleteUser = RESPCommand(
        "acl|deluser", -3, [.admin, .noScript, .loading, .stale, .unqueueable], .server, since: "6.0.0",
        complexity: "O(1) amortized time considering the typical user.",
        summary: "Remove the specified ACL users and the associated rules"
    ) { words, session, _ throws(DatabaseError) in
        try ACLAnswers.deleteUsers(words, session)
    }

    static let aclDryRun = RESPCommand(
        "acl|dryrun", -4, [.admin, .noScript, .loading, .stale], .server, since: "7.0.0", complexity: "O(1).",
        summary: "Returns whether the user can execute the given command without executing the command."
    ) { words, session, reply throws(DatabaseError) in
        try ACLAnswers.dryRun(words, session, &reply)
    }

    static let aclGeneratePassword = RESPCommand(
        "acl|genpass", -2, [.noScript, .loading, .stale], .server, since: "6.0.0",
        summary: "Generate a pseudorandom secure password to use for ACL users"
    ) { words, session, reply throws(DatabaseError) in
        try ACLAnswers.generatePassword(words, session, &reply)
    }

    static let aclGetUser = RESPCommand(
        "acl|getuser", 3, [.admin, .noScript, .loading, .stale], .server, since: "6.0.0",
        complexity: "O(N). Where N is the number of password, command and pattern rules that the user has.",
        summary: "Get the rules for a specific ACL user"
    ) { words, session, reply throws(DatabaseError) in
        ACLAnswers.describe(words, session, &reply)
    }

    static let aclHelp = RESPCommand(
        "acl|help", 2, [.loading, .stale], .server, since: "6.0.0",
        summary: "Show helpful text about the different subcommands"
    ) { _, _, reply throws(DatabaseError) in
        reply.appendHelp([
            "ACL <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
            "CAT [<category>]",
            "    List all commands that belong to <category>, or all command categories",
            "    when no category is specified.",
            "DELUSER <username> [<username> ...]",
            "    Delete a list of users.",
            "DRYRUN <username> <command> [<arg> ...]",
            "    Returns whether the user can execute the given command without executing the command.",
            "GETUSER <username>",
            "    Get the user's details.",
            "GENPASS [<bits>]",
            "    Generate a secure 256-bit user password. The optional `bits` argument can",
            "    be used to specify a different size.",
            "LIST",
            "    Show users details in config file format.",
            "SETUSER <username> <attribute> [<attribute> ...]",
            "    Create or modify a user with the specified attributes.",
            "USERS",
            "    List all the registered usernames.",
            "WHOAMI",
            "    Return the current connection username.",
            "HELP",
            "    Prints this help.",
        ])
    }

    static let aclList = RESPCommand(
        "acl|list", 2, [.admin, .noScript, .loading, .stale], .server, since: "6.0.0",
        complexity: "O(N). Where N is the number of configured users.",
        summary: "List the current ACL rules in ACL config file format"
    ) { _, session, reply throws(DatabaseError) in
        let lines = session.server.users.users.values.map(\.line).sorted()
        reply.appendArray(lines.count)
        for line in lines { reply.appendBulk(line) }
    }

    static let aclSetUser = RESPCommand(
        "acl|setuser", -3, [.admin, .noScript, .loading, .stale, .secret, .unqueueable], .server, since: "6.0.0",
        complexity: "O(N). Where N is the number of rules provided.",
        summary: "Modify or create the rules for a specific ACL user"
    ) { words, session, _ throws(DatabaseError) in
        try ACLAnswers.setUser(words, session)
    }

    static let aclUsers = RESPCommand(
        "acl|users", 2, [.admin, .noScript, .loading, .stale], .server, since: "6.0.0",
        complexity: "O(N). Where N is the number of configured users.",
        summary: "List the username of all the configured ACL rules"
    ) { _, session, reply throws(DatabaseError) in
        let names = session.server.users.users.keys.sorted()
        reply.appendArray(names.count)
        for name in names { reply.appendBulk(name) }
    }

    static let aclWhoAmI = RESPCommand(
        "acl|whoami", 2, [.noScript, .loading, .stale], .server, since: "6.0.0",
        summary: "Return the name of the user associated to the current connection"
    ) { _, session, reply throws(DatabaseError) in
        reply.appendBulk(session.user?.name ?? "default")
    }
}
