import Actors
import Base
import Contracts
import DataModel
import Storage
import Transactions

/// A shard's records as they were at a time, as actors read them.
final class PastRecords: RecordReader {
    private let store: ShardStore
    var time = Timestamp.zero

    init(_ store: ShardStore) { self.store = store }

    func get(_ key: ByteView) throws(DatabaseError) -> Bytes? {
        do { return try store.get(key, asOf: time) } catch { throw error.databaseError }
    }

    func scan(from: ByteView, to: ByteView, _ body: (ByteView, ByteView) -> Bool) throws(DatabaseError) {
        do { try store.scan(from: from, to: to, asOf: time, body) } catch { throw error.databaseError }
    }

    func key(_ count: Int, before to: ByteView, from: ByteView) throws(DatabaseError) -> Bytes? {
        do { return try store.key(count, before: to, from: from) } catch { throw error.databaseError }
    }
}

/// Answers reads at a time from the versions that the store keeps (docs/decisions/0011-snapshot-timestamps.md).
///
/// Who asks has made sure that the time is past for the shard (`ShardExecutor.promise`): everything at or below it is
/// applied, and nothing will be added there. So what was read for one time stays true, and is kept until another time
/// is asked for: many reads of one snapshot decode a key once. A runtime of its own evaluates, and changes nothing. It
/// is that time for it: a key that expired by then is absent, one that has expired since is there.
final class PastReads {
    /// Reads that wait for the log, and bytes of them.
    static let waitingLimit = 65_536, waitingBytes = 64 << 20
    private static let memoryBytes = 16 << 20
    private static let holdMilliseconds: UInt64 = 60_000

    /// A read that waits for an entry, as it came: a frame of one invocation.
    private struct Waiting {
        let index: LogIndex
        let stream: InvocationStream
        let frame: Bytes
    }

    private let store: ShardStore
    private let reader: PastRecords
    private let records: RecordTable
    private let makeRuntime: (PastRecords) -> ActorRuntime
    private lazy var runtime = makeRuntime(reader)
    private let none = EffectBuffer()
    private let callReplies = ReplyBatchEncoder()
    private let decoder = InvocationBatchDecoder()
    private let waitingReplies = ReplyBatchEncoder()
    private var waiting = Queue<Waiting>()
    /// The past from that time on is kept, until then, in milliseconds.
    private var held: (time: Timestamp, until: UInt64)?
    private var bytes = 0
    /// Reads answered, and reads of a time that is not kept any more.
    private(set) var answered: UInt64 = 0
    private(set) var refused: UInt64 = 0

    /// `catalog` is that of now: records of any time can be read by it.
    init(
        _ store: ShardStore, buckets: Range<Int>, bucketCount: Int, limits: ActorLimits,
        catalog: @escaping () throws(DatabaseError) -> Catalog, fragments: Fragments, columns: ColumnMemory,
        seed: UInt64
    ) {
        self.store = store
        let reader = PastRecords(store)
        self.reader = reader
        var limits = limits
        limits.memoryBytes = min(limits.memoryBytes, Self.memoryBytes)
        records = RecordTable(reader: reader, buckets: buckets, bucketCount: bucketCount)
        let known = ShardFragments(fragments, columns: ShardColumns(store, columns, time: { reader.time }))
        makeRuntime = { [limits] reader in
            let runtime = ActorRuntime(
                reader: reader, buckets: buckets, bucketCount: bucketCount, limits: limits, seed: seed)
            runtime.hasExactCounters = false
            runtime.fragments = known
            runtime.shareCatalog(isChecked: false, catalog)
            return runtime
        }
    }

    // MARK: What may be asked

    private static let readOnly = DatabaseError(.readOnly, "What is past cannot be changed")
    private static let isNoRead = DatabaseError(.invalidArgument, "Only calls that read can be made at a time")
    private static let unknown = DatabaseError(.featureNotSupported, "This node does not know the operation")

    /// Nil for what can be read at a time.
    static func refusal(of operation: OperationView) -> DatabaseError? {
        switch operation {
        case .call(let call): refusal(of: call)
        case .record(let record): record.kind == .get || record.kind == .scan ? nil : readOnly
        case .batch(let batch): refusal(of: batch)
        case .step: isNoRead
        case .home, .unknown: unknown
        }
    }

