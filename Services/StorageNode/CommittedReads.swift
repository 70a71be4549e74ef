import Actors
import Base
import Contracts
import DataModel
import Raft
import Replication
import Storage

/// How fresh a replica knows itself to be, from what leaders have said (`ClosedTimestamp`).
///
/// Whoever says "closed at T, up to index C" led at T for certain, and everything acknowledged before lay at or below C
/// then: a replica that has applied C has it all, whoever leads since. So notes need no term, and none is ever taken
/// back.
struct ClosedTimestamps {
    private static let limit = 16
    /// Whose index is not applied yet, both fields ascending.
    private var pending: [(index: LogIndex, milliseconds: UInt64)] = []
    private var newest: UInt64 = 0

    mutating func note(_ index: LogIndex, _ milliseconds: UInt64) {
        guard milliseconds > pending.last?.milliseconds ?? newest else { return }
        // A later time at a lower index: what lay between was never committed.
        while let last = pending.last, last.index >= index || pending.count == Self.limit { pending.removeLast() }
        pending.append((index, milliseconds))
    }

    /// Everything acknowledged before this time is applied; 0: nothing is known.
    mutating func time(applied: LogIndex) -> UInt64 {
        while let first = pending.first, first.index <= applied {
            newest = first.milliseconds
            pending.removeFirst()
        }
        return newest
    }
}

/// Answers reads below strong consistency from what a replica has applied, whether it leads or follows.
///
/// Nothing here is pending, and nothing is ever proposed: a runtime of its own, with a small budget, reads the store,
/// and is emptied before it is asked when something has been applied since. So it shows a prefix of the log, has
/// no activation that another replica could contradict, and knows nothing of the leader's runtime beside it. A key
/// whose time has come is absent, by this node's clock; nothing is removed.
final class CommittedReads {
    /// Of decoded state; it seldom lives long.
    private static let memoryBytes = 16 << 20
    /// Hashes above are read field by field: a large one would be read whole after every entry.
    private static let completeFields = 64

    private let store: ShardStore
    private let runtime: ActorRuntime
    private let records: RecordTable
    private let none = EffectBuffer()
    private var seen: LogIndex
    private let mark: Bytes
    /// Whether half of a transaction was there, by this entry.
    private var half: (index: LogIndex, isThere: Bool)
    var closed = ClosedTimestamps()
    /// Reads answered as a follower, and reads refused as too stale.
    var answered: UInt64 = 0
    var refused: UInt64 = 0

    init(_ store: ShardStore, buckets: Range<Int>, bucketCount: Int, limits: ActorLimits, seed: UInt64) {
        self.store = store
        var limits = limits
        limits.memoryBytes = min(limits.memoryBytes, Self.memoryBytes)
        limits.completeFields = Self.completeFields
        let reader = CommittedRecords(store)
        runtime = ActorRuntime(reader: reader, buckets: buckets, bucketCount: bucketCount, limits: limits, seed: seed)
        records = RecordTable(reader: reader, buckets: buckets, bucketCount: bucketCount)
        seen = store.appliedIndex
        mark = HalfDoneMark.key(firstBucket: buckets.lowerBound)
        half = (LogIndex(rawValue: .max), false)
        runtime.reset(committed: seen, floor: .zero)
    }

    /// Whether anything was ever applied: a replica that has just been added has nothing to show.
    var hasState: Bool { store.appliedIndex > .zero }

    /// Whether the store shows half of a transaction: a large one is applied by several entries. What cannot be read
    /// will say so to who reads it.
    var isHalfDone: Bool {
        let applied = store.appliedIndex
        guard half.index != applied else { return half.isThere }
        var isThere = false
        try? mark.withView { (key: ByteView) throws(StoreError) in isThere = try store.get(key) != nil }
        half = (applied, isThere)
        return isThere
    }

    /// Everything acknowledged before this time is applied.
    var closedMilliseconds: UInt64 { closed.time(applied: store.appliedIndex) }

    /// Evaluates a read; the reply is what `replies` holds then. Returns the entry that it saw last.
    func evaluate(
        _ invocation: borrowing InvocationView, now milliseconds: UInt64, replies: ReplyBatchEncoder
    ) -> LogIndex {
        let applied = store.appliedIndex
        if applied != seen {
            runtime.reset(committed: applied, floor: .zero)
            seen = applied
        }
        switch invocation.operation {
        case .call(let call) where !call.method.isWrite && call.method != .version && call.method != .dump:
            _ = runtime.evaluate(
                call, id: invocation.id, now: milliseconds, writeTimestamp: .zero, entryIndex: .zero, replies: replies)
        case .record(let record) where record.kind == .get || record.kind == .scan:
            _ = records.evaluate(
                record, id: invocation.id, entryIndex: .zero, effects: none, replies: replies)
        case .call, .record, .batch, .step, .home, .unknown:
            replies.error(
                invocation.id, DatabaseError(.featureNotSupported, "This node does not know the operation"))
        }
        if runtime.hasEffects {
            // No method that calls itself a read has any; if one did, they must not outlive it.
            runtime.reset(committed: applied, floor: .zero)
            replies.reset()
            replies.error(invocation.id, DatabaseError(.internalFailure, "A read had effects"))
        }
        return applied
    }
}

