import Actors
import Base
import Contracts
import DataModel
import Net
import Placement
import Storage
import TestKit
import Testing

@testable import Replication
@testable import StorageNode

/// A node with one of three replicas of a shard, whose peers are silent: it follows nobody. Entries and closed
/// timestamps come from the test, as from a leader.
private final class Follower {
    static let bucketCount = 64
    let clock = ManualClock()
    let node: Node
    /// What a leader would evaluate with.
    private let leader: ActorRuntime
    fileprivate let replies = ReplyBatchEncoder(), scratch = ReplyBatchEncoder()
    private var stamp: UInt64 = 1

    init() throws {
        var settings = NodeSettings(directory: "/follower", durability: .always, actorMemory: 8 << 20)
        settings.log.segmentBytes = 1 << 20
        let loop = try EventLoop()
        node = try Node(
            settings: settings, loop: loop, systemClock: clock, logger: .silent, disk: SimulatedDisk(seed: 1),
            store: MemoryStore(), fatal: { fatalError("\($0): \($1)") })
        let ids = (1...3).map { NodeID(rawValue: $0) }
        let map = try ShardMap(
            epoch: MapEpoch(rawValue: 1), cluster: 1, bucketCount: Self.bucketCount,
            shards: [.init(id: ShardID(rawValue: 1), buckets: [0..<Self.bucketCount], leader: ids[1], replicas: ids)],
            nodes: ids.map {
                .init(
                    id: $0, uid: NodeUID(high: 0, low: UInt64($0.rawValue)), addresses: ["unix:/nowhere"],
                    fencingToken: 1, state: .up)
            })
        node.adopt(map, as: ids[0])
        leader = ActorRuntime(
            reader: CommittedRecords(node.executors[0].store), buckets: 0..<Self.bucketCount,
            bucketCount: Self.bucketCount, seed: 1)
    }

    var executor: ShardExecutor { node.executors[0] }

    /// The clock's time in milliseconds.
    var now: UInt64 { clock.wallMilliseconds() }

    func close() {
        node.log.writer.close()
        node.store.close()
        node.workers.close()
    }

    private func view<Answer>(
        _ method: Method, _ key: String, _ arguments: [Bytes], _ numbers: [Int64], _ body: (ActorCallView) -> Answer
    ) -> Answer {
        Bytes(key.utf8).withUnsafeBytes { key in
            (arguments.first ?? []).withUnsafeBytes { argument in
                [ByteView(argument)].withUnsafeBufferPointer { views in
                    numbers.withUnsafeBufferPointer { numbers in
                        body(
                            ActorCallView(
                                method: method, database: 0, key: key, flags: 0, numbers: NumberList(numbers),
                                arguments: ViewList(.init(rebasing: views.prefix(arguments.count)))))
                    }
                }
            }
        }
    }

    /// A write of the leader's, committed and applied here.
    func apply(_ method: Method, _ key: String, _ arguments: [Bytes] = [], _ numbers: [Int64] = []) throws {
        let store = executor.store, effects = EffectBuffer()
        let index = LogIndex(rawValue: store.appliedIndex.rawValue + 1)
        stamp += 1
        view(method, key, arguments, numbers) { call in
            _ = leader.evaluate(
                call, id: 1, now: now, writeTimestamp: Timestamp(rawValue: stamp), entryIndex: index, replies: replies)
        }
        leader.finishEntry(effects)
        try store.apply(effects.payload, index: index)
        leader.didCommit(index)
        replies.reset()
    }

