import Base
import DataModel

/// An effect that does not follow from an activation.
enum DeferredEffect {
    case put(Bytes, Bytes)
    case delete(Bytes)
    case deleteRange(Bytes, Bytes)
    case collectRange(Bytes, Bytes)
    /// Events of keys; none: those that the runtime has recorded.
    case note(Bytes)
}

// MARK: - Changing values

extension ActorRuntime {
    /// Declares a key changed by the call; `bytes` is what the change adds to the entry, besides the record's header.
    @inline(__always) func changed(_ activation: Activation, bytes: Int) {
        activation.pendingIndex = entryIndex
        activation.updated = stamp
        newest = entryIndex
        entryBytes &+= bytes
        if !activation.isDirty {
            activation.isDirty = true
            dirty.append(activation)
            entryBytes &+= 128 &+ 3 &* activation.keyCount
        }
        if !activation.isPending {
            activation.isPending = true
            pending.append(activation)
        }
        recharge(activation)
    }

    /// The generation of a new value: the call's timestamp, made unique when a call makes several.
    func makeGeneration() -> Timestamp {
        lastGeneration = max(stamp, Timestamp(rawValue: lastGeneration.rawValue &+ 1))
        return lastGeneration
    }

    /// Makes a key that was absent.
    func create(_ activation: Activation, _ kind: Activation.Kind) {
        counters.add(1, activation.bucket, activation.database, entryIndex)
        activation.kind = kind
        activation.generation = makeGeneration()
        activation.expiresAt = 0
        activation.isRaw = false
    }

    /// Makes a key absent.
    func drop(_ activation: Activation) {
        guard activation.kind != .absent else { return }
        retireParts(activation)
        if activation.kind != .row { counters.add(-1, activation.bucket, activation.database, entryIndex) }
        clear(activation)
        changed(activation, bytes: 0)
    }

    private func clear(_ activation: Activation) {
        activation.kind = .absent
        activation.bytes = []
        activation.fields = nil
        activation.expiresAt = 0
        activation.isRaw = false
        activation.dirtyChunks.removeAll()
    }

    /// Gives a key a new string value; type, sub-records and expiry of the old one go.
    @inline(__always) func setString(_ activation: Activation, _ value: ByteView) {
        prepareString(activation)
        activation.expiresAt = 0
        if activation.bytes.count == value.count {
            activation.editBytes { bytes in
                bytes.withUnsafeMutableBytes { if value.count > 0 { $0.copyMemory(from: value) } }
            }
        } else {
            activation.bytes = Bytes(value)
        }
        finishString(activation)
    }

    func setString(_ activation: Activation, _ value: consuming Bytes) {
        prepareString(activation)
        activation.expiresAt = 0
        activation.bytes = value
        finishString(activation)
    }

    /// The same for a value that is computed from the old one: the expiry stays.
    func replaceString(_ activation: Activation, _ value: consuming Bytes) {
        prepareString(activation)
        activation.bytes = value
        finishString(activation)
    }

    @inline(__always) private func prepareString(_ activation: Activation) {
        if activation.kind == .absent {
            create(activation, .string)
        } else if activation.hasStoredParts || activation.kind == .hash {
            retireParts(activation)
            activation.fields = nil
            activation.kind = .string
            activation.generation = makeGeneration()
        }
        activation.isRaw = false
    }

    @inline(__always) private func finishString(_ activation: Activation) {
        if activation.bytes.count > KeyspaceRecord.inlineLimit || !activation.dirtyChunks.isEmpty {
            activation.dirtyChunks.removeAll()
            if activation.isChunked { activation.dirtyChunks.insert(bytes: 0..<activation.bytes.count) }
        }
        changed(activation, bytes: activation.bytes.count)
    }

    /// Refuses a call that would make the entry too large; before anything is changed.
    @inline(__always) func allowEffects(_ bytes: Int) throws(DatabaseError) {
        guard bytes <= limits.callBytes else { throw Failure.callTooLarge }
    }

    // MARK: Sub-records of values that are gone

