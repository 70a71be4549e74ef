import Base

/// The keys `from <= key < to`.
package struct KeyRange: Hashable, Sendable {
    package let from: Bytes
    package let to: Bytes

    package init(from: Bytes, to: Bytes) {
        self.from = from
        self.to = to
    }

    /// Whether `key` lies in it.
    package func contains(_ key: ByteView) -> Bool { !lies(before: key) && !lies(behind: key) }

    /// Whether all of it is below `key`.
    func lies(before key: ByteView) -> Bool { to.withUnsafeBytes { compareKeys($0, key) <= 0 } }

    /// Whether all of it is above `key`.
    func lies(behind key: ByteView) -> Bool { from.withUnsafeBytes { compareKeys($0, key) > 0 } }

    /// Whether the ranges are what a shard can own: at least one, none of them empty, in order, apart from each other,
    /// and below the store's own records.
    static func areSound(_ ranges: [KeyRange]) -> Bool {
        guard !ranges.isEmpty else { return false }
        var end: Bytes = []
        for range in ranges {
            guard !range.from.lexicographicallyPrecedes(end), range.from.lexicographicallyPrecedes(range.to) else {
                return false
            }
            end = range.to
        }
        return !AppliedIndex.prefix.lexicographicallyPrecedes(end)
    }
}
