import Base
import DataModel

/// Reads rows of a collection: all, a range of keys, or those of certain keys.
final class ScanOperator: Operator {
    private let plan: ScanPlan
    private let access: (any RowAccess)?
    /// Of a table of the system catalogs, which is computed here.
    private let table: SystemTable?
    private let limitEvaluator: Evaluator?
    private let pipeline: ScanPipeline
    private var cursor: (any RowCursor)?
    /// What shards have made of their rows, and nobody has asked for yet.
    private var blocks: ArraySlice<Bytes> = []
    /// Rows came, and not what a fragment makes of them.
    private var hasRows = false
    private var isDone = false

    init(_ plan: ScanPlan, context: ExecutionContext) throws(StatementError) {
        table = SystemCatalogs.isComputed(plan.collection) ? SystemCatalogs.table(plan.collection.id) : nil
        guard context.access != nil || table != nil else {
            throw StatementError(.internalError, "rows are read where there are none")
        }
        self.plan = plan
        access = context.access
        limitEvaluator = if let limit = plan.limit { try Evaluator(limit, layout: Layout([])) } else { nil }
        pipeline = try ScanPipeline(plan, context)
        super.init(layout: Layout(plan.attributes), types: plan.types, context: context)
    }

    override func next() throws(StatementError) -> OperatorStep {
        if isDone { return .end }
        if cursor == nil {
            guard let range = try range() else { return try end() }
            cursor = try begin(range)
        }
        guard let cursor else { return .end }
        while true {
            if let block = blocks.popFirst() {
                guard let batch = block.withUnsafeBytes({ ColumnBlockCoding.decode($0, types) }) else {
                    throw StatementError(.dataCorrupted, "what a shard has made of rows cannot be read")
                }
                if batch.count > 0 { return .batch(batch) }
                continue
            }
            let batch: ColumnBatch
            switch try cursor.next() {
            case .waiting: return .waiting
            case .end: return try end()
            case .blocks(let blocks):
                self.blocks = blocks[...]
                continue
            case .rows(let rows): batch = try pipeline.decoder.decode(rows, plan.rowTypes)
            case .columns(let columns): batch = Self.batch(columns, plan.rowTypes)
            }
            hasRows = true
            if let chosen = try pipeline.take(batch) { return .batch(chosen) }
            // The groups are kept once more where the states are merged.
            if pipeline.groupCount > FragmentRun.groupLimit, let states = try pipeline.finish() {
                return .batch(states)
            }
            if try context.isSliceOver() { return .waiting }
        }
    }

    /// The last rows were read: what an aggregate has made of those that came as rows.
    private func end() throws(StatementError) -> OperatorStep {
        isDone = true
        guard hasRows, let states = try pipeline.finish(), states.count > 0 else { return .end }
        return .batch(states)
    }

    private func begin(_ range: ScanRequest.Range) throws(StatementError) -> (any RowCursor)? {
        let columns = plan.outputs.compactMap(\.column)
        if let table { return SystemCursor(table, columns, context.system) }
        let limit = try LimitOperator.number(limitEvaluator, context, isLimit: true)
        let fragment = ScanFragment(plan).map {
            FragmentCall(
                fragment: $0, parameters: context.parameters, limit: limit,
                transactionTime: context.settings.transactionTime,
                statementTime: context.settings.statementTime)
        }
        // Where the rows are filtered here, more may be needed than come out.
        return try access?.scan(
            ScanRequest(
                collection: plan.collection, range: range, columns: columns,
                limit: plan.filter == nil ? limit : nil, isForUpdate: plan.isForUpdate, fragment: fragment))
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

    override func restart() throws(StatementError) {
        cursor = nil
        (blocks, hasRows, isDone) = ([], false, false)
        try pipeline.restart()
    }
}
