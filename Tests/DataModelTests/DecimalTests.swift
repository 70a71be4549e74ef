import Base
import DataModel
import TestKit
import Testing

/// Expected texts are what PostgreSQL 15 answers.
@Suite("Decimal")
struct DecimalTests {
    private func decimal(_ text: String) throws -> Decimal { try Decimal(parsing: text) }

    @Test(
        "reads and prints what PostgreSQL does",
        arguments: [
            ("0", "0"), ("-0", "0"), ("0.00", "0.00"), ("12345.678", "12345.678"), ("-1", "-1"), ("+7.50", "7.50"),
            (".5", "0.5"), ("5.", "5"), ("1e3", "1000"), ("1.5e3", "1500"), ("1.2345e2", "123.45"),
            ("1e-3", "0.001"), ("12.5E-2", "0.125"), ("  42 ", "42"), ("0001.10", "1.10"), ("0e10", "0"),
            ("0e-4", "0.0000"), ("100000000", "100000000"), ("0.00001", "0.00001"), ("9999.9999", "9999.9999"),
            ("NaN", "NaN"), ("nan", "NaN"), ("Infinity", "Infinity"), ("-inf", "-Infinity"), ("+INF", "Infinity"),
            ("123456789012345678901234567890.000000000001", "123456789012345678901234567890.000000000001"),
        ])
    func text(_ input: String, _ expected: String) throws {
        #expect(try decimal(input).text == expected)
        #expect(try decimal(try decimal(input).text) == decimal(input))
    }

