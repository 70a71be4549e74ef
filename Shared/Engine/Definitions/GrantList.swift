import Base
import DataModel

/// What is granted on one object, and how it changes: PostgreSQL's rules of grant options, and of what depends on them.
struct GrantList {
    private(set) var grants: [Grant]
    /// Of a column: those on its table, which count as well, and do not change.
    var others: [Grant] = []
    let owner: String
    /// Roles have the rights of those that they are members of.
    let rights: AccessRights

    /// What a role may itself give to others; an owner, everything.
    func grantable(by role: String) -> Privileges {
        if role == owner { return .everything }
        return (grants + others).filter { $0.grantee == role }.reduce([]) { $0.union($1.grantable) }
    }

    /// What a role may give to others, by itself or as a member of others.
    private func grantableToMembers(_ role: String) -> Privileges {
        rights.roles(of: role).reduce(grantable(by: role)) { $0.union(grantable(by: $1)) }
    }

    /// In whose name a user gives and takes: of itself or of the role it is a member of that may most of it.
    func grantor(for user: String?, _ wanted: Privileges) -> (name: String, mayGive: Privileges) {
        guard let user, user != owner else { return (owner, wanted) }
        var best = (name: user, mayGive: Privileges())
        for role in [user]
            + rights.roles(of: user).subtracting([user]).sorted(by: { $0.utf8.lexicographicallyPrecedes($1.utf8) })
        {
            let given = grantable(by: role).intersection(wanted)
            if given == wanted { return (role, given) }
            if given.rawValue.nonzeroBitCount > best.mayGive.rawValue.nonzeroBitCount { best = (role, given) }
        }
        return best
    }

    // MARK: Changing

    mutating func give(
        _ wanted: Privileges, withOption: Bool, to grantee: String, by grantor: String
    ) throws(StatementError) {
        if withOption {
            guard !grantee.isEmpty else {
                throw StatementError(.invalidGrantOperation, "grant options can only be granted to roles")
            }
            try refuseCircle(wanted, grantee, grantor)
        }
        let options = withOption ? wanted : []
        if let place = place(grantee, grantor) {
            grants[place].rights.formUnion(wanted)
            grants[place].grantable.formUnion(options)
        } else {
            grants.append(Grant(grantee: grantee, grantor: grantor, rights: wanted, grantable: options))
        }
    }

    /// Takes rights, or the option alone; what others have from the grantee goes with it, or forbids it.
    mutating func take(
        _ wanted: Privileges, optionOnly: Bool, from grantee: String, by grantor: String, isCascade: Bool
    ) throws(StatementError) {
        guard let place = place(grantee, grantor) else { return }
        let lost = grants[place].grantable.intersection(wanted)
        grants[place].grantable.subtract(wanted)
        if !optionOnly { grants[place].rights.subtract(wanted) }
        if grants[place].rights.isEmpty { grants.remove(at: place) }
        // An owner can always give.
        guard !lost.isEmpty, grantee != owner else { return }
        let gone = lost.subtracting(grantableToMembers(grantee))
        while let next = grants.first(where: { $0.grantor == grantee && !$0.rights.isDisjoint(with: gone) }) {
            guard isCascade else {
                throw StatementError(
                    .dependentObjectsStillExist, "dependent privileges exist",
                    hint: "Use CASCADE to revoke them too.")
            }
            try take(gone, optionOnly: false, from: next.grantee, by: grantee, isCascade: true)
        }
    }

    /// Who gives must be able to without what the grantee has given.
    private func refuseCircle(_ wanted: Privileges, _ grantee: String, _ grantor: String) throws(StatementError) {
        guard grantor != owner else { return }
        var without = self
        while let next = without.grants.first(where: { $0.grantee == grantee && !$0.grantable.isEmpty }) {
            try without.take(next.rights, optionOnly: false, from: grantee, by: next.grantor, isCascade: true)
        }
        guard without.grantableToMembers(grantor).isSuperset(of: wanted) else {
            throw StatementError(
                .invalidGrantOperation, "grant options cannot be granted back to your own grantor")
        }
    }

    private func place(_ grantee: String, _ grantor: String) -> Int? {
        grants.firstIndex { $0.grantee == grantee && $0.grantor == grantor }
    }

    init(_ grants: [Grant], owner: String, _ rights: AccessRights) {
        (self.grants, self.owner, self.rights) = (grants, owner, rights)
    }
}
