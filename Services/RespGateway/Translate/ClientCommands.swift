import Base
import Contracts

/// CLIENT: who is connected.
enum ClientCommands {
    static let rows: [RESPCommand] = [
        .clientAsOf, .clientCaching, .clientGetName, .clientGetRedirection, .clientHelp, .clientID, .clientInfo,
        .clientKill, .clientList, .clientNoEvict, .clientPause, .clientReply, .clientSetName, .clientTracking,
        .clientTrackingInformation, .clientTransaction, .clientUnblock, .clientUnpause,
    ]
}

extension RESPCommand {
    static let client = RESPCommand(
        "client", .connection, since: "2.4.0",
        summary: "A container for client connection commands", subcommands: ClientCommands.rows
    )

    static let clientGetName = RESPCommand(
        "client|getname", 2, [.noScript, .loading, .stale], .connection, acl: .connection, since: "2.6.9",
        summary: "Get the current connection name"
    ) { _, session, reply throws(DatabaseError) in
        if session.name.isEmpty {
            reply.appendNull(session.version)
        } else {
            session.name.withUnsafeBytes { reply.appendBulk($0) }
        }
    }

    static let clientGetRedirection = RESPCommand(
        "client|getredir", 2, [.noScript, .loading, .stale], .connection, acl: .connection, since: "6.0.0",
        summary: "Get tracking notifications redirection client ID if any"
    ) { _, _, reply throws(DatabaseError) in
        reply.appendInteger(-1)
    }

    static let clientHelp = RESPCommand(
        "client|help", 2, [.loading, .stale], .connection, acl: .connection, since: "5.0.0",
        summary: "Show helpful text about the different subcommands"
    ) { _, _, reply throws(DatabaseError) in
        reply.appendHelp([
            "CLIENT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
            "CACHING (YES|NO)",
            "    Enable/disable tracking of the keys for next command in OPTIN/OPTOUT modes.",
            "GETREDIR",
            "    Return the client ID we are redirecting to when tracking is enabled.",
            "GETNAME",
            "    Return the name of the current connection.",
            "ID",
            "    Return the ID of the current connection.",
            "INFO",
            "    Return information about the current client connection.",
            "KILL <ip:port>",
            "    Kill connection made from <ip:port>.",
            "KILL <option> <value> [<option> <value> [...]]",
            "    Kill connections. Options are:",
            "    * ADDR (<ip:port>|<unixsocket>:0)",
            "      Kill connections made from the specified address",
            "    * LADDR (<ip:port>|<unixsocket>:0)",
            "      Kill connections made to specified local address",
            "    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)",
            "      Kill connections by type.",
            "    * USER <username>",
            "      Kill connections authenticated by <username>.",
            "    * SKIPME (YES|NO)",
            "      Skip killing current connection (default: yes).",
            "LIST [options ...]",
            "    Return information about client connections. Options:",
            "    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)",
            "      Return clients of specified type.",
            "UNPAUSE",
            "    Stop the current client pause, resuming traffic.",
            "PAUSE <timeout> [WRITE|ALL]",
            "    Suspend all, or just write, clients for <timeout> milliseconds.",
            "REPLY (ON|OFF|SKIP)",
            "    Control the replies sent to the current connection.",
            "SETNAME <name>",
            "    Assign the name <name> to the current connection.",
            "UNBLOCK <clientid> [TIMEOUT|ERROR]",
            "    Unblock the specified blocked client.",
            "TRACKING (ON|OFF) [REDIRECT <id>] [BCAST] [PREFIX <prefix> [...]]",
            "         [OPTIN] [OPTOUT] [NOLOOP]",
            "    Control server assisted client side caching.",
            "TRACKINGINFO",
            "    Report tracking status for the current connection.",
            "NO-EVICT (ON|OFF)",
            "    Protect current client connection from eviction.",
            "HELP",
            "    Prints this help.",
        ])
    }

    static let clientID = RESPCommand(
        "client|id", 2, [.noScript, .loading, .stale], .connection, acl: .connection, since: "5.0.0",
        summary: "Returns the client ID for the current connection"
    ) { _, session, reply throws(DatabaseError) in
        reply.appendInteger(Int64(truncatingIfNeeded: session.id))
    }

