import Base
import DataModel

/// What is known of tables, views, sequences and indexes: pg_class and its companions.
enum RelationTables {
    static let tables: [SystemTable] = [
        namespaces, classes, attributes, defaults, indexes, constraints, sequences, rules, dependencies, descriptions,
    ]

    /// `tableoid` of catalog tables, by which comments and dependencies name objects.
    static let classNumber: UInt32 = 1259, namespaceNumber: UInt32 = 2615

    private static let namespaces = SystemTable("pg_namespace", 2615, rows: { $0.namespaces }) { table in
        table.add("oid", .oid) { row, _ in .oid(row.oid) }
        table.add("nspname", .name) { row, _ in .text(row.name) }
        table.add("nspowner", .oid) { row, _ in .oid(ObjectNumbers.role(row.owner)) }
        table.optional("nspacl", .text.array) { row, _ in .grants(row.grants) }
    }

    private static let classes = SystemTable("pg_class", 1259, rows: { $0.relations }) { table in
        table.add("oid", .oid) { row, _ in .oid(row.oid) }
        table.add("relname", .name) { row, _ in .text(row.name) }
        table.add("relnamespace", .oid) { row, _ in .oid(row.namespace) }
        table.constant("reltype", .oid, .oid(0))
        table.constant("reloftype", .oid, .oid(0))
        table.add("relowner", .oid) { row, _ in .oid(ObjectNumbers.role(row.collection.owner)) }
        table.add("relam", .oid) { row, _ in .oid(accessMethod(row)) }
        table.add("relfilenode", .oid) { row, _ in .oid(row.kind == .view || row.isSystem ? 0 : row.oid) }
        table.constant("reltablespace", .oid, .oid(0))
        table.constant("relpages", .int32, .integer(0))
        // -1: never counted.
        table.add("reltuples", .float32) { row, _ in
            .float(row.kind == .table ? row.collection.statistics.map { Double($0.rows) } ?? -1 : 0)
        }
        table.constant("relallvisible", .int32, .integer(0))
        table.constant("reltoastrelid", .oid, .oid(0))
        table.add("relhasindex", .bool) { row, _ in .bool(row.hasIndex) }
        table.constant("relisshared", .bool, .bool(false))
        table.constant("relpersistence", .internalChar, .text("p"))
        table.add("relkind", .internalChar) { row, _ in .text(row.kind.rawValue) }
        table.add("relnatts", .int16) { row, _ in .number(row.index?.parts.count ?? row.columns.count) }
        table.add("relchecks", .int16) { row, _ in .number(row.index == nil ? row.collection.checks.count : 0) }
        table.add("relhasrules", .bool) { row, _ in .bool(row.kind == .view) }
        table.add("relhastriggers", .bool) { row, _ in
            .bool(row.kind == .table && !row.collection.foreignKeys.isEmpty)
        }
        table.constant("relhassubclass", .bool, .bool(false))
        table.constant("relrowsecurity", .bool, .bool(false))
        table.constant("relforcerowsecurity", .bool, .bool(false))
        table.constant("relispopulated", .bool, .bool(true))
        table.add("relreplident", .internalChar) { row, _ in .text(row.kind == .table && !row.isSystem ? "d" : "n") }
        table.constant("relispartition", .bool, .bool(false))
        table.constant("relrewrite", .oid, .oid(0))
        table.constant("relfrozenxid", .transactionID, .integer(0))
        table.constant("relminmxid", .transactionID, .integer(0))
        table.optional("relacl", .text.array) { row, _ in .grants(row.index == nil ? row.collection.grants : nil) }
        table.constant("reloptions", .text.array, .null)
        table.constant("relpartbound", .text, .null)
    }

    private static func accessMethod(_ row: Relation) -> UInt32 {
        switch row.kind {
        case .table: AccessMethod.heap
        case .index: AccessMethod.btree
        case .view, .sequence: 0
        }
    }

