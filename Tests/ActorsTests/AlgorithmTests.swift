@testable import Actors
import Base
import Testing

/// Runs `body` over the bytes of a text, each scalar a byte.
func view<Result>(_ string: String, _ body: (ByteView) -> Result) -> Result { latin(string).withUnsafeBytes(body) }

@Suite("GlobPattern")
struct GlobPatternTests {
    static let cases: [(String, String, Bool)] = [
        ("*", "", true), ("*", "abc", true), ("", "", true), ("", "a", false), ("a?c", "abc", true),
        ("a?c", "ac", false),
        ("h[ae]llo", "hello", true), ("h[ae]llo", "hillo", false), ("h[^e]llo", "hallo", true),
        ("h[^e]llo", "hello", false), ("h[a-b]llo", "hbllo", true), ("h[b-a]llo", "hallo", true),
        ("h\\*llo", "h*llo", true), ("h\\*llo", "hello", false), ("[\\]]", "]", true), ("a*b*c", "aXbYc", true),
        ("a*b*c", "aXbY", false), ("**a**", "xxaxx", true), ("[a", "a", true), ("[a", "b", false), ("a\\", "a\\", true),
        ("[^]", "x", true), ("[]", "x", false), ("user:*:name", "user:42:name", true), ("*.", "a.b.", true),
        ("[a-]", "a", true), ("\u{ff}?", "\u{ff}\u{0}", true), ("[\u{f0}-\u{ff}]", "\u{f8}", true), ("a", "A", false),
    ]

    @Test("matches like Redis", arguments: cases)
    func matching(_ pattern: String, _ text: String, _ expected: Bool) {
        #expect(view(pattern) { GlobPattern($0) }.matches(Bytes(latin(text))) == expected)
    }

    @Test("many stars cost no more than pattern times text")
    func stars() {
        let pattern = view(String(repeating: "a*", count: 500) + "b") { GlobPattern($0) }
        #expect(!pattern.matches(Bytes(repeating: 97, count: 20_000)))
        #expect(pattern.matches(Bytes(repeating: 97, count: 20_000) + [98]))
    }

    @Test("knows the pattern that matches everything")
    func everything() {
        #expect(view("**") { GlobPattern($0) }.matchesAll)
        #expect(!view("*a") { GlobPattern($0) }.matchesAll)
    }
}

extension GlobPattern {
    func matches(_ bytes: Bytes) -> Bool { bytes.withUnsafeBytes { matches($0) } }
}

@Suite("Numbers")
struct NumberTests {
    @Test(
        "reads canonical integers only",
        arguments: [
            ("0", 0), ("-1", -1), ("9223372036854775807", Int64.max), ("-9223372036854775808", Int64.min), ("", nil),
            ("-", nil), ("+1", nil), ("01", nil), ("-0", nil), (" 1", nil), ("1 ", nil), ("9223372036854775808", nil),
            ("-9223372036854775809", nil), ("1.0", nil), ("12345678901234567890123", nil),
        ] as [(String, Int64?)])
    func integers(_ text: String, _ expected: Int64?) {
        #expect(view(text) { decimalInteger($0) } == expected)
        if let expected { #expect(decimalBytes(expected) == Bytes(text.utf8)) }
    }

    @Test(
        "writes floating-point numbers like Redis",
        arguments: [
            ("10.5", "10.5"), ("3.0e3", "3000"), ("0.1", "0.1"), ("-0.0", "0"), ("5.0e3", "5000"),
            ("1e17", "100000000000000000"),
            ("123456789.000000001", "123456789.00000000099680619"), ("1e-18", "0"), (".5", "0.5"), ("0x10", "16"),
            ("+3", "3"),
        ])
    func floats(_ text: String, _ expected: String) throws {
        let value = try #require(view(text) { parseLongDouble($0) })
        #expect(formatLongDouble(value) == Bytes(expected.utf8))
    }

    @Test(
        "refuses what is no number",
        arguments: ["", "abc", " 1", "1 ", "1,5", "nan", "1e99999", "1e-99999", "1.5.5", "--1"])
    func noFloats(_ text: String) {
        #expect(view(text) { parseLongDouble($0) } == nil)
    }

    @Test("adds like a long double, and writes the longest")
    func sums() throws {
        let first = try #require(view("10.50") { parseLongDouble($0) })
        let second = try #require(view("0.1") { parseLongDouble($0) })
        #expect(formatLongDouble(first + second) == Bytes("10.6".utf8))
        #expect(formatLongDouble(LongDouble.greatestFiniteMagnitude).count > 300)
        #expect(view("inf") { parseLongDouble($0) } == .infinity)
    }
}

@Suite("Bit operations")
struct BitOperationTests {
    private func bit(_ bytes: Bytes, _ position: Int) -> Bool {
        bytes[position / 8] & (0x80 >> UInt8(position % 8)) != 0
    }

