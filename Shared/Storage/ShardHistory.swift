import Base
import DataModel

/// A record that changed, as `ShardStore.changes` tells it; the views are valid during the call only.
package struct RecordChange {
    package let key: ByteView
    /// Nil: it was deleted.
    package let value: ByteView?
    /// The commit timestamp of the change.
    package let timestamp: Timestamp
}

// The past of a shard's records: every record as it was at a timestamp, as far back as `historyFloor`.
//
//     overlay          the newest version, and a chain of those that it superseded
//     frozen overlay   the same
//     store            the newest version, its commit timestamp behind the value
//     history          superseded versions in the store, packed by record, each with the time at which it ended
//
// A read as of T takes the first of these that knows of T: the newest version with a timestamp at or below T; in the
// history the version with the smallest end above T, if it began by T. What is applied later than the read does not
// change its answer as long as timestamps rise: the caller waits until all that could be at or below T is applied.
extension ShardStore {
    /// Nothing of the time before can be read. It rises with retention, with flushes that had too much to keep, and
    /// with deletions of whole ranges.
    package var historyFloor: Timestamp {
        max(history.floor, max(overlay.floor, frozen?.overlay.floor ?? .zero))
    }

    /// The newest commit timestamp of what is applied.
    package var newestTimestamp: Timestamp {
        max(history.newest, max(overlay.newest, frozen?.overlay.newest ?? .zero))
    }

    /// The newest commit timestamp of what is applied in some collections, or a later one.
    package func newestTimestamp(of collections: CollectionSet) -> Timestamp {
        let layers = [history.changes, overlay.changes] + (frozen.map { [$0.overlay.changes] } ?? [])
        return layers.map { $0.newest(of: collections) }.max() ?? .zero
    }

    // MARK: Holds

    /// Keeps the floor at or below a time until the hold is released or expires (`expireHolds`). Nil when the floor is
    /// above it already, or there are too many. A deletion of whole ranges raises the floor nevertheless.
    package func hold(at timestamp: Timestamp, untilMilliseconds: UInt64) -> HistoryHold? {
        guard timestamp >= historyFloor else { return nil }
        return history.hold(at: timestamp, untilMilliseconds: untilMilliseconds)
    }

    /// Moves the end of a hold; false when it is over.
    package func prolong(_ hold: HistoryHold, untilMilliseconds: UInt64) -> Bool {
        history.prolong(hold, untilMilliseconds: untilMilliseconds)
    }

    /// Ends a hold; harmless when it is over.
    package func release(_ hold: HistoryHold) { history.release(hold) }

    /// Ends the holds whose time is over.
    package func expireHolds(nowMilliseconds: UInt64) { history.expire(nowMilliseconds: nowMilliseconds) }

    /// The number of holds.
    package var holds: Int { history.holdCount }

    /// Raises the floor, as far as holds allow unless they are to be broken.
    package func raiseFloor(to timestamp: Timestamp, breakingHolds: Bool = false) {
        guard breakingHolds else { return history.raise(to: timestamp) }
        history.wrote(floor: timestamp, newest: history.newest)
    }

    // MARK: Reading

    var tooOld: StoreError {
        StoreError(.tooOld, "shard \(shard): the past is kept from \(historyFloor.milliseconds) ms on")
    }

    /// The value that `key` had at a time, copied.
    package func get(_ key: ByteView, asOf time: Timestamp) throws(StoreError) -> Bytes? {
        var result: Bytes?
        try withValue(key, asOf: time) { value, _ in result = value?.bytes }
        return result
    }

    /// Calls `body` once with the value that `key` had at a time, nil when there was none, and its commit timestamp.
    package func withValue(
        _ key: ByteView, asOf time: Timestamp, _ body: (ByteView?, Timestamp) -> Void
    ) throws(StoreError) {
        guard time >= historyFloor else { throw tooOld }
        for layer in [overlay, frozen?.overlay] {
            switch layer?.past(key, layer?.entry(of: key), asOf: time) {
            case .found(let value, let timestamp)?: return body(value, timestamp)
            case .deleted(let timestamp)?: return body(nil, timestamp)
            case .below?, nil: break
            }
        }
        var isAnswered = false, isDamaged = false
        try store.withValue(key) { stored in
            guard let stored else { return }
            guard let split = StoredValue.split(stored) else {
                isDamaged = true
                return
            }
            guard split.timestamp <= time else { return }
            isAnswered = true
            body(split.value, split.timestamp)
        }
        if isDamaged { throw StoredValue.damaged }
        if isAnswered { return }
        let past = try pastVersions(of: key, from: time)
        guard past.isValid else {
            try past.check()
            return body(nil, .zero)
        }
        guard let version = try HistoryRecord.version(in: past.value, asOf: time) else { return body(nil, .zero) }
        body(version.value, version.timestamp)
    }

