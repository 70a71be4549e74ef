import Base
import DataModel
import Glibc

/// Functions of numbers.
enum MathFunctions {
    static let rows: [ScalarFunction] =
        absolute + rounding + [
            float("sqrt", ("sqrt(4::float8)", "2")) { x throws(StatementError) in
                guard x >= 0 || x.isNaN else {
                    throw StatementError(
                        .invalidArgumentForPowerFunction, "cannot take square root of a negative number")
                }
                return x.squareRoot()
            },
            float("cbrt", ("cbrt(8)", "2")) { x throws(StatementError) in Glibc.cbrt(x) },
            float("exp", ("exp(0::float8)", "1")) { x throws(StatementError) in
                let value = Glibc.exp(x)
                if value.isInfinite, x.isFinite { throw FloatArithmetic.overflow }
                if value == 0, x.isFinite { throw FloatArithmetic.underflow }
                return value
            },
            float("ln", ("ln(1::float8)", "0")) { x throws(StatementError) in Glibc.log(try positive(x)) },
            float("log", ("log(100::float8)", "2")) { x throws(StatementError) in Glibc.log10(try positive(x)) },
            float("log10", ("log10(1000::float8)", "3")) { x throws(StatementError) in Glibc.log10(try positive(x)) },
            float("sin", ("sin(0)", "0")) { x throws(StatementError) in Glibc.sin(try finite(x)) },
            float("cos", ("cos(0)", "1")) { x throws(StatementError) in Glibc.cos(try finite(x)) },
            float("tan", ("tan(0)", "0")) { x throws(StatementError) in Glibc.tan(try finite(x)) },
            float("asin", ("asin(0)", "0")) { x throws(StatementError) in Glibc.asin(try unit(x)) },
            float("acos", ("acos(1)", "0")) { x throws(StatementError) in Glibc.acos(try unit(x)) },
            float("atan", ("atan(0)", "0")) { x throws(StatementError) in Glibc.atan(x) },
            float("cot", ("cot(1)", "0.6420926159343306")) { x throws(StatementError) in 1 / Glibc.tan(try finite(x)) },
            float("sinh", ("sinh(0)", "0")) { x throws(StatementError) in Glibc.sinh(x) },
            float("cosh", ("cosh(0)", "1")) { x throws(StatementError) in Glibc.cosh(x) },
            float("tanh", ("tanh(0)", "0")) { x throws(StatementError) in Glibc.tanh(x) },
            float("asinh", ("asinh(0)", "0")) { x throws(StatementError) in Glibc.asinh(x) },
            float("acosh", ("acosh(1)", "0")) { x throws(StatementError) in
                guard x >= 1 || x.isNaN else { throw StatementError(.numericValueOutOfRange, "input is out of range") }
                return Glibc.acosh(x)
            },
            float("atanh", ("atanh(0)", "0")) { x throws(StatementError) in Glibc.atanh(try unit(x)) },
            float("|/", ("|/ 25", "5")) { x throws(StatementError) in
                guard x >= 0 || x.isNaN else {
                    throw StatementError(
                        .invalidArgumentForPowerFunction, "cannot take square root of a negative number")
                }
                return x.squareRoot()
            },
            float("||/", ("||/ 8", "2")) { x throws(StatementError) in Glibc.cbrt(x) },
            ScalarFunction(
                "gen_random_uuid", [], .of(.uuid), volatility: .volatile,
                example: ("substr(gen_random_uuid()::text, 15, 1)", "4")
            ) { _, context throws(StatementError) in
                // Version 4, variant 1.
                let high = context.settings.random() & 0xffff_ffff_ffff_0fff | 0x4000
                let low = context.settings.random() & 0x3fff_ffff_ffff_ffff | 0x8000_0000_0000_0000
                return .uuid(high: high, low: low)
            },
            float("degrees", ("degrees(0)", "0")) { x throws(StatementError) in
                try FloatArithmetic.compute(.divide, x, 0.0174532925199432957692, .float64)
            },
            float("radians", ("radians(0)", "0")) { x throws(StatementError) in
                try FloatArithmetic.compute(.multiply, x, 0.0174532925199432957692, .float64)
            },
            pair("atan2", ("atan2(0, 1)", "0")) { y, x throws(StatementError) in Glibc.atan2(y, x) },
            pair("power", ("power(2, 10)", "1024")) { x, y throws(StatementError) in try power(x, y) },
            pair("pow", ("pow(3, 2)", "9")) { x, y throws(StatementError) in try power(x, y) },
            pair("^", ("2 ^ 3", "8")) { x, y throws(StatementError) in try power(x, y) },
            constant("pi", Double.pi, ("pi()", "3.141592653589793")),
            ScalarFunction("random", [], .of(.float64), volatility: .volatile, example: ("random() < 1", "true")) {
                _, context throws(StatementError) in
                .float(Double(context.settings.random() >> 11) / 9_007_199_254_740_992)
            },
            decimalPair("mod", ("mod(9.5, 4)", "1.5")) { x, y throws(StatementError) in
                try ArithmeticFunctions.compute(.remainder, x, y)
            },
            decimalPair("div", ("div(9, 4)", "2")) { x, y throws(StatementError) in
                do throws(DatabaseError) { return try x.quotient(by: y) } catch {
                    throw error.code == .divisionByZero ? ArithmeticFunctions.divisionByZero : StatementError(error)
                }
            },
            decimalRoot,
        ] + integerRows

