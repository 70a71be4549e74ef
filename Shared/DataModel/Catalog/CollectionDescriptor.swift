import Base

/// A namespace of the catalog; never reused.
package struct NamespaceID: Identifier {
    package let rawValue: UInt32
    package init(rawValue: UInt32) { self.rawValue = rawValue }

    /// The namespace that clients meet in without configuration: `public`, `orbit`, `_system`, `neo4j`.
    package static let `default` = NamespaceID(rawValue: 1)
}

/// A column of a collection; given once and never again, so that records from before a change still read.
package struct ColumnID: Identifier {
    package let rawValue: UInt16
    package init(rawValue: UInt16) { self.rawValue = rawValue }
}

/// An index of a collection. 0 is the collection itself, ordered by its primary key.
package struct IndexID: Identifier {
    package let rawValue: UInt8
    package init(rawValue: UInt8) { self.rawValue = rawValue }
}

/// A namespace: a named set of collections, the unit of access rights.
package struct NamespaceDescriptor: Hashable, Sendable {
    package var id: NamespaceID
    package var name: String
    package var owner: String
    /// Keys of Redis name records of its collections: `resp.records`.
    package var namesRecords = true
    /// Nil: what is so without any GRANT.
    package var grants: [Grant]?

    package init(id: NamespaceID, name: String, owner: String) {
        (self.id, self.name, self.owner) = (id, name, owner)
    }
}

/// An expression that the catalog keeps: unbound, so that a column that is renamed or a function that is added counts
/// when it is bound again.
package struct StoredExpression: Hashable, Sendable {
    /// An encoded `LogicalPlan` whose root is the expression, or the query of a view.
    package var plan: Bytes
    /// As it is shown.
    package var text: String

    package init(plan: Bytes, text: String) { (self.plan, self.text) = (plan, text) }
}

