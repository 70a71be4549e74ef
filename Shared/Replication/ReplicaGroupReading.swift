import Base
import Raft

/// Reading the log again, for those who follow it from the outside (change feeds).
extension ReplicaGroup {
    /// The first entry that the log has for certain, unless nothing is behind its mark.
    package var firstIndex: LogIndex { LogIndex(rawValue: journal.markIndex.rawValue &+ 1) }

    /// Committed entries from `first` on: about so many bytes of payload, and one entry at least. None when nothing is
    /// committed there, or the log begins behind it by now.
    package func committedEntries(from first: LogIndex, bytes: Int) -> [LoggedEntry] {
        guard first <= committedIndex, first > .zero, !isRetired else { return [] }
        var found: [LoggedEntry] = [], room = bytes, next = first
        while room > 0, next <= committedIndex, let cached = cache.entry(at: next) {
            found.append(
                LoggedEntry(
                    id: EntryID(term: journal.term(at: next), index: next), kind: cached.kind, payload: cached.payload))
            room -= max(cached.payload.count, 1)
            next = LogIndex(rawValue: next.rawValue &+ 1)
        }
        guard found.isEmpty else { return found }
        let isCachedLater = cache.end > cache.first && cache.first > first
        let last = isCachedLater ? min(committedIndex, LogIndex(rawValue: cache.first.rawValue &- 1)) : committedIndex
        return readBack(from: first, through: last, bytes: bytes)
    }
}
