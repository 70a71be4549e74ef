import DataModel

/// What is known of types: pg_type and pg_collation.
enum TypeTables {
    static let tables: [SystemTable] = [types, collations]

    /// A type of pg_type: one of ours, or the array of it.
    struct Row: Sendable {
        let type: DataType
        var postgres: PostgresType { type.postgres }
        /// The functions that read and write it: words before `in`, `out`, `recv`, `send`.
        var stem: String { type.isArray ? "array_" : TypeTables.stems[type.kind] ?? type.name }
        /// Before `typmodin` and `typmodout`; nil: it takes no modifier.
        var modifierStem: String? { TypeTables.modifierStems[type.kind] }
    }

    static let rows: [Row] = {
        let own = PostgresTypes.rows.map { Row(type: DataType($0.kind)) }
        let arrays = PostgresTypes.rows.filter { $0.arrayOID != 0 }.map { Row(type: DataType($0.kind).array) }
        return (own + arrays).sorted { $0.type.oid < $1.type.oid }
    }()

    private static let stems: [DataType.Kind: String] = [
        .bytes: "bytea", .json: "json_", .date: "date_", .time: "time_", .timestamp: "timestamp_",
        .timestampWithZone: "timestamptz_", .interval: "interval_", .timeWithZone: "timetz_", .decimal: "numeric_",
        .record: "record_", .void: "void_", .uuid: "uuid_", .jsonb: "jsonb_",
    ]

    private static let modifierStems: [DataType.Kind: String] = [
        .char: "bpchar", .varchar: "varchar", .time: "time", .timestamp: "timestamp",
        .timestampWithZone: "timestamptz", .interval: "interval", .timeWithZone: "timetz", .decimal: "numeric",
    ]

    static func isByValue(_ type: DataType) -> Bool { !type.isArray && type.postgres.isByValue }

    static func alignment(_ type: DataType) -> String {
        guard type.isArray else { return String(type.postgres.alignment) }
        return type.postgres.alignment == "d" ? "d" : "i"
    }

    /// `typstorage`: plain for what has one length, main for numbers, extended for the others.
    static func storage(_ type: DataType) -> String {
        if type.isArray { return "x" }
        switch type.kind {
        case .decimal: return "m"
        case .int16Vector, .oidVector, .unknown: return "p"
        case _: return type.postgres.length == -1 ? "x" : "p"
        }
    }

    /// `typelem`: also of vectors and of `name`, whose parts can be subscripted.
    private static func element(_ type: DataType) -> UInt32 {
        if type.isArray { return type.element.oid }
        switch type.kind {
        case .name: return DataType.internalChar.oid
        case .int16Vector, .oidVector: return type.element.oid
        case _: return 0
        }
    }

    private static func subscripting(_ type: DataType) -> String? {
        if type.isArray { return "array_subscript_handler" }
        switch type.kind {
        case .name: return "raw_array_subscript_handler"
        case .int16Vector, .oidVector: return "array_subscript_handler"
        case .jsonb: return "jsonb_subscript_handler"
        case _: return nil
        }
    }

    private static func isPseudo(_ type: DataType) -> Bool {
        type.kind == .unknown || type.kind == .record || type.kind == .void
    }

    private static func routine(_ name: String?) -> Value { .oid(name.map { SystemRoutine.inner($0) } ?? 0) }

    private static let types = SystemTable("pg_type", 1247, rows: { _ in rows }) { table in
        table.add("oid", .oid) { row, _ in .oid(row.type.oid) }
        table.add("typname", .name) { row, _ in .text(row.type.name) }
        table.constant("typnamespace", .oid, .oid(11))
        table.constant("typowner", .oid, .oid(10))
        table.add("typlen", .int16) { row, _ in .number(row.type.storedLength) }
        table.add("typbyval", .bool) { row, _ in .bool(isByValue(row.type)) }
        table.add("typtype", .internalChar) { row, _ in .text(isPseudo(row.type) ? "p" : "b") }
        table.add("typcategory", .internalChar) { row, _ in
            .text(row.type.isArray && isPseudo(row.type) ? "P" : String(row.type.category))
        }
        table.add("typispreferred", .bool) { row, _ in .bool(row.type.isPreferred) }
        table.constant("typisdefined", .bool, .bool(true))
        table.constant("typdelim", .internalChar, .text(","))
        table.constant("typrelid", .oid, .oid(0))
        table.add("typsubscript", .regproc) { row, _ in routine(subscripting(row.type)) }
        table.add("typelem", .oid) { row, _ in .oid(element(row.type)) }
        table.add("typarray", .oid) { row, _ in .oid(row.type.isArray ? 0 : row.postgres.arrayOID) }
        table.add("typinput", .regproc) { row, _ in routine(row.stem + "in") }
        table.add("typoutput", .regproc) { row, _ in routine(row.stem + "out") }
        table.add("typreceive", .regproc) { row, _ in routine(row.stem + "recv") }
        table.add("typsend", .regproc) { row, _ in routine(row.stem + "send") }
        table.add("typmodin", .regproc) { row, _ in routine(row.modifierStem.map { $0 + "typmodin" }) }
        table.add("typmodout", .regproc) { row, _ in routine(row.modifierStem.map { $0 + "typmodout" }) }
        table.add("typanalyze", .regproc) { row, _ in routine(row.type.isArray ? "array_typanalyze" : nil) }
        table.add("typalign", .internalChar) { row, _ in .text(alignment(row.type)) }
        table.add("typstorage", .internalChar) { row, _ in .text(storage(row.type)) }
        table.constant("typnotnull", .bool, .bool(false))
        table.constant("typbasetype", .oid, .oid(0))
        table.constant("typtypmod", .int32, .integer(-1))
        table.constant("typndims", .int32, .integer(0))
        table.add("typcollation", .oid) { row, _ in .oid(row.postgres.collation) }
        table.constant("typdefaultbin", .text, .null)
        table.constant("typdefault", .text, .null)
        table.constant("typacl", .text.array, .null)
    }

