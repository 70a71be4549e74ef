/// How PostgreSQL names and numbers a type: a row of its catalog pg_type. Clients know the numbers by heart.
package struct PostgresType: Hashable, Sendable {
    package let kind: DataType.Kind
    /// `typname`, as in pg_type.
    package let name: String
    /// What `format_type` calls it without a modifier.
    package let title: String
    package let oid: UInt32
    /// 0: there are no arrays of it.
    package let arrayOID: UInt32
    /// `typlen`: -1 variable, -2 null-terminated.
    package let length: Int16
    package let isByValue: Bool
    /// `typalign`: c, s, i, d.
    package let alignment: Character
    /// `typcategory`: type resolution prefers types of one category.
    package let category: Character
    package let isPreferred: Bool
    /// `typcollation`: 0 none, 100 default, 950 C.
    package let collation: UInt32

    fileprivate init(
        _ kind: DataType.Kind, _ name: String, _ title: String, _ oid: UInt32, _ arrayOID: UInt32, _ length: Int16,
        _ isByValue: Bool, _ alignment: Character, _ category: Character, isPreferred: Bool = false,
        collation: UInt32 = 0
    ) {
        self.kind = kind
        self.name = name
        self.title = title
        self.oid = oid
        self.arrayOID = arrayOID
        self.length = length
        self.isByValue = isByValue
        self.alignment = alignment
        self.category = category
        self.isPreferred = isPreferred
        self.collation = collation
    }
}

/// The table of PostgreSQL's types, and look-ups in it.
package enum PostgresTypes {
    /// One row for each kind, in the order of their numbers there.
    package static let rows: [PostgresType] = [
        PostgresType(.bool, "bool", "boolean", 16, 1000, 1, true, "c", "B", isPreferred: true),
        PostgresType(.bytes, "bytea", "bytea", 17, 1001, -1, false, "i", "U"),
        PostgresType(.internalChar, "char", "\"char\"", 18, 1002, 1, true, "c", "Z"),
        PostgresType(.name, "name", "name", 19, 1003, 64, false, "c", "S", collation: 950),
        PostgresType(.int64, "int8", "bigint", 20, 1016, 8, true, "d", "N"),
        PostgresType(.int16, "int2", "smallint", 21, 1005, 2, true, "s", "N"),
        PostgresType(.int16Vector, "int2vector", "int2vector", 22, 1006, -1, false, "i", "A"),
        PostgresType(.int32, "int4", "integer", 23, 1007, 4, true, "i", "N"),
        PostgresType(.regproc, "regproc", "regproc", 24, 1008, 4, true, "i", "N"),
        PostgresType(.text, "text", "text", 25, 1009, -1, false, "i", "S", isPreferred: true, collation: 100),
        PostgresType(.oid, "oid", "oid", 26, 1028, 4, true, "i", "N", isPreferred: true),
        PostgresType(.transactionID, "xid", "xid", 28, 1011, 4, true, "i", "U"),
        PostgresType(.oidVector, "oidvector", "oidvector", 30, 1013, -1, false, "i", "A"),
        PostgresType(.json, "json", "json", 114, 199, -1, false, "i", "U"),
        PostgresType(.float32, "float4", "real", 700, 1021, 4, true, "i", "N"),
        PostgresType(.float64, "float8", "double precision", 701, 1022, 8, true, "d", "N", isPreferred: true),
        PostgresType(.unknown, "unknown", "unknown", 705, 0, -2, false, "c", "X"),
        PostgresType(.char, "bpchar", "character", 1042, 1014, -1, false, "i", "S", collation: 100),
        PostgresType(.varchar, "varchar", "character varying", 1043, 1015, -1, false, "i", "S", collation: 100),
        PostgresType(.date, "date", "date", 1082, 1182, 4, true, "i", "D"),
        PostgresType(.time, "time", "time without time zone", 1083, 1183, 8, true, "d", "D"),
        PostgresType(.timestamp, "timestamp", "timestamp without time zone", 1114, 1115, 8, true, "d", "D"),
        PostgresType(
            .timestampWithZone, "timestamptz", "timestamp with time zone", 1184, 1185, 8, true, "d", "D",
            isPreferred: true),
        PostgresType(.interval, "interval", "interval", 1186, 1187, 16, false, "d", "T", isPreferred: true),
        PostgresType(.timeWithZone, "timetz", "time with time zone", 1266, 1270, 12, false, "d", "D"),
        PostgresType(.decimal, "numeric", "numeric", 1700, 1231, -1, false, "i", "N"),
        PostgresType(.regclass, "regclass", "regclass", 2205, 2210, 4, true, "i", "N"),
        PostgresType(.regtype, "regtype", "regtype", 2206, 2211, 4, true, "i", "N"),
        PostgresType(.record, "record", "record", 2249, 2287, -1, false, "d", "P"),
        PostgresType(.void, "void", "void", 2278, 0, 4, true, "i", "P"),
        PostgresType(.uuid, "uuid", "uuid", 2950, 2951, 16, false, "c", "U"),
        PostgresType(.jsonb, "jsonb", "jsonb", 3802, 3807, -1, false, "i", "U"),
        PostgresType(.regnamespace, "regnamespace", "regnamespace", 4089, 4090, 4, true, "i", "N"),
        PostgresType(.regrole, "regrole", "regrole", 4096, 4097, 4, true, "i", "N"),
    ]

    private static let byKind: [PostgresType?] = {
        var table = [PostgresType?](repeating: nil, count: 256)
        for row in rows { table[Int(row.kind.rawValue)] = row }
        return table
    }()

    private static let byOID: [UInt32: DataType] = {
        var table: [UInt32: DataType] = [:]
        for row in rows {
            table[row.oid] = DataType(row.kind)
            if row.arrayOID != 0 { table[row.arrayOID] = DataType(row.kind, isArray: true) }
        }
        return table
    }()

    private static let byName: [String: DataType] = {
        var table: [String: DataType] = [:]
        for row in rows {
            table[row.name] = DataType(row.kind)
            if row.arrayOID != 0 { table["_" + row.name] = DataType(row.kind, isArray: true) }
        }
        return table
    }()

    private static let bySpelling: [String: DataType.Kind] = [
        "boolean": .bool, "smallint": .int16, "integer": .int32, "int": .int32, "bigint": .int64, "real": .float32,
        "float": .float64, "double precision": .float64, "decimal": .decimal, "dec": .decimal,
        "char": .char, "character": .char, "national character": .char, "national char": .char, "nchar": .char,
        "character varying": .varchar, "char varying": .varchar, "national character varying": .varchar,
        "national char varying": .varchar, "nchar varying": .varchar,
        "time without time zone": .time, "time with time zone": .timeWithZone,
        "timestamp without time zone": .timestamp, "timestamp with time zone": .timestampWithZone,
    ]

    /// The row of a kind.
    package static func row(of kind: DataType.Kind) -> PostgresType { byKind[Int(kind.rawValue)] ?? rows[0] }

    /// The type with that number, arrays included; nil if we have none.
    package static func type(oid: UInt32) -> DataType? { byOID[oid] }

    /// The type that is called so in pg_type (`int4`, `_text`, `char` for the internal one).
    package static func type(named name: String) -> DataType? { byName[name] }

    /// The type that the words of SQL's grammar mean (`integer`, `character varying`, `char`), in lower case and with
    /// one blank between; names of pg_type too. Bare `char` and `character` without a length mean one character:
    /// then the modifier says so.
    package static func type(spelled words: String) -> DataType? {
        guard let kind = bySpelling[words] else { return byName[words] }
        return DataType(kind, modifier: kind == .char ? 5 : -1)
    }
}

