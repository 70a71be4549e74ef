import Base
import Contracts
import Testing

@testable import RespGateway

/// A plan over several shards, done by shards in memory: what comes out is what one shard alone would have answered.
@Suite("Division of transactions")
struct PlanDivisionTests {
    static let shardCount = 3

    static func shard(_ slot: UInt32) -> Int { Int(slot) * shardCount / 16384 }

    static var places: ShardPlaces {
        ShardPlaces(
            slots: (0..<shardCount).map { UInt32(($0 * 16384 + shardCount - 1) / shardCount) }, shard: { shard($0) },
            firstSlot: { UInt32($0 * 256) })
    }

    static var oneShard: ShardPlaces { ShardPlaces(slots: [0], shard: { _ in 0 }, firstSlot: { _ in 0 }) }

    static func call(
        _ method: Method, _ target: CallTarget, _ words: [String], flags: UInt32 = 0, numbers: [Int64] = []
    ) -> CallSnapshot {
        let words = words.map { Bytes($0.utf8) }
        let keys = method == .multiSet ? words.indices.filter { $0 % 2 == 0 }.map { words[$0] } : words
        return CallSnapshot(
            method: method, target: target, database: 2, key: words.first ?? [], flags: flags, numbers: numbers,
            arguments: Array(words.dropFirst()), keys: target == .keys ? keys : [])
    }

    /// Strings; what a shard does with a batch.
    final class Shard {
        var values: [Bytes: Bytes] = [:] {
            didSet { changes += 1 }
        }
        private var changes = 0
        private var versions: [Bytes: (value: Bytes?, version: UInt64)] = [:]

        /// Another one for every value that is seen.
        private func version(_ key: Bytes) -> UInt64 {
            if let known = versions[key], known.value == values[key] { return known.version }
            versions[key] = (values[key], UInt64(changes + 1))
            return UInt64(changes + 1)
        }

        /// Nil when a key that must not exist does.
        func perform(_ message: ByteView) -> Bytes? {
            var envelope = InvocationBatchEncoder(session: 0), replies: Bytes?
            envelope.append(id: 0, connection: 1, slot: 0, batch: message)
            try? InvocationBatchDecoder().decode(envelope.message) { invocation in
                guard case .batch(let batch) = invocation.operation else { return }
                var watches = batch.watches
                while let watch = watches.next() {
                    switch watch.condition {
                    case .absent: if values[watch.key.bytes] != nil { return }
                    case .version(let version): if self.version(watch.key.bytes) != version { return }
                    }
                }
                let encoder = ReplyBatchEncoder()
                var calls = batch.calls, id: UInt64 = 0
                while let call = calls.next() {
                    perform(call, id, encoder)
                    id += 1
                }
                var frame = ByteBuffer()
                encoder.write(bookmark: .zero, mapEpoch: MapEpoch(rawValue: 0), into: &frame)
                replies = frame.readable.bytes
            }
            return replies
        }

        private func perform(_ call: ActorCallView, _ id: UInt64, _ encoder: ReplyBatchEncoder) {
            let words = [call.key.bytes] + (0..<call.arguments.count).map { call.arguments[$0].bytes }
            switch call.method {
            case .get: get(words[0], id, encoder)
            case .set, .multiSet:
                for at in stride(from: 0, to: words.count, by: 2) { values[words[at]] = words[at + 1] }
                encoder.ok(id)
            case .delete:
                encoder.integer(id, Int64(words.count { values.removeValue(forKey: $0) != nil }))
            case .exists, .touch: encoder.integer(id, Int64(words.count { values[$0] != nil }))
            case .multiGet:
                encoder.beginList(id)
                for word in words {
                    if let value = values[word] { value.withView { encoder.listData($0) } } else { encoder.listNull() }
                }
                encoder.endList()
            case .rename, .copy: move(call.method, words, call.flags & 1 != 0, id, encoder)
            case .dump: dump(words[0], id, encoder)
            case .install:
                values[words[0]] = words[1]
                encoder.ok(id)
            case .databaseSize: encoder.integer(id, Int64(values.count))
            case .keys:
                encoder.beginList(id)
                for key in values.keys.sorted(by: { $0.lexicographicallyPrecedes($1) }) {
                    key.withView { encoder.listData($0) }
                }
                encoder.endList()
            case .flushAll:
                values = [:]
                encoder.ok(id)
            default: encoder.error(id, DatabaseError(.wrongType, "not in the model"))
            }
        }

        private func move(
            _ method: Method, _ words: [Bytes], _ flag: Bool, _ id: UInt64, _ encoder: ReplyBatchEncoder
        ) {
            let isRename = method == .rename, mayReplace = isRename != flag
            guard let value = values[words[0]] else {
                guard isRename else { return encoder.integer(id, 0) }
                return encoder.error(id, DatabaseError(.noSuchKey, "no such key"))
            }
            guard mayReplace || values[words[1]] == nil else { return encoder.integer(id, 0) }
            if isRename { values[words[0]] = nil }
            values[words[1]] = value
            if isRename, !flag { encoder.ok(id) } else { encoder.integer(id, 1) }
        }

