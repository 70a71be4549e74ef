import Base
import DataModel

/// Rows that are locked all the same are locked where they are read, which asks their shards once: those of certain
/// keys, and all of a collection.
///
/// A scan with a condition reads without locks what it does not need, and only what is left is locked, over it.
enum LockingScanRule {
    static func apply(_ plan: RelationalPlan) throws(StatementError) -> RelationalPlan {
        try plan.transformed { node throws(StatementError) in
            guard case .lock(.scan(var scan), let lock) = node, lock.relations.count == 1 else { return node }
            let relation = lock.relations[0]
            let isEvery = scan.filter == nil && lock.limits.isEmpty
            guard relation.key == scan.key, relation.isExclusive, relation.wait == .wait,
                isEvery || scan.keys?.areValues == true
            else { return node }
            scan.isForUpdate = true
            return .scan(scan)
        }
    }
}
