import Actors
import Base
import Contracts
import DataModel
import Raft
import Replication
import Storage

/// One shard's ordered executor: everything that touches the shard's data runs here, on the loop that owns it, one
/// after another.
///
///     evaluate  (as frames arrive)   actors answer from pending state, effects gather in the open entry
///     propose   (end of the tick)    the open entry goes to the log, with those of the other shards
///     committed (the log has it)     effects are applied blindly, the replies that waited for them leave
///
/// A reply waits until the newest pending index that it observed is committed, a GET's and a refused SETNX's too; a
/// reply that observed committed state only leaves with the tick. Entries stay below the log's limit: a tick that
/// writes more is cut into several entries between two operations, never inside one.
///
/// Only a shard's leader evaluates. A read of committed state needs a lease that is valid after the read; without one
/// its reply waits for an entry proposed behind it, which only a leader can commit. A leadership that is lost takes
/// all pending state with it: what was proposed has an unknown outcome, what was not has certainly not happened.
///
/// No timestamp is given to a write unless the shard's log says, at the latest in the entry of that write, that
/// timestamps up to there may have been given (`ClockBoundRecord`): whoever leads next begins above.
///
/// While the log's disk is full, writes are refused before they are evaluated; what was evaluated stays in the open
/// entry, unanswered, until there is room. An entry that the log will never take (one operation with too many effects)
/// is abandoned: its callers get the error, and pending state is rebuilt once the entries before it are committed.
final class ShardExecutor {
    /// Effects after which an entry is closed before the tick ends.
    static let entryTarget = 1 << 20
    /// Keys that one step of expiry or collection touches.
    static let maintenanceStep = 512
    /// Proposed and not yet committed bytes past which writes are refused: the log cannot keep up.
    static let pendingLimit = 128 << 20

    /// An entry whose effects are not applied yet.
    private struct Proposed {
        let index: LogIndex
        let effects: EffectBuffer
    }

    /// Replies of one stream that wait for `index`.
    private final class WaitingReplies {
        let index: LogIndex
        let stream: InvocationStream
        let replies: ReplyBatchEncoder

        init(index: LogIndex, stream: InvocationStream, replies: ReplyBatchEncoder) {
            (self.index, self.stream, self.replies) = (index, stream, replies)
        }
    }

    let shard: ShardID
    /// Ranges of the buckets that are the shard's.
    let buckets: [Range<Int>]
    let store: ShardStore
    let group: ReplicaGroup
    let clock: NodeClock
    let log: NodeLog
    /// The actors; others may look, and change nothing.
    let runtime: ActorRuntime
    let transactions: ShardTransactions
    let restores = ShardRestores()
    let sagas: ShardSagas
    private let records: RecordTable
    let outcomes: OutcomeMemory
    /// Answers what is less than strongly consistent.
    let reads: CommittedReads
    /// Answers what is asked at a time.
    let past: PastReads
    /// Who listens to the shard's changes; nil while nobody does.
    var feed: ShardFeed?
    var feedSeenAt: UInt64?
    /// Until when what commands do to keys is recorded, in milliseconds since 1970.
    var eventsUntil: UInt64 = 0
    /// Called when the shard begins or ceases to be served here.
    var onServing: (() -> Void)?
    /// Called when the coordinator should hear of the shard.
    var onReport: (() -> Void)?
    /// Called when applying failed: the replica must stop.
    let onFatal: (any Error) -> Void

