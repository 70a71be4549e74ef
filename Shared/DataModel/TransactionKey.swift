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
///
/// What a part changes may be more than an entry of the log holds. Then it lies in pieces, under keys of their own:
///
///     bucket u16 | collection u32 = 18 | index u8 = 1 | transaction u64 | slot u16 | number u32, big-endian
///
/// While such a part is being applied, the shard's first bucket has a mark: index u8 = 2, and nothing behind it.
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

    /// Appends the key of a part's piece.
    package static func append(
        piece number: UInt32, _ bucket: BucketID, transaction: UInt64, slot: Slot, into buffer: inout ByteBuffer
    ) {
        appendPieces(of: transaction, slot, bucket, into: &buffer)
        buffer.append(bigEndian: number)
    }

    /// The prefix of all pieces of a part.
    package static func appendPieces(
        of transaction: UInt64, _ slot: Slot, _ bucket: BucketID, into buffer: inout ByteBuffer
    ) {
        appendPiecePrefix(bucket, into: &buffer)
        buffer.append(bigEndian: transaction)
        buffer.append(bigEndian: slot.rawValue)
    }

    /// The prefix of all pieces of a bucket.
    package static func appendPiecePrefix(_ bucket: BucketID, into buffer: inout ByteBuffer) {
        NativeKeyLayout.appendPrefix(bucket, .systemTransactions, index: 1, into: &buffer)
    }

    /// The mark of a shard with this first bucket: a part is half applied.
    package static func appendMark(_ bucket: BucketID, into buffer: inout ByteBuffer) {
        NativeKeyLayout.appendPrefix(bucket, .systemTransactions, index: 2, into: &buffer)
    }

    /// Transaction and slot of the key of a piece; nil if it is none.
    package static func parsePiece(_ key: ByteView) -> (transaction: UInt64, slot: Slot)? {
        var reader = ByteReader(key)
        guard reader.bigEndian(UInt16.self) != nil,
            reader.bigEndian(UInt32.self) == CollectionID.systemTransactions.rawValue, reader.byte() == 1,
            let transaction: UInt64 = reader.bigEndian(), let slot: UInt16 = reader.bigEndian(),
            Int(slot) < Slot.count, reader.bigEndian(UInt32.self) != nil, reader.isAtEnd
        else { return nil }
        return (transaction, Slot(rawValue: slot))
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
