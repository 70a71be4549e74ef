/// A number that means one thing: ids of different kinds do not mix.
@usableFromInline package protocol Identifier: RawRepresentable, Hashable, Comparable, Sendable, CustomStringConvertible
where RawValue: FixedWidthInteger & Sendable {
    init(rawValue: RawValue)
}

extension Identifier {
    @inlinable package static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }
    @inlinable package var description: String { String(rawValue) }
}

/// A storage node or coordinator, given by the coordinator when the process registers; never reused.
@usableFromInline package struct NodeID: Identifier {
    @usableFromInline package let rawValue: UInt32
    @inlinable package init(rawValue: UInt32) { self.rawValue = rawValue }
}

/// A shard: one Raft group, one ordered executor, a range of buckets.
@usableFromInline package struct ShardID: Identifier {
    @usableFromInline package let rawValue: UInt32
    @inlinable package init(rawValue: UInt32) { self.rawValue = rawValue }
}

/// A bucket of slots, the unit that moves between shards; `0 ..< bucketCount` of the cluster.
@usableFromInline package struct BucketID: Identifier {
    @usableFromInline package let rawValue: UInt16
    @inlinable package init(rawValue: UInt16) { self.rawValue = rawValue }
}

/// A collection of records; below 1024 are the reserved ones (`DataModel`).
@usableFromInline package struct CollectionID: Identifier {
    @usableFromInline package let rawValue: UInt32
    @inlinable package init(rawValue: UInt32) { self.rawValue = rawValue }
}

extension CollectionID {
    /// What `database` is in a call for records of collections: Redis has databases 0 to 15.
    @inlinable package static var callDatabase: UInt8 { 255 }
}

/// The position of an entry in a shard's log; the first entry has index 1.
@usableFromInline package struct LogIndex: Identifier {
    @usableFromInline package let rawValue: UInt64
    @inlinable package init(rawValue: UInt64) { self.rawValue = rawValue }
    @usableFromInline package static let zero = LogIndex(rawValue: 0)
}

/// A leadership period of a shard.
@usableFromInline package struct Term: Identifier {
    @usableFromInline package let rawValue: UInt64
    @inlinable package init(rawValue: UInt64) { self.rawValue = rawValue }
}

/// A hybrid-logical-clock timestamp: 48 bits of milliseconds since 1970, 16 bits of counter.
@usableFromInline package struct Timestamp: Identifier {
    @usableFromInline package let rawValue: UInt64
    @inlinable package init(rawValue: UInt64) { self.rawValue = rawValue }
    @inlinable package init(milliseconds: UInt64, counter: UInt16 = 0) {
        rawValue = milliseconds &<< 16 | UInt64(counter)
    }
    @inlinable package var milliseconds: UInt64 { rawValue >> 16 }
    @inlinable package var counter: UInt16 { UInt16(truncatingIfNeeded: rawValue) }
    @usableFromInline package static let zero = Timestamp(rawValue: 0)
}

/// A version of the shard map; grows with every change of it.
@usableFromInline package struct MapEpoch: Identifier {
    @usableFromInline package let rawValue: UInt64
    @inlinable package init(rawValue: UInt64) { self.rawValue = rawValue }
}
