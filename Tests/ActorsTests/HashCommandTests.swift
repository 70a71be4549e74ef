import Actors
import Base
import Contracts
import Testing

@Suite("Hash commands")
struct HashCommandTests {
    let rig = Rig()

    @Test("fields")
    func fields() {
        #expect(rig.call(.hashSet, "h", ["a", "1", "b", "2", "a", "3"]) == .integer(2))
        #expect(rig.call(.hashGet, "h", ["a"]) == .data("3"))
        #expect(rig.call(.hashGet, "h", ["x"]) == .null)
        #expect(rig.call(.hashGet, "none", ["x"]) == .null)
        #expect(rig.call(.hashSet, "h", ["a", "9"], flags: 1) == .integer(0))
        #expect(rig.call(.hashSet, "h", ["c", "9"], flags: 1) == .integer(1))
        #expect(rig.call(.hashMultiGet, "h", ["a", "x", "b"]) == .list([.data("3"), .null, .data("2")]))
        #expect(rig.call(.hashMultiGet, "none", ["a"]) == .list([.null]))
        #expect(rig.call(.hashLength, "h") == .integer(3))
        #expect(rig.call(.hashExists, "h", ["a"]) == .integer(1))
        #expect(rig.call(.hashExists, "h", ["x"]) == .integer(0))
        #expect(rig.call(.hashStringLength, "h", ["a"]) == .integer(1))
        #expect(rig.call(.hashKeys, "h").texts.sorted() == ["a", "b", "c"])
        #expect(rig.call(.hashValues, "h").texts.sorted() == ["2", "3", "9"])
        #expect(rig.call(.hashGetAll, "none") == .list([]))
        #expect(rig.call(.hashDelete, "h", ["a", "x", "b", "a"]) == .integer(2))
        #expect(rig.call(.hashDelete, "h", ["c"]) == .integer(1))
        #expect(rig.call(.exists, "h") == .integer(0))
        #expect(rig.call(.type, "h") == .data("none"))
        #expect(rig.call(.databaseSize) == .integer(0))
    }

    @Test("a string is not a hash")
    func types() {
        _ = rig.call(.set, "s", ["1"])
        let methods: [ActorMethod] = [
            .hashGet, .hashMultiGet, .hashGetAll, .hashKeys, .hashValues, .hashLength, .hashExists, .hashDelete,
            .hashStringLength, .hashRandomField,
        ]
        for method in methods { #expect(rig.call(method, "s", ["a"]) == wrongType, "\(method)") }
        #expect(rig.call(.hashSet, "s", ["a", "1"]) == wrongType)
        #expect(rig.call(.hashIncrementBy, "s", ["a"], numbers: [1]) == wrongType)
        #expect(rig.call(.hashIncrementByFloat, "s", ["a", "1"]) == wrongType)
        #expect(rig.call(.hashScan, "s", numbers: [0, 10]) == wrongType)
    }

    @Test("counting")
    func counting() {
        #expect(rig.call(.hashIncrementBy, "h", ["a"], numbers: [5]) == .integer(5))
        #expect(rig.call(.hashIncrementBy, "h", ["a"], numbers: [-6]) == .integer(-1))
        _ = rig.call(.hashSet, "h", ["t", "x", "m", String(Int64.min), "f", "1.5"])
        #expect(rig.call(.hashIncrementBy, "h", ["t"], numbers: [1]) == .error("hash value is not an integer"))
        #expect(
            rig.call(.hashIncrementBy, "h", ["m"], numbers: [-1]) == .error("increment or decrement would overflow"))
        #expect(rig.call(.hashIncrementByFloat, "h", ["f", "0.25"]) == .data("1.75"))
        #expect(rig.call(.hashIncrementByFloat, "h", ["new", "2.0"]) == .data("2"))
        #expect(rig.call(.hashIncrementByFloat, "h", ["t", "1"]) == .error("hash value is not a float"))
        #expect(rig.call(.hashIncrementByFloat, "h", ["f", "x"]) == .error("value is not a valid float"))
        #expect(rig.call(.hashIncrementByFloat, "h", ["f", "inf"]) == .error("value is NaN or Infinity"))
    }

