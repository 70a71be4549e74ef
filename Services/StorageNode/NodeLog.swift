import Base
import Net
import Replication

/// The node's one log on its loop. At the end of a tick every shard with an open entry proposes it, and then all of it
/// is submitted at once: one write and one fdatasync for all shards.
final class NodeLog: TickFlushable {
    private let loop: EventLoop
    let writer: LogWriter
    /// The replicas of this node; nil until the coordinator has given the node its number.
    private(set) var groups: ReplicaGroups?
    var isFlushPending = false
    private var proposers: [ShardExecutor] = []
    private var bytesAtFlush: UInt64 = 0

    /// Takes the recovered log over. A write or sync that fails ends the process: what is on disk is then unknown.
    init(loop: EventLoop, log: SegmentedLog, durability: Durability) throws(LogError) {
        self.loop = loop
        let reference = LoopReference()  // The writer wants its callback before `self` is complete.
        writer = try LogWriter(
            log: log, durability: durability,
            onDurable: { ticket in loop.execute { reference.log?.writer.complete(upTo: ticket) } })
        reference.log = self
    }

    /// The replicas of this node, which is `id` for all its life.
    func groups(on id: NodeID, clock: any Clock) -> ReplicaGroups {
        if let groups { return groups }
        let groups = ReplicaGroups(id: id, writer: writer, clock: clock)
        groups.onPending = { [unowned self] in loop.flushUpstream(self) }
        self.groups = groups
        return groups
    }

    /// The shard has an open entry: propose it at the end of the tick.
    func schedule(_ shard: ShardExecutor) {
        proposers.append(shard)
        loop.flushUpstream(self)
    }

    func flushAtTickEnd() {
        // A commit may open entries again (under everysec it comes from `endTick`): those wait for the next round.
        let now = proposers
        proposers.removeAll(keepingCapacity: true)
        for shard in now { shard.endTick() }
        groups?.endTick()
    }

    /// Bytes written since `noteFlushed`: what a restart would have to replay.
    var bytesSinceFlush: Int { Int(clamping: writer.statistics.bytes &- bytesAtFlush) }

    func noteFlushed() { bytesAtFlush = writer.statistics.bytes }

    /// Writes what is left, and ends the log.
    func close() {
        if let groups { groups.close() } else { writer.close() }
    }
}

/// Set before the loop runs, read on the loop only.
private final class LoopReference: @unchecked Sendable {
    var log: NodeLog?
}
