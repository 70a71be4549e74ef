import Base
import Contracts

/// One word of a statement.
package struct SQLToken: Hashable, Sendable {
    package enum Kind: Hashable, Sendable {
        /// An unquoted word that is a keyword of the dialect; as an identifier it reads as `text` does.
        case keyword(SQLKeyword)
        /// Folded to lower case, or quoted.
        case identifier
        /// A character string, its quotes and escapes resolved.
        case string
        /// B'…' and X'…': the digits.
        case bits, hexadecimal
        /// Digits that fit Int64.
        case integer(Int64)
        /// Any other number: its text.
        case number
        /// `$1`.
        case parameter(Int)
        /// Operators of one or more characters.
        case symbol
        /// One of `, ( ) [ ] . ; :` and `::`, `..`, `:=`, `=>`.
        case punctuation
        case end
    }

    package let kind: Kind
    /// What the token means: the folded identifier, the resolved string, the operator.
    package let text: String
    /// Where it lies in the statement, in bytes.
    package let range: Range<Int>
}

/// Why a statement cannot be read: PostgreSQL's message, and where.
package struct SQLSyntaxError: Error, Hashable, Sendable {
    package let code: ErrorCode
    package let message: String
    /// In bytes from the beginning of the statement; PostgreSQL counts characters from one (`position(in:)`).
    package let offset: Int

    package init(_ message: String, code: ErrorCode = .syntax, at offset: Int) {
        (self.code, self.message, self.offset) = (code, message, offset)
    }

    /// The position that PostgreSQL's error field P tells: characters, from one.
    package func position(in statement: Bytes) -> Int {
        var characters = 1
        for byte in statement.prefix(offset) where byte & 0xc0 != 0x80 { characters += 1 }
        return characters
    }
}

