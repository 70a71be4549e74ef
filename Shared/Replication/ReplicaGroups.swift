import Base
import Raft

/// The replicas of one process: what they share (log, way to the peers, clock), their ticks, and what comes in for
/// them. Loop-confined.
///
/// Whoever owns the loop calls `endTick` when a tick of the loop ends in which `onPending` was called, `complete` for
/// what the log's thread reports, and `tick` every `RaftConfiguration.tickInterval`. With one replica per group the
/// last may be left out, and there is no transport.
package final class ReplicaGroups: PeerReceiver {
    /// Sizes; what is not set keeps its default.
    package struct Options: Sendable {
        /// Bytes of recent entries that a group of several replicas keeps in memory.
        package var cacheBytes = 16 << 20
        /// Bytes of the whole log for which entries are kept for a follower that lags; past it, it gets a snapshot.
        package var retainedBytes: UInt64 = 128 << 20

        package init() {}
    }

    /// This process.
    package let id: NodeID
    package let writer: LogWriter
    package let options: Options
    /// The way to the peers; set it before groups of several replicas start.
    package var transport: (any PeerTransport)?
    package var snapshotSource: (any SnapshotSource)?
    package var snapshotSink: (any SnapshotSink)?
    /// Called once per tick when something must be done at its end: call `endTick` then.
    package var onPending: (() -> Void)?
    /// Called when the log cannot be read: the process must stop.
    package var onFailure: (LogError) -> Void
    private(set) var hasFailed = false
    private var isClosed = false

    private let clock: any Clock
    private var random: any RandomSource
    private let raft: RaftConfiguration
    private var groups: [ShardID: ReplicaGroup] = [:]
    /// In the order in which they came: what a simulation does must not depend on hashes.
    private var order: [ReplicaGroup] = []
    /// Reused by every step of every group.
    var effects = Effects()
    private var isPending = false
    private var deferred: [() -> Void] = []

    /// - Parameters:
    ///   - raft: how groups behave; `id` and `seed` of it do not count.
    ///   - onFailure: the default says so and ends the process.
    package init(
        id: NodeID, writer: LogWriter, clock: any Clock, random: any RandomSource = SystemRandom(),
        options: Options = Options(), raft: RaftConfiguration? = nil,
        onFailure: @escaping (LogError) -> Void = { LogWriter.endProcess($0) }
    ) {
        (self.id, self.writer, self.clock, self.random) = (id, writer, clock, random)
        (self.options, self.onFailure) = (options, onFailure)
        var raft = raft ?? RaftConfiguration(id: id, seed: 0)
        raft.id = id
        self.raft = raft
    }

    var now: UInt64 { clock.monotonicNanoseconds() }

    // MARK: Groups

    /// Adds a replica as the log has recovered it. Set its callbacks, then `start` it.
    ///
    /// - Parameter founding: the membership, if the log has never been told one. All replicas of a new group are given
    ///   the same. A node that joins an old group is given the group's voters, and itself as a learner.
    package func add(_ recovered: RecoveredReplica, founding: Membership) -> ReplicaGroup {
        var configuration = raft
        configuration.seed = random.next()
        let group = ReplicaGroup(recovered, founding: founding, self, configuration, now: now)
        groups[recovered.shard] = group
        order.append(group)
        setPending()
        return group
    }

    /// The replica of `shard` here, if there is one.
    package func group(_ shard: ShardID) -> ReplicaGroup? { groups[shard] }

    /// All replicas here, in the order in which they were added.
    package var all: [ReplicaGroup] { order }

    /// Lets a replica go that was moved away: the group goes on without it, for certain (its removal is committed). It
    /// takes part no more when this returns. When the log says so durably `done` is told, with what `add` must be given
    /// if the replica comes back; its store is to be emptied before. A restart finds `note` in
    /// `ShardLogState.removal`, for as long as the replica does not come back. Only if the group `mayBeRemoved`.
    package func remove(_ group: ReplicaGroup, note: Bytes, then done: @escaping (RecoveredReplica) -> Void) {
        guard group.mayBeRemoved, groups[group.shard] === group else { return }
        groups[group.shard] = nil
        order.removeAll { $0 === group }
        group.retire(note, then: done)
    }

    // MARK: The loop's calls

    /// Time has passed.
    package func tick() {
        for group in order where group.core.needsTicks { group.step(.tick) }
    }

    /// Hands what this tick wrote to the log.
    package func endTick() {
        isPending = false
        runDeferred()
        writer.submit()
        runDeferred()
    }

    /// The log's thread reports that everything up to `ticket` is durable.
    package func complete(upTo ticket: LogTicket) { writer.complete(upTo: ticket) }

    /// Stops as a crash would: nothing is written or sent any more. For simulations.
    package func abandon() {
        hasFailed = true
        writer.abandon()
        release()
    }

    /// Ends the log: what was accepted is durable when this returns, and reported. The groups take part no more.
    package func close() {
        writer.submit()
        writer.close()
        isClosed = true
        release()
    }

    /// Breaks the circles.
    private func release() {
        order = []
        groups = [:]
        (transport, snapshotSource, snapshotSink, onPending) = (nil, nil, nil, nil)
        deferred = []
    }

    func setPending() {
        guard !isPending else { return }
        isPending = true
        onPending?()
    }

    /// Runs `body` at the end of the tick: for what must not happen inside a step.
    package func afterStep(_ body: @escaping () -> Void) {
        deferred.append(body)
        setPending()
    }

    private func runDeferred() {
        let now = deferred
        deferred.removeAll()
        for body in now { body() }
    }

    func fail(_ error: LogError) {
        // What is reported after the end may ask for entries that can be read no more, and that nobody needs.
        guard !hasFailed, !isClosed else { return }
        hasFailed = true
        onFailure(error)
    }

    // MARK: PeerReceiver

    package func received(_ message: Message, of shard: ShardID, payload: ByteView) {
        guard message.to == id, message.from != id, let group = groups[shard] else { return }
        group.received(message, payload: payload)
    }

    package func unreachable(_ peer: NodeID) { tell(.unreachable(peer), about: peer) }

    /// A link that comes back needs nothing: heartbeats and appends go on by themselves.
    package func peerUp(_ peer: NodeID) {}

    package func peerDown(_ peer: NodeID) { tell(.peerDown(peer), about: peer) }

    private func tell(_ event: RaftEvent, about peer: NodeID) {
        for group in order where group.core.membership.contains(peer) { group.step(event) }
    }
}
