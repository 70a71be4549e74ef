import Base
import Contracts
import DataModel
import Net
import Placement
import Transactions

/// `orbit.v1.SagaService`: sagas of the shards that this node leads; of others it says who leads.
///
/// A request is checked as a whole before anything is done. What is answered is committed, by a leader that was one
/// after the question had come; of a list, by one that did not know better.
final class SagaService {
    static let pageSize = 100, pageLimit = 1000
    static let attempts: UInt32 = 10

    private let node: Node
    private let directory: DirectoryService

    init(_ node: Node, _ directory: DirectoryService) { (self.node, self.directory) = (node, directory) }

    /// Offers the methods on `server`.
    func register(on server: GRPCServer) {
        server.registerUnary(path: SagaPath.start) { [self] request, call in
            answer(call) { () throws(DatabaseError) in try start(StartSagaRequest(decoding: request), call) }
        }
        server.registerUnary(path: SagaPath.get) { [self] request, call in
            answer(call) { () throws(DatabaseError) in
                let request = try SagaRequest(decoding: request)
                try lead(request.id, call) { executor, done in executor.saga(request.id, done) }
            }
        }
        server.registerUnary(path: SagaPath.cancel) { [self] request, call in
            answer(call) { () throws(DatabaseError) in
                let request = try SagaRequest(decoding: request)
                try lead(request.id, call) { executor, done in
                    executor.changeSaga(request.id, done) { saga, now, _ throws(DatabaseError) in
                        try saga.cancel(now: now)
                    }
                }
            }
        }
        server.registerUnary(path: SagaPath.retry) { [self] request, call in
            answer(call) { () throws(DatabaseError) in
                let request = try SagaRequest(decodingRetry: request)
                try lead(request.id, call) { executor, done in
                    executor.changeSaga(request.id, done) { saga, now, timing throws(DatabaseError) in
                        try saga.retry(now: now, isForced: request.isForced, timing)
                    }
                }
            }
        }
        server.registerUnary(path: SagaPath.delete) { [self] request, call in
            answer(call) { () throws(DatabaseError) in try delete(SagaRequest(decoding: request), call) }
        }
        server.registerUnary(path: SagaPath.list) { [self] request, call in
            answer(call) { () throws(DatabaseError) in try list(ListSagasRequest(decoding: request), call) }
        }
    }

    private func answer(_ call: GRPCUnaryCall, _ body: () throws(DatabaseError) -> Void) {
        do throws(DatabaseError) { try body() } catch { call.fail(GRPCStatus(error)) }
    }

    private func map() throws(DatabaseError) -> ShardMap {
        guard let map = node.adopted?.map else { throw DatabaseError(.unavailable, "This node has no shard map yet") }
        return map
    }

    /// The shard of a slot.
    private static func shard(of slot: Slot, in map: ShardMap) throws(DatabaseError) -> ShardID {
        let bucket = Int(slot.bucket(of: map.bucketCount).rawValue)
        guard let shard = map.shards.first(where: { $0.buckets.contains { $0.contains(bucket) } }) else {
            throw DatabaseError(.internalFailure, "A bucket without a shard")
        }
        return shard.id
    }

    /// Calls `body` where the saga's shard is led here, once it is certain that it still is.
    private func withLeader(
        of id: String, _ call: GRPCUnaryCall, _ body: @escaping (ShardExecutor) -> Void
    ) throws(DatabaseError) {
        try SagaDefinition.check(id: id)
        let shard = try Self.shard(of: SagaKey.slot(of: id), in: map())
        guard let executor = node.executors.first(where: { $0.shard == shard && $0.isServing }) else {
            return directory.refuse(call, shard)
        }
        executor.group.readIndex { [directory] confirmation in
            switch confirmation {
            case .failure(let error) where error.code != .notLeader: call.fail(GRPCStatus(error))
            case .failure: directory.refuse(call, shard)
            case .success(let confirmed):
                // The process may have stood still since the lease was looked at.
                guard executor.isServing, !confirmed.isUnderLease || executor.group.leaseIsValid else {
                    return directory.refuse(call, shard)
                }
                body(executor)
            }
        }
    }

    private typealias Done = (Result<Saga, DatabaseError>) -> Void

    /// The same for what is answered with the saga.
    private func lead(
        _ id: String, _ call: GRPCUnaryCall, _ body: @escaping (ShardExecutor, @escaping Done) -> Void
    ) throws(DatabaseError) {
        try withLeader(of: id, call) { executor in
            body(executor) { result in
                switch result {
                case .success(let saga): call.reply(Self.message(saga, of: executor.shard).encode())
                case .failure(let error): call.fail(GRPCStatus(error))
                }
            }
        }
    }

    private static func message(_ saga: Saga, of shard: ShardID) -> SagaInfo {
        var info = SagaInfo(id: saga.id, status: saga.status.rawValue)
        (info.steps, info.stepsDone, info.attempts) = (saga.definition.steps.count, saga.stepsDone, saga.attempts)
        (info.reason, info.isCancelled, info.shard) = (saga.reason, saga.isCancelled, shard.rawValue)
        (info.createdAt, info.updatedAt) = (saga.createdAt, saga.updatedAt)
        return info
    }

    // MARK: Start

    private func start(_ request: StartSagaRequest, _ call: GRPCUnaryCall) throws(DatabaseError) {
        try SagaDefinition.check(id: request.id)
        guard request.steps.count <= SagaDefinition.stepLimit else {
            throw DatabaseError(.limitExceeded, "A saga has at most \(SagaDefinition.stepLimit) steps")
        }
        let map = try map()
        var steps: [SagaDefinition.Step] = []
        for (position, step) in request.steps.enumerated() {
            let action = try Self.action(step.action, "The action of step \(position + 1)", map)
            var compensation: SagaDefinition.Action?
            if let calls = step.compensation {
                compensation = try Self.action(calls, "The compensation of step \(position + 1)", map)
            }
            steps.append(.init(name: step.name, action: action, compensation: compensation))
        }
        let definition = try SagaDefinition(
            steps: steps, maximumAttempts: request.maximumAttempts == 0 ? Self.attempts : request.maximumAttempts)
        try lead(request.id, call) { [node] executor, done in
            executor.startSaga(request.id, definition, session: node.random.next(), done)
        }
    }

