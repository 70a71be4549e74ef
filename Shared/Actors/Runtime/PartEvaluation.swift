import Base
import DataModel

// Parts of transactions: evaluated now, applied when they are decided, or never.
//
// A part is evaluated like any calls, between `beginPart` and `finishPart`. Then its effects are in a list of their
// own, and memory has forgotten them: keys that the part changed are read from the store again by whoever asks next.
// Until then their locks must be held: until the entry that decides the part is committed and visible to the reader,
// because what earlier entries made of the keys has left memory as well.

extension ActorRuntime {
    /// Before the first call of a part. There must be no effects of other calls (`hasEffects`).
    package func beginPart() throws(DatabaseError) {
        try loadCounters()
        countersBeforePart = counters
        schema.beginPart()
    }

    /// After the last: writes its effects, and returns how it changes the number of keys.
    package func finishPart(_ sink: some EffectSink) -> [KeyCountChange] {
        guard let before = countersBeforePart else { return [] }
        let changes = counters.changes(since: before)
        counters = before
        countersBeforePart = nil
        let changed = dirty.owned
        finishEntry(sink)
        if schema.index == entryIndex { schema.undoPart() }
        for activation in changed { activation.isPending = false }
        if !changed.isEmpty { pending.keep { $0.isPending } }
        for activation in changed { remove(activation) }
        return changes
    }

    /// The part is not evaluated after all.
    package func endPart() { countersBeforePart = nil }

    /// A part is committed, and its effects are in the open entry: counters change, also in `sink`.
    package func adoptPart(
        _ changes: [KeyCountChange], entryIndex: LogIndex, into sink: some EffectSink
    ) throws(DatabaseError) {
        if !changes.isEmpty {
            try loadCounters()
            for change in changes where buckets.contains(Int(change.bucket.rawValue)) {
                guard Int(change.database) < KeyCounters.databases else { throw Failure.damaged }
                counters.add(change.delta, change.bucket, change.database, entryIndex)
            }
            writeCounters(sink)
        }
        // There may be keys that expire and garbage that nobody here has made. They are looked for in all buckets: not
        // after each part, then, but within a second.
        earliestExpiry = min(earliestExpiry, now &+ 1000)
        mayHaveGarbage = true
        garbageIndex = max(garbageIndex, entryIndex)
    }

    /// Forgets what memory knows of a key, unless an entry brings it that is not committed.
    package func forget(_ database: UInt8, _ key: ByteView) {
        // The lock of a collection comes with that of the catalog.
        if database == RowKey.database, key.isEmpty { return schema.forget() }
        lookupKey.removeAll()
        lookupKey.append(database)
        lookupKey.append(key)
        guard let found = table.value(for: lookupKey.readable), mayLeave(found) else { return }
        remove(found)
    }
}
