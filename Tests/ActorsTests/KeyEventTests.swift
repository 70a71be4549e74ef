import Actors
import Base
import Contracts
import TestKit
import Testing

/// What commands do to keys, by the names of Redis. The sequences are those of Redis 7.0
/// (`Tests/Clients/test_pubsub.py` compares them with a real one).
@Suite("Events of keys")
struct KeyEventTests {
    private func rig() -> Rig {
        let rig = Rig()
        rig.runtime.recordsEvents = true
        return rig
    }

    /// What was recorded since the last time: `key:event`.
    private func told(_ rig: Rig) -> [String] {
        rig.finish()
        rig.commit()
        defer { rig.notes = [] }
        return (rig.notes.withUnsafeBytes { KeyEvents.parse($0) } ?? []).flatMap { item in
            item.events.map { "\(item.database == 0 ? "" : "\(item.database)/")\(text(item.key)):\($0.name)" }
        }
    }

    @Test("strings")
    func strings() {
        let rig = rig()
        _ = rig.call(.set, "a", ["1"])
        _ = rig.call(.set, "a", ["2"])
        _ = rig.call(.set, "a", ["2"], flags: SetFlags.ifAbsent.rawValue)
        _ = rig.call(.set, "b", ["2"], flags: SetFlags.ifPresent.rawValue)
        _ = rig.call(.set, "b", ["2"], numbers: [60_000], flags: SetFlags([.relativeTime, .ifAbsent]).rawValue)
        #expect(told(rig) == ["a:new", "a:set", "a:set", "b:new", "b:set", "b:expire"])
        _ = rig.call(.append, "a", ["x"])
        _ = rig.call(.append, "a", [""])
        _ = rig.call(.setRange, "a", ["x"], numbers: [2])
        _ = rig.call(.setRange, "a", [""], numbers: [2])
        _ = rig.call(.incrementBy, "a", numbers: [1])  // Not an integer.
        _ = rig.call(.incrementBy, "n", numbers: [1])
        _ = rig.call(.incrementByFloat, "n", ["1"])
        #expect(told(rig) == ["a:append", "a:append", "a:setrange", "n:new", "n:incrby", "n:incrbyfloat"])
        _ = rig.call(.multiSet, "a", ["1", "m", "2", "m", "3"])
        _ = rig.call(.multiSet, "m", ["1", "o", "2"], flags: 1)
        _ = rig.call(.multiSet, "o", ["1"], flags: 1)
        #expect(told(rig) == ["a:set", "m:new", "m:set", "m:set", "o:new", "o:set"])
        _ = rig.call(.getExpire, "a")
        _ = rig.call(.getExpire, "a", numbers: [60_000], flags: SetFlags.relativeTime.rawValue)
        _ = rig.call(.getExpire, "a", flags: SetFlags.persist.rawValue)
        _ = rig.call(.getExpire, "a", flags: SetFlags.persist.rawValue)
        _ = rig.call(.getExpire, "a", numbers: [1], flags: SetFlags.absoluteTime.rawValue)
        _ = rig.call(.getDelete, "m")
        _ = rig.call(.getDelete, "m")
        #expect(told(rig) == ["a:expire", "a:persist", "a:del", "m:del"])
    }

    @Test("bits")
    func bits() {
        let rig = rig()
        _ = rig.call(.setBit, "b", numbers: [7, 1])
        _ = rig.call(.setBit, "b", numbers: [7, 1])
        _ = rig.call(.setBit, "b", numbers: [7, 0])
        _ = rig.call(.setBit, "b", numbers: [8, 0])
        #expect(told(rig) == ["b:new", "b:setbit", "b:setbit", "b:setbit"])
        _ = rig.call(.bitOperation, "c", ["b"], numbers: [3])
        _ = rig.call(.bitOperation, "c", ["none"], numbers: [0])
        _ = rig.call(.bitOperation, "c", ["none"], numbers: [0])
        #expect(told(rig) == ["c:new", "c:set", "c:del"])
        _ = rig.call(.bitField, "b", numbers: [0, 0, 8, 0, 0, 0], flags: 1)
        _ = rig.call(.bitField, "b", numbers: [1, 0, 8, 0, 0, 0])
        _ = rig.call(.bitField, "b", numbers: [1, 0, 8, 0, 5, 0])
        #expect(told(rig) == ["b:setbit"])
    }

