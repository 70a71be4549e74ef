import Base
import DataModel

/// The parts of `information_schema` that are about constraints.
enum InformationConstraints {
    static let tables: [SystemTable] = [constraints, keys, columnUsage, tableUsage, references, checks]

    private typealias Schema = InformationSchema

    /// PostgreSQL counts NOT NULL among the CHECKs here, under names made of numbers.
    private enum Row {
        case constraint(TableConstraint)
        case notNull(RelationColumn)

        var table: CollectionDescriptor {
            switch self {
            case .constraint(let constraint): constraint.table
            case .notNull(let column): column.relation.collection
            }
        }

        var name: String {
            switch self {
            case .constraint(let constraint): constraint.name
            case .notNull(let column):
                "\(ObjectNumbers.namespace(table.namespace))_\(column.relation.oid)_\(column.number)_not_null"
            }
        }

        var title: String {
            switch self {
            case .constraint(let constraint): constraint.title
            case .notNull: "CHECK"
            }
        }
    }

    private static func rows(_ system: SystemCatalog) -> [Row] {
        system.constraints.map(Row.constraint)
            + system.attributes.filter { $0.relation.kind == .table && $0.column.isNotNull && !$0.relation.isSystem }
            .map(Row.notNull)
    }

    private static func place(_ table: CollectionDescriptor) -> UInt32 { ObjectNumbers.namespace(table.namespace) }

    /// To who may do more with the table than read it.
    private static func isShown(_ table: CollectionDescriptor, _ system: SystemCatalog) -> Bool {
        system.shown.shows(
            table, Privileges.ofTables.subtracting(.select), onColumns: Privileges.ofColumns.subtracting(.select))
    }

    private static let constraints = SystemTable(
        "table_constraints", 13_411, in: .informationSchema, isView: true,
        rows: { system in rows(system).filter { isShown($0.table, system) } }
    ) { table in
        Schema.name(&table, "constraint", "constraint_name") { row, _ in (place(row.table), row.name) }
        Schema.name(&table, "table", "table_name") { row, _ in (place(row.table), row.table.name) }
        table.optional("constraint_type", .varchar) { row, _ in .text(row.title) }
        table.constant("is_deferrable", .varchar, .text("NO"))
        table.constant("initially_deferred", .varchar, .text("NO"))
        table.constant("enforced", .varchar, .text("YES"))
        table.optional("nulls_distinct", .varchar) { row, _ in row.title == "UNIQUE" ? .text("YES") : .null }
    }

    /// One column of a key.
    private struct KeyColumn: Sendable {
        let constraint: TableConstraint
        let column: ColumnID
        let position: Int
    }

    private static func keyColumns(_ system: SystemCatalog) -> [KeyColumn] {
        system.constraints.filter { $0.kind != "c" }.flatMap { constraint in
            constraint.columns.enumerated().map {
                KeyColumn(constraint: constraint, column: $0.element, position: $0.offset + 1)
            }
        }
    }

    private static let keys = SystemTable(
        "key_column_usage", 13_329, in: .informationSchema, isView: true,
        rows: { system in
            keyColumns(system).filter { row in
                let table = row.constraint.table
                return table.column(row.column).map { system.shown.shows($0, of: table) } ?? false
            }
        }
    ) { table in
        Schema.name(&table, "constraint", "constraint_name") { row, _ in
            (place(row.constraint.table), row.constraint.name)
        }
        Schema.name(&table, "table", "table_name") { row, _ in
            (place(row.constraint.table), row.constraint.table.name)
        }
        table.optional("column_name", .name) { row, _ in
            .text(optional: row.constraint.table.column(row.column)?.name)
        }
        table.optional("ordinal_position", .int32) { row, _ in .number(row.position) }
        table.optional("position_in_unique_constraint", .int32) { row, _ in
            row.constraint.foreignKey == nil ? .null : .number(row.position)
        }
    }

    /// A column that a constraint is about; of a foreign key, those that it refers to.
    private struct Usage: Sendable {
        let constraint: TableConstraint
        let table: CollectionDescriptor
        let column: ColumnID
    }

    private static func usages(_ system: SystemCatalog) -> [Usage] {
        system.constraints.flatMap { constraint -> [Usage] in
            if let key = constraint.foreignKey {
                guard let target = system.catalog.collection(key.target) else { return [] }
                return key.targetColumns.map { Usage(constraint: constraint, table: target, column: $0) }
            }
            return constraint.columns.map { Usage(constraint: constraint, table: constraint.table, column: $0) }
        }
    }

    private static let columnUsage = SystemTable(
        "constraint_column_usage", 13_300, in: .informationSchema, isView: true,
        rows: { system in usages(system).filter { system.shown.owns($0.table.owner) } }
    ) { table in
        Schema.name(&table, "table", "table_name") { row, _ in (place(row.table), row.table.name) }
        table.optional("column_name", .name) { row, _ in .text(optional: row.table.column(row.column)?.name) }
        Schema.name(&table, "constraint", "constraint_name") { row, _ in
            (place(row.constraint.table), row.constraint.name)
        }
    }

    private static let tableUsage = SystemTable(
        "constraint_table_usage", 13_305, in: .informationSchema, isView: true,
        rows: { system in
            system.constraints.filter { $0.kind != "c" }.map { constraint in
                (constraint, constraint.foreignKey.flatMap { system.catalog.collection($0.target) } ?? constraint.table)
            }
            .filter { system.shown.owns($0.1.owner) }
        }
    ) { table in
        Schema.name(&table, "table", "table_name") { row, _ in (place(row.1), row.1.name) }
        Schema.name(&table, "constraint", "constraint_name") { row, _ in (place(row.0.table), row.0.name) }
    }

    private static func target(_ row: TableConstraint, _ system: SystemCatalog) -> TableConstraint? {
        guard let key = row.foreignKey else { return nil }
        return system.constraints.first {
            $0.index != nil && $0.table.id == key.target && $0.columns == key.targetColumns
        }
    }

    private static let references = SystemTable(
        "referential_constraints", 13_339, in: .informationSchema, isView: true,
        rows: { system in system.constraints.filter { $0.foreignKey != nil && isShown($0.table, system) } }
    ) { table in
        Schema.name(&table, "constraint", "constraint_name") { row, _ in (place(row.table), row.name) }
        Schema.name(&table, "unique_constraint", "unique_constraint_name") { row, system in
            target(row, system).map { (place($0.table), $0.name) }
        }
        table.constant("match_option", .varchar, .text("NONE"))
        table.optional("update_rule", .varchar) { row, _ in .text(optional: row.foreignKey?.onUpdate.title) }
        table.optional("delete_rule", .varchar) { row, _ in .text(optional: row.foreignKey?.onDelete.title) }
    }

    private static let checks = SystemTable(
        "check_constraints", 13_260, in: .informationSchema, isView: true,
        rows: { system in rows(system).filter { $0.title == "CHECK" && system.shown.owns($0.table.owner) } }
    ) { table in
        Schema.name(&table, "constraint", "constraint_name") { row, _ in (place(row.table), row.name) }
        table.optional("check_clause", .varchar) { row, system in
            switch row {
            case .notNull(let column): .text("\(column.column.name) IS NOT NULL")
            case .constraint(let constraint):
                .text(optional: system.checkText(constraint, isPretty: false))
            }
        }
    }
}
