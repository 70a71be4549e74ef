import Base
import Net

/// The node's hybrid clock as shards use it: the system's clocks are read once per tick, timestamps between are counted
/// on.
///
/// The bound below which timestamps are given is logged ahead (`boundToLog`), so that a restart begins above every
/// timestamp that was ever given. If the log lags so far behind that the bound comes near, writes are refused rather
/// than stamped with what a successor might give again.
final class NodeClock {
    /// Timestamps that must be left below the bound for a write to be taken; more than one tick can use.
    private static let reserve: UInt64 = 1 << 15
    /// Distance from the bound, in milliseconds, at which timestamps stop to follow the wall clock and are counted on
    /// instead, 65 536 to the millisecond: a disk that takes seconds for a sync must not cost writes their timestamps.
    private static let margin: UInt64 = 50

    private let loop: EventLoop
    private let clock: HybridClock
    private var sampledAt: UInt64 = 0
    private var wall: UInt64 = 0

    init(loop: EventLoop, clock: HybridClock) { (self.loop, self.clock) = (loop, clock) }

    /// Milliseconds since 1970 as of this tick; steps of the system's clock do not show.
    @inline(__always) var wallMilliseconds: UInt64 {
        if sampledAt != loop.now { sample() }
        return wall
    }

    /// The newest timestamp given: the bookmark of every reply.
    var last: Timestamp { clock.last }

    /// A timestamp above all others; nil when the bound is too near.
    @inline(__always) func next() -> Timestamp? {
        if sampledAt != loop.now { sample() }
        guard clock.last.rawValue &+ Self.reserve < clock.bound.rawValue else { return nil }
        return clock.next()
    }

    /// Takes note of a session's bookmark. One that is too far ahead comes from a broken clock and is refused.
    func observe(_ bookmark: Timestamp) throws(DatabaseError) { try clock.observe(bookmark) }

    /// The bound to log now, if the present one is near.
    func boundToLog() -> Timestamp? { clock.boundToLog() }

    func boundLogged(_ bound: Timestamp) { clock.boundLogged(bound) }

    var bound: Timestamp { clock.bound }

    var startDelayMilliseconds: UInt64 { clock.startDelayMilliseconds }

    private func sample() {
        sampledAt = loop.now
        wall = clock.wallMilliseconds()
        // After a restart the newest timestamp is the bound itself, whatever the wall says.
        guard wall &+ Self.margin < clock.bound.milliseconds, clock.last.rawValue &+ Self.reserve < clock.bound.rawValue
        else { return }
        _ = clock.now()
    }
}
