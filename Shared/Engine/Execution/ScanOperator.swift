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
    /// Where to look, instead of what the plan says: keys, or entries of the index that is looked up.
    private let places: KeyRanges?
    private let reading: OrderedReading?
    private var cursor: (any RowCursor)?
    /// What shards have made of their rows, and nobody has asked for yet.
    private var blocks: ArraySlice<Bytes> = []
    /// Rows came, and not what a fragment makes of them.
    private var hasRows = false
    private var isDone = false

    init(
        _ plan: ScanPlan, context: ExecutionContext, places: KeyRanges? = nil, reading: OrderedReading? = nil
    ) throws(StatementError) {
        table = SystemCatalogs.isComputed(plan.collection) ? SystemCatalogs.table(plan.collection.id) : nil
        guard context.access != nil || table != nil else {
            throw StatementError(.internalError, "rows are read where there are none")
        }
        self.plan = plan
        access = context.access
        (self.places, self.reading) = (places, reading)
        limitEvaluator = if let limit = plan.limit { try Evaluator(limit, layout: Layout([])) } else { nil }
        pipeline = try ScanPipeline(plan, context)
        super.init(layout: Layout(plan.attributes), types: plan.types, context: context)
    }

    override func next() throws(StatementError) -> OperatorStep {
        if isDone { return .end }
        if cursor == nil {
            guard let fresh = try begin() else { return try end() }
            cursor = fresh
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

    /// Begins to read; nil if no row can be meant.
    private func begin() throws(StatementError) -> (any RowCursor)? {
        let columns = plan.outputs.compactMap(\.column)
        if let table { return SystemCursor(table, columns, context.system) }
        guard let access else { return nil }
        if let reading { return try reading.begin(columns, access) }
        func types(_ columns: [ColumnID]) -> [DataType] { columns.map { plan.collection.column($0)?.type ?? .unknown } }
        var index = plan.index?.index, found = KeyRanges(everywhere: ())
        if let places {
            (index, found) = (plan.lookup?.index, places)
        } else if let use = plan.index {
            found = try KeyRanges(use.condition, types(use.index.columns), isExact: use.index.isUnique, context)
        } else if let condition = plan.keys {
            found = try KeyRanges(condition, types(plan.collection.primaryKey), isExact: true, context)
        }
        guard let range = found.range else { return nil }
        if let index, !found.isEverywhere {
            let rows = ScanRequest(
                collection: plan.collection, range: .all, columns: columns, isForUpdate: plan.isForUpdate)
            return try EntryCursor(context, access, index.entries, range, isSteady: found.isSteady, rows)
        }
        let limit = try LimitOperator.number(limitEvaluator, context, isLimit: true)
        let fragment = ScanFragment(plan).map {
            FragmentCall(
                fragment: $0, parameters: context.parameters, limit: limit,
                transactionTime: context.settings.transactionTime,
                statementTime: context.settings.statementTime)
        }
        // Where the rows are filtered here, more may be needed than come out.
        return try access.scan(
            ScanRequest(
                collection: plan.collection, range: range, columns: columns,
                limit: plan.filter == nil ? limit : nil, isForUpdate: plan.isForUpdate, fragment: fragment))
    }

    override func restart() throws(StatementError) {
        cursor = nil
        (blocks, hasRows, isDone) = ([], false, false)
        try pipeline.restart()
    }
}
