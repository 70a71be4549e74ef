import Base
import Contracts
import DataModel
import Feeds
import Storage

/// What was there before a change: read from the past of the shard, just below the change's timestamp, so it is the
/// same whether the change is told at once or long after.
final class PastContents {
    /// Bytes of sub-records that are read for one change.
    static let limit = 4 << 20

    private unowned let executor: ShardExecutor
    /// The subscriber wants old values; if not, only types are looked up.
    let isWanted: Bool
    private var key = ByteBuffer(capacity: 256), end = ByteBuffer(capacity: 256)

    init(_ executor: ShardExecutor, isWanted: Bool) {
        (self.executor, self.isWanted) = (executor, isWanted)
    }

    /// Adds to a change what it has put an end to.
    func complete(_ change: inout Change) throws(StoreError) {
        let isGone = change.kind == .delete || change.kind == .expire
        guard change.kind != .flush, isWanted || isGone, change.timestamp > .zero else { return }
        let time = Timestamp(rawValue: change.timestamp.rawValue - 1)
        let floor = executor.store.historyFloor
        if time < floor, floor <= change.timestamp {
            // The commit itself has deleted a whole database, and with it the past.
            change.old = Change.Content(isPartial: true)
            return
        }
        let bucket = change.key.withUnsafeBytes { Slot.of($0) }.bucket(of: executor.bucketCount)
        key.removeAll()
        change.key.withUnsafeBytes {
            NativeKeyLayout.appendRecord(bucket, database: change.database, key: $0, into: &key)
        }
        guard let stored = try executor.store.get(key.readable, asOf: time),
            let record = stored.withUnsafeBytes({ KeyspaceRecord(decoding: $0) })
        else { return }
        // A key whose time had come was not there for anybody.
        guard isGone || record.isVisible(atMilliseconds: time.milliseconds) else { return }
        var old = stored.withUnsafeBytes { Change.Content(record, $0) }
        if isWanted { try addSubRecords(of: record, bucket, change, time, to: &old) }
        if isGone { change.content.type = old.type }
        change.old = old
    }

    private func addSubRecords(
        of record: KeyspaceRecord, _ bucket: BucketID, _ change: Change, _ time: Timestamp,
        to old: inout Change.Content
    ) throws(StoreError) {
        // The same value goes on: only what was written has ended.
        let goesOn = change.kind == .put && change.content.created == record.generation
        switch record.type {
        case .string:
            guard record.isChunked else { return }
            if goesOn {
                for piece in change.content.pieces {
                    let chunk = UInt32(truncatingIfNeeded: piece.offset / UInt64(KeyspaceRecord.chunkSize))
                    key.removeAll()
                    NativeKeyLayout.appendStringChunk(bucket, generation: record.generation, chunk: chunk, into: &key)
                    guard let data = try executor.store.get(key.readable, asOf: time) else { continue }
                    old.pieces.append(Change.Piece(offset: piece.offset, data: data))
                }
            } else {
                try addAll(.redisStrings, bucket, record.generation, time, to: &old)
            }
        case .hash:
            if goesOn {
                for field in change.content.fields {
                    key.removeAll()
                    field.name.withUnsafeBytes {
                        NativeKeyLayout.appendHashField(bucket, generation: record.generation, field: $0, into: &key)
                    }
                    guard let value = try executor.store.get(key.readable, asOf: time) else { continue }
                    old.fields.append(Change.Field(name: field.name, value: value))
                }
            } else {
                try addAll(.redisHashes, bucket, record.generation, time, to: &old)
            }
        }
    }

    private func addAll(
        _ collection: CollectionID, _ bucket: BucketID, _ generation: Timestamp, _ time: Timestamp,
        to old: inout Change.Content
    ) throws(StoreError) {
        key.removeAll()
        NativeKeyLayout.appendGeneration(bucket, collection, generation, into: &key)
        end.removeAll()
        end.append(key.readable)
        NativeKeyLayout.makeRangeEnd(&end)
        var (room, content) = (Self.limit, old)
        try executor.store.scan(from: key.readable, to: end.readable, asOf: time) { key, value in
            guard room > value.count else {
                content.isPartial = true
                return false
            }
            room -= value.count + 64
            switch NativeKey(parsing: key) {
            case .hashField(_, _, _, let field):
                content.fields.append(Change.Field(name: field.bytes, value: value.bytes))
            case .stringChunk(_, _, let chunk):
                let offset = UInt64(chunk) &* UInt64(KeyspaceRecord.chunkSize)
                content.pieces.append(Change.Piece(offset: offset, data: value.bytes))
            case .record, .expiry, .garbage, .counter, nil: break
            }
            return true
        }
        old = content
    }
}

extension ShardExecutor {
    /// Whether a key was there just below a change of it.
    func wasThere(_ change: Change) throws(StoreError) -> Bool {
        var key = ByteBuffer(capacity: 128)
        change.key.withUnsafeBytes {
            NativeKeyLayout.appendRecord(
                Slot.of($0).bucket(of: bucketCount), database: change.database, key: $0, into: &key)
        }
        let time = Timestamp(rawValue: max(change.timestamp.rawValue, 1) - 1)
        return try store.get(key.readable, asOf: time) != nil
    }

    /// Of the cluster.
    var bucketCount: Int { transactions.participant.bucketCount }
}
