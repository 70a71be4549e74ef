import Base
import DataModel

/// Goes over the rows of a table that is altered: looks whether they are what they must be, and writes them, or their
/// entries in new indexes, where they belong. A batch is written before the next is read; there is no result.
final class FillOperator: Operator {
    private let task: TableTask
    private let plan: FillPlan
    private let child: Operator
    private let access: any RowAccess
    private let places: [Int]
    private let keyPlace: Int
    private let checks: [(name: String, condition: Evaluator)]
    private let forms: [EntryForm]

    /// Changes of one collection; of an index, or of the rows themselves.
    private struct Write {
        let changes: [RowChange]
        let rows: [Int32]
        let index: Int?
    }

    private var batch: ColumnBatch?
    private var keys: [Bytes] = []
    private var writes: [Write] = []
    private var pending: (any RowWriting)?

    init(_ task: TableTask, _ plan: FillPlan, _ child: Operator, _ access: any RowAccess) throws(StatementError) {
        (self.task, self.plan, self.child, self.access) = (task, plan, child, access)
        places = try child.layout.places(of: plan.values)
        keyPlace = try child.layout.places(of: [plan.key])[0]
        var conditions: [(name: String, condition: Evaluator)] = []
        for (name, condition) in plan.checks {
            conditions.append((name, try Evaluator(condition, layout: child.layout)))
        }
        checks = conditions
        forms = plan.indexes.map { index in
            EntryForm(isUnique: index.isUnique, types: index.columns.map { task.target.columns[$0].type })
        }
        super.init(layout: Layout([]), types: [], context: child.context)
    }

    override func next() throws(StatementError) -> OperatorStep {
        while true {
            try context.checkCancelled()
            if let pending {
                guard let outcomes = try pending.outcomes() else { return .waiting }
                self.pending = nil
                try take(outcomes, of: writes.removeFirst())
            } else if let write = writes.first {
                if write.changes.isEmpty {
                    writes.removeFirst()
                    continue
                }
                let collection = write.index.map { plan.indexes[$0].entries } ?? task.target
                pending = try access.write(write.changes, to: collection)
            } else {
                switch try child.next() {
                case .batch(let batch): try begin(batch)
                case .waiting: return .waiting
                case .end: return .end
                }
            }
        }
    }

    private func begin(_ batch: ColumnBatch) throws(StatementError) {
        if let refusal = task.mustBeEmpty { throw StatementError(.featureNotSupported, refusal) }
        self.batch = batch
        try check(batch)
        guard task.writes else { return }
        keys = (0..<batch.count).map { key(batch, $0) }
        context.rowsChanged += batch.count
        if task.isCopy {
            let changes = keys.enumerated().map { row, key in
                RowChange(mode: .insert, key: key, record: record(batch, row))
            }
            writes.append(Write(changes: changes, rows: Array(0..<Int32(batch.count)), index: nil))
        }
        for (index, form) in forms.enumerated() {
            let steps = (0..<batch.count).map { row in
                let values = plan.indexes[index].columns.map { batch.columns[places[$0]].value(at: row) }
                return EntryChanges.Step(
                    row: Int32(row), old: nil, fresh: form.key(values, owner: keys[row]), owner: keys[row],
                    isMoved: false)
            }
            let entries = EntryChanges(steps)
            if let row = entries.violation { throw duplicate(Int(row), index) }
            writes.append(Write(changes: entries.changes, rows: entries.rows, index: index))
        }
    }

    /// Rows without a primary key keep the key they have.
    private func key(_ batch: ColumnBatch, _ row: Int) -> Bytes {
        guard task.isCopy, !task.target.primaryKey.isEmpty else {
            guard case .bytes(let key) = batch.columns[keyPlace].value(at: row) else { return [] }
            return key
        }
        let columns = primaryKey
        return KeyForms.encode(
            columns.map { batch.columns[places[$0]].value(at: row) }, columns.map { task.target.columns[$0].type })
    }

    private var primaryKey: [Int] {
        task.target.primaryKey.compactMap { id in task.target.columns.firstIndex { $0.id == id } }
    }

    private func record(_ batch: ColumnBatch, _ row: Int) -> Bytes {
        var fields: [(column: UInt32, value: Value)] = []
        for (column, place) in zip(task.target.columns, places) {
            let value = batch.columns[place].value(at: row)
            if !value.isNull { fields.append((UInt32(column.id.rawValue), value)) }
        }
        return RecordEncoding.encode(fields.sorted { $0.column < $1.column })
    }

    private func check(_ batch: ColumnBatch) throws(StatementError) {
        let target = task.target
        for (index, column) in target.columns.enumerated() where task.notNull.contains(column.id) {
            let values = batch.columns[places[index]]
            guard (0..<batch.count).contains(where: { values.isNull(at: $0) }) else { continue }
            throw StatementError(
                .notNullViolation, "column \"\(column.name)\" of relation \"\(target.name)\" contains null values",
                schema: plan.schema, table: target.name, column: column.name)
        }
        for (name, condition) in checks {
            let column = try condition.evaluate(batch, context)
            guard case .booleans(let flags) = column.storage else { continue }
            guard (0..<batch.count).contains(where: { !flags[$0] && !column.isNull(at: $0) }) else { continue }
            throw StatementError(
                .checkViolation, "check constraint \"\(name)\" of relation \"\(target.name)\" is violated by some row",
                schema: plan.schema, table: target.name, constraint: name)
        }
    }

    private func take(_ outcomes: [RowOutcome], of write: Write) throws(StatementError) {
        for (place, outcome) in outcomes.enumerated() {
            if case .exists = outcome { throw duplicate(Int(write.rows[place]), write.index) }
        }
    }

    private func duplicate(_ row: Int, _ index: Int?) -> StatementError {
        let columns = index.map { plan.indexes[$0].columns } ?? primaryKey
        let name = index.map { plan.indexes[$0].name } ?? task.target.primaryKeyName
        let names = columns.map { task.target.columns[$0].name }.joined(separator: ", ")
        let values = columns.map { place in
            let value = batch?.columns[places[place]].value(at: row) ?? .null
            return value.isNull ? "null" : TextForms.text(value, task.target.columns[place].type, context.settings)
        }
        return StatementError(
            .uniqueViolation, "could not create unique index \"\(name)\"",
            detail: "Key (\(names))=(\(values.joined(separator: ", "))) is duplicated.", schema: plan.schema,
            table: task.target.name, constraint: name)
    }
}
