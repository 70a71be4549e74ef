import Base
import DataModel

// The steps of a piece. Rows come before their entries, except where a conflict with an entry is not an error: then
// what may be in the way comes first.

extension ModifyOperator {
    // MARK: Preparation

    func prepare(_ piece: inout Piece) throws(StatementError) {
        switch plan.action {
        case .insert(let action):
            piece.keys = try newKeys(piece.batch)
            let all = [Target.rows] + plan.indexes.indices.map(Target.entries)
            guard action.isFail else {
                if let count = distinctRows(piece) { postpone(from: count, &piece) }
                let first = all.filter { plan.arbiters.contains($0) }
                piece.steps = (first + all.filter { !plan.arbiters.contains($0) }).map(Step.insert)
                return
            }
            piece.steps = all.map(Step.insert)
        case .update(let key): try prepareChange(of: key, isDelete: false, &piece)
        case .delete(let key): try prepareChange(of: key, isDelete: true, &piece)
        }
    }

    /// How many rows come before the first that would be in conflict with one of them; nil if none is.
    private func distinctRows(_ piece: Piece) -> Int? {
        var seen: [Set<Bytes>] = plan.arbiters.map { _ in [] }
        for row in 0..<piece.batch.count {
            for (place, arbiter) in plan.arbiters.enumerated() {
                let key: Bytes
                switch arbiter {
                case .rows: key = piece.keys[row]
                case .entries(let index):
                    let entry = self.entry(index, piece.batch, valuePlaces, row, owner: piece.keys[row])
                    guard entry.isExclusive else { continue }
                    key = entry.bytes
                }
                if !seen[place].insert(key).inserted { return row }
            }
        }
        return nil
    }

    private func prepareChange(of key: Attribute, isDelete: Bool, _ piece: inout Piece) throws(StatementError) {
        let column = piece.batch.columns[try child.layout.places(of: [key])[0]]
        var kept: [Int32] = [], keys: [Bytes] = [], fresh: [Bytes] = []
        let isKeyed = !plan.collection.primaryKey.isEmpty
        for row in piece.rows {
            guard case .bytes(let old) = column.value(at: Int(row)) else { continue }
            // A join may meet a row several times: only the first counts.
            guard old.withUnsafeBytes({ written.insert($0).isNew }) else { continue }
            kept.append(row)
            keys.append(old)
            fresh.append(isDelete || !isKeyed ? old : primaryKey(piece.batch, valuePlaces, Int(row)))
        }
        piece.rows = kept
        func version(_ places: [Int]) -> ColumnBatch {
            ColumnBatch(places.map { piece.batch.columns[$0] }, count: piece.batch.count).gathered(kept)
        }
        let isIndexed = !plan.indexes.isEmpty
        let change = ChangedRows(
            rows: kept, keys: keys, freshKeys: fresh, old: isIndexed ? version(oldPlaces) : nil,
            fresh: isIndexed && !isDelete ? version(valuePlaces) : nil, isDelete: isDelete)
        piece.steps = [.change(change)] + plan.indexes.indices.map { .changeEntries($0, change) }
    }

    private func entry(_ index: Int, _ batch: ColumnBatch, _ places: [Int], _ row: Int, owner: Bytes) -> EntryForm.Key {
        let values = plan.indexes[index].columns.map { batch.columns[places[$0]].value(at: row) }
        return forms[index].key(values, owner: owner)
    }

    /// Of a version of changed rows, whose columns are those of the collection.
    private func entry(_ index: Int, _ version: ColumnBatch, _ row: Int, owner: Bytes) -> EntryForm.Key {
        let values = plan.indexes[index].columns.map { version.columns[$0].value(at: row) }
        return forms[index].key(values, owner: owner)
    }

    // MARK: Steps

