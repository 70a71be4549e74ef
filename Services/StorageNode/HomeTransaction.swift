import Base
import Contracts
import GatewayKit

/// A client connection that belongs to a transaction: one of an invocation stream.
struct HomeMember: Hashable {
    let stream: ObjectIdentifier, connection: UInt64

    init(_ stream: InvocationStream, _ connection: UInt64) {
        (self.stream, self.connection) = (ObjectIdentifier(stream), connection)
    }
}

/// What bounds the transactions whose home a node is.
struct HomeLimits {
    /// Open at a time.
    var transactions = 4096
    /// Commands of one transaction that wait for those before them, and their bytes.
    var waiting = 128, waitingBytes = 16 << 20
    /// Ends that are remembered, so that everybody learns of them, and for how long.
    var ends = 4096, endMilliseconds: UInt64 = 600_000
    /// How long one that has failed for good waits for somebody to end it.
    var deadMilliseconds: UInt64 = 60_000
    /// Of one that nobody belongs to, unless it says something else.
    var idleMilliseconds: UInt64 = 60_000, openMilliseconds: UInt64 = 600_000
    /// The longest that anybody may ask for.
    var longestMilliseconds: UInt64 = 86_400_000
}

/// A transaction whose driver is this node. Several connections may send commands; they are carried out one after the
/// other, in the order in which they came.
///
/// Invariants. Of a command either its body is carried out and says `done`, or it is refused; when the transaction
/// ends while the body is under way, it is refused too, and no completion of the run is called any more. Once it has
/// ended nothing is carried out.
final class HomeTransaction {
    typealias Body = (_ run: InteractiveRun, _ done: @escaping () -> Void) -> Void

    private struct Command {
        let bytes: Int
        let refused: (DatabaseError) -> Void
        let body: Body
    }

    let token: TransactionToken
    /// For whom it is: nobody else may take part, whatever token they have.
    let principal: String
    let run: InteractiveRun
    private let later: (@escaping () -> Void) -> Void
    private let limits: HomeLimits
    private(set) var members: Set<HomeMember> = []
    /// It lives by its time-outs, and not by its members.
    let isUnowned: Bool
    /// In milliseconds since 1970: what `now()` says in all of its statements.
    let openedAt: UInt64
    /// How it ended.
    private(set) var ending: InteractiveRun.Ending?
    private var onEnd: ((HomeTransaction) -> Void)?
    private var waiting: [Command] = []
    private var waitingBytes = 0
    private var current: Command?
    /// Counts commands that were begun: an old one's `done` does nothing.
    private var begun: UInt64 = 0
    /// It has changed the catalog: what it sees is not what the shards show others.
    var hasDefinitions = false
    /// Since when nothing but its end can be asked, on the owner's clock.
    var deadSince: UInt64?

    /// `later` calls back in this tick, not from inside; `onEnd` is called once.
    init(
        _ token: TransactionToken, _ principal: String, _ run: InteractiveRun, isUnowned: Bool, openedAt: UInt64,
        limits: HomeLimits,
        later: @escaping (@escaping () -> Void) -> Void, onEnd: @escaping (HomeTransaction) -> Void
    ) {
        (self.token, self.principal, self.run, self.isUnowned) = (token, principal, run, isUnowned)
        (self.openedAt, self.limits, self.later, self.onEnd) = (openedAt, limits, later, onEnd)
    }

    /// Commands that wait for those before them.
    var waitingCount: Int { waiting.count }

    // MARK: Commands

    /// Has `body` called when everything that came before is done; it must call `done` when its command is over.
    /// `bytes` is what the command holds until then. `refused` is called later, if at all.
    func enqueue(bytes: Int = 0, refused: @escaping (DatabaseError) -> Void, _ body: @escaping Body) {
        if let ending {
            let error = Self.error(of: ending)
            return later { refused(error) }
        }
        guard waiting.count < limits.waiting, waitingBytes + bytes <= limits.waitingBytes else {
            return later { refused(Self.crowded) }
        }
        waiting.append(Command(bytes: bytes, refused: refused, body: body))
        waitingBytes += bytes
        startNext()
    }

    private func startNext() {
        guard current == nil, ending == nil, !waiting.isEmpty else { return }
        let command = waiting.removeFirst()
        waitingBytes -= command.bytes
        current = command
        begun += 1
        command.body(run) { [weak self, begun] in self?.finished(begun) }
    }