    @Test("random fields", arguments: [5, 300, 5000])
    func random(_ count: Int) {
        let names = (0..<count).map { "f\($0)" }
        for part in stride(from: 0, to: count, by: 100) {
            _ = rig.call(.hashSet, "h", names[part..<min(part + 100, count)].flatMap { [$0, "v\($0)"] })
        }
        for round in 0..<2 {
            if round == 1 {
                rig.settle()
                rig.restart()
            }
            guard case .data(let one) = rig.call(.hashRandomField, "h") else { return #expect(Bool(false)) }
            #expect(names.contains(one))
            let some = rig.call(.hashRandomField, "h", numbers: [4], flags: 1).texts
            #expect(Set(some).count == 4 && Set(some).isSubset(of: names))
            #expect(rig.call(.hashRandomField, "h", numbers: [1_000_000], flags: 1).texts.sorted() == names.sorted())
            let pairs = rig.call(.hashRandomField, "h", numbers: [-100], flags: 3).texts
            #expect(pairs.count == 200)
            for position in stride(from: 0, to: 200, by: 2) { #expect("v" + pairs[position] == pairs[position + 1]) }
            #expect(rig.call(.hashRandomField, "h", numbers: [0], flags: 1) == .list([]))
            #expect(rig.call(.hashRandomField, "h", numbers: [.min], flags: 1) == .error("value is out of range"))
        }
        #expect(rig.call(.hashRandomField, "none") == .null)
        #expect(rig.call(.hashRandomField, "none", numbers: [3], flags: 1) == .list([]))
    }

    @Test("HSCAN meets every field once, with a pattern or without", arguments: [10, 1000, 6000])
    func scan(_ count: Int) {
        let names = (0..<count).map { "f\($0)" }
        for part in stride(from: 0, to: count, by: 100) {
            _ = rig.call(.hashSet, "h", names[part..<min(part + 100, count)].flatMap { [$0, "v"] })
            if part % 300 == 0 { rig.settle() }
        }
        let all = rig.scanAll(.hashScan, "h", count: 70)
        #expect(all.count == 2 * count)
        #expect(Set(all.filter { $0 != "v" }) == Set(names))
        let some = rig.scanAll(.hashScan, "h", count: 70, flags: 1, arguments: ["f1*"])
        #expect(Set(some.filter { $0 != "v" }) == Set(names.filter { $0.hasPrefix("f1") }))
        #expect(rig.call(.hashScan, "none", numbers: [0, 10]) == .items(["0"]))
        #expect(rig.call(.hashScan, "h", numbers: [Int64.min, 10]) == .error("invalid cursor"))
    }

    @Test("a hash too large for memory is read field by field, and counts right")
    func incomplete() {
        rig.limits.completeFields = 10
        rig.limits.cachedFields = 5
        rig.restart()
        for number in 0..<40 { _ = rig.call(.hashSet, "h", ["f\(number)", "v\(number)"]) }
        rig.settle()
        rig.restart()
        #expect(rig.call(.hashGet, "h", ["f7"]) == .data("v7"))
        // More fields in one call than are kept between calls.
        let names = (0..<30).map { "f\($0)" }
        #expect(rig.call(.hashSet, "h", names.flatMap { [$0, "w"] }) == .integer(0))
        #expect(rig.call(.hashLength, "h") == .integer(40))
        #expect(rig.call(.hashDelete, "h", names + ["none"]) == .integer(30))
        #expect(rig.call(.hashLength, "h") == .integer(10))
        #expect(rig.call(.hashGetAll, "h").texts.count == 20)
        rig.settle()
        rig.restart()
        #expect(rig.call(.hashLength, "h") == .integer(10))
        #expect(rig.call(.hashDelete, "h", (0..<40).map { "f\($0)" }) == .integer(10))
        #expect(rig.call(.exists, "h") == .integer(0))
        rig.settle()
        #expect(rig.call(.exists, "h") == .integer(0))
    }
}
