import Base

extension RESPCommand {
    static let clientTransaction = RESPCommand(
        "client|transaction", -3, [.noScript, .loading, .stale, .unqueueable], .connection,
        acl: .connection, since: "7.0.0", complexity: "O(N) where N is the number of keys to lock",
        summary: "Open and end interactive transactions, with savepoints and locks"
    ) { words, session, reply throws(DatabaseError) in
        try session.interact(words, &reply)
    }
}
