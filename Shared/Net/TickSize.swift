/// How many events a tick of a loop takes: a part of the sources that are active.
///
/// A tick that takes all of them makes their clients move in lockstep: all are read, then all wait for the node, then
/// all are answered, and of gateway, node and clients only one works at a time. With a part of them the next part is
/// read while the one before is evaluated or synced. Parts that are too small lose what batching saves, so the size
/// follows the load (docs/decisions/0019-ticks-and-syncs-follow-the-load.md).
///
/// A value: the loop tells what happened, and asks.
package struct TickSize {
    /// Ticks after which the active sources are counted anew.
    package static let period: UInt32 = 64
    /// What a tick takes at least and at most.
    package static let least = 2, most = 32
    /// A tick takes this part of the active sources.
    package static let share = 3

    /// Events that the next tick takes at most.
    package private(set) var events = most
    /// The number of the current count; a source that bears it was counted. Never 0.
    private var count: UInt32 = 1
    private var active = 0
    private var ticks: UInt32 = 0

    package init() {}

    /// A source has an event; `mark` is what it bears, 0 at first.
    @inline(__always) package mutating func note(_ mark: inout UInt32) {
        guard mark != count else { return }
        mark = count
        active &+= 1
    }

    /// A tick with events is over.
    @inline(__always) package mutating func endTick() {
        ticks &+= 1
        guard ticks == Self.period else { return }
        events = min(max(active / Self.share, Self.least), Self.most)
        (ticks, active) = (0, 0)
        count = count == .max ? 1 : count &+ 1
    }
}
