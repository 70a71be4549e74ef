import Base
import CProto

/// Where the methods of `orbit.v1.TransactionService` are.
package enum TransactionPath {
    package static let service = "orbit.v1.TransactionService"
    package static let begin = "/orbit.v1.TransactionService/Begin"
    package static let execute = "/orbit.v1.TransactionService/Execute"
    package static let savepoint = "/orbit.v1.TransactionService/Savepoint"
    package static let rollBackTo = "/orbit.v1.TransactionService/RollbackTo"
    package static let release = "/orbit.v1.TransactionService/Release"
    package static let commit = "/orbit.v1.TransactionService/Commit"
    package static let rollBack = "/orbit.v1.TransactionService/Rollback"
    package static let status = "/orbit.v1.TransactionService/Status"
    /// In the trailers of a refusal: the transaction's home, and its addresses with commas between.
    package static let homeNodeTrailer = "orbit-home-node", homeTrailer = "orbit-home"
}

/// Opens a transaction.
package struct BeginTransactionRequest: Hashable, Sendable {
    package var principal: String
    package var options: HomeOperation.Options

    package init(decoding bytes: ByteView) throws(DatabaseError) {
        self = try Protobuf.decode(
            bytes, orbit__v1__begin_transaction_request__unpack, orbit__v1__begin_transaction_request__free_unpacked
        ) { message throws(DatabaseError) in
            var options = HomeOperation.Options()
            if let given = message.options?.pointee {
                guard let level = InvocationScope.Isolation(wire: UInt64(given.isolation.rawValue)) else {
                    throw DatabaseError(.featureNotSupported, "This node does not know the isolation level")
                }
                (options.isolation, options.isReadOnly) = (level, given.read_only != 0)
                (options.asOf, options.failsWhole) = (Timestamp(rawValue: given.as_of), given.fails_whole != 0)
                (options.timeLimit, options.idleLimit) = (given.time_limit_ms, given.idle_limit_ms)
                (options.lockTimeout, options.priority) = (given.lock_timeout_ms, given.priority)
            }
            return BeginTransactionRequest(principal: Protobuf.text(message.principal), options: options)
        }
    }

    private init(principal: String, options: HomeOperation.Options) {
        (self.principal, self.options) = (principal, options)
    }
}

/// Answers with the token of a transaction that was opened.
package struct TransactionTokenMessage: Hashable, Sendable {
    package var token: String

    package init(_ token: TransactionToken) { self.token = token.description }

    package func encode() -> Bytes {
        Protobuf.encode { arena in
            arena.make(orbit__v1__transaction_token__init) { $0.token = arena.text(token) }
        }
    }
}

/// Names a transaction; of the methods for savepoints one of those too.
package struct TransactionRequestMessage: Hashable, Sendable {
    package var token: String
    package var principal: String
    package var name: Bytes = []

    package init(decoding bytes: ByteView) throws(DatabaseError) {
        self = try Protobuf.decode(
            bytes, orbit__v1__transaction_request__unpack, orbit__v1__transaction_request__free_unpacked
        ) { message throws(DatabaseError) in
            TransactionRequestMessage(
                token: Protobuf.text(message.token), principal: Protobuf.text(message.principal), name: [])
        }
    }

    package init(decodingSavepoint bytes: ByteView) throws(DatabaseError) {
        self = try Protobuf.decode(
            bytes, orbit__v1__savepoint_request__unpack, orbit__v1__savepoint_request__free_unpacked
        ) { message throws(DatabaseError) in
            TransactionRequestMessage(
                token: Protobuf.text(message.token), principal: Protobuf.text(message.principal),
                name: Protobuf.bytes(message.name))
        }
    }

    private init(token: String, principal: String, name: Bytes) {
        (self.token, self.principal, self.name) = (token, principal, name)
    }
}

/// A statement.
package struct ExecuteTransactionRequest: Sendable {
    package var token: String
    package var principal: String
    /// Encoded `CallBatch`es; nothing of them has been checked.
    package var shares: [(slot: UInt32, calls: Bytes)]
    package var lock: InvocationScope.LockMode
    package var wait: InvocationScope.WaitPolicy

    package init(decoding bytes: ByteView) throws(DatabaseError) {
        self = try Protobuf.decode(
            bytes, orbit__v1__execute_transaction_request__unpack,
            orbit__v1__execute_transaction_request__free_unpacked
        ) { message throws(DatabaseError) in
            guard let lock = UInt8(exactly: message.lock.rawValue).flatMap(InvocationScope.LockMode.init),
                let wait = UInt8(exactly: message.wait.rawValue).flatMap(InvocationScope.WaitPolicy.init)
            else { throw HomeOperation.unknown }
            return ExecuteTransactionRequest(
                token: Protobuf.text(message.token), principal: Protobuf.text(message.principal),
                shares: Protobuf.messages(message.shares, message.n_shares).map {
                    (slot: $0.slot, calls: Protobuf.packed($0.calls))
                }, lock: lock, wait: wait)
        }
    }

    private init(
        token: String, principal: String, shares: [(slot: UInt32, calls: Bytes)], lock: InvocationScope.LockMode,
        wait: InvocationScope.WaitPolicy
    ) {
        (self.token, self.principal, self.shares, self.lock, self.wait) = (token, principal, shares, lock, wait)
    }
}