    private(set) var open = EffectBuffer()
    private var spareEffects: [EffectBuffer] = []
    private var proposed = Queue<Proposed>()
    private(set) var newestProposal = LogIndex.zero
    private(set) var pendingBytes = 0
    private var waiting = Queue<WaitingReplies>()
    private var lastWaiting: WaitingReplies?
    private var spareEncoders: [ReplyBatchEncoder] = []
    private var isProposalScheduled = false
    /// Gathers the replies to the calls of a batch.
    let batchReplies = ReplyBatchEncoder()
    /// This replica leads, has applied everything from before its term, and its clock is above its predecessor's.
    private(set) var isServing = false { didSet { standChanged() } }
    /// What is looked at with every call: evaluating, nothing locked, and nothing to be done before.
    private(set) var mayEvaluate = false
    /// Serving, and nothing to be rebuilt first.
    private(set) var isEvaluating = false
    /// Somebody else could lead: what was read of committed state needs a lease.
    private var needsLease = false
    /// The index that the open entry is evaluated for: the log's next one whenever nothing is in it.
    private(set) var openIndex = LogIndex.zero
    /// A read waits for the open entry, even if nothing else is in it.
    private var isEntryNeeded = false
    /// After an abandoned entry: nothing is evaluated until pending state can be rebuilt from the store.
    private var isRebuilding = false { didSet { standChanged() } }
    /// Timestamps below may be given to writes of this shard: its log says so, or the open entry will.
    private(set) var bound = Timestamp.zero
    private(set) var boundIndex = LogIndex.zero  // The entry that says so.
    /// This node's time when it began to serve the shard.
    private(set) var servingSince = Timestamp.zero
    /// This node's clock is not to be trusted: it must not serve.
    private(set) var isFenced = false
    /// Where the membership in force lies in the log, at the latest: committed, if that is.
    private(set) var membershipIndex = LogIndex.zero
    /// The map gives this node a replica of the shard. One that was moved away stays until that is in force, because
    /// its group may need its vote for that; then it leaves (`Departures`).
    var isPlanned = true
    /// The newest version of the planned membership that is in force, as far as this replica has seen it as leader.
    var versionInForce: UInt64 = 0
    /// Whom the map has asked to lead last.
    var lastTransfer: NodeID?
    var garbage = GarbagePause()
    /// Invocations evaluated, and how many in the last second.
    private(set) var invocations: UInt64 = 0
    var countedInvocations: UInt64 = 0
    var rate: UInt64 = 0

    init(
        shard: ShardID, buckets: [Range<Int>], clock: NodeClock, group: ReplicaGroup, log: NodeLog, store: ShardStore,
        runtime: ActorRuntime, records: RecordTable, outcomes: OutcomeMemory, reads: CommittedReads, past: PastReads,
        transactions: ShardTransactions, sagas: ShardSagas, onFatal: @escaping (any Error) -> Void
    ) {
        self.buckets = buckets
        (self.shard, self.clock, self.group, self.log, self.store) = (shard, clock, group, log, store)
        (self.runtime, self.records, self.outcomes, self.reads, self.past) = (runtime, records, outcomes, reads, past)
        self.onFatal = onFatal
        (self.transactions, self.sagas) = (transactions, sagas)
        group.onCommitted = { [unowned self] index in committed(upTo: index) }
        group.onApply = { [unowned self] index, effects in apply(effects, index) }
        group.onRole = { [unowned self] role in change(role) }
        group.onInstalled = { [unowned self] _ in replaced() }
        group.onMembership = { [unowned self] _ in
            membershipIndex = group.lastIndex
            standChanged()
            followLog()
            onReport?()
        }
    }

    private func standChanged() {
        isEvaluating = isServing && !isRebuilding
        locksChanged()
        needsLease = !group.isAlone
    }

    /// Transactions over several shards.
    func locksChanged() {
        mayEvaluate =
            isEvaluating && transactions.participant.locks.isFree && !transactions.hasDuties && !restores.isActive
    }

    /// Something waits to be proposed.
    var hasOpenEffects: Bool { @inline(__always) get { runtime.hasEffects || !open.isEmpty || isEntryNeeded } }

    /// The index that the next entry gets.
    private var nextIndex: LogIndex { LogIndex(rawValue: group.lastIndex.rawValue &+ 1) }

    /// Every write that was evaluated here lies in the log up to this index, or will.
    var newestIndex: LogIndex {
        open.isEmpty && !runtime.hasEffects && !isEntryNeeded ? group.lastIndex : max(openIndex, group.lastIndex)
    }

