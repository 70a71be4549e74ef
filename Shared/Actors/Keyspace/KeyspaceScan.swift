import Base
import Contracts
import DataModel

// SCAN, KEYS, RANDOMKEY: the committed keys of a bucket in hash order, with what is pending laid over them. A cursor
// is a bucket and a hash, so it needs no state, and a key that exists all the time is met whatever else comes and
// goes.

/// A key that a scan met.
struct ScannedKey {
    let hash: UInt32
    let key: ByteView
    let type: Activation.Kind
    let isVisible: Bool
}

extension ActorRuntime {
    /// Calls `body` with the keys of a database in a bucket from a hash on, in the order of (hash, key), until it
    /// answers false. Keys whose time has come are shown as not visible. `body` must not look up keys.
    func scanKeys(
        _ bucket: Int, _ database: UInt8, from hash: UInt32, _ body: (ScannedKey) -> Bool
    ) throws(DatabaseError) {
        let id = BucketID(rawValue: UInt16(truncatingIfNeeded: bucket))
        let overlay = overlay(id, database, from: hash)
        var next = 0
        var isStopped = false
        func show(_ activation: Activation) {
            guard activation.kind != .absent else { return }
            activation.key.withUnsafeBytes { key in
                isStopped = !body(
                    ScannedKey(
                        hash: activation.hash, key: key, type: activation.kind, isVisible: activation.isVisible(at: now)
                    ))
            }
        }
        if flushIndex[Int(database)] <= committed {
            keyBuffer.removeAll()
            NativeKeyLayout.appendRecordPosition(id, database: database, hash: hash, into: &keyBuffer)
            endBuffer.removeAll()
            NativeKeyLayout.appendDatabase(id, database: database, into: &endBuffer)
            NativeKeyLayout.makeRangeEnd(&endBuffer)
            var isDamaged = false
            let now = now
            try reader.scan(from: keyBuffer.readable, to: endBuffer.readable) { stored, value in
                guard case .record(_, _, let hash, let key)? = NativeKey(parsing: stored),
                    let record = KeyspaceRecord(decoding: value)
                else {
                    isDamaged = true
                    return false
                }
                while next < overlay.count, !isStopped, precedes(overlay[next], hash, key) {
                    show(overlay[next])
                    next += 1
                }
                guard !isStopped else { return false }
                if next < overlay.count, overlay[next].hash == hash,
                    overlay[next].key.withUnsafeBytes({ $0.equals(key) })
                {
                    show(overlay[next])
                    next += 1
                } else {
                    isStopped = !body(
                        ScannedKey(
                            hash: hash, key: key, type: record.type == .string ? .string : .hash,
                            isVisible: record.isVisible(atMilliseconds: now)))
                }
                return !isStopped
            }
            guard !isDamaged else { throw Failure.damaged }
        } else {
            newest = max(newest, flushIndex[Int(database)])
        }
        while next < overlay.count, !isStopped {
            show(overlay[next])
            next += 1
        }
    }

    /// The activations that hide what the store shows, in order; the call depends on them.
    private func overlay(_ bucket: BucketID, _ database: UInt8, from hash: UInt32) -> [Activation] {
        var found: [Activation] = []
        pending.forEach { activation in
            guard activation.bucket == bucket, activation.database == database, activation.hash >= hash else { return }
            found.append(activation)
            newest = max(newest, activation.pendingIndex)
        }
        found.sort { left, right in right.key.withUnsafeBytes { precedes(left, right.hash, $0) } }
        return found
    }

    // MARK: Commands

