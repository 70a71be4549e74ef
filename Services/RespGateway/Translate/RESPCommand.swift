import Base
import Contracts

/// One command, or one subcommand: how Redis 7.0 describes it, and what it becomes.
///
/// The row answers COMMAND and COMMAND INFO, DOCS and GETKEYS, arity and access checks, and names the metrics. Its
/// body either parses the words into a call of a node, or answers on the spot. Rows are one `static let` each, grouped
/// in files.
package final class RESPCommand: Sendable {
    /// Fills in the call, or throws what Redis answers to such arguments. Arity has been checked.
    package typealias Parse = @Sendable (Words, CallFrame) throws(DatabaseError) -> Void
    /// Writes the reply, or asks the session to wait for one.
    package typealias Answer = @Sendable (Words, RESPSession, inout ByteBuffer) throws(DatabaseError) -> Void

    /// What the command becomes.
    package enum Body: Sendable {
        case call(Parse)
        case answer(Answer)
        /// Its first argument names a subcommand; with none it answers itself, if it can (COMMAND).
        case container([RESPCommand], alone: Answer?)
    }

    package let name: String
    /// The number of words, the name included; negative: at least so many.
    package let arity: Int
    package let flags: CommandFlags
    package let categories: ACLCategories
    package let group: CommandGroup
    package let keys: [KeySpec]
    package let since: String, complexity: String, summary: String, tips: [String]
    package let reply: ReplyShape
    package let body: Body
    /// The parser of `body`, if it has one: what most commands need, without taking the enum apart.
    let parse: Parse?

    /// A command that a node executes.
    package init(
        _ name: String, _ arity: Int, _ flags: CommandFlags, _ group: CommandGroup, keys: [KeySpec] = [],
        acl: ACLCategories = [], tips: [String] = [], since: String, complexity: String = "O(1)",
        reply: ReplyShape = .plain, summary: String, call: @escaping Parse
    ) {
        (self.name, self.arity, self.flags, self.group, self.keys) = (name, arity, flags, group, keys)
        (self.since, self.complexity, self.summary, self.tips) = (since, complexity, summary, tips)
        self.reply = reply
        categories = acl.union(flags.impliedCategories)
        body = .call(call)
        parse = call
    }

    /// A command that the gateway answers itself.
    package init(
        _ name: String, _ arity: Int, _ flags: CommandFlags, _ group: CommandGroup, keys: [KeySpec] = [],
        acl: ACLCategories = [], tips: [String] = [], since: String, complexity: String = "O(1)", summary: String,
        answer: @escaping Answer
    ) {
        (self.name, self.arity, self.flags, self.group, self.keys) = (name, arity, flags, group, keys)
        (self.since, self.complexity, self.summary, self.tips) = (since, complexity, summary, tips)
        reply = .plain
        categories = acl.union(flags.impliedCategories)
        body = .answer(answer)
        parse = nil
    }

    /// A command made of subcommands.
    package init(
        _ name: String, _ group: CommandGroup, since: String, complexity: String = "Depends on subcommand.",
        summary: String, subcommands: [RESPCommand]
    ) {
        (self.name, arity, flags, self.group, keys) = (name, -2, [], group, [])
        (self.since, self.complexity, self.summary, tips) = (since, complexity, summary, [])
        reply = .plain
        categories = flags.impliedCategories
        body = .container(subcommands, alone: nil)
        parse = nil
    }

    /// A command made of subcommands that also does something without one.
    package init(
        _ name: String, _ arity: Int, _ flags: CommandFlags, _ group: CommandGroup, acl: ACLCategories,
        tips: [String], since: String, complexity: String, summary: String, subcommands: [RESPCommand],
        alone: @escaping Answer
    ) {
        (self.name, self.arity, self.flags, self.group, self.keys) = (name, arity, flags, group, [])
        (self.since, self.complexity, self.summary, self.tips) = (since, complexity, summary, tips)
        reply = .plain
        categories = acl.union(flags.impliedCategories)
        body = .container(subcommands, alone: alone)
        parse = nil
    }

    package var subcommands: [RESPCommand] {
        switch body {
        case .container(let rows, _): rows
        case .call, .answer: []
        }
    }

    /// `get`; `get` of `config|get`.
    package var lastName: Substring { name.split(separator: "|").last ?? "" }

    /// Confirmations of subscriptions are sent even where a client wants no replies.
    var isAlwaysAnswered: Bool { flags.isSuperset(of: [.pubSub, .noScript]) }

    /// Whether the command takes so many words, its name included.
    @inline(__always) package func accepts(_ words: Int) -> Bool { arity > 0 ? words == arity : words >= -arity }
}

