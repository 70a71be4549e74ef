import Base
import Contracts

/// Commands about the connection itself.
enum ConnectionCommands {
    static let rows: [RESPCommand] = [
        .authenticate, .client, .echo, .hello, .ping, .quit, .readOnly, .readWrite, .reset, .select,
    ]
}

extension RESPCommand {
    static let authenticate = RESPCommand(
        "auth", -2, [.noScript, .loading, .stale, .fast, .noAuth, .allowBusy, .secret, .unqueueable], .connection,
        acl: .connection, since: "1.0.0", complexity: "O(N) where N is the number of passwords defined for the user",
        summary: "Authenticate to the server"
    ) { words, session, _ throws(DatabaseError) in
        guard words.count <= 3 else { throw .syntaxError }
        if words.count == 2 {
            guard session.server.users.defaultUser == nil else {
                throw DatabaseError(
                    .invalidArgument,
                    "AUTH <password> called without any password configured for the default user. "
                        + "Are you sure your configuration is correct?")
            }
            session.beginLogin(user: Bytes("default".utf8), password: words[1].bytes, hello: nil)
        } else {
            session.beginLogin(user: words[1].bytes, password: words[2].bytes, hello: nil)
        }
    }

    static let echo = RESPCommand(
        "echo", 2, [.loading, .stale, .fast], .connection, acl: .connection, since: "1.0.0",
        summary: "Echo the given string"
    ) { words, _, reply throws(DatabaseError) in
        reply.appendBulk(words[1])
    }

    static let hello = RESPCommand(
        "hello", -1, [.noScript, .loading, .stale, .fast, .noAuth, .allowBusy, .secret, .unqueueable], .connection,
        acl: .connection, since: "6.0.0", summary: "Handshake with Redis"
    ) { words, session, reply throws(DatabaseError) in
        try beginHello(words, session, &reply)
    }

    static let ping = RESPCommand(
        "ping", -1, [.fast], .connection, acl: .connection,
        tips: ["request_policy:all_shards", "response_policy:all_succeeded"], since: "1.0.0",
        summary: "Ping the server"
    ) { words, session, reply throws(DatabaseError) in
        guard words.count <= 2 else { throw .wrongArity("ping") }
        if session.isListening, session.version == .two {
            reply.appendArray(2)
            reply.appendBulk("pong")
            return reply.appendBulk(words[1])  // Empty, if there is none.
        }
        if words.count == 2 { reply.appendBulk(words[1]) } else { reply.append("+PONG\r\n") }
    }

    static let quit = RESPCommand(
        "quit", -1, [.noScript, .loading, .stale, .fast, .noAuth, .allowBusy, .immediate], .connection,
        acl: .connection, since: "1.0.0", summary: "Close the connection"
    ) { _, session, reply throws(DatabaseError) in
        reply.append("+OK\r\n")
        session.wait = .closing
    }

    static let readOnly = RESPCommand(
        "readonly", 1, [.loading, .stale, .fast], .cluster, acl: .connection, since: "3.0.0",
        summary: "Enables read queries for a connection to a cluster replica node"
    ) { _, session, reply throws(DatabaseError) in
        session.readOnlySince = session.nextToken
        reply.append("+OK\r\n")
    }

    static let readWrite = RESPCommand(
        "readwrite", 1, [.loading, .stale, .fast], .cluster, acl: .connection, since: "3.0.0",
        summary: "Disables read queries for a connection to a cluster replica node"
    ) { _, session, reply throws(DatabaseError) in
        session.readOnlySince = nil
        reply.append("+OK\r\n")
    }

    static let reset = RESPCommand(
        "reset", 1, [.noScript, .loading, .stale, .fast, .noAuth, .allowBusy, .immediate], .connection,
        acl: .connection, since: "6.2.0", summary: "Reset the connection"
    ) { _, session, reply throws(DatabaseError) in
        session.resetConnection()
        reply.append("+RESET\r\n")
    }

    static let select = RESPCommand(
        "select", 2, [.loading, .stale, .fast], .connection, acl: .connection, since: "1.0.0",
        summary: "Change the selected database for the current connection"
    ) { words, session, reply throws(DatabaseError) in
        session.database = UInt8(truncatingIfNeeded: try parseDatabase(words[1]))
        reply.append("+OK\r\n")
    }
}

/// HELLO [version [AUTH user password] [SETNAME name]]
private func beginHello(
    _ words: Words, _ session: RESPSession, _ reply: inout ByteBuffer
) throws(DatabaseError) {
    var hello = RESPSession.Hello(), login: (user: Bytes, password: Bytes)?
    if words.count > 1 {
        guard let number = words[1].decimal else {
            throw DatabaseError(.notAnInteger, "Protocol version is not an integer or out of range")
        }
        guard let raw = UInt8(exactly: number), let version = RESPVersion(rawValue: raw) else {
            return reply.append("-NOPROTO unsupported protocol version\r\n")
        }
        hello.version = version
    }
    var position = 2
    while position < words.count {
        let left = words.count - position - 1
        if words.matches(position, "auth"), left >= 2 {
            login = (words[position + 1].bytes, words[position + 2].bytes)
            position += 3
        } else if words.matches(position, "setname"), left >= 1 {
            hello.name = try clientName(words[position + 1])
            position += 2
        } else {
            throw DatabaseError(.syntax, "Syntax error in HELLO option '\(words[position].text)'")
        }
    }
    if let login {
        session.beginLogin(user: login.user, password: login.password, hello: hello)
    } else if session.isAuthenticated {
        session.welcome(hello, &reply)
    } else {
        reply.append(
            """
            -NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH \
            <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the \
            same time\r\n
            """)
    }
}

/// A name that CLIENT LIST can show.
func clientName(_ word: ByteView) throws(DatabaseError) -> Bytes {
    guard word.allSatisfy({ $0 >= 33 && $0 <= 126 }) else {
        throw DatabaseError(
            .invalidArgument, "Client names cannot contain spaces, newlines or special characters.")
    }
    return word.bytes
}
