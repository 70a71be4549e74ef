import Base
import Contracts
import DataModel

// The catalog of a shard: a copy in each of its buckets, changed by transactions over all shards.

extension ActorRuntime {
    /// The catalog that the call was made by, which must be the shard's.
    private func admitCatalog(_ call: ActorCallView) throws(DatabaseError) -> Catalog {
        guard call.database == RowKey.database, call.numbers.count >= 2 else { throw Failure.syntax }
        let catalog = try readCatalog()
        guard UInt64(bitPattern: call.numbers[1]) == catalog.version else { throw Failure.staleSchema }
        guard call.numbers[0] > call.numbers[1], call.numbers[1] >= 0 else { throw Failure.syntax }
        return catalog
    }

    func schemaPut(_ call: ActorCallView, _ reply: Reply) throws(DatabaseError) {
        let catalog = try admitCatalog(call)
        var changes: [CatalogChange] = [], ids = ByteBuffer(capacity: 64), size = 0
        for position in 0..<call.arguments.count {
            let object = try CatalogObject(decoding: call.arguments[position])
            if case .collection(let collection) = object {
                guard collection.id >= .firstUnreserved else { throw Failure.noCollection }
                ids.append(bigEndian: collection.id.rawValue)
            }
            changes.append(.put(object))
            size &+= call.arguments[position].count &+ 96
        }
        // What is not named is not locked.
        guard !changes.isEmpty, ids.readable.equals(call.key) else { throw Failure.noCollection }
        try allowEffects(size &* buckets.count)
        if SchemaPutFlags(rawValue: call.flags).contains(.statistics) { try admitStatistics(changes, catalog) }
        let version = UInt64(bitPattern: call.numbers[0])
        for bucket in buckets {
            let id = BucketID(rawValue: UInt16(truncatingIfNeeded: bucket))
            for (position, change) in changes.enumerated() {
                guard case .put(let object) = change else { continue }
                appendKey(of: object, id)
                deferred.append(.put(keyBuffer.readable.bytes, call.arguments[position].bytes))
            }
            putVersion(version, id)
        }
        entryBytes &+= size &* buckets.count
        change(catalog, changes, version)
        reply.ok()
    }

    /// Nothing but statistics may differ: the collections are not locked.
    private func admitStatistics(_ changes: [CatalogChange], _ catalog: Catalog) throws(DatabaseError) {
        for change in changes {
            guard case .put(.collection(var fresh)) = change, let known = catalog.collection(fresh.id) else {
                throw Failure.staleSchema
            }
            fresh.statistics = known.statistics
            guard fresh == known else { throw Failure.staleSchema }
        }
    }

    private func appendKey(of object: CatalogObject, _ bucket: BucketID) {
        keyBuffer.removeAll()
        switch object {
        case .namespace(let namespace):
            SchemaKey.append(bucket, .namespace, namespace.id.rawValue, into: &keyBuffer)
        case .collection(let collection):
            SchemaKey.append(bucket, .collection, collection.id.rawValue, into: &keyBuffer)
        case .role(let role): SchemaKey.append(bucket, .role, role.id.rawValue, into: &keyBuffer)
        }
    }

    private func putVersion(_ version: UInt64, _ bucket: BucketID) {
        keyBuffer.removeAll()
        SchemaKey.appendVersion(bucket, into: &keyBuffer)
        valueBuffer.removeAll()
        valueBuffer.append(littleEndian: version)
        deferred.append(.put(keyBuffer.readable.bytes, valueBuffer.readable.bytes))
    }

    func schemaDrop(_ call: ActorCallView, _ reply: Reply) throws(DatabaseError) {
        let catalog = try admitCatalog(call)
        var ids = ByteReader(call.key), changes: [CatalogChange] = []
        while let number = ids.bigEndian(UInt32.self) {
            let isThere: Bool
            switch call.flags & 3 {
            case 1:
                isThere = catalog.namespaces[NamespaceID(rawValue: number)] != nil
                changes.append(.dropNamespace(NamespaceID(rawValue: number)))
            case 2:
                isThere = catalog.roles[RoleID(rawValue: number)] != nil
                changes.append(.dropRole(RoleID(rawValue: number)))
            case _:
                isThere = catalog.collection(CollectionID(rawValue: number)) != nil
                changes.append(.dropCollection(CollectionID(rawValue: number)))
            }
            guard isThere else { throw Failure.noCollection }
        }
        guard ids.isAtEnd, !changes.isEmpty else { throw Failure.noCollection }
        let size = 128 &* changes.count &* buckets.count
        try allowEffects(size)
        let version = UInt64(bitPattern: call.numbers[0])
        for bucket in buckets {
            let id = BucketID(rawValue: UInt16(truncatingIfNeeded: bucket))
            for change in changes { remove(change, id) }
            putVersion(version, id)
        }
        entryBytes &+= size
        change(catalog, changes, version)
        mayHaveGarbage = true
        garbageIndex = entryIndex
        reply.ok()
    }

