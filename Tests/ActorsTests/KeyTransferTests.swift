import Base
import Contracts
import Testing

@testable import Actors

/// Whole values on their way to another shard.
@Suite("Transfer of values")
struct KeyTransferTests {
    /// Moves a value from one shard to another as RENAME over shards does.
    private func copy(_ key: String, from source: Rig, to target: Rig, as name: String) -> Answer {
        guard case .list(let dump) = source.call(.dump, key) else { return .null }
        var numbers: [Int64] = [], values: [String] = []
        for item in dump.dropFirst() {
            switch item {
            case .integer(let number): numbers.append(number)
            case .data(let text): values.append(text)
            case .null, .ok, .list, .error: break
            }
        }
        return target.call(.install, name, values, numbers: numbers)
    }

    private static let expiry: Int64 = 1_700_000_090_000

    @Test("a value arrives with type, time to live and encoding", arguments: [false, true])
    func whole(_ isStored: Bool) throws {
        let source = Rig(), target = Rig()
        let long = String(repeating: "x", count: 300_000)
        _ = source.call(.set, "s", ["12"])
        _ = source.call(.append, "s", ["34"])
        _ = source.call(.set, "long", [long])
        _ = source.call(.hashSet, "h", ["f", "1", "g", "", "", "2"])
        for number in 0..<200 { _ = source.call(.hashSet, "big", ["f\(number)", "\(number)"]) }
        for number in 1..<200 { _ = source.call(.hashDelete, "big", ["f\(number)"]) }
        _ = source.call(.expire, "h", numbers: [Self.expiry])
        _ = target.call(.hashSet, "to-s", ["old", "1"])
        _ = target.call(.expire, "to-s", numbers: [Self.expiry])
        _ = target.call(.set, "to-h", [long])
        for rig in [source, target] where isStored {
            rig.settle()
            rig.runtime.reset(committed: rig.committed, floor: .zero)
        }
        for key in ["s", "long", "h", "big"] {
            #expect(copy(key, from: source, to: target, as: "to-\(key)") == .ok)
            for method in [Method.type, .expireTime] {
                #expect(source.call(method, key) == target.call(method, "to-\(key)"), "\(method) of \(key)")
            }
        }
        // A hash that was large is known as one only as long as it is in memory.
        for key in isStored ? ["s", "h"] : ["s", "h", "big"] {
            #expect(source.call(.objectEncoding, key) == target.call(.objectEncoding, "to-\(key)"))
        }
        target.settle()
        target.runtime.reset(committed: target.committed, floor: .zero)
        #expect(target.call(.get, "to-s") == .data("1234") && target.call(.get, "to-long") == .data(long))
        for (field, value) in [("f", "1"), ("g", ""), ("", "2")] {
            #expect(target.call(.hashGet, "to-h", [field]) == .data(value))
        }
        #expect(target.call(.hashLength, "to-big") == .integer(1))
        #expect(target.call(.expireTime, "to-h") == .integer(Self.expiry))
        #expect(target.call(.databaseSize) == .integer(4))
    }

    @Test("a dump has the version that WATCH knows, and says what is not there")
    func versions() {
        let rig = Rig()
        let version = { (key: String) in Answer.integer(Int64(bitPattern: rig.version(key))) }
        #expect(rig.call(.dump, "none") == .list([version("none")]))
        _ = rig.call(.hashSet, "h", ["f", "1"])
        let head = [version("h"), .integer(2), .integer(0), .integer(0)]
        #expect(rig.call(.dump, "h", flags: 1) == .list(head) && rig.call(.dump, "h", flags: 2) == .list(head))
        #expect(rig.call(.dump, "h") == .list(head + [.data("f"), .data("1")]))
        _ = rig.call(.set, "s", ["v"])
        _ = rig.call(.expire, "s", numbers: [Self.expiry])
        #expect(
            rig.call(.dump, "s", flags: 1)
                == .list([version("s"), .integer(1), .integer(0), .integer(Self.expiry), .data("v")]))
        rig.now = UInt64(Self.expiry)
        #expect(rig.call(.dump, "s") == .list([version("s")]))
    }

    @Test("what cannot be put in place is refused, changes nothing, and is told once")
    func refused() {
        var limits = ActorLimits()
        (limits.valueBytes, limits.callBytes, limits.keyBytes) = (1000, 5000, 10)
        let rig = Rig(limits: limits), long = String(repeating: "x", count: 1001)
        _ = rig.call(.set, "k", ["v"])
        let attempts: [([String], [Int64])] = [
            ([long], [1, 0, 0]), (["a", "b"], [1, 0, 0]), ([], [1, 0, 0]), (["f"], [2, 0, 0]), ([], [2, 0, 0]),
            (["f", long], [2, 0, 0]), ([String(repeating: "f", count: 11), "v"], [2, 0, 0]), (["v"], [3, 0, 0]),
            (["v"], [1, 0]), (["v"], [1, 0, -1]), (["v"], []),
            ((0..<12).map { $0 % 2 == 0 ? "f\($0)" : String(repeating: "x", count: 999) }, [2, 0, 0]),
        ]
        for (values, numbers) in attempts {
            guard case .error = rig.call(.install, "k", values, numbers: numbers) else {
                Issue.record("\(values) \(numbers)")
                continue
            }
            #expect(rig.runtime.takeBrokenTransfer() != nil && rig.runtime.takeBrokenTransfer() == nil)
            #expect(rig.call(.get, "k") == .data("v"))
        }
    }

    @Test("BITOP and LCS of values are those of keys")
    func values() {
        let rig = Rig()
        for (key, value) in [("a", "abcdef"), ("b", "xbydz")] { _ = rig.call(.set, key, [value]) }
        for operation in 0...2 as ClosedRange<Int64> {
            let ofKeys = rig.call(.bitOperation, "d", ["a", "b", "none"], numbers: [operation])
            let ofValues = rig.call(.bitOperationOfValues, "e", ["abcdef", "xbydz", ""], numbers: [operation])
            #expect(ofKeys == ofValues && rig.call(.get, "d") == rig.call(.get, "e"))
        }
        #expect(rig.call(.bitOperationOfValues, "e", [""], numbers: [1]) == .integer(0))
        #expect(rig.call(.exists, "e") == .integer(0))
        for flags in 0...2 as ClosedRange<UInt32> {
            let ofKeys = rig.call(.longestCommonSubsequence, "a", ["b"], numbers: [0], flags: flags)
            let values = ["abcdef", "xbydz"]
            #expect(rig.call(.longestCommonSubsequenceOfValues, "q", values, numbers: [0], flags: flags) == ofKeys)
        }
        for arguments in [[], ["a"], ["a", "b", "c"]] {
            guard case .error = rig.call(.longestCommonSubsequenceOfValues, "q", arguments) else {
                Issue.record("\(arguments)")
                continue
            }
        }
    }
}
