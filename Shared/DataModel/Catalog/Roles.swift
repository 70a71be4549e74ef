import Base

/// A role of the catalog; never reused.
package struct RoleID: Identifier {
    package let rawValue: UInt32
    package init(rawValue: UInt32) { self.rawValue = rawValue }
}

/// Who owns things and has rights: a user, if it can log in, or a group of them.
package struct RoleDescriptor: Hashable, Sendable {
    /// What a role may do beside what is granted to it.
    package struct Attributes: OptionSet, Hashable, Sendable {
        package let rawValue: UInt8
        package init(rawValue: UInt8) { self.rawValue = rawValue }

        package static let superuser = Attributes(rawValue: 1)
        /// It has the rights of the roles that it is a member of.
        package static let inherit = Attributes(rawValue: 2)
        package static let createRole = Attributes(rawValue: 4)
        package static let createDatabase = Attributes(rawValue: 8)
        package static let login = Attributes(rawValue: 16)
        package static let replication = Attributes(rawValue: 32)
        package static let bypassRowSecurity = Attributes(rawValue: 64)
    }

    /// Being a member of another role.
    package struct Membership: Hashable, Sendable {
        package var role: String
        package var grantor: String
        /// The member may make others members.
        package var isAdmin: Bool

        package init(role: String, grantor: String, isAdmin: Bool) {
            (self.role, self.grantor, self.isAdmin) = (role, grantor, isAdmin)
        }
    }

    package var id: RoleID
    package var name: String
    package var attributes: Attributes
    /// Microseconds since 1970, after which its password counts no more.
    package var validUntil: Int64?
    /// What proves its password, in PostgreSQL's text form of SCRAM-SHA-256.
    package var verifier: String?
    package var memberships: [Membership] = []

    package init(id: RoleID, name: String, attributes: Attributes) {
        (self.id, self.name, self.attributes) = (id, name, attributes)
    }
}

/// What somebody may do with an object, as PostgreSQL's ACLs have it.
package struct Privileges: OptionSet, Hashable, Sendable {
    package let rawValue: UInt16
    package init(rawValue: UInt16) { self.rawValue = rawValue }

    package static let insert = Privileges(rawValue: 1), select = Privileges(rawValue: 2)
    package static let update = Privileges(rawValue: 4), delete = Privileges(rawValue: 8)
    package static let truncate = Privileges(rawValue: 16), references = Privileges(rawValue: 32)
    package static let trigger = Privileges(rawValue: 64), usage = Privileges(rawValue: 128)
    package static let create = Privileges(rawValue: 256)

    /// In the order in which ACLs show them.
    package static let all: [(name: String, letter: String, right: Privileges)] = [
        ("insert", "a", .insert), ("select", "r", .select), ("update", "w", .update), ("delete", "d", .delete),
        ("truncate", "D", .truncate), ("references", "x", .references), ("trigger", "t", .trigger),
        ("usage", "U", .usage), ("create", "C", .create),
    ]

    package static let everything = Privileges(rawValue: 511)
    package static let ofTables: Privileges = [.insert, .select, .update, .delete, .truncate, .references, .trigger]
    package static let ofColumns: Privileges = [.insert, .select, .update, .references]
    package static let ofSequences: Privileges = [.usage, .select, .update]
    package static let ofSchemas: Privileges = [.usage, .create]
}

/// What one role has given another, or all (`grantee` is empty).
package struct Grant: Hashable, Sendable {
    package var grantee: String
    package var grantor: String
    package var rights: Privileges
    /// Those that the grantee may give to others.
    package var grantable: Privileges

    package init(grantee: String, grantor: String, rights: Privileges, grantable: Privileges = []) {
        (self.grantee, self.grantor, self.rights, self.grantable) = (grantee, grantor, rights, grantable)
    }

    /// PostgreSQL's `aclitem`: `grantee=letters/grantor`, a star behind what may be given on.
    package var text: String {
        let letters = Privileges.all.filter { rights.contains($0.right) }
            .map { grantable.contains($0.right) ? $0.letter + "*" : $0.letter }
        return "\(Self.quoted(grantee))=\(letters.joined())/\(Self.quoted(grantor))"
    }

    private static func quoted(_ name: String) -> String {
        let isPlain = name.utf8.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"):
                true
            case _: false
            }
        }
        return isPlain ? name : "\"" + name.replacing("\"", with: "\"\"") + "\""
    }
}

extension CollectionDescriptor {
    /// What there is to be allowed.
    package var allPrivileges: Privileges { kind == .sequence ? .ofSequences : .ofTables }

    /// The grants, that of the owner to itself among them, which is there unless somebody has revoked it.
    package var effectiveGrants: [Grant] {
        grants ?? [Grant(grantee: owner, grantor: owner, rights: allPrivileges)]
    }
}

