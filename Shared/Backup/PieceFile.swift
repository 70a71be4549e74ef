import Base

/// A file of pieces, one behind the other in the order in which they came.
///
///     magic    "OBKF"
///     version  u8 = 1
///     piece*   a block (`RecordBlock`); its body: from (varint length, bytes), then the records
///
/// So a file without a manifest, which an interrupted backup leaves, still says what is in it.
enum PieceFile {
    static let header: Bytes = [0x4f, 0x42, 0x4b, 0x46, 1]
    /// Above any piece with the key that it begins at.
    static let blockLimit = Piece.limit + (256 << 10)
}

/// Adds pieces to a file.
final class PieceFileWriter {
    private let file: any DiskFile
    private let path: String
    private(set) var size: UInt64
    private(set) var checksum: UInt32

    /// A new file.
    init(_ disk: any Disk, _ path: String) throws(DatabaseError) {
        self.path = path
        (size, checksum) = (0, 0)
        do throws(SystemError) {
            if disk.exists(path) { try disk.remove(path) }
            file = try disk.open(path, create: true)
        } catch { throw error.databaseError }
        try PieceFile.header.withView { (view: ByteView) throws(DatabaseError) in try put(view) }
    }

    /// A file whose first `size` bytes are whole, with this checksum; what follows them is cut off.
    init(_ disk: any Disk, _ path: String, size: UInt64, checksum: UInt32) throws(DatabaseError) {
        (self.path, self.size, self.checksum) = (path, size, checksum)
        do throws(SystemError) {
            file = try disk.open(path, create: false)
            try file.truncate(to: Int(size))
        } catch { throw error.databaseError }
    }

    deinit { file.close() }

    /// Adds a piece; returns where it lies.
    func add(from: Bytes, records: ByteView) throws(DatabaseError) -> UInt64 {
        var body = ByteBuffer(capacity: from.count + records.count + 16)
        body.append(varint: UInt64(from.count))
        body.append(from)
        body.append(records)
        guard body.count <= PieceFile.blockLimit else {
            throw DatabaseError(.limitExceeded, "a piece of \(body.count) bytes does not fit a backup")
        }
        let offset = size
        var header = ByteBuffer(capacity: 64)
        RecordBlock.Header(of: body.readable).append(to: &header)
        try put(header.readable)
        try put(body.readable)
        return offset
    }

    /// Makes the file durable (its name is, with the directory).
    func sync() throws(DatabaseError) {
        do throws(SystemError) { try file.sync() } catch { throw error.databaseError }
    }

    private func put(_ view: ByteView) throws(DatabaseError) {
        do throws(SystemError) { try file.pwrite(view, at: Int(size)) } catch { throw error.databaseError }
        checksum = CRC32C.checksum(view, extending: checksum)
        size &+= UInt64(view.count)
    }
}

/// Reads pieces of a file: one by its place, or all in their order.
final class PieceFileReader {
    private let file: any DiskFile
    /// For people.
    private let name: String
    let size: UInt64
    private var buffer = ByteBuffer(capacity: 4096)
    /// Bytes from the beginning that `next` has found whole, and their checksum.
    private(set) var whole: UInt64 = 0
    private(set) var checksum: UInt32 = 0

    init(_ disk: any Disk, _ path: String, name: String) throws(DatabaseError) {
        self.name = name
        do throws(SystemError) {
            file = try disk.open(path, create: false)
            size = UInt64(try file.size)
        } catch {
            throw error.code == 2 /* ENOENT */
                ? DatabaseError(.corruption, "\(name) is missing") : error.databaseError
        }
    }

    deinit { file.close() }

    /// A piece of a file; the views are valid during the call.
    typealias Body<Failure: Error> = (_ from: ByteView, _ records: ByteView) throws(Failure) -> Void

    /// Calls `body` with the piece whose block begins at `offset`; returns how many bytes it takes.
    func read(at offset: UInt64, _ body: Body<DatabaseError>) throws(DatabaseError) -> UInt64 {
        buffer.removeAll()
        try load(RecordBlock.headerSize, at: offset)
        var bytes = ByteReader(buffer.readable)
        guard let header = RecordBlock.Header(&bytes), header.length > 0, header.length <= PieceFile.blockLimit,
            UInt64(header.length) <= size &- offset &- UInt64(RecordBlock.headerSize)
        else { throw damaged("has a block of an impossible size at \(offset)") }
        try load(Int(header.length), at: offset &+ UInt64(RecordBlock.headerSize))
        let block = ByteView(rebasing: buffer.readable[RecordBlock.headerSize...])
        guard header.fits(block) else { throw damaged("has a wrong checksum in the block at \(offset)") }
        var reader = ByteReader(block)
        guard let from = reader.delimited() else { throw damaged("has a malformed block at \(offset)") }
        try body(from, reader.rest)
        return UInt64(RecordBlock.headerSize) &+ UInt64(header.length)
    }

    /// Calls `body` with the next piece and where it lies; false at the end of the file.
    func next(
        _ body: (_ offset: UInt64, _ from: ByteView, _ records: ByteView) throws(DatabaseError) -> Void
    ) throws(DatabaseError) -> Bool {
        if whole == 0 {
            buffer.removeAll()
            try load(PieceFile.header.count, at: 0)
            guard buffer.readable.bytes == PieceFile.header else {
                throw damaged("does not begin as one of this version")
            }
            advance()
        }
        guard whole < size else { return false }
        let offset = whole
        _ = try read(at: offset) { (from, records) throws(DatabaseError) in try body(offset, from, records) }
        advance()
        return true
    }

    private func advance() {
        checksum = CRC32C.checksum(buffer.readable, extending: checksum)
        whole &+= UInt64(buffer.count)
    }

    private func load(_ count: Int, at offset: UInt64) throws(DatabaseError) {
        guard offset <= size, UInt64(count) <= size &- offset else { throw damaged("is cut") }
        let part = UnsafeMutableRawBufferPointer(rebasing: buffer.prepare(count)[..<count])
        let got: Int
        do throws(SystemError) { got = try file.pread(into: part, at: Int(offset)) } catch { throw error.databaseError }
        guard got == count else { throw damaged("is cut") }
        buffer.commit(count)
    }

    private func damaged(_ why: String) -> DatabaseError { DatabaseError(.corruption, "\(name) \(why)") }
}
