import Base

/// Messages to the client, appended to its output: a type, a length that counts itself, and the body.
extension ByteBuffer {
    /// Appends a message whose body is what `body` appends.
    @inline(__always)
    mutating func message(_ type: StaticString, _ body: (inout ByteBuffer) -> Void) {
        append(type)
        let start = count
        append(bigEndian: Int32(0))
        body(&self)
        patch(at: start, Int32(truncatingIfNeeded: count - start))
    }

    /// Writes a length over the place that was kept for it.
    @inline(__always)
    mutating func patch(at offset: Int, _ value: Int32) {
        mutableReadable.storeBytes(of: value.bigEndian, toByteOffset: offset, as: Int32.self)
    }

    /// A text and its end; a zero byte inside would end it, and is left out.
    mutating func append(terminated text: String) {
        if text.utf8.contains(0) {
            for byte in text.utf8 where byte != 0 { append(byte) }
        } else {
            append(text: text)
        }
        append(0 as UInt8)
    }

    // MARK: Beginning

    /// What authentication asks for, and that it is over.
    package mutating func appendAuthentication(_ request: AuthenticationRequest) {
        message("R") { body in
            switch request {
            case .ok: body.append(bigEndian: Int32(0))
            case .clearPassword: body.append(bigEndian: Int32(3))
            case .sasl(let mechanisms):
                body.append(bigEndian: Int32(10))
                for mechanism in mechanisms { body.append(terminated: mechanism) }
                body.append(0 as UInt8)
            case .saslContinue(let data):
                body.append(bigEndian: Int32(11))
                body.append(data)
            case .saslFinal(let data):
                body.append(bigEndian: Int32(12))
                body.append(data)
            }
        }
    }

    /// The newest version there is, and the options that were asked for in vain.
    package mutating func appendNegotiateProtocolVersion(unknownOptions: [String]) {
        message("v") { body in
            body.append(bigEndian: StartupPacket.latestVersion)
            body.append(bigEndian: Int32(truncatingIfNeeded: unknownOptions.count))
            for option in unknownOptions { body.append(terminated: option) }
        }
    }

    /// A setting that clients want to know of, now and whenever it changes.
    package mutating func appendParameterStatus(_ name: String, _ value: String) {
        message("S") { body in
            body.append(terminated: name)
            body.append(terminated: value)
        }
    }

    /// What a CancelRequest has to show.
    package mutating func appendBackendKeyData(processID: Int32, secret: Int32) {
        message("K") { body in
            body.append(bigEndian: processID)
            body.append(bigEndian: secret)
        }
    }

    /// The next statement may come.
    package mutating func appendReadyForQuery(_ status: TransactionStatus) {
        append("Z\0\0\0\u{5}")
        append(status.rawValue)
    }

    // MARK: Statements

    /// A statement is prepared.
    package mutating func appendParseComplete() { append("1\0\0\0\u{4}") }

    /// A portal is made.
    package mutating func appendBindComplete() { append("2\0\0\0\u{4}") }

    /// A statement or portal is gone, if there was one.
    package mutating func appendCloseComplete() { append("3\0\0\0\u{4}") }

    /// What is described gives no rows.
    package mutating func appendNoData() { append("n\0\0\0\u{4}") }

    /// There was no statement in the query.
    package mutating func appendEmptyQueryResponse() { append("I\0\0\0\u{4}") }

    /// The rows that were wanted have been sent, and there are more.
    package mutating func appendPortalSuspended() { append("s\0\0\0\u{4}") }

    /// What was done: `SELECT 3`, `INSERT 0 1`, `BEGIN`.
    package mutating func appendCommandComplete(_ completion: StatementCompletion) {
        message("C") { body in
            body.append(text: completion.tag)
            if let rows = completion.rows {
                body.append(completion.tag == "INSERT" ? " 0 " : " ")
                body.append(decimal: rows)
            }
            body.append(0 as UInt8)
        }
    }

    /// The types of a statement's parameters, as OIDs.
    package mutating func appendParameterDescription(_ types: [UInt32]) {
        message("t") { body in
            body.append(bigEndian: UInt16(truncatingIfNeeded: types.count))
            for type in types { body.append(bigEndian: type) }
        }
    }

    /// The columns of what follows; `formats` says how each will be sent.
    package mutating func appendRowDescription(_ columns: [ColumnField], formats: (Int) -> WireFormat) {
        message("T") { body in
            body.append(bigEndian: UInt16(truncatingIfNeeded: columns.count))
            for (index, column) in columns.enumerated() {
                body.append(terminated: column.name)
                body.append(bigEndian: column.table)
                body.append(bigEndian: column.number)
                body.append(bigEndian: column.type)
                body.append(bigEndian: column.typeLength)
                body.append(bigEndian: column.modifier)
                body.append(bigEndian: formats(index).rawValue)
            }
        }
    }