        private func dump(_ key: Bytes, _ id: UInt64, _ encoder: ReplyBatchEncoder) {
            encoder.beginList(id)
            encoder.listInteger(Int64(bitPattern: version(key)))
            if let value = values[key] {
                for number in [1, 0, 0] as [Int64] { encoder.listInteger(number) }
                value.withView { encoder.listData($0) }
            }
            encoder.endList()
        }

        private func get(_ key: Bytes, _ id: UInt64, _ encoder: ReplyBatchEncoder) {
            if let value = values[key] { value.withView { encoder.data(id, $0) } } else { encoder.null(id) }
        }
    }

    /// What a plan's calls are answered with, as RESP; nil when a condition did not hold.
    static func run(_ plan: TransactionPlan, _ places: ShardPlaces, _ shards: [Shard]) throws -> String? {
        try replies(plan, places, shards).map { try text($0) }
    }

    /// Encoded. `meddle` is called between reading and writing, if both are done.
    static func replies(
        _ plan: TransactionPlan, _ places: ShardPlaces, _ shards: [Shard], meddle: () -> Void = {}
    ) throws -> Bytes? {
        guard let gathering = try PlanGathering(plan, places) else { return try divided(plan, places, shards) }
        guard let read = try divided(gathering.reading, places, shards) else { return nil }
        meddle()
        let resolution = try #require(read.withView { gathering.resolve($0) })
        guard let done = try divided(resolution.plan, places, shards) else { return nil }
        let answers = ReplyBatchEncoder()
        #expect(done.withView { resolution.answer($0, into: answers) })
        var frame = ByteBuffer()
        answers.write(bookmark: .zero, mapEpoch: MapEpoch(rawValue: 0), into: &frame)
        return frame.readable.bytes
    }

    private static func divided(
        _ plan: TransactionPlan, _ places: ShardPlaces, _ shards: [Shard]
    ) throws -> Bytes? {
        let division = try PlanDivision(plan, places)
        var batches: [Bytes] = []
        for share in division.shares {
            var encoder = CallBatchEncoder()
            division.encode(share, into: &encoder)
            guard let replies = shards[share.shard].perform(encoder.message) else { return nil }
            batches.append(replies)
        }
        let merged = ReplyBatchEncoder()
        #expect(division.merge(batches, random: 0, into: merged))
        var frame = ByteBuffer()
        merged.write(bookmark: .zero, mapEpoch: MapEpoch(rawValue: 0), into: &frame)
        return frame.readable.bytes
    }

    private static func text(_ replies: Bytes) throws -> String {
        var output = ByteBuffer(), decoder = ReplyBatchDecoder(), next: UInt64 = 0
        try replies.withView { (view: ByteView) throws(DatabaseError) in
            try decoder.decode(view) { reply in
                #expect(reply.id == next)
                next += 1
                output.append(reply, .plain, .two)
            }
        }
        return String(decoding: output.readable, as: UTF8.self)
    }

    static func randomCall(_ random: inout SplitMix64) -> CallSnapshot {
        let key = { (random: inout SplitMix64) in "k\(random.next() % 12)" }
        let keys = (0..<random.next() % 5 + 1).map { _ in key(&random) }
        let pairs = keys.flatMap { [$0, "v\(random.next() % 100)"] }
        switch random.next() % 10 {
        case 0: return call(.set, .key, [keys[0], "x\(random.next() % 100)"])
        case 1: return call(.get, .key, [keys[0]])
        case 2: return call(.multiGet, .keys, keys)
        case 3: return call(.multiSet, .keys, pairs)
        case 4: return call(.delete, .keys, keys)
        case 5: return call(.exists, .keys, keys)
        case 6: return call(.touch, .keys, keys)
        case 7, 8:
            let pair = [keys[0], "k\(random.next() % 12)x"], method = random.next() % 2 == 0 ? Method.rename : .copy
            return call(method, .keys, pair, flags: UInt32(random.next() % 2), numbers: [-1])
        default: return call(.databaseSize, .everyShard, [])
        }
    }

    @Test("several shards answer as one would", arguments: 0..<100 as Range<UInt64>)
    func model(_ seed: UInt64) throws {
        var random = SplitMix64(seed: seed)
        let many = (0..<Self.shardCount).map { _ in Shard() }, one = [Shard()]
        for _ in 0..<20 {
            let calls = (0..<random.next() % 8 + 1).map { _ in Self.randomCall(&random) }
            let plan = TransactionPlan(calls: calls)
            do throws(DatabaseError) { _ = try PlanGathering(plan, Self.places) } catch { continue }
            let (ours, expected) = try (Self.run(plan, Self.places, many), Self.run(plan, Self.oneShard, one))
            #expect(ours == expected, "seed \(seed): \(calls)")
        }
        let found = many.flatMap { Array($0.values) }.sorted { $0.key.lexicographicallyPrecedes($1.key) }
        let wanted = one[0].values.sorted { $0.key.lexicographicallyPrecedes($1.key) }
        #expect(found.map(\.key) == wanted.map(\.key) && found.map(\.value) == wanted.map(\.value))
    }

