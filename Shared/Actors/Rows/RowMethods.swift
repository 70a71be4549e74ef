import Base
import Contracts
import DataModel

// Records of collections: actors like the keys of Redis, in the same table of activations, with the same pending state,
// versions and expiry. Their fields are one value here; what it means is the caller's business.

extension ActorRuntime {
    /// The collection of a call for records, made by the version of its descriptor that the shard has.
    func admitRecords(_ call: ActorCallView) throws(DatabaseError) -> CollectionID {
        guard call.database == RowKey.database, let collection = RowKey.collection(of: call.key) else {
            throw Failure.noRecord
        }
        try checkSchema(collection, call.numbers[0])
        return collection
    }

    /// Another key of the call.
    private func admit(_ key: ByteView, in collection: CollectionID) throws(DatabaseError) {
        guard RowKey.collection(of: key) == collection else { throw Failure.noRecord }
    }

    func rowGet(_ call: ActorCallView, _ reply: Reply) throws(DatabaseError) {
        let collection = try admitRecords(call), isWithVersion = call.flags & 1 != 0
        reply.beginList()
        do throws(DatabaseError) {
            var size = 0
            try append(call.key, isWithVersion, reply, &size)
            for position in 0..<call.arguments.count {
                try admit(call.arguments[position], in: collection)
                try append(call.arguments[position], isWithVersion, reply, &size)
            }
        } catch {
            reply.encoder.cancelList()
            throw error
        }
        reply.encoder.endList()
    }

    private func append(
        _ key: ByteView, _ isWithVersion: Bool, _ reply: Reply, _ size: inout Int
    ) throws(DatabaseError) {
        let found = try activation(RowKey.database, key)
        size &+= found.bytes.count &+ 16
        guard size <= limits.replyBytes else { throw Failure.replyTooLarge }
        if isWithVersion { reply.encoder.listInteger(Int64(bitPattern: version(of: found))) }
        if found.isVisible(at: now) { reply.item(found.bytes) } else { reply.encoder.listNull() }
    }

    func rowPut(_ call: ActorCallView, _ reply: Reply) throws(DatabaseError) {
        let collection = try admitRecords(call), arguments = call.arguments
        let flags = RowPutFlags(rawValue: call.flags)
        guard arguments.count % 2 == 1 else { throw Failure.syntax }
        // All are looked up before the first is put: an error leaves nothing half done.
        var found: [Activation] = [], size = 0
        for position in stride(from: 0, to: arguments.count, by: 2) {
            let key = position == 0 ? call.key : arguments[position - 1]
            try admit(key, in: collection)
            guard arguments[position].count <= limits.valueBytes else { throw Failure.recordTooLong }
            size &+= arguments[position].count &+ 3 &* key.count &+ 128
            try allowEffects(size)
            found.append(try writable(RowKey.database, key))
        }
        let isDone = !flags.contains(.whole) || mayPutAll(found, flags)
        reply.beginList()
        for (position, item) in found.enumerated() {
            let isPut = isDone && mayPut(item, flags)
            reply.encoder.listInteger(!isPut ? 0 : item.kind == .absent ? 1 : 2)
            if isPut {
                if flags.contains(.lasting) { item.expiresAt = 0 }
                put(arguments[2 * position], at: item)
            }
            if flags.contains(.tellsExpiry) { reply.encoder.listInteger(Int64(clamping: item.expiresAt)) }
        }
        reply.encoder.endList()
    }

    private func mayPut(_ item: Activation, _ flags: RowPutFlags) -> Bool {
        item.kind == .absent ? !flags.contains(.update) : !flags.contains(.insert)
    }

    /// A key that comes twice is there the second time.
    private func mayPutAll(_ found: [Activation], _ flags: RowPutFlags) -> Bool {
        if flags.contains(.insert), found.count > 1, Set(found.map { ObjectIdentifier($0) }).count < found.count {
            return false
        }
        return found.allSatisfy { mayPut($0, flags) }
    }

    /// Gives a record its fields. When it expires stays as it is.
    func put(_ record: ByteView, at item: Activation) {
        if item.kind == .absent {
            item.kind = .row
            item.expiresAt = 0
        }
        item.bytes = Bytes(record)
        changed(item, bytes: record.count)
    }

    func rowDelete(_ call: ActorCallView, _ reply: Reply) throws(DatabaseError) {
        let collection = try admitRecords(call)
        var found = [try writable(RowKey.database, call.key)]
        for position in 0..<call.arguments.count {
            try admit(call.arguments[position], in: collection)
            found.append(try writable(RowKey.database, call.arguments[position]))
        }
        reply.beginList()
        for item in found {
            reply.encoder.listInteger(item.kind == .absent ? 0 : 1)
            drop(item)
        }
        reply.encoder.endList()
    }
}

// MARK: - Reading and writing the store

extension ActorRuntime {
    /// Reads a record from the store, or notes that it is not there; the caller puts it into the table.
    func makeRow(_ key: ByteView) throws(DatabaseError) -> Activation {
        guard RowKey.collection(of: key) != nil else { throw Failure.noRecord }
        let bucket = Slot.of(RowKey.database, key).bucket(of: bucketCount)
        guard buckets.contains(Int(bucket.rawValue)) else {
            throw key.baseAddress == callKey ? Failure.otherShard : Failure.crossShard
        }
        let fresh = Activation(
            database: RowKey.database, bucket: bucket, hash: NativeKeyLayout.hash32(key), key: Bytes(key))
        keyBuffer.removeAll()
        RowKey.append(bucket, key: key, into: &keyBuffer)
        guard let stored = try reader.get(keyBuffer.readable) else {
            fresh.updated = absences.time(RowKey.database, fresh.hash)
            return fresh
        }
        let isWhole = stored.withUnsafeBytes { view in
            guard let (record, payload) = RowRecord.decode(view) else { return false }
            fresh.kind = .row
            fresh.updated = record.updated
            fresh.expiresAt = record.expiresAtMilliseconds
            fresh.bytes = Bytes(payload)
            return true
        }
        guard isWhole else { throw Failure.damaged }
        fresh.storedExpiry = fresh.expiresAt
        fresh.isRecordStored = true
        return fresh
    }

    func writeRow(_ activation: Activation, _ key: ByteView, _ sink: some EffectSink) {
        keyBuffer.removeAll()
        RowKey.append(activation.bucket, key: key, into: &keyBuffer)
        guard activation.kind != .absent else {
            sink.delete(key: keyBuffer.readable)
            activation.isRecordStored = false
            return
        }
        valueBuffer.removeAll()
        RowRecord(updated: activation.updated, expiresAtMilliseconds: activation.expiresAt).encode(into: &valueBuffer)
        valueBuffer.append(activation.bytes)
        sink.put(key: keyBuffer.readable, value: valueBuffer.readable)
        activation.isRecordStored = true
    }
}
