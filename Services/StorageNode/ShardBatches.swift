import Actors
import Base
import Contracts
import DataModel
import Raft

/// Calls that are done at once or not at all (`CallBatch`).
///
/// A batch is evaluated in place, its calls in order, and all their effects are in one entry: what was open before is
/// proposed first, so that a batch which the log will not take undoes nobody else's calls. An error of a call is its
/// reply, and the others are done. Nothing of another caller comes in between, because nothing here waits.
extension ShardExecutor {
    /// Effects that the calls of one batch may make, as the actors estimate them from above, in bytes. The log takes
    /// 16 MiB; what a single call may make, a batch may make too.
    static let batchEffects = 15 << 20

    private static let otherShard = DatabaseError(.staleMap, "the key's slot is not served by this shard")
    private static let otherSchema = DatabaseError(
        .staleSchema, "the key's slot is not served by this shard, as far as its schema tells")

    /// Of a key that might name a record the schema may be why.
    static func misplaced(_ call: ActorCallView) -> DatabaseError {
        call.database == 0 && RecordName.divide(call.key) != nil ? otherSchema : otherShard
    }

    private static let tooManyEffects = DatabaseError(
        .limitExceeded, "The commands of one transaction change more than an entry of the log takes; none was executed")
    private static let replyTooLarge = DatabaseError(
        .limitExceeded, "The replies to the commands of one transaction are too large; none was executed")

    /// Evaluates a batch that is no part. Returns the newest pending index that its reply depends on; nil when it was
    /// refused, and nothing has happened.
    @inline(never)
    func evaluate(
        _ batch: CallBatchView, id: UInt64, on stream: InvocationStream, ready: ReplyBatchEncoder
    ) -> LogIndex? {
        guard prepare(batch, isWrite: batch.isWrite, id: id, on: stream, ready: ready) else { return nil }
        switch evaluateWatches(batch, id: id, ready: ready) {
        case .hold(let observed): return evaluateCalls(of: batch, id: id, observed: observed, ready: ready)
        case .fail(let observed): return observed
        }
    }

    /// Whether the batch may be evaluated now, and if it writes, in an entry of its own. If not, `ready` says why.
    func prepare(
        _ batch: CallBatchView, isWrite: Bool, id: UInt64, on stream: InvocationStream, ready: ReplyBatchEncoder
    ) -> Bool {
        if let misplaced = misplaced(in: batch) {
            ready.error(id, misplaced)
            return false
        }
        guard isWrite else { return true }
        if hasOpenEffects { propose() }
        guard isEvaluating else {
            stream.refuse(id, leader: group.leader, replies: ready)
            return false
        }
        guard !hasOpenEffects else {
            ready.error(id, Self.diskFull)  // Nothing else keeps it open.
            return false
        }
        return admit(true, id, ready) != nil
    }

    /// Why not all calls are this shard's. A gateway that has gone by another map must hear it before one is done.
    private func misplaced(in batch: CallBatchView) -> DatabaseError? {
        var calls = batch.calls
        while let call = calls.next() {
            guard call.method.isKeyless || runtime.owns(call.database, call.key) else { return Self.misplaced(call) }
        }
        return nil
    }

    /// What was found of a batch's watches, and the newest pending index that this depends on.
    enum Watched {
        case hold(LogIndex)
        /// One does not hold, or cannot be asked: the reply says so.
        case fail(LogIndex)
    }

    func evaluateWatches(_ batch: CallBatchView, id: UInt64, ready: ReplyBatchEncoder) -> Watched {
        var watches = batch.watches, observed = LogIndex.zero
        do throws(DatabaseError) {
            while let watch = watches.next() {
                let (holds, index) = try runtime.holds(watch, now: clock.wallMilliseconds)
                observed = max(observed, index)
                guard holds else {
                    ready.null(id)
                    return .fail(observed)
                }
            }
        } catch {
            ready.error(id, error)
            return .fail(observed)
        }
        return .hold(observed)
    }

    /// Evaluates the calls, whose watches hold. Nil when they are too much, and nothing has happened.
    func evaluateCalls(
        of batch: CallBatchView, id: UInt64, observed: LogIndex, ready: ReplyBatchEncoder
    ) -> LogIndex? {
        var (calls, observed, position) = (batch.calls, observed, 0 as UInt64)
        var timestamp = clock.last, failure: DatabaseError?
        let replies = batchReplies, now = clock.wallMilliseconds
        replies.reset()
        while failure == nil, let call = calls.next() {
            // A time for each: a key that two of them change has two versions.
            if call.method.isWrite { timestamp = nextTimestamp() }
            let index = runtime.evaluate(
                call, id: position, now: now, writeTimestamp: timestamp, entryIndex: openIndex, replies: replies)
            observed = max(observed, index)
            position &+= 1
            if let broken = runtime.takeBrokenTransfer() {
                failure = broken
            } else if runtime.entryBytes > Self.batchEffects {
                failure = Self.tooManyEffects
            } else if replies.size > InvocationStream.replyLimit {
                failure = Self.replyTooLarge
            }
        }
        if let failure {
            replies.reset()
            if runtime.hasEffects { abandonOpenEntry(failure) }
            ready.error(id, failure)
            return nil
        }
        ready.batch(id, at: timestamp, replies)
        return observed
    }
}
