import Base
import DataModel

/// What the system catalogs of one statement are computed from: the catalog it was bound by, and who asks. A value of
/// the moment, made once for each execution that looks at it.
final class SystemCatalog {
    /// Who owns what nobody has made.
    static let owner = "orbit"

    let catalog: Catalog
    let settings: EngineSettings
    private(set) lazy var namespaces: [SystemNamespace] = listNamespaces()
    private(set) lazy var relations: [Relation] = listRelations()
    private(set) lazy var indexes: [IndexRelation] = listIndexes()
    private(set) lazy var constraints: [TableConstraint] = listConstraints()
    private(set) lazy var attributes: [RelationColumn] = listAttributes()
    private(set) lazy var shown = ShownObjects(settings, catalog)
    private(set) lazy var roles: [SystemRole] = listRoles()
    private lazy var relationsByNumber = Dictionary(
        relations.lazy.map { ($0.oid, $0) }, uniquingKeysWith: { first, _ in first })
    private lazy var indexesByNumber = Dictionary(
        indexes.lazy.map { ($0.oid, $0) }, uniquingKeysWith: { first, _ in first })
    private lazy var constraintsByNumber = Dictionary(
        constraints.lazy.map { ($0.oid, $0) }, uniquingKeysWith: { first, _ in first })
    private lazy var namespaceNames = Dictionary(
        namespaces.lazy.map { ($0.oid, $0.name) }, uniquingKeysWith: { first, _ in first })

    init(_ settings: EngineSettings) {
        self.settings = settings
        catalog = settings.catalog ?? Catalog()
    }

    // MARK: Look-ups

    func relation(_ oid: UInt32) -> Relation? { relationsByNumber[oid] }
    func index(_ oid: UInt32) -> IndexRelation? { indexesByNumber[oid] }
    func constraint(_ oid: UInt32) -> TableConstraint? { constraintsByNumber[oid] }
    func namespaceName(_ oid: UInt32) -> String? { namespaceNames[oid] }

    func roleNumber(_ name: String) -> UInt32 { roles.first { $0.name == name }?.oid ?? ObjectNumbers.role(name) }

    /// Statistics have values of tables in them.
    func mayRead(_ collection: CollectionDescriptor) -> Bool {
        guard let user = settings.restrictedUser(catalog) else { return true }
        return AccessRights(catalog).privileges(of: user, on: collection).contains(.select)
    }

    func roleName(_ oid: UInt32) -> String? { roles.first { $0.oid == oid }?.name }

    func relation(named name: String, in namespace: UInt32) -> Relation? {
        relations.first { $0.namespace == namespace && $0.name.utf8.elementsEqual(name.utf8) }
    }

    func namespace(named name: String) -> SystemNamespace? {
        namespaces.first { $0.name.utf8.elementsEqual(name.utf8) }
    }

    /// The namespaces in which unqualified names are looked for, in their order.
    private(set) lazy var path: [SystemNamespace] = {
        let named = settings.searchPath.compactMap { namespace(named: $0) }
        guard !named.contains(where: { $0.id == .systemCatalog }) else { return named }
        return [SystemNamespace.system] + named
    }()

    /// Whether the relation is what its bare name means.
    func isVisible(_ relation: Relation) -> Bool {
        for namespace in path {
            if namespace.oid == relation.namespace { return true }
            if self.relation(named: relation.name, in: namespace.oid) != nil { return false }
        }
        return false
    }

    // MARK: Lists

    private func listNamespaces() -> [SystemNamespace] {
        let own = catalog.namespaces.values.map { namespace in
            // Nobody made the default one.
            SystemNamespace(
                id: namespace.id, name: namespace.name, owner: namespace.owner, grants: namespace.grants)
        }
        return ([.system, .information, .keyspace] + own).sorted { $0.oid < $1.oid }
    }

    /// What users have made, and tables of theirs that are always there.
    private var collections: [CollectionDescriptor] {
        catalog.collections.values.filter { $0.entriesOf == nil } + KeyspaceTables.collections
    }

    /// What there is for users, and the system's own tables.
    private func listRelations() -> [Relation] {
        var list: [Relation] = []
        for collection in collections { list.append(Relation(collection)) }
        for index in indexes { list.append(Relation(index)) }
        for table in SystemCatalogs.tables {
            list.append(Relation(table.descriptor, isView: table.isView))
        }
        return list.sorted { $0.oid < $1.oid }
    }

