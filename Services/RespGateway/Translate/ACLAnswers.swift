import Base

/// What the subcommands of ACL do.
enum ACLAnswers {
    /// ACL CAT [category]
    static func categories(
        _ words: Words, _ session: RESPSession, _ reply: inout ByteBuffer
    ) throws(DatabaseError) {
        guard words.count <= 3 else { throw .wrongArity("acl|cat") }
        guard words.count == 3 else {
            reply.appendArray(ACLCategories.names.count)
            for name in ACLCategories.names { reply.appendBulk(name) }
            return
        }
        guard let category = ACLCategories.named(words[2].text) else {
            throw DatabaseError(.invalidArgument, "Unknown category '\(words[2].text)'")
        }
        let names = session.server.table.leaves.filter { $0.categories.contains(category) }.map(\.name)
        reply.appendArray(names.count)
        for name in names { reply.appendBulk(name) }
    }

    /// ACL DELUSER name ...
    static func deleteUsers(_ words: Words, _ session: RESPSession) throws(DatabaseError) {
        var changes: [UserChange] = []
        for position in 2..<words.count {
            let name = words[position].text
            guard name != "default" else {
                throw DatabaseError(.invalidArgument, "The 'default' user cannot be removed")
            }
            let change = UserChange.remove(name: name)
            if session.server.users.user(named: name) != nil, !changes.contains(change) { changes.append(change) }
        }
        let count = Int64(changes.count)
        session.change(changes) { $0.appendInteger(count) }
    }

    /// ACL SETUSER name [rule ...]: the rules are checked here; the catalog keeps them.
    static func setUser(_ words: Words, _ session: RESPSession) throws(DatabaseError) {
        let name = words[2].text
        guard !name.isEmpty, !name.utf8.contains(where: { $0 == 32 || $0 == 0 }), words[2].count <= 1024 else {
            throw DatabaseError(.invalidArgument, "Usernames can't contain spaces or null characters")
        }
        let user = session.server.users.user(named: name)?.copy() ?? ACLUser(name: name)
        for rule in try ACLUser.tokens((3..<words.count).map { words[$0].text }) {
            try user.apply(rule, session.server.table)
        }
        let change = UserChange.put(
            name: name, isEnabled: user.isEnabled, rules: user.rules, passwords: user.newPasswords,
            dropped: user.droppedPasswords, keepsPasswords: user.keepsPasswords)
        session.change([change]) { $0.append("+OK\r\n") }
    }

    /// ACL GETUSER name
    static func describe(_ words: Words, _ session: RESPSession, _ reply: inout ByteBuffer) {
        guard let user = session.server.users.user(named: words[2].text) else {
            return reply.appendNull(session.version)
        }
        reply.appendMap(6, session.version)
        reply.appendBulk("flags")
        reply.appendSet(user.flagNames.count, session.version)
        for flag in user.flagNames { reply.appendBulk(flag) }
        reply.appendBulk("passwords")
        reply.appendArray(user.fingerprints.count)
        for fingerprint in user.fingerprints { reply.appendBulk(fingerprint) }
        append(user.root, &reply)
        reply.appendBulk("selectors")
        reply.appendArray(user.selectors.count)
        for selector in user.selectors {
            reply.appendMap(3, session.version)
            append(selector, &reply)
        }
    }

    private static func append(_ selector: ACLSelector, _ reply: inout ByteBuffer) {
        reply.appendBulk("commands")
        reply.appendBulk(selector.commandsText)
        reply.appendBulk("keys")
        reply.appendBulk(selector.keysText)
        reply.appendBulk("channels")
        reply.appendBulk(selector.channelsText)
    }

    /// ACL DRYRUN name command [argument ...]
    static func dryRun(_ words: Words, _ session: RESPSession, _ reply: inout ByteBuffer) throws(DatabaseError) {
        guard let user = session.server.users.user(named: words[2].text) else {
            throw DatabaseError(.invalidArgument, "User '\(words[2].text)' not found")
        }
        let inner = words.dropFirst(3)
        let (command, _) = try CommandDescription.resolve(inner, session.server.table) {
            name throws(DatabaseError) in
            throw DatabaseError(.invalidArgument, "Command '\(name.text)' not found")
        }
        guard command.accepts(inner.count) else { throw .wrongArity(command.name) }
        switch user.refusal(of: command, inner) {
        case nil: reply.append("+OK\r\n")
        case .command: reply.appendBulk("This user has no permissions to run the '\(command.name)' command")
        case .key(let key):
            reply.appendBulk(
                "This user has no permissions to access the '\(String(decoding: key, as: UTF8.self))' key")
        case .channel(let name):
            reply.appendBulk(
                "This user has no permissions to access the '\(String(decoding: name, as: UTF8.self))' channel")
        }
    }

    /// ACL GENPASS [bits]
    static func generatePassword(
        _ words: Words, _ session: RESPSession, _ reply: inout ByteBuffer
    ) throws(DatabaseError) {
        var bits: Int64 = 256
        if words.count > 2 {
            guard words.count == 3 else { throw .wrongArity("acl|genpass") }
            bits = try words.integer(2)
            guard bits >= 1, bits <= 4096 else {
                throw DatabaseError(
                    .invalidArgument,
                    "ACL GENPASS argument must be the number of bits for the output password, "
                        + "a positive number up to 4096")
            }
        }
        let digits = Int(bits + 3) / 4
        let random = session.server.randomBytes((digits + 1) / 2)
        let text = random.flatMap { [$0 >> 4, $0 & 15] }.prefix(digits)
        reply.appendBulk(text.map { String($0, radix: 16) }.joined())
    }
}
