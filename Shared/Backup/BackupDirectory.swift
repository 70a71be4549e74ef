import Base

/// The backups of one cluster in one directory:
///
///     lock               held by whoever writes
///     000001/manifest    `BackupManifest`, written last: without it the backup is none
///     000001/data-000000 …  `PieceFile`, each of a range of buckets
///     000002/…           a later one; its manifest may name files of earlier ones
///
/// Any thread, one at a time.
package final class BackupDirectory: @unchecked Sendable {  // Confined as its users are; the disk is thread-safe.
    package let path: String
    let disk: any Disk

    package init(_ disk: any Disk, path: String) {
        self.disk = disk
        self.path = path
    }

    /// Data files of a backup at most: with so many buckets or fewer, each has one of its own.
    static let fileCount = 64

    func directory(of backup: UInt32) -> String { "\(path)/\(Self.digits(backup))" }

    func manifestPath(of backup: UInt32) -> String { directory(of: backup) + "/manifest" }

    func path(of backup: UInt32, file: UInt32) -> String { directory(of: backup) + "/" + Self.fileName(file) }

    static func fileName(_ file: UInt32) -> String { "data-" + digits(file) }

    /// A data file, for people.
    static func name(of backup: UInt32, file: UInt32) -> String { "\(digits(backup))/\(fileName(file))" }

    private static func digits(_ number: UInt32) -> String {
        let text = String(number)
        return String(repeating: "0", count: max(0, 6 - text.count)) + text
    }

    /// The numbers that there are directories for, complete backups and others, ascending.
    private func allNumbers() throws(DatabaseError) -> [UInt32] {
        do throws(SystemError) {
            guard disk.exists(path) else { return [] }
            return try disk.list(path).compactMap { name in
                guard let number = UInt32(name), number > 0, name == Self.digits(number) else { return nil }
                return number
            }.sorted()
        } catch { throw error.databaseError }
    }

    /// The complete backups, oldest first.
    package func numbers() throws(DatabaseError) -> [UInt32] {
        try allNumbers().filter { disk.exists(manifestPath(of: $0)) }
    }

    /// The number of a backup that was begun and is not complete, behind all others: the one that goes on.
    package func interrupted() throws(DatabaseError) -> UInt32? {
        guard let last = try allNumbers().last, !disk.exists(manifestPath(of: last)) else { return nil }
        return last
    }

    /// A complete backup's manifest, and what names it.
    package func manifest(of number: UInt32) throws(DatabaseError) -> (manifest: BackupManifest, id: Bytes) {
        let path = manifestPath(of: number)
        guard disk.exists(path) else {
            let isBegun = disk.exists(directory(of: number))
            throw DatabaseError(
                .invalidArgument,
                isBegun
                    ? "backup \(number) was interrupted: it has no manifest"
                    : "there is no backup \(number) in \(self.path)")
        }
        let bytes: Bytes
        do throws(SystemError) { bytes = try disk.read(path, limit: BackupManifest.sizeLimit) } catch {
            throw error.databaseError
        }
        let manifest = try bytes.withView { (view: ByteView) throws(DatabaseError) in
            do throws(DatabaseError) { return try BackupManifest(decoding: view) } catch {
                throw DatabaseError(error.code, "backup \(number): \(error.message)")
            }
        }
        guard manifest.number == number else {
            throw DatabaseError(.corruption, "backup \(number): its manifest is that of backup \(manifest.number)")
        }
        return (manifest, BackupManifest.id(of: bytes))
    }

    /// The newest complete backup; nil where there is none.
    package func newest() throws(DatabaseError) -> UInt32? { try numbers().last }

    func write(_ manifest: BackupManifest) throws(DatabaseError) -> Bytes {
        let bytes = manifest.encode()
        guard bytes.count <= BackupManifest.sizeLimit else {
            throw DatabaseError(.limitExceeded, "the backup has too many pieces for a manifest")
        }
        try bytes.withView { (view: ByteView) throws(DatabaseError) in
            do throws(SystemError) { try disk.replace(manifestPath(of: manifest.number), with: view) } catch {
                throw error.databaseError
            }
        }
        return BackupManifest.id(of: bytes)
    }
}

/// Reads the pieces of one backup, from its own files and those of earlier ones.
package final class BackupReader {
    package let manifest: BackupManifest
    /// What names the backup.
    package let id: Bytes
    private let directory: BackupDirectory
    private var open: [UInt32: PieceFileReader] = [:]

    package init(_ directory: BackupDirectory, number: UInt32) throws(DatabaseError) {
        self.directory = directory
        (manifest, id) = try directory.manifest(of: number)
    }

    /// Whether all files are there and as long as the manifest says: what can be told without reading them.
    package func checkFiles() throws(DatabaseError) {
        for number in manifest.files.indices { _ = try file(UInt32(number)) }
    }

    /// The records of a piece, held against everything that the manifest says of it.
    package func records(_ piece: StoredPiece) throws(DatabaseError) -> Bytes {
        var records: Bytes = []
        let file = try file(piece.file)
        _ = try file.read(at: piece.offset) { (from, view) throws(DatabaseError) in
            guard from.bytes == piece.from, UInt64(view.count) == piece.size, Piece.digest(view) == piece.digest else {
                throw DatabaseError(
                    .corruption,
                    "\(name(piece.file)) has another piece at \(piece.offset) than the manifest says")
            }
            records = view.bytes
        }
        return records
    }

    private func name(_ number: UInt32) -> String {
        let file = manifest.files[Int(number)]
        return BackupDirectory.name(of: file.backup, file: file.number)
    }

    private func file(_ number: UInt32) throws(DatabaseError) -> PieceFileReader {
        if let known = open[number] { return known }
        let file = manifest.files[Int(number)]
        let reader = try PieceFileReader(
            directory.disk, directory.path(of: file.backup, file: file.number), name: name(number))
        guard reader.size == file.size else {
            throw DatabaseError(
                .corruption, "\(name(number)) has \(reader.size) bytes, and the manifest says \(file.size)")
        }
        if open.count >= 2 * BackupDirectory.fileCount { open.removeAll() }
        open[number] = reader
        return reader
    }
}
