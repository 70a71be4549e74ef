import Base
import DataModel

/// GROUP BY over rows that come in the order of columns of the groups: when one of these changes, the groups so far are
/// complete, and are given. So it keeps no more than the groups of one run of equal rows, and of a batch.
///
/// Groups come in the order of their first rows, which is that of the columns.
final class RunAggregateOperator: Operator {
    private let child: Operator
    private let aggregation: Aggregation
    private let keys: [Evaluator]
    private let parts: [RowKeyWriter.Part]
    /// Of the last row.
    private var lastKey: Bytes?
    /// The rows of the last run in the batch, while the groups before it are given.
    private var rest: ColumnBatch?
    private var groups: ColumnBatch?
    private var position = 0
    private var isDone = false

    init(_ plan: AggregatePlan, _ runs: [SortTerm], _ child: Operator) throws(StatementError) {
        self.child = child
        aggregation = try plan.aggregation(over: child)
        var keys: [Evaluator] = []
        for term in runs { keys.append(try Evaluator(term.expression, layout: child.layout)) }
        self.keys = keys
        parts = runs.map { RowKeyWriter.Part(isDescending: $0.isDescending, isNullsFirst: $0.isNullsFirst) }
        super.init(layout: Layout(plan.attributes), types: plan.types, context: child.context)
    }

    override func next() throws(StatementError) -> OperatorStep {
        while true {
            if let groups {
                let end = min(position + ColumnBatch.rows, groups.count)
                let batch = groups.slice(position..<end)
                position = end
                if end == groups.count { self.groups = nil }
                return .batch(batch)
            }
            if let rest {
                try aggregation.add(rest)
                self.rest = nil
            }
            if isDone { return .end }
            switch try child.next() {
            case .waiting: return .waiting
            case .batch(let batch):
                try take(batch)
                if try context.isSliceOver() { return .waiting }
            case .end:
                isDone = true
                try complete()
            }
        }
    }

    /// All groups are complete.
    private func complete() throws(StatementError) {
        guard aggregation.count > 0 else { return }
        groups = try aggregation.finish()
        position = 0
        try aggregation.restart()
    }

    private func take(_ batch: ColumnBatch) throws(StatementError) {
        var columns: [Column] = []
        for key in keys { columns.append(try key.evaluate(batch, context)) }
        var writer = RowKeyWriter()
        func key(_ row: Int) -> Bytes {
            writer.buffer.removeAll()
            for (column, part) in zip(columns, parts) { writer.append(column, row: row, part: part) }
            return writer.buffer.readable.bytes
        }
        let first = key(0), last = key(batch.count - 1)
        if last.lexicographicallyPrecedes(first) || lastKey.map({ first.lexicographicallyPrecedes($0) }) ?? false {
            throw StatementError(.internalError, "rows do not come in the order in which they are grouped")
        }
        let goesOn = lastKey == nil || first == lastKey
        lastKey = last
        // Where the last run begins.
        var start = 0
        if first != last {
            start = batch.count - 1
            while start > 0, key(start - 1) == last { start -= 1 }
        }
        if start == 0, goesOn { return try aggregation.add(batch) }
        if start > 0 { try aggregation.add(batch.slice(0..<start)) }
        try complete()
        rest = batch.slice(start..<batch.count)
    }

    override func restart() throws(StatementError) {
        (lastKey, rest, groups, position, isDone) = (nil, nil, nil, 0, false)
        try aggregation.restart()
        try child.restart()
    }
}
