import Base
import Contracts
import DataModel
import TestKit
import Testing

@testable import Feeds

/// Effects as the runtime of a shard makes them.
struct Writer {
    var collector = ChangeCollector(shard: ShardID(rawValue: 3))
    private let bucket = BucketID(rawValue: 5)

    mutating func record(
        _ key: String, _ type: NativeType = .string, flags: UInt8 = 0, created: UInt64 = 7, expires: UInt64 = 0,
        count: UInt64 = 0, value: String = "", database: UInt8 = 0
    ) {
        var name = ByteBuffer(), content = ByteBuffer()
        Bytes(key.utf8).withUnsafeBytes {
            NativeKeyLayout.appendRecord(bucket, database: database, key: $0, into: &name)
        }
        KeyspaceRecord(
            type: type, flags: flags, updated: Timestamp(rawValue: 9), generation: Timestamp(rawValue: created),
            expiresAtMilliseconds: expires, count: count
        ).encode(into: &content)
        content.append(Bytes(value.utf8))
        collector.put(name.readable, content.readable)
    }

    mutating func delete(_ key: String, database: UInt8 = 0) {
        var name = ByteBuffer()
        Bytes(key.utf8).withUnsafeBytes {
            NativeKeyLayout.appendRecord(bucket, database: database, key: $0, into: &name)
        }
        collector.delete(name.readable)
    }

    mutating func field(_ name: String, _ value: String?, created: UInt64 = 7) {
        var key = ByteBuffer()
        Bytes(name.utf8).withUnsafeBytes {
            NativeKeyLayout.appendHashField(bucket, generation: Timestamp(rawValue: created), field: $0, into: &key)
        }
        guard let value else { return collector.delete(key.readable) }
        Bytes(value.utf8).withUnsafeBytes { collector.put(key.readable, $0) }
    }

    mutating func chunk(_ number: UInt32, _ value: String, created: UInt64 = 7) {
        var key = ByteBuffer()
        NativeKeyLayout.appendStringChunk(bucket, generation: Timestamp(rawValue: created), chunk: number, into: &key)
        Bytes(value.utf8).withUnsafeBytes { collector.put(key.readable, $0) }
    }

    mutating func removeExpiry(_ key: String, at time: UInt64) {
        var name = ByteBuffer()
        Bytes(key.utf8).withUnsafeBytes {
            NativeKeyLayout.appendExpiry(bucket, atMilliseconds: time, database: 0, key: $0, into: &name)
        }
        collector.delete(name.readable)
    }

    mutating func flush(_ bucket: UInt16, database: UInt8?) {
        var name = ByteBuffer()
        if let database {
            NativeKeyLayout.appendDatabase(BucketID(rawValue: bucket), database: database, into: &name)
        } else {
            NativeKeyLayout.appendPrefix(BucketID(rawValue: bucket), .redisKeys, into: &name)
        }
        collector.deleteRange(from: name.readable)
    }

    mutating func finish() -> [Change] { collector.finish() }
}

func text(_ bytes: Bytes) -> String {
    String(decoding: bytes, as: UTF8.self)
}

@Suite("Changes of keys from effects")
struct ChangeCollectorTests {
    private let now = Timestamp(milliseconds: 1000)

    private func changes(_ body: (inout Writer) -> Void) -> [Change] {
        var writer = Writer()
        writer.collector.begin(now)
        body(&writer)
        return writer.finish()
    }

    @Test("a removal of what the commit has made itself is left out")
    func undone() {
        var writer = Writer(), asked: [String] = []
        writer.collector.begin(now)
        for key in ["new", "old"] {
            writer.record(key)
            writer.delete(key)
        }
        for key in ["gone", "kept"] {
            writer.delete(key)
            writer.record(key)
        }
        writer.delete("gone")
        writer.collector.leaveOutUndone { change in
            asked.append(text(change.key))
            return change.key == Bytes("old".utf8)
        }
        let found = writer.finish()
        #expect(asked.sorted() == ["new", "old"])
        #expect(found.map { text($0.key) } == ["gone", "kept", "old"])
        #expect(found.map(\.kind) == [.delete, .put, .delete])
        #expect(writer.finish().isEmpty)
    }

