import Actors
import Base
import Contracts
import DataModel
import Testing

/// One open transaction over the records of a rig.
final class ScopeRig {
    let rig: Rig
    let scope: ScopeEvaluation
    var number: UInt32 = 0

    init(_ rig: Rig, limits: ScopeEvaluation.Limits = .init(), isRepeatable: Bool = false) {
        self.rig = rig
        scope = ScopeEvaluation(
            reader: rig.records, buckets: 0..<64, bucketCount: 64, actorLimits: rig.limits, limits: limits,
            seed: rig.seed)
        scope.shareCatalog { [unowned rig] () throws(DatabaseError) in try rig.runtime.catalog() }
        open(isRepeatable: isRepeatable)
    }

    func open(isRepeatable: Bool) {
        number = 0
        scope.open(reader: isRepeatable ? MemoryRecords(rig.records) : rig.records, isRepeatable: isRepeatable)
    }

    func begin() {
        number += 1
        scope.begin(number, floor: rig.stamp)
        rig.scope = scope
    }

    func end() {
        rig.scope = nil
        scope.end()
    }

    func undo() {
        rig.scope = nil
        scope.undo()
    }

    /// One statement.
    @discardableResult func run<Result>(_ calls: () throws -> Result) rethrows -> Result {
        begin()
        defer { end() }
        return try calls()
    }

    /// What the shard does when the transaction is committed. The keys were locked: nobody has changed them.
    func commit() throws {
        rig.settle()
        let list = EffectList()
        let changes = scope.write(list)
        let made = list.effects, time = rig.stamp
        try rig.runtime.adoptPart(changes, entryIndex: rig.nextIndex, into: list)
        rig.entries.append((rig.nextIndex, list.effects))
        rig.nextIndex = LogIndex(rawValue: rig.nextIndex.rawValue + 1)
        rig.commit()
        for effect in made {
            switch effect {
            case .put(let key, _), .delete(let key):
                key.withUnsafeBytes { key in
                    rig.runtime.noteChange(ofRecord: key, at: time)
                    if case .record(_, let database, _, let name)? = NativeKey(parsing: key) {
                        rig.runtime.forget(database, name)
                    } else if let (_, collection, primaryKey) = RowKey.parse(key) {
                        RowKey.make(collection, primaryKey: primaryKey).withUnsafeBytes {
                            rig.runtime.forget(RowKey.database, $0)
                        }
                    } else if SchemaKey.isOfCatalog(key) {
                        rig.runtime.forget(RowKey.database, ByteView(start: nil, count: 0))
                    }
                }
            case .deleteRange:
                rig.runtime.reset(committed: rig.committed, floor: time)
            }
        }
    }
}

@Suite("Scopes of open transactions")
struct ScopeTests {
    private let rig = Rig()

    @Test("only the transaction sees what it does, until it is committed")
    func isolation() throws {
        _ = rig.call(.set, "a", ["1"])
        _ = rig.call(.hashSet, "h", ["f", "v"])
        rig.settle()
        let scope = ScopeRig(rig)
        scope.run {
            #expect(rig.call(.incrementBy, "a", numbers: [4]) == .integer(5))
            #expect(rig.call(.set, "b", ["new"]) == .ok)
            #expect(rig.call(.hashSet, "h", ["g", "w"]) == .integer(1))
        }
        #expect(scope.scope.hasEffects && scope.scope.effectBytes > 0)
        for _ in 0..<2 {
            scope.run {
                #expect(rig.call(.multiGet, "a", ["b"]) == .items(["5", "new"]))
                #expect(rig.call(.hashGetAll, "h").texts.sorted() == ["f", "g", "v", "w"])
                #expect(rig.call(.databaseSize) == .integer(3))
                #expect(rig.scanAll(.scan).sorted() == ["a", "b", "h"])
            }
            #expect(rig.call(.get, "a") == .data("1") && rig.call(.get, "b") == .null)
            #expect(rig.call(.hashLength, "h") == .integer(1) && rig.call(.databaseSize) == .integer(2))
        }
        try scope.commit()
        #expect(rig.call(.multiGet, "a", ["b"]) == .items(["5", "new"]))
        #expect(rig.call(.hashGetAll, "h").texts.sorted() == ["f", "g", "v", "w"])
        #expect(rig.call(.databaseSize) == .integer(3))
    }

