import Base
import DataModel

// Which keys are in memory. Activations are put out by a clock: a hand goes round the ring and puts out what was not
// used since it last passed. That is LRU to within one round, and a use costs two stores into the activation; a
// linked list would write to three neighbours, each a cache miss.

extension ActorRuntime {
    /// The activation of a key, made when there is none, and noted as observed by the call.
    @inline(__always) func activation(_ database: UInt8, _ key: ByteView) throws(DatabaseError) -> Activation {
        lookupKey.removeAll()
        lookupKey.append(database)
        lookupKey.append(key)
        if let slot = table.index(of: lookupKey.readable) {
            let found = table.value(at: slot)
            found.isReferenced = true
            found.lastUsed = now
            statistics.hits &+= 1
            if found.pendingIndex > newest { newest = found.pendingIndex }
            return found
        }
        return try activate(database, key)
    }

    /// The activation of a key that exists for readers, or nil.
    @inline(__always) func visible(_ database: UInt8, _ key: ByteView) throws(DatabaseError) -> Activation? {
        let found = try activation(database, key)
        return found.isVisible(at: now) ? found : nil
    }

    /// The activation of a key that the call is about to change. If its time has come it is removed first, so that the
    /// expiry comes before the new write.
    @inline(__always) func writable(_ database: UInt8, _ key: ByteView) throws(DatabaseError) -> Activation {
        if !counters.isLoaded { try loadCounters() }
        let found = try activation(database, key)
        if found.expiresAt != 0, found.expiresAt <= now { expireNow(found) }
        return found
    }

    func expireNow(_ activation: Activation) {
        guard activation.kind != .absent else { return }
        statistics.expiredKeys &+= 1
        if isRecording { activation.key.withUnsafeBytes { record([.expired], activation.database, $0) } }
        // The time of the last change stays: that the time has come is no change of its own (`KeyVersions`).
        let updated = activation.updated
        drop(activation)
        activation.updated = updated
    }

    /// The string of a key for readers; nil if there is no such key, an error if it is of another type.
    @inline(__always) func readableString(_ database: UInt8, _ key: ByteView) throws(DatabaseError) -> Activation? {
        guard let found = try visible(database, key) else { return nil }
        guard found.kind == .string else { throw Failure.wrongType }
        return found
    }

    /// The activation of a key that holds a string or nothing, about to be changed.
    @inline(__always) func writableString(_ database: UInt8, _ key: ByteView) throws(DatabaseError) -> Activation {
        let found = try writable(database, key)
        guard found.kind != .hash else { throw Failure.wrongType }
        return found
    }

    /// Reads a key from the store, or notes that it is not there.
    private func activate(_ database: UInt8, _ key: ByteView) throws(DatabaseError) -> Activation {
        statistics.misses &+= 1
        guard key.count <= limits.keyBytes else { throw Failure.keyTooLong }
        guard Int(database) < KeyCounters.databases else {
            guard database == RowKey.database else { throw Failure.database }
            let fresh = try makeRow(key)
            admit(fresh)
            return fresh
        }
        let bucket = Slot.of(key).bucket(of: bucketCount)
        guard buckets.contains(Int(bucket.rawValue)) else {
            throw key.baseAddress == callKey ? Failure.otherShard : Failure.crossShard
        }
        let fresh = Activation(
            database: database, bucket: bucket, hash: NativeKeyLayout.hash32(key), key: Bytes(key))
        let flushed = flushIndex[Int(database)]
        if flushed > committed {
            // What the store shows is gone, and who asks depends on that.
            fresh.pendingIndex = flushed
            if flushed > newest { newest = flushed }
        } else {
            keyBuffer.removeAll()
            NativeKeyLayout.appendRecordPosition(bucket, database: database, hash: fresh.hash, into: &keyBuffer)
            keyBuffer.append(key)
            if let stored = try reader.get(keyBuffer.readable) { try load(stored, into: fresh) }
        }
        if fresh.kind == .absent { fresh.updated = absences.time(database, fresh.hash) }
        admit(fresh)
        return fresh
    }

    private func admit(_ activation: Activation) {
        statistics.activations &+= 1
        // What is absent has to be asked for twice before it outlives a round of the hand.
        activation.isReferenced = activation.kind != .absent
        activation.lastUsed = now
        activation.activeSince = UInt32(truncatingIfNeeded: now / 1000)
        activation.position = ring.count
        ring.append(activation)
        lookupKey.removeAll()
        lookupKey.append(activation.database)
        lookupKey.append(activation.key)
        table.insert(key: lookupKey.readable, activation)
        activation.charged = activation.cost
        memoryUsed += activation.charged
    }

    /// Charges what the activation takes now.
    @inline(__always) func recharge(_ activation: Activation) {
        let cost = activation.cost
        memoryUsed &+= cost &- activation.charged
        activation.charged = cost
    }

    /// Takes an activation out of memory.
    func remove(_ activation: Activation) {
        absences.note(activation)
        lookupKey.removeAll()
        lookupKey.append(activation.database)
        lookupKey.append(activation.key)
        table.remove(lookupKey.readable)
        memoryUsed -= activation.charged
        let last = ring.removeLast()
        if last !== activation {
            ring[activation.position] = last
            last.position = activation.position
        }
    }

    /// Memory for activations, in bytes. What is over it goes a few at a time, with the calls that come.
    package var memoryLimit: Int {
        get { limits.memoryBytes }
        set {
            limits.memoryBytes = newValue
            if !recordsEvents { attentionMark = newValue }
        }
    }

    func mayLeave(_ activation: Activation) -> Bool {
        !activation.isDirty && !activation.isPending && activation.pendingIndex <= committed
    }

