import Base
import DataModel

/// One row without columns.
final class SingleOperator: Operator {
    private var isDone = false

    override func next() -> OperatorStep {
        if isDone { return .end }
        isDone = true
        return .batch(ColumnBatch([], count: 1))
    }

    override func restart() { isDone = false }
}

/// VALUES.
final class ValuesOperator: Operator {
    private let rows: [[Evaluator]]
    private var position = 0

    init(rows: [[BoundExpression]], outputs: [OutputColumn], context: ExecutionContext) throws(StatementError) {
        var evaluators: [[Evaluator]] = []
        for row in rows {
            var line: [Evaluator] = []
            for expression in row { line.append(try Evaluator(expression, layout: Layout([]))) }
            evaluators.append(line)
        }
        self.rows = evaluators
        super.init(layout: Layout(outputs.map(\.attribute)), types: outputs.map(\.type), context: context)
    }

    override func next() throws(StatementError) -> OperatorStep {
        guard position < rows.count else { return .end }
        var builder = BatchBuilder(types)
        while position < rows.count, !builder.isFull {
            var row: [Value] = []
            do throws(StatementError) {
                for evaluator in rows[position] { row.append(try evaluator.value(context)) }
            } catch {
                guard context.sequences.pause() else { throw error }
                // The rows that are made wait for nothing.
                guard builder.count == 0 else { return .batch(builder.take()) }
                return .waiting
            }
            context.sequences.forget()
            builder.append(row)
            position += 1
        }
        return .batch(builder.take())
    }

    override func restart() { position = 0 }
}

/// Lets rows through for which a condition is true.
final class FilterOperator: Operator {
    private let child: Operator
    private let condition: Evaluator
    /// What is being asked, until a number of a sequence is there.
    private var pending: ColumnBatch?

    init(_ child: Operator, _ condition: BoundExpression) throws(StatementError) {
        self.child = child
        self.condition = try Evaluator(condition, layout: child.layout)
        super.init(layout: child.layout, types: child.types, context: child.context)
    }

    override func next() throws(StatementError) -> OperatorStep {
        while true {
            if pending == nil {
                let step = try child.next()
                guard case .batch(let batch) = step else { return step }
                pending = batch
            }
            guard let batch = pending else { return .end }
            let rows: [Int32]
            do throws(StatementError) {
                rows = try condition.select(batch, context)
            } catch {
                if context.sequences.pause() { return .waiting }
                throw error
            }
            context.sequences.forget()
            pending = nil
            if rows.count == batch.count { return .batch(batch) }
            if !rows.isEmpty { return .batch(batch.gathered(rows)) }
            if try context.isSliceOver() { return .waiting }
        }
    }

    override func restart() throws(StatementError) {
        pending = nil
        try child.restart()
    }
}

/// Computes columns.
final class ProjectOperator: Operator {
    private let child: Operator
    private let evaluators: [Evaluator]
    /// What is being computed, until a number of a sequence is there.
    private var pending: ColumnBatch?

    init(_ child: Operator, _ projections: [Projection]) throws(StatementError) {
        self.child = child
        var evaluators: [Evaluator] = []
        for projection in projections {
            evaluators.append(try Evaluator(projection.expression, layout: child.layout))
        }
        self.evaluators = evaluators
        super.init(
            layout: Layout(projections.map(\.attribute)), types: projections.map(\.expression.type),
            context: child.context)
    }

    override func next() throws(StatementError) -> OperatorStep {
        if pending == nil {
            let step = try child.next()
            guard case .batch(let batch) = step else { return step }
            pending = batch
        }
        guard let batch = pending else { return .end }
        var columns: [Column] = []
        columns.reserveCapacity(evaluators.count)
        do throws(StatementError) {
            for evaluator in evaluators { columns.append(try evaluator.evaluate(batch, context)) }
        } catch {
            if context.sequences.pause() { return .waiting }
            throw error
        }
        context.sequences.forget()
        pending = nil
        return .batch(ColumnBatch(columns, count: batch.count))
    }

    override func restart() throws(StatementError) {
        pending = nil
        try child.restart()
    }
}

/// LIMIT, OFFSET, WITH TIES.
final class LimitOperator: Operator {
    private let child: Operator
    private let countEvaluator: Evaluator?
    private let offsetEvaluator: Evaluator?
    private let ties: [Evaluator]?
    private var bounds: (skip: Int, take: Int)?
    private var lastKey: Bytes?

