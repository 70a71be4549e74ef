import Actors
import Base
import Contracts
import TestKit
import Testing

@Suite("Versions of keys")
struct KeyVersionTests {
    private let rig = Rig()

    private func setFor(_ key: String, _ milliseconds: Int64) {
        #expect(rig.call(.set, key, ["v"], numbers: [milliseconds], flags: SetFlags.relativeTime.rawValue) == .ok)
    }

    /// Whether `change` makes a watch of the key fail that was taken before it; on each side of a commit.
    private func changes(_ key: String, _ change: () throws -> Void) rethrows -> Bool {
        let version = rig.version(key)
        try change()
        let pending = rig.version(key) != version
        rig.settle()
        let isChanged = rig.version(key) != version
        #expect(pending == isChanged)
        #expect((try? rig.holds(key, .version(version))) == !isChanged)
        return isChanged
    }

    @Test("a write changes the version of its key and of no other, also one that brings the same value back")
    func writes() {
        for key in ["a", "b"] { _ = rig.call(.set, key, ["1"]) }
        rig.settle()
        #expect(changes("a") { _ = rig.call(.set, "a", ["1"]) })
        #expect(!changes("b") { _ = rig.call(.set, "a", ["2"]) })
        #expect(!changes("a") { _ = rig.call(.get, "a") })
        #expect(!changes("a") { _ = rig.call(.hashSet, "a", ["f", "v"]) }, "an error changes nothing")
        #expect(!changes("a") { _ = rig.call(.set, "a", ["3"], flags: SetFlags.ifAbsent.rawValue) })
        #expect(changes("a") { _ = rig.call(.expire, "a", numbers: [5000], flags: ExpireFlags.relativeTime.rawValue) })
        #expect(changes("a") { _ = rig.call(.persist, "a") })
        #expect(changes("a") { _ = rig.call(.rename, "b", ["a"]) })
        #expect(changes("a") { _ = rig.call(.rename, "a", ["b"]) })
        #expect(!changes("a") { _ = rig.call(.set, "a", ["1"], database: 3) })
        _ = rig.call(.hashSet, "h", ["f", "v", "g", "v"])
        #expect(changes("h") { _ = rig.call(.hashDelete, "h", ["f"]) })
        #expect(!changes("h") { _ = rig.call(.hashDelete, "h", ["f"]) })
    }

    @Test("deleted and made again is not the same, nor made and deleted")
    func thereAndBack() {
        #expect(!changes("a") { _ = rig.call(.delete, "a") }, "there was nothing to delete")
        #expect(
            changes("a") {
                _ = rig.call(.set, "a", ["1"])
                _ = rig.call(.delete, "a")
            })
        _ = rig.call(.set, "a", ["1"])
        #expect(
            changes("a") {
                _ = rig.call(.delete, "a")
                _ = rig.call(.set, "a", ["1"])
            })
    }

    @Test("a reply that tells a version waits for the entry that made it")
    func waits() throws {
        let before = rig.version("a")
        #expect(rig.newest == .zero)
        _ = rig.call(.set, "a", ["1"])
        let after = rig.version("a")
        #expect(after != before && rig.newest == rig.nextIndex)
        #expect(try !rig.holds("a", .version(before)) && rig.newest == rig.nextIndex)
        #expect(try rig.holds("a", .version(after)) && !rig.holds("a", .absent) && rig.holds("b", .absent))
    }

    @Test("expiry between changes the version; a key that had expired before is as absent as its record's removal")
    func expiry() throws {
        setFor("a", 100)
        rig.settle()
        #expect(changes("a") { rig.now += 100 })
        #expect(try rig.holds("a", .absent))
        // Removed by the timer, by a write that does nothing else, and by a flush.
        #expect(try !changes("a") { _ = try rig.expire() })
        setFor("a", 100)
        rig.now += 100
        #expect(!changes("a") { _ = rig.call(.delete, "a") })
        setFor("a", 100)
        rig.settle()
        rig.now += 100
        #expect(!changes("a") { _ = rig.call(.flushAll) })
        setFor("a", 100)
        rig.now += 100
        #expect(changes("a") { _ = rig.call(.set, "a", ["v"]) })
    }

    @Test("a flush changes the keys that it removes and no others")
    func flush() {
        _ = rig.call(.set, "old", ["1"])
        _ = rig.call(.set, "a", ["1"])
        _ = rig.call(.delete, "old")
        _ = rig.call(.set, "c", ["1"], database: 2)
        let absent = rig.version("old"), never = rig.version("never"), present = rig.version("a")
        let other = rig.version("c", database: 2)
        _ = rig.call(.flushDatabase)
        for _ in 0..<2 {
            #expect(rig.version("old") == absent && rig.version("never") == never && rig.version("a") != present)
            #expect(rig.version("c", database: 2) == other)
            rig.settle()
        }
        _ = rig.call(.flushAll)
        #expect(rig.version("c", database: 2) != other)
    }

    @Test("what leaves memory and comes back has its version; made, put out and flushed it has another")
    func eviction() {
        func putOut() {
            rig.settle()
            rig.now += rig.limits.idleMilliseconds + 1
            rig.runtime.sweep(now: rig.now, limit: 10_000)
            #expect(rig.runtime.activationCount == 0)
        }
        _ = rig.call(.set, "a", ["1"])
        _ = rig.call(.set, "b", ["1"])
        _ = rig.call(.delete, "b")
        let versions = ["a", "b", "c"].map { rig.version($0) }
        putOut()
        #expect(["a", "b", "c"].map { rig.version($0) } == versions)
        _ = rig.call(.set, "c", ["1"])
        putOut()
        _ = rig.call(.flushAll)
        let after = ["a", "b", "c"].map { rig.version($0) }
        #expect(after[0] != versions[0] && after[1] == versions[1] && after[2] != versions[2])
    }

    @Test("a new leader knows the versions of keys that exist, and gives the others new ones")
    func newLeader() {
        _ = rig.call(.set, "a", ["1"])
        _ = rig.call(.set, "b", ["1"])
        _ = rig.call(.delete, "b")
        rig.settle()
        let versions = ["a", "b", "c"].map { rig.version($0) }
        // Another leader's work: made, deleted, and nobody here knows.
        rig.runtime.reset(committed: rig.committed, floor: rig.stamp)
        let after = ["a", "b", "c"].map { rig.version($0) }
        #expect(after[0] == versions[0] && after[1] != versions[1] && after[2] != versions[2])
    }

    @Test("two versions are equal if and only if nothing changed in between", arguments: [false, true])
    func random(evicts: Bool) throws {
        var random = SplitMix64(seed: freshSeed("versions of keys"))
        var limits = ActorLimits()
        if evicts { limits.memoryBytes = 1500 }
        let rig = Rig(limits: limits)
        let model = VersionModel(rig)
        for _ in 0..<4000 { try model.step(&random) }
        if evicts { #expect(rig.runtime.statistics.evictions > 100) }
        #expect(model.equal > 100 && model.different > 100)
    }
}

