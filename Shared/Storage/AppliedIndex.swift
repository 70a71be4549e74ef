import Base

/// The record that says how far a shard's log has been applied to the store.
///
/// Key: FF FF FF FF (no data key begins so: a bucket is at most 16383), shard u32 big-endian. Value: version u8 = 1,
/// index u64 little-endian.
enum AppliedIndex {
    /// The end of all data keys.
    static let prefix = Bytes(repeating: 0xff, count: 4)

    static func key(_ shard: ShardID) -> Bytes {
        var key = prefix
        withUnsafeBytes(of: shard.rawValue.bigEndian) { key.append(contentsOf: $0) }
        return key
    }

    static func put(_ shard: ShardID, _ index: LogIndex, into batch: inout WriteBatch) {
        var value: Bytes = [1]
        withUnsafeBytes(of: index.rawValue.littleEndian) { value.append(contentsOf: $0) }
        batch.put(key(shard), value)
    }

    static func read(_ shard: ShardID, from store: any Store) throws(StoreError) -> LogIndex {
        try decode(shard, try store.get(key(shard)))
    }

    static func read(_ shard: ShardID, from view: any StoreView) throws(StoreError) -> LogIndex {
        try decode(shard, try view.get(key(shard)))
    }

    private static func decode(_ shard: ShardID, _ found: Bytes?) throws(StoreError) -> LogIndex {
        guard let found else { return .zero }
        let index: UInt64? = found.withUnsafeBytes {
            var reader = ByteReader($0)
            guard reader.byte() == 1, let index = reader.littleEndian(UInt64.self), reader.isAtEnd else { return nil }
            return index
        }
        guard let index else {
            throw StoreError(
                .corruption, "shard \(shard): the record of the applied index is damaged or newer than this Orbit")
        }
        return LogIndex(rawValue: index)
    }
}
