import Base

/// What the shards refuse, in the words that SQL clients know (PostgreSQL 15), so that drivers recognise it.
extension StatementError {
    /// Of what a shard refused.
    package init(ofShard error: DatabaseError) {
        switch error.code {
        case .serializationFailure, .transactionConflict:
            self.init(.serializationFailure, "could not serialize access due to concurrent update")
        case .deadlock:
            self.init(
                .deadlockDetected, "deadlock detected", detail: error.message,
                hint: "See server log for query details.")
        case .lockNotAvailable: self.init(.lockNotAvailable, "could not obtain lock on row")
        case .lockTimeout: self.init(.lockNotAvailable, "canceling statement due to lock timeout")
        case .transactionAborted:
            self.init(
                .inFailedSQLTransaction,
                "current transaction is aborted, commands ignored until end of transaction block",
                detail: error.message)
        case .readOnly:
            self.init(.readOnlySQLTransaction, "cannot execute this statement in a read-only transaction")
        case .staleSchema: self.init(.staleSchema, error.message)
        case _: self.init(error)
        }
    }
}

extension SQLState {
    /// A shard has another version of a collection than the statement was bound by. Never told to clients.
    package static let staleSchema = SQLState(rawValue: "XXSCH")
}