    private static let attributes = SystemTable("pg_attribute", 1249, rows: { $0.attributes }) { table in
        table.add("attrelid", .oid) { row, _ in .oid(row.relation.oid) }
        table.add("attname", .name) { row, _ in .text(row.column.name) }
        table.add("atttypid", .oid) { row, _ in .oid(row.column.type.oid) }
        table.constant("attstattarget", .int32, .integer(-1))
        table.add("attlen", .int16) { row, _ in .number(row.column.type.storedLength) }
        table.add("attnum", .int16) { row, _ in .number(row.number) }
        table.add("attndims", .int32) { row, _ in .number(row.column.type.isArray ? 1 : 0) }
        table.constant("attcacheoff", .int32, .integer(-1))
        table.add("atttypmod", .int32) { row, _ in .number(row.column.type.modifier) }
        table.add("attbyval", .bool) { row, _ in .bool(TypeTables.isByValue(row.column.type)) }
        table.add("attalign", .internalChar) { row, _ in .text(TypeTables.alignment(row.column.type)) }
        table.add("attstorage", .internalChar) { row, _ in .text(TypeTables.storage(row.column.type)) }
        table.constant("attcompression", .internalChar, .text(""))
        table.add("attnotnull", .bool) { row, _ in .bool(row.column.isNotNull) }
        table.add("atthasdef", .bool) { row, _ in .bool(row.hasDefault) }
        table.constant("atthasmissing", .bool, .bool(false))
        table.add("attidentity", .internalChar) { row, _ in
            switch row.relation.index == nil ? row.column.identity : .none {
            case .none: .text("")
            case .always: .text("a")
            case .byDefault: .text("d")
            }
        }
        table.constant("attgenerated", .internalChar, .text(""))
        table.constant("attisdropped", .bool, .bool(false))
        table.constant("attislocal", .bool, .bool(true))
        table.constant("attinhcount", .int32, .integer(0))
        table.add("attcollation", .oid) { row, _ in .oid(row.column.actualCollation?.oid ?? 0) }
        table.optional("attacl", .text.array) { row, _ in .grants(row.column.grants) }
        table.constant("attoptions", .text.array, .null)
        table.constant("attfdwoptions", .text.array, .null)
        table.constant("attmissingval", .text, .null)
    }

    private static let defaults = SystemTable(
        "pg_attrdef", 2604, rows: { system in system.attributes.filter(\.hasDefault) }
    ) { table in
        table.add("oid", .oid) { row, _ in
            .oid(ObjectNumbers.columnDefault(row.column.id, of: row.relation.collection.id))
        }
        table.add("adrelid", .oid) { row, _ in .oid(row.relation.oid) }
        table.add("adnum", .int16) { row, _ in .number(row.number) }
        table.add("adbin", .text) { row, _ in .text(StoredNode.columnDefault(row.relation.oid, row.number).text) }
    }

    private static let indexes = SystemTable("pg_index", 2610, rows: { $0.indexes }) { table in
        table.add("indexrelid", .oid) { row, _ in .oid(row.oid) }
        table.add("indrelid", .oid) { row, _ in .oid(row.table.id.rawValue) }
        table.add("indnatts", .int16) { row, _ in .number(row.parts.count) }
        table.add("indnkeyatts", .int16) { row, _ in .number(row.parts.count) }
        table.add("indisunique", .bool) { row, _ in .bool(row.isUnique) }
        table.constant("indnullsnotdistinct", .bool, .bool(false))
        table.add("indisprimary", .bool) { row, _ in .bool(row.isPrimary) }
        table.constant("indisexclusion", .bool, .bool(false))
        table.constant("indimmediate", .bool, .bool(true))
        table.constant("indisclustered", .bool, .bool(false))
        table.add("indisvalid", .bool) { row, _ in .bool(row.isReady) }
        table.constant("indcheckxmin", .bool, .bool(false))
        table.constant("indisready", .bool, .bool(true))
        table.constant("indislive", .bool, .bool(true))
        table.constant("indisreplident", .bool, .bool(false))
        table.add("indkey", .shortVector) { row, _ in .vector(.int16, row.columns.map(Int64.init)) }
        table.add("indcollation", .oidVector) { row, _ in
            .vector(
                .oid, row.parts.map { Int64(row.table.column($0.column)?.actualCollation?.oid ?? 0) })
        }
        table.add("indclass", .oidVector) { row, _ in
            .vector(.oid, row.types.map { Int64(AccessMethod.operatorClass(of: $0)) })
        }
        table.add("indoption", .shortVector) { row, _ in .vector(.int16, row.parts.map { $0.isDescending ? 3 : 0 }) }
        table.constant("indexprs", .text, .null)
        table.constant("indpred", .text, .null)
    }

