import Base
import DataModel

/// A function as a relation: `FROM generate_series(1, 10)`.
final class RowsOperator: Operator {
    private let function: RowsFunction
    private let arguments: [Evaluator]
    private let hasOrdinality: Bool
    private var rows: [[Value]]?
    private var position = 0

    init(_ plan: RowsPlan, context: ExecutionContext) throws(StatementError) {
        // All that may throw comes first: the compiler (6.3) does not survive it between the fields of a class.
        var evaluators: [Evaluator] = []
        for argument in plan.arguments { evaluators.append(try Evaluator(argument, layout: Layout([]))) }
        var attributes: [Attribute] = [], types: [DataType] = []
        for output in plan.outputs {
            attributes.append(output.attribute)
            types.append(output.type)
        }
        if let ordinality = plan.ordinality {
            attributes.append(ordinality)
            types.append(.int64)
        }
        function = plan.function
        arguments = evaluators
        hasOrdinality = plan.ordinality != nil
        super.init(layout: Layout(attributes), types: types, context: context)
    }

    override func next() throws(StatementError) -> OperatorStep {
        if rows == nil {
            var values: [Value] = []
            for evaluator in arguments { values.append(try evaluator.value(context)) }
            rows = function.isStrict && values.contains(where: \.isNull) ? [] : try function.body(values, context)
            try context.charge((rows?.count ?? 0) * 64)
        }
        guard let rows, position < rows.count else { return .end }
        var builder = BatchBuilder(types)
        while position < rows.count, !builder.isFull {
            builder.append(rows[position] + (hasOrdinality ? [.integer(Int64(position + 1))] : []))
            position += 1
        }
        return .batch(builder.take())
    }

    override func restart() throws(StatementError) {
        try context.charge(-(rows?.count ?? 0) * 64)
        rows = nil
        position = 0
    }
}

/// Functions that give rows among the targets of a SELECT: one row for each of theirs.
final class UnrollOperator: Operator {
    private let child: Operator
    private let calls: [(function: RowsFunction, arguments: [Evaluator])]

    init(_ child: Operator, _ calls: [(attribute: Attribute, call: BoundExpression)]) throws(StatementError) {
        self.child = child
        var functions: [(function: RowsFunction, arguments: [Evaluator])] = []
        for (_, call) in calls {
            guard case .rows(let function, let arguments) = call.form else {
                throw StatementError(.internalError, "only a function that gives rows can be unrolled")
            }
            var evaluators: [Evaluator] = []
            for argument in arguments { evaluators.append(try Evaluator(argument, layout: child.layout)) }
            functions.append((function, evaluators))
        }
        self.calls = functions
        super.init(
            layout: Layout(child.layout.attributes + calls.map(\.attribute)),
            types: child.types + calls.map(\.call.type), context: child.context)
    }

    override func next() throws(StatementError) -> OperatorStep {
        while true {
            let step = try child.next()
            guard case .batch(let batch) = step else { return step }
            var sources: [Int32] = []
            var builders = calls.indices.map { ColumnBuilder(types[child.types.count + $0]) }
            var columns: [[Column]] = []
            for call in calls {
                var list: [Column] = []
                for evaluator in call.arguments { list.append(try evaluator.compute(batch, context)) }
                columns.append(list)
            }
            for row in 0..<batch.count {
                try context.checkCancelled()
                var lists: [[[Value]]] = []
                for (index, call) in calls.enumerated() {
                    let values = columns[index].map { $0.value(at: row) }
                    lists.append(
                        call.function.isStrict && values.contains(where: \.isNull)
                            ? [] : try call.function.body(values, context))
                }
                let length = lists.map(\.count).max() ?? 0
                for place in 0..<length {
                    sources.append(Int32(row))
                    for (index, list) in lists.enumerated() {
                        let isOne = place < list.count && list[place].count == 1
                        builders[index].append(
                            place < list.count ? (isOne ? list[place][0] : .tuple(list[place])) : .null)
                    }
                }
            }
            guard !sources.isEmpty else { continue }
            let mine = batch.gathered(sources)
            return .batch(ColumnBatch(mine.columns + builders.map { $0.finish() }, count: sources.count))
        }
    }

    override func restart() throws(StatementError) { try child.restart() }
}
