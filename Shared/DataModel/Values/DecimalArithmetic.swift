import Base

// Arithmetic on decimals. Sums, differences and products are exact; quotients are rounded to a scale that keeps at
// least sixteen significant digits and never fewer behind the point than an operand shows, as PostgreSQL does it.

extension Decimal {
    package static prefix func - (value: Decimal) -> Decimal {
        switch value.kind {
        case .nan: value
        case .infinity: .negativeInfinity
        case .negativeInfinity: .infinity
        case .finite:
            Decimal(isNegative: !value.isNegative, weight: value.weight, places: value.places, scale: value.scale)
        }
    }

    package var magnitude: Decimal { signum < 0 ? -self : self }

    // MARK: Sums

    /// The exact sum, with the finer scale of both. Throws `.overflow` beyond the limits, like all that follows.
    package func adding(_ other: Decimal) throws(DatabaseError) -> Decimal {
        guard isFinite, other.isFinite else {
            if kind == .nan || other.kind == .nan { return .notANumber }
            if isFinite { return other }
            return other.isFinite || kind == other.kind ? self : .notANumber
        }
        let scale = max(scale, other.scale)
        if isNegative == other.isNegative {
            return try Self.sum(self, other, scale).checked()
        }
        switch Self.compareMagnitudes(self, other) {
        case 0: return Decimal.zero.withScale(scale)
        case 1...: return Self.difference(self, other, scale)
        case _: return Self.difference(other, self, scale)
        }
    }

    /// The exact difference.
    package func subtracting(_ other: Decimal) throws(DatabaseError) -> Decimal { try adding(-other) }

    /// Of the magnitudes, with the sign of the first.
    private static func sum(_ left: Decimal, _ right: Decimal, _ scale: Int) -> Decimal {
        if left.places.isEmpty { return right.withScale(scale) }
        if right.places.isEmpty { return left.withScale(scale) }
        let top = max(left.weight, right.weight) + 1
        let bottom = min(left.weight - left.places.count, right.weight - right.places.count) + 1
        var places = [UInt16](repeating: 0, count: top - bottom + 1)
        var carry: UInt32 = 0
        for power in bottom...top {
            let sum = UInt32(left.place(power)) + UInt32(right.place(power)) + carry
            places[top - power] = UInt16(sum % base)
            carry = sum / base
        }
        return Decimal(isNegative: left.isNegative, weight: top, places: places, scale: scale)
    }

    /// Of the magnitudes, the first of which is greater; with its sign.
    private static func difference(_ left: Decimal, _ right: Decimal, _ scale: Int) -> Decimal {
        if right.places.isEmpty { return left.withScale(scale) }
        let top = left.weight
        let bottom = min(left.weight - left.places.count, right.weight - right.places.count) + 1
        var places = [UInt16](repeating: 0, count: top - bottom + 1)
        var borrow: UInt32 = 0
        for power in bottom...top {
            let minuend = UInt32(left.place(power)) + base, subtrahend = UInt32(right.place(power)) + borrow
            places[top - power] = UInt16((minuend - subtrahend) % base)
            borrow = minuend - subtrahend < base ? 1 : 0
        }
        return Decimal(isNegative: left.isNegative, weight: top, places: places, scale: scale)
    }

    // MARK: Products

    /// The exact product; its scale is the sum of both, up to the limit.
    package func multiplied(by other: Decimal) throws(DatabaseError) -> Decimal {
        guard isFinite, other.isFinite else {
            if kind == .nan || other.kind == .nan { return .notANumber }
            switch signum * other.signum {
            case 0: return .notANumber  // Zero times infinity.
            case 1...: return .infinity
            case _: return .negativeInfinity
            }
        }
        let exactScale = scale + other.scale
        guard !places.isEmpty, !other.places.isEmpty else {
            return Decimal.zero.withScale(min(exactScale, Self.scaleLimit))
        }
        let product = Decimal(
            isNegative: isNegative != other.isNegative, weight: weight + other.weight + 1,
            places: Self.product(places, other.places), scale: exactScale)
        return try (exactScale > Self.scaleLimit ? product.rounded(to: Self.scaleLimit) : product).checked()
    }

