import Base
import DataModel

/// What the names of a query came to when it was bound, for a query that the catalog keeps: by the node of the plan.
final class ViewRecorder {
    /// A column by its relation and, where that is a table, by its number.
    struct Column {
        /// Nil for a column that several relations share.
        var relation: String?
        var name: String
        /// See `ViewNumber`.
        var number: Int64 = 0
    }

    var tables: [Int32: CollectionID] = [:]
    var columns: [Int32: Column] = [:]
    /// What `*` and `t.*` stand for.
    var stars: [Int32: [Column]] = [:]
    /// The columns by which a NATURAL join joins.
    var naturals: [Int32: [String]] = [:]
    /// What a target without AS is called.
    var targets: [Int32: String] = [:]

    /// A column as the relations of a scope know it.
    static func column(_ column: ScopeColumn, among relations: [ScopeRelation]) -> Column {
        let found = relations.first { relation in
            relation.columns.contains {
                $0.name == column.name && $0.expression.attribute != nil
                    && $0.expression.attribute == column.expression.attribute
            }
        }
        guard let found else { return Column(relation: nil, name: column.name) }
        var known = Column(relation: found.alias, name: column.name)
        if found.source == .table, let collection = column.collection, let id = column.column {
            known.number = ViewNumber.of(collection, id)
        }
        return known
    }
}

/// How the plan of a view names a column of a table, beside its name: renaming changes nothing that a view means.
enum ViewNumber {
    static func of(_ collection: CollectionID, _ column: ColumnID) -> Int64 {
        Int64(collection.rawValue) << 16 | Int64(column.rawValue)
    }

    static func collection(_ number: Int64) -> CollectionID? {
        UInt32(exactly: number >> 16).map { CollectionID(rawValue: $0) }
    }

    static func column(_ number: Int64) -> ColumnID { ColumnID(rawValue: UInt16(truncatingIfNeeded: number)) }
}