    private static func positive(_ x: Double) throws(StatementError) -> Double {
        if x == 0 { throw StatementError(.invalidArgumentForLogarithm, "cannot take logarithm of zero") }
        if x < 0 { throw StatementError(.invalidArgumentForLogarithm, "cannot take logarithm of a negative number") }
        return x
    }

    /// An angle.
    private static func finite(_ x: Double) throws(StatementError) -> Double {
        if x.isInfinite { throw StatementError(.numericValueOutOfRange, "input is out of range") }
        return x
    }

    private static func unit(_ x: Double) throws(StatementError) -> Double {
        guard x.isNaN || (-1...1).contains(x) else {
            throw StatementError(.numericValueOutOfRange, "input is out of range")
        }
        return x
    }

    private static func power(_ x: Double, _ y: Double) throws(StatementError) -> Double {
        if x == 0, y < 0 {
            throw StatementError(.invalidArgumentForPowerFunction, "zero raised to a negative power is undefined")
        }
        if x < 0, !y.isNaN, y != y.rounded(.down) {
            throw StatementError(
                .invalidArgumentForPowerFunction,
                "a negative number raised to a non-integer power yields a complex result")
        }
        let value = Glibc.pow(x, y)
        if value.isInfinite, x.isFinite, y.isFinite { throw FloatArithmetic.overflow }
        if value == 0, x != 0, x.isFinite, y.isFinite { throw FloatArithmetic.underflow }
        return value
    }

    private static func number(_ value: Value) -> Double {
        if case .float(let number) = value { return number }
        return 0
    }

    private static func float(
        _ name: String, _ example: (String, String),
        _ compute: @escaping @Sendable (Double) throws(StatementError) -> Double
    ) -> ScalarFunction {
        ScalarFunction(name, [.of(.float64)], .of(.float64), example: example) { a, _ throws(StatementError) in
            .float(try compute(number(a[0])))
        }
    }

    private static func pair(
        _ name: String, _ example: (String, String),
        _ compute: @escaping @Sendable (Double, Double) throws(StatementError) -> Double
    ) -> ScalarFunction {
        ScalarFunction(name, [.of(.float64), .of(.float64)], .of(.float64), example: example) {
            a, _ throws(StatementError) in .float(try compute(number(a[0]), number(a[1])))
        }
    }

    private static func constant(_ name: String, _ value: Double, _ example: (String, String)) -> ScalarFunction {
        ScalarFunction(name, [], .of(.float64), example: example) { _, _ throws(StatementError) in .float(value) }
    }

    private static func decimalPair(
        _ name: String, _ example: (String, String),
        _ compute: @escaping @Sendable (Decimal, Decimal) throws(StatementError) -> Decimal
    ) -> ScalarFunction {
        ScalarFunction(name, [.of(.decimal), .of(.decimal)], .of(.decimal), example: example) {
            a, _ throws(StatementError) in
            guard case .decimal(let left) = a[0], case .decimal(let right) = a[1] else { return .null }
            return .decimal(try compute(left, right))
        }
    }

    /// What the greater types would do with whole decimals.
    private static let decimalRoot = ScalarFunction(
        "trim_scale", [.of(.decimal)], .of(.decimal), example: ("trim_scale(8.4100)", "8.41")
    ) { a, _ throws(StatementError) in
        if case .decimal(let value) = a[0] { .decimal(value.trimmed) } else { .null }
    }

