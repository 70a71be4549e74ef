import Base

/// COMMAND and its subcommands: rows, told the way Redis tells them.
enum CommandDescription {
    /// COMMAND INFO [name ...]
    static func info(_ words: Words, _ session: RESPSession, _ reply: inout ByteBuffer) {
        let table = session.server.table
        guard words.count > 2 else {
            reply.appendArray(table.commands.count)
            for command in table.commands { append(command, session.version, &reply) }
            return
        }
        reply.appendArray(words.count - 2)
        for position in 2..<words.count {
            if let command = table.command(named: words[position]) {
                append(command, session.version, &reply)
            } else {
                reply.appendNull(session.version)
            }
        }
    }

    /// The ten facts about one command.
    static func append(_ command: RESPCommand, _ version: RESPVersion, _ reply: inout ByteBuffer) {
        reply.appendArray(10)
        reply.appendBulk(command.name)
        reply.appendInteger(Int64(command.arity))
        appendStatuses(command.flags.list, version, &reply)
        let (first, last, step) = oldKeySpec(command)
        reply.appendInteger(Int64(first))
        reply.appendInteger(Int64(last))
        reply.appendInteger(Int64(step))
        appendStatuses(command.categories.list, version, &reply)
        reply.appendSet(command.tips.count, version)
        for tip in command.tips { reply.appendBulk(tip) }
        reply.appendSet(command.keys.count, version)
        for spec in command.keys { append(spec, version, &reply) }
        reply.appendSet(command.subcommands.count, version)
        for subcommand in command.subcommands { append(subcommand, version, &reply) }
    }

    private static func appendStatuses(_ names: [String], _ version: RESPVersion, _ reply: inout ByteBuffer) {
        reply.appendSet(names.count, version)
        for name in names {
            var name = name
            name.withUTF8 { reply.appendStatus(ByteView($0)) }
        }
    }

    /// First, last, step of all keys together, as clients of Redis 6 and before want them.
    private static func oldKeySpec(_ command: RESPCommand) -> (Int, Int, Int) {
        guard let first = command.keys.first, let last = command.keys.last else { return (0, 0, 0) }
        return (first.first, last.last < 0 ? last.last : last.first + last.last, last.step)
    }

    private static func append(_ spec: KeySpec, _ version: RESPVersion, _ reply: inout ByteBuffer) {
        reply.appendMap(spec.notes.isEmpty ? 3 : 4, version)
        if !spec.notes.isEmpty {
            reply.appendBulk("notes")
            reply.appendBulk(spec.notes)
        }
        reply.appendBulk("flags")
        appendStatuses(spec.flags.list, version, &reply)
        reply.appendBulk("begin_search")
        reply.appendMap(2, version)
        reply.appendBulk("type")
        reply.appendBulk("index")
        reply.appendBulk("spec")
        reply.appendMap(1, version)
        reply.appendBulk("index")
        reply.appendInteger(Int64(spec.first))
        reply.appendBulk("find_keys")
        reply.appendMap(2, version)
        reply.appendBulk("type")
        reply.appendBulk("range")
        reply.appendBulk("spec")
        reply.appendMap(3, version)
        reply.appendBulk("lastkey")
        reply.appendInteger(Int64(spec.last))
        reply.appendBulk("keystep")
        reply.appendInteger(Int64(spec.step))
        reply.appendBulk("limit")
        reply.appendInteger(0)
    }

    /// COMMAND DOCS [name ...]. Unknown names are left out. Arguments are not described: redis-cli knows them by
    /// itself.
    static func docs(_ words: Words, _ session: RESPSession, _ reply: inout ByteBuffer) {
        let table = session.server.table
        let commands =
            words.count == 2
            ? table.commands : (2..<words.count).compactMap { table.command(named: words[$0]) }
        reply.appendMap(commands.count, session.version)
        for command in commands { appendDocs(command, session.version, &reply) }
    }

    private static func appendDocs(_ command: RESPCommand, _ version: RESPVersion, _ reply: inout ByteBuffer) {
        reply.appendBulk(command.name)
        reply.appendMap(command.subcommands.isEmpty ? 4 : 5, version)
        for (name, text) in [
            ("summary", command.summary), ("since", command.since), ("group", command.group.rawValue),
            ("complexity", command.complexity),
        ] {
            reply.appendBulk(name)
            reply.appendBulk(text)
        }
        guard !command.subcommands.isEmpty else { return }
        reply.appendBulk("subcommands")
        reply.appendMap(command.subcommands.count, version)
        for subcommand in command.subcommands { appendDocs(subcommand, version, &reply) }
    }

    /// COMMAND GETKEYS command [argument ...]
    static func keys(
        _ words: Words, _ session: RESPSession, _ reply: inout ByteBuffer, withFlags: Bool
    ) throws(DatabaseError) {
        let inner = words.dropFirst(2)
        let (command, _) = try resolve(inner, session.server.table) { name throws(DatabaseError) in
            throw DatabaseError(.invalidArgument, "Invalid command specified")
        }
        guard command.accepts(inner.count) else {
            throw DatabaseError(.invalidArgument, "Invalid number of arguments specified for command")
        }
        guard !command.keys.isEmpty else {
            throw DatabaseError(.invalidArgument, "The command has no key arguments")
        }
        let found = command.keys.flatMap { spec in spec.positions(of: inner.count).map { (spec, $0) } }
        reply.appendArray(found.count)
        for (spec, position) in found {
            if withFlags { reply.appendArray(2) }
            reply.appendBulk(inner[position])
            if withFlags { appendStatuses(spec.flags(of: command, inner).list, session.version, &reply) }
        }
    }

    /// The command or subcommand that the words name.
    static func resolve(
        _ words: Words, _ table: CommandTable, orElse refuse: (ByteView) throws(DatabaseError) -> Never
    ) throws(DatabaseError) -> (RESPCommand, Int) {
        guard let index = table.index(of: words[0]) else { try refuse(words[0]) }
        let command = table.commands[index]
        guard !command.subcommands.isEmpty, words.count > 1 else { return (command, index) }
        guard let subcommand = command.subcommand(words[1]) else { try refuse(words[0]) }
        return (subcommand, index)
    }

    /// COMMAND LIST [FILTERBY MODULE name | ACLCAT category | PATTERN pattern]
    static func list(_ words: Words, _ session: RESPSession, _ reply: inout ByteBuffer) throws(DatabaseError) {
        var commands = session.server.table.commands
        if words.count == 5, words.matches(2, "filterby") {
            if words.matches(3, "module") {
                commands = []
            } else if words.matches(3, "aclcat") {
                let category = ACLCategories.named(words[4].text)
                commands.removeAll { command in category.map { !command.categories.contains($0) } ?? true }
            } else if words.matches(3, "pattern") {
                commands.removeAll { command in
                    !Array(command.name.utf8).withUnsafeBytes { Glob.matches(words[4], $0, ignoringCase: true) }
                }
            } else {
                throw .syntaxError
            }
        } else if words.count != 2 {
            throw .syntaxError
        }
        reply.appendSet(commands.count, session.version)
        for command in commands { reply.appendBulk(command.name) }
    }
}
