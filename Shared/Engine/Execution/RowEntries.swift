import Base
import DataModel

/// The entries of single rows, for who changes rows without a statement.
package enum RowEntries {
    /// The collections of entries, and the key that a row has in each.
    package static func keys(
        of record: Bytes, at key: Bytes, in table: CollectionDescriptor, _ catalog: Catalog
    ) throws(StatementError) -> [(collection: CollectionDescriptor, key: Bytes)] {
        var found: [(collection: CollectionDescriptor, key: Bytes)] = []
        for index in table.indexes {
            guard let id = index.entries, let entries = catalog.collection(id) else {
                throw StatementError(.internalError, "the index \(index.name) has no entries")
            }
            let columns = index.parts.compactMap { table.column($0.column) }
            let decoder = RecordColumns(table, columns.map(\.id), hasKey: false)
            let batch = try decoder.decode(StoredRows(keys: [], records: [record]), columns.map(\.type))
            let form = EntryForm(isUnique: index.isUnique, types: columns.map(\.type))
            found.append((entries, form.key(batch.row(0), owner: key).bytes))
        }
        return found
    }

    /// The key of the row that an entry names; nil for what is no entry.
    package static func owner(of record: Bytes) -> Bytes? { EntryForm.owner(of: record) }
}
