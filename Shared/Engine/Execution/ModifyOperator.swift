import Base
import DataModel

/// INSERT, UPDATE, DELETE. All rows of the child are read before the first is written, so that a statement never sees
/// what it does itself.
final class ModifyOperator: Operator {
    private let plan: ModifyPlan
    private let child: Operator
    private let access: any RowAccess
    private let valuePlaces: [Int]
    private let oldPlaces: [Int]
    private let checks: [(name: String, condition: Evaluator)]
    private let returning: [Evaluator]
    private let conflict: [Evaluator]
    private let conflictCondition: Evaluator?

    private var gathering: Gathering
    private var rows: ColumnBatch?
    private var drawn: [[Int64]] = []
    private var position = 0
    private var current: Piece?
    /// Keys that this statement has written, for ON CONFLICT and for joins that meet a row twice.
    private var written = KeyTable()

    /// Rows that are written together, and how far they are.
    private struct Piece {
        var batch: ColumnBatch
        /// Rows of the batch that count; others were left out.
        var rows: [Int32]
        var writes: [Write]
        var isPrepared = false
        var pending: (any RowWriting)?
    }

    /// Changes of one collection; `isFirst` are the rows themselves, whose outcomes decide.
    private struct Write {
        let collection: CollectionDescriptor
        let changes: [RowChange]
        /// Rows of the batch, one for each change.
        let rows: [Int32]
        /// Of the entries of a unique index: its name and columns.
        let index: ModifyPlan.UniqueIndex?
        let isOverConflict: Bool
    }

    init(_ plan: ModifyPlan, _ child: Operator) throws(StatementError) {
        guard let access = child.context.access else {
            throw StatementError(.internalError, "rows are written where there are none")
        }
        (self.plan, self.child, self.access) = (plan, child, access)
        valuePlaces = try child.layout.places(of: plan.values)
        var evaluators: [(name: String, condition: Evaluator)] = []
        for (name, condition) in plan.checks {
            evaluators.append((name, try Evaluator(condition, layout: child.layout)))
        }
        checks = evaluators
        var returned: [Evaluator] = []
        for projection in plan.returning { returned.append(try Evaluator(projection.expression, layout: child.layout)) }
        returning = returned
        var values: [Evaluator] = [], condition: Evaluator?
        if case .insert(.update(let expressions, let filter)) = plan.action {
            let layout = Layout(child.layout.attributes + plan.old.map(\.attribute))
            for expression in expressions { values.append(try Evaluator(expression, layout: layout)) }
            if let filter { condition = try Evaluator(filter, layout: layout) }
            oldPlaces = []
        } else if case .insert = plan.action {
            oldPlaces = []
        } else {
            oldPlaces = try child.layout.places(of: plan.old.map(\.attribute))
        }
        (conflict, conflictCondition) = (values, condition)
        gathering = Gathering(child.types)
        super.init(
            layout: Layout(plan.outputs.map(\.attribute)), types: plan.outputs.map(\.type), context: child.context)
    }

    override func next() throws(StatementError) -> OperatorStep {
        if rows == nil {
            guard let all = try gathering.run(child, context) else { return .waiting }
            rows = all
        }
        while let all = rows {
            try context.checkCancelled()
            if current == nil {
                guard position < all.count else { return .end }
                let end = min(position + ColumnBatch.rows, all.count)
                let batch = all.slice(position..<end)
                current = Piece(batch: batch, rows: Array(0..<Int32(batch.count)), writes: [])
                position = end
            }
            guard try advance() else { return .waiting }
            guard let piece = current else { continue }
            current = nil
            context.rowsChanged += piece.rows.count
            guard !returning.isEmpty, !piece.rows.isEmpty else { continue }
            let source = piece.rows.count == piece.batch.count ? piece.batch : piece.batch.gathered(piece.rows)
            var columns: [Column] = []
            for evaluator in returning { columns.append(try evaluator.evaluate(source, context)) }
            return .batch(ColumnBatch(columns, count: source.count))
        }
        return .end
    }

    /// Takes the piece to its end; false while something waits.
    private func advance() throws(StatementError) -> Bool {
        guard var piece = current else { return true }
        if !piece.isPrepared {
            guard try draw(&piece) else { return false }
            try check(piece.batch, piece.rows)
            try prepare(&piece)
            piece.isPrepared = true
        }
        while true {
            if let pending = piece.pending {
                guard let outcomes = try pending.outcomes() else {
                    current = piece
                    return false
                }
                piece.pending = nil
                let write = piece.writes.removeFirst()
                try take(outcomes, of: write, &piece)
            }
            guard let write = piece.writes.first else {
                current = piece
                return true
            }
            if write.changes.isEmpty {
                piece.writes.removeFirst()
            } else {
                piece.pending = try access.write(write.changes, to: write.collection)
            }
        }
    }

