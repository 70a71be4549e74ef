import Base
import DataModel

/// GROUP BY: numbers the groups by a hash table of their keys, and keeps a state of each aggregate for each.
final class AggregateOperator: Operator {
    private let plan: AggregatePlan
    private let child: Operator
    private let keys: [Evaluator]
    private let calls: [CallEvaluators]
    private var table = KeyTable()
    private var accumulators: [any Accumulator] = []
    private var seen: [Distinct?] = []
    private var ordered: [Ordered?] = []
    /// Values of the groups' keys, NULL where a grouping set leaves one out.
    private var groupColumns: [ColumnBuilder] = []
    private var groupBits: [Int64] = []
    private var result: ColumnBatch?
    private var position = 0
    private var charged = 0
    /// Of it: for what is counted anew after each batch.
    private var tableBytes = 0

    private struct CallEvaluators {
        let call: AggregateCall
        let arguments: [Evaluator]
        let order: [Evaluator]
        let filter: Evaluator?
    }

    /// What an aggregate with DISTINCT has seen.
    private final class Distinct { var table = KeyTable() }

    /// The rows of an aggregate with ORDER BY, kept until all are there.
    private final class Ordered {
        var arguments: BatchBuilder
        var keys: BatchBuilder
        var groups: [Int32] = []

        init(_ arguments: [DataType], _ keys: [DataType]) {
            self.arguments = BatchBuilder(arguments)
            self.keys = BatchBuilder(keys)
        }
    }

    init(_ plan: AggregatePlan, _ child: Operator) throws(StatementError) {
        (self.plan, self.child) = (plan, child)
        var keys: [Evaluator] = []
        for group in plan.groups { keys.append(try Evaluator(group.expression, layout: child.layout)) }
        self.keys = keys
        var calls: [CallEvaluators] = []
        for (_, call) in plan.calls {
            var arguments: [Evaluator] = [], order: [Evaluator] = []
            for argument in call.arguments { arguments.append(try Evaluator(argument, layout: child.layout)) }
            for term in call.order { order.append(try Evaluator(term.expression, layout: child.layout)) }
            let filter =
                if let condition = call.filter { try Evaluator(condition, layout: child.layout) } else {
                    nil as Evaluator?
                }
            calls.append(CallEvaluators(call: call, arguments: arguments, order: order, filter: filter))
        }
        self.calls = calls
        let attributes =
            plan.groups.map(\.attribute) + plan.calls.map(\.attribute) + (plan.groupingID.map { [$0] } ?? [])
        super.init(
            layout: Layout(attributes),
            types: plan.groups.map(\.expression.type) + plan.calls.map(\.call.type)
                + (plan.groupingID == nil ? [] : [.int64]), context: child.context)
        begin()
    }

    private func begin() {
        table = KeyTable()
        accumulators = calls.map { $0.call.function.make($0.call.arguments.map(\.type), $0.call.type) }
        seen = calls.map { $0.call.isDistinct ? Distinct() : nil }
        ordered = calls.map { call in
            call.order.isEmpty ? nil : Ordered(call.arguments.map(\.type), call.order.map(\.type))
        }
        groupColumns = plan.groups.map { ColumnBuilder($0.expression.type) }
        groupBits = []
        result = nil
        position = 0
        // An empty grouping set has its row whatever comes.
        for (index, set) in plan.sets.enumerated() where set.isEmpty { _ = group(setIndex: index, [], row: 0) }
        grow()
    }

    override func next() throws(StatementError) -> OperatorStep {
        while result == nil {
            switch try child.next() {
            case .batch(let batch):
                try add(batch)
                if try context.isSliceOver() { return .waiting }
            case .waiting: return .waiting
            case .end: result = try finish()
            }
        }
        guard let result, position < result.count else { return .end }
        let end = min(position + ColumnBatch.rows, result.count)
        defer { position = end }
        return .batch(result.slice(position..<end))
    }

    private func grow() { for accumulator in accumulators { accumulator.grow(to: table.count) } }

    /// The number of the group of a row in a grouping set.
    private func group(setIndex: Int, _ columns: [Column], row: Int, writer: inout RowKeyWriter) -> Int32 {
        writer.buffer.removeAll()
        if plan.sets.count > 1 { writer.buffer.append(bigEndian: UInt16(truncatingIfNeeded: setIndex)) }
        let set = plan.sets[setIndex]
        for key in set { writer.append(columns[key], row: row) }
        let (index, isNew) = table.insert(writer.buffer.readable)
        if isNew {
            var bits: Int64 = 0
            for key in plan.groups.indices {
                if set.contains(key) {
                    groupColumns[key].append(columns[key], row: row)
                } else {
                    groupColumns[key].appendNull()
                    bits |= 1 << Int64(key)
                }
            }
            groupBits.append(bits)
        }
        return Int32(truncatingIfNeeded: index)
    }

    private func group(setIndex: Int, _ columns: [Column], row: Int) -> Int32 {
        var writer = RowKeyWriter()
        return group(setIndex: setIndex, columns, row: row, writer: &writer)
    }

