import Base
import Contracts
import Crypto
import DataModel
import Engine
import GatewayKit
import Net

/// Statements of query languages on this node: bound by the catalog of a shard that it leads, executed here, over the
/// shards of the whole cluster.
///
/// A statement comes alone or in a transaction whose home is this node. Alone it is a transaction of its own: one that
/// only reads sees everything as of one time; one that writes is opened here, and committed before it is answered.
/// Plans are kept by the hash of what the gateway sent, and serve as long as the catalog has the version they were
/// bound by.
///
/// Loop-confined. What is kept has bounds: plans, cursors and their rows, statements under way.
final class Queries {
    struct Limits {
        var plans = 1024, cursors = 256, statements = 4096
        /// Of a plan that is kept as it came, encoded.
        var planBytes = 64 << 10
        /// Rows that a cursor of a transaction keeps, in bytes: it is read to its end at once.
        var cursorBytes = 64 << 20
        var cursorMilliseconds: UInt64 = 300_000
    }

    /// A statement that is bound.
    private struct Plan {
        let prepared: PreparedPlan
        /// How it is called, if it is about one record.
        let point: QueryReply.Point?
        let fragments: KeptFragments?
        let catalogVersion: UInt64
        /// Whose rights were asked for.
        let user: String
        var lastUse: UInt64
    }

    private struct PlanKey: Hashable {
        let fingerprint: Bytes
        let types: [ValueTypeForm]
        let settings: [QueryRequest.Setting]
    }

    typealias Answer = (QueryReply) -> Void

    let loop: EventLoop
    let homes: HomeTransactions
    /// The catalog of a shard that this node leads; nil while a change of it is being decided.
    let catalog: () throws(DatabaseError) -> Catalog?
    let clock: () -> UInt64
    private let limits: Limits
    /// Whole plans, as they came, by fingerprint.
    private var sources: [Bytes: LogicalPlan] = [:]
    private let programs: PointPrograms
    private let fragments: Fragments
    private var plans: [PlanKey: Plan] = [:]
    let underWay: StatementsUnderWay
    let cursors: StatementCursors
    let zones = ZoneTable()
    private(set) var running = 0
    var counts = Counts()
    /// Has the stores of this node's replicas let go of what nobody may read any more.
    var reclaim: (([CollectionID]?, Bool, @escaping (StatementError?) -> Void) -> Void)?

    struct Counts {
        var statements: UInt64 = 0, failed: UInt64 = 0, bound: UInt64 = 0, definitions: UInt64 = 0
        var called: UInt64 = 0
    }

    /// `clock` tells milliseconds since 1970.
    init(
        loop: EventLoop, homes: HomeTransactions, programs: PointPrograms, fragments: Fragments,
        clock: @escaping () -> UInt64,
        limits: Limits = Limits(),
        catalog: @escaping () throws(DatabaseError) -> Catalog?
    ) {
        (self.loop, self.homes, self.clock, self.limits, self.catalog) = (loop, homes, clock, limits, catalog)
        (self.programs, self.fragments) = (programs, fragments)
        cursors = StatementCursors(clock: clock, limits: limits)
        underWay = StatementsUnderWay(loop, limit: limits.statements * 2)
    }

    // MARK: Requests

    /// Has a request carried out: alone, or in a transaction that this node drives. `answer` is called once, later.
    func carryOut(
        _ request: QueryRequest, in home: HomeTransaction?, principal: String, on stream: ObjectIdentifier? = nil,
        answer: @escaping Answer
    ) {
        let later: Answer = { [loop] reply in loop.runLater { answer(reply) } }
        switch request.kind {
        case .fetch:
            let handle = underWay.begin(request.statement, on: stream, principal, later)
            return cursors.fetch(request, principal, handle) { [self] reply in
                if let handle { underWay.end(request.statement, handle, reply) } else { later(reply) }
            }
        case .close:
            cursors.close(request.cursor)
            return later(QueryReply())
        case .cancel:
            underWay.cancel(request.statement, principal: principal)
            return later(QueryReply())
        case .wait: return underWay.wait(request.statement, on: stream, principal, later)
        case .reclaim:
            return reclaimHere(request, underWay.begin(request.statement, on: stream, principal, later), later)
        case .command: return command(request, in: home, principal, later)
        case .prepare, .execute: break
        }
        guard request.plan.isEmpty == false || sources[request.fingerprint] != nil else {
            var unknown = QueryReply()
            unknown.isUnknown = true
            return later(unknown)
        }
        guard let (name, _, done) = begin(request.statement, on: stream, principal, later) else {
            return later(Self.crowded)
        }
        var request = request
        request.statement = name
        do throws(StatementError) {
            let source = try source(of: request)
            if let home {
                run(source, request, in: home, principal) { done(Self.plain($0)) }
            } else {
                runAlone(source, request, principal, attempt: 0, done)
            }
        } catch {
            done(QueryReply(error: error))
        }
    }