    // MARK: Preparation

    /// Numbers of sequences into the columns that want them; false while they are not there.
    private func draw(_ piece: inout Piece) throws(StatementError) -> Bool {
        while drawn.count < plan.draws.count {
            let draw = plan.draws[drawn.count]
            let count = try drawRows(draw, piece.batch).count
            if count == 0 {
                drawn.append([])
                continue
            }
            guard let numbers = try access.draw(count, from: draw.sequence) else { return false }
            guard numbers.count == count else {
                throw StatementError(.internalError, "a sequence gave another count of numbers than was asked for")
            }
            drawn.append(numbers)
        }
        for (draw, numbers) in zip(plan.draws, drawn) where !numbers.isEmpty {
            let place = try child.layout.places(of: [draw.value])[0]
            let targets = try drawRows(draw, piece.batch)
            let old = piece.batch.columns[place]
            var values = (0..<piece.batch.count).map { old.value(at: $0) }
            for (row, number) in zip(targets, numbers) {
                guard Casts.range(of: old.type.kind).contains(number) else { throw Casts.outOfRange(old.type.kind) }
                values[Int(row)] = .integer(number)
            }
            piece.batch = Self.replacing(piece.batch, place, with: values)
        }
        drawn = []
        return true
    }

    private func drawRows(_ draw: ModifyPlan.Draw, _ batch: ColumnBatch) throws(StatementError) -> [Int32] {
        guard let flag = draw.flag else { return Array(0..<Int32(batch.count)) }
        let column = batch.columns[try child.layout.places(of: [flag])[0]]
        guard case .booleans(let flags) = column.storage else { return [] }
        return (0..<Int32(batch.count)).filter { flags[Int($0)] }
    }

    private static func replacing(_ batch: ColumnBatch, _ place: Int, with values: [Value]) -> ColumnBatch {
        var columns = batch.columns
        var builder = ColumnBuilder(columns[place].type)
        for value in values { builder.append(value) }
        columns[place] = builder.finish()
        return ColumnBatch(columns, count: batch.count)
    }

    /// NOT NULL and CHECK.
    private func check(_ batch: ColumnBatch, _ rows: [Int32]) throws(StatementError) {
        if case .delete = plan.action { return }
        let collection = plan.collection
        for (index, column) in collection.columns.enumerated()
        where column.isNotNull || collection.primaryKey.contains(column.id) {
            let values = batch.columns[valuePlaces[index]]
            guard values.validity != nil else { continue }
            for row in rows where values.isNull(at: Int(row)) {
                var error = StatementError(
                    .notNullViolation,
                    "null value in column \"\(column.name)\" of relation \"\(collection.name)\" violates not-null "
                        + "constraint", detail: failing(batch, Int(row)))
                (error.table, error.column) = (collection.name, column.name)
                throw error
            }
        }
        for (name, condition) in checks {
            let column = try condition.evaluate(batch, context)
            guard case .booleans(let flags) = column.storage else { continue }
            for row in rows where !flags[Int(row)] && !column.isNull(at: Int(row)) {
                var error = StatementError(
                    .checkViolation,
                    "new row for relation \"\(collection.name)\" violates check constraint \"\(name)\"",
                    detail: failing(batch, Int(row)))
                (error.table, error.constraint) = (collection.name, name)
                throw error
            }
        }
    }

    private func failing(_ batch: ColumnBatch, _ row: Int) -> String {
        let values = zip(plan.collection.columns, valuePlaces).map { column, place in
            let value = batch.columns[place].value(at: row)
            return value.isNull ? "null" : TextForms.text(value, column.type, context.settings)
        }
        return "Failing row contains (\(values.joined(separator: ", ")))."
    }

    private func primaryKey(_ batch: ColumnBatch, _ places: [Int], _ row: Int) -> Bytes {
        var values: [Value] = [], types: [DataType] = []
        for id in plan.collection.primaryKey {
            guard let index = plan.collection.columns.firstIndex(where: { $0.id == id }) else { continue }
            values.append(batch.columns[places[index]].value(at: row))
            types.append(plan.collection.columns[index].type)
        }
        return KeyForms.encode(values, types)
    }

