import Base
import Contracts
import DataModel
import Engine
import GatewayKit

/// The rows that a statement reads and writes, kept by the shards of the cluster: what the engine asks for becomes
/// calls for records, and their answers become rows.
///
/// Nothing waits: who asks too early is told `waiting`, and `onProgress` is called when there is more.
final class RowKeeper: RowAccess {
    /// Bytes of records that one shard answers a scan at once.
    static let pageBytes: Int64 = 256 << 10

    let calls: any RowCalls
    /// Reads what is committed as of one time, where `calls` do not; made when it is first asked for.
    private lazy var past = calls.past()
    /// Called when something has come that an execution waits for; never from inside a call of the engine's.
    var onProgress: () -> Void = {}
    /// By which keys of Redis may name records; nil where none are asked for.
    var catalog: Catalog?
    /// When rows expire that were replaced, by their keys as they are called, in milliseconds since 1970: their entries
    /// get that time.
    fileprivate var expiries: [Bytes: Int64] = [:]
    typealias Drawing = (CollectionID, SequenceWish, @escaping (Result<[Int64], DatabaseError>) -> Void) -> Void

    private let drawNumbers: Drawing
    private var draws: [CollectionID: Result<[Int64], DatabaseError>] = [:]
    private var drawing: Set<CollectionID> = []
    private var followers: [() -> Void] = []

    /// What shards may be asked to do with their rows; nil: nothing.
    let fragments: KeptFragments?

    init(_ calls: any RowCalls, draw: @escaping Drawing, fragments: KeptFragments? = nil) {
        (self.calls, drawNumbers, self.fragments) = (calls, draw, fragments)
    }

    // MARK: Reading

    var readsOneTime: Bool { past == nil }

    func scan(_ request: ScanRequest) throws(StatementError) -> any RowCursor {
        if let table = KeyspaceTables.table(request.collection) { return scan(request, table) }
        let newest = cursor(request, calls)
        guard request.isOfOneTime, let past else { return newest }
        return TwofoldRead(cursor(request, past), newest)
    }

    private func cursor(_ request: ScanRequest, _ calls: any RowCalls) -> any RowCursor {
        if let order = request.order {
            switch request.range {
            case .all: return OrderedScan(self, calls, request, order, [KeyRange(from: [], to: nil)])
            case .between(let from, let to):
                return OrderedScan(self, calls, request, order, [KeyRange(from: from, to: to)])
            case .ranges(let ranges): return OrderedScan(self, calls, request, order, ranges)
            case .keys: break  // They come as they are named.
            }
        }
        switch request.range {
        case .all: return ShardScan(self, calls, request, [KeyRange(from: [], to: nil)])
        case .between(let from, let to): return ShardScan(self, calls, request, [KeyRange(from: from, to: to)])
        case .ranges(let ranges): return ShardScan(self, calls, request, ranges)
        case .keys(let keys):
            return KeyRead(
                self, calls, request.collection, keys, lock: request.isForUpdate ? .update : .none, wait: .wait,
                keepsMissing: false)
        }
    }

    /// Of native keys of Redis.
    private func scan(_ request: ScanRequest, _ table: KeyspaceTables.Table) -> any RowCursor {
        switch request.range {
        case .all: KeyspaceScan(self, table, request, from: [], to: [])
        case .between(let from, let to): KeyspaceScan(self, table, request, from: from, to: to ?? [])
        case .ranges(let ranges):
            // What lies between them is asked the conditions, and left out.
            KeyspaceScan(self, table, request, from: ranges.first?.from ?? [], to: ranges.last?.to ?? [])
        case .keys(let keys):
            KeyspaceRead(
                self, KeyspaceRecords(table, request.columns), keys, lock: request.isForUpdate ? .update : .none)
        }
    }

    /// The collection whose record a key of Redis names.
    func record(namedBy key: KeyspaceKey) -> CollectionDescriptor? {
        guard let catalog, key.database == 0 else { return nil }
        return key.key.withUnsafeBytes { view in
            guard let name = RecordName.divide(view)?.collection else { return nil }
            return catalog.collection(namedBy: name)
        }
    }

    func lock(_ request: LockRequest) throws(StatementError) -> any RowCursor {
        let wait: InvocationScope.WaitPolicy =
            switch request.wait {
            case .wait: .wait
            case .noWait: .noWait
            case .skipLocked: .skipLocked
            }
        if let table = KeyspaceTables.table(request.collection) {
            return KeyspaceRead(
                self, KeyspaceRecords(table, nil), request.keys, lock: request.isExclusive ? .update : .share,
                wait: wait, keepsMissing: true)
        }
        return KeyRead(
            self, calls, request.collection, request.keys, lock: request.isExclusive ? .update : .share, wait: wait,
            keepsMissing: true)
    }

