import Base
import Contracts
import DataModel

/// What a definition (CREATE, ALTER, DROP) comes to: changes of the catalog that every shard takes over at one commit.
///
/// Planning is pure: it reads a `Catalog`, and either throws the error that the client gets or answers all changes. The
/// node makes them in one transaction over all shards, whose first step locks the catalog, so that nobody else changes
/// it meanwhile; then the catalog that was read here is still the newest, or the statement is planned again.
package struct SchemaChange: Hashable, Sendable {
    /// In the order in which they are to be applied. All of them are empty where there was nothing to do (IF NOT
    /// EXISTS).
    package var changes: [CatalogChange]
    /// Collections that `tasks` fill, and that nobody sees: they may be made in a transaction of their own, before the
    /// changes. Then there must be no `early` ones.
    package var prepared: [CatalogChange]
    /// What comes before `prepared`.
    package var early: [CatalogChange]
    /// What comes after the tasks.
    package var finished: [CatalogChange]
    /// What is to be done with the rows after the changes.
    package var tasks: [TableTask]
    /// Tables whose statistics are made anew after all that.
    package var analyses: [TableAnalysis] = []
    /// What is to be done before that, outside of the transaction.
    package var vacuum: TableVacuum?
    /// The version of the catalog with them; every change of an object has one version of its own.
    package var version: UInt64
    /// As PostgreSQL's CommandComplete says it.
    package var tag: String
    /// `NOTICE`s, in order.
    package var notices: [StatementError]
    /// Keys of Redis that would name records of the table are not asked for: they are hidden.
    package var hidesKeys = false

    /// All changes of the catalog, in their order.
    package var all: [CatalogChange] { early + prepared + changes + finished }
    package var isEmpty: Bool { all.isEmpty && analyses.isEmpty }
}

/// For whom and where things are defined.
package struct DefinitionContext: Sendable {
    /// Where a name without namespace is looked for; the first is where it is created.
    package var searchPath: [NamespaceID]
    package var owner: String
    /// Of the session: the time, its zone.
    package var settings: EngineSettings
    /// What proves a password, to be kept in its place; nil: passwords are refused.
    package var verifier: (@Sendable (String) throws(StatementError) -> String)?

    package init(searchPath: [NamespaceID] = [.default], owner: String, settings: EngineSettings = EngineSettings()) {
        (self.searchPath, self.owner, self.settings) = (searchPath, owner, settings)
    }
}

/// Plans the definitions of one statement against its own copy of the catalog, so that later parts see earlier ones.
struct DefinitionPlanner {
    let plan: LogicalPlan
    let context: DefinitionContext
    private(set) var catalog: Catalog
    /// Changes before, with and after the tasks.
    enum Phase { case prepared, changes, finished }

    var phase = Phase.changes
    private var early: [CatalogChange] = [], prepared: [CatalogChange] = []
    private var changes: [CatalogChange] = [], finished: [CatalogChange] = []
    private var tasks: [TableTask] = []
    var notices: [StatementError] = []
    var hidesKeys = false
    var analyses: [TableAnalysis] = []
    var vacuum: TableVacuum?
    /// Whose rights count; nil: everything is allowed.
    let sender: String?
    /// Collections that change or go because another one does.
    var following: Set<CollectionID> = []
    /// The statement has asked for the rights that it needs by itself.
    var hasAsked = false

    init(_ plan: LogicalPlan, _ catalog: Catalog, _ context: DefinitionContext) throws(StatementError) {
        var settings = context.settings
        settings.user = context.owner
        sender = settings.restrictedUser(catalog)
        guard sender != AccessRights.nobody else {
            throw StatementError(.undefinedObject, "role \"\(context.owner)\" does not exist")
        }
        var context = context
        if let sender {
            // Names without a qualifier are not looked for in what the user may not use.
            context.searchPath.removeAll { id in
                guard let namespace = catalog.namespaces[id] else { return false }
                return !AccessRights(catalog).privileges(of: sender, on: namespace).contains(.usage)
            }
        }
        (self.plan, self.catalog, self.context) = (plan, catalog, context)
    }

    /// Refuses who has none of an owner's rights.
    func mustOwn(_ owner: String, _ kind: String, _ name: String) throws(StatementError) {
        guard sender.map({ AccessRights(catalog).owns($0, owner) }) ?? true else {
            throw SchemaChange.notOwner(kind, name)
        }
    }