    /// Another replica leads, as far as this one knows.
    var isFollowing: Bool { !group.isLeading && group.leader != nil }

    /// Actors in memory.
    var activations: Int { runtime.activationCount }

    // MARK: Looking ahead

    /// Asks the memory for what `evaluate` of the invocation will need; `prefetched` follows before the first of them.
    @inline(__always)
    func prefetch(_ call: ActorCallView) { runtime.prefetch(call.database, call.key) }

    func prefetched() { runtime.prefetchActivations() }

    // MARK: Evaluating

    /// Evaluates one invocation. The reply goes to `ready`, or waits here for the entry that it observed.
    @inline(__always)
    func evaluate(_ invocation: borrowing InvocationView, on stream: InvocationStream, ready: ReplyBatchEncoder) {
        if !mayEvaluate {
            guard meetLocks(invocation, on: stream, ready: ready) else { return }
        }
        evaluateNow(invocation, on: stream, ready: ready)
    }

    /// The same for a call that meets no lock.
    @inline(__always)
    func evaluateNow(
        _ invocation: borrowing InvocationView, on stream: InvocationStream, ready: ReplyBatchEncoder
    ) {
        invocations &+= 1
        let mark = ready.size
        var observed = LogIndex.zero
        switch invocation.operation {
        case .call(let call):
            guard let timestamp = admit(call.method.isWrite, invocation.id, ready) else { return }
            observed = runtime.evaluate(
                call, id: invocation.id, now: clock.wallMilliseconds, writeTimestamp: timestamp, entryIndex: openIndex,
                replies: ready)
        case .record(let record):
            let isWrite = record.kind == .put || record.kind == .delete
            guard admit(isWrite, invocation.id, ready) != nil else { return }
            observed = records.evaluate(record, id: invocation.id, entryIndex: openIndex, effects: open, replies: ready)
        case .batch(let batch):
            if let token = batch.token { return evaluate(batch, token, invocation, on: stream, ready: ready) }
            if batch.isPart { return take(batch, invocation, on: stream, ready: ready) }
            guard let index = evaluate(batch, id: invocation.id, on: stream, ready: ready) else { return }
            observed = index
        case .step(let step): return take(step, invocation, on: stream, ready: ready)
        case .home, .unknown:
            ready.error(invocation.id, Self.unknownOperation)
            return
        }
        answered(from: mark, observed, on: stream, ready: ready)
    }

    /// The reply behind `mark` is there, and depends on the entry `index`.
    @inline(__always)
    func answered(from mark: Int, _ index: LogIndex, on stream: InvocationStream, ready: ReplyBatchEncoder) {
        var observed = index
        let committed = group.committedIndex
        if needsLease, observed <= committed, !group.leaseIsValid {
            isEntryNeeded = true
            observed = openIndex
        }
        if observed > committed { hold(from: mark, until: observed, on: stream, ready: ready) }
        effectsAdded()
    }

    private static let unknownOperation = DatabaseError(.featureNotSupported, "This node does not know the operation")

    /// Evaluates a write with a token, once: when it comes again, it gets the reply that it had. Its outcome is in the
    /// entry that has its effects, and its answer waits for that entry, the first time and every other.
    func evaluate(
        _ invocation: borrowing InvocationView, _ token: InvocationToken, on stream: InvocationStream,
        ready: ReplyBatchEncoder
    ) {
        if !mayEvaluate {
            guard meetLocks(invocation, on: stream, ready: ready) else { return }
        }
        evaluateNow(invocation, token, on: stream, ready: ready)
    }