/// Keys as counts of their changes, beside a runtime.
private final class VersionModel {
    private struct Key {
        var expiresAt: UInt64?
        var isHash = false
        var exists = false
        /// Rises with every change.
        var changes = 0
    }

    private struct Watch {
        let key: Int, version: UInt64, changes: Int, exists: Bool, resets: Int
    }

    private let rig: Rig
    private var keys = [Key](repeating: Key(), count: 6)
    private var watches: [Watch] = []
    private var resets = 0
    private(set) var equal = 0, different = 0

    init(_ rig: Rig) { self.rig = rig }

    private func name(_ key: Int) -> String { "key\(key)" }

    private func tick(_ milliseconds: UInt64) {
        rig.now += milliseconds
        for key in keys.indices {
            if let time = keys[key].expiresAt, time <= rig.now { change(key, exists: false) }
        }
    }

    private func change(_ key: Int, exists: Bool) {
        keys[key].changes += 1
        keys[key].exists = exists
        if !exists { (keys[key].expiresAt, keys[key].isHash) = (nil, false) }
    }

    func step(_ random: inout SplitMix64) throws {
        let key = Int(random.next(below: UInt64(keys.count))), name = name(key)
        tick(random.next(below: 3))
        switch random.next(below: 16) {
        case 0, 1:
            _ = rig.call(.set, name, ["v"])
            change(key, exists: true)
            (keys[key].expiresAt, keys[key].isHash) = (nil, false)
        case 2:
            _ = rig.call(.set, name, ["v"], numbers: [10], flags: SetFlags.relativeTime.rawValue)
            change(key, exists: true)
            (keys[key].expiresAt, keys[key].isHash) = (rig.now + 10, false)
        case 3:
            if rig.call(.delete, name) == .integer(1) { change(key, exists: false) }
        case 4:
            let reply = rig.call(.hashSet, name, ["f", "v"])
            if case .integer = reply {
                if !keys[key].exists { keys[key].isHash = true }
                change(key, exists: true)
            }
        case 5:
            _ = rig.call(.get, name)
        case 6:
            rig.finish()
        case 7:
            rig.commit(1)
        case 8:
            _ = try rig.expire()
        case 9 where random.next(below: 8) == 0:
            _ = rig.call(.flushAll)
            for key in keys.indices where keys[key].exists { change(key, exists: false) }
        case 10 where random.next(below: 8) == 0:
            rig.settle()
            rig.runtime.reset(committed: rig.committed, floor: rig.stamp)
            resets += 1
        case 11:
            rig.settle()
        case 12, 13:
            let version = rig.version(name)
            watches.append(
                Watch(
                    key: key, version: version, changes: keys[key].changes, exists: keys[key].exists, resets: resets))
        default:
            check()
        }
    }

    private func check() {
        guard let watch = watches.popLast() else { return }
        if watches.count > 40 { watches.removeFirst(20) }
        let key = keys[watch.key], isEqual = rig.version(name(watch.key)) == watch.version
        if isEqual { equal += 1 } else { different += 1 }
        if key.changes != watch.changes {
            #expect(!isEqual, "\(name(watch.key)) has changed")
        } else if watch.exists || watch.resets == resets {
            #expect(isEqual, "\(name(watch.key)) has not changed")
        }
    }
}
