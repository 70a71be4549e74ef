import Base
import Crypto

/// A piece of a bucket: its records from one key up to the next piece's. Pieces travel and are stored as a whole.
package enum Piece {
    /// A piece is closed once its records have so many bytes; a larger record makes a larger piece.
    package static let target = 256 << 10
    /// Above the largest record, with its key and that of the piece: an entry has at most 16 MiB.
    package static let limit = 18 << 20
    /// Pieces that a bucket may have: what one message of a node can name.
    package static let countLimit = 1 << 18

    /// By what a piece is known: SHA-256 of its records, one after another as `RecordBlock` writes them.
    package static func digest(_ records: ByteView) -> Bytes {
        var hash = SHA256()
        hash.update(records)
        return hash.finish()
    }

    /// The shortest key above `low` (of which it is no prefix) and not above `high`: where a piece may begin.
    static func separator(_ low: ByteView, _ high: ByteView) -> Bytes {
        var common = 0
        while common < low.count, common < high.count, low[common] == high[common] { common += 1 }
        return ByteView(rebasing: high[..<min(common + 1, high.count)]).bytes
    }
}

/// What a caller of `PieceScan` has already.
package struct KnownPiece: Hashable, Sendable {
    /// Records at or above this key, and below the next piece's, are in it.
    package var from: Bytes
    /// Bytes of its records.
    package var size: UInt64
    package var digest: Bytes

    package init(from: Bytes, size: UInt64, digest: Bytes) {
        self.from = from
        self.size = size
        self.digest = digest
    }
}

/// What `PieceScan` found.
package enum PieceFinding {
    /// The known piece of this number is as it was.
    case same(Int)
    /// The records from `from` on are these.
    case changed(from: Bytes, records: ByteView, count: UInt64, digest: Bytes)
}

/// Divides the records of a bucket, which come in order, into pieces, and tells those that the caller has from those
/// that it needs.
///
/// Where the caller's pieces begin, ours do too, as long as there are records: so a change moves no boundary but its
/// own. What a piece has become is compared by content only when it is complete; one that outgrows its old size is
/// different for certain and is cut. Nothing is kept but the piece under way: `limit` bytes and a record at most.
package struct PieceScan: ~Copyable {
    private let known: [KnownPiece]
    private let target: Int
    /// The known piece whose range the scan is in; -1 before the first.
    private var current = -1
    private var body = ByteBuffer(capacity: 4096)
    private var records: UInt64 = 0
    /// Where the piece under way begins.
    private var from: Bytes
    /// Where the key of the last record lies in `body`.
    private var lastKey = 0..<0
    /// The piece under way is not the known one.
    private var isChanged = true
    package private(set) var totalRecords: UInt64 = 0
    package private(set) var totalBytes: UInt64 = 0

    /// `known` ascend strictly and lie in the bucket that begins at `start`; nil if they do not.
    package init?(start: Bytes, known: [KnownPiece], target: Int = Piece.target) {
        guard known.count <= Piece.countLimit else { return nil }
        var before: Bytes?
        for piece in known {
            guard piece.from.starts(with: start), piece.digest.count == SHA256.byteCount else { return nil }
            if let before, !before.lexicographicallyPrecedes(piece.from) { return nil }
            before = piece.from
        }
        self.known = known
        self.target = max(target, 1)
        from = start
    }

    /// The next record; keys ascend.
    package mutating func add(_ key: ByteView, _ value: ByteView, _ found: (PieceFinding) -> Void) {
        while current + 1 < known.count, known[current + 1].from.withUnsafeBytes({ compareKeys($0, key) <= 0 }) {
            closeRange(found)
            current += 1
            from = known[current].from
            isChanged = known[current].size > UInt64(Piece.limit)
        }
        let size = varintSize(UInt64(key.count)) + key.count + varintSize(UInt64(value.count)) + value.count
        if !isChanged, UInt64(body.count + size) > known[current].size { isChanged = true }
        if isChanged, body.count >= target {
            let last = body.readable[lastKey]
            let next = Piece.separator(ByteView(rebasing: last), key)
            emit(found)
            from = next
        }
        RecordBlock.append(key, value, to: &body)
        let end = body.count - varintSize(UInt64(value.count)) - value.count
        lastKey = end - key.count..<end
        records &+= 1
        totalRecords &+= 1
        totalBytes &+= UInt64(size)
    }

    /// There are no more records.
    package mutating func finish(_ found: (PieceFinding) -> Void) {
        closeRange(found)
        current = known.count
    }

    /// The range of the current known piece ends.
    private mutating func closeRange(_ found: (PieceFinding) -> Void) {
        guard records > 0 else { return }
        if !isChanged, current >= 0, current < known.count, UInt64(body.count) == known[current].size,
            Piece.digest(body.readable) == known[current].digest
        {
            found(.same(current))
            startOver()
        } else {
            emit(found)
        }
    }

    private mutating func emit(_ found: (PieceFinding) -> Void) {
        let view = body.readable
        found(.changed(from: from, records: view, count: records, digest: Piece.digest(view)))
        startOver()
    }

    private mutating func startOver() {
        body.removeAll()
        records = 0
    }
}