    private func listIndexes() -> [IndexRelation] {
        var list: [IndexRelation] = []
        for table in collections where table.kind == .table {
            if !table.primaryKey.isEmpty {
                list.append(IndexRelation(primaryKeyOf: table))
            }
            for index in table.indexes { list.append(IndexRelation(index, of: table)) }
        }
        return list.sorted { $0.oid < $1.oid }
    }

    private func listConstraints() -> [TableConstraint] {
        var list: [TableConstraint] = []
        for index in indexes where index.isPrimary || index.isConstraint {
            list.append(
                TableConstraint(
                    oid: index.oid, name: index.name, table: index.table,
                    form: index.isPrimary ? .primaryKey(index) : .unique(index)))
        }
        for table in collections {
            for (place, check) in table.checks.enumerated() {
                list.append(
                    TableConstraint(
                        oid: ObjectNumbers.check(place, of: table.id), name: check.name, table: table,
                        form: .check(check)))
            }
            for (place, key) in table.foreignKeys.enumerated() {
                list.append(
                    TableConstraint(
                        oid: ObjectNumbers.foreignKey(place, of: table.id), name: key.name, table: table,
                        form: .foreignKey(key)))
            }
        }
        return list.sorted { $0.oid < $1.oid }
    }

    private func listAttributes() -> [RelationColumn] {
        var list: [RelationColumn] = []
        for relation in relations {
            if let index = relation.index {
                for (place, part) in index.parts.enumerated() {
                    guard var column = index.table.column(part.column) else { continue }
                    column.isNotNull = false
                    column.grants = nil
                    list.append(RelationColumn(relation: relation, column: column, number: UInt16(place + 1)))
                }
            } else {
                for column in relation.columns {
                    list.append(RelationColumn(relation: relation, column: column, number: column.id.rawValue))
                }
            }
        }
        return list
    }

    /// The users that this statement can know of: who asks, and who owns something.
    private func listRoles() -> [SystemRole] {
        var names: Set<String> = [Self.owner, settings.user, settings.sessionUser]
        for collection in catalog.collections.values { names.insert(collection.owner) }
        for namespace in catalog.namespaces.values { names.insert(namespace.owner) }
        for role in catalog.roles.values { names.remove(role.name) }
        let users = names.filter { !$0.isEmpty }.map { SystemRole($0, .everything) }
        let own = catalog.roles.values.map { SystemRole($0.name, $0.attributes, $0) }
        return (users + own + SystemRole.predefined).sorted { $0.oid < $1.oid }
    }
}

/// A namespace.
struct SystemNamespace {
    let id: NamespaceID
    let name: String
    let owner: String
    var grants: [Grant]?
    var oid: UInt32 { ObjectNumbers.namespace(id) }

    static let system = SystemNamespace(id: .systemCatalog, name: "pg_catalog", owner: SystemCatalog.owner)
    static let information = SystemNamespace(
        id: .informationSchema, name: "information_schema", owner: SystemCatalog.owner)
    static let keyspace = SystemNamespace(id: .keyspace, name: "redis", owner: SystemCatalog.owner)
}

/// A user, or a role that PostgreSQL has from the beginning.
struct SystemRole {
    let oid: UInt32
    let name: String
    let attributes: RoleDescriptor.Attributes
    /// Of one that CREATE ROLE has made.
    let descriptor: RoleDescriptor?

    init(_ name: String, _ attributes: RoleDescriptor.Attributes, _ descriptor: RoleDescriptor? = nil) {
        self.init(ObjectNumbers.role(name), name, attributes, descriptor)
    }

    private init(
        _ oid: UInt32, _ name: String, _ attributes: RoleDescriptor.Attributes, _ descriptor: RoleDescriptor? = nil
    ) {
        (self.oid, self.name, self.attributes, self.descriptor) = (oid, name, attributes, descriptor)
    }

    var isUser: Bool { attributes.contains(.login) }

    static let predefined: [SystemRole] = [
        (6171, "pg_database_owner"), (6181, "pg_read_all_data"), (6182, "pg_write_all_data"), (3373, "pg_monitor"),
        (3374, "pg_read_all_settings"), (3375, "pg_read_all_stats"), (3377, "pg_stat_scan_tables"),
        (4569, "pg_read_server_files"), (4570, "pg_write_server_files"), (4571, "pg_execute_server_program"),
        (4200, "pg_signal_backend"), (4544, "pg_checkpoint"),
    ].map { SystemRole($0.0, $0.1, .inherit) }
}

/// A row of pg_class: a table, a view, a sequence, or an index.
struct Relation {
    enum Kind: String { case table = "r", view = "v", sequence = "S", index = "i" }

