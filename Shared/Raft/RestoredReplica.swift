import Base

/// What a replica's log and store remember when it starts.
package struct RestoredReplica: Hashable, Sendable {
    package var hardState: HardState
    /// Where the log begins: entries up to here are in the store only. `zero` for a new log.
    package var compacted: EntryID
    /// The membership in force at `compacted`; of a new group, the first one (the same on all of its replicas).
    package var membership: Membership
    /// The entries behind `compacted`, with the memberships among them.
    package var entries: EntryRun
    /// How far the store has got; at least `compacted`.
    package var applied: LogIndex
    /// False if the log's recovery has cut something: the replica may have forgotten entries that it acknowledged, and
    /// its vote is not worth another one's until it has caught up (see CutLogs.swift). The driver keeps that durably
    /// from such a start until `Effects.isWhole`: a second start finds a log without a flaw.
    package var mayVote: Bool
    /// Where the log ended that this replica has given up when it left the group, if it is here again. A vote is worth
    /// what the voter remembers: until its new log reaches that far, it votes and stands as if it still had the old
    /// one.
    package var floor: EntryID

    package init(
        hardState: HardState = HardState(term: Term(rawValue: 0), votedFor: nil), compacted: EntryID = .zero,
        membership: Membership, entries: EntryRun? = nil, applied: LogIndex? = nil, mayVote: Bool = true,
        floor: EntryID = .zero
    ) {
        self.hardState = hardState
        self.compacted = compacted
        self.membership = membership
        self.entries = entries ?? EntryRun(first: LogIndex(rawValue: compacted.index.rawValue &+ 1))
        self.applied = applied ?? compacted.index
        self.mayVote = mayVote
        self.floor = floor
    }
}
