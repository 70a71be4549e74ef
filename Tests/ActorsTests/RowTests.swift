import Actors
import Base
import Contracts
import DataModel
import Testing

@Suite("Records of collections")
struct RowTests {
    private let rows = RowRig()
    private var rig: Rig { rows.rig }
    private let stale = Answer.error("the shard has another version of the schema")
    private let noRecord = Answer.error("the key is none of a record of the collection")

    @Test("records are put, read and deleted, by the version of the schema that the shard has")
    func basics() {
        #expect(rows.put(1, "a") == stale)
        rows.define([RowRig.descriptor()])
        #expect(rows.get(1, 2) == [nil, nil])
        #expect(rows.put(1, "a", .update) == .list([.integer(0)]))
        #expect(rows.put(1, "a", .insert) == .list([.integer(1)]))
        #expect(rows.put(1, "b", .insert) == .list([.integer(0)]))
        #expect(rows.put(1, "c") == .list([.integer(2)]))
        #expect(rows.get(1, 2) == ["c", nil])
        #expect(rows.call(.rowPut, RowRig.key(1), ["d"], numbers: [2]) == stale)
        #expect(rows.call(.rowGet, RowRig.key(1), numbers: []) == stale)
        #expect(rows.call(.rowGet, RowRig.key(1, of: RowRig.orders)) == stale)
        #expect(rows.delete(1) == .list([.integer(1)]) && rows.delete(1) == .list([.integer(0)]))
        rig.settle()
        #expect(rows.get(1) == [nil])
        #expect(rig.call(.databaseSize) == .integer(0) && rig.scanAll(.scan) == [])
    }

