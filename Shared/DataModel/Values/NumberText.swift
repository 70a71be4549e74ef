import Base

/// Integers and floating-point numbers as text.
enum NumberText {
    private static func range(_ type: DataType) -> ClosedRange<Int64> {
        switch type.kind {
        case .int16: Int64(Int16.min)...Int64(Int16.max)
        case .int32: Int64(Int32.min)...Int64(Int32.max)
        case _: Int64.min...Int64.max
        }
    }

    static func outOfRange(_ text: String, _ type: DataType) -> StatementError {
        StatementError(.numericValueOutOfRange, "value \"\(text)\" is out of range for type \(type.title)")
    }

    /// Sign and digits, white space around them.
    static func integer(_ text: String, _ type: DataType) throws(StatementError) -> Int64 {
        guard let number = digits(text) else {
            // As there, what is too large already is told before what is no digit.
            let lead = text.trimmedASCII.utf8.enumerated().prefix { place, byte in
                byte.isDigit || place == 0 && (byte == UInt8(ascii: "-") || byte == UInt8(ascii: "+"))
            }
            let isTooLarge = digits(String(decoding: lead.map(\.element), as: UTF8.self)).map { value($0, type) == nil }
            throw isTooLarge ?? false ? outOfRange(text, type) : ValueText.invalid(text, type)
        }
        guard let value = value(number, type) else { throw outOfRange(text, type) }
        return value
    }

    private static func value(_ number: (isNegative: Bool, magnitude: UInt64?), _ type: DataType) -> Int64? {
        guard let magnitude = number.magnitude, let value = signed(number.isNegative, magnitude) else { return nil }
        return range(type).contains(value) ? value : nil
    }

    private static func signed(_ isNegative: Bool, _ magnitude: UInt64) -> Int64? {
        guard isNegative else { return Int64(exactly: magnitude) }
        return magnitude <= UInt64(1) << 63 ? Int64(truncatingIfNeeded: 0 &- magnitude) : nil
    }

    /// An unsigned number of 32 bits; negative ones count from its end.
    static func objectNumber(_ text: String, _ type: DataType) throws(StatementError) -> Int64 {
        guard let (isNegative, magnitude) = digits(text) else { throw ValueText.invalid(text, type) }
        guard let magnitude, let value = signed(isNegative, magnitude) else { throw outOfRange(text, type) }
        guard value >= Int64(Int32.min), value <= Int64(UInt32.max) else { throw outOfRange(text, type) }
        return Int64(UInt32(truncatingIfNeeded: value))
    }

    /// Nil if there are other characters; the number is nil where it is too large.
    private static func digits(_ text: String) -> (isNegative: Bool, magnitude: UInt64?)? {
        var bytes = Substring(text.trimmedASCII).utf8
        let sign = bytes.first
        if sign == UInt8(ascii: "-") || sign == UInt8(ascii: "+") { bytes.removeFirst() }
        guard !bytes.isEmpty else { return nil }
        var magnitude: UInt64? = 0
        for byte in bytes {
            guard byte.isDigit else { return nil }
            magnitude = magnitude.flatMap { value in
                let (product, isOver) = value.multipliedReportingOverflow(by: 10)
                let (sum, isOverAgain) = product.addingReportingOverflow(UInt64(byte - 0x30))
                return isOver || isOverAgain ? nil : sum
            }
        }
        return (sign == UInt8(ascii: "-"), magnitude)
    }

    // MARK: Floating point

    static func float(_ text: String, _ type: DataType) throws(StatementError) -> Double {
        let trimmed = text.trimmedASCII
        let parsed = type.kind == .float32 ? Float(trimmed).map(Double.init) : Double(trimmed)
        guard let parsed else { throw ValueText.invalid(text, type) }
        let digits = trimmed.utf8.drop { !$0.isDigit && !$0.isLetter }
        // Words are what they say; a number that became infinite, or zero though it has a digit, is out of range.
        let isWord = digits.first.map { $0.isLetter } ?? false
        let mantissa = trimmed.utf8.prefix { $0 | 0x20 != UInt8(ascii: "e") }
        let isZero = !mantissa.contains { (0x31...0x39).contains($0) }
        if !isWord, parsed.isInfinite || (parsed == 0 && !isZero) {
            throw StatementError(.numericValueOutOfRange, "\"\(trimmed)\" is out of range for type \(type.title)")
        }
        return parsed
    }

