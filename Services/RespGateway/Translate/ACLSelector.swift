import Base

/// One set of rights: which commands, on which keys. A user has one, and may have more as alternatives.
struct ACLSelector {
    struct Permission: OptionSet, Hashable, Sendable {
        let rawValue: UInt8
        static let read = Permission(rawValue: 1)
        static let write = Permission(rawValue: 2)
        static let both: Permission = [.read, .write]
    }

    struct KeyPattern: Equatable, Sendable {
        var pattern: Bytes, permission: Permission

        /// `~a*`, `%R~a*`
        var text: String {
            let prefix = permission == .read ? "%R~" : permission == .write ? "%W~" : "~"
            return prefix + String(decoding: pattern, as: UTF8.self)
        }
    }

    private(set) var allowsAllKeys = false
    private(set) var patterns: [KeyPattern] = []
    /// Channels that may be listened to.
    private(set) var allowsAllChannels = false
    private(set) var channels: [String] = []
    /// The rules about commands in the order in which they were given, the first being `+@all` or `-@all`.
    private(set) var commandRules = ["-@all"]
    private var allowed: Set<ObjectIdentifier> = []

    /// Commands and keys without any exception.
    private(set) var allowsEverything = false

    static func everything(_ table: CommandTable) -> ACLSelector {
        var selector = ACLSelector()
        selector.setAllCommands(true, table)
        selector.allowsAllKeys = true
        selector.allowsAllChannels = true
        selector.noteChange()
        return selector
    }

    // MARK: Checks

    /// What a command lacks.
    enum Denial: Int { case command = 1, key = 2, channel = 3 }

    func denial(of command: RESPCommand, _ words: Words, key denied: inout Bytes) -> Denial? {
        if !command.flags.contains(.noAuth), !allowed.contains(ObjectIdentifier(command)) { return .command }
        if let kind = command.listensTo {
            for position in 1..<max(words.count, 1) where !mayListen(to: words[position], kind) {
                denied = words[position].bytes
                return .channel
            }
        }
        if allowsAllKeys { return nil }
        for spec in command.keys {
            let needed = spec.permission(of: command, words)
            for position in spec.positions(of: words.count) where !allows(words[position], needed) {
                denied = words[position].bytes
                return .key
            }
        }
        return nil
    }

    /// A pattern must be one that the rules name; a channel must match one.
    func mayListen(to name: ByteView, _ kind: SubscriptionKind) -> Bool {
        if allowsAllChannels { return true }
        return channels.contains { rule in
            Bytes(rule.utf8).withUnsafeBytes { kind == .pattern ? $0.elementsEqual(name) : Glob.matches($0, name) }
        }
    }

    private func allows(_ key: ByteView, _ needed: Permission) -> Bool {
        patterns.contains { entry in
            entry.permission.isSuperset(of: needed) && entry.pattern.withUnsafeBytes { Glob.matches($0, key) }
        }
    }

    // MARK: Rules

    /// Applies one rule about keys, channels or commands; false if it is none of these.
    mutating func apply(_ rule: String, _ table: CommandTable) throws(DatabaseError) -> Bool {
        switch rule.lowercased() {
        case "allkeys", "~*": (allowsAllKeys, patterns) = (true, [])
        case "resetkeys": (allowsAllKeys, patterns) = (false, [])
        case "allchannels", "&*": (allowsAllChannels, channels) = (true, [])
        case "resetchannels": (allowsAllChannels, channels) = (false, [])
        case "allcommands", "+@all": setAllCommands(true, table)
        case "nocommands", "-@all": setAllCommands(false, table)
        default:
            switch rule.utf8.first {
            case UInt8(ascii: "~"): try addPattern(rule.dropFirst(), .both, rule)
            case UInt8(ascii: "%"): try addPattern(rule)
            case UInt8(ascii: "&"): try addChannel(String(rule.dropFirst()), rule)
            case UInt8(ascii: "+"): try setCommands(String(rule.dropFirst()), true, rule, table)
            case UInt8(ascii: "-"): try setCommands(String(rule.dropFirst()), false, rule, table)
            default: return false
            }
        }
        noteChange()
        return true
    }

    private mutating func noteChange() { allowsEverything = allowsAllKeys && commandRules == ["+@all"] }

    private mutating func setAllCommands(_ isAllowed: Bool, _ table: CommandTable) {
        commandRules = [isAllowed ? "+@all" : "-@all"]
        allowed = isAllowed ? Set(table.leaves.map { ObjectIdentifier($0) }) : []
    }

    /// `%R~pattern`, `%RW~pattern`
    private mutating func addPattern(_ rule: String) throws(DatabaseError) {
        guard let tilde = rule.firstIndex(of: "~") else { throw .aclSyntax(rule) }
        var permission = Permission()
        for letter in rule[..<tilde].dropFirst().lowercased() {
            switch letter {
            case "r" where !permission.contains(.read): permission.insert(.read)
            case "w" where !permission.contains(.write): permission.insert(.write)
            default: throw .aclSyntax(rule)
            }
        }
        guard !permission.isEmpty else { throw .aclSyntax(rule) }
        let pattern = rule[tilde...].dropFirst()
        if permission == .both, pattern == "*" {
            (allowsAllKeys, patterns) = (true, [])
        } else {
            try addPattern(pattern, permission, rule)
        }
    }

