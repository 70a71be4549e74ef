import DataModel

/// What `information_schema` shows: objects that the user owns, or may do something with.
struct ShownObjects {
    /// Nil: everything is allowed.
    private let user: String?
    private let rights: AccessRights

    init(_ settings: EngineSettings, _ catalog: Catalog) {
        (user, rights) = (settings.restrictedUser(catalog), AccessRights(catalog))
    }

    /// The user has the rights of an owner.
    func owns(_ owner: String) -> Bool { user.map { rights.owns($0, owner) } ?? true }

    /// The user has the rights of a role.
    func isMember(of role: String) -> Bool { user.map { rights.roles(of: $0).contains(role) } ?? true }

    func shows(_ relation: Relation) -> Bool {
        shows(relation.collection, relation.collection.allPrivileges, onColumns: .ofColumns)
    }

    /// One of these rights on a table, or of those on any of its columns.
    func shows(_ collection: CollectionDescriptor, _ wanted: Privileges, onColumns: Privileges) -> Bool {
        guard let user, !rights.owns(user, collection.owner) else { return true }
        if SystemCatalogs.isComputed(collection) { return wanted.contains(.select) }
        return !rights.privileges(of: user, on: collection).isDisjoint(with: wanted)
            || collection.columns.contains { has(onColumns, on: $0, of: collection, user) }
    }

    /// Any right on a column.
    func shows(_ column: CollectionDescriptor.Column, of collection: CollectionDescriptor) -> Bool {
        guard let user, !rights.owns(user, collection.owner), !SystemCatalogs.isComputed(collection) else {
            return true
        }
        return has(.ofColumns, on: column, of: collection, user)
    }

    private func has(
        _ wanted: Privileges, on column: CollectionDescriptor.Column, of collection: CollectionDescriptor,
        _ user: String
    ) -> Bool {
        !rights.privileges(of: user, on: column, of: collection).rights.isDisjoint(with: wanted)
    }

    func shows(_ grants: [Grant], owner: String) -> Bool {
        guard let user, !rights.owns(user, owner) else { return true }
        return !rights.privileges(of: user, grants, owner: owner, all: .ofSchemas).rights.isEmpty
    }

    /// Who has given it or got it; what everybody has is shown to everybody.
    func shows(_ grant: Grant) -> Bool {
        grant.grantee.isEmpty || isMember(of: grant.grantee) || isMember(of: grant.grantor)
    }
}
