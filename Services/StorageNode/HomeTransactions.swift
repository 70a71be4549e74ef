import Base
import Contracts
import Crypto
import GatewayKit
import Net
import Placement
import ServiceKit

/// The transactions whose home this node is: it drives them as a gateway would, over a router of its own, and knows
/// them by their tokens. Their shards may be anywhere; the node's own are reached over its own socket.
///
/// Loop-confined, and in memory only: a node that dies takes its transactions with it, and shards forget their scopes.
/// How one ended is remembered for a while.
final class HomeTransactions {
    struct Counts {
        var committed: UInt64 = 0, rolledBack: UInt64 = 0, unknown: UInt64 = 0
        var statements: UInt64 = 0, joins: UInt64 = 0
    }

    private struct End {
        let token: TransactionToken
        let principal: String
        let ending: InteractiveRun.Ending
        let status: TransactionStatus
        let at: UInt64
    }

    private let loop: EventLoop
    private let tls: TLSContext?
    private let session: UInt64
    let limits: HomeLimits
    private let clock: () -> UInt64
    private var generator = SystemRandom()
    private var fleet: (map: ShardMap, id: NodeID)?
    private var router: NodeRouter?
    private var timer: LoopTimer?
    private(set) var transactions: [TransactionToken: HomeTransaction] = [:]
    private var ends: [TransactionToken: End] = [:]
    /// The tokens of `ends`, oldest first.
    private var endOrder = Queue<TransactionToken>()
    private var lastConnection: UInt64 = 0
    private var isDraining = false, isClosed = false
    private(set) var counts = Counts()
    /// Reads what others have encoded.
    let decoder = InvocationBatchDecoder()

    /// This node's own shards; nil: they are reached as others.
    var local: (any LocalNode)?

    /// `session` is random; `clock` tells milliseconds since 1970.
    init(
        loop: EventLoop, tls: TLSContext?, session: UInt64, clock: @escaping () -> UInt64,
        limits: HomeLimits = HomeLimits()
    ) {
        (self.loop, self.tls, self.session) = (loop, tls, session)
        (self.clock, self.limits) = (clock, limits)
    }

    /// Who this node is, and where shards are from here on.
    func adopt(_ map: ShardMap, as id: NodeID) {
        fleet = (map, id)
        router?.local = local.map { (id, $0) }
        router?.adopt(map)
    }

    /// The way to all shards: what a node has done for a client outside of transactions goes over it as well.
    func openRouter() throws(DatabaseError) -> NodeRouter {
        guard let fleet, !isClosed else { throw DatabaseError(.unavailable, "This node has no shard map yet") }
        if let router { return router }
        let fresh = NodeRouter(loop: loop, tls: tls, session: session)
        fresh.local = local.map { (fleet.id, $0) }
        fresh.adopt(fleet.map)
        router = fresh
        timer = loop.schedule(afterMilliseconds: 1_000, repeating: true) { [unowned self] in tick() }
        return fresh
    }

    /// The highest timestamp that has been seen in a reply.
    var bookmark: Timestamp { router?.bookmark ?? .zero }

    // MARK: Opening and finding

    /// Opens a transaction for `principal`; under `token`, if the caller has made one of this node. One that is there
    /// already under it is answered as it is.
    func open(
        _ options: InteractiveTransaction.Options, principal: String, priority: UInt64 = 0,
        token: TransactionToken? = nil, isUnowned: Bool = false
    ) throws(DatabaseError) -> HomeTransaction {
        let router = try openRouter()
        guard let fleet else { throw Self.none }
        let token = token ?? makeToken(of: fleet.id)
        if transactions[token] != nil || ends[token] != nil { return try find(token, principal: principal) }
        try checkHome(token)
        guard !isDraining else { throw DatabaseError(.unavailable, "This node is shutting down") }
        guard transactions.count < limits.transactions else {
            throw DatabaseError(.busy, "Too many transactions are open at this node")
        }
        for limit in [options.timeLimit, options.idleLimit] {
            guard limit <= limits.longestMilliseconds else {
                throw DatabaseError(.invalidArgument, "A time-out is at most a day")
            }
        }
        lastConnection += 1
        let age = priority == 0 ? clock() << 20 | generator.next() >> 44 : priority
        let run = router.begin(options, connection: lastConnection, priority: age, random: { generator.next() })
        let openedAt = clock()
        run.time = Int64(clamping: openedAt &* 1000)
        let transaction = HomeTransaction(
            token, principal, run, isUnowned: isUnowned, openedAt: openedAt, limits: limits,
            later: { [loop] body in loop.runLater(body) }, onEnd: { [unowned self] in note($0) })
        transactions[token] = transaction
        return transaction
    }

