import Base

/// A file of a snapshot: records in order of their keys, in blocks that are checked one by one.
///
///     magic    "OSNF"
///     version  u8 = 1
///     block*   as `RecordBlock` says, of records
///
/// Why not RocksDB's own table files: docs/decisions/0004.
enum SnapshotFile {
    static let header: Bytes = [0x4f, 0x53, 0x4e, 0x46, 1]
    /// A block is closed once its body has so many bytes; a larger record makes a larger block.
    static let blockTarget = 64 << 10
    /// Above the largest record: an entry has at most 16 MiB.
    static let blockLimit = 32 << 20
}

/// Writes one file of a snapshot.
final class SnapshotFileWriter {
    private let file: any DiskFile
    private var block = ByteBuffer(capacity: SnapshotFile.blockTarget + 4096)
    private var result = SnapshotManifest.File(size: 0, records: 0, checksum: 0)

    init(_ disk: any Disk, _ path: String) throws(StoreError) {
        do throws(SystemError) { file = try disk.open(path, create: true) } catch { throw StoreError(error) }
        try SnapshotFile.header.withView { (view: ByteView) throws(StoreError) in try put(view) }
    }

    deinit { file.close() }

    /// Bytes so far.
    var size: Int { Int(result.size) + block.count }

    func add(_ key: ByteView, _ value: ByteView) throws(StoreError) {
        RecordBlock.append(key, value, to: &block)
        result.records &+= 1
        if block.count >= SnapshotFile.blockTarget { try closeBlock() }
    }

    /// Makes the file durable (its name is, with the directory).
    func finish() throws(StoreError) -> SnapshotManifest.File {
        try closeBlock()
        do throws(SystemError) { try file.sync() } catch { throw StoreError(error) }
        return result
    }

    private func closeBlock() throws(StoreError) {
        guard !block.isEmpty else { return }
        guard block.count <= SnapshotFile.blockLimit else {
            throw StoreError(.misuse, "a record of \(block.count) bytes does not fit a snapshot")
        }
        var header = ByteBuffer(capacity: 64)
        RecordBlock.Header(of: block.readable).append(to: &header)
        try put(header.readable)
        try put(block.readable)
        block.removeAll()
    }

    private func put(_ view: ByteView) throws(StoreError) {
        do throws(SystemError) { try file.pwrite(view, at: Int(result.size)) } catch { throw StoreError(error) }
        result.checksum = CRC32C.checksum(view, extending: result.checksum)
        result.size &+= UInt64(view.count)
    }
}

/// Reads one file of a snapshot, block by block, and holds it against what the manifest says of it.
final class SnapshotFileReader {
    private let file: any DiskFile
    private let number: Int
    private let expected: SnapshotManifest.File
    private var found = SnapshotManifest.File(size: 0, records: 0, checksum: 0)
    private var block = ByteBuffer(capacity: SnapshotFile.blockTarget + 4096)

    init(_ disk: any Disk, _ path: String, number: Int, expected: SnapshotManifest.File) throws(StoreError) {
        (self.number, self.expected) = (number, expected)
        let size: Int
        do throws(SystemError) {
            file = try disk.open(path, create: false)
            size = try file.size
        } catch {
            throw error.code == 2 /* ENOENT */
                ? StoreError(.corruption, "file \(number) of the snapshot is missing") : StoreError(error)
        }
        guard UInt64(size) == expected.size else {
            throw damaged("has \(size) bytes, and the manifest says \(expected.size)")
        }
        try load(SnapshotFile.header.count)
        guard block.readable.bytes == SnapshotFile.header else {
            throw damaged("does not begin as one of this version")
        }
        block.removeAll()
    }

    deinit { file.close() }

    /// Calls `body` with each record of the next block; false at the end, where everything has been compared. The
    /// records of a block are intact; that the file is, is known only at its end.
    func nextBlock(
        _ body: (_ key: ByteView, _ value: ByteView) throws(StoreError) -> Void
    ) throws(StoreError) -> Bool {
        guard found.size < expected.size else {
            guard found == expected else { throw damaged("is not what the manifest says") }
            return false
        }
        block.removeAll()
        try load(RecordBlock.headerSize)
        var bytes = ByteReader(block.readable)
        guard let header = RecordBlock.Header(&bytes), header.length > 0, header.length <= SnapshotFile.blockLimit
        else { throw damaged("has a block without a size") }
        block.removeAll()
        try load(Int(header.length))
        guard header.fits(block.readable) else { throw damaged("has a block with a wrong checksum") }
        var reader = ByteReader(block.readable)
        while !reader.isAtEnd {
            guard let record = RecordBlock.next(&reader) else { throw damaged("has a malformed record") }
            found.records &+= 1
            try body(record.key, record.value)
        }
        return true
    }

    /// Bytes read so far.
    var position: UInt64 { found.size }

    private func load(_ count: Int) throws(StoreError) {
        guard UInt64(count) <= expected.size &- found.size else { throw damaged("is cut") }
        let room = block.prepare(count)
        let part = UnsafeMutableRawBufferPointer(rebasing: room[..<count])
        let got: Int
        do throws(SystemError) { got = try file.pread(into: part, at: Int(found.size)) } catch {
            throw StoreError(error)
        }
        guard got == count else { throw damaged("is cut") }
        block.commit(count)
        found.checksum = CRC32C.checksum(block.readable, extending: found.checksum)
        found.size &+= UInt64(count)
    }

    private func damaged(_ why: String) -> StoreError {
        StoreError(.corruption, "file \(number) of the snapshot \(why)")
    }
}

extension StoreError {
    /// What a failed call on a snapshot's files means.
    init(_ error: SystemError) {
        switch error.code {
        case 28 /* ENOSPC */, 122 /* EDQUOT */: self.init(.full, error.description)
        case _: self.init(.inputOutput, error.description)
        }
    }
}
