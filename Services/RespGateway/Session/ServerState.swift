import Base

/// What all sessions of one gateway loop share: commands, users, clients, settings, statistics, and this tick's time.
///
/// Pure like a session: the driver sets the clocks at the start of a tick and loads the users. Loop-confined.
package final class ServerState {
    package let table: CommandTable
    package let users: UserDirectory
    package let channels = ChannelTable()
    package let frame = CallFrame()
    package var settings: Settings { didSet { adopt(settings) } }
    package let facts: ServerFacts

    /// This tick's time. Commands see time stand still between two ticks.
    package var wallMilliseconds: UInt64 {
        get { wall }
        set {
            wall = newValue
            frame.wallMilliseconds = Int64(truncatingIfNeeded: newValue)
        }
    }
    package var monotonicNanoseconds: UInt64 {
        get { monotonic }
        set { monotonic = newValue }
    }

    // What every command touches is internal: only so does the compiler see every access, and spare them the check of
    // exclusivity at run time.
    private(set) var wall: UInt64 = 0, monotonic: UInt64 = 0
    /// The limits for a client that has logged in.
    private(set) var limits = RESPLimits()
    /// Nanoseconds from which on a command is slow.
    private(set) var slowThreshold: UInt64 = .max
    /// What CLIENT PAUSE holds back now, and until when (monotonic milliseconds).
    private(set) var pause = Pause.nothing
    private var pauseEnd: UInt64 = 0
    var commandCount: UInt64 = 0, errorCount: UInt64 = 0
    var bytesIn: UInt64 = 0, bytesOut: UInt64 = 0

    /// Random bytes, injected by the driver; a gateway without any makes no passwords.
    package var randomBytes: (Int) -> Bytes = { Bytes(repeating: 0, count: $0) }
    /// CPU time of the process in microseconds and its resident bytes, injected by the driver; only INFO asks.
    package var resources: () -> ProcessResources = { ProcessResources() }

    package private(set) var clients: [UInt64: RESPSession] = [:]
    private var lastClientID: UInt64 = 0

    // Statistics since the start or CONFIG RESETSTAT.
    package var commandsProcessed: UInt64 { commandCount }
    package internal(set) var connectionsReceived: UInt64 = 0
    package internal(set) var connectionsRejected: UInt64 = 0
    package var errors: UInt64 { errorCount }
    package internal(set) var protocolErrors: UInt64 = 0
    package var inputBytes: UInt64 { bytesIn }
    package var outputBytes: UInt64 { bytesOut }
    /// Calls of each command, by its number in the table.
    package var calls: [UInt64] { Array(UnsafeBufferPointer(start: callCounts, count: table.commands.count)) }
    private let callCounts: UnsafeMutablePointer<UInt64>
    var slowLog = SlowLog()
    private var lastSlowTick: UInt64 = 0
    /// For an answer that has to wait for its turn.
    var scratch = ByteBuffer(capacity: 1024)

    package init(
        table: CommandTable = .standard, users: UserDirectory = UserDirectory(), settings: Settings = Settings(),
        facts: ServerFacts = ServerFacts()
    ) {
        self.table = table
        self.users = users
        self.settings = settings
        self.facts = facts
        callCounts = .allocate(capacity: table.commands.count)
        callCounts.initialize(repeating: 0, count: table.commands.count)
        adopt(settings)
    }

    private func adopt(_ settings: Settings) {
        limits = settings.limits
        slowLog.apply(settings)
        slowThreshold = slowLog.threshold
    }

    deinit { callCounts.deallocate() }

    @inline(__always) func count(_ index: Int) {
        commandCount &+= 1
        callCounts[index] &+= 1
    }

    // MARK: Clients

    /// A session for a new connection, or nil when there are too many.
    package func admit(address: String, localAddress: String) -> RESPSession? {
        guard clients.count < settings.maximumClients else {
            connectionsRejected &+= 1
            return nil
        }
        connectionsReceived &+= 1
        lastClientID &+= 1
        let session = RESPSession(id: lastClientID, server: self, address: address, localAddress: localAddress)
        clients[lastClientID] = session
        return session
    }

    func remove(_ session: RESPSession) { clients[session.id] = nil }

    /// To be called after a change of `users`: logged-in clients feel it at once, removed users are logged out.
    /// The clients to close are returned.
    package func usersChanged() -> [UInt64] {
        clients.values.filter { !$0.refreshUser() }.map(\.id).sorted()
    }

    // MARK: CLIENT PAUSE

    /// Holds commands back for that time. Of two pauses the stricter kind and the later end hold.
    func beginPause(_ kind: Pause, milliseconds: UInt64) {
        _ = endPauseIfDue()
        let end = monotonicNanoseconds / 1_000_000 + milliseconds
        pause = max(pause, kind)
        pauseEnd = max(pauseEnd, end)
        _ = endPauseIfDue()
    }

    /// CLIENT UNPAUSE.
    func endPause() { (pause, pauseEnd) = (.nothing, 0) }

    /// Ends a pause whose time has come. Returns the milliseconds that are left of it; nil when there is none.
    package func endPauseIfDue() -> UInt64? {
        guard pause != .nothing else { return nil }
        let now = monotonicNanoseconds / 1_000_000
        if pauseEnd > now { return pauseEnd - now }
        endPause()
        return nil
    }

    /// CONFIG RESETSTAT.
    package func resetStatistics() {
        (commandCount, connectionsReceived, connectionsRejected, errorCount, protocolErrors) = (0, 0, 0, 0, 0)
        (bytesIn, bytesOut) = (0, 0)
        callCounts.update(repeating: 0, count: table.commands.count)
    }

    /// Of the commands answered in one tick one is kept, unless all are wanted: under load thousands are slow together,
    /// for one reason, and telling of each would make them slower.
    func noteSlow(_ entry: ReplyRing.Entry, _ session: RESPSession) {
        guard lastSlowTick != monotonicNanoseconds || slowLog.threshold == 0 else { return }
        lastSlowTick = monotonicNanoseconds
        let command = table.commands[Int(entry.command)]
        slowLog.append(
            at: wallMilliseconds / 1000, microseconds: (monotonicNanoseconds &- entry.started) / 1000,
            words: SlowLog.words(command, entry.argument), address: session.address, name: session.name)
    }
}

