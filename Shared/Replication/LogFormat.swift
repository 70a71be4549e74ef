import Base
import Raft

/// The bytes of the log on disk, format 1. All integers are little-endian; all checksums are CRC-32C.
///
///     segment   segment-<sequence, 16 hex digits>.log, written with zeros to its full size before its first use
///     header    64 bytes: "ORBITLOG", format u16 = 1, u16 0, u32 0, sequence u64, salt u64, size u64,
///               u64 0 ×2, u32 0, CRC u32 over the 60 bytes before
///     batch*    from offset 64, each at a multiple of 8; behind the last one there are only zeros
///
///     batch     header of 48 bytes, records, zeros up to a multiple of 8
///       0  tag u32        the lower half of the segment's salt
///       4  format u16     1
///       6  flags u16      1: the log was cut before this batch, and its shards may lack their ends; else 0
///       8  length u32     of the records, without the zeros behind them
///      12  count u32      of the records
///      16  sequence u64   one more than the batch before, across segments
///      24  synced segment u64 ┐ up to here the log was durable when this batch was written:
///      32  synced offset u32  ┘ damage below it is no torn write
///      36  chain u32      the header CRC of the batch before: a leftover of an earlier life never fits
///      40  body CRC u32   over the records
///      44  header CRC u32 over the 44 bytes before, starting from the upper half of the salt
///
///     record    payload length u32, format u8 = 1, kind u8, flags u16 0, shard u32, term u64, index u64, payload
///       entry         (kind 1) payload: the shard's own
///       hardState     (kind 2) payload: voted u8 (0, 1), node u32; term = the current one, index 0
///       mark          (kind 3) payload: first needed segment u64; the shard's log begins behind (term, index)
///       empty         (kind 4) the entry that a leader begins its term with; no payload
///       configuration (kind 5) an entry that changes the membership; payload: `Membership.encoded`
///       membership    (kind 6) payload: the membership in force from `index` on, as far as entries do not change it
///       restart       (kind 7) what the log held of the shard is void; it begins behind (term, index); no payload
///       installing    (kind 8) payload: the membership of a snapshot at (term, index) that is about to replace the
///                     store
///       cut           (kind 9) payload: u8, 1: the shard's replica may lack its log's end, 0: it has caught up since
///       removed       (kind 10) the replica is gone: what the log held of the shard is void, but for its hard state;
///                     (term, index) is where its log ended; payload: the driver's own, what is to be deleted
///       floor         (kind 11) as (term, index) of `removed`, when the replica is here again; no payload
///
/// The salt is random per segment, so that no value a client stores can be mistaken for a batch when recovery
/// searches the bytes behind a torn one. Batches, and so records, never straddle segments. Of two records of a shard
/// with the same index the later one holds, and what came between them is void (Raft replaces a suffix that was not
/// committed).
package enum LogFormat {
    /// Sizes of the headers, in bytes.
    package static let segmentHeaderSize = 64
    package static let batchHeaderSize = 48
    package static let recordHeaderSize = 28
    static let format: UInt16 = 1
    /// The largest payload of a record.
    package static let maximumPayload = 16 << 20

    static func aligned(_ count: Int) -> Int { (count + 7) & ~7 }

    // MARK: Segment header

    /// What a segment's file begins with.
    package struct SegmentHeader: Equatable {
        package var sequence: UInt64
        package var salt: UInt64
        package var size: UInt64

        package init(sequence: UInt64, salt: UInt64, size: UInt64) {
            self.sequence = sequence
            self.salt = salt
            self.size = size
        }

        var tag: UInt32 { UInt32(truncatingIfNeeded: salt) }
        var checksumSeed: UInt32 { UInt32(truncatingIfNeeded: salt >> 32) }

        /// Its 64 bytes.
        package func encode() -> Bytes {
            var buffer = ByteBuffer(capacity: 64)
            buffer.append("ORBITLOG" as StaticString)
            buffer.append(littleEndian: LogFormat.format)
            buffer.append(littleEndian: UInt16(0))
            buffer.append(littleEndian: UInt32(0))
            buffer.append(littleEndian: sequence)
            buffer.append(littleEndian: salt)
            buffer.append(littleEndian: size)
            buffer.append(littleEndian: UInt64(0))
            buffer.append(littleEndian: UInt64(0))
            buffer.append(littleEndian: UInt32(0))
            buffer.append(littleEndian: CRC32C.checksum(buffer.readable))
            return buffer.readable.bytes
        }

        /// What is wrong with it, in words, when it cannot be read.
        package static func decode(_ view: ByteView) -> Result<SegmentHeader, LogError> {
            var reader = ByteReader(view)
            guard let magic = reader.view(8), magic.elementsEqual("ORBITLOG".utf8) else {
                return .failure(LogError(.damaged, "it does not begin as a log segment"))
            }
            guard let format = reader.littleEndian(UInt16.self), reader.view(6) != nil,
                let sequence = reader.littleEndian(UInt64.self), let salt = reader.littleEndian(UInt64.self),
                let size = reader.littleEndian(UInt64.self), reader.view(20) != nil,
                let checksum = reader.littleEndian(UInt32.self),
                checksum == CRC32C.checksum(ByteView(rebasing: view[..<60]))
            else { return .failure(LogError(.damaged, "its header is damaged")) }
            guard format == LogFormat.format else {
                return .failure(LogError(.damaged, "it has format \(format), which a newer Orbit wrote"))
            }
            return .success(SegmentHeader(sequence: sequence, salt: salt, size: size))
        }
    }

    // MARK: Batch header

    /// What a batch begins with.
    package struct BatchHeader: Equatable {
        package var length: Int
        package var count: Int
        package var sequence: UInt64
        package var synced: LogPosition
        package var chain: UInt32
        package var bodyChecksum: UInt32
        /// The log was cut before it.
        package var isCut: Bool
        /// Filled in by `decode`.
        package var headerChecksum: UInt32

        package init(
            length: Int, count: Int, sequence: UInt64, synced: LogPosition, chain: UInt32, bodyChecksum: UInt32,
            isCut: Bool = false, headerChecksum: UInt32 = 0
        ) {
            self.isCut = isCut
            self.length = length
            self.count = count
            self.sequence = sequence
            self.synced = synced
            self.chain = chain
            self.bodyChecksum = bodyChecksum
            self.headerChecksum = headerChecksum
        }

        /// Overwrites the first 48 bytes of `room`, and returns the header's checksum.
        package func encode(into room: UnsafeMutableRawBufferPointer, _ segment: SegmentHeader) -> UInt32 {
            func store<T: FixedWidthInteger>(_ value: T, _ offset: Int) {
                room.storeBytes(of: value.littleEndian, toByteOffset: offset, as: T.self)
            }
            store(segment.tag, 0)
            store(LogFormat.format, 4)
            store(UInt16(isCut ? 1 : 0), 6)
            store(UInt32(truncatingIfNeeded: length), 8)
            store(UInt32(truncatingIfNeeded: count), 12)
            store(sequence, 16)
            store(synced.segment, 24)
            store(UInt32(truncatingIfNeeded: synced.offset), 32)
            store(chain, 36)
            store(bodyChecksum, 40)
            let covered = ByteView(rebasing: ByteView(room)[..<44])
            let checksum = CRC32C.checksum(covered, extending: segment.checksumSeed)
            store(checksum, 44)
            return checksum
        }

        /// Nil when there is no intact header at the beginning of `view`.
        package static func decode(_ view: ByteView, _ segment: SegmentHeader) -> BatchHeader? {
            var reader = ByteReader(view)
            guard reader.littleEndian(UInt32.self) == segment.tag, view.count >= LogFormat.batchHeaderSize,
                let format = reader.littleEndian(UInt16.self), let flags = reader.littleEndian(UInt16.self),
                let length = reader.littleEndian(UInt32.self), let count = reader.littleEndian(UInt32.self),
                let sequence = reader.littleEndian(UInt64.self), let syncedSegment = reader.littleEndian(UInt64.self),
                let syncedOffset = reader.littleEndian(UInt32.self), let chain = reader.littleEndian(UInt32.self),
                let body = reader.littleEndian(UInt32.self), let checksum = reader.littleEndian(UInt32.self)
            else { return nil }
            let covered = ByteView(rebasing: view[..<44])
            guard checksum == CRC32C.checksum(covered, extending: segment.checksumSeed),
                format == LogFormat.format, flags <= 1
            else { return nil }
            return BatchHeader(
                length: Int(length), count: Int(count), sequence: sequence,
                synced: LogPosition(segment: syncedSegment, offset: Int(syncedOffset)), chain: chain,
                bodyChecksum: body, isCut: flags == 1, headerChecksum: checksum)
        }
    }

    // MARK: Records

    static func appendRecordHeader(
        _ kind: RecordKind, shard: ShardID, term: Term, index: LogIndex, to buffer: inout ByteBuffer
    ) {
        buffer.reserve(recordHeaderSize)
        buffer.append(littleEndian: UInt32(0))  // The length is patched in when the payload is there.
        buffer.append(UInt8(1))
        buffer.append(kind.rawValue)
        buffer.append(littleEndian: UInt16(0))
        buffer.append(littleEndian: shard.rawValue)
        buffer.append(littleEndian: term.rawValue)
        buffer.append(littleEndian: index.rawValue)
    }

    static func patchRecordLength(_ length: Int, at start: Int, in buffer: inout ByteBuffer) {
        buffer.mutableReadable.storeBytes(
            of: UInt32(truncatingIfNeeded: length).littleEndian, toByteOffset: start, as: UInt32.self)
    }

    static func append(_ state: HardState, to buffer: inout ByteBuffer) {
        buffer.append(state.votedFor == nil ? 0 : 1)
        buffer.append(littleEndian: state.votedFor?.rawValue ?? 0)
    }

    /// The state in a record of kind `hardState`; nil when it is malformed.
    package static func hardState(of record: LogRecord) -> HardState? {
        var reader = ByteReader(record.payload)
        guard let voted = reader.byte(), let node = reader.littleEndian(UInt32.self), voted <= 1 else { return nil }
        return HardState(term: record.term, votedFor: voted == 1 ? NodeID(rawValue: node) : nil)
    }

    /// The first segment that a mark says is needed; nil when it is malformed.
    package static func firstSegment(ofMark record: LogRecord) -> UInt64? {
        var reader = ByteReader(record.payload)
        return reader.littleEndian(UInt64.self)
    }

    /// What a record of kind `cut` says; nil when it is malformed.
    package static func isCut(_ record: LogRecord) -> Bool? {
        var reader = ByteReader(record.payload)
        guard let byte = reader.byte(), byte <= 1 else { return nil }
        return byte == 1
    }

    /// Reads the next record; nil at the end, or when what follows is none (`isAtEnd` tells which).
    package static func nextRecord(_ reader: inout ByteReader) -> LogRecord? {
        guard !reader.isAtEnd else { return nil }
        var probe = reader
        guard let length = probe.littleEndian(UInt32.self), probe.byte() == 1, let kind = probe.byte(),
            let known = RecordKind(rawValue: kind), let flags = probe.littleEndian(UInt16.self), flags == 0,
            let shard = probe.littleEndian(UInt32.self), let term = probe.littleEndian(UInt64.self),
            let index = probe.littleEndian(UInt64.self), let payload = probe.view(Int(length))
        else { return nil }
        reader = probe
        return LogRecord(
            kind: known, shard: ShardID(rawValue: shard), term: Term(rawValue: term), index: LogIndex(rawValue: index),
            payload: payload)
    }
}

/// A place in the log: behind everything in earlier segments, `offset` bytes into this one.
package struct LogPosition: Hashable, Comparable, Sendable, CustomStringConvertible {
    package let segment: UInt64
    package let offset: Int

    package init(segment: UInt64, offset: Int) {
        self.segment = segment
        self.offset = offset
    }

    package static func < (left: LogPosition, right: LogPosition) -> Bool {
        (left.segment, left.offset) < (right.segment, right.offset)
    }

    package var description: String { "\(segment):\(offset)" }

    /// As `description`, for people who look for the file.
    var described: String { "\(LogSegment.name(segment)) offset \(offset)" }
}
