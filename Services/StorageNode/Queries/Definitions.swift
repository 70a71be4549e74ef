import Base
import Contracts
import DataModel
import Engine
import GatewayKit

/// Carries out a change of the catalog: one statement to all shards of a transaction.
struct DefinitionCalls {
    /// A call for every shard: the objects that come and those that go, in their order. `version` is that of the
    /// catalog which the change was planned by.
    static func body(_ change: SchemaChange, plannedBy version: UInt64) -> Bytes {
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
                builder.append(.schemaPut, key: key(ids), numbers: numbers, arguments: puts.map { $0.encode() })
            }
            (puts, drops) = ([], [])
        }
        for step in change.changes {
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
        let now = Int64(clock()) * 1000
        var settings = try StatementSettings(
            request, principal: principal, now: now, transactionTime: now, zones: zones)
        settings.keepNamespaces(of: catalog)
        let path = settings.engine.searchPath.compactMap { catalog.namespace(named: $0)?.id }
        let change = try SchemaChange(
            source, catalog: catalog, context: DefinitionContext(searchPath: path, owner: principal))
        var reply = QueryReply()
        reply.tag = change.tag
        reply.notices = change.notices.map { QueryReply.Notice(severity: "NOTICE", $0) }
        guard !change.changes.isEmpty else { return answer(reply) }
        home.hasDefinitions = true
        let body = DefinitionCalls.body(change, plannedBy: catalog.version)
        let shares = calls.router.slotOfEachShard.map {
            InteractiveRun.Share(slot: $0, body: body, isWrite: true)
        }
        calls.perform(shares, lock: .none, wait: .wait) { [self] result in
            do throws(StatementError) {
                let batches = try result.mapError(StatementError.init(ofShard:)).get()
                try RowKeeper.read(batches) { (_, _, _) throws(StatementError) in }
                try check(Array(change.mustBeEmpty), after: change, by: catalog, calls) { error in
                    if let error { return answer(QueryReply(error: error)) }
                    HiddenKeys.find(change, by: catalog, calls.router) { error in
                        answer(error.map { QueryReply(error: $0) } ?? reply)
                    }
                }
            } catch {
                answer(QueryReply(error: error))
            }
        }
    }

    /// Looks whether collections are as empty as a change of them demands: it is made, in the transaction, so that
    /// nobody adds a record any more.
    private func check(
        _ collections: [(key: CollectionID, value: String)], after change: SchemaChange, by before: Catalog,
        _ calls: TransactionCalls, _ completion: @escaping (StatementError?) -> Void
    ) throws(StatementError) {
        guard let (id, refusal) = collections.first else { return completion(nil) }
        var after = before
        for step in change.changes { after.apply(step, version: after.version &+ 1) }
        guard let collection = after.collection(id) else { return completion(nil) }
        let keeper = RowKeeper(calls, draw: draw)
        let cursor = try keeper.scan(ScanRequest(collection: collection, range: .all, columns: [], limit: 1))
        let look = { [self] in
            do throws(StatementError) {
                let step = try cursor.next()
                if case .waiting = step { return }
                keeper.onProgress = {}
                guard case .end = step else { return completion(StatementError(.featureNotSupported, refusal)) }
                try check(Array(collections.dropFirst()), after: change, by: before, calls, completion)
            } catch {
                keeper.onProgress = {}
                completion(error)
            }
        }
        keeper.onProgress = look
        look()
    }

    /// Numbers of a sequence, outside of all transactions.
    func draw(
        _ sequence: CollectionID, _ count: Int, _ completion: @escaping (Result<[Int64], DatabaseError>) -> Void
    ) {
        do throws(DatabaseError) {
            let router = try homes.openRouter()
            guard let descriptor = try catalog()?.collection(sequence) else {
                throw DatabaseError(.staleSchema, "The sequence is gone")
            }
            SequenceDraw(router, descriptor, count, completion).begin()
        } catch {
            loop.runLater { completion(.failure(error)) }
        }
    }
}
