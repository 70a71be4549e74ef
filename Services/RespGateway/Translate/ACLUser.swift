import Base

/// What one user may do, and how ACL LIST shows it. Passwords are not here: the catalog has verifiers of them.
package final class ACLUser {
    package let name: String
    package var isEnabled = false
    package private(set) var hasNoPassword = false
    /// A fingerprint of each verifier, 64 hexadecimal digits, for show.
    package var fingerprints: [String] = []
    private(set) var root = ACLSelector()
    private(set) var selectors: [ACLSelector] = []
    /// Changes of passwords that `apply` met: the driver derives verifiers from them.
    package private(set) var newPasswords: [Bytes] = [], droppedPasswords: [Bytes] = []
    /// Whether passwords that the user had before stay.
    package private(set) var keepsPasswords = true

    package init(name: String) { self.name = name }

    /// A user who may do everything without a password.
    package init(everythingAs name: String, _ table: CommandTable) {
        self.name = name
        isEnabled = true
        hasNoPassword = true
        root = .everything(table)
    }

    /// A user of the catalog. Rules that this version does not know take rights away rather than give them.
    package convenience init(name: String, isEnabled: Bool, rules: String, _ table: CommandTable) {
        self.init(name: name)
        do throws(DatabaseError) {
            for rule in try Self.tokens(rules.split(separator: " ").map(String.init)) { try apply(rule, table) }
            self.isEnabled = isEnabled
        } catch {
            root = ACLSelector()
            selectors = []
            self.isEnabled = false
        }
    }

    package var allowsEverything: Bool { root.allowsEverything }

    /// The user as it was before a change, to be changed.
    func copy() -> ACLUser {
        let copy = ACLUser(name: name)
        copy.take(self)
        return copy
    }

    /// Takes over the rights of `other`.
    func take(_ other: ACLUser) {
        isEnabled = other.isEnabled
        hasNoPassword = other.hasNoPassword
        fingerprints = other.fingerprints
        root = other.root
        selectors = other.selectors
    }

    // MARK: Checks

    /// Why the user may not run the command with these words, in Redis' words; nil if it may.
    func denial(of command: RESPCommand, _ words: Words) -> String? {
        switch refusal(of: command, words) {
        case nil: nil
        case .command: "this user has no permissions to run the '\(command.name)' command"
        case .key: "this user has no permissions to access one of the keys used as arguments"
        case .channel: "this user has no permissions to access one of the channels used as arguments"
        }
    }

    /// Whether one of the rules lets the user listen to a channel or pattern.
    func mayListen(to name: ByteView, _ kind: SubscriptionKind) -> Bool {
        root.mayListen(to: name, kind) || selectors.contains { $0.mayListen(to: name, kind) }
    }

    enum Refusal { case command, key(Bytes), channel(Bytes) }

    /// The reason nearest to success among all selectors.
    func refusal(of command: RESPCommand, _ words: Words) -> Refusal? {
        var result = Refusal.command
        for selector in [root] + selectors {
            var key: Bytes = []
            switch selector.denial(of: command, words, key: &key) {
            case nil: return nil
            case .command: break
            case .key: result = .key(key)
            case .channel: result = .channel(key)
            }
        }
        return result
    }

    // MARK: Rules

    /// Joins what stands between parentheses: a selector is one rule.
    package static func tokens(_ words: [String]) throws(DatabaseError) -> [String] {
        var tokens: [String] = [], open: [String] = []
        for word in words {
            if !open.isEmpty || word.hasPrefix("(") {
                open.append(word)
                if word.hasSuffix(")") {
                    tokens.append(open.joined(separator: " "))
                    open = []
                }
            } else {
                tokens.append(word)
            }
        }
        if let first = open.first {
            throw DatabaseError(.syntax, "Unmatched parenthesis in acl selector starting at '\(first)'.")
        }
        return tokens
    }

    /// Applies one rule of ACL SETUSER.
    package func apply(_ rule: String, _ table: CommandTable) throws(DatabaseError) {
        if try root.apply(rule, table) { return }
        switch rule.lowercased() {
        case "on": isEnabled = true
        case "off": isEnabled = false
        case "nopass":
            forgetPasswords()
            hasNoPassword = true
        case "resetpass": forgetPasswords()
        case "sanitize-payload": break  // There is no command that loads payloads.
        case "reset":
            forgetPasswords()
            isEnabled = false
            root = ACLSelector()
            selectors = []
        case "clearselectors": selectors = []
        default: try applyPrefixed(rule, table)
        }
    }

    private func applyPrefixed(_ rule: String, _ table: CommandTable) throws(DatabaseError) {
        let rest = rule.dropFirst()
        switch rule.utf8.first {
        case UInt8(ascii: ">"):
            guard rest.utf8.count <= 1024 else { throw .acl(rule.prefix(8) + "…", "The password is too long") }
            newPasswords.append(Bytes(rest.utf8))
            hasNoPassword = false
        case UInt8(ascii: "<"):
            droppedPasswords.append(Bytes(rest.utf8))
        case UInt8(ascii: "#"), UInt8(ascii: "!"):
            // A hash of one mechanism says nothing to the others; so it is refused rather than half accepted.
            throw .acl(rule, "Password hashes are not supported, give the password itself with > or <")
        case UInt8(ascii: "("):
            guard rule.hasSuffix(")") else {
                throw DatabaseError(.syntax, "Unmatched parenthesis in acl selector starting at '\(rule)'.")
            }
            var selector = ACLSelector()
            for part in rest.dropLast().split(separator: " ").map(String.init) {
                guard try selector.apply(part, table) else { throw .aclSyntax(part) }
            }
            selectors.append(selector)
        default:
            throw .aclSyntax(rule)
        }
    }

    private func forgetPasswords() {
        hasNoPassword = false
        keepsPasswords = false
        newPasswords = []
        droppedPasswords = []
        fingerprints = []
    }

    // MARK: Text

    /// The rules as the catalog keeps them: whether the user is enabled, and its passwords, stand beside them.
    package var rules: String {
        ((hasNoPassword ? ["nopass"] : []) + [root.text] + selectors.map { "(\($0.text))" }).joined(separator: " ")
    }

    /// A line of ACL LIST.
    var line: String {
        var parts = ["user \(name)", isEnabled ? "on" : "off"]
        if hasNoPassword { parts.append("nopass") }
        parts += fingerprints.map { "#" + $0 }
        return (parts + [root.text] + selectors.map { "(\($0.text))" }).joined(separator: " ")
    }

    var flagNames: [String] { [isEnabled ? "on" : "off"] + (hasNoPassword ? ["nopass"] : []) }
}
