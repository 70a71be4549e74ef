import Base
import Contracts
import GatewayKit

/// A client's interactive transaction: what its session asks for is done by an `InteractiveRun`.
extension ClientConnection {
    /// Carries out what belongs to CLIENT TRANSACTION.
    func perform(_ action: InteractiveAction, _ token: UInt64) {
        switch action {
        case .begin(let options):
            interactive = gateway.begin(options, for: self)
            interacted(token, .success(nil))
        case .commit: commit(token)
        case .rollBack:
            interactive?.rollBack()
            interactive = nil
            interacted(token, .success(nil))
        case .abandon:
            interactive?.rollBack()
            interactive = nil
        case .savepoint(let name): attempt(token) { run throws(DatabaseError) in try run.savepoint(name) }
        case .release(let name): attempt(token) { run throws(DatabaseError) in try run.release(name) }
        case .rollBackTo(let name): rollBack(to: name, token)
        case .describe: interacted(token, .success(interactive.map { TransactionDescription($0.transaction) }))
        case .statement(let plan):
            execute(plan, token) { [self] outcome in answer(token, outcome) }
        case .lock(let plan, let mode, let policy):
            execute(plan, token, lock: mode, wait: policy) { [self] outcome in executed(token, outcome) }
        }
    }

    private static let none = DatabaseError(.noSuchTransaction, "There is no transaction")

    private func attempt(_ token: UInt64, _ body: (InteractiveRun) throws(DatabaseError) -> Void) {
        do throws(DatabaseError) {
            guard let interactive else { throw Self.none }
            try body(interactive)
            interacted(token, .success(nil))
        } catch {
            interacted(token, .failure(error))
        }
    }

    private func rollBack(to name: Bytes, _ token: UInt64) {
        do throws(DatabaseError) {
            guard let interactive else { throw Self.none }
            try interactive.rollBack(to: name) { [self] error in
                interacted(token, error.map { .failure($0) } ?? .success(nil))
            }
        } catch {
            interacted(token, .failure(error))
        }
    }

    private func commit(_ token: UInt64) {
        do throws(DatabaseError) {
            guard let interactive else { throw Self.none }
            try interactive.commit { [self] ending in
                self.interactive = nil
                switch ending {
                case .committed, .rolledBack(nil): interacted(token, .success(nil))
                case .rolledBack(let error?), .unknown(let error): interacted(token, .failure(error))
                }
            }
        } catch {
            interacted(token, .failure(error))
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
            try TransactionRequest.begin(plan, in: interactive, gateway, lock: lock, wait: wait, completion)
        } catch {
            later { completion(.failed(error)) }
        }
    }
}

extension TransactionRequest {
    /// Has a plan done as one statement of a transaction.
    static func begin(
        _ plan: TransactionPlan, in run: InteractiveRun, _ gateway: Gateway,
        lock: InvocationScope.LockMode = .none, wait: InvocationScope.WaitPolicy = .wait,
        _ completion: @escaping (TransactionOutcome) -> Void
    ) throws(DatabaseError) {
        let division = try PlanDivision(plan, ShardPlaces(gateway.router))
        var encoder = CallBatchEncoder()
        let shares = division.shares.map { share in
            encoder.reset()
            division.encode(share, into: &encoder)
            return InteractiveRun.Share(
                slot: share.slot, body: encoder.message.bytes,
                isWrite: share.pieces.contains { plan.calls[$0.call].method.isWrite })
        }
        try run.execute(shares, lock: lock, wait: wait) { outcome in
            conclude(outcome, division, gateway.random(), completion)
        }
    }
}

extension Gateway {
    /// Opens a transaction for a client.
    func begin(_ options: InteractiveTransaction.Options, for client: ClientConnection) -> InteractiveRun {
        // Older is lower; the gateways' clocks agree well enough for that.
        let priority = server.wallMilliseconds << 20 | random() >> 44
        return router.begin(options, connection: client.session.id, priority: priority, random: random)
    }
}