    func evaluateNow(
        _ invocation: borrowing InvocationView, _ token: InvocationToken, on stream: InvocationStream,
        ready: ReplyBatchEncoder
    ) {
        invocations &+= 1
        let mark = ready.size
        do throws(DatabaseError) {
            if let known = try outcomes.recall(token.token, digest: token.digest) {
                known.answer(invocation.id, ready)
                if known.index > group.committedIndex { hold(from: mark, until: known.index, on: stream, ready: ready) }
                return
            }
        } catch {
            return ready.error(invocation.id, error)
        }
        guard let timestamp = admit(true, invocation.id, ready) else { return }
        switch invocation.operation {
        case .call(let call):
            _ = runtime.evaluate(
                call, id: invocation.id, now: clock.wallMilliseconds, writeTimestamp: timestamp, entryIndex: openIndex,
                replies: ready)
        case .record(let record):
            _ = records.evaluate(record, id: invocation.id, entryIndex: openIndex, effects: open, replies: ready)
        case .batch(let batch):
            guard !batch.isPart, batch.token == nil else { return ready.error(invocation.id, Self.stepWithToken) }
            guard evaluate(batch, id: invocation.id, on: stream, ready: ready) != nil else { return }
        case .step: return ready.error(invocation.id, Self.stepWithToken)
        case .home, .unknown: return ready.error(invocation.id, Self.unknownOperation)
        }
        outcomes.remember(
            token.token, digest: token.digest, reply: ready.tail(from: mark), at: timestamp, entryIndex: openIndex,
            into: open)
        hold(from: mark, until: openIndex, on: stream, ready: ready)
        effectsAdded()
    }

    /// The log has grown, or what was open is gone. An entry with nothing in it is for the log's next index; one with
    /// something in it whose place Raft itself has taken must not wait for another.
    private func followLog() {
        guard openIndex != nextIndex else { return }
        if open.isEmpty, !runtime.hasEffects, !isEntryNeeded {
            openIndex = nextIndex
        } else if isEvaluating {
            abandonOpenEntry(Self.superseded)
        }
    }

    /// The timestamp for the operation (reads need none), or nil after refusing it.
    @inline(__always)
    func admit(_ isWrite: Bool, _ id: UInt64, _ ready: ReplyBatchEncoder) -> Timestamp? {
        guard isWrite else { return clock.last }
        guard !log.writer.isFull else {
            ready.error(id, Self.diskFull)
            return nil
        }
        guard pendingBytes < Self.pendingLimit else {
            ready.error(id, DatabaseError(.busy, "The log cannot keep up with the writes; try again"))
            return nil
        }
        return nextTimestamp()
    }

    /// A timestamp for a write of the open entry.
    @inline(__always)
    func nextTimestamp() -> Timestamp {
        let timestamp = clock.next()
        if timestamp >= bound { raiseBound(above: timestamp) }
        return timestamp
    }

    /// Says in the open entry how far timestamps may have gone by the time another replica leads.
    func raiseBound(above timestamp: Timestamp) {
        bound = Timestamp(milliseconds: timestamp.milliseconds &+ ClockBoundRecord.aheadMilliseconds)
        boundIndex = openIndex
        ClockBoundRecord.put(bound, shard: shard, eventsUntil: announcedEvents, into: open)
    }

    @inline(__always)
    func effectsAdded() {
        guard hasOpenEffects else { return }
        if openBytes > Self.entryTarget { propose() } else { scheduleProposal() }
    }

    /// Bytes of the open entry, about.
    var openBytes: Int { @inline(__always) get { runtime.entryBytes + open.size } }

    @inline(__always)
    func scheduleProposal() {
        guard !isProposalScheduled else { return }
        isProposalScheduled = true
        log.schedule(self)
    }

    /// The tick ends: what is open goes to the log.
    func endTick() {
        drainDuties()
        propose()
    }

    /// Moves the reply just written behind `mark` to those that wait for `index`.
    func hold(from mark: Int, until index: LogIndex, on stream: InvocationStream, ready: ReplyBatchEncoder) {
        stream.holds(ready.size &- mark)
        log.noteHeld()
        // Only the newest batch may take more, so that the queue stays in the order of its indices.
        if let last = lastWaiting, last.stream === stream, last.index >= index,
            last.replies.size < InvocationStream.batchLimit
        {
            ready.moveTail(from: mark, to: last.replies)
            return
        }
        let batch = WaitingReplies(
            index: max(index, lastWaiting?.index ?? .zero), stream: stream,
            replies: spareEncoders.popLast() ?? ReplyBatchEncoder())
        ready.moveTail(from: mark, to: batch.replies)
        waiting.append(batch)
        lastWaiting = batch
    }

