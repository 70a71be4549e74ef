import Base
import DataModel

/// Reads rows by the entries of an index: entries of a page, then the rows that they name.
///
/// An entry may be left of a row that has gone, or has another value by now; so who reads asks the row, and each row
/// comes once, however many entries name it.
final class EntryCursor: RowCursor {
    /// Rows that are asked for at once.
    private static let page = 512

    private let access: any RowAccess
    private let context: ExecutionContext
    private let request: ScanRequest
    private let entries: any RowCursor
    private var rows: (any RowCursor)?
    private var owners: ArraySlice<Bytes> = []
    private var seen = KeyTable()
    private var charged = 0

    /// `request` says what is read of the rows, all but their range.
    init(
        _ context: ExecutionContext, _ access: any RowAccess, _ entries: CollectionDescriptor,
        _ range: ScanRequest.Range, isSteady: Bool, _ request: ScanRequest
    ) throws(StatementError) {
        (self.context, self.access, self.request) = (context, access, request)
        self.entries = try access.scan(
            ScanRequest(
                collection: entries, range: range, columns: [ColumnID(rawValue: EntryForm.ownerColumn)],
                isOfOneTime: !isSteady))
    }

    deinit {
        // What is given back is never too much.
        try? context.charge(-charged)
    }

    func next() throws(StatementError) -> RowStep {
        while true {
            if let rows {
                let step = try rows.next()
                guard case .end = step else { return step }
                self.rows = nil
            }
            if !owners.isEmpty {
                let keys = owners.prefix(Self.page).sorted { $0.lexicographicallyPrecedes($1) }
                owners = owners.dropFirst(Self.page)
                rows = try access.scan(
                    ScanRequest(
                        collection: request.collection, range: .keys(keys), columns: request.columns,
                        isForUpdate: request.isForUpdate))
                continue
            }
            switch try entries.next() {
            case .rows(let page): try take(page)
            case .waiting: return .waiting
            case .columns, .blocks: throw StatementError(.internalError, "entries of an index come as records")
            case .end: return .end
            }
        }
    }

    private func take(_ page: StoredRows) throws(StatementError) {
        var found: [Bytes] = []
        for record in page.records {
            guard let record else { continue }
            guard let owner = EntryForm.owner(of: record) else {
                throw StatementError(.dataCorrupted, "an entry of an index cannot be read")
            }
            if owner.withUnsafeBytes({ seen.insert($0).isNew }) { found.append(owner) }
        }
        owners = found[...]
        let size = seen.footprint
        try context.charge(size - charged)
        charged = size
    }
}
