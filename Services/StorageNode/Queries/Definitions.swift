import Base
import Contracts
import DataModel
import Engine
import GatewayKit

/// Carries out a change of the catalog: one statement to all shards of a transaction.
struct DefinitionCalls {
    /// A call for every shard: the objects that come and those that go, in their order. `version` is that of the
    /// catalog which the change was planned by.
    static func body(_ changes: [CatalogChange], plannedBy version: UInt64, areStatistics: Bool = false) -> Bytes {
        var builder = RowCallBuilder()
        var made = version
        var puts: [CatalogObject] = [], drops: [UInt32] = [], dropsNamespaces = false
        func flush() {
            let count = UInt64(puts.count + drops.count)
            guard count > 0 else { return }
            let numbers = [Int64(bitPattern: made + count), Int64(bitPattern: made)]
            made += count
            if puts.isEmpty {
                builder.append(.schemaDrop, key: key(drops), flags: dropsNamespaces ? 1 : 0, numbers: numbers)
            } else {
                let ids = puts.compactMap { object -> UInt32? in
                    if case .collection(let collection) = object { collection.id.rawValue } else { nil }
                }
                builder.append(
                    .schemaPut, key: key(ids), flags: areStatistics ? SchemaPutFlags.statistics.rawValue : 0,
                    numbers: numbers, arguments: puts.map { $0.encode() })
            }
            (puts, drops) = ([], [])
        }
        for step in changes {
            switch step {
            case .put(let object):
                if !drops.isEmpty { flush() }
                puts.append(object)
            case .dropNamespace(let id):
                if !puts.isEmpty || !dropsNamespaces { flush() }
                dropsNamespaces = true
                drops.append(id.rawValue)
            case .dropCollection(let id):
                if !puts.isEmpty || dropsNamespaces { flush() }
                dropsNamespaces = false
                drops.append(id.rawValue)
            }
        }
        flush()
        return builder.body
    }

    private static func key(_ ids: [UInt32]) -> Bytes {
        var key = ByteBuffer(capacity: ids.count * 4)
        for id in ids { key.append(bigEndian: id) }
        return key.readable.bytes
    }
}

extension Queries {
    func define(
        _ source: LogicalPlan, _ request: QueryRequest, by catalog: Catalog, in home: HomeTransaction,
        _ calls: TransactionCalls, _ principal: String, _ answer: @escaping Answer
    ) throws(StatementError) {
        counts.definitions &+= 1
        let (change, settings) = try planned(source, request, by: catalog, principal)
        var reply = QueryReply()
        reply.tag = change.tag
        reply.notices = change.notices.map(Self.notice)
        guard !change.isEmpty else { return answer(reply) }
        home.hasDefinitions = true
        let first = change.early + change.prepared + change.changes
        apply(first, to: catalog, calls) { [self] result in
            guard case .success(let after) = result else { return answer(QueryReply(error: result.error ?? Self.lost)) }
            let rows = BoundedRows(RowKeeper(calls, draw: draw))
            perform(change.tasks[...], by: after, settings, rows.keeper, rows) { [self] error in
                if let error { return answer(QueryReply(error: error)) }
                apply(change.finished, to: after, calls) { result in
                    if let error = result.error { return answer(QueryReply(error: error)) }
                    HiddenKeys.find(change, by: catalog, calls.router) { [self] error in
                        if let error { return answer(QueryReply(error: error)) }
                        analyze(change.analyses[...], [], by: catalog, settings, calls) { error in
                            answer(error.map { QueryReply(error: $0) } ?? reply)
                        }
                    }
                }
            }
        }
    }