    // MARK: The log

    /// Closes the open entry and hands it to the log.
    func propose() {
        isProposalScheduled = false
        guard isEvaluating else { return }  // What was open went with the leadership, or was abandoned.
        open.floor = store.historyFloor
        runtime.finishEntry(open)
        if isEntryNeeded, open.isEmpty { raiseBound(above: clock.last) }
        isEntryNeeded = false
        guard !open.isEmpty else { return }
        guard openIndex == nextIndex else { return abandonOpenEntry(Self.superseded) }
        open.stamp(nextTimestamp())  // Above all that was given inside, and above every read that was answered before.
        do throws(DatabaseError) {
            let index = try group.propose(open.payload)
            newestProposal = index
            pendingBytes += open.size
            proposed.append(Proposed(index: index, effects: open))
            open = spareEffects.popLast() ?? EffectBuffer()
            openIndex = nextIndex
        } catch {
            // A full disk: the entry stays open, and is proposed again by `retry`.
            if error.code != .diskFull { abandonOpenEntry(error) }
        }
    }

    /// Nothing is on its way: what comes next gets a timestamp above the clock of now.
    var isAtRest: Bool { isEvaluating && proposed.isEmpty && !hasOpenEffects && !transactions.hasDuties }

    /// Writes an entry that moves the bound of the clock, if nothing else does.
    func moveBound() {
        guard isEvaluating, !log.writer.isFull else { return }
        isEntryNeeded = true
        scheduleProposal()
    }

    private static let superseded = DatabaseError(.notLeader, "The shard's replicas are changing; try again")

    /// Called now and then: proposes what a full disk has held up.
    func retry() {
        guard isEvaluating, !isProposalScheduled, !log.writer.isFull else { return }
        if hasOpenEffects { scheduleProposal() }
    }

    /// The log will never take the open entry: it did not happen. Its callers are told, pending state is discarded.
    func abandonOpenEntry(_ error: DatabaseError) {
        open.reset()
        isEntryNeeded = false
        bound = .zero  // The next write says it again.
        var kept = Queue<WaitingReplies>()
        while let batch = waiting.popFirst() {
            if batch.index >= openIndex { fail(batch, error) } else { kept.append(batch) }
        }
        past.refuseWaiting(from: openIndex, leader: group.leader)
        waiting = kept
        lastWaiting = nil
        restores.fail()
        sagas.abandon(from: openIndex)
        isRebuilding = true
        rebuildIfSettled()
    }

    /// Answers with an error instead.
    private func fail(_ batch: WaitingReplies, _ error: DatabaseError) {
        batch.stream.holds(-batch.replies.size)
        let failures = ReplyBatchEncoder()
        batch.replies.forEachID { id in
            if error.code == .notLeader {
                batch.stream.refuse(id, leader: group.leader, replies: failures)
            } else {
                failures.error(id, error)
            }
        }
        batch.stream.send(failures)
    }

    private func rebuildIfSettled() {
        guard isRebuilding, proposed.isEmpty else { return }
        runtime.reset(committed: group.committedIndex, floor: clock.next())
        records.reset()
        outcomes.reset()
        openIndex = nextIndex
        if restoreTransactions(), loadRestores(), restoreSagas() { isRebuilding = false }
    }

    /// What is evaluated from now on sees what is applied, and nothing of before.
    func rebuild() {
        propose()
        sagas.reset()
        isRebuilding = true
        rebuildIfSettled()
    }

    // MARK: Leadership

    private func change(_ role: RoleChange) {
        switch role {
        case .leader: tryToServe()
        case .follower: stopServing()
        }
    }

