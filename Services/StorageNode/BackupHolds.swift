import Base
import Contracts
import Storage

/// What a backup keeps of the past at a node, in all replicas: another of them may lead before it is over.
struct BackupHold {
    var holds: [(store: ShardStore, hold: HistoryHold)] = []
    var timestamp: Timestamp
}

extension BackupService {
    /// Backups that hold something at a time.
    static let holdLimit = 8
    /// A hold lasts so long at most, unless it is asked for again.
    static let holdMilliseconds: UInt32 = 300_000

    func begin(_ request: BackupBegin) throws(DatabaseError) -> BackupBegan {
        let map = try map()
        let now = node.clock.believedMilliseconds()
        let until = now &+ UInt64(min(request.holdMilliseconds, Self.holdMilliseconds))
        ends = ends.filter { $0.value > now }
        holds = holds.filter { ends[$0.key] != nil }
        guard holds[request.backup] != nil || holds.count < Self.holdLimit else {
            throw DatabaseError(.busy, "\(holds.count) backups are under way")
        }
        let timestamp = node.clock.next()
        var known = holds[request.backup] ?? BackupHold(timestamp: timestamp)
        known.holds = known.holds.filter { $0.store.prolong($0.hold, untilMilliseconds: until) }
        for executor in node.executors where !known.holds.contains(where: { $0.store === executor.store }) {
            guard let hold = executor.store.hold(at: known.timestamp, untilMilliseconds: until) else { continue }
            known.holds.append((executor.store, hold))
        }
        holds[request.backup] = known
        ends[request.backup] = until
        return BackupBegan(
            timestamp: timestamp, cluster: map.cluster, buckets: UInt32(map.bucketCount),
            shards: UInt32(map.shards.count))
    }

    func end(_ request: BackupEnd) {
        for (store, hold) in holds[request.backup]?.holds ?? [] { store.release(hold) }
        holds[request.backup] = nil
        ends[request.backup] = nil
    }
}
