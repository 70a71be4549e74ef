import Base
import Raft

/// The newest entries of a group in memory: for followers that are close behind, and for applying what was replicated.
///
/// What is not written to the log yet is always in here; beyond that it keeps at most `limit` bytes.
struct EntryCache {
    struct Entry {
        var kind: RecordKind
        /// Shared with messages on their way out, not copied.
        var payload: Bytes
    }

    private let limit: Int
    /// Entries from `start` on, with consecutive indexes; what is before `start` is given up.
    private var entries: [Entry] = []
    private var start = 0
    /// The index of `entries[start]`.
    private(set) var first = LogIndex(rawValue: 1)
    private(set) var byteCount = 0

    init(limit: Int) { self.limit = limit }

    var end: LogIndex { LogIndex(rawValue: first.rawValue &+ UInt64(entries.count - start)) }

    /// Adds the entry `index`, which follows the last one; if it does not, what is here is forgotten.
    mutating func append(_ index: LogIndex, _ kind: RecordKind, _ payload: Bytes) {
        if index != end { restart(at: index) }
        entries.append(Entry(kind: kind, payload: payload))
        byteCount += payload.count + MemoryLayout<Entry>.stride
    }

    func entry(at index: LogIndex) -> Entry? {
        guard index >= first, index < end else { return nil }
        return entries[start + Int(index.rawValue &- first.rawValue)]
    }

    /// Forgets the entries from `index` on.
    mutating func cut(from index: LogIndex) {
        while end > index, entries.count > start { byteCount -= Self.cost(entries.removeLast()) }
    }

    /// Gives up old entries above the limit, as far as the log has them.
    mutating func evict(written: LogIndex) {
        while byteCount > limit, first <= written, start < entries.count {
            byteCount -= Self.cost(entries[start])
            entries[start].payload = []
            start += 1
            first = LogIndex(rawValue: first.rawValue &+ 1)
        }
        if start > 1024, start > entries.count / 2 {
            entries.removeFirst(start)
            start = 0
        }
    }

    /// Forgets everything; the next entry is `index`.
    mutating func restart(at index: LogIndex) {
        entries.removeAll()
        (start, byteCount) = (0, 0)
        first = index
    }

    private static func cost(_ entry: Entry) -> Int { entry.payload.count + MemoryLayout<Entry>.stride }
}
