import Base
import DataModel
import TestKit
import Testing

@testable import Actors

@Suite("Active actors")
struct ActiveActorTests {
    private func active(_ rig: Rig, _ key: String, database: UInt8 = 0) -> ActiveActor? {
        latin(key).withUnsafeBytes { rig.runtime.active(database, $0, now: rig.now) }
    }

    /// The keys that a list in pieces shows.
    private func list(_ rig: Rig, size: Int, steps: Int = 1000, between: () -> Void = {}) -> [String] {
        var keys: [String] = [], place: UInt64? = 0
        while let from = place {
            var left = size, steps = steps
            place = rig.runtime.listActive(from: from, steps: &steps, now: rig.now) { actor in
                keys.append(text(actor.key))
                left -= 1
                return left > 0
            }
            between()
        }
        return keys
    }

    @Test("are told of as they are, and asking changes nothing")
    func look() throws {
        let rig = Rig()
        #expect(active(rig, "k") == nil && rig.runtime.activationCount == 0)
        let first = rig.now
        _ = rig.call(.set, "k", ["value"])
        _ = rig.call(.hashSet, "h", ["f", "v"], database: 3)
        rig.now += 5_500
        _ = rig.call(.get, "k")
        let before = rig.runtime.statistics
        let actor = try #require(active(rig, "k"))
        #expect((actor.type, actor.database, actor.key) == (.string, 0, latin("k")))
        #expect(actor.activeSince == first / 1000 * 1000 && actor.lastCalled == rig.now)
        #expect(actor.memorySize > 5 && actor.isPending)
        rig.settle()
        #expect(active(rig, "k")?.isPending == false)
        #expect(active(rig, "h") == nil && active(rig, "h", database: 3)?.type == .hash)
        rig.now += 1000
        #expect(active(rig, "k")?.lastCalled == actor.lastCalled, "a look is no call")
        #expect(rig.runtime.statistics == before)
        // Looked at all the time, it is idle all the same.
        rig.now += rig.limits.idleMilliseconds
        _ = active(rig, "k")
        rig.runtime.sweep(now: rig.now)
        #expect(active(rig, "k") == nil && rig.runtime.activationCount == 0)
    }

    @Test("are keys with a value: not what is known to be absent, was deleted, or has expired")
    func absent() {
        let rig = Rig()
        _ = rig.call(.get, "none")
        _ = rig.call(.set, "gone", ["1"])
        _ = rig.call(.delete, "gone")
        _ = rig.call(.set, "short", ["1"], numbers: [10], flags: 16)
        #expect(active(rig, "short") != nil && rig.runtime.activationCount == 3)
        #expect(list(rig, size: 10) == ["short"])
        rig.now += 10
        #expect(active(rig, "short") == nil && active(rig, "none") == nil && active(rig, "gone") == nil)
        #expect(list(rig, size: 10) == [])
    }

    @Test("a list in pieces has each that stays once, and none twice, while others come and go")
    func pieces() {
        let seed = freshSeed("ActiveActors.pieces")
        var random = SplitMix64(seed: seed)
        let rig = Rig(seed: seed)
        let staying = (0..<500).map { "stays\($0)" }
        for key in staying { _ = rig.call(.set, key, ["1"]) }
        for size in [1, 17, 100, 1000] {
            let found = list(rig, size: size, steps: 1 + Int(random.next(below: 300))) {
                for _ in 0..<random.next(below: 20) {
                    let key = "passes\(random.next(below: 2000))"
                    switch random.next(below: 4) {
                    case 0: _ = rig.call(.delete, key)
                    case 1: _ = rig.call(.hashSet, "h" + key, ["f", "v"])
                    case _: _ = rig.call(.set, key, ["1"])
                    }
                    if random.next(below: 5) == 0 { rig.settle() }
                }
            }
            #expect(Set(found).count == found.count, "twice, seed \(seed)")
            #expect(found.filter { $0.hasPrefix("stays") }.count == staying.count, "seed \(seed)")
        }
    }
}