    private func finished(_ number: UInt64) {
        guard number == begun, current != nil else { return }
        current = nil
        startNext()
    }

    /// A command that changes nothing but the driver.
    func apply(
        _ completion: @escaping (DatabaseError?) -> Void,
        _ change: @escaping (InteractiveRun) throws(DatabaseError) -> Void
    ) {
        enqueue(refused: completion) { run, done in
            do throws(DatabaseError) {
                try change(run)
                completion(nil)
            } catch {
                completion(error)
            }
            done()
        }
    }

    func savepoint(_ name: Bytes, completion: @escaping (DatabaseError?) -> Void) {
        apply(completion) { run throws(DatabaseError) in try run.savepoint(name) }
    }

    func release(_ name: Bytes, completion: @escaping (DatabaseError?) -> Void) {
        apply(completion) { run throws(DatabaseError) in try run.release(name) }
    }

    func rollBack(to name: Bytes, completion: @escaping (DatabaseError?) -> Void) {
        enqueue(refused: completion) { run, done in
            do throws(DatabaseError) {
                try run.rollBack(to: name) { error in
                    completion(error)
                    done()
                }
            } catch {
                completion(error)
                done()
            }
        }
    }

    // MARK: The end

    /// Nil: all that was done is durable. The transaction is over for everybody, unless the command was refused.
    func commit(completion: @escaping (DatabaseError?) -> Void) {
        enqueue(refused: completion) { [self] run, done in
            do throws(DatabaseError) {
                try run.commit { [self] ending in
                    current = nil  // It is answered here.
                    end(ending)
                    switch ending {
                    case .committed, .rolledBack(nil): completion(nil)
                    case .rolledBack(let error?), .unknown(let error): completion(error)
                    }
                }
            } catch {
                completion(error)
                done()
            }
        }
    }

    /// At once, whatever is under way or waits: that is refused. Only a commit under way is waited for.
    func rollBack(completion: @escaping (DatabaseError?) -> Void) {
        guard ending == nil, run.transaction.isCommitting else {
            if ending == nil {
                run.rollBack()
                end(.rolledBack(nil))
            }
            let error = outcomeOfRollBack
            return later { completion(error) }
        }
        enqueue(refused: { [self] _ in completion(outcomeOfRollBack) }, { _, done in done() })
    }

    /// Nil: nothing was done.
    private var outcomeOfRollBack: DatabaseError? {
        switch ending {
        case .rolledBack, nil: nil
        case .committed, .unknown: ending.map { Self.error(of: $0) }
        }
    }

    /// Nobody can use it any more.
    func abandon(_ error: DatabaseError?) {
        guard ending == nil, !run.transaction.isCommitting else { return }
        run.rollBack()
        end(.rolledBack(error))
    }

    private func end(_ ending: InteractiveRun.Ending) {
        guard self.ending == nil else { return }
        self.ending = ending
        let left = (current.map { [$0] } ?? []) + waiting
        (current, waiting, waitingBytes, members) = (nil, [], 0, [])
        let error = Self.error(of: ending)
        if !left.isEmpty { later { for command in left { command.refused(error) } } }
        let onEnd = onEnd
        self.onEnd = nil
        onEnd?(self)
    }

    // MARK: Members

    func join(_ member: HomeMember) { if ending == nil { members.insert(member) } }

    /// The last one takes the transaction with it, unless that lives by its time-outs.
    func leave(_ member: HomeMember) {
        guard members.remove(member) != nil else { return }
        if members.isEmpty, !isUnowned { abandon(nil) }
    }

    func leave(_ stream: ObjectIdentifier) {
        for member in members where member.stream == stream { leave(member) }
    }

    // MARK: Words

    /// What is told to those who come too late.
    static func error(of ending: InteractiveRun.Ending) -> DatabaseError {
        switch ending {
        case .committed:
            DatabaseError(.transactionAborted, "The transaction is over: it was committed by another connection")
        case .rolledBack(nil): DatabaseError(.transactionAborted, "The transaction is over: it was rolled back")
        case .rolledBack(let error?):
            DatabaseError(
                .transactionAborted, "The transaction is over: it could not be committed (\(error.message))")
        case .unknown(let error): error
        }
    }

    private static let crowded = DatabaseError(
        .busy, "Too many commands of the transaction wait for those before them")
}
