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
            (.timestamp(1), "408000000000000001"),
            (.tuple([.integer(1), .text("a")]), "50190130610000"), (.tuple([]), "5000"),
            (.date(1), "4180000001"), (.time(1), "428000000000000001"),
            (.timeWithZone(microseconds: 3_600_000_001, zone: 3600), "438000000000000001" + "7ffff1ef"),
            (.interval(Interval(microseconds: 1)), "4480000000000000000000000000000001"),
            (.decimal(.zero), "24"), (.decimal(.notANumber), "27"), (.decimal(Decimal(1)), "254000800100"),
            (.decimal(Decimal(-1)), "23bfff7ffeff"), (.decimal(Decimal(10_000)), "254001800100"),
            (.array(ArrayValue(.int64, [.integer(1), .null])), "5119017f00" + "01" + "80000002" + "80000001"),
            (.json(JSONNode.array([]).binary), "4800"), (.json(JSONNode.null.binary), "4801"),
            (.json(JSONNode.object([("a", .bool(true))]).binary), "480700000001" + "6100" + "05"),
        ] as [(Value, String)])
    func golden(_ element: Value, _ expected: String) {
        #expect(hex(KeyEncoding.encode([element])) == expected)
        #expect(KeyEncoding.encode([element]).withUnsafeBytes { KeyEncoding.decode($0) } == [element])
    }

    /// Ascending in value order.
    static let ladder: [Value] =
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
        + [.timestamp(.min), .timestamp(-1), .timestamp(0)]
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

    @Test("orders random keys as their values, and reads them back", arguments: 1..<RandomValues.kinds)
    func property(_ kind: Int) {
        let seed = freshSeed("KeyEncoding")
        var random = RandomValues(seed: seed &+ UInt64(kind))
        let orders = [false, true].flatMap { isDescending in
            [false, true].map { KeyEncoding.Order(isDescending: isDescending, hasNullsFirst: $0) }
        }
        // NULL within a tuple is before all others in a key, and after them in SQL: tuples of tests have none.
        let values = (0..<60).map { _ in random.value(kind: kind) }.filter { !hasNull($0) }
        let encoded = values.map { KeyEncoding.encode([$0, .integer(0)]) }
        for (i, value) in values.enumerated() {
            #expect(encoded[i].withUnsafeBytes { KeyEncoding.decode($0) } == [value, .integer(0)], "\(seed): \(value)")
            for (j, other) in values.enumerated() {
                let order = Value.compare(value, other)
                // Values of different kinds within them are in the order of their tags.
                guard kind < 14 || order == 0 || isAlike(value, other) else { continue }
                #expect(order == 0 ? encoded[i] == encoded[j] : true, "seed \(seed): \(value) \(other)")
                if order < 0 {
                    #expect(encoded[i].lexicographicallyPrecedes(encoded[j]), "seed \(seed): \(value) \(other)")
                }
            }
            for order in orders { part(value, random.value(kind: kind), order, seed) }
        }
    }

    private func isAlike(_ left: Value, _ right: Value) -> Bool {
        guard case .array(let left) = left, case .array(let right) = right else { return false }
        return left.element == right.element
    }

    private func hasNull(_ value: Value) -> Bool {
        guard case .tuple(let elements) = value else { return value.isNull }
        return elements.contains(where: hasNull)
    }

    /// A part of an index: reads back, and sorts as its order says, NULL included.
    private func part(_ value: Value, _ other: Value, _ order: KeyEncoding.Order, _ seed: UInt64) {
        func encode(_ value: Value) -> Bytes {
            var buffer = ByteBuffer(capacity: 64)
            KeyEncoding.append(value, order, into: &buffer)
            KeyEncoding.append(.bool(true), into: &buffer)
            return buffer.readable.bytes
        }
        for value in [value, .null] {
            let bytes = encode(value)
            let (read, next): (Value?, Value?) = bytes.withUnsafeBytes { view in
                var reader = ByteReader(view)
                let value = KeyEncoding.read(&reader, order)
                return (value, KeyEncoding.read(&reader))
            }
            #expect(read == value && next == .bool(true), "seed \(seed): \(value) \(order)")
        }
        #expect(encode(.null).lexicographicallyPrecedes(encode(value)) == order.hasNullsFirst)
        let left = KeyEncoding.encode([value]), right = KeyEncoding.encode([other])
        if left.lexicographicallyPrecedes(right) {
            #expect(
                encode(value).lexicographicallyPrecedes(encode(other)) == !order.isDescending,
                "seed \(seed): \(value) \(other)")
        }
    }

    @Test(
        "refuses what writing never gives",
        arguments: [
            "1900", "1a0001", "17ff", "200000000000000001", "208000000000000000", "107ffffffffffffffe", "0f", "21",
            "2540008001", "2540008000800100", "254000800180", "25400080ff00", "2540000000", "25ffff800100", "4806",
            "480600000000", "48070000000261000161000100", "4808", "5118", "51180001", "5118000180000000",
            "51180007", "44800000", "437fffffffffffffff", "417fffff",
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
        var values = RandomValues(seed: seed)
        for _ in 0..<200 {
            let bytes = KeyEncoding.encode((0..<3).map { _ in values.value() })
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
        let deepJSON: Bytes = [0x48] + Array(repeating: [6, 0, 0, 0, 1], count: 100_000).joined()
        #expect(deepJSON.withUnsafeBytes { KeyEncoding.decode($0) } == nil)
    }

    @Test("keeps the worth of a value, not its looks")
    func looks() throws {
        #expect(
            KeyEncoding.encode([.decimal(try Decimal(parsing: "1.50"))])
                == KeyEncoding.encode([.decimal(try Decimal(parsing: "1.5"))]))
        #expect(
            KeyEncoding.encode([.interval(Interval(months: 1))]) == KeyEncoding.encode([.interval(Interval(days: 30))]))
        #expect(Value.text("ab  ").forKey(as: .char) == .text("ab"))
        #expect(Value.text("ab  ").forKey(as: .text) == .text("ab  "))
    }
}