    private mutating func addPattern(
        _ pattern: Substring, _ permission: Permission, _ rule: String
    ) throws(DatabaseError) {
        guard !allowsAllKeys else {
            throw .acl(
                rule,
                "Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does not have any "
                    + "effect. Try 'resetkeys' to start with an empty list of patterns")
        }
        guard !pattern.utf8.contains(where: { $0 == 32 || $0 == 0 }) else { throw .aclSyntax(rule) }
        let bytes = Bytes(pattern.utf8)
        if let index = patterns.firstIndex(where: { $0.pattern == bytes }) {
            patterns[index].permission.formUnion(permission)
        } else {
            patterns.append(KeyPattern(pattern: bytes, permission: permission))
        }
    }

    private mutating func addChannel(_ pattern: String, _ rule: String) throws(DatabaseError) {
        guard !allowsAllChannels else {
            throw .acl(
                rule,
                "Adding a pattern after the * pattern (or the 'allchannels' flag) is not valid and does not have any "
                    + "effect. Try 'resetchannels' to start with an empty list of channels")
        }
        guard !pattern.utf8.contains(where: { $0 == 32 || $0 == 0 }) else { throw .aclSyntax(rule) }
        if !channels.contains(pattern) { channels.append(pattern) }
    }

    /// `get`, `config|set`, `@read`
    private mutating func setCommands(
        _ name: String, _ isAllowed: Bool, _ rule: String, _ table: CommandTable
    ) throws(DatabaseError) {
        let unknown = "Unknown command or category name in ACL"
        var concerned: [RESPCommand]
        if name.hasPrefix("@") {
            guard let category = ACLCategories.named(name.dropFirst()) else { throw .acl(rule, unknown) }
            concerned = table.leaves.filter { $0.categories.contains(category) }
        } else {
            guard let command = Array(name.utf8).withUnsafeBytes({ table.command(named: $0) }) else {
                throw .acl(rule, unknown)
            }
            concerned = [command] + command.subcommands
        }
        for command in concerned {
            if isAllowed {
                allowed.insert(ObjectIdentifier(command))
            } else {
                allowed.remove(ObjectIdentifier(command))
            }
        }
        let plain = name.lowercased()
        // A later rule about the same thing replaces an earlier one, also about a part of it.
        commandRules.removeAll { old in
            let subject = old.dropFirst()
            return subject == plain || subject.hasPrefix(plain + "|")
        }
        commandRules.append((isAllowed ? "+" : "-") + plain)
    }

    // MARK: Text

    var keysText: String { allowsAllKeys ? "~*" : patterns.map(\.text).joined(separator: " ") }

    var channelsText: String { allowsAllChannels ? "&*" : channels.map { "&" + $0 }.joined(separator: " ") }

    var commandsText: String { commandRules.joined(separator: " ") }

    /// `~a* resetchannels -@all +get`
    var text: String {
        var parts: [String] = []
        if !keysText.isEmpty { parts.append(keysText) }
        if !allowsAllChannels { parts.append("resetchannels") }
        if !channelsText.isEmpty { parts.append(channelsText) }
        return (parts + [commandsText]).joined(separator: " ")
    }
}

extension KeySpec {
    /// What the user needs for these keys. SET reads only with GET, BITFIELD writes only with something besides GET.
    func permission(of command: RESPCommand, _ words: Words) -> ACLSelector.Permission {
        let flags = flags(of: command, words)
        var permission = ACLSelector.Permission()
        if flags.contains(.access) { permission.insert(.read) }
        if !flags.isDisjoint(with: [.update, .insert, .delete]) { permission.insert(.write) }
        return permission
    }

    /// The flags of one call.
    func flags(of command: RESPCommand, _ words: Words) -> Flags {
        guard flags.contains(.variable) else { return flags }
        switch command.name {
        case "set":
            let gets = words.count > 3 && (3..<words.count).contains { words.matches($0, "get") }
            return gets ? [.readWrite, .access, .update] : [.overwrite, .update]
        case "bitfield":
            var position = 2
            while position < words.count {
                if words.matches(position, "set") || words.matches(position, "incrby") {
                    return [.readWrite, .access, .update]
                }
                position += words.matches(position, "get") ? 3 : 2
            }
            return [.readOnly, .access]
        default:
            return flags.subtracting(.variable)
        }
    }
}

extension DatabaseError {
    static func acl(_ rule: String, _ why: String) -> DatabaseError {
        DatabaseError(.invalidArgument, "Error in ACL SETUSER modifier '\(rule)': \(why)")
    }

    static func aclSyntax(_ rule: String) -> DatabaseError { acl(rule, "Syntax error") }
}
