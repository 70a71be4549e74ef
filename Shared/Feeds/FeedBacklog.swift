import Base
import Contracts

/// The timestamps below which no part of a transaction can be committed any more: intents that are not decided.
package struct IntentWatermark: Sendable {
    private var prepared: [Bytes: Timestamp] = [:]

    package init() {}

    /// The record of a part has changed: an intent that was prepared then, or (nil) none any more.
    package mutating func note(_ part: Bytes, prepared timestamp: Timestamp?) { prepared[part] = timestamp }

    /// What is resolved where entries are up to `frontier`.
    package func resolved(_ frontier: Timestamp) -> Timestamp {
        prepared.values.reduce(frontier) { min($0, Timestamp(rawValue: max($1.rawValue, 1) - 1)) }
    }
}

/// Changes that wait until nothing can come before them.
package struct FeedBacklog: Sendable {
    private var held: [Change] = []
    private var isSorted = true
    /// Bytes in memory, about.
    package private(set) var cost = 0

    package init() {}

    package var isEmpty: Bool { held.isEmpty }

    package mutating func append(_ change: Change) {
        if let last = held.last, Change.precedes(change, last) { isSorted = false }
        held.append(change)
        cost += change.cost
    }

    /// The changes up to a timestamp, in their order.
    package mutating func release(upTo resolved: Timestamp) -> [Change] {
        if !isSorted {
            held.sort(by: Change.precedes)
            isSorted = true
        }
        let end = held.firstIndex { $0.timestamp > resolved } ?? held.count
        guard end > 0 else { return [] }
        if end == held.count {
            defer { (held, cost) = ([], 0) }
            return held
        }
        let released = Array(held[..<end])
        held.removeFirst(end)
        for change in released { cost -= change.cost }
        return released
    }

    package mutating func removeAll() { self = FeedBacklog() }
}

/// Counts what a subscriber has got, and leaves out what it had before.
package struct FeedCursor: Hashable, Sendable {
    /// What the subscriber has when all that was taken has reached it.
    package private(set) var position: FeedPosition
    /// Changes above the first position that it has already.
    private var known: UInt64

    package init(_ start: FeedPosition) {
        position = start
        known = start.skip
    }

    /// Whether the next change, in the order of the feed, is to be sent.
    package mutating func take(_ change: Change) -> Bool {
        guard change.timestamp > position.resolved else { return false }
        if known > 0 {
            known -= 1
            return false
        }
        if change.timestamp.rawValue > position.resolved.rawValue &+ 1 {
            // Changes come in order: below this one there is nothing more.
            let below = Timestamp(rawValue: change.timestamp.rawValue - 1)
            position = FeedPosition(resolved: below, skip: 1)
        } else {
            position.skip += 1
        }
        return true
    }

    /// Everything up to a timestamp was taken.
    package mutating func resolve(_ resolved: Timestamp) {
        guard resolved > position.resolved else { return }
        position = FeedPosition(resolved: resolved)
        known = 0
    }
}
