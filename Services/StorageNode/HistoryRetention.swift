import Base
import Storage

/// How much of the past a node keeps.
struct HistorySettings {
    /// How long superseded versions are kept; 0: only while they are in memory.
    var retentionMilliseconds: UInt64 = 600_000
    /// Bytes of superseded versions in the store, over all shards.
    var limitBytes = 1 << 30
    /// Changes of keys a second that are kept when they are flushed. Each costs a worker microseconds and the store its
    /// bytes, so a load with more of them is not slowed by its past, and the past is short meanwhile: `limitBytes`
    /// would not hold ten minutes of it either.
    var changesPerSecond = 10_000
}

/// Raises the history floors of a node's shards, so that the past takes no more time, room and work than it may.
///
/// Each replica has a floor of its own; what depends on a time in the past holds it (`ShardStore.hold`).
final class HistoryRetention {
    let settings: HistorySettings
    /// What flushes have written since this process began and floors have not passed, in order.
    private var written = Queue<(store: ShardStore, newest: Timestamp, bytes: Int)>()
    private(set) var bytes = 0
    private var lastFlush: UInt64 = 0, now: UInt64 = 0
    /// Keys whose versions were kept, and flushes that had too many.
    private(set) var keptKeys = 0, cuts = 0

    init(_ settings: HistorySettings) { self.settings = settings }

    /// Called a few times a second.
    func maintain(_ store: ShardStore, nowMilliseconds: UInt64) {
        store.expireHolds(nowMilliseconds: nowMilliseconds)
        now = nowMilliseconds
        // Without retention the floor rises with every flush.
        guard settings.retentionMilliseconds > 0, nowMilliseconds > settings.retentionMilliseconds else { return }
        store.raiseFloor(to: Timestamp(milliseconds: nowMilliseconds &- settings.retentionMilliseconds))
    }

    /// The changes that a flush of these shards may keep; all or none.
    func budget(for stores: [ShardStore], now nanoseconds: UInt64) -> Int {
        guard settings.retentionMilliseconds > 0 else { return 0 }
        // At least a second's worth: a drain or a full disk flushes at once. At most what comes between two flushes of
        // a steady load: who writes much at once after a long silence does not expect to pay for it.
        let passed = min(max(nanoseconds &- lastFlush, 1_000_000_000), 30_000_000_000)
        lastFlush = nanoseconds
        let allowed = settings.changesPerSecond * Int(passed / 1_000_000) / 1000
        guard stores.reduce(0, { $0 + $1.overlayChanges }) > allowed else { return .max }
        cuts += 1
        return 0
    }

    /// A flush is durable.
    func wrote(_ job: FlushJob, of store: ShardStore) {
        keptKeys += job.historyKeys
        guard job.historyKeys > 0 else { return }
        written.append((store, job.newest, job.historyBytes))
        bytes += job.historyBytes
        while let oldest = written.first {
            // By time as well: the floor of a shard that has left the node does not rise.
            let isRecent = oldest.newest.milliseconds &+ settings.retentionMilliseconds > now
            if isRecent, oldest.newest > oldest.store.historyFloor {
                guard bytes > settings.limitBytes else { return }
                // What is held may take as much again.
                oldest.store.raiseFloor(to: oldest.newest, breakingHolds: bytes / 2 > settings.limitBytes)
                guard oldest.newest <= oldest.store.historyFloor else { return }
            }
            bytes -= oldest.bytes
            _ = written.popFirst()
        }
    }
}

extension Node {
    func registerHistory(_ metrics: Metrics) {
        metrics.sampledGauge(
            "orbit_history_seconds", help: "How far back all shards of this node can be read"
        ) { [self] in
            let now = clock.believedMilliseconds()
            let floor = executors.map { $0.store.historyFloor.milliseconds }.max() ?? now
            return Double(now > floor ? min(now - floor, history.settings.retentionMilliseconds) : 0) / 1000
        }
        metrics.sampledGauge("orbit_history_bytes", help: "Superseded versions written and still needed") { [self] in
            Double(history.bytes)
        }
        metrics.sampledGauge("orbit_history_holds", help: "Times in the past that are held readable") { [self] in
            Double(executors.reduce(0) { $0 + $1.store.holds })
        }
        metrics.sampledCounter(
            "orbit_history_keys_total", help: "Keys that a flush has kept superseded versions of"
        ) { [self] in Double(history.keptKeys) }
        metrics.sampledCounter(
            "orbit_history_cuts_total", help: "Flushes that kept none, because there were too many"
        ) { [self] in Double(history.cuts) }
    }
}
