import Base
import TestKit
import Testing

/// Asks `body` with a view of `text`.
private func with<Result>(_ text: String, _ body: (ByteView) -> Result) -> Result {
    Bytes(text.utf8).withUnsafeBytes(body)
}

@Suite("ByteMap")
struct ByteMapTests {
    /// Values that are objects show a leak or a double release.
    private final class Probe {
        nonisolated(unsafe) static var alive = 0
        let number: UInt64
        init(_ number: UInt64) {
            self.number = number
            Self.alive += 1
        }
        deinit { Self.alive -= 1 }
    }

    @Test("a walk in pieces meets what stays exactly once, and nothing twice, while the table grows and shrinks")
    func walkInPieces() {
        let seed = freshSeed("ByteMap walk")
        var random = SplitMix64(seed: seed)
        for round in 0..<40 {
            var map = ByteMap<UInt64>()
            let staying = random.next(below: 500), passing = [0, 40, 4000][round % 3] as UInt64
            for number in 0..<staying { map.insert(key: Bytes("stays \(number)".utf8), number) }
            var met: [Bytes: Int] = [:]
            var place: UInt64? = 0, pieces = 0
            while let from = place {
                var left = random.next(below: 20), steps = Int(random.next(below: 200))
                place = map.walk(from: from, steps: &steps) { key, number in
                    #expect(key.bytes == Bytes("stays \(number)".utf8) || key.bytes == Bytes("passes \(number)".utf8))
                    met[key.bytes, default: 0] += 1
                    guard left > 0 else { return false }
                    left -= 1
                    return true
                }
                #expect(place.map { $0 > from } ?? true, "it goes on")
                pieces += 1
                // Many come, then many go.
                for _ in 0..<random.next(below: 200) where passing > 0 {
                    let number = random.next(below: passing), key = Bytes("passes \(number)".utf8)
                    if pieces % 20 < 10 {
                        map.insert(key: key, number)
                    } else {
                        key.withUnsafeBytes { _ = map.remove($0) }
                    }
                }
            }
            #expect(met.values.allSatisfy { $0 == 1 }, "seed \(seed), round \(round)")
            let stayed = (0..<staying).count { met[Bytes("stays \($0)".utf8)] == 1 }
            #expect(stayed == Int(staying), "seed \(seed), round \(round)")
        }
        var empty = ByteMap<UInt64>(), steps = 10
        #expect(empty.walk(steps: &steps) { _, _ in false } == nil && steps == 10)
        empty.insert(key: Bytes("one".utf8), 1)
        #expect(empty.walk(from: .max, steps: &steps) { _, _ in false } == nil)
    }

    @Test("does what Dictionary does under random operations")
    func againstDictionary() {
        let seed = freshSeed("ByteMap against Dictionary")
        var random = SplitMix64(seed: seed)
        do {
            var map = ByteMap<Probe>()
            var model: [Bytes: UInt64] = [:]
            for step in 0..<40_000 {
                // The key space breathes, so that the table grows and shrinks.
                let space = step % 20_000 < 10_000 ? 4000 : 40
                let name = random.next(below: UInt64(space))
                // Short keys and long ones.
                let key = Bytes((String(repeating: "key:", count: Int(name % 9)) + "\(name)").utf8)
                let number = random.next()
                switch random.next(below: 6) {
                case 0, 1:
                    #expect(map.updateValue(Probe(number), for: key)?.number == model.updateValue(number, forKey: key))
                case 2, 3:
                    #expect(key.withUnsafeBytes { map.remove($0) }?.number == model.removeValue(forKey: key))
                case 4:
                    #expect(key.withUnsafeBytes { map.value(for: $0) }?.number == model[key])
                case _:
                    key.withUnsafeBytes { view in
                        map.withValue(for: view, insertDefault: Probe(number)) { $0 = Probe($0.number &+ 1) }
                    }
                    model[key] = (model[key] ?? number) &+ 1
                }
                #expect(map.count == model.count, "seed \(seed), step \(step)")
            }
            var walked: [Bytes: UInt64] = [:]
            map.forEach { key, value in walked[key.bytes] = value.number }
            #expect(walked == model, "seed \(seed)")
            #expect(map.keyBytes == model.keys.reduce(0) { $0 + $1.count })
            #expect(Probe.alive == model.count, "seed \(seed)")
            map.removeAll(keepingCapacity: true)
            #expect(Probe.alive == 0 && map.isEmpty && map.firstIndex() == nil)
            map.insert(key: Bytes("again".utf8), Probe(1))
        }
        #expect(Probe.alive == 0)
    }

    @Test("walks by position, every entry once")
    func walk() {
        var map = ByteMap<Int>(minimumCapacity: 100)
        for number in 0..<1000 { map.insert(key: Bytes("\(number)".utf8), number) }
        var seen: Set<Int> = []
        var position = 0
        while let index = map.firstIndex(from: position) {
            #expect(Bytes("\(map.value(at: index))".utf8) == map.key(at: index).bytes)
            #expect(seen.insert(map.value(at: index)).inserted)
            map.withValue(at: index) { $0 += 1000 }
            position = index + 1
        }
        #expect(seen.count == 1000)
        #expect(with("17") { map[$0] } == 1017)
    }

    @Test("picks every entry about equally often, also in an almost empty table", arguments: [64, 5])
    func randomPick(count: Int) {
        var random = SplitMix64(seed: 7)
        var map = ByteMap<Int>(minimumCapacity: count == 5 ? 1000 : 0)
        #expect(map.randomIndex(using: &random) == nil)
        for number in 0..<count { map.insert(key: Bytes("\(number)".utf8), number) }
        var hits = Array(repeating: 0, count: count)
        for _ in 0..<(count * 1000) {
            if let index = map.randomIndex(using: &random) { hits[map.value(at: index)] += 1 }
        }
        #expect(hits.allSatisfy { (800...1200).contains($0) }, "\(hits)")
    }