    func begin(_ step: Step, _ piece: inout Piece) throws(StatementError) {
        switch step {
        case .insert(.rows):
            let changes = piece.rows.map { row in
                RowChange(
                    mode: .insert, key: piece.keys[Int(row)], record: record(piece.batch, valuePlaces, Int(row)))
            }
            try send(Write(target: .rows, changes: changes, rows: piece.rows, isInsert: true), &piece)
        case .insert(.entries(let index)):
            let steps = piece.rows.map { row in
                let owner = piece.keys[Int(row)]
                return EntryChanges.Step(
                    row: row, old: nil, fresh: entry(index, piece.batch, valuePlaces, Int(row), owner: owner),
                    owner: owner, isMoved: false)
            }
            try send(EntryChanges(steps), index, isInsert: true, &piece)
        case .change(let change): try send(writes(of: change, piece), &piece)
        case .changeEntries(let index, let change):
            let left = Set(piece.rows).union(piece.updated)
            var steps: [EntryChanges.Step] = []
            for (place, row) in change.rows.enumerated() where left.contains(row) {
                let (key, freshKey) = (change.keys[place], change.freshKeys[place])
                steps.append(
                    EntryChanges.Step(
                        row: row, old: change.old.map { entry(index, $0, place, owner: key) },
                        fresh: change.fresh.map { entry(index, $0, place, owner: freshKey) }, owner: freshKey,
                        isMoved: key != freshKey))
            }
            try send(EntryChanges(steps), index, isInsert: false, &piece)
        case .update: try update(&piece)
        case .write(let write): try send(write, &piece)
        }
    }

    private func writes(of change: ChangedRows, _ piece: Piece) -> Write {
        var changes: [RowChange] = [], rows: [Int32] = []
        for (place, row) in change.rows.enumerated() {
            let (old, fresh) = (change.keys[place], change.freshKeys[place])
            if change.isDelete || fresh != old {
                changes.append(RowChange(mode: .delete, key: old, record: []))
                rows.append(row)
            }
            if change.isDelete { continue }
            let encoded = record(piece.batch, valuePlaces, Int(row))
            changes.append(RowChange(mode: fresh == old ? .update : .insert, key: fresh, record: encoded))
            rows.append(row)
        }
        return Write(target: .rows, changes: changes, rows: rows, isInsert: false)
    }

    private func send(_ entries: EntryChanges, _ index: Int, isInsert: Bool, _ piece: inout Piece)
        throws(StatementError)
    {
        if let row = entries.violation { throw duplicate(piece.batch, Int(row), .entries(index)) }
        let write = Write(
            target: .entries(index), changes: entries.changes, rows: entries.rows, isInsert: isInsert)
        try send(write, &piece)
    }

    private func send(_ write: Write, _ piece: inout Piece) throws(StatementError) {
        guard !write.changes.isEmpty else { return }
        let collection: CollectionDescriptor
        switch write.target {
        case .rows: collection = plan.collection
        case .entries(let index): collection = plan.indexes[index].entries
        }
        piece.pending = .write(write, try access.write(write.changes, to: collection))
    }

    // MARK: Outcomes

    /// False while it waits.
    func settle(_ pending: Pending, _ piece: inout Piece) throws(StatementError) -> Bool {
        switch pending {
        case .write(let write, let writing):
            guard let outcomes = try writing.outcomes() else { return false }
            piece.pending = nil
            guard outcomes.count == write.changes.count else {
                throw StatementError(.internalError, "a write has another count of outcomes than of changes")
            }
            if write.isRepair { return true }
            switch write.target {
            case .rows: try take(outcomes, of: write, &piece)
            case .entries(let index): try take(outcomes, of: write, index, &piece)
            }
            return true
        case .owners(var read, let cursor):
            while true {
                switch try cursor.next() {
                case .waiting:
                    piece.pending = .owners(read, cursor)
                    return false
                case .rows(let rows):
                    for (key, record) in zip(rows.keys, rows.records) { read.found[key] = record }
                case .columns, .blocks:
                    throw StatementError(.internalError, "a row was asked for by its key, not columns")
                case .end:
                    piece.pending = nil
                    try take(read, &piece)
                    return true
                }
            }
        }
    }