    private func makeToken(of id: NodeID) -> TransactionToken {
        let numbers = randomBytes(16)
        func number(_ bytes: ArraySlice<UInt8>) -> UInt64 { bytes.reduce(0) { $0 << 8 | UInt64($1) } }
        return TransactionToken(home: id, high: number(numbers[..<8]), low: number(numbers[8...]))
    }

    /// Refuses the token of another node.
    func checkHome(_ token: TransactionToken) throws(DatabaseError) {
        guard let fleet else { throw DatabaseError(.unavailable, "This node has no shard map yet") }
        guard token.home == fleet.id else {
            throw DatabaseError(
                .noSuchTransaction, "The transaction is not here: its home is node \(token.home.rawValue)")
        }
    }

    /// The transaction of a token, for whom it is; throws how it ended if it has.
    func find(_ token: TransactionToken, principal: String) throws(DatabaseError) -> HomeTransaction {
        if let transaction = transactions[token] {
            guard transaction.principal == principal else { throw Self.foreign }
            return transaction
        }
        try checkHome(token)
        guard let end = ends[token] else { throw Self.none }
        guard end.principal == principal else { throw Self.foreign }
        throw HomeTransaction.error(of: end.ending)
    }

    /// How it stands, or stood when it ended.
    func status(of token: TransactionToken, principal: String) throws(DatabaseError) -> TransactionStatus {
        if transactions[token] == nil, let end = ends[token], end.principal == principal { return end.status }
        return TransactionStatus(try find(token, principal: principal))
    }

    /// It has ended, and nothing of it was done.
    func hasRolledBack(_ token: TransactionToken, principal: String) -> Bool {
        guard transactions[token] == nil, let end = ends[token], end.principal == principal else { return false }
        if case .rolledBack = end.ending { return true }
        return false
    }

    private static let none = DatabaseError(
        .noSuchTransaction, "There is no such transaction here: it ended long ago, or its home has restarted")
    private static let foreign = DatabaseError(.permissionDenied, "The transaction is another user's")

    // MARK: Statements

    /// Has a statement of calls done; answers an encoded `ReplyBatch` of each share.
    func execute(
        _ shares: [InteractiveRun.Share], lock: InvocationScope.LockMode, wait: InvocationScope.WaitPolicy,
        in transaction: HomeTransaction, completion: @escaping (InteractiveRun.Outcome) -> Void
    ) {
        counts.statements &+= 1
        let bytes = shares.reduce(0) { $0 + $1.body.count }
        transaction.enqueue(bytes: bytes, refused: { completion(.failed($0)) }) { run, done in
            do throws(DatabaseError) {
                try run.execute(shares, lock: lock, wait: wait) { outcome in
                    completion(Self.bounded(outcome, of: shares, run))
                    done()
                }
            } catch {
                completion(.failed(error))
                done()
            }
        }
    }

    /// Answers that no message can hold are an error; if the statement has changed something, of the transaction.
    private static func bounded(
        _ outcome: InteractiveRun.Outcome, of shares: [InteractiveRun.Share], _ run: InteractiveRun
    ) -> InteractiveRun.Outcome {
        guard case .done(let batches) = outcome,
            batches.reduce(0, { $0 + $1.count }) > InvocationStream.replyLimit
        else { return outcome }
        let error = DatabaseError(.limitExceeded, "The replies of one statement exceed 24 MB")
        if shares.contains(where: \.isWrite) { run.abandon(error) }
        return .failed(error)
    }

    func joined() { counts.joins &+= 1 }

    // MARK: Ends