    private static func refusal(of call: ActorCallView) -> DatabaseError? {
        if call.method.isWrite { return readOnly }
        return call.method == .version ? isNoRead : nil
    }

    private static func refusal(of batch: CallBatchView) -> DatabaseError? {
        guard !batch.isPart, batch.watchCount == 0 else { return isNoRead }
        var calls = batch.calls
        while let call = calls.next() {
            if let refusal = refusal(of: call) { return refusal }
        }
        return nil
    }

    // MARK: Evaluating

    private static let tooOld = DatabaseError(
        .snapshotTooOld, "What was there at that time is not kept any more")
    private static let tooLarge = DatabaseError(.limitExceeded, "The replies to the commands are too large")

    /// Evaluates a read at a time that is past. One that is asked for too late is told so.
    func evaluate(_ invocation: borrowing InvocationView, asOf time: Timestamp, replies: ReplyBatchEncoder) {
        guard time >= store.historyFloor else {
            refused &+= 1
            return replies.error(invocation.id, Self.tooOld)
        }
        answered &+= 1
        if time != reader.time {
            reader.time = time
            runtime.reset(committed: .zero, floor: .zero)
            records.reset()
        }
        runtime.transactionTime = invocation.scope?.time ?? 0
        let mark = replies.size
        switch invocation.operation {
        case .call(let call): evaluate(call, invocation.id, replies)
        case .record(let record):
            _ = records.evaluate(record, id: invocation.id, entryIndex: .zero, effects: none, replies: replies)
        case .batch(let batch): evaluate(batch, invocation.id, replies)
        case .step, .home, .unknown: replies.error(invocation.id, Self.unknown)
        }
        guard runtime.hasEffects else { return }
        // No method that calls itself a read has any; if one did, they must not outlive it.
        runtime.reset(committed: .zero, floor: .zero)
        replies.moveTail(from: mark, to: callReplies)
        callReplies.reset()
        replies.error(invocation.id, DatabaseError(.internalFailure, "A read had effects"))
    }

    private func evaluate(_ call: ActorCallView, _ id: UInt64, _ replies: ReplyBatchEncoder) {
        _ = runtime.evaluate(
            call, id: id, now: reader.time.milliseconds, writeTimestamp: .zero, entryIndex: .zero, replies: replies)
    }

    private func evaluate(_ batch: CallBatchView, _ id: UInt64, _ replies: ReplyBatchEncoder) {
        var calls = batch.calls, position: UInt64 = 0
        callReplies.reset()
        while let call = calls.next() {
            evaluate(call, position, callReplies)
            position &+= 1
            guard callReplies.size <= InvocationStream.replyLimit else {
                callReplies.reset()
                return replies.error(id, Self.tooLarge)
            }
        }
        replies.batch(id, at: reader.time, callReplies)
    }

    /// Sees to it that the past is not given up while somebody reads at a time of just now. A hold keeps all that is
    /// later, too: one in half a minute will do.
    func keepPast(of time: Timestamp, now: UInt64) {
        guard now < time.milliseconds &+ Self.holdMilliseconds else { return }
        if let held, held.time <= time, held.until > now &+ Self.holdMilliseconds / 2 { return }
        let until = now &+ Self.holdMilliseconds
        if store.hold(at: time, untilMilliseconds: until) != nil { held = (time, until) }
    }

    // MARK: Waiting

    var isWaiting: Bool { !waiting.isEmpty }

    /// Keeps a read until an entry is applied; false when there are too many.
    func keep(_ invocation: borrowing InvocationView, until index: LogIndex, on stream: InvocationStream) -> Bool {
        guard waiting.count < Self.waitingLimit, bytes &+ invocation.encoded.count <= Self.waitingBytes else {
            return false
        }
        var frame = ByteBuffer(capacity: invocation.encoded.count + 16)
        frame.append(InvocationView.tag)
        frame.append(varint: UInt64(invocation.encoded.count))
        frame.append(invocation.encoded)
        bytes += frame.count
        waiting.append(Waiting(index: index, stream: stream, frame: frame.readable.bytes))
        return true
    }