    private func record(_ batch: ColumnBatch, _ places: [Int], _ row: Int) -> Bytes {
        var fields: [(column: UInt32, value: Value)] = []
        for (column, place) in zip(plan.collection.columns, places) {
            let value = batch.columns[place].value(at: row)
            if !value.isNull { fields.append((UInt32(column.id.rawValue), value)) }
        }
        return RecordEncoding.encode(fields.sorted { $0.column < $1.column })
    }

    private func prepare(_ piece: inout Piece) throws(StatementError) {
        var changes: [RowChange] = [], rows: [Int32] = []
        switch plan.action {
        case .insert:
            let keys = try newKeys(piece.batch)
            for row in piece.rows {
                changes.append(
                    RowChange(
                        mode: .insert, key: keys[Int(row)], record: record(piece.batch, valuePlaces, Int(row))))
                rows.append(row)
            }
        case .update(let key), .delete(let key):
            let column = piece.batch.columns[try child.layout.places(of: [key])[0]]
            var kept: [Int32] = []
            for row in piece.rows {
                guard case .bytes(let old) = column.value(at: Int(row)) else { continue }
                // A join may meet a row several times: only the first counts.
                guard old.withUnsafeBytes({ written.insert($0).isNew }) else { continue }
                kept.append(row)
                if case .delete = plan.action {
                    changes.append(RowChange(mode: .delete, key: old, record: []))
                    rows.append(row)
                    continue
                }
                let fresh =
                    plan.collection.primaryKey.isEmpty ? old : primaryKey(piece.batch, valuePlaces, Int(row))
                let encoded = record(piece.batch, valuePlaces, Int(row))
                if fresh != old { changes.append(RowChange(mode: .delete, key: old, record: [])) }
                if fresh != old { rows.append(row) }
                changes.append(RowChange(mode: fresh == old ? .update : .insert, key: fresh, record: encoded))
                rows.append(row)
            }
            piece.rows = kept
        }
        piece.writes = [
            Write(collection: plan.collection, changes: changes, rows: rows, index: nil, isOverConflict: false)
        ]
        for index in plan.indexes { piece.writes.append(entries(index, piece)) }
    }

    /// Keys of rows to be inserted; a table without a primary key has numbers that nobody sees.
    private func newKeys(_ batch: ColumnBatch) throws(StatementError) -> [Bytes] {
        guard plan.collection.primaryKey.isEmpty else {
            return (0..<batch.count).map { primaryKey(batch, valuePlaces, $0) }
        }
        return (0..<batch.count).map { _ in
            // 63 bits of chance: two alike would be refused, not overwritten.
            KeyForms.encode([.integer(Int64(context.settings.random() >> 1))], [.int64])
        }
    }

    /// What a write of rows means for the entries of a unique index: key is the indexed values, and column 1 of the
    /// record the primary key of the row. Rows with a NULL among them have no entry.
    private func entries(_ index: ModifyPlan.UniqueIndex, _ piece: Piece) -> Write {
        func key(_ places: [Int], _ row: Int) -> Bytes? {
            let values = index.columns.map { piece.batch.columns[places[$0]].value(at: row) }
            if values.contains(where: \.isNull) { return nil }
            return KeyForms.encode(values, index.columns.map { plan.collection.columns[$0].type })
        }
        var changes: [RowChange] = [], rows: [Int32] = []
        var isInsert = false, isDelete = false
        switch plan.action {
        case .insert: isInsert = true
        case .update: (isInsert, isDelete) = (true, true)
        case .delete: isDelete = true
        }
        for row in piece.rows {
            let old = isDelete ? key(oldPlaces, Int(row)) : nil
            let fresh = isInsert ? key(valuePlaces, Int(row)) : nil
            let owner = isInsert ? primaryKey(piece.batch, valuePlaces, Int(row)) : []
            let isMoved = isDelete && isInsert && primaryKey(piece.batch, oldPlaces, Int(row)) != owner
            if old == fresh, !isMoved { continue }
            if let old {
                changes.append(RowChange(mode: .delete, key: old, record: []))
                rows.append(row)
            }
            if let fresh {
                let entry = RecordEncoding.encode([(1, .bytes(owner))])
                changes.append(RowChange(mode: .insert, key: fresh, record: entry))
                rows.append(row)
            }
        }
        return Write(collection: index.entries, changes: changes, rows: rows, index: index, isOverConflict: false)
    }

    // MARK: Outcomes

