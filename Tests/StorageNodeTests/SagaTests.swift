import Base
import Contracts
import DataModel
import Storage
import TestKit
import Testing
import Transactions

@testable import StorageNode

/// Sagas at a real node: their steps go over its own socket to its shards.
@Suite("Sagas of a node", .serialized)
struct SagaTests {
    private func tell(
        _ directory: String? = nil, disk: any Disk = SimulatedDisk(seed: 1), store: (any Store)? = MemoryStore(),
        settings: @escaping (inout NodeSettings) -> Void = { _ in }, _ begin: @escaping (Stage) -> Void
    ) throws {
        if let directory {
            return try Stage.run(directory, shards: 2, settings: settings, disk: disk, store: store, begin)
        }
        try Stage.withDirectory { directory in
            try Stage.run(directory, shards: 2, settings: settings, disk: disk, store: store, begin)
        }
    }

    private func when(_ stage: Stage, _ condition: @escaping () -> Bool, _ next: @escaping () -> Void) {
        stage.poll {
            guard condition() else { return false }
            next()
            return true
        }
    }

    private static func action(_ key: String, _ build: (inout CallBatchEncoder) -> Void) -> SagaDefinition.Action {
        var encoder = CallBatchEncoder()
        build(&encoder)
        return .init(slot: Bytes(key.utf8).withUnsafeBytes { Slot.of($0) }, calls: encoder.message.bytes)
    }

    private static func add(_ key: String, _ amount: Int64) -> SagaDefinition.Action {
        action(key) { $0.add(.incrementBy, key, numbers: [amount]) }
    }

    private static func definition(
        _ keys: [String], last: SagaDefinition.Action? = nil
    ) throws(DatabaseError) -> SagaDefinition {
        var steps = keys.map { SagaDefinition.Step(action: add($0, 1), compensation: add($0, -1)) }
        if let last { steps.append(.init(action: last, compensation: nil)) }
        return try SagaDefinition(steps: steps, maximumAttempts: 10)
    }

    private func leader(_ stage: Stage, _ id: String) -> ShardExecutor? {
        let bucket = Int(SagaKey.slot(of: id).bucket(of: Stage.bucketCount).rawValue)
        return stage.node.executors.first { $0.buckets.contains { $0.contains(bucket) } }
    }

    private func saga(_ stage: Stage, _ id: String) -> Saga? { leader(stage, id)?.sagas.residents[id]?.saga }

    private func values(_ stage: Stage, _ keys: [String], _ next: @escaping ([Outcome?]) -> Void) {
        let reads = keys.map { stage.caller.get($0) }
        when(stage, { stage.caller.isSettled }) { next(reads.map { stage.caller[$0] }) }
    }

    private static func all(_ text: String, _ count: Int) -> [Outcome?] {
        Array(repeating: .reply(.text(text)), count: count)
    }

    private static let keys = (0..<8).map { "key \($0)" }

    @Test("all steps are done, at whatever shards; the same start is the same saga, another one is refused")
    func completes() throws {
        try tell { [self] stage in
            var answers: [Result<Saga, DatabaseError>] = []
            do throws(DatabaseError) {
                let definition = try Self.definition(Self.keys), other = try Self.definition(["other"])
                let leader = leader(stage, "a")
                for wanted in [definition, definition, other] {
                    leader?.startSaga("a", wanted, session: 5) { answers.append($0) }
                }
            } catch {
                Issue.record(error)
            }
            when(stage, { answers.count == 3 && saga(stage, "a")?.isOver ?? false }) { [self] in
                #expect(saga(stage, "a")?.status == .completed && saga(stage, "a")?.stepsDone == 8)
                #expect(answers.count { (try? $0.get().session) == 5 } == 2)
                values(stage, Self.keys) {
                    #expect($0 == Self.all("1", 8))
                    stage.finish()
                }
            }
        }
    }

    @Test("a step that cannot be done undoes those before it, and itself leaves nothing")
    func compensates() throws {
        try tell { [self] stage in
            // The second call fails; the first is not done either.
            let wrong = Self.action("key 0") {
                $0.add(.incrementBy, "key 0", numbers: [100])
                $0.add(.hashGet, "key 0", [[1]])
            }
            do throws(DatabaseError) {
                leader(stage, "a")?.startSaga("a", try Self.definition(Self.keys, last: wrong), session: 5) { _ in }
            } catch {
                Issue.record(error)
            }
            when(stage, { [self] in saga(stage, "a")?.isOver ?? false }) { [self] in
                #expect(saga(stage, "a")?.status == .compensated)
                #expect(saga(stage, "a")?.reason.contains("wrongType") ?? false)
                values(stage, Self.keys) {
                    #expect($0 == Self.all("0", 8))
                    stage.finish()
                }
            }
        }
    }

