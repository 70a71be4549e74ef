import Base
import DataModel
import TestKit
import Testing

@Suite("KeyEncoding")
struct KeyEncodingTests {
    @Test(
        "is frozen: keys are on disk",
        arguments: [
            (.null, "01"), (.bool(false), "02"), (.bool(true), "03"), (.integer(0), "18"), (.integer(1), "1901"),
            (.integer(42), "192a"), (.integer(256), "1a0100"), (.integer(-1), "17fe"), (.integer(-256), "16feff"),
            (.integer(.max), "207fffffffffffffff"), (.integer(.min), "107fffffffffffffff"),
            (.float(1.5), "28bff8000000000000"), (.float(-1.5), "284007ffffffffffff"),
            (.float(0), "288000000000000000"),
            (.text("a"), "306100"), (.text("a\u{0}b"), "306100ff6200"), (.bytes([0]), "3100ff00"), (.bytes([]), "3100"),
            (.uuid(high: 1, low: 2), "38" + "0000000000000001" + "0000000000000002"),
            (.timestamp(microseconds: 1), "408000000000000001"),
            (.tuple([.integer(1), .text("a")]), "50190130610000"), (.tuple([]), "5000"),
        ] as [(KeyElement, String)])
    func golden(_ element: KeyElement, _ expected: String) {
        #expect(hex(KeyEncoding.encode([element])) == expected)
        #expect(KeyEncoding.encode([element]).withUnsafeBytes { KeyEncoding.decode($0) } == [element])
    }

    /// Ascending in value order.
    static let ladder: [KeyElement] =
        [.null, .bool(false), .bool(true)]
        + ([
            .min, .min + 1, -1 << 40, -65537, -65536, -257, -256, -255, -1, 0, 1, 255, 256, 65535, 65536, 1 << 40, .max,
        ]
        as [Int64]).map { .integer($0) }
        + ([
            -.infinity, -.greatestFiniteMagnitude, -1.5, -1, -.leastNonzeroMagnitude, 0, .leastNonzeroMagnitude, 1, 1.5,
            .greatestFiniteMagnitude, .infinity,
        ] as [Double]).map { .float($0) }
        + ["", "\u{0}", "\u{0}\u{0}", "\u{0}a", "a", "a\u{0}", "a\u{0}b", "aa", "b", "é", "\u{ffff}", "😀"].map {
            .text($0)
        }
        + [[], [0], [0, 0], [0, 1], [0, 255], [1], [1, 0], [255], [255, 255]].map { .bytes($0) }
        + [.uuid(high: 0, low: 1), .uuid(high: 1, low: 0), .uuid(high: .max, low: 0)]
        + [.timestamp(microseconds: .min), .timestamp(microseconds: -1), .timestamp(microseconds: 0)]
        + [.tuple([]), .tuple([.null]), .tuple([.integer(1)]), .tuple([.integer(1), .null]), .tuple([.text("a")])]
        + [
            .tuple([.text("a"), .integer(1)]), .tuple([.text("a\u{0}")]), .tuple([.tuple([])]),
            .tuple([.tuple([.null])]),
        ]

