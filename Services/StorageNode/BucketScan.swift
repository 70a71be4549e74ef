import Backup
import Base
import Storage

/// Goes through the records of a bucket that belong into a backup, in steps between which the loop does other things,
/// and divides them into pieces. What it reads from must not change on the way.
final class BucketScan {
    /// Calls its last argument with the records between two keys in their order, until that returns false.
    typealias Source = (
        _ from: ByteView, _ to: ByteView, _ body: (_ key: ByteView, _ value: ByteView) -> Bool
    ) throws(StoreError) -> Void

    private let source: Source
    private var ranges: ArraySlice<(from: Bytes, to: Bytes)>
    private var pieces: PieceScan
    private let found: (PieceFinding) -> Void
    /// Hears of every key.
    var onKey: (ByteView) -> Void = { _ in }

    var totalRecords: UInt64 { pieces.totalRecords }
    var totalBytes: UInt64 { pieces.totalBytes }

    /// Nil when `known` are no pieces of the bucket.
    init?(
        _ bucket: BucketID, known: [KnownPiece], source: @escaping Source, found: @escaping (PieceFinding) -> Void
    ) {
        guard let pieces = PieceScan(start: BackupContents.range(of: bucket).from, known: known) else { return nil }
        self.pieces = pieces
        (self.source, self.found) = (source, found)
        ranges = BackupContents.ranges(of: bucket)[...]
    }

    /// Goes on for about `limit` bytes; returns how many it has read, nil at the end.
    func step(limit: Int) throws(StoreError) -> Int? {
        guard let range = ranges.first else { return nil }
        var read = 0
        var next: Bytes?
        try range.from.withView { (from: ByteView) throws(StoreError) in
            try range.to.withView { (to: ByteView) throws(StoreError) in
                try source(from, to) { key, value in
                    guard read < limit else {
                        next = key.bytes
                        return false
                    }
                    read += key.count + value.count
                    onKey(key)
                    pieces.add(key, value, found)
                    return true
                }
            }
        }
        if let next {
            ranges[ranges.startIndex].from = next
        } else {
            ranges.removeFirst()
            if ranges.isEmpty { pieces.finish(found) }
        }
        return read
    }
}
