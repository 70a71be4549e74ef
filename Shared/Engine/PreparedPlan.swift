import Base
import Contracts
import DataModel

/// A column of a result, as clients are told.
package struct ResultColumn: Hashable, Sendable {
    package let name: String
    package let type: DataType
    /// Where it comes from unchanged.
    package let collection: CollectionID?
    package let column: ColumnID?
}

/// A statement that is bound to the catalog and optimised: to be executed any number of times, as long as the
/// collections have the versions that it names. The engine of every language begins here.
package struct PreparedPlan: Sendable {
    package let kind: StatementKind
    /// Rows are written or locked: a query may do so too.
    package let writes: Bool
    /// What it is called where it is refused.
    private let title: String
    package let parameterTypes: [DataType]
    let outputs: [OutputColumn]
    let plan: RelationalPlan
    /// Of EXPLAIN: what is explained; then `plan` has nothing to do.
    let explained: Explained?
    /// The versions of the collections that it reads: if one changes, the statement is prepared again.
    package let versions: [CollectionID: UInt64]
    let attributeCount: Int
    /// What rows of its input are; empty if it has none.
    package let inputs: [ResultColumn]

    /// Of a plan that came from a parser, or from the catalog: there its root may be an expression.
    package init(
        _ plan: LogicalPlan, catalog: any CatalogReading, settings: EngineSettings, parameterTypes: [DataType] = []
    ) throws(StatementError) {
        let isStatement = plan[plan.root].kind.shape.family != .expression
        if isStatement { do throws(DatabaseError) { try plan.validate() } catch { throw StatementError(error) } }
        var settings = settings
        settings.catalog = settings.catalog ?? catalog as? Catalog
        let start = settings.elapsed()
        let root = plan[plan.root]
        let options = root.kind == .explain ? try ExplainOptions(root, plan) : nil
        let binder = Binder(plan, catalog: catalog, settings: settings, parameterTypes: parameterTypes)
        let (query, kind) = isStatement ? try binder.bindStatement() : (try binder.bindLone(plan.root), .select)
        for (index, type) in binder.parameterTypes.enumerated() where type.kind == .unknown && !type.isArray {
            throw StatementError(
                .indeterminateDatatype, "could not determine data type of parameter $\(index + 1)")
        }
        if let catalog = settings.catalog { try binder.checkAccess(catalog, of: query) }
        self.kind = options == nil ? kind : .select
        title = isStatement ? try binder.statementTitle() : ""
        self.parameterTypes = binder.parameterTypes
        let optimized = SnapshotRule.apply(
            try Optimizer.optimize(query.plan, needed: Set(query.outputs.map(\.attribute)), settings))
        var attributes = binder.newAttribute().id
        let made = FragmentRule.apply(optimized, attributes: &attributes)
        if let options {
            let output = OutputColumn(
                attribute: binder.newAttribute(), name: "QUERY PLAN", type: options.isJSON ? .json : .text)
            explained = Explained(plan: made, options: options, planning: settings.elapsed() &- start)
            (outputs, self.plan, writes) = ([output], .single, options.isExecuted && made.writes)
        } else {
            (outputs, self.plan, writes, explained) = (query.outputs, made, made.writes, nil)
        }
        versions = binder.versions
        attributeCount = Int(max(attributes, binder.attributeCount))
        inputs = binder.inputs
    }

    /// What EXPLAIN shows.
    struct Explained: Sendable {
        let plan: RelationalPlan
        let options: ExplainOptions
        /// Nanoseconds.
        let planning: UInt64
    }

    /// The scans that shards may carry out with all that is done with their rows, in the order of their numbers.
    package var fragments: [ScanFragment] { plan.fragments }

    /// Whether rows come: a query, or RETURNING.
    package var givesRows: Bool { kind == .select || !outputs.isEmpty }
    /// What its end is called, before the count.
    package var tag: String {
        switch kind {
        case .select: explained == nil ? "SELECT" : "EXPLAIN"
        case .insert: "INSERT 0"
        case .update: "UPDATE"
        case .delete: "DELETE"
        }
    }

    /// Of the rows that come; empty for a statement that gives none.
    package var columns: [ResultColumn] {
        outputs.map { ResultColumn(name: $0.name, type: $0.type, collection: $0.collection, column: $0.column) }
    }

    /// Begins an execution; nothing is read before its first `next`. Without tables, no access is needed.
    package func execute(
        _ parameters: [Value], settings: EngineSettings, access: (any RowAccess)?, input: [Bytes] = []
    ) throws(StatementError) -> Execution {
        guard !writes || !settings.isReadOnly else { throw .inReadOnlyTransaction(title) }
        guard parameters.count >= parameterTypes.count else {
            throw StatementError(
                .protocolViolation,
                "bind message supplies \(parameters.count) parameters, but prepared statement requires "
                    + "\(parameterTypes.count)")
        }
        var fitted = parameters
        for (index, type) in parameterTypes.enumerated() {
            fitted[index] = try Casts.fit(parameters[index], to: type, isExplicit: false)
        }
        let context = ExecutionContext(
            settings: settings, parameters: fitted, access: access, attributes: attributeCount, input: input)
        if let explained {
            let root = try ExplainOperator(
                explained.plan, explained.options, planning: explained.planning, output: outputs[0].attribute,
                context: context)
            return Execution(root: root, context: context, outputs: outputs, kind: kind)
        }
        return Execution(root: try PlanCompiler.compile(plan, context), context: context, outputs: outputs, kind: kind)
    }
}

