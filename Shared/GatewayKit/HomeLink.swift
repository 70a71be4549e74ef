import Base
import Contracts
import Crypto

/// A client connection's part in a transaction whose driver is a node, its home: what the client wants is sent there.
///
/// A transaction that a client begins is opened by its first command that the home has to hear of, at the leader of
/// the shard that this is for: BEGIN costs nothing. Every later command names it by its token. A client that joins
/// names the token that it was told.
///
/// Invariants. Completions are called once, later, never from inside. A link that has lost its home, or whose
/// transaction others have ended, says so until the client ends it; what was done is never said to be undone when it
/// may not be. Until it is over the router keeps the way to the home open.
package final class HomeLink: ReplyReceiver {
    package typealias Outcome = TransactionRun.Outcome
    package typealias Completion = (DatabaseError?) -> Void

    /// What the home says to a command.
    private enum Answer {
        case done, changed
        case batches([Bytes]), data(Bytes)
        case failed(DatabaseError)
    }

    private let router: NodeRouter
    private let principal: Bytes
    private let connection: UInt64
    /// To open it with; nil of one that was joined.
    private let options: HomeOperation.Options?
    /// Nil: nobody has been asked to open it.
    private var token: TransactionToken?
    /// The home has said that it is there.
    private var isOpen = false
    private var loss: DatabaseError?
    private var isOver = false
    private var asked: [UInt64: (Answer) -> Void] = [:]
    private var lastTicket: UInt64 = 0

    /// Begins a transaction for `principal`; nobody is asked yet. `connection` is the client's.
    package init(
        _ router: NodeRouter, beginning options: HomeOperation.Options, principal: String, connection: UInt64
    ) {
        (self.router, self.options, self.principal) = (router, options, Bytes(principal.utf8))
        self.connection = connection
    }

    /// Takes part in a transaction that is there, once `join` has succeeded.
    package init(_ router: NodeRouter, joining token: TransactionToken, principal: String, connection: UInt64) {
        (self.router, options, self.principal) = (router, nil, Bytes(principal.utf8))
        (self.connection, self.token) = (connection, token)
        router.keep(token.home)
    }

    // MARK: Commands

    /// Makes the client a member.
    package func join(completion: @escaping Completion) {
        tell(.join) { [self] error in
            if error != nil { finish(isLeft: true) }
            completion(error)
        }
    }

    /// Has a statement done at its shards, or at none. `lock` and `wait` are for keys that it only reads.
    package func execute(
        _ shares: [InteractiveRun.Share], lock: InvocationScope.LockMode = .none,
        wait: InvocationScope.WaitPolicy = .wait, completion: @escaping (Outcome) -> Void
    ) {
        ask(.execute, near: shares.first?.slot) { operation in
            operation.shares = shares.map { .init(slot: $0.slot, calls: $0.body, isWrite: $0.isWrite) }
            (operation.lock, operation.wait) = (lock, wait)
        } answered: { answer in
            switch answer {
            case .batches(let batches):
                completion(batches.count == shares.count ? .done(batches) : .failed(Self.damaged))
            case .changed: completion(.changed)
            case .failed(let error): completion(.failed(error))
            case .done, .data: completion(.failed(Self.damaged))
            }
        }
    }

    package func savepoint(_ name: Bytes, completion: @escaping Completion) { tell(.savepoint, name, completion) }

    package func release(_ name: Bytes, completion: @escaping Completion) { tell(.release, name, completion) }

    package func rollBack(to name: Bytes, completion: @escaping Completion) { tell(.rollBackTo, name, completion) }

    /// Nil when all that was done is durable. Whatever is answered, the link is over.
    package func commit(completion: @escaping Completion) { end(.commit, completion) }

    /// Nil when nothing was done. Whatever is answered, the link is over.
    package func rollBack(completion: @escaping Completion) { end(.rollBack, completion) }

    /// The client takes part no more; if nobody else does, all is rolled back. The link is over.
    package func leave(completion: @escaping Completion = { _ in }) {
        end(.leave) { _ in completion(nil) }
    }

    /// Has a statement executed: an encoded `QueryRequest`.
    package func statement(
        _ request: Bytes, completion: @escaping (Result<QueryReply, DatabaseError>) -> Void
    ) {
        ask(.statement) {
            $0.statement = request
        } answered: { answer in
            switch answer {
            case .data(let data):
                let reply = data.withUnsafeBytes { try? QueryReply(decoding: $0) }
                completion(reply.map { .success($0) } ?? .failure(Self.damaged))
            case .failed(let error): completion(.failure(error))
            case .done, .changed, .batches: completion(.failure(Self.damaged))
            }
        }
    }

    /// What the home says to a statement on one record.
    package enum PointAnswer {
        /// What the record's program says (`PointReply`).
        case said(Bytes)
        /// It is under way still, or has failed.
        case reply(QueryReply)
        /// Nothing was done: the call is not known there, and the statement is to be sent.
        case unknown
        case failed(DatabaseError)
    }

    /// Has a statement on one record done: an encoded `CallBatch` of one call, by the number that calls it back.
    package func point(
        _ call: Bytes, slot: UInt32, number: UInt64, lockTimeout: UInt32, completion: @escaping (PointAnswer) -> Void
    ) {
        ask(.point, near: slot) {
            $0.shares = [.init(slot: slot, calls: call, isWrite: false)]
            ($0.number, $0.lockTimeout) = (number, lockTimeout)
        } answered: { answer in
            switch answer {
            case .batches(let batches):
                completion(batches.count == 1 ? .said(batches[0]) : .failed(Self.damaged))
            case .changed: completion(.unknown)
            case .data(let data):
                let reply = data.withUnsafeBytes { try? QueryReply(decoding: $0) }
                completion(reply.map { .reply($0) } ?? .failed(Self.damaged))
            case .failed(let error): completion(.failed(error))
            case .done: completion(.failed(Self.damaged))
            }
        }
    }

    /// Where the transaction is driven; nil before anybody was asked.
    package var home: NodeID? { token?.home }

    /// How it stands.
    package func describe(completion: @escaping (Result<TransactionStatus, DatabaseError>) -> Void) {
        ask(.status) { _ in
        } answered: { answer in
            switch answer {
            case .data(let data):
                let status = data.withUnsafeBytes { try? TransactionStatus(decoding: $0) }
                completion(status.map { .success($0) } ?? .failure(Self.damaged))
            case .failed(let error): completion(.failure(error))
            case .done, .changed, .batches: completion(.failure(Self.damaged))
            }
        }
    }

    /// The token by which others can join.
    package func identify(completion: @escaping (Result<TransactionToken, DatabaseError>) -> Void) {
        tell(isOpen ? .status : .begin) { [self] error in
            if let token, error == nil { return completion(.success(token)) }
            completion(.failure(error ?? Self.damaged))
        }
    }

    // MARK: Asking

    private func tell(_ kind: HomeOperation.Kind, _ name: Bytes = [], _ completion: @escaping Completion) {
        ask(kind) {
            $0.name = name
        } answered: { answer in
            switch answer {
            case .done, .data: completion(nil)
            case .failed(let error): completion(error)
            case .changed, .batches: completion(Self.damaged)
            }
        }
    }

    private func end(_ kind: HomeOperation.Kind, _ completion: @escaping Completion) {
        guard !isOver, loss == nil, token != nil else {
            // ROLLBACK of what is lost has nothing more to do; COMMIT has not happened.
            let error = isOver ? Self.none : kind == .commit ? loss : nil
            finish(isLeft: false)
            return router.after(milliseconds: nil) { completion(error) }
        }
        tell(kind) { [self] error in
            finish(isLeft: error == nil)
            completion(kind != .commit && loss != nil ? nil : error)
        }
    }

    /// A home that is not known to have let the client go is told to, whether it hears or not.
    private func finish(isLeft: Bool) {
        guard !isOver else { return }
        isOver = true
        if !isLeft, let token { send(HomeOperation(.leave, token)) { _ in } }
        if let token { router.letGo(token.home) }
    }

    private func ask(
        _ kind: HomeOperation.Kind, near slot: UInt32? = nil, _ fill: (inout HomeOperation) -> Void,
        answered: @escaping (Answer) -> Void
    ) {
        if let error = isOver ? Self.none : loss {
            return router.after(milliseconds: nil) { answered(.failed(error)) }
        }
        guard let token = token ?? choose(near: slot) else {
            return router.after(milliseconds: nil) { answered(.failed(NodeRouter.noLeader)) }
        }
        var operation = HomeOperation(kind, token)
        fill(&operation)
        operation.begin = isOpen ? nil : options
        send(operation, answered)
    }

    /// The home of the transaction that is to be opened.
    private func choose(near slot: UInt32?) -> TransactionToken? {
        guard let node = router.homeNode(forSlot: slot) else { return nil }
        let numbers = randomBytes(16).reduce(into: (high: UInt64(0), low: UInt64(0))) { sum, byte in
            sum = (sum.high << 8 | sum.low >> 56, sum.low << 8 | UInt64(byte))
        }
        let chosen = TransactionToken(home: node, high: numbers.high, low: numbers.low)
        router.keep(node)
        token = chosen
        return chosen
    }

    private func send(_ operation: HomeOperation, _ answered: @escaping (Answer) -> Void) {
        lastTicket += 1
        asked[lastTicket] = answered
        var message = ByteBuffer(capacity: 256)
        operation.encode(into: &message)
        router.sendHome(
            message.readable, to: operation.token.home, connection: connection, principal: principal, receiver: self,
            ticket: lastTicket)
    }

    // MARK: Answers

    package func completed(_ ticket: UInt64, _ reply: borrowing ReplyView) {
        guard let answered = asked.removeValue(forKey: ticket) else { return }
        switch reply.kind {
        case .ok: isOpen = true
        case .null, .list, .data: isOpen = true
        case .error: return answered(.failed(heard(reply.error)))
        case .integer, .number, .batch: return answered(.failed(Self.damaged))
        }
        answered(Self.answer(reply))
    }

    private static func answer(_ reply: borrowing ReplyView) -> Answer {
        switch reply.kind {
        case .ok: return .done
        case .null: return .changed
        case .data: return .data(reply.data.bytes)
        case .list:
            var batches: [Bytes] = [], items = reply.items
            while let item = items.next() {
                guard case .data(let batch) = item else { return .failed(damaged) }
                batches.append(batch.bytes)
            }
            return .batches(batches)
        case .integer, .number, .error, .batch: return .failed(damaged)
        }
    }

    /// What the home's refusal means for the link; answers what the client is told.
    private func heard(_ error: DatabaseError) -> DatabaseError {
        guard error.code == .noSuchTransaction, isOpen else { return error }
        let lost = Self.gone
        loss = lost
        return lost
    }

    package func failed(_ ticket: UInt64, _ error: DatabaseError) {
        guard let answered = asked.removeValue(forKey: ticket) else { return }
        let told: DatabaseError
        switch error.code {
        case .busy, .limitExceeded: told = error  // It was not sent, and there is a home still.
        case .unavailable where !isOpen && options != nil:
            // Nothing was opened: somebody else may be asked.
            if let token { router.letGo(token.home) }
            token = nil
            told = error
        case .unavailable:
            loss = Self.gone
            told = Self.gone
        case _:
            loss = Self.silent
            told = error
        }
        router.after(milliseconds: nil) { answered(.failed(told)) }
    }

    private static let none = DatabaseError(.noSuchTransaction, "There is no transaction")
    private static let gone = DatabaseError(
        .transactionAborted, "The transaction's home has lost it, or cannot be reached; it was rolled back")
    private static let silent = DatabaseError(
        .transactionAborted, "The transaction's home did not answer; without others in it, it is rolled back")
    private static let damaged = DatabaseError(
        .internalFailure, "The transaction's home answered with something else than was asked")
}
