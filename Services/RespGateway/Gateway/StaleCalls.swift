import Base
import Contracts
import GatewayKit

/// A call that was refused because it went by another schema than the shard's.
struct StaleCall {
    let token: UInt64
    let call: CallSnapshot
}

/// Carries something out, and again by a newer list of names as long as it is refused for going by an old one.
final class StaleRetry {
    /// In about half a second a change of the schema is known everywhere, or those who know of it are not there.
    private static let attempts = 12

    private let client: ClientConnection
    private let completion: (TransactionOutcome) -> Void
    private let body: (StaleRetry) throws(DatabaseError) -> Void
    private var attempt = 0

    /// `body` begins an attempt, whose outcome comes to `conclude`.
    init(
        _ client: ClientConnection, _ completion: @escaping (TransactionOutcome) -> Void,
        _ body: @escaping (StaleRetry) throws(DatabaseError) -> Void
    ) {
        (self.client, self.completion, self.body) = (client, completion, body)
    }

    /// Whether the newest list may make a difference.
    static func mayHelp(_ error: DatabaseError, _ attempt: Int) -> Bool {
        (error.code == .staleSchema || error.code == .staleMap) && attempt < attempts
    }

    func begin() throws(DatabaseError) { try body(self) }

    func conclude(_ outcome: TransactionOutcome) {
        guard case .failed(let error) = outcome, Self.mayHelp(error, attempt), !client.isGone else {
            return completion(outcome)
        }
        attempt += 1
        client.gateway.records.refresh(attempt: attempt - 1) { [self] in
            do throws(DatabaseError) { try body(self) } catch { completion(.failed(error)) }
        }
    }
}

extension ClientConnection {
    /// The client's calls are made anew in their order, when all others are answered and the newest list is there; what
    /// it sends meanwhile waits.
    func refusedAsStale(_ ticket: UInt64, _ invocation: borrowing InvocationView, _ error: DatabaseError) -> Bool {
        guard case .call(let call) = invocation.operation, !call.method.isKeyless, !isGone else { return false }
        var keys: [Bytes] = []
        call.forEachKey { keys.append($1.bytes) }
        let target: CallTarget =
            switch call.method.keys {
            case .first, .firstTwice: .key
            case .none, .collection, .catalog, .two, .all, .pairs: .keys
            }
        stale.append(StaleCall(token: ticket, call: CallSnapshot(call, target, keys)))
        session.hold(until: ticket)
        if stale.count == 1 { gateway.records.refresh { [self] in callAnew() } }
        return true
    }

    private func callAnew() {
        guard !isGone else { return }
        guard session.unanswered <= stale.count else {
            gateway.loop.schedule(afterMilliseconds: 1) { [self] in callAnew() }
            return
        }
        let calls = stale.sorted { $0.token < $1.token }
        stale = []
        for stale in calls {
            let conclude = { [self] (outcome: TransactionOutcome) in answer(stale.token, outcome) }
            do throws(DatabaseError) {
                try begin(TransactionPlan(calls: [stale.call]), stale.token, conclude)
            } catch {
                later { conclude(.failed(error)) }
            }
        }
    }
}

extension CallSnapshot {
    fileprivate init(_ call: ActorCallView, _ target: CallTarget, _ keys: [Bytes]) {
        self.init(
            method: call.method, target: target, database: call.database, key: call.key.bytes, flags: call.flags,
            numbers: (0..<call.numbers.count).map { call.numbers[$0] },
            arguments: (0..<call.arguments.count).map { call.arguments[$0].bytes }, keys: keys)
    }
}
