import Base
import DataModel

/// Who is asked what its statements may do.
package enum Authority: Hashable, Sendable {
    /// The user: a role, if there is one of that name, and otherwise a user of the cluster who may do everything.
    case user
    /// The user is this role, or nobody: it may have been dropped since it has logged in, and the name be another's.
    case role(RoleID)
    /// Nobody: it was allowed elsewhere, as commands of Redis are.
    case unlimited
}

extension EngineSettings {
    /// Whose rights count; nil: everything is allowed.
    func restrictedUser(_ catalog: Catalog) -> String? {
        switch authority {
        case .unlimited: return nil
        case .user: return AccessRights(catalog).isSuperuser(user) ? nil : user
        case .role(let id):
            guard let role = catalog.role(named: user), role.id == id else { return AccessRights.nobody }
            return role.attributes.contains(.superuser) ? nil : user
        }
    }

    /// SET SESSION AUTHORIZATION: superusers may be anybody.
    package mutating func becomeSession(of name: String, _ catalog: Catalog) throws(StatementError) {
        guard name != sessionUser || name != user else { return }
        try Self.check(name, catalog)
        guard restrictedUser(catalog) == nil else {
            throw StatementError(.insufficientPrivilege, "permission denied to set session authorization")
        }
        (user, sessionUser, authority) = (name, name, .user)
    }

    /// SET ROLE: members may take the place of what they are members of.
    package mutating func become(_ name: String, _ catalog: Catalog) throws(StatementError) {
        guard name != user else { return }
        try Self.check(name, catalog)
        if let restricted = restrictedUser(catalog),
            !AccessRights(catalog).roles(of: restricted, anyway: true).contains(name)
        {
            throw StatementError(.insufficientPrivilege, "permission denied to set role \"\(name)\"")
        }
        (user, authority) = (name, .user)
    }

    private static func check(_ name: String, _ catalog: Catalog) throws(StatementError) {
        guard name == SystemCatalog.owner || catalog.role(named: name) != nil else {
            throw StatementError(.invalidParameterValue, "role \"\(name)\" does not exist")
        }
    }
}
