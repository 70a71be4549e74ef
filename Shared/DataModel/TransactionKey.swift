import Base

extension CollectionID {
    /// What a shard remembers of transactions over several shards.
    @inlinable package static var systemTransactions: CollectionID { CollectionID(rawValue: 18) }
}

/// Where a shard keeps what it knows of its part of a transaction: one record, whose value says how far it is.
///
///     key   bucket u16 | collection u32 = 18 | index u8 = 0 | transaction u64 | slot u16, big-endian
///
/// The bucket is that of the part's slot, so that the record moves with the data that the part changes.
package enum TransactionKey {
    /// Appends the key of a part.
    package static func append(_ bucket: BucketID, transaction: UInt64, slot: Slot, into buffer: inout ByteBuffer) {
        appendPrefix(bucket, into: &buffer)
        buffer.append(bigEndian: transaction)
        buffer.append(bigEndian: slot.rawValue)
    }

    /// The prefix of all records of a bucket.
    package static func appendPrefix(_ bucket: BucketID, into buffer: inout ByteBuffer) {
        NativeKeyLayout.appendPrefix(bucket, .systemTransactions, into: &buffer)
    }

    /// Transaction and slot of a key; nil if it is none of a part.
    package static func parse(_ key: ByteView) -> (transaction: UInt64, slot: Slot)? {
        var reader = ByteReader(key)
        guard reader.bigEndian(UInt16.self) != nil,
            reader.bigEndian(UInt32.self) == CollectionID.systemTransactions.rawValue, reader.byte() == 0,
            let transaction: UInt64 = reader.bigEndian(), let slot: UInt16 = reader.bigEndian(),
            Int(slot) < Slot.count, reader.isAtEnd
        else { return nil }
        return (transaction, Slot(rawValue: slot))
    }
}
