import Base

/// One message of a client after start-up, as it lies in the read buffer: a type, a length, and that many bytes.
///
/// The type is looked at before the length, as PostgreSQL does: whoever does not speak the protocol is told at once,
/// and no length makes us wait for bytes of a message that nobody wants.
package struct MessageFrame {
    /// Messages that are never long: PostgreSQL's limit (PQ_SMALL_MESSAGE_LIMIT).
    package static let smallLimit = 10_000

    package let type: UInt8
    package let body: ByteView
    package var byteCount: Int { body.count + 5 }

    /// The message at the beginning of `view`; nil when it is not there to its end.
    ///
    /// Errors end the connection: where the next message begins is not known any more.
    package static func next(_ view: ByteView, limit: Int) throws(StatementError) -> MessageFrame? {
        var reader = ByteReader(view)
        guard let type = reader.byte() else { return nil }
        let limit = try Self.limit(of: type, largest: limit)
        guard let length = reader.bigEndian(Int32.self) else { return nil }
        guard length >= 4, Int(length) <= limit else { throw .protocolViolation("invalid message length") }
        guard let body = reader.view(Int(length) - 4) else { return nil }
        return MessageFrame(type: type, body: body)
    }

    private static func limit(of type: UInt8, largest: Int) throws(StatementError) -> Int {
        switch type {
        case UInt8(ascii: "Q"), UInt8(ascii: "P"), UInt8(ascii: "B"), UInt8(ascii: "F"), UInt8(ascii: "d"):
            return largest
        case UInt8(ascii: "X"), UInt8(ascii: "C"), UInt8(ascii: "D"), UInt8(ascii: "E"), UInt8(ascii: "H"),
            UInt8(ascii: "S"), UInt8(ascii: "c"), UInt8(ascii: "f"):
            return min(smallLimit, largest)
        case _: throw .protocolViolation("invalid frontend message type \(type)")
        }
    }

    /// Whether what follows in `view` is a Sync, whole: then nothing but the statement before it is to be committed.
    package static func isSync(_ view: ByteView) -> Bool {
        view.count >= 5 && view[0] == UInt8(ascii: "S") && view[1] == 0 && view[2] == 0 && view[3] == 0 && view[4] == 4
    }

    /// The answer to a request for authentication: type `p`. What it means depends on what was asked.
    package static func nextPassword(_ view: ByteView, limit: Int) throws(StatementError) -> MessageFrame? {
        var reader = ByteReader(view)
        guard let type = reader.byte() else { return nil }
        guard type == UInt8(ascii: "p") else {
            throw .protocolViolation("expected password response, got message type \(type)")
        }
        guard let length = reader.bigEndian(Int32.self) else { return nil }
        guard length >= 4, Int(length) <= limit else { throw .protocolViolation("invalid message length") }
        guard let body = reader.view(Int(length) - 4) else { return nil }
        return MessageFrame(type: type, body: body)
    }
}

extension StatementError {
    /// Input that the protocol does not allow here.
    static func protocolViolation(_ message: String, detail: String? = nil) -> StatementError {
        StatementError(.protocolViolation, message, detail: detail)
    }
}

extension ByteReader {
    /// A text that ends with a zero byte, without it.
    mutating func text() throws(StatementError) -> ByteView {
        let rest = rest
        guard let end = rest.firstIndex(of: 0), let text = view(end) else {
            throw .protocolViolation("invalid string in message")
        }
        _ = byte()
        return text
    }

    /// A number of two bytes, of which PostgreSQL says that it is never negative.
    mutating func count() throws(StatementError) -> Int {
        guard let value = bigEndian(UInt16.self) else { throw Self.insufficient }
        return Int(value)
    }

    mutating func number() throws(StatementError) -> Int32 {
        guard let value = bigEndian(Int32.self) else { throw Self.insufficient }
        return value
    }

    mutating func bytes(_ count: Int) throws(StatementError) -> ByteView {
        guard let view = view(count) else { throw Self.insufficient }
        return view
    }

    /// Nothing may follow.
    func end() throws(StatementError) {
        guard isAtEnd else { throw .protocolViolation("invalid message format") }
    }

    private static var insufficient: StatementError { .protocolViolation("insufficient data left in message") }
}

/// Text of a client is UTF-8, or refused in PostgreSQL's words.
enum ClientText {
    static func string(_ view: ByteView) throws(StatementError) -> String {
        guard let text = String(validating: view, as: UTF8.self) else { throw invalid(view) }
        return text
    }

    /// The bytes of the first character that is none.
    static func invalid(_ view: ByteView) -> StatementError {
        var start = 0
        while start < view.count {
            let length = min(width(view[start]), view.count - start)
            let character = ByteView(rebasing: view[start..<start + length])
            if String(validating: character, as: UTF8.self) == nil { break }
            start += length
        }
        let rest = ByteView(rebasing: view[start...])
        let bytes = rest.prefix(rest.isEmpty ? 0 : width(rest[0]))
        let words = bytes.map { "0x" + ($0 < 16 ? "0" : "") + String($0, radix: 16) }
        return StatementError(
            .characterNotInRepertoire,
            "invalid byte sequence for encoding \"UTF8\": \(words.joined(separator: " "))")
    }

    private static func width(_ first: UInt8) -> Int {
        switch first {
        case 0xC0...0xDF: 2
        case 0xE0...0xEF: 3
        case 0xF0...0xF7: 4
        case _: 1
        }
    }
}