    static let clientInfo = RESPCommand(
        "client|info", 2, [.noScript, .loading, .stale], .connection, acl: .connection,
        tips: ["nondeterministic_output"], since: "6.2.0",
        summary: "Returns information about the current client connection."
    ) { _, session, reply throws(DatabaseError) in
        reply.appendVerbatim(session.describe() + "\n", session.version)
    }

    static let clientKill = RESPCommand(
        "client|kill", -3, [.admin, .noScript, .loading, .stale], .connection, acl: .connection, since: "2.4.0",
        complexity: "O(N) where N is the number of client connections",
        summary: "Kill the connection of a client"
    ) { words, session, reply throws(DatabaseError) in
        try killClients(words, session, &reply)
    }

    static let clientList = RESPCommand(
        "client|list", -2, [.admin, .noScript, .loading, .stale], .connection, acl: .connection,
        tips: ["nondeterministic_output"], since: "2.4.0",
        complexity: "O(N) where N is the number of client connections",
        summary: "Get the list of client connections"
    ) { words, session, reply throws(DatabaseError) in
        try listClients(words, session, &reply)
    }

    static let clientNoEvict = RESPCommand(
        "client|no-evict", 3, [.admin, .noScript, .loading, .stale], .connection, acl: .connection,
        since: "7.0.0", summary: "Set client eviction mode for the current connection"
    ) { words, session, reply throws(DatabaseError) in
        guard words.matches(2, "on") || words.matches(2, "off") else { throw .syntaxError }
        session.isEvictable = words.matches(2, "off")
        reply.append("+OK\r\n")
    }

    static let clientReply = RESPCommand(
        "client|reply", 3, [.noScript, .loading, .stale, .unqueueable], .connection, acl: .connection, since: "3.2.0",
        summary: "Instruct the server whether to reply to commands"
    ) { words, session, reply throws(DatabaseError) in
        if words.matches(2, "on") {
            session.replyMode = .on
            reply.append("+OK\r\n")
        } else if words.matches(2, "off") {
            session.replyMode = .off
        } else if words.matches(2, "skip") {
            if session.replyMode == .on { session.skipsNextReply = true }
        } else {
            throw .syntaxError
        }
    }

    static let clientSetName = RESPCommand(
        "client|setname", 3, [.noScript, .loading, .stale], .connection, acl: .connection, since: "2.6.9",
        summary: "Set the current connection name"
    ) { words, session, reply throws(DatabaseError) in
        session.name = try clientName(words[2])
        reply.append("+OK\r\n")
    }
}

extension ByteBuffer {
    /// The lines of a HELP subcommand.
    mutating func appendHelp(_ lines: [String]) {
        appendArray(lines.count)
        for line in lines {
            var line = line
            line.withUTF8 { appendStatus(ByteView($0)) }
        }
    }
}

extension RESPSession {
    /// A line of CLIENT LIST. What a gateway does not have is shown as none.
    func describe() -> String {
        let now = server.wallMilliseconds
        var command = lastCommandIndex >= 0 ? server.table.commands[lastCommandIndex].name : "NULL"
        if let last = lastSubcommand?.name, last.hasPrefix(command + "|") { command = last }
        let queued = transaction?.commands.count ?? runningCommands
        let flags = [
            isListening ? "P" : "", queued == nil ? "" : "x", isPaused ? "b" : "", watched.isLost ? "d" : "",
            readOnlySince == nil ? "" : "r", isEvictable ? "" : "e",
        ].joined()
        return "id=\(id) addr=\(address) laddr=\(localAddress) fd=-1 name=\(String(decoding: name, as: UTF8.self))"
            + " age=\((max(now, createdAt) - createdAt) / 1000) idle=\((max(now, lastActive) - lastActive) / 1000)"
            + " flags=\(flags.isEmpty ? "N" : flags) db=\(database) sub=\(subscriptions.channels.count)"
            + " psub=\(subscriptions.patterns.count) ssub=0 multi=\(queued ?? -1) qbuf=0 qbuf-free=0"
            + " argv-mem=0 multi-mem=\(transaction?.size ?? 0) rbs=0 rbp=0 obl=0 oll=\(inFlight)"
            + " omem=\(ring.parkedBytes) tot-mem=0 events=r cmd=\(command) user=\(user?.name ?? "(superuser)")"
            + " redir=-1 resp=\(version.rawValue)"
    }
}

