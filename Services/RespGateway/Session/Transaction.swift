import Base
import Contracts

/// Commands between MULTI and EXEC: their words, copied, for the read buffer moves on.
///
/// Bounds: `commandLimit` commands, and as many bytes as one command may have (`client-query-buffer-limit`).
final class Transaction {
    static let commandLimit = 1 << 16
    /// A word and a command count for so much beside the bytes of their words.
    private static let wordCost = MemoryLayout<Word>.stride, commandCost = 64

    struct Command {
        /// The command, or the subcommand, and the number of it or of its container in the table.
        unowned(unsafe) let row: RESPCommand
        let index: Int
        fileprivate let firstWord: Int, wordCount: Int
    }

    private(set) var commands: [Command] = []
    /// A command was refused: EXEC does nothing.
    private(set) var isBroken = false
    /// EXEC waits for the end of a pause that holds writes back.
    private(set) var writes = false
    /// What the commands cost.
    private(set) var size = 0
    private var text = ByteBuffer(capacity: 256)
    private var table: [Word] = []

    /// Keeps a command. Nothing is kept any more once the transaction is broken.
    func append(_ row: RESPCommand, _ index: Int, _ words: Words, limit: Int) throws(DatabaseError) {
        guard !isBroken else { return }
        guard commands.count < Self.commandLimit else {
            throw DatabaseError(.limitExceeded, "A transaction has at most \(Self.commandLimit) commands")
        }
        var cost = Self.commandCost &+ words.count &* Self.wordCost
        for position in 0..<words.count { cost &+= words[position].count }
        guard size &+ cost <= limit else {
            throw DatabaseError(.limitExceeded, "The commands of a transaction have at most \(limit) bytes")
        }
        size &+= cost
        writes = writes || row.flags.contains(.write)
        commands.append(Command(row: row, index: index, firstWord: table.count, wordCount: words.count))
        for position in 0..<words.count {
            let word = words[position]
            table.append(
                Word(
                    offset: UInt32(truncatingIfNeeded: text.count), length: UInt32(truncatingIfNeeded: word.count)))
            text.append(word)
        }
    }

    /// A command was refused. What was queued goes: nothing of it will be done.
    func abort() {
        isBroken = true
        commands = []
        table = []
        text.removeAll()
        text.trim(to: 256)
        size = 0
    }

    /// Calls `body` with the words of a command; they are valid during the call.
    func withWords(_ command: Command, _ body: (Words) -> Void) {
        guard let base = text.readable.baseAddress else { return }
        table.withUnsafeBufferPointer { table in
            guard let start = table.baseAddress, command.firstWord + command.wordCount <= table.count else { return }
            body(Words(base: base, table: start + command.firstWord, count: command.wordCount))
        }
    }
}

/// What WATCH has noted.
struct WatchedKeys {
    static let keyLimit = 1 << 14, byteLimit = 4 << 20

    struct Name: Hashable { let database: UInt8, key: Bytes }

    private(set) var list: [TransactionPlan.Watch] = []
    /// Whose versions are being asked for.
    private(set) var asked: [Name] = []
    /// It is not known what has become of some key: EXEC does nothing.
    private(set) var isLost = false
    private var names: Set<Name> = []
    private var size = 0

    var isEmpty: Bool { names.isEmpty && !isLost }

    /// Notes keys that were not watched yet, and answers them; their versions are to follow.
    mutating func begin(_ words: Words, _ database: UInt8) throws(DatabaseError) -> [Bytes] {
        guard !isLost else { return [] }
        var fresh: [Name] = [], freshNames: Set<Name> = [], freshSize = 0
        for position in 1..<words.count {
            let name = Name(database: database, key: words[position].bytes)
            guard !names.contains(name), freshNames.insert(name).inserted else { continue }
            fresh.append(name)
            freshSize += name.key.count
        }
        guard names.count + fresh.count <= Self.keyLimit, size + freshSize <= Self.byteLimit else {
            throw DatabaseError(
                .limitExceeded, "A client watches at most \(Self.keyLimit) keys of \(Self.byteLimit) bytes")
        }
        names.formUnion(freshNames)
        size += freshSize
        asked = fresh
        return fresh.map(\.key)
    }

    /// The versions of the keys that `begin` has answered; nil: nobody knows them.
    mutating func end(_ versions: [UInt64]?) {
        guard let versions, versions.count == asked.count else {
            self = WatchedKeys()
            isLost = true
            return
        }
        for (name, version) in zip(asked, versions) {
            list.append(.init(database: name.database, key: name.key, version: version))
        }
        asked = []
    }
}

/// What an EXEC asks of the shards, as a value.
package struct TransactionPlan: Hashable, Sendable {
    /// A key that must be as it was.
    package struct Watch: Hashable, Sendable {
        package let database: UInt8, key: Bytes
        /// As the shard named it; nil: the key must not exist.
        package let version: UInt64?
    }

    package var watches: [Watch] = []
    /// In the order in which they are done.
    package var calls: [CallSnapshot] = []
}

/// How an EXEC ended.
package enum TransactionOutcome {
    /// All calls were done; an encoded `ReplyBatch` with a reply for each, in order.
    case done(ByteView)
    /// A watched key has changed: nothing was done.
    case changed
    case failed(DatabaseError)
}

/// An EXEC whose answer is to come.
struct Execution {
    enum Step {
        /// A call, and how its reply reads.
        case call(ReplyShape)
        /// What the command is answered with.
        case refused(String)
        /// The gateway answers itself: the command at this position of `transaction`.
        case local(Int)
    }

    let token: UInt64
    var steps: [Step] = []
    /// For each step the number of its command in the table.
    var indices: [Int] = []
    /// If the words are still needed.
    var transaction: Transaction?
}
