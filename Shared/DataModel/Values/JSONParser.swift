import Base

/// Reads JSON with PostgreSQL's tolerance and in its words; linear in the length of the text.
struct JSONParser {
    private enum Token: Equatable {
        case string, number, objectStart, objectEnd, arrayStart, arrayEnd, comma, colon, word, end
    }

    private let bytes: [UInt8]
    /// Whether strings are to be understood, or only checked: `json` keeps what `jsonb` refuses.
    private let isBinary: Bool
    private var position = 0
    private var token = Token.end
    private var tokenStart = 0
    private var string: [UInt8] = []

    private init(_ text: String, isBinary: Bool) {
        bytes = Array(text.utf8)
        self.isBinary = isBinary
    }

    /// The document in a text.
    static func parse(_ text: String) throws(StatementError) -> JSONNode {
        var parser = JSONParser(text, isBinary: true)
        return try parser.document()
    }

    /// Whether a text may be a value of type `json`.
    static func check(_ text: String) throws(StatementError) {
        var parser = JSONParser(text, isBinary: false)
        _ = try parser.document()
    }

    private mutating func document() throws(StatementError) -> JSONNode {
        try next()
        let node = try value(depth: 0)
        if token != .end { throw unexpected("Expected end of input") }
        return node
    }

    // MARK: Errors

    private func malformed(_ detail: String) -> StatementError {
        StatementError(.invalidTextRepresentation, "invalid input syntax for type json", detail: detail)
    }

    private func text(_ range: Range<Int>) -> String { String(decoding: bytes[range], as: UTF8.self) }

    private func unexpected(_ expectation: String) -> StatementError {
        if token == .end { return malformed("The input string ended unexpectedly.") }
        return malformed("\(expectation), but found \"\(text(tokenStart..<position))\".")
    }

    // MARK: Grammar

    private mutating func value(depth: Int) throws(StatementError) -> JSONNode {
        guard depth <= JSONNode.depthLimit else {
            throw StatementError(.statementTooComplex, "stack depth limit exceeded")
        }
        switch token {
        case .string:
            let node = JSONNode.string(String(decoding: string, as: UTF8.self))
            try next()
            return node
        case .number:
            let node = isBinary ? try number() : .null
            try next()
            return node
        case .word:
            let word = text(tokenStart..<position)
            try next()
            return word == "null" ? .null : .bool(word == "true")
        case .objectStart: return try object(depth: depth)
        case .arrayStart: return try array(depth: depth)
        case .objectEnd, .arrayEnd, .comma, .colon, .end: throw unexpected("Expected JSON value")
        }
    }

    private func number() throws(StatementError) -> JSONNode {
        do throws(DatabaseError) {
            return .number(try Decimal(parsing: text(tokenStart..<position)))
        } catch {
            throw StatementError(error)
        }
    }

    private mutating func array(depth: Int) throws(StatementError) -> JSONNode {
        var elements: [JSONNode] = []
        try next()
        guard token != .arrayEnd else {
            try next()
            return .array([])
        }
        while true {
            elements.append(try value(depth: depth + 1))
            if token == .arrayEnd { break }
            guard token == .comma else { throw unexpected("Expected \",\" or \"]\"") }
            try next()
        }
        try next()
        return .array(elements)
    }

    private mutating func object(depth: Int) throws(StatementError) -> JSONNode {
        var members: [(key: String, value: JSONNode)] = []
        try next()
        guard token != .objectEnd else {
            try next()
            return .object([])
        }
        guard token == .string else { throw unexpected("Expected string or \"}\"") }
        while true {
            guard token == .string else { throw unexpected("Expected string") }
            let key = String(decoding: string, as: UTF8.self)
            try next()
            guard token == .colon else { throw unexpected("Expected \":\"") }
            try next()
            let member = try value(depth: depth + 1)
            if isBinary { members.append((key, member)) }
            if token == .objectEnd { break }
            guard token == .comma else { throw unexpected("Expected \",\" or \"}\"") }
            try next()
        }
        try next()
        return .object(members)
    }

    // MARK: Tokens

    private static func isWordByte(_ byte: UInt8) -> Bool {
        switch byte {
        case 0x30...0x39, 0x41...0x5a, 0x61...0x7a, 0x5f, 0x80...: true
        case _: false
        }
    }

    private mutating func next() throws(StatementError) {
        while position < bytes.count, [0x20, 0x09, 0x0a, 0x0d].contains(bytes[position]) { position += 1 }
        tokenStart = position
        guard position < bytes.count else {
            token = .end
            return
        }
        position += 1
        switch bytes[tokenStart] {
        case UInt8(ascii: "{"): token = .objectStart
        case UInt8(ascii: "}"): token = .objectEnd
        case UInt8(ascii: "["): token = .arrayStart
        case UInt8(ascii: "]"): token = .arrayEnd
        case UInt8(ascii: ","): token = .comma
        case UInt8(ascii: ":"): token = .colon
        case UInt8(ascii: "\""): try lexString()
        case UInt8(ascii: "-"), 0x30...0x39: try lexNumber()
        case _: try lexWord()
        }
    }

