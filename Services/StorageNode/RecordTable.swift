import Actors
import Base
import Contracts
import DataModel

/// Direct reads and writes of records by their encoded primary key (`RecordOperation`): the users of namespace `system`
/// today.
///
/// Like actors it evaluates against pending state: writes whose entry has not committed are kept here, by data key,
/// until it has. Record key in the store: bucket u16 | collection u32 | index u8 = 0 | encoded key; the bucket is that
/// of the slot of the encoded key.
final class RecordTable {
    /// Largest record that may be written: an entry of the log holds several.
    static let valueLimit = 1 << 20
    static let keyLimit = 4096
    static let scanLimit = 1000
    /// Bytes that one scan may return.
    static let scanBytes = 16 << 20

    private static let scanTooLarge = DatabaseError(
        .limitExceeded, "the records of one scan are too large; ask for fewer")

    private struct Pending {
        var index: LogIndex
        /// Nil: deleted.
        var value: Bytes?
    }

    private let reader: any RecordReader
    /// Of this shard: all shards of a node share one store.
    private let buckets: Range<Int>
    private let bucketCount: Int
    private var pending: [Bytes: Pending] = [:]
    private var key = ByteBuffer(capacity: 256)

    init(reader: any RecordReader, buckets: Range<Int>, bucketCount: Int) {
        (self.reader, self.buckets, self.bucketCount) = (reader, buckets, bucketCount)
    }

    /// Evaluates one operation; returns the newest pending index that the reply observed.
    func evaluate(
        _ operation: RecordOperationView, id: UInt64, entryIndex: LogIndex, effects: EffectBuffer,
        replies: ReplyBatchEncoder
    ) -> LogIndex {
        guard operation.collection == .systemUsers else {
            replies.error(
                id, DatabaseError(.featureNotSupported, "records of this collection cannot be accessed directly"))
            return .zero
        }
        guard operation.key.count <= Self.keyLimit, operation.value.count <= Self.valueLimit else {
            replies.error(id, DatabaseError(.limitExceeded, "the record is too large"))
            return .zero
        }
        let bucket = Int(Slot.ofPartition(operation.key).bucket(of: bucketCount).rawValue)
        guard operation.kind == .scan || buckets.contains(bucket) else {
            replies.error(id, DatabaseError(.staleMap, "the record's slot is not served by this shard"))
            return .zero
        }
        do throws(DatabaseError) {
            switch operation.kind {
            case .get: return try get(operation, id: id, replies: replies)
            case .put, .delete:
                return try write(operation, id: id, entryIndex: entryIndex, effects: effects, replies: replies)
            case .scan: return try scan(operation, id: id, replies: replies)
            }
        } catch {
            replies.error(id, error)
            return .zero
        }
    }

    /// Forgets pending writes that have reached the store.
    func committed(upTo index: LogIndex) {
        if !pending.isEmpty { pending = pending.filter { $0.value.index > index } }
    }

    /// Forgets everything pending: the entry never happened.
    func reset() { pending = [:] }

    private func get(
        _ operation: RecordOperationView, id: UInt64, replies: ReplyBatchEncoder
    ) throws(DatabaseError) -> LogIndex {
        let (value, observed) = try current(dataKey(operation))
        if let value {
            value.withUnsafeBytes { replies.data(id, $0) }
        } else {
            replies.null(id)
        }
        return observed
    }

    /// PUT: Ok, or Null if it was to be absent and is not. DELETE: Integer, how many there were.
    private func write(
        _ operation: RecordOperationView, id: UInt64, entryIndex: LogIndex, effects: EffectBuffer,
        replies: ReplyBatchEncoder
    ) throws(DatabaseError) -> LogIndex {
        let dataKey = dataKey(operation)
        let (value, observed) = try current(dataKey)
        if operation.kind == .delete {
            replies.integer(id, value == nil ? 0 : 1)
            guard value != nil else { return observed }
            dataKey.withUnsafeBytes { effects.delete(key: $0) }
            pending[dataKey] = Pending(index: entryIndex, value: nil)
            return entryIndex
        }
        if operation.onlyIfAbsent, value != nil {
            replies.null(id)
            return observed
        }
        dataKey.withUnsafeBytes { effects.put(key: $0, value: operation.value) }
        pending[dataKey] = Pending(index: entryIndex, value: operation.value.bytes)
        replies.ok(id)
        return entryIndex
    }

    /// The records of this shard's part of the collection behind `key` (from the first, if it is empty): key, value, …
    /// in the order of bucket and key, which is that of data keys. A reply that would be too large is an error, never a
    /// shorter list.
    private func scan(
        _ operation: RecordOperationView, id: UInt64, replies: ReplyBatchEncoder
    ) throws(DatabaseError) -> LogIndex {
        let limit = operation.limit == 0 ? Self.scanLimit : min(operation.limit, Self.scanLimit)
        let start = operation.key.isEmpty ? [] : dataKey(operation)
        var found: [(key: Bytes, value: Bytes)] = []
        var size = 0
        for bucket in buckets where found.count < limit {
            key.removeAll()
            NativeKeyLayout.appendPrefix(BucketID(rawValue: UInt16(bucket)), operation.collection, into: &key)
            let first = key.readable.bytes
            NativeKeyLayout.makeRangeEnd(&key)
            let end = key.readable.bytes
            guard start.lexicographicallyPrecedes(end) else { continue }
            let from = first.lexicographicallyPrecedes(start) ? start + [0] : first
            try from.withView { (from: ByteView) throws(DatabaseError) in
                try end.withView { (end: ByteView) throws(DatabaseError) in
                    try reader.scan(from: from, to: end) { key, value in
                        let key = key.bytes
                        if pending[key] == nil {
                            found.append((key, value.bytes))
                            size += key.count + value.count
                        }
                        return found.count < limit && size <= Self.scanBytes
                    }
                }
            }
            guard size <= Self.scanBytes else { throw Self.scanTooLarge }
        }
        var observed = LogIndex.zero
        for (key, write) in pending where start.lexicographicallyPrecedes(key) {
            if let value = write.value { found.append((key, value)) }
            observed = max(observed, write.index)
        }
        found.sort { $0.key.lexicographicallyPrecedes($1.key) }
        replies.beginList(id)
        for (key, value) in found.prefix(limit) {
            key.withUnsafeBytes { replies.listData(ByteView(rebasing: $0.dropFirst(NativeKeyLayout.prefixSize))) }
            value.withUnsafeBytes { replies.listData($0) }
            guard replies.listSize <= Self.scanBytes else {
                replies.cancelList()
                throw Self.scanTooLarge
            }
        }
        replies.endList()
        return observed
    }

    private func current(_ dataKey: Bytes) throws(DatabaseError) -> (Bytes?, LogIndex) {
        if let write = pending[dataKey] { return (write.value, write.index) }
        return try dataKey.withView { (view: ByteView) throws(DatabaseError) in (try reader.get(view), .zero) }
    }

    private func dataKey(_ operation: RecordOperationView) -> Bytes {
        key.removeAll()
        let bucket = Slot.ofPartition(operation.key).bucket(of: bucketCount)
        NativeKeyLayout.appendPrefix(bucket, operation.collection, into: &key)
        key.append(operation.key)
        return key.readable.bytes
    }
}
