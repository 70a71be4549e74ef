import Base
import Contracts
import DataModel
import Engine
import GatewayKit
import Net

// Commands of Redis on records whose shards do not know all rules of their collection: done as statements, so that
// checks, defaults, references and indexes hold for both.
//
// What the command would make of the record its shard tells (`Method.draft`), and locks it for that; the statement that
// makes it so is executed in the same transaction. So a reply says what was there when it was done.

extension Queries {
    private static let attempts = 5

    /// Has a command carried out: alone, or in a transaction that this node drives. The reply's only row is an encoded
    /// `ReplyBatch` with the command's reply.
    func command(
        _ request: QueryRequest, in home: HomeTransaction?, _ principal: String, _ answer: @escaping Answer
    ) {
        guard let call = RecordCommand.Call(request.plan) else {
            return answer(QueryReply(error: StatementError(.protocolViolation, "malformed command")))
        }
        if let home { return command(call, request, in: home, principal, answer) }
        alone(call, request, principal, attempt: 0, answer)
    }

    private func alone(
        _ call: RecordCommand.Call, _ request: QueryRequest, _ principal: String, attempt: Int,
        _ answer: @escaping Answer
    ) {
        var options = InteractiveTransaction.Options()
        options.refusals = .transaction
        let home: HomeTransaction
        do throws(DatabaseError) {
            home = try homes.open(options, principal: principal, isUnowned: true)
        } catch {
            return answer(QueryReply(error: StatementError(error)))
        }
        command(call, request, in: home, principal) { [self] reply in
            guard let error = reply.error?.error else {
                return home.commit { error in
                    answer(error.map { QueryReply(error: StatementError(ofShard: $0)) } ?? reply)
                }
            }
            home.rollBack { [self] _ in
                guard error.state == .staleSchema, attempt < Self.attempts else { return answer(reply) }
                loop.schedule(afterMilliseconds: 1 << attempt) { [self] in
                    alone(call, request, principal, attempt: attempt + 1, answer)
                }
            }
        }
    }

    private func command(
        _ call: RecordCommand.Call, _ request: QueryRequest, in home: HomeTransaction, _ principal: String,
        _ tell: @escaping Answer
    ) {
        // What is rolled back refuses the command that asked for it, too.
        var isTold = false
        let answer: Answer = { reply in
            guard !isTold else { return }
            isTold = true
            tell(reply)
        }
        let refused: (DatabaseError) -> Void = { answer(QueryReply(error: StatementError(ofShard: $0))) }
        home.enqueue(bytes: request.plan.count, refused: refused) { [self] run, done in
            let calls = TransactionCalls(run, run.router), finish = Self.closing(run, answer, done)
            catalog(of: home, calls, finish) { [self] catalog throws(StatementError) in
                var settings = try StatementSettings(
                    request, principal: principal, now: Int64(clock()) * 1000,
                    transactionTime: Int64(home.openedAt) * 1000, zones: zones)
                try settings.resolve(catalog)
                // The gateway has asked its own rules.
                settings.engine.authority = .unlimited
                try RecordCommand(call, catalog, calls, settings.engine, self, finish).begin()
            }
        }
    }
}

/// One command on its way.
final class RecordCommand {
    /// A call as it came, as values.
    struct Call {
        let method: Method, key: Bytes, flags: UInt32, numbers: [Int64], arguments: [Bytes]

        /// From a frame of one invocation; nil: it is none of a command that changes a record.
        init?(_ frame: Bytes) {
            let decoder = InvocationBatchDecoder()
            var found: Call?
            frame.withUnsafeBytes { view in
                try? decoder.decode(view) { invocation in
                    guard case .call(let call) = invocation.operation, call.database == 0 else { return }
                    found = Call(call)
                }
            }
            guard let found, found.method.recordEffect != .none else { return nil }
            self = found
        }

        private init(_ call: ActorCallView) {
            (method, key, flags) = (call.method, call.key.bytes, call.flags)
            numbers = (0..<call.numbers.count).map { call.numbers[$0] }
            arguments = (0..<call.arguments.count).map { call.arguments[$0].bytes }
        }
    }

    private let call: Call
    private let catalog: Catalog
    private let calls: TransactionCalls
    private let settings: EngineSettings
    private let queries: Queries
    private let answer: Queries.Answer

    init(
        _ call: Call, _ catalog: Catalog, _ calls: TransactionCalls, _ settings: EngineSettings, _ queries: Queries,
        _ answer: @escaping Queries.Answer
    ) {
        (self.call, self.catalog, self.calls) = (call, catalog, calls)
        (self.settings, self.queries, self.answer) = (settings, queries, answer)
    }

