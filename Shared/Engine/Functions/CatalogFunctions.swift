import Base
import DataModel

/// What is asked of objects of the catalog by number or name.
enum CatalogFunctions {
    static let rows: [ScalarFunction] = names + definitions + comments + lookups

    /// A row that looks at the system catalogs.
    static func row(
        _ name: String, _ parameters: [DataType], _ result: DataType, isStrict: Bool = true,
        _ example: (String, String)?,
        _ body: @escaping @Sendable ([Value], SystemCatalog) throws(StatementError) -> Value
    ) -> ScalarFunction {
        ScalarFunction(
            name, parameters.map { .of($0) }, .of(result), volatility: .stable, isStrict: isStrict, example: example
        ) { arguments, context throws(StatementError) in try body(arguments, context.system) }
    }

    static func oid(_ value: Value) -> UInt32 {
        if case .integer(let number) = value { UInt32(truncatingIfNeeded: number) } else { 0 }
    }

    static func integer(_ value: Value) -> Int64 {
        if case .integer(let number) = value { number } else { 0 }
    }

    static func flag(_ value: Value) -> Bool {
        if case .bool(let flag) = value { flag } else { false }
    }

    private static func text(_ value: Value) -> String { TextFunctions.text(value) }

    // MARK: Names

    private static let names: [ScalarFunction] =
        [
            row(
                "format_type", [.oid, .int32], .text, isStrict: false,
                ("format_type('numeric'::regtype, 655366)", "numeric(10,2)")
            ) { a, _ throws(StatementError) in
                guard !a[0].isNull else { return .null }
                return .text(formattedType(oid(a[0]), a[1]))
            },
            row("pg_get_userbyid", [.oid], .name, ("pg_get_userbyid(10)", "orbit")) {
                a, system throws(StatementError) in
                .text(system.roleName(oid(a[0])) ?? "unknown (OID=\(oid(a[0])))")
            },
            row("pg_encoding_to_char", [.int32], .name, ("pg_encoding_to_char(6)", "UTF8")) {
                a, _ throws(StatementError) in
                .text(Int32(exactly: integer(a[0])).flatMap { TextEncoding.names[$0] } ?? "")
            },
            row("pg_char_to_encoding", [.name], .int32, ("pg_char_to_encoding('UTF8')", "6")) {
                a, _ throws(StatementError) in
                let wanted = text(a[0]).uppercased().filter { $0 != "-" }
                return .integer(Int64(TextEncoding.names.first { $0.value == wanted }?.key ?? -1))
            },
            row("getdatabaseencoding", [], .name, ("getdatabaseencoding()", "UTF8")) { _, _ throws(StatementError) in
                .text("UTF8")
            },
            row("current_schemas", [.bool], .name.array, ("current_schemas(false)", "{public}")) {
                a, system throws(StatementError) in
                let named = system.settings.searchPath
                let path = flag(a[0]) ? system.path.map(\.name) : named
                return .array(ArrayValue(.name, path.map(Value.text)))
            },
        ] + visibility + references

    private static func formattedType(_ oid: UInt32, _ modifier: Value) -> String {
        if oid == 0 { return "-" }
        guard let type = PostgresTypes.type(oid: oid) else { return PolymorphicType.names[oid] ?? "???" }
        guard case .integer(let number) = modifier else { return type.formattedWithoutLength }
        let limit = Int32(clamping: number)
        return DataType(type.kind, modifier: limit, isArray: type.isArray).formatted
    }

    private static let visibility: [ScalarFunction] = {
        var rows = [
            row("pg_table_is_visible", [.oid], .bool, ("pg_table_is_visible('pg_class'::regclass)", "true")) {
                a, system throws(StatementError) in
                system.relation(oid(a[0])).map { .bool(system.isVisible($0)) } ?? .null
            },
            row("pg_type_is_visible", [.oid], .bool, ("pg_type_is_visible('int4'::regtype)", "true")) {
                a, _ throws(StatementError) in PostgresTypes.type(oid: oid(a[0])) == nil ? .null : .bool(true)
            },
            row("pg_function_is_visible", [.oid], .bool, ("pg_function_is_visible(0)", "NULL")) {
                a, _ throws(StatementError) in SystemRoutine.name(oid(a[0])) == nil ? .null : .bool(true)
            },
        ]
        // All of these kinds that there are, are in pg_catalog.
        for kind in [
            "operator", "collation", "opclass", "opfamily", "conversion", "statistics_obj", "ts_config", "ts_dict",
            "ts_parser", "ts_template",
        ] {
            rows.append(
                row("pg_\(kind)_is_visible", [.oid], .bool, ("pg_\(kind)_is_visible(0)", "NULL")) {
                    a, _ throws(StatementError) in oid(a[0]) == 0 ? .null : .bool(true)
                })
        }
        return rows
    }()

