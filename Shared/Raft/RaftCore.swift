import Base

/// One replica of a Raft group, as a value: events in, duties out. No clock, no disk, no socket, no randomness but a
/// seed; payloads never enter it.
///
/// The driver's loop, per event:
/// ```
/// core.step(event, now: monotonicNanoseconds, into: &effects)
/// // then, in the order of the fields of `Effects`: write, send, hold back, commit, answer, change role …
/// ```
/// Steps of one replica are serial, and the duties of a step are begun before the next step.
package struct RaftCore: Sendable {
    package let configuration: RaftConfiguration
    /// Term and vote as they are in memory; durable once the write that carried them is.
    package internal(set) var hardState: HardState
    /// The newest entry known to be committed.
    package internal(set) var commitIndex: LogIndex
    /// How far the driver has applied.
    package internal(set) var appliedIndex: LogIndex

    /// - Parameters:
    ///   - restored: what disk and store remember.
    ///   - now: a sample of the monotonic clock, as for `step`.
    package init(_ configuration: RaftConfiguration, restored: RestoredReplica, now: UInt64) {
        self.configuration = configuration
        hardState = restored.hardState
        commitIndex = max(restored.applied, restored.compacted.index)
        appliedIndex = commitIndex
    }

    package var id: NodeID { configuration.id }
    package var term: Term { hardState.term }

    /// The newest entry, committed or not; the next proposal gets the index behind it.
    package var lastIndex: LogIndex { .zero }

    /// Whether this replica leads (its term's entry need not be committed yet).
    package var isLeader: Bool { false }

    /// Who leads, as far as this replica knows.
    package var leader: NodeID? { nil }

    /// The membership in force: the newest in the log.
    package var membership: Membership { Membership(voters: []) }

    /// Whether time matters to it: not if it is quiescent or the only voter. Without, the driver steps no ticks.
    package var needsTicks: Bool { true }

    /// Whether reads of this leader that were made before `now` was sampled may be answered without asking anybody.
    package func leaseIsValid(at now: UInt64) -> Bool { false }

    /// The only way in and the only way out. Empties `effects` and fills in the duties that follow from the event.
    package mutating func step(_ event: RaftEvent, now: UInt64, into effects: inout Effects) {
        effects.removeAll()
    }

    /// What it does and sees, for people and for placement.
    package var status: RaftStatus {
        RaftStatus(
            role: .follower, term: term, leader: leader, last: .zero, commit: commitIndex, membership: membership,
            mayVote: true, isQuiescent: false, peers: [])
    }

    /// As `step(_:now:into:)`, for tests and cold code.
    package mutating func step(_ event: RaftEvent, now: UInt64) -> Effects {
        var effects = Effects()
        step(event, now: now, into: &effects)
        return effects
    }
}

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
    /// False if the log's recovery has cut something: the replica may have forgotten what it acknowledged, and neither
    /// votes nor campaigns until it has caught up with a leader's commit index of after its start.
    package var mayVote: Bool

    package init(
        hardState: HardState = HardState(term: Term(rawValue: 0), votedFor: nil), compacted: EntryID = .zero,
        membership: Membership, entries: EntryRun? = nil, applied: LogIndex? = nil, mayVote: Bool = true
    ) {
        self.hardState = hardState
        self.compacted = compacted
        self.membership = membership
        self.entries = entries ?? EntryRun(first: LogIndex(rawValue: compacted.index.rawValue &+ 1))
        self.applied = applied ?? compacted.index
        self.mayVote = mayVote
    }
}