    /// Begins to serve, once this node's clock is above every timestamp that the shard's writes can have. Called again
    /// by `maintain` while the clock has to catch up.
    func tryToServe() {
        guard group.isLeading, !isServing, !isFenced, proposed.isEmpty else { return }
        let inherited: Timestamp
        do {
            inherited = try ClockBoundRecord.read(shard, from: store)
            guard clock.catchUp(with: inherited) else { return }
        } catch {
            return onFatal(error)
        }
        forgetPending()
        (bound, boundIndex, newestProposal) = (inherited, .zero, .zero)
        servingSince = clock.next()
        guard restoreTransactions(), loadRestores(), restoreSagas() else { return }
        isServing = true
        inheritEvents()
        onServing?()
    }

    private static let lost = DatabaseError(
        .outcomeUnknown, "The shard's leader has changed; the outcome is unknown")

    private func stopServing() {
        let wasServing = isServing
        isServing = false
        endFeed(Self.feedLost)
        let lastProposed = newestProposal
        var lost = waiting
        waiting = Queue()
        lastWaiting = nil
        past.refuseWaiting(from: .zero, leader: group.leader)
        forgetPending()
        while let batch = lost.popFirst() {
            // A write in it has its effects in the open entry, and that was never proposed.
            fail(batch, batch.index > lastProposed ? Self.superseded : Self.lost)
        }
        if wasServing { onServing?() }
    }

    /// Lets go of leadership, and serves nothing, while the clock of this node is not to be trusted.
    func fence(_ isFenced: Bool) {
        self.isFenced = isFenced
        guard isFenced else { return tryToServe() }
        if isServing { stopServing() }
        handOver()
    }

    /// Pending state is what the store holds.
    private func forgetPending() {
        // A leader that only ceases to serve still hears that they are committed, and has to apply them.
        while !group.isLeading, let entry = proposed.popFirst() {
            pendingBytes -= entry.effects.size
            entry.effects.reset()
            if spareEffects.count < 8 { spareEffects.append(entry.effects) }
        }
        open.reset()
        isEntryNeeded = false
        isRebuilding = false
        bound = .zero
        runtime.reset(committed: group.committedIndex, floor: clock.next())
        records.reset()
        outcomes.reset()
        transactions.reset(committed: group.committedIndex, leader: group.leader)
        restores.fail()
        sagas.reset()
        openIndex = nextIndex
    }

    /// A snapshot has taken the place of the records.
    private func replaced() {
        runtime.reset(committed: group.committedIndex, floor: clock.next())
        records.reset()
        outcomes.reset()
    }

    /// An entry that was not proposed here: Raft's own, or (with several replicas) one of another leader.
    private func apply(_ effects: ByteView, _ index: LogIndex) {
        do throws(StoreError) { try store.apply(effects, index: index) } catch { return onFatal(error) }
        feed?.applied(effects)
        settle(upTo: index)
    }

    /// The log is durable up to `index`.
    private func committed(upTo index: LogIndex) {
        while let entry = proposed.first, entry.index <= index {
            _ = proposed.popFirst()
            do throws(StoreError) {
                try store.apply(entry.effects.payload, index: entry.index)
            } catch {
                onFatal(error)
                return
            }
            feed?.applied(entry.effects.payload)
            pendingBytes -= entry.effects.size
            entry.effects.reset()
            if spareEffects.count < 8 { spareEffects.append(entry.effects) }
        }
        settle(upTo: index)
    }

    /// Everything up to `index` is committed and applied.
    private func settle(upTo index: LogIndex) {
        runtime.didCommit(index)
        records.committed(upTo: index)
        outcomes.committed(upTo: index)
        settleTransactions(upTo: index)
        restores.settled(upTo: index)
        while let batch = waiting.first, batch.index <= index {
            _ = waiting.popFirst()
            batch.stream.holds(-batch.replies.size)
            batch.stream.send(batch.replies)
            if spareEncoders.count < 64 { spareEncoders.append(batch.replies) }
        }
        if waiting.isEmpty { lastWaiting = nil }
        if past.isWaiting { past.answerWaiting() }
        settleSagas(upTo: index)
        rebuildIfSettled()
        followLog()
    }
}