    /// The shortest text that reads back as the same number; exponents from 1e15 (single: 1e6) and below 1e-4.
    static func append(_ value: Double, isSingle: Bool, into buffer: inout ByteBuffer) {
        guard value.isFinite else {
            buffer.append(text: value.isNaN ? "NaN" : (value < 0 ? "-Infinity" : "Infinity"))
            return
        }
        if value.sign == .minus { buffer.append(UInt8(ascii: "-")) }
        guard value != 0 else {
            buffer.append(UInt8(ascii: "0"))
            return
        }
        let shortest = isSingle ? Float(value).magnitude.description : value.magnitude.description
        let (digits, point) = strictlyWithin(value.magnitude, decompose(shortest), isSingle)
        if point > (isSingle ? 6 : 15) || point < -3 {
            appendScientific(digits, exponent: point - 1, into: &buffer)
        } else if point <= 0 {
            buffer.append("0.")
            for _ in 0..<(-point) { buffer.append(UInt8(ascii: "0")) }
            buffer.append(digits)
        } else {
            for index in 0..<max(point, digits.count) {
                if index == point { buffer.append(UInt8(ascii: ".")) }
                buffer.append(index < digits.count ? digits[index] : UInt8(ascii: "0"))
            }
        }
    }

    /// PostgreSQL takes no text that lies half way to the next number, though it would read back the same. Only large
    /// numbers with an even significand have such neighbours among short texts.
    private static func strictlyWithin(
        _ value: Double, _ shortest: (digits: Bytes, point: Int), _ isSingle: Bool
    ) -> (digits: Bytes, point: Int) {
        guard value >= (isSingle ? 8_388_608 : 4_503_599_627_370_496) else { return shortest }
        let half = Decimal(exactly: isSingle ? Double(Float(value).ulp) / 2 : value.ulp / 2)
        let exact = Decimal(exactly: value)
        func isWithin(_ decimal: Decimal) -> Bool {
            guard let distance = try? decimal.subtracting(exact).magnitude else { return true }
            return distance < half
        }
        let digits = shortest.digits.map { $0 - 0x30 }
        if isWithin(Decimal(isNegative: false, decimalDigits: digits, point: shortest.point, scale: 0)) {
            return shortest
        }
        for count in digits.count...17 {
            let rounded = exact.rounded(toSignificant: count)
            if isWithin(rounded) { return decompose(rounded.text) }
        }
        return shortest
    }

    private static func appendScientific(_ digits: Bytes, exponent: Int, into buffer: inout ByteBuffer) {
        buffer.append(digits[0])
        if digits.count > 1 {
            buffer.append(UInt8(ascii: "."))
            for digit in digits.dropFirst() { buffer.append(digit) }
        }
        buffer.append(UInt8(ascii: "e"))
        buffer.append(UInt8(ascii: exponent < 0 ? "-" : "+"))
        if exponent.magnitude < 10 { buffer.append(UInt8(ascii: "0")) }
        buffer.append(decimal: Int64(exponent.magnitude))
    }

    /// The digits that count, without zeros at either end, and how many of them stand before the point.
    private static func decompose(_ text: String) -> (digits: Bytes, point: Int) {
        var digits: Bytes = [], point: Int?, exponent = 0
        let bytes = Array(text.utf8)
        for (index, byte) in bytes.enumerated() {
            if byte.isDigit {
                digits.append(byte)
            } else if byte == UInt8(ascii: ".") {
                point = digits.count
            } else {
                exponent = Int(String(decoding: bytes[(index + 1)...], as: UTF8.self)) ?? 0
                break
            }
        }
        var position = (point ?? digits.count) + exponent
        let leading = digits.prefix { $0 == 0x30 }.count
        digits.removeFirst(leading)
        position -= leading
        while digits.count > 1, digits.last == 0x30 { digits.removeLast() }
        return (digits.isEmpty ? [0x30] : digits, position)
    }
}

