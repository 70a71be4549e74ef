import Base
import Contracts
import Feeds
import Raft
import Replication
import Storage

/// Who takes the changes of a shard: a gRPC stream, or the merge of all shards.
protocol FeedConsumer: AnyObject {
    /// Whether it may be given more; if not, it calls `ShardSubscription.resume` when it may.
    var isReady: Bool { get }
    /// The next change, and the position of who has it.
    func take(_ change: Change, _ position: FeedPosition)
    /// Everything up to the position has been given. `isMark`: it should hear of it even if there was nothing new.
    func reached(_ position: FeedPosition, isMark: Bool)
    /// The last call.
    func ended(_ error: DatabaseError)
}

/// One subscriber of a shard's changes, from its position on.
///
///     begin ──▶ reading the log again ──▶ live: every entry as it is applied
///       ▲       (or the past that the store keeps, where the log begins later)
///       └────── whenever the subscriber does not keep up
///
/// A subscriber that does not keep up costs nothing: it is given what comes later from the log, when it takes it. What
/// is read again must come out in the same order as it did live, and parts of transactions come later in the log than
/// their timestamps say. So before an entry is read for its changes the log is *surveyed*: at its end stand the intents
/// that are not decided now, and every other part says in its entry when it was committed.
final class ShardSubscription {
    /// Bytes of the log that are looked at in one turn.
    private static let chunk = 512 << 10

    private enum Phase {
        /// Lags, and waits to begin again.
        case waiting
        case reading(LogReplay)
        case past(PastReplay)
        case live
        case ended
    }

    let feed: ShardFeed
    let filter: FeedFilter
    private let past: PastContents?
    private weak var consumer: (any FeedConsumer)?
    private var cursor: FeedCursor
    private var backlog = FeedBacklog()
    private var phase = Phase.waiting
    private var isTurnScheduled = false

    /// Without a position: from now on. What is told begins at `position` then.
    init(_ feed: ShardFeed, _ filter: FeedFilter, wantsOldValues: Bool, from position: FeedPosition?) {
        (self.feed, self.filter) = (feed, filter)
        // Not 0, even if the shard has no entry yet: who goes on after 0 asks for what comes from then on.
        let now = FeedPosition(resolved: max(feed.resolved(), Timestamp(rawValue: 1)))
        cursor = FeedCursor(position ?? now)
        past =
            wantsOldValues || filter.limitsTypes
            ? PastContents(feed.executor, isWanted: wantsOldValues) : nil
    }

    /// How far the subscriber has got.
    var position: FeedPosition { cursor.position }

    func attach(_ consumer: any FeedConsumer) { self.consumer = consumer }

    private var executor: ShardExecutor { feed.executor }

    private func leavePast() {
        if case .past(let replay) = phase { replay.close() }
    }

    /// Leaves.
    func cancel() {
        leavePast()
        phase = .ended
        feed.remove(self)
        executor.closeFeedIfUnused()
    }

    /// The shard is not led here any more, or what the subscriber needs is not there any more.
    func end(_ error: DatabaseError) {
        if case .ended = phase { return }
        leavePast()
        phase = .ended
        consumer?.ended(error)
    }

    private func fail(_ error: DatabaseError) {
        end(error)
        cancel()
    }

    // MARK: Beginning

    /// Looks for the place in the log that the position belongs to.
    func begin() {
        leavePast()
        backlog.removeAll()
        let after = cursor.position.resolved
        do throws(StoreError) {
            if after >= feed.newest {
                phase = .live
            } else if let first = try executor.firstEntry(after: after) {
                phase = .reading(LogReplay(executor, from: first))
            } else {
                let resolved = feed.watermark.resolved(feed.newest)
                // Nothing is known above the position yet: later.
                phase = resolved > after ? .past(try PastReplay(executor, after: after, upTo: resolved)) : .waiting
            }
        } catch {
            return fail(error.databaseError)
        }
        consumer?.reached(cursor.position, isMark: true)
        scheduleTurn()
    }

    /// The consumer takes more again.
    func resume() {
        if case .waiting = phase { begin() } else { scheduleTurn() }
    }

    private func scheduleTurn() {
        switch phase {
        case .reading, .past: break
        case .waiting, .live, .ended: return
        }
        guard !isTurnScheduled else { return }
        isTurnScheduled = true
        feed.loop.runLater { [self] in
            isTurnScheduled = false
            turn()
        }
    }

    /// A piece of work of one that lags.
    private func turn() {
        guard consumer?.isReady ?? false, backlog.cost < ShardFeed.backlogLimit else { return }  // `resume` or `tick`.
        switch phase {
        case .reading(let replay): read(replay)
        case .past(let replay): read(replay)
        case .waiting, .live, .ended: return
        }
        scheduleTurn()
    }

    private func read(_ replay: LogReplay) {
        do throws(StoreError) {
            let isAtEnd = try replay.step(bytes: Self.chunk, watermark: feed.watermark) { changes, resolved in
                keep(changes)
                release(upTo: resolved)
            }
            guard isAtEnd else {
                // Cut away meanwhile: what is left of the past may still have it.
                if replay.isLost { begin() }
                return
            }
            if case .reading = phase { phase = .live }
            release(upTo: feed.watermark.resolved(feed.newest))
        } catch {
            fail(error.databaseError)
        }
    }

    private func read(_ replay: PastReplay) {
        do throws(StoreError) {
            guard let (changes, resolved) = try replay.step() else { return }
            replay.close()
            keep(changes)
            release(upTo: resolved)
            if case .past = phase { begin() }
        } catch {
            fail(error.databaseError)
        }
    }

    // MARK: Going on

    /// An entry has been applied.
    func applied(_ changes: [Change], _ resolved: Timestamp) {
        guard case .live = phase else { return }
        guard consumer?.isReady ?? false, backlog.cost < ShardFeed.backlogLimit else {
            backlog.removeAll()
            phase = .waiting
            return
        }
        keep(changes)
        release(upTo: resolved)
    }

    func tick(_ resolved: Timestamp) {
        switch phase {
        case .live:
            release(upTo: resolved)
            if case .live = phase { consumer?.reached(cursor.position, isMark: true) }
        case .waiting: if consumer?.isReady ?? false { begin() }
        case .past where !(consumer?.isReady ?? false):
            // It holds the past for nothing meanwhile; as nothing was given since it began, it begins again.
            leavePast()
            phase = .waiting
        case .reading, .past: scheduleTurn()
        case .ended: break
        }
    }

    private func keep(_ changes: [Change]) {
        for change in changes where change.timestamp > cursor.position.resolved {
            if let change = filter.narrow(change) { backlog.append(change) }
        }
    }

    private func release(upTo resolved: Timestamp) {
        for var change in backlog.release(upTo: resolved) {
            if let past {
                do throws(StoreError) { try past.complete(&change) } catch { return fail(error.databaseError) }
                guard filter.admitsType(of: change) else { continue }
                if !past.isWanted { change.old = nil }
            }
            if case .ended = phase { return }
            if cursor.take(change) { consumer?.take(change, cursor.position) }
        }
        cursor.resolve(resolved)
        consumer?.reached(cursor.position, isMark: false)
    }
}
