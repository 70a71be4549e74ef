import Actors
import Base
import Contracts
import Testing

let wrongType = Answer.error("Operation against a key holding the wrong kind of value")

@Suite("String commands")
struct StringCommandTests {
    let rig = Rig()

    private func set(
        _ key: String, _ value: String, _ flags: SetFlags = [], _ time: Int64? = nil
    ) -> Answer {
        rig.call(.set, key, [value], numbers: time.map { [$0] } ?? [], flags: flags.rawValue)
    }

    @Test("SET with its conditions")
    func set() {
        #expect(rig.call(.get, "k") == .null)
        #expect(set("k", "1", .ifPresent) == .null)
        #expect(set("k", "1", .ifAbsent) == .ok)
        #expect(set("k", "2", .ifAbsent) == .null)
        #expect(set("k", "2", [.ifAbsent, .get]) == .data("1"))
        #expect(set("k", "2", .get) == .data("1"))
        #expect(set("n", "1", .get) == .null)
        #expect(set("n2", "1", [.ifPresent, .get]) == .null)
        #expect(rig.call(.exists, "k", ["n", "n2", "k"]) == .integer(3))
        _ = rig.call(.hashSet, "h", ["a", "1"])
        #expect(set("h", "x", .get) == wrongType)
        #expect(set("h", "x") == .ok)
        #expect(rig.call(.get, "h") == .data("x"))
    }

    @Test("SET and time")
    func time() {
        #expect(set("k", "1", .relativeTime, 100) == .ok)
        #expect(rig.call(.timeToLive, "k") == .integer(100))
        #expect(set("k", "2", .keepTimeToLive) == .ok)
        #expect(rig.call(.timeToLive, "k") == .integer(100))
        #expect(set("k", "3") == .ok)
        #expect(rig.call(.timeToLive, "k") == .integer(-1))
        #expect(set("k", "4", .absoluteTime, Int64(rig.now) + 5) == .ok)
        #expect(rig.call(.expireTime, "k") == .integer(Int64(rig.now) + 5))
        rig.now += 4
        #expect(rig.call(.get, "k") == .data("4"))
        rig.now += 1
        #expect(rig.call(.get, "k") == .null)
        #expect(rig.call(.timeToLive, "k") == .integer(-2))
        #expect(set("k", "5", .relativeTime, 0) == .error("invalid expire time in 'set' command"))
        #expect(set("k", "5", .relativeTime, .max) == .error("invalid expire time in 'set' command"))
        #expect(set("k", "5", .absoluteTime, 1) == .ok)
        #expect(rig.call(.exists, "k") == .integer(0))
    }

    @Test("GETEX and GETDEL")
    func getters() {
        _ = set("k", "v")
        #expect(rig.call(.getExpire, "k", numbers: [50], flags: SetFlags.relativeTime.rawValue) == .data("v"))
        #expect(rig.call(.timeToLive, "k") == .integer(50))
        #expect(rig.call(.getExpire, "k") == .data("v"))
        #expect(rig.call(.timeToLive, "k") == .integer(50))
        #expect(rig.call(.getExpire, "k", flags: SetFlags.persist.rawValue) == .data("v"))
        #expect(rig.call(.timeToLive, "k") == .integer(-1))
        #expect(rig.call(.getExpire, "k", numbers: [1], flags: SetFlags.absoluteTime.rawValue) == .data("v"))
        #expect(rig.call(.getExpire, "k") == .null)
        _ = set("k", "w")
        #expect(rig.call(.getDelete, "k") == .data("w"))
        #expect(rig.call(.getDelete, "k") == .null)
        _ = rig.call(.hashSet, "h", ["a", "1"])
        #expect(rig.call(.getDelete, "h") == wrongType)
        #expect(rig.call(.getExpire, "h") == wrongType)
    }

