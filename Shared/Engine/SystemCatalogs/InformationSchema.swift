import Base
import DataModel

/// `information_schema` of the standard: schemata, tables, columns, views, sequences.
enum InformationSchema {
    static let tables: [SystemTable] = [
        catalogName, schemata, tableList, columns, views, sequences, characterSets, collations, roles, privileges,
        columnPrivileges,
    ]

    typealias Columns<Row> = SystemTable.Columns<Row>

    /// Columns that are never known.
    static func nulls<Row>(_ table: inout Columns<Row>, _ type: DataType, _ names: String...) {
        for name in names { table.constant(name, type, .null) }
    }

    /// Three columns that name an object: its database, its namespace, itself.
    static func name<Row>(
        _ table: inout Columns<Row>, _ prefix: String, _ name: String,
        _ value: @escaping @Sendable (Row, SystemCatalog) -> (namespace: UInt32, name: String)?
    ) {
        table.optional(prefix + "_catalog", .name) { row, system in
            value(row, system) == nil ? .null : .text(system.settings.database)
        }
        table.optional(prefix + "_schema", .name) { row, system in
            .text(optional: value(row, system).flatMap { system.namespaceName($0.namespace) })
        }
        table.optional(name, .name) { row, system in .text(optional: value(row, system)?.name) }
    }

    private static let catalogName = SystemTable(
        "information_schema_catalog_name", 13_227, in: .informationSchema, isView: true, rows: { _ in [()] }
    ) { table in
        table.optional("catalog_name", .name) { _, system in .text(system.settings.database) }
    }

    private static let schemata = SystemTable(
        "schemata", 13_382, in: .informationSchema, isView: true,
        rows: { system in
            system.namespaces.filter { namespace in
                let described = system.catalog.namespaces[namespace.id]
                return system.shown.shows(described?.effectiveGrants ?? [], owner: namespace.owner) || described == nil
            }
        }
    ) { table in
        table.optional("catalog_name", .name) { _, system in .text(system.settings.database) }
        table.optional("schema_name", .name) { row, _ in .text(row.name) }
        table.optional("schema_owner", .name) { row, _ in .text(row.owner) }
        nulls(
            &table, .name, "default_character_set_catalog", "default_character_set_schema",
            "default_character_set_name")
        nulls(&table, .varchar, "sql_path")
    }

    private static let tableList = SystemTable(
        "tables", 13_425, in: .informationSchema, isView: true,
        rows: { system in
            system.relations.filter { ($0.kind == .table || $0.kind == .view) && system.shown.shows($0) }
        }
    ) { table in
        name(&table, "table", "table_name") { row, _ in (row.namespace, row.name) }
        table.optional("table_type", .varchar) { row, _ in .text(row.kind == .table ? "BASE TABLE" : "VIEW") }
        nulls(&table, .name, "self_referencing_column_name")
        nulls(&table, .varchar, "reference_generation")
        nulls(&table, .name, "user_defined_type_catalog", "user_defined_type_schema", "user_defined_type_name")
        table.optional("is_insertable_into", .varchar) { row, _ in .word(row.kind == .table && !row.isSystem) }
        table.constant("is_typed", .varchar, .text("NO"))
        nulls(&table, .varchar, "commit_action")
    }

