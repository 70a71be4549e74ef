import Base

/// The value of a parameter as an argument of `Method.rowQuery` and `rowModify`: a byte that says how, and the bytes
/// that the client sent.
package enum PointParameter {
    case null
    case text(ByteView), binary(ByteView)

    /// Nil where the argument is none.
    package init?(_ argument: ByteView) {
        let rest = ByteView(rebasing: argument.dropFirst())
        switch argument.first {
        case 0 where rest.isEmpty: self = .null
        case 1: self = .text(rest)
        case 2: self = .binary(rest)
        case _: return nil
        }
    }

    /// Appends the argument to a buffer.
    package static func append(_ value: ByteView?, isBinary: Bool, to buffer: inout ByteBuffer) {
        buffer.append(value == nil ? 0 : isBinary ? 2 : 1)
        if let value { buffer.append(value) }
    }
}

/// What a program says of a statement on one record: its end, or why it was not done.
///
///     00 count [row]   done: rows read or changed, 0 or 1, and the row for the client if the statement gives one
///     01 reply         not done: an encoded `QueryReply` with an error
package enum PointReply {
    case done(count: UInt8, row: ByteView?)
    case failed(StatementError)

    /// Nil where the bytes are none.
    package init?(_ view: ByteView) {
        guard let kind = view.first, view.count >= 2 else { return nil }
        let rest = ByteView(rebasing: view[2...])
        switch kind {
        case 0: self = .done(count: view[1], row: rest.isEmpty ? nil : rest)
        case 1:
            guard let error = (try? QueryReply(decoding: ByteView(rebasing: view[1...])))?.error else { return nil }
            self = .failed(error.error)
        case _: return nil
        }
    }

    /// Appends the end of a statement that was done.
    package static func appendDone(count: UInt8, row: Bytes?, to buffer: inout ByteBuffer) {
        buffer.append(0 as UInt8)
        buffer.append(count)
        if let row { buffer.append(row) }
    }

    /// Appends why it was not.
    package static func appendFailed(_ error: StatementError, to buffer: inout ByteBuffer) {
        buffer.append(1 as UInt8)
        buffer.append(QueryReply(error: error).encode())
    }
}
