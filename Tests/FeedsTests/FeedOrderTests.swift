import Base
import Contracts
import TestKit
import Testing

@testable import Feeds

/// A cluster's commits as the logs of its shards have them: entries with rising timestamps, and parts of transactions
/// that come later than they were prepared.
private struct History {
    struct Entry {
        var timestamp: Timestamp
        var changes: [Change] = []
        /// Parts whose intents this entry writes or ends.
        var prepared: [(Bytes, Timestamp?)] = []
    }

    var logs: [[Entry]]

    init(_ random: inout SplitMix64, shards: Int, steps: Int) {
        logs = Array(repeating: [], count: shards)
        var clock: UInt64 = 10
        var open: [(id: Bytes, shards: [Int], timestamp: Timestamp)] = []
        func key(_ random: inout SplitMix64) -> Bytes { [UInt8(random.next(below: 20))] }
        for step in 0..<steps {
            clock += 1 + random.next(below: 3)
            switch random.next(below: 6) {
            case 0 where shards > 1:
                // A transaction is prepared at two shards, each at its own time; it commits at the later one.
                let first = Int(random.next(below: UInt64(shards))), second = (first + 1) % shards
                let id = Bytes("\(step)".utf8)
                var newest = Timestamp.zero
                for shard in [first, second] {
                    newest = Timestamp(rawValue: clock)
                    clock += 1 + random.next(below: 2)
                    logs[shard].append(Entry(timestamp: Timestamp(rawValue: clock), prepared: [(id, newest)]))
                    clock += 1
                }
                open.append((id, [first, second], newest))
            case 1 where !open.isEmpty:
                let part = Int(random.next(below: UInt64(open.count)))
                let shard = open[part].shards.removeFirst()
                var entry = Entry(timestamp: Timestamp(rawValue: clock), prepared: [(open[part].id, nil)])
                for _ in 0...random.next(below: 3) {
                    entry.changes.append(Self.change(open[part].timestamp, shard, key(&random)))
                }
                logs[shard].append(entry)
                if open[part].shards.isEmpty { open.remove(at: part) }
            case _:
                let shard = Int(random.next(below: UInt64(shards)))
                var entry = Entry(timestamp: Timestamp(rawValue: clock))
                for _ in 0..<random.next(below: 4) {
                    entry.changes.append(Self.change(entry.timestamp, shard, key(&random)))
                }
                logs[shard].append(entry)
            }
        }
        for part in open {
            for shard in part.shards {
                clock += 1
                logs[shard].append(
                    Entry(
                        timestamp: Timestamp(rawValue: clock), changes: [Self.change(part.timestamp, shard, [99])],
                        prepared: [(part.id, nil)]))
            }
        }
        for shard in logs.indices { logs[shard].append(Entry(timestamp: Timestamp(rawValue: clock + 10))) }
        for shard in logs.indices {
            for entry in logs[shard].indices {
                // A key once in a commit, as the collector tells it.
                var seen: Set<Bytes> = []
                logs[shard][entry].changes.removeAll { !seen.insert($0.key).inserted }
            }
        }
    }

    private static func change(_ timestamp: Timestamp, _ shard: Int, _ key: Bytes) -> Change {
        Change(timestamp: timestamp, kind: .put, key: key, shard: ShardID(rawValue: UInt32(shard)))
    }

    var all: [Change] { logs.joined().flatMap(\.changes).sorted(by: Change.precedes) }
}

/// The feed of one shard, read from the beginning of its log for a subscriber that has a position.
private struct ShardReader {
    var next = 0
    var watermark = IntentWatermark()
    var backlog = FeedBacklog()
    var cursor: FeedCursor

    mutating func step(_ log: [History.Entry], into sent: inout [Change]) -> Bool {
        guard next < log.count else { return false }
        let entry = log[next]
        next += 1
        for (part, prepared) in entry.prepared { watermark.note(part, prepared: prepared) }
        for change in entry.changes { backlog.append(change) }
        let resolved = watermark.resolved(entry.timestamp)
        for change in backlog.release(upTo: resolved) where cursor.take(change) { sent.append(change) }
        cursor.resolve(resolved)
        return true
    }
}

@Suite("Order of feeds")
struct FeedOrderTests {
    @Test("a shard's feed is in order, and goes on anywhere without a change missed or doubled")
    func shards() {
        var random = SplitMix64(seed: freshSeed("feed of a shard"))
        for _ in 0..<200 {
            let history = History(&random, shards: 2, steps: 60)
            for log in history.logs {
                let expected = log.flatMap(\.changes).sorted(by: Change.precedes)
                var sent: [Change] = [], position = FeedPosition(resolved: Timestamp(rawValue: 1))
                var isOver = false
                while !isOver {
                    var reader = ShardReader(cursor: FeedCursor(position))
                    var steps = random.next(below: UInt64(log.count)) + 2
                    while steps > 0, !isOver {
                        var batch: [Change] = []
                        isOver = !reader.step(log, into: &batch)
                        steps -= 1
                        // The subscriber may lose a batch half way: what it has is what its cursor says.
                        var cursor = FeedCursor(position)
                        if random.oneIn(8), let lost = batch.indices.last {
                            for change in batch[..<lost] {
                                let isNew = cursor.take(change)
                                #expect(isNew)
                            }
                            sent += batch[..<lost]
                            position = cursor.position
                            isOver = false
                            break
                        }
                        sent += batch
                        position = reader.cursor.position
                    }
                }
                #expect(sent == expected)
            }
        }
    }

