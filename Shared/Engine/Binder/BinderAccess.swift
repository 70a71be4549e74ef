import Base
import Contracts
import DataModel

/// What a statement does with a collection, and in whose name: a view reads in its owner's.
struct Access: Sendable {
    let collection: CollectionDescriptor
    let rights: Privileges
    /// Nil: who sends the statement.
    let user: String?
    /// The statement says its name, so its namespace must be open to the user, too.
    let isNamed: Bool
    /// Of which columns: who has no right on the table may have it on each of these; where there are none, on any.
    let columns: Columns

    enum Columns: Sendable {
        case these(Set<ColumnID>)
        /// Those whose attributes the statement reads.
        case read([Attribute: ColumnID])
    }
}

/// Rights are asked for in one place, when a statement is bound: plans are kept for each user, and as long as the
/// catalog stays as it is.
extension Binder {
    /// The statement needs all of these.
    func needs(
        _ rights: Privileges, on collection: CollectionDescriptor, _ columns: Access.Columns = .these([]),
        isNamed: Bool = true
    ) {
        accesses.append(
            Access(
                collection: collection, rights: rights, user: accessUser, isNamed: isNamed && accessUser == nil,
                columns: columns))
    }

    /// The columns of a collection are those of a relation of FROM.
    func needs(_ rights: Privileges, on collection: CollectionDescriptor, _ columns: [ScopeColumn]) {
        var read: [Attribute: ColumnID] = [:]
        for (column, output) in zip(collection.columns, columns) {
            if let attribute = output.expression.attribute { read[attribute] = column.id }
        }
        needs(rights, on: collection, .read(read), isNamed: !isStored)
    }

    /// Numbers of a sequence are drawn by who runs the statement, whatever view or default asks for them.
    func needsDrawing(from sequence: CollectionDescriptor) {
        accesses.append(
            Access(
                collection: sequence, rights: [.usage, .update], user: nil, isNamed: false, columns: .these([])))
    }

    /// Parts of the statement read the table that it writes, which they know as `alias`, if they name any column: of
    /// it, or, without saying of what, maybe of it.
    func needsReading(_ collection: CollectionDescriptor, as alias: String, in parts: [Int32]) {
        var open = parts, read: Set<ColumnID> = [], reads = false
        while let next = open.popLast() {
            guard next != 0 else { continue }
            let node = plan[next]
            open += node.children
            guard node.kind == .columnReference || node.kind == .star,
                nameParts(node.children[0]).last.map({ $0 == alias }) ?? true
            else { continue }
            reads = true
            let columns = collection.columns.filter { node.kind == .star || $0.name == node.name }
            read.formUnion(columns.map(\.id))
            // The whole row, by the name of the table.
            if columns.isEmpty, node.name == alias { read.formUnion(collection.columns.map(\.id)) }
        }
        if reads { needs(.select, on: collection, .these(read)) }
    }

    /// INSERT of the columns at `places`; what its rows come from, of which much was noted from `place` on, is asked
    /// about behind it.
    func needsInserting(
        _ node: LogicalPlan.Node, _ collection: CollectionDescriptor, _ alias: String, _ places: [Int],
        before place: Int
    ) {
        let others = accesses[place...]
        accesses.removeSubrange(place...)
        needs(.insert, on: collection, .these(Set(places.map { collection.columns[$0].id })))
        needsReading(collection, as: alias, in: [node.children[4], node.children[5]])
        if node.children[4] != 0 {
            let conflict = plan[node.children[4]], assignments = plan.list(conflict.children[2])
            if !assignments.isEmpty {
                needs(.update, on: collection, .these(assigned(assignments, collection)))
            }
            // The columns of the constraint are read.
            if !conflict.name.isEmpty {
                let index = collection.indexes.first { $0.name == conflict.name }
                needs(.select, on: collection, .these(Set(index?.parts.map(\.column) ?? collection.primaryKey)))
            }
        }
        accesses += others
    }

    /// The columns that SET gives values.
    func assigned(_ assignments: [Int32], _ collection: CollectionDescriptor) -> Set<ColumnID> {
        var names: Set<String> = []
        for index in assignments {
            let node = plan[index]
            if node.kind == .assignment {
                names.insert(node.name)
            } else {
                names.formUnion(plan.list(node.children[0]).map { plan[$0].name })
            }
        }
        return Set(collection.columns.filter { names.contains($0.name) }.map(\.id))
    }

    /// Whether names without a qualifier are looked for in a namespace: in those that the user may use.
    func isOpen(_ namespace: NamespaceID) -> Bool {
        guard let catalog = settings.catalog, let found = catalog.namespaces[namespace], accessUser == nil,
            let sender = settings.restrictedUser(catalog)
        else { return true }
        return AccessRights(catalog).privileges(of: sender, on: found).contains(.usage)
    }

    /// Refuses what the user may not do.
    func checkAccess(_ catalog: Catalog, of query: Query) throws(StatementError) {
        guard !accesses.isEmpty, settings.authority != .unlimited else { return }
        let rights = AccessRights(catalog), sender = settings.restrictedUser(catalog)
        for access in accesses {
            let user: String
            if let owner = access.user {
                if rights.isSuperuser(owner) { continue }
                user = owner
            } else {
                guard let sender else { continue }
                user = sender
            }
            let collection = access.collection
            if SystemCatalogs.isComputed(collection) {
                guard !SystemCatalogs.isForSuperusers(collection) else { throw Self.denied("table", collection.name) }
                continue
            }
            if access.isNamed, let namespace = catalog.namespaces[collection.namespace],
                !rights.privileges(of: user, on: namespace).contains(.usage)
            {
                throw Self.denied("schema", namespace.name)
            }
            let given = rights.privileges(of: user, on: collection)
            // Of a sequence either of two will do.
            let isAllowed =
                collection.kind == .sequence
                ? !given.isDisjoint(with: access.rights) : given.isSuperset(of: access.rights)
            guard isAllowed || isAllowedByColumns(access, given, user, rights, query) else {
                throw Self.denied("\(collection.kind)", collection.name)
            }
        }
    }

    /// Whether what is not allowed on the table is allowed on the columns that are meant.
    private func isAllowedByColumns(
        _ access: Access, _ given: Privileges, _ user: String, _ rights: AccessRights, _ query: Query
    ) -> Bool {
        let missing = access.rights.subtracting(given), columns = access.collection.columns
        guard access.collection.kind != .sequence, missing.isSubset(of: .ofColumns),
            columns.contains(where: { $0.grants != nil })
        else { return false }
        let wanted: Set<ColumnID>
        switch access.columns {
        case .these(let columns): wanted = columns
        case .read(let attributes):
            var read = Set(query.outputs.map(\.attribute))
            query.plan.collectRead(into: &read)
            wanted = Set(attributes.lazy.filter { read.contains($0.key) }.map(\.value))
        }
        func allows(_ column: CollectionDescriptor.Column) -> Bool {
            rights.privileges(of: user, on: column, of: access.collection).rights.isSuperset(of: missing)
        }
        return wanted.isEmpty
            ? columns.contains(where: allows) : columns.filter { wanted.contains($0.id) }.allSatisfy(allows)
    }

    static func denied(_ kind: String, _ name: String) -> StatementError {
        StatementError(.insufficientPrivilege, "permission denied for \(kind) \(name)")
    }
}
