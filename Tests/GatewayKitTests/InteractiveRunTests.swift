import Base
import Contracts
import DataModel
import Testing
import Transactions

@testable import GatewayKit

/// Interactive transactions over two shards whose leaders answer what the story wants.
@Suite("Interactive transactions over shards", .serialized)
struct InteractiveRunTests {
    /// What leaders were sent, in words, and what they answer.
    final class Script {
        enum Answer { case usual, refused(ErrorCode), null, step(StepAnswer) }

        private(set) var sent: [String] = []
        private(set) var ids: Set<UInt64> = []
        /// By the words of what is sent; taken once.
        var answers: [String: Answer] = [:]

        func play(_ invocation: InvocationView, _ replies: ReplyBatchEncoder) {
            let shard = invocation.slot < 8192 ? 0 : 1
            #expect(invocation.slot == 0 || invocation.slot == 8192)  // The first of the shard, whatever the key's is.
            switch invocation.operation {
            case .batch:
                guard let scope = invocation.scope else {
                    Issue.record("a batch without its scope")
                    return
                }
                ids.insert(invocation.transaction)
                let words = "statement \(scope.statement) at \(shard) of \(scope.incarnation)"
                batch(words, invocation.id, shard, replies)
            case .step(let step):
                let words = "\(step.kind) \(shard)"
                if step.kind == .sample {
                    sent.append("sample")
                    return replies.integer(invocation.id, 50 + Int64(shard))
                }
                ids.insert(step.id)
                sent.append(step.kind == .abort && step.incarnation == 0 ? "fence \(shard)" : words)
                answer(step.step, words, invocation.id, replies)
            case .call, .record, .home, .unknown: Issue.record("neither a batch nor a step")
            }
        }

        private func batch(_ words: String, _ id: UInt64, _ shard: Int, _ replies: ReplyBatchEncoder) {
            sent.append(words)
            switch answers.removeValue(forKey: words) ?? .usual {
            case .usual, .step:
                let (calls, reply) = (ReplyBatchEncoder(), ReplyBatchEncoder())
                calls.integer(0, Int64(shard))
                reply.batch(id, at: Timestamp(rawValue: 7), calls)
                replies.move(reply, position: LogIndex(rawValue: UInt64(100 + shard)))
            case .refused(let code): replies.error(id, DatabaseError(code, "as the story wants it"))
            case .null: replies.null(id)
            }
        }

        private func answer(_ step: TransactionStep, _ words: String, _ id: UInt64, _ replies: ReplyBatchEncoder) {
            let usual: StepAnswer =
                switch step.kind {
                case .commit, .commitOne: .committed(Timestamp(rawValue: 9))
                case .abort: .aborted
                case .prepare: .prepared(Timestamp(rawValue: 8))
                case .rollbackTo, .keepAlive: .held
                case .forget, .resolve, .fence, .confirm, .sample, .waits: .nothing
                }
            var data = ByteBuffer()
            switch answers.removeValue(forKey: words) ?? .usual {
            case .usual, .null: usual.encode(into: &data)
            case .step(let answer): answer.encode(into: &data)
            case .refused(let code): return replies.error(id, DatabaseError(code, "as the story wants it"))
            }
            replies.data(id, data.readable)
        }
    }

    typealias Story = (InteractiveRun, Script, @escaping () -> Void) -> Void

    /// Tells a story over both shards, until it says that it is over and `isOver`.
    private static func run(
        _ isolation: InteractiveTransaction.Isolation = .readCommitted, script: Script = Script(),
        isOver: @escaping (Script) -> Bool = { _ in true }, _ story: @escaping Story
    ) throws {
        try Cast.run { stage, cast in
            (cast.leads[0], cast.leads[1]) = (true, true)
            cast.onTransaction = { _, invocation, replies in script.play(invocation, replies) }
            stage.router.adopt(try cast.map(leaders: [(1, 0), (2, 0)]))
            var options = InteractiveTransaction.Options()
            options.isolation = isolation
            let run = stage.router.begin(options, connection: 1, priority: 77, random: { 40 })
            func finishWhenOver() {
                guard !isOver(script) else { return stage.finish() }
                stage.router.after(milliseconds: 1) { finishWhenOver() }
            }
            story(run, script, finishWhenOver)
        }
    }

    /// A statement at these shards; `then` gets what came of it.
    private static func execute(
        _ run: InteractiveRun, _ shards: [Int], isWrite: Bool = true, _ then: @escaping (InteractiveRun.Outcome) -> Void
    ) {
        let shares = shards.map { InteractiveRun.Share(slot: UInt32($0 * 8192 + 5), body: [], isWrite: isWrite) }
        do {
            var isInside = true
            try run.execute(shares) { outcome in
                #expect(!isInside)
                then(outcome)
            }
            isInside = false
        } catch {
            then(.failed(error))
        }
    }

    private static func numbers(_ outcome: InteractiveRun.Outcome) -> [Int64]? {
        TransactionRunTests.numbers(outcome)
    }

