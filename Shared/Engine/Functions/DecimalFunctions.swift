import Base
import DataModel
import Glibc

/// Roots, powers and logarithms of decimals, to as many digits as PostgreSQL shows.
enum DecimalFunctions {
    static let rows: [ScalarFunction] = roots + powers + whole + buckets

    private static func row(
        _ name: String, _ count: Int, _ example: (String, String),
        _ compute: @escaping @Sendable (Decimal, Decimal) throws(StatementError) -> Decimal
    ) -> ScalarFunction {
        .row(name, Array(repeating: .decimal, count: count), .decimal, example) { a, _ throws(StatementError) in
            .decimal(try compute(a[0].exact, count > 1 ? a[1].exact : .zero))
        }
    }

    private static let roots: [ScalarFunction] = [
        row("sqrt", 1, ("sqrt(2.0)", "1.414213562373095")) { x, _ throws(StatementError) in try root(x) },
        row("exp", 1, ("exp(1.0)", "2.7182818284590452")) { x, _ throws(StatementError) in try exponential(x) },
        row("ln", 1, ("ln(2.0)", "0.6931471805599453")) { x, _ throws(StatementError) in try logarithm(x) },
        row("log", 1, ("log(100.0)", "2.0000000000000000")) { x, _ throws(StatementError) in
            try logarithm(x, base: Decimal(10))
        },
        row("log10", 1, ("log10(1000.0)", "3.0000000000000000")) { x, _ throws(StatementError) in
            try logarithm(x, base: Decimal(10))
        },
        row("log", 2, ("log(2.0, 64.0)", "6.0000000000000000")) { base, x throws(StatementError) in
            try logarithm(x, base: base)
        },
    ]

    private static let powers: [ScalarFunction] = [
        ("power", "power(9.0, 3.0)"), ("pow", "pow(9.0, 3)"), ("^", "9.0 ^ 3"),
    ]
    .map { (name: String, call: String) in
        row(name, 2, (call, "729.0000000000000000")) { x, y throws(StatementError) in try power(x, y) }
    }

    // MARK: Arithmetic with a chosen scale

    private static func add(_ x: Decimal, _ y: Decimal) throws(StatementError) -> Decimal {
        try ArithmeticFunctions.compute(.add, x, y)
    }

    private static func subtract(_ x: Decimal, _ y: Decimal) throws(StatementError) -> Decimal {
        try ArithmeticFunctions.compute(.subtract, x, y)
    }

    private static func multiply(_ x: Decimal, _ y: Decimal, _ scale: Int) throws(StatementError) -> Decimal {
        try ArithmeticFunctions.compute(.multiply, x, y).rounded(to: scale)
    }

    private static func divide(_ x: Decimal, _ y: Decimal, _ scale: Int) throws(StatementError) -> Decimal {
        try ArithmeticFunctions.compute(.divide, x.rounded(to: max(scale, x.scale)), y).rounded(to: scale)
    }

    /// The power of ten of the first digit.
    private static func exponent(_ x: Decimal) -> Int {
        let text = x.magnitude.text
        let whole = text.prefix { $0 != "." }
        if whole != "0" { return whole.utf8.count - 1 }
        return -(text.dropFirst(2).prefix { $0 == "0" }.utf8.count + 1)
    }

    private static func powerOfTen(_ exponent: Int) throws(StatementError) -> Decimal {
        let text =
            exponent >= 0
            ? "1" + String(repeating: "0", count: exponent) : "0." + String(repeating: "0", count: -exponent - 1) + "1"
        return try translated { () throws(DatabaseError) in try Decimal(parsing: text) }
    }

    private static func limited(_ scale: Int, _ others: Int...) -> Int {
        min(max(others.max() ?? 0, scale, 0), Decimal.chosenScaleLimit)
    }

    /// What would keep a core busy for seconds.
    private static var tooLong: StatementError {
        StatementError(.featureNotSupported, "this function of numbers with more than 10000 digits is not supported")
    }

    private static var overflow: StatementError {
        StatementError(.numericValueOutOfRange, "value overflows numeric format")
    }

    // MARK: Roots

    private static func root(_ x: Decimal) throws(StatementError) -> Decimal {
        if x.kind == .nan || x.kind == .infinity { return x }
        guard x.signum >= 0 else {
            throw StatementError(.invalidArgumentForPowerFunction, "cannot take square root of a negative number")
        }
        // The weight of the first four digits, as PostgreSQL counts.
        let weight = x.isZero ? 0 : Calendar.floorDivide(exponent(x), 4)
        return try root(x, scale: limited(17 - (weight + 1) * 2, x.scale))
    }

