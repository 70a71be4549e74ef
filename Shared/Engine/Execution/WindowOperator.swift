import Base
import DataModel

/// Window functions: gathers all rows, puts them in the order of the window, and computes the functions row by row as
/// the rows are given on, so that no step takes longer than a batch does.
///
/// All calls share partition and order; each has a frame of its own.
final class WindowOperator: Operator {
    private let child: Operator
    private let partition: [Evaluator]
    private let order: [(evaluator: Evaluator, part: RowKeyWriter.Part)]
    private let calls: [WindowCallPlan]
    private var gathering: Gathering
    private var rows: ColumnBatch?
    private var window = WindowRows()
    private var runs: [WindowCallRun] = []
    private var position = 0
    private var charged = 0

    init(_ child: Operator, _ calls: [(attribute: Attribute, call: WindowCall)]) throws(StatementError) {
        self.child = child
        var partition: [Evaluator] = [], order: [(evaluator: Evaluator, part: RowKeyWriter.Part)] = []
        var plans: [WindowCallPlan] = []
        if let first = calls.first?.call {
            for expression in first.partition { partition.append(try Evaluator(expression, layout: child.layout)) }
            for term in first.order {
                let part = RowKeyWriter.Part(isDescending: term.isDescending, isNullsFirst: term.isNullsFirst)
                order.append((try Evaluator(term.expression, layout: child.layout), part))
            }
        }
        for (_, call) in calls { plans.append(try WindowCallPlan(call, child.layout)) }
        (self.partition, self.order, self.calls) = (partition, order, plans)
        gathering = Gathering(child.types)
        super.init(
            layout: Layout(child.layout.attributes + calls.map(\.attribute)),
            types: child.types + calls.map(\.call.type), context: child.context)
    }

    override func next() throws(StatementError) -> OperatorStep {
        if rows == nil {
            guard let all = try gathering.run(child, context) else { return .waiting }
            try begin(all)
        }
        guard let rows, position < rows.count else { return .end }
        let end = min(position + ColumnBatch.rows, rows.count)
        var columns = rows.columns.map { $0.slice(position..<end) }
        for run in runs {
            var builder = ColumnBuilder(run.plan.call.type)
            builder.reserve(end - position)
            for row in position..<end { builder.append(try run.value(at: row)) }
            columns.append(builder.finish())
            try charge(run.takeCharge())
        }
        defer { position = end }
        return .batch(ColumnBatch(columns, count: end - position))
    }

    private func charge(_ bytes: Int) throws(StatementError) {
        charged += bytes
        try context.charge(bytes)
    }

    private func begin(_ all: ColumnBatch) throws(StatementError) {
        position = 0
        runs = []
        guard all.count > 0 else {
            for call in calls { try call.checkOffsets(of: .noRows(child.types), context) }
            rows = all
            return
        }
        try charge(all.footprint + all.count * 48)
        var keys: [Column] = [], parts: [RowKeyWriter.Part] = []
        for evaluator in partition {
            keys.append(try evaluator.evaluate(all, context))
            parts.append(RowKeyWriter.Part())
        }
        for (evaluator, part) in order {
            keys.append(try evaluator.evaluate(all, context))
            parts.append(part)
        }
        var sorted = all
        if !keys.isEmpty {
            let order = RowOrder.sorted(keys, parts: parts, count: all.count)
            sorted = all.gathered(order)
            keys = keys.map { $0.gathered(order) }
        }
        window = WindowRows(keys, partitions: partition.count, count: all.count)
        rows = sorted
        for call in calls {
            try call.checkOffsets(of: sorted, context)
            runs.append(try WindowCallRun(call, sorted, window, context))
        }
    }

    override func restart() throws(StatementError) {
        try context.charge(-charged - gathering.charged)
        charged = 0
        gathering = Gathering(child.types)
        (rows, runs, window, position) = (nil, [], WindowRows(), 0)
        try child.restart()
    }
}

extension ColumnBatch {
    /// One row of NULLs, for what depends on no row.
    fileprivate static func noRows(_ types: [DataType]) -> ColumnBatch {
        ColumnBatch(types.map { .nulls($0, count: 1) }, count: 1)
    }
}

/// The rows of a window in their order, divided into partitions and, within these, groups of equals.
final class WindowRows {
    /// By row: the first of its partition, and the first behind it; the same of its group.
    private(set) var partitionStarts: [Int32] = []
    private(set) var partitionEnds: [Int32] = []
    private(set) var groups: [Int32] = []
    /// By group: its first row; and behind the last group the count of rows.
    private(set) var groupStarts: [Int32] = []

    init() {}

    init(_ keys: [Column], partitions: Int, count: Int) {
        partitionStarts = Array(repeating: 0, count: count)
        partitionEnds = Array(repeating: Int32(count), count: count)
        groups = Array(repeating: 0, count: count)
        var last = Bytes(), lastPrefix = 0, start = 0
        var writer = RowKeyWriter()
        for row in 0..<count {
            writer.buffer.removeAll()
            for column in keys.prefix(partitions) { writer.append(column, row: row) }
            let prefix = writer.buffer.count
            for column in keys.dropFirst(partitions) { writer.append(column, row: row) }
            let key = writer.buffer.readable
            let isSamePartition =
                row > 0 && prefix == lastPrefix
                && last.withUnsafeBytes {
                    ByteView(rebasing: key[..<prefix]).equals(ByteView(rebasing: $0[..<prefix]))
                }
            let isSameGroup = isSamePartition && last.withUnsafeBytes { key.equals($0) }
            if !isSamePartition {
                for earlier in start..<row { partitionEnds[earlier] = Int32(row) }
                start = row
            }
            if !isSameGroup {
                groupStarts.append(Int32(row))
                (last, lastPrefix) = (key.bytes, prefix)
            }
            partitionStarts[row] = Int32(start)
            groups[row] = Int32(groupStarts.count - 1)
        }
        groupStarts.append(Int32(count))
    }

    func partition(of row: Int) -> Range<Int> { Int(partitionStarts[row])..<Int(partitionEnds[row]) }

    func group(of row: Int) -> Range<Int> { rows(ofGroup: Int(groups[row])) }

    func rows(ofGroup group: Int) -> Range<Int> { Int(groupStarts[group])..<Int(groupStarts[group + 1]) }
}