    @Test(
        "refuses what is no number",
        arguments: [
            "", " ", "-", ".", "1e", "1e+", "e5", "1 2", "0x10", "1_000", "--1", "+-1", "1.2.3", "-nan", "infin", "½",
            "1\u{0}", "٣",
        ])
    func malformed(_ input: String) {
        #expect {
            try decimal(input)
        } throws: {
            ($0 as? DatabaseError)
                == DatabaseError(.invalidText, "invalid input syntax for type numeric: \"\(input)\"")
        }
    }

    @Test("refuses what is too large or too fine", arguments: ["1e131072", "1e-16384", "1e99999999999999999999"])
    func limits(_ input: String) throws {
        #expect(throws: DatabaseError(.overflow, "value overflows numeric format")) { try decimal(input) }
    }

    @Test("has room up to its limits")
    func atTheLimits() throws {
        #expect(try decimal("1e131071").text.count == 131_072)
        #expect(try decimal("1e-16383").text.count == 16_385)
        #expect(throws: DatabaseError.self) { try decimal("9e131071").adding(decimal("9e131071")) }
    }

    @Test(
        "adds, subtracts, multiplies, divides and takes remainders like PostgreSQL",
        arguments: [
            ("1.10", "+", "2.205", "3.305"), ("9999", "+", "1", "10000"), ("-5", "+", "5.00", "0.00"),
            ("1", "-", "0.0001", "0.9999"), ("10000", "-", "1", "9999"), ("0.1", "+", "0.2", "0.3"),
            ("1.5", "*", "1.50", "2.250"), ("99999999", "*", "99999999", "9999999800000001"),
            ("0.00", "*", "-3", "0.00"),
            ("1", "/", "3", "0.33333333333333333333"), ("10", "/", "3", "3.3333333333333333"),
            ("1", "/", "10000", "0.000100000000000000000000"), ("2", "/", "1", "2.0000000000000000"),
            ("7", "/", "-2", "-3.5000000000000000"),
            ("123456789012345678901234567890", "/", "7", "17636684144620811271604938270"),
            ("1000000000000000000000", "/", "3", "333333333333333333333"),
            ("0.0001", "/", "3", "0.000033333333333333333333"),
            ("4.56", "/", "1.23", "3.7073170731707317"), ("5", "%", "3", "2"), ("-5", "%", "3", "-2"),
            ("5.5", "%", "1.25", "0.50"), ("123456789.123", "%", "0.01", "0.003"), ("17", "div", "5", "3"),
            ("-17", "div", "5", "-3"), ("1e40", "div", "3e20", "33333333333333333333"),
            ("Infinity", "+", "-Infinity", "NaN"), ("Infinity", "*", "-2", "-Infinity"), ("0", "*", "Infinity", "NaN"),
            ("1", "/", "Infinity", "0"), ("Infinity", "/", "-3", "-Infinity"), ("5", "%", "Infinity", "5"),
            ("NaN", "+", "1", "NaN"),
        ])
    func arithmetic(_ left: String, _ operation: String, _ right: String, _ expected: String) throws {
        let (left, right) = (try decimal(left), try decimal(right))
        let result =
            switch operation {
            case "+": try left.adding(right)
            case "-": try left.subtracting(right)
            case "*": try left.multiplied(by: right)
            case "/": try left.divided(by: right)
            case "%": try left.remainder(by: right)
            case _: try left.quotient(by: right)
            }
        #expect(result.text == expected)
    }

    @Test("refuses to divide by zero")
    func byZero() throws {
        let (one, zero) = (try decimal("1"), try decimal("0.00"))
        #expect(throws: DatabaseError(.divisionByZero, "division by zero")) { try one.divided(by: zero) }
        #expect(throws: DatabaseError(.divisionByZero, "division by zero")) { try one.remainder(by: zero) }
        #expect(throws: DatabaseError(.divisionByZero, "division by zero")) { try one.quotient(by: zero) }
    }

    @Test(
        "rounds halves away from zero",
        arguments: [
            ("2.5", 0, "3"), ("-2.5", 0, "-3"), ("2.4999", 0, "2"), ("1.005", 2, "1.01"), ("0.00049", 3, "0.000"),
            ("0.0005", 3, "0.001"), ("9999.5", 0, "10000"), ("99999999.99999", 4, "100000000.0000"),
            ("1234", -2, "1200"),
            ("1250", -2, "1300"), ("49", -2, "0"), ("50", -2, "100"), ("1.5", 4, "1.5000"), ("0.5", 0, "1"),
        ])
    func rounding(_ input: String, _ digits: Int, _ expected: String) throws {
        #expect(try decimal(input).rounded(to: digits).text == expected)
    }

    @Test("fits numeric(p, s), or is refused")
    func constrained() throws {
        #expect(try decimal("123.456").constrained(precision: 5, scale: 2).text == "123.46")
        #expect(try decimal("0").constrained(precision: 2, scale: 2).text == "0.00")
        #expect(throws: DatabaseError.self) { try decimal("999.995").constrained(precision: 5, scale: 2) }
        #expect(throws: DatabaseError.self) { try decimal("Infinity").constrained(precision: 5, scale: 2) }
        #expect(try decimal("NaN").constrained(precision: 5, scale: 2).text == "NaN")
    }

    @Test("ceiling, floor and truncation")
    func whole() throws {
        #expect(try decimal("-1.5").ceiling().text == "-1")
        #expect(try decimal("1.5").ceiling().text == "2")
        #expect(try decimal("-1.5").floor().text == "-2")
        #expect(try decimal("1.99").truncated(to: 1).text == "1.9")
    }

    @Test("converts to and from integers and floating-point numbers")
    func conversions() throws {
        for value in [0, 1, -1, 9999, 10000, -123_456_789, .max, .min] as [Int64] {
            #expect(Decimal(value).text == String(value))
            #expect(Decimal(value).roundedInteger == value)
        }
        #expect(try decimal("9223372036854775807.4").roundedInteger == .max)
        #expect(try decimal("9223372036854775807.5").roundedInteger == nil)
        #expect(try decimal("-9223372036854775808.4").roundedInteger == .min)
        #expect(try decimal("1e30").roundedInteger == nil)
        #expect(try decimal("-2.5").roundedInteger == -3)
        #expect(Decimal(0.1, significantDigits: 15).text == "0.1")
        #expect(Decimal(1.0 / 3, significantDigits: 15).text == "0.333333333333333")
        #expect(Decimal(1e20, significantDigits: 15).text == "100000000000000000000")
        #expect(Decimal(1.5e-7, significantDigits: 15).text == "0.00000015")
        #expect(try decimal("0.1").double == 0.1)
    }

    @Test("orders by worth; scale does not count")
    func order() throws {
        let ladder = [
            "-Infinity", "-1e20", "-10000", "-9999.9999", "-1", "-0.0001", "0", "0.00001", "0.0001", "0.5", "1",
            "1.0001",
            "9999", "10000", "10000.1", "1e20", "Infinity", "NaN",
        ]
        for (position, lower) in ladder.enumerated() {
            for (other, upper) in ladder.enumerated() {
                #expect(try (decimal(lower) < decimal(upper)) == (position < other), "\(lower) \(upper)")
            }
        }
        #expect(try decimal("1.0") == decimal("1.00"))
        #expect(try decimal("1.0").hashValue == decimal("1.00").hashValue)
    }

    @Test("keeps the laws of arithmetic for random numbers")
    func laws() throws {
        var random = SplitMix64(seed: freshSeed("decimal laws"))
        func number() throws -> Decimal {
            let digits = (0...random.next(below: 40)).map { _ in String(random.next(below: 10)) }.joined()
            let sign = random.next(below: 2) == 0 ? "" : "-"
            return try decimal("\(sign)\(digits)e-\(random.next(below: 30))")
        }
        for _ in 0..<2000 {
            let (a, b, c) = (try number(), try number(), try number())
            #expect(try a.adding(b).subtracting(b) == a)
            #expect(try a.multiplied(by: b.adding(c)) == a.multiplied(by: b).adding(a.multiplied(by: c)))
            #expect(try decimal(a.text) == a)
            guard !b.isZero else { continue }
            let quotient = try a.quotient(by: b), rest = try a.remainder(by: b)
            #expect(try quotient.multiplied(by: b).adding(rest) == a, "\(a.text) \(b.text)")
            #expect(rest.magnitude < b.magnitude && (rest.isZero || rest.signum == a.signum))
            // The rounded quotient is off by half of its last digit at most.
            let shown = try a.divided(by: b)
            let miss = try shown.multiplied(by: b).subtracting(a).magnitude
            let half = try decimal("0.5e-\(shown.scale)").multiplied(by: b.magnitude)
            #expect(miss <= half, "\(a.text) / \(b.text) = \(shown.text)")
        }
    }
}
