import Base
import Contracts
import GatewayKit

// Commands of transactions whose home this node is, as gateways send them with their other invocations
// (`HomeOperation`). Each is answered when it is done; a transaction's commands are done in the order in which they
// came, whichever connection they came from.

extension Node {
    /// A command for a transaction that this node drives, or is to drive.
    func takeHome(
        _ message: ByteView, _ invocation: borrowing InvocationView, on stream: InvocationStream,
        ready: ReplyBatchEncoder
    ) {
        let id = invocation.id
        do throws(DatabaseError) {
            guard let homes else { throw DatabaseError(.unavailable, "This node drives no transactions") }
            guard !stream.isUnary, !invocation.isIdempotent, !invocation.hasScope, invocation.transaction == 0 else {
                throw DatabaseError(
                    .featureNotSupported, "A command of a transaction comes on a stream, and demands nothing else")
            }
            let operation = try HomeOperation(decoding: message, homes.decoder)
            let principal = String(decoding: invocation.principal, as: UTF8.self)
            let member = HomeMember(stream, invocation.connection)
            if operation.kind == .leave, operation.begin == nil {
                homes.transactions[operation.token]?.leave(member)
                return ready.ok(id)
            }
            if operation.kind == .rollBack, homes.hasRolledBack(operation.token, principal: principal) {
                return ready.ok(id)
            }
            if operation.kind == .statement {
                let isAlone = operation.token.isNone
                let home = isAlone ? nil : try homes.member(member, operation, principal: principal, on: stream)
                return try takeStatement(operation.statement, in: home, principal, id, on: stream)
            }
            let transaction = try homes.member(member, operation, principal: principal, on: stream)
            if operation.kind == .point { return try takePoint(operation, in: transaction, principal, id, on: stream) }
            homes.carryOut(operation, in: transaction, by: member) { [self] reply in
                // Who hears of it may read elsewhere next, and must find it there.
                _ = observe(homes.bookmark)
                stream.answer { reply.write(id, $0) }
            }
        } catch {
            ready.error(id, error)
        }
    }
}

extension Node {
    /// A statement of a query language, alone or in a transaction.
    private func takeStatement(
        _ message: Bytes, in home: HomeTransaction?, _ principal: String, _ id: UInt64, on stream: InvocationStream
    ) throws(DatabaseError) {
        guard let queries, let homes else {
            throw DatabaseError(.unavailable, "This node does not execute statements")
        }
        let request = try message.withView { (view: ByteView) throws(DatabaseError) in
            try QueryRequest(decoding: view)
        }
        queries.carryOut(request, in: home, principal: principal, on: ObjectIdentifier(stream)) { [self] reply in
            // Who hears of it may read elsewhere next, and must find it there.
            _ = observe(homes.bookmark)
            stream.answer { HomeReply.data(reply.encode()).write(id, $0) }
        }
    }
}

extension Node {
    /// A statement on one record, as a call of its shard.
    private func takePoint(
        _ operation: HomeOperation, in home: HomeTransaction, _ principal: String, _ id: UInt64,
        on stream: InvocationStream
    ) throws(DatabaseError) {
        guard let queries, let homes else {
            throw DatabaseError(.unavailable, "This node does not execute statements")
        }
        try queries.call(operation, in: home, principal: principal, on: stream) { [self] reply in
            // Who hears of it may read elsewhere next, and must find it there.
            _ = observe(homes.bookmark)
            stream.answer { HomeReply(point: reply).write(id, $0) }
        }
    }
}

/// What a home says to a command.
private enum HomeReply {
    case done, changed
    case batches([Bytes]), data(Bytes)
    case point(count: UInt8, row: Bytes?)
    case failed(DatabaseError)

    init(_ error: DatabaseError?) { self = error.map { .failed($0) } ?? .done }

    init(point reply: QueryReply) {
        if reply.isUnknown {
            self = .changed
        } else if reply.isPending || reply.error != nil {
            self = .data(reply.encode())
        } else {
            self = .point(count: UInt8(clamping: reply.count ?? 0), row: reply.rows.first)
        }
    }

    func write(_ id: UInt64, _ replies: ReplyBatchEncoder) {
        switch self {
        case .done: replies.ok(id)
        case .changed: replies.null(id)
        case .data(let data): data.withUnsafeBytes { replies.data(id, $0) }
        case .point(let count, let row):
            var said = ByteBuffer(capacity: 2 + (row?.count ?? 0))
            PointReply.appendDone(count: count, row: row, to: &said)
            replies.beginList(id)
            replies.listData(said.readable)
            replies.endList()
        case .failed(let error): replies.error(id, error)
        case .batches(let batches):
            replies.beginList(id)
            for batch in batches { batch.withUnsafeBytes { replies.listData($0) } }
            replies.endList()
        }
    }
}

extension HomeTransactions {
    /// The transaction of a command whose sender belongs to it, or does from now on.
    fileprivate func member(
        _ member: HomeMember, _ operation: HomeOperation, principal: String, on stream: InvocationStream
    ) throws(DatabaseError) -> HomeTransaction {
        let transaction: HomeTransaction
        if let begin = operation.begin {
            transaction = try open(
                .init(begin), principal: principal, priority: begin.priority, token: operation.token)
        } else {
            transaction = try find(operation.token, principal: principal)
        }
        if operation.begin != nil || operation.kind == .join {
            if operation.begin == nil { joined() }
            transaction.join(member)
            stream.hasMembers = true
        }
        guard transaction.members.contains(member) else {
            throw DatabaseError(.noSuchTransaction, "This connection does not belong to the transaction")
        }
        return transaction
    }

    fileprivate func carryOut(
        _ operation: HomeOperation, in transaction: HomeTransaction, by member: HomeMember,
        _ reply: @escaping (HomeReply) -> Void
    ) {
        let tell: (DatabaseError?) -> Void = { reply(HomeReply($0)) }
        switch operation.kind {
        case .begin, .join: reply(.done)
        case .leave:
            transaction.leave(member)
            reply(.done)
        case .savepoint: transaction.savepoint(operation.name, completion: tell)
        case .release: transaction.release(operation.name, completion: tell)
        case .rollBackTo: transaction.rollBack(to: operation.name, completion: tell)
        case .commit: transaction.commit(completion: tell)
        case .rollBack: transaction.rollBack(completion: tell)
        case .status: reply(.data(TransactionStatus(transaction).encode()))
        case .statement, .point: break  // `Node.takeHome` has sent it on.
        case .execute:
            let shares = operation.shares.map {
                InteractiveRun.Share(slot: $0.slot, body: $0.calls, isWrite: $0.isWrite)
            }
            execute(shares, lock: operation.lock, wait: operation.wait, in: transaction) { outcome in
                switch outcome {
                case .done(let batches): reply(.batches(batches))
                case .changed: reply(.changed)
                case .failed(let error): reply(.failed(error))
                }
            }
        }
    }
}
