import Base
import Contracts
import Net

/// A statement that may be given up while it runs, and whose reply may be waited for in several goes.
final class StatementHandle {
    fileprivate let principal: String
    fileprivate var stream: ObjectIdentifier?
    /// Who waits for the reply, and since when; nil: nobody does, since then.
    fileprivate var waiter: Queries.Answer?
    fileprivate var since: UInt64
    /// It has ended, and nobody has heard how.
    fileprivate var reply: QueryReply?
    /// Nobody will ask.
    fileprivate var isAbandoned = false
    /// It was given up: whatever it fails with from then on, this is why.
    private(set) var isCancelled = false
    private var isClosed = false
    /// Has it stop; nil where it cannot, or need not: it waits, or is being committed.
    var onCancel: (() -> Void)?

    fileprivate init(
        _ stream: ObjectIdentifier?, _ principal: String, _ waiter: @escaping Queries.Answer, _ now: UInt64
    ) {
        (self.stream, self.principal, self.waiter, since) = (stream, principal, waiter, now)
    }

    func cancel() {
        guard !isCancelled, !isClosed else { return }
        isCancelled = true
        onCancel?()
    }

    /// From now on it is too late; false: it was given up before.
    func close() -> Bool {
        if !isCancelled { isClosed = true }
        return isClosed
    }

    static let cancelled = StatementError(.queryCanceled, "canceling statement due to user request")
}

/// Statements of this node by the names that their gateways gave them: numbers that nobody else can guess.
///
/// No call of a gateway is under way for long, whatever the statement takes: it is answered with `isPending` then, and
/// the gateway asks again. A statement that nobody has asked about for a minute is given up.
final class StatementsUnderWay {
    /// How long a gateway waits for one answer, and a statement for somebody who asks.
    static let answerNanoseconds: UInt64 = 5_000_000_000, patienceNanoseconds: UInt64 = 60_000_000_000
    private static let lookMilliseconds = 1000

    private let loop: EventLoop
    /// Statements at a time that have a name; others cannot be called back.
    private let limit: Int
    private var handles: [UInt64: StatementHandle] = [:]
    private var timer: LoopTimer?

    init(_ loop: EventLoop, limit: Int) { (self.loop, self.limit) = (loop, limit) }

    subscript(_ number: UInt64) -> StatementHandle? { handles[number] }

    /// Nil for a statement without a name, or with one that is taken.
    func begin(
        _ number: UInt64, on stream: ObjectIdentifier?, _ principal: String, _ answer: @escaping Queries.Answer
    ) -> StatementHandle? {
        guard number != 0, handles[number] == nil, handles.count < limit else { return nil }
        let handle = StatementHandle(stream, principal, answer, loop.now)
        handles[number] = handle
        if timer == nil {
            timer = loop.schedule(afterMilliseconds: Self.lookMilliseconds, repeating: true) { [weak self] in
                self?.look()
            }
        }
        return handle
    }

    /// It has ended: the reply is for who waits for it, or asks for it later.
    func end(_ number: UInt64, _ handle: StatementHandle, _ reply: QueryReply) {
        handle.onCancel = nil
        if let waiter = handle.waiter {
            remove(number)
            waiter(reply)
        } else if handle.isAbandoned {
            remove(number)
        } else {
            handle.reply = reply
        }
    }

    /// Somebody asks for the reply.
    func wait(
        _ number: UInt64, on stream: ObjectIdentifier?, _ principal: String, _ answer: @escaping Queries.Answer
    ) {
        guard let handle = handles[number], handle.principal == principal, handle.waiter == nil else {
            return answer(QueryReply(error: StatementError(Self.unknown)))
        }
        if let reply = handle.reply {
            remove(number)
            return answer(reply)
        }
        (handle.waiter, handle.stream, handle.since) = (answer, stream, loop.now)
    }

    private static let unknown = DatabaseError(
        .outcomeUnknown, "The statement is not under way any more; its outcome is unknown")

    func cancel(_ number: UInt64, principal: String) {
        if let handle = handles[number], handle.principal == principal { handle.cancel() }
    }

    /// Nobody waits for the answers any more.
    func streamClosed(_ stream: ObjectIdentifier) {
        for (number, handle) in handles where handle.stream == stream { abandon(number, handle) }
    }

    private func abandon(_ number: UInt64, _ handle: StatementHandle) {
        (handle.waiter, handle.isAbandoned) = (nil, true)
        if handle.reply != nil { remove(number) } else { handle.cancel() }
    }

    private func remove(_ number: UInt64) {
        handles[number] = nil
        guard handles.isEmpty else { return }
        timer?.cancel()
        timer = nil
    }

    private func look() {
        let now = loop.now
        for (number, handle) in handles {
            if let waiter = handle.waiter {
                guard now &- handle.since >= Self.answerNanoseconds else { continue }
                (handle.waiter, handle.since) = (nil, now)
                var pending = QueryReply()
                pending.isPending = true
                waiter(pending)
            } else if !handle.isAbandoned, now &- handle.since >= Self.patienceNanoseconds {
                abandon(number, handle)
            }
        }
    }
}
