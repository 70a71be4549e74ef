import Base
import Contracts
import DataModel
import QueryLanguages
import TestKit
import Testing

@testable import Engine

/// A database of one session in memory: the parser, the binder, the optimiser, the executor and the definitions as they
/// are, over rows in dictionaries.
final class MemoryDatabase {
    /// Everything that a rollback takes back: a value.
    struct Contents {
        var catalog = Catalog()
        var collections: [CollectionID: MemoryCollection] = [:]
    }

    /// What a statement comes to.
    enum Answer: Equatable {
        case rows([String])
        case done(tag: String)
        case failed(StatementError)
    }

    var contents = Contents()
    /// Sequences count on whatever becomes of the transaction.
    var drawn: [CollectionID: (last: Int64, isCalled: Bool)] = [:]
    var settings = EngineSettings()
    let behaviour: MemoryRows.Behaviour
    /// How often an execution gave way.
    private(set) var pauses = 0
    private var transaction: Transaction?
    /// Statements that were carried out by a program for one record.
    private(set) var points = 0

    private struct Transaction {
        let before: Contents
        var savepoints: [(name: String, contents: Contents)] = []
        var hasFailed = false
        /// Who the session was, and whether it was told to be so again.
        let identity: (user: String, sessionUser: String)
        var hasLocal = false
    }

    init(_ behaviour: MemoryRows.Behaviour = .init()) {
        self.behaviour = behaviour
        settings.transactionTime = 1_700_000_000_000_000
        settings.statementTime = settings.transactionTime
        settings.text.now = settings.transactionTime
        let random = RandomSource(1)
        settings.random = { random.next() }
    }

    /// Chance behind a closure that is not mutating.
    private final class RandomSource: @unchecked Sendable {
        private var random: SplitMix64
        init(_ seed: UInt64) { random = SplitMix64(seed: seed) }
        func next() -> UInt64 { random.next() }
    }

    // MARK: Text

    /// The answer to the last statement of `text`; all of it is one transaction, as in a simple query.
    func run(_ text: String) -> Answer {
        let before = contents
        do throws(StatementError) {
            var last = Answer.done(tag: "")
            for statement in try SQLParser.parse(Bytes(text.utf8)) { last = try run(statement.plan) }
            return last
        } catch {
            transaction?.hasFailed = true
            if transaction == nil { contents = before }
            return .failed(error)
        }
    }

    private func run(_ plan: LogicalPlan) throws(StatementError) -> Answer {
        if let tag = try control(plan) { return .done(tag: tag) }
        if transaction?.hasFailed == true { throw Self.failedTransaction }
        guard SchemaChange.isDefinition(plan) else { return try execute(plan) }
        if SchemaChange.isVacuum(plan), transaction != nil {
            _ = try VacuumOptions(plan)
            throw VacuumOptions.inTransaction
        }
        var path: [NamespaceID] = []
        for name in settings.searchPath {
            if let found = contents.catalog.namespace(named: name) { path.append(found.id) }
        }
        var context = DefinitionContext(searchPath: path, owner: settings.user, settings: settings)
        context.verifier = { (password: String) throws(StatementError) -> String in "of " + password }
        let change = try SchemaChange(plan, catalog: contents.catalog, context: context)
        apply(change.early + change.prepared + change.changes)
        for task in change.tasks {
            let access = MemoryRows(self, behaviour)
            try finish(task.execute(catalog: contents.catalog, settings: settings, access: access), access)
            contents = access.contents
        }
        apply(change.finished)
        #expect(contents.catalog.version == change.version)
        for analysis in change.analyses {
            let access = MemoryRows(self, behaviour)
            let run = try analysis.begin(settings: settings, access: access)
            try finish(run.execution, access)
            apply([.put(.collection(run.table))])
        }
        return .done(tag: change.tag)
    }

    /// Has work on rows done that gives none.
    private func finish(_ execution: Execution, _ access: MemoryRows) throws(StatementError) {
        var waits = access.waits
        while true {
            switch try execution.next() {
            case .batch: throw StatementError(.internalError, "work on rows gives rows")
            case .waiting:
                guard access.waits > waits else { throw StatementError(.internalError, "it waits for nothing") }
                waits = access.waits
            case .paused: continue
            case .end: return
            }
        }
    }

    private func apply(_ changes: [CatalogChange]) {
        for step in changes {
            contents.catalog.apply(step, version: contents.catalog.version + 1)
            if case .dropCollection(let id) = step { contents.collections[id] = nil }
        }
    }

    private static let failedTransaction = StatementError(
        .inFailedSQLTransaction,
        "current transaction is aborted, commands ignored until end of transaction block")

