import Base

/// How a value lies in the store: its bytes, and behind them the commit timestamp, u64 little-endian.
enum StoredValue {
    /// Bytes of the timestamp.
    static let suffix = 8

    /// Value and timestamp of what the store holds; nil if that is too short to be one.
    @inline(__always)
    static func split(_ stored: ByteView) -> (value: ByteView, timestamp: Timestamp)? {
        guard stored.count >= suffix else { return nil }
        let end = stored.count &- suffix
        let timestamp = stored.loadUnaligned(fromByteOffset: end, as: UInt64.self)
        return (ByteView(rebasing: stored[..<end]), Timestamp(rawValue: UInt64(littleEndian: timestamp)))
    }

    static let damaged = StoreError(.corruption, "a record without a commit timestamp")
}