    /// Schoolbook; as long as both together.
    private static func product(_ left: [UInt16], _ right: [UInt16]) -> [UInt16] {
        var sums = [UInt64](repeating: 0, count: left.count + right.count)
        for (first, digit) in left.enumerated() where digit != 0 {
            // A sum of 10 000² for each of at most 50 000 places stays far below 2⁶⁴.
            for (second, other) in right.enumerated() { sums[first + second + 1] &+= UInt64(digit) &* UInt64(other) }
        }
        var carry: UInt64 = 0
        for position in sums.indices.reversed() {
            let sum = sums[position] &+ carry
            sums[position] = sum % UInt64(base)
            carry = sum / UInt64(base)
        }
        return sums.map { UInt16($0) }
    }

    // MARK: Quotients

    private static let byZero = DatabaseError(.divisionByZero, "division by zero")

    /// The quotient rounded to a scale that PostgreSQL would choose. Throws `.divisionByZero`.
    package func divided(by other: Decimal) throws(DatabaseError) -> Decimal {
        if let special = try quotientWithSpecials(other) { return special }
        let scale = Self.quotientScale(self, other)
        guard !places.isEmpty else { return Decimal.zero.withScale(scale) }
        // One digit more than shown decides how to round; an exact half needs no more, since what follows it only
        // makes it larger.
        let wanted = scale / Self.digitsPerPlace + 2
        let (quotient, _) = Self.divide(self, other, downTo: -wanted)
        return try quotient.rounded(to: scale).checked()
    }

    private func quotientWithSpecials(_ other: Decimal) throws(DatabaseError) -> Decimal? {
        if kind == .nan || other.kind == .nan { return .notANumber }
        if !isFinite {
            guard other.isFinite else { return .notANumber }
            guard !other.isZero else { throw Self.byZero }
            return signum * other.signum > 0 ? .infinity : .negativeInfinity
        }
        guard other.isFinite else { return .zero }
        guard !other.isZero else { throw Self.byZero }
        return nil
    }

    /// How many digits behind the point a quotient shows.
    private static func quotientScale(_ left: Decimal, _ right: Decimal) -> Int {
        let first = left.places.first ?? 0, second = right.places.first ?? 0
        var weight = (left.places.isEmpty ? 0 : left.weight) - right.weight
        if first <= second { weight -= 1 }
        let significant = 16 - weight * digitsPerPlace
        return min(max(significant, left.scale, right.scale, 0), chosenScaleLimit)
    }

    /// The quotient of integers rounded towards zero (`div`).
    package func quotient(by other: Decimal) throws(DatabaseError) -> Decimal {
        if let special = try quotientWithSpecials(other) { return special }
        return try Self.divide(self, other, downTo: 0).quotient.truncated(to: 0).checked()
    }

    /// What is left of a division by `other`, with the sign of self (`mod`, `%`).
    package func remainder(by other: Decimal) throws(DatabaseError) -> Decimal {
        if kind == .nan || other.kind == .nan { return .notANumber }
        guard isFinite else {
            guard !other.isZero else { throw Self.byZero }
            return .notANumber
        }
        guard other.isFinite else { return self }
        guard !other.isZero else { throw Self.byZero }
        return Self.divide(self, other, downTo: 0).remainder.withScale(max(scale, other.scale))
    }

