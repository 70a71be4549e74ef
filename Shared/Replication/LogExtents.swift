import Base

/// Where one shard's entries lie in one segment, coarsely: enough to find an entry by reading 64 KiB, and small enough
/// to be kept for every segment (24 bytes for each 64 KiB, or for each shard that wrote into a segment).
///
/// Only entries that hold are in here: those that a later record with the same index has replaced are cut out, in all
/// segments. What a segment is still needed for follows from that too.
struct LogExtents: Sendable {
    /// Entries with consecutive indexes, written one after the other.
    struct Extent: Hashable, Sendable {
        var first: LogIndex
        var last: LogIndex
        /// Offsets in the segment: of the batch with the record of `first`, and of that record. What comes before the
        /// record in its batch may have been replaced by it.
        var batch: UInt32
        var record: UInt32
    }

    /// How many bytes an extent may span.
    private static let span: UInt32 = 64 << 10

    private(set) var extents: [Extent] = []
    /// The last extent must not grow: the record that it would grow by replaces one behind its end.
    private var isCut = false

    var isEmpty: Bool { extents.isEmpty }
    /// The newest entry in here.
    var newest: LogIndex { extents.last?.last ?? .zero }

    mutating func add(_ index: LogIndex, batch: Int, record: Int) {
        let place = extents.count - 1
        if place >= 0, !isCut, index.rawValue == extents[place].last.rawValue &+ 1,
            UInt32(truncatingIfNeeded: batch) &- extents[place].batch < Self.span
        {
            extents[place].last = index
            return
        }
        isCut = false
        extents.append(
            Extent(
                first: index, last: index, batch: UInt32(truncatingIfNeeded: batch),
                record: UInt32(truncatingIfNeeded: record)))
    }

    /// Entries from `index` on hold no more.
    mutating func cut(from index: LogIndex) {
        while let last = extents.last, last.first >= index { extents.removeLast() }
        if let last = extents.last, last.last >= index {
            extents[extents.count - 1].last = LogIndex(rawValue: index.rawValue &- 1)
        }
        isCut = true
    }

    /// The extent that holds `index`.
    func extent(of index: LogIndex) -> Extent? {
        var (low, high) = (0, extents.count)
        while low < high {
            let middle = (low + high) / 2
            if extents[middle].last < index { low = middle + 1 } else { high = middle }
        }
        guard low < extents.count, extents[low].first <= index else { return nil }
        return extents[low]
    }

    /// Whether the record of `index` at this offset is the one that holds.
    func holds(_ index: LogIndex, record: Int) -> Bool {
        var (low, high) = (0, extents.count)  // The extents below `low` begin at or before the record.
        while low < high {
            let middle = (low + high) / 2
            if Int(extents[middle].record) <= record { low = middle + 1 } else { high = middle }
        }
        return low > 0 && extents[low - 1].first <= index && index <= extents[low - 1].last
    }
}
