import Base
import Raft
import Replication

/// A snapshot that was made to be sent: what is offered, and whose files they are.
package struct MadeSnapshot: Sendable {
    package var shard: ShardID
    package var leaderTerm: Term
    package var metadata: SnapshotMetadata
    package var manifest: Bytes
    package var sizes: [UInt64]
    /// Names its files to `SnapshotStaging`.
    package var number: UInt64

    package init(
        shard: ShardID, leaderTerm: Term, metadata: SnapshotMetadata, manifest: Bytes, sizes: [UInt64], number: UInt64
    ) {
        (self.shard, self.leaderTerm, self.metadata) = (shard, leaderTerm, metadata)
        (self.manifest, self.sizes, self.number) = (manifest, sizes, number)
    }
}

/// The disk's half of a snapshot's transfer; it lives with its user, the storage node implements it. Loop-confined.
/// Completions come on the loop, never from inside the call, and those of one direction in the order of the calls.
package protocol SnapshotStaging: AnyObject {
    /// Makes the files of a snapshot at an index of its own choice, for which `message` gives the Raft message (nil:
    /// not possible any more). Nil when it did not work out.
    func make(
        _ shard: ShardID, message: @escaping (LogIndex) -> Message?, completion: @escaping (MadeSnapshot?) -> Void)

    /// Reads a part of a made snapshot; nil when the disk fails.
    func read(
        _ snapshot: MadeSnapshot, from: SnapshotPosition, count: Int, completion: @escaping (Bytes?) -> Void)

    /// The made snapshot is not needed any more.
    func release(_ snapshot: MadeSnapshot)

    /// Looks whether the offered snapshot is for this replica and fits its disk, and how many of its files, from the
    /// first on, are here already; of another snapshot nothing is kept.
    func open(_ offer: SnapshotOffer, completion: @escaping (Result<Int, SnapshotFailure>) -> Void)

    /// Writes a part of what was opened last for the shard.
    func write(
        _ shard: ShardID, at: SnapshotPosition, _ bytes: Bytes,
        completion: @escaping (Result<Void, SnapshotFailure>) -> Void)

    /// Whether a file is what the manifest says.
    func check(_ shard: ShardID, file: Int, completion: @escaping (Result<Bool, SnapshotFailure>) -> Void)

    /// Removes what was received for the shard.
    func discard(_ shard: ShardID)
}

/// Why the disk's half cannot.
package struct SnapshotFailure: Error, Hashable, Sendable {
    package var refusal: SnapshotRefusal
    package var message: String

    package init(_ refusal: SnapshotRefusal, _ message: String) {
        self.refusal = refusal
        self.message = message
    }
}
