import Base
import DataModel

/// Where a scan's filter says what the first columns of an index are, or between what they lie, the rows are found by
/// its entries, if that costs less than to read all, or by the primary key.
enum IndexLookupRule {
    static func apply(
        _ plan: RelationalPlan, _ estimator: Estimator, avoidsScans: Bool
    ) throws(StatementError) -> RelationalPlan {
        try plan.transformed { node throws(StatementError) in
            guard case .scan(var scan) = node, scan.filter != nil, scan.keys?.isComplete != true else { return node }
            var least = scan.keys == nil && avoidsScans ? Double.infinity : estimator.cost(node)
            let plain = scan
            for index in scan.indexes {
                guard let condition = KeyCondition(on: index.columns, of: plain) else { continue }
                var candidate = plain
                (candidate.keys, candidate.index) = (nil, IndexUse(index: index, condition: condition))
                let cost = estimator.cost(.scan(candidate))
                guard cost < least else { continue }
                (least, scan) = (cost, candidate)
            }
            return .scan(scan)
        }
    }
}
