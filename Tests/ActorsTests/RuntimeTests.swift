import Actors
import Base
import Contracts
import DataModel
import Testing

@Suite("Actor runtime")
struct RuntimeTests {
    let rig = Rig()

    @Test("a reply depends on the newest entry it has seen, and on nothing older")
    func dependencies() {
        _ = rig.call(.set, "a", ["1"])
        #expect(rig.newest == LogIndex(rawValue: 1))
        rig.finish()
        _ = rig.call(.set, "b", ["1"])
        #expect(rig.newest == LogIndex(rawValue: 2))
        rig.finish()
        _ = rig.call(.get, "a")
        #expect(rig.newest == LogIndex(rawValue: 1))
        _ = rig.call(.multiGet, "a", ["b"])
        #expect(rig.newest == LogIndex(rawValue: 2))
        _ = rig.call(.get, "c")
        #expect(rig.newest == .zero)
        // A refused write has seen the key that refused it.
        _ = rig.call(.set, "b", ["2"], flags: SetFlags.ifAbsent.rawValue)
        #expect(rig.newest == LogIndex(rawValue: 2))
        #expect(!rig.finish())
        _ = rig.call(.databaseSize)
        #expect(rig.newest == LogIndex(rawValue: 2))
        _ = rig.call(.keys, "", ["*"])
        #expect(rig.newest == LogIndex(rawValue: 2))
        _ = rig.call(.delete, "a")
        rig.finish()
        _ = rig.call(.get, "a")
        #expect(rig.newest == LogIndex(rawValue: 3))
        _ = rig.call(.flushAll)
        rig.finish()
        #expect(rig.call(.get, "a") == .null)
        #expect(rig.newest == LogIndex(rawValue: 4))
        rig.commit()
        _ = rig.call(.get, "a")
        #expect(rig.newest <= rig.committed)
    }

    @Test("a key written often in an entry is one record")
    func coalescing() {
        for _ in 0..<100 { _ = rig.call(.incrementBy, "n", numbers: [1]) }
        rig.finish()
        let effects = rig.entries[0].effects
        #expect(effects.count == 2, "the record and the counter")
        // Made and deleted in one entry, a key leaves nothing.
        _ = rig.call(.set, "gone", ["1"], numbers: [100], flags: SetFlags.relativeTime.rawValue)
        _ = rig.call(.delete, "gone")
        rig.finish()
        #expect(rig.entries[1].effects.allSatisfy { if case .put(let key, _) = $0 { key[5] == 5 } else { false } })
    }

    @Test("a long string writes the chunks that were touched")
    func chunks() {
        func writtenChunks() -> [UInt32] {
            rig.entries.removeAll()
            rig.finish()
            let last = rig.entries.last?.effects ?? []
            rig.records.apply(last)
            return last.compactMap { effect in
                guard case .put(let key, _) = effect else { return nil }
                guard case .stringChunk(_, _, let chunk)? = key.withUnsafeBytes({ NativeKey(parsing: $0) }) else {
                    return nil
                }
                return chunk
            }
        }
        _ = rig.call(.set, "k", [String(repeating: "x", count: 60_000)])
        #expect(writtenChunks() == [])
        _ = rig.call(.append, "k", [String(repeating: "y", count: 90_000)])
        #expect(writtenChunks() == [0, 1, 2])
        _ = rig.call(.setBit, "k", numbers: [65536 * 8 + 7, 1])
        #expect(writtenChunks() == [1])
        _ = rig.call(.setBit, "k", numbers: [65536 * 8 * 20, 1])
        #expect(writtenChunks() == [20])
        _ = rig.call(.expire, "k", numbers: [100], flags: ExpireFlags.relativeTime.rawValue)
        #expect(writtenChunks() == [])
        rig.entries.removeAll()
        rig.restart()
        #expect(rig.call(.stringLength, "k") == .integer(65536 * 20 + 1))
        #expect(rig.call(.getRange, "k", numbers: [149_998, 150_001]) == .data("yy\0\0"))
        #expect(rig.call(.bitCount, "k", numbers: [150_000, -1], flags: 1) == .integer(1))
    }