    /// A row of texts; nil is NULL.
    package mutating func appendDataRow(texts: [String?]) {
        message("D") { body in
            body.append(bigEndian: UInt16(truncatingIfNeeded: texts.count))
            for text in texts {
                guard let text else {
                    body.append(bigEndian: Int32(-1))
                    continue
                }
                body.append(bigEndian: Int32(truncatingIfNeeded: text.utf8.count))
                body.append(text: text)
            }
        }
    }

    // MARK: COPY

    /// The client may send data, or shall take some.
    package mutating func appendCopyBegin(_ direction: CopyDirection, _ format: WireFormat, columns: Int) {
        let type: StaticString =
            switch direction {
            case .fromClient: "G"
            case .toClient: "H"
            }
        message(type) { body in
            body.append(UInt8(truncatingIfNeeded: format.rawValue))
            body.append(bigEndian: UInt16(truncatingIfNeeded: columns))
            for _ in 0..<columns { body.append(bigEndian: format.rawValue) }
        }
    }

    /// A piece of a COPY; where it is cut means nothing.
    package mutating func appendCopyData(_ data: ByteView) {
        append("d")
        append(bigEndian: Int32(truncatingIfNeeded: data.count + 4))
        append(data)
    }

    /// All the data of a COPY has been sent.
    package mutating func appendCopyDone() { append("c\0\0\0\u{4}") }

    // MARK: Errors and notices

    /// An error or a notice with its fields; which of the two, the severity says.
    package mutating func appendReport(_ severity: Severity, _ error: StatementError) {
        message(severity.isError ? "E" : "N") { body in
            body.append(field: "S", severity.text)
            body.append(field: "V", severity.text)
            body.append(field: "C", error.state.rawValue)
            body.append(field: "M", error.message)
            if let detail = error.detail { body.append(field: "D", detail) }
            if let hint = error.hint { body.append(field: "H", hint) }
            if error.position > 0 { body.append(field: "P", "\(error.position)") }
            if let context = error.context { body.append(field: "W", context) }
            if let schema = error.schema { body.append(field: "s", schema) }
            if let table = error.table { body.append(field: "t", table) }
            if let column = error.column { body.append(field: "c", column) }
            if let dataType = error.dataType { body.append(field: "d", dataType) }
            if let constraint = error.constraint { body.append(field: "n", constraint) }
            body.append(0 as UInt8)
        }
    }

    private mutating func append(field: StaticString, _ text: String) {
        append(field)
        append(terminated: text)
    }
}

/// What a server asks of a client that wants in.
package enum AuthenticationRequest: Hashable, Sendable {
    case ok
    case clearPassword
    case sasl([String])
    case saslContinue(Bytes)
    case saslFinal(Bytes)
}

/// Where a session stands, as ReadyForQuery says it.
package enum TransactionStatus: UInt8, Hashable, Sendable {
    /// No transaction is open.
    case idle = 0x49
    case inBlock = 0x54
    /// Only its end is accepted.
    case failed = 0x45
}

/// Which way the data of a COPY goes.
package enum CopyDirection: Hashable, Sendable { case fromClient, toClient }

/// What CommandComplete says: a tag, and how many rows, for statements that count them.
package struct StatementCompletion: Hashable, Sendable {
    package var tag: String
    package var rows: Int64?

    package init(_ tag: String, rows: Int64? = nil) { (self.tag, self.rows) = (tag, rows) }
}

/// A column as RowDescription tells it.
package struct ColumnField: Hashable, Sendable {
    package var name: String
    /// The table's OID and the column's number in it; 0 when it is an expression.
    package var table: UInt32 = 0, number: Int16 = 0
    package var type: UInt32
    /// Bytes of a value in memory; -1: it varies.
    package var typeLength: Int16
    package var modifier: Int32 = -1

    package init(
        _ name: String, type: UInt32, typeLength: Int16, modifier: Int32 = -1, table: UInt32 = 0, number: Int16 = 0
    ) {
        (self.name, self.type, self.typeLength, self.modifier) = (name, type, typeLength, modifier)
        (self.table, self.number) = (table, number)
    }

    /// A column of type `text`.
    package static func text(_ name: String) -> ColumnField { ColumnField(name, type: 25, typeLength: -1) }
}

/// How bad it is. Errors end the statement, `fatal` the connection; the others are notices. Raw values order them as
/// `client_min_messages` does.
package enum Severity: Int, Comparable, Hashable, Sendable {
    case debug, log, notice, warning, info, error, fatal, panic

    package var isError: Bool { self >= .error }

    package var text: String {
        switch self {
        case .debug: "DEBUG"
        case .log: "LOG"
        case .notice: "NOTICE"
        case .warning: "WARNING"
        case .info: "INFO"
        case .error: "ERROR"
        case .fatal: "FATAL"
        case .panic: "PANIC"
        }
    }

    package static func < (left: Severity, right: Severity) -> Bool { left.rawValue < right.rawValue }
}