    @Test("takes keys of any length and content and gives them back, zeros and near twins too")
    func lengths() {
        var map = ByteMap<Int>()
        var keys: [Bytes] = []
        for length in 0..<80 {
            // Every byte of a short key counts, also where its words overlap.
            let counted = (0..<length).map { UInt8($0 + 1) }
            keys += [counted] + (length > 0 ? [Bytes(repeating: 0, count: length)] : [])
            for position in 0..<length {
                var twin = counted
                twin[position] ^= 0x80
                keys.append(twin)
            }
        }
        for (number, key) in keys.enumerated() { map.insert(key: key, number) }
        #expect(map.count == keys.count)
        for (number, key) in keys.enumerated() {
            let index = key.withUnsafeBytes { map.index(of: $0) }
            #expect(index.map { map.key(at: $0).bytes } == key)
            #expect(index.map { map.value(at: $0) } == number)
        }
        #expect(map.value(for: ByteView(start: nil, count: 0)) == 0)
        for key in keys { key.withUnsafeBytes { _ = map.remove($0) } }
        #expect(map.isEmpty && map.keyBytes == 0)
    }

    @Test("shrinks when it empties, but not below what was asked for")
    func shrink() {
        var map = ByteMap<Int>(minimumCapacity: 50)
        let reserved = map.memorySize
        for number in 0..<10_000 { map.insert(key: Bytes("\(number)".utf8), number) }
        #expect(map.memorySize > 10 * reserved)
        for number in 0..<10_000 { with("\(number)") { _ = map.remove($0) } }
        #expect(map.memorySize == reserved)
    }

    @Test("lets errors of the body through and keeps the entry")
    func throwing() {
        var map = ByteMap<Int>()
        let key = Bytes("k".utf8)
        #expect(throws: DatabaseError(.overflow, "full")) {
            try key.withUnsafeBytes { view in
                try map.withValue(for: view, insertDefault: 3) { _ throws(DatabaseError) in
                    throw DatabaseError(.overflow, "full")
                }
            }
        }
        #expect(with("k") { map[$0] } == 3)
    }
}

@Suite("ByteHash")
struct ByteHashTests {
    @Test("is frozen where it goes to disk")
    func vectors() {
        let inputs =
            ["", "a", "ab", "abc", "abcd", "12345678", "0123456789abcdef", "key:000000000042"]
            + [
                String(repeating: "x", count: 47), String(repeating: "x", count: 48),
                String(repeating: "y", count: 1000),
            ]
        let hashes = inputs.map { with($0) { ByteHash.stable($0) } }
        #expect(hashes == ByteHashTests.expected, "\(hashes.map { "0x" + String($0, radix: 16) })")
    }

    @Test("spreads counted keys over buckets like chance does", arguments: [true, false])
    func distribution(isStable: Bool) {
        // Chi-squared over 1024 cells: mean 1023, deviation 45; eight deviations never happen by chance.
        for part in [UInt64(0), 10, 32, 54] {
            var cells = Array(repeating: 0, count: 1024)
            for number in 0..<102_400 {
                let hash = with("key:\(number)") { isStable ? ByteHash.stable($0) : ByteHash.hash($0) }
                cells[Int(truncatingIfNeeded: hash >> part) & 1023] += 1
            }
            let chi = cells.reduce(0.0) { $0 + Double(($1 - 100) * ($1 - 100)) / 100 }
            #expect((660...1390).contains(chi), "bits from \(part): \(chi)")
        }
    }

    @Test("changes about half of its bits for each bit of the input")
    func avalanche() {
        for length in [1, 3, 4, 8, 12, 16, 17, 40, 48, 100] {
            let base = Bytes(repeating: 0x5a, count: length)
            let before = base.withUnsafeBytes { ByteHash.stable($0) }
            for bit in 0..<(length * 8) {
                var changed = base
                changed[bit / 8] ^= 1 << UInt8(bit % 8)
                let flipped = (changed.withUnsafeBytes { ByteHash.stable($0) } ^ before).nonzeroBitCount
                #expect((12...52).contains(flipped), "length \(length), bit \(bit): \(flipped)")
            }
        }
    }

    @Test("does not let a word equal to a secret swallow its neighbour")
    func zeroProduct() {
        // The attack on wyhash: with fixed secrets, a first word equal to one of them multiplies the rest away.
        for secret in [0x8bb8_4b93_962e_acc9, 0x4b33_a62e_d433_d4a3, 0x4d5a_2da5_1de1_aa47] as [UInt64] {
            var hashes: Set<UInt64> = []
            for number in 0..<100 as Range<UInt64> {
                var buffer = ByteBuffer()
                for word in [secret, number, secret, number, secret, number] { buffer.append(littleEndian: word) }
                hashes.insert(ByteHash.stable(buffer.readable))
                hashes.insert(ByteHash.stable(ByteView(rebasing: buffer.readable[..<16])))
            }
            #expect(hashes.count == 200)
        }
    }
}

extension ByteHashTests {
    static let expected: [UInt64] = [
        0x830c_f55e_c69b_75e8, 0x103d_de55_e844_f402, 0xde2a_2dca_6c92_2a76, 0x36ad_1ace_d050_f5fb,
        0x9904_8e6a_5059_3834, 0x20a9_2d3c_0bd5_2011, 0xdd35_f765_b3a4_574e, 0xbfc7_f2e0_e4b8_7dfe,
        0x522a_6ecd_8de2_8ebd, 0x73aa_cefe_76b4_16a4, 0x979f_13dd_b517_1bab,
    ]
}