    init(_ child: Operator, _ plan: LimitPlan) throws(StatementError) {
        self.child = child
        let none = Layout([])
        countEvaluator = if let count = plan.count { try Evaluator(count, layout: none) } else { nil }
        offsetEvaluator = if let offset = plan.offset { try Evaluator(offset, layout: none) } else { nil }
        if let terms = plan.ties {
            var evaluators: [Evaluator] = []
            for term in terms { evaluators.append(try Evaluator(term.expression, layout: child.layout)) }
            ties = evaluators
        } else {
            ties = nil
        }
        super.init(layout: child.layout, types: child.types, context: child.context)
    }

    static func number(_ evaluator: Evaluator?, _ context: ExecutionContext, isLimit: Bool) throws(StatementError)
        -> Int?
    {
        guard let evaluator, case .integer(let number) = try evaluator.value(context) else { return nil }
        guard number >= 0 else {
            throw isLimit
                ? StatementError(.invalidRowCountInLimitClause, "LIMIT must not be negative")
                : StatementError(.invalidRowCountInResultOffsetClause, "OFFSET must not be negative")
        }
        return Int(number)
    }

    override func next() throws(StatementError) -> OperatorStep {
        if bounds == nil {
            let take = try Self.number(countEvaluator, context, isLimit: true) ?? .max
            bounds = (try Self.number(offsetEvaluator, context, isLimit: false) ?? 0, take)
        }
        while var (skip, take) = bounds, take > 0 || lastKey != nil {
            let step = try child.next()
            guard case .batch(let batch) = step else { return step }
            let skipped = min(skip, batch.count)
            skip -= skipped
            let taken = min(take, batch.count - skipped)
            take = take == .max ? .max : take - taken
            bounds = (skip, take)
            var end = skipped + taken
            if let ties, take == 0, end > 0 || lastKey != nil {
                end = try tied(batch, from: end, ties)
            }
            if end > skipped { return .batch(batch.slice(skipped..<end)) }
            if try context.isSliceOver() { return .waiting }
        }
        return .end
    }

    /// Where the rows end that are equal to the last one that was taken.
    private func tied(_ batch: ColumnBatch, from start: Int, _ ties: [Evaluator]) throws(StatementError) -> Int {
        var columns: [Column] = []
        for evaluator in ties { columns.append(try evaluator.evaluate(batch, context)) }
        func key(_ row: Int) -> Bytes {
            var writer = RowKeyWriter()
            for column in columns { writer.append(column, row: row) }
            return writer.buffer.readable.bytes
        }
        let last = lastKey ?? key(start - 1)
        var end = start
        while end < batch.count, key(end) == last { end += 1 }
        lastKey = end < batch.count ? nil : last
        return end
    }

    override func restart() throws(StatementError) {
        bounds = nil
        lastKey = nil
        try child.restart()
    }
}

/// Makes the tables of WITH known to what reads them. Of those that change rows, all rows are made in the end.
final class WithOperator: Operator {
    typealias Table = (plan: CommonTable, source: Operator)

    private let child: Operator
    private let tables: [Table]
    private var firsts = 0
    private var isChildDone = false
    private var lasts = 0

    init(_ tables: [Table], _ child: Operator) {
        self.tables = tables
        self.child = child
        super.init(layout: child.layout, types: child.types, context: child.context)
        for table in tables { context.common[table.plan.id] = CommonRows(source: table.source) }
    }

    override func next() throws(StatementError) -> OperatorStep {
        while firsts < tables.count {
            if tables[firsts].plan.use == .first, try !complete(tables[firsts], keepsRows: true) { return .waiting }
            firsts += 1
        }
        if !isChildDone {
            let step = try child.next()
            guard case .end = step else { return step }
            isChildDone = true
        }
        // A table is read by later ones only: from the last on, nobody will read what is left of it.
        while lasts < tables.count {
            let table = tables[tables.count - 1 - lasts]
            if table.plan.use == .toTheEnd, try !complete(table, keepsRows: false) { return .waiting }
            lasts += 1
        }
        return .end
    }

    /// Makes all rows of a table; false while they are waited for. Rows that nobody will read are not kept.
    private func complete(_ table: Table, keepsRows: Bool) throws(StatementError) -> Bool {
        guard let rows = context.common[table.plan.id] else { return true }
        while let source = rows.source {
            try context.checkCancelled()
            switch try source.next() {
            case .waiting: return false
            case .end: rows.source = nil
            case .batch(let batch):
                guard keepsRows else { continue }
                try context.charge(batch.footprint)
                rows.batches.append(batch)
            }
        }
        return true
    }

