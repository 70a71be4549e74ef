import Base
import DataModel

extension SchemaChange {
    /// Refuses changes that the user may not make: what exists is changed by its owner, what comes is made by who may
    /// create in its namespace.
    ///
    /// `following` are collections that change or go because another one does, whose owner may have that done.
    func checkAccess(_ user: String, following: Set<CollectionID>, _ catalog: Catalog) throws(StatementError) {
        // Of a table and what belongs to it, the table is what somebody has named.
        for case .dropCollection(let id) in all where !following.contains(id) {
            guard let old = catalog.collection(id), old.kind == .table, old.entriesOf == nil else { continue }
            try Self.checkDrop(of: old, user, catalog)
        }
        var before = catalog
        for change in all {
            try Self.check(change, user, following, before, catalog)
            before.apply(change, version: before.version &+ 1)
        }
    }

    /// Who owns a namespace may drop what is in it.
    private static func checkDrop(
        of collection: CollectionDescriptor, _ user: String, _ catalog: Catalog
    ) throws(StatementError) {
        let rights = AccessRights(catalog)
        if rights.owns(user, collection.owner) { return }
        if let namespace = catalog.namespaces[collection.namespace], rights.owns(user, namespace.owner) { return }
        throw notOwner("\(collection.kind)", collection.name)
    }

    /// `catalog` has the changes before; `start` none of them.
    private static func check(
        _ change: CatalogChange, _ user: String, _ following: Set<CollectionID>, _ catalog: Catalog, _ start: Catalog
    ) throws(StatementError) {
        let rights = AccessRights(catalog)
        switch change {
        case .put(.collection(let collection)):
            // Entries of an index come and go with a change of their table.
            guard collection.entriesOf == nil, !following.contains(collection.id) else { return }
            try checkPut(collection, user, catalog, start)
        case .dropCollection(let id):
            guard let old = catalog.collection(id), old.entriesOf == nil, !following.contains(id) else { return }
            try checkDrop(of: old, user, catalog)
        case .put(.namespace(let namespace)):
            guard let old = catalog.namespaces[namespace.id] else {
                throw Binder.denied("database", "orbit")
            }
            guard rights.owns(user, old.owner) else { throw notOwner("schema", old.name) }
            guard rights.owns(user, namespace.owner) else { throw notMember(namespace.owner) }
        case .dropNamespace(let id):
            guard let old = catalog.namespaces[id], !rights.owns(user, old.owner) else { return }
            throw notOwner("schema", old.name)
        case .put(.role(let role)): try check(role, catalog.roles[role.id], user, catalog)
        case .dropRole(let id):
            let old = catalog.roles[id]
            try mayDropRoles(user, catalog)
            guard old?.attributes.contains(.superuser) != true else {
                throw StatementError(.insufficientPrivilege, "must be superuser to drop superusers")
            }
        }
    }

    static func mayDropRoles(_ user: String, _ catalog: Catalog) throws(StatementError) {
        guard catalog.role(named: user)?.attributes.contains(.createRole) ?? false else {
            throw StatementError(.insufficientPrivilege, "permission denied to drop role")
        }
    }

    private static func checkPut(
        _ collection: CollectionDescriptor, _ user: String, _ catalog: Catalog, _ start: Catalog
    ) throws(StatementError) {
        let rights = AccessRights(catalog)
        func mayCreate(_ user: String) -> Bool {
            catalog.namespaces[collection.namespace].map {
                rights.privileges(of: user, on: $0).contains(.create)
            } ?? false
        }
        if let old = catalog.collection(collection.id) {
            guard rights.owns(user, old.owner) else { throw notOwner("\(old.kind)", old.name) }
            guard rights.owns(user, collection.owner) else { throw notMember(collection.owner) }
            let isNamedAnew =
                old.namespace != collection.namespace || !old.name.utf8.elementsEqual(collection.name.utf8)
            let isHandedOver = !old.owner.utf8.elementsEqual(collection.owner.utf8)
            guard !isNamedAnew && !isHandedOver || mayCreate(isHandedOver ? collection.owner : user) else {
                throw Binder.denied("schema", catalog.name(of: collection.namespace))
            }
        } else if let old = start.collection(named: collection.name, in: collection.namespace) {
            // It takes the place of another one, under another number.
            guard rights.owns(user, old.owner) else { throw notOwner("\(old.kind)", old.name) }
        } else if !mayCreate(user) {
            throw Binder.denied("schema", catalog.name(of: collection.namespace))
        }
    }

    /// Who may make roles may change them, but neither make nor change superusers; and everybody the own password.
    private static func check(
        _ role: RoleDescriptor, _ old: RoleDescriptor?, _ user: String, _ catalog: Catalog
    ) throws(StatementError) {
        let mayMake = catalog.role(named: user)?.attributes.contains(.createRole) ?? false
        guard let old else {
            guard mayMake else { throw StatementError(.insufficientPrivilege, "permission denied to create role") }
            for (attribute, name) in strong where role.attributes.contains(attribute) {
                throw StatementError(.insufficientPrivilege, "must be superuser to create \(name)")
            }
            // To be a member is asked for as GRANT is.
            var alone = role
            alone.memberships = []
            return try checkMembership(role, alone, user, catalog)
        }
        var withPassword = old
        withPassword.verifier = role.verifier
        if role == withPassword, role.name == user { return }
        guard role.memberships == old.memberships else { return try checkMembership(role, old, user, catalog) }
        let attributes = role.attributes.union(old.attributes)
        let fault: String? =
            if attributes.contains(.superuser) {
                "must be superuser to alter superuser roles or change superuser attribute"
            } else if attributes.contains(.replication) {
                "must be superuser to alter replication roles or change replication attribute"
            } else if role.attributes.symmetricDifference(old.attributes).contains(.bypassRowSecurity) {
                "must be superuser to change bypassrls attribute"
            } else {
                nil
            }
        if let fault { throw StatementError(.insufficientPrivilege, fault) }
        guard mayMake else { throw StatementError(.insufficientPrivilege, "permission denied") }
    }

    /// Attributes that only superusers give.
    private static let strong: [(attribute: RoleDescriptor.Attributes, name: String)] = [
        (.superuser, "superusers"), (.replication, "replication users"), (.bypassRowSecurity, "bypassrls users"),
    ]

    private static func checkMembership(
        _ role: RoleDescriptor, _ old: RoleDescriptor, _ user: String, _ catalog: Catalog
    ) throws(StatementError) {
        let own = catalog.role(named: user)
        let changed = Set(role.memberships.map(\.role)).symmetricDifference(old.memberships.map(\.role))
        for name in changed.isEmpty ? Set(role.memberships.map(\.role)) : changed {
            let group = catalog.role(named: name)
            if group?.attributes.contains(.superuser) ?? true {
                throw StatementError(.insufficientPrivilege, "must be superuser to alter superusers")
            }
            let isAdmin = own?.memberships.contains { $0.role == name && $0.isAdmin } ?? false
            guard isAdmin || own?.attributes.contains(.createRole) ?? false else {
                throw StatementError(.insufficientPrivilege, "must have admin option on role \"\(name)\"")
            }
        }
    }

    static func notOwner(_ kind: String, _ name: String) -> StatementError {
        StatementError(.insufficientPrivilege, "must be owner of \(kind) \(name)")
    }

    private static func notMember(_ role: String) -> StatementError {
        StatementError(.insufficientPrivilege, "must be member of role \"\(role)\"")
    }
}