    @Test("statements are taken back, the newest first; what follows sees what is left")
    func savepoints() throws {
        _ = rig.call(.hashSet, "h", ["f", "0"])
        rig.settle()
        for isRepeatable in [false, true] {
            let scope = ScopeRig(rig, isRepeatable: isRepeatable)
            for value in 1...4 {
                scope.run {
                    _ = rig.call(.set, "a", ["\(value)"])
                    _ = rig.call(.hashSet, "h", ["f", "\(value)", "f\(value)", ""])
                }
            }
            scope.run { _ = rig.call(.delete, "h", ["a"]) }
            scope.scope.rollBack(to: 7)
            scope.run { #expect(rig.call(.exists, "a", ["h"]) == .integer(0)) }
            scope.scope.rollBack(to: 2)
            scope.run {
                #expect(rig.call(.get, "a") == .data("2") && rig.call(.databaseSize) == .integer(2))
                #expect(rig.call(.hashGetAll, "h").texts.sorted() == ["", "", "2", "f", "f1", "f2"])
            }
            scope.run { _ = rig.call(.append, "a", ["x"]) }
            scope.scope.rollBack(to: 6)
            scope.run { #expect(rig.call(.get, "a") == .data("2")) }
            scope.scope.rollBack(to: 0)
            #expect(!scope.scope.hasEffects && scope.scope.effectBytes == 0)
            scope.run {
                #expect(rig.call(.get, "a") == .null && rig.call(.databaseSize) == .integer(1))
                #expect(rig.call(.hashGetAll, "h").texts == ["f", "0"])
            }
        }
    }

    @Test("a statement that is undone has not happened, whatever it did")
    func undone() {
        _ = rig.call(.set, "a", ["1"])
        rig.settle()
        let scope = ScopeRig(rig, isRepeatable: true)
        scope.run { _ = rig.call(.set, "b", ["1"]) }
        scope.begin()
        _ = rig.call(.delete, "a", ["b"])
        _ = rig.call(.set, "c", ["1"])
        #expect(rig.call(.databaseSize) == .integer(1))
        scope.undo()
        scope.run { #expect(rig.call(.databaseSize) == .integer(2) && rig.call(.exists, "a", ["b"]) == .integer(2)) }
        let list = EffectList()
        #expect(scope.scope.write(list).map(\.delta) == [1])
    }

    @Test("read committed sees what others commit between statements; as of a time, nobody does")
    func levels() {
        for isRepeatable in [false, true] {
            _ = rig.call(.flushAll)
            _ = rig.call(.set, "a", ["old"])
            rig.settle()
            let scope = ScopeRig(rig, isRepeatable: isRepeatable)
            scope.run { #expect(rig.call(.get, "a") == .data("old") && rig.call(.databaseSize) == .integer(1)) }
            _ = rig.call(.set, "a", ["new"])
            _ = rig.call(.set, "b", ["new"])
            scope.run { #expect(rig.call(.get, "a") == .data("old"), "it is not committed") }
            rig.settle()
            scope.run {
                #expect(rig.call(.get, "a") == .data(isRepeatable ? "old" : "new"))
                #expect(rig.call(.databaseSize) == .integer(isRepeatable ? 1 : 2))
                #expect(rig.scanAll(.scan).count == (isRepeatable ? 1 : 2))
            }
        }
    }

    @Test("what is too large is found before it is kept")
    func limits() {
        var limits = ScopeEvaluation.Limits()
        limits.effectBytes = 4000
        let scope = ScopeRig(rig, limits: limits)
        var count = 0
        while true {
            scope.begin()
            _ = rig.call(.set, "a\(count % 3)", [String(repeating: "x", count: 300)])
            guard !scope.scope.isTooLarge else { break }
            scope.end()
            count += 1
        }
        scope.undo()
        #expect((2...12).contains(count) && scope.scope.effectBytes <= 5000)
        scope.run { #expect(rig.call(.databaseSize) == .integer(Int64(min(3, count)))) }
        scope.begin()
        _ = rig.call(.set, "b", [String(repeating: "x", count: 4001)])
        #expect(scope.scope.isTooLarge)
        scope.undo()
        scope.open(isRepeatable: false)
        #expect(scope.scope.effectBytes == 0 && !scope.scope.hasEffects)
        scope.run { #expect(rig.call(.databaseSize) == .integer(0)) }
    }

    @Test("what does not fit into an entry of the log is written in pieces, the same and once")
    func pieces() throws {
        let scope = ScopeRig(rig), value = String(repeating: "x", count: 300)
        scope.scope.recordEvents(true)
        for place in 0..<40 { scope.run { _ = rig.call(.set, "k\(place % 30)", [value + "\(place)"]) } }
        scope.run { _ = rig.call(.delete, "k7") }
        let whole = EffectList()
        let changes = scope.scope.write(whole)
        var found: [String] = [], count = 0, end: [KeyCountChange]?
        while end == nil {
            var room = 1000
            let piece = EffectList()
            end = scope.scope.writePiece(piece) { size in
                defer { room -= size }
                return room > 0
            }
            #expect(!piece.effects.isEmpty || end != nil)
            found += piece.effects.map { "\($0)" }
            count += 1
        }
        #expect(count > 5 && end == changes && found.sorted() == whole.effects.map { "\($0)" }.sorted())
    }

    @Test("a watched key that a transaction has changed and another has changed back is not as before")
    func versions() throws {
        /// Whether the shard's own runtime, which has never seen the key, thinks that nothing has happened.
        func staysSame(_ key: String, _ change: (ScopeRig) throws -> Void) rethrows -> Bool {
            let before = rig.version(key)
            rig.now += rig.limits.idleMilliseconds + 1
            rig.settle()
            rig.runtime.sweep(now: rig.now, limit: 10_000)
            #expect(rig.runtime.activationCount == 0)
            try change(ScopeRig(rig))
            return rig.version(key) == before
        }
        func one(_ scope: ScopeRig, _ calls: () -> Void) throws {
            scope.open(isRepeatable: false)
            scope.run(calls)
            try scope.commit()
        }
        #expect(try staysSame("k0") { scope in try one(scope) { _ = rig.call(.set, "other", ["1"]) } })
        #expect(
            try !staysSame("k1") { scope in
                try one(scope) { _ = rig.call(.set, "k1", ["1"]) }
                try one(scope) { _ = rig.call(.delete, "k1") }
            })
        #expect(
            try !staysSame("k2") { scope in
                try one(scope) {
                    _ = rig.call(.set, "k2", ["1"])
                    _ = rig.call(.delete, "k2")
                }
            })
        #expect(
            try !staysSame("k3") { scope in
                try one(scope) { _ = rig.call(.set, "k3", ["1"]) }
                _ = rig.call(.flushAll)
            })
        #expect(
            try !staysSame("k4") { scope in
                try one(scope) { _ = rig.call(.hashSet, "k4", ["f", "1"]) }
                try one(scope) { _ = rig.call(.rename, "k4", ["k5"]) }
            })
    }

    @Test("a write waits until the store shows what others have changed")
    func pendingChanges() {
        func index(_ key: String, _ database: UInt8 = 0) -> LogIndex {
            latin(key).withUnsafeBytes { rig.runtime.pendingIndex(database, $0) }
        }
        #expect(index("a") <= rig.committed)
        _ = rig.call(.set, "a", ["1"])
        #expect(index("a") == rig.nextIndex && index("b") <= rig.committed && rig.runtime.newestPendingIndex > .zero)
        rig.finish()
        #expect(index("a") > rig.committed)
        rig.commit()
        #expect(index("a") <= rig.committed && rig.runtime.newestPendingIndex <= rig.committed)
        _ = rig.call(.flushDatabase, database: 2)
        #expect(index("a") <= rig.committed && index("a", 2) == rig.nextIndex)
        #expect(rig.runtime.newestPendingIndex == rig.nextIndex)
    }
}
