import Base

/// Arrays as text: `{1,2}`, `{{"a b",NULL},{c,"\""}}`, `[0:1]={1,2}`.
struct ArrayText {
    private let type: DataType
    private let settings: TextSettings
    private let text: String
    private let bytes: Bytes
    private var position = 0
    /// Elements as they are written, nil for NULL: what is no array at all is said before what is no element.
    private var elements: [String?] = []
    /// Known once the first innermost list has ended.
    private var counts: [Int32?] = []

    private init(_ text: String, _ type: DataType, _ settings: TextSettings) {
        self.text = text
        bytes = Array(text.utf8)
        self.type = type
        self.settings = settings
    }

    static func parse(_ text: String, _ type: DataType, _ settings: TextSettings) throws(StatementError) -> Value {
        var parser = ArrayText(text, type, settings)
        return .array(try parser.array())
    }

    private func malformed(_ detail: String) -> StatementError {
        StatementError(.invalidTextRepresentation, "malformed array literal: \"\(text)\"", detail: detail)
    }

    private var byte: UInt8? { position < bytes.count ? bytes[position] : nil }

    private mutating func skipSpaces() { while let byte, byte.isWhiteSpace { position += 1 } }

    private mutating func array() throws(StatementError) -> ArrayValue {
        let bounds = try bounds()
        guard byte == UInt8(ascii: "{") else {
            throw malformed(
                bounds == nil
                    ? "Array value must start with \"{\" or dimension information."
                    : "Array contents must start with \"{\".")
        }
        try list(depth: 0)
        skipSpaces()
        guard byte == nil else { throw malformed("Junk after closing right brace.") }
        guard !elements.isEmpty else {
            guard bounds == nil else { throw mismatch }
            return ArrayValue(type, [])
        }
        var dimensions = counts.map { ArrayValue.Dimension(count: $0 ?? 0) }
        if let bounds {
            guard bounds.map(\.count) == dimensions.map(\.count) else { throw mismatch }
            dimensions = bounds
        }
        var values: [Value] = []
        values.reserveCapacity(elements.count)
        for element in elements {
            guard let element else {
                values.append(.null)
                continue
            }
            values.append(try ValueText.parse(element, as: type, settings))
        }
        guard let array = ArrayValue(type, dimensions: dimensions, elements: values) else { throw uneven }
        return array
    }

    private var mismatch: StatementError { malformed("Specified array dimensions do not match array contents.") }

    private var uneven: StatementError {
        malformed("Multidimensional arrays must have sub-arrays with matching dimensions.")
    }

    private mutating func number() -> Int32? {
        let start = position
        if byte == UInt8(ascii: "-") || byte == UInt8(ascii: "+") { position += 1 }
        while let byte, byte.isDigit { position += 1 }
        return Int32(String(decoding: bytes[start..<position], as: UTF8.self))
    }

    /// `[2:3][0:4]=` in front, if any.
    private mutating func bounds() throws(StatementError) -> [ArrayValue.Dimension]? {
        skipSpaces()
        var result: [ArrayValue.Dimension] = []
        while byte == UInt8(ascii: "[") {
            position += 1
            guard result.count < ArrayValue.dimensionLimit else { throw tooDeep }
            guard var upper = number() else {
                throw malformed("\"[\" must introduce explicitly-specified array dimensions.")
            }
            var lower: Int32 = 1
            if byte == UInt8(ascii: ":") {
                position += 1
                lower = upper
                guard let end = number() else { throw malformed("Missing array dimension value.") }
                upper = end
            }
            guard byte == UInt8(ascii: "]") else { throw malformed("Missing \"]\" after array dimensions.") }
            position += 1
            guard upper >= lower else {
                throw StatementError(.arraySubscriptError, "upper bound cannot be less than lower bound")
            }
            let (difference, isOver) = upper.subtractingReportingOverflow(lower)
            guard !isOver, difference < Int32.max else {
                throw StatementError(.programLimitExceeded, "array size exceeds the maximum allowed (134217727)")
            }
            result.append(ArrayValue.Dimension(count: difference + 1, lowerBound: lower))
            skipSpaces()
        }
        guard !result.isEmpty else { return nil }
        guard byte == UInt8(ascii: "=") else { throw malformed("Missing \"=\" after array dimensions.") }
        position += 1
        skipSpaces()
        return result
    }

    private var tooDeep: StatementError {
        StatementError(
            .programLimitExceeded,
            "number of array dimensions (\(ArrayValue.dimensionLimit + 1)) exceeds the maximum allowed "
                + "(\(ArrayValue.dimensionLimit))")
    }

