import Base
import Contracts
import DataModel
import Testing
import Transactions

@testable import GatewayKit

/// Transactions over two shards whose leaders answer what the story wants.
@Suite("Transactions over shards", .serialized)
struct TransactionRunTests {
    /// What leaders were sent, and what they answer.
    final class Script {
        enum Part { case done, changed, refused(ErrorCode) }

        /// Attempts by their ids, in the order in which they came, and what each shard was sent.
        private(set) var attempts: [UInt64] = []
        private(set) var sent: [String] = []
        private(set) var priorities: Set<UInt64> = []
        /// Of a shard's parts, in order; when there are no more they are done.
        var parts: [[Part]] = [[], []]
        /// Of a step; nil leaves it unanswered.
        var answer: (TransactionStep.Kind) -> StepAnswer?

        init(_ answer: @escaping (TransactionStep.Kind) -> StepAnswer? = Script.usual) { self.answer = answer }

        static func usual(_ kind: TransactionStep.Kind) -> StepAnswer? {
            switch kind {
            case .commit: .committed(Timestamp(rawValue: 9))
            case .abort: .aborted
            case .confirm: .held
            case .forget, .resolve, .fence, .prepare, .commitOne, .rollbackTo, .keepAlive, .sample, .waits: .nothing
            }
        }

        func play(_ invocation: InvocationView, _ replies: ReplyBatchEncoder) {
            let shard = invocation.slot < 8192 ? 0 : 1
            switch invocation.operation {
            case .batch(let batch):
                guard let part = batch.part else {
                    Issue.record("a batch without its part")
                    return
                }
                if !attempts.contains(part.id) { attempts.append(part.id) }
                priorities.insert(part.priority)
                sent.append("part \(shard) of \(attempts.count)")
                reply(parts[shard].isEmpty ? .done : parts[shard].removeFirst(), shard, invocation.id, replies)
            case .step(let step):
                sent.append("\(step.kind) \(shard)")
                guard let answer = answer(step.kind) else { return }
                var data = ByteBuffer()
                answer.encode(into: &data)
                replies.data(invocation.id, data.readable)
            case .call, .record, .home, .unknown: Issue.record("neither a part nor a step")
            }
        }

        private func reply(_ part: Part, _ shard: Int, _ id: UInt64, _ replies: ReplyBatchEncoder) {
            switch part {
            case .done:
                let calls = ReplyBatchEncoder()
                calls.integer(0, Int64(shard))
                replies.batch(id, at: Timestamp(rawValue: UInt64(7 + shard)), calls)
            case .changed: replies.null(id)
            case .refused(let code): replies.error(id, DatabaseError(code, "as the story wants it"))
            }
        }
    }

    /// The shards' positions in the replies, as they were put in.
    static func numbers(_ outcome: TransactionRun.Outcome) -> [Int64]? {
        guard case .done(let batches) = outcome else { return nil }
        var numbers: [Int64] = []
        for batch in batches {
            var decoder = ReplyBatchDecoder()
            batch.withView { view in try? decoder.decode(view) { numbers.append($0.integer) } }
        }
        return numbers
    }

    /// Runs one transaction over both shards until it has ended, and until `isOver`.
    static func run(
        _ script: Script, isReadOnly: Bool = false, isOver: @escaping (Script) -> Bool = { _ in true },
        _ check: @escaping (TransactionRun.Outcome) -> Void
    ) throws {
        try Cast.run { stage, cast in
            (cast.leads[0], cast.leads[1]) = (true, true)
            cast.onTransaction = { _, invocation, replies in script.play(invocation, replies) }
            stage.router.adopt(try cast.map(leaders: [(1, 0), (2, 0)]))
            var ids: UInt64 = 40, outcomes = 0
            let shares = [0, 8192].map { TransactionRun.Share(slot: $0, body: []) }
            func finishWhenOver() {
                guard !isOver(script) else { return stage.finish() }
                stage.router.after(milliseconds: 1) { finishWhenOver() }
            }
            stage.router.transact(
                shares, connection: 1, isReadOnly: isReadOnly, priority: 77,
                random: {
                    ids += 1
                    return ids
                },
                completion: { outcome in
                    outcomes += 1
                    #expect(outcomes == 1)
                    check(outcome)
                    finishWhenOver()
                })
            #expect(outcomes == 0)
        }
    }

    @Test("all parts are done: the client hears so, then the anchor, then the others")
    func done() throws {
        let script = Script()
        try Self.run(script, isOver: { $0.sent.contains("forget 0") }) { #expect(Self.numbers($0) == [0, 1]) }
        #expect(script.sent.sorted() == ["commit 0", "commit 1", "forget 0", "part 0 of 1", "part 1 of 1"])
        #expect(script.sent.suffix(3) == ["commit 0", "commit 1", "forget 0"])
    }

    @Test("one that gives way is tried again with a new id and its old age")
    func conflict() throws {
        let script = Script()
        script.parts[1] = [.refused(.transactionConflict), .refused(.transactionConflict)]
        try Self.run(script) { #expect(Self.numbers($0) == [0, 1]) }
        #expect(script.attempts.count == 3 && script.priorities == [77])
        #expect(script.sent.count { $0 == "abort 0" } == 2)
    }

    @Test("a condition that does not hold, and a refusal, are told when nothing will be done")
    func refusals() throws {
        let changed = Script()
        changed.parts[1] = [.changed]
        try Self.run(changed) { #expect($0 == .changed) }
        #expect(changed.sent.contains("abort 0") && !changed.sent.contains { $0.hasPrefix("commit") })
        let refused = Script()
        refused.parts[0] = [.refused(.limitExceeded)]
        try Self.run(refused) { outcome in
            #expect(outcome == .failed(DatabaseError(.limitExceeded, "as the story wants it")))
        }
        #expect(refused.attempts.count == 1)
    }

    @Test("a part with an unknown outcome: the transaction is undone, and tried again")
    func unknownPart() throws {
        let script = Script()
        script.parts[0] = [.refused(.outcomeUnknown)]
        try Self.run(script) { #expect(Self.numbers($0) == [0, 1]) }
        #expect(script.attempts.count == 2 && script.sent.contains("abort 0"))
    }

    @Test("somebody else has committed what the driver would undo: done, but the answers are lost")
    func recovered() throws {
        let script = Script { $0 == .abort ? .committed(Timestamp(rawValue: 9)) : Script.usual($0) }
        script.parts[0] = [.refused(.outcomeUnknown)]
        try Self.run(script) { outcome in
            guard case .failed(let error) = outcome else {
                Issue.record("\(outcome)")
                return
            }
            #expect(error.code == .outcomeUnknown)
        }
        #expect(script.attempts.count == 1)
    }

    @Test("what only reads is confirmed by everybody, and tried again when a lock was lost")
    func reads() throws {
        var confirmed = 0
        let script = Script { kind in
            confirmed += kind == .confirm ? 1 : 0
            return confirmed == 2 ? .notHeld : Script.usual(kind)
        }
        try Self.run(script, isReadOnly: true) { #expect(Self.numbers($0) == [0, 1]) }
        #expect(script.attempts.count == 2 && !script.sent.contains { $0.hasPrefix("commit") })
    }
}
