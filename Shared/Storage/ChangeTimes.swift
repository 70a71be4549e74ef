import Base
import DataModel

/// Collections, told apart by the lowest byte of their numbers: some share one, and who asks of one may be told of
/// another.
package struct CollectionSet: Hashable, Sendable {
    private var bits: SIMD4<UInt64>

    package init() { bits = .zero }

    private init(bits: SIMD4<UInt64>) { self.bits = bits }

    /// Every collection.
    package static let all = CollectionSet(bits: SIMD4(repeating: .max))

    package mutating func insert(_ collection: CollectionID) {
        let byte = UInt8(truncatingIfNeeded: collection.rawValue)
        bits[Int(byte >> 6)] |= 1 << UInt64(byte & 63)
    }

    package mutating func formUnion(_ other: CollectionSet) { bits |= other.bits }

    func contains(_ byte: Int) -> Bool { bits[byte >> 6] & (1 << UInt64(byte & 63)) != 0 }
}

/// When the records of collections were changed last.
struct ChangeTimes {
    /// Where the lowest byte of the collection lies in the key of a record.
    private static let position = NativeKeyLayout.prefixSize - 2

    /// By the lowest byte of the collection.
    private var times: ContiguousArray<Timestamp>

    init(_ time: Timestamp = .zero) { times = ContiguousArray(repeating: time, count: 256) }

    /// Part of every write: a comparison and a store.
    @inline(__always)
    mutating func note(_ key: ByteView, _ time: Timestamp) {
        guard key.count > Self.position else { return noteAll(time) }
        let kind = Int(key[Self.position])
        if time > times[kind] { times[kind] = time }
    }

    mutating func noteAll(_ time: Timestamp) {
        for kind in times.indices where time > times[kind] { times[kind] = time }
    }

    mutating func merge(_ other: ChangeTimes) {
        for kind in times.indices { times[kind] = max(times[kind], other.times[kind]) }
    }

    func newest(of collections: CollectionSet) -> Timestamp {
        var newest = Timestamp.zero
        for kind in times.indices where collections.contains(kind) { newest = max(newest, times[kind]) }
        return newest
    }
}
