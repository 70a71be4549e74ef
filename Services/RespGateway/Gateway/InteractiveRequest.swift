import Base
import Contracts
import GatewayKit

/// A client's part in an interactive transaction: what its session asks for is sent to the transaction's home.
extension ClientConnection {
    /// Carries out what belongs to CLIENT TRANSACTION.
    func perform(_ action: InteractiveAction, _ token: UInt64) {
        let tell: HomeLink.Completion = { [self] error in
            interacted(token, error.map { .failure($0) } ?? .success(.done))
        }
        switch action {
        case .begin(let options, let moment): begin(options, moment, token)
        case .join(let transaction): join(transaction, token)
        case .abandon:
            interactive?.leave()
            interactive = nil
        case .statement(let plan):
            execute(plan, token) { [self] outcome in answer(token, outcome) }
        case .lock(let plan, let mode, let policy):
            execute(plan, token, lock: mode, wait: policy) { [self] outcome in executed(token, outcome) }
        case .commit: withLink(token) { $0.commit(completion: ended(tell)) }
        case .rollBack: withLink(token) { $0.rollBack(completion: ended(tell)) }
        case .leave: withLink(token) { $0.leave(completion: ended(tell)) }
        case .savepoint(let name): withLink(token) { $0.savepoint(name, completion: tell) }
        case .release(let name): withLink(token) { $0.release(name, completion: tell) }
        case .rollBackTo(let name): withLink(token) { $0.rollBack(to: name, completion: tell) }
        case .describe:
            withLink(token) { link in
                link.describe { [self] status in interacted(token, status.map { .described($0) }) }
            }
        case .identify:
            withLink(token) { link in
                link.identify { [self] found in interacted(token, found.map { .identified($0) }) }
            }
        }
    }

    private static let none = DatabaseError(.noSuchTransaction, "There is no transaction")

    private func withLink(_ token: UInt64, _ body: (HomeLink) -> Void) {
        guard let interactive else { return interacted(token, .failure(Self.none)) }
        body(interactive)
    }

    /// The client is in no transaction any more, whatever became of that.
    private func ended(_ completion: @escaping HomeLink.Completion) -> HomeLink.Completion {
        { [self] error in
            interactive = nil
            completion(error)
        }
    }

    var principal: String { session.user?.name ?? "" }

    private func begin(_ options: InteractiveTransaction.Options, _ moment: ReadMoment?, _ token: UInt64) {
        guard let moment else { return begin(options, asOf: .zero, token) }
        gateway.router.readTimestamp { [self] now in
            do throws(DatabaseError) {
                begin(options, asOf: try moment.timestamp(now: try now.get()), token)
            } catch {
                interacted(token, .failure(error))
            }
        }
    }

    private func begin(_ options: InteractiveTransaction.Options, asOf time: Timestamp, _ token: UInt64) {
        var wire = HomeOperation.Options()
        (wire.isolation, wire.isReadOnly, wire.asOf) = (options.isolation, options.isReadOnly, time)
        (wire.timeLimit, wire.idleLimit) = (options.timeLimit, options.idleLimit)
        wire.lockTimeout = options.lockTimeout
        // Older is lower; the gateways' clocks agree well enough for that.
        wire.priority = gateway.server.wallMilliseconds << 20 | gateway.random() >> 44
        guard !isGone else { return }
        interactive = HomeLink(gateway.router, beginning: wire, principal: principal, connection: session.id)
        interacted(token, .success(.done))
    }

    private func join(_ transaction: TransactionToken, _ token: UInt64) {
        let link = HomeLink(gateway.router, joining: transaction, principal: principal, connection: session.id)
        link.join { [self] error in
            if isGone { return link.leave() }
            if error == nil { interactive = link }
            interacted(token, error.map { .failure($0) } ?? .success(.done))
        }
    }

    /// Has a plan done as one statement; `completion` is called later.
    private func execute(
        _ plan: TransactionPlan, _ token: UInt64, lock: InvocationScope.LockMode = .none,
        wait: InvocationScope.WaitPolicy = .wait, _ completion: @escaping (TransactionOutcome) -> Void
    ) {
        do throws(DatabaseError) {
            guard let interactive else { throw Self.none }
            guard lock != .none else {
                return try TransactionRequest.begin(plan, token: token, for: self, gateway, completion)
            }
            let retry = StaleRetry(self, completion) { [gateway] retry throws(DatabaseError) in
                try TransactionRequest.begin(plan, in: interactive, gateway, lock: lock, wait: wait) {
                    retry.conclude($0)
                }
            }
            try retry.begin()
        } catch {
            later { completion(.failed(error)) }
        }
    }
}

extension TransactionRequest {
    /// Has a plan done as one statement of a transaction.
    static func begin(
        _ plan: TransactionPlan, in link: HomeLink, _ gateway: Gateway,
        lock: InvocationScope.LockMode = .none, wait: InvocationScope.WaitPolicy = .wait,
        _ completion: @escaping (TransactionOutcome) -> Void
    ) throws(DatabaseError) {
        let division = try PlanDivision(plan, ShardPlaces(gateway))
        var encoder = CallBatchEncoder()
        let shares = division.shares.map { share in
            encoder.reset()
            division.encode(share, into: &encoder)
            return InteractiveRun.Share(
                slot: share.slot, body: encoder.message.bytes,
                isWrite: share.pieces.contains { plan.calls[$0.call].method.isWrite })
        }
        link.execute(shares, lock: lock, wait: wait) { outcome in
            conclude(outcome, division, gateway.random(), completion)
        }
    }
}
