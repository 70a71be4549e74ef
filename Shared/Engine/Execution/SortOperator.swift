import Base
import DataModel

/// ORDER BY: gathers all rows, or the first ones where a limit is known, and gives them in order. Equal rows stay in
/// the order in which they came.
final class SortOperator: Operator {
    private let child: Operator
    private let terms: [(evaluator: Evaluator, part: RowKeyWriter.Part)]
    private let limitEvaluator: Evaluator?
    private var pieces: [ColumnBatch] = []
    private var held = 0
    private var charged = 0
    private var limit: Int?
    private var isLimitKnown = false
    private var sorted: ColumnBatch?
    private var position = 0

    init(_ child: Operator, _ terms: [SortTerm], limit: BoundExpression?) throws(StatementError) {
        self.child = child
        var evaluators: [(evaluator: Evaluator, part: RowKeyWriter.Part)] = []
        for term in terms {
            evaluators.append(
                (
                    try Evaluator(term.expression, layout: child.layout),
                    RowKeyWriter.Part(isDescending: term.isDescending, isNullsFirst: term.isNullsFirst)
                ))
        }
        self.terms = evaluators
        limitEvaluator = if let limit { try Evaluator(limit, layout: Layout([])) } else { nil }
        super.init(layout: child.layout, types: child.types, context: child.context)
    }

    override func next() throws(StatementError) -> OperatorStep {
        if !isLimitKnown {
            limit = try LimitOperator.number(limitEvaluator, context, isLimit: true)
            isLimitKnown = true
        }
        while sorted == nil {
            switch try child.next() {
            case .batch(let batch):
                try keep(batch)
                if try context.isSliceOver() { return .waiting }
            case .waiting: return .waiting
            case .end: sorted = try sort(Gathering.join(pieces, types))
            }
        }
        guard let sorted, position < sorted.count else { return .end }
        let end = min(position + ColumnBatch.rows, sorted.count)
        defer { position = end }
        return .batch(sorted.slice(position..<end))
    }

    private func keep(_ batch: ColumnBatch) throws(StatementError) {
        pieces.append(batch)
        held += batch.count
        try context.charge(batch.footprint)
        charged += batch.footprint
        // Of what is held only the first `limit` rows can come out: let go of the rest when it is much.
        if let limit, limit < 1 << 20, held >= max(4 * limit, 4 * ColumnBatch.rows) {
            let rows = try sort(Gathering.join(pieces, types))
            try context.charge(rows.footprint - charged)
            charged = rows.footprint
            pieces = [rows]
            held = rows.count
        }
    }

    private func sort(_ rows: ColumnBatch) throws(StatementError) -> ColumnBatch {
        guard rows.count > 1 else { return limit == 0 ? empty : rows }
        var columns: [Column] = []
        for term in terms { columns.append(try term.evaluator.evaluate(rows, context)) }
        var order = RowOrder.sorted(columns, parts: terms.map(\.part), count: rows.count)
        if let limit, limit < order.count { order.removeLast(order.count - limit) }
        return rows.gathered(order)
    }

    override func restart() throws(StatementError) {
        try context.charge(-charged)
        (pieces, held, charged, sorted, position) = ([], 0, 0, nil, 0)
        isLimitKnown = false
        try child.restart()
    }
}

/// Sorts rows by the bytes of their keys.
enum RowOrder {
    static func sorted(_ columns: [Column], parts: [RowKeyWriter.Part], count: Int) -> [Int32] {
        if columns.count == 1, columns[0].validity == nil, case .integers(let values) = columns[0].storage {
            return sorted(values, isDescending: parts[0].isDescending)
        }
        var writer = RowKeyWriter()
        var offsets: [Int] = [0]
        offsets.reserveCapacity(count + 1)
        for row in 0..<count {
            for (column, part) in zip(columns, parts) { writer.append(column, row: row, part: part) }
            offsets.append(writer.buffer.count)
        }
        var order = Array(0..<Int32(count))
        let all = writer.buffer.readable
        order.sort { left, right in
            let first = ByteView(rebasing: all[offsets[Int(left)]..<offsets[Int(left) + 1]])
            let second = ByteView(rebasing: all[offsets[Int(right)]..<offsets[Int(right) + 1]])
            let comparison = compareKeys(first, second)
            return comparison == 0 ? left < right : comparison < 0
        }
        return order
    }

    private static func sorted(_ values: [Int64], isDescending: Bool) -> [Int32] {
        var order = Array(0..<Int32(values.count))
        values.withUnsafeBufferPointer { values in
            order.sort { left, right in
                let first = values[Int(left)], second = values[Int(right)]
                if first == second { return left < right }
                return (first < second) != isDescending
            }
        }
        return order
    }
}

/// DISTINCT, DISTINCT ON: the first row of each kind.
final class DistinctOperator: Operator {
    private let child: Operator
    private let on: [Evaluator]?
    private var seen = KeyTable()
    private var charged = 0

