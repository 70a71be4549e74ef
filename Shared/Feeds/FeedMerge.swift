import Base
import Contracts

/// Merges the feeds of shards into one, in the order of timestamps: a change comes out when every other shard has
/// changes behind it, or is resolved up to it.
package struct FeedMerge: Sendable {
    private struct Source: Sendable {
        var queue: [Change] = []
        var head = 0
        var cost = 0
        var position: FeedPosition

        /// Below this nothing comes from here any more, and at it only what is in the queue.
        var resolved: Timestamp { position.resolved }
    }

    private var sources: [ShardID: Source] = [:]

    /// Feeds that all begin at the same position.
    package init(_ shards: [ShardID], from start: FeedPosition) {
        for shard in shards { sources[shard] = Source(position: FeedPosition(resolved: start.resolved)) }
    }

    package var shards: [ShardID] { sources.keys.sorted() }

    /// Up to where a shard's feed was taken in: there it goes on when it breaks off.
    package func position(of shard: ShardID) -> FeedPosition? { sources[shard]?.position }

    /// Bytes that wait for other shards.
    package func cost(of shard: ShardID) -> Int { sources[shard]?.cost ?? 0 }

    package mutating func append(_ change: Change, from shard: ShardID) {
        sources[shard]?.queue.append(change)
        sources[shard]?.cost += change.cost
    }

    /// A batch of a shard was taken in.
    package mutating func advance(_ shard: ShardID, to position: FeedPosition) {
        guard let known = sources[shard]?.position, position.resolved >= known.resolved else { return }
        sources[shard]?.position = position
    }

    /// The next change whose place is certain.
    package mutating func next() -> Change? {
        guard let (first, change) = earliest else { return nil }
        let isCertain = sources.allSatisfy { shard, source in
            shard == first || source.head < source.queue.count || source.resolved >= change.timestamp
        }
        guard isCertain else { return nil }
        take(from: first, change.cost)
        return change
    }

    private var earliest: (ShardID, Change)? {
        var found: (shard: ShardID, change: Change)?
        for (shard, source) in sources where source.head < source.queue.count {
            let change = source.queue[source.head]
            if found.map({ Change.precedes(change, $0.change) }) ?? true { found = (shard, change) }
        }
        return found.map { ($0.shard, $0.change) }
    }

    private mutating func take(from shard: ShardID, _ cost: Int) {
        guard var source = sources.removeValue(forKey: shard) else { return }
        source.head += 1
        source.cost -= cost
        if source.head == source.queue.count {
            source.queue.removeAll(keepingCapacity: source.queue.capacity <= 1024)
            source.head = 0
        } else if source.head > 1024, source.head > source.queue.count / 2 {
            source.queue.removeFirst(source.head)
            source.head = 0
        }
        sources[shard] = source
    }

    /// Everything up to here has come out, once `next` has no more.
    package var resolved: Timestamp {
        sources.values.reduce(Timestamp(rawValue: .max)) { resolved, source in
            guard source.head < source.queue.count else { return min(resolved, source.resolved) }
            let below = max(source.queue[source.head].timestamp.rawValue, 1) - 1
            return min(resolved, Timestamp(rawValue: below))
        }
    }
}