    /// Moves the hand by up to `steps`, putting out what was not used, until memory is within its budget.
    func evict(steps: Int) {
        var left = min(steps, 2 * ring.count)
        while left > 0, memoryUsed > limits.memoryBytes, !ring.isEmpty {
            left -= 1
            if hand >= ring.count { hand = 0 }
            let candidate = ring[hand]
            if candidate.isReferenced {
                candidate.isReferenced = false
                hand += 1
            } else if mayLeave(candidate) {
                statistics.evictions &+= 1
                remove(candidate)
            } else {
                hand += 1
            }
        }
    }

    /// Puts out what is over the budget, and what was idle too long, looking at `limit` activations; for a timer.
    /// Returns how many it put out. Between calls only: activations of a call being evaluated stay.
    @discardableResult package func sweep(now: UInt64, limit: Int = 1024) -> Int {
        let before = ring.count
        evict(steps: limit)
        var left = min(limit, ring.count)
        while left > 0, !ring.isEmpty {
            left -= 1
            if hand >= ring.count { hand = 0 }
            let candidate = ring[hand]
            let idle = now >= candidate.lastUsed ? now - candidate.lastUsed : 0
            if idle >= limits.idleMilliseconds, mayLeave(candidate) {
                statistics.deactivations &+= 1
                remove(candidate)
            } else {
                hand += 1
            }
        }
        return before - ring.count
    }
}

// MARK: - Reading records

extension ActorRuntime {
    private func load(_ stored: Bytes, into fresh: Activation) throws(DatabaseError) {
        guard let record = stored.withUnsafeBytes({ KeyspaceRecord(decoding: $0) }) else { throw Failure.damaged }
        fresh.generation = record.generation
        fresh.updated = record.updated
        fresh.expiresAt = record.expiresAtMilliseconds
        fresh.storedExpiry = record.expiresAtMilliseconds
        fresh.isRecordStored = true
        fresh.isRaw = record.flags & Self.rawFlag != 0
        switch record.type {
        case .string where record.isChunked:
            fresh.kind = .string
            fresh.hasStoredParts = true
            fresh.bytes = try loadChunks(fresh, count: record.count)
        case .string:
            fresh.kind = .string
            fresh.bytes = Bytes(stored[KeyspaceRecord.headerSize...])
        case .hash:
            fresh.kind = .hash
            fresh.hasStoredParts = true
            fresh.fields = try loadFields(fresh, count: record.count)
        }
    }

    /// A flag of string records: `Activation.isRaw`. The data model defines bit 0.
    static var rawFlag: UInt8 { 2 }

    private func loadChunks(_ fresh: Activation, count: UInt64) throws(DatabaseError) -> Bytes {
        // The limit may have been lowered since; what was stored is still read, but no damaged length is believed.
        guard count <= UInt64(max(limits.valueBytes, 64 << 20)) else { throw Failure.damaged }
        var bytes = Bytes(repeating: 0, count: Int(count))
        keyBuffer.removeAll()
        NativeKeyLayout.appendGeneration(fresh.bucket, .redisStrings, fresh.generation, into: &keyBuffer)
        endBuffer.removeAll()
        endBuffer.append(keyBuffer.readable)
        NativeKeyLayout.makeRangeEnd(&endBuffer)
        var isDamaged = false
        try reader.scan(from: keyBuffer.readable, to: endBuffer.readable) { key, value in
            guard case .stringChunk(_, _, let chunk)? = NativeKey(parsing: key) else {
                isDamaged = true
                return false
            }
            let start = Int(chunk) * KeyspaceRecord.chunkSize
            guard start < bytes.count, value.count <= KeyspaceRecord.chunkSize else {
                isDamaged = true
                return false
            }
            // A chunk is as long as the string was when it was written last; beyond it the string has zeros.
            let length = min(value.count, bytes.count - start)
            bytes.withUnsafeMutableBytes { target in
                UnsafeMutableRawBufferPointer(rebasing: target[start..<start + length])
                    .copyMemory(from: ByteView(rebasing: value[..<length]))
            }
            return true
        }
        guard !isDamaged else { throw Failure.damaged }
        return bytes
    }

    private func loadFields(_ fresh: Activation, count: UInt64) throws(DatabaseError) -> HashState {
        let state = HashState()
        guard count <= UInt64(Int32.max) else { throw Failure.damaged }
        state.count = Int(count)
        state.isLarge = count > 128
        state.isComplete = state.count <= limits.completeFields
        guard state.isComplete else { return state }
        try scanStoredFields(fresh.bucket, fresh.generation, from: 0) { _, name, value in
            let slot = state.fields.slot(for: name) { HashField() }
            state.assign(value, at: slot)
            state.fields.withValue(at: slot) { $0.isStored = true }
            return true
        }
        guard state.fields.count == state.count else { throw Failure.damaged }
        return state
    }

    /// Walks the committed fields of a generation from a hash on.
    func scanStoredFields(
        _ bucket: BucketID, _ generation: Timestamp, from hash: UInt32, _ body: (UInt32, ByteView, ByteView) -> Bool
    ) throws(DatabaseError) {
        keyBuffer.removeAll()
        NativeKeyLayout.appendHashPosition(bucket, generation: generation, hash: hash, into: &keyBuffer)
        endBuffer.removeAll()
        NativeKeyLayout.appendGeneration(bucket, .redisHashes, generation, into: &endBuffer)
        NativeKeyLayout.makeRangeEnd(&endBuffer)
        var isDamaged = false
        try reader.scan(from: keyBuffer.readable, to: endBuffer.readable) { key, value in
            guard case .hashField(_, _, let hash, let name)? = NativeKey(parsing: key) else {
                isDamaged = true
                return false
            }
            return body(hash, name, value)
        }
        guard !isDamaged else { throw Failure.damaged }
    }
}
