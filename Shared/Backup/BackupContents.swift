// Backup: how the backups of a cluster lie in a directory, and how a bucket is divided into pieces.
//
//     node    records as of T ──PieceScan──▶ changed pieces ──gRPC──▶ orbit    BackupDraft ──▶ data files, manifest
//     node    ◀──────────────gRPC, pieces in order────────────────────── orbit    BackupReader ◀── data files, manifest
//
// Purpose. Node and `orbit` share this module: the node divides and compares, `orbit` has the files. Nothing of the
// store is in it, so that the command line links no RocksDB.
//
// Invariants.
// 1. Every backup is whole: its manifest names all pieces, wherever their files are. A backup without a manifest is
//    none.
// 2. Content decides what is stored anew. A piece is known by the SHA-256 of its records, so an incremental backup
//    depends on nothing that a node would have to remember.
// 3. Every byte of every file is under a checksum, and each piece under that of the manifest too.
// 4. Whatever a disk or a peer hands in ends in a value or an error, never in a trap.

import Base
import DataModel

extension CollectionID {
    /// How far the restore of a bucket is (`RestoreRecord`).
    @inlinable package static var systemRestores: CollectionID { CollectionID(rawValue: 23) }
}

/// Which records of a bucket belong into a backup; docs/backup.md says why, one by one.
package enum BackupContents {
    /// The bucket of a record's key; nil for keys that are of no bucket.
    package static func bucket(of key: ByteView) -> BucketID? {
        var reader = ByteReader(key)
        guard let number: UInt16 = reader.bigEndian(), Int(number) < Slot.count else { return nil }
        return BucketID(rawValue: number)
    }

    /// The collection of a record's key.
    package static func collection(of key: ByteView) -> CollectionID? {
        var reader = ByteReader(key)
        guard reader.bigEndian(UInt16.self) != nil, let number: UInt32 = reader.bigEndian() else { return nil }
        return CollectionID(rawValue: number)
    }

    /// Whether a record with this key is backed up, and whether a restore may bring it.
    package static func holds(_ key: ByteView) -> Bool {
        guard bucket(of: key) != nil, let collection = collection(of: key) else { return false }
        return !excluded.contains(collection)
    }

    /// Where a bucket begins, and where it ends.
    package static func range(of bucket: BucketID) -> (from: Bytes, to: Bytes) {
        (edge(UInt32(bucket.rawValue)), edge(UInt32(bucket.rawValue) + 1))
    }

    private static func edge(_ bucket: UInt32) -> Bytes {
        [UInt8(truncatingIfNeeded: bucket >> 8), UInt8(truncatingIfNeeded: bucket)]
    }

    /// The keys of a bucket that belong into a backup, in order.
    package static func ranges(of bucket: BucketID) -> [(from: Bytes, to: Bytes)] {
        var ranges: [(from: Bytes, to: Bytes)] = []
        var from = range(of: bucket).from
        for collection in excluded {
            let hole = self.range(of: collection, in: bucket)
            ranges.append((from, hole.from))
            from = hole.to
        }
        ranges.append((from, range(of: bucket).to))
        return ranges
    }

    /// The counters of a bucket's keys.
    package static func counters(of bucket: BucketID) -> (from: Bytes, to: Bytes) {
        range(of: .redisCounters, in: bucket)
    }

    private static func range(of collection: CollectionID, in bucket: BucketID) -> (from: Bytes, to: Bytes) {
        func start(_ number: UInt32) -> Bytes {
            edge(UInt32(bucket.rawValue)) + withUnsafeBytes(of: number.bigEndian) { Bytes($0) }
        }
        return (start(collection.rawValue), start(collection.rawValue + 1))
    }

    /// Key counters are counted anew by a restore; what a shard remembers of transactions is of no use without their
    /// drivers, and everything decided at the time of the backup is in the data; older versions are not carried; and
    /// the mark of a restore is of the cluster that was restored. Ascending.
    private static let excluded: [CollectionID] = [
        .redisCounters, .systemTransactions, .systemHistory, .systemRestores,
    ]
}
