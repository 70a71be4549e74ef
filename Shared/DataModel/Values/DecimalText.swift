import Base

// Decimals as text: what `numeric` reads and prints in PostgreSQL.

extension Decimal {
    /// Reads `[sign] digits [. digits] [e [sign] digits]`, or NaN, Infinity, inf in any case, white space around it.
    package init(parsing text: String) throws(DatabaseError) {
        var parser = DecimalParser(Array(text.utf8))
        self = try parser.parse(text)
    }

    /// As PostgreSQL prints it: all digits before the point, `scale` digits behind it.
    package var text: String {
        switch kind {
        case .nan: return "NaN"
        case .infinity: return "Infinity"
        case .negativeInfinity: return "-Infinity"
        case .finite: break
        }
        var output: [UInt8] = isNegative ? [UInt8(ascii: "-")] : []
        if places.isEmpty || weight < 0 {
            output.append(UInt8(ascii: "0"))
        } else {
            for power in stride(from: weight, through: 0, by: -1) {
                Self.append(place(power), isFirst: power == weight, to: &output)
            }
        }
        if scale > 0 {
            output.append(UInt8(ascii: "."))
            let end = output.count + scale
            var power = -1
            while output.count < end {
                Self.append(place(power), isFirst: false, to: &output)
                power -= 1
            }
            output.removeSubrange(end...)
        }
        return String(decoding: output, as: UTF8.self)
    }

    private static func append(_ place: UInt16, isFirst: Bool, to output: inout [UInt8]) {
        var divisor: UInt16 = 1000, isLeading = isFirst
        while divisor > 0 {
            let digit = place / divisor % 10
            if digit != 0 || divisor == 1 { isLeading = false }
            if !isLeading { output.append(UInt8(ascii: "0") + UInt8(digit)) }
            divisor /= 10
        }
    }

    /// Builds a number from its decimal digits (values 0 to 9); `point` of them stand before the decimal point, which
    /// may lie outside of them on either side.
    init(isNegative: Bool, decimalDigits: [UInt8], point: Int, scale: Int) {
        // Digits are filled up so that the point lies between two places.
        let rest = point % Self.digitsPerPlace
        let padding = rest == 0 ? 0 : (rest > 0 ? Self.digitsPerPlace - rest : -rest)
        var places: [UInt16] = [], place: UInt16 = 0, filled = padding
        for digit in decimalDigits {
            place = place * 10 + UInt16(digit)
            filled += 1
            if filled == Self.digitsPerPlace {
                places.append(place)
                (place, filled) = (0, 0)
            }
        }
        if filled > 0 {
            while filled < Self.digitsPerPlace {
                place *= 10
                filled += 1
            }
            places.append(place)
        }
        self.init(
            isNegative: isNegative, weight: (point + padding) / Self.digitsPerPlace - 1, places: places, scale: scale)
    }
}

/// Reads one number; linear in its length.
private struct DecimalParser {
    private let bytes: [UInt8]
    private var position = 0

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    private var byte: UInt8? { position < bytes.count ? bytes[position] : nil }

    private mutating func skipSpaces() {
        while let byte, byte == 0x20 || (0x09...0x0d).contains(byte) { position += 1 }
    }

    /// Whether the word stands here, in any case; it is read then.
    private mutating func take(_ word: StaticString) -> Bool {
        let count = word.utf8CodeUnitCount
        guard bytes.count - position >= count else { return false }
        for offset in 0..<count where bytes[position + offset] | 0x20 != word.utf8Start[offset] { return false }
        position += count
        return true
    }

    private mutating func takeSign() -> Bool? {
        guard let byte, byte == UInt8(ascii: "-") || byte == UInt8(ascii: "+") else { return nil }
        position += 1
        return byte == UInt8(ascii: "-")
    }

    private mutating func takeDigits(into digits: inout [UInt8]) -> Int {
        let start = position
        while let byte, (0x30...0x39).contains(byte) {
            digits.append(byte - 0x30)
            position += 1
        }
        return position - start
    }

    mutating func parse(_ text: String) throws(DatabaseError) -> Decimal {
        let malformed = DatabaseError(.invalidText, "invalid input syntax for type numeric: \"\(text)\"")
        skipSpaces()
        let sign = takeSign()
        let value: Decimal
        if take("infinity") || take("inf") {
            value = sign == true ? .negativeInfinity : .infinity
        } else if sign == nil, take("nan") {
            value = .notANumber
        } else if let number = try parseNumber(sign == true) {
            value = number
        } else {
            throw malformed
        }
        skipSpaces()
        guard byte == nil else { throw malformed }
        return value
    }

    private static let overflow = DatabaseError(.overflow, "value overflows numeric format")

    private mutating func parseNumber(_ isNegative: Bool) throws(DatabaseError) -> Decimal? {
        var digits: [UInt8] = []
        var point = takeDigits(into: &digits), fraction = 0
        if byte == UInt8(ascii: ".") {
            position += 1
            fraction = takeDigits(into: &digits)
        }
        guard !digits.isEmpty else { return nil }
        if let byte, byte | 0x20 == UInt8(ascii: "e") {
            position += 1
            let isDown = takeSign() ?? false
            guard let exponent = takeExponent() else { return nil }
            // Nobody can mean more, and sums of these cannot overflow.
            guard exponent <= Int(Int32.max / 2) else { throw Self.overflow }
            point += isDown ? -exponent : exponent
            fraction -= isDown ? -exponent : exponent
        }
        guard fraction <= Decimal.scaleLimit else { throw Self.overflow }
        // Zeros in front do not count, neither as digits nor as room.
        guard let first = digits.firstIndex(where: { $0 != 0 }) else {
            return Decimal.zero.withScale(max(fraction, 0))
        }
        guard point - first <= Decimal.integralLimit else { throw Self.overflow }
        digits.removeSubrange(..<first)
        return Decimal(isNegative: isNegative, decimalDigits: digits, point: point - first, scale: max(fraction, 0))
    }

    /// Decimal digits; stops to count where it is too large for anything.
    private mutating func takeExponent() -> Int? {
        var value = 0, isAny = false
        while let byte, (0x30...0x39).contains(byte) {
            if value < Int(Int32.max) { value = value * 10 + Int(byte - 0x30) }
            position += 1
            isAny = true
        }
        return isAny ? value : nil
    }
}
