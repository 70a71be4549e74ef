import Base

/// How a replica behaves. The same on all replicas of a group, except `id` and `seed`.
///
/// **The clock assumption.** A lease is correct if, while it runs, no replica's monotonic clock runs faster than
/// another one's by more than `driftPermille`. Wall clocks play no part, and a process that is stopped does no harm:
/// the lease is checked against a sample taken after the last read. With `isLeaseOn = false` nothing is assumed.
package struct RaftConfiguration: Hashable, Sendable {
    /// This replica.
    package var id: NodeID
    /// Where election timeouts come from; different on every replica and in every life.
    package var seed: UInt64
    /// How often the driver steps `.tick`.
    package var tickInterval: UInt64 = 50_000_000
    /// A leader is heard at least this often, in nanoseconds.
    package var heartbeatInterval: UInt64 = 100_000_000
    /// A follower campaigns when it has heard no leader for a random time between these two, in nanoseconds. The lower
    /// one is also how long a replica that has heard a leader, or has just started, votes for nobody else.
    package var electionTimeout: ClosedRange<UInt64> = 500_000_000...1_000_000_000
    /// Leader leases on; off, every read asks a majority.
    package var isLeaseOn = true
    /// How much two clocks may drift apart: 100 = 10 %.
    package var driftPermille: UInt64 = 100
    /// An idle group falls quiet after this, in nanoseconds; nil, never.
    package var quiesceAfter: UInt64? = 3_000_000_000
    /// Appends to one follower that are not acknowledged yet.
    package var inFlightMessages = 128
    /// Their payload, in bytes (one message may exceed it).
    package var inFlightBytes: UInt64 = 8 << 20
    /// The payload of one append (one entry may exceed it).
    package var appendBytes: UInt64 = 1 << 20
    /// The entries of one append.
    package var appendEntries = 4096
    /// Payload that a leader takes beyond what is committed.
    package var uncommittedBytes: UInt64 = 64 << 20
    /// Reads that wait for a round.
    package var pendingReads = 4096
    /// For tests of the tests; empty in production.
    package var plantedBugs: PlantedBugs = []

    package init(id: NodeID, seed: UInt64) {
        self.id = id
        self.seed = seed
    }

    /// How long a lease lasts from the moment its round was sent.
    package var leaseDuration: UInt64 {
        electionTimeout.lowerBound / 1000 &* (1000 &- min(driftPermille, 1000))
    }
}

/// Classic mistakes, to show that the tests and the simulator would find them.
package struct PlantedBugs: OptionSet, Hashable, Sendable {
    package let rawValue: UInt32
    package init(rawValue: UInt32) { self.rawValue = rawValue }

    /// A replica forgets its vote and gives a second one in the same term.
    package static let voteTwiceInTerm = PlantedBugs(rawValue: 1 << 0)
    /// A leader commits entries of earlier terms by counting replicas (the paper's figure 8).
    package static let commitEarlierTermByCount = PlantedBugs(rawValue: 1 << 1)
    /// A leader counts its own log, and a follower acknowledges, before the entries are durable.
    package static let applyBeforePersist = PlantedBugs(rawValue: 1 << 2)
    /// A replica that has heard a leader, or just started, votes for others while that leader's lease runs.
    package static let leaseWithoutFencing = PlantedBugs(rawValue: 1 << 3)
    /// A follower takes entries without looking at what comes before them.
    package static let acceptAppendWithoutLogCheck = PlantedBugs(rawValue: 1 << 4)
    /// A follower keeps its own entries where the leader's differ.
    package static let skipTruncateOnConflict = PlantedBugs(rawValue: 1 << 5)
    /// A replica votes for a candidate whose log lacks entries.
    package static let voteWithoutLogCheck = PlantedBugs(rawValue: 1 << 6)
    /// Voters change in one step, without the joint membership.
    package static let membershipWithoutJoint = PlantedBugs(rawValue: 1 << 7)
    /// A leader answers reads without lease and without asking anybody.
    package static let readWithoutQuorum = PlantedBugs(rawValue: 1 << 8)
    /// Votes leave before they are durable.
    package static let ackBeforeHardState = PlantedBugs(rawValue: 1 << 9)
    /// A compacted log forgets the term of its last entry.
    package static let snapshotForgetsTerm = PlantedBugs(rawValue: 1 << 10)
    /// A new leader answers reads before it has committed an entry of its own term.
    package static let readBeforeOwnCommit = PlantedBugs(rawValue: 1 << 11)
    /// A follower takes the leader's commit index for entries that it has not compared with the leader's.
    package static let commitBeyondMatch = PlantedBugs(rawValue: 1 << 12)

    /// All of them with their names, for lists and reports.
    package static let catalog: [(name: String, bug: PlantedBugs)] = [
        ("voteTwiceInTerm", .voteTwiceInTerm), ("commitEarlierTermByCount", .commitEarlierTermByCount),
        ("applyBeforePersist", .applyBeforePersist), ("leaseWithoutFencing", .leaseWithoutFencing),
        ("acceptAppendWithoutLogCheck", .acceptAppendWithoutLogCheck),
        ("skipTruncateOnConflict", .skipTruncateOnConflict), ("voteWithoutLogCheck", .voteWithoutLogCheck),
        ("membershipWithoutJoint", .membershipWithoutJoint), ("readWithoutQuorum", .readWithoutQuorum),
        ("ackBeforeHardState", .ackBeforeHardState), ("snapshotForgetsTerm", .snapshotForgetsTerm),
        ("readBeforeOwnCommit", .readBeforeOwnCommit), ("commitBeyondMatch", .commitBeyondMatch),
    ]
}
