import Base

extension CollectionID {
    /// What a shard has of the catalog, and the collections that are gone whose records are not collected.
    @inlinable package static var systemSchema: CollectionID { CollectionID(rawValue: 24) }
}

/// Where a shard keeps the catalog: all of it in each of its buckets, so that a bucket that goes to another shard, or
/// is restored into another cluster, brings what its records mean.
///
///     version   bucket u16 | collection u32 = 24 | index u8 = 0                     → version of the catalog u64 LE
///     object    bucket u16 | collection u32 = 24 | index u8 = 0 | kind u8 | id u32  → the object
///     dropped   bucket u16 | collection u32 = 24 | index u8 = 1 | collection u32    → empty; its records can go
package enum SchemaKey {
    /// What an object is.
    package enum Kind: UInt8, CaseIterable, Sendable { case namespace = 0, collection = 1, role = 2 }

    /// Appends the key of the catalog's version; all others of the catalog begin with it.
    package static func appendVersion(_ bucket: BucketID, into buffer: inout ByteBuffer) {
        NativeKeyLayout.appendPrefix(bucket, .systemSchema, into: &buffer)
    }

    /// Appends the key of an object.
    package static func append(_ bucket: BucketID, _ kind: Kind, _ id: UInt32, into buffer: inout ByteBuffer) {
        NativeKeyLayout.appendPrefix(bucket, .systemSchema, into: &buffer)
        buffer.append(kind.rawValue)
        buffer.append(bigEndian: id)
    }

    /// Appends the key that says that a collection is gone.
    package static func appendDropped(
        _ bucket: BucketID, _ collection: CollectionID, into buffer: inout ByteBuffer
    ) {
        NativeKeyLayout.appendPrefix(bucket, .systemSchema, index: 1, into: &buffer)
        buffer.append(bigEndian: collection.rawValue)
    }

    /// The collection that such a key names.
    package static func parseDropped(_ key: ByteView) -> CollectionID? {
        var reader = ByteReader(key)
        guard reader.bigEndian(UInt16.self) != nil,
            reader.bigEndian(UInt32.self) == CollectionID.systemSchema.rawValue, reader.byte() == 1
        else { return nil }
        return RowKey.collection(prefix: reader.rest)
    }

    /// Whether a key is of the catalog.
    package static func isOfCatalog(_ key: ByteView) -> Bool {
        var reader = ByteReader(key)
        return reader.bigEndian(UInt16.self) != nil
            && reader.bigEndian(UInt32.self) == CollectionID.systemSchema.rawValue
    }
}
