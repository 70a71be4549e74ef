import Base
import Contracts

// Calls to a node itself, and not to the leader of a shard: commands of the transactions that it drives.
//
// They travel with the calls to shards, under slots that no shard has, so that a call which comes back (it was never
// sent, or came behind a refusal) is known to belong to that node and to no other.

extension NodeRouter {
    /// From here on slots name nodes.
    private static let firstHome: UInt32 = 1 << 20

    /// The node that such a slot names; nil for a slot of a shard.
    static func home(ofSlot slot: UInt32) -> NodeID? {
        slot >= firstHome ? NodeID(rawValue: slot - firstHome) : nil
    }

    /// A good home for a transaction that begins at a slot: the node that leads its shard, which need not be sent
    /// anything then that leaves it; without a slot, any node that leads something. Nil while nobody leads.
    package func homeNode(forSlot slot: UInt32?) -> NodeID? {
        if let slot, let index = shardIndex(ofSlot: slot), let target = route(index).target { return target.node }
        return shards.indices.lazy.compactMap { self.route($0).target?.node }.first
    }

    /// Sends an encoded `HomeOperation` to the node. It fails at once where the map names no such node.
    func sendHome(
        _ operation: ByteView, to node: NodeID, connection: UInt64, principal: Bytes, receiver: any ReplyReceiver,
        ticket: UInt64
    ) {
        guard node.rawValue <= UInt32.max - Self.firstHome, let stream = stream(to: node) else {
            return receiver.failed(ticket, Self.noHome)
        }
        principal.withUnsafeBytes { principal in
            stream.home(
                connection: connection, slot: Self.firstHome + node.rawValue, principal: principal,
                operation: operation, receiver: receiver, ticket: ticket)
        }
    }

    /// Sends one again that has certainly not been done.
    func sendHome(_ call: ParkedCall, _ home: NodeID) {
        guard let stream = stream(to: home) else { return call.receiver.failed(call.ticket, Self.noHome) }
        stream.resend(call)
    }

    private static let noHome = DatabaseError(.unavailable, "The transaction's home is not there")

    /// The way to a node is kept open until `letGo` has been called as often.
    func keep(_ home: NodeID) { homes[home, default: 0] += 1 }

    func letGo(_ home: NodeID) {
        guard let count = homes[home] else { return }
        homes[home] = count > 1 ? count - 1 : nil
    }
}