    /// Counts a statement that begins. Its reply is for what this returns; `number` is 0 then for one without a handle.
    /// Nil: there are too many.
    func begin(
        _ number: UInt64, on stream: ObjectIdentifier?, _ principal: String, _ answer: @escaping Answer
    ) -> (number: UInt64, handle: StatementHandle?, done: Answer)? {
        guard running < limits.statements else { return nil }
        running += 1
        counts.statements &+= 1
        let handle = underWay.begin(number, on: stream, principal, answer)
        var isAnswered = false
        // A transaction that ends answers for its statements, and they may have something to say yet.
        let done: Answer = { [self] reply in
            guard !isAnswered else { return }
            isAnswered = true
            running -= 1
            if reply.error != nil { counts.failed &+= 1 }
            // A transaction that was given up with its statement says so.
            let isGivenUp = reply.error?.error.state == .inFailedSQLTransaction && handle?.isCancelled == true
            let told = isGivenUp ? QueryReply(error: StatementHandle.cancelled) : reply
            if let handle { underWay.end(number, handle, told) } else { answer(told) }
        }
        return (handle == nil ? 0 : number, handle, done)
    }

    static let crowded = QueryReply(
        error: StatementError(.tooManyConnections, "too many statements are under way"))

    /// The plan as it came, validated once.
    private func source(of request: QueryRequest) throws(StatementError) -> LogicalPlan {
        if let known = sources[request.fingerprint] { return known }
        let plan: LogicalPlan
        do throws(DatabaseError) {
            plan = try request.plan.withView { (view: ByteView) throws(DatabaseError) in
                try LogicalPlan(decoding: view)
            }
        } catch {
            throw StatementError(error)
        }
        // A fingerprint that is not the plan's would have others run something else.
        guard Bytes(SHA256.hash(request.plan).prefix(16)) == request.fingerprint else {
            throw StatementError(.protocolViolation, "the plan is not the one that its fingerprint names")
        }
        guard request.plan.count <= limits.planBytes else { return plan }
        if sources.count >= limits.plans { sources.removeAll(keepingCapacity: true) }
        sources[request.fingerprint] = plan
        return plan
    }

    /// Calls `body` with the newest catalog: at once, or when a change that is being decided is.
    private func withCatalog(
        attempt: Int = 0, _ answer: @escaping Answer, _ body: @escaping (Catalog) throws(StatementError) -> Void
    ) {
        do throws(StatementError) {
            let newest: Catalog?
            do throws(DatabaseError) { newest = try catalog() } catch { throw StatementError(error) }
            if let newest { return try body(newest) }
            guard attempt < Self.catalogAttempts else {
                throw StatementError(.lockNotAvailable, "a change of the catalog has not been decided in time")
            }
            loop.schedule(afterMilliseconds: min(1 << attempt, 64)) { [self] in
                withCatalog(attempt: attempt + 1, answer, body)
            }
        } catch {
            answer(QueryReply(error: error))
        }
    }

    /// About ten seconds.
    private static let catalogAttempts = 160

    private typealias Bound = (
        prepared: PreparedPlan, settings: StatementSettings, point: QueryReply.Point?, fragments: KeptFragments?
    )