/// Bytes and uuids as text.
enum BytesText {
    static func parse(_ text: String) throws(StatementError) -> Bytes {
        let input = Array(text.utf8)
        if input.starts(with: [UInt8(ascii: "\\"), UInt8(ascii: "x")]) { return try parseHex(input, text) }
        var result: Bytes = [], position = 0
        result.reserveCapacity(input.count)
        while position < input.count {
            let byte = input[position]
            position += 1
            guard byte == UInt8(ascii: "\\") else {
                result.append(byte)
                continue
            }
            if position < input.count, input[position] == byte {
                result.append(byte)
                position += 1
                continue
            }
            let octal = input.dropFirst(position).prefix(3).map { $0 &- 0x30 }
            guard octal.count == 3, octal[0] < 4, octal[1] < 8, octal[2] < 8 else {
                throw StatementError(.invalidTextRepresentation, "invalid input syntax for type bytea")
            }
            result.append(octal[0] << 6 | octal[1] << 3 | octal[2])
            position += 3
        }
        return result
    }

    private static func parseHex(_ input: Bytes, _ text: String) throws(StatementError) -> Bytes {
        var result: Bytes = [], upper: UInt8?
        for (index, byte) in input.enumerated().dropFirst(2) {
            if upper == nil, [0x20, 0x09, 0x0a, 0x0d].contains(byte) { continue }
            guard let digit = hexDigit(byte) else {
                var end = index + 1
                while end < input.count, input[end] & 0xc0 == 0x80 { end += 1 }
                let character = String(decoding: input[index..<end], as: UTF8.self)
                throw StatementError(.invalidParameterValue, "invalid hexadecimal digit: \"\(character)\"")
            }
            if let high = upper {
                result.append(high << 4 | digit)
                upper = nil
            } else {
                upper = digit
            }
        }
        guard upper == nil else {
            throw StatementError(.invalidParameterValue, "invalid hexadecimal data: odd number of digits")
        }
        return result
    }

    private static func append(hex byte: UInt8, into buffer: inout ByteBuffer) {
        let upper = byte >> 4, lower = byte & 0x0f
        buffer.append(upper < 10 ? 0x30 + upper : 0x57 + upper)
        buffer.append(lower < 10 ? 0x30 + lower : 0x57 + lower)
    }

    static func append(_ bytes: Bytes, into buffer: inout ByteBuffer) {
        buffer.append("\\x")
        for byte in bytes { append(hex: byte, into: &buffer) }
    }

    /// Sixteen bytes in hexadecimal, hyphens after any two of them, braces around all.
    static func uuid(_ text: String) throws(StatementError) -> Value {
        var input = Array(text.utf8)[...]
        let hasBrace = input.first == UInt8(ascii: "{")
        if hasBrace { input = input.dropFirst() }
        var words: [UInt64] = [0, 0]
        for index in 0..<32 {
            guard let byte = input.popFirst(), let digit = hexDigit(byte) else { throw ValueText.invalid(text, .uuid) }
            words[index / 16] = words[index / 16] << 4 | UInt64(digit)
            if index % 4 == 3, index < 31, input.first == UInt8(ascii: "-") { input = input.dropFirst() }
        }
        if hasBrace, input.popFirst() != UInt8(ascii: "}") { throw ValueText.invalid(text, .uuid) }
        guard input.isEmpty else { throw ValueText.invalid(text, .uuid) }
        return .uuid(high: words[0], low: words[1])
    }

    static func append(_ high: UInt64, _ low: UInt64, into buffer: inout ByteBuffer) {
        for index in 0..<16 {
            if index == 4 || index == 6 || index == 8 || index == 10 { buffer.append(UInt8(ascii: "-")) }
            let word = index < 8 ? high : low
            append(hex: UInt8(truncatingIfNeeded: word >> UInt64(56 - index % 8 * 8)), into: &buffer)
        }
    }
}