    /// The calls of an action, whose keys must all be on one shard: with a slot of that shard.
    private static func action(
        _ calls: Bytes, _ what: String, _ map: ShardMap
    ) throws(DatabaseError) -> SagaDefinition.Action {
        guard calls.count <= SagaDefinition.callsLimit else {
            throw DatabaseError(.limitExceeded, "\(what) has more than \(SagaDefinition.callsLimit) bytes of calls")
        }
        var envelope = InvocationBatchEncoder(session: 0), slots: [Slot] = [], problem: String?
        calls.withView { envelope.append(id: 1, connection: 0, slot: 0, batch: $0) }
        try InvocationBatchDecoder().decode(envelope.message) { invocation in
            guard case .batch(let batch) = invocation.operation else {
                problem = "has calls that this node does not know"
                return
            }
            if batch.isPart || batch.token != nil { problem = "is a part of a transaction, or has a token" }
            if batch.callCount == 0 { problem = "has no calls" }
            var calls = batch.calls, watches = batch.watches
            while let call = calls.next() {
                if call.method.isKeyless { problem = "has a call without a key" }
                call.forEachKey { slots.append(Slot.of($0, $1)) }
            }
            while let watch = watches.next() { slots.append(Slot.of(watch.database, watch.key)) }
        }
        if let problem { throw DatabaseError(.invalidArgument, "\(what) \(problem)") }
        guard let first = slots.first else { throw DatabaseError(.invalidArgument, "\(what) has no keys") }
        let shard = try shard(of: first, in: map)
        for slot in slots {
            guard try Self.shard(of: slot, in: map) == shard else {
                throw DatabaseError(
                    .invalidArgument, "\(what) has keys of several shards: let them have the same {tag}")
            }
        }
        return SagaDefinition.Action(slot: first, calls: calls)
    }

    // MARK: Delete, List

    private func delete(_ request: SagaRequest, _ call: GRPCUnaryCall) throws(DatabaseError) {
        try withLeader(of: request.id, call) { executor in
            executor.deleteSaga(request.id) { result in
                switch result {
                case .success(let wasThere): call.reply(DeleteSagaResponse(wasDeleted: wasThere).encode())
                case .failure(let error): call.fail(GRPCStatus(error))
                }
            }
        }
    }

    /// A page token is a shard, u32 LE, and the id behind which the page begins.
    private func list(_ request: ListSagasRequest, _ call: GRPCUnaryCall) throws(DatabaseError) {
        guard request.pageSize <= UInt32(Self.pageLimit) else {
            throw DatabaseError(.limitExceeded, "A page has at most \(Self.pageLimit) sagas")
        }
        var statuses: Set<Saga.Status> = []
        for number in request.statuses {
            guard let status = UInt8(exactly: number).flatMap({ Saga.Status(rawValue: $0) }) else {
                throw DatabaseError(.invalidArgument, "There is no such status")
            }
            statuses.insert(status)
        }
        var begin: (shard: ShardID, id: String) = (ShardID(rawValue: 0), "")
        if !request.pageToken.isEmpty {
            let parsed = request.pageToken.withUnsafeBytes { view -> (ShardID, String)? in
                var reader = ByteReader(view)
                guard let shard = reader.littleEndian(UInt32.self),
                    let id = String(validating: reader.rest, as: UTF8.self)
                else { return nil }
                return (ShardID(rawValue: shard), id)
            }
            guard let parsed else { throw DatabaseError(.invalidArgument, "The page token is none of this list") }
            begin = parsed
        }
        list(
            statuses, from: begin, request.pageSize == 0 ? Self.pageSize : Int(request.pageSize),
            ListSagasResponse(sagas: [], nextPageToken: []), call)
    }

    /// Adds what the next shard has, until the page is full.
    private func list(
        _ statuses: Set<Saga.Status>, from begin: (shard: ShardID, id: String), _ size: Int,
        _ response: ListSagasResponse, _ call: GRPCUnaryCall
    ) {
        let led = node.executors.filter { $0.isServing && $0.shard >= begin.shard }
        guard let executor = led.min(by: { $0.shard < $1.shard }) else { return call.reply(response.encode()) }
        var response = response
        guard response.sagas.count < size else {
            response.nextPageToken = Self.token(executor.shard, executor.shard == begin.shard ? begin.id : "")
            return call.reply(response.encode())
        }
        let after = executor.shard == begin.shard ? begin.id : ""
        executor.listSagas(after: after, limit: size - response.sagas.count, statuses) { [self] result in
            switch result {
            case .failure(let error): call.fail(GRPCStatus(error))
            case .success(let (sagas, isComplete)):
                response.sagas += sagas.map { Self.message($0, of: executor.shard) }
                let next =
                    isComplete ? ShardID(rawValue: executor.shard.rawValue &+ 1) : executor.shard
                guard next >= executor.shard else { return call.reply(response.encode()) }
                list(statuses, from: (next, isComplete ? "" : sagas.last?.id ?? ""), size, response, call)
            }
        }
    }

    private static func token(_ shard: ShardID, _ id: String) -> Bytes {
        var buffer = ByteBuffer(capacity: 160)
        buffer.append(littleEndian: shard.rawValue)
        buffer.append(text: id)
        return buffer.readable.bytes
    }
}
