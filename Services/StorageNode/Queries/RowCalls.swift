import Base
import Contracts
import DataModel
import GatewayKit

/// Calls for records, built for the shards that own them: one batch of calls each.
struct RowCallBuilder: ~Copyable {
    private var encoder = CallBatchEncoder()
    private(set) var isWrite = false

    var isEmpty: Bool { encoder.callCount == 0 }
    var body: Bytes { encoder.message.bytes }

    /// Appends a call whose numbers begin with the version of the collection's descriptor.
    mutating func append(
        _ method: Method, database: UInt8 = RowKey.database, key: Bytes, flags: UInt32 = 0, numbers: [Int64],
        arguments: [Bytes] = []
    ) {
        if method.isWrite { isWrite = true }
        key.withUnsafeBytes { key in
            numbers.withUnsafeBufferPointer { numbers in
                Self.withViews(arguments) { views in
                    encoder.append(
                        method: method, database: database, key: key, flags: flags, numbers: numbers,
                        arguments: views)
                }
            }
        }
    }

    /// Views of all arguments at once: they are put behind one another first.
    private static func withViews(_ arguments: [Bytes], _ body: (UnsafeBufferPointer<ByteView>) -> Void) {
        guard let first = arguments.first else { return body(UnsafeBufferPointer(start: nil, count: 0)) }
        if arguments.count == 1 {
            return first.withUnsafeBytes { view in
                withUnsafePointer(to: view) { body(UnsafeBufferPointer(start: $0, count: 1)) }
            }
        }
        var flat = Bytes()
        flat.reserveCapacity(arguments.reduce(0) { $0 + $1.count })
        for argument in arguments { flat += argument }
        flat.withUnsafeBytes { flat in
            var views: [ByteView] = [], offset = 0
            views.reserveCapacity(arguments.count)
            for argument in arguments {
                views.append(ByteView(rebasing: flat[offset..<offset + argument.count]))
                offset += argument.count
            }
            views.withUnsafeBufferPointer(body)
        }
    }
}

/// Where the calls of a statement go, and in which state of the data they are done.
///
/// One `perform` is one statement to the shards: done at all of them or at none. Its completion is called later, never
/// from inside, with an encoded `ReplyBatch` for each share, in their order.
protocol RowCalls: AnyObject {
    typealias Share = InteractiveRun.Share
    typealias Completion = (Result<[Bytes], DatabaseError>) -> Void

    var router: NodeRouter { get }
    /// What reads committed records as of one time, if these calls see each shard as of another one.
    func past() -> (any RowCalls)?
    func perform(
        _ shares: [Share], lock: InvocationScope.LockMode, wait: InvocationScope.WaitPolicy,
        completion: @escaping Completion)
}

/// The calls of a statement in a transaction that this node drives. The run does one command at a time: others wait
/// here in their order.
final class TransactionCalls: RowCalls {
    private struct Command {
        let shares: [Share]
        let lock: InvocationScope.LockMode, wait: InvocationScope.WaitPolicy
        let completion: Completion
    }

    private let run: InteractiveRun
    let router: NodeRouter
    private var waiting = Queue<Command>()
    /// A command is under way; and it may be waiting for a lock.
    private(set) var isBusy = false
    private var mayWait = false, isCancelled = false

    init(_ run: InteractiveRun, _ router: NodeRouter) { (self.run, self.router) = (run, router) }

    func past() -> (any RowCalls)? {
        run.transaction.options.isolation == .readCommitted ? SnapshotCalls(router, connection: 0) : nil
    }

    func perform(
        _ shares: [Share], lock: InvocationScope.LockMode, wait: InvocationScope.WaitPolicy,
        completion: @escaping Completion
    ) {
        waiting.append(Command(shares: shares, lock: lock, wait: wait, completion: completion))
        startNext()
    }

    private func startNext() {
        guard !isBusy, let command = waiting.popFirst() else { return }
        isBusy = true
        mayWait = command.lock != .none || command.shares.contains(where: \.isWrite)
        do throws(DatabaseError) {
            if isCancelled { throw Self.givenUp }
            try run.execute(command.shares, lock: command.lock, wait: command.wait) { [self] outcome in
                isBusy = false
                switch outcome {
                case .done(let batches): command.completion(.success(batches))
                case .changed: command.completion(.failure(Self.unasked))
                case .failed(let error): command.completion(.failure(error))
                }
                startNext()
            }
        } catch {
            router.after(milliseconds: nil) { [self] in
                isBusy = false
                command.completion(.failure(error))
                startNext()
            }
        }
    }

