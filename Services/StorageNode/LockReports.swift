import Base
import Contracts
import Transactions

/// Who waits for whom over all shards. Every leader with transactions that have waited for a while reports them to the
/// leader of slot 0's shard, which looks for circles; the answer names those that have to give way.
extension ShardExecutor {
    /// Waits that are younger are not reported: most are over by then.
    private static let reportedAfter: UInt64 = 100
    /// Where reports go.
    static let reportSlot: UInt32 = 0

    /// Called every 100 ms or so.
    func reportWaits() {
        guard isEvaluating, !transactions.isReporting else { return }
        let limit = clock.wallMilliseconds &- min(clock.wallMilliseconds, Self.reportedAfter)
        let hasWaits = transactions.participant.hasOldWaits(since: limit)
        guard hasWaits || transactions.hasReported else { return }
        transactions.hasReported = hasWaits
        var step = TransactionStep(.waits, id: UInt64(shard.rawValue) &+ 1)
        if hasWaits {
            step.waits = transactions.participant.edges(waitingSince: limit, count: LockWait.limit).map { edge in
                LockWait(
                    waiter: edge.waiter.transaction.rawValue, priority: edge.waiter.priority,
                    holder: edge.holder.transaction.rawValue, priority: edge.holder.priority)
            }
        }
        transactions.isReporting = true
        transactions.report(step)
    }

    /// The answer to a report; nil: there was none.
    func reportAnswered(_ victims: Bytes?) {
        transactions.isReporting = false
        guard let victims, isEvaluating else { return }
        drainDuties()
        victims.withUnsafeBytes { view in
            var reader = ByteReader(view)
            while let raw: UInt64 = reader.littleEndian() {
                happen { $0.refuseVictim(TransactionID(rawValue: raw), $1, into: &$2) }
            }
        }
    }

    /// Another shard, or this one, reports.
    func takeReport(_ step: TransactionStepView, _ id: UInt64, ready: ReplyBatchEncoder) {
        let edges = step.waits.map { wait in
            WaitEdge(
                waiter: Rank(priority: wait.waiterPriority, TransactionID(rawValue: wait.waiter)),
                holder: Rank(priority: wait.holderPriority, TransactionID(rawValue: wait.holder)))
        }
        let victims = transactions.waitGraph.report(edges, from: step.id, now: clock.wallMilliseconds)
        var answer = ByteBuffer(capacity: 64)
        for victim in victims { answer.append(littleEndian: victim.rawValue) }
        ready.data(id, answer.readable)
    }
}
