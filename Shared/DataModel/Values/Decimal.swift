import Base

/// An exact decimal number with PostgreSQL's rules for `numeric`: any precision up to the limits below, a scale that is
/// part of the value's looks and not of its worth (1.0 equals 1.00), NaN that equals itself and is greater than every
/// number, and infinities.
///
/// A finite number is `±0.d₀d₁d₂… × 10000^(weight + 1)`: digits to the base 10 000, most significant first, without
/// zeros at either end; so every value has one form, and zero has no digits. Four decimal digits to a place are what
/// PostgreSQL's binary format carries, and a product of two fits a machine word many times over.
///
///     12345.678, scale 3 → digits [1, 2345, 6780], weight 1
///     0.0001, scale 4    → digits [1], weight -1
///
/// Source: PostgreSQL 15 manual, sections 8.1.2 and 9.3.
package struct Decimal: Sendable {
    /// What a value is; only finite ones have digits.
    package enum Kind: UInt8, Hashable, Sendable { case finite, nan, infinity, negativeInfinity }

    /// Digits before and behind the decimal point that a value may have, and the largest scale that an operation
    /// chooses by itself.
    package static let integralLimit = 131_072, scaleLimit = 16_383, chosenScaleLimit = 1000

    static let base: UInt32 = 10_000, digitsPerPlace = 4

    package let kind: Kind
    package let isNegative: Bool
    /// The power of 10 000 that the first place stands for.
    let weight: Int
    let places: [UInt16]
    /// Decimal digits shown behind the point.
    package let scale: Int

    private init(_ kind: Kind) {
        (self.kind, isNegative, weight, places, scale) = (kind, false, 0, [], 0)
    }

    /// A finite value of places that may have zeros at both ends.
    init(isNegative: Bool, weight: Int, places: [UInt16], scale: Int) {
        let first = places.firstIndex { $0 != 0 } ?? places.count
        let last = places.lastIndex { $0 != 0 } ?? -1
        kind = .finite
        self.scale = scale
        guard first <= last else {
            (self.isNegative, self.weight, self.places) = (false, 0, [])
            return
        }
        self.isNegative = isNegative
        self.weight = weight - first
        self.places = first == 0 && last == places.count - 1 ? places : Array(places[first...last])
    }

    package static let zero = Decimal(isNegative: false, weight: 0, places: [], scale: 0)
    package static let notANumber = Decimal(.nan)
    package static let infinity = Decimal(.infinity)
    package static let negativeInfinity = Decimal(.negativeInfinity)

    package var isFinite: Bool { kind == .finite }
    package var isZero: Bool { kind == .finite && places.isEmpty }

    /// -1, 0 or 1; 0 for NaN.
    package var signum: Int {
        switch kind {
        case .finite: places.isEmpty ? 0 : (isNegative ? -1 : 1)
        case .nan: 0
        case .infinity: 1
        case .negativeInfinity: -1
        }
    }

    /// The place that stands for 10 000^`power`.
    func place(_ power: Int) -> UInt16 {
        let position = weight - power
        return places.indices.contains(position) ? places[position] : 0
    }

    /// The same number shown with another scale; no digit that counts may be lost by it.
    func withScale(_ scale: Int) -> Decimal {
        isFinite ? Decimal(isNegative: isNegative, weight: weight, places: places, scale: scale) : self
    }

    /// Refuses what has more digits before the point than any value may.
    func checked() throws(DatabaseError) -> Decimal {
        guard isFinite, !places.isEmpty else { return self }
        guard weight < Self.integralLimit / Self.digitsPerPlace else {
            throw DatabaseError(.overflow, "value overflows numeric format")
        }
        return self
    }
}

// MARK: Integers and floating-point numbers

extension Decimal {
    package init(_ value: Int64) {
        var rest = value.magnitude, places: [UInt16] = []
        while rest != 0 {
            places.append(UInt16(rest % UInt64(Self.base)))
            rest /= UInt64(Self.base)
        }
        let weight = places.count - 1
        places.reverse()
        self.init(isNegative: value < 0, weight: weight, places: places, scale: 0)
    }