    /// Answers those whose entry is applied.
    func answerWaiting() {
        while let read = waiting.first, read.index <= store.appliedIndex {
            _ = waiting.popFirst()
            bytes -= read.frame.count
            guard read.stream.isOpen else { continue }
            read.frame.withUnsafeBytes { frame in
                try? decoder.decode(frame) { invocation in  // It has been decoded before.
                    evaluate(invocation, asOf: invocation.scope?.readTimestamp ?? .zero, replies: waitingReplies)
                }
            }
            read.stream.send(waitingReplies)
        }
    }

    /// Those that wait for `index` or a later entry, which may never come, are asked again elsewhere.
    func refuseWaiting(from index: LogIndex, leader: NodeID?) {
        var kept = Queue<Waiting>()
        while let read = waiting.popFirst() {
            guard read.index >= index else {
                kept.append(read)
                continue
            }
            bytes -= read.frame.count
            var id: UInt64 = 0
            read.frame.withUnsafeBytes { frame in try? decoder.decode(frame) { id = $0.id } }
            read.stream.refuse(id, leader: leader, replies: waitingReplies)
            read.stream.send(waitingReplies)
        }
        waiting = kept
    }
}

extension LockScope {
    /// The same, of who only reads.
    var readOnly: LockScope { LockScope(shared: exclusive + shared, shard: shard == nil ? nil : .shared) }
}

/// Reads at a time.
extension ShardExecutor {
    private static let unknownScope = DatabaseError(
        .featureNotSupported, "This node does not know everything that the call's scope demands")
    private static let noTime = DatabaseError(.invalidArgument, "A scope needs a transaction or a time")
    private static let tooLate = DatabaseError(
        .tooStale, "The shard's leader has begun after the time was taken: take a new one")
    private static let crowded = DatabaseError(.busy, "Too many reads wait for the log; try again")

    /// Answers SAMPLE: the node's time, above that of everything acknowledged here. As of a strong read it is told only
    /// by who leads for certain, so that nobody can have acknowledged something later before.
    func tellTime(_ id: UInt64, on stream: InvocationStream, ready: ReplyBatchEncoder) {
        let mark = ready.size
        ready.integer(id, Int64(bitPattern: clock.next().rawValue))
        answered(from: mark, .zero, on: stream, ready: ready)
    }

    /// Makes a time past for the shard, whoever leads it: with the entry that this answers, everything at or below the
    /// time is applied, and nobody will give a write such a timestamp any more. No lease is needed for what is read
    /// then: the log holds a bound above the time.
    func promise(_ time: Timestamp) throws(DatabaseError) -> LogIndex {
        try clock.observe(time)
        if time >= bound {
            guard !isLogFull else { throw Self.diskFull }
            raiseBound(above: time)
            effectsAdded()
        }
        return max(newestProposal, boundIndex)
    }

    /// Answers a call that reads at a time, outside of transactions: now, or when the log has got so far. It waits for
    /// what is prepared and not decided, too.
    func readPast(_ invocation: borrowing InvocationView, on stream: InvocationStream, ready: ReplyBatchEncoder) {
        let id = invocation.id
        guard let scope = invocation.scope else { return ready.error(id, Self.unknownScope) }
        let time = scope.readTimestamp
        guard time > .zero else { return ready.error(id, Self.noTime) }
        if let refusal = PastReads.refusal(of: invocation.operation) { return ready.error(id, refusal) }
        guard isEvaluating else { return stream.refuse(id, leader: group.leader, replies: ready) }
        // Of a time that was taken from the clocks of leaders just now: what a leader of before acknowledged after its
        // clock was looked at may lie above it.
        guard scope.isolation == .readCommitted || time >= servingSince else {
            return ready.error(id, Self.tooLate, leader: group.leader)
        }
        do throws(DatabaseError) {
            // First: what is prepared from here on lies above the time.
            let index = try promise(time)
            past.keepPast(of: time, now: clock.wallMilliseconds)
            if !mayEvaluate {
                guard meetLocks(invocation, asOf: time, on: stream, ready: ready) else { return }
            }
            guard isEvaluating else { return stream.refuse(id, leader: group.leader, replies: ready) }
            if index <= store.appliedIndex {
                past.evaluate(invocation, asOf: time, replies: ready)
            } else if !past.keep(invocation, until: index, on: stream) {
                ready.error(id, Self.crowded)
            }
        } catch {
            ready.error(id, error)
        }
    }
}