    /// Makes statistics of tables; then all shards take them over. `catalog` has no other changes of the statement.
    private func analyze(
        _ analyses: ArraySlice<TableAnalysis>, _ found: [CatalogChange], by catalog: Catalog,
        _ settings: EngineSettings, _ calls: TransactionCalls, _ completion: @escaping (StatementError?) -> Void
    ) {
        guard let analysis = analyses.first else {
            return apply(found, to: catalog, calls, areStatistics: true) { completion($0.error) }
        }
        do throws(StatementError) {
            let keeper = RowKeeper(calls, draw: draw)
            let work = try analysis.begin(settings: settings, access: keeper)
            let run = StatementRun(work.execution, keeper, loop)
            run.fetch(nil) { [self, run] page in
                _ = run  // It must outlive the work.
                if let failure = page.failure { return completion(failure) }
                let change = CatalogChange.put(.collection(work.table))
                analyze(analyses.dropFirst(), found + [change], by: catalog, settings, calls, completion)
            }
        } catch {
            completion(error)
        }
    }

    /// What a definition comes to, by a catalog.
    func planned(
        _ source: LogicalPlan, _ request: QueryRequest, by catalog: Catalog, _ principal: String
    ) throws(StatementError) -> (SchemaChange, EngineSettings) {
        let now = Int64(clock()) * 1000
        var settings = try StatementSettings(
            request, principal: principal, now: now, transactionTime: now, zones: zones)
        settings.keepNamespaces(of: catalog)
        let path = settings.engine.searchPath.compactMap { catalog.namespace(named: $0)?.id }
        let context = DefinitionContext(searchPath: path, owner: principal, settings: settings.engine)
        return (try SchemaChange(source, catalog: catalog, context: context), settings.engine)
    }

    private static let lost = StatementError(.internalError, "a change of the catalog has no outcome")

    /// Makes changes at all shards, in a transaction; answers the catalog with them.
    func apply(
        _ changes: [CatalogChange], to catalog: Catalog, _ calls: TransactionCalls, areStatistics: Bool = false,
        _ completion: @escaping (Result<Catalog, StatementError>) -> Void
    ) {
        var after = catalog
        for step in changes { after.apply(step, version: after.version &+ 1) }
        guard !changes.isEmpty else { return completion(.success(after)) }
        let body = DefinitionCalls.body(changes, plannedBy: catalog.version, areStatistics: areStatistics)
        let shares = calls.router.slotOfEachShard.map {
            InteractiveRun.Share(slot: $0, body: body, isWrite: true)
        }
        calls.perform(shares, lock: .none, wait: .wait) { [after] result in
            do throws(StatementError) {
                let batches = try result.mapError(StatementError.init(ofShard:)).get()
                try RowKeeper.read(batches) { (_, _, _) throws(StatementError) in }
                completion(.success(after))
            } catch {
                completion(.failure(error))
            }
        }
    }

    /// Does the work on rows that a definition asks for; `keeper` is who says that `rows` has something.
    func perform(
        _ tasks: ArraySlice<TableTask>, by catalog: Catalog, _ settings: EngineSettings, _ keeper: RowKeeper,
        _ rows: any RowAccess, _ completion: @escaping (StatementError?) -> Void
    ) {
        guard let task = tasks.first else { return completion(nil) }
        do throws(StatementError) {
            let run = StatementRun(try task.execute(catalog: catalog, settings: settings, access: rows), keeper, loop)
            run.fetch(nil) { [self, run] page in
                _ = run  // It must outlive the work.
                if let failure = page.failure { return completion(failure) }
                perform(tasks.dropFirst(), by: catalog, settings, keeper, rows, completion)
            }
        } catch {
            completion(error)
        }
    }

    /// Numbers of a sequence, outside of all transactions.
    func draw(
        _ sequence: CollectionID, _ wish: SequenceWish, _ completion: @escaping (Result<[Int64], DatabaseError>) -> Void
    ) {
        do throws(DatabaseError) {
            let router = try homes.openRouter()
            guard let descriptor = try catalog()?.collection(sequence) else {
                throw DatabaseError(.staleSchema, "The sequence is gone")
            }
            SequenceDraw(router, descriptor, wish, completion).begin()
        } catch {
            loop.runLater { completion(.failure(error)) }
        }
    }
}

extension Result {
    /// Why it failed.
    var error: Failure? {
        if case .failure(let error) = self { error } else { nil }
    }
}
