import Base
import DataModel

/// What a store can let go of in a shard's buckets, when somebody asks for it: superseded versions of records that the
/// history's floor has passed. Otherwise they go whenever the store compacts what they lie in.
///
/// A compaction reads and writes all that lies in a range, so nothing is done where there is nothing to let go of.
package struct Reclaiming: Sendable {
    let buckets: Range<Int>
    /// Of the versions, as it is durable.
    let floor: Timestamp
    /// Nil: all.
    let collections: [CollectionID]?
    /// The records too, whatever there is to let go of.
    let rewrites: Bool

    /// How often it is looked whether all is gone.
    private static let rounds = 3

    /// Does it; any thread. Returns in how many ranges there was something to be done.
    package func run(in store: any Store) throws(StoreError) -> Int {
        var count = 0
        for round in 0..<Self.rounds {
            let ranges = try due(in: store, rewrites: rewrites && round == 0)
            if round == 0 { count = ranges.count }
            guard !ranges.isEmpty else { break }
            // A compaction of the store's own that was under way, begun before the floor rose, keeps what it reads, and
            // the files that it writes are not among those that are looked at now: hence once more.
            store.reclaim(ranges.sorted { $0.from.lexicographicallyPrecedes($1.from) })
        }
        return count
    }

    private func due(in store: any Store, rewrites: Bool) throws(StoreError) -> [KeyRange] {
        var ranges: [KeyRange] = []
        for bucket in buckets {
            let bucket = UInt16(truncatingIfNeeded: bucket)
            for range in history(bucket) {
                let isWanted = rewrites ? true : try hasPassed(range, store)
                if isWanted { ranges.append(range) }
            }
            if rewrites { ranges += records(bucket) }
        }
        return ranges
    }

    /// Whether there is a version in the range that nobody may read.
    private func hasPassed(_ range: KeyRange, _ store: any Store) throws(StoreError) -> Bool {
        let scan = try store.scan(from: range.from, to: range.to)
        while scan.isValid {
            if let until = HistoryKey.until(of: scan.key), until <= floor { return true }
            scan.next()
        }
        try scan.check()
        return false
    }

    private func history(_ bucket: UInt16) -> [KeyRange] {
        guard let collections else {
            var from = ByteBuffer(capacity: 8), to = ByteBuffer(capacity: 8)
            HistoryKey.appendStart(bucket, into: &from)
            HistoryKey.appendEnd(bucket, into: &to)
            return [KeyRange(from: from.readable.bytes, to: to.readable.bytes)]
        }
        return collections.map { collection in
            var from = ByteBuffer(capacity: 24), to = ByteBuffer(capacity: 24)
            Self.key(bucket, collection, 0).withUnsafeBytes { HistoryKey.appendPosition(of: $0, into: &from) }
            Self.key(bucket, collection, .max).withUnsafeBytes { HistoryKey.appendPosition(of: $0, into: &to) }
            return KeyRange(from: from.readable.bytes, to: to.readable.bytes)
        }
    }

    private func records(_ bucket: UInt16) -> [KeyRange] {
        guard let collections else {
            let (first, last) = (CollectionID(rawValue: 0), CollectionID(rawValue: .max))
            return [KeyRange(from: Self.key(bucket, first, 0), to: Self.key(bucket, last, .max))]
        }
        return collections.map { KeyRange(from: Self.key(bucket, $0, 0), to: Self.key(bucket, $0, .max)) }
    }

    /// What the keys of an index of a collection begin with in a bucket.
    private static func key(_ bucket: UInt16, _ collection: CollectionID, _ index: UInt8) -> Bytes {
        var key = ByteBuffer(capacity: 8)
        key.append(bigEndian: bucket)
        key.append(bigEndian: collection.rawValue)
        key.append(index)
        return key.readable.bytes
    }
}