    private static let columns = SystemTable(
        "columns", 13_295, in: .informationSchema, isView: true,
        rows: { system in
            system.attributes.filter { row in
                (row.relation.kind == .table || row.relation.kind == .view)
                    && system.shown.shows(row.column, of: row.relation.collection)
            }
        }
    ) { table in
        name(&table, "table", "table_name") { row, _ in (row.relation.namespace, row.relation.name) }
        table.optional("column_name", .name) { row, _ in .text(row.column.name) }
        table.optional("ordinal_position", .int32) { row, _ in .number(row.number) }
        table.optional("column_default", .varchar) { row, system in
            .text(optional: row.hasDefault ? system.defaultText(row, isPretty: false) : nil)
        }
        table.optional("is_nullable", .varchar) { row, _ in .word(!row.column.isNotNull) }
        table.optional("data_type", .varchar) { row, _ in .text(row.column.type.standardName) }
        typeFacts(&table)
        nulls(&table, .name, "character_set_catalog", "character_set_schema", "character_set_name")
        name(&table, "collation", "collation_name") { row, _ in
            row.column.actualCollation.flatMap { $0 == .standard ? nil : (11, $0.name) }
        }
        nulls(&table, .name, "domain_catalog", "domain_schema", "domain_name")
        name(&table, "udt", "udt_name") { row, _ in (11, row.column.type.name) }
        nulls(&table, .name, "scope_catalog", "scope_schema", "scope_name")
        nulls(&table, .int32, "maximum_cardinality")
        table.optional("dtd_identifier", .name) { row, _ in .text(String(row.number)) }
        table.constant("is_self_referencing", .varchar, .text("NO"))
        identity(&table)
        table.constant("is_generated", .varchar, .text("NEVER"))
        nulls(&table, .varchar, "generation_expression")
        table.optional("is_updatable", .varchar) { row, _ in
            .word(row.relation.kind == .table && !row.relation.isSystem)
        }
    }

    private static func typeFacts(_ table: inout Columns<RelationColumn>) {
        table.optional("character_maximum_length", .int32) { row, _ in
            row.column.type.characterLength.map { .number($0) } ?? .null
        }
        table.optional("character_octet_length", .int32) { row, _ in row.column.type.octetLength }
        table.optional("numeric_precision", .int32) { row, _ in row.column.type.numericPrecision }
        table.optional("numeric_precision_radix", .int32) { row, _ in row.column.type.numericRadix }
        table.optional("numeric_scale", .int32) { row, _ in row.column.type.numericScale }
        table.optional("datetime_precision", .int32) { row, _ in row.column.type.datetimePrecision }
        table.optional("interval_type", .varchar) { row, _ in .text(optional: row.column.type.intervalFields) }
        nulls(&table, .int32, "interval_precision")
    }

    private static func identity(_ table: inout Columns<RelationColumn>) {
        table.optional("is_identity", .varchar) { row, _ in .word(row.column.identity != .none) }
        table.optional("identity_generation", .varchar) { row, _ in
            switch row.column.identity {
            case .none: .null
            case .always: .text("ALWAYS")
            case .byDefault: .text("BY DEFAULT")
            }
        }
        let numbers: [(String, any KeyPath<CollectionDescriptor.Sequence, Int64> & Sendable)] = [
            ("identity_start", \.start), ("identity_increment", \.increment), ("identity_maximum", \.maximum),
            ("identity_minimum", \.minimum),
        ]
        for (name, path) in numbers {
            table.optional(name, .varchar) { row, system in
                .text(optional: system.identitySequence(row).map { String($0[keyPath: path]) })
            }
        }
        table.optional("identity_cycle", .varchar) { row, system in
            .word(system.identitySequence(row)?.cycles ?? false)
        }
    }

    private static let views = SystemTable(
        "views", 13_483, in: .informationSchema, isView: true,
        rows: { system in system.relations.filter { $0.kind == .view && system.shown.shows($0) } }
    ) { table in
        name(&table, "table", "table_name") { row, _ in (row.namespace, row.name) }
        table.optional("view_definition", .varchar) { row, system in
            .text(optional: system.shown.owns(row.collection.owner) ? system.viewDefinition(row) : nil)
        }
        table.constant("check_option", .varchar, .text("NONE"))
        for name in [
            "is_updatable", "is_insertable_into", "is_trigger_updatable", "is_trigger_deletable",
            "is_trigger_insertable_into",
        ] {
            table.constant(name, .varchar, .text("NO"))
        }
    }

