import Base
import Contracts
import DataModel

/// The tables of schema `redis`: native keys of Redis as rows (design: DATA-MODEL.md, section 4). They are there in
/// every database, and nobody defines anything in their schema. Their rows are no records: who keeps the rows makes
/// them of keys, and writes keys for them.
package enum KeyspaceTables {
    /// What is shown of the keys.
    package enum Table: Int, CaseIterable, Sendable {
        /// All keys, with their types.
        case keys
        case strings
        /// A row for each field.
        case hashes
    }

    /// The first columns of all tables: the number of the database, and the key.
    package static let database = ColumnID(rawValue: 1), key = ColumnID(rawValue: 2)
    /// Of `keys`.
    package static let type = ColumnID(rawValue: 3)
    /// Of `keys` and `strings`: NULL for a key that stays.
    package static let expiry = ColumnID(rawValue: 4)
    /// Of `strings`.
    package static let string = ColumnID(rawValue: 3)
    /// Of `hashes`.
    package static let field = ColumnID(rawValue: 3), value = ColumnID(rawValue: 4)
    /// Databases are numbered below it.
    package static let databaseCount = 16

    /// Which of the tables a collection is, if it is one.
    package static func table(_ collection: CollectionDescriptor) -> Table? {
        guard collection.namespace == .keyspace else { return nil }
        return Table(rawValue: Int(collection.id.rawValue) - Int(first))
    }

    private static let first: UInt32 = 13_230
    /// In the order of `Table`.
    static let collections = Table.allCases.map(describe)
    /// What is asked for where a statement says nothing of the database.
    static let databases: [BoundExpression] = (0..<databaseCount).map { .constant(.number($0), .int16) }

    private static func describe(_ table: Table) -> CollectionDescriptor {
        typealias Column = CollectionDescriptor.Column
        // Redis counts time in milliseconds.
        let moment = DataType(.timestampWithZone, modifier: 3)
        var database = Column(id: database, name: "db", type: .int16, isNotNull: true)
        database.defaultValue = zero
        var columns = [database, Column(id: key, name: "key", type: .text, isNotNull: true)]
        let name: String
        switch table {
        case .keys:
            name = "keys"
            columns.append(Column(id: type, name: "type", type: .text, isNotNull: true))
            columns.append(Column(id: expiry, name: "expires_at", type: moment))
        case .strings:
            name = "strings"
            columns.append(Column(id: string, name: "value", type: .text, isNotNull: true))
            columns.append(Column(id: expiry, name: "expires_at", type: moment))
        case .hashes:
            name = "hashes"
            columns.append(Column(id: field, name: "field", type: .text, isNotNull: true))
            columns.append(Column(id: value, name: "value", type: .text, isNotNull: true))
        }
        var descriptor = CollectionDescriptor(
            id: CollectionID(rawValue: first + UInt32(table.rawValue)), namespace: .keyspace, name: name, kind: .table,
            owner: SystemCatalog.owner)
        descriptor.columns = columns
        descriptor.primaryKey = [Self.database, key] + (table == .hashes ? [field] : [])
        descriptor.primaryKeyName = name + "_pkey"
        return descriptor
    }

    /// DEFAULT 0.
    private static let zero: StoredExpression = {
        let number = LogicalPlan(
            dialect: .postgres, nodes: [.init(.none), .init(.integer, number: 0)], root: 1)
        return StoredExpression(plan: number.extracted(1).encode(), text: "0")
    }()
}

extension NamespaceID {
    /// `redis`.
    static let keyspace = NamespaceID(rawValue: .max - 2)
}