    private static let absolute: [ScalarFunction] = [.int16, .int32, .int64, .decimal, .float32, .float64].flatMap {
        (type: DataType) -> [ScalarFunction] in
        let range = Casts.range(of: type.kind)
        return ["abs", "@"].map { name in
            ScalarFunction(
                name, [.of(type)], .of(type),
                example: (name == "@" ? "@ ((-5)::\(type.name))" : "abs((-5)::\(type.name))", "5")
            ) { a, _ throws(StatementError) in
                switch a[0] {
                case .integer(let value):
                    guard value != .min, range.contains(abs(value)) else { throw Casts.outOfRange(type.kind) }
                    return .integer(abs(value))
                case .float(let value): return .float(value.magnitude)
                case .decimal(let value): return .decimal(value.magnitude)
                case _: return .null
                }
            }
        }
    }

    private static let rounding: [ScalarFunction] = [
        ("ceil", "42.8", "43"), ("ceiling", "42.2", "43"), ("floor", "42.8", "42"), ("round", "42.5", "43"),
        ("trunc", "42.8", "42"), ("sign", "-8.4", "-1"),
    ].flatMap { (name: String, input: String, output: String) -> [ScalarFunction] in
        let even = name == "round" ? "42" : output
        return [
            ScalarFunction(name, [.of(.decimal)], .of(.decimal), example: ("\(name)(\(input))", output)) {
                a, _ throws(StatementError) in
                guard case .decimal(let value) = a[0] else { return .null }
                do throws(DatabaseError) {
                    switch name {
                    case "floor": return .decimal(try value.floor())
                    case "round": return .decimal(value.rounded(to: 0))
                    case "trunc": return .decimal(value.truncated(to: 0))
                    case "sign": return .decimal(value.kind == .nan ? value : Decimal(Int64(value.signum)))
                    case _: return .decimal(try value.ceiling())
                    }
                } catch {
                    throw StatementError(error)
                }
            },
            ScalarFunction(name, [.of(.float64)], .of(.float64), example: ("\(name)('\(input)'::float8)", even)) {
                a, _ throws(StatementError) in
                let value = number(a[0])
                switch name {
                case "floor": return .float(value.rounded(.down))
                case "round": return .float(value.rounded(.toNearestOrEven))
                case "trunc": return .float(value.rounded(.towardZero))
                case "sign": return .float(value > 0 ? 1 : value < 0 ? -1 : 0)
                case _: return .float(value.rounded(.up))
                }
            },
        ]
    }

    private static let integerRows: [ScalarFunction] = {
        var rows: [ScalarFunction] = []
        for name in ["round", "trunc"] {
            rows.append(
                ScalarFunction(
                    name, [.of(.decimal), .of(.int32)], .of(.decimal),
                    example: ("\(name)(42.4382, 2)", "42.4\(name == "round" ? 4 : 3)")
                ) { a, _ throws(StatementError) in
                    guard case .decimal(let value) = a[0], case .integer(let digits) = a[1] else { return .null }
                    let places = Int(min(max(digits, -131_073), 16_383))
                    return .decimal(name == "round" ? value.rounded(to: places) : value.truncated(to: places))
                })
        }
        for type in [DataType.int16, .int32, .int64] {
            rows.append(
                ScalarFunction(
                    "mod", [.of(type), .of(type)], .of(type), example: ("mod(9::\(type.name), 4::\(type.name))", "1")
                ) { a, _ throws(StatementError) in
                    guard case .integer(let left) = a[0], case .integer(let right) = a[1] else { return .null }
                    if right == 0 { throw ArithmeticFunctions.divisionByZero }
                    return .integer(right == -1 ? 0 : left % right)
                })
        }
        for type in [DataType.int32, .int64] {
            for (name, isLeast) in [("gcd", false), ("lcm", true)] {
                rows.append(
                    ScalarFunction(
                        name, [.of(type), .of(type)], .of(type),
                        example: ("\(name)(12::\(type.name), 18::\(type.name))", isLeast ? "36" : "6")
                    ) { a, _ throws(StatementError) in
                        guard case .integer(let left) = a[0], case .integer(let right) = a[1] else { return .null }
                        var (x, y) = (left.magnitude, right.magnitude)
                        while y != 0 { (x, y) = (y, x % y) }
                        if isLeast {
                            if left == 0 || right == 0 { return .integer(0) }
                            let (product, isOver) = (left.magnitude / x).multipliedReportingOverflow(
                                by: right.magnitude)
                            guard !isOver, product <= UInt64(Casts.range(of: type.kind).upperBound) else {
                                throw Casts.outOfRange(type.kind)
                            }
                            return .integer(Int64(product))
                        }
                        guard x <= UInt64(Casts.range(of: type.kind).upperBound) else {
                            throw Casts.outOfRange(type.kind)
                        }
                        return .integer(Int64(x))
                    })
            }
        }
        return rows
    }()
}