    init(_ child: Operator, on: [BoundExpression]?) throws(StatementError) {
        self.child = child
        if let on {
            var evaluators: [Evaluator] = []
            for expression in on { evaluators.append(try Evaluator(expression, layout: child.layout)) }
            self.on = evaluators
        } else {
            self.on = nil
        }
        super.init(layout: child.layout, types: child.types, context: child.context)
    }

    override func next() throws(StatementError) -> OperatorStep {
        while true {
            let step = try child.next()
            guard case .batch(let batch) = step else { return step }
            var columns = batch.columns
            if let on {
                columns = []
                for evaluator in on { columns.append(try evaluator.evaluate(batch, context)) }
            }
            var writer = RowKeyWriter()
            var rows: [Int32] = []
            for row in 0..<batch.count {
                writer.buffer.removeAll()
                for column in columns { writer.append(column, row: row) }
                if seen.insert(writer.buffer.readable).isNew { rows.append(Int32(row)) }
            }
            try context.charge(seen.footprint - charged)
            charged = seen.footprint
            if rows.count == batch.count { return .batch(batch) }
            if !rows.isEmpty { return .batch(batch.gathered(rows)) }
            if try context.isSliceOver() { return .waiting }
        }
    }

    override func restart() throws(StatementError) {
        try context.charge(-charged)
        charged = 0
        seen = KeyTable()
        try child.restart()
    }
}

/// UNION, INTERSECT, EXCEPT, each with and without ALL.
final class CombineOperator: Operator {
    private let operation: SetOperation
    private let isAll: Bool
    private let left: Operator
    private let right: Operator
    private let leftPlaces: [Int]
    private let rightPlaces: [Int]
    private var seen = KeyTable()
    /// Of INTERSECT and EXCEPT: how many rows of each key the right side has, not yet set off against the left.
    private var counts: [Int] = []
    private var given: [Bool] = []
    private var isFirstDone = false
    private var charged = 0

    init(_ plan: CombinePlan, _ left: Operator, _ right: Operator) throws(StatementError) {
        (operation, isAll, self.left, self.right) = (plan.operation, plan.isAll, left, right)
        leftPlaces = try left.layout.places(of: plan.leftAttributes)
        rightPlaces = try right.layout.places(of: plan.rightAttributes)
        super.init(
            layout: Layout(plan.outputs.map(\.attribute)), types: plan.outputs.map(\.type), context: left.context)
    }

    override func next() throws(StatementError) -> OperatorStep {
        while true {
            // A union reads left, then right; the others read the right side first.
            let isLeft = (operation == .union) != isFirstDone
            switch try (isLeft ? left : right).next() {
            case .waiting: return .waiting
            case .end:
                if isFirstDone { return .end }
                isFirstDone = true
            case .batch(let batch):
                let rows = ColumnBatch(
                    (isLeft ? leftPlaces : rightPlaces).map { batch.columns[$0] }, count: batch.count)
                if operation == .union, isAll { return .batch(rows) }
                if operation != .union, !isLeft {
                    count(rows)
                    try charge()
                } else {
                    let chosen = choose(rows)
                    try charge()
                    if !chosen.isEmpty { return .batch(chosen.count == rows.count ? rows : rows.gathered(chosen)) }
                }
                if try context.isSliceOver() { return .waiting }
            }
        }
    }

    private func charge() throws(StatementError) {
        let bytes = seen.footprint + counts.count * 9
        try context.charge(bytes - charged)
        charged = bytes
    }

    private func count(_ batch: ColumnBatch) {
        forEachKey(batch) { _, key in
            let (index, isNew) = seen.insert(key)
            if isNew {
                counts.append(0)
                given.append(false)
            }
            counts[index] += 1
        }
    }

    private func choose(_ batch: ColumnBatch) -> [Int32] {
        var rows: [Int32] = []
        forEachKey(batch) { row, key in
            let (index, isNew) = seen.insert(key)
            if isNew {
                counts.append(0)
                given.append(false)
            }
            let isThere = counts[index] > 0
            let isWanted: Bool
            switch operation {
            case .union: isWanted = isNew
            case .intersect: isWanted = isThere && (isAll || !given[index])
            case .except: isWanted = !isThere && (isAll || !given[index])
            }
            if isAll, isThere { counts[index] -= 1 }
            if isWanted {
                given[index] = true
                rows.append(row)
            }
        }
        return rows
    }

    private func forEachKey(_ batch: ColumnBatch, _ body: (Int32, ByteView) -> Void) {
        var writer = RowKeyWriter()
        for row in 0..<batch.count {
            writer.buffer.removeAll()
            for column in batch.columns { writer.append(column, row: row) }
            body(Int32(row), writer.buffer.readable)
        }
    }

    override func restart() throws(StatementError) {
        try context.charge(-charged)
        charged = 0
        seen = KeyTable()
        (counts, given, isFirstDone) = ([], [], false)
        try left.restart()
        try right.restart()
    }
}
