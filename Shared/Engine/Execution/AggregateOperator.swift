import Base
import DataModel

/// GROUP BY over the rows of a child, or over the states that scans have made of theirs.
final class AggregateOperator: Operator {
    private let child: Operator
    private let aggregation: Aggregation
    /// The child gives states, and they lie here: those of the keys, then those of the calls.
    private let states: [Int]?
    private var result: ColumnBatch?
    private var position = 0

    init(_ plan: AggregatePlan, _ child: Operator) throws(StatementError) {
        self.child = child
        states =
            if let states = plan.states {
                try child.layout.places(of: plan.groups.map(\.attribute) + states.map(\.attribute))
            } else { nil }
        // What the calls read is at the scans, where it has been read.
        aggregation = try plan.aggregation(over: child)
        super.init(layout: Layout(plan.attributes), types: plan.types, context: child.context)
    }

    override func next() throws(StatementError) -> OperatorStep {
        while result == nil {
            switch try child.next() {
            case .batch(let batch):
                if let states {
                    try aggregation.merge(batch, states)
                } else {
                    try aggregation.add(batch)
                }
                if try context.isSliceOver() { return .waiting }
            case .waiting: return .waiting
            case .end: result = try aggregation.finish()
            }
        }
        guard let result, position < result.count else { return .end }
        let end = min(position + ColumnBatch.rows, result.count)
        defer { position = end }
        return .batch(result.slice(position..<end))
    }

    override func restart() throws(StatementError) {
        result = nil
        position = 0
        try aggregation.restart()
        try child.restart()
    }
}