    /// The nearest integer, halves away from zero; nil when it does not fit, or is none.
    package var roundedInteger: Int64? {
        let value = rounded(to: 0)
        guard value.isFinite, value.weight < 5 else { return nil }
        guard !value.places.isEmpty else { return 0 }
        var magnitude: UInt64 = 0
        for power in stride(from: value.weight, through: 0, by: -1) {
            let (product, isOver) = magnitude.multipliedReportingOverflow(by: UInt64(Self.base))
            let (sum, isOverAgain) = product.addingReportingOverflow(UInt64(value.place(power)))
            guard !isOver, !isOverAgain else { return nil }
            magnitude = sum
        }
        guard value.isNegative else { return Int64(exactly: magnitude) }
        return magnitude <= UInt64(1) << 63 ? Int64(truncatingIfNeeded: 0 &- magnitude) : nil
    }

    /// The nearest floating-point number; infinite when it is beyond all of them.
    package var double: Double {
        switch kind {
        case .nan: .nan
        case .infinity: .infinity
        case .negativeInfinity: -.infinity
        case .finite: Double(text) ?? 0
        }
    }

    /// A floating-point number as PostgreSQL casts it: with the `digits` significant digits that its type is sure of
    /// (15 for float8, 6 for float4).
    package init(_ value: Double, significantDigits digits: Int) {
        guard value.isFinite else {
            self = value.isNaN ? .notANumber : (value < 0 ? .negativeInfinity : .infinity)
            return
        }
        guard value != 0, let exact = Decimal(exactText: value.description) else {
            self = .zero
            return
        }
        // The shortest text that reads back as the same number has at most 17 digits.
        self = exact.rounded(toSignificant: digits).trimmed
    }

    /// A whole number, or one half, without rounding.
    init(exactly value: Double) {
        guard value >= 1 else {
            self = Decimal(isNegative: false, decimalDigits: value == 0.5 ? [5] : [], point: 0, scale: 1)
            return
        }
        let significand = value.significandBitPattern | 1 << 52
        var exponent = Int(value.exponent) - 52
        var number = Decimal(Int64(exponent < 0 ? significand >> UInt64(-exponent) : significand))
        while exponent > 0 {
            let step = min(exponent, 30)
            number = (try? number.multiplied(by: Decimal(Int64(1) << Int64(step)))) ?? number
            exponent -= step
        }
        self = number
    }

    private init?(exactText: String) {
        guard let value = try? Decimal(parsing: exactText) else { return nil }
        self = value
    }

    /// Rounds to so many significant decimal digits.
    func rounded(toSignificant digits: Int) -> Decimal {
        guard isFinite, let first = places.first else { return self }
        var width = 1, power = 10
        while Int(first) >= power {
            width += 1
            power *= 10
        }
        return rounded(to: digits - width - weight * Self.digitsPerPlace)
    }

    /// Without zeros at the end of the fraction.
    package var trimmed: Decimal { withScale(neededScale) }

    /// The decimal digits behind the point that count.
    package var neededScale: Int {
        guard isFinite, let last = places.last else { return 0 }
        var digits = (places.count - 1 - weight) * Self.digitsPerPlace, rest = Int(last)
        guard digits > 0 else { return 0 }
        while rest % 10 == 0 {
            digits -= 1
            rest /= 10
        }
        return max(digits, 0)
    }
}

// MARK: Order

extension Decimal: Comparable, Hashable {
    package static func == (left: Decimal, right: Decimal) -> Bool {
        left.kind == right.kind && left.isNegative == right.isNegative && left.weight == right.weight
            && left.places == right.places
    }

    package func hash(into hasher: inout Hasher) {
        hasher.combine(kind)
        hasher.combine(isNegative)
        hasher.combine(weight)
        hasher.combine(places)
    }

    /// Numbers by their worth, then infinity, then NaN.
    package static func < (left: Decimal, right: Decimal) -> Bool {
        if left.kind != .finite || right.kind != .finite { return left.rank < right.rank }
        if left.signum != right.signum { return left.signum < right.signum }
        let order = compareMagnitudes(left, right)
        return left.isNegative ? order > 0 : order < 0
    }

    private var rank: Int {
        switch kind {
        case .negativeInfinity: -1
        case .finite: 0
        case .infinity: 1
        case .nan: 2
        }
    }

    /// Negative, zero or positive, as of the numbers without their signs; both finite.
    static func compareMagnitudes(_ left: Decimal, _ right: Decimal) -> Int {
        if left.places.isEmpty || right.places.isEmpty { return left.places.count - right.places.count }
        if left.weight != right.weight { return left.weight < right.weight ? -1 : 1 }
        for (first, second) in zip(left.places, right.places) where first != second { return first < second ? -1 : 1 }
        return left.places.count - right.places.count
    }
}
