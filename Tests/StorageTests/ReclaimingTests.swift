import Base
import DataModel
import TestKit
import Testing

@testable import Storage

/// What stores let go of when they are asked for it.
struct ReclaimingTests {
    typealias Kind = StoreConformanceTests.Kind

    private static let collections = [CollectionID(rawValue: 16_385), CollectionID(rawValue: 16_386)]

    private static func key(_ bucket: UInt16, _ collection: CollectionID, _ number: UInt16) -> Bytes {
        var key = ByteBuffer(capacity: 16)
        key.append(bigEndian: bucket)
        key.append(bigEndian: collection.rawValue)
        key.append(0 as UInt8)
        key.append(bigEndian: number)
        return key.readable.bytes
    }

    /// Versions in the history of a bucket, by the collection of their records.
    private static func versions(_ store: any Store, _ bucket: UInt16) throws -> [UInt32: Int] {
        var from = ByteBuffer(capacity: 8), to = ByteBuffer(capacity: 8)
        HistoryKey.appendStart(bucket, into: &from)
        HistoryKey.appendEnd(bucket, into: &to)
        let scan = try store.scan(from: from.readable.bytes, to: to.readable.bytes)
        var found: [UInt32: Int] = [:], record = ByteBuffer(capacity: 32)
        while scan.isValid {
            record.removeAll()
            _ = try #require(HistoryKey.parse(scan.key, record: &record))
            var reader = ByteReader(record.readable)
            _ = reader.bigEndian(UInt16.self)
            let collection = reader.bigEndian(UInt32.self)
            found[try #require(collection), default: 0] += 1
            scan.next()
        }
        try scan.check()
        return found
    }

    /// A shard whose records of both collections were written at 10, 20 and 30, each flushed for itself.
    private static func shard(_ store: any Store) throws -> ShardStore {
        let shard = try ShardStore(shard: ShardID(rawValue: 1), store: store)
        shard.buckets = 0..<3
        for (index, time) in [10, 20, 30].enumerated() {
            var batch = WriteBatch()
            batch.stamp(Timestamp(rawValue: UInt64(time)))
            for bucket in 0..<3 as Range<UInt16> {
                for collection in collections {
                    for number in 0..<5 as Range<UInt16> {
                        batch.put(key(bucket, collection, number), [UInt8(time)])
                    }
                }
            }
            try shard.apply(batch.effects, index: LogIndex(rawValue: UInt64(index + 1)))
            try shard.flush()
        }
        return shard
    }

    private static func check(_ shard: ShardStore) throws {
        for bucket in 0..<3 as Range<UInt16> {
            for collection in collections {
                for number in 0..<5 as Range<UInt16> {
                    let value = try key(bucket, collection, number).withUnsafeBytes { try shard.get($0) }
                    #expect(value == [30])
                    let past = try key(bucket, collection, number).withUnsafeBytes {
                        try shard.get($0, asOf: shard.historyFloor)
                    }
                    #expect(past == [shard.historyFloor.rawValue >= 20 ? 20 : 10])
                }
            }
        }
    }

    @Test(
        "a floor that rises while nothing is written becomes durable when that is asked for", arguments: Kind.allCases)
    func floor(_ kind: Kind) throws {
        try withStore(kind) { store in
            let shard = try Self.shard(store)
            shard.raiseFloor(to: Timestamp(rawValue: 25))
            #expect(shard.isFloorNew && shard.beginFlush() == nil)
            let job = try #require(shard.beginFlush(ofFloor: true))
            try job.write()
            try store.flush()
            shard.finishFlush(job)
            #expect(!shard.isFloorNew && shard.beginFlush(ofFloor: true) == nil)
            let again = try ShardStore(shard: ShardID(rawValue: 1), store: store)
            #expect(again.historyFloor == Timestamp(rawValue: 25) && again.appliedIndex == shard.appliedIndex)
            try Self.check(shard)
        }
    }

    @Test("versions that the floor has passed go, others stay, and nothing is done where there is none")
    func versions() throws {
        try withStore(.rocksDB) { store in
            let shard = try Self.shard(store)
            let one = Self.collections[0], both = Self.collections.map(\.rawValue)
            #expect(try shard.reclaiming(nil, rewrites: false).run(in: store) == 0)
            #expect(try Self.versions(store, 1) == [both[0]: 10, both[1]: 10])
            shard.raiseFloor(to: Timestamp(rawValue: 25))
            // Not durable yet: a crash could bring the past back.
            #expect(try shard.reclaiming(nil, rewrites: false).run(in: store) == 0)
            let job = try #require(shard.beginFlush(ofFloor: true))
            try job.write()
            try store.flush()
            shard.finishFlush(job)
            #expect(try shard.reclaiming([one], rewrites: false).run(in: store) == 3)
            // What lies in the same files goes along.
            for bucket in 0..<3 as Range<UInt16> { #expect(try Self.versions(store, bucket)[one.rawValue] == 5) }
            #expect(try shard.reclaiming([one], rewrites: false).run(in: store) == 0)
            _ = try shard.reclaiming(nil, rewrites: false).run(in: store)
            for bucket in 0..<3 as Range<UInt16> {
                #expect(try Self.versions(store, bucket) == [both[0]: 5, both[1]: 5])
            }
            try Self.check(shard)
        }
    }

    @Test("what is written anew is what it was", arguments: Kind.allCases)
    func rewriting(_ kind: Kind) throws {
        try withStore(kind) { store in
            let shard = try Self.shard(store)
            shard.raiseFloor(to: Timestamp(rawValue: 15))
            #expect(try shard.reclaiming([Self.collections[1]], rewrites: true).run(in: store) == 6)
            #expect(try shard.reclaiming(nil, rewrites: true).run(in: store) == 6)
            try Self.check(shard)
        }
    }
}