    func begin() throws(StatementError) {
        let name = call.key.withUnsafeBytes { key in
            RecordName.divide(key).map { (catalog.collection(namedBy: $0.collection), $0.text.bytes) }
        }
        guard let (named, text) = name, let collection = named, let column = collection.namingColumn else {
            throw StatementError(.staleSchema, "there is no such collection")
        }
        let value = try text.withView { (text: ByteView) throws(StatementError) in
            try RecordName.primaryKey(text, column.type)
        }
        guard let value else {
            throw StatementError(
                .invalidTextRepresentation,
                "the key of a record of \(collection.name) must be written as its primary key is shown")
        }
        switch call.method.recordEffect {
        case .changes: ask(collection, column, value)
        case .expires:
            let expiry = RecordExpiry(call.method, call.flags, call.numbers, catalog, calls)
            try expiry.begin(collection, KeyEncoding.encode([value])) { [self] (result: Result<Bool, StatementError>) in
                let reply: Result<Bytes, StatementError> = result.map { isDone in
                    Self.reply { $0.integer(0, isDone ? 1 : 0) }
                }
                answer(reply)
            }
        case .removes, .none:
            try execute(.deletion(collection, column, value)) { [self] result in
                answer(result.map { count in Self.reply { $0.integer(0, Int64(clamping: count)) } })
            }
        }
    }

    /// Asks the shard what the command would make of the record.
    private func ask(_ collection: CollectionDescriptor, _ column: CollectionDescriptor.Column, _ value: Value) {
        let slot = KeyEncoding.encode([value]).withUnsafeBytes { UInt32(Slot.ofPartition($0).rawValue) }
        var builder = RowCallBuilder()
        builder.append(
            call.method, database: 0, key: call.key, flags: call.flags | Method.draft, numbers: call.numbers,
            arguments: call.arguments)
        let share = InteractiveRun.Share(slot: slot, body: builder.body, isWrite: true)
        calls.perform([share], lock: .none, wait: .wait) { [self] result in
            do throws(StatementError) {
                try change(
                    try Draft(try result.mapError(StatementError.init(ofShard:)).get()), collection, column, value)
            } catch {
                answer(.failure(error))
            }
        }
    }

    private func change(
        _ draft: Draft, _ collection: CollectionDescriptor, _ column: CollectionDescriptor.Column, _ value: Value
    ) throws(StatementError) {
        let changes = draft.changes(of: collection)
        guard !changes.isEmpty else { return answer(.success(draft.reply)) }
        let statement: RecordStatement =
            draft.before == nil
            ? .insertion(collection, changes) : .update(collection, column, value, changes)
        try execute(statement) { [self] result in answer(result.map { _ in draft.reply }) }
    }

    private func execute(
        _ statement: RecordStatement, _ completion: @escaping (Result<UInt64, StatementError>) -> Void
    ) throws(StatementError) {
        let schema = catalog.namespaces[.default]?.name ?? "public"
        let prepared = try PreparedPlan(
            statement.plan(in: schema), catalog: catalog, settings: settings, parameterTypes: statement.types)
        let keeper = RowKeeper(calls, draw: queries.draw)
        let execution = try prepared.execute(statement.values, settings: settings, access: keeper)
        let run = StatementRun(execution, keeper, queries.loop)
        finish(run, completion)
    }

    private func finish(_ run: StatementRun, _ completion: @escaping (Result<UInt64, StatementError>) -> Void) {
        run.fetch(nil) { [self] page in
            if let failure = page.failure { return completion(.failure(failure)) }
            if page.isLast { completion(.success(run.count)) } else { finish(run, completion) }
        }
    }

    private func answer(_ result: Result<Bytes, StatementError>) {
        switch result {
        case .success(let row):
            var reply = QueryReply()
            reply.rows = [row]
            answer(reply)
        case .failure(let error): answer(QueryReply(error: error))
        }
    }

    private static func reply(_ fill: (ReplyBatchEncoder) -> Void) -> Bytes {
        let encoder = ReplyBatchEncoder()
        fill(encoder)
        var frame = ByteBuffer(capacity: encoder.size + 32)
        encoder.write(bookmark: .zero, mapEpoch: MapEpoch(rawValue: 0), into: &frame)
        return frame.readable.bytes
    }
}

