import Base
import DataModel
import Glibc

/// Angles in degrees. What is exact in school is exact here: each function is scaled so that it hits its values at 30,
/// 45 and 60 degrees.
enum DegreeFunctions {
    static let rows: [ScalarFunction] = [
        row("sind", ("sind(30)", "0.5")) { x in sine(x) }, row("cosd", ("cosd(60)", "0.5")) { x in cosine(x) },
        row("tand", ("tand(45)", "1")) { x in tangent(x, isInverse: false) },
        row("cotd", ("cotd(45)", "1")) { x in tangent(x, isInverse: true) },
        arc("asind", ("asind(0.5)", "30")) { x in x < 0 ? -arcSine(-x) : arcSine(x) },
        arc("acosd", ("acosd(0.5)", "60")) { x in x < 0 ? 90 + arcSine(-x) : arcCosine(x) },
        ScalarFunction("atand", [.of(.float64)], .of(.float64), example: ("atand(1)", "45")) {
            a, _ throws(StatementError) in .float(atan(a[0].double) / atan(1.0) * 45)
        },
        ScalarFunction(
            "atan2d", [.of(.float64), .of(.float64)], .of(.float64), example: ("atan2d(1, 0)", "90")
        ) { a, _ throws(StatementError) in .float(atan2(a[0].double, a[1].double) / atan(1.0) * 45) },
    ]

    private static var outOfRange: StatementError { StatementError(.numericValueOutOfRange, "input is out of range") }

    private static func row(
        _ name: String, _ example: (String, String), _ compute: @escaping @Sendable (Double) -> Double
    ) -> ScalarFunction {
        ScalarFunction(name, [.of(.float64)], .of(.float64), example: example) { a, _ throws(StatementError) in
            guard !a[0].double.isInfinite else { throw outOfRange }
            return .float(a[0].double.isNaN ? .nan : compute(a[0].double))
        }
    }

    private static func arc(
        _ name: String, _ example: (String, String), _ compute: @escaping @Sendable (Double) -> Double
    ) -> ScalarFunction {
        ScalarFunction(name, [.of(.float64)], .of(.float64), example: example) { a, _ throws(StatementError) in
            let x = a[0].double
            guard x.isNaN || (-1...1).contains(x) else { throw outOfRange }
            return .float(x.isNaN ? .nan : compute(x))
        }
    }

    private static func radians(_ degrees: Double) -> Double { degrees * 0.0174532925199432957692 }

    /// Of 0 to 30 degrees.
    private static func lowSine(_ x: Double) -> Double { Glibc.sin(radians(x)) / Glibc.sin(radians(30)) / 2 }

    /// Of 0 to 60 degrees.
    private static func lowCosine(_ x: Double) -> Double {
        1 - (1 - Glibc.cos(radians(x))) / (1 - Glibc.cos(radians(60))) / 2
    }

    /// Of 0 to 90 degrees.
    private static func quarterSine(_ x: Double) -> Double { x <= 30 ? lowSine(x) : lowCosine(90 - x) }

    private static func quarterCosine(_ x: Double) -> Double { x <= 60 ? lowCosine(x) : lowSine(90 - x) }

    private static func sine(_ x: Double) -> Double {
        var angle = Glibc.fmod(x, 360), sign = 1.0
        if angle < 0 { (angle, sign) = (-angle, -sign) }
        if angle > 180 { (angle, sign) = (360 - angle, -sign) }
        if angle > 90 { angle = 180 - angle }
        return sign * quarterSine(angle)
    }

    private static func cosine(_ x: Double) -> Double {
        var angle = abs(Glibc.fmod(x, 360)), sign = 1.0
        if angle > 180 { angle = 360 - angle }
        if angle > 90 { (angle, sign) = (180 - angle, -sign) }
        return sign * quarterCosine(angle)
    }

    private static func tangent(_ x: Double, isInverse: Bool) -> Double {
        var angle = Glibc.fmod(x, 360), sign = 1.0
        if angle < 0 { (angle, sign) = (-angle, -sign) }
        if angle > 180 { (angle, sign) = (360 - angle, -sign) }
        if angle > 90 { (angle, sign) = (180 - angle, -sign) }
        let upper = isInverse ? quarterCosine(angle) : quarterSine(angle)
        let lower = isInverse ? quarterSine(angle) : quarterCosine(angle)
        let unit = isInverse ? quarterCosine(45) / quarterSine(45) : quarterSine(45) / quarterCosine(45)
        let value = sign * (upper / lower / unit)
        // No minus before a zero.
        return value == 0 ? 0 : value
    }

    /// Of 0 to 1.
    private static func arcSine(_ x: Double) -> Double {
        x <= 0.5 ? Glibc.asin(x) / Glibc.asin(0.5) * 30 : 90 - Glibc.acos(x) / Glibc.acos(0.5) * 60
    }

    private static func arcCosine(_ x: Double) -> Double {
        x <= 0.5 ? 90 - Glibc.asin(x) / Glibc.asin(0.5) * 30 : Glibc.acos(x) / Glibc.acos(0.5) * 60
    }
}
