import Base
import DataModel
import QueryLanguages

/// Rows of a COPY FROM on their way from a client's bytes to pages of records for a node. Without I/O; owned by
/// one runner.
final class CopyInput {
    /// Bytes of records that a page holds, and rows: not more than the engine takes at a time, so that the rows which
    /// its errors name are those of the page.
    static let pageBytes = 256 << 10, pageRows = 1024

    private var reader: CopyReader
    private let columns: [ResultColumn]
    private let settings: TextSettings
    private let isBinary: Bool
    private var page: [Bytes] = []
    /// The lines of its rows, and of those of the last page.
    private var lines: [UInt64] = [], sentLines: [UInt64] = []
    private var size = 0
    private var buffer = ByteBuffer(capacity: 256)
    private var isFinished = false

    /// `columns` are those that the node takes, in their order.
    init(_ statement: CopyStatement, columns: [ResultColumn], settings: TextSettings) throws(StatementError) {
        reader = try CopyReader(
            statement.format, table: statement.table, columns: columns.map(\.name),
            isListed: !statement.columns.isEmpty)
        (self.columns, self.settings, isBinary) = (columns, settings, statement.format.kind == .binary)
    }

    /// More has come.
    func append(_ view: ByteView) { reader.append(view) }

    /// Bytes that are in no page yet.
    var pending: Int { reader.pending }

    /// Nothing more will come.
    func finish() {
        reader.finish()
        isFinished = true
    }

    /// The next page that is full, or the last one, when everything has come; nil: there is none, or not yet.
    func nextPage() throws(StatementError) -> [Bytes]? {
        while size < Self.pageBytes, page.count < Self.pageRows {
            guard try reader.next() else {
                guard isFinished, !page.isEmpty else { return nil }
                break
            }
            let line = reader.line, record = try record()
            lines.append(line)
            size += record.count
            page.append(record)
        }
        defer { (page, size, sentLines, lines) = ([], 0, lines, []) }
        return page
    }

    /// What is told of an error that a row of the last page has brought about, or of the client's own.
    func inTable(_ error: StatementError) -> StatementError {
        guard error.row > 0, sentLines.indices.contains(error.row - 1) else { return reader.inLine(error) }
        var error = error
        error.context = "COPY \(reader.table), line \(sentLines[error.row - 1])"
        return error
    }

    private func record() throws(StatementError) -> Bytes {
        buffer.removeAll()
        var writer = ColumnWriter(into: &buffer)
        for (index, column) in columns.enumerated() {
            do throws(StatementError) {
                try append(index, column.type, &writer)
            } catch {
                throw reader.inColumn(error, index)
            }
        }
        return buffer.readable.bytes
    }

    private func append(
        _ index: Int, _ type: DataType, _ writer: inout ColumnWriter
    ) throws(StatementError) {
        let number = UInt32(truncatingIfNeeded: index + 1)
        if !isBinary, let whole = try reader.withField(index, { ValueText.plainInteger($0, type) }), let whole {
            return writer.append(integer: whole, column: number, into: &buffer)
        }
        guard let field = try reader.field(index) else { return }
        let isBinary = isBinary, settings = settings
        let value = try field.withView { (view: ByteView) throws(StatementError) in
            isBinary
                ? try ValueBinary.decode(view, as: type)
                : try ValueText.parse(view, as: type, settings)
        }
        let fitted = try value.coerced(to: type, isExplicit: false)
        if !fitted.isNull { writer.append(fitted, column: number, into: &buffer) }
    }
}