    private static let collations = SystemTable("pg_collation", 3456, rows: { _ in Collation.allCases }) { table in
        table.add("oid", .oid) { row, _ in .oid(row.oid) }
        table.add("collname", .name) { row, _ in .text(row.name) }
        table.constant("collnamespace", .oid, .oid(11))
        table.constant("collowner", .oid, .oid(10))
        table.add("collprovider", .internalChar) { row, _ in
            .text(row == .standard ? "d" : row == .root ? "i" : "c")
        }
        table.constant("collisdeterministic", .bool, .bool(true))
        table.add("collencoding", .int32) { row, _ in .integer(row == .simple ? 6 : -1) }
        for name in ["collcollate", "collctype"] {
            table.optional(name, .text) { row, _ in
                row.knowsASCIIOnly ? .text(row == .posix ? "POSIX" : "C") : .null
            }
        }
        table.optional("colliculocale", .text) { row, _ in row == .root ? .text("und") : .null }
        table.constant("collversion", .text, .null)
    }
}

/// How rows are ordered and found: pg_am and the operator classes of its indexes.
enum AccessMethod {
    static let heap: UInt32 = 2, btree: UInt32 = 403

    static let rows: [(UInt32, String, String, String)] = [
        (heap, "heap", "heap_tableam_handler", "t"), (btree, "btree", "bthandler", "i"),
    ]

    /// Number, name, family and its name, type.
    static let operatorClasses: [(UInt32, String, UInt32, String, DataType)] = [
        (10_003, "bool_ops", 424, "bool_ops", .bool), (10_006, "bytea_ops", 428, "bytea_ops", .bytes),
        (10_007, "char_ops", 429, "char_ops", .internalChar), (10_028, "name_ops", 1994, "text_ops", .name),
        (3124, "int8_ops", 1976, "integer_ops", .int64), (1979, "int2_ops", 1976, "integer_ops", .int16),
        (1978, "int4_ops", 1976, "integer_ops", .int32), (3126, "text_ops", 1994, "text_ops", .text),
        (1981, "oid_ops", 1989, "oid_ops", .oid), (10_032, "oidvector_ops", 1991, "oidvector_ops", .oidVector),
        (10_012, "float4_ops", 1970, "float_ops", .float32), (3123, "float8_ops", 1970, "float_ops", .float64),
        (10_004, "bpchar_ops", 426, "bpchar_ops", .char), (3122, "date_ops", 434, "datetime_ops", .date),
        (10_038, "time_ops", 1996, "time_ops", .time), (3128, "timestamp_ops", 434, "datetime_ops", .timestamp),
        (3127, "timestamptz_ops", 434, "datetime_ops", .timestampWithZone),
        (10_022, "interval_ops", 1982, "interval_ops", .interval),
        (10_041, "timetz_ops", 2000, "timetz_ops", .timeWithZone),
        (3125, "numeric_ops", 1988, "numeric_ops", .decimal), (10_065, "uuid_ops", 2968, "uuid_ops", .uuid),
        (10_088, "jsonb_ops", 4033, "jsonb_ops", .jsonb),
    ]

    private static let arrays: UInt32 = 10_000

    static func operatorClass(of type: DataType) -> UInt32 {
        if type.isArray { return arrays }
        let kind = type.kind == .varchar ? DataType.Kind.text : type.kind
        return operatorClasses.first { $0.4.kind == kind }?.0 ?? 1981
    }
}
