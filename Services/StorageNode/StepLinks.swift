import Base
import Contracts
import Crypto
import GatewayKit
import Net
import Placement
import Transactions

/// How the shards of this node reach other participants of a transaction that they recover, or that they hold the
/// record of: a router like that of a gateway, which finds the leader of a slot's shard and asks the next one when it
/// has moved. Made when it is first needed: most nodes recover nothing for weeks.
///
/// Loop-confined. What is asked is answered exactly once, later, never from inside `send`.
final class StepLinks: ReplyReceiver {
    /// Steps under way; beyond it nothing is sent, and who asked asks again.
    static let limit = 4096
    /// How long an answer may take: whoever needs it asks again.
    private static let patience: UInt64 = 5_000

    private let loop: EventLoop
    private let tls: TLSContext?
    private let session: UInt64
    private var router: NodeRouter?
    private var map: ShardMap?
    private var asked: [UInt64: (Bytes?) -> Void] = [:]
    private var calls: [UInt64: (Saga.Outcome) -> Void] = [:]
    private var lastTicket: UInt64 = 0
    private var isClosed = false

    /// `session` is random.
    init(loop: EventLoop, tls: TLSContext?, session: UInt64) {
        (self.loop, self.tls, self.session) = (loop, tls, session)
    }

    /// Steps go where the map says from here on.
    func adopt(_ map: ShardMap) {
        self.map = map
        router?.adopt(map)
    }

    /// Sends a step to the leader of the shard that owns `slot`. `answered` gets the data of its reply, or nil: then
    /// it is not known whether the step was heard.
    func send(_ step: TransactionStep, to slot: UInt32, answered: @escaping (Bytes?) -> Void) {
        guard asked.count < Self.limit, !isClosed, let router = openRouter() else {
            return loop.runLater { answered(nil) }
        }
        lastTicket &+= 1
        asked[lastTicket] = answered
        router.step(connection: 0, slot: slot, step, receiver: self, ticket: lastTicket)
    }

    /// Sends calls of a saga, which have their token in them. `answered` is called once, later.
    func send(_ batch: ByteView, to slot: UInt32, answered: @escaping (Saga.Outcome) -> Void) {
        guard calls.count < Self.limit, !isClosed, let router = openRouter() else {
            return loop.runLater { answered(.refused("this node cannot send it now", isFinal: false)) }
        }
        lastTicket &+= 1
        calls[lastTicket] = answered
        router.batch(connection: 0, slot: slot, body: batch, isWrite: true, receiver: self, ticket: lastTicket)
    }

    private func openRouter() -> NodeRouter? {
        if let router { return router }
        guard let map else { return nil }
        let fresh = NodeRouter(
            loop: loop, tls: tls, session: session, callTimeout: Self.patience, connectPatience: Self.patience)
        fresh.adopt(map)
        router = fresh
        return fresh
    }

    func completed(_ ticket: UInt64, _ reply: borrowing ReplyView) {
        if let answered = calls.removeValue(forKey: ticket) { return answered(Saga.Outcome(reply)) }
        let data = reply.kind == .data ? reply.data.bytes : nil
        asked.removeValue(forKey: ticket)?(data)
    }

    func failed(_ ticket: UInt64, _ error: DatabaseError) {
        // The router may refuse at once; who asked must not be called back from inside.
        if let answered = calls.removeValue(forKey: ticket) { return loop.runLater { answered(Saga.Outcome(error)) } }
        guard let answered = asked.removeValue(forKey: ticket) else { return }
        loop.runLater { answered(nil) }
    }

    /// Answers what is under way with nil, and sends nothing more.
    func close() {
        isClosed = true
        router?.close()
    }
}