    @Test("what is not committed stays in memory, what is committed leaves it")
    func residency() {
        rig.limits.memoryBytes = 10_000
        rig.restart()
        for number in 0..<500 { _ = rig.call(.set, "k\(number)", ["v\(number)"]) }
        rig.finish()
        rig.runtime.sweep(now: rig.now, limit: 10_000)
        #expect(rig.runtime.activationCount == 500)
        #expect(rig.call(.get, "k0") == .data("v0"))
        rig.commit()
        for _ in 0..<3 { rig.runtime.sweep(now: rig.now, limit: 10_000) }
        #expect(rig.runtime.memoryUsed <= 10_000)
        #expect(rig.runtime.statistics.evictions > 0)
        for number in 0..<500 { #expect(rig.call(.get, "k\(number)") == .data("v\(number)")) }
        #expect(rig.runtime.memoryUsed < 20_000, "reading makes room as it goes")
        rig.runtime.memoryLimit = 1 << 20
        for number in 0..<500 { #expect(rig.call(.get, "k\(number)") == .data("v\(number)")) }
        #expect(rig.runtime.activationCount == 500, "a higher limit holds from now on")
        rig.now += rig.limits.idleMilliseconds + 1
        rig.runtime.sweep(now: rig.now, limit: 10_000)
        #expect(rig.runtime.activationCount == 0)
        #expect(rig.runtime.memoryUsed == 0)
    }

    @Test("what was lost with leadership is gone")
    func reset() {
        _ = rig.call(.set, "a", ["1"])
        rig.settle()
        _ = rig.call(.set, "a", ["2"])
        _ = rig.call(.set, "b", ["2"])
        rig.finish()
        rig.runtime.reset(committed: rig.committed, floor: rig.stamp)
        #expect(rig.call(.get, "a") == .data("1"))
        #expect(rig.call(.get, "b") == .null)
        #expect(rig.call(.databaseSize) == .integer(1))
        #expect(rig.newest <= rig.committed)
    }

    @Test("expiry removes keys, and the index entries that a flush left")
    func expiry() throws {
        for number in 0..<10 {
            _ = rig.call(.set, "k\(number)", ["v"], numbers: [100], flags: SetFlags.relativeTime.rawValue)
        }
        _ = rig.call(.set, "other", ["v"], database: 1)
        rig.settle()
        #expect(try rig.expire() == 0)
        rig.now += 100
        #expect(rig.call(.databaseSize) == .integer(10))
        #expect(rig.call(.keys, "", ["*"]) == .list([]))
        #expect(try rig.expire(limit: 4) == 4)
        rig.settle()
        #expect(rig.call(.databaseSize) == .integer(6))
        // A new write comes after the expiry: no time to live is left from before.
        #expect(rig.call(.append, "k9", ["new"]) == .integer(3))
        #expect(rig.call(.timeToLive, "k9") == .integer(-1))
        while try rig.expire(limit: 4) > 0 { rig.settle() }
        #expect(rig.call(.databaseSize) == .integer(1))
        _ = rig.call(.set, "k", ["v"], numbers: [100], flags: SetFlags.relativeTime.rawValue)
        rig.settle()
        #expect(rig.call(.flushDatabase) == .ok)
        rig.settle()
        rig.now += 100
        #expect(try rig.expire() == 1)
        rig.settle()
        #expect(try rig.expire() == 0)
        #expect(rig.call(.databaseSize, database: 1) == .integer(1))
    }

    @Test("a large hash that is deleted is collected later")
    func garbage() throws {
        let fields = (0..<200).flatMap { ["f\($0)", "v"] }
        _ = rig.call(.hashSet, "h", fields)
        _ = rig.call(.hashSet, "h", fields, database: 1)
        rig.settle()
        let before = rig.records.keys.count
        #expect(rig.call(.delete, "h") == .integer(1))
        #expect(rig.runtime.entryBytes < 1000, "deleting costs the same for any size")
        rig.settle()
        #expect(rig.records.keys.count >= before)
        #expect(try rig.collect() == 1)
        #expect(try rig.collect() == 0, "not again before it is committed")
        rig.settle()
        #expect(rig.records.keys.count <= before - 200)
        #expect(rig.call(.hashLength, "h", database: 1) == .integer(200))
        // What a flush of one database leaves is found by looking which generations are in use.
        _ = rig.call(.hashSet, "h", fields)
        _ = rig.call(.hashSet, "{h}2", fields, database: 1)
        rig.settle()
        _ = rig.call(.flushDatabase, database: 1)
        rig.settle()
        while try rig.collect() > 0 { rig.settle() }
        let parts = rig.records.keys.filter { $0[5] == 2 }
        #expect(parts.count == 200)
        #expect(rig.call(.hashGetAll, "h").texts.count == 400)
    }

    @Test("calls that are too large are refused, and change nothing")
    func limits() {
        rig.limits.valueBytes = 1000
        rig.limits.callBytes = 3000
        rig.limits.keyBytes = 100
        rig.limits.replyBytes = 5000
        rig.restart()
        let long = String(repeating: "x", count: 1001), key = String(repeating: "k", count: 101)
        #expect(rig.call(.set, "k", [long]) == .error("string exceeds maximum allowed size (proto-max-bulk-len)"))
        #expect(rig.call(.get, key) == .error("key exceeds maximum allowed size"))
        #expect(rig.call(.hashSet, "h", [key, "1"]) == .error("hash field exceeds maximum allowed size"))
        let some = String(repeating: "x", count: 900)
        let tooMuch = Answer.error("the command changes more than fits in one log entry")
        #expect(rig.call(.multiSet, "a", [some, "b", some, "c", some, "d", some]) == tooMuch)
        #expect(!rig.finish())
        for name in ["a", "b", "c", "d", "e", "f"] { _ = rig.call(.hashSet, "h", [name, some]) }
        #expect(rig.call(.hashGetAll, "h") == .error("the reply exceeds the maximum allowed size"))
        #expect(rig.call(.copy, "h", ["h2"], numbers: [-1]) == tooMuch)
        #expect(rig.call(.rename, "h", ["{h}3"]) == .ok, "in one bucket a hash moves without its fields")
        #expect(rig.call(.get, "k", database: 15) == .null)
    }

    @Test("a key of another shard is refused")
    func shards() {
        let runtime = ActorRuntime(reader: rig.records, buckets: 0..<1, seed: 1)
        rig.runtime = runtime
        #expect(rig.call(.get, "foo") == .error("the key's slot is not served by this shard"))
    }

    @Test("a store that fails, fails the call")
    func failures() {
        _ = rig.call(.hashSet, "h", ["a", "1"])
        rig.settle()
        rig.restart()
        rig.records.failure = DatabaseError(.corruption, "a bad disk")
        #expect(rig.call(.get, "k") == .error("a bad disk"))
        #expect(rig.call(.multiGet, "k", ["l"]) == .error("a bad disk"))
        #expect(rig.call(.set, "k", ["1"]) == .error("a bad disk"))
        #expect(rig.call(.scan, numbers: [0, 10]) == .error("a bad disk"))
        rig.records.failure = nil
        #expect(rig.call(.get, "k") == .null)
    }

    @Test("damaged records are errors, cut anywhere and changed anywhere", arguments: 1...20 as ClosedRange<UInt64>)
    func damage(_ seed: UInt64) {
        var random = SplitMix64(seed: seed)
        _ = rig.call(.hashSet, "h", ["a", "1", "b", "2"])
        _ = rig.call(.set, "s", ["text"])
        _ = rig.call(.set, "l", [String(repeating: "x", count: 150_000)])
        rig.settle()
        for key in rig.records.keys {
            var value = rig.records.value(key)
            guard !value.isEmpty, random.next(below: 2) == 0 else { continue }
            if random.next(below: 2) == 0 {
                value.removeLast(1 + Int(random.next(below: UInt64(value.count))))
            } else {
                value[Int(random.next(below: UInt64(min(value.count, 40))))] ^= UInt8(1 << random.next(below: 8))
            }
            rig.records.put(key, value)
        }
        rig.restart()
        for key in ["h", "s", "l"] {
            _ = rig.call(.get, key)
            _ = rig.call(.hashGetAll, key)
            _ = rig.call(.append, key, ["x"])
            _ = rig.call(.copy, key, ["{\(key)}copy"], numbers: [-1])
        }
        _ = rig.scanAll(.scan)
        _ = rig.call(.randomKey)
        _ = rig.call(.databaseSize)
        rig.settle()
    }
}

@Suite("Keyspace commands")
struct KeyspaceCommandTests {
    let rig = Rig()

    @Test("EXPIRE and its conditions")
    func expire() {
        func expire(_ time: Int64, _ flags: ExpireFlags = []) -> Answer {
            rig.call(.expire, "k", numbers: [time], flags: flags.union(.relativeTime).rawValue)
        }
        #expect(expire(100) == .integer(0))
        _ = rig.call(.set, "k", ["v"])
        #expect(expire(100, .ifWith) == .integer(0))
        #expect(expire(100, .ifGreater) == .integer(0))
        #expect(expire(100, .ifLess) == .integer(1))
        #expect(expire(100, .ifWithout) == .integer(0))
        #expect(expire(90, .ifGreater) == .integer(0))
        #expect(expire(110, .ifGreater) == .integer(1))
        #expect(expire(120, .ifLess) == .integer(0))
        #expect(expire(50, [.ifWith, .ifLess]) == .integer(1))
        #expect(rig.call(.timeToLive, "k") == .integer(50))
        #expect(rig.call(.persist, "k") == .integer(1))
        #expect(rig.call(.persist, "k") == .integer(0))
        #expect(expire(.max) == .error("invalid expire time in 'expire' command"))
        #expect(rig.call(.expire, "k", numbers: [Int64(rig.now) + 7]) == .integer(1))
        #expect(rig.call(.expireTime, "k") == .integer(Int64(rig.now) + 7))
        #expect(expire(-5) == .integer(1))
        #expect(rig.call(.exists, "k") == .integer(0))
    }

    @Test("RENAME, COPY and MOVE")
    func moving() {
        let same = Answer.error("source and destination objects are the same")
        #expect(rig.call(.rename, "a", ["b"]) == .error("no such key"))
        _ = rig.call(.set, "a", ["1"], numbers: [100], flags: SetFlags.relativeTime.rawValue)
        #expect(rig.call(.rename, "a", ["a"]) == .ok)
        #expect(rig.call(.rename, "a", ["a"], flags: 1) == .integer(0))
        #expect(rig.call(.rename, "a", ["b"]) == .ok)
        #expect(rig.call(.timeToLive, "b") == .integer(100))
        #expect(rig.call(.exists, "a") == .integer(0))
        _ = rig.call(.hashSet, "h", ["f", "1"])
        #expect(rig.call(.rename, "h", ["b"], flags: 1) == .integer(0))
        #expect(rig.call(.rename, "h", ["c"], flags: 1) == .integer(1))
        #expect(rig.call(.copy, "c", ["b"], numbers: [-1]) == .integer(0))
        #expect(rig.call(.copy, "c", ["b"], numbers: [-1], flags: 1) == .integer(1))
        #expect(rig.call(.timeToLive, "b") == .integer(-1))
        _ = rig.call(.hashSet, "c", ["f", "2"])
        #expect(rig.call(.hashGet, "b", ["f"]) == .data("1"))
        #expect(rig.call(.copy, "b", ["b"], numbers: [-1]) == same)
        #expect(rig.call(.copy, "b", ["b"], numbers: [2]) == .integer(1))
        #expect(rig.call(.copy, "b", ["b"], numbers: [16]) == .error("DB index is out of range"))
        #expect(rig.call(.copy, "none", ["x"], numbers: [-1]) == .integer(0))
        #expect(rig.call(.move, "b", numbers: [2]) == .integer(0))
        #expect(rig.call(.move, "b", numbers: [3]) == .integer(1))
        #expect(rig.call(.move, "none", numbers: [1]) == .integer(0))
        #expect(rig.call(.move, "c", numbers: [0]) == same)
        #expect(rig.call(.hashGet, "b", ["f"], database: 3) == .data("1"))
        rig.settle()
        rig.restart()
        #expect(rig.call(.hashGet, "b", ["f"], database: 3) == .data("1"))
        #expect(rig.call(.hashGet, "b", ["f"], database: 2) == .data("1"))
    }

    @Test("SCAN meets every key, whatever is pending, and filters")
    func scan() {
        let names = (0..<300).map { "key:\($0)" }
        for (number, name) in names.enumerated() {
            if number % 3 == 0 { _ = rig.call(.hashSet, name, ["f", "v"]) } else { _ = rig.call(.set, name, ["v"]) }
            if number == 200 { rig.settle() }
        }
        var created = 0
        let found = rig.scanAll(.scan, count: 7) {
            created += 1
            _ = rig.call(.set, "new:\(created)", ["v"])
            _ = rig.call(.delete, "new:\(created - 1)")
            rig.finish()
            if created % 4 == 0 { rig.commit(1) }
        }
        #expect(Set(found).isSuperset(of: names))
        #expect(found.count == Set(found).count)
        let hashes = rig.scanAll(.scan, count: 50, flags: 3, arguments: ["key:*", "HASH"])
        #expect(Set(hashes) == Set(names.enumerated().filter { $0.offset % 3 == 0 }.map(\.element)))
        #expect(rig.scanAll(.scan, flags: 2, arguments: ["zset"]).isEmpty)
        #expect(rig.call(.keys, "", ["key:1?"]).texts.sorted() == (10..<20).map { "key:\($0)" })
        #expect(rig.call(.scan, numbers: [-1, 10]) == .error("invalid cursor"))
        #expect(rig.call(.scan, numbers: [0, 10], database: 4) == .items(["0"]))
        #expect(rig.call(.randomKey, database: 4) == .null)
    }

    @Test("what is known of a key")
    func objects() {
        #expect(rig.call(.objectIdleTime, "k") == .null)
        #expect(rig.call(.memoryUsage, "k") == .null)
        _ = rig.call(.set, "k", ["v"])
        rig.now += 5000
        #expect(rig.call(.objectIdleTime, "k") == .integer(5))
        #expect(rig.call(.objectIdleTime, "k") == .integer(5))
        #expect(rig.call(.touch, "k") == .integer(1))
        #expect(rig.call(.objectIdleTime, "k") == .integer(0))
        guard case .integer(let size) = rig.call(.memoryUsage, "k") else { return #expect(Bool(false)) }
        #expect(size > 1)
        #expect(rig.call(.type, "k") == .data("string"))
    }
}

@Suite("Actor directory")
struct ActorDirectoryTests {
    final class Counter: VirtualActor {
        var value = 0, log: [String] = []
        var isPending = false
        var memorySize: Int { 100 }
        static let refused = DatabaseError(.busy, "not now")

        func onActivate(_ context: ActorContext) throws(DatabaseError) {
            if context.key == [0] { throw Self.refused }
            log.append("activate")
            context.setTimer(1, at: context.now + 10)
        }
        func onDeactivate(_ reason: DeactivationReason) { log.append("\(reason)") }
        func onTimer(_ timer: UInt32, _ context: ActorContext) {
            log.append("timer \(timer) at \(context.now)")
            if timer == 1 { context.setTimer(2, at: context.now + 5) }
        }
    }

    private func directory(memory: Int = 1000) -> ActorDirectory {
        let directory = ActorDirectory(memoryBytes: memory, idleMilliseconds: 100)
        _ = directory.register(ActorType(number: 7, name: "counter") { Counter() })
        return directory
    }

    private func counter(_ directory: ActorDirectory, _ key: Bytes, now: UInt64) throws -> Counter {
        let found = try key.withUnsafeBytes { view in
            try directory.withActor(7, view, now: now) { actor, _ in actor }
        }
        return try #require(found as? Counter)
    }

    @Test("activates once, fires timers once, and puts out what is idle")
    func life() throws {
        let directory = directory()
        #expect(!directory.register(ActorType(number: 7, name: "again") { Counter() }))
        let first = try counter(directory, [1], now: 0)
        #expect(try counter(directory, [1], now: 1) === first)
        #expect(directory.nextTimer == 10)
        #expect(directory.runTimers(now: 9) == 0)
        #expect(directory.runTimers(now: 10) == 1)
        #expect(directory.runTimers(now: 30) == 1)
        #expect(directory.runTimers(now: 30) == 0)
        #expect(directory.sweep(now: 50) == 0)
        first.isPending = true
        #expect(directory.sweep(now: 200) == 0)
        first.isPending = false
        #expect(directory.sweep(now: 200) == 1)
        #expect(first.log == ["activate", "timer 1 at 10", "timer 2 at 30", "idle"])
        #expect(try counter(directory, [1], now: 201) !== first)
        #expect(directory.memoryUsed == 100)
        directory.reset()
        #expect(directory.memoryUsed == 0 && directory.count == 0 && directory.runTimers(now: 1000) == 0)
    }

    @Test("refuses what it cannot activate, and keeps to its memory")
    func limits() throws {
        let directory = directory(memory: 250)
        #expect(throws: Counter.refused) { try counter(directory, [0], now: 0) }
        #expect(directory.count == 0 && directory.runTimers(now: 1000) == 0)
        #expect(throws: DatabaseError(.featureNotSupported, "unknown actor type")) {
            try directory.withActor(8, ByteView(start: nil, count: 0), now: 0) { _, _ in }
        }
        for key in 1...5 { _ = try counter(directory, [UInt8(key)], now: 0) }
        directory.sweep(now: 1)
        #expect(directory.count == 2 && directory.memoryUsed == 200)
        #expect(directory.runTimers(now: 50) == 2, "timers of those that are gone do not fire")
    }

    @Test("timers fire in order of time", arguments: 1...5 as ClosedRange<UInt64>)
    func order(_ seed: UInt64) throws {
        let directory = directory(memory: .max)
        let actor = try counter(directory, [1], now: 0)
        var random = SplitMix64(seed: seed)
        var due: [UInt32: UInt64] = [:]
        let key: Bytes = [1]
        try key.withUnsafeBytes { view in
            try directory.withActor(7, view, now: 0) { _, context in
                context.cancelTimer(1)
                for _ in 0..<500 {
                    let timer = UInt32(2 + random.next(below: 100)), time = random.next(below: 1000)
                    context.setTimer(timer, at: time)
                    due[timer] = time
                }
            }
        }
        actor.log = []
        for now in 0...1000 as ClosedRange<UInt64> { directory.runTimers(now: now) }
        let times = actor.log.compactMap { $0.split(separator: " ").last.flatMap { UInt64($0) } }
        #expect(times == due.values.sorted(), "seed \(seed)")
    }
}
