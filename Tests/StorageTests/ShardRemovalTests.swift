import Base
import Storage
import TestKit
import Testing

/// What is left of a shard whose replica has gone: nothing, also after a crash, and its neighbours are untouched.
struct ShardRemovalTests {
    @Test(arguments: StoreConformanceTests.Kind.allCases) func deletesWhatIsTheShardsAndNothingElse(
        kind: StoreConformanceTests.Kind
    ) throws {
        try withNode(kind) { node in
            var random = SplitMix64(seed: 5)
            _ = try node.fill(entries: 50, &random)
            try node.writeStrangers()
            try node.shard.flush()
            let strangers = try node.strangers()
            let removal = ShardRemoval(shard: node.shard.shard, ranges: Node.ranges)
            #expect(try removal.isDue(in: node.store))
            try removal.run(in: node.store)
            node.store.reclaim(Node.ranges)
            #expect(try !removal.isDue(in: node.store))
            let fresh = try ShardStore(shard: node.shard.shard, store: node.store)
            #expect(try Node.content(of: fresh).isEmpty && fresh.appliedIndex == .zero && fresh.base == nil)
            #expect(try node.strangers() == strangers && !strangers.isEmpty)
            // It comes back, and is removed again.
            var batch = WriteBatch()
            batch.put([0, 0, 1], [1])
            try fresh.apply(batch.effects, index: LogIndex(rawValue: 1))
            try fresh.flush()
            #expect(try Node.content(of: fresh).count == 1 && removal.isDue(in: node.store))
            node.store.stopReclaiming()
            try removal.run(in: node.store)
            node.store.reclaim(Node.ranges)
            #expect(try !removal.isDue(in: node.store))
        }
    }

    @Test func aCrashLeavesAllOrNothing() throws {
        try withNode(.memory) { node in
            var random = SplitMix64(seed: 6)
            let content = try node.fill(entries: 50, &random)
            try node.shard.flush()
            let removal = ShardRemoval(shard: node.shard.shard, ranges: Node.ranges)
            let store = try #require(node.store as? MemoryStore)
            store.failNext(with: StoreError(.inputOutput, "the disk is gone"))
            #expect(throws: StoreError.self) { try removal.run(in: store) }
            store.crash()
            #expect(try removal.isDue(in: store))
            let before = try ShardStore(shard: node.shard.shard, store: store)
            #expect(try Node.content(of: before) == content && before.appliedIndex == node.shard.appliedIndex)
            try removal.run(in: store)
            store.crash()
            #expect(try !removal.isDue(in: store))
        }
    }

    @Test func theNoteSurvivesItsBytesAndDamage() throws {
        let removal = ShardRemoval(shard: ShardID(rawValue: 3), ranges: Node.ranges)
        let bytes = removal.encoded()
        func decoded(_ bytes: Bytes) throws(StoreError) -> ShardRemoval {
            try bytes.withView { view throws(StoreError) in try ShardRemoval(ShardID(rawValue: 3), decoding: view) }
        }
        #expect(try decoded(bytes) == removal)
        for damaged in Damage.truncations(of: bytes) + [bytes + [1], [2] + bytes.dropFirst()] {
            // Cut between two ranges it is the note of fewer: its record's checksum is what finds that.
            if let found = try? decoded(damaged) { #expect(Node.ranges.starts(with: found.ranges)) }
        }
    }
}