    @Test("the merged feed has every commit once, transactions in one place, whoever breaks off")
    func merged() {
        var random = SplitMix64(seed: freshSeed("merged feed"))
        for _ in 0..<200 {
            let history = History(&random, shards: 3, steps: 80)
            let shards = history.logs.indices.map { ShardID(rawValue: UInt32($0)) }
            var sent: [Change] = [], position = FeedPosition(resolved: Timestamp(rawValue: 1))
            var isOver = false
            while !isOver {
                var merge = FeedMerge(shards, from: position), cursor = FeedCursor(position)
                func reader(_ shard: Int) -> ShardReader {
                    ShardReader(cursor: FeedCursor(merge.position(of: shards[shard]) ?? position))
                }
                var readers = shards.indices.map(reader)
                var steps = random.next(below: 600) + 1
                while steps > 0 {
                    steps -= 1
                    let shard = Int(random.next(below: 3))
                    var batch: [Change] = []
                    if random.oneIn(30) {
                        // Another leader tells it anew, and has got about as far in the log.
                        let reached = readers[shard].next
                        readers[shard] = reader(shard)
                        while readers[shard].next + 3 < reached {
                            _ = readers[shard].step(history.logs[shard], into: &batch)
                        }
                    }
                    _ = readers[shard].step(history.logs[shard], into: &batch)
                    for change in batch { merge.append(change, from: shards[shard]) }
                    merge.advance(shards[shard], to: readers[shard].cursor.position)
                    while let change = merge.next() { if cursor.take(change) { sent.append(change) } }
                    cursor.resolve(merge.resolved)
                    position = cursor.position
                }
                isOver =
                    sent.count == history.all.count
                    && readers.indices.allSatisfy {
                        readers[$0].next == history.logs[$0].count
                    }
            }
            #expect(sent == history.all)
        }
    }
}

@Suite("Messages of feeds")
struct ChangeMessageTests {
    static let change = Change(
        timestamp: Timestamp(rawValue: 77), kind: .put, database: 2, key: Bytes("key".utf8),
        content: .init(
            type: .hash, created: Timestamp(rawValue: 5), expiresAt: 9, size: 3, value: [1, 2],
            pieces: [.init(offset: 65536, data: [7])],
            fields: [.init(name: [1], value: []), .init(name: [2], value: nil)]),
        old: .init(
            type: .string, created: Timestamp(rawValue: 4), expiresAt: 8, size: 2, value: [3],
            pieces: [.init(offset: 0, data: [1])], fields: [.init(name: [9], value: [9])], isPartial: true),
        shard: ShardID(rawValue: 6))

    private func encoded() -> Bytes {
        var buffer = ByteBuffer()
        ChangeBatch.append(Self.change, to: &buffer)
        ChangeBatch.append(Change(timestamp: Timestamp(rawValue: 78), kind: .flush, isEveryDatabase: true), to: &buffer)
        ChangeBatch.finish(FeedPosition(resolved: Timestamp(rawValue: 76), skip: 2), &buffer)
        return buffer.readable.bytes
    }

    @Test("a batch is read as it was written")
    func batches() throws {
        var changes: [Change] = []
        let bytes = encoded()
        let position = try bytes.withView { (view: ByteView) throws(DatabaseError) in
            try ChangeBatch.decode(view) { changes.append($0) }
        }
        #expect(position == FeedPosition(resolved: Timestamp(rawValue: 76), skip: 2))
        #expect(changes.count == 2 && changes[0] == Self.change && changes[1].isEveryDatabase)
    }

    @Test("damaged batches and requests are refused or read, and are no trap")
    func damage() throws {
        var random = SplitMix64(seed: freshSeed("damaged batches"))
        let bytes = encoded()
        let request = SubscribeRequest(
            position: FeedPosition(resolved: Timestamp(rawValue: 5), skip: 1), databases: [1],
            prefixes: [[1], [2, 3]],
            patterns: [[42]], types: ["hash"], wantsOldValues: true, shard: 0
        ).encode()
        #expect(
            try request.withView { (view: ByteView) throws(DatabaseError) in try SubscribeRequest(decoding: view) }
                .encode() == request)
        for damaged in Damage.truncations(of: bytes) + Damage.corruptions(of: bytes, count: 5000, using: &random) {
            _ = damaged.withUnsafeBytes { view in try? ChangeBatch.decode(view) { _ in } }
        }
        for damaged in Damage.truncations(of: request) + Damage.corruptions(of: request, count: 5000, using: &random) {
            _ = damaged.withUnsafeBytes { view in try? FeedFilter(try SubscribeRequest(decoding: view)) }
        }
    }
}
