import Base
import Contracts
import GatewayKit

extension Queries {
    /// What is done with the reply to a statement. One that has failed leaves nothing behind: either the transaction
    /// has failed with it, or what it had done by then is undone.
    static func closing(
        _ run: InteractiveRun, _ answer: @escaping Answer, _ done: @escaping () -> Void
    ) -> Answer {
        let isMarked = run.transaction.options.refusals == .statement && (try? run.savepoint(ownSavepoint)) != nil
        return { reply in
            let finish = {
                answer(reply)
                done()
            }
            guard let error = reply.error else {
                if isMarked { try? run.release(ownSavepoint) }
                return finish()
            }
            guard isMarked, run.transaction.failure == nil else {
                run.failStatement(DatabaseError(.transactionAborted, error.error.message))
                return finish()
            }
            do throws(DatabaseError) {
                try run.rollBack(to: ownSavepoint) { _ in
                    try? run.release(ownSavepoint)
                    finish()
                }
            } catch {
                finish()
            }
        }
    }

    /// A name that no client can give.
    private static let ownSavepoint: Bytes = [0]
}