    @Test("hashes")
    func hashes() {
        let rig = rig()
        _ = rig.call(.hashSet, "h", ["f", "1"])
        _ = rig.call(.hashSet, "h", ["f", "1", "g", "2"])
        _ = rig.call(.hashSet, "h", ["f", "1"], flags: 1)
        _ = rig.call(.hashIncrementBy, "h", ["f"], numbers: [2])
        _ = rig.call(.hashIncrementByFloat, "h", ["g", "2"])
        _ = rig.call(.set, "h", ["x"], flags: SetFlags.get.rawValue)  // Not a string.
        _ = rig.call(.hashDelete, "h", ["f", "x"])
        _ = rig.call(.hashDelete, "h", ["x"])
        _ = rig.call(.hashDelete, "h", ["g"])
        _ = rig.call(.hashDelete, "h", ["g"])
        #expect(
            told(rig) == [
                "h:new", "h:hset", "h:hset", "h:hincrby", "h:hincrbyfloat", "h:hdel", "h:hdel", "h:del",
            ])
    }

    @Test("keys")
    func keys() {
        let rig = rig()
        for key in ["a", "b", "{a}c"] { _ = rig.call(.set, key, ["1"]) }
        _ = told(rig)
        _ = rig.call(.delete, "a", ["x", "a", "b"])
        #expect(told(rig) == ["a:del", "b:del"])
        _ = rig.call(.expire, "{a}c", numbers: [60_000], flags: ExpireFlags.relativeTime.rawValue)
        _ = rig.call(.expire, "{a}c", numbers: [60_000], flags: ExpireFlags([.relativeTime, .ifWithout]).rawValue)
        _ = rig.call(.persist, "{a}c")
        _ = rig.call(.persist, "{a}c")
        _ = rig.call(.rename, "{a}c", ["a"])
        _ = rig.call(.rename, "a", ["a"])
        _ = rig.call(.rename, "none", ["a"])
        _ = rig.call(.copy, "a", ["{a}d"], numbers: [-1])
        _ = rig.call(.copy, "a", ["{a}d"], numbers: [-1])
        _ = rig.call(.copy, "a", ["{a}d"], numbers: [3], flags: 1)
        _ = rig.call(.move, "a", numbers: [2])
        _ = rig.call(.rename, "{a}d", ["a"], flags: 1)
        _ = rig.call(.expire, "a", numbers: [1])
        #expect(
            told(rig) == [
                "{a}c:expire", "{a}c:persist", "a:new", "{a}c:rename_from", "a:rename_to", "{a}d:new", "{a}d:copy_to",
                "3/{a}d:new", "3/{a}d:copy_to", "2/a:new", "a:move_from", "2/a:move_to", "a:new", "{a}d:rename_from",
                "a:rename_to", "a:del",
            ])
    }

    @Test("keys whose time comes, with the next write or with the collection")
    func expiry() throws {
        let rig = rig()
        let soon = SetFlags.relativeTime.rawValue
        for key in ["a", "b"] { _ = rig.call(.set, key, ["1"], numbers: [10], flags: soon) }
        _ = told(rig)
        rig.now += 20
        _ = rig.call(.get, "a")
        #expect(told(rig) == [])
        _ = rig.call(.set, "a", ["2"])
        #expect(told(rig) == ["a:expired", "a:new", "a:set"])
        _ = try rig.runtime.expireDue(now: rig.now, writeTimestamp: rig.stamp, entryIndex: rig.nextIndex, limit: 10)
        #expect(told(rig) == ["b:expired"])
        _ = rig.call(.set, "c", ["1"], numbers: [Int64(rig.now)], flags: SetFlags.absoluteTime.rawValue)
        #expect(told(rig) == ["c:new", "c:set", "c:expire", "c:expired"])
    }

    @Test("nothing is recorded unless somebody listens, and what was abandoned is not told")
    func unheard() {
        let rig = Rig()
        _ = rig.call(.set, "a", ["1"])
        #expect(told(rig) == [])
        rig.runtime.recordsEvents = true
        _ = rig.call(.set, "a", ["1"])
        rig.runtime.reset(committed: rig.committed, floor: rig.stamp)
        _ = rig.call(.append, "a", [""])
        #expect(told(rig) == ["a:append"])  // With an entry of its own, though nothing has changed.
        rig.runtime.recordsEvents = false
        _ = rig.call(.append, "a", ["x"])
        #expect(told(rig) == [])
    }

    @Test("of a transaction what is committed, in the order of its statements")
    func scopes() {
        let rig = Rig()
        let scope = ScopeEvaluation(
            reader: rig.records, buckets: 0..<64, bucketCount: 64, actorLimits: rig.limits, seed: rig.seed)
        scope.recordEvents(true)
        scope.open(reader: rig.records, isRepeatable: false)
        rig.scope = scope
        func statement(_ number: UInt32, undone: Bool = false, _ body: () -> Void) {
            scope.begin(number, floor: rig.stamp)
            body()
            if undone { scope.undo() } else { scope.end() }
        }
        statement(1) {
            _ = rig.call(.set, "b", ["1"])
            _ = rig.call(.set, "a", ["1"])
        }
        statement(2) { _ = rig.call(.delete, "a") }
        statement(3, undone: true) { _ = rig.call(.delete, "b") }
        statement(4) { _ = rig.call(.append, "b", ["x"]) }
        scope.rollBack(to: 3)
        statement(5) { _ = rig.call(.setRange, "b", ["x"], numbers: [3]) }
        let sink = EffectList()
        _ = scope.write(sink)
        rig.scope = nil
        rig.notes = sink.notes
        #expect(told(rig) == ["b:new", "b:set", "a:new", "a:set", "a:del", "b:setrange"])
    }

    @Test("a damaged note is none, and never a trap")
    func damage() {
        var note = ByteBuffer()
        Bytes("key".utf8).withUnsafeBytes { KeyEvents.append([.new, .set], 3, $0, to: &note) }
        Bytes("other".utf8).withUnsafeBytes { KeyEvents.append([.expired], 0, $0, to: &note) }
        let whole = note.readable.bytes
        let both = [
            KeyEvents(database: 3, key: Bytes("key".utf8), events: [.new, .set]),
            KeyEvents(database: 0, key: Bytes("other".utf8), events: [.expired]),
        ]
        #expect(whole.withUnsafeBytes { KeyEvents.parse($0) } == both)
        for length in whole.indices {
            let found = whole[..<length].withUnsafeBytes { KeyEvents.parse($0) }
            #expect(found == nil || found.map { Array(both.prefix($0.count)) == $0 } ?? false)
        }
        var random = SplitMix64(seed: freshSeed("damaged notes"))
        for _ in 0..<10_000 {
            var bytes = whole
            bytes[Int(random.next(below: UInt64(bytes.count)))] = UInt8(truncatingIfNeeded: random.next())
            _ = bytes.withUnsafeBytes { KeyEvents.parse($0) }
            _ = random.bytes(Int(random.next(below: 40))).withUnsafeBytes { KeyEvents.parse($0) }
        }
    }
}
