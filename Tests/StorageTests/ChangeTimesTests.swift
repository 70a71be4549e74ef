import Base
import DataModel
import Testing

@testable import Storage

/// When the records of a collection were changed last, which SERIALIZABLE transactions ask.
@Suite("Times of changes")
struct ChangeTimesTests {
    private static let one = CollectionID(rawValue: 5000), two = CollectionID(rawValue: 5001)
    /// Its number has the same lowest byte as that of `one`.
    private static let like = CollectionID(rawValue: 5000 + 256)

    private static func key(_ collection: CollectionID, _ rest: Bytes) -> Bytes {
        var buffer = ByteBuffer(capacity: 32)
        NativeKeyLayout.appendPrefix(BucketID(rawValue: 3), collection, into: &buffer)
        buffer.append(rest)
        return buffer.readable.bytes
    }

    private static func apply(_ store: ShardStore, at time: UInt64, _ body: (inout WriteBatch) -> Void) throws {
        var batch = WriteBatch()
        batch.stamp(Timestamp(rawValue: time))
        body(&batch)
        try store.apply(batch.effects, index: LogIndex(rawValue: store.appliedIndex.rawValue + 1))
    }

    private static func newest(_ store: ShardStore, _ collections: CollectionID...) -> UInt64 {
        var set = CollectionSet()
        for collection in collections { set.insert(collection) }
        return store.newestTimestamp(of: set).rawValue
    }

    @Test("each collection has its own")
    func collections() throws {
        let store = try ShardStore(shard: ShardID(rawValue: 1), store: MemoryStore())
        try Self.apply(store, at: 100) { $0.put(Self.key(Self.one, [1]), [9]) }
        try Self.apply(store, at: 200) { $0.delete(Self.key(Self.two, [1])) }
        // A part that was prepared earlier, and is applied later.
        try Self.apply(store, at: 150) { $0.put(Self.key(Self.two, [2]), [9]) }
        #expect(Self.newest(store, Self.one) == 100)
        #expect(Self.newest(store, Self.two) == 200)
        #expect(Self.newest(store, Self.one, Self.two) == 200)
        #expect(Self.newest(store) == 0)
        #expect(Self.newest(store, CollectionID(rawValue: 5002)) == 0)
        #expect(store.newestTimestamp(of: .all) == store.newestTimestamp)
        try Self.apply(store, at: 300) { $0.put(Self.key(Self.like, [1]), [9]) }
        #expect(Self.newest(store, Self.one) == 300)
    }

    @Test("a flush forgets none, a restart knows only the newest of all")
    func flushes() throws {
        let memory = MemoryStore(), store = try ShardStore(shard: ShardID(rawValue: 1), store: memory)
        try Self.apply(store, at: 100) { $0.put(Self.key(Self.one, [1]), [9]) }
        try Self.apply(store, at: 200) { $0.put(Self.key(Self.two, [1]), [9]) }
        try store.flush()
        #expect(Self.newest(store, Self.one) == 100)
        #expect(Self.newest(store, Self.two) == 200)
        let again = try ShardStore(shard: ShardID(rawValue: 1), store: memory)
        #expect(Self.newest(again, Self.one) == 200)
    }

    @Test("what is deleted by range counts for all")
    func ranges() throws {
        let store = try ShardStore(shard: ShardID(rawValue: 1), store: MemoryStore())
        try Self.apply(store, at: 100) { $0.put(Self.key(Self.one, [1]), [9]) }
        try Self.apply(store, at: 200) { $0.deleteRange(from: Self.key(Self.two, []), to: Self.key(Self.two, [255])) }
        #expect(Self.newest(store, Self.one) == 200)
    }
}
