import Base
import Storage

/// Up to where timestamps may have been given to writes of a shard, as a record of it: a new leader begins above.
///
/// Key: FF FF FF FE, shard u32 big-endian (no data key begins so). Value: version u8 = 1, timestamp u64 little-endian;
/// or, while somebody listens to what commands do to keys, version u8 = 2, and behind the timestamp, u64 little-endian,
/// until when that is to be recorded, in milliseconds since 1970: the next leader goes on with it.
enum ClockBoundRecord {
    /// How far ahead of the newest timestamp the bound is set: how long a successor may have to wait, and half the time
    /// between two of these records under load.
    static let aheadMilliseconds: UInt64 = 400

    static func key(_ shard: ShardID) -> Bytes {
        var buffer = ByteBuffer(capacity: 64)
        buffer.append(bigEndian: UInt32(0xFFFF_FFFE))
        buffer.append(bigEndian: shard.rawValue)
        return buffer.readable.bytes
    }

    static func put(_ bound: Timestamp, shard: ShardID, eventsUntil: UInt64, into effects: EffectBuffer) {
        var value = ByteBuffer(capacity: 64)
        value.append(UInt8(eventsUntil == 0 ? 1 : 2))
        value.append(littleEndian: bound.rawValue)
        if eventsUntil != 0 { value.append(littleEndian: eventsUntil) }
        key(shard).withUnsafeBytes { effects.put(key: $0, value: value.readable) }
    }

    /// The bound that the shard's store holds; zero for a new shard.
    static func read(_ shard: ShardID, from store: ShardStore) throws(StoreError) -> Timestamp {
        var found: Bytes?
        try key(shard).withView { (key: ByteView) throws(StoreError) in found = try store.get(key) }
        guard let found else { return .zero }
        guard let bound = found.withUnsafeBytes({ decode($0) }) else {
            throw StoreError(.corruption, "shard \(shard): the record of the clock's bound is damaged")
        }
        return bound
    }

    /// Until when the shard's store wants events to be recorded; 0 if it does not say.
    static func eventsUntil(_ shard: ShardID, from store: ShardStore) throws(StoreError) -> UInt64 {
        var found: Bytes?
        try key(shard).withView { (key: ByteView) throws(StoreError) in found = try store.get(key) }
        guard let found else { return 0 }
        return found.withUnsafeBytes { value in
            var reader = ByteReader(value)
            guard reader.byte() == 2, let _: UInt64 = reader.littleEndian() else { return 0 }
            return reader.littleEndian() ?? 0
        }
    }

    /// The bound in a record of the shard's log; nil if it is another record.
    static func decode(_ key: ByteView, _ value: ByteView, _ shard: ShardID) -> Timestamp? {
        key.elementsEqual(Self.key(shard)) ? decode(value) : nil
    }

    private static func decode(_ value: ByteView) -> Timestamp? {
        var reader = ByteReader(value)
        guard let version = reader.byte(), version == 1 || version == 2, let bound: UInt64 = reader.littleEndian()
        else { return nil }
        return Timestamp(rawValue: bound)
    }
}
