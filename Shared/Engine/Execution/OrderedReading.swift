import Base
import DataModel

/// How a scan reads its rows in the order of a key, or of the entries of an index.
struct OrderedReading {
    /// Rows that entries lead to one by one; more are found sooner by reading all and sorting them.
    static let entryLimit = 10_000

    private let order: ScanOrder
    private let scan: ScanPlan
    private let context: ExecutionContext
    /// The rows that will be asked for, if that is known.
    private let wanted: Int?

    /// Nil if the rows have to be sorted: where entries may move while they are read, a row can be missed between two
    /// places, or met at the wrong one.
    init?(_ order: ScanOrder, _ scan: ScanPlan, _ context: ExecutionContext) throws(StatementError) {
        (self.order, self.scan, self.context) = (order, scan, context)
        func number(_ expression: BoundExpression?, isLimit: Bool) throws(StatementError) -> Int? {
            guard let expression else { return nil }
            return try LimitOperator.number(Evaluator(expression, layout: Layout([])), context, isLimit: isLimit)
        }
        let offset = try number(order.offset, isLimit: false) ?? 0
        wanted = try number(order.count, isLimit: true).map { $0.addingReportingOverflow(offset).partialValue }
        if order.index != nil {
            let isShort = wanted.map { $0 >= 0 && $0 <= Self.entryLimit } ?? false
            guard context.access?.readsOneTime == true, isShort || order.isLong else { return nil }
        }
    }

    /// Nil if no row can be meant.
    func begin(_ columns: [ColumnID], _ access: any RowAccess) throws(StatementError) -> (any RowCursor)? {
        let key = order.index?.columns ?? scan.collection.primaryKey
        let types = key.map { scan.collection.column($0)?.type ?? .unknown }
        let found = try KeyRanges(order.condition, types, isExact: false, context)
        guard let range = found.range else { return nil }
        let direction: ScanRequest.Order = order.isDescending ? .descending : .ascending
        let ranges = ranges(range)
        guard let index = order.index else {
            return try access.scan(
                ScanRequest(
                    collection: scan.collection, range: .ranges(ranges), columns: columns,
                    limit: wanted.map { max($0, 1) }, order: direction))
        }
        let entries = ScanRequest(
            collection: index.entries, range: .ranges(ranges), columns: [ColumnID(rawValue: EntryForm.ownerColumn)],
            limit: wanted.map { max($0, 1) }, order: direction)
        return try OrderedEntryCursor(access, index, scan.collection, columns, entries)
    }

    /// In the order in which they are read.
    private func ranges(_ range: ScanRequest.Range) -> [KeyRange] {
        let whole: KeyRange
        switch range {
        case .ranges(let ranges) where ranges.count == 1: whole = ranges[0]
        case .between(let from, let to): whole = KeyRange(from: from, to: to)
        case .all, .ranges, .keys: whole = KeyRange(from: [], to: nil)  // The filter is asked of all rows.
        }
        let values = KeyRange(from: whole.from + KeyForms.afterNull, to: whole.to)
        switch order.nulls {
        case .inOrder: return [whole]
        case .leftOut: return [values]
        case .apart:
            let nulls = KeyRange(from: whole.from, to: values.from)
            return order.isDescending ? [nulls, values] : [values, nulls]
        }
    }
}

/// Reads rows in the order of the entries of an index, all as of one time: entries of a page, then the rows that they
/// name.
///
/// An entry may be left of a row that has expired, and another row may have its key by now: a row counts where it has
/// the values of the entry, and nowhere else.
final class OrderedEntryCursor: RowCursor {
    /// Rows that are asked for at once.
    private static let page = 512

    private let access: any RowAccess
    private let collection: CollectionDescriptor
    private let columns: [ColumnID]
    private let decoder: RecordColumns
    private let types: [DataType]
    private let form: EntryForm
    private let entries: any RowCursor
    private var waiting: ArraySlice<(entry: Bytes, owner: Bytes)> = []
    /// Those whose rows are being read, and what has come of these.
    private var asked: ArraySlice<(entry: Bytes, owner: Bytes)> = []
    private var rows: (any RowCursor)?
    private var records: [Bytes: Bytes] = [:]

    init(
        _ access: any RowAccess, _ index: TableIndex, _ collection: CollectionDescriptor, _ columns: [ColumnID],
        _ request: ScanRequest
    ) throws(StatementError) {
        (self.access, self.collection) = (access, collection)
        self.columns = columns + index.columns.filter { !columns.contains($0) }
        decoder = RecordColumns(collection, index.columns, hasKey: false)
        types = index.columns.map { collection.column($0)?.type ?? .unknown }
        form = EntryForm(isUnique: index.isUnique, types: types)
        entries = try access.scan(request)
    }

    func next() throws(StatementError) -> RowStep {
        while true {
            if let rows {
                switch try rows.next() {
                case .rows(let page):
                    for (key, record) in zip(page.keys, page.records) { records[key] = record }
                case .waiting: return .waiting
                case .columns, .blocks: throw StatementError(.internalError, "rows of an index come as records")
                case .end:
                    self.rows = nil
                    let found = try inOrder()
                    if !found.keys.isEmpty { return .rows(found) }
                }
                continue
            }
            if !waiting.isEmpty {
                asked = waiting.prefix(Self.page)
                waiting = waiting.dropFirst(Self.page)
                rows = try access.scan(
                    ScanRequest(collection: collection, range: .keys(asked.map(\.owner)), columns: columns))
                continue
            }
            switch try entries.next() {
            case .rows(let page):
                var found: [(entry: Bytes, owner: Bytes)] = []
                for (key, record) in zip(page.keys, page.records) {
                    guard let record, let owner = EntryForm.owner(of: record) else {
                        throw StatementError(.dataCorrupted, "an entry of an index cannot be read")
                    }
                    found.append((key, owner))
                }
                waiting = found[...]
            case .waiting: return .waiting
            case .columns, .blocks: throw StatementError(.internalError, "entries of an index come as records")
            case .end: return .end
            }
        }
    }

    /// The rows that were read, in the order of the entries that were asked for.
    private func inOrder() throws(StatementError) -> StoredRows {
        var found = StoredRows(keys: [], records: [])
        for (entry, owner) in asked {
            guard let record = records[owner] else { continue }
            var values = [Value](repeating: .null, count: types.count)
            guard record.withUnsafeBytes({ decoder.read($0, into: &values, at: Array(types.indices)) }) else {
                throw StatementError(.dataCorrupted, "a stored row cannot be read")
            }
            guard form.key(values, owner: owner).bytes == entry else { continue }
            found.keys.append(owner)
            found.records.append(record)
        }
        records.removeAll(keepingCapacity: true)
        asked = []
        return found
    }
}