    // MARK: Writing

    func write(
        _ changes: [RowChange], to collection: CollectionDescriptor
    ) throws(StatementError) -> any RowWriting {
        if let table = KeyspaceTables.table(collection) { return KeyspaceWrite(self, table, changes) }
        return RowWrite(self, collection, changes)
    }

    func draw(_ count: Int, from sequence: CollectionID) throws(StatementError) -> [Int64]? {
        try wish(.draw(count), of: sequence)
    }

    func set(_ sequence: CollectionID, to number: Int64, isCalled: Bool) throws(StatementError) -> Int64? {
        try wish(.set(number, isCalled: isCalled), of: sequence)?.first
    }

    private func wish(_ wish: SequenceWish, of sequence: CollectionID) throws(StatementError) -> [Int64]? {
        if let result = draws.removeValue(forKey: sequence) {
            switch result {
            case .success(let numbers): return numbers
            case .failure(let error) where error.code == .overflow:
                throw StatementError(.sequenceGeneratorLimitExceeded, error.message)
            case .failure(let error): throw StatementError(ofShard: error)
            }
        }
        guard drawing.insert(sequence).inserted else { return nil }
        drawNumbers(sequence, wish) { [self] result in
            drawing.remove(sequence)
            draws[sequence] = result
            onProgress()
        }
        return nil
    }

    // MARK: Sending

    func perform(
        _ shares: [InteractiveRun.Share], by other: (any RowCalls)? = nil, lock: InvocationScope.LockMode = .none,
        wait: InvocationScope.WaitPolicy = .wait,
        completion: @escaping (Result<[Bytes], StatementError>) -> Void
    ) {
        (other ?? calls).perform(shares, lock: lock, wait: wait) { [self] result in
            completion(result.mapError(StatementError.init(ofShard:)))
            let ready = followers
            followers = []
            for follow in ready { follow() }
            onProgress()
        }
    }

    /// Calls `body` when something has come.
    func whenProgressed(_ body: @escaping () -> Void) { followers.append(body) }

    /// Divides keys among the shards that own them: the positions of each shard's keys, and a slot of it.
    fileprivate func divide(_ keys: [Bytes]) throws(StatementError) -> [(slot: UInt32, positions: [Int])] {
        try divide(slots: keys.map { key in key.withUnsafeBytes { UInt32(Slot.ofPartition($0).rawValue) } })
    }

    func divide(slots: [UInt32]) throws(StatementError) -> [(slot: UInt32, positions: [Int])] {
        try Self.divide(slots, calls.router)
    }

    static func divide(_ slots: [UInt32], _ router: NodeRouter) throws(StatementError) -> [(
        slot: UInt32, positions: [Int]
    )] {
        var shares: [(slot: UInt32, positions: [Int])] = [], places: [Int: Int] = [:]
        for (position, slot) in slots.enumerated() {
            guard let shard = router.shardIndex(ofSlot: slot) else {
                throw StatementError(ofShard: NodeRouter.noLeader)
            }
            if let place = places[shard] {
                shares[place].positions.append(position)
            } else {
                places[shard] = shares.count
                shares.append((slot, [position]))
            }
        }
        return shares
    }

    /// The replies to the calls of each share; the first that is an error, but for one that is tolerated, is what is
    /// thrown.
    static func read(
        _ batches: [Bytes], tolerated: ErrorCode? = nil,
        _ body: (_ share: Int, _ call: Int, borrowing ReplyView) throws(StatementError) -> Void
    ) throws(StatementError) {
        for (share, batch) in batches.enumerated() {
            var failure: StatementError?, decoder = ReplyBatchDecoder(), call = 0
            do throws(DatabaseError) {
                try batch.withView { (view: ByteView) throws(DatabaseError) in
                    try decoder.decode(view) { reply in
                        guard failure == nil else { return }
                        do throws(StatementError) {
                            if reply.kind != .error {
                                try body(share, call, reply)
                            } else if reply.error.code != tolerated {
                                throw StatementError(ofShard: reply.error)
                            }
                        } catch {
                            failure = error
                        }
                        call += 1
                    }
                }
            } catch {
                throw StatementError(ofShard: error)
            }
            if let failure { throw failure }
        }
    }

    static let malformed = StatementError(.internalError, "a shard has answered what was not asked")
}

