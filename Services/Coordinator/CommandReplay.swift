import Base
import Placement
import Replication

/// The state that a log's entries lead to, and how many came since the newest snapshot: how a coordinator that is alone
/// starts, all of whose entries are committed.
///
/// Of the entries before the newest snapshot some may be gone with their segments, so it begins there. A command that
/// was refused never came to the log: a refusal here means that this program computes otherwise than the one that wrote
/// the log, an error and not something to pass over.
package struct CommandReplay {
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
            do throws(DatabaseError) { _ = try state.apply(command) } catch { throw Self.misfit(index, error) }
        }
        return (state, entries.count)
    }

    static func misfit(_ index: LogIndex, _ error: DatabaseError) -> DatabaseError {
        DatabaseError(
            .corruption, "entry \(index) of the placement log does not fit what is before it: \(error.message)")
    }
}

/// Where applying begins at the start of a coordinator that is one of several: which of its entries are committed only
/// the leader knows, so nothing is applied but what `ReplicaGroup` hands out.
///
/// A log that begins in its midst was cut below a committed snapshot. So the first snapshot that is left is committed
/// too, because it is that one or lies before it, and it makes up for everything that is gone.
package struct ReplayStart {
    private let mark: LogIndex
    private var snapshots: [LogIndex] = []
    private var last = LogIndex.zero

    /// - Parameter mark: the log begins behind it.
    package init(mark: LogIndex) { self.mark = mark }

    /// Takes the next entry of the log; of two with the same index the later one holds.
    package mutating func add(_ index: LogIndex, _ entry: ByteView) throws(DatabaseError) {
        guard index > mark else { return }
        while let newest = snapshots.last, newest >= index { snapshots.removeLast() }
        last = index
        if case .snapshot = try PlacementCommand(decoding: entry) { snapshots.append(index) }
    }

    /// The index behind which the state begins empty.
    package func finish() throws(DatabaseError) -> LogIndex {
        if mark == .zero { return .zero }
        if let first = snapshots.first { return LogIndex(rawValue: first.rawValue - 1) }
        guard last <= mark else {
            throw DatabaseError(.corruption, "the placement log begins behind \(mark) without the state at that point")
        }
        return mark
    }
}
