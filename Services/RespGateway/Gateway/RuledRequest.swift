import Base
import Contracts
import GatewayKit

/// Commands on records with rules that their shards do not know: they are done as statements, by nodes.
///
/// One command alone is a transaction of its own, at a node. A plan with such commands among others is an interactive
/// transaction of this gateway, command after command, or part of the one that the client is in; so it is done as a
/// whole, or not at all, like any.
final class RuledRequest {
    /// How often a plan is begun anew because others were in the way.
    private static let attempts = 16, longestPause = 64

    private let plan: TransactionPlan
    private let client: ClientConnection
    private let gateway: Gateway
    private let completion: (TransactionOutcome) -> Void
    /// Where a plan has a transaction of its own, that; else the client's.
    private var link: HomeLink?
    private let isOwn: Bool
    private var attempt = 0
    /// What is still to be done, and the replies to what has been.
    private var steps: [Step] = []
    private var replies: [Bytes] = []

    private struct Step {
        let call: CallSnapshot
        /// The position of the plan's call that it is a part of.
        let position: Int
    }

    private init(
        _ plan: TransactionPlan, _ client: ClientConnection, _ gateway: Gateway,
        _ completion: @escaping (TransactionOutcome) -> Void
    ) {
        (self.plan, self.client, self.gateway, self.completion) = (plan, client, gateway, completion)
        (link, isOwn) = (client.interactive, client.interactive == nil)
    }

    /// `completion` is called later, never from inside. Nothing may be asked on the client's connection before.
    static func begin(
        _ plan: TransactionPlan, token: UInt64, for client: ClientConnection, _ gateway: Gateway,
        _ completion: @escaping (TransactionOutcome) -> Void
    ) {
        client.session.hold(until: token)
        RuledRequest(plan, client, gateway, completion).start()
    }

    private func start() {
        steps = []
        replies = []
        for (position, call) in plan.calls.enumerated() {
            // The keys of DEL may be of both kinds.
            let parts = call.method == .delete && call.keys.count > 1 ? call.keys.map(call.deletion) : [call]
            steps += parts.map { Step(call: $0, position: position) }
        }
        if isOwn, plan.watches.isEmpty, steps.count == 1, let only = steps.first { return alone(only.call) }
        if isOwn {
            var options = HomeOperation.Options()
            (options.isolation, options.failsWhole) = (.serializable, false)
            options.priority = gateway.server.wallMilliseconds << 20 | gateway.random() >> 44
            link = HomeLink(
                gateway.router, beginning: options, principal: client.principal, connection: client.session.id)
        }
        guard !plan.watches.isEmpty else { return next() }
        execute(TransactionPlan(watches: plan.watches)) { [self] in next() }
    }

    // MARK: Alone

    private func alone(_ call: CallSnapshot) {
        gateway.router.statement(
            call.request, connection: client.session.id, principal: client.principal
        ) { [self] result in
            switch result {
            case .success(let answer): finish(answer.reply)
            case .failure(let error): completion(.failed(error))
            }
        }
    }

    private func finish(_ reply: QueryReply) {
        if let error = reply.error?.error {
            if Self.isInTheWay(error), again() { return }
            return completion(.failed(DatabaseError(ofStatement: error)))
        }
        guard let row = reply.rows.first else { return completion(.failed(Self.damaged)) }
        row.withUnsafeBytes { completion(.done($0)) }
    }

    // MARK: One after the other

    private func next() {
        guard replies.count < steps.count else { return end() }
        let call = steps[replies.count].call
        guard gateway.records.isRuled(call) else {
            return execute(TransactionPlan(calls: [call])) { [self] in next() }
        }
        link?.statement(call.request) { [self] result in
            switch result {
            case .failure(let error): fail(error)
            case .success(let reply):
                if let error = reply.error?.error {
                    if Self.isFatal(error) { return fail(DatabaseError(ofStatement: error)) }
                    // As with any command of a transaction, the error is its reply, and the others are done.
                    replies.append(Self.encoded { $0.error(0, DatabaseError(ofStatement: error)) })
                } else {
                    replies.append(reply.rows.first ?? [])
                }
                next()
            }
        }
    }

    /// Has calls done whose shards know all rules, and watches looked at.
    private func execute(_ part: TransactionPlan, _ then: @escaping () -> Void) {
        guard let link else { return fail(Self.damaged) }
        do throws(DatabaseError) {
            try TransactionRequest.begin(part, in: link, gateway) { [self] outcome in
                switch outcome {
                case .done(let batch):
                    if !part.calls.isEmpty { replies.append(batch.bytes) }
                    then()
                case .changed:
                    if isOwn { link.rollBack { _ in } }
                    completion(.changed)
                case .failed(let error): fail(error)
                }
            }
        } catch {
            fail(error)
        }
    }