    /// The statement, bound by `catalog`; from the table of plans, if it was bound by the same one. A catalog that a
    /// transaction has changed is nobody else's (`isShared`), and its version may come to mean another one.
    private func bind(
        _ source: LogicalPlan, _ request: QueryRequest, _ catalog: Catalog, _ principal: String,
        isShared: Bool = true, begun: UInt64? = nil
    ) throws(StatementError) -> Bound {
        let now = clock()
        var settings = try StatementSettings(
            request, principal: principal, now: Int64(now) * 1000, transactionTime: Int64(begun ?? now) * 1000,
            zones: zones)
        try settings.resolve(catalog)
        let key = PlanKey(
            fingerprint: request.fingerprint, types: request.parameterTypes, settings: request.settings)
        if isShared, let plan = plans[key], plan.catalogVersion == catalog.version, plan.user == principal {
            plans[key]?.lastUse = loop.now
            return (plan.prepared, settings, plan.point, plan.fragments)
        }
        counts.bound &+= 1
        let types = request.parameterTypes.map { form in
            DataType.Kind(rawValue: form.kind).map { DataType($0, modifier: form.modifier, isArray: form.isArray) }
                ?? .unknown
        }
        let prepared = try PreparedPlan(source, catalog: catalog, settings: settings.engine, parameterTypes: types)
        guard isShared else { return (prepared, settings, nil, nil) }
        if plans.count >= limits.plans, let oldest = plans.min(by: { $0.value.lastUse < $1.value.lastUse }) {
            forget(oldest.key)
        }
        forget(key)
        let point = programs.keep(prepared, request, settings)
        let kept = fragments.keep(prepared, settings.engine)
        plans[key] = Plan(
            prepared: prepared, point: point, fragments: kept, catalogVersion: catalog.version, user: principal,
            lastUse: loop.now)
        return (prepared, settings, point, kept)
    }

    private func forget(_ key: PlanKey) {
        if let point = plans.removeValue(forKey: key)?.point { programs.forget(point) }
    }

    private func describe(_ bound: Bound) -> QueryReply {
        var reply = QueryReply()
        reply.inputs = bound.prepared.inputs.map(QueryReply.Column.init)
        describe(bound.prepared, bound.point, in: &reply)
        return reply
    }

    private func describe(_ prepared: PreparedPlan, _ point: QueryReply.Point?, in reply: inout QueryReply) {
        reply.parameterTypes = prepared.parameterTypes.map(ValueTypeForm.init)
        reply.givesRows = prepared.givesRows
        reply.point = point
        reply.columns = prepared.columns.map(QueryReply.Column.init)
    }

    // MARK: Alone

    /// How often a statement is bound anew because the catalog has changed under it.
    private static let attempts = 5

    private func runAlone(
        _ source: LogicalPlan, _ request: QueryRequest, _ principal: String, attempt: Int, _ answer: @escaping Answer
    ) {
        let isDefinition = SchemaChange.isDefinition(source)
        guard request.kind != .prepare || !isDefinition else { return answer(QueryReply()) }
        withCatalog(answer) { [self] catalog throws(StatementError) in
            if SchemaChange.isVacuum(source) { return try vacuum(source, request, by: catalog, principal, answer) }
            guard !isDefinition else { return try runWhole(source, request, principal, attempt, answer) }
            let bound = try bind(source, request, catalog, principal)
            if request.kind == .prepare { return answer(describe(bound)) }
            guard bound.prepared.writes else {
                return try read(bound, request, principal) { [self] reply in
                    again(reply, source, request, principal, attempt, answer)
                }
            }
            try runWhole(source, request, principal, attempt, answer)
        }
    }

    /// In a transaction of its own.
    func runWhole(
        _ source: LogicalPlan, _ request: QueryRequest, _ principal: String, _ attempt: Int, _ answer: @escaping Answer
    ) throws(StatementError) {
        var options = InteractiveTransaction.Options()
        options.refusals = .transaction
        options.lockTimeout = request.lockTimeout
        let home: HomeTransaction
        do throws(DatabaseError) {
            home = try homes.open(options, principal: principal, isUnowned: true)
        } catch {
            throw StatementError(error)
        }
        var isTold = false
        run(source, request, in: home, principal, isOwn: true) { [self] reply in
            // What is rolled back refuses the statement that asked for it, too.
            guard !isTold else { return }
            isTold = true
            let reply = beforeCommit(reply, underWay[request.statement])
            guard reply.error == nil else {
                return home.rollBack { [self] _ in
                    if reply.error?.error == BoundedRows.tooMany {
                        return defineInSteps(source, request, principal, answer)
                    }
                    again(reply, source, request, principal, attempt, answer)
                }
            }
            home.commit { error in
                answer(error.map { QueryReply(error: StatementError(ofShard: $0)) } ?? reply)
            }
        }
    }