    func scan(_ call: ActorCallView, _ reply: Reply) throws(DatabaseError) {
        var cursor = try keyspaceCursor(call.numbers[0])
        let count = Int(max(1, min(call.numbers[1], Int64(limits.scanCount))))
        let hasPattern = call.flags & 1 != 0
        let pattern = hasPattern ? GlobPattern(call.arguments[0]) : nil
        if hasPattern, let named = try namedCollection(ofPattern: call) {
            return try scanNamed(call, named, cursor, count: count, reply)
        }
        var wanted: Activation.Kind?
        if call.flags & 2 != 0 {
            let name = call.arguments[hasPattern ? 1 : 0]
            wanted = kind(named: name) ?? .absent
        }
        try loadCounters()
        newest = max(newest, counters.changedIndex[Int(call.database)])
        var found: [FoundKey] = []
        var seen = 0
        while let position = cursor, buckets.contains(Int(position.bucket.rawValue)) {
            let bucket = Int(position.bucket.rawValue)
            var last: UInt32?
            var isFull = false
            if mayHaveKeys(bucket, call.database) {
                try scanKeys(bucket, call.database, from: position.hash) { item in
                    // Keys of one hash are met together, or the cursor could not tell them apart.
                    if seen >= count, item.hash != last {
                        isFull = true
                        return false
                    }
                    seen += 1
                    last = item.hash
                    if item.isVisible, wanted == nil || wanted == item.type, pattern?.matches(item.key) ?? true {
                        found.append(FoundKey(bucket: position.bucket, hash: item.hash, key: item.key.bytes))
                    }
                    return true
                }
            }
            if isFull, let last {
                cursor = ScanCursor(bucket: position.bucket, hash: last).next(bucketCount: bucketCount)
                break
            }
            cursor = ScanCursor(bucket: position.bucket, hash: .max).next(bucketCount: bucketCount)
            if seen >= count { break }
        }
        // Buckets behind the shard's last belong to another: its gateway takes the cursor there.
        if call.flags & 4 != 0 { return try describe(found, before: cursor, call, reply) }
        reply.beginList()
        reply.item(Bytes(String(cursor?.rawValue ?? 0).utf8))
        for item in found { reply.item(item.key) }
        reply.encoder.endList()
    }

    /// 0 begins at the shard's first bucket.
    private func keyspaceCursor(_ number: Int64) throws(DatabaseError) -> ScanCursor? {
        guard number != 0 else {
            return ScanCursor(bucket: BucketID(rawValue: UInt16(truncatingIfNeeded: buckets.lowerBound)), hash: 0)
        }
        guard let cursor = ScanCursor(rawValue: UInt64(bitPattern: number)) else { throw Failure.cursor }
        guard Int(cursor.bucket.rawValue) < bucketCount else { return nil }
        guard buckets.contains(Int(cursor.bucket.rawValue)) else { throw Failure.otherShard }
        return cursor
    }

    func kind(named name: ByteView) -> Activation.Kind? {
        for (type, kind) in [(NativeType.string, Activation.Kind.string), (.hash, .hash)] {
            let text = type.name
            let spelled = ByteView(start: text.utf8Start, count: text.utf8CodeUnitCount)
            if name.count == spelled.count, zip(name, spelled).allSatisfy({ $0 | 32 == $1 }) { return kind }
        }
        return nil
    }

    func keys(_ call: ActorCallView, _ reply: Reply) throws(DatabaseError) {
        let pattern = GlobPattern(call.arguments[0])
        if let named = try namedCollection(ofPattern: call) { return try namedKeys(call, named, reply) }
        try loadCounters()
        newest = max(newest, counters.changedIndex[Int(call.database)])
        var found: [Bytes] = []
        var size = 0
        for bucket in buckets where mayHaveKeys(bucket, call.database) {
            try scanKeys(bucket, call.database, from: 0) { item in
                if item.isVisible, pattern.matchesAll || pattern.matches(item.key) {
                    found.append(item.key.bytes)
                    size += item.key.count + 16
                }
                return size <= limits.replyBytes
            }
            guard size <= limits.replyBytes else { throw Failure.replyTooLarge }
        }
        reply.beginList()
        for key in found { reply.item(key) }
        reply.encoder.endList()
    }

    func randomKey(_ call: ActorCallView, _ reply: Reply) throws(DatabaseError) {
        try loadCounters()
        let database = Int(call.database)
        newest = max(newest, counters.changedIndex[database])
        let total = counters.totals[database]
        guard total > 0 || !hasExactCounters else { return reply.null() }
        // A bucket by its number of keys, a hash in it, and the first key from there on, around the bucket and the
        // others.
        var rest = Int64(random.next(below: UInt64(max(total, 1))))
        var first = buckets.lowerBound
        for bucket in buckets {
            first = bucket
            rest -= counters.count(bucket, database)
            if rest < 0 { break }
        }
        var start = UInt32(truncatingIfNeeded: random.next())
        for step in 0...buckets.count {
            let bucket = buckets.lowerBound + (first - buckets.lowerBound + step) % buckets.count
            for hash in step == 0 ? [start, 0] : [0] where mayHaveKeys(bucket, call.database) {
                var found: Bytes?
                try scanKeys(bucket, call.database, from: hash) { item in
                    if item.isVisible { found = item.key.bytes }
                    return found == nil
                }
                if let found { return reply.data(found) }
            }
            start = 0
        }
        reply.null()
    }
}

/// Whether an activation comes before a key in a scan.
private func precedes(_ activation: Activation, _ hash: UInt32, _ key: ByteView) -> Bool {
    guard activation.hash == hash else { return activation.hash < hash }
    return activation.key.withUnsafeBytes { $0.lexicographicallyPrecedes(key) }
}
