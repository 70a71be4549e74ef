import Base

/// A set of keys as disjoint ranges `from <= key < to`, in order: the range tombstones of an overlay.
struct RangeSet {
    private var froms: [Bytes] = []
    private var tos: [Bytes] = []

    var isEmpty: Bool { froms.isEmpty }
    var count: Int { froms.count }

    /// Adds a range; what it touches becomes one with it. An inverted range is empty.
    mutating func insert(from: ByteView, to: ByteView) {
        guard compareKeys(from, to) < 0 else { return }
        // Touched: those that end at or behind `from`, and begin at or before `to`.
        let first = Self.firstIndex(in: tos) { compareKeys($0, from) >= 0 }
        let last = Self.firstIndex(in: froms) { compareKeys($0, to) > 0 }
        var start = from.bytes
        var end = to.bytes
        if first < last {
            if froms[first].withUnsafeBytes({ compareKeys($0, from) }) < 0 { start = froms[first] }
            if tos[last - 1].withUnsafeBytes({ compareKeys($0, to) }) > 0 { end = tos[last - 1] }
        }
        froms.replaceSubrange(first..<max(first, last), with: [start])
        tos.replaceSubrange(first..<max(first, last), with: [end])
    }

    /// The end of the range that holds `key`, or nil.
    func end(containing key: ByteView) -> Bytes? {
        guard !froms.isEmpty else { return nil }
        let index = Self.firstIndex(in: tos) { compareKeys($0, key) > 0 }
        guard index < froms.count, froms[index].withUnsafeBytes({ compareKeys($0, key) }) <= 0 else { return nil }
        return tos[index]
    }

    func contains(_ key: ByteView) -> Bool { end(containing: key) != nil }

    func forEach(_ body: (Bytes, Bytes) -> Void) {
        for index in froms.indices { body(froms[index], tos[index]) }
    }

    private static func firstIndex(in keys: [Bytes], where isBehind: (ByteView) -> Bool) -> Int {
        var low = 0
        var high = keys.count
        while low < high {
            let middle = (low + high) / 2
            if keys[middle].withUnsafeBytes(isBehind) { high = middle } else { low = middle + 1 }
        }
        return low
    }
}
