import Base
import Raft

/// One replica of a shard: drives a `RaftCore` over the log and the way to the peers. Loop-confined; made by
/// `ReplicaGroups.add`.
///
///     propose ─▶ core ─▶ log, and at once to the followers     the leader's own write runs in parallel
///     receive ─▶ core ─▶ log, then (when durable) the reply
///     durable ─▶ core ─▶ commit ─▶ onCommitted, onApply
///
/// What becomes of an entry. An entry that this replica proposed, in the leadership that lasts, is reported by
/// `onCommitted`: whoever proposed it knows it. Every other one (replicated from a leader, inherited from an earlier
/// term, or Raft's own: then with an empty payload) is handed to `onApply`. Together they name every index once, in
/// order, without a gap: from where the store was at the start, or from a snapshot's index on.
///
/// A group with one voter needs no ticks and no peers; it leads from `start` on, and its entries are committed when
/// they are durable.
package final class ReplicaGroup {
    package let shard: ShardID
    /// Called on the loop when own proposals are committed, up to this index.
    package var onCommitted: ((LogIndex) -> Void)?
    /// Called on the loop with a committed entry that is not an own proposal. The payload is valid during the call.
    package var onApply: ((LogIndex, ByteView) -> Void)?
    /// Called when this replica leads and everything from before its term is applied, so that evaluation may begin; and
    /// when it follows (somebody else, or nobody): then what is pending must be discarded, its outcome is unknown, and
    /// it may still come back by `onApply`.
    package var onRole: ((RoleChange) -> Void)?
    /// Called when the membership in force (committed or not) has changed.
    package var onMembership: ((Membership) -> Void)?
    /// Called when a snapshot has taken the place of the store; the next entry follows its index.
    package var onInstalled: ((SnapshotMetadata) -> Void)?

    /// What the log holds of the group in the batches up to a ticket.
    struct WriteProgress {
        var ticket: LogTicket
        var write: UInt64
        var last: LogIndex
    }

    /// A leadership of this replica, from winning the election on.
    struct Leadership {
        let term: Term
        /// The empty entry that it begins with.
        let first: LogIndex
        var isReported = false
        /// Later entries that Raft itself proposed, ascending.
        var special: [LogIndex] = []
    }

    /// Owns the group; `ReplicaGroups.close` breaks the circle.
    let groups: ReplicaGroups
    let writer: LogWriter
    var core: RaftCore
    /// What the log holds or is about to: terms, memberships, where it begins.
    var journal: ShardLogState
    var cache: EntryCache
    /// Whether anybody else may want entries: a replica that is alone pays for none of that.
    var keepsEntries: Bool
    /// Nil unless this replica leads.
    var leadership: Leadership?
    /// The newest empty entry written: a leadership begins with its own.
    var lastEmpty = LogIndex.zero
    /// Whether the writer has it on its list of this tick.
    var isWriting = false
    /// The newest write of the core, and the newest that is durable.
    var write: UInt64 = 0
    var durableWrite: UInt64 = 0
    /// Messages that wait for a write.
    var held: [(write: UInt64, messages: [Message])] = []
    /// Up to here the segments have what the cache has.
    var written: LogIndex
    /// Tickets below this one were submitted before the log was cut to `lastCut`.
    var cutTicket: LogTicket = 0
    var lastCut = LogIndex.zero
    /// Everything up to here was reported by `onCommitted` or `onApply`.
    package internal(set) var committedIndex: LogIndex
    var isDelivering = false
    var reads: [UInt64: (ReadResult) -> Void] = [:]
    /// Reads that wait until their index is applied.
    var readsReady: [ReadReady] = []
    var lastToken: UInt64 = 0
    var retention = LogRetention()
    /// Up to here the log may be cut, as the writer knows.
    private var compactable: LogIndex
    /// A snapshot that is being put in place of the store, and the ticket that its next step waits for.
    var installation: (metadata: SnapshotMetadata, phase: InstallPhase)?

    /// Set when the replica is gone, and what waits for the log to know: see `retire`.
    private(set) var isRetired = false
    private var retirement: (ticket: LogTicket, done: (RecoveredReplica) -> Void)?

    /// How a read ends: with the index that it saw applied, or with the leadership.
    package typealias ReadResult = Result<ReadReady, DatabaseError>

    enum InstallPhase {
        /// The log will know of it when this ticket is durable; then the store is replaced.
        case announcing(LogTicket)
        case replacing
        /// The store holds it; the log will begin behind it when this ticket is durable.
        case restarting(LogTicket)
    }

    init(
        _ recovered: RecoveredReplica, founding: Membership, _ groups: ReplicaGroups,
        _ configuration: RaftConfiguration, now: UInt64
    ) {
        shard = recovered.shard
        var restored = recovered.restored
        if recovered.journal.membership == nil { restored.membership = founding }
        self.groups = groups
        writer = groups.writer
        journal = recovered.journal
        core = RaftCore(configuration, restored: restored, now: now)
        cache = EntryCache(limit: groups.options.cacheBytes)
        keepsEntries = !core.membership.isAlone(groups.id)
        committedIndex = restored.applied
        written = journal.lastIndex
        compactable = recovered.cuttable
        switch recovered.duty {
        case .none: break
        case .mark(let place): writer.append(markAt: place, of: self)
        case .restart(let snapshot): writer.append(snapshot, isInstalled: true, of: self)
        }
        // A replica that is alone forgets a cut; a store that is ahead of its log is news.
        if journal.isCut == core.mayVote {
            journal.isCut = !core.mayVote
            writer.append(isCut: journal.isCut, of: self)
        }
        if journal.membership == nil {  // Before the first entry, so that a restart knows who has a say.
            journal.note(founding, at: journal.markIndex)
            writer.append(founding, at: journal.markIndex, of: self)
        }
    }

    // MARK: State

    /// The newest entry, committed or not; the next proposal gets the index behind it.
    package var lastIndex: LogIndex { core.lastIndex }
    package var term: Term { core.term }
    /// Whether `propose` may be called: see `onRole`.
    package var isLeading: Bool { leadership?.isReported == true }
    /// Who leads, as far as this replica knows.
    package var leader: NodeID? { core.leader }
    package var membership: Membership { core.membership }
    package var status: RaftStatus { core.status }

    /// Whether this replica is the only one: nobody else can lead, and no lease is needed.
    package var isAlone: Bool { !keepsEntries }

    /// Whether the store holds a prefix of the log: not while a snapshot takes its place.
    package var isStoreWhole: Bool { !isStoreTaken }

    /// Whether what was read of committed state before this call may be answered without asking anybody: samples the
    /// clock itself, so that a process that was stopped in between never answers on an old sample. With one voter
    /// always true while it leads.
    package var leaseIsValid: Bool { core.leaseIsValid(at: groups.now) }

    // MARK: Doing

    /// Begins to take part; set the callbacks first. A single voter leads when this returns.
    package func start() { step(.wake) }

    /// Proposes an entry whose payload `encode` writes in place (it must only append), and returns its index. Nothing
    /// has happened when it throws: `notLeader`, `diskFull`, `busy` (the disk or the followers are far behind), or
    /// `limitExceeded` for a payload that is too large.
    ///
    /// `proposed` sees the payload as it lies in the batch, and the index: to apply it to pending state without a copy.
    package func propose(
        _ encode: (inout ByteBuffer) -> Void, _ proposed: (LogIndex, ByteView) -> Void = { _, _ in }
    ) throws(DatabaseError) -> LogIndex {
        guard isLeading else { throw Self.error(.notLeader(core.leader)) }
        try writer.checkRoom()
        let id = EntryID(term: core.term, index: LogIndex(rawValue: core.lastIndex.rawValue &+ 1))
        let place = try writer.append(.entry, id, of: self, encode)
        core.step(.propose(sizes: [UInt32(truncatingIfNeeded: place.count)]), now: groups.now, into: &groups.effects)
        if let refusal = groups.effects.refusal {
            writer.takeBack(place)
            throw Self.error(refusal)
        }
        write = groups.effects.write
        _ = journal.note(id.index, id.term)
        let payload = writer.payload(at: place)
        if keepsEntries { cache.append(id.index, .entry, payload.bytes) }
        groups.setPending()
        proposed(id.index, payload)
        carryOut()
        return id.index
    }

    /// For cold code.
    package func propose(_ payload: ByteView) throws(DatabaseError) -> LogIndex {
        try propose { $0.append(payload) }
    }

    /// Asks for an index that a linearizable read must see applied; `body` runs once it is (perhaps at once), or with
    /// `notLeader`. A read under a lease must ask `leaseIsValid` after it was made.
    package func readIndex(_ body: @escaping (ReadResult) -> Void) {
        lastToken &+= 1
        reads[lastToken] = body
        let token = lastToken
        if let refusal = step(.readIndex(token: token)) {
            reads.removeValue(forKey: token)?(.failure(Self.error(refusal)))
        }
    }

    /// Changes who belongs to the group; the way there, and when it is through, `onMembership` tells.
    package func propose(_ membership: Membership) throws(DatabaseError) {
        if let refusal = step(.proposeMembership(membership)) { throw Self.error(refusal) }
    }

    /// Hands leadership to another voter; `onRole` tells whether it went.
    package func transferLeadership(to peer: NodeID) throws(DatabaseError) {
        if let refusal = step(.transferLeadership(to: peer)) { throw Self.error(refusal) }
    }

    /// The store holds everything up to `index` durably: the log may be cut, except for what followers may still need.
    /// Call it for every group after a flush, also when its index has not moved, and while the disk is full: then
    /// nothing is kept for followers, who take a snapshot instead.
    package func noteFlushed(_ index: LogIndex) {
        guard !isRetired else { return }
        let index = min(index, committedIndex)
        let kept = retention.compactable(
            flushed: index, position: writer.submittedBytes,
            retained: writer.isFull ? 0 : groups.options.retainedBytes,
            isCaughtUp: { [self] in isEverybodyCaughtUp(with: index) })
        guard kept > compactable else { return }
        compactable = kept
        writer.noteFlushed(self, kept)
        guard kept > journal.markIndex else { return }
        journal.note(markAt: kept, journal.term(at: kept))
        step(.compacted(kept))
    }

    /// Somebody reads the log from the outside, or may come back for it: as much is kept as for followers that lag.
    package var isFollowed = false

    /// Whether nobody needs what is up to `index` from this replica: it is alone, or leads and everybody has it.
    private func isEverybodyCaughtUp(with index: LogIndex) -> Bool {
        guard !isFollowed else { return false }
        guard keepsEntries else { return true }
        return leadership != nil && core.status.peers.allSatisfy { $0.matched >= index }
    }

    /// Whether `ReplicaGroups.remove` may be called: it does not lead, and no snapshot is being put in place.
    package var mayBeRemoved: Bool { core.status.role != .leader && installation == nil && !isRetired }

    /// Takes part no more from here on: what waits for the log is never said, what comes is not heard. What was said
    /// before was true then, and may still arrive; see `RaftCore.refreshMembership` on who comes back.
    ///
    /// The log forgets everything but what the replica has promised as a voter: term, vote, and how far its log went.
    /// - Term and vote, because a candidate of that term may still be counting: a second vote in it could make two
    ///   leaders.
    /// - The end of the log, because a vote says that the candidate has everything that the voter has. A replica that
    ///   comes back is empty, and for it every candidate has that: one that missed both the commits that this replica
    ///   took part in and its removal could be elected with its vote by the old membership, and undo them. So it judges
    ///   by the end of the old log until the new one reaches as far (`RaftCore.floor`). That holds nobody back who may
    ///   be elected: what removed this replica is committed, and lies behind everything that it was ever sent.
    func retire(_ note: Bytes, then done: @escaping (RecoveredReplica) -> Void) {
        isRetired = true
        let end = core.status.last
        writer.append(removedAt: end, note: note, core.hardState, of: self)
        retirement = (writer.nextTicket, done)
        journal.hardState = core.hardState
        journal.note(removedAt: end, note)
        held = []
        cache = EntryCache(limit: 0)
        readsReady = []
        let lost = reads
        reads = [:]
        (onCommitted, onApply, onRole, onMembership, onInstalled) = (nil, nil, nil, nil, nil)
        groups.setPending()
        for body in lost.values { body(.failure(Self.error(.notLeader(nil)))) }
    }

    /// The log has what was submitted under `ticket`.
    func finishRetirement(_ ticket: LogTicket) {
        guard let (awaited, done) = retirement, ticket >= awaited else { return }
        retirement = nil
        writer.makeDurable()
        writer.noteGone(shard)
        done(RecoveredReplica(gone: shard, journal, mayVote: core.mayVote))
    }

    /// The message that belongs to a snapshot of the state at `index`; nil when this replica leads no more, or its log
    /// begins behind that index.
    func snapshotMessage(at index: LogIndex, to peer: NodeID) -> Message? {
        guard leadership != nil, index >= journal.markIndex, index <= committedIndex,
            let known = journal.membership(at: index)
        else { return nil }
        let metadata = SnapshotMetadata(
            last: EntryID(term: journal.term(at: index), index: index), membership: known.membership)
        return Message(from: groups.id, to: peer, term: core.term, body: .snapshot(metadata))
    }

    /// What a refusal says to a caller.
    static func error(_ refusal: Refusal) -> DatabaseError {
        switch refusal {
        case .notLeader(let leader):
            DatabaseError(.notLeader, "this replica does not lead" + (leader.map { "; node \($0) does" } ?? ""))
        case .transferring: DatabaseError(.notLeader, "leadership is being handed over")
        case .busy: DatabaseError(.busy, "too much waits for the followers")
        case .membershipInProgress: DatabaseError(.busy, "another change of the membership is not through yet")
        case .outdated: DatabaseError(.staleMap, "the membership in force is of a later version")
        case .invalid: DatabaseError(.invalidArgument, "not a membership, or not a voter")
        }
    }
}

extension Membership {
    /// Whether there is nobody but `node`.
    func isAlone(_ node: NodeID) -> Bool { learners.isEmpty && isOnlyVoter(node) }
}

/// How much of the log a group keeps beyond what its store needs, for followers that lag.
///
/// Measured in bytes of the whole log, not of the group: so an idle group with a dead follower keeps segments for a
/// bounded time only.
struct LogRetention {
    /// Flushed indexes and how long the log was then, oldest first.
    private var checkpoints: [(index: LogIndex, position: UInt64)] = []
    private var compactable = LogIndex.zero

    /// How far the log may be cut.
    mutating func compactable(
        flushed: LogIndex, position: UInt64, retained: UInt64, isCaughtUp: () -> Bool
    ) -> LogIndex {
        if isCaughtUp() {
            checkpoints.removeAll()
            compactable = max(compactable, flushed)
            return compactable
        }
        if checkpoints.last.map({ flushed > $0.index }) ?? true { checkpoints.append((flushed, position)) }
        while let oldest = checkpoints.first, position &- oldest.position >= retained {
            compactable = max(compactable, oldest.index)
            checkpoints.removeFirst()
        }
        return compactable
    }
}
