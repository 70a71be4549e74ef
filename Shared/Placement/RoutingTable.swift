import Base

/// A shard map made flat: one load gives the shard and the leader of a slot. What a gateway asks per key.
package struct RoutingTable: Hashable, Sendable {
    /// Hash slots of a cluster, as Redis clients know them.
    package static let slotCount = 16384

    /// Where a bucket is.
    @usableFromInline package struct Target: Hashable, Sendable {
        @usableFromInline package let shard: ShardID
        /// Nil when the shard has no leader, or the leader has no lease: nobody would answer.
        @usableFromInline package let leader: NodeID?
    }

    package let epoch: MapEpoch
    @usableFromInline let targets: [Target]
    /// Slots to buckets: both counts are powers of two.
    @usableFromInline let shift: UInt16

    package init(_ map: ShardMap) {
        epoch = map.epoch
        shift = UInt16((Self.slotCount / map.bucketCount).trailingZeroBitCount)
        let up = Set(map.nodes.filter { $0.state == .up }.map(\.id))
        var targets = [Target](
            repeating: Target(shard: ShardID(rawValue: 0), leader: nil), count: map.bucketCount)
        for shard in map.shards {
            let target = Target(shard: shard.id, leader: shard.leader.flatMap { up.contains($0) ? $0 : nil })
            for range in shard.buckets {
                for bucket in range { targets[bucket] = target }
            }
        }
        self.targets = targets
    }

    /// The bucket of a slot; slots wrap at `slotCount`, so that no number from a peer is out of range.
    @inlinable package func bucket(ofSlot slot: UInt16) -> BucketID {
        BucketID(rawValue: (slot & 16383) &>> shift)
    }

    /// Where the keys of a slot are.
    @inlinable package subscript(slot slot: UInt16) -> Target { targets[Int((slot & 16383) &>> shift)] }
}