extension NamespaceDescriptor {
    /// The grants; everybody may use the default namespace.
    package var effectiveGrants: [Grant] {
        if let grants { return grants }
        let own = Grant(grantee: owner, grantor: owner, rights: .ofSchemas)
        return id == .default ? [own, Grant(grantee: "", grantor: owner, rights: .usage)] : [own]
    }
}

/// Who may do what, by one catalog.
package struct AccessRights {
    private let catalog: Catalog

    package init(_ catalog: Catalog) { self.catalog = catalog }

    /// Has what is everybody's, and no more: no role can be called that.
    package static let nobody = "none"

    /// Whether nothing is forbidden to a user: users of the cluster who are no roles may do everything, or gateways
    /// would not let them in.
    package func isSuperuser(_ user: String) -> Bool {
        catalog.role(named: user).map { $0.attributes.contains(.superuser) } ?? (user != Self.nobody)
    }

    /// The user, and the roles whose rights it has; with `anyway`, those that do not inherit give theirs, too.
    package func roles(of user: String, anyway: Bool = false) -> Set<String> {
        var found: Set<String> = [user], open = [user]
        while let next = open.popLast() {
            guard let role = catalog.role(named: next), anyway || role.attributes.contains(.inherit) else { continue }
            for membership in role.memberships where found.insert(membership.role).inserted {
                open.append(membership.role)
            }
        }
        return found
    }

    /// What a user may do with an object of an owner.
    package func privileges(of user: String, _ grants: [Grant], owner: String, all: Privileges) -> (
        rights: Privileges, grantable: Privileges
    ) {
        if isSuperuser(user) { return (all, all) }
        let roles = roles(of: user)
        var rights: Privileges = [], grantable: Privileges = []
        for grant in grants where grant.grantee.isEmpty || roles.contains(grant.grantee) {
            rights.formUnion(grant.rights)
            grantable.formUnion(grant.grantable)
        }
        // Who owns something can give back to itself what was taken.
        return (rights, roles.contains(owner) ? all : grantable)
    }

    package func privileges(of user: String, on collection: CollectionDescriptor) -> Privileges {
        privileges(
            of: user, collection.effectiveGrants, owner: collection.owner, all: collection.allPrivileges
        ).rights
    }

    /// What a user may do with one column, by what is granted on the table or on the column.
    package func privileges(
        of user: String, on column: CollectionDescriptor.Column, of collection: CollectionDescriptor
    )
        -> (rights: Privileges, grantable: Privileges)
    {
        let grants = collection.effectiveGrants + (column.grants ?? [])
        let found = privileges(of: user, grants, owner: collection.owner, all: collection.allPrivileges)
        return (found.rights.intersection(.ofColumns), found.grantable.intersection(.ofColumns))
    }

    package func privileges(of user: String, on namespace: NamespaceDescriptor) -> Privileges {
        privileges(of: user, namespace.effectiveGrants, owner: namespace.owner, all: .ofSchemas).rights
    }

    /// Whether a user has the rights of an owner.
    package func owns(_ user: String, _ owner: String) -> Bool {
        isSuperuser(user) || roles(of: user).contains(owner)
    }
}

// MARK: - The stored form

extension RoleDescriptor {
    func write(_ writer: inout CatalogWriter) {
        writer.number(id.rawValue)
        writer.text(name)
        writer.number(attributes.rawValue)
        writer.optional(validUntil) { $0.signed($1) }
        writer.optional(verifier) { $0.text($1) }
        writer.list(memberships) { writer, membership in
            writer.text(membership.role)
            writer.text(membership.grantor)
            writer.bool(membership.isAdmin)
        }
    }

    init(_ reader: inout CatalogReader) throws(DatabaseError) {
        let id = RoleID(rawValue: try reader.number()), name = try reader.text()
        self.init(id: id, name: name, attributes: Attributes(rawValue: try reader.number()))
        validUntil = try reader.optional { reader throws(DatabaseError) in try reader.signed() }
        verifier = try reader.optional { reader throws(DatabaseError) in try reader.text() }
        memberships = try reader.list { reader throws(DatabaseError) in
            Membership(role: try reader.text(), grantor: try reader.text(), isAdmin: try reader.bool())
        }
    }
}

extension Grant {
    static func write(_ grants: [Grant]?, _ writer: inout CatalogWriter) {
        writer.optional(grants) { writer, grants in
            writer.list(grants) { writer, grant in
                writer.text(grant.grantee)
                writer.text(grant.grantor)
                writer.number(grant.rights.rawValue)
                writer.number(grant.grantable.rawValue)
            }
        }
    }

    static func read(_ reader: inout CatalogReader) throws(DatabaseError) -> [Grant]? {
        guard reader.format >= 5 else { return nil }
        return try reader.optional { reader throws(DatabaseError) in
            try reader.list { reader throws(DatabaseError) in
                Grant(
                    grantee: try reader.text(), grantor: try reader.text(),
                    rights: Privileges(rawValue: try reader.number()),
                    grantable: Privileges(rawValue: try reader.number()))
            }
        }
    }
}
