import Base
import Contracts

/// How a node's reply reads on the wire, where its kind alone does not say it.
package enum ReplyShape: UInt8, Hashable, Sendable {
    /// By kind: OK, integer, bulk, null, array.
    case plain
    /// Data as a simple string (TYPE).
    case status
    /// Milliseconds, rounded to seconds; negative markers stay (TTL).
    case seconds
    /// OK and Null as 1 and 0 (SETNX).
    case condition
    /// OK whatever the number (HMSET).
    case ok
    /// A list of fields and values as a map (HGETALL).
    case map
    /// A list of fields and values; in RESP3 an array of pairs (HRANDFIELD WITHVALUES).
    case pairs
    /// The next cursor, then the elements (SCAN, HSCAN).
    case scan
    /// Matches of LCS IDX, without and with their lengths.
    case matches, matchesWithLengths
    /// 1 if the key exists (OBJECT REFCOUNT: values are not shared).
    case reference
    /// An error if the key exists (OBJECT FREQ: frequencies are not tracked).
    case frequency
}

/// Which shards a call is for.
package enum CallTarget: UInt8, Hashable, Sendable {
    /// The shard of `key`.
    case key
    /// The shard of all keys of the command (`CallFrame.forEachKey`); refused when there are several.
    case keys
    /// All shards; their answers are merged.
    case everyShard
    /// SCAN: the shard that the cursor names.
    case cursor
    /// All shards; one of their answers is chosen: RANDOMKEY.
    case anyShard
}

/// A call as a value.
package struct CallSnapshot: Hashable, Sendable {
    package let method: Method, target: CallTarget, database: UInt8, key: Bytes, flags: UInt32, numbers: [Int64]
    package let arguments: [Bytes]
    /// All keys of the command.
    package let keys: [Bytes]
}

/// One call of a node, as a command's row fills it in: views of the read buffer, in tables that are reused for every
/// command.
///
/// A gateway has one. It is valid during `SessionSink.invoke` only.
package final class CallFrame {
    // Internal, not `package`: only so does the compiler see every access, and spare them the check at run time.
    var method = Method.get
    var target = CallTarget.key
    var shape = ReplyShape.plain
    var database: UInt8 = 0
    var flags: UInt32 = 0
    var key = ByteView(start: nil, count: 0)
    /// The wall clock of this tick, for checks of relative times.
    var wallMilliseconds: Int64 = 0

    /// The command and its words, for whoever asks for all keys.
    /// Not counted: rows live as long as the process.
    private(set) unowned(unsafe) var command = RESPCommand.get
    private var words: Words?
    private var numberTable: UnsafeMutablePointer<Int64>, numberCapacity = 64, numberCount = 0
    private var argumentTable: UnsafeMutablePointer<ByteView>, argumentCapacity = 64, argumentCount = 0

    package init() {
        numberTable = .allocate(capacity: numberCapacity)
        argumentTable = .allocate(capacity: argumentCapacity)
    }

    deinit {
        numberTable.deallocate()
        argumentTable.deallocate()
    }

    package var numbers: UnsafeBufferPointer<Int64> { UnsafeBufferPointer(start: numberTable, count: numberCount) }

    package var arguments: UnsafeBufferPointer<ByteView> {
        UnsafeBufferPointer(start: argumentTable, count: argumentCount)
    }

    /// Empties the frame for the next command.
    @inline(__always) func begin(_ command: RESPCommand, _ words: Words, database: UInt8) {
        self.command = command
        self.words = words
        self.database = database
        shape = command.reply
        target = .key
        flags = 0
        key = ByteView(start: nil, count: 0)
        numberCount = 0
        argumentCount = 0
        if argumentCapacity > 4096 || numberCapacity > 4096 { shrink() }
    }

    @inline(__always) package func call(_ method: Method, _ key: ByteView) {
        self.method = method
        self.key = key
    }

    /// A call without a key.
    package func call(_ method: Method, on target: CallTarget) {
        self.method = method
        self.target = target
    }

    @inline(__always) package func append(_ number: Int64) {
        if numberCount == numberCapacity {
            (numberTable, numberCapacity) = Self.grown(numberTable, numberCapacity, numberCount)
        }
        numberTable[numberCount] = number
        numberCount += 1
    }

    @inline(__always) package func append(_ argument: ByteView) {
        if argumentCount == argumentCapacity {
            (argumentTable, argumentCapacity) = Self.grown(argumentTable, argumentCapacity, argumentCount)
        }
        argumentTable[argumentCount] = argument
        argumentCount += 1
    }

    /// Appends the words from `first` on.
    package func append(_ words: Words, from first: Int) {
        var position = first
        while position < words.count {
            append(words[position])
            position += 1
        }
    }

    /// The call as a value that outlives the frame, for tests and logs.
    package var snapshot: CallSnapshot {
        var keys: [Bytes] = []
        forEachKey { keys.append($0.bytes) }
        return CallSnapshot(
            method: method, target: target, database: database, key: key.bytes, flags: flags, numbers: Array(numbers),
            arguments: arguments.map(\.bytes), keys: keys)
    }

    /// All keys of the command, in order.
    package func forEachKey(_ body: (ByteView) -> Void) {
        guard let words else { return }
        for spec in command.keys {
            for position in spec.positions(of: words.count) { body(words[position]) }
        }
    }

    private static func grown<T>(_ table: UnsafeMutablePointer<T>, _ capacity: Int, _ count: Int)
        -> (UnsafeMutablePointer<T>, Int)
    {
        let larger = UnsafeMutablePointer<T>.allocate(capacity: capacity * 2)
        larger.update(from: table, count: count)
        table.deallocate()
        return (larger, capacity * 2)
    }

    private func shrink() {
        numberTable.deallocate()
        argumentTable.deallocate()
        (numberCapacity, argumentCapacity) = (64, 64)
        numberTable = .allocate(capacity: numberCapacity)
        argumentTable = .allocate(capacity: argumentCapacity)
    }
}
