import Actors
import Base
import Contracts
import DataModel
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
    let store: ShardStore
    let group: ReplicaGroup
    private let clock: NodeClock
    private let log: NodeLog
    private let runtime: ActorRuntime
    private let records: RecordTable
    /// Called when a bound of the clock holds.
    var onBoundLogged: (() -> Void)?
    /// Called when applying failed: the replica must stop.
    private let onFatal: (any Error) -> Void

    private var open = EffectBuffer()
    private var spareEffects: [EffectBuffer] = []
    private var proposed = Queue<Proposed>()
    private var pendingBytes = 0
    private var waiting = Queue<WaitingReplies>()
    private var lastWaiting: WaitingReplies?
    private var spareEncoders: [ReplyBatchEncoder] = []
    private var isProposalScheduled = false
    /// After an abandoned entry: nothing is evaluated until pending state can be rebuilt from the store.
    private var isRebuilding = false
    /// The clock bound that rides in an entry, and the entry's index.
    private var boundInFlight: (index: LogIndex, bound: Timestamp)?

    init(
        shard: ShardID, clock: NodeClock, group: ReplicaGroup, log: NodeLog, store: ShardStore,
        runtime: ActorRuntime, records: RecordTable,
        onFatal: @escaping (any Error) -> Void
    ) {
        (self.shard, self.clock, self.group, self.log, self.store) = (shard, clock, group, log, store)
        (self.runtime, self.records, self.onFatal) = (runtime, records, onFatal)
        group.onCommitted = { [unowned self] index in committed(upTo: index) }
        group.onApply = { [unowned self] index, effects in apply(effects, index) }
    }

    /// The index that the open entry will get.
    private var openIndex: LogIndex { LogIndex(rawValue: group.lastIndex.rawValue &+ 1) }

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
        case .unknown:
            ready.error(invocation.id, DatabaseError(.featureNotSupported, "This node does not know the operation"))
            return
        }
        if observed > group.committedIndex { hold(from: mark, until: observed, on: stream, ready: ready) }
        effectsAdded()
    }

    /// The timestamp for the operation (reads need none), or nil after refusing it.
    @inline(__always)
    private func admit(_ isWrite: Bool, _ id: UInt64, _ ready: ReplyBatchEncoder) -> Timestamp? {
        if isRebuilding {
            ready.error(id, DatabaseError(.busy, "The shard is recovering from a refused write; try again"))
            return nil
        }
        guard isWrite else { return clock.last }
        guard !log.writer.isFull else {
            ready.error(
                id, DatabaseError(.diskFull, "The disk of the log is full; writes are refused until there is room"))
            return nil
        }
        guard pendingBytes < Self.pendingLimit else {
            ready.error(id, DatabaseError(.busy, "The log cannot keep up with the writes; try again"))
            return nil
        }
        // For a moment after a start: no timestamp is given above a bound that is not durable.
        guard let timestamp = clock.next() else {
            ready.error(id, DatabaseError(.unavailable, "The storage node is starting; try again"))
            return nil
        }
        return timestamp
    }

    @inline(__always)
    private func effectsAdded() {
        guard runtime.hasEffects || !open.isEmpty else { return }
        if runtime.entryBytes + open.size > Self.entryTarget {
            propose()
        } else if !isProposalScheduled {
            isProposalScheduled = true
            log.schedule(self)
        }
    }

    /// Work of the shard's own: expiry, collection of garbage, deactivation. Small steps, as effects of ordinary
    /// entries.
    func maintain() {
        runtime.sweep(now: clock.wallMilliseconds)
        guard !isRebuilding, !log.writer.isFull, let timestamp = clock.next() else { return }
        do throws(DatabaseError) {
            _ = try runtime.expireDue(
                now: clock.wallMilliseconds, writeTimestamp: timestamp, entryIndex: openIndex,
                limit: Self.maintenanceStep)
            _ = try runtime.collectGarbage(entryIndex: openIndex, limit: Self.maintenanceStep)
        } catch {
            onFatal(error)
        }
        effectsAdded()
    }

    /// Moves the reply just written behind `mark` to those that wait for `index`.
    private func hold(from mark: Int, until index: LogIndex, on stream: InvocationStream, ready: ReplyBatchEncoder) {
        stream.holds(ready.size &- mark)
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

    /// Logs a bound of the clock; it holds when the entry is committed.
    func logBound(_ bound: Timestamp) {
        guard boundInFlight == nil, !log.writer.isFull else { return }
        boundInFlight = (openIndex, bound)
        ClockBoundRecord.put(bound, shard: shard, into: open)
        effectsAdded()
    }

    /// Closes the open entry and hands it to the log.
    func propose() {
        isProposalScheduled = false
        runtime.finishEntry(open)
        guard !open.isEmpty else { return }
        do throws(DatabaseError) {
            let index = try group.propose(open.payload)
            pendingBytes += open.size
            proposed.append(Proposed(index: index, effects: open))
            open = spareEffects.popLast() ?? EffectBuffer()
        } catch {
            // A full disk: the entry stays open, and is proposed again by `retry`.
            if error.code != .diskFull { abandonOpenEntry(error) }
        }
    }

    /// Called now and then: proposes what a full disk has held up.
    func retry() {
        if runtime.hasEffects || !open.isEmpty, !isProposalScheduled, !log.writer.isFull {
            isProposalScheduled = true
            log.schedule(self)
        }
    }

    /// The log will never take the open entry: it did not happen. Its callers are told, pending state is discarded.
    private func abandonOpenEntry(_ error: DatabaseError) {
        let index = openIndex
        if boundInFlight?.index == index { boundInFlight = nil }
        open.reset()
        var kept = Queue<WaitingReplies>()
        while let batch = waiting.popFirst() {
            guard batch.index >= index else {
                kept.append(batch)
                continue
            }
            let failures = ReplyBatchEncoder()
            batch.replies.forEachID { failures.error($0, error) }
            batch.stream.holds(-batch.replies.size)
            batch.stream.send(failures)
        }
        waiting = kept
        lastWaiting = nil
        isRebuilding = true
        rebuildIfSettled()
    }

    private func rebuildIfSettled() {
        guard isRebuilding, proposed.isEmpty else { return }
        runtime.reset(committed: group.committedIndex)
        records.reset()
        isRebuilding = false
    }

    /// An entry that was not proposed here: Raft's own, or (with several replicas) one of another leader.
    private func apply(_ effects: ByteView, _ index: LogIndex) {
        do throws(StoreError) { try store.apply(effects, index: index) } catch { return onFatal(error) }
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
        if let (at, bound) = boundInFlight, at <= index {
            boundInFlight = nil
            clock.boundLogged(bound)
            onBoundLogged?()
        }
        while let batch = waiting.first, batch.index <= index {
            _ = waiting.popFirst()
            batch.stream.holds(-batch.replies.size)
            batch.stream.send(batch.replies)
            if spareEncoders.count < 64 { spareEncoders.append(batch.replies) }
        }
        if waiting.isEmpty { lastWaiting = nil }
        rebuildIfSettled()
    }
}