extension RelationalPlan {
    /// Whether it, or something below it, changes or locks rows.
    fileprivate var writes: Bool {
        switch self {
        case .modify, .lock: true
        case .scan(let scan): scan.isForUpdate
        case .single, .values, .input, .filter, .project, .join, .merge, .apply, .aggregate, .sort, .limit, .distinct,
            .combine,
            .rows,
            .unroll, .window, .with, .shared, .working, .recursive:
            children.contains { $0.writes }
        }
    }
}

/// A statement under way. Not for several threads at once; made, asked and dropped by one.
package final class Execution {
    private let root: Operator
    private let context: ExecutionContext
    private let places: [Int]
    private let kind: StatementKind
    /// Of the columns whose values are numbers with names, the types: a batch may have plain numbers there.
    private let named: [DataType?]
    private var rowsReturned = 0

    init(root: Operator, context: ExecutionContext, outputs: [OutputColumn], kind: StatementKind) {
        self.kind = kind
        self.root = root
        self.context = context
        let made = outputs.filter { root.layout.place(of: $0.attribute) != nil }
        places = made.compactMap { root.layout.place(of: $0.attribute) }
        named = made.map { ObjectNames.kinds.contains($0.type.kind) ? $0.type : nil }
    }

    /// What the tag of the statement's end says: rows that came, or rows that were written. Valid at the end.
    package var count: Int { kind == .select ? rowsReturned : context.rowsChanged }

    package enum Step {
        /// Its columns are those of the prepared plan, its rows at least one.
        case batch(ColumnBatch)
        /// To be asked again when the row access has something.
        case waiting
        /// To be asked again at any time: it has computed for long, and lets others have their turn.
        case paused
        case end
    }

    package func next() throws(StatementError) -> Step {
        context.beginSlice()
        switch try root.next() {
        case .batch(let batch):
            rowsReturned += batch.count
            return .batch(ColumnBatch(places.map { batch.columns[$0] }, count: batch.count))
        case .waiting: return context.isPaused ? .paused : .waiting
        case .end: return .end
        }
    }

    /// A step whose rows are records: column n of the result has the number n + 1.
    package enum RowsStep {
        case rows([Bytes])
        case waiting, paused, end
    }

    /// As `next`, with the rows as they travel.
    package func nextRows() throws(StatementError) -> RowsStep {
        switch try next() {
        case .waiting: return .waiting
        case .paused: return .paused
        case .end: return .end
        case .batch(let batch):
            var rows: [Bytes] = []
            rows.reserveCapacity(batch.count)
            var buffer = ByteBuffer(capacity: 256)
            for row in 0..<batch.count {
                buffer.removeAll()
                var writer = ColumnWriter(into: &buffer)
                for (index, column) in batch.columns.enumerated() where !column.isNull(at: row) {
                    let value = column.value(at: row)
                    let type = named[index]
                    writer.append(
                        type.map { withName(value, $0) } ?? value, column: UInt32(index + 1), into: &buffer)
                }
                rows.append(buffer.readable.bytes)
            }
            return .rows(rows)
        }
    }

    /// A number of an object, and its name: which of them is wanted, only who writes the row knows.
    private func withName(_ value: Value, _ type: DataType) -> Value {
        .tuple([value, .text(TextForms.text(value, type, context))])
    }

    /// What was done with sequences since this was asked last: for the session, whatever becomes of the statement.
    package func takeSequences() -> [SequenceNumber] { context.sequences.takeNews() }

    /// The next step fails.
    package func cancel() { context.isCancelled = true }
}
