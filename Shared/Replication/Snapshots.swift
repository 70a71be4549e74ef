import Base
import Raft

/// Ships a shard's applied state to a peer that needs more than the log still has. Loop-confined.
package protocol SnapshotSource: AnyObject {
    /// Makes and sends a snapshot of `shard`. The source chooses at which applied index it takes the state, and asks
    /// `message` for what belongs to that (nil: this replica leads no more, or its log begins behind that index). The
    /// message goes to the peer's `ReplicaGroups.received` when everything before it is staged there. `completion` runs
    /// once on the loop, never from inside this call: true when the peer has staged all of it.
    func sendSnapshot(
        of shard: ShardID, to peer: NodeID, message: @escaping (LogIndex) -> Message?,
        completion: @escaping (Bool) -> Void)
}

/// Takes a staged snapshot over. Loop-confined.
package protocol SnapshotSink: AnyObject {
    /// Replaces the shard's state by the snapshot that was staged under `metadata`, durably and together with the
    /// applied index `metadata.last.index`. `completion` runs once on the loop; false when nothing has changed (then
    /// the leader sends another one). Nothing is applied to the shard meanwhile.
    func installSnapshot(_ metadata: SnapshotMetadata, of shard: ShardID, completion: @escaping (Bool) -> Void)
}