    private static func commit(_ run: InteractiveRun, _ then: @escaping (InteractiveRun.Ending) -> Void) {
        do { try run.commit(completion: then) } catch { Issue.record("\(error)") }
    }

    @Test("one shard: its statements, then one step")
    func oneShard() throws {
        let script = Script()
        try Self.run(script: script) { run, _, over in
            Self.execute(run, [1]) { outcome in
                #expect(Self.numbers(outcome) == [1])
                Self.execute(run, [1]) { _ in
                    Self.commit(run) { ending in
                        #expect(ending == .committed(Timestamp(rawValue: 9)))
                        over()
                    }
                }
            }
        }
        #expect(script.sent == ["statement 1 at 1 of 0", "statement 2 at 1 of 101", "commitOne 1"])
        #expect(script.ids == [40])
    }

    @Test("several shards: prepared, then committed like every transaction; the snapshot is taken once")
    func severalShards() throws {
        let script = Script()
        try Self.run(.snapshot, script: script, isOver: { $0.sent.contains("forget 1") }) { run, _, over in
            Self.execute(run, [1, 0]) { outcome in
                #expect(Self.numbers(outcome) == [1, 0])
                #expect(run.transaction.readTimestamp == Timestamp(rawValue: 51))
                Self.execute(run, [1], isWrite: false) { _ in
                    Self.commit(run) { ending in
                        #expect(ending == .committed(Timestamp(rawValue: 8)))
                        over()
                    }
                }
            }
        }
        #expect(script.sent.prefix(2) == ["sample", "sample"])
        #expect(script.sent.filter { $0.hasPrefix("prepare") }.sorted() == ["prepare 0", "prepare 1"])
        #expect(script.sent.contains("commit 0") && script.sent.contains("commit 1"))
        #expect(!script.sent.contains { $0.hasPrefix("abort") })
    }

    @Test("a shard that cannot prepare: the client hears why, when nothing will be done")
    func refusedPrepare() throws {
        let script = Script()
        script.answers["prepare 1"] = .refused(.serializationFailure)
        try Self.run(script: script, isOver: { $0.sent.contains("abort 1") }) { run, _, over in
            Self.execute(run, [0, 1]) { _ in
                Self.commit(run) { ending in
                    #expect(ending == .rolledBack(DatabaseError(.serializationFailure, "as the story wants it")))
                    over()
                }
            }
        }
        #expect(script.sent.contains("fence 0") && !script.sent.contains { $0.hasPrefix("commit") })
    }

    @Test("half a statement is undone before the client hears of it; a condition that fails is no error")
    func undone() throws {
        let script = Script()
        script.answers["statement 2 at 1 of 0"] = .refused(.lockTimeout)
        script.answers["statement 3 at 1 of 0"] = .null
        try Self.run(script: script) { run, _, over in
            Self.execute(run, [0]) { _ in
                Self.execute(run, [0, 1]) { outcome in
                    #expect(outcome == .failed(DatabaseError(.lockTimeout, "as the story wants it")))
                    #expect(script.sent.last == "rollbackTo 0")
                    Self.execute(run, [0, 1]) { outcome in
                        #expect(outcome == .changed && run.transaction.failure == nil)
                        run.rollBack()
                        over()
                    }
                }
            }
        }
        #expect(script.sent.count { $0 == "rollbackTo 0" } == 2)
    }

    @Test("a conflict ends the transaction; what follows is refused until the end")
    func conflict() throws {
        let script = Script()
        script.answers["statement 2 at 1 of 0"] = .refused(.serializationFailure)
        try Self.run(script: script, isOver: { $0.sent.contains("abort 0") }) { run, _, over in
            Self.execute(run, [0]) { _ in
                Self.execute(run, [1]) { outcome in
                    #expect(outcome == .failed(DatabaseError(.serializationFailure, "as the story wants it")))
                    Self.execute(run, [0]) { outcome in
                        guard case .failed(let error) = outcome else {
                            Issue.record("\(outcome)")
                            return
                        }
                        #expect(error.code == .transactionAborted)
                        Self.commit(run) { ending in
                            guard case .rolledBack(let error?) = ending else {
                                Issue.record("\(ending)")
                                return
                            }
                            #expect(error.code == .serializationFailure)
                            over()
                        }
                    }
                }
            }
        }
    }

    @Test("savepoints; an owner that goes away leaves nothing")
    func savepoints() throws {
        let script = Script()
        try Self.run(script: script, isOver: { $0.sent.contains("abort 0") && $0.sent.contains("abort 1") }) {
            run, _, over in
            Self.execute(run, [0]) { _ in
                #expect(throws: Never.self) { try run.savepoint([65]) }
                Self.execute(run, [1]) { _ in
                    do {
                        try run.rollBack(to: [65]) { error in
                            #expect(error == nil)
                            #expect(script.sent.last == "rollbackTo 1")
                            run.rollBack()
                            over()
                        }
                    } catch {
                        Issue.record("\(error)")
                    }
                }
            }
        }
    }
}