    @Test("KEYS and FLUSHALL of all shards")
    func wholeDatabases() throws {
        let shards = (0..<Self.shardCount).map { _ in Shard() }
        let plan = TransactionPlan(calls: [
            Self.call(.multiSet, .keys, ["a", "1", "b", "2", "c", "3"]), Self.call(.keys, .everyShard, []),
            Self.call(.flushAll, .everyShard, []), Self.call(.databaseSize, .everyShard, []),
        ])
        let text = try #require(try Self.run(plan, Self.places, shards))
        #expect(text.hasPrefix("+OK\r\n*3\r\n$1\r\n") && text.hasSuffix("+OK\r\n:0\r\n"))
    }

    @Test("MSETNX over several shards is done where none of the keys exists, and alone only")
    func absent() throws {
        let shards = (0..<Self.shardCount).map { _ in Shard() }
        let call = Self.call(.multiSet, .keys, ["a", "1", "b", "2", "c", "3"], flags: 1)
        let plan = TransactionPlan(calls: [call])
        #expect(try PlanDivision(plan, Self.places).demandsAbsence)
        #expect(try Self.run(plan, Self.places, shards) == ":1\r\n")
        #expect(try Self.run(plan, Self.places, shards) == nil)
        #expect(throws: DatabaseError.self) {
            try PlanDivision(TransactionPlan(calls: [call, call]), Self.places)
        }
    }

    @Test("what cannot be divided is refused, and what is on one shard is left as it is")
    func whole() throws {
        let far = Self.call(.rename, .keys, ["a", "b"]), near = Self.call(.rename, .keys, ["{t}a", "{t}b"])
        #expect(throws: DatabaseError.self) { try PlanDivision(TransactionPlan(calls: [far]), Self.places) }
        let watch = TransactionPlan.Watch(database: 0, key: Bytes("{t}c".utf8), version: 7)
        let division = try PlanDivision(TransactionPlan(watches: [watch], calls: [near, near]), Self.places)
        #expect(division.shares.count == 1 && division.shares[0].pieces.map(\.keys) == [nil, nil])
        #expect(division.shares[0].watches == [0] && !division.isReadOnly && !division.demandsAbsence)
        let both = TransactionPlan(watches: [watch], calls: [Self.call(.get, .key, ["b"])])
        #expect(try PlanDivision(both, Self.places).shares.count == 2)
    }

    @Test("a value that has changed since it was read is not moved")
    func overtaken() throws {
        let shards = (0..<Self.shardCount).map { _ in Shard() }
        let home = Self.shard(Self.oneShard.slot(of: Bytes("a".utf8), in: 0))
        shards[home].values[Bytes("a".utf8)] = [1]
        let plan = TransactionPlan(calls: [Self.call(.rename, .keys, ["a", "b"])])
        let late = try Self.replies(plan, Self.places, shards) { shards[home].values[Bytes("a".utf8)] = [2] }
        #expect(late == nil && shards[home].values == [Bytes("a".utf8): [2]])
        #expect(try Self.run(plan, Self.places, shards) == "+OK\r\n")
        #expect(shards.flatMap { Array($0.values.values) } == [[2]])
    }

    @Test("a call that depends on what the transaction writes before it is refused")
    func dependent() throws {
        let rename = Self.call(.rename, .keys, ["a", "b"])
        let writes = [
            Self.call(.set, .key, ["a", "1"]), Self.call(.flushAll, .everyShard, []),
            Self.call(.copy, .keys, ["c", "a"], flags: 1, numbers: [2]),
        ]
        for write in writes {
            #expect(throws: DatabaseError.self) {
                try PlanGathering(TransactionPlan(calls: [write, rename]), Self.places)
            }
            #expect(try PlanGathering(TransactionPlan(calls: [rename, write]), Self.places) != nil)
        }
        let reads = [Self.call(.get, .key, ["a"]), Self.call(.set, .key, ["c", "1"]), rename]
        #expect(try PlanGathering(TransactionPlan(calls: reads), Self.places) != nil)
        #expect(try PlanGathering(TransactionPlan(calls: [writes[0]]), Self.places) == nil)
    }

    @Test("replies that do not fit are noticed")
    func damage() throws {
        let plan = TransactionPlan(calls: [Self.call(.get, .key, ["a"])])
        let division = try PlanDivision(plan, Self.places)
        let encoder = ReplyBatchEncoder()
        #expect(!division.merge([], random: 0, into: encoder))
        #expect(!division.merge([[]], random: 0, into: encoder))
        #expect(!division.merge([[0xFF, 0xFF]], random: 0, into: encoder))
        let far = TransactionPlan(calls: [Self.call(.rename, .keys, ["a", "b"])])
        let gathering = try #require(try PlanGathering(far, Self.places))
        #expect(([] as Bytes).withView { gathering.resolve($0) } == nil)
        #expect(([0xFF] as Bytes).withView { gathering.resolve($0) } == nil)
    }
}
