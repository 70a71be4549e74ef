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

    /// Whether a record with this key is backed up, and whether a restore may bring it.
    package static func holds(_ key: ByteView) -> Bool {
        var reader = ByteReader(key)
        guard let number: UInt16 = reader.bigEndian(), Int(number) < Slot.count,
            let collection: UInt32 = reader.bigEndian()
        else { return false }
        return !excluded.contains(collection)
    }

    /// Where a bucket begins, and where it ends.
    package static func range(of bucket: BucketID) -> (from: Bytes, to: Bytes) {
        func edge(_ number: UInt32) -> Bytes {
            [UInt8(truncatingIfNeeded: number >> 8), UInt8(truncatingIfNeeded: number)]
        }
        return (edge(UInt32(bucket.rawValue)), edge(UInt32(bucket.rawValue) + 1))
    }

    /// Key counters are counted anew by a restore; what a shard remembers of transactions is of no use without their
    /// drivers, and everything decided at the time of the backup is in the data; older versions are not carried; and
    /// the mark of a restore is of the cluster that was restored.
    private static let excluded: Set<UInt32> = [
        CollectionID.redisCounters.rawValue, CollectionID.systemTransactions.rawValue, 19 /* history */,
        CollectionID.systemRestores.rawValue,
    ]
}