    /// Sees to it that the stored sub-records of the value go: few at once, many through a garbage record.
    func retireParts(_ activation: Activation) {
        guard activation.hasStoredParts else { return }
        activation.hasStoredParts = false
        let bucket = activation.bucket, generation = activation.generation
        if let fields = activation.fields {
            if fields.isComplete, fields.fields.count <= 64 {
                fields.fields.forEach { name, field in
                    guard field.isStored else { return }
                    deferDelete {
                        NativeKeyLayout.appendHashField(bucket, generation: generation, field: name, into: &$0)
                    }
                }
            } else {
                leaveGarbage(bucket, generation, GarbageRecord(type: .hash, count: UInt64(fields.count)))
            }
            return
        }
        let chunks = activation.bytes.count / KeyspaceRecord.chunkSize + 1
        if chunks <= 16 {
            for chunk in 0..<UInt32(chunks) {
                deferDelete {
                    NativeKeyLayout.appendStringChunk(bucket, generation: generation, chunk: chunk, into: &$0)
                }
            }
        } else {
            leaveGarbage(bucket, generation, GarbageRecord(type: .string, count: UInt64(activation.bytes.count)))
        }
    }

    private func deferDelete(_ build: (inout ByteBuffer) -> Void) {
        keyBuffer.removeAll()
        build(&keyBuffer)
        entryBytes += keyBuffer.count + 16
        deferred.append(.delete(keyBuffer.readable.bytes))
    }

    func leaveGarbage(_ bucket: BucketID, _ generation: Timestamp, _ record: GarbageRecord) {
        keyBuffer.removeAll()
        NativeKeyLayout.appendGeneration(bucket, .redisGarbage, generation, into: &keyBuffer)
        valueBuffer.removeAll()
        record.encode(into: &valueBuffer)
        entryBytes += 64
        mayHaveGarbage = true
        garbageIndex = entryIndex
        deferred.append(.put(keyBuffer.readable.bytes, valueBuffer.readable.bytes))
    }

    // MARK: The effects of an entry

    /// Writes the effects of the entry being built, and begins the next one. False if there are none: nothing to
    /// propose.
    @discardableResult package func finishEntry(_ sink: some EffectSink) -> Bool {
        guard hasEffects else { return false }
        for effect in deferred {
            switch effect {
            case .put(let key, let value):
                key.withUnsafeBytes { key in value.withUnsafeBytes { sink.put(key: key, value: $0) } }
            case .delete(let key):
                key.withUnsafeBytes { sink.delete(key: $0) }
            case .deleteRange(let from, let to):
                from.withUnsafeBytes { from in to.withUnsafeBytes { sink.deleteRange(from: from, to: $0) } }
            case .collectRange(let from, let to):
                from.withUnsafeBytes { from in to.withUnsafeBytes { sink.collectRange(from: from, to: $0) } }
            case .note: break
            }
        }
        deferred.removeAll()
        if !eventBuffer.isEmpty {
            sink.note(eventBuffer.readable)
            eventBuffer.removeAll()
            eventBuffer.trim(to: 64 << 10)
        }
        dirty.forEach { activation in
            activation.isDirty = false
            activation.key.withUnsafeBytes { key in
                writeRecord(activation, key, sink)
                writeExpiry(activation, key, sink)
            }
        }
        dirty.removeAll(keepingCapacity: true)
        writeCounters(sink)
        entryBytes = 0
        return true
    }

    /// Writes the counters that have changed.
    func writeCounters(_ sink: some EffectSink) {
        counters.drainChanges { bucket, database, count in
            keyBuffer.removeAll()
            NativeKeyLayout.appendCounter(bucket, database: database, into: &keyBuffer)
            valueBuffer.removeAll()
            valueBuffer.append(littleEndian: count)
            sink.put(key: keyBuffer.readable, value: valueBuffer.readable)
        }
    }