    @Test("several records are put at once, all or those that can be")
    func several() {
        rows.define([RowRig.descriptor()])
        rows.put(2, "old")
        let keys = (1...3).map { RowRig.key($0) }
        func put(_ flags: RowPutFlags, _ keys: [String]) -> Answer {
            var arguments = ["x"]
            for key in keys[1...] { arguments += [key, "x"] }
            return rows.call(.rowPut, keys[0], arguments, flags: flags.rawValue)
        }
        #expect(put([.insert, .whole], keys) == .list([.integer(0), .integer(0), .integer(0)]))
        #expect(put([.insert, .whole], [keys[0], keys[0]]) == .list([.integer(0), .integer(0)]))
        #expect(rows.get(1, 2, 3) == [nil, "old", nil])
        #expect(put(.insert, keys) == .list([.integer(1), .integer(0), .integer(1)]))
        #expect(put([.update, .whole], keys) == .list([.integer(2), .integer(2), .integer(2)]))
        #expect(rows.get(1, 2, 3) == ["x", "x", "x"])
        #expect(
            rows.call(.rowDelete, keys[0], [RowRig.key(9), keys[2], keys[2]])
                == .list([.integer(1), .integer(0), .integer(1), .integer(0)]))
        let mixed = rows.call(.rowPut, keys[0], ["y", RowRig.key(1, of: RowRig.orders), "y"])
        #expect(mixed == noRecord && rows.get(1) == [nil])
    }

    @Test("what was committed is there for the next leader")
    func restart() {
        rows.define([RowRig.descriptor()])
        rows.put(1, "a")
        rows.put(2, "")
        rig.settle()
        rows.put(1, "b")
        rig.finish()
        rig.restart()
        #expect(rows.get(1, 2, 3) == ["a", "", nil])
        #expect(rig.newest == .zero)
    }

    @Test("a record has a version, and may expire, like any key")
    func versions() throws {
        rows.define([RowRig.descriptor()])
        func version() -> UInt64 { rig.version(RowRig.key(1), database: RowKey.database) }
        let absent = version()
        rows.put(1, "a")
        let first = version()
        #expect(first != absent)
        let read = rows.call(.rowGet, RowRig.key(1), flags: 1)
        #expect(read == .list([.integer(Int64(bitPattern: first)), .data("a")]))
        rig.settle()
        rig.restart()
        #expect(version() == first)
        rows.put(1, "b")
        #expect(version() != first)
        #expect(
            rows.call(.expire, RowRig.key(1), numbers: [1000], flags: ExpireFlags.relativeTime.rawValue)
                == .integer(1))
        rows.put(1, "c")
        rig.settle()
        rig.restart()
        #expect(rows.call(.timeToLive, RowRig.key(1)) == .integer(1000))
        rig.now += 1000
        #expect(rows.get(1) == [nil] && rows.scan()?.isEmpty == true)
        #expect(try rig.expire() == 1)
        rig.settle()
        #expect(rig.records.keys.allSatisfy { key in key.withUnsafeBytes { SchemaKey.isOfCatalog($0) } })
    }

    @Test("a scan shows what is pending, goes on where it stopped, and keeps to its bounds")
    func scans() {
        rows.define([RowRig.descriptor(), RowRig.descriptor(RowRig.orders, "orders")])
        for number in 0..<50 { rows.put(Int64(number * 2), "r\(number)") }
        _ = rows.call(.rowPut, RowRig.key(7, of: RowRig.orders), ["o"])
        rig.settle()
        for number in stride(from: Int64(1), to: 20, by: 2) { rows.put(number, "new") }
        rows.delete(10)
        rows.put(12, "changed")
        let wanted = (0..<50).map { Int64($0 * 2) }.filter { $0 != 10 } + stride(from: Int64(1), to: 20, by: 2)
        for records in [Int64(0), 1, 7] {
            let found = rows.scan(records: records) ?? []
            #expect(Set(found.map { RowRig.number($0.key) }) == Set(wanted) && found.count == wanted.count)
            #expect(found.first { RowRig.number($0.key) == 12 }?.record == "changed")
        }
        #expect(rig.newest == rig.nextIndex)
        let some = rows.scan(from: RowRig.primaryKey(5), to: RowRig.primaryKey(15), bytes: 10, isKeysOnly: true) ?? []
        #expect(some.map { RowRig.number($0.key) }.sorted() == [5, 6, 7, 8, 9, 11, 12, 13, 14])
        #expect(rows.scan(RowRig.orders)?.map(\.record) == ["o"])
        #expect(rows.scan(version: 2) == nil)
        #expect(rows.call(.rowScan, RowRig.id(RowRig.users), numbers: [1, 64]) == .error("invalid cursor"))
    }

    @Test("rows come in the order of their keys, either way, while others come and go")
    func ordered() {
        rows.define([RowRig.descriptor()])
        for number in 0..<400 { rows.put(Int64(number * 3), "r\(number)") }
        rig.settle()
        // The last ones are gone, some are new and not committed.
        for number in 390..<400 { rows.delete(Int64(number * 3)) }
        for number in stride(from: Int64(1), to: 100, by: 3) { rows.put(number, "new") }
        let wanted = (0..<390).map { Int64($0 * 3) } + stride(from: Int64(1), to: 100, by: 3)
        for records in [Int64(70), 200, 0] {
            let forward = rows.scanInOrder(records: records) ?? []
            #expect(forward.map { RowRig.number($0.key) } == wanted.sorted())
            let backward = rows.scanInOrder(records: records, isBackward: true) ?? []
            #expect(backward.map { RowRig.number($0.key) } == wanted.sorted(by: >))
        }
        let (low, high) = (RowRig.primaryKey(10), RowRig.primaryKey(20))
        #expect(
            rows.scanInOrder(from: low, to: high).map { $0.map { RowRig.number($0.key) } } == [
                10, 12, 13, 15, 16, 18, 19,
            ])
        // What comes behind where the pages are is seen, what comes before is not.
        var next: Int64 = 2
        let moving = rows.scanInOrder(records: 50) {
            rows.put(2, "late")
            rows.put(next + 3000, "late")
            next += 3
        }
        #expect(moving?.contains { $0.record == "late" && RowRig.number($0.key) == 2 } == false)
        #expect(moving?.last.map { RowRig.number($0.key) > 3000 } == true)
        #expect(rows.call(.rowScan, RowRig.id(RowRig.users), ["", "", ""], numbers: [1, 0], flags: 8) != .ok)
    }

    @Test("the catalog changes by whole versions; what a collection held goes when nobody can see it")
    func catalog() throws {
        #expect(rows.define([RowRig.descriptor()]) == .ok)
        #expect(rows.define([RowRig.descriptor(version: 2)]) == stale)
        rig.settle()
        rows.put(1, "a")
        #expect(rows.define([RowRig.descriptor(version: 2)], by: 1) == .ok)
        #expect(rows.put(1, "b") == stale)
        #expect(rows.call(.rowPut, RowRig.key(1), ["b"], numbers: [2]) == .list([.integer(2)]))
        #expect(rig.newest == rig.nextIndex)
        rig.settle()
        rig.restart()
        #expect(try rig.runtime.catalog().collection(RowRig.users)?.version == 2)
        #expect(rows.call(.schemaRead, "", numbers: [2]) == .list([.integer(2)]))
        guard case .list(let items) = rows.call(.schemaRead, "", numbers: [-1]) else { throw Failure.noList }
        #expect(items.count == 3)
        #expect(rows.drop([RowRig.orders], by: 2) == .error("the call names other objects than it changes"))
        #expect(rows.drop([RowRig.users], by: 2) == .ok)
        #expect(rows.call(.rowGet, RowRig.key(1), numbers: [2]) == stale)
        rig.settle()
        #expect(try rig.collect() > 0)
        rig.settle()
        rig.restart()
        #expect(try rig.runtime.catalog().version == 3 && rig.runtime.catalog().collections.isEmpty)
        #expect(rig.records.keys.count == 64, "the version of the catalog in each bucket")
    }

    private enum Failure: Error { case noList }

    @Test("FLUSHALL takes keys of Redis, and no records")
    func flush() {
        rows.define([RowRig.descriptor()])
        rows.put(1, "a")
        #expect(
            rows.call(.expire, RowRig.key(1), numbers: [1000], flags: ExpireFlags.relativeTime.rawValue)
                == .integer(1))
        _ = rig.call(.set, "k", ["v"])
        #expect(rig.call(.flushAll) == .ok)
        rig.settle()
        #expect(rows.get(1) == ["a"] && rig.call(.get, "k") == .null)
        rig.restart()
        #expect(rows.get(1) == ["a"] && rows.call(.timeToLive, RowRig.key(1)) == .integer(1000))
    }

    @Test("a transaction sees its own records and its own schema, and takes them back")
    func scopes() throws {
        let scope = ScopeRig(rig)
        scope.run { #expect(rows.define([RowRig.descriptor()]) == .ok) }
        scope.run {
            #expect(rows.put(1, "a") == .list([.integer(1)]))
            #expect(rows.scan()?.map(\.record) == ["a"])
        }
        #expect(rows.get(1) == [], "nobody else sees it")
        scope.run { #expect(rows.define([RowRig.descriptor(version: 2)], by: 1) == .ok) }
        scope.run { #expect(rows.put(1, "b") == stale) }
        scope.scope.rollBack(to: 2)
        scope.number = 2
        scope.begin()
        #expect(rows.define([RowRig.descriptor(version: 3)], by: 1) == .ok)
        scope.undo()
        scope.run { #expect(rows.put(2, "b") == .list([.integer(1)]) && rows.delete(1) == .list([.integer(1)])) }
        try scope.commit()
        #expect(rows.get(1, 2) == [nil, "b"])
        rig.restart()
        #expect(rows.get(1, 2) == [nil, "b"] && rows.scan()?.map(\.record) == ["b"])
    }

    @Test("a part of a transaction leaves nothing in memory, its schema neither")
    func parts() throws {
        try rig.runtime.beginPart()
        rows.define([RowRig.descriptor()])
        rows.put(1, "a")
        let effects = EffectList()
        _ = rig.runtime.finishPart(effects)
        #expect(rows.get(1) == [])
        rig.records.apply(effects.effects)
        rig.runtime.forget(RowKey.database, ByteView(start: nil, count: 0))
        #expect(rows.get(1) == ["a"])
    }

    @Test("a sequence gives each number once, in order, to its end and around")
    func sequences() {
        var numbers = RowRig.descriptor()
        (numbers.kind, numbers.sequence) = (.sequence, .init())
        numbers.sequence?.maximum = 5
        rows.define([numbers])
        let key = RowRig.key(0), end = "nextval: reached maximum value of sequence \"users\" (5)"
        func draw(_ count: Int64) -> Answer { rows.call(.sequenceNext, key, numbers: [1, count]) }
        func set(_ value: Int64, _ isCalled: Int64) -> Answer {
            rows.call(.sequenceSet, key, numbers: [1, value, isCalled])
        }
        #expect(draw(1) == .list([.integer(1)]) && draw(2) == .list([.integer(2), .integer(3)]))
        rig.settle()
        rig.restart()
        #expect(draw(9) == .list([.integer(4), .integer(5)]) && draw(1) == .error(end))
        #expect(set(2, 0) == .integer(2) && draw(1) == .list([.integer(2)]))
        #expect(set(4, 1) == .integer(4) && draw(1) == .list([.integer(5)]))
        #expect(set(6, 0) == .error("setval: value 6 is out of bounds for sequence \"users\" (1..5)"))
        #expect(draw(0) == .error("value is out of range"))
        #expect(rows.call(.sequenceNext, RowRig.key(1), numbers: [1, 1]) == noRecord)
        numbers.version = 2
        numbers.sequence?.cycles = true
        rows.define([numbers], by: 1)
        #expect(rows.call(.sequenceNext, key, numbers: [2, 2]) == .list([.integer(1), .integer(2)]))
    }

    @Test("no call traps, whatever is in it", arguments: 1...8 as ClosedRange<UInt64>)
    func garbage(_ seed: UInt64) {
        var random = SplitMix64(seed: seed)
        rows.define([RowRig.descriptor(), RowRig.descriptor(RowRig.orders, "orders")])
        let methods = ActorMethod.allCases
        func word() -> String {
            switch random.next(below: 6) {
            case 0: RowRig.key(Int64(random.next(below: 4)))
            case 1: RowRig.id(RowRig.users)
            case 2: text(CatalogObject.collection(RowRig.descriptor()).encode().prefix(Int(random.next(below: 80))))
            case 3: ""
            case _: text((0..<random.next(below: 12)).map { _ in UInt8(truncatingIfNeeded: random.next()) })
            }
        }
        func number() -> Int64 {
            switch random.next(below: 4) {
            case 0: Int64(random.next(below: 4))
            case 1: Int64(bitPattern: random.next())
            case 2: .min
            case _: 1
            }
        }
        for _ in 0..<2000 {
            let method = methods[Int(random.next(below: UInt64(methods.count)))]
            let arguments = (0..<random.next(below: 4)).map { _ in word() }
            let numbers = (0..<random.next(below: 6)).map { _ in number() }
            _ = rows.call(
                method, word(), arguments, numbers: numbers, flags: UInt32(truncatingIfNeeded: random.next(below: 9)))
            if random.next(below: 50) == 0 { rig.settle() }
        }
        for key in rig.records.keys where key.withUnsafeBytes({ RowKey.parse($0) }) != nil {
            rig.records.put(key, (0..<random.next(below: 20)).map { _ in UInt8(truncatingIfNeeded: random.next()) })
        }
        rig.restart()
        _ = rows.scan()
        _ = rows.get(0, 1, 2, 3)
    }
}