    /// What a read below strong is answered, and the position that comes with it.
    func read(
        _ level: ReadTerms.Level, _ method: Method = .get, _ key: String = "k", bookmark: Timestamp = .zero,
        _ demand: (inout ReadTerms) -> Void = { _ in }
    ) throws -> (reply: Reply, position: UInt64) {
        var terms = ReadTerms(level)
        demand(&terms)
        let isAnswered = view(method, key, [], []) { call in
            var invocation = InvocationView()
            (invocation.id, invocation.operation) = (7, .call(call))
            return executor.read(invocation, terms, bookmark: bookmark, scratch: scratch, ready: replies)
        }
        #expect(isAnswered && scratch.isEmpty)
        var buffer = ByteBuffer(), position: UInt64 = 0, decoder = ReplyBatchDecoder()
        replies.write(bookmark: .zero, mapEpoch: MapEpoch(rawValue: 0), into: &buffer)
        replies.reset()
        try decoder.decode(buffer.readable) { position = $0.position.rawValue }
        return (try #require(try Reply.decode(buffer.readable)[7]), position)
    }

    func hear(index: UInt64, at milliseconds: UInt64) {
        node.hear(
            ClosedTimestamp(
                shard: ShardID(rawValue: 1), index: LogIndex(rawValue: index), milliseconds: milliseconds))
    }
}

@Suite("Reads below strong consistency", .serialized)
struct CommittedReadsTests {
    private func with(_ test: (Follower) throws -> Void) throws {
        let follower = try Follower()
        defer { follower.close() }
        try test(follower)
    }

    @Test("any: a replica shows what it has applied, entry by entry, and nothing before it has anything")
    func any() throws {
        try with { follower in
            #expect(try follower.read(.any).reply == .error(.tooStale))
            for round in 1...3 {
                try follower.apply(.set, "k", [Bytes("v\(round)".utf8)])
                for _ in 0..<2 {
                    let seen = try follower.read(.any)
                    #expect(seen.reply == .text("v\(round)") && seen.position == UInt64(round))
                }
            }
            try follower.apply(.delete, "k")
            #expect(try follower.read(.any).reply == .null)
            #expect(try follower.read(.any, .databaseSize, "").reply == .integer(0))
            #expect(follower.executor.activations == 0, "the leader's runtime is not used")
        }
    }

    @Test("versions of keys and batches are the leader's alone")
    func leadersAlone() throws {
        try with { follower in
            try follower.apply(.set, "k", [[0x31]])
            #expect(try follower.read(.any, .version).reply == .error(.featureNotSupported))
            var batch = CallBatchEncoder(), encoder = InvocationBatchEncoder(session: 1)
            Bytes("k".utf8).withUnsafeBytes { key in
                batch.append(
                    method: .get, database: 0, key: key, flags: 0, numbers: .init(start: nil, count: 0),
                    arguments: .init(start: nil, count: 0))
            }
            encoder.append(id: 7, connection: 1, slot: 0, batch: batch.message)
            let frame = encoder.message.bytes
            try frame.withUnsafeBytes { frame in
                try InvocationBatchDecoder().decode(frame) { invocation in
                    let isAnswered = follower.executor.read(
                        invocation, ReadTerms(.any), bookmark: .zero, scratch: follower.scratch,
                        ready: follower.replies)
                    #expect(isAnswered)
                }
            }
            #expect(try Reply.decode(follower.replies) == [7: .error(.featureNotSupported)])
            follower.replies.reset()
        }
    }

    @Test("bounded: refused until a leader has said what is closed, then within the bound less what clocks may differ")
    func bounded() throws {
        try with { follower in
            try follower.apply(.set, "k", [[0x31]])
            func reply(_ bound: UInt64 = 1000) throws -> Reply {
                try follower.read(.boundedStale) { $0.stalenessMilliseconds = bound }.reply
            }
            #expect(try reply() == .error(.tooStale))
            let start = follower.now
            follower.hear(index: 2, at: start)
            #expect(try reply() == .error(.tooStale), "the entry that counts is not applied yet")
            try follower.apply(.set, "k", [[0x32]])
            #expect(try reply() == .text("2"))
            follower.clock.advance(milliseconds: 750)
            #expect(try reply() == .text("2"))
            follower.clock.advance(milliseconds: 1)
            #expect(try reply() == .error(.tooStale))
            #expect(try reply(10_000) == .text("2"))
            follower.hear(index: 2, at: follower.now)
            #expect(try reply(250) == .text("2"))
            #expect(try reply(249) == .error(.tooStale))
        }
    }

