import Base
import Contracts
import DataModel

/// Work on the rows of a table that a definition asks for: conditions that they must meet, entries of new indexes, or
/// all of them written anew into another collection, which takes the table's place afterwards.
///
/// One pass over the rows does all of it. What is written is hidden from everybody until the definition is committed.
package struct TableTask: Hashable, Sendable {
    /// As the rows are.
    package let source: CollectionDescriptor
    /// As they will be; of another collection if they are written anew.
    package let target: CollectionDescriptor
    /// Columns that are computed anew, from the columns of the source.
    package var values: [ColumnID: StoredExpression] = [:]
    /// To be filled.
    package var indexes: [IndexID] = []
    /// What rows must be, and is to be looked at.
    package var notNull: [ColumnID] = []
    package var checks: [String] = []
    /// There must be no rows; what to say if there are.
    package var mustBeEmpty: String?

    package var isCopy: Bool { source.id != target.id }
    package var writes: Bool { isCopy || !indexes.isEmpty }
    var isEmpty: Bool { !writes && notNull.isEmpty && checks.isEmpty && mustBeEmpty == nil }

    init(source: CollectionDescriptor, target: CollectionDescriptor) {
        (self.source, self.target) = (source, target)
    }

    /// Begins the pass; `catalog` has the changes that come before it.
    package func execute(
        catalog: any CatalogReading, settings: EngineSettings, access: any RowAccess
    ) throws(StatementError) -> Execution {
        let binder = Binder(
            LogicalPlan(dialect: .postgres, nodes: [.init(.none)], root: 0), catalog: catalog, settings: settings,
            parameterTypes: [])
        let plan = try binder.bindTask(self)
        let context = ExecutionContext(
            settings: settings, parameters: [], access: access, attributes: Int(binder.attributeCount))
        let root = try FillOperator(self, plan, PlanCompiler.compile(plan.child, context), access)
        return Execution(root: root, context: context, outputs: [], kind: .insert)
    }
}

/// A task that is bound: the child gives the target's columns, and the key of each row.
struct FillPlan: Sendable {
    let child: RelationalPlan
    let values: [Attribute]
    let key: Attribute
    let schema: String
    var indexes: [ModifyPlan.IndexWrite] = []
    var checks: [(name: String, condition: BoundExpression)] = []
}

/// What ALTER TABLE has found out so far that is to be done with the rows.
struct TableWork {
    let before: CollectionDescriptor
    /// The rows are written anew.
    var isRewrite = false
    var values: [ColumnID: StoredExpression] = [:]
    var notNull: [ColumnID] = []
    var checks: [String] = []
    var mustBeEmpty: String?
    /// Entries of indexes that are dropped.
    var dropped: [CollectionID] = []

    init(_ before: CollectionDescriptor) { self.before = before }
}

extension DefinitionPlanner {
    /// Puts a table that was altered, with what its rows need.
    mutating func finish(_ table: inout CollectionDescriptor, _ work: TableWork) throws(StatementError) {
        // What a change that was broken off has left behind.
        var dropped = work.dropped
        let known = Set(work.before.indexes.compactMap(\.entries))
        dropped += hidden(of: work.before.id).filter { !known.contains($0) }
        if work.isRewrite { return try replace(&table, work, dropped) }
        let added = table.indexes.filter { $0.entries == nil }.map(\.id)
        phase = .prepared
        try makeEntries(of: &table)
        phase = .changes
        put(table)
        try renameInViews(table, was: table.id)
        for id in dropped { drop(id) }
        guard let source = catalog.collection(table.id) else { return }
        var before = work.before
        before.version = source.version
        var task = TableTask(source: before, target: source)
        task.indexes = added
        (task.notNull, task.checks, task.mustBeEmpty) = (work.notNull, work.checks, work.mustBeEmpty)
        add(task)
    }

    /// The hidden collections of a table: entries of its indexes, and what was to take its place.
    func hidden(of id: CollectionID) -> [CollectionID] {
        let own = catalog.collections.values.filter { $0.entriesOf == id }.map(\.id).sorted()
        return own + own.flatMap { hidden(of: $0) }
    }

    /// The table becomes another collection, which is hidden until it has all rows.
    private mutating func replace(
        _ table: inout CollectionDescriptor, _ work: TableWork, _ dropped: [CollectionID]
    ) throws(StatementError) {
        let before = work.before
        for place in table.indexes.indices { table.indexes[place].entries = nil }
        for place in table.columns.indices { table.columns[place].missing = nil }
        table.id = CollectionID(rawValue: 0)
        table.statistics = nil
        phase = .prepared
        try makeEntries(of: &table)
        var hidden = table
        hidden.name = ""
        hidden.entriesOf = before.id
        put(hidden)
        // Nobody writes to the old one any more.
        phase = .changes
        put(before)
        guard var source = catalog.collection(before.id), let target = catalog.collection(table.id) else { return }
        source.name = before.name
        var final = target
        final.name = table.name
        var task = TableTask(source: source, target: final)
        task.values = work.values
        task.indexes = table.indexes.map(\.id)
        let keys = Set(table.primaryKey)
        task.notNull = table.columns.filter { $0.isNotNull || keys.contains($0.id) }.map(\.id)
        task.checks = table.checks.map(\.name)
        task.mustBeEmpty = work.mustBeEmpty
        add(task)
        phase = .finished
        drop(before.id)
        for index in before.indexes {
            if let entries = index.entries, !dropped.contains(entries) { drop(entries) }
        }
        for id in dropped { drop(id) }
        put(table)
        try renameInViews(table, was: before.id)
        phase = .changes
    }
}