    private func take(_ outcomes: [RowOutcome], of write: Write, _ piece: inout Piece) throws(StatementError) {
        var gone: Set<Int32> = [], conflicts: [Conflict] = []
        for (place, outcome) in outcomes.enumerated() {
            let row = write.rows[place]
            switch outcome {
            case .done: break
            case .absent: gone.insert(row)
            case .exists(let record):
                guard write.isInsert, plan.arbiters.contains(.rows) else {
                    throw duplicate(piece.batch, Int(row), .rows)
                }
                conflicts.append(Conflict(row: row, key: piece.keys[Int(row)], record: record))
            }
        }
        if !gone.isEmpty {
            piece.rows.removeAll { gone.contains($0) }
            piece.updated.removeAll { gone.contains($0) }
        }
        guard write.isInsert else { return }
        meet(conflicts, at: .rows, &piece)
        guard case .insert(.update) = plan.action else { return }
        for row in piece.rows { piece.keys[Int(row)].withUnsafeBytes { _ = written.insert($0) } }
    }

    /// Entries that are in the way may be those of rows that are not there any more.
    private func take(_ outcomes: [RowOutcome], of write: Write, _ index: Int, _ piece: inout Piece)
        throws(StatementError)
    {
        var suspects: [OwnerRead.Suspect] = []
        for (place, outcome) in outcomes.enumerated() {
            guard case .exists(let record) = outcome else { continue }
            guard let owner = EntryForm.owner(of: record) else {
                throw StatementError(.dataCorrupted, "an entry of an index cannot be read")
            }
            suspects.append(OwnerRead.Suspect(row: write.rows[place], wanted: write.changes[place], owner: owner))
        }
        guard !suspects.isEmpty else {
            if write.isInsert { piece.done.append(.entries(index)) }
            return
        }
        let owners = Array(Set(suspects.map(\.owner)))
        // The entry is locked, so the row cannot lose its value meanwhile; it is locked too if it will be written.
        let isUpdate = write.isInsert && plan.arbiters.contains(.entries(index)) && !conflict.isEmpty
        let cursor =
            isUpdate
            ? try access.lock(LockRequest(collection: plan.collection, keys: owners, isExclusive: true, wait: .wait))
            : try access.scan(
                ScanRequest(
                    collection: plan.collection, range: .keys(owners), columns: plan.collection.columns.map(\.id)))
        piece.pending = .owners(OwnerRead(index: index, isInsert: write.isInsert, suspects: suspects), cursor)
    }

    private func take(_ read: OwnerRead, _ piece: inout Piece) throws(StatementError) {
        var conflicts: [Conflict] = [], repairs: [RowChange] = [], repaired: [Int32] = []
        for suspect in read.suspects {
            let key = suspect.wanted.key
            if let record = read.found[suspect.owner], try isEntry(key, read.index, record, suspect.owner) {
                if suspect.owner == EntryForm.owner(of: suspect.wanted.record) {
                    // Of the row that expired in this one's place: it stays from now on.
                    repairs.append(RowChange(mode: .upsert, key: key, record: suspect.wanted.record))
                    repaired.append(suspect.row)
                    continue
                }
                guard read.isInsert, plan.arbiters.contains(.entries(read.index)) else {
                    throw duplicate(piece.batch, Int(suspect.row), .entries(read.index))
                }
                conflicts.append(Conflict(row: suspect.row, key: suspect.owner, record: record))
            } else {
                repairs.append(RowChange(mode: .upsert, key: key, record: suspect.wanted.record))
                repaired.append(suspect.row)
            }
        }
        let target = Target.entries(read.index)
        if !repairs.isEmpty {
            let write = Write(target: target, changes: repairs, rows: repaired, isInsert: false, isRepair: true)
            piece.steps.insert(.write(write), at: 0)
        }
        if read.isInsert { meet(conflicts, at: target, &piece) }
    }

    /// Whether the row has the values of that entry.
    private func isEntry(_ key: Bytes, _ index: Int, _ record: Bytes, _ owner: Bytes) throws(StatementError) -> Bool {
        let columns = plan.indexes[index].columns.map { plan.collection.columns[$0] }
        let decoder = RecordColumns(plan.collection, columns.map(\.id), hasKey: false)
        let batch = try decoder.decode(StoredRows(keys: [], records: [record]), columns.map(\.type))
        return forms[index].key(batch.row(0), owner: owner).bytes == key
    }

