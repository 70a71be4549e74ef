import Base

/// The files of one snapshot on disk, made by an export or by chunks from a peer:
///
///     manifest        `SnapshotManifest`; an export writes it last, a receiver first
///     000000, …       the files of records (`SnapshotFile`)
///     draft-000000 …  what an install prepares for RocksDB
///
/// Nothing here is synced except the manifest: a restart throws an export away, and of what was received it keeps the
/// files whose checksum is right. Any thread, one at a time.
package final class SnapshotDirectory: @unchecked Sendable {  // Confined as its users are; the disk is thread-safe.
    package let path: String
    let disk: any Disk
    /// The file that was used last, kept open between chunks.
    private var open: (number: Int, file: any DiskFile)?

    package init(_ disk: any Disk, path: String) {
        self.disk = disk
        self.path = path
    }

    private var manifestPath: String { path + "/manifest" }

    func path(of file: Int) -> String { path + "/" + Self.digits(file) }

    func draftPath(_ number: Int) -> String { path + "/draft-" + Self.digits(number) }

    private static func digits(_ number: Int) -> String {
        let text = String(number)
        return String(repeating: "0", count: max(0, 6 - text.count)) + text
    }

    /// Makes the directory, empty: whatever was in it is removed.
    package func create() throws(StoreError) {
        try remove()
        do throws(SystemError) { try disk.makeDirectory(path) } catch { throw StoreError(error) }
    }

    /// Removes the directory and what is in it; no error when there is none. The manifest goes first, so that half of
    /// a removal does not look like half of a transfer.
    package func remove() throws(StoreError) {
        open = nil
        do throws(SystemError) {
            guard disk.exists(path) else { return }
            if disk.exists(manifestPath) { try disk.remove(manifestPath) }
            for name in try disk.list(path) { try disk.remove(path + "/" + name) }
            try disk.remove(path)
        } catch { throw StoreError(error) }
    }

    // MARK: Manifest

    /// Writes the manifest durably.
    package func write(_ manifest: SnapshotManifest) throws(StoreError) {
        let bytes = manifest.encode()
        try bytes.withView { (view: ByteView) throws(StoreError) in
            do throws(SystemError) { try disk.replace(manifestPath, with: view) } catch { throw StoreError(error) }
        }
    }

    /// The manifest; nil when there is none. Throws when it is damaged.
    package func manifest() throws(StoreError) -> SnapshotManifest? {
        guard disk.exists(manifestPath) else { return nil }
        let bytes: Bytes
        do throws(SystemError) { bytes = try disk.read(manifestPath, limit: SnapshotManifest.sizeLimit) } catch {
            throw StoreError(error)
        }
        return try bytes.withView { (view: ByteView) throws(StoreError) in try SnapshotManifest(decoding: view) }
    }

    // MARK: Chunks

    /// Reads `count` bytes of a file, to be sent.
    package func read(file number: Int, offset: Int, count: Int) throws(StoreError) -> Bytes {
        let file = try handle(number, create: false)
        var bytes = Bytes(repeating: 0, count: max(count, 0))
        let got: Result<Int, SystemError> = bytes.withUnsafeMutableBytes { room in
            do throws(SystemError) { return .success(try file.pread(into: room, at: max(offset, 0))) } catch {
                return .failure(error)
            }
        }
        switch got {
        case .failure(let error): throw StoreError(error)
        case .success(let got):
            guard got == bytes.count else {
                throw StoreError(.corruption, "file \(number) of the snapshot is cut at \(offset + got)")
            }
            return bytes
        }
    }

    /// Writes a chunk that was received.
    package func write(file number: Int, offset: Int, _ bytes: ByteView) throws(StoreError) {
        let file = try handle(number, create: true)
        do throws(SystemError) { try file.pwrite(bytes, at: offset) } catch { throw StoreError(error) }
    }

    /// Whether a file is all there, as the manifest says. A wrong one is removed, so that it is written anew.
    package func verify(file number: Int, _ expected: SnapshotManifest.File) throws(StoreError) -> Bool {
        let path = path(of: number)
        guard disk.exists(path) else { return false }
        let file = try handle(number, create: false)
        var checksum: UInt32 = 0
        var offset = 0
        do throws(SystemError) {
            if UInt64(try file.size) == expected.size {
                var buffer = ByteBuffer(capacity: 1 << 20)
                while true {
                    let got = try file.pread(into: buffer.prepare(1 << 20), at: offset)
                    guard got > 0 else { break }
                    buffer.commit(got)
                    checksum = CRC32C.checksum(buffer.readable, extending: checksum)
                    buffer.removeAll()
                    offset += got
                }
                if UInt64(offset) == expected.size, checksum == expected.checksum { return true }
            }
            open = nil
            try disk.remove(path)
            return false
        } catch { throw StoreError(error) }
    }

    /// How many of the manifest's files, from the first on, are all there: where a receiver that was restarted goes
    /// on. Reads every file.
    package func verifiedFiles(_ manifest: SnapshotManifest) throws(StoreError) -> Int {
        for (number, file) in manifest.files.enumerated() {
            guard try verify(file: number, file) else { return number }
        }
        return manifest.files.count
    }

    private func handle(_ number: Int, create: Bool) throws(StoreError) -> any DiskFile {
        if let open, open.number == number { return open.file }
        open = nil
        do throws(SystemError) {
            let file = try disk.open(path(of: number), create: create)
            open = (number, file)
            return file
        } catch { throw StoreError(error) }
    }
}

