import Base
import DataModel
import Glibc

/// A picture of `to_char` and `to_number`: `999,990.99`.
struct NumberPicture {
    enum SignPlace { case start, end }

    enum Item {
        case nine, zero, point, group, sign, minus, plus, either, currency, ending(isUpper: Bool), roman(isUpper: Bool)
        case text(String)

        var isPlace: Bool {
            switch self {
            case .nine, .zero, .point: true
            case .group, .sign, .minus, .plus, .either, .currency, .ending, .roman, .text: false
            }
        }
    }

    private(set) var items: [Item] = []
    /// Digits before and after the point.
    private(set) var before = 0, after = 0
    /// The first place before the point where a zero is written for nothing; and the last one behind it.
    private(set) var zeroStart: Int?, zeroEnd = 0
    var hasFraction: Bool { after > 0 }
    private(set) var isBare = false, hasPoint = false, isBracketed = false
    private(set) var isScientific = false
    /// S: where the sign goes. Nil: before the number, a blank for a plus.
    private(set) var signPlace: SignPlace?
    private(set) var hasLooseSign = false
    /// V: by how many powers of ten the number is multiplied.
    private(set) var shift = 0
    private(set) var romanCasing: Bool?

    private static func error(_ message: String) -> StatementError { StatementError(.syntaxError, message) }

    /// Where reading stands.
    private struct Walk {
        let scalars: [Unicode.Scalar]
        var index = 0, digits = 0, isShifted = false, isBehind = false

        /// In capitals or small letters.
        func at(_ word: String) -> Bool {
            [word, word.lowercased()].contains { spelling in
                let wanted = spelling.unicodeScalars
                guard index + wanted.count <= scalars.count else { return false }
                return scalars[index..<(index + wanted.count)].elementsEqual(wanted)
            }
        }
    }

    init(_ picture: String) throws(StatementError) {
        var walk = Walk(scalars: Array(picture.unicodeScalars))
        while walk.index < walk.scalars.count {
            switch walk.scalars[walk.index] {
            case "9", "0": try takeDigit(&walk)
            case ".", "D", "d":
                guard !walk.isBehind else { throw Self.error("multiple decimal points") }
                guard !walk.isShifted else { throw Self.error("cannot use \"V\" and decimal point together") }
                (walk.isBehind, hasPoint) = (true, true)
                items.append(.point)
            case ",", "G", "g": items.append(.group)
            case "V", "v":
                guard !walk.isBehind else { throw Self.error("cannot use \"V\" and decimal point together") }
                walk.isShifted = true
            case "S" where !walk.at("SG"), "s" where !walk.at("SG"):
                guard signPlace == nil else { throw Self.error("cannot use \"S\" twice") }
                guard !hasLooseSign, !isBracketed else {
                    throw Self.error("cannot use \"S\" and \"PL\"/\"MI\"/\"SG\"/\"PR\" together")
                }
                signPlace = walk.digits == 0 && !walk.isBehind ? .start : .end
                items.append(.sign)
            case _: try takeWord(&walk)
            }
            walk.index += 1
        }
    }

    private mutating func takeDigit(_ walk: inout Walk) throws(StatementError) {
        let isZero = walk.scalars[walk.index] == "0"
        guard !isBracketed else { throw Self.error("\"9\" must be ahead of \"PR\"") }
        if walk.isShifted {
            shift += 1
        } else if walk.isBehind {
            after += 1
            if isZero { zeroEnd = after }
        } else {
            if isZero, zeroStart == nil { zeroStart = before }
            before += 1
        }
        walk.digits += 1
        items.append(isZero ? .zero : .nine)
    }

