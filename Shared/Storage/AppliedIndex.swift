import Base

/// The record that says how far a shard's log has been applied to the store, and how far the past can be read there.
///
/// Key: FF FF FF FF (no data key begins so: a bucket is at most 16383), shard u32 big-endian. Value: version u8 = 2,
/// then little-endian: index u64, history floor u64, newest commit timestamp u64.
struct AppliedIndex: Hashable, Sendable {
    /// The end of all data keys.
    static let prefix = Bytes(repeating: 0xff, count: 4)
    /// 1: values had no commit timestamp.
    private static let formatVersion: UInt8 = 2

    var index = LogIndex.zero
    /// Nothing of the time before can be read.
    var floor = Timestamp.zero
    /// The newest commit timestamp of what is in the store.
    var newest = Timestamp.zero

    static func key(_ shard: ShardID) -> Bytes {
        var key = prefix
        withUnsafeBytes(of: shard.rawValue.bigEndian) { key.append(contentsOf: $0) }
        return key
    }

    func put(_ shard: ShardID, into batch: inout WriteBatch) {
        var value = ByteBuffer(capacity: 32)
        value.append(Self.formatVersion)
        value.append(littleEndian: index.rawValue)
        value.append(littleEndian: floor.rawValue)
        value.append(littleEndian: newest.rawValue)
        batch.put(Self.key(shard), value.readable.bytes)
    }

    static func read(_ shard: ShardID, from store: any Store) throws(StoreError) -> AppliedIndex {
        try decode(shard, try store.get(key(shard)))
    }

    static func read(_ shard: ShardID, from view: any StoreView) throws(StoreError) -> AppliedIndex {
        try decode(shard, try view.get(key(shard)))
    }

    private static func decode(_ shard: ShardID, _ found: Bytes?) throws(StoreError) -> AppliedIndex {
        guard let found else { return AppliedIndex() }
        let applied: AppliedIndex? = found.withUnsafeBytes {
            var reader = ByteReader($0)
            guard reader.byte() == formatVersion, let index: UInt64 = reader.littleEndian(),
                let floor: UInt64 = reader.littleEndian(), let newest: UInt64 = reader.littleEndian(), reader.isAtEnd
            else { return nil }
            return AppliedIndex(
                index: LogIndex(rawValue: index), floor: Timestamp(rawValue: floor),
                newest: Timestamp(rawValue: newest))
        }
        guard let applied else {
            throw StoreError(
                .corruption, "shard \(shard): the record of the applied index is damaged or of another version")
        }
        return applied
    }
}
