import Base

/// A message of a client that has logged in. Its parts are slices of the read buffer.
package enum FrontendMessage {
    /// Statements, one after another; without the final zero.
    case query(ByteView)
    case parse(ParseMessage)
    case bind(BindMessage)
    case describe(MessageTarget, ByteView)
    case execute(portal: ByteView, rowLimit: Int32)
    case close(MessageTarget, ByteView)
    case flush
    case sync
    case terminate
    case functionCall
    case copyData(ByteView)
    case copyDone
    case copyFail(ByteView)

    /// Which of the two a name means.
    package enum MessageTarget: Hashable { case statement, portal }

    /// Errors leave the next message where it is: the session goes on.
    package init(_ frame: MessageFrame) throws(StatementError) {
        var reader = ByteReader(frame.body)
        switch frame.type {
        case UInt8(ascii: "Q"): self = .query(try reader.text())
        case UInt8(ascii: "P"):
            self = .parse(try ParseMessage(frame.body))
            return
        case UInt8(ascii: "B"):
            self = .bind(try BindMessage(frame.body))
            return
        case UInt8(ascii: "D"): self = .describe(try Self.target(&reader, "DESCRIBE"), try reader.text())
        case UInt8(ascii: "E"): self = .execute(portal: try reader.text(), rowLimit: try reader.number())
        case UInt8(ascii: "C"): self = .close(try Self.target(&reader, "CLOSE"), try reader.text())
        case UInt8(ascii: "H"): self = .flush
        case UInt8(ascii: "S"): self = .sync
        case UInt8(ascii: "X"):
            self = .terminate
            return
        case UInt8(ascii: "F"):
            self = .functionCall
            return
        case UInt8(ascii: "d"):
            self = .copyData(frame.body)
            return
        case UInt8(ascii: "c"): self = .copyDone
        case UInt8(ascii: "f"): self = .copyFail(try reader.text())
        case _: throw .protocolViolation("invalid frontend message type \(frame.type)")
        }
        try reader.end()
    }

    private static func target(_ reader: inout ByteReader, _ message: String) throws(StatementError) -> MessageTarget {
        let byte = reader.byte()
        switch byte {
        case UInt8(ascii: "S"): return .statement
        case UInt8(ascii: "P"): return .portal
        case nil: throw .protocolViolation("no data left in message")
        case .some(let kind): throw .protocolViolation("invalid \(message) message subtype \(kind)")
        }
    }
}

/// Parse: a statement to prepare, with the types of its parameters as far as the client says.
package struct ParseMessage {
    package let name: ByteView
    package let text: ByteView
    private let types: ByteView

    init(_ body: ByteView) throws(StatementError) {
        var reader = ByteReader(body)
        name = try reader.text()
        text = try reader.text()
        types = try reader.bytes(4 * (try reader.count()))
        try reader.end()
    }

    /// OIDs; 0: not said.
    package var parameterTypes: [UInt32] {
        var reader = ByteReader(types), result: [UInt32] = []
        while let type = reader.bigEndian(UInt32.self) { result.append(type) }
        return result
    }
}

/// How a value travels.
package enum WireFormat: Int16, Hashable, Sendable { case text = 0, binary = 1 }

/// Bind: values for the parameters of a prepared statement, which make a portal of it.
package struct BindMessage {
    package let portal: ByteView
    package let statement: ByteView
    package let parameterFormats: FormatCodes
    package let parameters: BoundParameters
    package let resultFormats: FormatCodes

    package init(_ body: ByteView) throws(StatementError) {
        var reader = ByteReader(body)
        portal = try reader.text()
        statement = try reader.text()
        parameterFormats = FormatCodes(try reader.bytes(2 * (try reader.count())))
        let count = try reader.count()
        if parameterFormats.count > 1, parameterFormats.count != count {
            throw .protocolViolation(
                "bind message has \(parameterFormats.count) parameter formats but \(count) parameters")
        }
        let start = reader.rest
        var length = 0
        for _ in 0..<count {
            let size = try reader.number()
            length += 4
            guard size != -1 else { continue }
            _ = try reader.bytes(Int(size))
            length += Int(size)
        }
        parameters = BoundParameters(count: count, ByteView(rebasing: start[..<length]))
        resultFormats = FormatCodes(try reader.bytes(2 * (try reader.count())))
        try reader.end()
    }
}

/// Formats of parameters or columns: none (all text), one (for all), or one each.
package struct FormatCodes {
    private let view: ByteView

    init(_ view: ByteView) { self.view = view }

    package var count: Int { view.count / 2 }

    /// The first code that is neither text nor binary, and whose it is.
    package var firstUnknown: (index: Int, code: Int16)? {
        for index in 0..<count where WireFormat(rawValue: code(index)) == nil { return (index, code(index)) }
        return nil
    }

    /// The format of a parameter or column; of what is out of range, text.
    package subscript(index: Int) -> WireFormat {
        if count == 0 { return .text }
        let place = count == 1 ? 0 : index
        guard place < count else { return .text }
        return WireFormat(rawValue: code(place)) ?? .text
    }

    private func code(_ index: Int) -> Int16 { Int16(view[2 * index]) << 8 | Int16(view[2 * index + 1]) }
}

/// Values of parameters as they lie in a Bind, which has checked that they are there.
package struct BoundParameters: Sequence {
    package let count: Int
    /// Lengths and values, one after another; length -1 is NULL.
    package let encoded: ByteView

    init(count: Int, _ encoded: ByteView) { (self.count, self.encoded) = (count, encoded) }

    /// The values in order.
    package func makeIterator() -> Iterator { Iterator(reader: ByteReader(encoded)) }

    /// Values in order; `.some(nil)` is NULL.
    package struct Iterator: IteratorProtocol {
        fileprivate var reader: ByteReader

        package mutating func next() -> ByteView?? {
            guard let length = reader.bigEndian(Int32.self) else { return nil }
            if length < 0 { return .some(nil) }
            guard let value = reader.view(Int(length)) else { return nil }
            return .some(value)
        }
    }
}
