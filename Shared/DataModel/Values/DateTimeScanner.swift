/// Cuts a text into the fields that dates and times are made of. Which characters may stand within a field is what
/// PostgreSQL's manual calls the date/time input interpretation (appendix B.1).
struct DateTimeScanner {
    enum Kind { case date, time, zone, number, word, special }

    struct Field {
        var kind: Kind
        /// In lower case.
        var text: [UInt8]

        var string: String { String(decoding: text, as: UTF8.self) }
    }

    static let fieldLimit = 25, lengthLimit = 128

    /// Words that a digit ends: `1h30m`.
    private static let units: Set<String> = ["d", "h", "m", "mm", "s", "y"]

    private let bytes: [UInt8]
    private var position = 0
    private var text: [UInt8] = []

    private init(_ bytes: [UInt8]) { self.bytes = bytes }

    /// Nil where a character can be no part of any field.
    static func scan(_ string: String) -> [Field]? {
        var scanner = DateTimeScanner(Array(string.lowercasedASCII.utf8))
        guard scanner.bytes.count <= lengthLimit else { return nil }
        var fields: [Field] = []
        while let byte = scanner.byte {
            if byte.isWhiteSpace {
                scanner.position += 1
                continue
            }
            scanner.text = []
            guard let kind = scanner.field(byte) else { return nil }
            if scanner.text.isEmpty { continue }
            fields.append(Field(kind: kind, text: scanner.text))
            guard fields.count <= fieldLimit else { return nil }
        }
        return fields
    }

    private var byte: UInt8? { position < bytes.count ? bytes[position] : nil }

    private mutating func take() {
        text.append(bytes[position])
        position += 1
    }

    private mutating func take(while condition: (UInt8) -> Bool) { while let byte, condition(byte) { take() } }

    private static func isSeparator(_ byte: UInt8?) -> Bool {
        byte == UInt8(ascii: "-") || byte == UInt8(ascii: "/") || byte == UInt8(ascii: ".")
    }

    private mutating func field(_ byte: UInt8) -> Kind? {
        if byte.isDigit { return number() }
        if byte == UInt8(ascii: ".") {
            take()
            take(while: \.isDigit)
            return .number
        }
        if byte.isLetter { return word() }
        if byte == UInt8(ascii: "+") || byte == UInt8(ascii: "-") { return signed() }
        // Other punctuation is skipped, commas say; anything else is nothing.
        guard (0x21...0x7e).contains(byte) else { return nil }
        position += 1
        return .word
    }

    private mutating func number() -> Kind {
        take(while: \.isDigit)
        if byte == UInt8(ascii: ":") {
            take()
            take { $0.isDigit || $0 == UInt8(ascii: ":") || $0 == UInt8(ascii: ".") }
            return .time
        }
        guard let separator = byte, Self.isSeparator(separator) else { return .number }
        take()
        guard let next = byte, next.isDigit else {
            take { $0.isDigit || $0.isLetter || $0 == separator }
            return .date
        }
        take(while: \.isDigit)
        guard byte == separator else { return separator == UInt8(ascii: ".") ? .number : .date }
        take { $0.isDigit || $0 == separator }
        return .date
    }

    /// A word, or a date or a zone that begins with one: `jan-08-1999`, `america/new_york`, `est5edt`.
    private mutating func word() -> Kind {
        take(while: \.isLetter)
        var isMore = Self.isSeparator(byte)
        if !isMore, let byte, byte == UInt8(ascii: "+") || byte.isDigit {
            let word = String(decoding: text, as: UTF8.self)
            switch DateTimeWord.find(word) {
            case nil, .zone: isMore = !Self.units.contains(word)
            case .month, .weekday, .era, .meridiem, .now, .today, .epoch, .infinity, .midnight, .timeMark,
                .julianMark, .daylight, .ignored:
                isMore = false
            }
        }
        guard isMore else { return .word }
        take {
            $0.isDigit || $0.isLetter || Self.isSeparator($0) || $0 == UInt8(ascii: "+") || $0 == UInt8(ascii: "_")
                || $0 == UInt8(ascii: ":")
        }
        return .date
    }

    private mutating func signed() -> Kind? {
        take()
        while let byte, byte.isWhiteSpace { position += 1 }
        guard let byte else { return nil }
        if byte.isDigit {
            take { $0.isDigit || $0 == UInt8(ascii: ":") || $0 == UInt8(ascii: ".") || $0 == UInt8(ascii: "-") }
            return .zone
        }
        guard byte.isLetter else { return nil }
        take(while: \.isLetter)
        return .special
    }
}
