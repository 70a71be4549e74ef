import Base
import Net

/// The node's hybrid clock as shards use it: the system's clocks are read once per tick, timestamps between are counted
/// on.
///
/// How far timestamps may have gone is logged by each shard, in the entries of its writes (`ClockBoundRecord`): so a
/// restart and a new leader begin above every timestamp that was ever given, and an idle shard logs nothing.
final class NodeClock {
    let loop: EventLoop
    private let clock: HybridClock
    private var sampledAt: UInt64 = 0
    private var wall: UInt64 = 0

    init(loop: EventLoop, clock: HybridClock) {
        (self.loop, self.clock) = (loop, clock)
        clock.boundLogged(Timestamp(rawValue: .max))
    }

    /// Milliseconds since 1970 as of this tick; steps of the system's clock do not show.
    @inline(__always) var wallMilliseconds: UInt64 {
        if sampledAt != loop.now { sample() }
        return wall
    }

    /// The newest timestamp given: the bookmark of every reply.
    var last: Timestamp { clock.last }

    /// A timestamp above all others.
    @inline(__always) func next() -> Timestamp {
        if sampledAt != loop.now { sample() }
        return clock.next()
    }

    /// Takes note of a session's bookmark. One that is too far ahead comes from a broken clock and is refused.
    func observe(_ bookmark: Timestamp) throws(DatabaseError) { try clock.observe(bookmark) }

    /// Moves above `bound` and to the present, not that of this tick: what a leader stamps that begins now is not
    /// earlier. False while `bound` is further ahead of wall time than clocks of one cluster may be.
    func catchUp(with bound: Timestamp) -> Bool {
        _ = clock.now()
        do throws(DatabaseError) { try clock.observe(bound) } catch { return false }
        return true
    }

    /// Wall time as this clock believes it now, not as of this tick.
    func believedMilliseconds() -> UInt64 { clock.wallMilliseconds() }

    var startDelayMilliseconds: UInt64 { clock.startDelayMilliseconds }

    private func sample() {
        sampledAt = loop.now
        wall = clock.wallMilliseconds()
        _ = clock.now()
    }
}
