import Base
import Contracts

/// Channels.
enum PubSubCommands {
    static let rows: [RESPCommand] = [
        .patternSubscribe, .patternUnsubscribe, .pubSub, .subscribe, .unsubscribe,
    ]
    static let subcommands: [RESPCommand] = [.pubSubChannels, .pubSubHelp, .pubSubPatterns, .pubSubSubscribers]
}

extension RESPCommand {
    static let patternSubscribe = RESPCommand(
        "psubscribe", -2, [.pubSub, .noScript, .loading, .stale, .unqueueable], .pubsub, since: "2.0.0",
        complexity: "O(N) where N is the number of patterns the client is already subscribed to.",
        summary: "Listen for messages published to channels matching the given patterns"
    ) { words, session, reply throws(DatabaseError) in
        try session.subscribe(words, .pattern, &reply)
    }

    static let patternUnsubscribe = RESPCommand(
        "punsubscribe", -1, [.pubSub, .noScript, .loading, .stale, .unqueueable], .pubsub, since: "2.0.0",
        complexity: "O(N+M) where N is the number of patterns the client is already subscribed and M is the number of "
            + "total patterns subscribed in the system (by any client).",
        summary: "Stop listening for messages posted to channels matching the given patterns"
    ) { words, session, reply throws(DatabaseError) in
        session.unsubscribe(words, .pattern, &reply)
    }

    static let pubSub = RESPCommand(
        "pubsub", .pubsub, since: "2.8.0", summary: "A container for Pub/Sub commands",
        subcommands: PubSubCommands.subcommands
    )

    static let pubSubChannels = RESPCommand(
        "pubsub|channels", -2, [.pubSub, .loading, .stale], .pubsub, since: "2.8.0",
        complexity: "O(N) where N is the number of active channels, and assuming constant time pattern matching "
            + "(relatively short channels and patterns)",
        summary: "List active channels"
    ) { words, session, reply throws(DatabaseError) in
        guard words.count <= 3 else { throw .wrongPubSubWords(words) }
        let names = session.server.channels.active(matching: words.count == 3 ? GlobPattern(words[2]) : nil)
        reply.appendArray(names.count)
        for name in names { name.withUnsafeBytes { reply.appendBulk($0) } }
    }

    static let pubSubHelp = RESPCommand(
        "pubsub|help", 2, [.loading, .stale], .pubsub, since: "6.2.0",
        summary: "Show helpful text about the different subcommands"
    ) { _, _, reply throws(DatabaseError) in
        reply.appendHelp([
            "PUBSUB <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
            "CHANNELS [<pattern>]",
            "    Return the currently active channels matching a <pattern> (default: '*').",
            "NUMPAT",
            "    Return number of subscriptions to patterns.",
            "NUMSUB [<channel> ...]",
            "    Return the number of subscribers for the specified channels, excluding",
            "    pattern subscriptions(default: no channels).",
            "HELP",
            "    Prints this help.",
        ])
    }

    static let pubSubPatterns = RESPCommand(
        "pubsub|numpat", 2, [.pubSub, .loading, .stale], .pubsub, since: "2.8.0",
        summary: "Get the count of unique patterns pattern subscriptions"
    ) { _, session, reply throws(DatabaseError) in
        reply.appendInteger(Int64(session.server.channels.patternCount))
    }

    static let pubSubSubscribers = RESPCommand(
        "pubsub|numsub", -2, [.pubSub, .loading, .stale], .pubsub, since: "2.8.0",
        complexity: "O(N) for the NUMSUB subcommand, where N is the number of requested channels",
        summary: "Get the count of subscribers for channels"
    ) { words, session, reply throws(DatabaseError) in
        reply.appendMap(words.count - 2, session.version)
        for position in 2..<words.count {
            reply.appendBulk(words[position])
            reply.appendInteger(Int64(session.server.channels.listeners(of: words[position].bytes)))
        }
    }

    static let subscribe = RESPCommand(
        "subscribe", -2, [.pubSub, .noScript, .loading, .stale, .unqueueable], .pubsub, since: "2.0.0",
        complexity: "O(N) where N is the number of channels to subscribe to.",
        summary: "Listen for messages published to the given channels"
    ) { words, session, reply throws(DatabaseError) in
        try session.subscribe(words, .channel, &reply)
    }

    static let unsubscribe = RESPCommand(
        "unsubscribe", -1, [.pubSub, .noScript, .loading, .stale, .unqueueable], .pubsub, since: "2.0.0",
        complexity: "O(N) where N is the number of clients already subscribed to a channel.",
        summary: "Stop listening for messages posted to the given channels"
    ) { words, session, reply throws(DatabaseError) in
        session.unsubscribe(words, .channel, &reply)
    }
}

extension RESPCommand {
    /// What the words of the command name that a user may listen to.
    var listensTo: SubscriptionKind? {
        if self === Self.subscribe { return .channel }
        return self === Self.patternSubscribe ? .pattern : nil
    }
}

extension DatabaseError {
    fileprivate static func wrongPubSubWords(_ words: Words) -> DatabaseError {
        DatabaseError(
            .syntax,
            "unknown subcommand or wrong number of arguments for '\(words[1].text)'. Try PUBSUB HELP.")
    }
}
