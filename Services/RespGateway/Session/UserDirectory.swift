import Base

/// The users as this gateway knows them: what they may do, not their passwords' verifiers, which the driver keeps.
package final class UserDirectory {
    package private(set) var users: [String: ACLUser] = [:]
    /// Nobody has to log in: `--insecure-no-auth` and tests.
    private let isOpen: Bool

    package init(isOpen: Bool = false, _ table: CommandTable = .standard) {
        self.isOpen = isOpen
        if isOpen { users["default"] = ACLUser(everythingAs: "default", table) }
    }

    /// The user of a connection that has not logged in: `default`, if it needs no password.
    package var defaultUser: ACLUser? {
        guard let user = users["default"], user.isEnabled, user.hasNoPassword else { return nil }
        return user
    }

    /// The user of that name.
    package func user(named name: String) -> ACLUser? { users[name] }

    /// Takes over what the catalog says now. Objects of known users are kept, so that their sessions see the change.
    package func replace(with records: [ACLUser]) {
        var fresh: [String: ACLUser] = [:]
        for record in records {
            if let known = users[record.name] {
                known.take(record)
                fresh[record.name] = known
            } else {
                fresh[record.name] = record
            }
        }
        if isOpen, fresh["default"] == nil { fresh["default"] = users["default"] }
        users = fresh
    }
}