    @Test("ranges of a string")
    func ranges() {
        #expect(rig.call(.append, "k", ["Hello "]) == .integer(6))
        #expect(rig.call(.append, "k", ["World"]) == .integer(11))
        #expect(rig.call(.stringLength, "k") == .integer(11))
        for (first, last, expected) in [
            (0, 3, "Hell"), (-3, -1, "rld"), (0, -1, "Hello World"), (5, 3, ""), (-1, -3, ""), (-100, 2, "Hel"),
            (8, 100, "rld"), (Int64.min, Int64.max, "Hello World"), (-100, -50, "H"), (100, 200, ""),
        ] as [(Int64, Int64, String)] {
            #expect(rig.call(.getRange, "k", numbers: [first, last]) == .data(expected), "\(first) \(last)")
        }
        #expect(rig.call(.getRange, "none", numbers: [0, -1]) == .data(""))
        #expect(rig.call(.setRange, "k", ["Redis"], numbers: [6]) == .integer(11))
        #expect(rig.call(.get, "k") == .data("Hello Redis"))
        #expect(rig.call(.setRange, "z", ["x"], numbers: [3]) == .integer(4))
        #expect(rig.call(.get, "z") == .data("\0\0\0x"))
        #expect(rig.call(.setRange, "none", [""], numbers: [3]) == .integer(0))
        #expect(rig.call(.exists, "none") == .integer(0))
        #expect(rig.call(.setRange, "k", ["x"], numbers: [-1]) == .error("offset is out of range"))
        let tooLong = Answer.error("string exceeds maximum allowed size (proto-max-bulk-len)")
        #expect(rig.call(.setRange, "k", ["x"], numbers: [8 << 20]) == tooLong)
        #expect(rig.call(.setRange, "k", ["x"], numbers: [.max]) == tooLong)
        #expect(rig.call(.append, "empty", [""]) == .integer(0))
        #expect(rig.call(.exists, "empty") == .integer(1))
    }

    @Test("integers")
    func integers() {
        #expect(rig.call(.incrementBy, "k", numbers: [5]) == .integer(5))
        #expect(rig.call(.incrementBy, "k", numbers: [-7]) == .integer(-2))
        #expect(rig.call(.get, "k") == .data("-2"))
        _ = set("k", String(Int64.max))
        #expect(rig.call(.incrementBy, "k", numbers: [1]) == .error("increment or decrement would overflow"))
        _ = set("k", " 1")
        #expect(rig.call(.incrementBy, "k", numbers: [1]) == .error("value is not an integer or out of range"))
        _ = set("t", "1", .relativeTime, 100)
        #expect(rig.call(.incrementBy, "t", numbers: [1]) == .integer(2))
        #expect(rig.call(.timeToLive, "t") == .integer(100))
        _ = rig.call(.hashSet, "h", ["a", "1"])
        #expect(rig.call(.incrementBy, "h", numbers: [1]) == wrongType)
    }

    @Test("floating point")
    func floats() {
        _ = set("k", "10.50")
        #expect(rig.call(.incrementByFloat, "k", ["0.1"]) == .data("10.6"))
        #expect(rig.call(.incrementByFloat, "k", ["-5"]) == .data("5.6"))
        _ = set("k", "5.0e3")
        #expect(rig.call(.incrementByFloat, "k", ["2.0e2"]) == .data("5200"))
        #expect(rig.call(.incrementByFloat, "k", ["x"]) == .error("value is not a valid float"))
        #expect(rig.call(.incrementByFloat, "k", ["inf"]) == .error("increment would produce NaN or Infinity"))
        _ = set("k", "abc")
        #expect(rig.call(.incrementByFloat, "k", ["1"]) == .error("value is not a valid float"))
        #expect(rig.call(.incrementByFloat, "new", ["3.0"]) == .data("3"))
    }

    @Test("several keys at once")
    func several() {
        #expect(rig.call(.multiSet, "a", ["1", "b", "2", "a", "3"]) == .ok)
        _ = rig.call(.hashSet, "h", ["f", "1"])
        #expect(rig.call(.multiGet, "a", ["b", "c", "h"]) == .list([.data("3"), .data("2"), .null, .null]))
        #expect(rig.call(.multiSet, "c", ["1", "h", "2"], flags: 1) == .integer(0))
        #expect(rig.call(.exists, "c") == .integer(0))
        #expect(rig.call(.multiSet, "c", ["1", "d", "2"], flags: 1) == .integer(1))
    }

