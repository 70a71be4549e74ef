import Base
import Contracts
import DataModel
import Engine
import GatewayKit
import Net

/// Rows as a transaction has them, as long as it does not write too many: what it has written is in the memory of
/// shards.
final class BoundedRows: RowAccess {
    /// Keys, records, and what goes with each.
    static let limit = 5 << 20, rowSize = 256

    let keeper: RowKeeper
    private var written = 0

    init(_ keeper: RowKeeper) { self.keeper = keeper }

    /// Who is alone may do it in steps (`TableSteps`).
    static let tooMany = StatementError(
        .programLimitExceeded, "the table has too many rows to be changed within a transaction",
        hint: "Change it by a statement of its own, outside of a transaction block, one action at a time.")

    var readsOneTime: Bool { keeper.readsOneTime }
    func scan(_ request: ScanRequest) throws(StatementError) -> any RowCursor { try keeper.scan(request) }
    func lock(_ request: LockRequest) throws(StatementError) -> any RowCursor { try keeper.lock(request) }

    func write(_ changes: [RowChange], to collection: CollectionDescriptor) throws(StatementError) -> any RowWriting {
        written += changes.reduce(0) { $0 + $1.key.count + $1.record.count + Self.rowSize }
        guard written <= Self.limit else { throw Self.tooMany }
        return try keeper.write(changes, to: collection)
    }

    func draw(_ count: Int, from sequence: CollectionID) throws(StatementError) -> [Int64]? {
        try keeper.draw(count, from: sequence)
    }

    func set(_ sequence: CollectionID, to number: Int64, isCalled: Bool) throws(StatementError) -> Int64? {
        try keeper.set(sequence, to: number, isCalled: isCalled)
    }
}

/// Reads as of one time, and writes each batch in a transaction of its own.
final class SteppedRows: RowAccess {
    private let queries: Queries
    private let principal: String
    let keeper: RowKeeper
    private let handle: StatementHandle?

    init(_ queries: Queries, _ principal: String, _ keeper: RowKeeper, _ handle: StatementHandle?) {
        (self.queries, self.principal, self.keeper, self.handle) = (queries, principal, keeper, handle)
    }

    var readsOneTime: Bool { keeper.readsOneTime }
    func scan(_ request: ScanRequest) throws(StatementError) -> any RowCursor { try keeper.scan(request) }
    func lock(_ request: LockRequest) throws(StatementError) -> any RowCursor { try keeper.lock(request) }
    func draw(_ count: Int, from sequence: CollectionID) throws(StatementError) -> [Int64]? {
        try keeper.draw(count, from: sequence)
    }

    func set(_ sequence: CollectionID, to number: Int64, isCalled: Bool) throws(StatementError) -> Int64? {
        try keeper.set(sequence, to: number, isCalled: isCalled)
    }

    func write(_ changes: [RowChange], to collection: CollectionDescriptor) throws(StatementError) -> any RowWriting {
        if handle?.isCancelled == true { throw StatementHandle.cancelled }
        return Step(self, changes, collection)
    }

    private final class Step: RowWriting {
        private let rows: SteppedRows
        private let changes: [RowChange]
        private let collection: CollectionDescriptor
        private var isSent = false
        private var result: Result<[RowOutcome], StatementError>?

        init(_ rows: SteppedRows, _ changes: [RowChange], _ collection: CollectionDescriptor) {
            (self.rows, self.changes, self.collection) = (rows, changes, collection)
        }

        func outcomes() throws(StatementError) -> [RowOutcome]? {
            if !isSent {
                isSent = true
                rows.queries.inTransaction(rows.principal) { [self] calls, ended throws(StatementError) in
                    let keeper = RowKeeper(calls, draw: rows.queries.draw)
                    let writing = try keeper.write(changes, to: collection)
                    let look = { [self] in
                        do throws(StatementError) {
                            guard result == nil, let outcomes = try writing.outcomes() else { return }
                            keeper.onProgress = {}
                            result = .success(outcomes)
                            ended(nil)
                        } catch {
                            keeper.onProgress = {}
                            ended(error)
                        }
                    }
                    keeper.onProgress = look
                    look()
                } completion: { [self] error in
                    if let error { result = .failure(error) }
                    isCommitted = true
                    rows.keeper.onProgress()
                }
            }
            return isCommitted ? try result?.get() : nil
        }

        private var isCommitted = false
    }
}

extension Queries {
    /// Opens a transaction of its own for `body`, and commits it when that says that it has ended without an error.
    func inTransaction(
        _ principal: String,
        _ body:
            @escaping (TransactionCalls, _ ended: @escaping (StatementError?) -> Void) throws(StatementError) -> Void,
        completion: @escaping (StatementError?) -> Void
    ) {
        let home: HomeTransaction
        do throws(DatabaseError) {
            home = try homes.open(Self.stepOptions, principal: principal, isUnowned: true)
        } catch {
            return loop.runLater { completion(StatementError(error)) }
        }
        home.enqueue(refused: { completion(StatementError(ofShard: $0)) }) { run, done in
            let ended: (StatementError?) -> Void = { error in
                done()
                if let error { return home.rollBack { _ in completion(error) } }
                home.commit { completion($0.map { StatementError(ofShard: $0) }) }
            }
            do throws(StatementError) {
                try body(TransactionCalls(run, run.router), ended)
            } catch {
                ended(error)
            }
        }
    }

