import Actors
import Base
import DataModel

extension ShardExecutor {
    /// Work of the shard's own: expiry, collection of garbage, deactivation. Small steps, as effects of ordinary
    /// entries.
    func maintain() {
        guard isServing else { return tryToServe() }
        runtime.sweep(now: clock.wallMilliseconds)
        guard isEvaluating, !log.writer.isFull, !restores.isActive else { return }
        let timestamp = clock.next()
        do throws(DatabaseError) {
            _ = try runtime.expireDue(
                now: clock.wallMilliseconds, writeTimestamp: timestamp, entryIndex: openIndex,
                limit: Self.maintenanceStep, isLocked: { transactions.participant.locks.isLocked($0, $1) })
            try collectGarbage()
            try outcomes.expire(now: clock.wallMilliseconds, limit: Self.maintenanceStep, into: open)
        } catch {
            onFatal(error)
        }
        if timestamp >= bound, runtime.hasEffects { raiseBound(above: timestamp) }
        effectsAdded()
        tickTransactions()
        tickSagas()
    }

    private func collectGarbage() throws(DatabaseError) {
        // What was collected last must be out of sight first.
        guard garbage.isOver(store.historyFloor), !runtime.isCollecting else { return }
        garbage.found(
            try runtime.collectGarbage(entryIndex: openIndex, limit: Self.maintenanceStep), store.historyFloor)
    }
}

/// When garbage is looked for. What was deleted is collected once the history's floor has passed that: so nothing is
/// looked for until the floor has moved. A look goes through all buckets, so the next one comes later the more often
/// there was nothing.
struct GarbagePause {
    private static let shortest: UInt64 = 1000, longest: UInt64 = 16_000

    /// The floor when there was last nothing.
    private var floor = Timestamp.zero
    /// By how much it must rise, in milliseconds.
    private var length = shortest
    /// Somebody waits until there is nothing.
    private(set) var isDemanded = false

    /// Has garbage looked for at once, until there is none.
    mutating func demand() { (floor, isDemanded) = (.zero, true) }

    func isOver(_ now: Timestamp) -> Bool { now < floor || now.milliseconds >= floor.milliseconds &+ length }

    mutating func found(_ count: Int, _ now: Timestamp) {
        guard count == 0 else {
            length = Self.shortest
            return
        }
        isDemanded = false
        floor = now
        length = min(length &* 2, Self.longest)
    }
}