    /// The history of a record, from the version on that was superseded behind a time.
    func pastVersions(of key: ByteView, from time: Timestamp) throws(StoreError) -> any StoreIterator {
        var from = ByteBuffer(capacity: 128), to = ByteBuffer(capacity: 128)
        HistoryKey.append(key, until: Timestamp(rawValue: time.rawValue &+ 1), into: &from)
        HistoryKey.appendPrefixEnd(of: key, into: &to)
        return try store.scan(from: from.readable.bytes, to: to.readable.bytes)
    }

    /// Whether `key` was changed after a time. Also true where that can no longer be told.
    package func isChanged(_ key: ByteView, since time: Timestamp) throws(StoreError) -> Bool {
        for layer in [overlay, frozen?.overlay] {
            guard let layer else { continue }
            if let entry = layer.entry(of: key) { return entry.timestamp > time || isCovered(entry, since: time) }
            if layer.tombstones.contains(key) { return time < historyFloor }
        }
        var newest: Timestamp?, isDamaged = false
        try store.withValue(key) { stored in
            guard let stored else { return }
            newest = StoredValue.split(stored)?.timestamp
            isDamaged = newest == nil
        }
        if isDamaged { throw StoredValue.damaged }
        if let newest { return newest > time }
        guard time >= historyFloor, HistoryKey.isKept(key) else { return true }
        let past = try pastVersions(of: key, from: time)
        let isChanged = past.isValid
        try past.check()
        return isChanged
    }

    /// Whether an entry was deleted by a range, by which it need not have got the time of that.
    private func isCovered(_ entry: Overlay.Entry, since time: Timestamp) -> Bool {
        entry.state == Overlay.Entry.covered && time < historyFloor
    }

    /// Calls `body` with the records `from <= key < to` (an empty `to`: to the end) as they were at a time, in order of
    /// key, until it returns false. The views are valid during the call only, and `body` must not apply.
    package func scan(
        from: ByteView, to: ByteView, asOf time: Timestamp, _ body: (_ key: ByteView, _ value: ByteView) -> Bool
    ) throws(StoreError) {
        try walk(from: from, to: to, asOf: time) { found in
            guard let value = found.value else { return true }
            return body(found.key, value)
        }
    }

    /// Calls `body` with the records `from <= key < to` that were changed behind `after`, each as it was at `upTo`, in
    /// order of key, until it returns false: what is different between the two times, deletions too, and some that came
    /// and went in between. Deletions of records without history (`HistoryKey.isKept`) are not told.
    package func changes(
        from: ByteView, to: ByteView, after: Timestamp, upTo: Timestamp, _ body: (RecordChange) -> Bool
    ) throws(StoreError) {
        guard after >= historyFloor else { throw tooOld }
        try walk(from: from, to: to, asOf: upTo) { found in
            guard found.timestamp > after else { return true }
            return body(RecordChange(key: found.key, value: found.value, timestamp: found.timestamp))
        }
    }

    private func walk(
        from: ByteView, to: ByteView, asOf time: Timestamp, _ body: (PastScan.Found) -> Bool
    ) throws(StoreError) {
        guard time >= historyFloor else { throw tooOld }
        let end = to.isEmpty ? AppliedIndex.prefix : to.bytes
        let newest = try store.scan(from: from.bytes, to: end)
        let past = try HistoryCursor(store, from: from, to: to)
        try end.withView { (end: ByteView) throws(StoreError) in
            var scan = PastScan(
                upper: overlay, middle: frozen?.overlay, newest: newest, history: past, from: from, to: end, asOf: time)
            while let found = try scan.next() {
                guard body(found) else { return }
            }
        }
        try newest.check()
        try past.store.check()
    }
}
