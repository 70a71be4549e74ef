import Base
import Crypto
import DataModel

/// A backup that is being written.
///
/// What an earlier one left that was interrupted is of use: its pieces are known by their content, whatever moment
/// they are of. So an interrupted backup goes on where it was, and shows a later moment than it would have.
package final class BackupDraft {
    /// What the new backup's manifest will say; the pieces of each bucket come by `finish(bucket:)`.
    package private(set) var manifest: BackupManifest
    private let directory: BackupDirectory
    /// What is there already, for each bucket by where it begins: of the backup that this one builds upon, or of an
    /// interrupted one.
    private var known: [[Bytes: StoredPiece]]
    private var writers: [UInt32: PieceFileWriter] = [:]
    /// Numbers in the manifest of this backup's own files.
    private var ownFiles: [UInt32: UInt32] = [:]
    private var underWay: [Int: [StoredPiece]] = [:]
    /// Pieces that an interrupted backup had left.
    package private(set) var salvagedPieces = 0
    /// Bytes written now.
    package private(set) var writtenBytes: UInt64 = 0

    /// Begins backup `number`, or goes on with it; `base` is the backup that it builds upon. The directory is locked.
    package init(
        _ directory: BackupDirectory, number: UInt32, base: (manifest: BackupManifest, id: Bytes)?, cluster: UInt64,
        timestamp: Timestamp, bucketCount: Int
    ) throws(DatabaseError) {
        self.directory = directory
        manifest = BackupManifest(number: number, cluster: cluster, timestamp: timestamp, bucketCount: bucketCount)
        known = Array(repeating: [:], count: bucketCount)
        if let base {
            guard base.manifest.cluster == cluster, base.manifest.buckets.count == bucketCount else {
                throw DatabaseError(
                    .invalidArgument,
                    "backup \(base.manifest.number) in \(directory.path) is of another cluster; take another directory")
            }
            guard base.manifest.timestamp < timestamp else {
                throw DatabaseError(
                    .invalidArgument, "the cluster's clock is behind backup \(base.manifest.number): is it another one?"
                )
            }
            (manifest.base, manifest.baseID) = (base.manifest.number, base.id)
            manifest.files = base.manifest.files
            for (bucket, pieces) in base.manifest.buckets.enumerated() {
                for piece in pieces { known[bucket][piece.from] = piece }
            }
        }
        do throws(SystemError) { try directory.disk.makeDirectory(directory.directory(of: number)) } catch {
            throw error.databaseError
        }
        try salvage()
    }

    private func salvage() throws(DatabaseError) {
        let names: [String]
        do throws(SystemError) { names = try directory.disk.list(directory.directory(of: manifest.number)) } catch {
            throw error.databaseError
        }
        for number in 0..<UInt32(BackupDirectory.fileCount) where names.contains(BackupDirectory.fileName(number)) {
            try salvage(number)
        }
    }

    /// Takes over the pieces at the beginning of a file that are whole.
    private func salvage(_ number: UInt32) throws(DatabaseError) {
        let path = directory.path(of: manifest.number, file: number)
        let reader = try PieceFileReader(
            directory.disk, path, name: BackupDirectory.name(of: manifest.number, file: number))
        var found: [(bucket: Int, piece: StoredPiece)] = []
        do throws(DatabaseError) {
            while try reader.next({ (offset, from, records) throws(DatabaseError) in
                guard let bucket = BackupContents.bucket(of: from), Int(bucket.rawValue) < known.count,
                    fileNumber(of: Int(bucket.rawValue)) == number, let count = Self.count(records)
                else { throw DatabaseError(.corruption, "not a piece of this file") }
                let piece = StoredPiece(
                    from: from.bytes, file: 0, offset: offset, size: UInt64(records.count), records: count,
                    digest: Piece.digest(records))
                found.append((Int(bucket.rawValue), piece))
            }) {}
        } catch {
            guard error.code == .corruption else { throw error }  // What follows was not written to its end.
        }
        guard reader.whole > 0 else { return }
        writers[number] = try PieceFileWriter(directory.disk, path, size: reader.whole, checksum: reader.checksum)
        let file = ownFile(number)
        for (bucket, piece) in found {
            var piece = piece
            piece.file = file
            known[bucket][piece.from] = piece
        }
        salvagedPieces += found.count
    }

    private static func count(_ records: ByteView) -> UInt64? {
        var reader = ByteReader(records)
        var count: UInt64 = 0
        while !reader.isAtEnd {
            guard RecordBlock.next(&reader) != nil else { return nil }
            count += 1
        }
        return count > 0 ? count : nil
    }

    private func fileNumber(of bucket: Int) -> UInt32 {
        UInt32(bucket / max(known.count / BackupDirectory.fileCount, 1))
    }

    /// The place of an own file in the manifest.
    private func ownFile(_ number: UInt32) -> UInt32 {
        if let place = ownFiles[number] { return place }
        let place = UInt32(manifest.files.count)
        manifest.files.append(.init(backup: manifest.number, number: number, size: 0, checksum: 0))
        ownFiles[number] = place
        return place
    }

    // MARK: One bucket

    /// Begins a bucket, or begins it again: what it is asked with. What has come before counts as known.
    package func begin(bucket: Int) -> [StoredPiece] {
        for piece in underWay[bucket] ?? [] { known[bucket][piece.from] = piece }
        underWay[bucket] = []
        return known[bucket].values.sorted { $0.from.lexicographicallyPrecedes($1.from) }
            .suffix(Piece.countLimit)
    }

    /// A piece is as it was.
    package func keep(_ piece: StoredPiece, bucket: Int) throws(DatabaseError) {
        try append(piece, bucket: bucket)
    }

    /// A piece has changed: its records are stored.
    package func add(from: Bytes, records: ByteView, digest: Bytes, bucket: Int) throws(DatabaseError) {
        guard Piece.digest(records) == digest, let count = Self.count(records) else {
            throw DatabaseError(.corruption, "a piece of bucket \(bucket) was damaged on its way")
        }
        let number = fileNumber(of: bucket)
        let writer: PieceFileWriter
        if let known = writers[number] {
            writer = known
        } else {
            writer = try PieceFileWriter(directory.disk, directory.path(of: manifest.number, file: number))
            writers[number] = writer
        }
        let before = writer.size
        let offset = try writer.add(from: from, records: records)
        writtenBytes += writer.size - before
        try append(
            StoredPiece(
                from: from, file: ownFile(number), offset: offset, size: UInt64(records.count), records: count,
                digest: digest), bucket: bucket)
    }

    private func append(_ piece: StoredPiece, bucket: Int) throws(DatabaseError) {
        guard piece.from.starts(with: BackupContents.range(of: BucketID(rawValue: UInt16(bucket))).from),
            underWay[bucket]?.last.map({ $0.from.lexicographicallyPrecedes(piece.from) }) ?? true
        else { throw DatabaseError(.protocolViolation, "a node sent the pieces of bucket \(bucket) out of order") }
        underWay[bucket, default: []].append(piece)
    }

    /// The bucket is complete, and has so many records and bytes.
    package func finish(bucket: Int, records: UInt64, bytes: UInt64) throws(DatabaseError) {
        let pieces = underWay.removeValue(forKey: bucket) ?? []
        guard pieces.reduce(0, { $0 &+ $1.records }) == records, pieces.reduce(0, { $0 &+ $1.size }) == bytes,
            pieces.count <= Piece.countLimit
        else { throw DatabaseError(.protocolViolation, "bucket \(bucket) is not what its node says of it") }
        manifest.buckets[bucket] = pieces
        known[bucket] = [:]
    }

    // MARK: The end

    /// Makes everything durable, the manifest last. Returns what names the backup.
    package func finish(shards: UInt32, began: UInt64, ended: UInt64) throws(DatabaseError) -> Bytes {
        guard underWay.isEmpty else { throw DatabaseError(.internalFailure, "a bucket is not complete") }
        manifest.shards = shards
        (manifest.beganMilliseconds, manifest.endedMilliseconds) = (began, ended)
        for (number, writer) in writers {
            try writer.sync()
            let place = Int(ownFile(number))
            (manifest.files[place].size, manifest.files[place].checksum) = (writer.size, writer.checksum)
        }
        dropUnusedFiles()
        do throws(SystemError) {
            try directory.disk.syncDirectory(directory.directory(of: manifest.number))
            try directory.disk.syncDirectory(directory.path)
            try directory.disk.syncDirectory(directory.disk.directory(of: directory.path))
        } catch { throw error.databaseError }
        return try directory.write(manifest)
    }

    /// Files of earlier backups of which no piece is left are not named. (Own ones are: they are checked as a whole.)
    private func dropUnusedFiles() {
        var used = Set(manifest.buckets.joined().map(\.file))
        for place in ownFiles.values { used.insert(place) }
        var places: [UInt32: UInt32] = [:]
        var files: [BackupManifest.File] = []
        for (number, file) in manifest.files.enumerated() where used.contains(UInt32(number)) {
            places[UInt32(number)] = UInt32(files.count)
            files.append(file)
        }
        manifest.files = files
        for bucket in manifest.buckets.indices {
            for piece in manifest.buckets[bucket].indices {
                let old = manifest.buckets[bucket][piece].file
                manifest.buckets[bucket][piece].file = places[old] ?? old
            }
        }
    }
}
