import DataModel

/// The views of pg_catalog that say the same as its tables, with names instead of numbers.
enum SummaryViews {
    static let tables: [SystemTable] = [tableList, views, indexes, sequences, timeZones]

    private static let tableList = SystemTable(
        "pg_tables", 12_033, isView: true, rows: { system in system.relations.filter { $0.kind == .table } }
    ) { table in
        table.optional("schemaname", .name) { row, system in .text(optional: system.namespaceName(row.namespace)) }
        table.optional("tablename", .name) { row, _ in .text(row.name) }
        table.optional("tableowner", .name) { row, _ in .text(row.collection.owner) }
        table.constant("tablespace", .name, .null)
        table.optional("hasindexes", .bool) { row, _ in .bool(row.hasIndex) }
        table.constant("hasrules", .bool, .bool(false))
        table.optional("hastriggers", .bool) { row, _ in .bool(!row.collection.foreignKeys.isEmpty) }
        table.constant("rowsecurity", .bool, .bool(false))
    }

    private static let views = SystemTable(
        "pg_views", 12_028, isView: true, rows: { system in system.relations.filter { $0.kind == .view } }
    ) { table in
        table.optional("schemaname", .name) { row, system in .text(optional: system.namespaceName(row.namespace)) }
        table.optional("viewname", .name) { row, _ in .text(row.name) }
        table.optional("viewowner", .name) { row, _ in .text(row.collection.owner) }
        table.optional("definition", .text) { row, system in .text(optional: system.viewDefinition(row)) }
    }

    private static let indexes = SystemTable("pg_indexes", 12_043, isView: true, rows: { $0.indexes }) { table in
        table.optional("schemaname", .name) { row, system in
            .text(optional: system.namespaceName(ObjectNumbers.namespace(row.table.namespace)))
        }
        table.optional("tablename", .name) { row, _ in .text(row.table.name) }
        table.optional("indexname", .name) { row, _ in .text(row.name) }
        table.constant("tablespace", .name, .null)
        table.optional("indexdef", .text) { row, system in .text(system.definition(of: row)) }
    }

    private static let sequences = SystemTable(
        "pg_sequences", 12_048, isView: true,
        rows: { system in system.relations.filter { $0.collection.sequence != nil } }
    ) { table in
        table.optional("schemaname", .name) { row, system in .text(optional: system.namespaceName(row.namespace)) }
        table.optional("sequencename", .name) { row, _ in .text(row.name) }
        table.optional("sequenceowner", .name) { row, _ in .text(row.collection.owner) }
        table.optional("data_type", .regtype) { row, _ in .oid(row.sequence.type.oid) }
        table.optional("start_value", .int64) { row, _ in .integer(row.sequence.start) }
        table.optional("min_value", .int64) { row, _ in .integer(row.sequence.minimum) }
        table.optional("max_value", .int64) { row, _ in .integer(row.sequence.maximum) }
        table.optional("increment_by", .int64) { row, _ in .integer(row.sequence.increment) }
        table.optional("cycle", .bool) { row, _ in .bool(row.sequence.cycles) }
        table.optional("cache_size", .int64) { row, _ in .integer(row.sequence.cache) }
        // Numbers are drawn at a shard, not in the catalog.
        table.constant("last_value", .int64, .null)
    }

    /// The zones that need no table: others are known by name (`SET TimeZone`), but not listed.
    private static let timeZones = SystemTable(
        "pg_timezone_names", 12_126, isView: true, rows: { _ in ["UTC"] }
    ) { table in
        table.optional("name", .text) { row, _ in .text(row) }
        table.optional("abbrev", .text) { row, _ in .text(row) }
        table.constant("utc_offset", .interval, .interval(Interval()))
        table.constant("is_dst", .bool, .bool(false))
    }
}
