import Base
import DataModel

/// Walks an overlay, a frozen overlay, the store and its history as one ordered map, as it was at a time.
///
/// Layer by layer, from the newest: what a layer knows of that time holds, and hides what lies below.
struct PastScan {
    /// A key that there is, or was; the views are valid until the next one is asked for.
    struct Found {
        let key: ByteView
        /// Nil: the record was absent at the time.
        let value: ByteView?
        /// When it got its value, or when it was deleted, if that is known.
        let timestamp: Timestamp
    }

    private let upper: Overlay, middle: Overlay?
    private let newest: any StoreIterator
    private var history: HistoryCursor
    private let to: ByteView, time: Timestamp
    private var upperCursor: Overlay.Cursor
    private var middleCursor: Overlay.Cursor?
    /// The layers whose record was looked at last, and must move on first.
    private var isUpperUsed = false, isMiddleUsed = false, isNewestUsed = false, isHistoryUsed = false

    /// `to` must stay valid as long as the scan. `newest` must have been opened before `history`: a flush may come
    /// between the two.
    init(
        upper: Overlay, middle: Overlay?, newest: any StoreIterator, history: HistoryCursor, from: ByteView,
        to: ByteView, asOf time: Timestamp
    ) {
        (self.upper, self.middle, self.newest, self.history) = (upper, middle, newest, history)
        (self.to, self.time) = (to, time)
        upperCursor = upper.cursor(from: from)
        middleCursor = middle?.cursor(from: from)
    }

    mutating func next() throws(StoreError) -> Found? {
        try moveOn()
        let upperEntry = entry(of: upper, upperCursor)
        let middleEntry = middle.flatMap { entry(of: $0, middleCursor) }
        let newestKey = newest.recordKey, historyKey = history.key
        var least = upperEntry?.keyView
        for key in [middleEntry?.keyView, newestKey, historyKey] {
            guard let key else { continue }
            if let best = least, compareKeys(best, key) <= 0 { continue }
            least = key
        }
        guard let key = least else { return nil }
        isUpperUsed = upperEntry?.keyView.equals(key) == true
        isMiddleUsed = middleEntry?.keyView.equals(key) == true
        isNewestUsed = newestKey?.equals(key) == true
        isHistoryUsed = historyKey?.equals(key) == true

        switch upper.past(key, isUpperUsed ? upperEntry : nil, asOf: time) {
        case .found(let value, let timestamp): return Found(key: key, value: value, timestamp: timestamp)
        case .deleted(let timestamp): return Found(key: key, value: nil, timestamp: timestamp)
        case .below: break
        }
        switch middle?.past(key, isMiddleUsed ? middleEntry : nil, asOf: time) {
        case .found(let value, let timestamp)?: return Found(key: key, value: value, timestamp: timestamp)
        case .deleted(let timestamp)?: return Found(key: key, value: nil, timestamp: timestamp)
        case .below?, nil: break
        }
        if isNewestUsed {
            guard let split = StoredValue.split(newest.value) else { throw StoredValue.damaged }
            if split.timestamp <= time { return Found(key: key, value: split.value, timestamp: split.timestamp) }
        }
        guard isHistoryUsed else { return Found(key: key, value: nil, timestamp: .zero) }
        let past = try history.resolve(asOf: time)
        return Found(key: key, value: past.value, timestamp: past.timestamp)
    }

    private mutating func moveOn() throws(StoreError) {
        if isUpperUsed { upper.advance(&upperCursor) }
        if isMiddleUsed, let middle, var cursor = middleCursor.take() {  // Taken, so that its array is not copied.
            middle.advance(&cursor)
            middleCursor = cursor
        }
        if isNewestUsed { newest.next() }
        if isHistoryUsed { try history.advance() }
        (isUpperUsed, isMiddleUsed, isNewestUsed, isHistoryUsed) = (false, false, false, false)
    }

    private func entry(of overlay: Overlay, _ cursor: Overlay.Cursor?) -> Overlay.Entry? {
        guard let current = cursor?.current else { return nil }
        let entry = overlay.entries[current]
        return to.isEmpty || compareKeys(entry.keyView, to) < 0 ? entry : nil
    }
}

/// Walks the history in a store record by record, whatever buckets it lies in.
final class HistoryCursor {
    let store: any StoreIterator
    private var record = ByteBuffer(capacity: 128)
    private var bound = ByteBuffer(capacity: 128)
    /// What `resolve` has found.
    private var value = ByteBuffer(capacity: 256)
    private var hasRecord = false
    /// The end of the records.
    private let to: Bytes

    /// The history of the records `from <= key < to`; an empty `to`: to the end.
    init(_ source: any Store, from: ByteView, to: ByteView) throws(StoreError) {
        var start = ByteBuffer(capacity: 128), end = ByteBuffer(capacity: 128)
        HistoryKey.appendPosition(of: from, into: &start)
        if to.isEmpty { end.append(AppliedIndex.prefix) } else { HistoryKey.appendPosition(of: to, into: &end) }
        self.to = to.bytes
        store = try source.scan(from: start.readable.bytes, to: end.readable.bytes)
        try load()
    }

    /// The record whose history begins here; nil at the end. Valid until `advance`.
    var key: ByteView? { hasRecord ? record.readable : nil }

    /// Moves on to the next record.
    func advance() throws(StoreError) {
        guard hasRecord else { return }
        bound.removeAll()
        HistoryKey.appendPrefixEnd(of: record.readable, into: &bound)
        if store.isValid, compareKeys(store.key, bound.readable) < 0 { store.seek(bound.readable) }
        try load()
    }

    private func load() throws(StoreError) {
        hasRecord = false
        while store.isValid {
            let key = store.key
            if HistoryKey.isHistory(key) {
                record.removeAll()
                guard HistoryKey.parse(key, record: &record) != nil else { throw HistoryRecord.damaged }
                // Records ascend over all buckets.
                hasRecord = to.isEmpty || to.withUnsafeBytes { compareKeys(record.readable, $0) < 0 }
                return
            }
            // Data: the history of its bucket lies behind it, or that of the next.
            let bucket = HistoryKey.bucket(of: key)
            bound.removeAll()
            HistoryKey.appendStart(bucket, into: &bound)
            if compareKeys(key, bound.readable) >= 0 {
                guard bucket < .max else { return }
                bound.removeAll()
                HistoryKey.appendStart(bucket + 1, into: &bound)
            }
            store.seek(bound.readable)
        }
    }

    /// The state of the record at a time after which it was changed: its value then, or when it was deleted (0 if it
    /// never was, as far as is known). Once for each record.
    func resolve(asOf time: Timestamp) throws(StoreError) -> (value: ByteView?, timestamp: Timestamp) {
        var deleted = Timestamp.zero
        bound.removeAll()
        HistoryKey.appendPrefixEnd(of: record.readable, into: &bound)
        while store.isValid, compareKeys(store.key, bound.readable) < 0 {
            guard let until = HistoryKey.until(of: store.key) else { throw HistoryRecord.damaged }
            guard until > time else {
                deleted = until
                store.next()
                continue
            }
            var reader = try HistoryRecord.Reader(store.value)
            while let version = try reader.next() {
                if version.until <= time {
                    deleted = version.until
                } else {
                    guard version.timestamp <= time else { break }
                    value.removeAll()
                    value.append(version.value)
                    return (value.readable, version.timestamp)
                }
            }
            break
        }
        return (nil, deleted)
    }
}
