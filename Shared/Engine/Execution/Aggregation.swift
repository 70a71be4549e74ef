import Base
import DataModel

/// GROUP BY: numbers the groups by a hash table of their keys, and keeps a state of each aggregate for each. Rows are
/// pushed in; what comes out are results, or states that another aggregation takes in (`merge`).
final class Aggregation {
    private let groups: [Projection]
    private let sets: [[Int]]
    private let hasGroupingID: Bool
    private let context: ExecutionContext
    private let keys: [Evaluator]
    private let calls: [CallEvaluators]
    private var table = KeyTable()
    private var accumulators: [any Accumulator] = []
    private var seen: [Distinct?] = []
    private var ordered: [Ordered?] = []
    /// Values of the groups' keys, NULL where a grouping set leaves one out.
    private var groupColumns: [ColumnBuilder] = []
    private var groupBits: [Int64] = []
    /// Of a single integer key.
    private var known = KnownGroups()
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

    /// Of rows that lie as `layout` says.
    init(
        groups: [Projection], sets: [[Int]], calls given: [AggregateCall], hasGroupingID: Bool, layout: Layout,
        context: ExecutionContext
    ) throws(StatementError) {
        (self.groups, self.sets, self.hasGroupingID, self.context) = (groups, sets, hasGroupingID, context)
        var keys: [Evaluator] = []
        for group in groups { keys.append(try Evaluator(group.expression, layout: layout)) }
        self.keys = keys
        var calls: [CallEvaluators] = []
        for call in given {
            var arguments: [Evaluator] = [], order: [Evaluator] = []
            for argument in call.arguments { arguments.append(try Evaluator(argument, layout: layout)) }
            for term in call.order { order.append(try Evaluator(term.expression, layout: layout)) }
            let filter =
                if let condition = call.filter { try Evaluator(condition, layout: layout) } else {
                    nil as Evaluator?
                }
            calls.append(CallEvaluators(call: call, arguments: arguments, order: order, filter: filter))
        }
        self.calls = calls
        begin()
    }

    /// The number of groups so far.
    var count: Int { table.count }

    private func begin() {
        table = KeyTable()
        known = KnownGroups()
        accumulators = calls.map { $0.call.function.make($0.call.arguments.map(\.type), $0.call.type) }
        seen = calls.map { $0.call.isDistinct ? Distinct() : nil }
        ordered = calls.map { call in
            call.order.isEmpty ? nil : Ordered(call.arguments.map(\.type), call.order.map(\.type))
        }
        groupColumns = groups.map { ColumnBuilder($0.expression.type) }
        groupBits = []
        // An empty grouping set has its row whatever comes.
        for (index, set) in sets.enumerated() where set.isEmpty { _ = group(setIndex: index, [], row: 0) }
        grow()
    }

    /// Forgets everything.
    func restart() throws(StatementError) {
        try context.charge(-charged)
        (charged, tableBytes) = (0, 0)
        begin()
    }

    private func grow() { for accumulator in accumulators { accumulator.grow(to: table.count) } }

