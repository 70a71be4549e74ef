import Actors
import Base
import Storage

/// The effects of an entry being built: what actors emit, in the format that the log carries and the store applies.
final class EffectBuffer: EffectSink {
    private var batch = WriteBatch(capacity: 16 << 10)

    /// The payload of the log entry; valid until the next mutation.
    var payload: ByteView { batch.effects }

    var isEmpty: Bool { batch.isEmpty }

    var size: Int { batch.effects.count }

    func put(key: ByteView, value: ByteView) { batch.put(key, value) }

    func delete(key: ByteView) { batch.delete(key) }

    func deleteRange(from: ByteView, to: ByteView) { batch.deleteRange(from: from, to: to) }

    func reset() { batch.removeAll() }
}

/// A shard's committed state, as actors read it.
final class CommittedRecords: RecordReader {
    private let store: ShardStore

    init(_ store: ShardStore) { self.store = store }

    func get(_ key: ByteView) throws(DatabaseError) -> Bytes? {
        do { return try store.get(key) } catch { throw error.databaseError }
    }

    func scan(from: ByteView, to: ByteView, _ body: (ByteView, ByteView) -> Bool) throws(DatabaseError) {
        do { try store.scan(from: from, to: to, body) } catch { throw error.databaseError }
    }
}
