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
    /// Calls that came, and those of them whose answers wait for the log, since `mayBlock` was decided.
    private var calls = 0, held = 0

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

    /// A call came.
    @inline(__always) func noteCall() { calls &+= 1 }

    /// Its answer waits for the log.
    @inline(__always) func noteHeld() { held &+= 1 }

    /// A sync on the loop saves two wake-ups and holds up whatever else the loop could do. Where most calls wait for
    /// the log anyway, that is nothing; the statements of transactions do not, only their ends.
    private func decideWhereToSync() {
        guard calls >= Self.decisionCalls else { return }
        writer.maySyncInline = held &* 3 >= calls
        (calls, held) = (0, 0)
    }

    /// Calls between two decisions: some milliseconds under load.
    private static let decisionCalls = 256

    func flushAtTickEnd() {
        decideWhereToSync()
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
