import Base
import DataModel

/// Walks an overlay, a frozen overlay and the store as one ordered map: of equal keys the upper layer's wins, and
/// what a layer deleted, by key or by range, hides the layers below it.
struct MergedScan {
    private let upper: Overlay
    private let middle: Overlay?
    let store: any StoreIterator
    private let to: ByteView
    private var upperCursor: Overlay.Cursor
    private var middleCursor: Overlay.Cursor?
    /// The layer whose record was returned last, and must move on first.
    private var last = Layer.none

    /// The store has a record that cannot be one; the scan ended there.
    private(set) var isDamaged = false

    private enum Layer { case none, upper, middle, store }

    /// `to` must stay valid as long as the scan.
    init(upper: Overlay, middle: Overlay?, store: any StoreIterator, from: ByteView, to: ByteView) {
        self.upper = upper
        self.middle = middle
        self.store = store
        self.to = to
        upperCursor = upper.cursor(from: from)
        middleCursor = middle?.cursor(from: from)
    }

    /// The next record; its views are valid until the next call.
    mutating func next() -> (key: ByteView, value: ByteView)? {
        moveOn()
        while true {
            let upperEntry = entry(of: upper, upperCursor)
            let middleEntry = middle.flatMap { entry(of: $0, middleCursor) }
            let storeKey = store.recordKey
            guard let least = Self.least(upperEntry?.keyView, middleEntry?.keyView, storeKey) else { return nil }

            if let upperEntry, upperEntry.keyView.equals(least) {
                if let middleEntry, middleEntry.keyView.equals(least) { advanceMiddle() }
                if let storeKey, storeKey.equals(least) { store.next() }
                if !upperEntry.isDeleted {
                    last = .upper
                    return (upperEntry.keyView, upperEntry.valueView)
                }
                upper.advance(&upperCursor)
            } else if let middleEntry, middleEntry.keyView.equals(least) {
                if let storeKey, storeKey.equals(least) { store.next() }
                if !middleEntry.isDeleted, !upper.tombstones.contains(least) {
                    last = .middle
                    return (middleEntry.keyView, middleEntry.valueView)
                }
                advanceMiddle()
            } else if let hidden = upper.tombstones.end(containing: least) ?? middle?.tombstones.end(containing: least)
            {
                // Skips the whole hidden range, however much of it the store still holds.
                hidden.withUnsafeBytes { store.seek($0) }
            } else {
                guard let split = StoredValue.split(store.value) else {
                    isDamaged = true
                    return nil
                }
                last = .store
                return (least, split.value)
            }
        }
    }

    private mutating func moveOn() {
        switch last {
        case .none: break
        case .upper: upper.advance(&upperCursor)
        case .middle: advanceMiddle()
        case .store: store.next()
        }
        last = .none
    }

    private mutating func advanceMiddle() {
        guard let middle, var cursor = middleCursor.take() else { return }  // Taken, so that its array is not copied.
        middle.advance(&cursor)
        middleCursor = cursor
    }

    private func entry(of overlay: Overlay, _ cursor: Overlay.Cursor?) -> Overlay.Entry? {
        guard let current = cursor?.current else { return nil }
        let entry = overlay.entries[current]
        return to.isEmpty || compareKeys(entry.keyView, to) < 0 ? entry : nil
    }

    private static func least(_ upper: ByteView?, _ middle: ByteView?, _ store: ByteView?) -> ByteView? {
        lower(lower(upper, middle), store)
    }

    /// The lower key; of equal ones the first.
    private static func lower(_ first: ByteView?, _ second: ByteView?) -> ByteView? {
        guard let first else { return second }
        guard let second else { return first }
        return compareKeys(first, second) <= 0 ? first : second
    }
}

extension StoreIterator {
    /// The key of the current record, behind superseded versions; nil at the end.
    var recordKey: ByteView? {
        while isValid {
            let key = key
            guard HistoryKey.isHistory(key) else { return key }
            var end = ByteBuffer(capacity: 16)
            HistoryKey.appendEnd(HistoryKey.bucket(of: key), into: &end)
            seek(end.readable)
        }
        return nil
    }
}
