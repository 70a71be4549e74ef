import Base
import DataModel

/// Keeps the rows of a scan that is read anew for every row of an outer query, and depends on none of it: read once, as
/// far as they are asked for, and given again from memory (PostgreSQL's Materialize).
///
/// What conditions on outer rows leave out is filtered above it. Rows that would take too much memory are not kept;
/// then each time they are read from where they are.
final class KeptRowsOperator: Operator {
    /// Bytes of one scan's rows; and no more than half of what the statement may have.
    private static let mostBytes = 32 << 20

    private let child: Operator
    private var batches: [ColumnBatch] = []
    private var position = 0
    private var charged = 0
    /// All rows have come.
    private var isComplete = false
    /// They are too many.
    private var isGivenUp = false

    init(_ child: Operator) {
        self.child = child
        super.init(layout: child.layout, types: child.types, context: child.context)
    }

    override func next() throws(StatementError) -> OperatorStep {
        if position < batches.count {
            position += 1
            return .batch(batches[position - 1])
        }
        if isComplete { return .end }
        let step = try child.next()
        switch step {
        case .batch(let batch): try keep(batch)
        case .waiting: break
        case .end: isComplete = true
        }
        return step
    }

    private func keep(_ batch: ColumnBatch) throws(StatementError) {
        guard !isGivenUp else { return }
        let bytes = batch.footprint
        guard charged + bytes <= Self.mostBytes, context.memoryUsed + bytes <= context.settings.memoryLimit / 2 else {
            try context.charge(-charged)
            (batches, position, charged, isGivenUp) = ([], 0, 0, true)
            return
        }
        try context.charge(bytes)
        charged += bytes
        batches.append(batch)
        position = batches.count
    }

    override func restart() throws(StatementError) {
        position = 0
        // What has not come yet comes behind what is kept.
        guard isGivenUp else { return }
        isComplete = false
        try child.restart()
    }
}

extension ScanPlan {
    /// The scan without the conditions on rows of outer queries, and those; nil where its rows cannot be kept: it looks
    /// up other ones for each outer row, or ends before it has read them all, or locks them.
    var kept: (scan: ScanPlan, condition: BoundExpression?)? {
        guard lookup == nil, order == nil, limit == nil, key == nil, !isForUpdate, filter?.isVolatile != true else {
            return nil
        }
        let own = Set(outputs.map(\.attribute))
        func isOwn(_ expression: BoundExpression) -> Bool { expression.attributes.isSubset(of: own) }
        guard (keys?.expressions ?? []).allSatisfy(isOwn), (index?.condition.expressions ?? []).allSatisfy(isOwn)
        else { return nil }
        // Conditions are asked in their order: the first may be there to keep the next from failing.
        let all = filter?.conjuncts ?? [], first = all.prefix(while: isOwn)
        guard first.count < all.count else { return (self, nil) }
        var scan = self
        (scan.filter, scan.fragment) = (BoundExpression.all(Array(first)), nil)
        return (scan, BoundExpression.all(Array(all.dropFirst(first.count))))
    }
}