/// What a command would make of a record.
private struct Draft {
    /// Nil: there is none.
    var before: [UInt32: Value]?
    var after: [UInt32: Value] = [:]
    /// What the command is answered, encoded.
    var reply: Bytes = []

    init(_ batches: [Bytes]) throws(StatementError) {
        var items: [Bytes?] = []
        try RowKeeper.read(batches) { (_, _, reply) throws(StatementError) in
            var list = reply.items
            while let item = list.next() {
                switch item {
                case .data(let data): items.append(data.bytes)
                case .null: items.append(nil)
                case .integer, .number: throw RowKeeper.malformed
                }
            }
        }
        guard items.count == 3, let record = items[1], let reply = items[2] else { throw RowKeeper.malformed }
        if let record = items[0] { before = try Self.fields(record) }
        (after, self.reply) = (try Self.fields(record), reply)
    }

    private static func fields(_ record: Bytes) throws(StatementError) -> [UInt32: Value] {
        guard !record.isEmpty else { return [:] }
        guard let fields = record.withUnsafeBytes({ RecordEncoding.decode($0) }) else { throw RowKeeper.malformed }
        return Dictionary(fields.map { ($0.column, $0.value) }, uniquingKeysWith: { first, _ in first })
    }

    /// The columns that get another value.
    func changes(of collection: CollectionDescriptor) -> [(column: CollectionDescriptor.Column, value: Value)] {
        collection.columns.compactMap { column in
            let id = UInt32(column.id.rawValue), new = after[id] ?? .null
            let old = before.map { $0[id] ?? column.missing ?? .null } ?? .null
            return old == new ? nil : (column, new)
        }
    }
}

/// A statement about one record.
private struct RecordStatement {
    private enum Kind { case insertion, update, deletion }

    private let kind: Kind
    private let table: String
    private let key: String
    private let columns: [String]
    /// Of the columns, then that of the key, where it is needed.
    let values: [Value]
    let types: [DataType]

    typealias Changes = [(column: CollectionDescriptor.Column, value: Value)]

    static func insertion(_ collection: CollectionDescriptor, _ changes: Changes) -> Self {
        Self(kind: .insertion, collection, nil, .null, changes)
    }

    static func update(
        _ collection: CollectionDescriptor, _ key: CollectionDescriptor.Column, _ value: Value, _ changes: Changes
    ) -> Self {
        Self(kind: .update, collection, key, value, changes)
    }

    static func deletion(
        _ collection: CollectionDescriptor, _ key: CollectionDescriptor.Column, _ value: Value
    ) -> Self {
        Self(kind: .deletion, collection, key, value, [])
    }

    private init(
        kind: Kind, _ collection: CollectionDescriptor, _ key: CollectionDescriptor.Column?, _ value: Value,
        _ changes: Changes
    ) {
        (self.kind, table, self.key) = (kind, collection.name, key?.name ?? "")
        columns = changes.map(\.column.name)
        values = changes.map(\.value) + (key == nil ? [] : [value])
        types = changes.map(\.column.type) + (key.map { [$0.type] } ?? [])
    }

    /// With parameters for all values.
    func plan(in schema: String) -> LogicalPlan {
        var nodes = [LogicalPlan.Node(.none)]
        func add(_ kind: PlanKind, _ children: [Int32] = [], name: String = "", number: Int = 0) -> Int32 {
            nodes.append(LogicalPlan.Node(kind, children, name: name, number: Int64(number)))
            return Int32(truncatingIfNeeded: nodes.count - 1)
        }
        func condition() -> Int32 {
            let column = add(.columnReference, [0], name: key)
            return add(.operator, [column, add(.parameter, number: values.count), 0], name: "=")
        }
        let target = add(.table, [add(.name, [0], name: schema), 0], name: table)
        let root: Int32
        switch kind {
        case .insertion:
            let names = add(.list, columns.map { add(.identifier, name: $0) })
            let row = add(.list, columns.indices.map { add(.parameter, number: $0 + 1) })
            let source = add(.values, [0, add(.list, [row]), 0, 0, 0, 0])
            root = add(.insert, [0, target, names, source, 0, 0])
        case .update:
            let assignments = columns.enumerated().map { position, name in
                add(.assignment, [add(.parameter, number: position + 1)], name: name)
            }
            root = add(.update, [0, target, add(.list, assignments), 0, condition(), 0])
        case .deletion: root = add(.delete, [0, target, 0, condition(), 0])
        }
        return LogicalPlan(dialect: .postgres, nodes: nodes, root: root)
    }
}
