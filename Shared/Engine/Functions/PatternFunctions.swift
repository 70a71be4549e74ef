import Base
import DataModel

/// LIKE and ILIKE.
enum PatternFunctions {
    static let rows: [ScalarFunction] =
        likes(.text, "") + likes(.char, "::bpchar") + bytes + [
            ScalarFunction(
                "like_escape", [.of(.text), .of(.text)], .of(.text), example: ("'10%' LIKE '10#%' ESCAPE '#'", "true")
            ) { a, _ throws(StatementError) in
                .text(try escaped(TextFunctions.text(a[0]), by: TextFunctions.text(a[1])))
            }
        ]

    /// Of texts, and of `char(n)`, whose blanks at the end count here.
    private static func likes(_ type: DataType, _ cast: String) -> [ScalarFunction] {
        [
            like("~~", type, isNegated: false, ignoresCase: false, ("'abc'\(cast) LIKE 'a%'", "true")),
            like("!~~", type, isNegated: true, ignoresCase: false, ("'abc'\(cast) NOT LIKE '_b_'", "false")),
            like("~~*", type, isNegated: false, ignoresCase: true, ("'ABC'\(cast) ILIKE 'a%'", "true")),
            like("!~~*", type, isNegated: true, ignoresCase: true, ("'ABC'\(cast) NOT ILIKE 'b%'", "true")),
        ]
    }

    /// Of byte strings: `_` is a byte.
    private static let bytes: [ScalarFunction] = [
        .row("~~", [.bytes, .bytes], .bool, ("'\\x616263'::bytea LIKE 'a%'::bytea", "true")) {
            a, _ throws(StatementError) in .bool(try a[1].octets.withUnsafeBytesThrowing(a[0].octets, isBinary: true))
        },
        .row("!~~", [.bytes, .bytes], .bool, ("'\\x616263'::bytea NOT LIKE 'a__'::bytea", "false")) {
            a, _ throws(StatementError) in .bool(try !a[1].octets.withUnsafeBytesThrowing(a[0].octets, isBinary: true))
        },
        .row(
            "like_escape", [.bytes, .bytes], .bytes,
            ("'10%'::bytea LIKE '10#%'::bytea ESCAPE '#'::bytea", "true")
        ) { a, _ throws(StatementError) in .bytes(try escaped(a[0].octets, by: a[1].octets)) },
    ]

    /// As `escaped` of texts.
    private static func escaped(_ pattern: Bytes, by escape: Bytes) throws(StatementError) -> Bytes {
        guard escape.count <= 1 else {
            throw StatementError(
                .invalidEscapeSequence, "invalid escape string", hint: "Escape string must be empty or one character.")
        }
        let backslash = UInt8(ascii: "\\")
        guard escape.first != backslash else { return pattern }
        var result: Bytes = [], isEscaped = false
        for byte in pattern {
            if byte == escape.first, !isEscaped {
                isEscaped = true
                continue
            }
            if isEscaped || byte == backslash { result.append(backslash) }
            result.append(byte)
            isEscaped = false
        }
        if isEscaped { throw malformed }
        return result
    }

    private static func like(
        _ name: String, _ type: DataType, isNegated: Bool, ignoresCase: Bool, _ example: (String, String)
    ) -> ScalarFunction {
        let fold: @Sendable (String) -> String = { text in
            ignoresCase ? TextFunctions.mapped(text) { $0.properties.lowercaseMapping } : text
        }
        return ScalarFunction(
            name, [.of(type), .of(.text)], .of(.bool), kernel: ignoresCase ? nil : kernel(isNegated: isNegated),
            example: example
        ) { a, _ throws(StatementError) in
            let text = Array(fold(TextFunctions.text(a[0])).utf8), pattern = Array(fold(TextFunctions.text(a[1])).utf8)
            return .bool(try pattern.withUnsafeBytesThrowing(text) != isNegated)
        }
    }

    private static func kernel(isNegated: Bool) -> Kernel {
        { columns, count throws(StatementError) in
            guard case .bytes(let texts) = columns[0].storage, case .bytes(let patterns) = columns[1].storage else {
                throw StatementError(.internalError, "LIKE got columns of other forms")
            }
            let validity = Bitmap.both(columns[0].validity, columns[1].validity)
            let textStride = columns[0].stride, patternStride = columns[1].stride
            var isMalformed = false
            let flags = (0..<count).map { row in
                texts.withBytes(at: row * textStride) { text in
                    patterns.withBytes(at: row * patternStride) { pattern in
                        guard let matches = match(text, pattern) else {
                            if validity.map({ $0[row] }) ?? true { isMalformed = true }
                            return false
                        }
                        return matches != isNegated
                    }
                }
            }
            if isMalformed { throw malformed }
            return Column(.bool, .booleans(flags), validity: validity, count: count)
        }
    }

    static var malformed: StatementError {
        StatementError(.invalidEscapeSequence, "LIKE pattern must not end with escape character")
    }

    /// Nil: the pattern ends within an escape. Linear but for `%`, which goes back to the last one only.
    static func match(_ text: ByteView, _ pattern: ByteView, isBinary: Bool = false) -> Bool? {
        var at = 0, place = 0
        var resume: (at: Int, place: Int)?
        while true {
            if place < pattern.count, pattern[place] == UInt8(ascii: "%") {
                resume = (at, place + 1)
                place += 1
                if place == pattern.count { return true }
                continue
            }
            if at < text.count, place < pattern.count {
                if pattern[place] == UInt8(ascii: "_") {
                    at += isBinary ? 1 : width(text[at])
                    place += 1
                    continue
                }
                var wanted = place
                if pattern[place] == UInt8(ascii: "\\") {
                    wanted += 1
                    guard wanted < pattern.count else { return nil }
                }
                if text[at] == pattern[wanted] {
                    at += 1
                    place = wanted + 1
                    continue
                }
            } else if at >= text.count, place == pattern.count {
                return true
            }
            guard let back = resume, back.at < text.count else { return false }
            at = back.at + (isBinary ? 1 : width(text[back.at]))
            place = back.place
            resume = (at, place)
        }
    }

    /// Bytes of a character of UTF-8, by its first one.
    @inline(__always) private static func width(_ byte: UInt8) -> Int {
        byte < 0x80 ? 1 : byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4
    }

    /// A pattern with another escape character, in the form that `match` knows.
    static func escaped(_ pattern: String, by escape: String) throws(StatementError) -> String {
        let characters = Array(escape.unicodeScalars)
        guard characters.count <= 1 else {
            throw StatementError(
                .invalidEscapeSequence, "invalid escape string", hint: "Escape string must be empty or one character.")
        }
        guard characters.first != "\\" else { return pattern }
        var result = String.UnicodeScalarView()
        var isEscaped = false
        for scalar in pattern.unicodeScalars {
            if scalar == characters.first, !isEscaped {
                isEscaped = true
                continue
            }
            if isEscaped || scalar == "\\" { result.append("\\") }
            result.append(scalar)
            isEscaped = false
        }
        if isEscaped { throw malformed }
        return String(result)
    }
}

extension Bytes {
    /// This as a pattern, matched against a text.
    fileprivate func withUnsafeBytesThrowing(_ text: Bytes, isBinary: Bool = false) throws(StatementError) -> Bool {
        let matches = withUnsafeBytes { pattern in
            text.withUnsafeBytes { PatternFunctions.match($0, pattern, isBinary: isBinary) }
        }
        guard let matches else { throw PatternFunctions.malformed }
        return matches
    }
}