    /// The number of the group of a row in a grouping set.
    private func group(setIndex: Int, _ columns: [Column], row: Int, writer: inout RowKeyWriter) -> Int32 {
        writer.buffer.removeAll()
        if sets.count > 1 { writer.buffer.append(bigEndian: UInt16(truncatingIfNeeded: setIndex)) }
        let set = sets[setIndex]
        for key in set { writer.append(columns[key], row: row) }
        let (index, isNew) = table.insert(writer.buffer.readable)
        if isNew {
            var bits: Int64 = 0
            for key in groups.indices {
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

    /// Takes rows in.
    func add(_ batch: ColumnBatch) throws(StatementError) {
        // Accumulators charge for what they gather on their own.
        let before = context.memoryUsed
        if keys.isEmpty, sets.count == 1 {
            for index in calls.indices where try !addWhole(index, batch) {
                let zeros = [Int32](repeating: 0, count: batch.count)
                try feed(index, try input(calls[index], batch), zeros)
            }
        } else {
            try addGrouped(batch)
        }
        var bytes = table.footprint + table.count * 24 * (keys.count + calls.count)
        for distinct in seen { bytes += distinct?.table.footprint ?? 0 }
        try context.charge(bytes - tableBytes)
        tableBytes = bytes
        charged += context.memoryUsed - before
    }

    private func addGrouped(_ batch: ColumnBatch) throws(StatementError) {
        var columns: [Column] = []
        for key in keys { columns.append(try key.evaluate(batch, context)) }
        var inputs: [(arguments: [Column], order: [Column], rows: [Int32])] = []
        for call in calls { inputs.append(try input(call, batch)) }
        for setIndex in sets.indices {
            let numbers = numbers(ofSet: setIndex, columns, count: batch.count)
            grow()
            for (index, input) in inputs.enumerated() { try feed(index, input, numbers) }
        }
    }

    /// The groups of all rows.
    private func numbers(ofSet setIndex: Int, _ columns: [Column], count: Int) -> [Int32] {
        var writer = RowKeyWriter()
        if sets[setIndex].isEmpty {
            let number = group(setIndex: setIndex, columns, row: 0, writer: &writer)
            return Array(repeating: number, count: count)
        }
        var numbers = [Int32](repeating: 0, count: count)
        guard sets.count == 1, columns.count == 1, columns[0].validity == nil,
            case .integers(let values) = columns[0].storage
        else {
            for row in 0..<count { numbers[row] = group(setIndex: setIndex, columns, row: row, writer: &writer) }
            return numbers
        }
        for row in 0..<count {
            if let number = known[values[row]] {
                numbers[row] = number
            } else {
                numbers[row] = group(setIndex: setIndex, columns, row: row, writer: &writer)
                known[values[row]] = numbers[row]
            }
        }
        return numbers
    }

    /// All rows into the one group, without looking at each; false: they have to be looked at.
    private func addWhole(_ index: Int, _ batch: ColumnBatch) throws(StatementError) -> Bool {
        guard calls[index].filter == nil, seen[index] == nil, ordered[index] == nil,
            let accumulator = accumulators[index] as? any WholeAccumulator
        else { return false }
        var arguments: [Column] = []
        for evaluator in calls[index].arguments { arguments.append(try evaluator.evaluate(batch, context)) }
        guard arguments.allSatisfy({ $0.validity == nil }) else { return false }
        accumulator.addAll(arguments, count: batch.count)
        return true
    }

    /// Takes in what another aggregation has made of other rows: its keys and its states lie at `places`.
    func merge(_ batch: ColumnBatch, _ places: [Int]) throws(StatementError) {
        let before = context.memoryUsed
        let columns = places.prefix(keys.count).map { batch.columns[$0] }
        let numbers = numbers(ofSet: 0, Array(columns), count: batch.count)
        grow()
        for (index, place) in places.dropFirst(keys.count).enumerated() {
            guard let accumulator = accumulators[index] as? any PartialAccumulator else {
                throw StatementError(.internalError, "an aggregate has no states")
            }
            for row in 0..<batch.count {
                try accumulator.merge(state: batch.columns[place].value(at: row), into: Int(numbers[row]))
            }
        }
        let bytes = table.footprint + table.count * 24 * (keys.count + calls.count)
        try context.charge(bytes - tableBytes)
        tableBytes = bytes
        charged += context.memoryUsed - before
    }

    /// The keys of all groups, and the states of the calls; then everything begins anew.
    func takeStates(_ types: [DataType]) throws(StatementError) -> ColumnBatch {
        var columns = groupColumns.map { $0.finish() }
        for (index, type) in types.enumerated() {
            guard let accumulator = accumulators[index] as? any PartialAccumulator else {
                throw StatementError(.internalError, "an aggregate has no states")
            }
            var builder = ColumnBuilder(type)
            builder.reserve(table.count)
            for group in 0..<table.count { builder.append(accumulator.state(of: group)) }
            columns.append(builder.finish())
        }
        let batch = ColumnBatch(columns, count: table.count)
        try restart()
        return batch
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

    /// The results of all groups.
    func finish() throws(StatementError) -> ColumnBatch {
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
        if hasGroupingID { columns.append(Column(.int64, .integers(groupBits), count: table.count)) }
        return ColumnBatch(columns, count: table.count)
    }
}

/// The groups of integers that were met last: most rows find theirs here.
struct KnownGroups {
    private var entries: [(key: Int64, number: Int32)] = []

    private func place(of key: Int64) -> Int {
        Int(truncatingIfNeeded: (UInt64(bitPattern: key) &* 0x9e37_79b9_7f4a_7c15) >> 52)
    }

    subscript(key: Int64) -> Int32? {
        get {
            if entries.isEmpty { return nil }
            let entry = entries[place(of: key)]
            return entry.key == key && entry.number >= 0 ? entry.number : nil
        }
        set {
            if entries.isEmpty { entries = Array(repeating: (0, -1), count: 4096) }
            entries[place(of: key)] = (key, newValue ?? -1)
        }
    }
}

extension AggregatePlan {
    /// Of the rows that come out, as their types are.
    var attributes: [Attribute] {
        groups.map(\.attribute) + calls.map(\.attribute) + (groupingID.map { [$0] } ?? [])
    }

    var types: [DataType] {
        groups.map(\.expression.type) + calls.map(\.call.type) + (groupingID == nil ? [] : [.int64])
    }

    func aggregation(over child: Operator) throws(StatementError) -> Aggregation {
        try Aggregation(
            groups: groups, sets: sets, calls: calls.map(\.call), hasGroupingID: groupingID != nil,
            layout: child.layout, context: child.context)
    }
}