    /// Leaves the last character of the word to the caller.
    private mutating func takeWord(_ walk: inout Walk) throws(StatementError) {
        let first = walk.scalars[walk.index]
        if walk.at("FM") {
            isBare = true
        } else if walk.at("PR") {
            guard signPlace == nil, !hasLooseSign else {
                throw Self.error("cannot use \"PR\" and \"S\"/\"PL\"/\"MI\"/\"SG\" together")
            }
            isBracketed = true
        } else if let name = ["MI", "PL", "SG"].first(where: walk.at) {
            guard signPlace == nil else { throw Self.error("cannot use \"S\" and \"\(name)\" together") }
            // PL alone leaves the sign where it is.
            hasLooseSign = hasLooseSign || name != "PL"
            items.append(name == "MI" ? .minus : name == "PL" ? .plus : .either)
        } else if walk.at("TH") {
            items.append(.ending(isUpper: first == "T"))
        } else if walk.at("RN") {
            romanCasing = first == "R"
            items.append(.roman(isUpper: first == "R"))
        } else if walk.at("EEEE") {
            guard !isScientific else { throw Self.error("cannot use \"EEEE\" twice") }
            isScientific = true
            walk.index += 2
        } else if walk.at("B") || walk.at("C") {
            return  // Words of Oracle's pictures, which PostgreSQL reads and does nothing for.
        } else if first == "\\", walk.index + 1 < walk.scalars.count, walk.scalars[walk.index + 1] == "\"" {
            items.append(.text("\""))
        } else if first == "\"" {
            walk.index += 1
            while walk.index < walk.scalars.count, walk.scalars[walk.index] != "\"" {
                if walk.scalars[walk.index] == "\\", walk.index + 1 < walk.scalars.count { walk.index += 1 }
                items.append(.text(String(walk.scalars[walk.index])))
                walk.index += 1
            }
            return
        } else {
            items.append(walk.at("L") ? .currency : .text(String(first)))
            return
        }
        walk.index += 1
    }

    // MARK: Showing

    /// A number by the picture.
    func text(of number: Decimal) throws(StatementError) -> String {
        if let isUpper = romanCasing { return roman(number, isUpper) }
        if isScientific { return try scientific(number) }
        var value = number
        if shift > 0 {
            let factor = try translated { () throws(DatabaseError) in
                try Decimal(parsing: "1" + String(repeating: "0", count: min(shift, 1000)))
            }
            value = try ArithmeticFunctions.compute(.multiply, number, factor)
        }
        let width = before + shift
        guard value.isFinite else {
            let word = number.kind == .nan ? "NaN" : "Infinity", isTooLong = word.utf8.count > width
            if isTooLong { return overflowing(number.kind == .negativeInfinity, width, after) }
            return laidOut(word, "", number.kind == .negativeInfinity, width, after: 0)
        }
        let rounded = value.rounded(to: after)
        let digits = Array(rounded.magnitude.text.split(separator: ".", omittingEmptySubsequences: false))
        let whole = String(digits[0]), fraction = digits.count > 1 ? String(digits[1]) : ""
        let isNegative = rounded.signum < 0
        if whole.utf8.count > width { return overflowing(isNegative, width, after) }
        return laidOut(whole, fraction, isNegative, width, after: after)
    }

    /// A floating-point number, of so many digits, by the picture; it is rounded as C does it.
    func text(of number: Double, digits: Int) throws(StatementError) -> String {
        if romanCasing != nil || isScientific && !number.isFinite {
            return try text(of: Decimal(number, significantDigits: digits))
        }
        if isScientific {
            let text = Self.printed(number, "%+.\(after)e", size: after + 400)
            return text.hasPrefix("+") ? " " + text.dropFirst() : text
        }
        var value = number
        if shift > 0 {
            let factor = Glibc.pow(10, Double(shift))
            value = digits == 6 ? Double(Float(value) * Float(factor)) : value * factor
        }
        let width = before + shift
        let magnitude = value.isFinite ? Self.printed(value.magnitude, "%.0f", size: 400) : ""
        let length = value.isNaN ? 3 : value.isInfinite ? 8 : magnitude.utf8.count
        // No more digits are shown than the number has for certain.
        let after = max(min(self.after, digits - length), 0)
        guard value.isFinite else {
            if length > width { return overflowing(value < 0, width, after) }
            return laidOut(value.isNaN ? "NaN" : "Infinity", "", value < 0, width, after: 0)
        }
        let shown = Self.printed(value, "%.\(after)f", size: after + 400)
        let isNegative = shown.hasPrefix("-")
        let parts = shown.drop { $0 == "-" }.split(separator: ".", omittingEmptySubsequences: false)
        if parts[0].utf8.count > width { return overflowing(isNegative, width, after) }
        return laidOut(String(parts[0]), parts.count > 1 ? String(parts[1]) : "", isNegative, width, after: after)
    }