    static var stepOptions: InteractiveTransaction.Options {
        var options = InteractiveTransaction.Options()
        options.refusals = .transaction
        return options
    }
}

/// A change of a table that is too large for one transaction.
///
/// First the hidden collections that it needs are made and committed. Then a transaction makes the change itself, and
/// stays open: it has the table's lock, so nobody writes to it. Meanwhile the rows are read as they are then, and what
/// they come to is written, a batch in each of many transactions. At last the change is committed. If something fails,
/// it is rolled back, and the hidden collections go; if the node dies, they go with the next change of the table.
final class TableSteps {
    private let queries: Queries
    private let principal: String
    private let change: SchemaChange
    private let settings: EngineSettings
    private let before: Catalog
    private var catalog: Catalog
    private var home: HomeTransaction?
    /// It may be given up until the change is committed.
    private let handle: StatementHandle?
    private let completion: (StatementError?) -> Void

    init(
        _ queries: Queries, _ principal: String, _ change: SchemaChange, _ settings: EngineSettings, _ catalog: Catalog,
        _ handle: StatementHandle?, completion: @escaping (StatementError?) -> Void
    ) {
        (self.queries, self.principal, self.change, self.settings) = (queries, principal, change, settings)
        (before, self.catalog, self.handle, self.completion) = (catalog, catalog, handle, completion)
    }

    func begin() {
        guard change.early.isEmpty else { return completion(BoundedRows.tooMany) }
        queries.inTransaction(principal) { [self] calls, ended in
            queries.apply(change.prepared, to: catalog, calls) { [self] result in
                if case .success(let after) = result { catalog = after }
                ended(result.error)
            }
        } completion: { [self] error in
            if let error { fail(error) } else { lock() }
        }
    }

    private func lock() {
        do throws(DatabaseError) {
            home = try queries.homes.open(Queries.stepOptions, principal: principal, isUnowned: true)
        } catch {
            return fail(StatementError(error))
        }
        apply(change.changes) { [self] in work() }
    }

    /// Makes changes in the transaction that stays open.
    private func apply(_ changes: [CatalogChange], then next: @escaping () -> Void) {
        home?.hasDefinitions = true
        home?.enqueue(refused: { [self] in fail(StatementError(ofShard: $0)) }) { [self] run, done in
            queries.apply(changes, to: catalog, TransactionCalls(run, run.router)) { [self] result in
                done()
                switch result {
                case .success(let after):
                    catalog = after
                    next()
                case .failure(let error): fail(error)
                }
            }
        }
    }

    private func work() {
        do throws(DatabaseError) {
            let calls = SnapshotCalls(try queries.homes.openRouter(), connection: 0)
            let rows = SteppedRows(queries, principal, RowKeeper(calls, draw: queries.draw), handle)
            queries.perform(change.tasks[...], by: catalog, settings, rows.keeper, rows) { [self] error in
                if let error { return fail(error) }
                apply(change.finished) { [self] in look(calls.router) }
            }
        } catch {
            fail(StatementError(error))
        }
    }

    /// Keys that the table would hide from now on.
    private func look(_ router: NodeRouter) {
        HiddenKeys.find(change, by: before, router) { [self] error in
            if let error { return fail(error) }
            guard handle?.close() ?? true else { return fail(StatementHandle.cancelled) }
            home?.commit { [self] error in
                if let error { fail(StatementError(ofShard: error)) } else { completion(nil) }
            }
        }
    }

    private func fail(_ error: StatementError) {
        guard let home else { return tidy(error) }
        home.rollBack { [self] _ in tidy(error) }
    }

    /// Drops what nobody refers to; if it cannot be done now, the next change of the table does it.
    private func tidy(_ error: StatementError) {
        let prepared = change.prepared.compactMap { step -> CollectionID? in
            if case .put(.collection(let collection)) = step { collection.id } else { nil }
        }
        guard let newest = try? queries.newestCatalog() else { return completion(error) }
        let drops = prepared.filter { Self.isLeft($0, newest) }.map(CatalogChange.dropCollection)
        queries.inTransaction(principal) { [queries] calls, ended in
            queries.apply(drops, to: newest, calls) { ended($0.error) }
        } completion: { [completion] _ in
            completion(error)
        }
    }

    static func isLeft(_ id: CollectionID, _ catalog: Catalog) -> Bool {
        guard let owner = catalog.collection(id)?.entriesOf else { return false }
        guard let table = catalog.collection(owner) else { return true }
        return !table.indexes.contains { $0.entries == id } || isLeft(owner, catalog)
    }
}
