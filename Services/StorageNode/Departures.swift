import Base
import Net
import Placement
import Raft
import Replication
import ServiceKit
import Storage

/// Replicas on their way out: the map gives the shard to other nodes, and that is in force.
///
///     loop    the group takes no part any more              ReplicaGroups.remove
///     log     says so, and what is to be deleted            a crash from here on: the start goes on with the next step
///     worker  the store deletes it, in one batch            a crash from here on: nothing is left to be done
///     worker  the room is given back
///
/// Nothing of the shard may begin here before the third step is done (`isLeaving`). Loop-confined.
final class Departures {
    private let loop: EventLoop
    private let queue: WorkQueue
    private let store: any Store
    private let logger: Logger
    private let onFailure: (StoreError) -> Void
    private var leaving: Set<ShardID> = []

    init(
        loop: EventLoop, workers: WorkerPool, store: any Store, logger: Logger,
        onFailure: @escaping (StoreError) -> Void
    ) {
        (self.loop, self.store, self.logger, self.onFailure) = (loop, store, logger, onFailure)
        // One after the other, so that giving room back never takes all workers.
        queue = WorkQueue(loop: loop, workers: workers)
    }

    /// Whether a replica of the shard has not quite left.
    func isLeaving(_ shard: ShardID) -> Bool { leaving.contains(shard) }

    /// Lets a replica go; `done` is told when nothing is left of it, with what it begins with if it comes back.
    func begin(
        _ group: ReplicaGroup, _ removal: ShardRemoval, in groups: ReplicaGroups,
        then done: @escaping (RecoveredReplica) -> Void
    ) {
        leaving.insert(removal.shard)
        groups.remove(group, note: removal.encoded()) { [self] recovered in
            empty(removal) { [self] in
                leaving.remove(removal.shard)
                logger.info("a replica has left", ["shard": .count(removal.shard.rawValue)])
                done(recovered)
            }
        }
    }

    private func empty(_ removal: ShardRemoval, then done: @escaping () -> Void) {
        let store = store
        queue.submit { () -> StoreError? in
            do throws(StoreError) {
                try removal.run(in: store)
                return nil
            } catch {
                return error
            }
        } then: { [self] failure in
            if let failure { return onFailure(failure) }
            done()
        }
        reclaim(removal.ranges)
    }

    /// Gives back the room of what was deleted.
    func reclaim(_ ranges: [KeyRange]) {
        let store = store
        queue.submit {
            store.reclaim(ranges)
        } then: { _ in
        }
    }

    /// The same of what is superseded and nobody may read any more, or of more than that.
    func reclaim(_ works: [Reclaiming], then done: @escaping (Result<Int, StoreError>) -> Void) {
        let store = store
        queue.submit { () -> Result<Int, StoreError> in
            do throws(StoreError) {
                var count = 0
                for work in works { count += try work.run(in: store) }
                return .success(count)
            } catch {
                return .failure(error)
            }
        } then: {
            done($0)
        }
    }

    /// Before the store closes: what is under way ends.
    func close(then done: @escaping () -> Void) {
        store.stopReclaiming()
        queue.submit {
        } then: { _ in
            done()
        }
    }

    /// What a crash has left: replicas that the log calls gone have no records. Returns whose room is to be given back.
    static func finish(_ log: SegmentedLog, over store: any Store) throws -> [KeyRange] {
        var emptied: [KeyRange] = []
        for (shard, state) in log.shards {
            guard let note = state.removal else { continue }
            let removal = try note.withView { view throws(StoreError) in try ShardRemoval(shard, decoding: view) }
            guard try removal.isDue(in: store) else { continue }
            try removal.run(in: store)
            emptied += removal.ranges
        }
        return emptied
    }
}

extension Node {
    /// Lets those replicas go that the map gives to other nodes, once a leader has reported that this is in force:
    /// nobody needs their votes then, and what they hold the others have.
    func letGo() {
        guard let (map, id) = adopted, let groups = log.groups else { return }
        for executor in executors where !executor.isPlanned {
            guard let shard = map.shard(executor.shard), hasLeft(shard, id), executor.mayLeave(shard) else { continue }
            forget(executor)
            depart(executor.group, shard, groups)
        }
        guard hasUnstarted else { return }
        for shard in map.shards where isRecovered(shard.id) && hasLeft(shard, id) {
            guard let recovered = takeRecovered(shard.id) else { continue }
            depart(groups.add(recovered, founding: Self.founding(shard, as: id)), shard, groups)
        }
    }

    private func hasLeft(_ shard: ShardMap.Shard, _ id: NodeID) -> Bool {
        !shard.replicas.contains(id) && !shard.replicas.isEmpty && shard.isInForce
    }

    private func depart(_ group: ReplicaGroup, _ shard: ShardMap.Shard, _ groups: ReplicaGroups) {
        snapshotLinks?.forget(shard.id)
        let removal = ShardRemoval(
            shard: shard.id, ranges: ShardSnapshots.ranges(of: shard.id, buckets: shard.buckets))
        departures.begin(group, removal, in: groups) { [self] recovered in hasDeparted(recovered) }
    }
}

extension ShardExecutor {
    /// Whether it can go now: it serves nobody, the store is not being written, and no newer plan that this node has
    /// not seen yet is what the group goes by.
    fileprivate func mayLeave(_ planned: ShardMap.Shard) -> Bool {
        !isServing && group.mayBeRemoved && !store.isFlushing && !store.isInstalling
            && group.membership.version <= planned.version
    }
}