/// Where a node keeps snapshots: those it makes for others, and those it receives.
package struct SnapshotArea: Sendable {
    private let disk: any Disk
    private let path: String
    /// Bytes that snapshots leave free: the log is on the same disk, and a write that it refuses costs more than a
    /// snapshot that comes later.
    private let reserve: UInt64

    package init(_ disk: any Disk, path: String, reserve: UInt64 = 256 << 20) {
        (self.disk, self.path, self.reserve) = (disk, path, reserve)
    }

    private static let incomingPrefix = "in-"

    /// The directory of an export; `number` tells those of one index apart.
    package func outgoing(_ shard: ShardID, _ index: LogIndex, number: UInt64 = 0) -> SnapshotDirectory {
        SnapshotDirectory(disk, path: "\(path)/out-\(shard)-\(index)-\(number)")
    }

    /// The directory of what a peer sends for a shard: one at a time.
    package func incoming(_ shard: ShardID) -> SnapshotDirectory {
        SnapshotDirectory(disk, path: "\(path)/\(Self.incomingPrefix)\(shard)")
    }

    /// Refuses with `.full` what would not leave the reserve free. An install needs up to the snapshot's size once
    /// more, so a receiver asks for twice of it.
    package func admit(_ bytes: UInt64) throws(StoreError) {
        let free: Int
        do throws(SystemError) {
            try disk.makeDirectory(path)
            free = try disk.freeSpace(path)
        } catch { throw StoreError(error) }
        let (needed, overflow) = bytes.addingReportingOverflow(reserve)
        guard !overflow, needed <= UInt64(max(free, 0)) else {
            throw StoreError(
                .full, "a snapshot needs \(bytes) bytes and \(reserve) are kept free, but the disk has \(free)")
        }
    }

    /// At start: removes every export (who asked for it will ask again), and what was received unless it can still be
    /// of use, which is that its manifest is whole and reaches beyond what the shard has applied. Leftovers of an
    /// install go too: it happened as a whole or not at all.
    package func sweep(applied: (ShardID) throws(StoreError) -> LogIndex) throws(StoreError) {
        let names: [String]
        do throws(SystemError) {
            guard disk.exists(path) else { return }
            names = try disk.list(path)
        } catch { throw StoreError(error) }
        for name in names {
            let directory = SnapshotDirectory(disk, path: path + "/" + name)
            if try Self.isOfUse(name, directory, applied) {
                try removeDrafts(directory)
            } else {
                try directory.remove()
            }
        }
    }

    private static func isOfUse(
        _ name: String, _ directory: SnapshotDirectory, _ applied: (ShardID) throws(StoreError) -> LogIndex
    ) throws(StoreError) -> Bool {
        guard name.hasPrefix(incomingPrefix), let number = UInt32(name.dropFirst(incomingPrefix.count)) else {
            return false
        }
        let manifest: SnapshotManifest?
        do throws(StoreError) { manifest = try directory.manifest() } catch {
            guard error.kind == .corruption else { throw error }
            return false
        }
        guard let manifest, manifest.shard.rawValue == number else { return false }
        return manifest.index > (try applied(manifest.shard))
    }

    private func removeDrafts(_ directory: SnapshotDirectory) throws(StoreError) {
        do throws(SystemError) {
            for name in try disk.list(directory.path) where name.hasPrefix("draft-") {
                try disk.remove(directory.path + "/" + name)
            }
        } catch { throw StoreError(error) }
    }
}
