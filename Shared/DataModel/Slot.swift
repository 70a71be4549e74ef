import Base

/// One of the 16 384 hash slots that records are spread over: CRC16 of the partition key, as in Redis Cluster.
///
/// For a Redis key the input is the part between the first `{` and the next `}`, when there is something between them,
/// and the whole key otherwise: `{user1}.cart` and `{user1}.name` share a slot. Slots are grouped into buckets,
/// buckets into shards.
@usableFromInline package struct Slot: Identifier {
    /// Less than `Slot.count`.
    @usableFromInline package let rawValue: UInt16

    @inlinable package init(rawValue: UInt16) { self.rawValue = rawValue & 16383 }

    @inlinable package static var count: Int { 16384 }

    /// The slot of a Redis key, its `{tag}` honoured.
    package static func of(_ key: ByteView) -> Slot { Slot(rawValue: CRC16.checksum(tag(of: key))) }

    /// The slot of an encoded partition key: every byte counts.
    package static func ofPartition(_ key: ByteView) -> Slot { Slot(rawValue: CRC16.checksum(key)) }

    /// The bucket that holds the slot in a cluster of `bucketCount` buckets (a power of two up to 16 384).
    @inlinable package func bucket(of bucketCount: Int) -> BucketID {
        BucketID(rawValue: UInt16(truncatingIfNeeded: Int(rawValue) &* bucketCount / Slot.count))
    }

    /// The part of a Redis key that decides its slot.
    static func tag(of key: ByteView) -> ByteView {
        guard let open = key.firstIndex(of: UInt8(ascii: "{")) else { return key }
        var close = open + 1
        while close < key.count, key[close] != UInt8(ascii: "}") { close += 1 }
        guard close < key.count, close > open + 1 else { return key }
        return ByteView(rebasing: key[(open + 1)..<close])
    }
}

extension BucketID {
    /// Buckets of a cluster unless it was created with another number.
    @inlinable package static var defaultCount: Int { 64 }
}
