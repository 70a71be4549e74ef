import Actors
import Base
import DataModel
import Raft
import Storage
import Transactions

/// What the open transactions of a shard have done so far: in memory only, at the shard's leader. That a transaction
/// has a scope here, and its locks, is the participant's business; this is what its calls have made.
final class ShardScopes {
    /// What may be kept.
    struct Limits: Sendable {
        var scope = ScopeEvaluation.Limits()
        /// Memory of all scopes of the shard.
        var bytes = 2 << 30
        /// How long a transaction may be open.
        var openMilliseconds: UInt64 = 3_600_000
        /// Evaluations that are kept for transactions to come.
        var spare = 32

        /// So much for one transaction, twice as much for all.
        mutating func limit(_ bytes: Int) {
            scope.effectBytes = max(bytes, 1 << 20)
            self.bytes = scope.effectBytes * 2
        }
    }

    struct Scope {
        let evaluation: ScopeEvaluation
        /// As of this time it reads; zero: what is committed.
        let snapshot: Timestamp
        /// The entry that must be applied before it does.
        let readable: LogIndex
        /// Keeps the versions of that time.
        let hold: HistoryHold?
        let openedAt: UInt64
        var bytes = 0
        /// Where a SERIALIZABLE one has read.
        var visited = CollectionSet()
        /// Once it is sealed, and has read a whole shard: the entry that must be applied before that is looked at.
        var settled: LogIndex?
    }

    /// A scope that is sealed, and waits until everything is applied that came before.
    struct Sealing {
        let id: PartID
        let isOnly: Bool
        let token: UInt64
        let index: LogIndex
    }

    /// A statement that has its locks, and waits until the store shows what others have changed before.
    struct Parked {
        let id: PartID
        let token: UInt64
        let index: LogIndex
    }

    let limits: Limits
    private let store: ShardStore
    /// What is committed.
    private let reader: any RecordReader
    private let make: () -> ScopeEvaluation
    private var spare: [ScopeEvaluation] = []
    private var open: [PartID: Scope] = [:]
    private var parked: [Parked] = []
    private var sealing: [Sealing] = []
    private(set) var bytes = 0
    /// Statements that were evaluated, and transactions that were open for too long.
    var statements: UInt64 = 0
    private(set) var overdue: UInt64 = 0

    init(limits: Limits, store: ShardStore, make: @escaping () -> ScopeEvaluation) {
        (self.limits, self.store, self.make) = (limits, store, make)
        reader = CommittedRecords(store)
    }

    var count: Int { open.count }
    var parkedCount: Int { parked.count }

    subscript(_ id: PartID) -> Scope? { open[id] }

    /// Begins a transaction here, unless it has begun.
    func begin(_ id: PartID, snapshot: Timestamp, readable: LogIndex, now: UInt64) {
        guard open[id] == nil else { return }
        let evaluation = spare.popLast() ?? make(), isRepeatable = snapshot > .zero
        var hold: HistoryHold?
        if isRepeatable {
            let past = PastRecords(store)
            past.time = snapshot
            evaluation.open(reader: past, isRepeatable: true)
            hold = store.hold(at: snapshot, untilMilliseconds: now &+ limits.openMilliseconds)
        } else {
            evaluation.open(reader: reader, isRepeatable: false)
        }
        open[id] = Scope(
            evaluation: evaluation, snapshot: snapshot, readable: readable, hold: hold, openedAt: now)
    }

    /// A statement has been evaluated, or taken back.
    func measure(_ id: PartID) {
        guard let scope = open[id] else { return }
        bytes += scope.evaluation.memoryUsed - scope.bytes
        open[id]?.bytes = scope.evaluation.memoryUsed
    }

    /// What a statement of a SERIALIZABLE transaction has read.
    func visit(_ id: PartID, _ collections: CollectionSet) { open[id]?.visited.formUnion(collections) }

    func end(_ id: PartID) {
        guard let scope = open.removeValue(forKey: id) else { return }
        if scope.settled != nil { sealing.removeAll { $0.id == id } }
        bytes -= scope.bytes
        if let hold = scope.hold { store.release(hold) }
        if spare.count < limits.spare, scope.bytes < limits.scope.memoryBytes * 4 { spare.append(scope.evaluation) }
    }

    /// All of them are lost. Their statements that wait have been refused with all others.
    func removeAll() {
        for id in Array(open.keys) { end(id) }
        (parked, sealing) = ([], [])
    }

    /// Transactions that have been open for too long.
    func overdue(_ now: UInt64) -> [PartID] {
        let late = open.filter { $0.value.openedAt &+ limits.openMilliseconds <= now }.map(\.key)
        overdue += UInt64(late.count)
        return late
    }

    // MARK: Statements that wait for an entry

    func park(_ statement: Parked) { parked.append(statement) }

    func isParked(_ id: PartID) -> Bool { parked.contains { $0.id == id } }

    /// Those whose entry is applied, in their order.
    func unpark(upTo index: LogIndex) -> [UInt64] {
        guard !parked.isEmpty else { return [] }
        let ready = parked.filter { $0.index <= index }.map(\.token)
        parked.removeAll { $0.index <= index }
        return ready
    }

    /// Nobody changes what the sealed scope has read any more: it is looked at when the entry is applied.
    func park(_ scope: Sealing) {
        open[scope.id]?.settled = scope.index
        sealing.append(scope)
    }

    /// Those whose entry is applied.
    func unparkSealed(upTo index: LogIndex) -> [Sealing] {
        guard !sealing.isEmpty else { return [] }
        let ready = sealing.filter { $0.index <= index }
        sealing.removeAll { $0.index <= index }
        return ready
    }

    /// Those of a transaction that is over.
    func unpark(_ id: PartID) -> [UInt64] {
        let tokens = parked.filter { $0.id == id }.map(\.token)
        if !tokens.isEmpty { parked.removeAll { $0.id == id } }
        return tokens
    }
}