    /// Gives up what waits for a lock, and the transaction with it, unless it has a savepoint. Everything else comes
    /// back by itself, and nothing more is sent.
    func cancel() {
        isCancelled = true
        guard isBusy, mayWait else { return }
        run.cancel(Self.givenUp)
    }

    static let givenUp = DatabaseError(.transactionAborted, "A statement of the transaction was given up")

    /// No watch was sent.
    private static let unasked = DatabaseError(.internalFailure, "A condition that was not asked for did not hold")
}

/// Reads outside of transactions, all of them as of one time, which is taken when the first one comes.
final class SnapshotCalls: RowCalls, ReplyReceiver {
    private struct Command {
        var replies: [Bytes?]
        var missing: Int
        let completion: Completion
    }

    let router: NodeRouter
    private let connection: UInt64
    /// Nil until it is known.
    private(set) var time: Timestamp?
    private var waiting: [() -> Void] = []
    private var isAsking = false
    private var commands: [UInt64: Command] = [:]
    private var lastCommand: UInt64 = 0
    private static let shareBits: UInt64 = 16

    /// `time`, if the reader has said one.
    init(_ router: NodeRouter, connection: UInt64, time: Timestamp? = nil) {
        (self.router, self.connection, self.time) = (router, connection, time)
    }

    func past() -> (any RowCalls)? { nil }

    func perform(
        _ shares: [Share], lock: InvocationScope.LockMode, wait: InvocationScope.WaitPolicy,
        completion: @escaping Completion
    ) {
        guard lock == .none, !shares.contains(where: \.isWrite), !shares.isEmpty, shares.count < 1 << Self.shareBits
        else {
            return router.after(milliseconds: nil) { completion(.failure(Self.onlyReads)) }
        }
        if let time { return send(shares, at: time, completion) }
        waiting.append { [self] in
            guard let time else { return }
            send(shares, at: time, completion)
        }
        guard !isAsking else { return }
        isAsking = true
        router.readTimestamp { [self] result in
            isAsking = false
            switch result {
            case .success(let time):
                self.time = time
                let ready = waiting
                waiting = []
                for begin in ready { begin() }
            case .failure(let error):
                waiting = []
                completion(.failure(error))
            }
        }
    }

    private static let onlyReads = DatabaseError(.readOnly, "A snapshot can only be read")

    private func send(_ shares: [Share], at time: Timestamp, _ completion: @escaping Completion) {
        lastCommand += 1
        let number = lastCommand
        commands[number] = Command(
            replies: Array(repeating: nil, count: shares.count), missing: shares.count, completion: completion)
        var scope = InvocationScope(asOf: time)
        scope.isolation = .snapshot
        for (position, share) in shares.enumerated() {
            share.body.withUnsafeBytes { body in
                router.scoped(
                    connection: connection, slot: share.slot, transaction: 0, scope: scope, .batch(body),
                    isWrite: false, receiver: self, ticket: number << Self.shareBits | UInt64(position))
            }
        }
    }

    func completed(_ ticket: UInt64, _ reply: borrowing ReplyView) {
        switch reply.kind {
        case .batch: settle(ticket, reply.data.bytes)
        case .error: failed(ticket, reply.error)
        case .null, .ok, .integer, .number, .data, .list:
            failed(ticket, DatabaseError(.protocolViolation, "A shard has answered something else than a batch"))
        }
    }

    private func settle(_ ticket: UInt64, _ batch: Bytes) {
        let number = ticket >> Self.shareBits, position = Int(ticket & (1 << Self.shareBits - 1))
        guard var command = commands[number], command.replies.indices.contains(position) else { return }
        if command.replies[position] == nil { command.missing -= 1 }
        command.replies[position] = batch
        guard command.missing == 0 else {
            commands[number] = command
            return
        }
        commands[number] = nil
        command.completion(.success(command.replies.compactMap { $0 }))
    }

    func failed(_ ticket: UInt64, _ error: DatabaseError) {
        guard let command = commands.removeValue(forKey: ticket >> Self.shareBits) else { return }
        // It may be failing from inside of `send`.
        router.after(milliseconds: nil) { command.completion(.failure(error)) }
    }
}
