import Base
import Contracts
import DataModel
import Feeds
import Storage

/// Tells changes from what the store keeps of the past, for a subscriber whose position the log no longer has: every
/// version of every record that was written in a window of time, put together again to what the entries had.
///
/// It looks at all records of the shard, bucket by bucket, so it is for those who have been away for long. The window
/// is halved as long as it has more than fits into memory. Not told apart are a key that was written and one that was
/// written and given the same record again in the same commit.
final class PastReplay {
    /// Bytes of versions that are gathered at once.
    private static let limit = 32 << 20
    /// How long the past is held for the next step, in milliseconds.
    private static let patience: UInt64 = 60_000

    private struct Version {
        let timestamp: Timestamp
        let key: Bytes
        let value: Bytes?
    }

    private let executor: ShardExecutor
    private let after: Timestamp
    private var upTo: Timestamp
    private let buckets: [Int]
    private var nextBucket = 0
    private var found: [Version] = []
    private var size = 0
    private let hold: HistoryHold

    init(_ executor: ShardExecutor, after: Timestamp, upTo: Timestamp) throws(StoreError) {
        (self.executor, self.after, self.upTo) = (executor, after, upTo)
        buckets = Array(executor.buckets.joined())
        let until = executor.clock.wallMilliseconds &+ Self.patience
        guard let hold = executor.store.hold(at: after, untilMilliseconds: until) else {
            throw StoreError(.tooOld, "the past of shard \(executor.shard) does not reach back to the position")
        }
        self.hold = hold
    }

    /// Ends it, whether it is through or not.
    func close() { executor.store.release(hold) }

    /// Looks at one bucket. After the last: the changes in their order, and up to where they are all.
    func step() throws(StoreError) -> (changes: [Change], resolved: Timestamp)? {
        let until = executor.clock.wallMilliseconds &+ Self.patience
        guard executor.store.prolong(hold, untilMilliseconds: until) else {
            throw StoreError(.tooOld, "the past of shard \(executor.shard) was given up meanwhile")
        }
        if nextBucket < buckets.count {
            try gather(UInt16(truncatingIfNeeded: buckets[nextBucket]))
            nextBucket += 1
            if isFull {
                upTo = Timestamp(rawValue: after.rawValue + (upTo.rawValue - after.rawValue) / 2)
                (found, size, nextBucket) = ([], 0, 0)
            }
        }
        guard nextBucket == buckets.count else { return nil }
        return (assembled(), upTo)
    }

    /// There is more than is gathered at once, and a shorter window has less.
    private var isFull: Bool { size > Self.limit && upTo.rawValue > after.rawValue &+ 1 }

    private func gather(_ bucket: UInt16) throws(StoreError) {
        var from = ByteBuffer(capacity: 64), to = ByteBuffer(capacity: 64)
        NativeKeyLayout.appendPrefix(BucketID(rawValue: bucket), .redisKeys, into: &from)
        NativeKeyLayout.appendPrefix(BucketID(rawValue: bucket), .redisStrings, index: .max, into: &to)
        // It tells a record once, as it was at the end; what else was done to it in between is asked for then.
        var keys: [Bytes] = []
        try executor.store.changes(from: from.readable, to: to.readable, after: after, upTo: upTo) { change in
            keys.append(change.key.bytes)
            size += 32 + change.key.count
            return !isFull
        }
        for key in keys where !isFull {
            try key.withView { (view: ByteView) throws(StoreError) in
                try executor.store.versions(of: view, after: after, upTo: upTo) { version in
                    add(key, version)
                    return !isFull
                }
            }
        }
    }

    private func add(_ key: Bytes, _ version: RecordVersion) {
        size += 96 + key.count
        switch version {
        case .put(let value, let timestamp):
            size += value.count
            found.append(Version(timestamp: timestamp, key: key, value: value.bytes))
        case .deleted(let old, let timestamp):
            found.append(Version(timestamp: timestamp, key: key, value: nil))
            noteExpiry(key, timestamp, old)
        }
    }

    /// A record that was deleted because its time had come also had its place in the expiry index, which has no past.
    private func noteExpiry(_ key: Bytes, _ timestamp: Timestamp, _ old: ByteView) {
        var place = ByteBuffer(capacity: 128)
        key.withUnsafeBytes { view in
            guard case .record(let bucket, let database, _, let name)? = NativeKey(parsing: view),
                let record = KeyspaceRecord(decoding: old), record.expiresAtMilliseconds != 0
            else { return }
            NativeKeyLayout.appendExpiry(
                bucket, atMilliseconds: record.expiresAtMilliseconds, database: database, key: name, into: &place)
        }
        if !place.isEmpty { found.append(Version(timestamp: timestamp, key: place.readable.bytes, value: nil)) }
    }

    private func assembled() -> [Change] {
        // A commit's keyspace records before what is filed under their generations: the collections' order.
        found.sort { left, right in
            if left.timestamp != right.timestamp { return left.timestamp < right.timestamp }
            let collections = (Self.collection(of: left.key), Self.collection(of: right.key))
            if collections.0 != collections.1 { return collections.0 < collections.1 }
            return left.key.lexicographicallyPrecedes(right.key)
        }
        var collector = ChangeCollector(shard: executor.shard)
        for version in found {
            collector.begin(version.timestamp)
            version.key.withUnsafeBytes { key in
                if let value = version.value {
                    value.withUnsafeBytes { collector.put(key, $0) }
                } else {
                    collector.delete(key)
                }
            }
        }
        found = []
        return collector.finish()
    }

    private static func collection(of key: Bytes) -> UInt8 { key.count > 6 ? key[5] : 0 }
}
