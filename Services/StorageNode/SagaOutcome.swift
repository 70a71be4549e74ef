import Base
import Contracts
import Transactions

extension Saga.Outcome {
    /// What a shard's reply to a call of a saga means.
    init(_ reply: borrowing ReplyView) {
        switch reply.kind {
        case .batch: self = .done
        case .null: self = .refused("a condition of the step does not hold", isFinal: true)
        case .integer: self = .fenced(wasExecuted: reply.integer != 0)
        case .error: self.init(reply.error)
        case .ok, .number, .data, .list: self = .unknown("a shard answered with something else than was asked")
        }
    }

    /// What a failure means: one that would come again on the same state is final.
    init(_ error: DatabaseError) {
        let reason = "\(error.code): \(error.message)"
        switch error.code {
        case .alreadyExecuted: self = .done  // Only its reply was too large to be kept.
        case .outcomeUnknown, .deadlineExceeded, .internalFailure: self = .unknown(reason)
        case _: self = .refused(reason, isFinal: error.code.row.isDeterministic)
        }
    }
}

extension StepLinks {
    /// Sends a call of a saga to the leader of its shard. `answered` is called once, later.
    func send(_ call: Saga.Call, answered: @escaping (Saga.Outcome) -> Void) {
        var encoder = CallBatchEncoder(), message = ByteBuffer(capacity: call.action.calls.count + 64)
        encoder.append(BatchToken(session: call.session, id: call.token, isFence: call.kind == .fence))
        switch call.kind {
        case .execute: message.append(call.action.calls)
        case .fence: break
        }
        message.append(encoder.message)
        send(message.readable, to: UInt32(call.action.slot.rawValue), answered: answered)
    }
}
