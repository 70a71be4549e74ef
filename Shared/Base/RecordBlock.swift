/// A block of bytes that is checked as a whole, and the records that may lie in it: how files of snapshots and of
/// backups are made.
///
///     block    length u32, CRC-32C of the body u32, body
///     record   key (varint length, bytes), value (varint length, bytes)
///
/// Little-endian. It is on disk: change it by a new version of the files.
package enum RecordBlock {
    package static let headerSize = 8

    /// What stands before a body.
    package struct Header: Hashable, Sendable {
        package let length: UInt32
        package let checksum: UInt32

        /// The header of `body`.
        package init(of body: ByteView) {
            length = UInt32(truncatingIfNeeded: body.count)
            checksum = CRC32C.checksum(body)
        }

        /// Reads a header; nil when it is cut.
        package init?(_ reader: inout ByteReader) {
            guard let length: UInt32 = reader.littleEndian(), let checksum: UInt32 = reader.littleEndian() else {
                return nil
            }
            (self.length, self.checksum) = (length, checksum)
        }

        package func append(to buffer: inout ByteBuffer) {
            buffer.append(littleEndian: length)
            buffer.append(littleEndian: checksum)
        }

        /// Whether `body` is what the header was made for.
        package func fits(_ body: ByteView) -> Bool {
            body.count == Int(length) && CRC32C.checksum(body) == checksum
        }
    }

    /// Appends a record to a body.
    package static func append(_ key: ByteView, _ value: ByteView, to body: inout ByteBuffer) {
        body.append(varint: UInt64(key.count))
        body.append(key)
        body.append(varint: UInt64(value.count))
        body.append(value)
    }

    /// The next record of a body; nil when it is cut.
    package static func next(_ reader: inout ByteReader) -> (key: ByteView, value: ByteView)? {
        guard let key = reader.delimited(), let value = reader.delimited() else { return nil }
        return (key, value)
    }
}