    @Test("a string is put with its value, expiry and time of creation; keys come in order")
    func strings() {
        let found = changes {
            $0.record("b", expires: 5000, value: "two")
            $0.record("a", created: 8, value: "one", database: 1)
            $0.record("a", value: "one")
        }
        #expect(found.map { text($0.key) } == ["a", "b", "a"])
        #expect(found.map(\.database) == [0, 0, 1])
        #expect(
            found[1].content.expiresAt == 5000 && text(found[1].content.value) == "two" && found[1].content.size == 3)
        #expect(found[2].content.created == Timestamp(rawValue: 8))
        #expect(found.allSatisfy { $0.kind == .put && $0.timestamp == now && $0.shard == ShardID(rawValue: 3) })
    }

    @Test("a hash has the fields that were written, and nothing of a generation that has gone")
    func hashes() {
        let found = changes {
            $0.field("old", nil, created: 6)
            $0.record("h", .hash, count: 2)
            $0.field("f", "v")
            $0.field("g", nil)
        }
        #expect(found.count == 1 && found[0].content.size == 2 && found[0].content.type == .hash)
        #expect(
            found[0].content.fields == [
                .init(name: Bytes("f".utf8), value: Bytes("v".utf8)), .init(name: Bytes("g".utf8), value: nil),
            ])
    }

    @Test("a long string has the chunks that were written")
    func longStrings() {
        let found = changes {
            $0.record("s", flags: KeyspaceRecord.chunked, count: 200_000)
            $0.chunk(1, "x")
        }
        #expect(found[0].content.pieces == [.init(offset: 65536, data: Bytes("x".utf8))])
        #expect(found[0].content.size == 200_000 && found[0].content.value.isEmpty)
    }

    @Test("a key whose time has come expires; one that is deleted before is deleted")
    func expiry() {
        let found = changes {
            $0.delete("a")
            $0.removeExpiry("a", at: 1000)
            $0.delete("b")
            $0.removeExpiry("b", at: 1001)
            $0.record("c", value: "new")
            $0.removeExpiry("c", at: 900)
        }
        #expect(found.map(\.kind) == [.expire, .delete, .put])
    }

    @Test("a flush is told once, before what is written after it")
    func flushes() {
        let found = changes {
            for bucket in 0..<4 as Range<UInt16> { $0.flush(bucket, database: 2) }
            $0.flush(9, database: nil)
            $0.record("a", value: "x")
        }
        #expect(found.map(\.kind) == [.flush, .flush, .put])
        #expect(found[0].isEveryDatabase && !found[1].isEveryDatabase && found[1].database == 2)
    }

    @Test("a part of a transaction has its own timestamp, also for a key that the entry changes again")
    func parts() {
        let found = changes {
            $0.record("a", value: "zero")
            $0.collector.begin(Timestamp(milliseconds: 990))
            $0.record("a", value: "one")
            $0.delete("b")
            $0.collector.begin(Timestamp(milliseconds: 1000))
            $0.record("a", value: "two")
        }
        #expect(found.map(\.timestamp.milliseconds) == [990, 990, 1000])
        #expect(found.map { text($0.key) } == ["a", "b", "a"])
        #expect(text(found[2].content.value) == "two")
    }

    @Test("damaged effects are no trap")
    func damage() {
        var random = SplitMix64(seed: freshSeed("damaged effects"))
        for _ in 0..<20_000 {
            var collector = ChangeCollector(shard: ShardID(rawValue: 0))
            let key = random.bytes(Int(random.next(below: 30))), value = random.bytes(Int(random.next(below: 50)))
            var prefix = Bytes([0, 5, 0, 0, 0, UInt8(random.next(below: 7)), UInt8(random.next(below: 2))])
            prefix += key
            prefix.withUnsafeBytes { key in
                value.withUnsafeBytes { collector.put(key, $0) }
                collector.delete(key)
                collector.deleteRange(from: key)
            }
            _ = collector.finish()
        }
    }
}

