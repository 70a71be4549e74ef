import Base
import Contracts
import DataModel
import Feeds
import Net
import Raft
import Replication
import Storage

/// What is told of a shard that is led here to those who subscribe to its changes: made for the first of them, gone
/// with the last, and with the leadership.
///
/// Everything comes from the log as it is applied, so every subscriber sees the same commits in the same order,
/// whichever replica leads and from wherever it begins. What a subscriber may rely on is the *resolved* timestamp:
/// nothing at or below it comes any more. It holds for this leader and for every one after it:
///
/// - Entries get rising timestamps, and what is proposed later gets one above the clock of now. So the shard is
///   resolved up to its clock while nothing is on its way, else up to the newest entry that is applied.
/// - Another leader begins above the bound that the log holds (`ClockBoundRecord`). So nothing at or above that bound
///   is called resolved before an entry has moved it; a shard at rest writes one every 200 ms or so while somebody
///   listens.
/// - A part of a transaction over several shards is committed at a time that is not below that of its intent. So the
///   oldest intent that is not decided holds everything back.
///
/// That needs no lease and no clock: a leader that was deposed and does not know it can tell only what is so.
final class ShardFeed {
    /// Bytes of changes that wait for intents, or of a subscriber that lags: beyond it the log is read again later.
    static let backlogLimit = 16 << 20

    unowned let executor: ShardExecutor
    let loop: EventLoop
    private var subscriptions: [ObjectIdentifier: ShardSubscription] = [:]
    private var collector: ChangeCollector
    private(set) var watermark = IntentWatermark()
    private var unfinished = EntryEffects.Unfinished()
    /// The commit timestamp of the newest entry that is applied.
    private(set) var newest: Timestamp
    private var bound: Timestamp

    init(_ executor: ShardExecutor) throws(StoreError) {
        self.executor = executor
        loop = executor.clock.loop
        collector = ChangeCollector(shard: executor.shard)
        newest = executor.store.newestTimestamp
        bound = try ClockBoundRecord.read(executor.shard, from: executor.store)
        try executor.forEachIntent { watermark.note($0, prepared: $1) }
    }

    var isEmpty: Bool { subscriptions.isEmpty }

    /// Somebody listens to what commands do to keys.
    var wantsEvents: Bool { subscriptions.values.contains { $0.filter.wantsEvents } }

    var subscriberCount: Int { subscriptions.count }

    func add(_ subscription: ShardSubscription) {
        subscriptions[ObjectIdentifier(subscription)] = subscription
        executor.reviewEvents()  // From here on: what is said to be resolved from now on is told whole.
        subscription.begin()
    }

    func remove(_ subscription: ShardSubscription) { subscriptions[ObjectIdentifier(subscription)] = nil }

    // MARK: What happens at the shard

    /// An entry has been applied to the store.
    func applied(_ payload: ByteView) {
        guard !payload.isEmpty else { return }
        do throws(StoreError) {
            let notes = try EntryEffects.read(payload, of: executor.shard, into: &collector)
            try collector.leaveOutUndone { (change) throws(StoreError) in
                do throws(StoreError) {
                    return try executor.wasThere(change)
                } catch {
                    // The commit, or one before that a part comes after, has deleted a database and with it the past.
                    if error.kind == .tooOld { return true }
                    throw error
                }
            }
            for part in notes.parts { watermark.note(part.id, prepared: part.prepared) }
            unfinished.note(notes)
            if let timestamp = notes.timestamp { newest = max(newest, timestamp) }
            if let bound = notes.bound { self.bound = bound }
        } catch {
            return executor.onFatal(error)  // The store has applied it just now.
        }
        guard unfinished.isEmpty else { return }
        let changes = collector.finish(), resolved = watermark.resolved(newest)
        for subscription in subscriptions.values { subscription.applied(changes, resolved) }
    }

    /// Called every 100 ms: tells how far everything is resolved, and goes on with who lags.
    func tick() {
        let resolved = resolved()
        for subscription in subscriptions.values { subscription.tick(resolved) }
    }

    /// Up to where nothing comes any more.
    func resolved() -> Timestamp {
        guard executor.isAtRest else { return watermark.resolved(newest) }
        let now = executor.clock.next()
        guard now < bound else {
            executor.moveBound()
            return watermark.resolved(max(newest, Timestamp(rawValue: max(bound.rawValue, 1) - 1)))
        }
        return watermark.resolved(now)
    }

    /// The shard is not led here any more, or this node stops: subscribers go elsewhere.
    func end(_ error: DatabaseError) {
        let ended = subscriptions
        subscriptions = [:]
        for subscription in ended.values { subscription.end(error) }
    }
}

extension ShardExecutor {
    static let feedLost = DatabaseError(.notLeader, "The shard is led by another node now; go on there")

    /// The feed, made if there is none; nil when the shard is not served here.
    func openFeed() throws(DatabaseError) -> ShardFeed? {
        guard isServing else { return nil }
        if let feed { return feed }
        do throws(StoreError) {
            let fresh = try ShardFeed(self)
            feed = fresh
            return fresh
        } catch {
            throw error.databaseError
        }
    }

    /// Nobody listens any more: entries are not looked at.
    func closeFeedIfUnused() {
        if feed?.isEmpty ?? false { feed = nil }
    }

    /// For so long the log is kept for a subscriber that has gone.
    private static let followedNanoseconds: UInt64 = 600_000_000_000

    /// Called every 100 ms.
    func tickFeed() {
        let now = clock.loop.now
        reviewEvents()
        if let feed {
            feed.tick()
            feedSeenAt = now
        }
        group.isFollowed = feedSeenAt.map { now &- $0 < Self.followedNanoseconds } ?? false
    }

    func endFeed(_ error: DatabaseError) {
        let ended = feed
        feed = nil
        ended?.end(error)
    }

    /// The intents that the applied state has.
    func forEachIntent(_ body: (_ part: Bytes, _ prepared: Timestamp) -> Void) throws(StoreError) {
        var from = ByteBuffer(capacity: 64), to = ByteBuffer(capacity: 64)
        for bucket in buckets.joined() {
            from.removeAll()
            TransactionKey.appendPrefix(BucketID(rawValue: UInt16(truncatingIfNeeded: bucket)), into: &from)
            to.removeAll()
            to.append(from.readable)
            NativeKeyLayout.makeRangeEnd(&to)
            try store.scan(from: from.readable, to: to.readable) { key, value in
                if let prepared = EntryEffects.prepared(value) { body(key.bytes, prepared) }
                return true
            }
        }
    }
}