/// What the catalog knows of a collection: a table, a view, or a sequence. A value; a change makes a new one with a
/// higher version, and every shard takes it at the same commit.
package struct CollectionDescriptor: Hashable, Sendable {
    package enum Kind: UInt8, Hashable, Sendable { case table = 0, view = 1, sequence = 2 }

    /// Which fields a record may have.
    package enum Fields: UInt8, Hashable, Sendable {
        /// The declared columns.
        case strict = 0
        /// The declared columns, and any others.
        case open = 1
        /// Any.
        case free = 2
    }

    /// A declared field of the records.
    package struct Column: Hashable, Sendable {
        /// GENERATED … AS IDENTITY.
        package enum Identity: UInt8, Hashable, Sendable { case none = 0, always = 1, byDefault = 2 }

        package var id: ColumnID
        package var name: String
        package var type: DataType
        package var isNotNull = false
        package var defaultValue: StoredExpression?
        package var identity = Identity.none
        /// The sequence that an identity or serial column draws from.
        package var sequence: CollectionID?
        /// What the column is in records from before it was added, which do not have it; NULL if nil.
        package var missing: Value?
        /// What is granted on it beside what is granted on the table; nil: nothing ever was.
        package var grants: [Grant]?
        /// What its texts are compared by; nil: what texts of its type are.
        package var collation: Collation?

        package init(id: ColumnID, name: String, type: DataType, isNotNull: Bool = false) {
            (self.id, self.name, self.type, self.isNotNull) = (id, name, type, isNotNull)
        }
    }

    /// One part of the key of an index.
    package struct IndexPart: Hashable, Sendable {
        package var column: ColumnID
        package var isDescending = false

        package init(column: ColumnID, isDescending: Bool = false) {
            (self.column, self.isDescending) = (column, isDescending)
        }
    }

    /// How far an index is: what writes must maintain, and whether reads may use it.
    package enum IndexState: UInt8, Hashable, Sendable {
        case deleteOnly = 0, writeOnly = 1, filling = 2, ready = 3
    }

    /// A further order of the records, beside that of the primary key.
    package struct Index: Hashable, Sendable {
        package var id: IndexID
        package var name: String
        package var parts: [IndexPart]
        package var isUnique: Bool
        package var state: IndexState
        /// The hidden collection whose records are the entries, keyed by the indexed values and placed by them
        /// (docs/decisions/0014-indexes.md).
        package var entries: CollectionID?
        /// It is there for a UNIQUE, and goes with that alone.
        package var isConstraint = false

        package init(
            id: IndexID, name: String, parts: [IndexPart], isUnique: Bool, state: IndexState = .ready,
            entries: CollectionID? = nil
        ) {
            (self.id, self.name, self.parts, self.isUnique) = (id, name, parts, isUnique)
            (self.state, self.entries) = (state, entries)
        }
    }

    /// A condition that every record meets.
    package struct Check: Hashable, Sendable {
        package var name: String
        package var condition: StoredExpression

        package init(name: String, condition: StoredExpression) { (self.name, self.condition) = (name, condition) }
    }

    /// Columns whose values are those of a record of another collection.
    package struct ForeignKey: Hashable, Sendable {
        package enum Action: UInt8, Hashable, Sendable {
            case noAction = 0, restrict = 1, cascade = 2, setNull = 3, setDefault = 4
        }

        package var name: String
        package var columns: [ColumnID]
        package var target: CollectionID
        package var targetColumns: [ColumnID]
        package var onUpdate = Action.noAction, onDelete = Action.noAction

        package init(name: String, columns: [ColumnID], target: CollectionID, targetColumns: [ColumnID]) {
            (self.name, self.columns, self.target, self.targetColumns) = (name, columns, target, targetColumns)
        }
    }

    /// What ANALYZE found: estimates, which no answer depends on.
    package struct Statistics: Hashable, Sendable {
        package struct Column: Hashable, Sendable {
            package var column: ColumnID
            /// Records without a value, and different values among the others.
            package var nulls: UInt64, distinct: UInt64
            /// Bytes of a value, on the average.
            package var width: UInt32 = 0
            /// Values that many records have, the most frequent first.
            package var common: [Common] = []
            /// The least value, the greatest one, and between them some that divide all values into equal parts.
            package var bounds: [Value] = []

            package init(column: ColumnID, nulls: UInt64, distinct: UInt64) {
                (self.column, self.nulls, self.distinct) = (column, nulls, distinct)
            }
        }

        /// A value, and how many records have it.
        package struct Common: Hashable, Sendable {
            package var value: Value
            package var rows: UInt64

            package init(value: Value, rows: UInt64) { (self.value, self.rows) = (value, rows) }
        }

        package var rows: UInt64
        package var columns: [Column] = []

        package init(rows: UInt64) { self.rows = rows }
    }

    /// What a sequence counts through.
    package struct Sequence: Hashable, Sendable {
        package var type = DataType(.int64)
        package var start: Int64 = 1, increment: Int64 = 1, minimum: Int64 = 1, maximum = Int64.max
        package var cache: Int64 = 1
        package var cycles = false

        package init() {}
    }

    package var id: CollectionID
    package var namespace: NamespaceID
    package var name: String
    package var kind: Kind
    package var fields = Fields.strict
    /// Of this descriptor; a call for records names the one by which it was made.
    package var version: UInt64
    package var owner: String
    /// In the order in which they are shown.
    package var columns: [Column] = []
    /// The next column's id: ids of dropped columns stay unused.
    package var nextColumn = ColumnID(rawValue: 1)
    /// In the order of the key. Empty for a table without one: its records are keyed by a number that nobody sees.
    package var primaryKey: [ColumnID] = []
    package var primaryKeyName = ""
    package var indexes: [Index] = []
    package var checks: [Check] = []
    package var foreignKeys: [ForeignKey] = []
    /// Of a view.
    package var query: StoredExpression?
    package var sequence: Sequence?
    package var comment = ""
    /// The records of this collection are the entries of an index of that one; clients do not see it.
    package var entriesOf: CollectionID?
    /// Nil until somebody asked for it.
    package var statistics: Statistics?
    /// Nil: what is so without any GRANT.
    package var grants: [Grant]?

    package init(
        id: CollectionID, namespace: NamespaceID, name: String, kind: Kind, version: UInt64 = 1, owner: String
    ) {
        (self.id, self.namespace, self.name, self.kind) = (id, namespace, name, kind)
        (self.version, self.owner) = (version, owner)
    }

    package func column(_ id: ColumnID) -> Column? { columns.first { $0.id == id } }
    /// By the name as it was folded by its dialect, byte for byte.
    package func column(named name: String) -> Column? { columns.first { $0.name.utf8.elementsEqual(name.utf8) } }
}