/// Cuts a statement into tokens, by the rules of PostgreSQL 15 (manual, section 4.1) with `standard_conforming_strings`
/// on. Linear in the length of the statement: every byte is looked at a bounded number of times.
///
/// A statement is UTF-8 without zero bytes, which the gateway has checked; anything else is refused here again, since
/// no byte may reach a trap.
package struct SQLLexer {
    /// Bytes of an identifier; what is longer is cut, as PostgreSQL does (NAMEDATALEN - 1).
    package static let identifierLimit = 63

    private let bytes: Bytes
    private var position = 0

    package init(_ statement: Bytes) { bytes = statement }

    /// All tokens, the last of which is `end`.
    package static func tokens(_ statement: Bytes) throws(SQLSyntaxError) -> [SQLToken] {
        var lexer = SQLLexer(statement), tokens: [SQLToken] = []
        tokens.reserveCapacity(statement.count / 4 + 1)
        while true {
            let token = try lexer.next()
            tokens.append(token)
            if token.kind == .end { return tokens }
        }
    }

    // MARK: Bytes

    private func peek(_ distance: Int = 0) -> UInt8 {
        let index = position + distance
        return index < bytes.count ? bytes[index] : 0
    }

    private func slice(_ start: Int) -> String { String(decoding: bytes[start..<position], as: UTF8.self) }

    private func failure(_ what: String, from start: Int) -> SQLSyntaxError {
        let end = min(bytes.count, max(position, start))
        return SQLSyntaxError(
            "\(what) at or near \"\(String(decoding: bytes[min(start, end)..<end], as: UTF8.self))\"", at: start)
    }

    /// PostgreSQL quotes the rest of the statement where something does not end.
    private func unterminated(_ what: String, from start: Int) -> SQLSyntaxError {
        SQLSyntaxError(
            "unterminated \(what) at or near \"\(String(decoding: bytes[start...], as: UTF8.self))\"", at: start)
    }

    private static func isSpace(_ byte: UInt8) -> Bool { byte == 0x20 || (0x09...0x0d).contains(byte) }

    private static func isIdentifierStart(_ byte: UInt8) -> Bool {
        (0x41...0x5a).contains(byte) || (0x61...0x7a).contains(byte) || byte == 0x5f || byte >= 0x80
    }

    private static func isDigit(_ byte: UInt8) -> Bool { (0x30...0x39).contains(byte) }

    private static func isIdentifierPart(_ byte: UInt8) -> Bool {
        isIdentifierStart(byte) || isDigit(byte) || byte == 0x24
    }

    private static func isOperator(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "+"), UInt8(ascii: "-"), UInt8(ascii: "*"), UInt8(ascii: "/"), UInt8(ascii: "<"),
            UInt8(ascii: ">"), UInt8(ascii: "="), UInt8(ascii: "~"), UInt8(ascii: "!"), UInt8(ascii: "@"),
            UInt8(ascii: "#"), UInt8(ascii: "%"), UInt8(ascii: "^"), UInt8(ascii: "&"), UInt8(ascii: "|"),
            UInt8(ascii: "`"), UInt8(ascii: "?"):
            true
        case _: false
        }
    }

    // MARK: Tokens

    /// The next token; `end` again and again behind the last one.
    package mutating func next() throws(SQLSyntaxError) -> SQLToken {
        try skipSpace()
        let start = position
        guard start < bytes.count else { return SQLToken(kind: .end, text: "", range: start..<start) }
        let byte = peek()
        guard byte != 0 else { throw SQLSyntaxError("invalid byte in statement: 0x00", at: start) }
        switch byte {
        case UInt8(ascii: "'"): return try quotedString(from: start)
        case UInt8(ascii: "\""): return try quotedIdentifier(from: start)
        case UInt8(ascii: "$"): return try dollar(from: start)
        case UInt8(ascii: "."):
            if Self.isDigit(peek(1)) { return try number(from: start) }
            return punctuation(peek(1) == byte ? 2 : 1, from: start)
        case UInt8(ascii: ":"):
            return punctuation(peek(1) == byte || peek(1) == UInt8(ascii: "=") ? 2 : 1, from: start)
        case UInt8(ascii: ","), UInt8(ascii: "("), UInt8(ascii: ")"), UInt8(ascii: "["), UInt8(ascii: "]"),
            UInt8(ascii: ";"):
            return punctuation(1, from: start)
        case _ where Self.isDigit(byte): return try number(from: start)
        case _ where Self.isIdentifierStart(byte): return try word(from: start)
        case _ where Self.isOperator(byte): return symbol(from: start)
        case _:
            position += 1
            throw failure("syntax error", from: start)
        }
    }

    private func token(_ kind: SQLToken.Kind, _ text: String, from start: Int) -> SQLToken {
        SQLToken(kind: kind, text: text, range: start..<position)
    }

    private mutating func punctuation(_ count: Int, from start: Int) -> SQLToken {
        position += count
        return token(.punctuation, slice(start), from: start)
    }

    /// White space and comments, `/* … */` nested.
    private mutating func skipSpace() throws(SQLSyntaxError) {
        while position < bytes.count {
            if Self.isSpace(peek()) {
                position += 1
            } else if peek() == UInt8(ascii: "-"), peek(1) == UInt8(ascii: "-") {
                while position < bytes.count, peek() != 0x0a, peek() != 0x0d { position += 1 }
            } else if peek() == UInt8(ascii: "/"), peek(1) == UInt8(ascii: "*") {
                try skipComment()
            } else {
                return
            }
        }
    }

    private mutating func skipComment() throws(SQLSyntaxError) {
        let start = position
        var depth = 0
        repeat {
            guard position < bytes.count else { throw unterminated("/* comment", from: start) }
            if peek() == UInt8(ascii: "/"), peek(1) == UInt8(ascii: "*") {
                depth += 1
                position += 2
            } else if peek() == UInt8(ascii: "*"), peek(1) == UInt8(ascii: "/") {
                depth -= 1
                position += 2
            } else {
                position += 1
            }
        } while depth > 0
    }

    /// The longest run of operator characters, cut before a comment; one of several characters ends in + or - only if
    /// it has a character that none of the standard operators has.
    private mutating func symbol(from start: Int) -> SQLToken {
        while Self.isOperator(peek()), position - start < Self.identifierLimit {
            let isComment =
                peek() == UInt8(ascii: "-") && peek(1) == UInt8(ascii: "-")
                || peek() == UInt8(ascii: "/") && peek(1) == UInt8(ascii: "*")
            if isComment, position > start { break }
            position += 1
        }
        let isSpecial = bytes[start..<position].contains { byte in
            switch byte {
            case UInt8(ascii: "~"), UInt8(ascii: "!"), UInt8(ascii: "@"), UInt8(ascii: "#"), UInt8(ascii: "^"),
                UInt8(ascii: "&"), UInt8(ascii: "|"), UInt8(ascii: "`"), UInt8(ascii: "?"), UInt8(ascii: "%"):
                true
            case _: false
            }
        }
        if !isSpecial {
            while position - start > 1, bytes[position - 1] == UInt8(ascii: "+") || bytes[position - 1] == 0x2d {
                position -= 1
            }
        }
        let text = slice(start)
        if text == "=>" { return token(.punctuation, text, from: start) }
        return token(.symbol, text == "!=" ? "<>" : text, from: start)
    }

    // MARK: Words

    private mutating func word(from start: Int) throws(SQLSyntaxError) -> SQLToken {
        if let special = try prefixed(from: start) { return special }
        while Self.isIdentifierPart(peek()) { position += 1 }
        let folded = fold(start)
        if let keyword = SQLKeyword(folded) { return token(.keyword(keyword), folded, from: start) }
        return token(.identifier, Self.cut(folded), from: start)
    }

    /// ASCII letters only, as PostgreSQL does for a multi-byte encoding.
    private func fold(_ start: Int) -> String {
        String(decoding: bytes[start..<position].map { (0x41...0x5a).contains($0) ? $0 | 0x20 : $0 }, as: UTF8.self)
    }

    /// At most `identifierLimit` bytes, whole characters.
    private static func cut(_ identifier: String) -> String {
        guard identifier.utf8.count > identifierLimit else { return identifier }
        var end = identifier.utf8.index(identifier.utf8.startIndex, offsetBy: identifierLimit)
        while identifier.utf8[end] & 0xc0 == 0x80 { end = identifier.utf8.index(before: end) }
        return String(identifier[..<end])
    }

    /// Strings and identifiers that begin with a letter: E'…', B'…', X'…', N'…', U&'…', U&"…".
    private mutating func prefixed(from start: Int) throws(SQLSyntaxError) -> SQLToken? {
        switch (peek() | 0x20, peek(1)) {
        case (UInt8(ascii: "e"), UInt8(ascii: "'")):
            position += 1
            return try escapedString(from: start)
        case (UInt8(ascii: "n"), UInt8(ascii: "'")):
            position += 1
            return try quotedString(from: start)
        case (UInt8(ascii: "b"), UInt8(ascii: "'")):
            position += 1
            return try digits(.bits, "bit string", from: start) { $0 == 0x30 || $0 == 0x31 }
        case (UInt8(ascii: "x"), UInt8(ascii: "'")):
            position += 1
            return try digits(.hexadecimal, "hexadecimal string", from: start) { Self.hexadecimal($0) != nil }
        case (UInt8(ascii: "u"), UInt8(ascii: "&")) where peek(2) == UInt8(ascii: "'"):
            position += 2
            let string = try quotedString(from: start)
            return token(.string, try unicode(string.text, escape: escapeCharacter(), at: start), from: start)
        case (UInt8(ascii: "u"), UInt8(ascii: "&")) where peek(2) == UInt8(ascii: "\""):
            position += 2
            let name = try quotedIdentifier(from: start)
            return token(.identifier, try unicode(name.text, escape: escapeCharacter(), at: start), from: start)
        case _: return nil
        }
    }

    private mutating func quotedIdentifier(from start: Int) throws(SQLSyntaxError) -> SQLToken {
        position += 1
        var text: Bytes = []
        while true {
            guard position < bytes.count else { throw unterminated("quoted identifier", from: start) }
            let byte = peek()
            position += 1
            if byte == UInt8(ascii: "\"") {
                guard peek() == byte else { break }
                position += 1
            }
            guard byte != 0 else { throw SQLSyntaxError("invalid byte in identifier: 0x00", at: position - 1) }
            text.append(byte)
        }
        guard !text.isEmpty else { throw failure("zero-length delimited identifier", from: start) }
        return token(.identifier, Self.cut(String(decoding: text, as: UTF8.self)), from: start)
    }

    // MARK: Strings

    /// Strings that are apart by white space with a line break in it are one.
    private mutating func continues() -> Bool {
        var ahead = position, hasBreak = false
        while ahead < bytes.count {
            if Self.isSpace(bytes[ahead]) {
                hasBreak = hasBreak || bytes[ahead] == 0x0a || bytes[ahead] == 0x0d
                ahead += 1
            } else if hasBreak, bytes[ahead] == 0x2d, ahead + 1 < bytes.count,
                bytes[ahead + 1] == 0x2d
            {
                while ahead < bytes.count, bytes[ahead] != 0x0a, bytes[ahead] != 0x0d { ahead += 1 }
            } else {
                break
            }
        }
        guard hasBreak, ahead < bytes.count, bytes[ahead] == UInt8(ascii: "'") else { return false }
        position = ahead + 1
        return true
    }

    /// Behind the prefix, at the quote.
    private mutating func quotedString(from start: Int) throws(SQLSyntaxError) -> SQLToken {
        position += 1
        var text: Bytes = []
        while true {
            guard position < bytes.count else { throw unterminated("quoted string", from: start) }
            let byte = peek()
            position += 1
            if byte == UInt8(ascii: "'") {
                if peek() == byte {
                    position += 1
                } else if continues() {
                    continue
                } else {
                    return token(.string, String(decoding: text, as: UTF8.self), from: start)
                }
            }
            guard byte != 0 else { throw SQLSyntaxError("invalid byte in string: 0x00", at: position - 1) }
            text.append(byte)
        }
    }

    private mutating func digits(
        _ kind: SQLToken.Kind, _ name: String, from start: Int, _ isDigit: (UInt8) -> Bool
    ) throws(SQLSyntaxError) -> SQLToken {
        position += 1
        var text: Bytes = []
        while true {
            guard position < bytes.count else { throw unterminated("\(name) literal", from: start) }
            let byte = peek()
            position += 1
            if byte == UInt8(ascii: "'") {
                if continues() { continue }
                return token(kind, String(decoding: text, as: UTF8.self), from: start)
            }
            guard isDigit(byte) else {
                let digit = String(decoding: [byte], as: UTF8.self)
                let article = kind == .bits ? "binary" : "hexadecimal"
                throw SQLSyntaxError("\"\(digit)\" is not a valid \(article) digit", code: .invalidText, at: start)
            }
            text.append(byte)
        }
    }

    private static func hexadecimal(_ byte: UInt8) -> UInt32? {
        switch byte {
        case 0x30...0x39: UInt32(byte - 0x30)
        case 0x41...0x46: UInt32(byte - 0x41 + 10)
        case 0x61...0x66: UInt32(byte - 0x61 + 10)
        case _: nil
        }
    }

    /// E'…': C escapes. What they make must be UTF-8.
    private mutating func escapedString(from start: Int) throws(SQLSyntaxError) -> SQLToken {
        position += 1
        var text: Bytes = []
        while true {
            guard position < bytes.count else { throw unterminated("quoted string", from: start) }
            let byte = peek()
            position += 1
            switch byte {
            case UInt8(ascii: "\\"): try escape(into: &text, from: start)
            case UInt8(ascii: "'"):
                if peek() == byte {
                    position += 1
                    text.append(byte)
                } else if !continues() {
                    guard let string = String(validating: text, as: UTF8.self), !text.contains(0) else {
                        throw SQLSyntaxError(
                            "invalid byte sequence for encoding \"UTF8\"", code: .invalidText, at: start)
                    }
                    return token(.string, string, from: start)
                }
            case _: text.append(byte)
            }
        }
    }

    private mutating func escape(into text: inout Bytes, from start: Int) throws(SQLSyntaxError) {
        guard position < bytes.count else { throw unterminated("quoted string", from: start) }
        let byte = peek()
        position += 1
        switch byte {
        case UInt8(ascii: "b"): text.append(0x08)
        case UInt8(ascii: "f"): text.append(0x0c)
        case UInt8(ascii: "n"): text.append(0x0a)
        case UInt8(ascii: "r"): text.append(0x0d)
        case UInt8(ascii: "t"): text.append(0x09)
        case UInt8(ascii: "v"): text.append(0x0b)
        case 0x30...0x37:
            var value = UInt32(byte - 0x30)
            for _ in 0..<2 where (0x30...0x37).contains(peek()) {
                value = value * 8 + UInt32(peek() - 0x30)
                position += 1
            }
            text.append(UInt8(truncatingIfNeeded: value))
        case UInt8(ascii: "x"):
            guard let first = Self.hexadecimal(peek()) else { return text.append(byte) }
            position += 1
            var value = first
            if let second = Self.hexadecimal(peek()) {
                value = value * 16 + second
                position += 1
            }
            text.append(UInt8(truncatingIfNeeded: value))
        case UInt8(ascii: "u"), UInt8(ascii: "U"):
            let scalar = try codePoint(byte == UInt8(ascii: "u") ? 4 : 8)
            text.append(contentsOf: Array(String(Character(scalar)).utf8))
        case _: text.append(byte)
        }
    }

    private static let invalidEscape = "invalid Unicode escape value"

    /// `count` digits behind `\u`; a surrogate must have its other half behind it.
    private mutating func codePoint(_ count: Int) throws(SQLSyntaxError) -> Unicode.Scalar {
        let start = position - 2
        let value = try hexadecimalValue(count, from: start)
        if (0xd800...0xdbff).contains(value) {
            guard peek() == UInt8(ascii: "\\"), peek(1) | 0x20 == UInt8(ascii: "u") else {
                throw failure("invalid Unicode surrogate pair", from: start)
            }
            position += 2
            let low = try hexadecimalValue(bytes[position - 1] == UInt8(ascii: "u") ? 4 : 8, from: start)
            guard (0xdc00...0xdfff).contains(low),
                let scalar = Unicode.Scalar(0x10000 + (value - 0xd800) << 10 + (low - 0xdc00))
            else { throw failure("invalid Unicode surrogate pair", from: start) }
            return scalar
        }
        guard value != 0, let scalar = Unicode.Scalar(value) else { throw failure(Self.invalidEscape, from: start) }
        return scalar
    }

    private mutating func hexadecimalValue(_ count: Int, from start: Int) throws(SQLSyntaxError) -> UInt32 {
        var value: UInt32 = 0
        for _ in 0..<count {
            guard let digit = Self.hexadecimal(peek()) else {
                throw SQLSyntaxError("invalid Unicode escape", at: start)
            }
            value = value &* 16 &+ digit
            position += 1
        }
        return value
    }

    // MARK: U&

    /// `UESCAPE 'c'` behind a U& string, or the backslash.
    private mutating func escapeCharacter() throws(SQLSyntaxError) -> UInt8 {
        let before = position
        try skipSpace()
        let start = position
        while Self.isIdentifierPart(peek()) { position += 1 }
        guard fold(start) == "uescape" else {
            position = before
            return UInt8(ascii: "\\")
        }
        try skipSpace()
        let literal = position
        guard peek() == UInt8(ascii: "'") else {
            throw failure("UESCAPE must be followed by a simple string literal", from: literal)
        }
        let string = try quotedString(from: literal)
        guard string.text.utf8.count == 1, let byte = string.text.utf8.first, Self.hexadecimal(byte) == nil,
            byte != UInt8(ascii: "+"), byte != UInt8(ascii: "'"), byte != UInt8(ascii: "\""), !Self.isSpace(byte)
        else { throw failure("invalid Unicode escape character", from: literal) }
        return byte
    }

    /// Resolves `\XXXX` and `\+XXXXXX`.
    private func unicode(_ text: String, escape: UInt8, at start: Int) throws(SQLSyntaxError) -> String {
        let source = Array(text.utf8)
        guard source.contains(escape) else { return text }
        let malformed = SQLSyntaxError("invalid Unicode escape", at: start)
        var units: [UInt8] = [], index = 0, high: UInt32?
        while index < source.count {
            guard source[index] == escape, index + 1 < source.count, source[index + 1] != escape else {
                guard high == nil else { throw SQLSyntaxError("invalid Unicode surrogate pair", at: start) }
                if source[index] == escape {
                    guard index + 1 < source.count else { throw malformed }
                    index += 1
                }
                units.append(source[index])
                index += 1
                continue
            }
            let isLong = source[index + 1] == UInt8(ascii: "+"), count = isLong ? 6 : 4
            index += isLong ? 2 : 1
            guard index + count <= source.count else { throw malformed }
            var value: UInt32 = 0
            for byte in source[index..<index + count] {
                guard let digit = Self.hexadecimal(byte) else { throw malformed }
                value = value &* 16 &+ digit
            }
            index += count
            if let first = high {
                guard (0xdc00...0xdfff).contains(value) else {
                    throw SQLSyntaxError("invalid Unicode surrogate pair", at: start)
                }
                value = 0x10000 + (first - 0xd800) << 10 + (value - 0xdc00)
                high = nil
            } else if (0xd800...0xdbff).contains(value) {
                high = value
                continue
            }
            guard value != 0, let scalar = Unicode.Scalar(value) else {
                throw SQLSyntaxError(Self.invalidEscape, at: start)
            }
            units.append(contentsOf: Array(String(Character(scalar)).utf8))
        }
        guard high == nil else { throw SQLSyntaxError("invalid Unicode surrogate pair", at: start) }
        return String(decoding: units, as: UTF8.self)
    }

    // MARK: Dollars

    /// `$1`, or `$tag$ … $tag$`.
    private mutating func dollar(from start: Int) throws(SQLSyntaxError) -> SQLToken {
        position += 1
        if Self.isDigit(peek()) {
            while Self.isDigit(peek()) { position += 1 }
            let digits = String(decoding: bytes[(start + 1)..<position], as: UTF8.self)
            guard let number = Int32(digits), !Self.isIdentifierStart(peek()) else {
                while Self.isIdentifierPart(peek()) { position += 1 }
                throw failure("trailing junk after parameter", from: start)
            }
            return token(.parameter(Int(number)), slice(start), from: start)
        }
        while Self.isIdentifierStart(peek()) || position > start + 1 && Self.isDigit(peek()) { position += 1 }
        guard peek() == UInt8(ascii: "$") else {
            position = start + 1
            throw failure("syntax error", from: start)
        }
        position += 1
        let tag = Array(bytes[start..<position]), body = position
        while position < bytes.count {
            if peek() == UInt8(ascii: "$"), bytes.count - position >= tag.count,
                bytes[position..<position + tag.count].elementsEqual(tag)
            {
                let text = String(decoding: bytes[body..<position], as: UTF8.self)
                position += tag.count
                return token(.string, text, from: start)
            }
            position += 1
        }
        throw unterminated("dollar-quoted string", from: start)
    }

    // MARK: Numbers

    private mutating func number(from start: Int) throws(SQLSyntaxError) -> SQLToken {
        while Self.isDigit(peek()) { position += 1 }
        var isWhole = true
        if peek() == UInt8(ascii: "."), peek(1) != UInt8(ascii: ".") {
            isWhole = false
            position += 1
            while Self.isDigit(peek()) { position += 1 }
        }
        if peek() | 0x20 == UInt8(ascii: "e") {
            let isSigned = peek(1) == UInt8(ascii: "+") || peek(1) == UInt8(ascii: "-")
            if Self.isDigit(peek(isSigned ? 2 : 1)) {
                isWhole = false
                position += isSigned ? 2 : 1
                while Self.isDigit(peek()) { position += 1 }
            }
        }
        guard !Self.isIdentifierStart(peek()) else {
            while Self.isIdentifierPart(peek()) { position += 1 }
            throw failure("trailing junk after numeric literal", from: start)
        }
        let text = slice(start)
        if isWhole, let value = Int64(text) { return token(.integer(value), text, from: start) }
        return token(.number, text, from: start)
    }
}
