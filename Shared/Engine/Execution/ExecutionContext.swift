import Base
import Contracts
import DataModel

/// What a session says beside its statement, and what the process knows: clocks, zones and chance come in here.
package struct EngineSettings: Sendable {
    /// Names of the namespaces in which unqualified names are looked for, in this order.
    package var searchPath = ["public"]
    package var user = "orbit"
    /// Who the session is for: `user`, unless that is a role that it has taken.
    package var sessionUser = "orbit"
    package var authority = Authority.user
    package var database = "orbit"
    /// Microseconds since 1970: `now()`, and the moment at which the statement began.
    package var transactionTime: Int64 = 0
    package var statementTime: Int64 = 0
    /// Asked at every call: `clock_timestamp()`.
    package var clock: @Sendable () -> Int64 = { 0 }
    /// Nanoseconds since some point: asked while a statement is explained.
    package var elapsed: @Sendable () -> UInt64 = { 0 }
    /// Asked at every call: `random()`, `gen_random_uuid()`.
    package var random: @Sendable () -> UInt64 = { 0 }
    /// How values are read and written: the zone, the order of dates.
    package var text = TextSettings()
    package var version = "PostgreSQL 15.0 (Orbit)"
    /// The catalog of the moment, for the system catalogs and for names of objects.
    package var catalog: Catalog?
    /// What the session has set, as far as it was sent along.
    package var sessionSettings: [QueryRequest.Setting] = []
    /// What currval() and lastval() know of.
    package var sequences = SessionSequences()
    /// The transaction is READ ONLY.
    package var isReadOnly = false
    /// A whole table is read only where there is no other way: `enable_seqscan` is off.
    package var avoidsScans = false
    /// The same of hash tables and of joins along an order: `enable_hashjoin`, `enable_hashagg`, `enable_mergejoin`.
    package var avoidsHashJoins = false, avoidsHashAggregates = false, avoidsMergeJoins = false
    /// What one statement may hold in memory.
    package var memoryLimit = 256 << 20
    /// After how many batches of work an execution gives way to others.
    package var batchesPerSlice = 32

    package init() {}
}

/// One execution: its parameters, and the outer rows of whatever is being executed anew for each of them.
final class ExecutionContext {
    let settings: EngineSettings
    let parameters: [Value]
    let access: (any RowAccess)?
    /// For the plan's input: records, whose column n has the id n + 1.
    let input: [Bytes]
    /// By attribute; set by the applies around.
    private var outer: [Column?]
    /// Tables of WITH queries that have been made, and of recursion.
    var common: [Int32: CommonRows] = [:]
    var working: [RecursionID: [ColumnBatch]] = [:]
    /// Regular expressions that were met, ready to be matched.
    var patterns: [PatternKey: RegexMatcher] = [:]
    /// What nextval() drew for the batch that is being computed, and what the session knows of sequences.
    var sequences: SequenceCalls
    /// What the system catalogs are computed from, made when it is first asked for.
    private(set) lazy var system = SystemCatalog(settings)
    private(set) var memoryUsed = 0
    var rowsChanged = 0
    /// Of EXPLAIN ANALYZE.
    var probe: ExplainProbe?
    /// While operators are made: they will run anew for every row of an outer query.
    var isRepeated = false
    /// Set from outside: the next step fails.
    var isCancelled = false

    init(
        settings: EngineSettings, parameters: [Value], access: (any RowAccess)?, attributes: Int, input: [Bytes] = []
    ) {
        self.settings = settings
        self.parameters = parameters
        self.access = access
        self.input = input
        sequences = SequenceCalls(settings.sequences, isReadOnly: settings.isReadOnly)
        outer = Array(repeating: nil, count: attributes)
    }

    func setOuter(_ attribute: Attribute, _ column: Column) {
        let index = Int(attribute.id)
        if index < outer.count { outer[index] = column }
    }

    /// The value of an outer attribute, as a constant.
    func outerColumn(_ attribute: Attribute, _ type: DataType, count: Int) -> Column {
        let index = Int(attribute.id)
        guard index < outer.count, let column = outer[index] else { return .constant(.null, type, count: count) }
        return column.recounted(count)
    }

    /// Accounts for memory that an operator keeps, negative when it lets go.
    func charge(_ bytes: Int) throws(StatementError) {
        memoryUsed += bytes
        guard memoryUsed <= settings.memoryLimit else {
            throw StatementError(
                .outOfMemory, "out of memory",
                detail: "The statement needs more than the \(settings.memoryLimit >> 20) MB that it may have.")
        }
    }

    func checkCancelled() throws(StatementError) {
        if isCancelled { throw StatementError(.queryCanceled, "canceling statement due to user request") }
    }

    // MARK: Giving way

    /// The operators answer `waiting` though nothing is waited for: the loop that runs them has other work as well.
    private(set) var isPaused = false
    private var batchesLeft = 0

    func beginSlice() {
        isPaused = false
        batchesLeft = settings.batchesPerSlice
    }

    /// Counts a batch of work that is done, in every loop that may be long; not one that is only begun, or a deep plan
    /// would never get to its leaves. When it is true the operator answers `waiting`, and goes on where it was when it
    /// is asked again.
    func isSliceOver() throws(StatementError) -> Bool {
        try checkCancelled()
        if isPaused { return true }
        batchesLeft -= 1
        isPaused = batchesLeft < 0
        return isPaused
    }
}

/// The rows of a WITH query, made by whoever asks first.
final class CommonRows {
    var batches: [ColumnBatch] = []
    /// Nil when all rows are there.
    var source: Operator?
    let layout: Layout

    init(source: Operator) { (self.source, layout) = (source, source.layout) }
}