    private static func printed(_ number: Double, _ format: String, size: Int) -> String {
        var bytes = [CChar](repeating: 0, count: size)
        _ = withVaList([number]) { vsnprintf(&bytes, size, format, $0) }
        return String(decoding: bytes.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
    }

    /// Signs for the digits that the picture has no place for.
    private func overflowing(_ isNegative: Bool, _ width: Int, _ after: Int) -> String {
        laidOut(
            String(repeating: "#", count: width), String(repeating: "#", count: after), isNegative, width, after: after,
            hasPoint: true)
    }

    private func laidOut(
        _ whole: String, _ fraction: String, _ isNegative: Bool, _ width: Int, after: Int, hasPoint: Bool = false
    ) -> String {
        var layout = NumberLayout(self, whole, fraction, isNegative, width, after, hasPoint: hasPoint || after > 0)
        return layout.text()
    }

    private func roman(_ number: Decimal, _ isUpper: Bool) -> String {
        guard let value = number.roundedInteger, (1...3999).contains(value) else {
            return isBare ? "###############" : "###############"
        }
        let signs: [(Int64, String)] = [
            (1000, "M"), (900, "CM"), (500, "D"), (400, "CD"), (100, "C"), (90, "XC"), (50, "L"), (40, "XL"),
            (10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I"),
        ]
        var rest = value, text = ""
        for (worth, sign) in signs {
            while rest >= worth {
                text += sign
                rest -= worth
            }
        }
        let padding = isBare ? "" : String(repeating: " ", count: max(15 - text.utf8.count, 0))
        return padding + (isUpper ? text : text.lowercased())
    }

    private func scientific(_ number: Decimal) throws(StatementError) -> String {
        guard number.isFinite else {
            return " " + String(repeating: "#", count: before) + "." + String(repeating: "#", count: after + 4)
        }
        func size(_ value: Decimal) -> Int {
            if value.isZero { return 0 }
            let text = value.text
            let whole = text.prefix { $0 != "." }
            return whole != "0" ? whole.utf8.count - 1 : -(text.dropFirst(2).prefix { $0 == "0" }.utf8.count + 1)
        }
        // The exponent is that before rounding: what carries into one more digit is 10.00e+31, as there.
        let exponent = size(number.magnitude)
        let value = number.magnitude.rounded(to: after - exponent)
        let isCarried = size(value) > exponent
        let digits = value.text.filter { $0 != "." }.drop { $0 == "0" }
        var mantissa = String(digits.prefix(after + 1))
        if mantissa.isEmpty { mantissa = "0" }
        mantissa += String(repeating: "0", count: max(after + 1 - mantissa.utf8.count, 0))
        var text = isCarried ? "10" : String(mantissa.prefix(1))
        if after > 0 { text += "." + mantissa.dropFirst() }
        let power = abs(exponent) < 10 ? "0\(abs(exponent))" : "\(abs(exponent))"
        return (number.signum < 0 ? "-" : " ") + text + "e" + (exponent < 0 ? "-" : "+") + power
    }

    // MARK: Reading

    /// The number that a text shows by the picture.
    func number(in text: String) throws(StatementError) -> Decimal {
        if romanCasing != nil { throw StatementError(.featureNotSupported, "\"RN\" not supported for input") }
        if isScientific { throw StatementError(.featureNotSupported, "\"EEEE\" not supported for input") }
        var reading = NumberReading(text, self)
        reading.walk()
        var (whole, fraction) = (reading.whole, reading.fraction)
        guard !whole.isEmpty || !fraction.isEmpty else {
            throw StatementError(
                .invalidTextRepresentation, "invalid input syntax for type numeric: \"\(reading.sign ?? " ")\"")
        }
        let width = before + shift, scale = fraction.utf8.count
        // A picture without V has as many digits behind the point as were read.
        if shift > 0 {
            let cut = max(whole.utf8.count - shift, 0)
            (whole, fraction) = (String(whole.prefix(cut)), String(whole.dropFirst(cut)))
        }
        let spelled =
            (reading.sign == "-" ? "-" : "") + (whole.isEmpty ? "0" : whole) + (fraction.isEmpty ? "" : "." + fraction)
        let value = try translated { () throws(DatabaseError) in try Decimal(parsing: spelled) }
        guard shift == 0, (1...Int(DataType.decimalPrecisionLimit)).contains(width + scale),
            let precision = Int32(exactly: width + scale), let places = Int32(exactly: scale)
        else { return value }
        return try Value.decimal(value)
            .coerced(to: try DataType.decimal.constrained(by: [precision, places]), isExplicit: true).exact
    }
}

/// Reads a text by a picture. Each place passes over a character, whether it can use it or not.
private struct NumberReading {
    private(set) var whole = "", fraction = ""
    private(set) var sign: Unicode.Scalar?
    private let picture: NumberPicture
    private let scalars: [Unicode.Scalar]
    private let hasLooseSign: Bool
    private var index = 0, isBehind = false

    init(_ text: String, _ picture: NumberPicture) {
        self.picture = picture
        scalars = Array(text.unicodeScalars)
        hasLooseSign = picture.items.contains { item in
            switch item {
            case .minus, .plus, .either: true
            case .nine, .zero, .point, .group, .sign, .currency, .ending, .roman, .text: false
            }
        }
    }

    private var scalar: Unicode.Scalar? { index < scalars.count ? scalars[index] : nil }

    private static func isDigit(_ scalar: Unicode.Scalar) -> Bool { (48...57).contains(scalar.value) }

    private static func isSign(_ scalar: Unicode.Scalar?) -> Bool { scalar == "-" || scalar == "+" }

    mutating func walk() {
        for item in picture.items {
            guard let scalar else { return }
            switch item {
            case .nine, .zero:
                readPlace(isPoint: false)
                index += 1
            case .point:
                readPlace(isPoint: true)
                index += 1
            case .group: if scalar == ",", !picture.isBare { index += 1 }
            case .sign, .roman: break
            case .minus: take(scalar == "-")
            case .plus: take(scalar == "+")
            case .either: take(Self.isSign(scalar))
            case .ending: skip(2)
            case .currency: skip(1)
            case .text: index += 1
            }
        }
    }

    /// A sign in a place of its own, or what stands there in its place.
    private mutating func take(_ isThere: Bool) {
        guard isThere, let scalar else { return skip(1) }
        sign = scalar
        index += 1
    }

    /// Passes over what is no part of a number.
    private mutating func skip(_ count: Int) {
        for _ in 0..<count {
            guard let scalar, !Self.isDigit(scalar), !Self.isSign(scalar), scalar != ".", scalar != "," else { return }
            index += 1
        }
    }

    private mutating func readPlace(isPoint: Bool) {
        if scalar == " " { index += 1 }
        let isFirst = whole.isEmpty && fraction.isEmpty
        if sign == nil, !isPoint, isFirst, let scalar {
            if Self.isSign(scalar) {
                sign = scalar
                index += 1
            } else if picture.isBracketed, scalar == "<" {
                sign = "-"
                index += 1
            }
        }
        guard let scalar else { return }
        var isRead = false
        if Self.isDigit(scalar) {
            if isBehind {
                guard fraction.utf8.count < picture.after else { return }
                fraction.unicodeScalars.append(scalar)
            } else {
                whole.unicodeScalars.append(scalar)
            }
            isRead = true
        } else if picture.hasPoint, !isBehind, scalar == "." {
            (isBehind, isRead) = (true, true)
        }
        guard sign == nil, !whole.isEmpty || !fraction.isEmpty else { return }
        if picture.signPlace != nil {
            // Right behind the last digit.
            guard isRead, index + 1 < scalars.count, Self.isSign(scalars[index + 1]) else { return }
            index += 1
            sign = scalars[index]
        } else if !isRead, hasLooseSign, Self.isSign(scalar) {
            sign = scalar
        }
    }
}