    private static let constraints = SystemTable("pg_constraint", 2606, rows: { $0.constraints }) { table in
        table.add("oid", .oid) { row, _ in .oid(row.oid) }
        table.add("conname", .name) { row, _ in .text(row.name) }
        table.add("connamespace", .oid) { row, _ in .oid(ObjectNumbers.namespace(row.table.namespace)) }
        table.add("contype", .internalChar) { row, _ in .text(row.kind) }
        table.constant("condeferrable", .bool, .bool(false))
        table.constant("condeferred", .bool, .bool(false))
        table.constant("convalidated", .bool, .bool(true))
        table.add("conrelid", .oid) { row, _ in .oid(row.table.id.rawValue) }
        table.constant("contypid", .oid, .oid(0))
        table.add("conindid", .oid) { row, _ in .oid(row.index?.oid ?? 0) }
        table.constant("conparentid", .oid, .oid(0))
        table.add("confrelid", .oid) { row, _ in .oid(row.foreignKey?.target.rawValue ?? 0) }
        table.add("confupdtype", .internalChar) { row, _ in .text(row.foreignKey?.onUpdate.letter ?? " ") }
        table.add("confdeltype", .internalChar) { row, _ in .text(row.foreignKey?.onDelete.letter ?? " ") }
        table.add("confmatchtype", .internalChar) { row, _ in .text(row.foreignKey == nil ? " " : "s") }
        table.constant("conislocal", .bool, .bool(true))
        table.constant("coninhcount", .int32, .integer(0))
        table.add("connoinherit", .bool) { row, _ in .bool(row.kind != "c") }
        table.optional("conkey", .int16.array) { row, _ in .shorts(row.columns.map(\.rawValue)) }
        table.optional("confkey", .int16.array) { row, _ in
            row.foreignKey.map { .shorts($0.targetColumns.map(\.rawValue)) } ?? .null
        }
        for name in ["conpfeqop", "conppeqop", "conffeqop"] { table.constant(name, .oid.array, .null) }
        table.constant("confdelsetcols", .int16.array, .null)
        table.constant("conexclop", .oid.array, .null)
        table.optional("conbin", .text) { row, _ in
            if case .check = row.form { .text(StoredNode.check(row.oid).text) } else { .null }
        }
    }

    private static let sequences = SystemTable(
        "pg_sequence", 2224, rows: { system in system.relations.filter { $0.collection.sequence != nil } }
    ) { table in
        table.add("seqrelid", .oid) { row, _ in .oid(row.oid) }
        table.add("seqtypid", .oid) { row, _ in .oid(row.sequence.type.oid) }
        table.add("seqstart", .int64) { row, _ in .integer(row.sequence.start) }
        table.add("seqincrement", .int64) { row, _ in .integer(row.sequence.increment) }
        table.add("seqmax", .int64) { row, _ in .integer(row.sequence.maximum) }
        table.add("seqmin", .int64) { row, _ in .integer(row.sequence.minimum) }
        table.add("seqcache", .int64) { row, _ in .integer(row.sequence.cache) }
        table.add("seqcycle", .bool) { row, _ in .bool(row.sequence.cycles) }
    }

    private static let rules = SystemTable(
        "pg_rewrite", 2618,
        rows: { system in system.relations.filter { $0.kind == .view && !$0.isSystem } }
    ) { table in
        table.add("oid", .oid) { row, _ in .oid(ObjectNumbers.rule(of: row.collection.id)) }
        table.constant("rulename", .name, .text("_RETURN"))
        table.add("ev_class", .oid) { row, _ in .oid(row.oid) }
        table.constant("ev_type", .internalChar, .text("1"))
        table.constant("ev_enabled", .internalChar, .text("O"))
        table.constant("is_instead", .bool, .bool(true))
        table.constant("ev_qual", .text, .text("<>"))
        table.constant("ev_action", .text, .text("<>"))
    }

    /// Sequences that belong to a column: what DROP takes along, and what psql calls their owner.
    private struct Dependency: Sendable {
        let sequence: CollectionID, table: CollectionID, column: ColumnID
        let isIdentity: Bool
    }

