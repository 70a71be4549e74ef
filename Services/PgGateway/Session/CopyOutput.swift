import Base
import DataModel
import QueryLanguages

/// Rows of a COPY TO on their way from a node's records to a client's bytes. Without I/O; owned by
/// one runner.
final class CopyOutput {
    private let writer: CopyWriter
    private let columns: [ResultColumn]
    private let rows: RowWriter
    private var buffer = ByteBuffer(capacity: 256)

    init(_ statement: CopyStatement, columns: [ResultColumn], settings: TextSettings) throws(StatementError) {
        writer = try CopyWriter(
            statement.format, table: statement.table, columns: columns.map(\.name),
            isListed: !statement.columns.isEmpty)
        (self.columns, rows) = (columns, RowWriter(settings: settings))
    }

    var isBinary: Bool { writer.format.kind == .binary }
    var header: Bytes? { writer.header(columns.map(\.name)) }
    var trailer: Bytes? { writer.trailer }

    /// A row as it is sent; nil: the record is none.
    func row(_ record: Bytes) -> Bytes? {
        buffer.removeAll()
        var fields: [Range<Int>?] = []
        guard record.withUnsafeBytes({ read($0, &fields) }) else { return nil }
        let bytes = buffer.readable.bytes
        guard isBinary else { return writer.line(fields.map { range in range.map { Bytes(bytes[$0]) } }) }
        buffer.removeAll()
        buffer.append(bigEndian: UInt16(truncatingIfNeeded: columns.count))
        for field in fields {
            buffer.append(bigEndian: field.map { Int32(truncatingIfNeeded: $0.count) } ?? -1)
            if let field { bytes.withUnsafeBytes { buffer.append(ByteView(rebasing: $0[field])) } }
        }
        return buffer.readable.bytes
    }

    /// Writes the values behind one another, and where each of them is.
    private func read(_ record: ByteView, _ fields: inout [Range<Int>?]) -> Bool {
        guard var reader = ColumnReader(record) else { return false }
        var field = reader.next()
        for (index, column) in columns.enumerated() {
            guard let found = field, found.column == UInt32(truncatingIfNeeded: index &+ 1) else {
                fields.append(nil)
                continue
            }
            field = reader.next()
            guard !found.isNull else {
                fields.append(nil)
                continue
            }
            let start = buffer.count
            guard rows.append(found, column.type, isBinary ? .binary : .text, into: &buffer) else { return false }
            fields.append(start..<buffer.count)
        }
        return field == nil && reader.isAtEnd
    }
}
