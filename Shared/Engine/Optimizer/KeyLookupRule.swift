import Base
import DataModel

/// A filter right over a scan is evaluated by the scan; and where it says what the primary key is, or its first parts,
/// only those rows are read.
enum KeyLookupRule {
    static func apply(_ plan: RelationalPlan) throws(StatementError) -> RelationalPlan {
        try plan.transformed { node throws(StatementError) in
            guard case .filter(.scan(var scan), let condition) = node else { return node }
            // Numbers of sequences have to be waited for.
            let parts = condition.conjuncts, isDrawing = parts.map { $0.contains(SequenceFunctions.draws) }
            scan.filter = BoundExpression.all(
                (scan.filter?.conjuncts ?? []) + parts.indices.filter { !isDrawing[$0] }.map { parts[$0] })
            scan.keys = KeyCondition(on: scan.collection.primaryKey, of: scan)
            let drawing = BoundExpression.all(parts.indices.filter { isDrawing[$0] }.map { parts[$0] })
            return drawing.map { .filter(.scan(scan), $0) } ?? .scan(scan)
        }
    }
}
