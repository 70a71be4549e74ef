import Base
import Contracts
import DataModel

// What a shard has of a collection: the committed records of a bucket in the order of their keys, with what is pending
// laid over them, then those of the next bucket. Where a scan goes on is a bucket and a key, so it needs no state.

/// How far a scan is, and what it may still return.
struct RowScanRoom {
    var records: Int
    var bytes: Int
    let isKeysOnly: Bool
    let now: UInt64
    /// Primary keys are gathered here, and not in the reply.
    var gathered: [Bytes]?
    /// Takes the rows in place of the reply.
    var fragment: (any RowFragment)?
    var isFirst = true
    /// The first key that had no room.
    var next: Bytes?
    var isDamaged = false

    /// Appends a record as the store has it; false: there is no more room.
    mutating func add(_ key: ByteView, stored: ByteView, _ reply: Reply) -> Bool {
        guard let (record, payload) = RowRecord.decode(stored) else {
            isDamaged = true
            return false
        }
        guard record.isVisible(atMilliseconds: now) else { return true }
        return add(key, payload, reply, isLasting: record.expiresAtMilliseconds == 0)
    }

    mutating func add(_ key: ByteView, _ payload: ByteView, _ reply: Reply, isLasting: Bool = false) -> Bool {
        if let fragment {
            guard !fragment.add(key, payload, isLasting: isLasting) else { return true }
            next = key.bytes
            return false
        }
        let size = key.count + (isKeysOnly ? 0 : payload.count) + 8
        guard isFirst || records > 0 && bytes >= size else {
            next = key.bytes
            return false
        }
        isFirst = false
        records -= 1
        bytes -= size
        guard gathered == nil else {
            gathered?.append(key.bytes)
            return true
        }
        reply.encoder.listData(key)
        if !isKeysOnly { reply.encoder.listData(payload) }
        return true
    }
}

/// A record of memory that hides what the store has.
struct PendingRow {
    let bucket: Int
    let activation: Activation
}

extension Activation {
    func comparePrimaryKey(with other: ByteView) -> Int {
        key.withUnsafeBytes { compareKeys(RowKey.primaryKey(of: $0), other) }
    }
}

extension ActorRuntime {
    /// The collection of a scan, and the buckets that are meant.
    func admitScan(_ call: ActorCallView) throws(DatabaseError) -> (collection: CollectionID, first: Int, end: Int) {
        guard call.database == RowKey.database, call.key.count == RowKey.prefixSize,
            let collection = RowKey.collection(prefix: call.key)
        else { throw Failure.noRecord }
        guard call.flags & ~(call.method == .rowScan ? 7 : 1) == 0 else {
            throw DatabaseError(.featureNotSupported, "This node does not know all flags of the scan")
        }
        try checkSchema(collection, call.numbers[0])
        let end = call.numbers[2] > 0 ? min(Int(clamping: call.numbers[2]), bucketCount) : bucketCount
        let first = Int(clamping: call.numbers[1])
        guard first < end else { throw Failure.cursor }
        guard buckets.contains(first) else { throw Failure.otherShard }
        return (collection, first, end)
    }

    func rowScan(_ call: ActorCallView, _ reply: Reply) throws(DatabaseError) {
        if call.flags & 2 != 0 { return try orderedScan(call, reply) }
        let (collection, first, end) = try admitScan(call)
        var room = RowScanRoom(
            records: call.numbers[3] > 0 ? Int(clamping: call.numbers[3]) : .max,
            bytes: call.numbers[4] > 0 ? min(Int(clamping: call.numbers[4]), limits.replyBytes) : limits.replyBytes,
            isKeysOnly: call.flags & 1 != 0, now: now)
        let (from, to, resume) = (call.arguments[0], call.arguments[1], call.arguments[2])
        let pending = pendingRows(collection, from: from, to: to)
        var bucket = first
        reply.beginList()
        do throws(DatabaseError) {
            while bucket < min(end, buckets.upperBound), room.next == nil {
                let start = bucket == first && compareKeys(resume, from) > 0 ? resume : from
                try scanRows(bucket, collection, start, to, pending, &room, reply)
                if room.next == nil { bucket += 1 }
            }
        } catch {
            reply.encoder.cancelList()
            throw error
        }
        reply.encoder.listInteger(Int64(bucket))
        reply.item(room.next ?? [])
        reply.encoder.endList()
    }

    /// The records of one bucket, as long as there is room.
    func scanRows(
        _ bucket: Int, _ collection: CollectionID, _ from: ByteView, _ to: ByteView, _ all: [PendingRow],
        _ given: inout RowScanRoom, _ reply: Reply
    ) throws(DatabaseError) {
        let overlay = all.filter { $0.bucket == bucket && $0.activation.comparePrimaryKey(with: from) >= 0 }
        let id = BucketID(rawValue: UInt16(truncatingIfNeeded: bucket))
        keyBuffer.removeAll()
        NativeKeyLayout.appendPrefix(id, collection, into: &keyBuffer)
        endBuffer.removeAll()
        endBuffer.append(keyBuffer.readable)
        keyBuffer.append(from)
        if to.isEmpty { NativeKeyLayout.makeRangeEnd(&endBuffer) } else { endBuffer.append(to) }
        var (room, next, isOver, now) = (given, 0, false, now)
        func show(_ activation: Activation) {
            guard activation.isVisible(at: now) else { return }
            activation.key.withUnsafeBytes { key in
                activation.bytes.withUnsafeBytes { isOver = !room.add(RowKey.primaryKey(of: key), $0, reply) }
            }
        }
        try reader.scan(from: keyBuffer.readable, to: endBuffer.readable) { stored, value in
            let key = ByteView(rebasing: stored[min(NativeKeyLayout.prefixSize, stored.count)...])
            var isHidden = false
            while next < overlay.count, !isOver, !isHidden {
                let order = overlay[next].activation.comparePrimaryKey(with: key)
                guard order <= 0 else { break }
                isHidden = order == 0
                show(overlay[next].activation)
                next += 1
            }
            if !isOver, !isHidden { isOver = !room.add(key, stored: value, reply) }
            return !isOver
        }
        while next < overlay.count, !isOver {
            show(overlay[next].activation)
            next += 1
        }
        given = room
        guard !room.isDamaged else { throw Failure.damaged }
    }

    /// The records of memory that the store may not show, in order; the call depends on them.
    func pendingRows(_ collection: CollectionID, from: ByteView, to: ByteView) -> [PendingRow] {
        var found: [PendingRow] = []
        pending.forEach { activation in
            guard activation.database == RowKey.database else { return }
            let isMeant = activation.key.withUnsafeBytes { key in
                let primaryKey = RowKey.primaryKey(of: key)
                return RowKey.collection(of: key) == collection && compareKeys(primaryKey, from) >= 0
                    && (to.isEmpty || compareKeys(primaryKey, to) < 0)
            }
            guard isMeant else { return }
            newest = max(newest, activation.pendingIndex)
            found.append(PendingRow(bucket: Int(activation.bucket.rawValue), activation: activation))
        }
        found.sort { left, right in
            guard left.bucket == right.bucket else { return left.bucket < right.bucket }
            return left.activation.key.withUnsafeBytes { left in
                right.activation.key.withUnsafeBytes { compareKeys(left, $0) < 0 }
            }
        }
        return found
    }
}