    private func note(_ transaction: HomeTransaction) {
        guard let ending = transaction.ending else { return }
        transactions[transaction.token] = nil
        var status = TransactionStatus(transaction)
        switch ending {
        case .committed(let time):
            counts.committed &+= 1
            (status.state, status.failure) = (.committed, nil)
            if let time { status.readTimestamp = time }
        case .rolledBack(let error):
            counts.rolledBack &+= 1
            (status.state, status.failure) = (.rolledBack, error)
        case .unknown(let error):
            counts.unknown &+= 1
            (status.state, status.failure) = (.outcomeUnknown, error)
        }
        ends[transaction.token] = End(
            token: transaction.token, principal: transaction.principal, ending: ending, status: status, at: now)
        endOrder.append(transaction.token)
        if endOrder.count > limits.ends, let oldest = endOrder.popFirst() { ends[oldest] = nil }
    }

    private var now: UInt64 { loop.now / 1_000_000 }

    func streamClosed(_ stream: InvocationStream) {
        let name = ObjectIdentifier(stream)
        for transaction in transactions.values { transaction.leave(name) }
    }

    private func tick() {
        let now = now
        for transaction in transactions.values where transaction.run.transaction.isDead {
            guard let since = transaction.deadSince else {
                transaction.deadSince = now
                continue
            }
            if now &- since >= limits.deadMilliseconds { transaction.abandon(transaction.run.transaction.failure) }
        }
        while let oldest = endOrder.first, ends[oldest].map({ now &- $0.at >= limits.endMilliseconds }) ?? true {
            ends[oldest] = nil
            _ = endOrder.popFirst()
        }
    }

    /// Opens no more, and rolls back what nobody is committing: the node is about to leave.
    func drain() {
        isDraining = true
        for transaction in transactions.values { transaction.abandon(Self.leaving) }
    }

    func close() {
        drain()
        isClosed = true
        timer?.cancel()
        router?.close()
    }

    private static let leaving = DatabaseError(.transactionAborted, "The transaction's home is shutting down")

    // MARK: Figures

    func register(_ metrics: Metrics) {
        metrics.sampledGauge("orbit_home_transactions", help: "Transactions that this node drives") { [self] in
            Double(transactions.count)
        }
        metrics.sampledGauge("orbit_home_members", help: "Client connections that belong to them") { [self] in
            Double(transactions.values.reduce(0) { $0 + $1.members.count })
        }
        metrics.sampledGauge("orbit_home_waiting", help: "Their commands that wait for those before them") { [self] in
            Double(transactions.values.reduce(0) { $0 + $1.waitingCount })
        }
        metrics.sampledCounter("orbit_home_statements_total", help: "Statements of calls in them") { [self] in
            Double(counts.statements)
        }
        metrics.sampledCounter("orbit_home_joins_total", help: "Connections that joined one by its token") { [self] in
            Double(counts.joins)
        }
        for (outcome, count) in [
            ("committed", \Counts.committed), ("rolled-back", \Counts.rolledBack), ("unknown", \Counts.unknown),
        ] {
            metrics.sampledCounter(
                "orbit_home_transactions_total", help: "Transactions that this node has driven to an end",
                labels: ["outcome": outcome]
            ) { [self] in Double(counts[keyPath: count]) }
        }
    }
}

extension TransactionStatus {
    init(_ home: HomeTransaction) {
        self.init()
        let transaction = home.run.transaction
        (state, failure) = (transaction.failure == nil ? .active : .failed, transaction.failure)
        (id, isolation) = (transaction.id, transaction.options.isolation)
        isReadOnly = transaction.options.isReadOnly || transaction.options.asOf != nil
        (readTimestamp, statements) = (transaction.readTimestamp, transaction.statement)
        (shards, savepoints) = (transaction.participants.count, transaction.savepointNames)
        members = home.members.count
    }
}

extension InteractiveTransaction.Options {
    /// As they travel.
    init(_ wire: HomeOperation.Options) {
        self.init()
        (isolation, isReadOnly, asOf) = (wire.isolation, wire.isReadOnly, wire.asOf == .zero ? nil : wire.asOf)
        refusals = wire.failsWhole ? .transaction : .statement
        (timeLimit, idleLimit, lockTimeout) = (wire.timeLimit, wire.idleLimit, wire.lockTimeout)
    }
}
