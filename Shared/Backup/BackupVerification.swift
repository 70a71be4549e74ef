import Base
import DataModel

/// Reads everything that backups of a directory stand on, and says what is wrong with it.
package final class BackupVerification {
    /// Problems that are told at most.
    package static let problemLimit = 100

    private let directory: BackupDirectory
    private var manifests: [BackupManifest] = []
    /// Files still to be read, and what the manifests say of them.
    private var files: [Place: Expected] = [:]
    private var queue: [Place] = []
    /// What is wrong, for people.
    package private(set) var problems: [String] = []
    package private(set) var checkedBytes: UInt64 = 0
    package private(set) var checkedPieces = 0
    /// Bytes of all files.
    package private(set) var totalBytes: UInt64 = 0

    private struct Place: Hashable {
        let backup: UInt32
        let file: UInt32
    }

    private struct Expected {
        let size: UInt64
        let checksum: UInt32
        /// By where they begin, with the key that ends each.
        var pieces: [UInt64: (piece: StoredPiece, bucket: BucketID, ends: Set<Bytes>)] = [:]
    }

    /// Looks at the manifests of `numbers`, or of all complete backups.
    package init(_ directory: BackupDirectory, numbers: [UInt32]? = nil) throws(DatabaseError) {
        self.directory = directory
        let chosen: [UInt32]
        if let numbers { chosen = numbers } else { chosen = try directory.numbers() }
        for number in chosen {
            do throws(DatabaseError) {
                let (manifest, _) = try directory.manifest(of: number)
                manifests.append(manifest)
                expect(manifest)
            } catch {
                note(error.message)
            }
        }
        queue = files.keys.sorted { ($0.backup, $0.file) < ($1.backup, $1.file) }
        totalBytes = files.values.reduce(0) { $0 &+ $1.size }
    }

    package var backups: [UInt32] { manifests.map(\.number) }

    private func note(_ problem: String) {
        if problems.count < Self.problemLimit { problems.append(problem) }
    }

    private func expect(_ manifest: BackupManifest) {
        for file in manifest.files {
            let place = Place(backup: file.backup, file: file.number)
            if let known = files[place] {
                guard known.size == file.size, known.checksum == file.checksum else {
                    note("backup \(manifest.number) says otherwise of \(name(place)) than an earlier one")
                    continue
                }
            } else {
                files[place] = Expected(size: file.size, checksum: file.checksum)
            }
        }
        for (number, pieces) in manifest.buckets.enumerated() {
            let bucket = BucketID(rawValue: UInt16(number))
            for (index, piece) in pieces.enumerated() {
                let end = index + 1 < pieces.count ? pieces[index + 1].from : BackupContents.range(of: bucket).to
                let file = manifest.files[Int(piece.file)]
                let place = Place(backup: file.backup, file: file.number)
                if let known = files[place]?.pieces[piece.offset] {
                    var same = known.piece
                    same.file = piece.file
                    guard same == piece else {
                        note("backup \(manifest.number) says otherwise of a piece in \(name(place))")
                        continue
                    }
                }
                files[place]?.pieces[piece.offset, default: (piece, bucket, [])].ends.insert(end)
            }
        }
    }

    private func name(_ place: Place) -> String { BackupDirectory.name(of: place.backup, file: place.file) }

    /// Reads one more file; false when all are read. `progress` hears how many bytes of all are read.
    package func step(_ progress: (UInt64) -> Void = { _ in }) -> Bool {
        guard let place = queue.first, let expected = files[place] else { return false }
        queue.removeFirst()
        let before = checkedBytes
        do throws(DatabaseError) {
            try read(place, expected) { [self] done in
                checkedBytes = before &+ done
                progress(checkedBytes)
            }
        } catch {
            note(error.message)
        }
        checkedBytes = before &+ expected.size
        return true
    }

    /// Reads everything.
    package func run() -> [String] {
        while step() {}
        return problems
    }

    private func read(_ place: Place, _ expected: Expected, _ progress: (UInt64) -> Void) throws(DatabaseError) {
        let reader = try PieceFileReader(
            directory.disk, directory.path(of: place.backup, file: place.file), name: name(place))
        guard reader.size == expected.size else {
            throw DatabaseError(
                .corruption, "\(name(place)) has \(reader.size) bytes, and the manifest says \(expected.size)")
        }
        var rest = expected.pieces
        while try reader.next({ (offset, from, records) throws(DatabaseError) in
            if let wanted = rest.removeValue(forKey: offset) {
                try check(wanted.piece, wanted.bucket, wanted.ends, from, records, place)
                checkedPieces += 1
            }
        }) { progress(reader.whole) }
        guard reader.checksum == expected.checksum else {
            throw DatabaseError(.corruption, "\(name(place)) is not the file that the manifest means")
        }
        guard rest.isEmpty else {
            throw DatabaseError(.corruption, "\(name(place)) lacks \(rest.count) pieces that the manifest names")
        }
    }

    private func check(
        _ piece: StoredPiece, _ bucket: BucketID, _ ends: Set<Bytes>, _ from: ByteView, _ records: ByteView,
        _ place: Place
    ) throws(DatabaseError) {
        func fail(_ why: String) -> DatabaseError {
            DatabaseError(.corruption, "\(name(place)): the piece at \(piece.offset) \(why)")
        }
        guard from.bytes == piece.from, UInt64(records.count) == piece.size, Piece.digest(records) == piece.digest
        else { throw fail("is not the one that the manifest means") }
        var reader = ByteReader(records)
        var count: UInt64 = 0
        var last = piece.from
        while !reader.isAtEnd {
            guard let record = RecordBlock.next(&reader) else { throw fail("has a malformed record") }
            let order = last.withUnsafeBytes { compareKeys($0, record.key) }
            guard order < 0 || (count == 0 && order == 0) else { throw fail("has records out of order") }
            guard BackupContents.bucket(of: record.key) == bucket, BackupContents.holds(record.key) else {
                throw fail("has a record that does not belong there")
            }
            last = record.key.bytes
            count += 1
        }
        guard count == piece.records else { throw fail("has \(count) records, not \(piece.records)") }
        for end in ends where !last.lexicographicallyPrecedes(end) { throw fail("reaches into the next one") }
    }
}
