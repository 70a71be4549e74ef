import Base
import Contracts
import GatewayKit
import Net

/// `orbit.v1.TransactionService`: transactions that stay open, driven by this node, for clients without a gateway.
///
/// A request is checked as a whole before anything is done. Who calls may name a principal if it is a gateway; a
/// transaction is used by its principal only.
final class TransactionService {
    private let node: Node
    private let access: InvocationAccess

    init(_ node: Node, _ access: InvocationAccess) { (self.node, self.access) = (node, access) }

    /// Offers the methods on `server`.
    func register(on server: GRPCServer) {
        server.registerUnary(path: TransactionPath.begin) { [self] request, call in
            answer(call) { () throws(DatabaseError) in try begin(BeginTransactionRequest(decoding: request), call) }
        }
        server.registerUnary(path: TransactionPath.execute) { [self] request, call in
            answer(call) { () throws(DatabaseError) in
                try execute(ExecuteTransactionRequest(decoding: request), call)
            }
        }
        registerNamed(TransactionPath.savepoint, on: server) { $0.savepoint($1, completion: $2) }
        registerNamed(TransactionPath.release, on: server) { $0.release($1, completion: $2) }
        registerNamed(TransactionPath.rollBackTo, on: server) { $0.rollBack(to: $1, completion: $2) }
        registerEnd(TransactionPath.commit, on: server) { $0.commit(completion: $1) }
        registerEnd(TransactionPath.rollBack, on: server) { $0.rollBack(completion: $1) }
        server.registerUnary(path: TransactionPath.status) { [self] request, call in
            answer(call) { () throws(DatabaseError) in
                let request = try TransactionRequestMessage(decoding: request)
                let (token, homes) = try home(request.token, request.principal, call)
                call.reply(try homes.status(of: token, principal: request.principal).encode())
            }
        }
    }

    private typealias Completion = (DatabaseError?) -> Void

    private func registerNamed(
        _ path: String, on server: GRPCServer, _ body: @escaping (HomeTransaction, Bytes, @escaping Completion) -> Void
    ) {
        server.registerUnary(path: path) { [self] request, call in
            answer(call) { () throws(DatabaseError) in
                let request = try TransactionRequestMessage(decodingSavepoint: request)
                try use(request.token, request.principal, call) { body($0, request.name, $1) }
            }
        }
    }

    private func registerEnd(
        _ path: String, on server: GRPCServer, _ body: @escaping (HomeTransaction, @escaping Completion) -> Void
    ) {
        server.registerUnary(path: path) { [self] request, call in
            answer(call) { () throws(DatabaseError) in
                let request = try TransactionRequestMessage(decoding: request)
                try use(request.token, request.principal, call, body)
            }
        }
    }

    private func answer(_ call: GRPCUnaryCall, _ body: () throws(DatabaseError) -> Void) {
        do throws(DatabaseError) { try body() } catch {
            if call.isOpen { call.fail(GRPCStatus(error)) }
        }
    }

    // MARK: Tokens

    private func check(_ principal: String, _ call: GRPCUnaryCall) throws(DatabaseError) {
        guard principal.isEmpty || access.rights(of: call.stream.peer).mayNamePrincipal else {
            throw DatabaseError(.permissionDenied, "Only a gateway may say for whom it calls")
        }
    }

    private func homes() throws(DatabaseError) -> HomeTransactions {
        guard let homes = node.homes else { throw DatabaseError(.unavailable, "This node drives no transactions") }
        return homes
    }

    /// The token, if its home is here; the call is told where it is otherwise.
    private func home(
        _ text: String, _ principal: String, _ call: GRPCUnaryCall
    ) throws(DatabaseError) -> (TransactionToken, HomeTransactions) {
        try check(principal, call)
        guard let token = TransactionToken(parsing: text) else {
            throw DatabaseError(.invalidArgument, "That is no token of a transaction")
        }
        let homes = try homes()
        do throws(DatabaseError) {
            try homes.checkHome(token)
        } catch {
            if error.code == .noSuchTransaction {
                var trailers = GRPCMetadata()
                trailers.add(TransactionPath.homeNodeTrailer, "\(token.home.rawValue)")
                trailers.add(
                    TransactionPath.homeTrailer, node.addresses(of: token.home).joined(separator: ","))
                call.fail(GRPCStatus(error), trailers: trailers)
            }
            throw error
        }
        return (token, homes)
    }

    /// Has something done in a transaction, and answers how it stands then.
    private func use(
        _ text: String, _ principal: String, _ call: GRPCUnaryCall,
        _ body: (HomeTransaction, @escaping Completion) -> Void
    ) throws(DatabaseError) {
        let (token, homes) = try home(text, principal, call)
        let transaction = try homes.find(token, principal: principal)
        body(transaction) { error in
            if let error { return call.fail(GRPCStatus(error)) }
            do throws(DatabaseError) {
                call.reply(try homes.status(of: token, principal: principal).encode())
            } catch {
                call.fail(GRPCStatus(error))
            }
        }
    }

    // MARK: Methods

