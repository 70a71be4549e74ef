import Base
import DataModel

/// Superseded versions of one record, packed: the value of a `HistoryKey`.
///
///     version   u8 = 1
///     version*  gap varint: from the end of the version before (first: from 0) to its commit timestamp
///               life varint: from there to the timestamp at which it was superseded, not 0
///               value: varint length, bytes
///
/// Ascending, so the last one ends at the key's `until`. In a gap the record was absent.
enum HistoryRecord {
    static let formatVersion: UInt8 = 1
    /// A record is closed behind the version with which it has so many bytes.
    static let targetBytes = 32 << 10

    static let damaged = StoreError(.corruption, "a record of superseded versions is damaged")

    /// One version, alive at `timestamp <= t < until`.
    struct Version {
        let value: ByteView
        let timestamp: Timestamp
        let until: Timestamp
    }

    /// Reads the versions in ascending order; damage ends in an error.
    struct Reader {
        private var reader: ByteReader
        private var end: UInt64 = 0

        init(_ record: ByteView) throws(StoreError) {
            reader = ByteReader(record)
            guard reader.byte() == HistoryRecord.formatVersion else { throw HistoryRecord.damaged }
        }

        mutating func next() throws(StoreError) -> Version? {
            guard !reader.isAtEnd else { return nil }
            guard let gap = reader.varint(), let life = reader.varint(), life > 0, let value = reader.delimited() else {
                throw HistoryRecord.damaged
            }
            let (timestamp, isPast) = end.addingReportingOverflow(gap)
            let (until, isPastToo) = timestamp.addingReportingOverflow(life)
            guard !isPast, !isPastToo else { throw HistoryRecord.damaged }
            end = until
            return Version(value: value, timestamp: Timestamp(rawValue: timestamp), until: Timestamp(rawValue: until))
        }
    }

    /// The version of a record that was alive at a time, if it is in there.
    static func version(in record: ByteView, asOf time: Timestamp) throws(StoreError) -> Version? {
        var reader = try Reader(record)
        while let version = try reader.next() {
            if version.until > time { return version.timestamp <= time ? version : nil }
        }
        return nil
    }
}

/// Gathers versions for the batch of a flush: key by key, of a key in ascending order.
final class HistoryWriter {
    private(set) var batch = WriteBatch(capacity: 4096)
    private var value = ByteBuffer(capacity: 1024)
    private var key = ByteBuffer(capacity: 128)
    private var end = Timestamp.zero

    func add(_ version: HistoryRecord.Version, of record: ByteView) {
        if value.isEmpty {
            value.append(HistoryRecord.formatVersion)
            end = .zero
        }
        value.append(varint: version.timestamp.rawValue &- end.rawValue)
        value.append(varint: version.until.rawValue &- version.timestamp.rawValue)
        value.append(varint: UInt64(version.value.count))
        value.append(version.value)
        end = version.until
        if value.count >= HistoryRecord.targetBytes { finish(record) }
    }

    func reset() { batch.removeAll() }

    /// The record has no more.
    func finish(_ record: ByteView) {
        guard !value.isEmpty else { return }
        key.removeAll()
        HistoryKey.append(record, until: end, into: &key)
        batch.put(key.readable, value.readable)
        value.removeAll()
    }
}
