import Base
import Contracts
import DataModel

/// TRUNCATE: the table goes, with all its records, and one without records and with another number takes its place.
///
/// So it costs what DROP TABLE does, however many rows there are, and is undone as that is. Who was about to read or
/// write the old one meets another version of the catalog, and binds its statement anew.
extension DefinitionPlanner {
    mutating func truncate(_ node: LogicalPlan.Node) throws(StatementError) {
        var tables: [CollectionDescriptor] = []
        for index in plan.list(node.children[0]) {
            let name = try qualifiedName(index)
            guard let table = try find(name) else {
                throw StatementError(.undefinedTable, "relation \"\(name.text)\" does not exist")
            }
            guard table.kind == .table else {
                throw StatementError(.wrongObjectType, "\"\(table.name)\" is not a table")
            }
            if !tables.contains(where: { $0.id == table.id }) { tables.append(table) }
        }
        try addReferring(to: &tables, isCascade: node.flags.contains(.isCascade))
        try mayTruncate(tables, restartsIdentity: node.flags.contains(.isMarked))
        for table in tables { try empty(table, restartsIdentity: node.flags.contains(.isMarked)) }
    }

    /// It is not only for owners; the sequences that begin anew are.
    private mutating func mayTruncate(
        _ tables: [CollectionDescriptor], restartsIdentity: Bool
    ) throws(StatementError) {
        guard let sender else { return }
        for table in tables {
            guard AccessRights(catalog).privileges(of: sender, on: table).contains(.truncate) else {
                throw Binder.denied("table", table.name)
            }
            guard restartsIdentity else { continue }
            for sequence in table.columns.compactMap({ $0.sequence.flatMap(catalog.collection) }) {
                try mustOwn(sequence.owner, "sequence", sequence.name)
            }
        }
        hasAsked = true
    }

    /// Rows of other tables that refer to those that go would refer to nothing.
    private mutating func addReferring(
        to tables: inout [CollectionDescriptor], isCascade: Bool
    ) throws(StatementError) {
        var next = 0
        while next < tables.count {
            let target = tables[next]
            next += 1
            for other in catalog.collections.values.sorted(by: { $0.id < $1.id })
            where other.foreignKeys.contains(where: { $0.target == target.id }) {
                guard !tables.contains(where: { $0.id == other.id }) else { continue }
                guard isCascade else {
                    throw StatementError(
                        .featureNotSupported, "cannot truncate a table referenced in a foreign key constraint",
                        detail: "Table \"\(other.name)\" references \"\(target.name)\".",
                        hint: "Truncate table \"\(other.name)\" at the same time, or use TRUNCATE ... CASCADE.")
                }
                notices.append(
                    StatementError(.successfulCompletion, "truncate cascades to table \"\(other.name)\""))
                tables.append(other)
            }
        }
    }

    private mutating func empty(_ table: CollectionDescriptor, restartsIdentity: Bool) throws(StatementError) {
        var fresh = table
        fresh.statistics = nil
        if restartsIdentity {
            for place in fresh.columns.indices {
                guard let id = fresh.columns[place].sequence, let old = catalog.collection(id) else { continue }
                drop(id)
                var sequence = old
                sequence.id = try newCollection()
                put(sequence)
                fresh.columns[place].sequence = sequence.id
            }
        }
        for index in table.indexes { if let entries = index.entries { drop(entries) } }
        drop(table.id)
        for place in fresh.indexes.indices { fresh.indexes[place].entries = nil }
        fresh.id = CollectionID(rawValue: 0)
        try makeEntries(of: &fresh)
        if fresh.id.rawValue == 0 { fresh.id = try newCollection() }
        put(fresh)
        try renumber(table.id, fresh.id)
    }

    /// What means the table by its number.
    private mutating func renumber(_ old: CollectionID, _ new: CollectionID) throws(StatementError) {
        for view in views(reading: old) {
            guard let query = view.query else { continue }
            var changed = view, kept = try StoredPlans.query(query)
            kept.renumber(old, new)
            changed.query = StoredExpression(plan: kept.encode(), text: query.text)
            put(changed)
        }
        for other in catalog.collections.values.sorted(by: { $0.id < $1.id })
        where other.foreignKeys.contains(where: { $0.target == old }) {
            var changed = other
            for place in changed.foreignKeys.indices where changed.foreignKeys[place].target == old {
                changed.foreignKeys[place].target = new
            }
            put(changed)
        }
    }
}
