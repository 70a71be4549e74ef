import Base
import DataModel

/// Numbers of bytes as people write them.
enum SizeFunctions {
    static let rows: [ScalarFunction] = [
        .row("pg_size_pretty", [.int64], .text, ("pg_size_pretty(123456789::bigint)", "118 MB")) {
            a, _ throws(StatementError) in .text(size(a[0].int))
        },
        .row("pg_size_pretty", [.decimal], .text, ("pg_size_pretty(1234567890123456789012.5)", "1096517 PB")) {
            a, _ throws(StatementError) in .text(try size(a[0].exact))
        },
        .row("pg_size_bytes", [.text], .int64, ("pg_size_bytes('1.5 kB')", "1536")) {
            a, _ throws(StatementError) in .integer(try bytes(a[0].string))
        },
    ]

    private static let units = ["kB", "MB", "GB", "TB", "PB"]

    /// Whole numbers below 10240 of a unit, rounded halves up.
    private static func size(_ bytes: Int64) -> String {
        if bytes.magnitude < 10_240 { return "\(bytes) bytes" }
        // One bit more is kept, for the rounding at the end.
        var value = bytes / 512
        for unit in units.dropLast() {
            if value.magnitude < 20_479 { return "\((value + value.signum()) / 2) \(unit)" }
            value /= 1024
        }
        return "\((value + value.signum()) / 2) PB"
    }

    private static func size(_ bytes: Decimal) throws(StatementError) -> String {
        guard bytes.isFinite else { return "\(bytes.text) bytes" }
        if bytes.magnitude < Decimal(10_240) { return "\(bytes.text) bytes" }
        func divided(_ value: Decimal, _ by: Int64) throws(StatementError) -> Decimal {
            try translated { () throws(DatabaseError) in try value.quotient(by: Decimal(by)) }
        }
        var value = try divided(bytes, 512), index = 0
        while index < units.count - 1, !(value.magnitude < Decimal(20_479)) {
            value = try divided(value, 1024)
            index += 1
        }
        let half = try ArithmeticFunctions.compute(.add, value, Decimal(Int64(value.signum)))
        return "\(try divided(half, 2).text) \(units[index])"
    }

    private static func invalid(_ text: String, detail: String? = nil, hint: String? = nil) -> StatementError {
        StatementError(.invalidParameterValue, "invalid size: \"\(text)\"", detail: detail, hint: hint)
    }

    /// A number, which may have a fraction and an exponent, and a unit in any letters.
    private static func bytes(_ text: String) throws(StatementError) -> Int64 {
        let isBlank: (UInt8) -> Bool = { $0 == 0x20 || (0x09...0x0d).contains($0) }
        let isDigit: (UInt8) -> Bool = { (0x30...0x39).contains($0) }
        var rest = Array(text.utf8)[...].drop(while: isBlank)
        let all = rest
        if rest.first == UInt8(ascii: "-") || rest.first == UInt8(ascii: "+") { rest = rest.dropFirst() }
        var digits = rest.prefix(while: isDigit).count
        rest = rest.drop(while: isDigit)
        if rest.first == UInt8(ascii: ".") {
            rest = rest.dropFirst()
            digits += rest.prefix(while: isDigit).count
            rest = rest.drop(while: isDigit)
        }
        guard digits > 0 else { throw invalid(text) }
        if let first = rest.first, first | 0x20 == UInt8(ascii: "e") {
            var exponent = rest.dropFirst()
            if exponent.first == UInt8(ascii: "-") || exponent.first == UInt8(ascii: "+") {
                exponent = exponent.dropFirst()
            }
            if let first = exponent.first, isDigit(first) { rest = exponent.drop(while: isDigit) }
        }
        let number = String(decoding: all[..<rest.startIndex], as: UTF8.self)
        var value = try translated { () throws(DatabaseError) in try Decimal(parsing: number) }
        rest = rest.drop(while: isBlank)
        while let last = rest.last, isBlank(last) { rest = rest.dropLast() }
        let unit = String(decoding: rest, as: UTF8.self)
        if !unit.isEmpty, unit.lowercased() != "bytes" {
            guard let power = units.firstIndex(where: { $0.lowercased() == unit.lowercased() }) else {
                throw invalid(
                    text, detail: "Invalid size unit: \"\(unit)\".",
                    hint: "Valid units are \"bytes\", \"kB\", \"MB\", \"GB\", \"TB\", and \"PB\".")
            }
            value = try ArithmeticFunctions.compute(.multiply, value, Decimal(Int64(1) << Int64(10 * (power + 1))))
        }
        guard let whole = value.roundedInteger else { throw Casts.outOfRange(.int64) }
        return whole
    }
}