    /// By Newton's method, from what a double knows.
    static func root(_ x: Decimal, scale: Int) throws(StatementError) -> Decimal {
        guard x.isFinite else { return x.signum < 0 ? .notANumber : x }
        guard !x.isZero else { return Decimal.zero.rounded(to: scale) }
        guard abs(exponent(x)) < 10_000 else { throw tooLong }
        let shift = Calendar.floorDivide(exponent(x), 2)
        // Between 1 and 100.
        let small = try ArithmeticFunctions.compute(.multiply, x, try powerOfTen(-2 * shift))
        let working = scale + shift + 8
        let digits = max(working, 20)
        var guess = Decimal(small.double.squareRoot(), significantDigits: 15), known = 14
        let half = try translated { () throws(DatabaseError) in try Decimal(parsing: "0.5") }
        while true {
            guess = try multiply(try add(guess, try divide(small, guess, digits)), half, digits)
            if known > digits { break }
            known *= 2
        }
        let result = try ArithmeticFunctions.compute(.multiply, guess, try powerOfTen(shift))
        return try settled(result.rounded(to: scale), of: x, scale)
    }

    /// A root that may be off by one in its last digit, because it was rounded twice.
    private static func settled(_ root: Decimal, of x: Decimal, _ scale: Int) throws(StatementError) -> Decimal {
        let unit = try powerOfTen(-scale),
            half = try ArithmeticFunctions.compute(
                .multiply, try powerOfTen(-scale - 1), Decimal(5))
        let low = try subtract(root, half), high = try add(root, half)
        if x < (try ArithmeticFunctions.compute(.multiply, low, low)) { return try subtract(root, unit) }
        return try ArithmeticFunctions.compute(.multiply, high, high) <= x ? try add(root, unit) : root
    }

    // MARK: Exponentials and logarithms

    private static func exponential(_ x: Decimal) throws(StatementError) -> Decimal {
        if x.kind == .negativeInfinity { return .zero }
        guard x.isFinite else { return x }
        let size = min(max(x.double * 0.434294481903252, -2000), 2000)
        return try exponential(x, scale: limited(16 - Int(size), x.scale))
    }

    private static func exponential(_ x: Decimal, scale: Int) throws(StatementError) -> Decimal {
        let value = x.double
        guard abs(value) < 6000 else {
            if value > 0 { throw overflow }
            return Decimal.zero.rounded(to: scale)
        }
        // e^x = (e^(x / 2^n))^(2^n), where the series is short.
        var halvings = 0
        while abs(value) / Double(1 << halvings) > 0.01 { halvings += 1 }
        let digits = scale + max(Int(value * 0.4343), 0) + halvings / 3 + 10
        let small = try divide(x, Decimal(Int64(1) << Int64(halvings)), digits)
        var term = Decimal(1), sum = Decimal(1), index: Int64 = 1
        while !term.isZero, index < 4000 {
            term = try divide(try multiply(term, small, digits), Decimal(index), digits)
            sum = try add(sum, term)
            index += 1
        }
        for _ in 0..<halvings { sum = try multiply(sum, sum, digits) }
        return sum.rounded(to: scale)
    }

    /// About the power of ten of the logarithm.
    private static func logarithmExponent(_ x: Decimal) -> Int {
        guard x.signum > 0, x.isFinite else { return 0 }
        let near = x.double - 1
        if abs(near) < 0.1 {
            guard let rest = try? subtract(x, Decimal(1)), !rest.isZero else { return 0 }
            // In steps of four digits, plus what the first of them has.
            let power = exponent(rest), weight = Calendar.floorDivide(power, 4)
            return weight * 4 + (power - weight * 4)
        }
        let power = exponent(x)
        let mantissa = power.magnitude < 300 ? Glibc.log(x.double) : Double(power) * 2.302585092994046
        return mantissa == 0 ? 0 : Int(Glibc.log10(abs(mantissa)))
    }

    private static func checkLogarithm(_ x: Decimal) throws(StatementError) {
        if x.isZero { throw StatementError(.invalidArgumentForLogarithm, "cannot take logarithm of zero") }
        if x.signum < 0 {
            throw StatementError(.invalidArgumentForLogarithm, "cannot take logarithm of a negative number")
        }
    }