    @Test("orders bytes as values, alone and in front of another")
    func ladder() {
        let encoded = Self.ladder.map { KeyEncoding.encode([$0]) }
        for (index, lower) in encoded.enumerated() {
            for (other, upper) in encoded.enumerated() {
                #expect(
                    lower.lexicographicallyPrecedes(upper) == (index < other),
                    "\(Self.ladder[index]) \(Self.ladder[other])")
                if index < other {
                    // Self-delimiting: what follows does not change the order.
                    let low = lower + KeyEncoding.encode([.tuple([.null])])
                    let high = upper + KeyEncoding.encode([.null])
                    #expect(low.lexicographicallyPrecedes(high), "\(Self.ladder[index]) \(Self.ladder[other])")
                }
            }
        }
    }

    private func randomElement(_ random: inout SplitMix64, depth: Int = 0) -> KeyElement {
        switch random.next(below: depth > 2 ? 8 : 9) {
        case 0: .null
        case 1: .bool(random.oneIn(2))
        case 2: .integer(Int64(truncatingIfNeeded: random.next()) >> Int64(random.next(below: 64)))
        case 3: .float(Double(Int64(truncatingIfNeeded: random.next())) / 1e6)
        case 4: .text(String(decoding: random.bytes(Int(random.next(below: 6))).map { $0 & 0x63 }, as: UTF8.self))
        case 5: .bytes(random.bytes(Int(random.next(below: 6))).map { $0 < 128 ? 0 : $0 })
        case 6: .uuid(high: random.next(), low: random.next())
        case 7: .timestamp(microseconds: Int64(truncatingIfNeeded: random.next()))
        case _: .tuple((0..<random.next(below: 4)).map { _ in randomElement(&random, depth: depth + 1) })
        }
    }

    private func kind(_ element: KeyElement) -> Int {
        switch element {
        case .null: 0
        case .bool: 1
        case .integer: 2
        case .float: 3
        case .text: 4
        case .bytes: 5
        case .uuid: 6
        case .timestamp: 7
        case .tuple: 8
        }
    }

    /// The order that the encoding must have, told without it.
    private func precedes(_ left: [KeyElement], _ right: [KeyElement]) -> Bool {
        for (a, b) in zip(left, right) {
            if a == b { continue }
            if kind(a) != kind(b) { return kind(a) < kind(b) }
            return switch (a, b) {
            case (.bool(let x), .bool(let y)): !x && y
            case (.integer(let x), .integer(let y)): x < y
            case (.float(let x), .float(let y)): x < y
            case (.text(let x), .text(let y)): x.utf8.lexicographicallyPrecedes(y.utf8)
            case (.bytes(let x), .bytes(let y)): x.lexicographicallyPrecedes(y)
            case (.uuid(let x, let p), .uuid(let y, let q)): (x, p) < (y, q)
            case (.timestamp(let x), .timestamp(let y)): x < y
            case (.tuple(let x), .tuple(let y)): precedes(x, y)
            case _: false
            }
        }
        return left.count < right.count
    }

    @Test("orders random keys as their values, and reads them back")
    func property() {
        let seed = freshSeed("KeyEncoding")
        var random = SplitMix64(seed: seed)
        let keys = (0..<300).map { _ in (0..<random.next(below: 4)).map { _ in randomElement(&random) } }
        let encoded = keys.map(KeyEncoding.encode)
        for (i, key) in keys.enumerated() {
            #expect(encoded[i].withUnsafeBytes { KeyEncoding.decode($0) } == key, "seed \(seed): \(key)")
            for (j, other) in keys.enumerated() where precedes(key, other) {
                #expect(encoded[i].lexicographicallyPrecedes(encoded[j]), "seed \(seed): \(key) \(other)")
            }
        }
    }

    @Test(
        "refuses what writing never gives",
        arguments: [
            "1900", "1a0001", "17ff", "200000000000000001", "208000000000000000", "107ffffffffffffffe", "0f", "21",
            "287fffffffffffffff", "28fff8000000000001", "30ff00", "3061", "00", "ff", "50", "5019", "38ff", "40",
        ])
    func refused(_ text: String) {
        let digits = Array(text)
        let bytes = stride(from: 0, to: digits.count, by: 2).map {
            UInt8(String(digits[$0...($0 + 1)]), radix: 16) ?? 0
        }
        #expect(bytes.withUnsafeBytes { KeyEncoding.decode($0) } == nil)
    }

    @Test("reads damaged keys as nil or as the key they now are")
    func damage() {
        let seed = freshSeed("KeyEncoding damage")
        var random = SplitMix64(seed: seed)
        for _ in 0..<200 {
            let bytes = KeyEncoding.encode((0..<3).map { _ in randomElement(&random) })
            for damaged in Damage.truncations(of: bytes) + Damage.corruptions(of: bytes, count: 30, using: &random) {
                guard let elements = damaged.withUnsafeBytes({ KeyEncoding.decode($0) }) else { continue }
                #expect(KeyEncoding.encode(elements) == damaged, "seed \(seed): \(hex(damaged))")
            }
        }
    }

    @Test("equal numbers are equal keys, and deep nesting is refused")
    func edges() {
        #expect(KeyEncoding.encode([.float(-0.0)]) == KeyEncoding.encode([.float(0)]))
        #expect(KeyEncoding.encode([.float(-.nan)]) == KeyEncoding.encode([.float(.signalingNaN)]))
        #expect(KeyEncoding.encode([.float(.infinity)]).lexicographicallyPrecedes(KeyEncoding.encode([.float(.nan)])))
        let deep = Bytes(repeating: 0x50, count: 100_000) + Bytes(repeating: 0, count: 100_000)
        #expect(deep.withUnsafeBytes { KeyEncoding.decode($0) } == nil)
        let fine = Bytes(repeating: 0x50, count: 32) + Bytes(repeating: 0, count: 32)
        #expect(fine.withUnsafeBytes { KeyEncoding.decode($0) } != nil)
    }
}