/// Which commands CLIENT PAUSE holds back.
enum Pause: UInt8, Comparable {
    case nothing, writes, everything

    static func < (left: Pause, right: Pause) -> Bool { left.rawValue < right.rawValue }

    func holdsBack(_ command: RESPCommand) -> Bool {
        switch self {
        case .nothing: false
        case .writes: command.flags.contains(.write)
        case .everything: true
        }
    }
}

/// What does not change while the process runs, for INFO and HELLO.
package struct ServerFacts: Sendable {
    /// The version of Redis whose commands these are: clients decide by it what they may use.
    package static let redisVersion = "7.0.15"

    package var version = "0.1.0"
    package var runID = String(repeating: "0", count: 40)
    package var port = 6379
    package var processID = 0
    package var operatingSystem = "Linux"
    package var executable = "", configurationFile = ""
    package var startedAtMilliseconds: UInt64 = 0

    package init() {}
}

/// What the process has used so far.
package struct ProcessResources: Hashable, Sendable {
    package var userMicroseconds: UInt64 = 0, systemMicroseconds: UInt64 = 0, residentBytes: UInt64 = 0

    package init() {}
}

/// The commands that took longest, newest first (SLOWLOG).
struct SlowLog {
    struct Entry {
        let id: UInt64, time: UInt64, microseconds: UInt64, words: [Bytes], address: String, name: Bytes
    }

    private(set) var entries: [Entry] = []
    private(set) var threshold: UInt64 = .max
    private var limit = 128
    private var nextID: UInt64 = 0

    mutating func apply(_ settings: Settings) {
        threshold = settings.slowLogMicroseconds < 0 ? .max : UInt64(settings.slowLogMicroseconds) &* 1000
        limit = settings.slowLogLength
        if entries.count > limit { entries.removeLast(entries.count - limit) }
    }

    mutating func append(at time: UInt64, microseconds: UInt64, words: [Bytes], address: String, name: Bytes) {
        guard limit > 0 else { return }
        if entries.count >= limit { entries.removeLast(entries.count - limit + 1) }
        entries.insert(
            Entry(id: nextID, time: time, microseconds: microseconds, words: words, address: address, name: name),
            at: 0)
        nextID &+= 1
    }

    mutating func removeAll() { entries = [] }

    /// The words that are kept of a command: its name, what is known of the first argument, and how many there were.
    static func words(_ command: RESPCommand, _ argument: ArgumentPrefix) -> [Bytes] {
        var words = [Bytes(command.name.utf8)]
        let count = Int(argument.words)
        guard count > 1 else { return words }
        let kept = argument.bytes, more = Int(argument.length) - kept.count
        words.append(more > 0 ? kept + Bytes("... (\(more) more bytes)".utf8) : kept)
        if count > 2 { words.append(Bytes("... (\(count - 2) more arguments)".utf8)) }
        return words
    }
}
