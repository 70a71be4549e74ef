import Base
import Net
import Peers
import Placement
import Raft
import Replication
import ServiceKit

// What joins the shards of a node to their replicas on others: the way to the peers, snapshots, and the membership that
// the coordinator plans. Raft decides who leads and who belongs; the map says who should.

extension Node {
    /// Joins the node to its peers; before the first `adopt`.
    func attach(_ peers: PeerLinks, on server: GRPCServer) {
        self.peers = peers
        peers.onClosed = { [unowned self] in hear($0) }
        peers.register(on: server)
        let files = ShardSnapshots(loop: loop, workers: workers, area: snapshotArea, logger: logger) {
            [unowned self] shard in
            guard let executor = executors.first(where: { $0.shard == shard }) else { return nil }
            return ShardSnapshots.Shard(
                store: executor.store, ranges: ShardSnapshots.ranges(of: shard, buckets: executor.buckets))
        }
        let links = SnapshotLinks(peers: peers, staging: files, logger: logger, random: &random)
        files.onConsumed = { [unowned links] in links.consumed($0) }
        links.register(on: server)
        (snapshots, snapshotLinks) = (files, links)
    }

    /// The replicas of this node, which is `id` for all its life.
    func groups(as id: NodeID) -> ReplicaGroups {
        if let groups = log.groups { return groups }
        let groups = log.groups(on: id, clock: systemClock)
        groups.transport = peers
        groups.snapshotSource = snapshotLinks
        groups.snapshotSink = snapshots
        peers?.receiver = groups
        return groups
    }

    /// The voters that a group begins with. A replica that is added later begins with the voters that are there, and
    /// waits for their leader.
    static func founding(_ shard: ShardMap.Shard, as id: NodeID) -> Raft.Membership {
        shard.version <= 1 && shard.voters.contains(id)
            ? Raft.Membership(voters: shard.voters, version: shard.version)
            : Raft.Membership(voters: shard.voters.filter { $0 != id }, learners: [id])
    }

    /// What this node tells the coordinator of its shards.
    var reports: [ReplicaReport] {
        executors.filter { $0.isPlanned || $0.isServing }.map { executor in
            ReplicaReport(
                shard: executor.shard, term: executor.group.term, isLeader: executor.isServing,
                version: executor.versionInForce, applied: executor.store.appliedIndex,
                committed: executor.group.committedIndex,
                // The store does not count by shard: its shards hold about the same.
                bytes: storeBytes / UInt64(max(executors.count, 1)), rate: executor.rate)
        }
    }

    /// A clock that most peers contradict must not stamp writes: this node leads nothing until they agree again.
    func checkClock() {
        let isSuspect = peers?.isClockSuspect ?? false
        guard isSuspect != isFenced else { return }
        isFenced = isSuspect
        logger.log(
            isSuspect ? .error : .info,
            isSuspect ? "this node's clock is too far from its peers': it leads no shard" : "this node may lead again")
        for executor in executors { executor.fence(isSuspect) }
    }

    /// Hands what it leads to other replicas, so that nobody has to wait for an election; then, or when that takes too
    /// long, `done`.
    func handOver(then done: @escaping () -> Void) {
        for executor in executors { executor.handOver() }
        let deadline = loop.now &+ 1_500_000_000
        func look() {
            let isLeading = executors.contains { $0.group.isLeading && $0.canHandOver }
            guard isLeading, loop.now < deadline else { return done() }
            loop.schedule(afterMilliseconds: 10, look)
        }
        look()
    }
}

extension ShardExecutor {
    /// Another voter could lead: it answers, and is not behind by much.
    var canHandOver: Bool { successor != nil }

    private var successor: NodeID? {
        let status = group.status
        guard status.role == .leader else { return nil }
        let voters = status.peers.filter { $0.isActive && status.membership.voters.contains($0.id) }
        return voters.max { ($0.matched, $1.id) < ($1.matched, $0.id) }?.id
    }

    /// Asks the voter that is furthest to lead.
    func handOver() {
        guard let successor else { return }
        try? group.transferLeadership(to: successor)  // Refused: then an election will do.
    }

    /// As leader, brings the group's membership to what the map asks for, a step at a time.
    func pursue(_ planned: ShardMap.Shard) {
        guard isServing else { return }
        let wanted = Raft.Membership(
            voters: planned.voters, learners: planned.learners, version: planned.version)
        let present = group.membership
        guard !present.isJoint, group.committedIndex >= membershipIndex else { return }
        // An earlier leader knew a newer map: it comes here too, and until then nothing is to be done.
        guard present.version <= planned.version else { return }
        guard present == wanted else {
            // Busy: asked again with the next tick.
            try? group.propose(wanted)
            return
        }
        if versionInForce != planned.version {
            versionInForce = planned.version
            onReport?()
        }
        if let next = planned.membership.transfer, next != lastTransfer {
            lastTransfer = next
            try? group.transferLeadership(to: next)
        } else if planned.membership.transfer == nil {
            lastTransfer = nil
        }
    }

    /// Counts a second's invocations.
    func measure() {
        rate = invocations &- countedInvocations
        countedInvocations = invocations
    }
}