    private static let sequences = SystemTable(
        "sequences", 13_386, in: .informationSchema, isView: true,
        rows: { system in system.freeSequences.filter { system.shown.shows($0) } }
    ) { table in
        name(&table, "sequence", "sequence_name") { row, _ in (row.namespace, row.name) }
        table.optional("data_type", .varchar) { row, _ in .text(row.sequence.type.standardName) }
        table.optional("numeric_precision", .int32) { row, _ in row.sequence.type.numericPrecision }
        table.constant("numeric_precision_radix", .int32, .integer(2))
        table.constant("numeric_scale", .int32, .integer(0))
        table.optional("start_value", .varchar) { row, _ in .text(String(row.sequence.start)) }
        table.optional("minimum_value", .varchar) { row, _ in .text(String(row.sequence.minimum)) }
        table.optional("maximum_value", .varchar) { row, _ in .text(String(row.sequence.maximum)) }
        table.optional("increment", .varchar) { row, _ in .text(String(row.sequence.increment)) }
        table.optional("cycle_option", .varchar) { row, _ in .word(row.sequence.cycles) }
    }

    private static let characterSets = SystemTable(
        "character_sets", 13_250, in: .informationSchema, isView: true, rows: { _ in [()] }
    ) { table in
        nulls(&table, .name, "character_set_catalog", "character_set_schema")
        table.constant("character_set_name", .name, .text("UTF8"))
        table.constant("character_repertoire", .name, .text("UCS"))
        table.constant("form_of_use", .name, .text("UTF8"))
        name(&table, "default_collate", "default_collate_name") { _, _ in (11, "C") }
    }

    private static let collations = SystemTable(
        "collations", 13_265, in: .informationSchema, isView: true,
        rows: { _ in Collation.allCases.map(\.name) }
    ) { table in
        name(&table, "collation", "collation_name") { row, _ in (11, row) }
        table.constant("pad_attribute", .varchar, .text("NO PAD"))
    }

    private static let roles = SystemTable(
        "enabled_roles", 13_325, in: .informationSchema, isView: true,
        rows: { system in system.roles.filter { system.shown.isMember(of: $0.name) } }
    ) { table in
        table.optional("role_name", .name) { row, _ in .text(row.name) }
    }

    private static let privileges = SystemTable(
        "table_privileges", 13_416, in: .informationSchema, isView: true,
        rows: { system in
            let relations = system.relations.filter { ($0.kind == .table || $0.kind == .view) && !$0.isSystem }
            return relations.flatMap { relation in
                relation.collection.effectiveGrants.flatMap { grant in
                    Privileges.all.filter { grant.rights.contains($0.right) && system.shown.shows(grant) }
                        .map { (relation, grant, $0) }
                }
            }
        }
    ) { table in
        table.optional("grantor", .name) { row, _ in .text(row.1.grantor) }
        table.optional("grantee", .name) { row, _ in .text(row.1.grantee.isEmpty ? "PUBLIC" : row.1.grantee) }
        name(&table, "table", "table_name") { row, _ in (row.0.namespace, row.0.name) }
        table.optional("privilege_type", .varchar) { row, _ in .text(row.2.name.uppercased()) }
        table.optional("is_grantable", .varchar) { row, _ in
            // Its owner may give everything to others.
            .word(row.1.grantable.contains(row.2.right) || row.1.grantee == row.0.collection.owner)
        }
        table.optional("with_hierarchy", .varchar) { row, _ in .word(row.2.right == .select) }
    }

    /// A right on a column: by itself, or on its table.
    private struct ColumnRight: Hashable {
        let column: ColumnID
        let grantor: String, grantee: String
        let right: Privileges
        let isGrantable: Bool
    }

    private static func columnRights(_ relation: Relation, _ system: SystemCatalog) -> [ColumnRight] {
        var seen: Set<ColumnRight> = [], found: [ColumnRight] = []
        for column in relation.columns {
            for grant in relation.collection.effectiveGrants + (column.grants ?? []) where system.shown.shows(grant) {
                for (_, _, right) in Privileges.all
                where grant.rights.contains(right) && Privileges.ofColumns.contains(right) {
                    let row = ColumnRight(
                        column: column.id, grantor: grant.grantor, grantee: grant.grantee, right: right,
                        isGrantable: grant.grantable.contains(right) || grant.grantee == relation.collection.owner)
                    if seen.insert(row).inserted { found.append(row) }
                }
            }
        }
        return found
    }

