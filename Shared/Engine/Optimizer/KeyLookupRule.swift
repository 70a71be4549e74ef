import Base
import DataModel

/// A filter right over a scan is evaluated by the scan; and where it says what the primary key is, or its first parts,
/// only those rows are read.
enum KeyLookupRule {
    static func apply(_ plan: RelationalPlan) throws(StatementError) -> RelationalPlan {
        try plan.transformed { node throws(StatementError) in
            guard case .filter(.scan(var scan), let condition) = node else { return node }
            scan.filter = BoundExpression.all((scan.filter?.conjuncts ?? []) + condition.conjuncts)
            scan.keys = KeyCondition(on: scan.collection.primaryKey, of: scan)
            return .scan(scan)
        }
    }
}
