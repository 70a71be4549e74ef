import Base
import Contracts
import DataModel

/// Expressions and queries that the catalog keeps.
enum StoredPlans {
    /// A query: a view's.
    static func query(_ stored: StoredExpression) throws(StatementError) -> LogicalPlan {
        do throws(DatabaseError) {
            return try stored.plan.withView { (view: ByteView) throws(DatabaseError) in
                try LogicalPlan(decoding: view)
            }
        } catch {
            throw StatementError(error)
        }
    }

    /// An expression, which is kept as `SELECT` of it alone: the plan's root is the expression itself.
    static func expression(_ stored: StoredExpression) throws(StatementError) -> LogicalPlan {
        var plan = try query(stored)
        let root = plan[plan.root], target = plan.list(root.children.count > 2 ? root.children[2] : 0)
        guard root.kind == .select, target.count == 1, let value = plan[target[0]].children.first, value != 0 else {
            throw StatementError(.internalError, "\(stored.text) is kept as something else than an expression")
        }
        plan.root = value
        return plan
    }
}