/// The bound of the node's clock as a record of the shard: a new leader starts above its predecessor's.
///
/// Key: FF FF FF FE, shard u32 big-endian (no data key begins so). Value: version u8 = 1, timestamp u64 little-endian.
enum ClockBoundRecord {
    static func key(_ shard: ShardID) -> Bytes {
        var buffer = ByteBuffer(capacity: 64)
        buffer.append(bigEndian: UInt32(0xFFFF_FFFE))
        buffer.append(bigEndian: shard.rawValue)
        return buffer.readable.bytes
    }

    static func put(_ bound: Timestamp, shard: ShardID, into effects: EffectBuffer) {
        var value = ByteBuffer(capacity: 64)
        value.append(UInt8(1))
        value.append(littleEndian: bound.rawValue)
        key(shard).withUnsafeBytes { effects.put(key: $0, value: value.readable) }
    }

    /// The bound that the shard's store holds; zero for a new shard.
    static func read(_ shard: ShardID, from store: ShardStore) throws(StoreError) -> Timestamp {
        var found: Bytes?
        try key(shard).withView { (key: ByteView) throws(StoreError) in found = try store.get(key) }
        guard let found else { return .zero }
        let bound: UInt64? = found.withUnsafeBytes { view in
            var reader = ByteReader(view)
            return reader.byte() == 1 ? reader.littleEndian() : nil
        }
        guard let bound else {
            throw StoreError(.corruption, "shard \(shard): the record of the clock's bound is damaged")
        }
        return Timestamp(rawValue: bound)
    }
}
