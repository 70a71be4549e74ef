import Base
import Raft

/// Carries Raft messages to the replicas of other processes. It promises nothing: a message may be lost, and what is
/// sent to one peer arrives in order only as long as the way to it holds. Confined to the loop of its groups.
///
/// It lives with its user; what implements it over gRPC is `Peers.PeerLinks`.
package protocol PeerTransport: AnyObject {
    /// Sends `message` of the group `shard` to `message.to`, together with everything else that this tick has for that
    /// peer.
    ///
    /// `payload` is called at once, or not at all: it writes the payloads of an append's entries one behind the other,
    /// as many bytes as their sizes say, and does nothing but append. False when the message was dropped: the way to
    /// the peer is closed or too much waits; `PeerReceiver.unreachable` follows after the tick, once.
    @discardableResult
    func send(_ message: Message, of shard: ShardID, payload: (inout ByteBuffer) -> Void) -> Bool
}

/// Hears what the replicas of other processes say. Calls come on the loop, never from inside `PeerTransport.send`.
package protocol PeerReceiver: AnyObject {
    /// A message of the group `shard` came; `message.from` is proved by the transport. `payload` holds the payloads of
    /// an append's entries, one behind the other, as their sizes say; it is valid during the call.
    func received(_ message: Message, of shard: ShardID, payload: ByteView)
    /// Messages to this peer were dropped.
    func unreachable(_ peer: NodeID)
    /// The process answers (again).
    func peerUp(_ peer: NodeID)
    /// The process has not answered for some time, or its connection is lost.
    func peerDown(_ peer: NodeID)
}

extension PeerTransport {
    /// Sends a message without entries.
    @discardableResult
    package func send(_ message: Message, of shard: ShardID) -> Bool { send(message, of: shard) { _ in } }
}
