import Base

/// How a record of a collection is called, locked and stored.
///
///     in a call, a lock, in memory   database 255, key = collection u32 | encoded primary key (`KeyEncoding`)
///     in the store                   bucket u16 | collection u32 | index u8 = 0 | encoded primary key → `RowRecord`
///     when it expires                bucket u16 | collection u32 = 25 | index u8 = 0 | time in ms u64 | key as above
///
/// All integers are big-endian. The bucket is that of the slot of the encoded primary key; every byte of that counts.
/// Example: the row 42 of collection 16385 is called 00004001 192a; in bucket 5 it lies under 0005 00004001 00 192a.
package enum RowKey {
    /// What `database` is in a call for records of collections; those of Redis keys are below 16.
    @inlinable package static var database: UInt8 { CollectionID.callDatabase }
    /// Bytes before the encoded primary key.
    @inlinable package static var prefixSize: Int { 4 }

    /// The collection that a key names; nil for what is no key of a record.
    @inlinable package static func collection(of key: ByteView) -> CollectionID? {
        guard key.count > prefixSize else { return nil }
        return collection(prefix: key)
    }

    /// The collection whose id the bytes begin with; nil if clients cannot have such a one.
    @inlinable package static func collection(prefix bytes: ByteView) -> CollectionID? {
        var reader = ByteReader(bytes)
        guard let number = reader.bigEndian(UInt32.self), number >= CollectionID.firstUnreserved.rawValue else {
            return nil
        }
        return CollectionID(rawValue: number)
    }

    /// The encoded primary key.
    @inlinable package static func primaryKey(of key: ByteView) -> ByteView {
        ByteView(rebasing: key[min(prefixSize, key.count)...])
    }

    /// The key as it is called.
    package static func make(_ collection: CollectionID, primaryKey: ByteView) -> Bytes {
        var buffer = ByteBuffer(capacity: prefixSize + primaryKey.count)
        buffer.append(bigEndian: collection.rawValue)
        buffer.append(primaryKey)
        return buffer.readable.bytes
    }

    /// Appends where the store has the record of a key as it is called.
    @inlinable package static func append(_ bucket: BucketID, key: ByteView, into buffer: inout ByteBuffer) {
        buffer.reserve(key.count + 3)
        buffer.append(bigEndian: bucket.rawValue)
        buffer.append(ByteView(rebasing: key[..<min(prefixSize, key.count)]))
        buffer.append(0 as UInt8)
        buffer.append(primaryKey(of: key))
    }

    /// The collection and primary key of a record's place in the store; nil for other keys.
    package static func parse(_ stored: ByteView) -> (bucket: BucketID, collection: CollectionID, primaryKey: ByteView)?
    {
        var reader = ByteReader(stored)
        guard let bucket = reader.bigEndian(UInt16.self), Int(bucket) < Slot.count,
            let number = reader.bigEndian(UInt32.self), number >= CollectionID.firstUnreserved.rawValue,
            reader.byte() == 0, !reader.isAtEnd
        else { return nil }
        return (BucketID(rawValue: bucket), CollectionID(rawValue: number), reader.rest)
    }

    /// Appends the entry of the expiry index.
    package static func appendExpiry(
        _ bucket: BucketID, atMilliseconds expiresAt: UInt64, key: ByteView, into buffer: inout ByteBuffer
    ) {
        NativeKeyLayout.appendPrefix(bucket, .systemRowExpiry, into: &buffer)
        buffer.append(bigEndian: expiresAt)
        buffer.append(key)
    }

    /// The time and the key of an entry of the expiry index.
    package static func parseExpiry(_ entry: ByteView) -> (time: UInt64, key: ByteView)? {
        var reader = ByteReader(entry)
        guard reader.bigEndian(UInt16.self) != nil,
            reader.bigEndian(UInt32.self) == CollectionID.systemRowExpiry.rawValue, reader.byte() == 0,
            let time = reader.bigEndian(UInt64.self), collection(of: reader.rest) != nil
        else { return nil }
        return (time, reader.rest)
    }
}

extension CollectionID {
    /// When records of collections expire.
    @inlinable package static var systemRowExpiry: CollectionID { CollectionID(rawValue: 25) }
}

extension Slot {
    /// The slot of a key of a database, or of a record of a collection.
    @inline(__always)
    package static func of(_ database: UInt8, _ key: ByteView) -> Slot {
        database == RowKey.database ? ofPartition(RowKey.primaryKey(of: key)) : of(key)
    }
}

extension NativeKeyLayout {
    /// Where the store has the record of a key of a database, or of a record of a collection.
    package static func appendRecord(
        slotOf database: UInt8, _ key: ByteView, bucketCount: Int, into buffer: inout ByteBuffer
    ) {
        let bucket = Slot.of(database, key).bucket(of: bucketCount)
        if database == RowKey.database {
            RowKey.append(bucket, key: key, into: &buffer)
        } else {
            appendRecord(bucket, database: database, key: key, into: &buffer)
        }
    }
}

/// What the store has under a record's key: what is known of it, and in front of its fields, which are `payload`.
///
///     offset 0   format version (1)
///            1   flags: 1 it expires
///            2   updated: HLC timestamp of the last write, u64 LE
///           10   expiresAt: milliseconds since 1970, u64 LE; only if it expires
///      10 or 18  the fields (`RecordEncoding`)
package struct RowRecord: Hashable, Sendable {
    package var updated: Timestamp
    /// 0: never.
    package var expiresAtMilliseconds: UInt64

    private static let formatVersion: UInt8 = 1, expires: UInt8 = 1

    package init(updated: Timestamp, expiresAtMilliseconds: UInt64 = 0) {
        (self.updated, self.expiresAtMilliseconds) = (updated, expiresAtMilliseconds)
    }

    /// Visible at t if and only if t < expiresAt.
    package func isVisible(atMilliseconds time: UInt64) -> Bool {
        expiresAtMilliseconds == 0 || time < expiresAtMilliseconds
    }

    /// Appends the header; the payload follows it.
    package func encode(into buffer: inout ByteBuffer) {
        buffer.append(Self.formatVersion)
        buffer.append(expiresAtMilliseconds == 0 ? 0 : Self.expires)
        buffer.append(littleEndian: updated.rawValue)
        if expiresAtMilliseconds != 0 { buffer.append(littleEndian: expiresAtMilliseconds) }
    }

    /// Takes a stored value apart; nil when it is damaged or from a newer version.
    package static func decode(_ value: ByteView) -> (record: RowRecord, payload: ByteView)? {
        var reader = ByteReader(value)
        guard reader.byte() == formatVersion, let flags = reader.byte(), flags <= expires,
            let updated = reader.littleEndian(UInt64.self)
        else { return nil }
        var record = RowRecord(updated: Timestamp(rawValue: updated))
        if flags == expires {
            guard let time = reader.littleEndian(UInt64.self), time != 0 else { return nil }
            record.expiresAtMilliseconds = time
        }
        return (record, reader.rest)
    }
}