    @Test("the process is killed in the middle, and again: each step is done once", arguments: [1, 3, 6])
    func killed(_ position: Int) throws {
        try Stage.withDirectory { directory in
            for (number, kill) in [position, position + 1, nil].enumerated() {
                try tell(directory, disk: PosixDisk(), store: nil) { [self] stage in
                    if number == 0 {
                        do throws(DatabaseError) {
                            leader(stage, "a")?.startSaga("a", try Self.definition(Self.keys), session: 5) { _ in }
                        } catch {
                            Issue.record(error)
                        }
                    }
                    when(
                        stage,
                        { [self] in
                            guard let saga = saga(stage, "a") else { return false }
                            return saga.isOver || kill.map { saga.position >= $0 } ?? false
                        }
                    ) { [self] in
                        guard kill == nil else { return stage.finish(.kill) }
                        #expect(saga(stage, "a")?.status == .completed)
                        values(stage, Self.keys) {
                            #expect($0 == Self.all("1", 8))
                            stage.finish()
                        }
                    }
                }
            }
        }
    }

    @Test("more sagas than may run wait for their turn; deleted ones are gone, also after a restart")
    func turns() throws {
        try Stage.withDirectory { directory in
            let ids = (0..<12).map { "{t}\($0)" }
            try tell(directory, disk: PosixDisk(), store: nil, settings: { $0.sagas.active = 2 }) { [self] stage in
                guard let leader = leader(stage, ids[0]) else { return stage.finish() }
                var most = 0, deleted: [Bool] = []
                do throws(DatabaseError) {
                    for (number, id) in ids.enumerated() {
                        leader.startSaga(id, try Self.definition(["n"]), session: 5 + UInt64(number)) { _ in }
                    }
                } catch {
                    Issue.record(error)
                }
                #expect(leader.sagas.queuedCount == 10)
                when(
                    stage,
                    {
                        most = max(most, leader.sagas.active.count)
                        return leader.sagas.residents.values.allSatisfy(\.saga.isOver)
                    }
                ) { [self] in
                    #expect(most <= 2 && leader.sagas.counts.completed == 12)
                    for id in ids.dropLast() { leader.deleteSaga(id) { deleted.append((try? $0.get()) ?? false) } }
                    leader.deleteSaga("none") { deleted.append((try? $0.get()) ?? true) }
                    when(stage, { deleted.count == 12 }) {
                        #expect(deleted == Array(repeating: true, count: 11) + [false])
                        stage.finish(.kill)
                    }
                }
            }
            try tell(directory, disk: PosixDisk(), store: nil) { [self] stage in
                #expect(leader(stage, ids[0])?.sagas.residents.keys.sorted() == [ids[11]])
                values(stage, ["n"]) {
                    #expect($0 == Self.all("12", 1))
                    stage.finish()
                }
            }
        }
    }

    @Test("a batch with a token is executed once; one that was fenced never is")
    func tokens() throws {
        try tell { [self] stage in
            func ask(_ id: UInt64, _ amount: Int64, isFence: Bool = false, _ more: Bool = false) -> UInt64 {
                stage.caller.batch(at: "n") { batch in
                    if !isFence { batch.add(.incrementBy, "n", numbers: [amount]) }
                    if more { batch.add(.hashGet, "n", [[1]]) }
                    batch.append(BatchToken(session: 77, id: id, isFence: isFence))
                }
            }
            let asked = [
                ask(1, 5), ask(1, 5), ask(1, 6), ask(1, 5, isFence: true), ask(2, 5, isFence: true), ask(2, 5),
                ask(2, 5, isFence: true), ask(3, 7, true), ask(3, 7), ask(3, 7, isFence: true),
            ]
            when(stage, { stage.caller.isSettled }) { [self] in
                let five = Outcome.reply(.batch([.integer(5)])), wrong = Outcome.reply(.error(.invalidArgument))
                #expect(
                    asked.map { stage.caller[$0] } == [
                        five, five, wrong, .reply(.integer(1)), .reply(.integer(0)), wrong, .reply(.integer(0)),
                        .reply(.error(.wrongType)), .reply(.batch([.integer(12)])), .reply(.integer(1)),
                    ])
                values(stage, ["n"]) {
                    #expect($0 == Self.all("12", 1))
                    stage.finish()
                }
            }
        }
    }
}