    private func begin(_ request: BeginTransactionRequest, _ call: GRPCUnaryCall) throws(DatabaseError) {
        try check(request.principal, call)
        let homes = try homes()
        var options = InteractiveTransaction.Options(request.options)
        // Nobody belongs to it, so nothing else ends it.
        if options.timeLimit == 0 { options.timeLimit = homes.limits.openMilliseconds }
        if options.idleLimit == 0 { options.idleLimit = homes.limits.idleMilliseconds }
        let transaction = try homes.open(
            options, principal: request.principal, priority: request.options.priority, isUnowned: true)
        call.reply(TransactionTokenMessage(transaction.token).encode())
    }

    private func execute(_ request: ExecuteTransactionRequest, _ call: GRPCUnaryCall) throws(DatabaseError) {
        let (token, homes) = try home(request.token, request.principal, call)
        let transaction = try homes.find(token, principal: request.principal)
        let statement = try MergedShares(request.shares, try homes.openRouter(), homes.decoder)
        homes.execute(statement.shares, lock: request.lock, wait: request.wait, in: transaction) { outcome in
            switch outcome {
            case .failed(let error): call.fail(GRPCStatus(error))
            case .changed: call.reply { ExecuteTransactionResponse(nil).encode(into: &$0) }
            case .done(let batches):
                guard let answers = statement.divide(batches) else {
                    return call.fail(GRPCStatus(MergedShares.damaged))
                }
                call.reply { ExecuteTransactionResponse(answers).encode(into: &$0) }
            }
        }
    }
}

/// The shares of a statement whose sender knows slots and no shards: those of one shard become one.
private struct MergedShares {
    private(set) var shares: [InteractiveRun.Share] = []
    /// For each share as it was sent: which of `shares` it went into, and how many calls it has.
    private var places: [(share: Int, calls: Int)] = []

    static let damaged = DatabaseError(.internalFailure, "The answers of the shards cannot be put together")

    init(
        _ sent: [(slot: UInt32, calls: Bytes)], _ router: NodeRouter, _ decoder: InvocationBatchDecoder
    ) throws(DatabaseError) {
        struct Piece { var slot: UInt32, body: Bytes, isWrite: Bool, calls: Int, watches: Int }
        var pieces: [Piece] = [], positions: [Int: Int] = [:]
        guard sent.count <= HomeOperation.shareLimit else {
            throw DatabaseError(.limitExceeded, "A statement has at most \(HomeOperation.shareLimit) shares")
        }
        for (slot, calls) in sent {
            guard let shard = router.shardIndex(ofSlot: slot) else {
                throw DatabaseError(.invalidArgument, "A slot that does not exist")
            }
            let share = try calls.withView { view throws(DatabaseError) in
                try HomeOperation.Share(slot: slot, checking: view, decoder)
            }
            let position = positions[shard] ?? pieces.count
            positions[shard] = position
            if position == pieces.count {
                pieces.append(Piece(slot: slot, body: [], isWrite: false, calls: 0, watches: 0))
            }
            // Two messages behind one another are one with the fields of both.
            pieces[position].body += calls
            pieces[position].isWrite = pieces[position].isWrite || share.isWrite
            pieces[position].calls += share.callCount
            pieces[position].watches += share.watchCount
            guard max(pieces[position].calls, pieces[position].watches) <= CallBatchEncoder.limit else {
                throw DatabaseError(.limitExceeded, "A statement has too many calls")
            }
            places.append((position, share.callCount))
        }
        shares = pieces.map { InteractiveRun.Share(slot: $0.slot, body: $0.body, isWrite: $0.isWrite) }
    }

    /// The replies of each share as it was sent; nil when they are not as many as its calls.
    func divide(_ batches: [Bytes]) -> [Bytes]? {
        guard batches.count == shares.count else { return nil }
        // Where the share being filled begins in its batch.
        var firsts = Array(repeating: 0, count: batches.count), ranges: [[Range<Int>]] = batches.map { _ in [] }
        for place in places {
            ranges[place.share].append(firsts[place.share]..<firsts[place.share] + place.calls)
            firsts[place.share] += place.calls
        }
        var divided: [[Bytes]] = []
        for (batch, ranges) in zip(batches, ranges) {
            guard let parts = Self.divide(batch, ranges) else { return nil }
            divided.append(parts)
        }
        var next = Array(repeating: 0, count: batches.count)
        return places.map { place in
            defer { next[place.share] += 1 }
            return divided[place.share][next[place.share]]
        }
    }

    private static func divide(_ batch: Bytes, _ ranges: [Range<Int>]) -> [Bytes]? {
        let encoders = ranges.map { _ in ReplyBatchEncoder() }
        var current = 0, count = 0, decoder = ReplyBatchDecoder()
        let isIntact = batch.withUnsafeBytes { view in
            (try? decoder.decode(view) { reply in
                while current < ranges.count, count >= ranges[current].upperBound { current += 1 }
                if current < ranges.count {
                    encoders[current].append(reply, as: UInt64(count - ranges[current].lowerBound))
                }
                count += 1
            }) != nil
        }
        guard isIntact, count == ranges.last?.upperBound ?? 0 else { return nil }
        return encoders.map { encoder in
            var message = ByteBuffer(capacity: encoder.size + 16)
            encoder.write(bookmark: .zero, mapEpoch: MapEpoch(rawValue: 0), into: &message)
            return message.readable.bytes
        }
    }
}
