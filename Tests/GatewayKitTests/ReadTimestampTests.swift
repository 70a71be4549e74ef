import Base
import Contracts
import Placement
import TestKit
import Testing

@testable import GatewayKit

/// How a gateway gets a timestamp to read at, and sends what is done at it.
@Suite("Timestamps to read at")
struct ReadTimestampTests {
    /// Two shards, the times of whose leaders are given by slot; `begin` gets the slots of the questions that came.
    private static func run(
        leads: [Bool] = [true, true, false], times: @escaping (_ slot: UInt32) -> Int64?,
        _ begin: @escaping (Stage, _ asked: @escaping () -> [UInt32]) -> Void
    ) throws {
        try Cast.run { stage, cast in
            var asked: [UInt32] = []
            for node in 0..<2 { cast.leads[node] = leads[node] }
            cast.onTransaction = { _, invocation, replies in
                guard case .step(let step) = invocation.operation, step.kind == .sample, step.id == 0 else {
                    Issue.record("not a question for the time")
                    return
                }
                asked.append(invocation.slot)
                if let time = times(invocation.slot) {
                    replies.integer(invocation.id, time)
                } else {
                    replies.error(invocation.id, DatabaseError(.busy, "as the story wants it"))
                }
            }
            stage.router.adopt(try cast.map(leaders: [(1, 0), (2, 0)]))
            begin(stage) { asked }
        }
    }

    @Test("the highest time of all leaders; who asks in the same tick shares the questions, who asks later does not")
    func shared() throws {
        try Self.run(times: { $0 == 0 ? 70 : 90 }) { stage, asked in
            var answers: [Timestamp] = []
            for _ in 0..<3 {
                stage.router.readTimestamp { result in
                    if case .success(let time) = result { answers.append(time) }
                    guard answers.count == 3 else { return }
                    #expect(asked().sorted() == [0, 8192] && Set(answers) == [Timestamp(rawValue: 90)])
                    stage.router.readTimestamp { _ in
                        #expect(asked().sorted() == [0, 0, 8192, 8192])
                        stage.finish()
                    }
                }
            }
            #expect(answers.isEmpty)
        }
    }

    @Test("one that cannot be told is no timestamp at all")
    func failure() throws {
        try Self.run(times: { $0 == 0 ? 70 : nil }) { stage, _ in
            stage.router.readTimestamp { result in
                #expect(result == .failure(DatabaseError(.busy, "as the story wants it")))
                stage.finish()
            }
        }
    }

    @Test("a node that does not lead sends the question on")
    func rerouted() throws {
        try Self.run(leads: [true, false, false], times: { $0 == 0 ? 70 : 90 }) { stage, asked in
            stage.router.readTimestamp { result in
                #expect(result == .success(Timestamp(rawValue: 90)) && asked().sorted() == [0, 8192])
                stage.finish()
            }
        }
    }

    @Test("without a map, and after the end, there is none")
    func none() throws {
        try Stage.run { stage in
            stage.router.readTimestamp { result in
                #expect(result == .failure(NodeRouter.noLeader))
                stage.router.close()
                stage.router.readTimestamp { result in
                    #expect(result == .failure(NodeRouter.noLeader))
                    stage.finish()
                }
            }
        }
    }

    @Test("where shards have one replica, each node is asked once")
    func single() throws {
        try Cast.run { stage, cast in
            let id = NodeID(rawValue: 1)
            let map = try ShardMap(
                epoch: MapEpoch(rawValue: 1), cluster: 1, bucketCount: 64,
                shards: (0..<4).map {
                    .init(
                        id: ShardID(rawValue: UInt32($0 + 1)), buckets: [$0 * 16..<($0 + 1) * 16], leader: id,
                        replicas: [id])
                },
                nodes: [
                    .init(
                        id: id, uid: NodeUID(high: 0, low: 1), addresses: ["\(cast.address(0))"], fencingToken: 1,
                        state: .up)
                ])
            cast.leads[0] = true
            var asked: [UInt32] = []
            cast.onTransaction = { _, invocation, replies in
                asked.append(invocation.slot)
                replies.integer(invocation.id, 5)
            }
            stage.router.adopt(map)
            // The first call finds the way.
            stage.caller.onOutcome = { _, _ in
                stage.router.readTimestamp { result in
                    #expect(result == .success(Timestamp(rawValue: 5)) && asked == [0])
                    stage.finish()
                }
            }
            _ = stage.caller.write()
        }
    }

    @Test("what is done at a time takes its scope along, also where it had to wait for a leader")
    func scoped() throws {
        try Cast.run { stage, cast in
            var scope = InvocationScope(asOf: Timestamp(rawValue: 70))
            (scope.isolation, scope.statement) = (.snapshot, 3)
            var seen = 0
            (cast.leads[0], cast.leads[1]) = (false, true)
            cast.hints[0] = 2
            cast.onTransaction = { node, invocation, replies in
                seen += 1
                #expect(node == 1 && invocation.scope == scope && invocation.transaction == 9)
                replies.ok(invocation.id)
            }
            let waiter = Waiter(count: 2) { stage.finish() }
            var encoder = CallBatchEncoder()
            encoder.append(
                method: .get, database: 0, key: ByteView(start: nil, count: 0), flags: 0,
                numbers: .init(start: nil, count: 0), arguments: .init(start: nil, count: 0))
            stage.router.adopt(try cast.map(leader: 1))
            for ticket: UInt64 in 1...2 {
                stage.router.scoped(
                    connection: 1, slot: 0, transaction: 9, scope: scope, .batch(encoder.message), isWrite: false,
                    receiver: waiter, ticket: ticket)
            }
            #expect(seen == 0)
        }
    }

    /// Waits for a number of answers.
    private final class Waiter: ReplyReceiver {
        private var missing: Int
        private let done: () -> Void

        init(count: Int, _ done: @escaping () -> Void) { (missing, self.done) = (count, done) }

        func completed(_ ticket: UInt64, _ reply: borrowing ReplyView) {
            #expect(reply.kind == .ok)
            missing -= 1
            if missing == 0 { done() }
        }

        func failed(_ ticket: UInt64, _ error: DatabaseError) { Issue.record("\(error)") }
    }
}