/// Reads, and perhaps locks, rows by their keys.
final class KeyRead: RowCursor {
    private let keeper: RowKeeper
    private let calls: any RowCalls
    private let collection: CollectionDescriptor
    private let keys: [Bytes]
    private let lock: InvocationScope.LockMode, wait: InvocationScope.WaitPolicy
    /// Rows that are not there are told as such.
    private let keepsMissing: Bool
    private var isSent = false, isTold = false
    private var result: Result<StoredRows, StatementError>?

    init(
        _ keeper: RowKeeper, _ calls: any RowCalls, _ collection: CollectionDescriptor, _ keys: [Bytes],
        lock: InvocationScope.LockMode, wait: InvocationScope.WaitPolicy, keepsMissing: Bool
    ) {
        (self.keeper, self.calls, self.collection, self.keys) = (keeper, calls, collection, keys)
        (self.lock, self.wait, self.keepsMissing) = (lock, wait, keepsMissing)
    }

    func next() throws(StatementError) -> RowStep {
        if isTold || keys.isEmpty { return .end }
        if let result {
            isTold = true
            switch result {
            case .success(let rows): return rows.keys.isEmpty ? .end : .rows(rows)
            case .failure(let error): throw error
            }
        }
        if !isSent {
            isSent = true
            try send()
        }
        return .waiting
    }

    private func send() throws(StatementError) {
        let division = try keeper.divide(keys)
        let shares = division.map { share in
            var builder = RowCallBuilder()
            let named = share.positions.map { position in
                keys[position].withUnsafeBytes { RowKey.make(collection.id, primaryKey: $0) }
            }
            // A key that is locked and skipped takes its call with it: then each has one of its own.
            let groups = wait == .skipLocked ? named.map { [$0] } : [named]
            for group in groups {
                builder.append(
                    .rowGet, key: group[0], numbers: [Int64(bitPattern: collection.version)],
                    arguments: Array(group.dropFirst()))
            }
            return InteractiveRun.Share(slot: share.slot, body: builder.body, isWrite: false)
        }
        keeper.perform(shares, by: calls, lock: lock, wait: wait) { [self] result in
            self.result = result.flatMap { batches in
                Result { () throws(StatementError) in try rows(batches, division.map(\.positions)) }
            }
        }
    }

    private func rows(_ batches: [Bytes], _ positions: [[Int]]) throws(StatementError) -> StoredRows {
        var records = [Bytes?](repeating: nil, count: keys.count)
        try RowKeeper.read(batches) { (share, call, reply) throws(StatementError) in
            // A skipped call is answered with Null.
            guard reply.kind == .list else { return }
            var items = reply.items, place = wait == .skipLocked ? call : 0
            while let item = items.next() {
                guard positions[share].indices.contains(place) else { throw RowKeeper.malformed }
                if case .data(let record) = item { records[positions[share][place]] = record.bytes }
                place += 1
            }
        }
        if keepsMissing { return StoredRows(keys: keys, records: records) }
        let there = keys.indices.filter { records[$0] != nil }
        return StoredRows(keys: there.map { keys[$0] }, records: there.map { records[$0] })
    }
}

/// Reads what is committed as of one time, and then what is there now, which the transaction itself may have written.
private final class TwofoldRead: RowCursor {
    private let past: any RowCursor, newest: any RowCursor
    private var isPastDone = false

    init(_ past: any RowCursor, _ newest: any RowCursor) { (self.past, self.newest) = (past, newest) }

    func next() throws(StatementError) -> RowStep {
        if !isPastDone {
            let step = try past.next()
            guard case .end = step else { return step }
            isPastDone = true
        }
        return try newest.next()
    }
}

/// Changes of rows, all of one statement to the shards.
private final class RowWrite: RowWriting {
    private let keeper: RowKeeper
    private let collection: CollectionDescriptor
    private let changes: [RowChange]
    private var isSent = false
    private var result: Result<[RowOutcome], StatementError>?

    init(_ keeper: RowKeeper, _ collection: CollectionDescriptor, _ changes: [RowChange]) {
        (self.keeper, self.collection, self.changes) = (keeper, collection, changes)
    }

    func outcomes() throws(StatementError) -> [RowOutcome]? {
        if changes.isEmpty { return [] }
        if !isSent {
            isSent = true
            try send()
        }
        return try result?.get()
    }

