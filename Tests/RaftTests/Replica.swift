import Base
import Raft

/// An entry as a driver would hold it: `value` stands for the payload.
struct Entry: Hashable {
    var term: Term
    var value: UInt64
    var content: EntryContent
}

/// A message and, for an append, the payloads that the driver attached.
struct Envelope: Hashable {
    var message: Message
    var values: [UInt64] = []
}

/// What survives a crash.
struct Medium {
    var hardState = HardState(term: Term(rawValue: 0), votedFor: nil)
    var base = EntryID.zero
    var baseMembership: Membership
    var entries: [Entry] = []
    /// How far the store has been flushed.
    var flushed = LogIndex.zero
    /// False from a start with a cut log until the replica has caught up, over any number of crashes.
    var mayVote = true
}

/// A log write that is under way.
struct PendingWrite {
    var number: UInt64
    var hardState: HardState?
    /// The replica has caught up since its log was cut.
    var isWhole: Bool
    var first: UInt64
    var entries: [Entry]
}

/// One replica with everything a driver keeps beside the core.
struct Replica {
    let id: NodeID
    var core: RaftCore?
    var medium: Medium
    /// The log as it is in memory, behind `base`.
    var entries: [Entry] = []
    var base = EntryID.zero
    var baseMembership: Membership
    var applied = LogIndex.zero
    var writes: [PendingWrite] = []
    var held: [(write: UInt64, envelope: Envelope)] = []
    var installing: SnapshotMetadata?
    /// Clock: thousandths of real time's pace.
    var pace: UInt64 = 1000
    /// Clock: nanoseconds ahead of the others.
    var ahead: UInt64 = 0
    var lives: UInt64 = 0
    /// Reads under way: token → the newest commit that anybody knew when it came.
    var expected: [UInt64: UInt64] = [:]

    init(id: NodeID, membership: Membership) {
        self.id = id
        medium = Medium(baseMembership: membership)
        baseMembership = membership
    }

    func entry(at index: UInt64) -> Entry? {
        guard index > base.index.rawValue, index <= base.index.rawValue + UInt64(entries.count) else { return nil }
        return entries[Int(index - base.index.rawValue - 1)]
    }

    /// The membership in force at `index`.
    func membership(at index: UInt64) -> Membership {
        var at = index
        while at > base.index.rawValue {
            if case .configuration(let membership)? = entry(at: at)?.content { return membership }
            at -= 1
        }
        return baseMembership
    }

    var restored: RestoredReplica {
        var run = EntryRun(first: LogIndex(rawValue: medium.base.index.rawValue + 1))
        for entry in medium.entries { run.append(term: entry.term, size: 8, content: entry.content) }
        return RestoredReplica(
            hardState: medium.hardState, compacted: medium.base, membership: medium.baseMembership, entries: run,
            applied: max(medium.flushed, medium.base.index))
    }

    /// Makes the oldest `count` writes durable; returns the number of the last one.
    mutating func persist(_ count: Int) -> UInt64? {
        var number: UInt64?
        for write in writes.prefix(count) {
            number = write.number
            if let state = write.hardState { medium.hardState = state }
            if write.isWhole { medium.mayVote = true }
            let base = medium.base.index.rawValue
            guard !write.entries.isEmpty, write.first > base else { continue }
            let keep = Int(write.first - base - 1)
            medium.entries.removeSubrange(min(keep, medium.entries.count)...)
            medium.entries += write.entries
        }
        writes.removeFirst(min(count, writes.count))
        return number
    }

    /// The medium loses up to `count` entries that were durable, but none that the store has: as damage of the last
    /// round would, which may hold entries only.
    mutating func loseEnd(_ count: Int) {
        let kept = Int(max(medium.flushed, medium.base.index).rawValue - medium.base.index.rawValue)
        medium.entries.removeLast(min(count, max(0, medium.entries.count - kept)))
    }

    /// Cuts the log, in memory and on the medium.
    mutating func compact(through index: UInt64) {
        guard let term = entry(at: index)?.term else { return }
        let membership = membership(at: index)
        entries.removeFirst(Int(index - base.index.rawValue))
        base = EntryID(term: term, index: LogIndex(rawValue: index))
        baseMembership = membership
        medium.entries.removeFirst(min(medium.entries.count, Int(index - medium.base.index.rawValue)))
        medium.base = base
        medium.baseMembership = membership
    }

    /// Store and log now begin behind the snapshot, durably; what was being written of the old log is void.
    mutating func install(_ snapshot: SnapshotMetadata) {
        base = snapshot.last
        baseMembership = snapshot.membership
        entries = []
        applied = snapshot.last.index
        for position in writes.indices { writes[position].entries = [] }
        medium.base = base
        medium.baseMembership = baseMembership
        medium.entries = []
        medium.flushed = snapshot.last.index
        installing = nil
    }
}