extension Protobuf {
    /// Calls as they were sent, in the one form that protobuf-c gives them.
    static func packed(_ batch: UnsafeMutablePointer<Orbit__V1__CallBatch>?) -> Bytes {
        guard let batch else { return [] }
        let size = orbit__v1__call_batch__get_packed_size(batch)
        return Bytes(unsafeUninitializedCapacity: size) { room, count in
            count = size == 0 ? 0 : orbit__v1__call_batch__pack(batch, room.baseAddress)
        }
    }
}

/// Answers a statement. Written by hand, for the replies are encoded already.
package struct ExecuteTransactionResponse: Hashable, Sendable {
    /// Of each share an encoded `ReplyBatch`; nil: a watch did not hold.
    package var batches: [Bytes]?

    package init(_ batches: [Bytes]?) { self.batches = batches }

    package func encode(into buffer: inout ByteBuffer) {
        guard let batches else { return buffer.appendField(2, varint: 1) }
        for batch in batches { batch.withUnsafeBytes { buffer.append(delimited: $0, tag: 1 << 3 | 2) } }
    }
}

/// How a transaction stands.
package struct TransactionStatus: Hashable, Sendable {
    package enum State: UInt8, CaseIterable, Hashable, Sendable {
        case active = 0, failed = 1, committed = 2, rolledBack = 3, outcomeUnknown = 4
    }

    package var state = State.active
    package var failure: DatabaseError?
    package var id: UInt64 = 0
    package var isolation = InvocationScope.Isolation.readCommitted
    package var isReadOnly = false
    package var readTimestamp: Timestamp?
    package var statements: UInt32 = 0
    package var shards = 0, members = 0
    package var savepoints: [Bytes] = []

    package init() {}

    package func encode() -> Bytes {
        Protobuf.encode { arena in
            arena.make(orbit__v1__transaction_status__init) {
                $0.state = Orbit__V1__TransactionState(UInt32(state.rawValue))
                if let failure {
                    $0.failure = arena.make(orbit__v1__error__init) {
                        ($0.code, $0.message) = (failure.code.rawValue, arena.text(failure.message))
                    }
                }
                ($0.id, $0.isolation) = (id, Orbit__V1__Isolation(UInt32(isolation.rawValue)))
                ($0.read_only, $0.read_timestamp) = (isReadOnly ? 1 : 0, readTimestamp?.rawValue ?? 0)
                ($0.statements, $0.shards) = (statements, UInt32(clamping: shards))
                ($0.savepoints, $0.n_savepoints) = (arena.array(savepoints.map(arena.data)), savepoints.count)
                $0.members = UInt32(clamping: members)
            }
        }
    }

    package init(decoding bytes: ByteView) throws(DatabaseError) {
        self = try Protobuf.decode(
            bytes, orbit__v1__transaction_status__unpack, orbit__v1__transaction_status__free_unpacked
        ) { message throws(DatabaseError) in
            guard let state = UInt8(exactly: message.state.rawValue).flatMap(State.init),
                let isolation = InvocationScope.Isolation(wire: UInt64(message.isolation.rawValue))
            else { throw HomeOperation.unknown }
            var status = TransactionStatus()
            (status.state, status.id, status.isolation) = (state, message.id, isolation)
            if let failure = message.failure?.pointee {
                status.failure = DatabaseError(
                    ErrorCode(rawValue: failure.code) ?? .internalFailure, Protobuf.text(failure.message))
            }
            status.isReadOnly = message.read_only != 0
            if message.read_timestamp != 0 { status.readTimestamp = Timestamp(rawValue: message.read_timestamp) }
            (status.statements, status.shards) = (message.statements, Int(message.shards))
            (status.members, status.savepoints) = (
                Int(message.members), Protobuf.byteStrings(message.savepoints, message.n_savepoints)
            )
            return status
        }
    }
}
