import Base
import DataModel
import TestKit

/// Values of every kind, with the awkward ones more often than chance would have them.
struct RandomValues {
    var random: SplitMix64

    init(seed: UInt64) { random = SplitMix64(seed: seed) }

    static let kinds = 16

    mutating func integer() -> Int64 {
        switch random.next(below: 4) {
        case 0: [.min, .max, 0, -1, 1][Int(random.next(below: 5))]
        case _: Int64(truncatingIfNeeded: random.next()) >> Int64(random.next(below: 64))
        }
    }

    mutating func text() -> String {
        String(decoding: random.bytes(Int(random.next(below: 40))).map { $0 & 0x63 }, as: UTF8.self)
            + ["", "é", "e\u{301}", "😀", "\u{0}"][Int(random.next(below: 5))]
    }

    mutating func float() -> Double {
        switch random.next(below: 4) {
        case 0: [.infinity, -.infinity, .nan, 0, -0.0, .leastNonzeroMagnitude][Int(random.next(below: 6))]
        case 1: Double(Float(bitPattern: UInt32(truncatingIfNeeded: random.next())))
        case _: Double(Int64(truncatingIfNeeded: random.next())) / 1e6
        }
    }

    mutating func decimal() -> Decimal {
        switch random.next(below: 8) {
        case 0: return [.notANumber, .infinity, .negativeInfinity, .zero][Int(random.next(below: 4))]
        case _:
            let digits = (0...random.next(below: 30)).map { _ in
                random.oneIn(2) ? "0" : String(random.next(below: 10))
            }
            let exponent = Int(random.next(below: 60)) - 30
            let text = (random.oneIn(2) ? "-" : "") + digits.joined() + "e\(exponent)"
            return (try? Decimal(parsing: text)) ?? .zero
        }
    }

    mutating func json(depth: Int = 0) -> JSONNode {
        switch random.next(below: depth > 3 ? 4 : 6) {
        case 0: return .null
        case 1: return .bool(random.oneIn(2))
        case 2:
            let number = decimal()
            return .number(number.isFinite ? number : .zero)
        case 3: return .string(text())
        case 4: return .array((0..<random.next(below: 4)).map { _ in json(depth: depth + 1) })
        case _: return .object((0..<random.next(below: 4)).map { _ in (text(), json(depth: depth + 1)) })
        }
    }

    mutating func value(kind: Int? = nil, depth: Int = 0) -> Value {
        switch kind ?? Int(random.next(below: depth > 2 ? 14 : UInt64(Self.kinds))) {
        case 0: return .null
        case 1: return .bool(random.oneIn(2))
        case 2: return .integer(integer())
        case 3: return .float(float())
        case 4: return .decimal(decimal())
        case 5: return .text(text())
        case 6: return .bytes(random.bytes(Int(random.next(below: 40))).map { $0 < 128 ? 0 : $0 })
        case 7: return .uuid(high: random.next(), low: random.next())
        case 8: return .date(Int32(truncatingIfNeeded: integer()))
        case 9: return .time(Int64(random.next(below: 86_400_000_001)))
        case 10:
            let time = Int64(random.next(below: 86_400_000_001))
            return .timeWithZone(microseconds: time, zone: Int32(random.next(below: 100_000)) - 50_000)
        case 11: return .timestamp(integer())
        case 12:
            let months = Int32(truncatingIfNeeded: integer()), days = Int32(truncatingIfNeeded: integer())
            return .interval(Interval(months: months, days: days, microseconds: integer()))
        case 13: return .json(json().binary)
        case 14: return .tuple((0..<random.next(below: 4)).map { _ in value(depth: depth + 1) })
        case _: return array(depth: depth)
        }
    }

    private mutating func array(depth: Int) -> Value {
        let kind = Int(random.next(below: 14)), count = Int32(random.next(below: 4))
        let elements = (0..<count * 2).map { _ in random.oneIn(8) ? Value.null : value(kind: kind, depth: depth + 1) }
        let type = elements.first { !$0.isNull }?.plainType ?? .text
        if elements.isEmpty || random.oneIn(2) { return .array(ArrayValue(type, elements)) }
        let dimensions = [
            ArrayValue.Dimension(count: 2, lowerBound: Int32(truncatingIfNeeded: integer()) >> 2),
            ArrayValue.Dimension(count: count, lowerBound: 1),
        ]
        return ArrayValue(type, dimensions: dimensions, elements: elements).map(Value.array) ?? .null
    }
}