    private static func logarithm(_ x: Decimal) throws(StatementError) -> Decimal {
        if x.kind == .nan { return x }
        try checkLogarithm(x)
        guard x.isFinite else { return x }
        return try logarithm(x, scale: limited(16 - logarithmExponent(x), x.scale))
    }

    private static func logarithm(_ x: Decimal, base: Decimal) throws(StatementError) -> Decimal {
        if x.kind == .nan || base.kind == .nan { return .notANumber }
        try checkLogarithm(base)
        try checkLogarithm(x)
        guard x.isFinite, base.isFinite else {
            return x.isFinite ? .zero : base.isFinite ? .infinity : .notANumber
        }
        let scale = limited(16 - (logarithmExponent(x) - logarithmExponent(base)), x.scale, base.scale)
        let digits = scale + 12 + max(-logarithmExponent(base), 0)
        let divisor = try logarithm(base, scale: digits)
        return try divide(try logarithm(x, scale: digits), divisor, scale)
    }

    private static func logarithm(_ x: Decimal, scale: Int) throws(StatementError) -> Decimal {
        // ln x = k · ln 10 + ln m, with m between 1 and 10; or x itself, near one.
        let power = (0.9...1.1).contains(x.double) ? 0 : exponent(x), digits = scale + 20
        let mantissa = try ArithmeticFunctions.compute(.multiply, x, try powerOfTen(-power))
        let rest = try seriesLogarithm(mantissa, digits)
        if power == 0 { return rest.rounded(to: scale) }
        let ten = try seriesLogarithm(Decimal(10), digits)
        return try add(try multiply(ten, Decimal(Int64(power)), digits), rest).rounded(to: scale)
    }

    /// 2^n · ln(x^(1 / 2^n)), near 1, where the series is short.
    private static func seriesLogarithm(_ x: Decimal, _ digits: Int) throws(StatementError) -> Decimal {
        var near = x.rounded(to: max(digits, x.scale)), factor: Int64 = 1
        while near.double > 1.1 || near.double < 0.9 {
            near = try root(near, scale: digits)
            factor *= 2
            guard factor < 1 << 20 else { throw overflow }
        }
        let ratio = try divide(try subtract(near, Decimal(1)), try add(near, Decimal(1)), digits)
        let square = try multiply(ratio, ratio, digits)
        var term = ratio, sum = ratio, index: Int64 = 3
        while !term.isZero, index < 20_000 {
            term = try multiply(term, square, digits)
            sum = try add(sum, try divide(term, Decimal(index), digits))
            index += 2
        }
        return try multiply(sum, Decimal(2 * factor), digits)
    }

    // MARK: Powers

    private static func power(_ x: Decimal, _ y: Decimal) throws(StatementError) -> Decimal {
        let one = Decimal(1)
        if x.kind == .nan { return y.isZero ? one : x }
        if y.kind == .nan { return x == one ? one : y }
        if x.isZero, y.signum < 0 {
            throw StatementError(.invalidArgumentForPowerFunction, "zero raised to a negative power is undefined")
        }
        let isWhole = y.isFinite && y.truncated(to: 0) == y
        if x.signum < 0, y.isFinite, !isWhole {
            throw StatementError(
                .invalidArgumentForPowerFunction,
                "a negative number raised to a non-integer power yields a complex result")
        }
        guard x.isFinite, y.isFinite else {
            // As the floats have it.
            let value = Glibc.pow(x.double, y.double)
            return value.isNaN
                ? .notANumber
                : value == .infinity ? .infinity : value == -.infinity ? .negativeInfinity : value == 0 ? .zero : one
        }
        if isWhole, let count = y.roundedInteger, Int32(exactly: count) != nil {
            return try power(x, count)
        }
        if x.isZero { return Decimal.zero.rounded(to: 16) }
        // Of a negative number by a whole one, too large to be counted: the sign is that of an odd or even power.
        let odd = try translated { () throws(DatabaseError) in try y.remainder(by: Decimal(2)) }
        let isNegative = x.signum < 0 && !odd.isZero
        let base = x.magnitude
        // A logarithm near zero needs as many digits more as it has zeros in front.
        let zeros = -logarithmExponent(base)
        let tooNear = StatementError(.featureNotSupported, "a power of a number so near to one is not supported")
        guard zeros < Decimal.chosenScaleLimit else { throw tooNear }
        let near = zeros > 8 ? try subtract(base, Decimal(1)) : try logarithm(base, scale: max(8 + zeros, 0))
        let rough = try multiply(y, near, max(8 + zeros, 0)).double
        guard rough < 6020 else { throw overflow }
        guard rough > -6020 else { return Decimal.zero.rounded(to: Decimal.chosenScaleLimit) }
        let size = Int(rough * 0.434294481903252)
        let scale = limited(16 - size, x.scale, y.scale)
        let digits = max(scale + size, 0) + max(zeros, 0) + 20
        // Quotients have no more digits than that behind the point.
        guard zeros <= 0 || digits < Decimal.chosenScaleLimit - 20 else { throw tooNear }
        let result = try exponential(try multiply(y, try logarithm(base, scale: digits), digits), scale: scale)
        return isNegative ? try subtract(.zero, result) : result
    }

