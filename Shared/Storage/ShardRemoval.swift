import Base

/// What is to be deleted of a shard whose replica has left the node, between two steps that a crash may part:
///
///     log     says that the replica is gone, and in a note what is to be deleted (`encoded`)
///     store   deletes it, in one batch with the applied index
///
/// A start that finds the note and an applied index (`isDue`) does the second step; without the one there are no
/// records either. Nothing else is done with the shard on this node before that. Runs on any thread.
package struct ShardRemoval: Hashable, Sendable {
    package let shard: ShardID
    /// The keys of the shard's records.
    package let ranges: [KeyRange]

    private static let formatVersion: UInt8 = 1

    package init(shard: ShardID, ranges: [KeyRange]) {
        self.shard = shard
        self.ranges = ranges
    }

    /// Version u8 = 1, then the edges of the ranges, each with its length as varint.
    package func encoded() -> Bytes {
        var buffer = ByteBuffer(capacity: 64)
        buffer.append(Self.formatVersion)
        for edge in ranges.flatMap({ [$0.from, $0.to] }) {
            buffer.append(varint: UInt64(edge.count))
            buffer.append(edge)
        }
        return buffer.readable.bytes
    }

    /// From what `encoded` wrote.
    package init(_ shard: ShardID, decoding note: ByteView) throws(StoreError) {
        let damage = StoreError(.corruption, "shard \(shard): the note of its removal is damaged or of a newer Orbit")
        var reader = ByteReader(note)
        guard reader.byte() == Self.formatVersion else { throw damage }
        var ranges: [KeyRange] = []
        while !reader.isAtEnd {
            guard let from = reader.delimited(), let to = reader.delimited() else { throw damage }
            ranges.append(KeyRange(from: from.bytes, to: to.bytes))
        }
        guard KeyRange.areSound(ranges) else { throw damage }
        self.init(shard: shard, ranges: ranges)
    }

    /// Whether the store still has something of the shard.
    package func isDue(in store: any Store) throws(StoreError) -> Bool {
        try store.get(AppliedIndex.key(shard)) != nil
    }

    /// Deletes; durable when it returns.
    package func run(in store: any Store) throws(StoreError) {
        var batch = WriteBatch()
        for range in ranges { batch.deleteRange(from: range.from, to: range.to) }
        batch.delete(AppliedIndex.key(shard))
        batch.delete(SnapshotBase.key(shard))
        try store.write(batch)
        try store.flush()
    }
}