    /// `to_regclass` and its like: NULL where a cast would fail.
    private static let references: [ScalarFunction] = [
        ("to_regclass", DataType.regclass, "pg_class"), ("to_regtype", .regtype, "integer"),
        ("to_regproc", .regproc, "int4in"), ("to_regnamespace", .regnamespace, "pg_catalog"),
        ("to_regrole", .regrole, "orbit"),
    ].map { name, type, example in
        row(name, [.text], type, ("\(name)('\(example)')::text", example)) { a, system throws(StatementError) in
            let name = text(a[0])
            // A number is no name.
            guard name.utf8.contains(where: { !(0x30...0x39).contains($0) }), name != "-" else { return .null }
            let found: UInt32? =
                if let number = try? ObjectNames(system).number(name, type.kind) { number } else { nil }
            return found.map(Value.oid) ?? .null
        }
    }

    // MARK: Definitions

    private static let definitions: [ScalarFunction] =
        [
            row("pg_get_expr", [.text, .oid], .text, ("pg_get_expr('x', 0)", "x")) { a, system throws(StatementError) in
                .text(optional: system.text(of: text(a[0]), isPretty: false))
            },
            row("pg_get_expr", [.text, .oid, .bool], .text, ("pg_get_expr('x', 0, true)", "x")) {
                a, system throws(StatementError) in
                .text(optional: system.text(of: text(a[0]), isPretty: flag(a[2])))
            },
            row("pg_get_constraintdef", [.oid], .text, ("pg_get_constraintdef(0)", "NULL")) {
                a, system throws(StatementError) in
                .text(optional: system.constraint(oid(a[0])).map { system.definition(of: $0, isPretty: false) })
            },
            row("pg_get_constraintdef", [.oid, .bool], .text, ("pg_get_constraintdef(0, true)", "NULL")) {
                a, system throws(StatementError) in
                .text(optional: system.constraint(oid(a[0])).map { system.definition(of: $0, isPretty: flag(a[1])) })
            },
            row("pg_get_indexdef", [.oid], .text, ("pg_get_indexdef(0)", "NULL")) { a, system throws(StatementError) in
                .text(optional: system.index(oid(a[0])).map { system.definition(of: $0) })
            },
            row("pg_get_indexdef", [.oid, .int32, .bool], .text, ("pg_get_indexdef(0, 0, true)", "NULL")) {
                a, system throws(StatementError) in
                let column = Int(clamping: integer(a[1]))
                return .text(
                    optional: system.index(oid(a[0])).map {
                        system.definition(of: $0, column: column, isPretty: flag(a[2]))
                    })
            },
            row("pg_get_viewdef", [.oid], .text, ("pg_get_viewdef(0)", "NULL")) { a, system throws(StatementError) in
                .text(optional: system.relation(oid(a[0])).flatMap { system.viewDefinition($0) })
            },
            row("pg_get_viewdef", [.oid, .bool], .text, ("pg_get_viewdef(0, true)", "NULL")) {
                a, system throws(StatementError) in
                .text(optional: system.relation(oid(a[0])).flatMap { system.viewDefinition($0) })
            },
            row("pg_get_viewdef", [.text], .text, nil) { a, system throws(StatementError) in
                let number = try ObjectNames(system).number(text(a[0]), .regclass)
                return .text(optional: system.relation(number).flatMap { system.viewDefinition($0) })
            },
            row("pg_get_function_result", [.oid], .text, ("pg_get_function_result(0)", "NULL")) {
                a, _ throws(StatementError) in
                guard let routine = SystemRoutine.numbered(oid(a[0])) else { return .null }
                let result = formattedType(routine.result, .null)
                return .text(routine.givesRows ? "SETOF " + result : result)
            },
        ]
        + ["pg_get_function_arguments", "pg_get_function_identity_arguments"].map { name in
            row(name, [.oid], .text, ("\(name)(0)", "NULL")) { a, _ throws(StatementError) in
                .text(optional: SystemRoutine.numbered(oid(a[0])).map(arguments))
            }
        }
        // Of kinds that do not exist here.
        + [
            "pg_get_ruledef", "pg_get_triggerdef", "pg_get_functiondef", "pg_get_partkeydef",
            "pg_get_statisticsobjdef_columns", "pg_get_statisticsobjdef", "pg_get_partition_constraintdef",
        ].map { name in
            row(name, [.oid], .text, ("\(name)(0)", "NULL")) { _, _ throws(StatementError) in .null }
        }