/// CLIENT LIST [TYPE type] | [ID id ...]
private func listClients(
    _ words: Words, _ session: RESPSession, _ reply: inout ByteBuffer
) throws(DatabaseError) {
    var wanted = session.server.clients.values.sorted { $0.id < $1.id }
    if words.count == 4, words.matches(2, "type") {
        let type = try ClientType(words[3])
        wanted.removeAll { ClientType($0) != type }
    } else if words.count > 3, words.matches(2, "id") {
        var ids: Set<UInt64> = []
        for position in 3..<words.count {
            guard let id = words[position].decimal, id >= 0 else {
                throw DatabaseError(.invalidArgument, "Invalid client ID")
            }
            ids.insert(UInt64(id))
        }
        wanted.removeAll { !ids.contains($0.id) }
    } else if words.count != 2 {
        throw .syntaxError
    }
    reply.appendVerbatim(wanted.map { $0.describe() + "\n" }.joined(), session.version)
}

/// What CLIENT LIST and KILL call a client.
private enum ClientType {
    case normal, pubsub
    /// Masters and replicas: there are none here.
    case none

    init(_ word: ByteView) throws(DatabaseError) {
        if word.matches("normal") {
            self = .normal
        } else if word.matches("pubsub") {
            self = .pubsub
        } else if word.matches("master") || word.matches("replica") || word.matches("slave") {
            self = .none
        } else {
            throw DatabaseError(.invalidArgument, "Unknown client type '\(word.text)'")
        }
    }

    init(_ session: RESPSession) { self = session.isListening ? .pubsub : .normal }
}

/// CLIENT KILL address | { ID id | ADDR address | LADDR address | USER name | TYPE type | SKIPME YES|NO } ...
private func killClients(
    _ words: Words, _ session: RESPSession, _ reply: inout ByteBuffer
) throws(DatabaseError) {
    let isOldForm = words.count == 3
    var matching = Array(session.server.clients.values), skipsMe = !isOldForm
    if isOldForm {
        let address = words[2].text
        matching.removeAll { $0.address != address }
        guard !matching.isEmpty else { throw DatabaseError(.noSuchKey, "No such client") }
    } else {
        var position = 2
        while position < words.count {
            guard position + 1 < words.count else { throw .syntaxError }
            let value = words[position + 1], text = value.text
            if words.matches(position, "id") {
                guard let id = value.decimal, id > 0 else {
                    throw DatabaseError(.invalidArgument, "client-id should be greater than 0")
                }
                matching.removeAll { $0.id != UInt64(id) }
            } else if words.matches(position, "addr") {
                matching.removeAll { $0.address != text }
            } else if words.matches(position, "laddr") {
                matching.removeAll { $0.localAddress != text }
            } else if words.matches(position, "type") {
                let type = try ClientType(value)
                matching.removeAll { ClientType($0) != type }
            } else if words.matches(position, "user") {
                guard session.server.users.user(named: text) != nil else {
                    throw DatabaseError(.invalidArgument, "No such user '\(text)'")
                }
                matching.removeAll { $0.user?.name != text }
            } else if words.matches(position, "skipme"), value.matches("yes") || value.matches("no") {
                skipsMe = value.matches("yes")
            } else {
                throw .syntaxError
            }
            position += 2
        }
    }
    if skipsMe { matching.removeAll { $0 === session } }
    let others = matching.filter { $0 !== session }
    if others.count < matching.count { session.wait = .closing }  // Itself: after the answer.
    if !others.isEmpty { session.actions.append(.kill(others.map(\.id).sorted())) }
    if isOldForm { reply.append("+OK\r\n") } else { reply.appendInteger(Int64(matching.count)) }
}
