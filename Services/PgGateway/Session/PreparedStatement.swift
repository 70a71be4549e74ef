import Base
import DataModel

/// A statement that was prepared, by Parse or by PREPARE.
final class PreparedStatement {
    /// nil: an empty one.
    let statement: SessionStatement?
    let byteCount: Int
    let parameters: [UInt32]
    /// nil: it gives no rows.
    let columns: [ColumnField]?
    /// Of statements for nodes: what the node said.
    let description: StatementDescription?

    init(_ statement: SessionStatement?, byteCount: Int, description: StatementDescription) {
        (self.statement, self.byteCount, self.description) = (statement, byteCount, description)
        parameters = description.parameters.map(\.oid)
        // DECLARE takes the parameters of its query, and gives no rows itself.
        let givesRows = if case .declare = statement { false } else { true }
        columns = givesRows ? description.columns.map { $0.map(ColumnField.init) } : nil
    }

    /// One that the session does itself.
    init(_ statement: SessionStatement?, byteCount: Int, columns: [ColumnField]?) {
        (self.statement, self.byteCount, self.columns) = (statement, byteCount, columns)
        (parameters, description) = ([], nil)
    }
}

extension ColumnField {
    init(_ column: ResultColumn) {
        self.init(
            column.name, type: column.type.oid, typeLength: column.type.storedLength, modifier: column.type.modifier,
            table: column.table, number: column.number)
    }
}

/// A prepared statement with its parameters: what Execute runs, and FETCH.
final class Portal {
    enum State: Equatable {
        case ready
        /// Rows have come, and there are more.
        case suspended
        case done
    }

    let name: String
    let prepared: PreparedStatement
    /// The body of the Bind, whose parameters and formats are needed later; empty for a cursor that a Query declares.
    let message: Bytes
    /// Under which the runner keeps what is suspended.
    let cursor: UInt32
    var state = State.ready
    /// Made by DECLARE.
    var isCursor = false
    /// Of the portal of an EXECUTE: that of the statement which it runs; and the other way round.
    var inner: Portal?
    weak var outer: Portal?
    /// Rows of a statement that the session does itself.
    var localRows: ArraySlice<[String?]> = []

    init(_ name: String, _ prepared: PreparedStatement, message: Bytes, cursor: UInt32) {
        (self.name, self.prepared, self.message, self.cursor) = (name, prepared, message, cursor)
    }

    /// Calls `body` with the parameters and the formats that the client has bound.
    func withBinding<Result>(_ body: (BoundParameters, FormatCodes, FormatCodes) -> Result) -> Result {
        message.withUnsafeBytes { view in
            // It was read before, whole: it can be read again.
            if !view.isEmpty, let bind = try? BindMessage(view) {
                return body(bind.parameters, bind.parameterFormats, bind.resultFormats)
            }
            let none = ByteView(start: nil, count: 0)
            return body(BoundParameters(count: 0, none), FormatCodes(none), FormatCodes(none))
        }
    }

    /// The format of each column of the result.
    func formats(_ count: Int) -> [WireFormat] {
        withBinding { _, _, formats in (0..<count).map { formats[$0] } }
    }
}
