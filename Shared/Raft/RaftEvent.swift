import Base

/// What can happen to a replica. Every event comes with a sample of the monotonic clock.
package enum RaftEvent: Hashable, Sendable {
    /// Time has passed. Every `RaftConfiguration.tickInterval` while `RaftCore.needsTicks`; late ones are harmless.
    case tick
    /// The replica begins its life (once, before anything else), or a quiescent group gets traffic.
    case wake
    /// A message of a peer. Of an append, the driver keeps the payloads aside until it has seen `Effects.entries`.
    case received(Message)
    /// Entries of these sizes want to be in the log. They get the indexes from `RaftCore.lastIndex + 1` on, all of
    /// them or, with `Effects.refusal`, none.
    case propose(sizes: [UInt32])
    /// The membership shall become this one (not joint). The core takes the way through a joint one when voters change.
    case proposeMembership(Membership)
    /// Everything that `Effects.write` numbers up to `write` is durable.
    case persisted(write: UInt64)
    /// The driver has applied the log up to here.
    case applied(LogIndex)
    /// A read wants an index that it must see applied; answered in `Effects.reads`, or never if leadership is lost.
    case readIndex(token: UInt64)
    /// Another voter shall lead.
    case transferLeadership(to: NodeID)
    /// The driver's log no longer has entries up to here (never beyond what is applied).
    case compacted(LogIndex)
    /// The driver has done what `Effects.snapshotToInstall` asked: store and log now begin behind it, durably.
    case snapshotInstalled(SnapshotMetadata)
    /// The install did not work; the leader will send another snapshot.
    case snapshotRefused(SnapshotMetadata)
    /// A snapshot that `Effects.snapshotsWanted` asked for has been sent and staged by the peer, or has failed.
    case snapshotSent(to: NodeID, isDone: Bool)
    /// What was sent to this peer has probably not arrived.
    case unreachable(NodeID)
    /// A process is gone; wakes a quiescent group that it led.
    case peerDown(NodeID)
}
