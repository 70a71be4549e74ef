import Base

/// What a snapshot of one shard is: how far it reaches, which keys it replaces, and the files that hold its records.
///
/// On disk and on the wire, little-endian:
///
///     magic       "OSNM"
///     version     u8 = 2 (1: records had no commit timestamp)
///     shard       u32
///     index       u64     the newest entry whose effects are in
///     term        u64     of that entry
///     membership  varint length, bytes: who votes as of the index, opaque here
///     floor       u64     nothing of the time before can be read from the records
///     newest      u64     their newest commit timestamp
///     ranges      varint count, then from and to, each varint length and bytes
///     files       varint count, then each: size varint, records varint, checksum u32 (CRC-32C of the whole file)
///     checksum    u32 CRC-32C of everything before it
///
/// Files are numbered from 0, and a file's name follows from its number (`SnapshotDirectory`): a name from a peer
/// could lead anywhere. Records ascend within a file and from file to file. Equal manifests mean equal content, so
/// one that was half received can be resumed from any replica that offers the same bytes.
package struct SnapshotManifest: Hashable, Sendable {
    /// One file of records (`SnapshotFileWriter`).
    package struct File: Hashable, Sendable {
        package var size: UInt64
        package var records: UInt64
        package var checksum: UInt32

        package init(size: UInt64, records: UInt64, checksum: UInt32) {
            self.size = size
            self.records = records
            self.checksum = checksum
        }
    }

    package var shard: ShardID
    package var index: LogIndex
    package var term: Term
    package var membership: Bytes
    package var floor: Timestamp
    package var newest: Timestamp
    package var ranges: [KeyRange]
    package var files: [File]

    package init(
        shard: ShardID, index: LogIndex, term: Term, membership: Bytes, floor: Timestamp = .zero,
        newest: Timestamp = .zero, ranges: [KeyRange], files: [File]
    ) {
        self.shard = shard
        self.index = index
        self.term = term
        self.membership = membership
        self.floor = floor
        self.newest = newest
        self.ranges = ranges
        self.files = files
    }

    /// Bytes of all files; saturates, as a damaged offer may claim anything.
    package var size: UInt64 {
        files.reduce(0) { sum, file in
            let (total, overflow) = sum.addingReportingOverflow(file.size)
            return overflow ? .max : total
        }
    }

    package var records: UInt64 { files.reduce(0) { $0 &+ $1.records } }

    // MARK: Bytes

    static let magic: StaticString = "OSNM"
    private static let magicBytes: Bytes = [0x4f, 0x53, 0x4e, 0x4d]
    static let version: UInt8 = 2
    /// What a manifest may hold at most: at 16 MiB a file, a shard of 1 TiB.
    package static let fileLimit = 1 << 16
    /// Ranges that a manifest may name: each bucket one, and the shard's own records.
    package static let rangeLimit = (1 << 14) + 16
    package static let sizeLimit = 4 << 20
    static let membershipLimit = 1 << 16
    static let keyLimit = 1 << 16

    package func encode() -> Bytes {
        var buffer = ByteBuffer(capacity: 256 + files.count * 16)
        buffer.append(Self.magic)
        buffer.append(Self.version)
        buffer.append(littleEndian: shard.rawValue)
        buffer.append(littleEndian: index.rawValue)
        buffer.append(littleEndian: term.rawValue)
        Self.append(membership, into: &buffer)
        buffer.append(littleEndian: floor.rawValue)
        buffer.append(littleEndian: newest.rawValue)
        buffer.append(varint: UInt64(ranges.count))
        for range in ranges {
            Self.append(range.from, into: &buffer)
            Self.append(range.to, into: &buffer)
        }
        buffer.append(varint: UInt64(files.count))
        for file in files {
            buffer.append(varint: file.size)
            buffer.append(varint: file.records)
            buffer.append(littleEndian: file.checksum)
        }
        let checksum = CRC32C.checksum(buffer.readable)
        buffer.append(littleEndian: checksum)
        return buffer.readable.bytes
    }

    private static func append(_ bytes: Bytes, into buffer: inout ByteBuffer) {
        buffer.append(varint: UInt64(bytes.count))
        buffer.append(bytes)
    }

    /// Reads a manifest from a disk or a peer.
    package init(decoding view: ByteView) throws(StoreError) {
        guard view.count > 4, view.count <= Self.sizeLimit else { throw Self.damaged("\(view.count) bytes long") }
        let body = ByteView(rebasing: view[..<(view.count - 4)])
        var tail = ByteReader(ByteView(rebasing: view[(view.count - 4)...]))
        guard tail.littleEndian(UInt32.self) == CRC32C.checksum(body) else { throw Self.damaged("wrong checksum") }
        var reader = ByteReader(body)
        guard let magic = reader.view(4), magic.bytes == Self.magicBytes else { throw Self.damaged("not a manifest") }
        guard reader.byte() == Self.version else {
            throw StoreError(.corruption, "snapshot manifest of an unknown version; a newer Orbit wrote it")
        }
        guard let shard: UInt32 = reader.littleEndian(), let index: UInt64 = reader.littleEndian(),
            let term: UInt64 = reader.littleEndian(), let membership = reader.delimited(),
            membership.count <= Self.membershipLimit, let floor: UInt64 = reader.littleEndian(),
            let newest: UInt64 = reader.littleEndian()
        else { throw Self.damaged("cut") }
        self.shard = ShardID(rawValue: shard)
        self.index = LogIndex(rawValue: index)
        self.term = Term(rawValue: term)
        self.membership = membership.bytes
        self.floor = Timestamp(rawValue: floor)
        self.newest = Timestamp(rawValue: newest)
        ranges = try Self.readRanges(&reader)
        files = try Self.readFiles(&reader)
        guard reader.isAtEnd else { throw Self.damaged("too long") }
    }

    private static func readRanges(_ reader: inout ByteReader) throws(StoreError) -> [KeyRange] {
        guard let count = reader.varint(), count <= UInt64(rangeLimit) else { throw damaged("too many ranges") }
        var ranges: [KeyRange] = []
        for _ in 0..<count {
            guard let from = reader.delimited(), let to = reader.delimited(), from.count <= keyLimit,
                to.count <= keyLimit
            else { throw damaged("cut") }
            ranges.append(KeyRange(from: from.bytes, to: to.bytes))
        }
        guard KeyRange.areSound(ranges) else { throw damaged("its ranges are not a shard's") }
        return ranges
    }

    private static func readFiles(_ reader: inout ByteReader) throws(StoreError) -> [File] {
        guard let count = reader.varint(), count <= UInt64(fileLimit) else { throw damaged("too many files") }
        var files: [File] = []
        for _ in 0..<count {
            guard let size = reader.varint(), let records = reader.varint(),
                let checksum: UInt32 = reader.littleEndian()
            else { throw damaged("cut") }
            files.append(File(size: size, records: records, checksum: checksum))
        }
        return files
    }

    private static func damaged(_ why: String) -> StoreError {
        StoreError(.corruption, "the snapshot's manifest is damaged: \(why)")
    }
}