    @Test("OBJECT ENCODING")
    func encoding() {
        func encoding(_ key: String) -> Answer { rig.call(.objectEncoding, key) }
        _ = set("k", "12")
        #expect(encoding("k") == .data("int"))
        _ = rig.call(.append, "k", ["3"])
        #expect(encoding("k") == .data("raw"))
        rig.settle()
        rig.restart()
        #expect(encoding("k") == .data("raw"))
        _ = set("k", String(repeating: "x", count: 44))
        #expect(encoding("k") == .data("embstr"))
        _ = set("k", String(repeating: "x", count: 45))
        #expect(encoding("k") == .data("raw"))
        #expect(encoding("none") == .null)
        _ = rig.call(.hashSet, "h", ["a", "1"])
        #expect(encoding("h") == .data("listpack"))
        _ = rig.call(.hashSet, "h", ["a", String(repeating: "x", count: 65)])
        #expect(encoding("h") == .data("hashtable"))
    }

    @Test("LCS")
    func lcs() {
        _ = rig.call(.multiSet, "a", ["ohmytext", "b", "mynewtext"])
        #expect(rig.call(.longestCommonSubsequence, "a", ["b"], numbers: [0]) == .data("mytext"))
        #expect(rig.call(.longestCommonSubsequence, "a", ["b"], numbers: [0], flags: 1) == .integer(6))
        let ranges = rig.call(.longestCommonSubsequence, "a", ["b"], numbers: [4], flags: 2)
        #expect(ranges == .list([4, 7, 5, 8, 4, 6].map { .integer($0) }))
        #expect(rig.call(.longestCommonSubsequence, "a", ["none"], numbers: [0]) == .data(""))
        _ = rig.call(.hashSet, "h", ["a", "1"])
        let error = Answer.error("The specified keys must contain string values")
        #expect(rig.call(.longestCommonSubsequence, "a", ["h"], numbers: [0]) == error)
    }
}

@Suite("Bitmap commands")
struct BitmapCommandTests {
    let rig = Rig()

    @Test("SETBIT and GETBIT")
    func bits() {
        #expect(rig.call(.setBit, "k", numbers: [7, 1]) == .integer(0))
        #expect(rig.call(.get, "k") == .data("\u{1}"))
        #expect(rig.call(.setBit, "k", numbers: [7, 0]) == .integer(1))
        #expect(rig.call(.setBit, "k", numbers: [17, 1]) == .integer(0))
        #expect(rig.call(.stringLength, "k") == .integer(3))
        #expect(rig.call(.getBit, "k", numbers: [17]) == .integer(1))
        #expect(rig.call(.getBit, "k", numbers: [1 << 40]) == .integer(0))
        #expect(rig.call(.setBit, "k", numbers: [0, 2]) == .error("bit is not an integer or out of range"))
        let offset = Answer.error("bit offset is not an integer or out of range")
        #expect(rig.call(.setBit, "k", numbers: [-1, 1]) == offset)
        #expect(rig.call(.setBit, "k", numbers: [8 << 23, 1]) == offset)
    }

    @Test("BITCOUNT")
    func count() {
        _ = rig.call(.set, "k", ["foobar"])
        #expect(rig.call(.bitCount, "k") == .integer(26))
        #expect(rig.call(.bitCount, "k", numbers: [0, 0], flags: 1) == .integer(4))
        #expect(rig.call(.bitCount, "k", numbers: [1, 1], flags: 1) == .integer(6))
        #expect(rig.call(.bitCount, "k", numbers: [5, 30], flags: 3) == .integer(17))
        #expect(rig.call(.bitCount, "k", numbers: [-2, -1], flags: 1) == .integer(7))
        #expect(rig.call(.bitCount, "k", numbers: [3, 1], flags: 1) == .integer(0))
        #expect(rig.call(.bitCount, "none", numbers: [0, -1], flags: 1) == .integer(0))
    }

