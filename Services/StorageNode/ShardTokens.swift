import Actors
import Base
import Contracts
import DataModel
import Raft

/// Batches that carry their idempotency token themselves (`BatchToken`): steps of sagas, which another leader of the
/// saga may repeat.
///
/// Such a batch is done as a whole, or it was not executed and is not remembered. So a token is remembered if and only
/// if its batch was executed, or never will be: that is what a fence sees to.
extension ShardExecutor {
    static let stepWithToken = DatabaseError(
        .featureNotSupported, "Parts and steps of transactions take no idempotency token")

    /// The digest under which a fence is remembered; that of a batch is a hash.
    private static let fenceDigest: UInt64 = 0x6665_6E63_6521

    @inline(never)
    func evaluate(
        _ batch: CallBatchView, _ token: BatchToken, _ invocation: borrowing InvocationView,
        on stream: InvocationStream, ready: ReplyBatchEncoder
    ) {
        let mark = ready.size, id = invocation.id
        guard !batch.isPart else { return ready.error(id, Self.stepWithToken) }
        let bucket = Int(invocation.slot) * transactions.participant.bucketCount / Slot.count
        let outcome = OutcomeToken(
            bucket: BucketID(rawValue: UInt16(truncatingIfNeeded: bucket)), session: token.session, sequence: token.id)
        let digest = token.isFence ? Self.fenceDigest : InvocationToken.digest(of: invocation)
        do throws(DatabaseError) {
            if let known = try outcomes.recall(outcome, digest: digest) {
                if token.isFence { ready.integer(id, 0) } else { known.answer(anotherID: id, ready) }
                if known.index > group.committedIndex { hold(from: mark, until: known.index, on: stream, ready: ready) }
                return
            }
        } catch {
            guard token.isFence, error.code == .invalidArgument else { return ready.error(id, error) }
            // It was executed, by an entry that is at the latest the newest.
            ready.integer(id, 1)
            if newestIndex > group.committedIndex { hold(from: mark, until: newestIndex, on: stream, ready: ready) }
            return
        }
        guard prepare(batch, isWrite: true, id: id, on: stream, ready: ready) else { return }
        if token.isFence {
            ready.integer(id, 0)
        } else {
            switch evaluateWatches(batch, id: id, ready: ready) {
            case .fail(let observed): return answered(from: mark, observed, on: stream, ready: ready)
            case .hold(let observed):
                runtime.isWhole = true
                let isDone = evaluateCalls(of: batch, id: id, observed: observed, ready: ready) != nil
                runtime.isWhole = false
                guard isDone else {
                    // Why not may depend on anything that is not committed.
                    if isEvaluating { answered(from: mark, newestIndex, on: stream, ready: ready) }
                    return
                }
            }
        }
        outcomes.remember(
            outcome, digest: digest, reply: ready.tail(from: mark), at: clock.last, entryIndex: openIndex, into: open)
        hold(from: mark, until: openIndex, on: stream, ready: ready)
        effectsAdded()
    }
}