    /// One list in braces, the position at the first of them.
    private mutating func list(depth: Int) throws(StatementError) {
        guard depth < ArrayValue.dimensionLimit else { throw tooDeep }
        if counts.count <= depth {
            // An element stood at this depth before: then there may be no list.
            guard elements.isEmpty else { throw malformed("Unexpected \"{\" character.") }
            counts.append(nil)
        }
        position += 1
        skipSpaces()
        var count: Int32 = 0
        if byte == UInt8(ascii: "}") {
            guard depth == 0 else { throw malformed("Unexpected \"}\" character.") }
            position += 1
            return
        }
        while true {
            skipSpaces()
            if byte == UInt8(ascii: "{") {
                try list(depth: depth + 1)
            } else {
                guard depth == counts.count - 1 else {
                    let isEnd = byte == UInt8(ascii: "}")
                    throw malformed(isEnd ? "Unexpected \"}\" character." : "Unexpected array element.")
                }
                elements.append(try element())
            }
            count &+= 1
            skipSpaces()
            guard let byte else { throw malformed("Unexpected end of input.") }
            position += 1
            if byte == UInt8(ascii: "}") { break }
            guard byte == UInt8(ascii: ",") else { throw malformed("Unexpected array element.") }
        }
        if let known = counts[depth], known != count { throw uneven }
        counts[depth] = count
    }

    private mutating func element() throws(StatementError) -> String? {
        var content: Bytes = [], wasQuoted = false, kept = 0
        while let next = byte {
            if next == UInt8(ascii: "\"") {
                guard !wasQuoted, content.isEmpty else { throw malformed("Unexpected array element.") }
                wasQuoted = true
                position += 1
                try quoted(into: &content)
                break
            }
            if next == UInt8(ascii: ",") || next == UInt8(ascii: "}") { break }
            guard next != UInt8(ascii: "{") else { throw malformed("Unexpected \"{\" character.") }
            position += 1
            if next == UInt8(ascii: "\\") {
                guard let escaped = byte else { throw malformed("Unexpected end of input.") }
                position += 1
                content.append(escaped)
                kept = content.count
                // An escape makes a word of NULL, as quotes do.
                wasQuoted = wasQuoted || content.count == 1
            } else {
                content.append(next)
                if !next.isWhiteSpace { kept = content.count }
            }
        }
        guard byte != nil else { throw malformed("Unexpected end of input.") }
        if !wasQuoted || kept > 0 { content.removeLast(content.count - max(kept, 0)) }
        let word = String(decoding: content, as: UTF8.self)
        guard wasQuoted || !word.isEmpty else {
            let next = byte.map { String(decoding: [$0], as: UTF8.self) } ?? ""
            throw malformed("Unexpected \"\(next)\" character.")
        }
        return !wasQuoted && word.lowercasedASCII == "null" ? nil : word
    }

    private mutating func quoted(into content: inout Bytes) throws(StatementError) {
        while let next = byte {
            position += 1
            if next == UInt8(ascii: "\"") { return }
            if next == UInt8(ascii: "\\") {
                guard let escaped = byte else { break }
                position += 1
                content.append(escaped)
            } else {
                content.append(next)
            }
        }
        throw malformed("Unexpected end of input.")
    }

    // MARK: Out

    static func append(_ array: ArrayValue, _ settings: TextSettings, into buffer: inout ByteBuffer) {
        if array.dimensions.contains(where: { $0.lowerBound != 1 }) {
            for dimension in array.dimensions {
                let upper = Int64(dimension.lowerBound) + Int64(dimension.count) - 1
                buffer.append(text: "[\(dimension.lowerBound):\(upper)]")
            }
            buffer.append(UInt8(ascii: "="))
        }
        guard !array.elements.isEmpty else {
            buffer.append("{}")
            return
        }
        var next = 0
        appendList(array, depth: 0, &next, settings, into: &buffer)
    }

    private static func appendList(
        _ array: ArrayValue, depth: Int, _ next: inout Int, _ settings: TextSettings, into buffer: inout ByteBuffer
    ) {
        buffer.append(UInt8(ascii: "{"))
        for index in 0..<array.dimensions[depth].count {
            if index > 0 { buffer.append(UInt8(ascii: ",")) }
            if depth + 1 < array.dimensions.count {
                appendList(array, depth: depth + 1, &next, settings, into: &buffer)
            } else {
                append(element: array.elements[next], array.element, settings, into: &buffer)
                next += 1
            }
        }
        buffer.append(UInt8(ascii: "}"))
    }

    private static func append(
        element: Value, _ type: DataType, _ settings: TextSettings, into buffer: inout ByteBuffer
    ) {
        guard !element.isNull else {
            buffer.append("NULL")
            return
        }
        let text = ValueText.text(of: element, as: type, settings)
        let isQuoted =
            text.isEmpty || text.lowercasedASCII == "null"
            || text.utf8.contains {
                switch $0 {
                case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "{"), UInt8(ascii: "}"), UInt8(ascii: ","):
                    true
                case let byte: byte.isWhiteSpace
                }
            }
        guard isQuoted else {
            buffer.append(text: text)
            return
        }
        buffer.append(UInt8(ascii: "\""))
        for byte in text.utf8 {
            if byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "\\") { buffer.append(UInt8(ascii: "\\")) }
            buffer.append(byte)
        }
        buffer.append(UInt8(ascii: "\""))
    }
}