    private func writeRecord(_ activation: Activation, _ key: ByteView, _ sink: some EffectSink) {
        // A key that an open transaction has made and removed again: at commit its version must not be as before.
        guard activation.kind != .absent || activation.isRecordStored || isScope else { return }
        if activation.database == RowKey.database { return writeRow(activation, key, sink) }
        keyBuffer.removeAll()
        NativeKeyLayout.appendRecordPosition(
            activation.bucket, database: activation.database, hash: activation.hash, into: &keyBuffer)
        keyBuffer.append(key)
        let isString = activation.kind == .string
        guard activation.kind != .absent else {
            sink.delete(key: keyBuffer.readable)
            activation.isRecordStored = false
            return
        }
        let isChunked = activation.isChunked
        let record = KeyspaceRecord(
            type: isString ? .string : .hash,
            flags: (isChunked ? KeyspaceRecord.chunked : 0) | (activation.isRaw ? Self.rawFlag : 0),
            updated: activation.updated, generation: activation.generation,
            expiresAtMilliseconds: activation.expiresAt,
            count: UInt64(clamping: isString ? (isChunked ? activation.bytes.count : 0) : activation.fields?.count ?? 0)
        )
        valueBuffer.removeAll()
        record.encode(into: &valueBuffer)
        if isString, !isChunked { valueBuffer.append(activation.bytes) }
        sink.put(key: keyBuffer.readable, value: valueBuffer.readable)
        activation.isRecordStored = true
        if isChunked {
            writeChunks(activation, sink)
        } else if let fields = activation.fields {
            writeFields(activation, fields, sink)
        }
    }

    private func writeChunks(_ activation: Activation, _ sink: some EffectSink) {
        activation.bytes.withUnsafeBytes { bytes in
            activation.dirtyChunks.forEach { chunk in
                let start = chunk * KeyspaceRecord.chunkSize
                guard start < bytes.count else { return }
                keyBuffer.removeAll()
                NativeKeyLayout.appendStringChunk(
                    activation.bucket, generation: activation.generation, chunk: UInt32(chunk), into: &keyBuffer)
                let end = min(start + KeyspaceRecord.chunkSize, bytes.count)
                sink.put(key: keyBuffer.readable, value: ByteView(rebasing: bytes[start..<end]))
                activation.hasStoredParts = true
            }
        }
        activation.dirtyChunks.removeAll()
    }

    private func writeFields(_ activation: Activation, _ state: HashState, _ sink: some EffectSink) {
        for name in state.dirty {
            name.withUnsafeBytes { name in
                guard let slot = state.fields.index(of: name) else { return }
                keyBuffer.removeAll()
                NativeKeyLayout.appendHashField(
                    activation.bucket, generation: activation.generation, field: name, into: &keyBuffer)
                state.fields.withValue(at: slot) { field in
                    field.isDirty = false
                    if field.isPresent {
                        field.value.withUnsafeBytes { sink.put(key: keyBuffer.readable, value: $0) }
                    } else if field.isStored {
                        sink.delete(key: keyBuffer.readable)
                    }
                    field.isStored = field.isPresent
                }
                activation.hasStoredParts = true
            }
        }
        state.dirty.removeAll(keepingCapacity: state.dirty.count <= 1024)
        state.settleIfDue(committed)
    }

    private func writeExpiry(_ activation: Activation, _ key: ByteView, _ sink: some EffectSink) {
        guard activation.storedExpiry != activation.expiresAt else { return }
        if activation.storedExpiry != 0 {
            setExpiryKey(activation, activation.storedExpiry, key)
            sink.delete(key: keyBuffer.readable)
        }
        if activation.expiresAt != 0 {
            setExpiryKey(activation, activation.expiresAt, key)
            sink.put(key: keyBuffer.readable, value: ByteView(start: nil, count: 0))
        }
        activation.storedExpiry = activation.expiresAt
        if activation.expiresAt != 0 { earliestExpiry = min(earliestExpiry, activation.expiresAt) }
    }

    private func setExpiryKey(_ activation: Activation, _ time: UInt64, _ key: ByteView) {
        keyBuffer.removeAll()
        if activation.database == RowKey.database {
            RowKey.appendExpiry(activation.bucket, atMilliseconds: time, key: key, into: &keyBuffer)
        } else {
            NativeKeyLayout.appendExpiry(
                activation.bucket, atMilliseconds: time, database: activation.database, key: key, into: &keyBuffer)
        }
    }
}