    /// What is being committed is not called back; what was given up by then is not committed.
    private func beforeCommit(_ reply: QueryReply, _ handle: StatementHandle?) -> QueryReply {
        guard reply.error == nil, let handle else { return reply }
        return handle.close() ? reply : QueryReply(error: StatementHandle.cancelled)
    }

    /// A definition whose work on rows is too much for one transaction.
    private func defineInSteps(
        _ source: LogicalPlan, _ request: QueryRequest, _ principal: String, _ answer: @escaping Answer
    ) {
        withCatalog(answer) { [self] catalog throws(StatementError) in
            let (change, settings) = try planned(source, request, by: catalog, principal)
            var reply = QueryReply()
            reply.tag = change.tag
            let handle = underWay[request.statement]
            TableSteps(self, principal, change, settings, catalog, handle) { error in
                answer(error.map { QueryReply(error: $0) } ?? reply)
            }.begin()
        }
    }

    /// Nil while a change is being decided.
    func newestCatalog() throws(DatabaseError) -> Catalog? { try catalog() }

    /// A statement that met another catalog than it was bound by is bound once more: nothing of it was done.
    private func again(
        _ reply: QueryReply, _ source: LogicalPlan, _ request: QueryRequest, _ principal: String, _ attempt: Int,
        _ answer: @escaping Answer
    ) {
        guard reply.error?.error.state == .staleSchema else { return answer(reply) }
        guard attempt < Self.attempts else { return answer(QueryReply(error: Self.changing)) }
        loop.schedule(afterMilliseconds: 1 << attempt) { [self] in
            runAlone(source, request, principal, attempt: attempt + 1, answer)
        }
    }

    private static let changing = StatementError(
        .serializationFailure, "the catalog changes faster than the statement can be bound")

    /// In a transaction nothing is bound anew behind its back.
    static func plain(_ reply: QueryReply) -> QueryReply {
        reply.error?.error.state == .staleSchema ? QueryReply(error: changing) : reply
    }

    private func read(
        _ bound: Bound, _ request: QueryRequest, _ principal: String, _ answer: @escaping Answer
    ) throws(StatementError) {
        let router: NodeRouter
        do throws(DatabaseError) { router = try homes.openRouter() } catch { throw StatementError(error) }
        let keeper = RowKeeper(SnapshotCalls(router, connection: 0), draw: draw, fragments: bound.fragments)
        let run = try begin(bound, request, keeper)
        let handle = underWay[request.statement]
        handle?.onCancel = { run.cancel() }
        if handle?.isCancelled == true { throw StatementHandle.cancelled }
        run.fetch(limit(request)) { [self] page in
            answer(reply(page, bound, request, run, principal))
        }
    }

    private func limit(_ request: QueryRequest) -> Int? { request.rowLimit == 0 ? nil : Int(request.rowLimit) }

    private func begin(
        _ bound: Bound, _ request: QueryRequest, _ keeper: RowKeeper
    ) throws(StatementError) -> StatementRun {
        let parameters = try StatementParameters.values(request, as: bound.prepared.parameterTypes, bound.settings)
        keeper.catalog = bound.settings.engine.catalog
        let execution = try bound.prepared.execute(
            parameters, settings: bound.settings.engine, access: keeper, input: request.rows)
        return StatementRun(execution, keeper, loop)
    }

    /// The first page of a statement alone; what is behind it waits under a cursor.
    private func reply(
        _ page: StatementRun.Page, _ bound: Bound, _ request: QueryRequest, _ run: StatementRun,
        _ principal: String
    ) -> QueryReply {
        var reply = QueryReply()
        run.tellSequences(in: &reply)
        if let failure = page.failure {
            reply.error = QueryReply.Notice(severity: "ERROR", failure)
            return reply
        }
        let prepared = bound.prepared
        if request.wantsColumns { describe(prepared, bound.point, in: &reply) }
        reply.point = bound.point
        (reply.rows, reply.tag, reply.givesRows) = (page.rows, prepared.tag, prepared.givesRows)
        guard !page.isLast else {
            reply.count = run.count
            return reply
        }
        cursors.keep(run, principal, tag: prepared.tag, count: UInt64(page.rows.count), for: &reply)
        return reply
    }

