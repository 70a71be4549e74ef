import Base
import Contracts
import DataModel
import Engine
import GatewayKit

extension Queries {
    /// VACUUM, which comes alone: every node that has replicas lets go of what it may; then statistics are made, if
    /// they are asked for, in a transaction.
    func vacuum(
        _ source: LogicalPlan, _ request: QueryRequest, by catalog: Catalog, _ principal: String,
        _ answer: @escaping Answer
    ) throws(StatementError) {
        let (change, _) = try planned(source, request, by: catalog, principal)
        var reply = QueryReply()
        reply.tag = change.tag
        reply.notices = change.notices.map(Self.notice)
        guard let vacuum = change.vacuum else { return answer(reply) }
        let handle = underWay[request.statement]
        if handle?.isCancelled == true { throw StatementHandle.cancelled }
        let calls: VacuumCalls
        do throws(DatabaseError) {
            calls = VacuumCalls(try homes.openRouter(), vacuum, principal) { [self, reply] outcome in
                handle?.onCancel = nil
                var reply = reply
                switch outcome {
                case .failure(let error): return answer(QueryReply(error: error))
                case .success(let warnings): reply.notices += warnings.map(Self.notice)
                }
                guard !change.analyses.isEmpty else { return answer(reply) }
                do throws(StatementError) {
                    try runWhole(source, request, principal, 0) { analyzed in
                        var analyzed = analyzed
                        if analyzed.error == nil { analyzed.notices = reply.notices }
                        answer(analyzed)
                    }
                } catch {
                    answer(QueryReply(error: error))
                }
            }
        } catch {
            throw StatementError(error)
        }
        // The stores go on; nobody waits for them.
        handle?.onCancel = { calls.end(.failure(StatementHandle.cancelled)) }
        calls.begin()
    }

    static func notice(_ notice: StatementError) -> QueryReply.Notice {
        QueryReply.Notice(severity: notice.state.rawValue.hasPrefix("01") ? "WARNING" : "NOTICE", notice)
    }

    /// In a transaction that others have begun there is no VACUUM.
    static func refuseVacuum(_ source: LogicalPlan) throws(StatementError) {
        guard SchemaChange.isVacuum(source) else { return }
        _ = try VacuumOptions(source)
        throw VacuumOptions.inTransaction
    }

    /// This node's part of a VACUUM.
    func reclaimHere(_ request: QueryRequest, _ handle: StatementHandle?, _ later: @escaping Answer) {
        let answer: Answer = { [self] reply in
            if let handle { underWay.end(request.statement, handle, reply) } else { later(reply) }
        }
        var collections: [CollectionID] = []
        for name in request.rows {
            guard let id = name.withUnsafeBytes({ RowKey.collection(prefix: $0) }), name.count == 4 else {
                return answer(QueryReply(error: StatementError(.protocolViolation, "a collection without a number")))
            }
            collections.append(id)
        }
        guard let reclaim else {
            return answer(QueryReply(error: StatementError(.featureNotSupported, "this node has no stores")))
        }
        reclaim(collections.isEmpty ? nil : collections, request.rewrites) { error in
            answer(error.map { QueryReply(error: $0) } ?? QueryReply())
        }
    }
}

/// A VACUUM on its way to the nodes.
private final class VacuumCalls {
    private let router: NodeRouter
    private let principal: String
    private let body: QueryRequest
    private var waiting = 0, warnings: [StatementError] = []
    private var completion: ((Result<[StatementError], StatementError>) -> Void)?

    /// `completion` is called once, with what is to be told.
    init(
        _ router: NodeRouter, _ vacuum: TableVacuum, _ principal: String,
        _ completion: @escaping (Result<[StatementError], StatementError>) -> Void
    ) {
        var body = QueryRequest(.reclaim)
        body.rows = (vacuum.collections ?? []).map { collection in
            var name = ByteBuffer(capacity: 4)
            name.append(bigEndian: collection.rawValue)
            return name.readable.bytes
        }
        body.rewrites = vacuum.rewrites
        (self.router, self.principal, self.body, self.completion) = (router, principal, body, completion)
    }

    func begin() {
        let nodes = router.replicaNodes
        waiting = nodes.count
        guard !nodes.isEmpty else { return end(.success([])) }
        var random = SystemRandom()
        for node in nodes {
            var request = body
            request.statement = max(random.next(), 1)
            ask(node, request)
        }
    }

    private func ask(_ node: NodeID, _ request: QueryRequest) {
        router.statement(request.encode(), at: node, connection: 0, principal: principal) { [self] result in
            guard completion != nil else { return }
            switch result {
            case .success(let answer) where answer.reply.isPending:
                var next = QueryRequest(.wait)
                next.statement = request.statement
                return ask(node, next)
            case .success(let answer):
                if let error = answer.reply.error { return end(.failure(error.error)) }
            case .failure(let error):
                // It need not be there: what its replicas may let go of they will, when they compact.
                warnings.append(
                    StatementError(
                        .warning, "node \(node.rawValue) was not reached, its replicas were left as they are",
                        detail: error.message))
            }
            waiting -= 1
            if waiting == 0 { end(.success(warnings)) }
        }
    }

    func end(_ result: Result<[StatementError], StatementError>) {
        guard let completion else { return }
        self.completion = nil
        router.after(milliseconds: nil) { completion(result) }
    }
}
