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
///
/// Where to read: the paper's rules for candidates and voters are in Elections.swift, for leaders in Leading.swift and
/// Rounds.swift (heartbeats, leases, reads), for followers in Following.swift; MembershipChange.swift, Quiescence.swift
/// and CutLogs.swift hold what the paper's figure leaves out.
///
/// Invariants:
/// - A vote leaves only when it is durable, an acknowledgement only when the entries are; a leader counts itself like
///   everybody else, when its own write is durable. A candidate asks for votes only when its log and its own vote are.
/// - Only entries of the leader's own term are committed by counting; earlier ones by what follows them.
/// - The newest membership in the log is in force, committed or not; the next change begins when the last is through.
/// - A lease is counted from the moment its round was sent, on the leader's clock; who has answered a round votes for
///   nobody else during the shortest election timeout, counted from the moment it came in, on its own clock.
package struct RaftCore: Sendable {
    package let configuration: RaftConfiguration
    /// Term and vote as they are in memory; durable once the write that carried them is.
    package internal(set) var hardState: HardState
    /// The newest entry known to be committed.
    package internal(set) var commitIndex: LogIndex
    /// How far the driver has applied.
    package internal(set) var appliedIndex: LogIndex
    /// The membership in force: the newest in the log.
    package internal(set) var membership: Membership
    /// Who leads, as far as this replica knows.
    package internal(set) var leader: NodeID?

    var role = RaftStatus.Role.follower
    var log: RaftLog
    var membershipIndex: LogIndex
    var writes: OutstandingWrites
    var random: SplitMix64
    /// The newest sample seen; time does not go back.
    var now: UInt64
    /// What the driver was told last.
    var announcedRole: RoleChange

    // Elections.
    var electionDeadline: UInt64
    /// Until then this replica votes for nobody: it has heard a leader, or may have before it started.
    var fencedUntil: UInt64
    var granted: [NodeID] = []
    /// Of those, the ones whose logs were cut.
    var cutGrants: [NodeID] = []
    var refused: [NodeID] = []
    /// Not zero: the log was cut; what is asked of a leader before this replica votes like the others again.
    var rejoin: UInt64
    /// What it must have by then.
    var rejoinTarget: LogIndex?
    /// The leader of this term has been asked, and knows.
    var isKnownCut = false
    /// Where a log ended that was given up: see `RestoredReplica.floor`.
    let floor: EntryID
    /// A snapshot that the driver is installing.
    var installing: SnapshotMetadata?

    // Leading.
    var peers: [PeerProgress] = []
    var rounds = Rounds()
    var reads: [WaitingRead] = []
    var heartbeatDue: UInt64 = 0
    var quorumCheckDue: UInt64 = 0
    /// The leader's first entry of this term; once it is committed, the leader knows what is committed.
    var firstOwnIndex = LogIndex.zero
    var uncommittedBytes: UInt64 = 0
    var transfer: Transfer?
    /// A follower has been told to campaign whatever it has heard: no lease any more in this term, as the message may
    /// arrive at any time.
    var hasForfeitedLease = false

    // Quiescence.
    package internal(set) var isQuiescent = false
    var lastTraffic: UInt64

    /// Leadership on its way to somebody.
    struct Transfer: Sendable {
        var target: NodeID
        var deadline: UInt64
        var isAsked = false
    }

    /// - Parameters:
    ///   - restored: what disk and store remember.
    ///   - now: a sample of the monotonic clock, as for `step`.
    package init(_ configuration: RaftConfiguration, restored: RestoredReplica, now: UInt64) {
        self.configuration = configuration
        hardState = restored.hardState
        log = RaftLog(base: restored.compacted, membership: restored.membership)
        log.append(restored.entries)
        if restored.applied > log.last.index {
            // The store is ahead of a log that lost its end (asynchronous durability). The entry's true term is not
            // known; one that is too low makes it lose elections and refuse at most one append.
            log = RaftLog(
                base: EntryID(term: log.last.term, index: restored.applied),
                membership: log.membership(at: log.last.index).membership)
        }
        (membership, membershipIndex) = log.membership(at: log.last.index)
        commitIndex = min(max(restored.applied, restored.compacted.index), log.last.index)
        appliedIndex = commitIndex
        // An entry's term was the replica's term when it was written.
        if log.last.term > hardState.term { hardState = HardState(term: log.last.term, votedFor: nil) }
        writes = OutstandingWrites(durableIndex: log.last.index, durableTerm: hardState.term)
        random = SplitMix64(seed: configuration.seed)
        self.now = now
        announcedRole = .follower(hardState.term, leader: nil)
        rejoin = restored.mayVote ? 0 : random.next() | 1
        floor = restored.floor
        fencedUntil = now &+ configuration.electionTimeout.lowerBound
        electionDeadline = 0
        lastTraffic = now
        resetElectionTimer()
    }

    package var id: NodeID { configuration.id }
    package var term: Term { hardState.term }

    /// The newest entry, committed or not; the next proposal gets the index behind it.
    package var lastIndex: LogIndex { log.last.index }

    /// The term of the entry at `index`; nil where the log does not reach.
    package func term(at index: LogIndex) -> Term? { log.term(at: index) }

    /// Where the log begins: what is up to here is in the store only.
    package var compactedThrough: EntryID { log.base }

    /// The log is durable up to here.
    package var durableIndex: LogIndex { writes.durableIndex }

    /// Whether this replica leads (its term's entry need not be committed yet).
    package var isLeader: Bool { role == .leader }

    /// False after a cut log, until it has caught up: its vote counts only in an election that everybody grants.
    package var mayVote: Bool { rejoin == 0 }

    /// Whether time matters to it: not if it is quiescent or alone. Without, the driver steps no ticks.
    package var needsTicks: Bool { !isQuiescent && !(isLeader && peers.isEmpty) }

    /// The only way in and the only way out. Empties `effects` and fills in the duties that follow from the event.
    ///
    /// `now` is a sample of the monotonic clock taken *after* the event's message was read from the network: fences
    /// are counted from it. A sample taken before a stop of the process would end them too early.
    package mutating func step(_ event: RaftEvent, now sample: UInt64, into effects: inout Effects) {
        effects.removeAll()
        now = max(now, sample)
        switch event {
        case .tick: tick(&effects)
        case .wake: wakeUp(&effects)
        case .received(let message): receive(message, &effects)
        case .propose(let sizes): propose(sizes, &effects)
        case .proposeMembership(let target): propose(target, &effects)
        case .persisted(let write): persisted(write, &effects)
        case .applied(let index): appliedIndex = max(appliedIndex, min(index, commitIndex))
        case .readIndex(let token): readIndex(token, &effects)
        case .transferLeadership(let target): transferLeadership(to: target, &effects)
        case .compacted(let index):
            log.compact(
                through: min(index, appliedIndex), forgettingTerm: has(.snapshotForgetsTerm))
        case .snapshotInstalled(let snapshot): snapshotInstalled(snapshot, &effects)
        case .snapshotRefused: installing = nil
        case .snapshotSent(let peer, _): snapshotSent(to: peer)
        case .unreachable(let peer): unreachable(peer)
        case .peerDown(let peer): peerDown(peer, &effects)
        }
        finish(&effects)
    }

    /// As `step(_:now:into:)`, for tests and cold code.
    package mutating func step(_ event: RaftEvent, now: UInt64) -> Effects {
        var effects = Effects()
        step(event, now: now, into: &effects)
        return effects
    }

    /// What every step ends with: the write gets its number, a new role is told.
    private mutating func finish(_ effects: inout Effects) {
        if rejoin != 0 { checkRejoin(&effects) }
        if effects.hasWrite { writes.begin(last: log.last.index, term: term) }
        effects.write = writes.newest
        let current = isLeader ? RoleChange.leader(term) : .follower(term, leader: leader)
        if current != announcedRole {
            announcedRole = current
            effects.role = current
        }
    }

    func has(_ bug: PlantedBugs) -> Bool {
        !configuration.plantedBugs.isEmpty && configuration.plantedBugs.contains(bug)
    }

    func message(to peer: NodeID, _ body: Message.Body) -> Message {
        Message(from: id, to: peer, term: term, body: body)
    }

    /// What it does and sees, for people and for placement.
    package var status: RaftStatus {
        RaftStatus(
            role: role, term: term, leader: leader, last: log.last, commit: commitIndex, membership: membership,
            mayVote: mayVote, isQuiescent: isQuiescent,
            peers: peers.map {
                PeerStatus(
                    id: $0.id, mode: $0.mode, matched: $0.matched,
                    isActive: $0.isActive
                        || rounds.isRecent($0.answeredRound, at: now, configuration.electionTimeout.lowerBound))
            })
    }

    private mutating func tick(_ effects: inout Effects) {
        guard !isQuiescent else { return }
        if isLeader {
            tickLeader(&effects)
        } else if membership.isOnlyVoter(id) || now >= electionDeadline {
            campaign(&effects)
        }
    }

    private mutating func persisted(_ write: UInt64, _ effects: inout Effects) {
        writes.finish(through: write)
        switch role {
        case .leader: advanceCommit(&effects)
        case .candidate: if writes.durableTerm == term { count(ownVote, of: id, &effects) }
        case .follower, .preCandidate: break
        }
    }
}