    // MARK: In a transaction

    private func run(
        _ source: LogicalPlan, _ request: QueryRequest, in home: HomeTransaction, _ principal: String,
        isOwn: Bool = false, _ answer: @escaping Answer
    ) {
        guard request.kind != .prepare || !SchemaChange.isDefinition(source) else { return answer(QueryReply()) }
        let handle = underWay[request.statement]
        let refused: (DatabaseError) -> Void = { error in
            answer(QueryReply(error: StatementError(ofShard: error)))
            // It stops, if it goes on; nobody has given it up: it may be tried again.
            handle?.onCancel?()
        }
        let bytes = request.rows.reduce(request.plan.count) { $0 + $1.count }
        home.enqueue(bytes: bytes, refused: refused) { [self] run, done in
            let calls = TransactionCalls(run, run.router)
            run.lockTimeout = request.lockTimeout
            handle?.onCancel = { calls.cancel() }
            let finish = Self.closing(run, answer, done)
            if handle?.isCancelled == true { return finish(QueryReply(error: StatementHandle.cancelled)) }
            catalog(of: home, calls, finish) { [self] catalog throws(StatementError) in
                if SchemaChange.isDefinition(source) {
                    if !isOwn { try Self.refuseVacuum(source) }
                    try define(source, request, by: catalog, in: home, calls, principal, finish)
                } else {
                    let isShared = !home.hasDefinitions
                    var bound = try bind(
                        source, request, catalog, principal, isShared: isShared, begun: home.openedAt)
                    bound.settings.engine.isReadOnly = run.transaction.options.isReadOnly
                    try execute(bound, request, calls, principal, finish)
                }
            }
        }
    }

    /// The catalog as the transaction sees it: the shard's, unless it has changed it itself.
    func catalog(
        of home: HomeTransaction, _ calls: TransactionCalls, _ answer: @escaping Answer,
        _ body: @escaping (Catalog) throws(StatementError) -> Void
    ) {
        guard home.hasDefinitions, let slot = calls.router.slotOfEachShard.first else {
            return withCatalog(answer, body)
        }
        var builder = RowCallBuilder()
        builder.append(.schemaRead, key: [], numbers: [-1])
        let share = InteractiveRun.Share(slot: slot, body: builder.body, isWrite: false)
        calls.perform([share], lock: .none, wait: .wait) { result in
            do throws(StatementError) {
                try body(try Self.catalog(from: try result.mapError(StatementError.init(ofShard:)).get()))
            } catch {
                answer(QueryReply(error: error))
            }
        }
    }

    private static func catalog(from batches: [Bytes]) throws(StatementError) -> Catalog {
        var objects: [CatalogObject] = [], version: UInt64?
        try RowKeeper.read(batches) { (_, _, reply) throws(StatementError) in
            var items = reply.items
            while let item = items.next() {
                switch item {
                case .integer(let number): version = UInt64(bitPattern: number)
                case .data(let object):
                    do throws(DatabaseError) {
                        objects.append(try CatalogObject(decoding: object))
                    } catch {
                        throw StatementError(error)
                    }
                case .null, .number: throw RowKeeper.malformed
                }
            }
        }
        guard let version else { throw RowKeeper.malformed }
        var catalog = Catalog()
        for object in objects { catalog.apply(.put(object), version: version) }
        return catalog
    }

    private func execute(
        _ bound: Bound, _ request: QueryRequest, _ calls: TransactionCalls, _ principal: String,
        _ answer: @escaping Answer
    ) throws(StatementError) {
        if request.kind == .prepare { return answer(describe(bound)) }
        if try executePoint(bound, request, calls, principal, answer) { return }
        try executeWhole(bound, request, calls, principal, answer)
    }

