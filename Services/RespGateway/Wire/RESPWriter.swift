import Base

/// The protocol a client asked for with HELLO.
package enum RESPVersion: UInt8, Hashable, Sendable { case two = 2, three = 3 }

/// RESP values, written straight into the connection's output.
extension ByteBuffer {
    /// `$3\r\nfoo\r\n`. One check for room, whatever the length.
    @inline(__always) package mutating func appendBulk(_ bytes: ByteView) {
        let room = prepare(bytes.count + 32)
        guard let base = room.baseAddress else { return }
        var offset = Self.writeHeader(UInt8(ascii: "$"), bytes.count, base)
        if let source = bytes.baseAddress, bytes.count > 0 {
            (base + offset).copyMemory(from: source, byteCount: bytes.count)
            offset += bytes.count
        }
        (base + offset).storeBytes(of: 0x0A0D, as: UInt16.self)
        commit(offset + 2)
    }

    package mutating func appendBulk(_ text: String) {
        var text = text
        text.withUTF8 { appendBulk(ByteView($0)) }
    }

    package mutating func appendBulk(_ text: StaticString) {
        appendBulk(ByteView(start: text.utf8Start, count: text.utf8CodeUnitCount))
    }

    /// `:42\r\n`
    @inline(__always) package mutating func appendInteger(_ value: Int64) {
        reserve(32)
        append(UInt8(ascii: ":"))
        append(decimal: value)
        appendLineEnd()
    }

    /// `+OK\r\n`
    package mutating func appendStatus(_ text: ByteView) {
        append(UInt8(ascii: "+"))
        append(text)
        appendLineEnd()
    }

    package mutating func appendStatus(_ text: StaticString) {
        appendStatus(ByteView(start: text.utf8Start, count: text.utf8CodeUnitCount))
    }

    /// `-ERR text\r\n`; `text` begins with its code. Line ends inside it would break the framing and become spaces.
    package mutating func appendError(_ text: String) {
        append(UInt8(ascii: "-"))
        for byte in text.utf8 { append(byte == 13 || byte == 10 ? 32 : byte) }
        appendLineEnd()
    }

    /// The absence of a value: `$-1`, or `_` of RESP3.
    @inline(__always) package mutating func appendNull(_ version: RESPVersion) {
        switch version {
        case .two: append("$-1\r\n")
        case .three: append("_\r\n")
        }
    }

    /// The absence of an array: `*-1`, or `_` of RESP3.
    package mutating func appendNullArray(_ version: RESPVersion) {
        switch version {
        case .two: append("*-1\r\n")
        case .three: append("_\r\n")
        }
    }

    /// The header of an array of `count` values.
    @inline(__always) package mutating func appendArray(_ count: Int) { appendHeader(UInt8(ascii: "*"), count) }

    /// A map of `count` pairs: in RESP2 an array of twice as many.
    package mutating func appendMap(_ count: Int, _ version: RESPVersion) {
        switch version {
        case .two: appendHeader(UInt8(ascii: "*"), count * 2)
        case .three: appendHeader(UInt8(ascii: "%"), count)
        }
    }

    /// A set: in RESP2 an array.
    package mutating func appendSet(_ count: Int, _ version: RESPVersion) {
        switch version {
        case .two: appendHeader(UInt8(ascii: "*"), count)
        case .three: appendHeader(UInt8(ascii: "~"), count)
        }
    }

    /// What comes without being asked for, of `count` values: in RESP2 an array.
    package mutating func appendPush(_ count: Int, _ version: RESPVersion) {
        switch version {
        case .two: appendHeader(UInt8(ascii: "*"), count)
        case .three: appendHeader(UInt8(ascii: ">"), count)
        }
    }

    /// A double: in RESP2 a bulk of its text.
    package mutating func appendDouble(_ value: Double, _ version: RESPVersion) {
        var text = value.description
        if text.hasSuffix(".0") { text.removeLast(2) }
        switch version {
        case .two: appendBulk(text)
        case .three:
            append(UInt8(ascii: ","))
            append(text: text)
            appendLineEnd()
        }
    }

    /// Text for a human: a bulk, or a verbatim string of RESP3.
    package mutating func appendVerbatim(_ text: String, _ version: RESPVersion) {
        switch version {
        case .two: appendBulk(text)
        case .three:
            appendHeader(UInt8(ascii: "="), text.utf8.count + 4)
            append("txt:")
            append(text: text)
            appendLineEnd()
        }
    }

    @inline(__always) private mutating func appendHeader(_ kind: UInt8, _ count: Int) {
        let room = prepare(32)
        guard let base = room.baseAddress else { return }
        commit(Self.writeHeader(kind, count, base))
    }

    @inline(__always) private mutating func appendLineEnd() {
        append(13)
        append(10)
    }

    /// Writes kind, decimal count and line end, at most 23 bytes.
    @inline(__always)
    private static func writeHeader(_ kind: UInt8, _ count: Int, _ base: UnsafeMutableRawPointer) -> Int {
        base.storeBytes(of: kind, as: UInt8.self)
        var digits = 1
        var probe = count
        while probe >= 10 {
            probe /= 10
            digits += 1
        }
        var rest = count
        var position = digits
        while position > 0 {
            base.storeBytes(of: UInt8(truncatingIfNeeded: 48 + rest % 10), toByteOffset: position, as: UInt8.self)
            rest /= 10
            position -= 1
        }
        (base + digits + 1).storeBytes(of: 0x0A0D, as: UInt16.self)
        return digits + 3
    }
}
