import Base
import Placement
import Replication

/// Where commands become durable: a replication group, or a list in memory in tests.
package protocol CommandLog: AnyObject {
    /// The newest entry proposed.
    var lastIndex: LogIndex { get }
    /// The newest entry that is durable.
    var committedIndex: LogIndex { get }
    /// Appends an entry and gives its index; nothing has happened when it throws.
    func propose(_ payload: ByteView) throws(DatabaseError) -> LogIndex
    /// Entries up to `index` are not needed any more.
    func noteFlushed(_ index: LogIndex)
}

extension ReplicaGroup: CommandLog {}

/// The state machine in front of its log: evaluates commands at once, answers them when they are durable.
///
/// `state` is ahead of the disk by the commands under way, as on a shard's leader: later commands are evaluated against
/// it. Every answer, a read's or a refusal's too, waits until the newest entry that it may have seen is durable; so
/// what anybody was told survives a crash. Loop-confined.
package final class CommandLedger {
    private struct Waiting {
        let index: LogIndex
        let run: () -> Void
    }

    /// With all commands that were accepted, durable or not.
    package private(set) var state: PlacementState
    /// Called with each new map once it is durable.
    package var onMapChanged: ((ShardMap) -> Void)?
    /// The newest map that is durable.
    package private(set) var publishedMap: ShardMap?

    private let log: any CommandLog
    private let snapshotInterval: Int
    private var entriesSinceSnapshot = 0
    /// In order of index; answers go in the order in which commands came.
    private var waiting: [Waiting] = []
    private var isRunningAnswers = false

    /// Goes on from `state`, which the log's entries led to. A snapshot follows after `snapshotInterval` entries.
    package init(
        log: any CommandLog, state: PlacementState, entriesSinceSnapshot: Int = 0, snapshotInterval: Int = 1000
    ) {
        self.log = log
        self.state = state
        self.snapshotInterval = snapshotInterval
        self.entriesSinceSnapshot = entriesSinceSnapshot
        publishedMap = state.map
    }

    /// The state that a log's entries lead to, and how many came after the newest snapshot.
    ///
    /// Of the entries before the newest snapshot some may be gone with their segments, so it begins there. A command
    /// that was refused never came to the log: a refusal here means that this program computes otherwise than the one
    /// that wrote the log, an error and not something to pass over.
    package struct Replay {
        private var entries: [(index: LogIndex, command: PlacementCommand)] = []

        package init() {}

        /// Takes the next entry of the log; of two with the same index the later one holds.
        package mutating func add(_ index: LogIndex, _ entry: ByteView) throws(DatabaseError) {
            while let last = entries.last, last.index >= index { entries.removeLast() }
            let command = try PlacementCommand(decoding: entry)
            if case .snapshot = command { entries.removeAll() }
            entries.append((index, command))
        }

        /// The state after the last entry.
        package func finish() throws(DatabaseError) -> (state: PlacementState, entriesSinceSnapshot: Int) {
            var state = PlacementState()
            for (index, command) in entries {
                do throws(DatabaseError) { _ = try state.apply(command) } catch {
                    throw DatabaseError(
                        .corruption,
                        "entry \(index) of the placement log does not fit what is before it: \(error.message)")
                }
            }
            return (state, entries.count)
        }
    }

    /// Evaluates a command, and calls `answer` when its outcome is durable (at once if everything is).
    package func submit(
        _ command: PlacementCommand, _ answer: @escaping (Result<[PlacementEvent], DatabaseError>) -> Void
    ) {
        let result: Result<[PlacementEvent], DatabaseError>
        do throws(DatabaseError) { result = .success(try accept(command)) } catch { result = .failure(error) }
        whenDurable { answer(result) }
        takeSnapshotIfDue()
    }

    /// Calls `body` when everything that is in `state` now is durable.
    package func whenDurable(_ body: @escaping () -> Void) {
        if waiting.isEmpty, log.committedIndex >= log.lastIndex {
            body()
        } else {
            waiting.append(Waiting(index: log.lastIndex, run: body))
        }
    }

    /// The log says that entries up to `index` are durable.
    package func committed(_ index: LogIndex) {
        // An answer may submit a command: what that adds is reached by this loop or by the next call.
        guard !isRunningAnswers else { return }
        isRunningAnswers = true
        defer { isRunningAnswers = false }
        while let first = waiting.first, first.index <= log.committedIndex {
            waiting.removeFirst()
            first.run()
        }
    }

    private func accept(_ command: PlacementCommand) throws(DatabaseError) -> [PlacementEvent] {
        var next = state
        let events = try next.apply(command)
        guard next != state else { return events }  // A repeated request: nothing to make durable.
        var entry = ByteBuffer()
        command.encode(into: &entry)
        _ = try log.propose(entry.readable)
        state = next
        entriesSinceSnapshot += 1
        if let map = state.map, map.epoch != publishedMap?.epoch {
            whenDurable { [self] in publish(map) }
        }
        return events
    }

    private func publish(_ map: ShardMap) {
        guard map.epoch > publishedMap?.epoch ?? MapEpoch(rawValue: 0) else { return }
        publishedMap = map
        onMapChanged?(map)
    }

    /// Writes the state itself as an entry, and gives up what is before it once that is durable.
    private func takeSnapshotIfDue() {
        guard entriesSinceSnapshot >= snapshotInterval else { return }
        entriesSinceSnapshot = 0
        var entry = ByteBuffer()
        PlacementCommand.snapshot(state).encode(into: &entry)
        // A full disk refuses; the next round tries again.
        guard let index = try? log.propose(entry.readable) else { return }
        whenDurable { [log] in log.noteFlushed(LogIndex(rawValue: index.rawValue - 1)) }
    }
}
