import Base

extension CollectionID {
    /// Versions of records that are no longer the newest.
    @inlinable package static var systemHistory: CollectionID { CollectionID(rawValue: 19) }
}

/// Where the store keeps superseded versions of a record: beside the data of its bucket, so that they move with it.
///
///     key   bucket u16 | collection u32 = 19 | index u8 = 0 | key of the record, escaped | until u64, big-endian
///
/// Escaped: a byte 00 becomes 00 ff, and 00 01 ends it, so that these keys lie in the order of the records, and one
/// record's in the order of time. `until` is the timestamp at which the newest version under the key was superseded.
/// (A key of less than two bytes, which no record has, lies in the bucket that zeros complete it to.)
package enum HistoryKey {
    /// Bytes in front of the escaped key.
    private static let prefixSize = 7
    private static let untilSize = 8

    /// Appends the key of the versions of `record` that were superseded by `until`.
    package static func append(_ record: ByteView, until: Timestamp, into buffer: inout ByteBuffer) {
        appendPrefix(of: record, into: &buffer)
        buffer.append(bigEndian: until.rawValue)
    }

    /// Appends what all keys of the history of `record` begin with.
    package static func appendPrefix(of record: ByteView, into buffer: inout ByteBuffer) {
        appendPosition(of: record, into: &buffer)
        buffer.append(0 as UInt8)
        buffer.append(1 as UInt8)
    }

    /// Appends where the history of `record` ends.
    package static func appendPrefixEnd(of record: ByteView, into buffer: inout ByteBuffer) {
        appendPosition(of: record, into: &buffer)
        buffer.append(0 as UInt8)
        buffer.append(2 as UInt8)
    }

    /// Appends a bound: the history of records at or behind `record` in its bucket lies behind it, that of records
    /// before it lies before.
    package static func appendPosition(of record: ByteView, into buffer: inout ByteBuffer) {
        buffer.reserve(record.count * 2 + 24)
        appendStart(bucket(of: record), into: &buffer)
        for byte in record {
            buffer.append(byte)
            if byte == 0 { buffer.append(0xff as UInt8) }
        }
    }

    /// Appends where the history of a bucket begins.
    package static func appendStart(_ bucket: UInt16, into buffer: inout ByteBuffer) {
        buffer.append(bigEndian: bucket)
        buffer.append(bigEndian: CollectionID.systemHistory.rawValue)
        buffer.append(0 as UInt8)
    }

    /// Appends where the history of a bucket ends.
    package static func appendEnd(_ bucket: UInt16, into buffer: inout ByteBuffer) {
        buffer.append(bigEndian: bucket)
        buffer.append(bigEndian: CollectionID.systemHistory.rawValue)
        buffer.append(1 as UInt8)
    }

    /// The bucket of any record's key.
    package static func bucket(of key: ByteView) -> UInt16 {
        let high = key.count > 0 ? UInt16(key[0]) : 0, low = key.count > 1 ? UInt16(key[1]) : 0
        return high << 8 | low
    }

    /// Whether a key of the store is one of these.
    @inline(__always)
    package static func isHistory(_ key: ByteView) -> Bool {
        // Read as the bytes 00 00 00 13 of the collection, then the index.
        key.count >= prefixSize && key[5] == 19 && key[2] == 0 && key[3] == 0 && key[4] == 0 && key[6] == 0
    }

    /// Appends the record's key to `record`, and returns `until`; nil for a damaged key.
    package static func parse(_ key: ByteView, record: inout ByteBuffer) -> Timestamp? {
        guard isHistory(key) else { return nil }
        var position = prefixSize
        while position < key.count {
            let byte = key[position]
            position += 1
            guard byte == 0 else {
                record.append(byte)
                continue
            }
            guard position < key.count else { return nil }
            let mark = key[position]
            position += 1
            switch mark {
            case 0xff: record.append(0 as UInt8)
            case 1: return until(ByteView(rebasing: key[position...]))
            case _: return nil
            }
        }
        return nil
    }

    /// `until` of a whole key, without a look at the rest of it.
    package static func until(of key: ByteView) -> Timestamp? {
        guard isHistory(key), key.count >= prefixSize + 2 + untilSize else { return nil }
        return until(ByteView(rebasing: key[(key.count - untilSize)...]))
    }

    private static func until(_ tail: ByteView) -> Timestamp? {
        var reader = ByteReader(tail)
        guard let until: UInt64 = reader.bigEndian(), reader.isAtEnd else { return nil }
        return Timestamp(rawValue: until)
    }

    /// Whether versions of the record are kept. Not of records that nobody reads as of the past: garbage, the order of
    /// expiry, outcomes of tokens, parts of transactions, and what is not in any bucket.
    package static func isKept(_ key: ByteView) -> Bool {
        guard key.count >= prefixSize else { return true }
        guard key[0] != 0xff || key[1] != 0xff else { return false }
        guard key[2] == 0, key[3] == 0, key[4] == 0 else { return true }
        let collection = CollectionID(rawValue: UInt32(key[5]))
        if collection == .redisKeys { return key[6] == 0 }
        return collection != .redisGarbage && collection != .systemOutcomes && collection != .systemTransactions
            && collection != .systemHistory
    }
}
