import Base
import DataModel

// What nobody asked for: keys whose time has come, and sub-records whose key is gone. A timer of the node calls
// these; their effects are in the entry being built.

/// An entry of the expiry index: whose time it is, and its key in the store.
private struct DueEntry {
    let database: UInt8
    let time: UInt64
    let key: Bytes, entry: Bytes
}

extension ActorRuntime {
    /// A garbage record with this count asks to find the generations before its own that no key of the bucket has:
    /// what a flush of one database left.
    static var lostGenerations: UInt64 { .max }

    /// Removes up to `limit` keys whose time has come. Returns how many there were; as many as `limit`: call again.
    ///
    /// Keys that `isLocked` holds for are left alone.
    package func expireDue(
        now: UInt64, writeTimestamp: Timestamp, entryIndex: LogIndex, limit: Int,
        isLocked: (UInt8, ByteView) -> Bool = { _, _ in false }
    ) throws(DatabaseError) -> Int {
        self.now = now
        stamp = writeTimestamp
        self.entryIndex = entryIndex
        guard now >= earliestExpiry else { return 0 }
        try loadCounters()
        let due = try dueEntries(limit)
        for item in due where !item.key.withUnsafeBytes({ isLocked(item.database, $0) }) {
            // A key that cannot be read is left: who asks for it is told so.
            guard let found = item.key.withUnsafeBytes({ view in try? activation(item.database, view) }) else {
                continue
            }
            if found.kind != .absent, found.expiresAt == item.time {
                expireNow(found)
            } else if found.storedExpiry != item.time, found.pendingIndex <= committed {
                // An entry that a flush left: no record has this time.
                entryBytes += item.entry.count + 16
                deferred.append(.delete(item.entry))
            }
        }
        return due.count
    }

    /// Up to `limit` entries of the expiry index whose time has come; learns when the next one's will.
    private func dueEntries(_ limit: Int) throws(DatabaseError) -> [DueEntry] {
        var due: [DueEntry] = []
        var earliest = UInt64.max
        let now = now, hasRows = try hasCollections()
        for bucket in buckets where due.count < limit {
            let id = BucketID(rawValue: UInt16(truncatingIfNeeded: bucket))
            if hasRows { try addDueRows(id, limit, &due, &earliest) }
            keyBuffer.removeAll()
            NativeKeyLayout.appendExpiryPosition(id, atMilliseconds: 0, into: &keyBuffer)
            endBuffer.removeAll()
            NativeKeyLayout.appendPrefix(id, .redisKeys, index: 2, into: &endBuffer)
            try reader.scan(from: keyBuffer.readable, to: endBuffer.readable) { entry, _ in
                guard case .expiry(_, let time, let database, let key)? = NativeKey(parsing: entry) else { return true }
                guard time <= now else {
                    earliest = min(earliest, time)
                    return false
                }
                due.append(DueEntry(database: database, time: time, key: key.bytes, entry: entry.bytes))
                return due.count < limit
            }
        }
        // Entries that are not committed, the scan has not seen.
        pending.forEach { if $0.storedExpiry != 0 { earliest = min(earliest, $0.storedExpiry) } }
        earliestExpiry = due.isEmpty ? earliest : 0
        return due
    }

    /// The same of records of collections in a bucket.
    private func addDueRows(
        _ bucket: BucketID, _ limit: Int, _ due: inout [DueEntry], _ earliest: inout UInt64
    ) throws(DatabaseError) {
        keyBuffer.removeAll()
        NativeKeyLayout.appendPrefix(bucket, .systemRowExpiry, into: &keyBuffer)
        endBuffer.removeAll()
        endBuffer.append(keyBuffer.readable)
        NativeKeyLayout.makeRangeEnd(&endBuffer)
        var (found, next, now) = (due, earliest, now)
        try reader.scan(from: keyBuffer.readable, to: endBuffer.readable) { entry, _ in
            guard let (time, key) = RowKey.parseExpiry(entry) else { return true }
            guard time <= now else {
                next = min(next, time)
                return false
            }
            found.append(DueEntry(database: RowKey.database, time: time, key: key.bytes, entry: entry.bytes))
            return found.count < limit
        }
        (due, earliest) = (found, next)
    }

    /// What was collected last is not committed yet.
    package var isCollecting: Bool { collectIndex > committed }

    /// Removes the sub-records of up to `limit` generations whose key is gone, for reads of the past too. Returns how
    /// many.
    package func collectGarbage(entryIndex: LogIndex, limit: Int) throws(DatabaseError) -> Int {
        guard mayHaveGarbage, !isCollecting else { return 0 }
        self.entryIndex = entryIndex
        var found: [(bucket: BucketID, generation: Timestamp, record: GarbageRecord, key: Bytes)] = []
        var isWaiting = false
        for bucket in buckets where found.count < limit {
            let id = BucketID(rawValue: UInt16(truncatingIfNeeded: bucket))
            keyBuffer.removeAll()
            NativeKeyLayout.appendPrefix(id, .redisGarbage, into: &keyBuffer)
            endBuffer.removeAll()
            endBuffer.append(keyBuffer.readable)
            NativeKeyLayout.makeRangeEnd(&endBuffer)
            var isAny = false
            try reader.scan(from: keyBuffer.readable, to: endBuffer.readable) { _, _ in
                isAny = true
                return false
            }
            guard isAny else { continue }
            isWaiting = true
            try reader.scanSettled(from: keyBuffer.readable, to: endBuffer.readable) { key, value in
                if case .garbage(_, let generation)? = NativeKey(parsing: key),
                    let record = GarbageRecord(decoding: value)
                {
                    found.append((id, generation, record, key.bytes))
                }
                return found.count < limit
            }
        }
        let dropped = try collectDropped(limit: limit - found.count, isWaiting: &isWaiting)
        if !isWaiting, garbageIndex <= committed { mayHaveGarbage = false }
        for item in found {
            if item.record.count == Self.lostGenerations {
                for collection in [CollectionID.redisHashes, .redisStrings] {
                    try collectLost(item.bucket, collection, before: item.generation)
                }
            } else {
                let collection = item.record.type == .hash ? CollectionID.redisHashes : .redisStrings
                deferRemoval(item.bucket, collection, item.generation)
            }
            deferred.append(.delete(item.key))
            entryBytes += 64
            statistics.collectedGenerations &+= 1
            collectIndex = entryIndex
        }
        return found.count + dropped
    }

