import Base
import Placement
import Replication

/// Where commands become durable: a replication group, or a list in memory in tests.
package protocol CommandLog: AnyObject {
    /// The newest entry proposed.
    var lastIndex: LogIndex { get }
    /// The newest entry that is committed: durable, on a majority where there are several replicas.
    var committedIndex: LogIndex { get }
    /// Whether it is certain, now, that nobody else leads.
    var leaseIsValid: Bool { get }
    /// Asks the others whether this replica still leads; `body` hears once whether it is so.
    func confirmLeadership(_ body: @escaping (Bool) -> Void)
    /// Appends an entry and gives its index; nothing has happened when it throws.
    func propose(_ payload: ByteView) throws(DatabaseError) -> LogIndex
    /// Entries up to `index` are not needed any more.
    func noteFlushed(_ index: LogIndex)
}

extension ReplicaGroup: CommandLog {
    package func confirmLeadership(_ body: @escaping (Bool) -> Void) {
        readIndex { result in
            if case .success = result { body(true) } else { body(false) }
        }
    }
}

/// The state machine in front of its log: evaluates commands at once while this replica leads, answers them when they
/// are durable.
///
/// `state` is ahead of what is committed by the commands under way, as on a shard's leader: later commands are
/// evaluated against it. Every answer, a read's or a refusal's too, waits until the newest entry that it may have seen
/// is committed, and until it is certain that nobody else led meanwhile; so what anybody was told survives a crash and
/// a fail-over. A replica that follows applies what the leader decided. Loop-confined.
package final class CommandLedger {
    private struct Waiting {
        let index: LogIndex
        let number: UInt64
        /// It waits for an entry of its own: that one's commit proves the leadership, and its loss leaves the outcome
        /// unknown.
        let isProposal: Bool
        let run: (DatabaseError?) -> Void
    }

    /// With all commands that were accepted, committed or not; on a follower what is committed.
    package private(set) var state: PlacementState
    /// Whether this replica evaluates.
    package private(set) var isLeading = false
    /// Called with each new map once it is committed.
    package var onMapChanged: ((ShardMap) -> Void)?
    /// Called when a committed entry cannot be applied: the process must stop.
    package var onDamage: ((DatabaseError) -> Void)?
    /// The newest map that is committed.
    package private(set) var publishedMap: ShardMap?
    /// The newest committed entry that holds all of the state; zero before the first.
    package private(set) var lastSnapshot = LogIndex.zero

    private let log: any CommandLog
    private let snapshotInterval: Int
    /// With committed commands only.
    private var applied: PlacementState
    private var appliedSinceSnapshot: Int
    private var entriesSinceSnapshot: Int
    /// Accepted and not committed yet, in order.
    private var pending: [(index: LogIndex, command: PlacementCommand)] = []
    /// In order of index; answers go in the order in which commands came.
    private var waiting: [Waiting] = []
    private var lastNumber: UInt64 = 0
    /// It is certain that this replica led when these came.
    private var confirmedNumber: UInt64 = 0
    private var isConfirming = false
    private var isRunningAnswers = false

    /// Calls that wait at most: a leader that reaches no majority takes no more than these.
    private static let waitingLimit = 4096

    /// Goes on from `state`, which the log's entries led to. A snapshot follows after `snapshotInterval` entries.
    package init(
        log: any CommandLog, state: PlacementState, entriesSinceSnapshot: Int = 0, snapshotInterval: Int = 1000
    ) {
        self.log = log
        self.state = state
        self.snapshotInterval = snapshotInterval
        self.entriesSinceSnapshot = entriesSinceSnapshot
        applied = state
        appliedSinceSnapshot = entriesSinceSnapshot
        publishedMap = state.map
    }

    // MARK: Leadership

    /// This replica leads, and everything from before is applied.
    package func lead() {
        isLeading = true
        resume()
    }

    /// Somebody else leads, or nobody: what is not committed is forgotten, and may still come by `apply`.
    package func follow() {
        isLeading = false
        resume()
        let lost = waiting
        waiting = []
        for one in lost { one.run(one.isProposal ? Self.unknown : Self.notLeading) }
    }

    private func resume() {
        state = applied
        entriesSinceSnapshot = appliedSinceSnapshot
        pending = []
    }

    private static let notLeading = DatabaseError(.notLeader, "this coordinator does not lead")
    private static let unknown = DatabaseError(
        .outcomeUnknown, "this coordinator ceased to lead before the request was decided: it may come to pass")

    // MARK: Commands

    /// Evaluates a command, and calls `answer` when its outcome is durable (at once if everything is).
    package func submit(
        _ command: PlacementCommand, _ answer: @escaping (Result<[PlacementEvent], DatabaseError>) -> Void
    ) {
        guard isLeading else { return answer(.failure(Self.notLeading)) }
        let before = log.lastIndex
        let result: Result<[PlacementEvent], DatabaseError>
        do throws(DatabaseError) { result = .success(try accept(command)) } catch { result = .failure(error) }
        whenDurable(isProposal: log.lastIndex > before) { lost in
            answer(lost.map { .failure($0) } ?? result)
        }
        takeSnapshotIfDue()
    }

    /// Calls `body` when everything that is in `state` now is durable: with nil, or with why that will not be known.
    package func whenDurable(_ body: @escaping (DatabaseError?) -> Void) { whenDurable(isProposal: false, body) }

    private func whenDurable(isProposal: Bool, _ body: @escaping (DatabaseError?) -> Void) {
        guard isLeading else { return body(Self.notLeading) }
        if waiting.isEmpty, log.committedIndex >= log.lastIndex, log.leaseIsValid { return body(nil) }
        // What was proposed has its place already.
        guard isProposal || waiting.count < Self.waitingLimit else {
            return body(DatabaseError(.busy, "too many requests wait for the other coordinators"))
        }
        lastNumber += 1
        waiting.append(Waiting(index: log.lastIndex, number: lastNumber, isProposal: isProposal, run: body))
        runAnswers()
    }

    private func accept(_ command: PlacementCommand) throws(DatabaseError) -> [PlacementEvent] {
        var next = state
        let events = try next.apply(command)
        guard next != state else { return events }  // A repeated request: nothing to make durable.
        guard waiting.count < Self.waitingLimit else {
            throw DatabaseError(.busy, "too many requests wait for the other coordinators")
        }
        try propose(command)
        state = next
        return events
    }

    private func propose(_ command: PlacementCommand) throws(DatabaseError) {
        var entry = ByteBuffer()
        command.encode(into: &entry)
        let index = try log.propose(entry.readable)
        pending.append((index, command))
        entriesSinceSnapshot += 1
    }

    /// Writes the state itself as an entry; what is before it is given up once that is committed.
    private func takeSnapshotIfDue() {
        guard isLeading, entriesSinceSnapshot >= snapshotInterval else { return }
        // A full disk refuses; the next round tries again.
        try? propose(.snapshot(state))
        entriesSinceSnapshot = 0
    }

    // MARK: What is committed

    /// The log says that entries up to `index`, proposed here, are committed.
    package func committed(_ index: LogIndex) {
        while let first = pending.first, first.index <= index {
            pending.removeFirst()
            settle(first.command, first.index)
        }
        runAnswers()
    }

    /// A committed entry that was not proposed here, or not in this leadership; empty when it is Raft's own.
    package func apply(_ index: LogIndex, _ entry: ByteView) {
        if !entry.isEmpty {
            do throws(DatabaseError) {
                settle(try PlacementCommand(decoding: entry), index)
            } catch {
                onDamage?(DatabaseError(error.code, "entry \(index) of the placement log: \(error.message)"))
            }
            if !isLeading { resume() }
        }
        runAnswers()
    }

    private func settle(_ command: PlacementCommand, _ index: LogIndex) {
        let events: [PlacementEvent]
        do throws(DatabaseError) { events = try applied.apply(command) } catch {
            onDamage?(CommandReplay.misfit(index, error))
            return
        }
        appliedSinceSnapshot += 1
        if case .snapshot = command {
            appliedSinceSnapshot = 1
            lastSnapshot = index
            log.noteFlushed(LogIndex(rawValue: index.rawValue - 1))
        }
        let hasNewMap = events.contains { if case .mapChanged = $0 { true } else { false } }
        if hasNewMap, let map = applied.map { publish(map) }
    }

    private func publish(_ map: ShardMap) {
        guard map.epoch > publishedMap?.epoch ?? MapEpoch(rawValue: 0) else { return }
        publishedMap = map
        onMapChanged?(map)
    }

    // MARK: Answers

    private func runAnswers() {
        // An answer may submit a command: what that adds is reached by this loop or by the next call.
        guard !isRunningAnswers else { return }
        isRunningAnswers = true
        var isCertain = true
        while let first = waiting.first, first.index <= log.committedIndex {
            isCertain = first.isProposal || first.number <= confirmedNumber || log.leaseIsValid
            guard isCertain else { break }
            waiting.removeFirst()
            first.run(nil)
        }
        isRunningAnswers = false
        if !isCertain { confirm() }
    }

    /// Without a lease a majority must say that nobody else leads.
    private func confirm() {
        guard !isConfirming else { return }
        isConfirming = true
        let number = lastNumber
        log.confirmLeadership { [weak self] isLeading in
            guard let self else { return }
            isConfirming = false
            guard isLeading else { return }
            confirmedNumber = max(confirmedNumber, number)
            runAnswers()
        }
    }
}
