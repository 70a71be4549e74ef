import Actors
import Base
import Contracts
import DataModel
import Storage
import TestKit
import Testing

@testable import StorageNode

/// A record table over a shard's store, with the steps that an executor takes by hand.
private final class Rig {
    static let bucketCount = 64
    let store: ShardStore
    let table: RecordTable
    var effects = EffectBuffer()
    private var entry: UInt64 = 1
    private let replies = ReplyBatchEncoder()

    init(buckets: Range<Int> = 0..<bucketCount, store: MemoryStore = MemoryStore(), shard: UInt32 = 1) throws {
        self.store = try ShardStore(shard: ShardID(rawValue: shard), store: store)
        table = RecordTable(reader: CommittedRecords(self.store), buckets: buckets, bucketCount: Self.bucketCount)
    }

    /// The reply, and the index that it observed.
    func evaluate(
        _ kind: RecordOperationView.Kind, _ key: String = "", _ value: String = "", limit: Int = 0,
        onlyIfAbsent: Bool = false, collection: CollectionID = .systemUsers
    ) throws -> (reply: Reply, observed: UInt64) {
        var observed = LogIndex.zero
        Bytes(key.utf8).withUnsafeBytes { key in
            Bytes(value.utf8).withUnsafeBytes { value in
                var operation = RecordOperationView()
                operation.kind = kind
                operation.collection = collection
                (operation.key, operation.value) = (key, value)
                (operation.limit, operation.onlyIfAbsent) = (limit, onlyIfAbsent)
                observed = table.evaluate(
                    operation, id: 7, entryIndex: LogIndex(rawValue: entry), effects: effects, replies: replies)
            }
        }
        #expect(replies.count == 1)
        let found = try Reply.decode(replies)
        replies.reset()
        return (try #require(found[7]), observed.rawValue)
    }

    func put(_ key: String, _ value: String) throws { #expect(try evaluate(.put, key, value).reply == .ok) }

    /// Closes the entry, as a proposal does; `commit` applies it.
    func propose() -> (Bytes, UInt64) {
        defer {
            effects.reset()
            entry += 1
        }
        return (effects.payload.bytes, entry)
    }

    func commit(_ proposal: (Bytes, UInt64)) throws {
        let index = LogIndex(rawValue: proposal.1)
        try proposal.0.withUnsafeBytes { try store.apply($0, index: index) }
        table.committed(upTo: index)
    }
}

@Suite("RecordTable")
struct RecordTableTests {
    @Test("a pending write is seen at once, and whoever saw it waits for its entry")
    func pending() throws {
        let rig = try Rig()
        #expect(try rig.evaluate(.get, "a") == (.null, 0))
        #expect(try rig.evaluate(.put, "a", "1") == (.ok, 1))
        #expect(try rig.evaluate(.get, "a") == (.text("1"), 1))
        let first = rig.propose()
        #expect(try rig.evaluate(.get, "a") == (.text("1"), 1))
        #expect(try rig.evaluate(.put, "a", "2") == (.ok, 2))
        try rig.commit(first)
        // The older entry's commit must not hide the newer write.
        #expect(try rig.evaluate(.get, "a") == (.text("2"), 2))
        try rig.commit(rig.propose())
        #expect(try rig.evaluate(.get, "a") == (.text("2"), 0))
        #expect(try rig.evaluate(.delete, "a") == (.integer(1), 3))
        #expect(try rig.evaluate(.get, "a") == (.null, 3))
        #expect(try rig.evaluate(.delete, "a") == (.integer(0), 3))
        try rig.commit(rig.propose())
        #expect(try rig.evaluate(.get, "a") == (.null, 0))
        #expect(try rig.evaluate(.delete, "a") == (.integer(0), 0))
        #expect(rig.effects.isEmpty)
    }

    @Test("only if absent: decided by pending state, and a refusal waits for what it observed")
    func onlyIfAbsent() throws {
        let rig = try Rig()
        #expect(try rig.evaluate(.put, "a", "1", onlyIfAbsent: true) == (.ok, 1))
        #expect(try rig.evaluate(.put, "a", "2", onlyIfAbsent: true) == (.null, 1))
        try rig.commit(rig.propose())
        #expect(try rig.evaluate(.put, "a", "2", onlyIfAbsent: true) == (.null, 0))
        #expect(try rig.evaluate(.delete, "a") == (.integer(1), 2))
        #expect(try rig.evaluate(.put, "a", "3", onlyIfAbsent: true) == (.ok, 2))
        #expect(try rig.evaluate(.get, "a") == (.text("3"), 2))
    }

    @Test("an entry that never happened leaves nothing")
    func reset() throws {
        let rig = try Rig()
        try rig.put("a", "1")
        try rig.commit(rig.propose())
        try rig.put("a", "2")
        try rig.put("b", "2")
        rig.effects.reset()
        rig.table.reset()
        #expect(try rig.evaluate(.get, "a") == (.text("1"), 0))
        #expect(try rig.evaluate(.get, "b") == (.null, 0))
    }

    @Test("a scan merges pending and committed records, page by page")
    func scan() throws {
        var random = SplitMix64(seed: freshSeed("RecordTable.scan"))
        for _ in 0..<30 {
            let rig = try Rig()
            var model: [String: String] = [:]
            var open: [(Bytes, UInt64)] = []
            for step in 0..<60 {
                let key = "user\(random.next(below: 25))"
                switch random.next(below: 6) {
                case 0...2:
                    try rig.put(key, "\(step)")
                    model[key] = "\(step)"
                case 3:
                    let existed: Int64 = model.removeValue(forKey: key) == nil ? 0 : 1
                    #expect(try rig.evaluate(.delete, key).reply == .integer(existed))
                case 4: if !rig.effects.isEmpty { open.append(rig.propose()) }
                default: if !open.isEmpty { try rig.commit(open.removeFirst()) }
                }
                if step % 15 == 7 { try rig.store.flush() }
                let limit = 1 + Int(random.next(below: 7))
                var seen: [String: String] = [:], after = "", page = 0
                repeat {
                    guard case .list(let items) = try rig.evaluate(.scan, after, limit: limit).reply else {
                        Issue.record("a scan answers with a list")
                        return
                    }
                    page = items.count / 2
                    for index in stride(from: 0, to: items.count, by: 2) {
                        #expect(seen.updateValue(items[index + 1], forKey: items[index]) == nil)
                        after = items[index]
                    }
                } while page == limit
                #expect(seen == model)
            }
        }
    }

    @Test("shards of one node share a store, and see their own buckets only")
    func buckets() throws {
        let shared = MemoryStore()
        let low = try Rig(buckets: 0..<32, store: shared), high = try Rig(buckets: 32..<64, store: shared, shard: 2)
        var expected = Set<String>()
        for number in 0..<40 {
            let key = "user\(number)"
            let replies = [try low.evaluate(.put, key, "x").reply, try high.evaluate(.put, key, "x").reply]
            #expect(replies.filter { $0 == .ok }.count == 1)
            #expect(replies.contains { if case .error(.staleMap) = $0 { true } else { false } })
            if replies[0] == .ok { expected.insert(key) }
        }
        for rig in [low, high] {
            try rig.commit(rig.propose())
            try rig.store.flush()
        }
        guard case .list(let items) = try low.evaluate(.scan).reply else {
            throw DatabaseError(.internalFailure, "no list")
        }
        #expect(items.count == expected.count * 2 && expected.isSubset(of: Set(items)) && !expected.isEmpty)
    }

    @Test("too large, and other collections, are refused")
    func refusals() throws {
        let rig = try Rig()
        let large = String(repeating: "x", count: RecordTable.valueLimit)
        #expect(try rig.evaluate(.put, "a", large + "x") == (.error(.limitExceeded), 0))
        #expect(try rig.evaluate(.put, String(large.prefix(RecordTable.keyLimit + 1))) == (.error(.limitExceeded), 0))
        #expect(
            try rig.evaluate(.put, "a", "1", collection: CollectionID(rawValue: 1)) == (.error(.featureNotSupported), 0)
        )
        #expect(rig.effects.isEmpty)
        // A reply has to fit a message: more is an error, committed or pending.
        for number in 0...(RecordTable.scanBytes / RecordTable.valueLimit) { try rig.put("k\(number)", large) }
        #expect(try rig.evaluate(.scan).reply == .error(.limitExceeded))
        try rig.commit(rig.propose())
        #expect(try rig.evaluate(.scan).reply == .error(.limitExceeded))
        guard case .list(let items) = try rig.evaluate(.scan, limit: 3).reply else { return #expect(Bool(false)) }
        #expect(items.count == 6)
    }
}
