import Base
import Net

/// Refuses whatever needs a node: there is no way yet from a statement to the engine of the nodes. What a session does
/// by itself works.
final class RefusingRunner: PlanRunner {
    private let loop: EventLoop
    weak var client: ClientConnection?

    init(loop: EventLoop) { self.loop = loop }

    private func refuse(_ token: UInt64, _ what: String) {
        let error = StatementError(
            .featureNotSupported, "\(what) is not supported yet",
            detail: "pg-gw speaks the protocol; nodes do not run statements of SQL yet.")
        loop.runLater { [weak client] in client?.event { $0.failed(token, error) } }
    }

    func prepare(_ token: UInt64, _ statement: PlannedStatement, types: [UInt32], _ context: SessionContext) {
        refuse(token, statement.verb.uppercased())
    }

    func execute(_ token: UInt64, _ call: ExecuteCall, _ context: SessionContext) {
        refuse(token, call.statement.verb.uppercased())
    }

    func fetch(_ token: UInt64, cursor: UInt32, rowLimit: Int) { refuse(token, "FETCH") }

    func resume(_ token: UInt64) {}

    func close(cursor: UInt32) {}

    /// Nothing was ever done, so its end is done; and nothing is left behind by a savepoint that is refused.
    func control(_ token: UInt64, _ control: TransactionControl, _ use: TransactionUse, _ context: SessionContext) {
        switch control {
        case .commit, .rollback:
            loop.runLater { [weak client] in client?.event { $0.completed(token, StatementCompletion("")) } }
        case .savepoint, .release, .rollbackTo: refuse(token, "SAVEPOINT")
        }
    }

    func cancel(_ token: UInt64) {}

    func copyData(_ token: UInt64, _ data: ByteView) -> Bool { true }

    func copyEnd(_ token: UInt64, failure: StatementError?) { refuse(token, "COPY") }

    func end() {}
}
