import DataModel

/// A function as pg_proc has it, or an operator as pg_operator has it.
struct SystemRoutine: Sendable {
    enum Kind: String, Sendable { case function = "f", aggregate = "a", window = "w" }

    let name: String
    let arguments: [UInt32]
    let result: UInt32
    let kind: Kind
    let volatility: Volatility
    let isStrict: Bool, givesRows: Bool, isVariadic: Bool

    /// What its number is made of.
    var signature: String { "\(name)(\(arguments.map(String.init).joined(separator: ",")))" }
    var oid: UInt32 { ObjectNumbers.routine(signature) }
    var isOperator: Bool {
        !(name.utf8.first.map { ($0 | 0x20) >= 0x61 && ($0 | 0x20) <= 0x7a || $0 == 0x5f } ?? false)
    }

    /// The number of a function that only the system calls: one that reads or writes a type.
    static func inner(_ name: String) -> UInt32 { ObjectNumbers.routine(name) }

    /// All functions and operators there are.
    static let all: [SystemRoutine] = {
        var list: [SystemRoutine] = Registry.scalars.map { row in
            SystemRoutine(
                name: row.name, arguments: row.parameters.map(\.number), result: row.result.number, kind: .function,
                volatility: row.volatility, isStrict: row.isStrict, givesRows: false, isVariadic: row.isVariadic)
        }
        list += Registry.aggregates.map { row in
            SystemRoutine(
                name: row.name, arguments: row.parameters.map(\.number), result: row.result.number, kind: .aggregate,
                volatility: .immutable, isStrict: false, givesRows: false, isVariadic: row.isVariadic)
        }
        list += Registry.rows.map { row in
            SystemRoutine(
                name: row.name, arguments: row.parameters.map(\.number),
                result: row.columns.isEmpty ? row.result.number : DataType.record.oid, kind: .function,
                volatility: .immutable, isStrict: row.isStrict, givesRows: true, isVariadic: row.isVariadic)
        }
        list += WindowFunction.allCases.map { row in
            SystemRoutine(
                name: row.rawValue, arguments: [], result: DataType.int64.oid, kind: .window, volatility: .immutable,
                isStrict: false, givesRows: false, isVariadic: false)
        }
        var seen: Set<String> = []
        return list.filter { !$0.name.contains(" ") && seen.insert($0.signature).inserted }
    }()

    static let functions = all.filter { !$0.isOperator }
    static let operators = all.filter(\.isOperator)
    private static let byName = Dictionary(grouping: functions, by: \.name)
    private static let byNumber = Dictionary(functions.map { ($0.oid, $0) }, uniquingKeysWith: { first, _ in first })
    private static let innerNames: [String: UInt32] = {
        var names: [String: UInt32] = [:]
        for row in TypeTables.rows {
            for ending in ["in", "out", "recv", "send"] { names[row.stem + ending] = inner(row.stem + ending) }
            if let stem = row.modifierStem {
                for ending in ["typmodin", "typmodout"] { names[stem + ending] = inner(stem + ending) }
            }
        }
        for name in ["array_typanalyze", "array_subscript_handler", "raw_array_subscript_handler"] {
            names[name] = inner(name)
        }
        for name in ["jsonb_subscript_handler", "heap_tableam_handler", "bthandler"] { names[name] = inner(name) }
        return names
    }()
    private static let innerByNumber = Dictionary(
        innerNames.map { ($0.value, $0.key) }, uniquingKeysWith: { first, _ in first })

    /// Whether it is a function of information_schema: PostgreSQL has them for its views, and clients use one.
    static func isInformation(_ qualifier: [String], _ name: String) -> Bool {
        qualifier == ["information_schema"] && name == RecordShape.expandedArray
    }

    static func named(_ name: String) -> [SystemRoutine] { byName[name] ?? [] }
    static func innerNumber(_ name: String) -> UInt32? { innerNames[name] }
    static func numbered(_ oid: UInt32) -> SystemRoutine? { byNumber[oid] }
    static func name(_ oid: UInt32) -> String? { byNumber[oid]?.name ?? innerByNumber[oid] }
}

/// Pseudo-types that stand for any type in the signature of a function.
enum PolymorphicType {
    static let names: [UInt32: String] = [
        2276: "\"any\"", 2277: "anyarray", 2283: "anyelement", 2776: "anynonarray", 5077: "anycompatible",
        5078: "anycompatiblearray",
    ]
}

extension ParameterType {
    var number: UInt32 {
        switch self {
        case .of(let type): type.oid
        case .any: 2276
        case .anyArray: 2277
        case .anyElement: 2283
        case .anyCompatible: 5077
        case .anyCompatibleArray: 5078
        case .anyNonArray: 2776
        }
    }
}

extension ResultType {
    var number: UInt32 {
        switch self {
        case .of(let type): type.oid
        case .array: 2277
        case .element: 2283
        case .common: 5077
        case .commonArray: 5078
        }
    }
}

/// What is known of functions and operators: pg_proc, pg_operator, and what orders rows.
enum RoutineTables {
    static let tables: [SystemTable] = [functions, operators, languages, accessMethods, operatorClasses, families]