    private func take(_ outcomes: [RowOutcome], of write: Write, _ piece: inout Piece) throws(StatementError) {
        guard outcomes.count == write.changes.count else {
            throw StatementError(.internalError, "a write has another count of outcomes than of changes")
        }
        var gone: Set<Int32> = [], conflicts: [(row: Int32, record: Bytes)] = []
        for (place, outcome) in outcomes.enumerated() {
            let row = write.rows[place]
            switch outcome {
            case .done: break
            case .absent: if write.index == nil { gone.insert(row) }
            case .exists(let record):
                guard write.index == nil, case .insert(let action) = plan.action else {
                    throw duplicate(piece.batch, Int(row), write.index)
                }
                switch action {
                case .fail: throw duplicate(piece.batch, Int(row), nil)
                case .nothing: gone.insert(row)
                case .update: conflicts.append((row, record))
                }
            }
        }
        if case .insert(.update) = plan.action, !write.isOverConflict {
            let met = Set(conflicts.map(\.row))
            for (place, row) in write.rows.enumerated() where !met.contains(row) {
                write.changes[place].key.withUnsafeBytes { _ = written.insert($0) }
            }
            try update(conflicts, &piece, &gone)
        }
        if !gone.isEmpty { piece.rows.removeAll { gone.contains($0) } }
    }

    private func duplicate(_ batch: ColumnBatch, _ row: Int, _ index: ModifyPlan.UniqueIndex?) -> StatementError {
        let collection = plan.collection
        let places =
            index?.columns
            ?? collection.primaryKey.compactMap { id in collection.columns.firstIndex { $0.id == id } }
        let names = places.map { collection.columns[$0].name }.joined(separator: ", ")
        let values = places.map { place in
            TextForms.text(
                batch.columns[valuePlaces[place]].value(at: row), collection.columns[place].type, context.settings)
        }.joined(separator: ", ")
        let name = index?.name ?? collection.primaryKeyName
        var error = StatementError(
            .uniqueViolation, "duplicate key value violates unique constraint \"\(name)\"",
            detail: "Key (\(names))=(\(values)) already exists.")
        (error.table, error.constraint) = (collection.name, name)
        return error
    }

    /// ON CONFLICT DO UPDATE of the rows that are there.
    private func update(
        _ conflicts: [(row: Int32, record: Bytes)], _ piece: inout Piece, _ gone: inout Set<Int32>
    ) throws(StatementError) {
        guard !conflicts.isEmpty else { return }
        let decoder = RecordColumns(plan.collection, plan.collection.columns.map(\.id), hasKey: false)
        let existing = try decoder.decode(
            StoredRows(keys: [], records: conflicts.map(\.record)), plan.old.map(\.type))
        let mine = piece.batch.gathered(conflicts.map(\.row))
        let both = ColumnBatch(mine.columns + existing.columns, count: mine.count)
        let chosen = try conflictCondition?.select(both, context) ?? Array(0..<Int32(both.count))
        let isChosen = Set(chosen)
        for (place, conflict) in conflicts.enumerated() where !isChosen.contains(Int32(place)) {
            gone.insert(conflict.row)
        }
        guard !chosen.isEmpty else { return }
        let source = chosen.count == both.count ? both : both.gathered(chosen)
        var columns: [[Value]] = valuePlaces.map { place in
            (0..<piece.batch.count).map { piece.batch.columns[place].value(at: $0) }
        }
        for (index, evaluator) in conflict.enumerated() {
            let column = try evaluator.evaluate(source, context)
            for (place, chosen) in chosen.enumerated() {
                columns[index][Int(conflicts[Int(chosen)].row)] = column.value(at: place)
            }
        }
        for (index, place) in valuePlaces.enumerated() {
            piece.batch = Self.replacing(piece.batch, place, with: columns[index])
        }
        let rows = chosen.map { conflicts[Int($0)].row }
        try check(piece.batch, rows)
        var changes: [RowChange] = []
        for row in rows {
            let key = primaryKey(piece.batch, valuePlaces, Int(row))
            guard key.withUnsafeBytes({ written.insert($0).isNew }) else {
                throw StatementError(
                    .cardinalityViolation, "ON CONFLICT DO UPDATE command cannot affect row a second time",
                    hint: "Ensure that no rows proposed for insertion within the same command have duplicate "
                        + "constrained values.")
            }
            changes.append(
                RowChange(mode: .upsert, key: key, record: record(piece.batch, valuePlaces, Int(row))))
        }
        piece.writes.insert(
            Write(collection: plan.collection, changes: changes, rows: rows, index: nil, isOverConflict: true), at: 0)
    }
}