    /// Rows that met others are not inserted: what was inserted of them goes, and they are left out or updated.
    private func meet(_ conflicts: [Conflict], at target: Target, _ piece: inout Piece) {
        if !conflicts.isEmpty {
            let met = Set(conflicts.map(\.row))
            piece.rows.removeAll { met.contains($0) }
            for earlier in piece.done { piece.steps.insert(.write(undo(conflicts, earlier, piece)), at: 0) }
            if !conflict.isEmpty {
                if piece.conflicts.isEmpty { piece.steps.append(.update) }
                piece.conflicts += conflicts
            }
        }
        piece.done.append(target)
    }

    private func undo(_ conflicts: [Conflict], _ target: Target, _ piece: Piece) -> Write {
        let rows = conflicts.map(\.row)
        let changes = rows.map { row in
            let own = piece.keys[Int(row)]
            switch target {
            case .rows: return RowChange(mode: .delete, key: own, record: [])
            case .entries(let index):
                let key = entry(index, piece.batch, valuePlaces, Int(row), owner: own).bytes
                return RowChange(mode: .delete, key: key, record: [])
            }
        }
        return Write(target: target, changes: changes, rows: rows, isInsert: false, isRepair: true)
    }

    // MARK: ON CONFLICT DO UPDATE

    /// The rows that are there get new values, as by an UPDATE.
    private func update(_ piece: inout Piece) throws(StatementError) {
        let conflicts = piece.conflicts
        let decoder = RecordColumns(plan.collection, plan.collection.columns.map(\.id), hasKey: false)
        let existing = try decoder.decode(
            StoredRows(keys: [], records: conflicts.map(\.record)), plan.old.map(\.type))
        guard existing.count == conflicts.count else {
            throw StatementError(.internalError, "a row that was in the way is not there")
        }
        for conflict in conflicts {
            guard conflict.key.withUnsafeBytes({ written.find($0) }) == nil else {
                throw StatementError(
                    .cardinalityViolation, "ON CONFLICT DO UPDATE command cannot affect row a second time",
                    hint: "Ensure that no rows proposed for insertion within the same command have duplicate "
                        + "constrained values.")
            }
        }
        let mine = piece.batch.gathered(conflicts.map(\.row))
        let both = ColumnBatch(mine.columns + existing.columns, count: mine.count)
        let chosen = try conflictCondition?.select(both, context) ?? Array(0..<Int32(both.count))
        guard !chosen.isEmpty else { return }
        let source = chosen.count == both.count ? both : both.gathered(chosen)
        var fresh: [Column] = []
        for evaluator in conflict { fresh.append(try evaluator.evaluate(source, context).flattened()) }
        let rows = chosen.map { conflicts[Int($0)].row }
        for (index, place) in valuePlaces.enumerated() {
            var values = (0..<piece.batch.count).map { piece.batch.columns[place].value(at: $0) }
            for (position, row) in rows.enumerated() { values[Int(row)] = fresh[index].value(at: position) }
            piece.batch = Self.replacing(piece.batch, place, with: values)
        }
        try check(piece.batch, rows)
        let keys = chosen.map { conflicts[Int($0)].key }
        for key in keys { key.withUnsafeBytes { _ = written.insert($0) } }
        let change = ChangedRows(
            rows: rows, keys: keys, freshKeys: keys, old: existing.gathered(chosen),
            fresh: ColumnBatch(fresh, count: rows.count), isDelete: false)
        piece.updated = rows
        piece.steps += [.change(change)] + plan.indexes.indices.map { .changeEntries($0, change) }
    }

    // MARK: Errors

    func duplicate(_ batch: ColumnBatch, _ row: Int, _ target: Target) -> StatementError {
        let index: (name: String, columns: [Int])? =
            switch target {
            case .rows: nil
            case .entries(let index): (plan.indexes[index].name, plan.indexes[index].columns)
            }
        var error = errors.duplicate(index, fresh(batch, row))
        error.row = row + 1
        return error
    }
}