extension DataType {
    /// The row of pg_type; of an array, that of its elements.
    package var postgres: PostgresType { PostgresTypes.row(of: kind) }

    /// The number of the type in PostgreSQL.
    package var oid: UInt32 { isArray ? postgres.arrayOID : postgres.oid }

    /// `typlen`.
    package var storedLength: Int16 { isArray ? -1 : postgres.length }

    /// `typcategory`.
    package var category: Character { isArray ? "A" : postgres.category }

    /// Whether type resolution prefers it within its category.
    package var isPreferred: Bool { !isArray && postgres.isPreferred }

    /// The name in pg_type: arrays begin with an underscore.
    package var name: String { isArray ? "_" + postgres.name : postgres.name }

    /// What `format_type` says: `character varying(10)`, `numeric(10,2)[]`; without a length `bpchar`, since
    /// `character` alone would mean one character.
    package var formatted: String {
        let title = kind == .char && modifier < 4 ? postgres.name : constrainedTitle
        return isArray ? title + "[]" : title
    }

    /// What error messages call it: without its modifier.
    package var title: String { isArray ? postgres.title + "[]" : postgres.title }

    private var constrainedTitle: String {
        let title = postgres.title
        guard modifier >= 0 else { return title }
        switch kind {
        case .varchar, .char: return "\(title)(\(modifier &- 4))"
        case .decimal: return "numeric(\(precision ?? 0),\(scale ?? 0))"
        case .time: return "time(\(modifier)) without time zone"
        case .timeWithZone: return "time(\(modifier)) with time zone"
        case .timestamp: return "timestamp(\(modifier)) without time zone"
        case .timestampWithZone: return "timestamp(\(modifier)) with time zone"
        case .interval: return title + IntervalFields(modifier: modifier).title
        case .bool, .int16, .int32, .int64, .float32, .float64, .text, .name, .bytes, .uuid, .date, .json, .jsonb,
            .oid, .regclass, .regtype, .regproc, .regnamespace, .regrole, .internalChar, .int16Vector, .oidVector,
            .transactionID, .record, .void, .unknown:
            return title
        }
    }
}
