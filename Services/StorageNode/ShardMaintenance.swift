import Actors
import Base

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

    /// What was deleted is collected once the floor has passed that: so nothing is looked for until it has moved.
    private func collectGarbage() throws(DatabaseError) {
        let floor = store.historyFloor
        guard floor < garbageFloor || floor.milliseconds >= garbageFloor.milliseconds &+ 1000 else { return }
        let collected = try runtime.collectGarbage(entryIndex: openIndex, limit: Self.maintenanceStep)
        if collected == 0 { garbageFloor = floor }
    }
}
