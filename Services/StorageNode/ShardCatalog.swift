import Actors
import Base
import DataModel

extension ShardExecutor {
    /// The catalog as this shard's leader evaluates calls by it: every shard has all of it. A follower's may be older.
    func catalog() throws(DatabaseError) -> Catalog { try runtime.catalog() }

    /// The same, for who must see every change that somebody was told of; nil while one is under way that may have
    /// been: its transaction is prepared, and this shard has not heard yet what has become of it.
    func settledCatalog() throws(DatabaseError) -> Catalog? {
        let isSettling = ByteView(start: nil, count: 0)
        return transactions.participant.locks.isHardLocked(RowKey.database, isSettling) ? nil : try catalog()
    }
}