    @Test("count and find bits like a loop does", arguments: 1...50 as ClosedRange<UInt64>)
    func scanning(_ seed: UInt64) {
        var random = SplitMix64(seed: seed)
        let count = Int(random.next(below: 60))
        let fill: UInt8 = [0, 0xff, 0x55][Int(random.next(below: 3))]
        var bytes = Bytes(repeating: fill, count: count)
        for _ in 0..<2 where count > 0 {
            bytes[Int(random.next(below: UInt64(count)))] = UInt8(truncatingIfNeeded: random.next())
        }
        for _ in 0..<40 {
            let low = Int(random.next(below: UInt64(count * 8 + 1)))
            let high = low + Int(random.next(below: UInt64(count * 8 - low + 1)))
            let expected = (low..<high).filter { bit(bytes, $0) }
            bytes.withUnsafeBytes { view in
                #expect(BitOperations.countOnes(view, low..<high) == expected.count, "seed \(seed) \(low)..<\(high)")
                #expect(BitOperations.position(of: true, in: view, low..<high) == expected.first, "seed \(seed)")
                let zero = (low..<high).first { !bit(bytes, $0) }
                #expect(BitOperations.position(of: false, in: view, low..<high) == zero, "seed \(seed)")
            }
        }
    }

    @Test("combines strings of different lengths", arguments: 1...20 as ClosedRange<UInt64>)
    func combining(_ seed: UInt64) {
        var random = SplitMix64(seed: seed)
        let sources = (0..<3).map { _ in random.bytes(Int(random.next(below: 40))) }
        let count = sources.map(\.count).max() ?? 0
        func padded(_ position: Int) -> [UInt8] { sources.map { position < $0.count ? $0[position] : 0 } }
        #expect(BitOperations.combine(.and, sources) == (0..<count).map { padded($0).reduce(0xff, &) }, "seed \(seed)")
        #expect(BitOperations.combine(.or, sources) == (0..<count).map { padded($0).reduce(0, |) }, "seed \(seed)")
        #expect(BitOperations.combine(.xor, sources) == (0..<count).map { padded($0).reduce(0, ^) }, "seed \(seed)")
        #expect(BitOperations.combine(.not, [sources[0]]) == sources[0].map { ~$0 }, "seed \(seed)")
    }

    @Test("a bit field reads what it wrote, and touches nothing else", arguments: 1...50 as ClosedRange<UInt64>)
    func fields(_ seed: UInt64) {
        var random = SplitMix64(seed: seed)
        let isSigned = random.next(below: 2) == 0
        let width = 1 + Int(random.next(below: isSigned ? 64 : 63))
        let offset = Int(random.next(below: 64))
        let value = Int64(truncatingIfNeeded: random.next())
        var bytes = random.bytes(24)
        let before = bytes
        let field = BitFieldOperation(
            kind: .set, isSigned: isSigned, width: width, offset: offset, value: value, overflow: .wrap)
        let old = bytes.withUnsafeBytes { field.read($0) }
        let answer = bytes.withUnsafeMutableBytes {
            field.write(in: UnsafeMutableRawBufferPointer(rebasing: $0[field.bytes]))
        }
        #expect(answer == old, "seed \(seed)")
        let mask = width == 64 ? UInt64.max : (1 << UInt64(width)) - 1
        let read = bytes.withUnsafeBytes { field.read($0) }
        #expect(UInt64(bitPattern: read) & mask == UInt64(bitPattern: value) & mask, "seed \(seed)")
        for position in 0..<192 where position < offset || position >= offset + width {
            #expect(bit(bytes, position) == bit(before, position), "seed \(seed) bit \(position)")
        }
    }

