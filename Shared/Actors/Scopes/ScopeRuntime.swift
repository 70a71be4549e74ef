import Base
import DataModel

// How a runtime serves a transaction that is open, and what the shard's own runtime has to know of it.

extension ActorRuntime {
    /// From now on the runtime evaluates statements of transactions, one transaction after another.
    func becomeScope() {
        isScope = true
        counters = KeyCounters(differencesOf: buckets)
    }

    /// Counters are not read from the store: they say how the transaction differs from it.
    var countsDifferences: Bool { counters.isRelative }

    /// Forgets what is in memory. `counters` are the changes that the transaction has made so far.
    func restartScope(committed: LogIndex, counters changes: [KeyCountChange]) {
        forgetAll()
        self.committed = committed
        if !counters.isPristine || !changes.isEmpty {
            var fresh = KeyCounters(differencesOf: buckets)
            for change in changes { fresh.add(change.delta, change.bucket, change.database, committed) }
            fresh.drainChanges { _, _, _ in }
            counters = fresh
        }
    }

    /// Before the first call of a statement. `floor` is above the time of every change up to now: of an absent key
    /// nothing is known but what the transaction itself has done since it read it.
    func beginStatement(floor: Timestamp) {
        if activationCount == 0 { absences = Absences(floor: floor) }
        countersBeforePart = counters
    }

    /// After the last call: writes its effects, and returns how it changes the number of keys.
    func finishStatement(_ sink: some EffectSink) -> [KeyCountChange] {
        let changes = countersBeforePart.map { counters.changes(since: $0) } ?? []
        countersBeforePart = nil
        counters.drainChanges { _, _, _ in }
        finishEntry(sink)
        return changes
    }

    // MARK: The shard's own runtime

    /// The entry after which the store shows all changes of a key that were evaluated here; not above `committed` if
    /// it does already.
    package func pendingIndex(_ database: UInt8, _ key: ByteView) -> LogIndex {
        var index = Int(database) < flushIndex.count ? flushIndex[Int(database)] : .zero
        if database == RowKey.database, RowKey.collection(of: key) == nil { return pendingIndex(ofCollection: key) }
        lookupKey.removeAll()
        lookupKey.append(database)
        lookupKey.append(key)
        if let found = table.value(for: lookupKey.readable) { index = max(index, found.pendingIndex) }
        return index
    }

    /// The same of the catalog, and of all records of a collection.
    private func pendingIndex(ofCollection key: ByteView) -> LogIndex {
        guard let collection = RowKey.collection(prefix: key) else { return schema.index }
        var newest = schema.index
        pending.forEach { item in
            guard item.database == RowKey.database,
                item.key.withUnsafeBytes({ RowKey.collection(of: $0) }) == collection
            else { return }
            newest = max(newest, item.pendingIndex)
        }
        return newest
    }

    /// The entry after which the store shows all changes of all keys that were evaluated here.
    package var newestPendingIndex: LogIndex {
        var newest = max(schema.index, flushIndex.max() ?? .zero)
        pending.forEach { newest = max(newest, $0.pendingIndex) }
        return newest
    }

    /// A key was changed or removed by somebody else than the calls evaluated here, at a time that is not before that
    /// of the change: a version that was told of it while it was absent is not told again.
    package func noteChange(ofRecord key: ByteView, at time: Timestamp) {
        if case .record(_, let database, let hash, _)? = NativeKey(parsing: key) {
            absences.note(database, hash, time)
        } else if let (_, collection, primaryKey) = RowKey.parse(key) {
            let hash = RowKey.make(collection, primaryKey: primaryKey).withUnsafeBytes { NativeKeyLayout.hash32($0) }
            absences.note(RowKey.database, hash, time)
        }
    }

    /// The same of all keys.
    package func noteChanges(at time: Timestamp) { absences = Absences(floor: max(absences.floor, time)) }
}
