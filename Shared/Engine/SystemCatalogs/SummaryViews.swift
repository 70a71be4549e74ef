import DataModel

/// The views of pg_catalog that say the same as its tables, with names instead of numbers.
enum SummaryViews {
    static let tables: [SystemTable] = [tableList, views, indexes, sequences, statistics, timeZones]

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

    /// What ANALYZE has found of one column.
    private struct ColumnStatistics {
        let relation: Relation
        let column: CollectionDescriptor.Column
        let found: CollectionDescriptor.Statistics.Column
        let rows: Double

        /// As PostgreSQL says it: a number, or, where there are more with more rows, a part of all rows, negated.
        var distinct: Double {
            let distinct = Double(found.distinct)
            return distinct > rows / 10 ? -min(distinct / rows, 1) : distinct
        }

        func array(_ values: [Value], _ system: SystemCatalog) -> Value {
            guard !values.isEmpty, !column.type.isArray else { return .null }
            let array = Value.array(ArrayValue(column.type, values))
            return .text(TextForms.text(array, column.type.array, system.settings))
        }
    }

    private static let statistics = SystemTable(
        "pg_stats", 12_053, isView: true,
        rows: { system in
            system.relations.flatMap { relation -> [ColumnStatistics] in
                guard relation.kind == .table, let known = relation.collection.statistics,
                    system.mayRead(relation.collection)
                else { return [] }
                return relation.collection.columns.compactMap { column in
                    known.columns.first { $0.column == column.id }.map {
                        ColumnStatistics(
                            relation: relation, column: column, found: $0, rows: max(Double(known.rows), 1))
                    }
                }
            }
        }
    ) { table in
        table.optional("schemaname", .name) { row, system in
            .text(optional: system.namespaceName(row.relation.namespace))
        }
        table.optional("tablename", .name) { row, _ in .text(row.relation.name) }
        table.optional("attname", .name) { row, _ in .text(row.column.name) }
        table.optional("inherited", .bool) { _, _ in .bool(false) }
        table.optional("null_frac", .float32) { row, _ in .float(Double(Float(Double(row.found.nulls) / row.rows))) }
        table.optional("avg_width", .int32) { row, _ in .number(row.found.width) }
        table.optional("n_distinct", .float32) { row, _ in .float(Double(Float(row.distinct))) }
        table.optional("most_common_vals", .text) { row, system in row.array(row.found.common.map(\.value), system) }
        table.optional("most_common_freqs", .float32.array) { row, _ in
            let parts = row.found.common.map { Value.float(Double(Float(Double($0.rows) / row.rows))) }
            return parts.isEmpty ? .null : .array(ArrayValue(.float32, parts))
        }
        table.optional("histogram_bounds", .text) { row, system in row.array(row.found.bounds, system) }
        table.constant("correlation", .float32, .null)
        table.constant("most_common_elems", .text, .null)
        table.constant("most_common_elem_freqs", .float32.array, .null)
        table.constant("elem_count_histogram", .float32.array, .null)
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
