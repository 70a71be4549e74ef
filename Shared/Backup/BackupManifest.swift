import Base
import Crypto
import DataModel

/// Where a piece of a backup lies, and what is in it.
package struct StoredPiece: Hashable, Sendable {
    /// Its first key, as `KnownPiece` says.
    package var from: Bytes
    /// The number of its file in the manifest.
    package var file: UInt32
    /// Where its block begins there.
    package var offset: UInt64
    /// Bytes of its records.
    package var size: UInt64
    package var records: UInt64
    package var digest: Bytes

    package init(from: Bytes, file: UInt32, offset: UInt64, size: UInt64, records: UInt64, digest: Bytes) {
        (self.from, self.file, self.offset) = (from, file, offset)
        (self.size, self.records, self.digest) = (size, records, digest)
    }

    package var known: KnownPiece { KnownPiece(from: from, size: size, digest: digest) }
}

/// What a backup is: the moment that it shows, and where each of its pieces lies.
///
///     magic       "OBKM"
///     version     u8 = 1
///     number      u32     of the backup in its directory
///     base        u32     the backup that it builds upon, 0 for none
///     baseID      delimited, empty for none
///     cluster     u64
///     timestamp   u64     it shows everything committed up to there, and nothing later
///     began       u64     milliseconds since 1970
///     ended       u64
///     shards      u32     of the cluster at that time
///     buckets     u32
///     files       varint count, then each: backup varint, number varint, size varint, CRC-32C u32 of the whole file
///     pieces      for each bucket: varint count, then each: from delimited, file varint, offset varint, size varint,
///                 records varint, digest 32 bytes
///     checksum    u32 CRC-32C of everything before it
///
/// Little-endian. A file's name follows from its numbers: one in a manifest could lead anywhere.
package struct BackupManifest: Hashable, Sendable {
    /// A data file, of this backup or of an earlier one.
    package struct File: Hashable, Sendable {
        package var backup: UInt32
        package var number: UInt32
        package var size: UInt64
        package var checksum: UInt32

        package init(backup: UInt32, number: UInt32, size: UInt64, checksum: UInt32) {
            (self.backup, self.number, self.size, self.checksum) = (backup, number, size, checksum)
        }
    }

    package var number: UInt32
    package var base: UInt32 = 0
    package var baseID: Bytes = []
    package var cluster: UInt64
    package var timestamp: Timestamp
    package var beganMilliseconds: UInt64 = 0
    package var endedMilliseconds: UInt64 = 0
    package var shards: UInt32 = 0
    package var files: [File] = []
    /// For each bucket its pieces in order.
    package var buckets: [[StoredPiece]]

    /// A backup without pieces.
    package init(number: UInt32, cluster: UInt64, timestamp: Timestamp, bucketCount: Int) {
        (self.number, self.cluster, self.timestamp) = (number, cluster, timestamp)
        buckets = Array(repeating: [], count: bucketCount)
    }

    package var records: UInt64 { buckets.joined().reduce(0) { $0 &+ $1.records } }
    package var bytes: UInt64 { buckets.joined().reduce(0) { $0 &+ $1.size } }
    package var pieceCount: Int { buckets.reduce(0) { $0 + $1.count } }
    /// Bytes of the files that the backup has added.
    package var addedBytes: UInt64 { files.reduce(0) { $1.backup == number ? $0 &+ $1.size : $0 } }

    /// What names this backup and no other: the beginning of its manifest's SHA-256.
    package static func id(of encoded: Bytes) -> Bytes { Bytes(SHA256.hash(encoded).prefix(idSize)) }
    package static let idSize = 16

    // MARK: Bytes

    private static let magic: Bytes = [0x4f, 0x42, 0x4b, 0x4d]
    static let version: UInt8 = 1
    /// A backup of 4 TiB.
    package static let sizeLimit = 1 << 30
    static let fileLimit = 1 << 20
    private static let keyLimit = 1 << 17

    package func encode() -> Bytes {
        var buffer = ByteBuffer(capacity: 1024 + pieceCount * 72)
        buffer.append(Self.magic)
        buffer.append(Self.version)
        buffer.append(littleEndian: number)
        buffer.append(littleEndian: base)
        Self.append(baseID, to: &buffer)
        buffer.append(littleEndian: cluster)
        buffer.append(littleEndian: timestamp.rawValue)
        buffer.append(littleEndian: beganMilliseconds)
        buffer.append(littleEndian: endedMilliseconds)
        buffer.append(littleEndian: shards)
        buffer.append(littleEndian: UInt32(buckets.count))
        buffer.append(varint: UInt64(files.count))
        for file in files {
            buffer.append(varint: UInt64(file.backup))
            buffer.append(varint: UInt64(file.number))
            buffer.append(varint: file.size)
            buffer.append(littleEndian: file.checksum)
        }
        for pieces in buckets {
            buffer.append(varint: UInt64(pieces.count))
            for piece in pieces {
                Self.append(piece.from, to: &buffer)
                buffer.append(varint: UInt64(piece.file))
                buffer.append(varint: piece.offset)
                buffer.append(varint: piece.size)
                buffer.append(varint: piece.records)
                buffer.append(piece.digest)
            }
        }
        let checksum = CRC32C.checksum(buffer.readable)
        buffer.append(littleEndian: checksum)
        return buffer.readable.bytes
    }

    private static func append(_ bytes: Bytes, to buffer: inout ByteBuffer) {
        buffer.append(varint: UInt64(bytes.count))
        buffer.append(bytes)
    }

    /// Reads a manifest from a disk; `.corruption` when it is damaged.
    package init(decoding view: ByteView) throws(DatabaseError) {
        guard view.count > 4, view.count <= Self.sizeLimit else { throw Self.damaged("\(view.count) bytes long") }
        let body = ByteView(rebasing: view[..<(view.count - 4)])
        var tail = ByteReader(ByteView(rebasing: view[(view.count - 4)...]))
        guard tail.littleEndian(UInt32.self) == CRC32C.checksum(body) else { throw Self.damaged("wrong checksum") }
        var reader = ByteReader(body)
        guard let magic = reader.view(4), magic.bytes == Self.magic else { throw Self.damaged("not a manifest") }
        guard reader.byte() == Self.version else {
            throw DatabaseError(.corruption, "the backup is of an unknown version; a newer Orbit wrote it")
        }
        guard let number: UInt32 = reader.littleEndian(), let base: UInt32 = reader.littleEndian(),
            let baseID = reader.delimited(), baseID.count <= Self.idSize,
            let cluster: UInt64 = reader.littleEndian(), let timestamp: UInt64 = reader.littleEndian(),
            let began: UInt64 = reader.littleEndian(), let ended: UInt64 = reader.littleEndian(),
            let shards: UInt32 = reader.littleEndian(), let bucketCount: UInt32 = reader.littleEndian()
        else { throw Self.damaged("cut") }
        guard number > 0, base < number, (1...UInt32(Slot.count)).contains(bucketCount),
            bucketCount.nonzeroBitCount == 1
        else { throw Self.damaged("impossible numbers") }
        self.init(
            number: number, cluster: cluster, timestamp: Timestamp(rawValue: timestamp), bucketCount: Int(bucketCount))
        (self.base, self.baseID, self.shards) = (base, baseID.bytes, shards)
        (beganMilliseconds, endedMilliseconds) = (began, ended)
        files = try Self.readFiles(&reader, number: number)
        for bucket in 0..<Int(bucketCount) {
            buckets[bucket] = try Self.readPieces(&reader, of: BucketID(rawValue: UInt16(bucket)), files: files)
        }
        guard reader.isAtEnd else { throw Self.damaged("too long") }
    }

    private static func readFiles(_ reader: inout ByteReader, number: UInt32) throws(DatabaseError) -> [File] {
        guard let count = reader.varint(), count <= UInt64(fileLimit) else { throw damaged("too many files") }
        var files: [File] = []
        for _ in 0..<count {
            guard let backup = reader.varint(), let file = reader.varint(), let size = reader.varint(),
                let checksum: UInt32 = reader.littleEndian()
            else { throw damaged("cut") }
            guard backup > 0, backup <= UInt64(number), file <= UInt64(fileLimit), size <= UInt64(Int64.max) else {
                throw damaged("an impossible file")
            }
            files.append(File(backup: UInt32(backup), number: UInt32(file), size: size, checksum: checksum))
        }
        return files
    }

    private static func readPieces(
        _ reader: inout ByteReader, of bucket: BucketID, files: [File]
    ) throws(DatabaseError) -> [StoredPiece] {
        let start = BackupContents.range(of: bucket).from
        guard let count = reader.varint(), count <= UInt64(Piece.countLimit) else { throw damaged("too many pieces") }
        var pieces: [StoredPiece] = []
        var before: Bytes?
        for _ in 0..<count {
            guard let from = reader.delimited(), from.count <= keyLimit, let file = reader.varint(),
                let offset = reader.varint(), let size = reader.varint(), let records = reader.varint(),
                let digest = reader.view(SHA256.byteCount)
            else { throw damaged("cut") }
            let key = from.bytes
            guard file < UInt64(files.count), key.starts(with: start), size > 0, size <= UInt64(Piece.limit),
                offset < files[Int(file)].size, size < files[Int(file)].size &- offset, records > 0, records <= size,
                before.map({ $0.lexicographicallyPrecedes(key) }) ?? true
            else { throw damaged("an impossible piece") }
            before = key
            pieces.append(
                StoredPiece(
                    from: key, file: UInt32(file), offset: offset, size: size, records: records, digest: digest.bytes))
        }
        return pieces
    }

    private static func damaged(_ why: String) -> DatabaseError {
        DatabaseError(.corruption, "the backup's manifest is damaged: \(why)")
    }
}
