import Base
import DataModel

/// What was done to a record, as `ShardStore.versions` tells it; the views are valid during the call only.
package enum RecordVersion {
    case put(ByteView, Timestamp)
    /// It was there until then, with that value.
    case deleted(ByteView, Timestamp)

    /// The commit timestamp.
    package var timestamp: Timestamp {
        switch self {
        case .put(_, let timestamp), .deleted(_, let timestamp): timestamp
        }
    }
}

extension ShardStore {
    /// Calls `body` with all that was done to a record behind `after` and up to `upTo`, in no order, until it returns
    /// false. What one commit did is one thing, and a deletion of what was not there is none.
    package func versions(
        of key: ByteView, after: Timestamp, upTo: Timestamp, _ body: (RecordVersion) -> Bool
    ) throws(StoreError) {
        guard after >= historyFloor else { throw tooOld }
        var walk = VersionWalk(after: after, upTo: upTo)
        for layer in [overlay, frozen?.overlay] {
            guard let layer else { continue }
            if let entry = layer.entry(of: key) {
                var version = Overlay.Version(entry)
                while walk.meet(version, body), let previous = version.previous {
                    version = Overlay.Version(at: previous)
                }
            }
            if walk.isOver || layer.tombstones.contains(key) { return }
        }
        var isDamaged = false
        try store.withValue(key) { stored in
            guard let stored else { return }
            guard let split = StoredValue.split(stored) else {
                isDamaged = true
                return
            }
            walk.meet(split.value, split.timestamp, body)
        }
        if isDamaged { throw StoredValue.damaged }
        if !walk.isOver { try tellHistory(of: key, walk, body) }
    }

    /// Goes on with what the history has that is older than all that was met.
    private func tellHistory(
        of key: ByteView, _ walk: VersionWalk, _ body: (RecordVersion) -> Bool
    ) throws(StoreError) {
        var value = ByteBuffer(capacity: 256), end: Timestamp?, isAtEnd = false
        let past = try pastVersions(of: key, from: walk.after)
        while past.isValid, !isAtEnd {
            var reader = try HistoryRecord.Reader(past.value)
            while let version = try reader.next() {
                isAtEnd = version.timestamp >= walk.oldest
                if isAtEnd { break }
                if let end {
                    if version.timestamp < end { continue }  // Written once more after a crash.
                    if version.timestamp > end, walk.covers(end), !body(.deleted(value.readable, end)) { return }
                }
                end = version.until
                value.removeAll()
                value.append(version.value)
                if walk.covers(version.timestamp), !body(.put(value.readable, version.timestamp)) { return }
            }
            past.next()
        }
        try past.check()
        guard let end, walk.removed != nil || end < walk.oldest, walk.covers(end) else { return }
        _ = body(.deleted(value.readable, end))
    }
}

/// Walks the states of a record from the newest to older ones.
private struct VersionWalk {
    let after: Timestamp
    let upTo: Timestamp
    /// Of the states that were met.
    private(set) var oldest = Timestamp(rawValue: .max)
    /// Deleted by the oldest of them, if there was something.
    private(set) var removed: Timestamp?
    /// What is older was not done in the time.
    private(set) var isOver = false

    init(after: Timestamp, upTo: Timestamp) { (self.after, self.upTo) = (after, upTo) }

    func covers(_ timestamp: Timestamp) -> Bool { timestamp > after && timestamp <= upTo }

    /// False when it is over.
    mutating func meet(_ version: Overlay.Version, _ body: (RecordVersion) -> Bool) -> Bool {
        if version.state == Overlay.Entry.covered {
            isOver = true
        } else if !version.isDeleted {
            meet(version.valueView, version.timestamp, body)
        } else if version.timestamp < oldest {
            (oldest, removed, isOver) = (version.timestamp, version.timestamp, version.timestamp <= after)
        }
        return !isOver
    }

    mutating func meet(_ value: ByteView, _ timestamp: Timestamp, _ body: (RecordVersion) -> Bool) {
        guard timestamp < oldest else { return }  // Met above: it is on its way into the store.
        isOver = timestamp <= after
        if let removed, covers(removed), !body(.deleted(value, removed)) { isOver = true }
        if !isOver, covers(timestamp), !body(.put(value, timestamp)) { isOver = true }
        (oldest, removed) = (timestamp, nil)
    }
}
