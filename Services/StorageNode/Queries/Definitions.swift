import Base
import Contracts
import Crypto
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
        var puts: [CatalogObject] = [], drops: [UInt32] = [], dropFlags: UInt32 = 0
        func flush() {
            let count = UInt64(puts.count + drops.count)
            guard count > 0 else { return }
            let numbers = [Int64(bitPattern: made + count), Int64(bitPattern: made)]
            made += count
            if puts.isEmpty {
                builder.append(.schemaDrop, key: key(drops), flags: dropFlags, numbers: numbers)
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
        func drop(_ id: UInt32, _ flags: UInt32) {
            if !puts.isEmpty || dropFlags != flags { flush() }
            dropFlags = flags
            drops.append(id)
        }
        for step in changes {
            switch step {
            case .put(let object):
                if !drops.isEmpty { flush() }
                puts.append(object)
            case .dropNamespace(let id): drop(id.rawValue, 1)
            case .dropRole(let id): drop(id.rawValue, 2)
            case .dropCollection(let id): drop(id.rawValue, 0)
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
        let root = source[source.root]
        guard root.kind == .createRole else {
            return try carryOut(source, request, by: catalog, in: home, calls, principal, answer)
        }
        // A name is one user's: a role with that of a user of the cluster would have its rights in Redis.
        UserRecords.fetchRecord(root.name, calls.router, loop) { [self] result in
            do throws(StatementError) {
                guard try result.mapError({ StatementError($0) }).get() == nil else {
                    throw StatementError(.duplicateObject, "role \"\(root.name)\" already exists")
                }
                try carryOut(source, request, by: catalog, in: home, calls, principal, answer)
            } catch {
                answer(QueryReply(error: error))
            }
        }
    }

    private func carryOut(
        _ source: LogicalPlan, _ request: QueryRequest, by catalog: Catalog, in home: HomeTransaction,
        _ calls: TransactionCalls, _ principal: String, _ answer: @escaping Answer
    ) throws(StatementError) {
        let (change, settings) = try planned(source, request, by: catalog, principal)
        guard !home.run.transaction.options.isReadOnly else { throw .inReadOnlyTransaction(change.tag) }
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
        try settings.resolve(catalog)
        let path = settings.engine.searchPath.compactMap { catalog.namespace(named: $0)?.id }
        var context = DefinitionContext(searchPath: path, owner: settings.engine.user, settings: settings.engine)
        context.verifier = Self.verifier
        return (try SchemaChange(source, catalog: catalog, context: context), settings.engine)
    }

    /// What is kept of a password; who sends what proves one already, as PostgreSQL's tools do, has that kept.
    private static let verifier: @Sendable (String) throws(StatementError) -> String = {
        (password: String) throws(StatementError) -> String in
        if SCRAMVerifier(parsing: password) != nil { return password }
        guard let verifier = try? SCRAMVerifier(password: Bytes(password.utf8)) else {
            throw StatementError(.invalidParameterValue, "the password cannot be used")
        }
        return verifier.description
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
