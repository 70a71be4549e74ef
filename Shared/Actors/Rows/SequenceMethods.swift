import Base
import Contracts
import DataModel

// Sequences: one record each, with the columns that PostgreSQL shows of them: last_value, log_cnt, is_called. What is
// drawn is drawn, whatever becomes of the transaction that wanted it.

/// How far a sequence is.
private struct SequenceState {
    var last: Int64
    /// `last` was drawn; if not, it is the next.
    var isCalled: Bool

    init(last: Int64, isCalled: Bool) { (self.last, self.isCalled) = (last, isCalled) }

    init?(_ record: Bytes) {
        guard let columns = record.withUnsafeBytes({ RecordEncoding.decode($0) }), columns.count == 3,
            case .integer(let last) = columns[0].value, case .bool(let isCalled) = columns[2].value
        else { return nil }
        self.init(last: last, isCalled: isCalled)
    }

    var record: Bytes { RecordEncoding.encode([(1, .integer(last)), (2, .integer(0)), (3, .bool(isCalled))]) }

    /// The next number; nil when there is none.
    mutating func draw(_ sequence: CollectionDescriptor.Sequence) -> Int64? {
        guard isCalled else {
            isCalled = true
            return last
        }
        let (next, overflows) = last.addingReportingOverflow(sequence.increment)
        if !overflows, next >= sequence.minimum, next <= sequence.maximum {
            last = next
        } else {
            guard sequence.cycles else { return nil }
            last = sequence.increment < 0 ? sequence.maximum : sequence.minimum
        }
        return last
    }
}

extension ActorRuntime {
    /// Numbers that one call may draw.
    private static let drawLimit: Int64 = 100_000

    /// The sequence of a call, and its record.
    private func openSequence(
        _ call: ActorCallView
    ) throws(DatabaseError) -> (CollectionDescriptor, CollectionDescriptor.Sequence, Activation, SequenceState) {
        guard call.database == RowKey.database, let id = RowKey.collection(of: call.key) else { throw Failure.noRecord }
        guard !isScope else {
            throw DatabaseError(.featureNotSupported, "numbers of a sequence are drawn outside of transactions")
        }
        try checkSchema(id, call.numbers[0])
        guard let descriptor = try readCatalog().collection(id), let sequence = descriptor.sequence,
            RowKey.primaryKey(of: call.key).elementsEqual(KeyEncoding.encode([.integer(0)]))
        else { throw Failure.noRecord }
        let found = try writable(RowKey.database, call.key)
        guard found.kind != .absent else {
            return (descriptor, sequence, found, SequenceState(last: sequence.start, isCalled: false))
        }
        guard let state = SequenceState(found.bytes) else { throw Failure.damaged }
        return (descriptor, sequence, found, state)
    }

    private func keep(_ state: SequenceState, in item: Activation) {
        let record = state.record
        item.kind = .row
        item.bytes = record
        changed(item, bytes: record.count)
    }

    func sequenceNext(_ call: ActorCallView, _ reply: Reply) throws(DatabaseError) {
        guard (1...Self.drawLimit).contains(call.numbers[1]) else { throw Failure.outOfRange }
        var (descriptor, sequence, item, state) = try openSequence(call)
        var drawn: [Int64] = []
        while drawn.count < call.numbers[1], let number = state.draw(sequence) { drawn.append(number) }
        guard !drawn.isEmpty else {
            let (word, bound) =
                sequence.increment < 0 ? ("minimum", sequence.minimum) : ("maximum", sequence.maximum)
            throw DatabaseError(
                .overflow, "nextval: reached \(word) value of sequence \"\(descriptor.name)\" (\(bound))")
        }
        keep(state, in: item)
        reply.beginList()
        for number in drawn { reply.encoder.listInteger(number) }
        reply.encoder.endList()
    }

    func sequenceSet(_ call: ActorCallView, _ reply: Reply) throws(DatabaseError) {
        let (descriptor, sequence, item, _) = try openSequence(call), value = call.numbers[1]
        guard value >= sequence.minimum, value <= sequence.maximum else {
            throw DatabaseError(
                .overflow,
                "setval: value \(value) is out of bounds for sequence \"\(descriptor.name)\" "
                    + "(\(sequence.minimum)..\(sequence.maximum))")
        }
        keep(SequenceState(last: value, isCalled: call.numbers[2] != 0), in: item)
        reply.integer(value)
    }
}
