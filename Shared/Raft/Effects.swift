import Base

/// Duties for the driver; the order of the fields is the order of duty.
///
/// 1. Append `hardState`, `entries` and `isWhole` to the log, as one write, in the order of steps. 2. Send
/// `messages` at once.
/// 3. When that write is durable (and all before it), send `messagesAfterPersist`, then step `.persisted(write)`.
/// 4. Serve the rest. The buffers are the caller's and are reused from step to step; `step` empties them first.
package struct Effects: Hashable, Sendable {
    /// Persist: a vote that is not on disk was never given. The write counts as durable only when the disk cannot lose
    /// it unnoticed any more (see CutLogs.swift).
    package var hardState: HardState?
    /// Persist: the replica has caught up since its log was cut, and need not be told so at its next start.
    package var isWhole = false
    /// Not nil: forget the log from here on; pending payloads and cached entries go too. In the log itself nothing is
    /// to be done: of two records with the same index the later one holds.
    package var truncatedFrom: LogIndex?
    /// Append to the log. The payloads: on a leader, what was proposed (nothing for an empty entry, the encoded
    /// membership for a configuration); on a follower, those of the message just stepped, for these indexes.
    package var entries = EntryRun(first: .zero)
    /// The number of the newest write so far; a step with `hardState` or `entries` begins a new one.
    package var write: UInt64 = 0
    /// Send now: the leader's log write runs in parallel.
    ///
    /// An append names indexes. If the driver must fetch payloads and this replica's term has changed meanwhile, it
    /// drops the message: its log may be another one by then.
    package var messages: [Message] = []
    /// Send when write number `write` is durable: votes and acknowledgements.
    package var messagesAfterPersist: [Message] = []
    /// The commit index has moved to here. Entries up to it will never be taken back, and may be applied. A majority
    /// has them durably, this replica not necessarily: the store is flushed no further than `RaftCore.durableIndex`.
    package var committed: LogIndex?
    /// Reads whose index is known.
    package var reads: [ReadReady] = []
    /// The replica leads, or follows somebody else (or nobody) from now on. A leader that is none any more answers none
    /// of its pending reads and proposals.
    package var role: RoleChange?
    /// Send a snapshot of applied state to these peers; report with `.snapshotSent`.
    package var snapshotsWanted: [NodeID] = []
    /// Install the staged snapshot; report with `.snapshotInstalled` or `.snapshotRefused`. Until then appends are
    /// ignored.
    package var snapshotToInstall: SnapshotMetadata?
    /// The membership in force has changed to this one.
    package var membership: Membership?
    /// Why the event was not done.
    package var refusal: Refusal?

    package init() {}

    /// Whether there is something to write.
    package var hasWrite: Bool { hardState != nil || !entries.isEmpty || isWhole }

    /// Empties all, keeps the room of the lists.
    package mutating func removeAll() {
        hardState = nil
        isWhole = false
        truncatedFrom = nil
        if !entries.isEmpty { entries = EntryRun(first: .zero) }
        messages.removeAll(keepingCapacity: true)
        messagesAfterPersist.removeAll(keepingCapacity: true)
        committed = nil
        reads.removeAll(keepingCapacity: true)
        role = nil
        snapshotsWanted.removeAll(keepingCapacity: true)
        snapshotToInstall = nil
        membership = nil
        refusal = nil
    }
}

/// A read may be served once `index` is applied. Under a lease, ask `leaseIsValid` again, with a clock sample taken
/// after the read, before the reply leaves.
package struct ReadReady: Hashable, Sendable {
    package var token: UInt64
    package var index: LogIndex
    /// Answered by the lease, without asking anybody.
    package var isUnderLease: Bool

    package init(token: UInt64, index: LogIndex, isUnderLease: Bool) {
        self.token = token
        self.index = index
        self.isUnderLease = isUnderLease
    }
}

/// What a replica has become.
package enum RoleChange: Hashable, Sendable {
    case leader(Term)
    /// Also a candidate, of whose election nobody knows the end: `leader` is nil.
    case follower(Term, leader: NodeID?)
}

/// Why a proposal, a read or a transfer was not taken. Nothing has happened.
package enum Refusal: Hashable, Sendable {
    /// Ask there, if it is known.
    case notLeader(NodeID?)
    /// Leadership is being handed over.
    case transferring
    /// Too much is uncommitted, or too many reads wait.
    case busy
    /// Another change of membership is not through yet, or the leader has not committed an entry of its term.
    case membershipInProgress
    /// The membership in force is of a later version than this one.
    case outdated
    /// Not a membership, or not a target.
    case invalid
}