@Suite("Filters of feeds")
struct FeedFilterTests {
    private func change(_ key: String, _ database: UInt8 = 0, _ type: ChangedType? = .string) -> Change {
        Change(
            timestamp: Timestamp(rawValue: 1), kind: .put, database: database, key: Bytes(key.utf8),
            content: .init(type: type))
    }

    @Test("databases, prefixes or patterns, types")
    func filters() throws {
        let all = try FeedFilter(SubscribeRequest())
        #expect(all.admits(change("x", 15)) && all.admitsType(of: change("x")))
        let some = try FeedFilter(
            SubscribeRequest(
                databases: [0, 3], prefixes: [Bytes("user:".utf8)], patterns: [Bytes("*[0-9]".utf8)], types: ["hash"]))
        #expect(some.admits(change("user:a", 3)) && some.admits(change("x1")))
        #expect(!some.admits(change("user:a", 1)) && !some.admits(change("use")))
        #expect(some.admitsType(of: change("x", 0, .hash)) && !some.admitsType(of: change("x")))
        var gone = change("x", 0, nil)
        gone.kind = .delete
        #expect(!some.admitsType(of: gone))
        gone.old = .init(type: .hash)
        #expect(some.admitsType(of: gone))
        let flush = Change(timestamp: Timestamp(rawValue: 1), kind: .flush, database: 3)
        #expect(some.admits(flush) && some.admitsType(of: flush))
    }

    @Test("events are told to who wants them, and only of the keys that are wanted")
    func events() throws {
        var collector = ChangeCollector(shard: ShardID(rawValue: 4)), note = ByteBuffer()
        collector.begin(Timestamp(rawValue: 9))
        for (key, event) in [("a", KeyEvent.set), ("b", .delete)] {
            Bytes(key.utf8).withUnsafeBytes { KeyEvents.append([event], 2, $0, to: &note) }
        }
        collector.note(note.readable)
        collector.note(note.readable)
        Bytes([200, 1]).withUnsafeBytes { collector.note($0) }
        let changes = collector.finish()
        #expect(changes.map(\.kind) == [.events] && changes[0].events.count == 4)
        let plain = try FeedFilter(SubscribeRequest())
        #expect(plain.narrow(changes[0]) == nil && plain.narrow(change("a")) == change("a"))
        let all = try FeedFilter(SubscribeRequest(wantsEvents: true))
        #expect(all.narrow(changes[0]) == changes[0] && all.narrow(change("a")) == nil)
        let some = try FeedFilter(
            SubscribeRequest(databases: [2], patterns: [Bytes("[b]".utf8)], wantsEvents: true))
        #expect(some.narrow(changes[0])?.events.map(\.key) == [Bytes("b".utf8), Bytes("b".utf8)])
        let none = try FeedFilter(SubscribeRequest(databases: [1], wantsEvents: true))
        #expect(none.narrow(changes[0]) == nil)
        // They are the same behind the wire.
        var wire = ByteBuffer()
        ChangeBatch.append(changes[0], to: &wire)
        ChangeBatch.finish(FeedPosition(resolved: Timestamp(rawValue: 9)), &wire)
        var found: [Change] = []
        _ = try ChangeBatch.decode(wire.readable) { found.append($0) }
        #expect(found == changes)
    }

    @Test("what cannot be meant is refused")
    func refusals() {
        #expect(throws: DatabaseError.self) { try FeedFilter(SubscribeRequest(types: ["hash"], wantsEvents: true)) }
        #expect(throws: DatabaseError.self) {
            try FeedFilter(SubscribeRequest(wantsOldValues: true, wantsEvents: true))
        }
        #expect(throws: DatabaseError.self) { try FeedFilter(SubscribeRequest(databases: [16])) }
        #expect(throws: DatabaseError.self) { try FeedFilter(SubscribeRequest(types: ["list"])) }
    }
}
