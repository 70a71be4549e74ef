import Base
import Contracts

/// Several commands as one.
enum TransactionCommands {
    static let rows: [RESPCommand] = [.discard, .execute, .multi, .unwatch, .watch]
}

extension RESPCommand {
    static let discard = RESPCommand(
        "discard", 1, [.noScript, .loading, .stale, .fast, .allowBusy, .immediate], .transactions, acl: .transaction,
        since: "2.0.0", complexity: "O(N), when N is the number of queued commands",
        summary: "Discard all commands issued after MULTI"
    ) { _, session, reply throws(DatabaseError) in
        try session.discardTransaction()
        reply.append("+OK\r\n")
    }

    static let execute = RESPCommand(
        "exec", 1, [.noScript, .loading, .stale, .skipSlowLog, .immediate], .transactions, acl: .transaction,
        since: "1.2.0", complexity: "Depends on commands in the transaction",
        summary: "Execute all commands issued after MULTI"
    ) { _, session, reply throws(DatabaseError) in
        try session.execute(&reply)
    }

    static let multi = RESPCommand(
        "multi", 1, [.noScript, .loading, .stale, .fast, .allowBusy, .immediate], .transactions, acl: .transaction,
        since: "1.2.0", summary: "Mark the start of a transaction block"
    ) { _, session, reply throws(DatabaseError) in
        try session.openTransaction()
        reply.append("+OK\r\n")
    }

    static let unwatch = RESPCommand(
        "unwatch", 1, [.noScript, .loading, .stale, .fast, .allowBusy], .transactions, acl: .transaction,
        since: "2.2.0", summary: "Forget about all watched keys"
    ) { _, session, reply throws(DatabaseError) in
        session.watched = WatchedKeys()
        reply.append("+OK\r\n")
    }

    static let watch = RESPCommand(
        "watch", -2, [.noScript, .loading, .stale, .fast, .allowBusy, .immediate], .transactions,
        keys: [.init(last: -1, .readOnly)], acl: .transaction, since: "2.2.0", complexity: "O(1) for every key.",
        summary: "Watch the given keys to determine execution of the MULTI/EXEC block"
    ) { words, session, reply throws(DatabaseError) in
        try session.watch(words, &reply)
    }
}