    private func deferRemoval(_ bucket: BucketID, _ collection: CollectionID, _ generation: Timestamp) {
        keyBuffer.removeAll()
        NativeKeyLayout.appendGeneration(bucket, collection, generation, into: &keyBuffer)
        endBuffer.removeAll()
        endBuffer.append(keyBuffer.readable)
        NativeKeyLayout.makeRangeEnd(&endBuffer)
        entryBytes += 64
        deferred.append(.collectRange(keyBuffer.readable.bytes, endBuffer.readable.bytes))
    }

    /// Removes the generations before `limit` that no record of the bucket has, nor had as far back as the past can be
    /// read. A generation moves only between keys of one bucket, so the committed records know all that are in use.
    private func collectLost(
        _ bucket: BucketID, _ collection: CollectionID, before limit: Timestamp
    ) throws(DatabaseError) {
        var used: Set<UInt64> = []
        keyBuffer.removeAll()
        NativeKeyLayout.appendPrefix(bucket, .redisKeys, into: &keyBuffer)
        endBuffer.removeAll()
        endBuffer.append(keyBuffer.readable)
        NativeKeyLayout.makeRangeEnd(&endBuffer)
        let note: (ByteView, ByteView) -> Bool = { _, value in
            if let record = KeyspaceRecord(decoding: value) { used.insert(record.generation.rawValue) }
            return true
        }
        try reader.scan(from: keyBuffer.readable, to: endBuffer.readable, note)
        try reader.scanSettled(from: keyBuffer.readable, to: endBuffer.readable, note)
        var from = Timestamp.zero
        while true {
            keyBuffer.removeAll()
            NativeKeyLayout.appendGeneration(bucket, collection, from, into: &keyBuffer)
            endBuffer.removeAll()
            NativeKeyLayout.appendGeneration(bucket, collection, limit, into: &endBuffer)
            var next: Timestamp?
            try reader.scan(from: keyBuffer.readable, to: endBuffer.readable) { key, _ in
                switch NativeKey(parsing: key) {
                case .hashField(_, let generation, _, _)?, .stringChunk(_, let generation, _)?: next = generation
                case .record?, .expiry?, .garbage?, .counter?, nil: break
                }
                return false
            }
            guard let next else { return }
            if !used.contains(next.rawValue) { deferRemoval(bucket, collection, next) }
            from = Timestamp(rawValue: next.rawValue + 1)
        }
    }

    // MARK: Flushing

    /// Empties a database, or all of them. What the store shows of it counts as gone until the entry is committed.
    func flush(_ databases: Range<Int>) {
        let isAll = databases.count == KeyCounters.databases
        let isOnly =
            databases.count == 1
            && counters.totals.indices.allSatisfy { databases.contains($0) || counters.totals[$0] == 0 }
        for database in databases {
            flushIndex[database] = entryIndex
            counters.clear(database, entryIndex)
        }
        forget(databases)
        if isAll { deferred.removeAll { !$0.isOfRecords } }
        for bucket in buckets {
            let id = BucketID(rawValue: UInt16(truncatingIfNeeded: bucket))
            if isAll || isOnly {
                for collection in [CollectionID.redisKeys, .redisHashes, .redisStrings, .redisGarbage] {
                    deferRange(id, collection)
                }
            } else {
                for database in databases {
                    keyBuffer.removeAll()
                    NativeKeyLayout.appendDatabase(id, database: UInt8(database), into: &keyBuffer)
                    endBuffer.removeAll()
                    endBuffer.append(keyBuffer.readable)
                    NativeKeyLayout.makeRangeEnd(&endBuffer)
                    deferred.append(.deleteRange(keyBuffer.readable.bytes, endBuffer.readable.bytes))
                }
                leaveGarbage(id, makeGeneration(), GarbageRecord(type: .hash, count: Self.lostGenerations))
            }
            entryBytes += 256
        }
        newest = entryIndex
    }

    /// All indices of a collection in a bucket.
    private func deferRange(_ bucket: BucketID, _ collection: CollectionID) {
        keyBuffer.removeAll()
        NativeKeyLayout.appendPrefix(bucket, collection, into: &keyBuffer)
        endBuffer.removeAll()
        NativeKeyLayout.appendPrefix(bucket, collection, index: .max, into: &endBuffer)
        deferred.append(.deleteRange(keyBuffer.readable.bytes, endBuffer.readable.bytes))
    }

    /// Puts out all activations of the databases, pending ones too: the flush undoes what they hold.
    private func forget(_ databases: Range<Int>) {
        dirty.keep { !databases.contains(Int($0.database)) }
        pending.keep { !databases.contains(Int($0.database)) }
        for activation in ring.filter({ databases.contains(Int($0.database)) }) { remove(activation) }
    }
}