/// Reads below strong consistency.
extension ShardExecutor {
    private static let tooStale = DatabaseError(
        .tooStale, "This replica may be older than the read allows; the leader can be asked")

    /// How a read below strong is answered.
    private enum Source {
        /// From what is applied here.
        case committed
        /// By the leader's lease, if that holds behind the read.
        case lease
        /// Not here.
        case nowhere
    }

    /// Answers a read below strong consistency, or refuses it. False: this replica leads, and has no lease at the
    /// moment or has keys under lock, so the read has to go the way of strong ones.
    func read(
        _ invocation: borrowing InvocationView, _ terms: ReadTerms, bookmark: Timestamp,
        scratch: ReplyBatchEncoder, ready: ReplyBatchEncoder
    ) -> Bool {
        let bucket = Int(invocation.slot) * transactions.participant.bucketCount / Slot.count
        guard !isBeingRestored(BucketID(rawValue: UInt16(truncatingIfNeeded: bucket))) else {
            ready.error(invocation.id, Self.beingRestored)
            return true
        }
        var source = source(of: terms, bookmark: bookmark)
        if source != .nowhere, reads.isHalfDone {
            if isServing { return false }
            source = .nowhere
        }
        guard source != .nowhere else {
            reads.refused &+= 1
            ready.error(invocation.id, Self.tooStale, leader: group.leader)
            return true
        }
        // What is decided may not be applied; the call waits for the locks if it has to.
        if source == .lease, !isEvaluating || transactions.participant.locks.isAnyLocked { return false }
        scratch.reset()
        let position = reads.evaluate(invocation, now: clock.believedMilliseconds(), replies: scratch)
        if source == .lease, !group.leaseIsValid {
            scratch.reset()
            return false
        }
        if !isServing { reads.answered &+= 1 }
        ready.move(scratch, position: position)
        return true
    }

    private func source(of terms: ReadTerms, bookmark: Timestamp) -> Source {
        guard group.isStoreWhole, reads.hasState else { return isServing ? .lease : .nowhere }
        switch terms.level {
        case .any: return .committed
        case .boundedStale where isServing: return .lease
        case .boundedStale: return isFresh(terms, bookmark) ? .committed : .nowhere
        }
    }

    /// Whether this replica can prove that it has what the read must see. Times are of different clocks, which differ
    /// by `HLC.defaultMaxOffsetMilliseconds` at most, or one of them fences itself.
    private func isFresh(_ terms: ReadTerms, _ bookmark: Timestamp) -> Bool {
        guard !isFenced, terms.position <= store.appliedIndex else { return false }
        let offset = HLC.defaultMaxOffsetMilliseconds, time = reads.closedMilliseconds
        // A sample of now: this process may have been stopped since the tick began, and the call come since.
        let now = clock.believedMilliseconds()
        guard now &+ offset <= time &+ terms.stalenessMilliseconds else { return false }
        let bookmark = terms.bookmark ?? bookmark
        return bookmark <= Timestamp(rawValue: 1) || bookmark.milliseconds &+ offset < time
    }

    /// As leader, says what is closed; nil when it cannot be sure to lead.
    ///
    /// Whoever leads next stamps nothing that was acknowledged before with a time more than an offset below this one:
    /// its clock was sampled after it began to lead. The clients of transactions are answered before their effects are
    /// in the log, so nothing is closed beyond an intent.
    func close() -> ClosedTimestamp? {
        guard isEvaluating, !group.isAlone else { return nil }
        let closed = transactions.participant.closedMilliseconds(at: clock.wallMilliseconds)
        let note = ClosedTimestamp(shard: shard, index: newestIndex, milliseconds: closed)
        guard group.leaseIsValid else { return nil }
        reads.closed.note(note.index, note.milliseconds)
        return note
    }
}

extension Node {
    /// How often leaders say what is closed, in ticks of 50 ms.
    static let closingTicks: UInt64 = 4

    /// Tells the followers of what is led here how fresh they are. A quiescent group says nothing, as nobody is sure to
    /// lead it: a read that its followers refuse goes to the leader, and wakes it.
    func announceClosed() {
        guard let peers, let id = nodeID else { return }
        for executor in executors {
            guard let note = executor.close() else { continue }
            for node in executor.group.membership.everyone where node != id { peers.send(note, to: node) }
        }
    }

    /// A leader's word. One from a clock that is ahead of ours by more than clocks may differ is not believed.
    func hear(_ note: ClosedTimestamp) {
        guard note.milliseconds <= clock.believedMilliseconds() &+ HLC.defaultMaxOffsetMilliseconds,
            let executor = executors.first(where: { $0.shard == note.shard })
        else { return }
        executor.reads.closed.note(note.index, note.milliseconds)
    }
}
