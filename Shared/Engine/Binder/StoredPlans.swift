import Base
import Contracts
import DataModel

/// Expressions and queries that the catalog keeps.
enum StoredPlans {
    static func decode(_ stored: StoredExpression) throws(StatementError) -> LogicalPlan {
        throw StatementError(.featureNotSupported, "stored expressions cannot be read yet: \(stored.text)")
    }
}