    /// A namespace that a name of something else in it says must be open.
    private func mustBeOpen(_ namespace: NamespaceDescriptor) throws(StatementError) {
        guard let sender, !AccessRights(catalog).privileges(of: sender, on: namespace).contains(.usage) else { return }
        throw Binder.denied("schema", namespace.name)
    }

    func finish(_ tag: String) -> SchemaChange {
        SchemaChange(
            changes: changes, prepared: prepared, early: early, finished: finished, tasks: tasks, analyses: analyses,
            vacuum: vacuum, version: catalog.version, tag: tag, notices: notices, hidesKeys: hidesKeys)
    }

    // MARK: Changing

    /// The id of a collection that is put next, and only of that.
    func newCollection() throws(StatementError) -> CollectionID {
        guard let id = Catalog.collectionID(madeBy: catalog.version &+ 1) else {
            throw StatementError(.programLimitExceeded, "there are no more numbers for collections")
        }
        return id
    }

    /// Puts a collection as a new version of itself.
    mutating func put(_ collection: CollectionDescriptor) {
        var collection = collection
        collection.version = catalog.version &+ 1
        record(.put(.collection(collection)))
    }

    mutating func put(_ namespace: NamespaceDescriptor) { record(.put(.namespace(namespace))) }

    mutating func put(_ role: RoleDescriptor) { record(.put(.role(role))) }

    mutating func drop(_ id: RoleID) { record(.dropRole(id)) }

    mutating func drop(_ id: CollectionID) { record(.dropCollection(id)) }

    /// Something is to be done with the rows of a table.
    mutating func add(_ task: TableTask) { if !task.isEmpty { tasks.append(task) } }

    mutating func drop(_ id: NamespaceID) { record(.dropNamespace(id)) }

    private mutating func record(_ change: CatalogChange) {
        catalog.apply(change, version: catalog.version &+ 1)
        switch phase {
        case .changes: changes.append(change)
        case .finished: finished.append(change)
        case .prepared:
            // Versions follow one another in the order of the changes.
            if !changes.isEmpty { (early, changes) = (early + changes, []) }
            prepared.append(change)
        }
    }

    // MARK: Names

    /// `a`, `a.b` of a `name` or `table` node.
    struct QualifiedName {
        var namespace: String?
        var name: String
        var position: Int

        var text: String { namespace.map { $0 + "." + name } ?? name }
    }

    /// The name at a node; `database.namespace.name` is refused, as there is one database.
    func qualifiedName(_ index: Int32) throws(StatementError) -> QualifiedName {
        let node = plan[index]
        let qualifier = plan[node.children.first ?? 0]
        if qualifier.kind != .none, qualifier.children.first.map({ $0 != 0 }) ?? false {
            throw StatementError(
                .featureNotSupported, "cross-database references are not implemented: \(dotted(index))",
                position: Int(node.position))
        }
        return QualifiedName(
            namespace: qualifier.kind == .none ? nil : qualifier.name, name: node.name, position: Int(node.position))
    }

    private func dotted(_ index: Int32) -> String {
        let node = plan[index]
        let first = node.children.first ?? 0
        guard first != 0 else { return "\"\(node.name)\"" }
        return "\(dotted(first)).\"\(node.name)\"".replacing("\".\"", with: ".")
    }

    func namespace(named name: String, at position: Int = 0) throws(StatementError) -> NamespaceDescriptor {
        guard SystemCatalogs.namespace(named: name) == nil else {
            throw StatementError(.insufficientPrivilege, "permission denied for schema \(name)", position: position)
        }
        guard let found = catalog.namespace(named: name) else {
            throw StatementError(.invalidSchemaName, "schema \"\(name)\" does not exist", position: position)
        }
        return found
    }

    /// Where something of that name is created.
    func target(_ name: QualifiedName) throws(StatementError) -> NamespaceDescriptor {
        if let wanted = name.namespace {
            let found = try namespace(named: wanted, at: name.position)
            try mustBeOpen(found)
            return found
        }
        guard let found = context.searchPath.lazy.compactMap({ catalog.namespaces[$0] }).first else {
            throw StatementError(
                .invalidSchemaName, "no schema has been selected to create in", position: name.position)
        }
        return found
    }

    /// What the name means, looked for in the search path.
    func find(_ name: QualifiedName) throws(StatementError) -> CollectionDescriptor? {
        if let wanted = name.namespace {
            let found = try namespace(named: wanted, at: name.position)
            try mustBeOpen(found)
            return catalog.collection(named: name.name, in: found.id)
        }
        return context.searchPath.lazy.compactMap { catalog.collection(named: name.name, in: $0) }.first
    }