    /// Long division of finite numbers, the second not zero: the quotient's places down to 10 000^`power`, cut there,
    /// and what is left.
    private static func divide(
        _ left: Decimal, _ right: Decimal, downTo power: Int
    ) -> (quotient: Decimal, remainder: Decimal) {
        let isNegative = left.isNegative != right.isNegative
        guard !left.places.isEmpty else { return (.zero, .zero) }
        // As whole numbers: left × 10000^shift divided by right, both counted from their own last places.
        let leftLow = left.weight - left.places.count + 1, rightLow = right.weight - right.places.count + 1
        let low = min(leftLow, rightLow + power)
        let dividend = left.places + [UInt16](repeating: 0, count: leftLow - low)
        // Places of the quotient's last digit: low - rightLow ≤ power; what lies below `power` is cut again.
        let (quotient, remainder) = divide(dividend, right.places)
        let cut = max(power - (low - rightLow), 0)
        if cut == 0 {
            return (
                Decimal(
                    isNegative: isNegative, weight: quotient.count - 1 + low - rightLow, places: quotient, scale: 0),
                Decimal(isNegative: left.isNegative, weight: remainder.count - 1 + low, places: remainder, scale: 0)
            )
        }
        // The dividend reaches further down than the quotient may: divide by the divisor moved up instead.
        let divisor = right.places + [UInt16](repeating: 0, count: cut)
        let (whole, rest) = divide(dividend, divisor)
        return (
            Decimal(isNegative: isNegative, weight: whole.count - 1 + power, places: whole, scale: 0),
            Decimal(isNegative: left.isNegative, weight: rest.count - 1 + low, places: rest, scale: 0)
        )
    }

    /// Division of whole numbers to the base 10 000 (Knuth, The Art of Computer Programming, 4.3.1, algorithm D).
    /// The divisor's first place is not zero.
    private static func divide(_ dividend: [UInt16], _ divisor: [UInt16]) -> (quotient: [UInt16], remainder: [UInt16]) {
        guard let first = divisor.first, first != 0, dividend.count >= divisor.count else { return ([0], dividend) }
        if divisor.count == 1 { return divide(dividend, by: UInt32(first)) }
        // Scaled so that the divisor's first place is at least half the base: estimates are then off by two at most.
        let factor = base / (UInt32(first) + 1)
        var rest = scaled(dividend, factor)
        let by = Array(scaled(divisor, factor).dropFirst())
        var quotient = [UInt16](repeating: 0, count: dividend.count - divisor.count + 1)
        for position in quotient.indices {
            let top = rest[position] * base + rest[position + 1]
            var estimate = top / by[0], left = top % by[0]
            while estimate >= base || estimate * by[1] > left * base + rest[position + 2] {
                estimate -= 1
                left += by[0]
                if left >= base { break }
            }
            quotient[position] = UInt16(subtract(by, times: estimate, from: &rest, at: position))
        }
        var remainder = [UInt16](repeating: 0, count: divisor.count), carry: UInt32 = 0
        for (place, position) in (rest.count - divisor.count..<rest.count).enumerated() {
            let value = carry * base + rest[position]
            remainder[place] = UInt16(value / factor)
            carry = value % factor
        }
        return (quotient, remainder)
    }

    /// Returns the multiple that was in fact subtracted: one less where the estimate was too large.
    private static func subtract(
        _ divisor: [UInt32], times estimate: UInt32, from rest: inout [UInt32], at position: Int
    ) -> UInt32 {
        var borrow: Int64 = 0
        for index in divisor.indices.reversed() {
            let value = Int64(rest[position + 1 + index]) - Int64(divisor[index]) * Int64(estimate) + borrow
            let place = ((value % Int64(base)) + Int64(base)) % Int64(base)
            borrow = (value - place) / Int64(base)
            rest[position + 1 + index] = UInt32(place)
        }
        let head = Int64(rest[position]) + borrow
        guard head < 0 else {
            rest[position] = UInt32(head)
            return estimate
        }
        var carry: UInt32 = 0
        for index in divisor.indices.reversed() {
            let sum = rest[position + 1 + index] + divisor[index] + carry
            rest[position + 1 + index] = sum % base
            carry = sum / base
        }
        rest[position] = 0
        return estimate - 1
    }

