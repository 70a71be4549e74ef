import Actors
import Base
import Contracts
import DataModel

/// What makes a call one that may come again: its token, and a digest that tells it from other calls.
struct InvocationToken {
    let token: OutcomeToken
    let digest: UInt64

    /// The call's slot must be its key's: it says where the outcome lies. Calls without a key are for a whole shard,
    /// whichever slot names it.
    init(_ invocation: borrowing InvocationView, session: UInt64, bucket: Int) throws(DatabaseError) {
        let id = invocation.id
        guard session != 0, id != 0 else {
            throw DatabaseError(.invalidArgument, "A token is a session and an id, both above zero")
        }
        let expected: Slot? =
            switch invocation.operation {
            case .call(let call): call.key.isEmpty || call.method.isKeyless ? nil : Slot.of(call.database, call.key)
            case .record(let record): Slot.ofPartition(record.key)
            case .batch, .step, .home, .unknown: nil
            }
        if let expected, UInt32(expected.rawValue) != invocation.slot {
            throw DatabaseError(.invalidArgument, "The slot of a call with a token must be that of its key")
        }
        token = OutcomeToken(
            bucket: BucketID(rawValue: UInt16(truncatingIfNeeded: bucket)), session: session, sequence: id)
        digest = Self.digest(of: invocation)
    }

    /// A hash of what the call does and for whom, however it is encoded; not of its deadline, trace and connection.
    static func digest(of invocation: borrowing InvocationView) -> UInt64 {
        var words = ByteBuffer(capacity: 256)
        words.append(littleEndian: UInt64(invocation.slot))
        words.append(littleEndian: ByteHash.stable(invocation.principal))
        switch invocation.operation {
        case .call(let call):
            words.append(littleEndian: UInt64(call.method.rawValue) << 8 | UInt64(call.database))
            words.append(littleEndian: ByteHash.stable(call.key))
            words.append(littleEndian: call.flags)
            words.append(littleEndian: UInt64(call.numbers.count))
            for position in 0..<call.numbers.count { words.append(littleEndian: call.numbers[position]) }
            for position in 0..<call.arguments.count {
                words.append(littleEndian: ByteHash.stable(call.arguments[position]))
            }
        case .record(let record):
            // Above every method's number.
            words.append(littleEndian: UInt64.max - record.kind.rawValue)
            words.append(littleEndian: record.collection.rawValue)
            words.append(littleEndian: ByteHash.stable(record.key))
            words.append(littleEndian: ByteHash.stable(record.value))
            words.append(littleEndian: Int64(record.limit))
            words.append(record.onlyIfAbsent ? 1 : 0 as UInt8)
        case .batch(let batch):
            // Above every method's number, below the kinds of record operations.
            words.append(littleEndian: UInt64(1) << 63)
            words.append(littleEndian: ByteHash.stable(batch.encoded))
        case .step, .home, .unknown: break
        }
        return ByteHash.stable(words.readable)
    }
}

extension OutcomeMemory.Recollection {
    /// The same where the repetition has an id of its own.
    func answer(anotherID id: UInt64, _ replies: ReplyBatchEncoder) {
        let isAnswered = reply?.withUnsafeBytes { replies.append(encoded: $0, as: id) } ?? false
        if !isAnswered {
            replies.error(id, DatabaseError(.alreadyExecuted, "The batch was executed before; its reply is not kept"))
        }
    }

    /// Writes the reply again, or says that it is not there any more.
    func answer(_ id: UInt64, _ replies: ReplyBatchEncoder) {
        guard let reply else {
            return replies.error(
                id,
                DatabaseError(.alreadyExecuted, "The call was executed before; its reply was too large to be kept"))
        }
        reply.withUnsafeBytes { replies.append(encoded: $0) }
    }
}
