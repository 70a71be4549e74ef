import Base
import DataModel
import Engine

/// What a row of schema `redis` is about: a native key, and of a hash one of its fields. Its encoding is that of the
/// row's primary key; but names may be any bytes here, as Redis has it, and not only text.
struct KeyspaceKey: Hashable {
    var database: UInt8
    var key: Bytes
    var field: Bytes?

    init(_ database: UInt8, _ key: Bytes, field: Bytes? = nil) {
        (self.database, self.key, self.field) = (database, key, field)
    }

    /// Nil for a database that does not exist: there is nothing in it.
    init?(decoding encoded: Bytes) {
        let parts: (database: UInt8, names: [Bytes])? = encoded.withUnsafeBytes { view in
            var reader = ByteReader(view), names: [Bytes] = []
            guard case .integer(let number)? = KeyEncoding.read(&reader),
                (0..<Int64(KeyspaceTables.databaseCount)).contains(number)
            else { return nil }
            while !reader.isAtEnd {
                guard let name = KeyEncoding.readText(&reader) else { return nil }
                names.append(name)
            }
            return (UInt8(number), names)
        }
        guard let parts, (1...2).contains(parts.names.count) else { return nil }
        self.init(parts.database, parts.names[0], field: parts.names.count > 1 ? parts.names[1] : nil)
    }

    var encoded: Bytes {
        var buffer = Self.prefix(database)
        key.withUnsafeBytes { KeyEncoding.append(text: $0, into: &buffer) }
        field?.withUnsafeBytes { KeyEncoding.append(text: $0, into: &buffer) }
        return buffer.readable.bytes
    }

    /// What the keys of all rows of a database begin with.
    static func prefix(_ database: UInt8) -> ByteBuffer {
        var buffer = ByteBuffer(capacity: 64)
        KeyEncoding.append(integer: Int64(database), into: &buffer)
        return buffer
    }

    var slot: UInt32 { key.withUnsafeBytes { UInt32(Slot.of($0).rawValue) } }

    /// As a message says it.
    var shown: String { "\"\(String(decoding: key, as: UTF8.self))\"" }
}

/// Makes records of what keys hold, and reads them.
struct KeyspaceRecords {
    let table: KeyspaceTables.Table
    /// The columns that somebody reads; others may be anything but text. Nil: all.
    private let columns: Set<ColumnID>?

    init(_ table: KeyspaceTables.Table, _ columns: [ColumnID]?) {
        (self.table, self.columns) = (table, columns.map(Set.init))
    }

    /// Whether somebody reads more than names.
    var hasValues: Bool {
        guard let columns else { return true }
        return table == .hashes || table == .strings && columns.contains(KeyspaceTables.string)
    }

    /// A row of `strings`, or of `keys` with the type in the place of the value.
    func record(_ key: KeyspaceKey, _ value: ByteView, expiresAt: Int64) throws(StatementError) -> Bytes {
        var writer = RecordWriter(key)
        try append(key.key, KeyspaceTables.key, key, &writer)
        try append(value, KeyspaceTables.string, key, &writer)
        if expiresAt > 0 { writer.append(moment: expiresAt, KeyspaceTables.expiry) }
        return writer.bytes
    }

    /// A row of `hashes`.
    func record(_ key: KeyspaceKey, field: Bytes, _ value: ByteView) throws(StatementError) -> Bytes {
        var writer = RecordWriter(key)
        try append(key.key, KeyspaceTables.key, key, &writer)
        try append(field, KeyspaceTables.field, key, &writer)
        try append(value, KeyspaceTables.value, key, &writer)
        return writer.bytes
    }

    private func append(_ text: Bytes, _ column: ColumnID, _ key: KeyspaceKey, _ writer: inout RecordWriter)
        throws(StatementError)
    {
        try text.withView { (view: ByteView) throws(StatementError) in try append(view, column, key, &writer) }
    }

    /// Text of SQL is UTF-8 without zeroes; what Redis has may be anything, and nothing of it is changed silently.
    private func append(_ text: ByteView, _ column: ColumnID, _ key: KeyspaceKey, _ writer: inout RecordWriter)
        throws(StatementError)
    {
        if let columns, !columns.contains(column) { return }
        guard !text.contains(0), String(validating: text, as: UTF8.self) != nil else {
            throw StatementError(
                .characterNotInRepertoire, "invalid byte sequence for encoding \"UTF8\"",
                detail: "What key \(key.shown) of database \(key.database) has is no text.")
        }
        writer.append(text: text, column)
    }

    /// A record that is being written, columns in their order.
    private struct RecordWriter: ~Copyable {
        private var buffer = ByteBuffer(capacity: 64)
        private var columns: ColumnWriter

        init(_ key: KeyspaceKey) {
            columns = ColumnWriter(into: &buffer)
            columns.append(
                integer: Int64(key.database), column: UInt32(KeyspaceTables.database.rawValue), into: &buffer)
        }

        mutating func append(text: ByteView, _ column: ColumnID) {
            columns.append(text: text, column: UInt32(column.rawValue), into: &buffer)
        }

        mutating func append(moment milliseconds: Int64, _ column: ColumnID) {
            let (microseconds, overflows) = milliseconds.multipliedReportingOverflow(by: 1000)
            columns.append(
                .timestamp(overflows ? .max : microseconds), column: UInt32(column.rawValue), into: &buffer)
        }

        var bytes: Bytes { buffer.readable.bytes }
    }

    // MARK: Reading

    /// What a row that is to be written says.
    struct Fresh {
        var text: Bytes = []
        /// Milliseconds since 1970.
        var expiresAt: Int64?
    }

    func read(_ record: Bytes) throws(StatementError) -> Fresh {
        let textColumn = table == .hashes ? KeyspaceTables.value : KeyspaceTables.string
        let fields: (text: Bytes?, time: Value?)? = record.withUnsafeBytes { view in
            guard var reader = ColumnReader(view) else { return nil }
            let text = reader.field(UInt32(textColumn.rawValue))?.text?.bytes
            let time = table == .hashes ? nil : reader.field(UInt32(KeyspaceTables.expiry.rawValue))?.value
            return (text, time)
        }
        guard let fields, let text = fields.text else {
            throw StatementError(.internalError, "a row of schema redis has no value")
        }
        var fresh = Fresh(text: text)
        if case .timestamp(let time)? = fields.time {
            guard time != .max, time != .min else {
                throw StatementError(.datetimeFieldOverflow, "timestamp out of range")
            }
            // What is over long ago is over.
            fresh.expiresAt = max(1, time / 1000)
        }
        return fresh
    }
}