    private func send() throws(StatementError) {
        let division = try keeper.divide(changes.map(\.key))
        // In the order of the changes, since one may be of a row that another one has changed.
        var calls: [[[Int]]] = []
        let ends = entryEnds()
        let shares = division.map { share in
            var builder = RowCallBuilder(), runs: [[Int]] = []
            for position in share.positions {
                if let last = runs.last?.last, changes[last].mode == changes[position].mode {
                    runs[runs.count - 1].append(position)
                } else {
                    runs.append([position])
                }
            }
            for run in runs { append(run, to: &builder) }
            for position in share.positions {
                guard let end = ends[position] else { continue }
                builder.append(.expire, key: rowKey(position), numbers: [end])
                runs.append([])
            }
            calls.append(runs)
            return InteractiveRun.Share(slot: share.slot, body: builder.body, isWrite: true)
        }
        keeper.perform(shares, by: keeper.calls) { [self] result in
            do throws(StatementError) {
                try take(try result.get(), calls)
            } catch {
                self.result = .failure(error)
            }
        }
    }

    private func append(_ run: [Int], to builder: inout RowCallBuilder) {
        let keys = run.map(rowKey)
        let version = Int64(bitPattern: collection.version)
        let mode = changes[run[0]].mode
        guard mode != .delete else {
            return builder.append(.rowDelete, key: keys[0], numbers: [version], arguments: Array(keys.dropFirst()))
        }
        var arguments: [Bytes] = []
        for (place, position) in run.enumerated() {
            if place > 0 { arguments.append(keys[place]) }
            arguments.append(changes[position].record)
        }
        var flags: RowPutFlags = mode == .insert ? .insert : mode == .update ? .update : []
        if tellsExpiry(mode) { flags.insert(.tellsExpiry) }
        if collection.entriesOf != nil { flags.insert(.lasting) }
        builder.append(.rowPut, key: keys[0], flags: flags.rawValue, numbers: [version], arguments: arguments)
    }

    private func rowKey(_ position: Int) -> Bytes {
        changes[position].key.withUnsafeBytes { RowKey.make(collection.id, primaryKey: $0) }
    }

    /// A row that is replaced keeps its time, and its entries get it.
    private func tellsExpiry(_ mode: RowChange.Mode) -> Bool { mode == .update && !collection.indexes.isEmpty }

    /// When entries end that are written for rows which do, by position.
    private func entryEnds() -> [Int: Int64] {
        guard let table = collection.entriesOf, !keeper.expiries.isEmpty else { return [:] }
        var ends: [Int: Int64] = [:]
        for (position, change) in changes.enumerated() where change.mode != .delete {
            guard let owner = RowEntries.owner(of: change.record),
                let time = keeper.expiries[owner.withUnsafeBytes { RowKey.make(table, primaryKey: $0) }]
            else { continue }
            ends[position] = RecordExpiry.end(ofEntry: time)
        }
        return ends
    }

    /// An insert that found a row wants to know it: those are read once more.
    private func take(_ batches: [Bytes], _ calls: [[[Int]]]) throws(StatementError) {
        var outcomes = [RowOutcome](repeating: .absent, count: changes.count)
        var taken: [Int] = []
        try RowKeeper.read(batches) { (share, call, reply) throws(StatementError) in
            guard calls[share].indices.contains(call) else { throw RowKeeper.malformed }
            if calls[share][call].isEmpty { return }
            guard reply.kind == .list else { throw RowKeeper.malformed }
            var items = reply.items
            for position in calls[share][call] {
                guard case .integer(let done) = items.next() else { throw RowKeeper.malformed }
                if tellsExpiry(changes[position].mode) {
                    guard case .integer(let time) = items.next() else { throw RowKeeper.malformed }
                    if time != 0 { keeper.expiries[rowKey(position)] = time }
                } else if !keeper.expiries.isEmpty {
                    keeper.expiries[rowKey(position)] = nil
                }
                if done != 0 {
                    outcomes[position] = .done
                } else if changes[position].mode == .insert {
                    taken.append(position)
                }
            }
        }
        guard !taken.isEmpty else {
            result = .success(outcomes)
            return
        }
        let read = KeyRead(
            keeper, keeper.calls, collection, taken.map { changes[$0].key }, lock: .none, wait: .wait,
            keepsMissing: true)
        follow(read, taken, outcomes)
    }

    private func follow(_ read: KeyRead, _ taken: [Int], _ outcomes: [RowOutcome]) {
        do throws(StatementError) {
            switch try read.next() {
            case .waiting: keeper.whenProgressed { [self] in follow(read, taken, outcomes) }
            case .rows(let rows):
                var outcomes = outcomes
                for (position, record) in zip(taken, rows.records) {
                    // It was there, and the transaction has locked it since: only a later change can have removed it.
                    outcomes[position] = .exists(record ?? [])
                }
                result = .success(outcomes)
            case .columns, .blocks, .end: throw RowKeeper.malformed
            }
        } catch {
            result = .failure(error)
        }
    }
}
