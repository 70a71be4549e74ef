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
}

/// Rights are asked for in one place, when a statement is bound: plans are kept for each user, and as long as the
/// catalog stays as it is.
extension Binder {
    /// The statement needs all of these.
    func needs(_ rights: Privileges, on collection: CollectionDescriptor, isNamed: Bool = true) {
        accesses.append(
            Access(
                collection: collection, rights: rights, user: accessUser, isNamed: isNamed && accessUser == nil))
    }

    /// Numbers of a sequence are drawn by who runs the statement, whatever view or default asks for them.
    func needsDrawing(from sequence: CollectionDescriptor) {
        accesses.append(Access(collection: sequence, rights: [.usage, .update], user: nil, isNamed: false))
    }

    /// Parts of the statement read the table that it writes, which they know as `alias`, if they name any column: of
    /// it, or, without saying of what, maybe of it.
    func needsReading(_ collection: CollectionDescriptor, as alias: String, in parts: [Int32]) {
        let reads = parts.contains { part in
            var open = [part]
            while let next = open.popLast() {
                guard next != 0 else { continue }
                let node = plan[next]
                if node.kind == .columnReference || node.kind == .star {
                    let qualifier = nameParts(node.children[0]).last
                    if qualifier.map({ $0 == alias }) ?? true { return true }
                }
                open += node.children
            }
            return false
        }
        if reads { needs(.select, on: collection) }
    }

    /// Whether names without a qualifier are looked for in a namespace: in those that the user may use.
    func isOpen(_ namespace: NamespaceID) -> Bool {
        guard let catalog = settings.catalog, let found = catalog.namespaces[namespace], accessUser == nil,
            let sender = settings.restrictedUser(catalog)
        else { return true }
        return AccessRights(catalog).privileges(of: sender, on: found).contains(.usage)
    }

    /// Refuses what the user may not do.
    func checkAccess(_ catalog: Catalog) throws(StatementError) {
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
            guard isAllowed else { throw Self.denied("\(collection.kind)", collection.name) }
        }
    }

    static func denied(_ kind: String, _ name: String) -> StatementError {
        StatementError(.insufficientPrivilege, "permission denied for \(kind) \(name)")
    }
}
