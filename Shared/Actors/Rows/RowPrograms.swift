import Base
import Contracts
import DataModel

/// A statement on one record, ready to be evaluated where the record is. What it means is the node's business; here it
/// is a function from a record to a record.
package protocol RowProgram: AnyObject {
    /// It may change the record.
    var writes: Bool { get }
    /// Of the collection's descriptor that it was made by.
    var version: UInt64 { get }
    /// Evaluates it on the record that is there; nil: none is. `key` is the encoded primary key; the reply is what the
    /// caller is told, whatever happens. `time`: of the transaction, microseconds since 1970; 0: none.
    func evaluate(
        _ record: Bytes?, key: ByteView, parameters: ViewList, time: Int64, into reply: inout ByteBuffer
    ) -> RowProgramChange
}

/// What a program does to its record.
package enum RowProgramChange { case none, put(Bytes), delete }

/// The programs of a node.
package protocol RowPrograms: AnyObject {
    /// Nil: it is not known here (any more).
    func program(_ name: ByteView) -> (any RowProgram)?
}

extension ActorRuntime {
    func rowQuery(_ call: ActorCallView, _ reply: Reply) throws(DatabaseError) {
        _ = try admitRecords(call)
        guard let program = program(of: call), !program.writes else { return reply.null() }
        let found = try activation(RowKey.database, call.key)
        _ = run(program, on: found, call)
        guard valueBuffer.count <= limits.replyBytes else { throw Failure.replyTooLarge }
        reply.data(valueBuffer.readable)
    }

    func rowModify(_ call: ActorCallView, _ reply: Reply) throws(DatabaseError) {
        _ = try admitRecords(call)
        guard let program = program(of: call) else { return reply.null() }
        let found = try writable(RowKey.database, call.key)
        switch run(program, on: found, call) {
        case .none: break
        case .put(let record):
            guard record.count <= limits.valueBytes else { throw Failure.recordTooLong }
            try allowEffects(record.count &+ 3 &* call.key.count &+ 128)
            record.withUnsafeBytes { put($0, at: found) }
        case .delete: drop(found)
        }
        reply.data(valueBuffer.readable)
    }

    /// By the version of the collection that the call names, which is the shard's.
    private func program(of call: ActorCallView) -> (any RowProgram)? {
        guard let program = programs?.program(call.arguments[0]),
            program.version == UInt64(bitPattern: call.numbers[0])
        else { return nil }
        return program
    }

    /// The reply is in `valueBuffer`.
    private func run(_ program: any RowProgram, on found: Activation, _ call: ActorCallView) -> RowProgramChange {
        valueBuffer.removeAll()
        return program.evaluate(
            found.isVisible(at: now) ? found.bytes : nil, key: RowKey.primaryKey(of: call.key),
            parameters: call.arguments, time: call.numbers[1] == 0 ? transactionTime : call.numbers[1],
            into: &valueBuffer)
    }
}