    /// What the session does itself; nil for any other statement.
    private func control(_ plan: LogicalPlan) throws(StatementError) -> String? {
        let root = plan[plan.root]
        switch root.kind {
        case .begin:
            if transaction == nil {
                transaction = Transaction(before: contents, identity: (settings.user, settings.sessionUser))
            }
            return "BEGIN"
        case .commit, .rollback:
            let isUndone = root.kind == .rollback || transaction?.hasFailed == true
            if let transaction, isUndone { contents = transaction.before }
            if let transaction, isUndone || transaction.hasLocal {
                (settings.user, settings.sessionUser) = transaction.identity
            }
            transaction = nil
            return isUndone ? "ROLLBACK" : "COMMIT"
        case .savepoint where transaction?.hasFailed == false:
            transaction?.savepoints.append((root.name, contents))
            return "SAVEPOINT"
        case .rollbackTo:
            guard let place = transaction?.savepoints.lastIndex(where: { $0.name == root.name }),
                let saved = transaction?.savepoints[place]
            else { throw StatementError(.invalidSavepointSpecification, "savepoint \"\(root.name)\" does not exist") }
            contents = saved.contents
            transaction?.savepoints.removeSubrange((place + 1)...)
            transaction?.hasFailed = false
            return "ROLLBACK"
        case .releaseSavepoint where transaction?.hasFailed == false:
            guard let place = transaction?.savepoints.lastIndex(where: { $0.name == root.name }) else {
                throw StatementError(.invalidSavepointSpecification, "savepoint \"\(root.name)\" does not exist")
            }
            transaction?.savepoints.removeSubrange(place...)
            return "RELEASE"
        case .set, .reset: return try set(root, plan.list(root.children.first ?? 0).map { plan[$0].name })
        case _: return nil  // For the engine.
        }
    }

    /// In whose name statements are, and where names are looked for.
    private func set(_ node: LogicalPlan.Node, _ values: [String]) throws(StatementError) -> String? {
        let initial = EngineSettings()
        var fresh = settings
        switch node.name {
        case "session_authorization":
            (fresh.user, fresh.sessionUser) = (initial.user, initial.sessionUser)
            if let name = values.first { try fresh.becomeSession(of: name, contents.catalog) }
        case "role":
            fresh.user = fresh.sessionUser
            if let name = values.first, name != "none" { try fresh.become(name, contents.catalog) }
        case "search_path": fresh.searchPath = values.isEmpty ? initial.searchPath : values
        case "enable_hashjoin": fresh.avoidsHashJoins = values.first == "off"
        case "enable_mergejoin": fresh.avoidsMergeJoins = values.first == "off"
        case "enable_hashagg": fresh.avoidsHashAggregates = values.first == "off"
        case _: return nil
        }
        if node.flags.contains(.isMarked) { transaction?.hasLocal = true }
        settings = fresh
        return node.kind == .set ? "SET" : "RESET"
    }

    // MARK: Plans

    /// Executes a statement on rows to its end.
    func execute(_ plan: LogicalPlan, _ parameters: [Value] = []) throws(StatementError) -> Answer {
        settings.catalog = contents.catalog
        let prepared = try PreparedPlan(plan, catalog: contents.catalog, settings: settings)
        let rows = try execute(prepared, parameters)
        return prepared.givesRows ? .rows(rows.lines) : .done(tag: "\(prepared.tag) \(rows.count)")
    }

    /// All rows as text; what it wrote is kept if it ends well.
    func execute(_ prepared: PreparedPlan, _ parameters: [Value] = []) throws(StatementError)
        -> (lines: [String], count: Int)
    {
        if behaviour.prefersPoints, let answer = try runPoint(prepared, parameters) { return answer }
        let access = MemoryRows(self, behaviour)
        let execution = try prepared.execute(parameters, settings: settings, access: access)
        defer { for news in execution.takeSequences() { settings.sequences.note(news) } }
        var lines: [String] = []
        var waits = access.waits
        while true {
            switch try execution.next() {
            case .batch(let batch):
                #expect(batch.count > 0, "a batch without rows")
                for row in 0..<batch.count { lines.append(line(batch.row(row), prepared.columns)) }
            case .waiting:
                guard access.waits > waits else {
                    throw StatementError(.internalError, "the execution waits, and nothing was asked that would come")
                }
                waits = access.waits
            case .paused: pauses += 1
            case .end:
                contents = access.contents
                return (lines, execution.count)
            }
        }
    }

    /// The same by a program for one record, if the statement is about one.
    private func runPoint(
        _ prepared: PreparedPlan, _ parameters: [Value]
    ) throws(StatementError) -> (lines: [String], count: Int)? {
        guard let program = PointProgram(prepared), let key = program.key(parameters, chance: settings.random) else {
            return nil
        }
        points += 1
        let id = program.collection.id
        let outcome = try key.withView { (view: ByteView) throws(StatementError) in
            try program.run(contents.collections[id]?[key], key: view, parameters: parameters, settings: settings)
        }
        switch outcome.change {
        case .none: break
        case .put(let record): contents.collections[id, default: MemoryCollection()].put(record, at: key)
        case .delete: _ = contents.collections[id]?.remove(key)
        }
        guard let row = outcome.row else { return ([], outcome.count) }
        let fields = row.withUnsafeBytes { RecordEncoding.decode($0) } ?? []
        var values = [Value](repeating: .null, count: prepared.columns.count)
        for field in fields { values[Int(field.column) - 1] = field.value }
        return ([line(values, prepared.columns)], outcome.count)
    }

    /// As psql -At prints it.
    private func line(_ row: [Value], _ columns: [ResultColumn]) -> String {
        let texts = zip(row, columns).map { value, column in
            value.isNull ? "NULL" : ValueText.text(of: value, as: column.type, settings.text)
        }
        return texts.joined(separator: "|")
    }
}

extension MemoryDatabase.Answer: CustomStringConvertible {
    var description: String {
        switch self {
        case .rows(let rows): "\(rows)"
        case .done(let tag): tag
        case .failed(let error): "\(error)"
        }
    }
}
