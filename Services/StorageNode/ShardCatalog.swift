import Actors
import Base
import DataModel

extension ShardExecutor {
    /// The catalog as this shard's leader evaluates calls by it: every shard has all of it. A follower's may be older.
    func catalog() throws(DatabaseError) -> Catalog { try runtime.catalog() }
}
