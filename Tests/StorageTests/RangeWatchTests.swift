import Base
import DataModel
import Testing

@testable import Storage

/// Whoever keeps something of the records of a range hears when one of them changes.
@Suite("Watched ranges")
struct RangeWatchTests {
    private static let table = CollectionID(rawValue: 5000), other = CollectionID(rawValue: 5001)

    private static func key(_ bucket: UInt16, _ collection: CollectionID, _ rest: Bytes) -> Bytes {
        var buffer = ByteBuffer(capacity: 32)
        NativeKeyLayout.appendPrefix(BucketID(rawValue: bucket), collection, into: &buffer)
        buffer.append(rest)
        return buffer.readable.bytes
    }

    private static func apply(
        _ store: ShardStore, at time: UInt64, _ body: (inout WriteBatch) -> Void
    ) throws {
        var batch = WriteBatch()
        batch.stamp(Timestamp(rawValue: time))
        body(&batch)
        try store.apply(batch.effects, index: LogIndex(rawValue: store.appliedIndex.rawValue + 1))
    }

    private static func range(_ store: ShardStore, _ bucket: Int, _ key: Bytes) throws -> WatchedRange {
        try #require(key.withUnsafeBytes { store.watches.range(table, bucket: bucket, at: $0) }).range
    }

    private static func makeStore() throws -> ShardStore {
        let store = try ShardStore(shard: ShardID(rawValue: 1), store: MemoryStore())
        store.buckets = 4..<8
        try apply(store, at: 100) { $0.put(key(4, table, [1]), [9]) }
        store.watch(table)
        store.watches.split(table, bucket: 5, at: [10])
        store.watches.split(table, bucket: 5, at: [20])
        return store
    }

    @Test("a change reaches its range and no other")
    func changes() throws {
        let store = try Self.makeStore()
        let ranges = try [(5, [1]), (5, [10]), (5, [25]), (6, [1])].map { try Self.range(store, $0, Bytes($1)) }
        for range in ranges {
            #expect(range.newest == Timestamp(rawValue: 100))
            range.content = range
        }
        #expect(ranges.map(\.from) == [[], [10], [20], []])
        try Self.apply(store, at: 200) { batch in
            batch.put(Self.key(5, Self.table, [15, 1]), [1])
            batch.put(Self.key(5, Self.other, [5]), [1])
        }
        #expect(ranges.map { $0.content == nil } == [false, true, false, false])
        #expect(ranges[1].newest == Timestamp(rawValue: 200))
        try Self.apply(store, at: 300) { $0.delete(Self.key(5, Self.table, [20])) }
        #expect(ranges.map { $0.content == nil } == [false, true, true, false])
        for range in ranges { range.content = nil }
    }

    @Test("what deletes a range reaches the buckets of tables that it touches")
    func rangeDeletions() throws {
        let store = try Self.makeStore()
        let ranges = try [(5, [1]), (5, [25]), (6, [1]), (7, [1])].map { try Self.range(store, $0, Bytes($1)) }
        func cleared(_ time: UInt64, from: Bytes, to: Bytes) throws -> [Bool] {
            for range in ranges { range.content = range }
            try Self.apply(store, at: time) { $0.deleteRange(from: from, to: to) }
            return ranges.map { $0.content == nil && $0.newest == Timestamp(rawValue: time) }
        }
        let none = [false, false, false, false]
        #expect(try cleared(200, from: Self.key(5, Self.other, []), to: Self.key(5, Self.other, [255])) == none)
        #expect(
            try cleared(300, from: Self.key(5, Self.table, []), to: Self.key(5, Self.table, [255]))
                == [true, true, false, false])
        #expect(
            try cleared(400, from: Self.key(5, Self.other, []), to: Self.key(6, Self.other, [])) == [
                false, false, true, false,
            ])
        #expect(try cleared(500, from: [0], to: [255]) == [true, true, true, true])
        #expect(try cleared(600, from: Self.key(8, Self.table, []), to: [255]) == none)
        for range in ranges { range.content = nil }
    }

    /// A collection that is gone is collected bucket by bucket, up to and with its last index: the end of that lies at
    /// the beginning of the next collection.
    @Test("what is left of another table goes without a trace")
    func collecting() throws {
        let store = try Self.makeStore()
        let dropped = CollectionID(rawValue: Self.table.rawValue - 1)
        let range = try Self.range(store, 5, [1])
        range.content = range
        var from = ByteBuffer(capacity: 16), to = ByteBuffer(capacity: 16)
        NativeKeyLayout.appendPrefix(BucketID(rawValue: 5), dropped, into: &from)
        NativeKeyLayout.appendPrefix(BucketID(rawValue: 5), dropped, index: .max, into: &to)
        NativeKeyLayout.makeRangeEnd(&to)
        try Self.apply(store, at: 200) {
            $0.collectRange(from: from.readable, to: to.readable, floor: Timestamp(rawValue: 150))
        }
        #expect(range.content != nil && range.newest == Timestamp(rawValue: 100))
        range.content = nil
    }

    @Test("a new range begins with the changes of the one that it was cut from, and what was kept of that goes")
    func splitting() throws {
        let store = try Self.makeStore()
        try Self.apply(store, at: 200) { $0.put(Self.key(7, Self.table, [50]), [1]) }
        let whole = try Self.range(store, 7, [])
        whole.content = whole
        store.watches.split(Self.table, bucket: 7, at: [40])
        #expect(whole.content == nil)
        #expect(try Self.range(store, 7, [40]).newest == Timestamp(rawValue: 200))
        #expect(try Self.range(store, 7, [39]) === whole)
        store.watches.forget(Self.table)
        #expect(store.watches.isEmpty)
    }

    @Test("a store that forgets what was applied has nobody left who watches")
    func discarding() throws {
        let store = try Self.makeStore()
        try store.discardOverlay()
        #expect(store.watches.isEmpty)
    }
}