    @Test("a set saturates at the bound that Redis takes")
    func saturation() {
        func set(_ width: Int, _ value: Int64) -> Int64 {
            var bytes = Bytes(repeating: 0, count: 8)
            let field = BitFieldOperation(
                kind: .set, isSigned: true, width: width, offset: 0, value: value, overflow: .saturate)
            bytes.withUnsafeMutableBytes {
                _ = field.write(in: UnsafeMutableRawBufferPointer(rebasing: $0[field.bytes]))
            }
            return bytes.withUnsafeBytes { field.read($0) }
        }
        #expect(set(8, -1000) == -128)
        #expect(set(8, 1000) == 127)
        #expect(set(63, -5_612_312_635_211_295_423) == (1 << 62) - 1)
    }

    @Test("a bit field at its bounds wraps, saturates or fails")
    func overflow() {
        func run(_ isSigned: Bool, _ width: Int, _ start: Int64, _ delta: Int64, _ rule: BitFieldOperation.Overflow)
            -> Int64?
        {
            var bytes = Bytes(repeating: 0, count: 9)
            func apply(_ kind: BitFieldOperation.Kind, _ value: Int64, _ rule: BitFieldOperation.Overflow) -> Int64? {
                let field = BitFieldOperation(
                    kind: kind, isSigned: isSigned, width: width, offset: 3, value: value, overflow: rule)
                return bytes.withUnsafeMutableBytes {
                    field.write(in: UnsafeMutableRawBufferPointer(rebasing: $0[field.bytes]))
                }
            }
            _ = apply(.set, start, .wrap)
            return apply(.increment, delta, rule)
        }
        #expect(run(false, 8, 255, 1, .wrap) == 0)
        #expect(run(false, 8, 255, 1, .saturate) == 255)
        #expect(run(false, 8, 255, 1, .fail) == nil)
        #expect(run(false, 8, 0, -1, .wrap) == 255)
        #expect(run(false, 8, 0, -1, .saturate) == 0)
        #expect(run(true, 8, 127, 1, .wrap) == -128)
        #expect(run(true, 8, -128, -1, .saturate) == -128)
        #expect(run(true, 64, .max, 1, .wrap) == .min)
        #expect(run(true, 64, .max, 1, .saturate) == .max)
        #expect(run(true, 64, .min, .min, .fail) == nil)
        #expect(run(false, 63, .max, 1, .wrap) == 0)
        #expect(run(true, 1, 0, 1, .wrap) == -1)
    }
}

@Suite("Longest common subsequence")
struct CommonSubsequenceTests {
    @Test("finds the one that Redis finds")
    func example() throws {
        let result = try #require(
            CommonSubsequence.of(latin("ohmytext"), latin("mynewtext"), cellLimit: 1000, needsTrace: true))
        #expect(text(result.bytes) == "mytext")
        #expect(result.matches == [.init(left: 4, right: 5, length: 4), .init(left: 2, right: 0, length: 2)])
        #expect(result.length == 6)
    }

    @Test("refuses a table above the limit, and empty strings have none")
    func limits() {
        #expect(CommonSubsequence.of(latin("abcd"), latin("abcd"), cellLimit: 15, needsTrace: false) == nil)
        #expect(CommonSubsequence.of([], latin("abcd"), cellLimit: 0, needsTrace: true)?.length == 0)
    }

    @Test("what it finds is common, and as long as it says", arguments: 1...30 as ClosedRange<UInt64>)
    func random(_ seed: UInt64) throws {
        var random = SplitMix64(seed: seed)
        let left = random.bytes(30).map { $0 % 4 }, right = random.bytes(40).map { $0 % 4 }
        let result = try #require(CommonSubsequence.of(left, right, cellLimit: 10_000, needsTrace: true))
        func contains(_ whole: Bytes, _ part: Bytes) -> Bool {
            var rest = part[...]
            for byte in whole where rest.first == byte { rest = rest.dropFirst() }
            return rest.isEmpty
        }
        #expect(contains(left, result.bytes) && contains(right, result.bytes), "seed \(seed)")
        #expect(result.bytes.count == result.length, "seed \(seed)")
        #expect(result.matches.reduce(0) { $0 + $1.length } == result.length, "seed \(seed)")
    }
}