    @Test("BITPOS")
    func position() {
        func position(_ key: String, _ numbers: [Int64], _ flags: UInt32 = 0) -> Answer {
            rig.call(.bitPosition, key, numbers: numbers, flags: flags)
        }
        #expect(position("none", [0]) == .integer(0))
        #expect(position("none", [1]) == .integer(-1))
        _ = rig.call(.set, "k", ["\u{ff}\u{f0}\0"])
        #expect(position("k", [0]) == .integer(12))
        _ = rig.call(.set, "k", ["\0\u{ff}\u{f0}"])
        #expect(position("k", [1, 0], 1) == .integer(8))
        #expect(position("k", [1, 2], 1) == .integer(16))
        #expect(position("k", [1, 7, 15], 7) == .integer(8))
        #expect(position("k", [1, 0, 0], 3) == .integer(-1))
        _ = rig.call(.set, "k", ["\u{ff}\u{ff}\u{ff}"])
        #expect(position("k", [0]) == .integer(24))
        #expect(position("k", [0, 1], 1) == .integer(24))
        #expect(position("k", [0, 0, -1], 3) == .integer(-1))
        #expect(position("k", [0, 5], 1) == .integer(-1))
        #expect(position("k", [1, -7, -10], 3) == .integer(0))
        _ = rig.call(.set, "k", ["\0\0"])
        #expect(position("k", [1]) == .integer(-1))
    }

    @Test("BITOP")
    func combine() {
        _ = rig.call(.multiSet, "a", ["foobar", "b", "abcdef"])
        #expect(rig.call(.bitOperation, "d", ["a", "b"], numbers: [0]) == .integer(6))
        #expect(rig.call(.get, "d") == .data("`bc`ab"))
        #expect(rig.call(.bitOperation, "d", ["a"], numbers: [3]) == .integer(6))
        #expect(rig.call(.bitOperation, "d", ["none"], numbers: [1]) == .integer(0))
        #expect(rig.call(.exists, "d") == .integer(0))
        _ = rig.call(.hashSet, "h", ["a", "1"])
        #expect(rig.call(.bitOperation, "d", ["h"], numbers: [1]) == wrongType)
        #expect(rig.call(.bitOperation, "h", ["a"], numbers: [1]) == .integer(6))
        #expect(rig.call(.get, "h") == .data("foobar"))
    }

    @Test("BITFIELD")
    func fields() {
        // INCRBY i5 100 1, GET u4 0
        let first = rig.call(.bitField, "k", numbers: [2, 1, 5, 100, 1, 0] + [0, 0, 4, 0, 0, 0])
        #expect(first == .list([.integer(1), .integer(0)]))
        #expect(rig.call(.stringLength, "k") == .integer(14))
        // u2 at 102, overflow as SAT, then FAIL.
        for expected in [1, 2, 3, 3] as [Int64] {
            #expect(rig.call(.bitField, "s", numbers: [2, 0, 2, 102, 1, 1]) == .list([.integer(expected)]))
        }
        #expect(rig.call(.bitField, "s", numbers: [2, 0, 2, 102, 1, 2]) == .list([.null]))
        #expect(rig.call(.bitField, "s", numbers: [1, 0, 8, 0, 255, 0]) == .list([.integer(0)]))
        #expect(rig.call(.bitField, "s", numbers: [0, 1, 8, 0, 0, 0], flags: 1) == .list([.integer(-1)]))
        #expect(rig.call(.bitField, "none", numbers: [0, 1, 8, 0, 0, 0], flags: 1) == .list([.integer(0)]))
        #expect(rig.call(.exists, "none") == .integer(0))
        let offset = Answer.error("bit offset is not an integer or out of range")
        #expect(rig.call(.bitField, "s", numbers: [1, 0, 8, .max, 255, 0]) == offset)
        #expect(rig.call(.bitField, "s", numbers: [1, 0, 64, 0, 255, 0]) != .list([.integer(0)]))
        #expect(rig.call(.bitField, "s", numbers: [1, 0, 8, 0, 255]) == .error("syntax error"))
    }
}