    private static func arguments(_ routine: SystemRoutine) -> String {
        routine.arguments.enumerated().map { place, number in
            let isLast = place == routine.arguments.count - 1
            return (routine.isVariadic && isLast ? "VARIADIC " : "") + formattedType(number, .null)
        }.joined(separator: ", ")
    }

    // MARK: Comments

    private static let comments: [ScalarFunction] = [
        row("obj_description", [.oid, .name], .text, ("obj_description(0, 'pg_class')", "NULL")) {
            a, system throws(StatementError) in
            guard text(a[1]) == "pg_class" else { return .null }
            return comment(oid(a[0]), 0, system)
        },
        row("obj_description", [.oid], .text, ("obj_description(0)", "NULL")) { a, system throws(StatementError) in
            comment(oid(a[0]), 0, system)
        },
        row("col_description", [.oid, .int32], .text, ("col_description(0, 1)", "NULL")) {
            a, system throws(StatementError) in
            comment(oid(a[0]), UInt16(clamping: integer(a[1])), system)
        },
        row("shobj_description", [.oid, .name], .text, ("shobj_description(0, 'pg_database')", "NULL")) {
            _, _ throws(StatementError) in .null
        },
    ]

    private static func comment(_ object: UInt32, _ column: UInt16, _ system: SystemCatalog) -> Value {
        .text(optional: system.comments.first { $0.object == object && $0.column == column }?.text)
    }

    // MARK: Look-ups

    private static let lookups: [ScalarFunction] = [
        row("pg_get_serial_sequence", [.text, .text], .text, nil) { a, system throws(StatementError) in
            let number = try ObjectNames(system).number(text(a[0]), .regclass)
            guard let table = system.relation(number) else { return .null }
            guard let column = table.collection.column(named: text(a[1])) else {
                throw StatementError(
                    .undefinedColumn, "column \"\(text(a[1]))\" of relation \"\(table.name)\" does not exist")
            }
            guard let sequence = column.sequence else { return .null }
            return .text(ObjectNames(system).relation(sequence.rawValue, isAlwaysQualified: true))
        },
        row("pg_relation_is_publishable", [.regclass], .bool, ("pg_relation_is_publishable(0)", "false")) {
            _, _ throws(StatementError) in .bool(false)
        },
        row("pg_relation_is_updatable", [.regclass, .bool], .int32, ("pg_relation_is_updatable(0, true)", "0")) {
            a, system throws(StatementError) in
            guard let found = system.relation(oid(a[0])), found.kind == .table, !found.isSystem else {
                return .integer(0)
            }
            return .integer(28)
        },
        row(
            "pg_column_is_updatable", [.regclass, .int16, .bool], .bool,
            ("pg_column_is_updatable(0, 1::int2, true)", "false")
        ) { a, system throws(StatementError) in
            .bool(system.relation(oid(a[0])).map { $0.kind == .table && !$0.isSystem } ?? false)
        },
        row("pg_my_temp_schema", [], .oid, ("pg_my_temp_schema()", "0")) { _, _ throws(StatementError) in .integer(0) },
        row("pg_is_other_temp_schema", [.oid], .bool, ("pg_is_other_temp_schema(0)", "false")) {
            _, _ throws(StatementError) in .bool(false)
        },
        row("pg_tablespace_location", [.oid], .text, ("pg_tablespace_location(1663)", "")) {
            _, _ throws(StatementError) in .text("")
        },
        row("row_security_active", [.oid], .bool, ("row_security_active(0)", "false")) {
            _, _ throws(StatementError) in .bool(false)
        },
        row("pg_is_in_recovery", [], .bool, ("pg_is_in_recovery()", "false")) { _, _ throws(StatementError) in
            .bool(false)
        },
        row("pg_jit_available", [], .bool, ("pg_jit_available()", "false")) { _, _ throws(StatementError) in
            .bool(false)
        },
    ]
}