    @Test("a note from a clock that is too far ahead proves nothing; a late or older one takes nothing back")
    func notes() throws {
        try with { follower in
            try follower.apply(.set, "k", [[0x31]])
            follower.hear(index: 1, at: follower.now + 251)
            #expect(try follower.read(.boundedStale).reply == .error(.tooStale))
            follower.hear(index: 1, at: follower.now)
            #expect(try follower.read(.boundedStale).reply == .text("1"))
            follower.hear(index: 9, at: follower.now - 1)
            #expect(try follower.read(.boundedStale).reply == .text("1"))
        }
    }

    @Test("nothing older than the session's bookmark or position is shown")
    func bookmarks() throws {
        try with { follower in
            try follower.apply(.set, "k", [[0x31]])
            let start = follower.now
            follower.hear(index: 1, at: start)
            let near = Timestamp(milliseconds: start - 250), before = Timestamp(milliseconds: start - 251)
            #expect(try follower.read(.boundedStale, bookmark: near).reply == .error(.tooStale))
            #expect(try follower.read(.boundedStale, bookmark: before).reply == .text("1"))
            // The call's own bookmark counts in place of the batch's.
            #expect(try follower.read(.boundedStale, bookmark: near) { $0.bookmark = before }.reply == .text("1"))
            #expect(try follower.read(.boundedStale) { $0.bookmark = near }.reply == .error(.tooStale))
            #expect(try follower.read(.any, bookmark: near).reply == .text("1"))
            #expect(
                try follower.read(.boundedStale) { $0.position = LogIndex(rawValue: 2) }.reply == .error(.tooStale))
            try follower.apply(.set, "k", [[0x32]])
            let seen = try follower.read(.boundedStale) { $0.position = LogIndex(rawValue: 2) }
            #expect(seen.reply == .text("2") && seen.position == 2)
        }
    }

    @Test("a key whose time has come is absent, by this node's clock, and nothing is removed")
    func expiry() throws {
        try with { follower in
            try follower.apply(.set, "k", [[0x31]])
            try follower.apply(.expire, "k", [], [Int64(follower.now) + 500])
            #expect(try follower.read(.any).reply == .text("1"))
            follower.clock.advance(milliseconds: 500)
            #expect(try follower.read(.any).reply == .null)
            #expect(try follower.read(.any, .databaseSize, "").reply == .integer(1), "counted until it is collected")
        }
    }

    @Test("a write is never evaluated")
    func writes() throws {
        try with { follower in
            try follower.apply(.set, "k", [[0x31]])
            #expect(try follower.read(.any, .delete).reply == .error(.featureNotSupported))
            #expect(try follower.read(.any).reply == .text("1"))
        }
    }

    @Test("a node whose clock is not to be trusted proves nothing")
    func fenced() throws {
        try with { follower in
            try follower.apply(.set, "k", [[0x31]])
            follower.hear(index: 1, at: follower.now)
            follower.executor.fence(true)
            #expect(try follower.read(.boundedStale).reply == .error(.tooStale))
            #expect(try follower.read(.any).reply == .text("1"))
        }
    }

    @Test("closed timestamps: many that wait, later times at lower indexes, what was never committed")
    func closedTimestamps() {
        var closed = ClosedTimestamps()
        for step: UInt64 in 1...40 { closed.note(LogIndex(rawValue: step), 100 + step) }
        #expect(closed.time(applied: LogIndex(rawValue: 10)) == 110)
        #expect(closed.time(applied: LogIndex(rawValue: 39)) == 115, "the last of those that are kept is the newest")
        #expect(closed.time(applied: LogIndex(rawValue: 40)) == 140)
        closed.note(LogIndex(rawValue: 90), 150)
        closed.note(LogIndex(rawValue: 50), 160)
        #expect(closed.time(applied: LogIndex(rawValue: 49)) == 140)
        #expect(closed.time(applied: LogIndex(rawValue: 50)) == 160)
        closed.note(LogIndex(rawValue: 1), 159)
        #expect(closed.time(applied: LogIndex(rawValue: 90)) == 160)
    }
}