    private func add(_ batch: ColumnBatch) throws(StatementError) {
        // Accumulators charge for what they gather on their own.
        let before = context.memoryUsed
        var columns: [Column] = []
        for key in keys { columns.append(try key.evaluate(batch, context)) }
        var inputs: [(arguments: [Column], order: [Column], rows: [Int32])] = []
        for call in calls { inputs.append(try input(call, batch)) }
        var writer = RowKeyWriter()
        for setIndex in plan.sets.indices {
            var groups = [Int32](repeating: 0, count: batch.count)
            if plan.sets[setIndex].isEmpty {
                groups = Array(
                    repeating: group(setIndex: setIndex, columns, row: 0, writer: &writer), count: batch.count)
            } else {
                for row in 0..<batch.count {
                    groups[row] = group(setIndex: setIndex, columns, row: row, writer: &writer)
                }
            }
            grow()
            for (index, input) in inputs.enumerated() { try feed(index, input, groups) }
        }
        var bytes = table.footprint + table.count * 24 * (keys.count + calls.count)
        for distinct in seen { bytes += distinct?.table.footprint ?? 0 }
        try context.charge(bytes - tableBytes)
        tableBytes = bytes
        charged += context.memoryUsed - before
    }

    /// The arguments of a call, and the rows that count for it.
    private func input(_ call: CallEvaluators, _ batch: ColumnBatch) throws(StatementError)
        -> (arguments: [Column], order: [Column], rows: [Int32])
    {
        var arguments: [Column] = [], order: [Column] = []
        var rows = try call.filter?.select(batch, context) ?? Array(0..<Int32(batch.count))
        // With a filter, the arguments are computed where it is true only.
        let source = rows.count == batch.count ? batch : batch.gathered(rows)
        let isWhole = rows.count == batch.count
        for evaluator in call.arguments { arguments.append(try evaluator.evaluate(source, context)) }
        for evaluator in call.order { order.append(try evaluator.evaluate(source, context)) }
        if !isWhole {
            // Back to the places of the batch, so that groups can be looked up by row.
            var places = [Int32](repeating: -1, count: batch.count)
            for (place, row) in rows.enumerated() { places[Int(row)] = Int32(place) }
            arguments = arguments.map { $0.gathered(places) }
            order = order.map { $0.gathered(places) }
        }
        if call.call.function.isStrict {
            for argument in arguments {
                guard let validity = argument.validity else { continue }
                rows = rows.filter { validity[Int($0)] }
            }
        }
        return (arguments, order, rows)
    }

    private func feed(_ index: Int, _ input: (arguments: [Column], order: [Column], rows: [Int32]), _ all: [Int32])
        throws(StatementError)
    {
        var rows = input.rows
        if let distinct = seen[index] {
            var writer = RowKeyWriter()
            var kept: [Int32] = []
            for row in rows {
                writer.buffer.removeAll()
                writer.buffer.append(bigEndian: UInt32(bitPattern: all[Int(row)]))
                for argument in input.arguments { writer.append(argument, row: Int(row)) }
                if distinct.table.insert(writer.buffer.readable).isNew { kept.append(row) }
            }
            rows = kept
        }
        let groups = rows.count == all.count ? all : rows.map { all[Int($0)] }
        if let ordered = ordered[index] {
            let count = all.count
            let arguments = ColumnBatch(input.arguments, count: count), keys = ColumnBatch(input.order, count: count)
            for row in rows {
                ordered.arguments.append(arguments, row: Int(row))
                ordered.keys.append(keys, row: Int(row))
            }
            ordered.groups += groups
            try context.charge(rows.count * 64)
            return
        }
        try accumulators[index].add(input.arguments, rows: rows, groups: groups, context: context)
    }

    private func finish() throws(StatementError) -> ColumnBatch {
        for (index, ordered) in ordered.enumerated() {
            guard let ordered, !ordered.groups.isEmpty else { continue }
            let keys = ordered.keys.take(), arguments = ordered.arguments.take()
            let parts = calls[index].call.order.map {
                RowKeyWriter.Part(isDescending: $0.isDescending, isNullsFirst: $0.isNullsFirst)
            }
            let rows = RowOrder.sorted(keys.columns, parts: parts, count: keys.count)
            try accumulators[index].add(
                arguments.columns, rows: rows, groups: rows.map { ordered.groups[Int($0)] }, context: context)
        }
        var columns = groupColumns.map { $0.finish() }
        for (index, accumulator) in accumulators.enumerated() {
            var builder = ColumnBuilder(calls[index].call.type)
            builder.reserve(table.count)
            for group in 0..<table.count { builder.append(try accumulator.result(of: group)) }
            columns.append(builder.finish())
        }
        if plan.groupingID != nil { columns.append(Column(.int64, .integers(groupBits), count: table.count)) }
        return ColumnBatch(columns, count: table.count)
    }

    override func restart() throws(StatementError) {
        try context.charge(-charged)
        (charged, tableBytes) = (0, 0)
        begin()
        try child.restart()
    }
}
