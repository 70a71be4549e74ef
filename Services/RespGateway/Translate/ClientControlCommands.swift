import Base
import Contracts

// CLIENT, the part that stops and starts clients, and client-side caching.
//
// A pause is this gateway's: clients of another one go on. Caching needs nodes that tell which keys change; as long as
// they do not, switching it on is refused, so a client never trusts a cache that nobody invalidates.

extension RESPCommand {
    static let clientCaching = RESPCommand(
        "client|caching", 3, [.noScript, .loading, .stale], .connection, acl: .connection, since: "6.0.0",
        summary: "Instruct the server about tracking or not keys in the next request"
    ) { _, _, _ throws(DatabaseError) in
        throw DatabaseError(
            .invalidArgument,
            "CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled")
    }

    static let clientPause = RESPCommand(
        "client|pause", -3, [.admin, .noScript, .loading, .stale, .unqueueable], .connection, acl: .connection,
        since: "2.9.50", summary: "Stop processing commands from clients for some time"
    ) { words, session, reply throws(DatabaseError) in
        try pauseClients(words, session, &reply)
    }

    static let clientTracking = RESPCommand(
        "client|tracking", -3, [.noScript, .loading, .stale], .connection, acl: .connection, since: "6.0.0",
        complexity: "O(1). Some options may introduce additional complexity.",
        summary: "Enable or disable server assisted client side caching support"
    ) { words, session, reply throws(DatabaseError) in
        try switchTracking(words, session)
        reply.append("+OK\r\n")
    }

    static let clientTrackingInformation = RESPCommand(
        "client|trackinginfo", 2, [.noScript, .loading, .stale], .connection, acl: .connection, since: "6.2.0",
        summary: "Return information about server assisted client side caching for the current connection"
    ) { _, session, reply throws(DatabaseError) in
        reply.appendMap(3, session.version)
        reply.appendBulk("flags")
        reply.appendSet(1, session.version)
        reply.appendBulk("off")
        reply.appendBulk("redirect")
        reply.appendInteger(-1)
        reply.appendBulk("prefixes")
        reply.appendArray(0)
    }

    static let clientUnblock = RESPCommand(
        "client|unblock", -3, [.admin, .noScript, .loading, .stale], .connection, acl: .connection, since: "5.0.0",
        complexity: "O(log N) where N is the number of client connections",
        summary: "Unblock a client blocked in a blocking command from a different connection"
    ) { words, _, reply throws(DatabaseError) in
        guard words.count <= 4 else { throw .wrongWords(words, of: "CLIENT") }
        guard words.count == 3 || words.matches(3, "timeout") || words.matches(3, "error") else {
            throw DatabaseError(.invalidArgument, "CLIENT UNBLOCK reason should be TIMEOUT or ERROR")
        }
        _ = try words.integer(2)
        reply.appendInteger(0)  // There are no blocking commands; whoever is paused is not freed this way.
    }

    static let clientUnpause = RESPCommand(
        "client|unpause", 2, [.admin, .noScript, .loading, .stale], .connection, acl: .connection, since: "6.2.0",
        complexity: "O(N) Where N is the number of paused clients",
        summary: "Resume processing of clients that were paused"
    ) { _, session, reply throws(DatabaseError) in
        session.server.endPause()
        session.actions.append(.endPause)
        reply.append("+OK\r\n")
    }
}

extension DatabaseError {
    /// A subcommand with more words than it has a meaning for.
    fileprivate static func wrongWords(_ words: Words, of container: String) -> DatabaseError {
        DatabaseError(
            .syntax,
            "unknown subcommand or wrong number of arguments for '\(words[1].text)'. Try \(container) HELP.")
    }
}

/// CLIENT PAUSE milliseconds [WRITE|ALL]: answered when nothing that it holds back is under way any more.
private func pauseClients(
    _ words: Words, _ session: RESPSession, _ reply: inout ByteBuffer
) throws(DatabaseError) {
    guard words.count <= 4 else { throw .wrongWords(words, of: "CLIENT") }
    let kind: Pause
    if words.count == 3 || words.matches(3, "all") {
        kind = .everything
    } else if words.matches(3, "write") {
        kind = .writes
    } else {
        throw DatabaseError(.invalidArgument, "CLIENT PAUSE mode must be WRITE or ALL")
    }
    guard let milliseconds = words[2].decimal else {
        throw DatabaseError(.notAnInteger, "timeout is not an integer or out of range")
    }
    guard milliseconds >= 0 else { throw DatabaseError(.invalidArgument, "timeout is negative") }
    let server = session.server
    guard milliseconds <= Int64.max - Int64(clamping: server.wallMilliseconds) else {
        throw DatabaseError(.invalidArgument, "timeout is out of range")
    }
    server.beginPause(kind, milliseconds: UInt64(milliseconds))
    guard server.pause != .nothing else { return reply.append("+OK\r\n") }
    session.postpone(.beginPause(session.nextToken)) { $0.append("+OK\r\n") }
}

/// CLIENT TRACKING ON|OFF [REDIRECT id] [BCAST] [PREFIX prefix ...] [OPTIN] [OPTOUT] [NOLOOP]
private func switchTracking(_ words: Words, _ session: RESPSession) throws(DatabaseError) {
    var isBroadcast = false, isOptIn = false, isOptOut = false, redirection: Int64 = 0, prefixes: [Bytes] = []
    var position = 3
    while position < words.count {
        let hasValue = position + 1 < words.count
        if words.matches(position, "redirect"), hasValue {
            position += 1
            guard redirection == 0 else {
                throw DatabaseError(.invalidArgument, "A client can only redirect to a single other client")
            }
            redirection = try words.integer(position)
            guard redirection > 0, session.server.clients[UInt64(redirection)] != nil else {
                throw DatabaseError(.invalidArgument, "The client ID you want redirect to does not exist")
            }
        } else if words.matches(position, "prefix"), hasValue {
            position += 1
            prefixes.append(words[position].bytes)
        } else if words.matches(position, "bcast") {
            isBroadcast = true
        } else if words.matches(position, "optin") {
            isOptIn = true
        } else if words.matches(position, "optout") {
            isOptOut = true
        } else if !words.matches(position, "noloop") {
            throw .syntaxError
        }
        position += 1
    }
    if words.matches(2, "off") { return }
    guard words.matches(2, "on") else { throw .syntaxError }
    guard isBroadcast || prefixes.isEmpty else {
        throw DatabaseError(.invalidArgument, "PREFIX option requires BCAST mode to be enabled")
    }
    guard !isBroadcast || (!isOptIn && !isOptOut) else {
        throw DatabaseError(.invalidArgument, "OPTIN and OPTOUT are not compatible with BCAST")
    }
    guard !isOptIn || !isOptOut else {
        throw DatabaseError(.invalidArgument, "You can't specify both OPTIN mode and OPTOUT mode")
    }
    try checkOverlap(prefixes)
    throw DatabaseError(
        .featureNotSupported, "CLIENT TRACKING ON is not supported: nobody would tell this client which keys change")
}

private func checkOverlap(_ prefixes: [Bytes]) throws(DatabaseError) {
    for (index, prefix) in prefixes.enumerated() {
        for other in prefixes[(index + 1)...] where prefix.starts(with: other) || other.starts(with: prefix) {
            let (one, two) = (String(decoding: prefix, as: UTF8.self), String(decoding: other, as: UTF8.self))
            throw DatabaseError(
                .invalidArgument,
                "Prefix '\(one)' overlaps with another provided prefix '\(two)'. "
                    + "Prefixes for a single client must not overlap.")
        }
    }
}