    private func fail(_ error: DatabaseError) {
        guard isOwn else { return completion(.failed(error)) }
        link?.rollBack { [self] _ in
            let isInTheWay = error.code == .serializationFailure || error.code == .deadlock
            if isInTheWay, again() { return }
            completion(.failed(error))
        }
    }

    private func end() {
        guard isOwn, let link else { return conclude() }
        link.commit { [self] error in
            guard let error else { return conclude() }
            let isInTheWay = error.code == .serializationFailure || error.code == .deadlock
            if isInTheWay, again() { return }
            completion(.failed(error))
        }
    }

    private func conclude() {
        var merges = plan.calls.map { ReplyMerge($0, demandsAbsence: false, random: gateway.random()) }
        for (step, reply) in zip(steps, replies) {
            var decoder = ReplyBatchDecoder()
            let isRead = reply.withView { view in
                (try? decoder.decode(view) { merges[step.position].add($0, keys: nil) }) != nil
            }
            guard isRead else { return completion(.failed(Self.damaged)) }
        }
        let merged = ReplyBatchEncoder()
        for (position, merge) in merges.enumerated() { merge.finish(UInt64(position), merged) }
        var frame = ByteBuffer(capacity: merged.size + 64)
        merged.write(bookmark: .zero, mapEpoch: MapEpoch(rawValue: 0), into: &frame)
        completion(.done(frame.readable))
    }

    // MARK: Again

    /// False: it has been tried often enough.
    private func again() -> Bool {
        guard attempt < Self.attempts, !client.isGone else { return false }
        attempt += 1
        let pause = min(1 << min(attempt, 16), Self.longestPause)
        gateway.loop.schedule(afterMilliseconds: Int(gateway.random() % UInt64(pause + 1))) { [self] in start() }
        return true
    }

    private static func isInTheWay(_ error: StatementError) -> Bool {
        error.state == .serializationFailure || error.state == .deadlockDetected
    }

    /// The transaction is over with it.
    private static func isFatal(_ error: StatementError) -> Bool {
        isInTheWay(error) || error.state == .inFailedSQLTransaction
    }

    private static func encoded(_ fill: (ReplyBatchEncoder) -> Void) -> Bytes {
        let encoder = ReplyBatchEncoder()
        fill(encoder)
        var frame = ByteBuffer(capacity: encoder.size + 64)
        encoder.write(bookmark: .zero, mapEpoch: MapEpoch(rawValue: 0), into: &frame)
        return frame.readable.bytes
    }

    private static let damaged = DatabaseError(
        .internalFailure, "A node answered with something else than was asked")
}

extension CallSnapshot {
    /// Asks a node to have it done as a statement.
    fileprivate var request: Bytes {
        var request = QueryRequest(.command), encoder = InvocationBatchEncoder(session: 0)
        // The encoder wants views of all at once.
        var room = ByteBuffer(capacity: 1024), views: [ByteView] = [], start = 0
        for argument in arguments { room.append(argument) }
        let bytes = room.readable
        for argument in arguments {
            views.append(ByteView(rebasing: bytes[start..<start + argument.count]))
            start += argument.count
        }
        key.withUnsafeBytes { key in
            numbers.withUnsafeBufferPointer { numbers in
                views.withUnsafeBufferPointer { views in
                    encoder.append(
                        id: 1, connection: 0, slot: 0, method: method, database: database, key: key, flags: flags,
                        numbers: numbers, arguments: views)
                }
            }
        }
        request.plan = encoder.message.bytes
        return request.encode()
    }

    /// DEL of one of its keys.
    fileprivate func deletion(of key: Bytes) -> CallSnapshot {
        CallSnapshot(
            method: .delete, target: .key, database: database, key: key, flags: flags, numbers: numbers,
            arguments: [], keys: [key])
    }
}

extension DatabaseError {
    /// What a statement was refused with, for who knows no SQLSTATE.
    init(ofStatement error: StatementError) {
        let code: ErrorCode
        switch error.state {
        case .serializationFailure: code = .serializationFailure
        case .deadlockDetected: code = .deadlock
        case .lockNotAvailable: code = .lockNotAvailable
        case .inFailedSQLTransaction: code = .transactionAborted
        case .readOnlySQLTransaction: code = .readOnly
        case .featureNotSupported: code = .featureNotSupported
        case .insufficientPrivilege: code = .permissionDenied
        case _ where error.state.rawValue == "XXSCH": code = .staleSchema
        case _ where error.state.rawValue.hasPrefix("22"): code = .invalidText
        case _: code = .invalidArgument
        }
        self.init(code, error.message)
    }
}
