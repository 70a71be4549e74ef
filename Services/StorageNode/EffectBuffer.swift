import Actors
import Base
import Storage

/// The effects of an entry being built: what actors emit, in the format that the log carries and the store applies.
///
/// An entry has one commit timestamp, which it gets when it is proposed; its place is at the front. What a transaction
/// over several shards has changed stands between with a timestamp of its own, that of the transaction.
final class EffectBuffer: EffectSink {
    private var batch = WriteBatch(capacity: 16 << 10)
    /// Where the entry's timestamp belongs.
    private var places: [Int] = []
    /// The history floor of who collects garbage.
    var floor = Timestamp.zero

    init() { reset() }

    /// The payload of the log entry; valid until the next mutation.
    var payload: ByteView { batch.effects }

    var isEmpty: Bool { batch.effects.count <= Self.emptySize }

    var size: Int { batch.effects.count }

    /// The version of the format, and a timestamp.
    private static let emptySize = 10

    func put(key: ByteView, value: ByteView) { batch.put(key, value) }

    func delete(key: ByteView) { batch.delete(key) }

    func deleteRange(from: ByteView, to: ByteView) { batch.deleteRange(from: from, to: to) }

    func collectRange(from: ByteView, to: ByteView) { batch.collectRange(from: from, to: to, floor: floor) }

    func note(_ events: ByteView) { batch.note(events) }

    func reset() {
        batch.removeAll()
        places.removeAll(keepingCapacity: true)
        places.append(batch.stamp(.zero))
    }

    /// Gives the entry its timestamp; again if it is proposed again.
    func stamp(_ timestamp: Timestamp) {
        for place in places { batch.restamp(place, timestamp) }
    }

    /// Adds the effects of a part of a transaction that was committed at `timestamp`.
    func append(_ effects: ByteView, committedAt timestamp: Timestamp) throws(StoreError) {
        batch.stamp(timestamp)
        try append(effects)
        places.append(batch.stamp(.zero))
    }

    /// Adds effects that were encoded before; their own timestamps do not count.
    func append(_ effects: ByteView) throws(StoreError) {
        var reader = try EffectReader(effects)
        while let effect = try reader.next() {
            switch effect {
            case .put(let key, let value): batch.put(key, value)
            case .delete(let key): batch.delete(key)
            case .deleteRange(let from, let to): batch.deleteRange(from: from, to: to)
            case .timestamp: break
            case .note(let events): batch.note(events)
            case .collectRange(let from, let to, let floor): batch.collectRange(from: from, to: to, floor: floor)
            }
        }
    }
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

    func scanSettled(from: ByteView, to: ByteView, _ body: (ByteView, ByteView) -> Bool) throws(DatabaseError) {
        do { try store.scan(from: from, to: to, asOf: store.historyFloor, body) } catch { throw error.databaseError }
    }

    func key(_ count: Int, before to: ByteView, from: ByteView) throws(DatabaseError) -> Bytes? {
        do { return try store.key(count, before: to, from: from) } catch { throw error.databaseError }
    }
}