    /// With one place more in front.
    private static func scaled(_ places: [UInt16], _ factor: UInt32) -> [UInt32] {
        var result = [UInt32](repeating: 0, count: places.count + 1), carry: UInt32 = 0
        for position in places.indices.reversed() {
            let product = UInt32(places[position]) * factor + carry
            result[position + 1] = product % base
            carry = product / base
        }
        result[0] = carry
        return result
    }

    private static func divide(_ dividend: [UInt16], by divisor: UInt32) -> ([UInt16], [UInt16]) {
        var quotient = [UInt16](repeating: 0, count: dividend.count), rest: UInt32 = 0
        for (position, place) in dividend.enumerated() {
            let value = rest * base + UInt32(place)
            quotient[position] = UInt16(value / divisor)
            rest = value % divisor
        }
        return (quotient, [UInt16(rest)])
    }

    // MARK: Rounding

    /// To so many digits behind the point (negative: before it), halves away from zero.
    package func rounded(to digits: Int) -> Decimal { cut(to: digits, isRounding: true) }

    /// To so many digits behind the point, towards zero.
    package func truncated(to digits: Int) -> Decimal { cut(to: digits, isRounding: false) }

    private func cut(to digits: Int, isRounding: Bool) -> Decimal {
        guard isFinite else { return self }
        let digits = min(max(digits, -Self.integralLimit - 1), Self.scaleLimit)
        let scale = max(digits, 0)
        // Decimal digits of the number that stay, counted from the first place's first digit.
        let kept = (weight + 1) * Self.digitsPerPlace + digits
        guard !places.isEmpty, kept >= 0 else { return Decimal.zero.withScale(scale) }
        let position = kept / Self.digitsPerPlace, within = kept % Self.digitsPerPlace
        guard position < places.count else { return withScale(scale) }
        var result = Array(places[..<position])
        let unit: UInt16 = [10_000, 1000, 100, 10][within]
        let last = places[position], rest = within == 0 ? last : last % unit
        let isUp = isRounding && UInt32(rest) * 2 >= UInt32(unit)
        var carry: UInt32 = 0
        if within == 0 {
            carry = isUp ? 1 : 0
        } else {
            let place = UInt32(last - rest) + (isUp ? UInt32(unit) : 0)
            result.append(UInt16(place % Self.base))
            carry = place / Self.base
        }
        var index = (within == 0 ? result.count : result.count - 1) - 1
        while carry > 0, index >= 0 {
            let sum = UInt32(result[index]) + carry
            result[index] = UInt16(sum % Self.base)
            carry = sum / Self.base
            index -= 1
        }
        if carry > 0 {
            result.insert(UInt16(carry), at: 0)
            return Decimal(isNegative: isNegative, weight: weight + 1, places: result, scale: scale)
        }
        return Decimal(isNegative: isNegative, weight: weight, places: result, scale: scale)
    }

    /// The least whole number that is not below.
    package func ceiling() throws(DatabaseError) -> Decimal {
        let whole = truncated(to: 0)
        return whole < self ? try whole.adding(Decimal(1)) : whole
    }

    /// The greatest whole number that is not above.
    package func floor() throws(DatabaseError) -> Decimal {
        let whole = truncated(to: 0)
        return self < whole ? try whole.subtracting(Decimal(1)) : whole
    }

    /// As `numeric(precision, scale)` stores it: rounded, and refused where it has too many digits before the point.
    package func constrained(precision: Int, scale: Int) throws(DatabaseError) -> Decimal {
        guard kind != .nan else { return self }
        let overflow = DatabaseError(.overflow, "numeric field overflow")
        guard isFinite else { throw overflow }
        let value = rounded(to: scale)
        guard let first = value.places.first else { return value.withScale(max(scale, 0)) }
        var width = value.weight * Self.digitsPerPlace + 1, rest = first
        while rest >= 10 {
            width += 1
            rest /= 10
        }
        guard width <= precision - scale else { throw overflow }
        return value
    }
}