    private static func owned(_ system: SystemCatalog) -> [Dependency] {
        system.attributes.compactMap { attribute in
            guard attribute.relation.kind == .table, let sequence = attribute.column.sequence else { return nil }
            return Dependency(
                sequence: sequence, table: attribute.relation.collection.id, column: attribute.column.id,
                isIdentity: attribute.column.identity != .none)
        }
    }

    private static let dependencies = SystemTable("pg_depend", 2608, rows: { owned($0) }) { table in
        table.constant("classid", .oid, .oid(classNumber))
        table.add("objid", .oid) { row, _ in .oid(row.sequence.rawValue) }
        table.constant("objsubid", .int32, .integer(0))
        table.constant("refclassid", .oid, .oid(classNumber))
        table.add("refobjid", .oid) { row, _ in .oid(row.table.rawValue) }
        table.add("refobjsubid", .int32) { row, _ in .number(row.column.rawValue) }
        table.add("deptype", .internalChar) { row, _ in .text(row.isIdentity ? "i" : "a") }
    }

    private static let descriptions = SystemTable("pg_description", 2609, rows: { $0.comments }) { table in
        table.add("objoid", .oid) { row, _ in .oid(row.object) }
        table.constant("classoid", .oid, .oid(classNumber))
        table.add("objsubid", .int32) { row, _ in .number(row.column) }
        table.add("description", .text) { row, _ in .text(row.text) }
    }
}

/// A row of pg_description.
struct SystemComment {
    let object: UInt32
    /// 0: of the object itself.
    let column: UInt16
    let text: String
}

extension SystemCatalog {
    var comments: [SystemComment] {
        var list: [SystemComment] = []
        for relation in relations where relation.index == nil && !relation.collection.comment.isEmpty {
            list.append(SystemComment(object: relation.oid, column: 0, text: relation.collection.comment))
        }
        return list
    }
}

extension Relation {
    var sequence: CollectionDescriptor.Sequence { collection.sequence ?? .init() }
}

extension IndexRelation {
    var types: [DataType] { parts.compactMap { table.column($0.column)?.type } }
}

extension TableConstraint {
    /// The columns that it is about: of a CHECK, those that it names, in that order.
    var columns: [ColumnID] {
        switch form {
        case .primaryKey(let index), .unique(let index): return index.parts.map(\.column)
        case .foreignKey(let key): return key.columns
        case .check(let check):
            guard let plan = try? StoredPlans.expression(check.condition) else { return [] }
            var found: [ColumnID] = []
            var open = [plan.root]
            while let next = open.popLast() {
                let node = plan[next]
                if node.kind == .columnReference, let column = table.column(named: node.name),
                    !found.contains(column.id)
                {
                    found.append(column.id)
                }
                open += node.children.reversed().filter { $0 != 0 }
            }
            return found
        }
    }
}

extension CollectionDescriptor.ForeignKey.Action {
    /// `confupdtype`, `confdeltype`.
    var letter: String {
        switch self {
        case .noAction: "a"
        case .restrict: "r"
        case .cascade: "c"
        case .setNull: "n"
        case .setDefault: "d"
        }
    }

    var title: String {
        switch self {
        case .noAction: "NO ACTION"
        case .restrict: "RESTRICT"
        case .cascade: "CASCADE"
        case .setNull: "SET NULL"
        case .setDefault: "SET DEFAULT"
        }
    }
}

/// What stands for an expression where PostgreSQL shows its parse tree: `pg_get_expr` finds the text by it.
enum StoredNode {
    case columnDefault(UInt32, UInt16)
    case check(UInt32)

    var text: String {
        switch self {
        case .columnDefault(let relation, let column): "{DEFAULT \(relation) \(column)}"
        case .check(let constraint): "{CHECK \(constraint)}"
        }
    }

    init?(_ text: String) {
        guard text.hasPrefix("{"), text.hasSuffix("}") else { return nil }
        let words = text.dropFirst().dropLast().split(separator: " ")
        switch (words.first, words.count) {
        case ("DEFAULT", 3):
            guard let relation = UInt32(words[1]), let column = UInt16(words[2]) else { return nil }
            self = .columnDefault(relation, column)
        case ("CHECK", 2):
            guard let constraint = UInt32(words[1]) else { return nil }
            self = .check(constraint)
        case _: return nil
        }
    }
}