    private static let functions = SystemTable("pg_proc", 1255, rows: { _ in SystemRoutine.functions }) { table in
        table.add("oid", .oid) { row, _ in .oid(row.oid) }
        table.add("proname", .name) { row, _ in .text(row.name) }
        table.constant("pronamespace", .oid, .oid(11))
        table.constant("proowner", .oid, .oid(10))
        table.constant("prolang", .oid, .oid(12))
        table.constant("procost", .float32, .float(1))
        table.add("prorows", .float32) { row, _ in .float(row.givesRows ? 1000 : 0) }
        table.add("provariadic", .oid) { row, _ in .oid(row.isVariadic ? row.arguments.last ?? 0 : 0) }
        table.constant("prosupport", .regproc, .oid(0))
        table.add("prokind", .internalChar) { row, _ in .text(row.kind.rawValue) }
        table.constant("prosecdef", .bool, .bool(false))
        table.constant("proleakproof", .bool, .bool(false))
        table.add("proisstrict", .bool) { row, _ in .bool(row.isStrict) }
        table.add("proretset", .bool) { row, _ in .bool(row.givesRows) }
        table.add("provolatile", .internalChar) { row, _ in
            switch row.volatility {
            case .immutable: .text("i")
            case .stable: .text("s")
            case .volatile: .text("v")
            }
        }
        table.constant("proparallel", .internalChar, .text("s"))
        table.add("pronargs", .int16) { row, _ in .number(row.arguments.count) }
        table.constant("pronargdefaults", .int16, .integer(0))
        table.add("prorettype", .oid) { row, _ in .oid(row.result) }
        table.add("proargtypes", .oidVector) { row, _ in .vector(.oid, row.arguments.map(Int64.init)) }
        table.constant("proallargtypes", .oid.array, .null)
        table.constant("proargmodes", .internalChar.array, .null)
        table.constant("proargnames", .text.array, .null)
        table.constant("proargdefaults", .text, .null)
        table.constant("protrftypes", .oid.array, .null)
        table.add("prosrc", .text) { row, _ in .text(row.name) }
        table.constant("probin", .text, .null)
        table.constant("prosqlbody", .text, .null)
        table.constant("proconfig", .text.array, .null)
        table.constant("proacl", .text.array, .null)
    }

    private static let operators = SystemTable("pg_operator", 2617, rows: { _ in SystemRoutine.operators }) { table in
        table.add("oid", .oid) { row, _ in .oid(row.oid) }
        table.add("oprname", .name) { row, _ in .text(row.name) }
        table.constant("oprnamespace", .oid, .oid(11))
        table.constant("oprowner", .oid, .oid(10))
        table.add("oprkind", .internalChar) { row, _ in .text(row.arguments.count == 1 ? "l" : "b") }
        table.constant("oprcanmerge", .bool, .bool(false))
        table.constant("oprcanhash", .bool, .bool(false))
        table.add("oprleft", .oid) { row, _ in .oid(row.arguments.count == 1 ? 0 : row.arguments.first ?? 0) }
        table.add("oprright", .oid) { row, _ in .oid(row.arguments.last ?? 0) }
        table.add("oprresult", .oid) { row, _ in .oid(row.result) }
        table.constant("oprcom", .oid, .oid(0))
        table.constant("oprnegate", .oid, .oid(0))
        for name in ["oprcode", "oprrest", "oprjoin"] { table.constant(name, .regproc, .oid(0)) }
    }

    private static let languages = SystemTable(
        "pg_language", 2612, rows: { _ in [(12 as UInt32, "internal"), (14, "sql")] }
    ) { table in
        table.add("oid", .oid) { row, _ in .oid(row.0) }
        table.add("lanname", .name) { row, _ in .text(row.1) }
        table.constant("lanowner", .oid, .oid(10))
        table.constant("lanispl", .bool, .bool(false))
        table.add("lanpltrusted", .bool) { row, _ in .bool(row.1 == "sql") }
        for name in ["lanplcallfoid", "laninline", "lanvalidator"] { table.constant(name, .oid, .oid(0)) }
        table.constant("lanacl", .text.array, .null)
    }

    private static let accessMethods = SystemTable("pg_am", 2601, rows: { _ in AccessMethod.rows }) { table in
        table.add("oid", .oid) { row, _ in .oid(row.0) }
        table.add("amname", .name) { row, _ in .text(row.1) }
        table.add("amhandler", .regproc) { row, _ in .oid(SystemRoutine.inner(row.2)) }
        table.add("amtype", .internalChar) { row, _ in .text(row.3) }
    }

    private static let operatorClasses = SystemTable(
        "pg_opclass", 2616, rows: { _ in AccessMethod.operatorClasses }
    ) { table in
        table.add("oid", .oid) { row, _ in .oid(row.0) }
        table.constant("opcmethod", .oid, .oid(AccessMethod.btree))
        table.add("opcname", .name) { row, _ in .text(row.1) }
        table.constant("opcnamespace", .oid, .oid(11))
        table.constant("opcowner", .oid, .oid(10))
        table.add("opcfamily", .oid) { row, _ in .oid(row.2) }
        table.add("opcintype", .oid) { row, _ in .oid(row.4.oid) }
        table.constant("opcdefault", .bool, .bool(true))
        table.constant("opckeytype", .oid, .oid(0))
    }

    private static let families = SystemTable("pg_opfamily", 2753, rows: { _ in familyRows }) { table in
        table.add("oid", .oid) { row, _ in .oid(row.0) }
        table.constant("opfmethod", .oid, .oid(AccessMethod.btree))
        table.add("opfname", .name) { row, _ in .text(row.1) }
        table.constant("opfnamespace", .oid, .oid(11))
        table.constant("opfowner", .oid, .oid(10))
    }

    private static let familyRows: [(UInt32, String)] = {
        var seen: Set<UInt32> = []
        return AccessMethod.operatorClasses.filter { seen.insert($0.2).inserted }.map { ($0.2, $0.3) }
    }()
}
