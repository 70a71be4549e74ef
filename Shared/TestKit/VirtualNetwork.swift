import Base

/// A network that loses, delays, doubles and reorders, and whose links can be cut, each direction by itself.
///
/// It moves no message: whoever sends asks `deliveries` when the message will arrive, and schedules that. Nodes are
/// numbers, as the simulation likes.
package struct VirtualNetwork {
    /// How a link treats what nobody cuts off.
    package struct Conditions: Hashable, Sendable {
        /// Messages lost, of a thousand.
        package var dropPermille: UInt64 = 0
        /// Messages that arrive twice, of a thousand.
        package var duplicatePermille: UInt64 = 0
        /// Messages that take up to `slowNanoseconds`, of a thousand.
        package var slowPermille: UInt64 = 0
        package var minimumNanoseconds: UInt64 = 100_000
        package var maximumNanoseconds: UInt64 = 1_000_000
        package var slowNanoseconds: UInt64 = 200_000_000
        /// As on one TCP connection: what is sent later arrives later.
        package var isOrdered = false

        package init() {}
    }

    /// When a message arrives, in nanoseconds from now: never, once or twice.
    package struct Deliveries: Hashable, Sendable {
        package var first: UInt64?
        package var second: UInt64?
    }

    private struct Link: Hashable {
        var from: UInt32
        var to: UInt32
    }

    package var conditions = Conditions()
    private var cuts: Set<Link> = []
    private var newest: [Link: UInt64] = [:]
    private var random: SplitMix64
    /// Messages that were lost, for whatever reason.
    package private(set) var lost = 0
    /// Messages that arrived twice.
    package private(set) var doubled = 0

    package init(seed: UInt64) { random = SplitMix64(seed: seed) }

    // MARK: Cuts

    /// Nothing gets from one to the other any more. The way back stays as it is.
    package mutating func cut(from: UInt32, to: UInt32) { cuts.insert(Link(from: from, to: to)) }

    /// Cuts both ways between the two sides.
    package mutating func partition(_ side: [UInt32], from others: [UInt32]) {
        for one in side {
            for other in others where one != other {
                cut(from: one, to: other)
                cut(from: other, to: one)
            }
        }
    }

    package mutating func heal(from: UInt32, to: UInt32) { cuts.remove(Link(from: from, to: to)) }

    /// Every link works again.
    package mutating func heal() { cuts.removeAll() }

    /// Whether the link is cut in that direction.
    package func isCut(from: UInt32, to: UInt32) -> Bool {
        !cuts.isEmpty && cuts.contains(Link(from: from, to: to))
    }

    package var hasCuts: Bool { !cuts.isEmpty }

    // MARK: Messages

    /// Decides when a message that is sent at `now` arrives.
    package mutating func deliveries(from: UInt32, to: UInt32, now: UInt64) -> Deliveries {
        var result = Deliveries()
        if isCut(from: from, to: to) || happens(conditions.dropPermille) {
            lost += 1
            return result
        }
        result.first = delay(from, to, now)
        if happens(conditions.duplicatePermille) {
            doubled += 1
            result.second = delay(from, to, now)
        }
        return result
    }

    private mutating func happens(_ permille: UInt64) -> Bool { permille > 0 && random.next(below: 1000) < permille }

    private mutating func delay(_ from: UInt32, _ to: UInt32, _ now: UInt64) -> UInt64 {
        var low = conditions.minimumNanoseconds
        var high = max(low, conditions.maximumNanoseconds)
        if happens(conditions.slowPermille) { (low, high) = (high, max(high, conditions.slowNanoseconds)) }
        let delay = low &+ random.next(below: high &- low &+ 1)
        guard conditions.isOrdered else { return delay }
        let link = Link(from: from, to: to)
        let arrival = max(now &+ delay, (newest[link] ?? 0) &+ 1)
        newest[link] = arrival
        return arrival &- now
    }
}
