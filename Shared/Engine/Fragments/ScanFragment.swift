import Base
import DataModel

/// A scan with all that may be done with its rows where they are: which columns are read, which rows are meant, what an
/// aggregate makes of them. Shards compute it over their own rows, and answer with what comes out.
package struct ScanFragment: Sendable {
    /// Among those of its statement, from 0.
    package let number: Int
    let scan: ScanPlan

    package var collection: CollectionDescriptor { scan.collection }
    /// The columns that it reads, in the order of the columns of a row block.
    package var columns: [ColumnID] { scan.outputs.compactMap(\.column) }
    /// Less comes out than is read: it may pay to keep what was read (`RowBlock`).
    package var reduces: Bool { scan.key == nil && (scan.partial != nil || scan.filter != nil) }

    /// What a row that is decoded costs, about, where an aggregate without groups and conditions costs 1.
    package var rowCost: Int {
        (scan.filter == nil ? 1 : 2) + (scan.partial?.groups.count ?? 0) * 4 + (scan.partial?.calls.count ?? 0)
    }

    init?(_ scan: ScanPlan) {
        guard let number = scan.fragment else { return nil }
        (self.number, self.scan) = (number, scan)
    }
}

/// A fragment in an execution: with the parameters and the moment of the statement.
package struct FragmentCall: Sendable {
    package let fragment: ScanFragment
    package let parameters: [Value]
    /// No more rows are asked for than that many that come out.
    package let limit: Int?
    /// Microseconds since 1970.
    package let transactionTime: Int64
    package let statementTime: Int64
}

/// Columns of some rows of a table, decoded: what a fragment reads, kept by whoever knows that they have not changed.
package struct RowBlock: Sendable {
    let batch: ColumnBatch

    package var count: Int { batch.count }
    /// About how much memory it takes.
    package var footprint: Int { batch.footprint }

    /// The same rows with the first columns only.
    package func first(_ count: Int) -> RowBlock {
        RowBlock(batch: ColumnBatch(Array(batch.columns.prefix(count)), count: batch.count))
    }

    /// The same rows with some of the columns, at `places`.
    package func selecting(_ places: [Int]) -> RowBlock {
        RowBlock(batch: ColumnBatch(places.map { batch.columns[$0] }, count: batch.count))
    }
}

/// A fragment at work over some of a shard's rows, which come as they are stored or as blocks.
package final class FragmentRun {
    /// Rows that are decoded before something is done with them, and of blocks that others keep.
    package static let blockRows = 1024
    /// Groups after which what there is goes out.
    static let groupLimit = 16_384

    private let pipeline: ScanPipeline
    private let limit: Int
    /// Every row that is read comes out.
    private let isPlain: Bool
    private var gathered: RecordColumns.Gathering
    private var results: [ColumnBatch] = []
    private var resultBytes = 0
    private var resultRows = 0

    /// `limit`: of rows that come out; 0: none. `extra`: further columns that are read, for blocks that others keep;
    /// only of a fragment that reduces.
    package init(
        _ fragment: ScanFragment, _ parameters: [Value], settings: EngineSettings, limit: Int, extra: [ColumnID] = []
    ) throws(StatementError) {
        let context = ExecutionContext(settings: settings, parameters: parameters, access: nil, attributes: 0)
        pipeline = try ScanPipeline(fragment.scan, context)
        isPlain = fragment.scan.filter == nil && fragment.scan.partial == nil
        self.limit = limit == 0 || fragment.scan.partial != nil ? .max : limit
        if extra.isEmpty || fragment.scan.key != nil {
            gathered = pipeline.decoder.gathering(fragment.scan.rowTypes)
        } else {
            let others = extra.map { fragment.collection.column($0)?.type ?? .unknown }
            gathered = RecordColumns(fragment.collection, fragment.columns + extra, hasKey: false)
                .gathering(fragment.scan.rowTypes + others)
        }
    }

    /// Rows that were taken and that nothing was done with yet.
    package var pending: Int { gathered.count }

    /// With those that were taken, there are as many as are asked for.
    package var isSated: Bool { isPlain && resultRows + gathered.count >= limit }

    /// Takes a row as it is stored; false where it is damaged.
    package func add(_ key: ByteView, _ record: ByteView) -> Bool { gathered.append(key, record) }

    /// The rows that were taken since the last time.
    package func take() -> RowBlock { RowBlock(batch: gathered.take()) }

    /// Does with the rows what the fragment says.
    package func process(_ block: RowBlock) throws(StatementError) {
        guard block.count > 0, let batch = try pipeline.take(block.batch) else { return }
        keep(batch)
    }

    private func keep(_ batch: ColumnBatch) {
        results.append(batch)
        resultRows += batch.count
        resultBytes += batch.footprint
    }

    /// Enough has come out for one answer of about so many bytes.
    package func isFull(_ bytes: Int) -> Bool {
        resultRows >= limit || resultBytes >= bytes || pipeline.groupCount > Self.groupLimit
    }

    /// The number of rows in a block that has come out.
    package static func rowCount(of block: ByteView) -> Int {
        var reader = ByteReader(block)
        return reader.varint().flatMap { Int(exactly: $0) } ?? 0
    }

    /// What has come out, encoded.
    package func finish() throws(StatementError) -> [Bytes] {
        if let states = try pipeline.finish(), states.count > 0 { keep(states) }
        return results.map { batch in
            var buffer = ByteBuffer(capacity: batch.footprint + 256)
            ColumnBlockCoding.append(batch, to: &buffer)
            return buffer.readable.bytes
        }
    }
}

/// What is done with the rows of a scan: decoded, filtered, aggregated.
final class ScanPipeline {
    let decoder: RecordColumns
    private let plan: ScanPlan
    private let context: ExecutionContext
    private let filter: Evaluator?
    private let aggregation: Aggregation?

    init(_ plan: ScanPlan, _ context: ExecutionContext) throws(StatementError) {
        (self.plan, self.context) = (plan, context)
        let layout = Layout(plan.outputs.map(\.attribute) + (plan.key.map { [$0] } ?? []))
        filter = if let condition = plan.filter { try Evaluator(condition, layout: layout) } else { nil }
        decoder = RecordColumns(plan.collection, plan.outputs.compactMap(\.column), hasKey: plan.key != nil)
        aggregation =
            if let partial = plan.partial {
                try Aggregation(
                    groups: partial.groups, sets: [Array(partial.groups.indices)], calls: partial.calls,
                    hasGroupingID: false, layout: layout, context: context)
            } else { nil }
    }

    /// The rows that are meant; nil if there are none, or they went into the aggregate.
    func take(_ batch: ColumnBatch) throws(StatementError) -> ColumnBatch? {
        guard batch.count > 0 else { return nil }
        var batch = batch
        if let filter {
            let chosen = try filter.select(batch, context)
            if chosen.isEmpty { return nil }
            if chosen.count < batch.count { batch = batch.gathered(chosen) }
        }
        guard let aggregation else { return batch }
        try aggregation.add(batch)
        return nil
    }

    var groupCount: Int { aggregation?.count ?? 0 }

    /// What the aggregate has made of the rows so far; it begins anew.
    func finish() throws(StatementError) -> ColumnBatch? {
        guard let partial = plan.partial else { return nil }
        return try aggregation?.takeStates(partial.states.map(\.type))
    }

    func restart() throws(StatementError) { try aggregation?.restart() }
}
