import Base
import Contracts
import DataModel

// Rows of a shard in the order of their keys, forward or backward: what its buckets have, each in its own order, is
// merged. A few rows are read of each bucket at first, and more of one whenever all of these are given.

/// A row, or where one was asked for.
private struct OrderedRow {
    let key: Bytes
    let payload: Bytes
}

/// What was read of one bucket and is not given yet.
private struct BucketRows {
    let bucket: Int
    /// What is left of the range; an empty `to` is no end.
    var from: Bytes
    var to: Bytes
    /// In the order in which they are given.
    var rows: ArraySlice<OrderedRow> = []
    var isOver = false
}

/// Takes rows as a scan meets them: some of the first, or of the last.
private final class RowCollector: RowFragment {
    private let limit: Int
    private let keepsLast: Bool
    private(set) var rows: [OrderedRow] = []
    /// Rows in front of those that are kept were met and let go of.
    private(set) var hasDropped = false

    init(_ limit: Int, keepsLast: Bool) { (self.limit, self.keepsLast) = (limit, keepsLast) }

    var isFull: Bool { !keepsLast && rows.count >= limit }
    func takeKnown(_ bucket: Int, from key: ByteView) -> RowReach? { nil }
    func begin(_ bucket: Int, from key: ByteView, isAll: Bool) {}
    func end(_ next: Bytes?) -> RowReach { next.map { .key($0) } ?? .bucket }
    func finish() -> RowFragmentOutcome { .blocks([]) }

    func add(_ key: ByteView, _ record: ByteView, isLasting: Bool) -> Bool {
        if isFull { return false }
        rows.append(OrderedRow(key: key.bytes, payload: record.bytes))
        if keepsLast, rows.count >= 4 * limit {
            rows.removeFirst(rows.count - limit)
            hasDropped = true
        }
        return true
    }
}

extension ActorRuntime {
    /// Rows that one call gives, where it does not say how many.
    private static let pageRows = 1024

    func orderedScan(_ call: ActorCallView, _ reply: Reply) throws(DatabaseError) {
        let (collection, first, end) = try admitScan(call)
        let isBackward = call.flags & 4 != 0, resume = call.arguments[2]
        var from = call.arguments[0].bytes, to = call.arguments[1].bytes
        if !resume.isEmpty {
            if isBackward {
                to = resume.bytes
            } else if compareKeys(resume, call.arguments[0]) > 0 {
                from = resume.bytes
            }
        }
        let most = call.numbers[3] > 0 ? min(Int(clamping: call.numbers[3]), limits.scanCount) : Self.pageRows
        var room = call.numbers[4] > 0 ? min(Int(clamping: call.numbers[4]), limits.replyBytes) : limits.replyBytes
        var buckets = (first..<min(end, self.buckets.upperBound)).map { BucketRows(bucket: $0, from: from, to: to) }
        // Where keys are spread evenly, a bucket has its share of them, and some one a little more.
        let share = min(2 + 2 * most / max(buckets.count, 1), most)
        let pending = from.withUnsafeBytes { from in
            to.withUnsafeBytes { pendingRows(collection, from: from, to: $0) }
        }
        var given: [OrderedRow] = [], isOver = false, isFull = false
        while !isFull, !isOver {
            for index in buckets.indices where buckets[index].rows.isEmpty && !buckets[index].isOver {
                try read(&buckets[index], collection, share, isBackward: isBackward, pending, reply)
            }
            let ready = Self.takeReady(&buckets, isBackward: isBackward)
            for row in ready {
                let size = row.key.count + row.payload.count + 8
                isFull = !given.isEmpty && (given.count >= most || room < size)
                if isFull { break }
                room -= size
                given.append(row)
            }
            isFull = isFull || given.count >= most
            isOver = !isFull && buckets.allSatisfy { $0.isOver && $0.rows.isEmpty }
        }
        reply.beginList()
        for row in given {
            reply.item(row.key)
            reply.item(row.payload)
        }
        reply.encoder.listInteger(Int64(isOver ? end : first))
        let last = given.last?.key ?? []
        // Forward, the next page begins behind the last key; backward, it ends before it.
        reply.item(isOver ? [] : isBackward ? last : last + [0])
        reply.encoder.endList()
    }

    /// Takes those rows that nothing can come before any more, in their order.
    private static func takeReady(_ buckets: inout [BucketRows], isBackward: Bool) -> [OrderedRow] {
        func comes(_ left: Bytes, _ right: Bytes) -> Bool {
            isBackward ? right.lexicographicallyPrecedes(left) : left.lexicographicallyPrecedes(right)
        }
        var frontier: Bytes?
        for bucket in buckets where !bucket.isOver {
            guard let last = bucket.rows.last?.key else { continue }
            if let known = frontier, !comes(last, known) { continue }
            frontier = last
        }
        var ready: [OrderedRow] = []
        for index in buckets.indices {
            while let row = buckets[index].rows.first, frontier.map({ !comes($0, row.key) }) ?? true {
                ready.append(row)
                buckets[index].rows.removeFirst()
            }
        }
        ready.sort { comes($0.key, $1.key) }
        return ready
    }

    /// Reads the next rows of a bucket: `count` of them, or all that are left.
    private func read(
        _ rows: inout BucketRows, _ collection: CollectionID, _ count: Int, isBackward: Bool, _ pending: [PendingRow],
        _ reply: Reply
    ) throws(DatabaseError) {
        var count = count
        repeat {
            let start = isBackward ? try keyBack(count, rows, collection) : nil
            let collector = RowCollector(count, keepsLast: isBackward)
            var room = RowScanRoom(
                records: .max, bytes: .max, isKeysOnly: false, now: now, fragment: collector)
            let from = start ?? rows.from, to = rows.to
            // A scan shows all that is pending behind its beginning.
            let pending = pending.filter { row in
                row.bucket == rows.bucket
                    && (to.isEmpty || to.withUnsafeBytes { row.activation.comparePrimaryKey(with: $0) < 0 })
            }
            try from.withView { (from: ByteView) throws(DatabaseError) in
                try to.withView { (to: ByteView) throws(DatabaseError) in
                    try scanRows(rows.bucket, collection, from, to, pending, &room, reply)
                }
            }
            if isBackward {
                rows.rows = collector.rows.reversed()[...]
                // What was let go of lies before the first that is kept.
                rows.isOver = start == nil && !collector.hasDropped
                rows.to = collector.hasDropped ? collector.rows[0].key : from
            } else {
                rows.rows = collector.rows[...]
                rows.isOver = room.next == nil
                rows.from = room.next ?? rows.from
            }
            // What the store had there was deleted: more of it is looked at.
            count = min(count * 4, limits.scanCount)
        } while rows.rows.isEmpty && !rows.isOver
    }

    /// The primary key from which on a bucket has about `count` rows; nil: from the beginning of the range.
    private func keyBack(_ count: Int, _ rows: BucketRows, _ collection: CollectionID) throws(DatabaseError) -> Bytes? {
        let id = BucketID(rawValue: UInt16(truncatingIfNeeded: rows.bucket))
        keyBuffer.removeAll()
        NativeKeyLayout.appendPrefix(id, collection, into: &keyBuffer)
        endBuffer.removeAll()
        endBuffer.append(keyBuffer.readable)
        keyBuffer.append(rows.from)
        if rows.to.isEmpty { NativeKeyLayout.makeRangeEnd(&endBuffer) } else { endBuffer.append(rows.to) }
        let found = try reader.key(count, before: endBuffer.readable, from: keyBuffer.readable)
        return found.map { Bytes($0.dropFirst(NativeKeyLayout.prefixSize)) }
    }
}
