import Base
import DataModel

/// A function as a relation: `FROM generate_series(1, 10)`.
final class RowsOperator: Operator {
    private let function: RowsFunction
    private let arguments: [Evaluator]
    private let hasOrdinality: Bool
    private var stream: RowStream?
    private var charged = 0
    private var count: Int64 = 0

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
        if stream == nil {
            var values: [Value] = []
            for evaluator in arguments { values.append(try evaluator.value(context)) }
            let opened = try function.begin(values, context)
            charged = opened.held * 64
            try context.charge(charged)
            stream = opened
        }
        var builder = BatchBuilder(types)
        while !builder.isFull, let row = try stream?.next() {
            count += 1
            builder.append(row + (hasOrdinality ? [.integer(count)] : []))
        }
        return builder.count > 0 ? .batch(builder.take()) : .end
    }

    override func restart() throws(StatementError) {
        try context.charge(-charged)
        (stream, charged, count) = (nil, 0, 0)
    }
}

/// Functions that give rows among the targets of a SELECT: one row for each of theirs.
final class UnrollOperator: Operator {
    private let child: Operator
    private let calls: [(function: RowsFunction, arguments: [Evaluator])]
    private var batch: ColumnBatch?
    private var row = 0
    private var arguments: [[Column]] = []
    private var streams: [RowStream] = []

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
            guard let batch else {
                let step = try child.next()
                guard case .batch(let fresh) = step else { return step }
                try begin(fresh)
                continue
            }
            var sources: [Int32] = []
            var builders = calls.indices.map { ColumnBuilder(types[child.types.count + $0]) }
            while row < batch.count, sources.count < ColumnBatch.rows {
                if try !append(to: &builders) {
                    row += 1
                    streams = []
                } else {
                    sources.append(Int32(row))
                }
            }
            if row >= batch.count { self.batch = nil }
            guard !sources.isEmpty else {
                if try context.isSliceOver() { return .waiting }
                continue
            }
            let mine = batch.gathered(sources)
            return .batch(ColumnBatch(mine.columns + builders.map { $0.finish() }, count: sources.count))
        }
    }

    private func begin(_ fresh: ColumnBatch) throws(StatementError) {
        (batch, row, streams, arguments) = (fresh, 0, [], [])
        for call in calls {
            var list: [Column] = []
            for evaluator in call.arguments { list.append(try evaluator.compute(fresh, context)) }
            arguments.append(list)
        }
    }

    /// The next row that the functions give for the current one, the shorter filled with NULL; false if none does.
    private func append(to builders: inout [ColumnBuilder]) throws(StatementError) -> Bool {
        if streams.isEmpty {
            for (call, columns) in zip(calls, arguments) {
                streams.append(try call.function.begin(columns.map { $0.value(at: row) }, context))
            }
        }
        var values: [Value?] = []
        for index in streams.indices {
            let next = try streams[index].next()
            values.append(next.map { $0.count == 1 ? $0[0] : .tuple($0) })
        }
        guard values.contains(where: { $0 != nil }) else { return false }
        for (index, value) in values.enumerated() { builders[index].append(value ?? .null) }
        return true
    }

    override func restart() throws(StatementError) {
        (batch, streams) = (nil, [])
        try child.restart()
    }
}

/// The rows of one call of a function, made as they are asked for, or all at hand.
struct RowStream {
    /// Rows in memory.
    let held: Int
    private let advance: () throws(StatementError) -> [Value]?

    init(_ rows: [[Value]]) {
        held = rows.count
        var position = 0
        advance = { () throws(StatementError) in
            guard position < rows.count else { return nil }
            position += 1
            return rows[position - 1]
        }
    }

    init(_ advance: @escaping () throws(StatementError) -> [Value]?) { (held, self.advance) = (0, advance) }

    func next() throws(StatementError) -> [Value]? { try advance() }
}

extension RowsFunction {
    func begin(_ arguments: [Value], _ context: ExecutionContext) throws(StatementError) -> RowStream {
        if isStrict, arguments.contains(where: \.isNull) { return RowStream([]) }
        if let stream { return try stream(arguments, context) }
        return RowStream(try body(arguments, context))
    }
}
