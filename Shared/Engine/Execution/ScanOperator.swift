import Base
import DataModel

/// Reads rows of a collection: all, a range of keys, or those of certain keys.
final class ScanOperator: Operator {
    private let plan: ScanPlan
    private let access: (any RowAccess)?
    /// Of a table of the system catalogs, which is computed here.
    private let table: SystemTable?
    private let filter: Evaluator?
    private let limitEvaluator: Evaluator?
    private let decoder: RecordColumns
    private var cursor: (any RowCursor)?
    private var isDone = false

    init(_ plan: ScanPlan, context: ExecutionContext) throws(StatementError) {
        table = SystemCatalogs.isComputed(plan.collection) ? SystemCatalogs.table(plan.collection.id) : nil
        guard context.access != nil || table != nil else {
            throw StatementError(.internalError, "rows are read where there are none")
        }
        self.plan = plan
        access = context.access
        let attributes = plan.outputs.map(\.attribute) + (plan.key.map { [$0] } ?? [])
        let layout = Layout(attributes)
        filter = if let condition = plan.filter { try Evaluator(condition, layout: layout) } else { nil }
        limitEvaluator = if let limit = plan.limit { try Evaluator(limit, layout: Layout([])) } else { nil }
        decoder = RecordColumns(plan.collection, plan.outputs.compactMap(\.column), hasKey: plan.key != nil)
        super.init(
            layout: layout, types: plan.outputs.map(\.type) + (plan.key == nil ? [] : [.bytes]), context: context)
    }

    override func next() throws(StatementError) -> OperatorStep {
        if isDone { return .end }
        if cursor == nil {
            guard let range = try range() else {
                isDone = true
                return .end
            }
            // With a filter here, more rows may be needed than come out.
            let limit = filter == nil ? try LimitOperator.number(limitEvaluator, context, isLimit: true) : nil
            let request = ScanRequest(
                collection: plan.collection, range: range, columns: plan.outputs.compactMap(\.column), limit: limit,
                isForUpdate: plan.isForUpdate)
            if let table {
                cursor = SystemCursor(table, request.columns, context.system)
            } else {
                cursor = try access?.scan(request)
            }
        }
        guard let cursor else { return .end }
        while true {
            let batch: ColumnBatch
            switch try cursor.next() {
            case .waiting: return .waiting
            case .end:
                isDone = true
                return .end
            case .rows(let rows): batch = try decoder.decode(rows, types)
            case .columns(let columns): batch = Self.batch(columns, types)
            }
            guard batch.count > 0 else { continue }
            guard let filter else { return .batch(batch) }
            let chosen = try filter.select(batch, context)
            if chosen.count == batch.count { return .batch(batch) }
            if !chosen.isEmpty { return .batch(batch.gathered(chosen)) }
            if try context.isSliceOver() { return .waiting }
        }
    }

    private static func batch(_ columns: [[Value]], _ types: [DataType]) -> ColumnBatch {
        let count = columns.first?.count ?? 0
        var result: [Column] = []
        for (index, type) in types.enumerated() {
            var builder = ColumnBuilder(type)
            builder.reserve(count)
            for row in 0..<count { builder.append(index < columns.count ? columns[index][row] : .null) }
            result.append(builder.finish())
        }
        return ColumnBatch(result, count: count)
    }

    /// Which keys; nil if none can be.
    private func range() throws(StatementError) -> ScanRequest.Range? {
        guard let condition = plan.keys else { return .all }
        var prefixes: [Bytes] = [[]], known: Set<Bytes> = []
        for (index, choices) in condition.equal.enumerated() {
            guard let column = plan.collection.column(plan.collection.primaryKey[index]) else { return .all }
            var fresh: [Bytes] = []
            for choice in choices {
                let value = try Evaluator(choice, layout: Layout([])).value(context)
                if value.isNull { continue }
                let part = KeyForms.encode([value], [column.type])
                for prefix in prefixes where known.insert(prefix + part).inserted { fresh.append(prefix + part) }
            }
            prefixes = fresh
        }
        if prefixes.isEmpty { return nil }
        if condition.isComplete { return .keys(prefixes.sorted { $0.lexicographicallyPrecedes($1) }) }
        guard prefixes.count == 1 else { return .all }
        let prefix = prefixes[0]
        var lower = prefix, upper = KeyForms.successor(prefix)
        let next = condition.equal.count
        if next < plan.collection.primaryKey.count,
            let column = plan.collection.column(plan.collection.primaryKey[next])
        {
            if let bound = condition.lower {
                let value = try Evaluator(bound.expression, layout: Layout([])).value(context)
                if value.isNull { return nil }
                let key = prefix + KeyForms.encode([value], [column.type])
                guard bound.isInclusive || KeyForms.successor(key) != nil else { return nil }
                lower = bound.isInclusive ? key : KeyForms.successor(key) ?? key
            }
            if let bound = condition.upper {
                let value = try Evaluator(bound.expression, layout: Layout([])).value(context)
                if value.isNull { return nil }
                let key = prefix + KeyForms.encode([value], [column.type])
                upper = bound.isInclusive ? KeyForms.successor(key) : key
            }
        }
        if let upper, !lower.lexicographicallyPrecedes(upper) { return nil }
        return .between(lower, upper)
    }

    override func restart() {
        cursor = nil
        isDone = false
    }
}