    private static func power(_ x: Decimal, _ count: Int64) throws(StatementError) -> Decimal {
        var size = 0.0
        if !x.isZero {
            let power = exponent(x)
            let lead = try ArithmeticFunctions.compute(.multiply, x.magnitude, try powerOfTen(-power)).double
            size = Double(count) * (Glibc.log10(lead) + Double(power))
        }
        guard size < 10_000 else { throw overflow }
        let scale = limited(16, x.scale)
        guard size + 1 >= -Double(scale) else { return Decimal.zero.rounded(to: scale) }
        if count == 0 { return Decimal(1).rounded(to: scale) }
        // Squares, with enough digits that their errors do not show.
        let digits = scale + max(Int(size), 0) + 20
        var rest = count.magnitude, square = x, result = Decimal(1)
        let needed = min(digits, Decimal.scaleLimit)
        while rest > 0 {
            if rest & 1 == 1 { result = try multiply(result, square, min(result.scale + square.scale, needed * 2)) }
            rest >>= 1
            if rest > 0 { square = try multiply(square, square, min(square.scale * 2, needed * 2)) }
        }
        return count < 0 ? try divide(Decimal(1), result, scale) : result.rounded(to: scale)
    }

    // MARK: Whole numbers and scales

    private static let whole: [ScalarFunction] = [
        .row("factorial", [.int64], .decimal, ("factorial(20)", "2432902008176640000")) { a, _ throws(StatementError) in
            let count = a[0].int
            guard count >= 0 else {
                throw StatementError(.numericValueOutOfRange, "factorial of a negative number is undefined")
            }
            guard count <= 32_177 else { throw overflow }
            let digits = factorial(UInt64(count))
            return .decimal(try translated { () throws(DatabaseError) in try Decimal(parsing: digits) })
        },
        .row("scale", [.decimal], .int32, ("scale(8.4100)", "4")) { a, _ throws(StatementError) in
            a[0].exact.isFinite ? .integer(Int64(a[0].exact.scale)) : .null
        },
        .row("min_scale", [.decimal], .int32, ("min_scale(8.4100)", "2")) { a, _ throws(StatementError) in
            a[0].exact.isFinite ? .integer(Int64(a[0].exact.neededScale)) : .null
        },
        row("gcd", 2, ("gcd(1.5, 0.5)", "0.5")) { x, y throws(StatementError) in try divisor(x, y) },
        row("lcm", 2, ("lcm(1.5, 0.4)", "6.0")) { x, y throws(StatementError) in
            guard x.isFinite, y.isFinite else { return .notANumber }
            try checkSize(x, y)
            let scale = max(x.scale, y.scale)
            if x.isZero || y.isZero { return Decimal.zero.rounded(to: scale) }
            let quotient = try translated { () throws(DatabaseError) in try x.quotient(by: try divisorOf(x, y)) }
            return try ArithmeticFunctions.compute(.multiply, quotient, y).magnitude.rounded(to: scale)
        },
    ]

    /// The digits of a factorial. Two factors at a time: of numbers that are allowed, their product has 30 bits.
    private static func factorial(_ count: UInt64) -> String {
        let base: UInt64 = 1_000_000_000
        // The lowest nine digits first.
        var groups: [UInt64] = [1]
        for first in stride(from: 1, through: count, by: 2) {
            let factor = first < count ? first * (first + 1) : first
            var carry: UInt64 = 0
            for index in groups.indices {
                let product = groups[index] &* factor &+ carry
                carry = product / base
                groups[index] = product &- carry &* base
            }
            while carry > 0 {
                groups.append(carry % base)
                carry /= base
            }
        }
        var text = String(groups.removeLast())
        for group in groups.reversed() {
            let digits = String(group)
            text += String(repeating: "0", count: 9 - digits.utf8.count) + digits
        }
        return text
    }