    private func executeWhole(
        _ bound: Bound, _ request: QueryRequest, _ calls: TransactionCalls, _ principal: String,
        _ answer: @escaping Answer
    ) throws(StatementError) {
        let prepared = bound.prepared
        let keeper = RowKeeper(calls, draw: draw, fragments: bound.fragments)
        let run = try begin(bound, request, keeper)
        underWay[request.statement]?.onCancel = {
            run.cancel(afterCall: calls.isBusy)
            calls.cancel()
        }
        gather(run, [], 0) { [self] result in
            var reply = QueryReply()
            run.tellSequences(in: &reply)
            switch result {
            case .failure(let error):
                reply.error = QueryReply.Notice(severity: "ERROR", error)
                return answer(reply)
            case .success(let rows):
                if request.wantsColumns { describe(prepared, bound.point, in: &reply) }
                (reply.tag, reply.givesRows, reply.point) = (prepared.tag, prepared.givesRows, bound.point)
                cursors.begin(rows, principal, tag: prepared.tag, limit: limit(request), count: run.count, &reply)
                answer(reply)
            }
        }
    }

    /// Has the shard carry out a statement on one record, in one call, if its leader knows that; false where it is not
    /// one.
    private func executePoint(
        _ bound: Bound, _ request: QueryRequest, _ calls: TransactionCalls, _ principal: String,
        _ answer: @escaping Answer
    ) throws(StatementError) -> Bool {
        guard let point = bound.point else { return false }
        let values = try StatementParameters.values(request, as: bound.prepared.parameterTypes, bound.settings)
        guard let key = programs.key(of: point, values, chance: bound.settings.engine.random) else { return false }
        let body = PointCall.body(point, key: key, request.parameters, time: bound.settings.engine.transactionTime)
        let slot = key.withUnsafeBytes { UInt32(Slot.ofPartition($0).rawValue) }
        let share = InteractiveRun.Share(slot: slot, body: body, isWrite: point.writes)
        calls.perform([share], lock: .none, wait: .wait) { [self] result in
            do throws(StatementError) {
                let batches = try result.mapError(StatementError.init(ofShard:)).get()
                var reply = QueryReply(), isKnown = false
                try RowKeeper.read(batches) { (_, _, answer) throws(StatementError) in
                    isKnown = answer.kind == .data
                    if isKnown { try PointCall.take(answer.data, into: &reply) }
                }
                // Another node leads the shard, and has not met the statement: nothing was done.
                guard isKnown else { return try executeWhole(bound, request, calls, principal, answer) }
                (reply.tag, reply.givesRows, reply.point) = (bound.prepared.tag, bound.prepared.givesRows, point)
                if request.wantsColumns { describe(bound.prepared, bound.point, in: &reply) }
                answer(reply)
            } catch {
                answer(QueryReply(error: error))
            }
        }
        return true
    }

    /// All rows: later statements of the transaction must not change what a cursor gives.
    private func gather(
        _ run: StatementRun, _ rows: [Bytes], _ size: Int,
        _ completion: @escaping (Result<[Bytes], StatementError>) -> Void
    ) {
        run.fetch(nil) { [self] page in
            if let failure = page.failure { return completion(.failure(failure)) }
            let all = rows.isEmpty ? page.rows : rows + page.rows
            let size = page.rows.reduce(size) { $0 + $1.count }
            if page.isLast { return completion(.success(all)) }
            guard size <= limits.cursorBytes else {
                return completion(
                    .failure(
                        StatementError(
                            .programLimitExceeded,
                            "the rows of a statement in a transaction exceed \(limits.cursorBytes >> 20) MB")))
            }
            gather(run, all, size, completion)
        }
    }

    /// A gateway is gone: nobody waits for its statements.
    func streamClosed(_ stream: InvocationStream) { underWay.streamClosed(ObjectIdentifier(stream)) }
}

extension QueryReply.Column {
    init(_ column: ResultColumn) {
        self.init(
            name: column.name, type: ValueTypeForm(column.type), collection: column.collection?.rawValue ?? 0,
            column: UInt32(column.column?.rawValue ?? 0))
    }
}

extension ValueTypeForm {
    init(_ type: DataType) {
        self.init(kind: type.kind.rawValue, modifier: type.modifier, isArray: type.isArray)
    }
}