    func isTaken(_ name: String, in namespace: NamespaceID) -> Bool {
        catalog.collection(named: name, in: namespace) != nil || index(named: name, in: namespace) != nil
    }

    /// Indexes, primary keys too, have names among those of tables.
    func index(named name: String, in namespace: NamespaceID) -> (CollectionDescriptor, IndexID)? {
        for collection in catalog.collections.values where collection.namespace == namespace {
            if !collection.primaryKey.isEmpty, collection.primaryKeyName.utf8.elementsEqual(name.utf8) {
                return (collection, IndexID(rawValue: 0))
            }
            if let index = collection.indexes.first(where: { $0.name.utf8.elementsEqual(name.utf8) }) {
                return (collection, index.id)
            }
        }
        return nil
    }

    /// `table_column_suffix`, cut to what an identifier may have, with a number behind it while it is taken
    /// (PostgreSQL's ChooseRelationName).
    func chosenName(
        _ table: String, _ columns: [String], _ suffix: String, isTaken: (String) -> Bool
    ) -> String {
        let middle = columns.joined(separator: "_")
        var number = 0
        while true {
            let ending = number == 0 ? suffix : suffix + String(number)
            let name = Self.composed(table, middle, ending)
            if !isTaken(name) { return name }
            number += 1
        }
    }

    /// Cuts the longer one of both until all fits into 63 bytes (makeObjectName).
    static func composed(_ first: String, _ second: String, _ ending: String) -> String {
        let limit = 63
        var left = Array(first.utf8), right = Array(second.utf8)
        let rest = ending.utf8.count + 1 + (right.isEmpty ? 0 : 1)
        while left.count + right.count + rest > limit, !left.isEmpty || !right.isEmpty {
            if left.count > right.count { left.removeLast() } else { right.removeLast() }
        }
        func whole(_ bytes: [UInt8]) -> String {
            var bytes = bytes
            while !bytes.isEmpty {
                if let text = String(validating: bytes, as: UTF8.self) { return text }
                bytes.removeLast()  // Half of a character.
            }
            return ""
        }
        return [whole(left), whole(right), ending].filter { !$0.isEmpty }.joined(separator: "_")
    }

    static func unsupported(_ what: String, at position: Int32 = 0) -> StatementError {
        StatementError(.featureNotSupported, "\(what) is not supported", position: Int(position))
    }
}

extension SchemaChange {
    /// Whether `plan` is a definition that is planned here.
    package static func isDefinition(_ plan: LogicalPlan) -> Bool {
        switch plan[plan.root].kind {
        case .createTable, .createSchema, .createSequence, .createView, .createIndex, .drop, .alter, .comment,
            .truncate, .vacuum, .createRole, .alterRole, .dropRole, .grant, .grantRole, .alterSchema:
            true
        case _: false
        }
    }

    /// What the definition at the root of `plan` comes to.
    package init(_ plan: LogicalPlan, catalog: Catalog, context: DefinitionContext) throws(StatementError) {
        var planner = try DefinitionPlanner(plan, catalog, context)
        let root = plan[plan.root]
        let tag: String
        switch root.kind {
        case .createTable:
            try planner.createTable(root)
            tag = "CREATE TABLE"
        case .createSchema:
            try planner.createSchema(root)
            tag = "CREATE SCHEMA"
        case .createSequence:
            try planner.createSequence(root)
            tag = "CREATE SEQUENCE"
        case .drop: tag = try planner.drop(root)
        case .alter: tag = try planner.alter(root)
        case .comment:
            try planner.comment(root)
            tag = "COMMENT"
        case .truncate:
            try planner.truncate(root)
            tag = "TRUNCATE TABLE"
        case .createView:
            try planner.createView(root)
            tag = "CREATE VIEW"
        case .createIndex:
            try planner.createIndex(root)
            tag = "CREATE INDEX"
        case .vacuum where root.flags.contains(.isMarked):
            try planner.analyze(root)
            tag = "ANALYZE"
        case .vacuum:
            try planner.vacuum(root)
            tag = "VACUUM"
        case .createRole, .alterRole, .dropRole, .grant, .grantRole, .alterSchema:
            tag = try planner.defineRights(root)
        case _: throw StatementError(.internalError, "\(root.kind) is no definition")
        }
        self = planner.finish(tag)
        if let sender = planner.sender, !planner.hasAsked {
            try checkAccess(sender, following: planner.following, catalog)
        }
    }
}
