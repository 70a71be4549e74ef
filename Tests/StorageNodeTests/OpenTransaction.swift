import Base
import Contracts
import DataModel
import GatewayKit
import Transactions

@testable import StorageNode

/// An interactive transaction as a session drives it, one call at a time, on a stage of two shards.
final class OpenTransaction: ReplyReceiver {
    private let stage: Stage
    let id: UInt64
    var scope = InvocationScope()
    /// By shard: as the last reply named it.
    var incarnations: [UInt32: UInt64] = [:]
    private var statements: [UInt32: UInt32] = [:]
    private var shards: [UInt64: UInt32] = [:]
    private var made: UInt64 = 0
    private(set) var replies: [UInt64: Outcome] = [:]
    private(set) var answers: [UInt64: StepAnswer] = [:]

    init(_ stage: Stage, _ id: UInt64, priority: UInt64? = nil) {
        (self.stage, self.id) = (stage, id)
        scope.priority = priority ?? id
    }

    /// The slot that names the shard of a key.
    static func slot(_ key: String) -> UInt32 {
        let slot = Bytes(key.utf8).withUnsafeBytes { UInt32(Slot.of($0).rawValue) }
        return slot < 8192 ? 0 : 8192
    }

    /// One statement at the shard of a key.
    @discardableResult
    func run(
        at key: String, lock: InvocationScope.LockMode = .none, wait: InvocationScope.WaitPolicy = .wait,
        timeout: UInt32 = 0, _ build: (inout CallBatchEncoder) -> Void
    ) -> UInt64 {
        made += 1
        let slot = Self.slot(key)
        scope.statement += 1
        var call = scope
        call.incarnation = incarnations[slot] ?? 0
        (call.lock, call.wait, call.lockTimeoutMilliseconds) = (lock, wait, timeout)
        statements[slot] = scope.statement
        shards[made] = slot
        var encoder = CallBatchEncoder()
        build(&encoder)
        stage.router.scoped(
            connection: 1000 + id, slot: slot, transaction: id, scope: call, .batch(encoder.message), isWrite: true,
            receiver: self, ticket: made)
        return made
    }

    @discardableResult
    func set(_ key: String, _ value: String) -> UInt64 { run(at: key) { $0.set(key, value) } }

    @discardableResult
    func get(_ key: String) -> UInt64 { run(at: key) { $0.add(.get, key) } }

    @discardableResult
    func add(_ key: String, _ amount: Int64) -> UInt64 { run(at: key) { $0.add(.incrementBy, key, numbers: [amount]) } }

    @discardableResult
    func step(
        _ kind: TransactionStep.Kind, at key: String, participants: [String] = [], statement: UInt32? = nil,
        incarnation: UInt64? = nil, timestamp: Timestamp = .zero
    ) -> UInt64 {
        made += 1
        let slot = Self.slot(key)
        var step = TransactionStep(kind, id: id, timestamp: timestamp, participants: participants.map(Self.slot))
        step.priority = scope.priority
        step.incarnation = incarnation ?? incarnations[slot] ?? 0
        step.statement = statement ?? statements[slot] ?? 0
        stage.router.step(connection: 1000 + id, slot: slot, step, receiver: self, ticket: made)
        return made
    }

    /// Commits at its only shard.
    @discardableResult
    func commit(at key: String) -> UInt64 { step(.commitOne, at: key, participants: [key]) }

    /// The replies of a statement's calls.
    subscript(_ ticket: UInt64) -> [Reply] {
        guard case .reply(.batch(let replies))? = replies[ticket] else { return [] }
        return replies
    }

    /// Why it was refused.
    func error(_ ticket: UInt64) -> ErrorCode? {
        switch replies[ticket] {
        case .reply(.error(let code))?: code
        case .failed(let code)?: code
        case .reply?, nil: nil
        }
    }

    func isCommitted(_ ticket: UInt64) -> Bool { if case .committed? = answers[ticket] { true } else { false } }

    func isPrepared(_ ticket: UInt64) -> Bool { if case .prepared? = answers[ticket] { true } else { false } }

    var isSettled: Bool { replies.count == made }

    func completed(_ ticket: UInt64, _ reply: borrowing ReplyView) {
        replies[ticket] = .reply(Reply(reply))
        if let slot = shards[ticket], reply.position > .zero { incarnations[slot] = reply.position.rawValue }
        if reply.kind == .data { answers[ticket] = StepAnswer(decoding: reply.data) }
    }

    func failed(_ ticket: UInt64, _ error: DatabaseError) { replies[ticket] = .failed(error.code) }
}

/// What happens one after the other on a stage: the next act begins when its condition holds.
final class Play {
    private let stage: Stage
    private let end: Stage.End
    private var acts: [(condition: () -> Bool, body: () -> Void)] = []
    init(_ stage: Stage, end: Stage.End = .drain) { (self.stage, self.end) = (stage, end) }

    @discardableResult
    func when(_ condition: @escaping () -> Bool, _ body: @escaping () -> Void) -> Play {
        acts.append((condition, body))
        return self
    }

    /// Does something when the stage's caller has all its answers.
    static func whenSettled(_ stage: Stage, _ body: @escaping () -> Void) {
        stage.poll {
            guard stage.caller.isSettled else { return false }
            body()
            return true
        }
    }

    /// Begins; the stage is left after the last act.
    func begin() {
        var next = 0
        stage.poll { [self] in
            guard acts[next].condition() else { return false }
            acts[next].body()
            next += 1
            guard next == acts.count else { return false }
            stage.finish(end)
            return true
        }
    }
}