    let oid: UInt32
    let name: String
    let namespace: UInt32
    let kind: Kind
    /// Of an index, its table.
    let collection: CollectionDescriptor
    let index: IndexRelation?

    init(_ collection: CollectionDescriptor, isView: Bool = false) {
        oid = collection.id.rawValue
        name = collection.name
        namespace = ObjectNumbers.namespace(collection.namespace)
        switch collection.kind {
        case .table: kind = isView ? .view : .table
        case .view: kind = .view
        case .sequence: kind = .sequence
        }
        self.collection = collection
        index = nil
    }

    init(_ index: IndexRelation) {
        oid = index.oid
        name = index.name
        namespace = ObjectNumbers.namespace(index.table.namespace)
        kind = .index
        collection = index.table
        self.index = index
    }

    /// A sequence is a relation of one row.
    private static let sequenceColumns: [CollectionDescriptor.Column] = [
        ("last_value", DataType.int64), ("log_cnt", .int64), ("is_called", .bool),
    ].enumerated().map { place, column in
        .init(id: ColumnID(rawValue: UInt16(place + 1)), name: column.0, type: column.1, isNotNull: true)
    }

    var columns: [CollectionDescriptor.Column] { kind == .sequence ? Self.sequenceColumns : collection.columns }
    var isSystem: Bool { SystemCatalogs.isComputed(collection) }
    /// Whether it is a table with a primary key, or other indexes.
    var hasIndex: Bool { kind == .table && !(collection.primaryKey.isEmpty && collection.indexes.isEmpty) }
}

/// An index: that of the primary key, or another one.
struct IndexRelation {
    let oid: UInt32
    let name: String
    let table: CollectionDescriptor
    let parts: [CollectionDescriptor.IndexPart]
    let isUnique: Bool, isPrimary: Bool, isReady: Bool
    /// It keeps a constraint, rather than having been made by CREATE INDEX.
    let isConstraint: Bool

    init(primaryKeyOf table: CollectionDescriptor) {
        oid = ObjectNumbers.index(IndexID(rawValue: 0), of: table.id)
        name = table.primaryKeyName
        self.table = table
        parts = table.primaryKey.map { .init(column: $0) }
        (isUnique, isPrimary, isReady, isConstraint) = (true, true, true, true)
    }

    init(_ index: CollectionDescriptor.Index, of table: CollectionDescriptor) {
        oid = ObjectNumbers.index(index.id, of: table.id)
        name = index.name
        self.table = table
        parts = index.parts
        (isUnique, isPrimary, isReady) = (index.isUnique, false, index.state == .ready)
        isConstraint = index.isConstraint
    }

    /// Numbers of the columns, in the order of the key.
    var columns: [UInt16] { parts.map(\.column.rawValue) }
}

/// A row of pg_constraint.
struct TableConstraint {
    enum Form {
        case primaryKey(IndexRelation), unique(IndexRelation)
        case check(CollectionDescriptor.Check)
        case foreignKey(CollectionDescriptor.ForeignKey)
    }

    let oid: UInt32
    let name: String
    let table: CollectionDescriptor
    let form: Form

    var index: IndexRelation? {
        switch form {
        case .primaryKey(let index), .unique(let index): index
        case .check, .foreignKey: nil
        }
    }

    var foreignKey: CollectionDescriptor.ForeignKey? {
        if case .foreignKey(let key) = form { key } else { nil }
    }

    /// `contype`.
    var kind: String {
        switch form {
        case .primaryKey: "p"
        case .unique: "u"
        case .check: "c"
        case .foreignKey: "f"
        }
    }

    /// As information_schema calls it.
    var title: String {
        switch form {
        case .primaryKey: "PRIMARY KEY"
        case .unique: "UNIQUE"
        case .check: "CHECK"
        case .foreignKey: "FOREIGN KEY"
        }
    }
}

/// A row of pg_attribute.
struct RelationColumn {
    let relation: Relation
    let column: CollectionDescriptor.Column
    let number: UInt16

    /// Whether there is something to compute when nothing is said: a DEFAULT, or a number of a sequence that was
    /// declared as one.
    var hasDefault: Bool {
        relation.kind == .table && (column.defaultValue != nil || isSerial)
    }

    /// `serial`, whose default is the next number of its sequence.
    var isSerial: Bool { column.sequence != nil && column.identity == .none }
}

extension RoleDescriptor.Attributes {
    /// Of users of the cluster that CREATE ROLE has not made.
    static let everything: Self = [
        .superuser, .inherit, .createRole, .createDatabase, .login, .replication, .bypassRowSecurity,
    ]
}
