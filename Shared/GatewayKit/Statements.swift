import Base
import Contracts

/// Statements of query languages on their way to the node that executes them: any node that leads something, or the
/// home of the transaction that they are in.
extension NodeRouter {
    /// What a statement was answered, and by whom: a cursor is there, and nowhere else.
    package typealias StatementAnswer = (reply: QueryReply, node: NodeID)

    /// Has a statement that is in no transaction executed: an encoded `QueryRequest`. `node`: where its cursor is; nil
    /// for a node that `connection` falls to. `completion` is called once, later.
    /// Returns that node.
    @discardableResult package func statement(
        _ request: Bytes, at node: NodeID? = nil, connection: UInt64, principal: String,
        completion: @escaping (Result<StatementAnswer, DatabaseError>) -> Void
    ) -> NodeID? {
        let slots = slotOfEachShard
        let slot = slots.isEmpty ? nil : slots[Int(connection % UInt64(slots.count))]
        guard let node = node ?? homeNode(forSlot: slot) else {
            after(milliseconds: nil) { completion(.failure(Self.noLeader)) }
            return nil
        }
        let call = StatementCall(self, node, completion)
        var operation = HomeOperation(.statement, TransactionToken(home: node, high: 0, low: 0))
        operation.statement = request
        var message = ByteBuffer(capacity: request.count + 64)
        operation.encode(into: &message)
        sendHome(
            message.readable, to: node, connection: connection, principal: Bytes(principal.utf8), receiver: call,
            ticket: 0)
        return node
    }
}

/// One statement under way.
private final class StatementCall: ReplyReceiver {
    private let router: NodeRouter
    private let node: NodeID
    private var completion: ((Result<NodeRouter.StatementAnswer, DatabaseError>) -> Void)?

    init(
        _ router: NodeRouter, _ node: NodeID,
        _ completion: @escaping (Result<NodeRouter.StatementAnswer, DatabaseError>) -> Void
    ) {
        (self.router, self.node, self.completion) = (router, node, completion)
        router.keep(node)
    }

    func completed(_ ticket: UInt64, _ reply: borrowing ReplyView) {
        switch reply.kind {
        case .data:
            do throws(DatabaseError) {
                end(.success((try QueryReply(decoding: reply.data), node)))
            } catch {
                end(.failure(error))
            }
        case .error: end(.failure(reply.error))
        case .null, .ok, .integer, .number, .list, .batch:
            end(.failure(DatabaseError(.protocolViolation, "A node has answered something else than a statement")))
        }
    }

    func failed(_ ticket: UInt64, _ error: DatabaseError) { end(.failure(error)) }

    /// It may be failing from inside of what sends it.
    private func end(_ result: Result<NodeRouter.StatementAnswer, DatabaseError>) {
        guard let completion else { return }
        self.completion = nil
        router.letGo(node)
        router.after(milliseconds: nil) { completion(result) }
    }
}
