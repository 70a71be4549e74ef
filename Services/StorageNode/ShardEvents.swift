import Base

// What commands do to keys (keyspace notifications) is recorded while somebody listens, and for a while longer: a
// listener that has lost its way comes back and goes on where it was, and so does one whose shard has got another
// leader. For that the log says until when (`ClockBoundRecord`), and each leader goes on with what the one before has
// promised.

extension ShardExecutor {
    /// For how long events are recorded for a listener that has gone.
    static let eventPatience: UInt64 = 15_000

    static let diskFull = DatabaseError(
        .diskFull, "The disk of the log is full; writes are refused until there is room")

    /// Called when a listener comes, and every 100 ms.
    func reviewEvents() {
        let now = clock.wallMilliseconds
        if let feed, feed.wantsEvents { eventsUntil = now &+ Self.eventPatience }
        let isWanted = isServing && now < eventsUntil
        guard isWanted != runtime.recordsEvents else { return }
        runtime.recordsEvents = isWanted
        guard isWanted, isEvaluating, !log.writer.isFull else { return }
        raiseBound(above: clock.last)  // So that the next leader knows.
        effectsAdded()
    }

    /// What the record of the clock's bound says.
    var announcedEvents: UInt64 { eventsUntil > clock.wallMilliseconds ? eventsUntil : 0 }

    /// Goes on with what the leader before has promised. What cannot be read is not promised.
    func inheritEvents() {
        eventsUntil = (try? ClockBoundRecord.eventsUntil(shard, from: store)) ?? 0
        // A clock that was ahead must not have us record for ever.
        eventsUntil = min(eventsUntil, clock.wallMilliseconds &+ Self.eventPatience)
        reviewEvents()
    }
}
