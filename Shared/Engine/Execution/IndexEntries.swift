import Base
import DataModel

/// What the entries of an index look like: rows of a hidden collection, each of which names one row of the table.
///
///     key        the indexed values, one after the other (`KeyEncoding`)
///                of an index that is not unique, and where a value is NULL: the key of the row behind them
///     column 1   the key of the row, as bytes
///
/// So no two rows can have the same entry of a unique index, and NULLs differ from one another; and every row has an
/// entry, which is found by any first part of its values. An entry is a hint: a row that expired leaves its own behind.
/// Who follows an entry asks the row (docs/decisions/0014-indexes.md).
struct EntryForm {
    let isUnique: Bool
    let types: [DataType]

    /// Column of an entry that has the key of its row.
    static let ownerColumn: UInt16 = 1

    struct Key: Hashable {
        let bytes: Bytes
        /// No other row may have the same.
        let isExclusive: Bool
    }

    func key(_ values: [Value], owner: Bytes) -> Key {
        let encoded = KeyForms.encode(values, types)
        guard isUnique, !values.contains(where: \.isNull) else {
            return Key(bytes: encoded + owner, isExclusive: false)
        }
        return Key(bytes: encoded, isExclusive: true)
    }

    static func record(owner key: Bytes) -> Bytes { RecordEncoding.encode([(UInt32(ownerColumn), .bytes(key))]) }

    /// The key of the row that an entry names; nil for what is no entry.
    static func owner(of record: Bytes) -> Bytes? {
        record.withUnsafeBytes { view in
            guard var reader = ColumnReader(view) else { return nil }
            return reader.field(UInt32(ownerColumn))?.bytes?.bytes
        }
    }
}

/// What changes of several rows, made one after the other, come to in the entries of an index.
///
/// Uniqueness is that of every single step, as PostgreSQL checks it: two rows that swap their values are refused. What
/// the rows had before is known, since they are locked; so only values that are new to all of them need be looked for
/// in the store.
struct EntryChanges {
    /// One row's step: what it had, what it gets.
    struct Step {
        let row: Int32
        let old: EntryForm.Key?
        let fresh: EntryForm.Key?
        /// The key under which the row is afterwards.
        let owner: Bytes
        /// The row has another key than before.
        let isMoved: Bool
    }

    private(set) var changes: [RowChange] = []
    /// One for each change.
    private(set) var rows: [Int32] = []
    /// The first row whose values another one has at that moment.
    private(set) var violation: Int32?

    private struct State {
        let wasThere: Bool
        var owner: Bytes?
        var row: Int32
        var isExclusive: Bool
    }

    init(_ steps: [Step]) {
        let known = Set(steps.compactMap { $0.old?.bytes })
        var waiting = known, order: [Bytes] = [], states: [Bytes: State] = [:]
        func set(_ key: EntryForm.Key, _ owner: Bytes?, _ row: Int32) {
            if states[key.bytes] == nil {
                order.append(key.bytes)
                states[key.bytes] = State(
                    wasThere: known.contains(key.bytes), owner: owner, row: row, isExclusive: key.isExclusive)
            } else {
                states[key.bytes]?.owner = owner
                states[key.bytes]?.row = row
            }
        }
        for step in steps {
            if let old = step.old {
                waiting.remove(old.bytes)
                if old == step.fresh, !step.isMoved {
                    set(old, step.owner, -1)
                    continue
                }
                set(old, nil, step.row)
            }
            guard let fresh = step.fresh else { continue }
            if fresh.isExclusive, waiting.contains(fresh.bytes) || states[fresh.bytes]?.owner != nil {
                violation = step.row
                return
            }
            set(fresh, step.owner, step.row)
        }
        for key in order {
            guard let state = states[key], state.row >= 0 else { continue }
            if let owner = state.owner {
                let mode: RowChange.Mode = state.wasThere || !state.isExclusive ? .upsert : .insert
                changes.append(RowChange(mode: mode, key: key, record: EntryForm.record(owner: owner)))
            } else {
                changes.append(RowChange(mode: .delete, key: key, record: []))
            }
            rows.append(state.row)
        }
    }
}