    private static let columnPrivileges = SystemTable(
        "column_privileges", 13_285, in: .informationSchema, isView: true,
        rows: { system in
            system.relations.filter { ($0.kind == .table || $0.kind == .view) && !$0.isSystem }.flatMap { relation in
                columnRights(relation, system).map { (relation, $0) }
            }
        }
    ) { table in
        table.optional("grantor", .name) { row, _ in .text(row.1.grantor) }
        table.optional("grantee", .name) { row, _ in .text(row.1.grantee.isEmpty ? "PUBLIC" : row.1.grantee) }
        name(&table, "table", "table_name") { row, _ in (row.0.namespace, row.0.name) }
        table.optional("column_name", .name) { row, _ in .text(optional: row.0.collection.column(row.1.column)?.name) }
        table.optional("privilege_type", .varchar) { row, _ in
            .text(optional: Privileges.all.first { $0.right == row.1.right }?.name.uppercased())
        }
        table.optional("is_grantable", .varchar) { row, _ in .word(row.1.isGrantable) }
    }
}

extension SystemCatalog {
    func identitySequence(_ column: RelationColumn) -> CollectionDescriptor.Sequence? {
        guard column.column.identity != .none, let id = column.column.sequence else { return nil }
        return catalog.collection(id)?.sequence
    }

    /// Those that are no part of an identity column.
    var freeSequences: [Relation] {
        let inner = Set(attributes.lazy.filter { $0.column.identity != .none }.compactMap { $0.column.sequence })
        return relations.filter { $0.collection.sequence != nil && !inner.contains($0.collection.id) }
    }
}

/// Types as the standard speaks of them.
extension DataType {
    var standardName: String { isArray ? "ARRAY" : DataType(kind).formattedBare }

    private var formattedBare: String { kind == .char ? "character" : postgres.title }

    /// Of a text with a limit.
    var characterLength: Int? {
        guard !isArray, kind == .varchar || kind == .char, modifier >= 4 else { return nil }
        return Int(modifier) - 4
    }

    var octetLength: Value {
        guard !isArray, [.text, .varchar, .char].contains(kind) else { return .null }
        // Four bytes for each character; without a limit, what a value may have at all.
        return .number(characterLength.map { $0 * 4 } ?? 1 << 30)
    }

    var numericPrecision: Value {
        if isArray { return .null }
        switch kind {
        case .int16: return .integer(16)
        case .int32: return .integer(32)
        case .int64: return .integer(64)
        case .float32: return .integer(24)
        case .float64: return .integer(53)
        case .decimal: return modifier < 0 ? .null : precision.map { .number($0) } ?? .null
        case _: return .null
        }
    }

    var numericRadix: Value {
        if isArray { return .null }
        switch kind {
        case .int16, .int32, .int64, .float32, .float64: return .integer(2)
        case .decimal: return .integer(10)
        case _: return .null
        }
    }

    var numericScale: Value {
        if isArray { return .null }
        switch kind {
        case .int16, .int32, .int64: return .integer(0)
        case .decimal: return modifier < 0 ? .null : scale.map { .number($0) } ?? .null
        case _: return .null
        }
    }

    var datetimePrecision: Value {
        if isArray { return .null }
        switch kind {
        case .date: return .integer(0)
        case .time, .timeWithZone, .timestamp, .timestampWithZone, .interval:
            return modifier < 0 ? .integer(6) : precision.map { .number($0) } ?? .integer(6)
        case _: return .null
        }
    }

    /// `YEAR TO MONTH` of an interval that is limited to these.
    var intervalFields: String? {
        guard !isArray, kind == .interval, modifier >= 0 else { return nil }
        let words = IntervalFields(modifier: modifier).title.uppercased()
        let fields = words.split(separator: "(").first.map(String.init) ?? ""
        let bare = fields.trimmingBlanks
        return bare.isEmpty ? nil : bare
    }
}

extension String {
    /// Without blanks at either end.
    var trimmingBlanks: String {
        String(drop { $0 == " " }.reversed().drop { $0 == " " }.reversed())
    }
}