    /// A collection's records stay until nobody can read them in the past either.
    private func remove(_ change: CatalogChange, _ bucket: BucketID) {
        keyBuffer.removeAll()
        switch change {
        case .put: return
        case .dropNamespace(let id): SchemaKey.append(bucket, .namespace, id.rawValue, into: &keyBuffer)
        case .dropRole(let id): SchemaKey.append(bucket, .role, id.rawValue, into: &keyBuffer)
        case .dropCollection(let id):
            SchemaKey.append(bucket, .collection, id.rawValue, into: &keyBuffer)
            endBuffer.removeAll()
            SchemaKey.appendDropped(bucket, id, into: &endBuffer)
            deferred.append(.put(endBuffer.readable.bytes, []))
        }
        deferred.append(.delete(keyBuffer.readable.bytes))
    }

    private func change(_ before: Catalog, _ changes: [CatalogChange], _ version: UInt64) {
        var catalog = before
        for change in changes {
            catalog.apply(change, version: version)
            if isScope { schema.changes.append((schema.statement, change, version)) }
        }
        schema.forget()
        schema.catalog = catalog
        schema.index = entryIndex
        newest = entryIndex
    }

    func schemaRead(_ call: ActorCallView, _ reply: Reply) throws(DatabaseError) {
        guard call.database == RowKey.database else { throw Failure.syntax }
        let catalog = try readCatalog()
        reply.beginList()
        reply.encoder.listInteger(Int64(clamping: catalog.version))
        if call.numbers[0] != Int64(clamping: catalog.version) {
            for role in catalog.roles.values { reply.item(CatalogObject.role(role).encode()) }
        }
        if call.numbers[0] != Int64(clamping: catalog.version), call.flags & 1 == 0 {
            for namespace in catalog.namespaces.values { reply.item(CatalogObject.namespace(namespace).encode()) }
            for collection in catalog.collections.values { reply.item(CatalogObject.collection(collection).encode()) }
        }
        reply.encoder.endList()
    }

    // MARK: What dropped collections leave

    /// Removes the records of up to `limit` collections that are gone, bucket by bucket, where no past shows them any
    /// more. Returns how many; `isWaiting` says whether there are others.
    func collectDropped(limit: Int, isWaiting: inout Bool) throws(DatabaseError) -> Int {
        guard try hasCollections() else { return 0 }
        var found: [(bucket: BucketID, collection: CollectionID, key: Bytes)] = []
        for bucket in buckets where found.count < limit {
            let id = BucketID(rawValue: UInt16(truncatingIfNeeded: bucket))
            keyBuffer.removeAll()
            NativeKeyLayout.appendPrefix(id, .systemSchema, index: 1, into: &keyBuffer)
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
            try reader.scanSettled(from: keyBuffer.readable, to: endBuffer.readable) { key, _ in
                if let collection = SchemaKey.parseDropped(key) { found.append((id, collection, key.bytes)) }
                return found.count < limit
            }
        }
        for item in found {
            keyBuffer.removeAll()
            NativeKeyLayout.appendPrefix(item.bucket, item.collection, into: &keyBuffer)
            endBuffer.removeAll()
            NativeKeyLayout.appendPrefix(item.bucket, item.collection, index: .max, into: &endBuffer)
            NativeKeyLayout.makeRangeEnd(&endBuffer)
            deferred.append(.collectRange(keyBuffer.readable.bytes, endBuffer.readable.bytes))
            deferred.append(.delete(item.key))
            entryBytes &+= 128
            statistics.collectedGenerations &+= 1
            collectIndex = entryIndex
        }
        return found.count
    }
}

extension DeferredEffect {
    /// It is none of a key of Redis, or tells what has happened to one: it stays when all keys go.
    var isOfRecords: Bool {
        switch self {
        case .note: return true
        case .put(let key, _), .delete(let key), .deleteRange(let key, _), .collectRange(let key, _):
            return key.withUnsafeBytes { view in
                var reader = ByteReader(view)
                guard reader.bigEndian(UInt16.self) != nil, let number = reader.bigEndian(UInt32.self) else {
                    return false
                }
                let id = CollectionID(rawValue: number)
                return id >= .firstUnreserved || id == .systemSchema || id == .systemRowExpiry
            }
        }
    }
}
