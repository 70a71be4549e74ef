import Base
import Contracts
import GatewayKit

/// Statements on one record as their gateways send them once they know them, in transactions: the call of the record's
/// shard, in place of a plan with its parameters and settings.
///
/// A program that fails has done nothing, so nothing is to be undone; the transaction fails as with any other statement
/// that does. Where the call would mean something else than the statement, or the shard does not know the program,
/// nothing was done either, and the gateway is told to send the statement itself (`QueryReply.isUnknown`).
extension Queries {
    private static let notOneCall = DatabaseError(
        .invalidArgument, "A statement on one record is one call, and demands nothing else")

    /// Has such a call carried out. `answer` is called once, and may be from inside. What is done has the row, if there
    /// is one, and the count, if nobody asks how it is called.
    func call(
        _ operation: HomeOperation, in home: HomeTransaction, principal: String, on stream: InvocationStream,
        answer: @escaping Answer
    ) throws(DatabaseError) {
        guard let share = operation.shares.first, operation.shares.count == 1, share.callCount == 1,
            share.watchCount == 0, operation.lock == .none, operation.wait == .wait
        else { throw Self.notOneCall }
        guard let (_, handle, done) = begin(operation.number, on: ObjectIdentifier(stream), principal, answer) else {
            return answer(Self.crowded)
        }
        counts.called &+= 1
        let refused: (DatabaseError) -> Void = { done(QueryReply(error: StatementError(ofShard: $0))) }
        home.enqueue(bytes: share.calls.count, refused: refused) { run, next in
            func finish(_ reply: QueryReply) {
                if let error = reply.error {
                    run.failStatement(DatabaseError(.transactionAborted, error.error.message))
                }
                done(reply)
                next()
            }
            if handle?.isCancelled == true { return finish(QueryReply(error: StatementHandle.cancelled)) }
            // By what the transaction itself has defined it may be about another table.
            guard !home.hasDefinitions else { return finish(Self.unknown) }
            run.lockTimeout = operation.lockTimeout
            if share.isWrite { handle?.onCancel = { run.cancel(TransactionCalls.givenUp) } }
            do throws(DatabaseError) {
                let call = InteractiveRun.Share(slot: share.slot, body: share.calls, isWrite: share.isWrite)
                try run.execute([call]) { outcome in
                    handle?.onCancel = nil
                    finish(Self.reply(to: outcome))
                }
            } catch {
                finish(QueryReply(error: StatementError(ofShard: error)))
            }
        }
    }

    private static var unknown: QueryReply {
        var reply = QueryReply()
        reply.isUnknown = true
        return reply
    }

    private static func reply(to outcome: InteractiveRun.Outcome) -> QueryReply {
        do throws(StatementError) {
            switch outcome {
            case .done(let batches):
                var reply = unknown
                // A table that has changed: bound anew, the statement may find itself at home in it.
                try RowKeeper.read(batches, tolerated: .staleSchema) { (_, _, answer) throws(StatementError) in
                    guard answer.kind == .data else { return }
                    reply.isUnknown = false
                    try PointCall.take(answer.data, into: &reply)
                }
                return reply
            case .failed(let error) where error.code == .staleSchema: return unknown
            case .changed: throw RowKeeper.malformed
            case .failed(let error): throw StatementError(ofShard: error)
            }
        } catch {
            return plain(QueryReply(error: error))
        }
    }
}