    private mutating func lexWord() throws(StatementError) {
        token = .word
        while position < bytes.count, Self.isWordByte(bytes[position]), Self.isWordByte(bytes[tokenStart]) {
            position += 1
        }
        let word = text(tokenStart..<position)
        guard word == "true" || word == "false" || word == "null" else {
            throw malformed("Token \"\(word)\" is invalid.")
        }
    }

    private mutating func skipDigits() -> Bool {
        let start = position
        while position < bytes.count, (0x30...0x39).contains(bytes[position]) { position += 1 }
        return position > start
    }

    private func isAt(_ byte: UInt8) -> Bool { position < bytes.count && bytes[position] == byte }

    private mutating func lexNumber() throws(StatementError) {
        token = .number
        position = tokenStart
        if isAt(UInt8(ascii: "-")) { position += 1 }
        var isGood: Bool
        if isAt(UInt8(ascii: "0")) {
            position += 1
            isGood = true
        } else {
            isGood = skipDigits()
        }
        if isGood, isAt(UInt8(ascii: ".")) {
            position += 1
            isGood = skipDigits()
        }
        if isGood, isAt(UInt8(ascii: "e")) || isAt(UInt8(ascii: "E")) {
            position += 1
            if isAt(UInt8(ascii: "+")) || isAt(UInt8(ascii: "-")) { position += 1 }
            isGood = skipDigits()
        }
        // What follows without a gap belongs to the token, for the error message.
        while position < bytes.count, Self.isWordByte(bytes[position]) {
            position += 1
            isGood = false
        }
        guard isGood else { throw malformed("Token \"\(text(tokenStart..<position))\" is invalid.") }
    }

    private mutating func lexString() throws(StatementError) {
        token = .string
        string.removeAll(keepingCapacity: true)
        while position < bytes.count {
            let byte = bytes[position]
            switch byte {
            case UInt8(ascii: "\""):
                position += 1
                return
            case 0..<0x20:
                let digits = String(byte, radix: 16)
                throw malformed("Character with value 0x\(digits.count < 2 ? "0" : "")\(digits) must be escaped.")
            case UInt8(ascii: "\\"):
                position += 1
                try lexEscape()
            case _:
                string.append(byte)
                position += 1
            }
        }
        throw malformed("Token \"\(text(tokenStart..<position))\" is invalid.")
    }

    private mutating func lexEscape() throws(StatementError) {
        guard position < bytes.count else {
            throw malformed("Token \"\(text(tokenStart..<position))\" is invalid.")
        }
        let byte = bytes[position]
        position += 1
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): string.append(byte)
        case UInt8(ascii: "b"): string.append(0x08)
        case UInt8(ascii: "f"): string.append(0x0c)
        case UInt8(ascii: "n"): string.append(0x0a)
        case UInt8(ascii: "r"): string.append(0x0d)
        case UInt8(ascii: "t"): string.append(0x09)
        case UInt8(ascii: "u"): try lexUnicode()
        case _:
            var end = position
            while end < bytes.count, bytes[end] & 0xc0 == 0x80 { end += 1 }
            throw malformed("Escape sequence \"\\\(text(position - 1..<end))\" is invalid.")
        }
    }

    private mutating func hexUnit() throws(StatementError) -> UInt32 {
        var unit: UInt32 = 0
        for _ in 0..<4 {
            guard position < bytes.count, let digit = hexDigit(bytes[position]) else {
                throw malformed("\"\\u\" must be followed by four hexadecimal digits.")
            }
            unit = unit << 4 | UInt32(digit)
            position += 1
        }
        return unit
    }

    private mutating func lexUnicode() throws(StatementError) {
        var unit = try hexUnit()
        guard isBinary else { return }
        let lonely = malformed("Unicode low surrogate must follow a high surrogate.")
        if (0xd800..<0xdc00).contains(unit) {
            guard isAt(UInt8(ascii: "\\")), position + 1 < bytes.count, bytes[position + 1] == UInt8(ascii: "u") else {
                throw lonely
            }
            position += 2
            let low = try hexUnit()
            if (0xd800..<0xdc00).contains(low) {
                throw malformed("Unicode high surrogate must not follow a high surrogate.")
            }
            guard (0xdc00..<0xe000).contains(low) else { throw lonely }
            unit = 0x10000 + (unit - 0xd800) << 10 + (low - 0xdc00)
        }
        guard unit != 0 else {
            throw StatementError(
                .untranslatableCharacter, "unsupported Unicode escape sequence",
                detail: "\\u0000 cannot be converted to text.")
        }
        guard let scalar = Unicode.Scalar(unit) else { throw lonely }
        string.append(contentsOf: Array(String(Character(scalar)).utf8))
    }
}

/// The value of a hexadecimal digit in ASCII.
func hexDigit(_ byte: UInt8) -> UInt8? {
    switch byte {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
    case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
    case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
    case _: nil
    }
}
