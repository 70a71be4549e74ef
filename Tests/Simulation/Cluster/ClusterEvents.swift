import Base
import Raft
import Replication
import Storage

/// A replica's message on its way.
final class PeerDelivery {
    let message: Message
    let shard: ShardID
    let payload: Bytes

    init(_ message: Message, _ shard: ShardID, _ payload: Bytes) {
        (self.message, self.shard, self.payload) = (message, shard, payload)
    }
}

/// A whole snapshot on its way, as its stream brings it: what is staged at the receiver, then the message.
final class SnapshotDelivery {
    let message: Message
    let shard: ShardID
    let manifest: SnapshotManifest
    let files: [Bytes]
    /// Who waits to hear that it is staged, in which life.
    let life: UInt32
    let completion: (Bool) -> Void

    init(
        _ message: Message, _ shard: ShardID, _ manifest: SnapshotManifest, _ files: [Bytes], life: UInt32,
        completion: @escaping (Bool) -> Void
    ) {
        (self.message, self.shard, self.manifest, self.files) = (message, shard, manifest, files)
        (self.life, self.completion) = (life, completion)
    }
}

/// One attempt of a client.
final class ClientRequest {
    let client: Int
    /// Unlike every other attempt of that client.
    let attempt: UInt32
    let key: Int
    let action: RecordedAction
    /// The same for all attempts at one operation.
    let operation: UInt64
    /// Above zero: the shard remembers it, and a second attempt is not a second execution.
    let sequence: UInt32

    init(
        client: Int, attempt: UInt32, key: Int, action: RecordedAction, operation: UInt64, sequence: UInt32
    ) {
        (self.client, self.attempt, self.key, self.action) = (client, attempt, key, action)
        (self.operation, self.sequence) = (operation, sequence)
    }
}

/// What a client asks for.
enum RecordedAction: Hashable {
    case write(Int), append(Int), read
}

/// What a node answers.
final class ClientReply {
    enum Content: Hashable {
        case done
        case value([Int])
        /// Nothing has happened; who leads, if that is known.
        case refused(leader: Int?)
        /// It may have happened, or may still.
        case unknown
    }

    let request: ClientRequest
    let content: Content

    init(_ request: ClientRequest, _ content: Content) { (self.request, self.content) = (request, content) }
}

/// A read that was made under a lease, and whose reply leaves if the lease still runs then.
final class LeasedRead {
    let request: ClientRequest
    let shard: Int
    let value: [Int]

    init(_ request: ClientRequest, shard: Int, value: [Int]) {
        (self.request, self.shard, self.value) = (request, shard, value)
    }
}

/// What can happen to a machine; `life` says in which of its lives, where a new one must not hear of it.
enum NodeEvent {
    case tick
    case peer(PeerDelivery)
    case snapshot(SnapshotDelivery)
    case staged(SnapshotDelivery, isDone: Bool)
    case request(ClientRequest)
    case synced
    case flush
    case release(LeasedRead)
    case peerDown(NodeID)
    /// Ends a call that the driver made and must not be answered from inside.
    case later(() -> Void)
}

/// What can happen in a simulated cluster.
enum ClusterEvent {
    case node(Int, life: UInt32, NodeEvent)
    case reply(ClientReply)
    /// A client wakes: to begin an operation, or because an attempt has taken too long.
    case client(Int, attempt: UInt32)
    /// A fault begins.
    case fault
    /// A fault ends: see `Repair`.
    case repair(Repair)
    /// Looks whether somebody campaigns who does not hear the leader, to cut that leader off: see `usurp`.
    case usurp(Usurpation)
    /// Machines look whether they still reach each other.
    case keepalive
}

/// A machine that does not hear the leader of a shard, until a time.
struct Usurpation: Hashable {
    var shard: Int
    var leader: Int
    var deaf: Int
    var until: UInt64
}

/// How a fault ends.
enum Repair: Hashable {
    case start(Int, life: UInt32)
    case resume(Int, stop: UInt32)
    case network
    case weather
    case disk(Int)
    case clients
}