    override func restart() throws(StatementError) {
        for table in tables {
            for batch in context.common[table.plan.id]?.batches ?? [] { try context.charge(-batch.footprint) }
            try table.source.restart()
            context.common[table.plan.id] = CommonRows(source: table.source)
        }
        (firsts, isChildDone, lasts) = (0, false, 0)
        try child.restart()
    }
}

/// Reads the rows of a WITH query, and makes them where nobody has yet.
final class SharedOperator: Operator {
    private let id: Int32
    private let wanted: [Attribute]
    private var places: [Int] = []
    private var position = 0

    init(_ table: CommonTable, outputs: [OutputColumn], context: ExecutionContext) {
        id = table.id
        wanted = table.outputs.map(\.attribute)
        super.init(layout: Layout(outputs.map(\.attribute)), types: outputs.map(\.type), context: context)
    }

    override func next() throws(StatementError) -> OperatorStep {
        guard let rows = context.common[id] else {
            throw StatementError(.internalError, "the rows of a WITH query are not known")
        }
        if places.isEmpty { places = try rows.layout.places(of: wanted) }
        while true {
            if position < rows.batches.count {
                let batch = rows.batches[position]
                position += 1
                return .batch(ColumnBatch(places.map { batch.columns[$0] }, count: batch.count))
            }
            guard let source = rows.source else { return .end }
            let step = try source.next()
            switch step {
            case .batch(let batch):
                try context.charge(batch.footprint)
                rows.batches.append(batch)
            case .waiting: return step
            case .end: rows.source = nil
            }
        }
    }

    override func restart() { position = 0 }
}

/// The rows of the step before, within a recursive query.
final class WorkingOperator: Operator {
    private let id: RecursionID
    private var position = 0

    init(_ id: RecursionID, outputs: [OutputColumn], context: ExecutionContext) {
        self.id = id
        super.init(layout: Layout(outputs.map(\.attribute)), types: outputs.map(\.type), context: context)
    }

    override func next() -> OperatorStep {
        let batches = context.working[id] ?? []
        guard position < batches.count else { return .end }
        position += 1
        return .batch(batches[position - 1])
    }

    override func restart() { position = 0 }
}

/// WITH RECURSIVE: the start, and then the step over what was new, until nothing is.
final class RecursiveOperator: Operator {
    private let id: RecursionID
    private let isAll: Bool
    private let start: Operator
    private let step: Operator
    private let startPlaces: [Int]
    private let stepPlaces: [Int]
    private var seen = KeyTable()
    private var fresh: [ColumnBatch] = []
    private var isStarting = true
    private var charged = 0

    init(_ plan: RecursivePlan, start: Operator, step: Operator) throws(StatementError) {
        (id, isAll, self.start, self.step) = (plan.id, plan.isAll, start, step)
        startPlaces = try start.layout.places(of: plan.startAttributes)
        stepPlaces = try step.layout.places(of: plan.stepAttributes)
        super.init(
            layout: Layout(plan.outputs.map(\.attribute)), types: plan.outputs.map(\.type), context: start.context)
    }

    override func next() throws(StatementError) -> OperatorStep {
        while true {
            switch try (isStarting ? start : step).next() {
            case .batch(let batch):
                let places = isStarting ? startPlaces : stepPlaces
                var rows = ColumnBatch(places.map { batch.columns[$0] }, count: batch.count)
                if !isAll { rows = try unseen(rows) }
                guard rows.count > 0 else {
                    if try context.isSliceOver() { return .waiting }
                    continue
                }
                try charge(rows.footprint)
                fresh.append(rows)
                return .batch(rows)
            case .waiting: return .waiting
            case .end:
                if fresh.isEmpty { return .end }
                isStarting = false
                for old in context.working[id] ?? [] { try charge(-old.footprint) }
                context.working[id] = fresh
                fresh = []
                try step.restart()
                if try context.isSliceOver() { return .waiting }
            }
        }
    }

    private func charge(_ bytes: Int) throws(StatementError) {
        charged += bytes
        try context.charge(bytes)
    }

    private func unseen(_ batch: ColumnBatch) throws(StatementError) -> ColumnBatch {
        var writer = RowKeyWriter()
        var rows: [Int32] = []
        let before = seen.footprint
        for row in 0..<batch.count {
            writer.buffer.removeAll()
            for column in batch.columns { writer.append(column, row: row) }
            if seen.insert(writer.buffer.readable).isNew { rows.append(Int32(row)) }
        }
        try charge(seen.footprint - before)
        return rows.count == batch.count ? batch : batch.gathered(rows)
    }

    override func restart() throws(StatementError) {
        try charge(-charged)
        seen = KeyTable()
        fresh = []
        isStarting = true
        context.working[id] = []
        try start.restart()
    }
}
