import Base
import DataModel

/// Locks the rows that come, and gives them on as they are then: FOR UPDATE, and what UPDATE and DELETE do first.
///
/// Rows were read before they were locked, so each is read again under its lock. One that is gone, or does not meet the
/// condition any more, is left out; of columns that were computed from subqueries, the values are those of before.
final class LockOperator: Operator {
    private let child: Operator
    private let access: any RowAccess
    private let relations: [Relation]
    private let condition: Evaluator?
    private let limits: [Evaluator]
    /// How many rows are still wanted; nil: all of them.
    private var wanted: Int?
    private var isWantedKnown = false
    private var batch: ColumnBatch?
    private var position = 0
    /// Rows that are being locked, and the relation that is at it.
    private var piece: ColumnBatch?
    private var current = 0
    private var cursor: (any RowCursor)?
    private var found: [Bytes: Bytes] = [:]

    private struct Relation {
        let plan: LockPlan.Relation
        let keyPlace: Int
        let places: [Int]
        let types: [DataType]
        let decoder: RecordColumns
    }

    init(_ plan: LockPlan, _ child: Operator) throws(StatementError) {
        guard let access = child.context.access else {
            throw StatementError(.internalError, "rows are locked where there are none")
        }
        var relations: [Relation] = [], limits: [Evaluator] = []
        for relation in plan.relations {
            relations.append(
                Relation(
                    plan: relation, keyPlace: try child.layout.places(of: [relation.key])[0],
                    places: try child.layout.places(of: relation.outputs.map(\.attribute)),
                    types: relation.outputs.map(\.type),
                    decoder: RecordColumns(
                        relation.collection, relation.outputs.compactMap(\.column), hasKey: false)))
        }
        for limit in plan.limits { limits.append(try Evaluator(limit, layout: Layout([]))) }
        condition = if let test = plan.condition { try Evaluator(test, layout: child.layout) } else { nil }
        (self.child, self.access, self.relations, self.limits) = (child, access, relations, limits)
        super.init(layout: child.layout, types: child.types, context: child.context)
    }

    override func next() throws(StatementError) -> OperatorStep {
        if !isWantedKnown { try countWanted() }
        while true {
            try context.checkCancelled()
            if let rows = piece {
                guard let locked = try lock(rows) else { return .waiting }
                piece = nil
                guard let kept = try recheck(locked) else { continue }
                wanted = wanted.map { max($0 - kept.count, 0) }
                return .batch(kept)
            }
            if let batch, position < batch.count {
                let end = position + min(max(wanted ?? batch.count, 1), batch.count - position)
                piece = batch.slice(position..<end)
                (position, current) = (end, 0)
                continue
            }
            let step = try child.next()
            guard case .batch(let fresh) = step else { return step }
            (batch, position) = (fresh, 0)
        }
    }

    private func countWanted() throws(StatementError) {
        isWantedKnown = true
        var sum = 0
        for limit in limits {
            // A limit that is wrong is the limit's to tell.
            guard case .integer(let number) = try limit.value(context), number >= 0 else { return }
            sum = Int(clamping: Int64(sum).addingReportingOverflow(number).overflow ? .max : Int64(sum) + number)
        }
        wanted = limits.isEmpty ? nil : sum
    }

    /// The rows as they are under the locks of all relations; nil while a lock is waited for.
    private func lock(_ rows: ColumnBatch) throws(StatementError) -> ColumnBatch? {
        var rows = rows
        while current < relations.count {
            let relation = relations[current]
            if cursor == nil { cursor = try access.lock(request(relation, rows)) }
            guard try gather(relation) else { return nil }
            rows = try replaced(rows, relation)
            piece = rows
            (cursor, found) = (nil, [:])
            current += 1
        }
        return rows
    }

    private func request(_ relation: Relation, _ rows: ColumnBatch) -> LockRequest {
        var keys: [Bytes] = [], seen: Set<Bytes> = []
        for row in 0..<rows.count {
            guard case .bytes(let key) = rows.columns[relation.keyPlace].value(at: row) else { continue }
            if seen.insert(key).inserted { keys.append(key) }
        }
        return LockRequest(
            collection: relation.plan.collection, keys: keys, isExclusive: relation.plan.isExclusive,
            wait: relation.plan.wait)
    }

    private func gather(_ relation: Relation) throws(StatementError) -> Bool {
        guard let cursor else { return true }
        do throws(StatementError) {
            while true {
                switch try cursor.next() {
                case .waiting: return false
                case .end: return true
                case .columns, .blocks: throw StatementError(.internalError, "locked rows came as columns")
                case .rows(let rows):
                    for (key, record) in zip(rows.keys, rows.records) { found[key] = record }
                }
            }
        } catch {
            guard error.state == .lockNotAvailable, relation.plan.wait == .noWait else { throw error }
            throw StatementError(
                .lockNotAvailable, "could not obtain lock on row in relation \"\(relation.plan.collection.name)\"")
        }
    }

    private func replaced(_ rows: ColumnBatch, _ relation: Relation) throws(StatementError) -> ColumnBatch {
        var kept: [Int32] = [], fresh = StoredRows(keys: [], records: [])
        for row in 0..<rows.count {
            guard case .bytes(let key) = rows.columns[relation.keyPlace].value(at: row), let record = found[key] else {
                continue
            }
            kept.append(Int32(row))
            fresh.keys.append(key)
            fresh.records.append(record)
        }
        let decoded = try relation.decoder.decode(fresh, relation.types)
        var columns = (kept.count == rows.count ? rows : rows.gathered(kept)).columns
        for (place, column) in zip(relation.places, decoded.columns) { columns[place] = column }
        return ColumnBatch(columns, count: kept.count)
    }

    private func recheck(_ rows: ColumnBatch) throws(StatementError) -> ColumnBatch? {
        guard rows.count > 0 else { return nil }
        guard let condition else { return rows }
        let chosen = try condition.select(rows, context)
        if chosen.count == rows.count { return rows }
        return chosen.isEmpty ? nil : rows.gathered(chosen)
    }

    override func restart() throws(StatementError) {
        (batch, position, piece, cursor, found) = (nil, 0, nil, nil, [:])
        isWantedKnown = false
        try child.restart()
    }
}