/// What COMMAND shows, in its order.
package struct CommandFlags: OptionSet, Hashable, Sendable {
    package let rawValue: UInt32
    package init(rawValue: UInt32) { self.rawValue = rawValue }

    package static let write = CommandFlags(rawValue: 1)
    package static let readonly = CommandFlags(rawValue: 1 << 1)
    package static let denyOOM = CommandFlags(rawValue: 1 << 2)
    package static let admin = CommandFlags(rawValue: 1 << 4)
    package static let pubSub = CommandFlags(rawValue: 1 << 5)
    package static let noScript = CommandFlags(rawValue: 1 << 6)
    package static let loading = CommandFlags(rawValue: 1 << 9)
    package static let stale = CommandFlags(rawValue: 1 << 10)
    package static let skipSlowLog = CommandFlags(rawValue: 1 << 12)
    package static let fast = CommandFlags(rawValue: 1 << 14)
    package static let noAuth = CommandFlags(rawValue: 1 << 15)
    package static let allowBusy = CommandFlags(rawValue: 1 << 26)
    /// Not in COMMAND: it acts at once, also between MULTI and EXEC.
    package static let immediate = CommandFlags(rawValue: 1 << 28)
    /// Not in COMMAND: it is refused between MULTI and EXEC.
    package static let unqueueable = CommandFlags(rawValue: 1 << 29)
    /// Not in COMMAND: its words hold secrets, so no log shows them.
    package static let secret = CommandFlags(rawValue: 1 << 30)

    static let names: [(CommandFlags, String)] = [
        (.write, "write"), (.readonly, "readonly"), (.denyOOM, "denyoom"), (.admin, "admin"), (.pubSub, "pubsub"),
        (.noScript, "noscript"), (.loading, "loading"), (.stale, "stale"), (.skipSlowLog, "skip_slowlog"),
        (.fast, "fast"), (.noAuth, "no_auth"), (.allowBusy, "allow_busy"),
    ]

    package var list: [String] { Self.names.filter { contains($0.0) }.map(\.1) }

    /// Categories that follow from flags, by the rules of Redis.
    var impliedCategories: ACLCategories {
        var result: ACLCategories = contains(.fast) ? .fast : .slow
        if contains(.write) { result.insert(.write) }
        if contains(.readonly) { result.insert(.read) }
        if contains(.pubSub) { result.insert(.pubsub) }
        if contains(.admin) { result.formUnion([.admin, .dangerous]) }
        return result
    }
}

/// Categories of ACL rules, in the order of ACL CAT.
package struct ACLCategories: OptionSet, Hashable, Sendable {
    package let rawValue: UInt32
    package init(rawValue: UInt32) { self.rawValue = rawValue }

    package static let keyspace = ACLCategories(rawValue: 1)
    package static let read = ACLCategories(rawValue: 1 << 1)
    package static let write = ACLCategories(rawValue: 1 << 2)
    package static let string = ACLCategories(rawValue: 1 << 7)
    package static let bitmap = ACLCategories(rawValue: 1 << 8)
    package static let hash = ACLCategories(rawValue: 1 << 6)
    package static let pubsub = ACLCategories(rawValue: 1 << 12)
    package static let admin = ACLCategories(rawValue: 1 << 13)
    package static let fast = ACLCategories(rawValue: 1 << 14)
    package static let slow = ACLCategories(rawValue: 1 << 15)
    package static let dangerous = ACLCategories(rawValue: 1 << 17)
    package static let connection = ACLCategories(rawValue: 1 << 18)
    package static let transaction = ACLCategories(rawValue: 1 << 19)

    /// All of Redis 7, whether there are commands in them yet or not: a rule that names one is valid.
    static let names: [String] = [
        "keyspace", "read", "write", "set", "sortedset", "list", "hash", "string", "bitmap", "hyperloglog", "geo",
        "stream", "pubsub", "admin", "fast", "slow", "blocking", "dangerous", "connection", "transaction", "scripting",
    ]

    /// In the order in which COMMAND lists them.
    package var list: [String] {
        Self.names.indices.filter { rawValue & (1 << UInt32($0)) != 0 }.map { "@" + Self.names[$0] }
    }

    /// The category of that name, which may be written in any case.
    package static func named(_ name: some StringProtocol) -> ACLCategories? {
        names.firstIndex(of: name.lowercased()).map { ACLCategories(rawValue: 1 << UInt32($0)) }
    }
}

/// The chapter of the documentation.
package enum CommandGroup: String, Hashable, Sendable {
    case string, bitmap, hash, generic, connection, server, cluster, transactions, pubsub
}

/// Which words are keys, and what happens to them.
package struct KeySpec: Hashable, Sendable {
    /// What happens to the keys.
    package struct Flags: OptionSet, Hashable, Sendable {
        package let rawValue: UInt16
        package init(rawValue: UInt16) { self.rawValue = rawValue }

        package static let readOnly = Flags(rawValue: 1)
        package static let readWrite = Flags(rawValue: 1 << 1)
        package static let overwrite = Flags(rawValue: 1 << 2)
        package static let remove = Flags(rawValue: 1 << 3)
        /// The data leaves through the reply (needs read access), or is changed (needs write access).
        package static let access = Flags(rawValue: 1 << 4)
        package static let update = Flags(rawValue: 1 << 5)
        package static let insert = Flags(rawValue: 1 << 6)
        package static let delete = Flags(rawValue: 1 << 7)
        /// The flags of one call depend on its arguments.
        package static let variable = Flags(rawValue: 1 << 10)

        static let names: [(Flags, String)] = [
            (.readOnly, "RO"), (.readWrite, "RW"), (.overwrite, "OW"), (.remove, "RM"), (.access, "access"),
            (.update, "update"), (.insert, "insert"), (.delete, "delete"), (.variable, "variable_flags"),
        ]

        package var list: [String] { Self.names.filter { contains($0.0) }.map(\.1) }
    }

    /// The first key; the last one, counted from `first`, or from the end when negative; the distance between two.
    package let first: Int, last: Int, step: Int, flags: Flags
    package let notes: String

    package init(at first: Int = 1, last: Int = 0, step: Int = 1, _ flags: Flags, notes: String = "") {
        (self.first, self.last, self.step, self.flags, self.notes) = (first, last, step, flags, notes)
    }

    /// Where the keys are among `count` words.
    package func positions(of count: Int) -> StrideThrough<Int> {
        stride(from: first, through: min(last >= 0 ? first + last : count + last, count - 1), by: step)
    }
}