    private static func checkSize(_ x: Decimal, _ y: Decimal) throws(StatementError) {
        guard max(exponent(x), exponent(y), x.scale, y.scale) < 1000 else { throw tooLong }
    }

    private static func divisorOf(_ x: Decimal, _ y: Decimal) throws(DatabaseError) -> Decimal {
        var (left, right) = (x.magnitude, y.magnitude)
        while !right.isZero { (left, right) = (right, try left.remainder(by: right)) }
        return left
    }

    private static func divisor(_ x: Decimal, _ y: Decimal) throws(StatementError) -> Decimal {
        guard x.isFinite, y.isFinite else { return .notANumber }
        try checkSize(x, y)
        let scale = max(x.scale, y.scale)
        return try translated { () throws(DatabaseError) in try divisorOf(x, y) }.rounded(to: scale)
    }

    // MARK: Buckets

    private static func refused(_ why: String) -> StatementError { StatementError(.invalidArgumentForWidthBucket, why) }

    private static func checked(_ bucket: Int64) throws(StatementError) -> Value {
        guard bucket <= Int64(Int32.max) else { throw Casts.outOfRange(.int32) }
        return .integer(bucket)
    }

    private static let buckets: [ScalarFunction] = [
        .row(
            "width_bucket", [.decimal, .decimal, .decimal, .int32], .int32,
            ("width_bucket(5.35, 0.024, 10.06, 5)", "3")
        ) { a, _ throws(StatementError) in
            let value = a[0].exact, low = a[1].exact, high = a[2].exact, count = a[3].int
            guard count > 0 else { throw refused("count must be greater than zero") }
            guard ![value.kind, low.kind, high.kind].contains(.nan) else {
                throw refused("operand, lower bound, and upper bound cannot be NaN")
            }
            guard low.isFinite, high.isFinite else { throw refused("lower and upper bounds must be finite") }
            guard low != high else { throw refused("lower bound cannot equal upper bound") }
            let isRising = low < high
            if isRising ? value < low : low < value { return .integer(0) }
            if isRising ? !(value < high) : !(high < value) { return try checked(count + 1) }
            let part = try ArithmeticFunctions.compute(.multiply, try subtract(value, low), Decimal(count))
            let quotient = try translated { () throws(DatabaseError) in try part.quotient(by: try high.subtracting(low))
            }
            return try checked((quotient.roundedInteger ?? 0) + 1)
        },
        .row(
            "width_bucket", [.float64, .float64, .float64, .int32], .int32,
            ("width_bucket(5.35::float8, 0, 10, 5)", "3")
        ) { a, _ throws(StatementError) in
            let value = a[0].double, low = a[1].double, high = a[2].double, count = a[3].int
            guard count > 0 else { throw refused("count must be greater than zero") }
            guard !value.isNaN, !low.isNaN, !high.isNaN else {
                throw refused("operand, lower bound, and upper bound cannot be NaN")
            }
            guard low.isFinite, high.isFinite else { throw refused("lower and upper bounds must be finite") }
            guard low != high else { throw refused("lower bound cannot equal upper bound") }
            let isRising = low < high
            if isRising ? value < low : value > low { return .integer(0) }
            if isRising ? value >= high : value <= high { return try checked(count + 1) }
            // Halved where the distance itself would be infinite.
            let width = high / 2 - low / 2, distance = value / 2 - low / 2
            let bucket = (distance / width * Double(count)).rounded(.down)
            return try checked(min(Int64(exactly: bucket) ?? 0, count - 1) + 1)
        },
        ScalarFunction(
            "width_bucket", [.anyCompatible, .anyCompatibleArray], .of(.int32),
            example: ("width_bucket(5, ARRAY[1, 3, 4, 7])", "3")
        ) { a, _ throws(StatementError) in
            guard case .array(let array) = a[1] else { return .null }
            guard array.dimensions.count <= 1 else {
                throw StatementError(.arraySubscriptError, "thresholds must be one-dimensional array")
            }
            guard !array.elements.contains(where: \.isNull) else {
                throw StatementError(.nullValueNotAllowed, "thresholds array must not contain NULLs")
            }
            var below = 0, end = array.elements.count
            while below < end {
                let middle = (below + end) / 2
                if Value.compare(array.elements[middle], a[0]) <= 0 { below = middle + 1 } else { end = middle }
            }
            return .integer(Int64(below))
        },
    ]
}
