import Base
import DataModel
import Raft
import Storage
import Transactions

/// The bounds of what a shard keeps of sagas.
struct SagaLimits {
    /// Sagas, and bytes of their definitions.
    var count = 10_000, bytes = 64 << 20
    /// Sagas under way at a time; others wait.
    var active = 256
    /// For how long a saga that is completed or compensated is kept.
    var retentionMilliseconds: UInt64 = 86_400_000
    var timing = Saga.Timing()
}

/// What has become of the sagas of a shard since it is led here.
struct SagaCounts {
    var started: UInt64 = 0, completed: UInt64 = 0, compensated: UInt64 = 0, failed: UInt64 = 0
    /// Actions that were executed, compensations among them, and attempts that failed.
    var actions: UInt64 = 0, obstacles: UInt64 = 0
    /// From beginning to end, over all that ended, in milliseconds.
    var duration: UInt64 = 0
}

/// The sagas of a shard in its leader's memory; the records are the truth, and memory is read anew by every leader.
///
/// Nothing is sent and nobody is answered before what it follows from is committed. What was sent and not answered when
/// the shard goes to another leader, that one sends again: by its token its shard knows it.
final class ShardSagas {
    struct Resident {
        var saga: Saga
        /// The entry that wrote it last.
        var index = LogIndex.zero
        var isDefinitionWritten = false
    }

    let limits: SagaLimits
    fileprivate(set) var residents: [String: Resident] = [:]
    /// Bytes of definitions.
    fileprivate(set) var bytes = 0
    fileprivate(set) var counts = SagaCounts()
    /// Under way.
    fileprivate(set) var active: Set<String> = []
    /// Not started, the oldest first.
    fileprivate var queue = Queue<String>()
    /// Completed or compensated, in the order in which they are to go.
    fileprivate var over = Queue<(at: UInt64, id: String)>()
    /// Written by an entry that is not committed.
    fileprivate var unsettled: Set<String> = []
    fileprivate var waiting: [(index: LogIndex, body: (DatabaseError?) -> Void)] = []
    /// Answers to what an earlier life has sent mean nothing.
    fileprivate var life: UInt64 = 0
    /// Memory is what the records say, or an entry that is on its way.
    fileprivate var isRead = false
    /// The newest entry that writes or removes a saga.
    fileprivate var newestEntry = LogIndex.zero
    /// Answers that came while nothing could be written.
    fileprivate var unheard: [(id: String, attempt: UInt64, outcome: Saga.Outcome)] = []
    /// Sends a call to the leader of its slot's shard; `answered` follows, later.
    var send: (Saga.Call, _ answered: @escaping (Saga.Outcome) -> Void) -> Void = { _, _ in }

    init(limits: SagaLimits) { self.limits = limits }

    /// Sagas that wait to begin.
    var queuedCount: Int { queue.count }

    fileprivate func forget() {
        life &+= 1
        (residents, bytes, active, unsettled, unheard) = ([:], 0, [], [], [])
        (queue, over) = (Queue(), Queue())
        (isRead, newestEntry) = (false, .zero)
    }

    /// Entries from there on never happen. Most that are abandoned are those of a step that failed, alone in its entry:
    /// then the sagas stay as they are, and so does the answer that is on its way to one of them.
    func abandon(from index: LogIndex) {
        if newestEntry >= index { reset() }
    }

    /// Begins anew with nothing; those who wait are told to ask elsewhere.
    func reset() {
        forget()
        let lost = waiting
        waiting = []
        for (_, body) in lost { body(Self.lost) }
    }

    private static let lost = DatabaseError(
        .outcomeUnknown, "The shard's leader has changed; the outcome is unknown: ask again")

    fileprivate func add(_ resident: Resident) {
        let id = resident.saga.id
        residents[id] = resident
        bytes += resident.saga.definition.size
        file(resident.saga)
    }

    /// Puts it where it belongs by its status.
    fileprivate func file(_ saga: Saga) {
        if saga.isActive { active.insert(saga.id) } else { active.remove(saga.id) }
        switch saga.status {
        case .notStarted: queue.append(saga.id)
        case .completed, .compensated: over.append((saga.updatedAt, saga.id))
        case .running, .compensating, .failed: break
        }
        let limit = 2 * residents.count + 1024
        if queue.count > limit || over.count > limit { dropStale() }
    }

    /// Takes out of the queues what was cancelled or deleted while it was in them.
    private func dropStale() {
        var seen: Set<String> = []
        for _ in 0..<queue.count {
            guard let id = queue.popFirst() else { break }
            if residents[id]?.saga.status == .notStarted, seen.insert(id).inserted { queue.append(id) }
        }
        seen = []
        for _ in 0..<over.count {
            guard let item = over.popFirst() else { break }
            guard let saga = residents[item.id]?.saga, saga.updatedAt == item.at else { continue }
            if seen.insert(item.id).inserted { over.append(item) }
        }
    }
}

// MARK: - At the executor

extension ShardExecutor {
    private static let crowded = 64 << 10
    private static let full = DatabaseError(.busy, "The shard has as many sagas as it may; delete some that are over")
    private static let other = DatabaseError(
        .alreadyExecuted, "There is a saga with this id, and it is another one")
    private static let none = DatabaseError(.noSuchKey, "There is no such saga")
    private static let notNow = DatabaseError(.unavailable, "The shard cannot write now; try again")

    /// Whether something may be written into the open entry.
    private func mayWriteSagas() -> Bool {
        guard isEvaluating, !isLogFull, sagas.isRead, !restores.isActive else { return false }
        if openBytes > Self.crowded { propose() }
        return isEvaluating && openBytes <= Self.entryTarget
    }

    private var now: UInt64 { clock.wallMilliseconds }

    /// Why a saga was not found.
    private var missing: DatabaseError { sagas.isRead ? Self.none : Self.notNow }

    /// Calls `body` once what was written of the saga is committed.
    private func answer(_ id: String, _ body: @escaping (Result<Saga, DatabaseError>) -> Void) {
        guard let resident = sagas.residents[id] else { return body(.failure(missing)) }
        let saga = resident.saga
        whenCommitted(resident.index) { body($0.map { .failure($0) } ?? .success(saga)) }
    }

    private func whenCommitted(_ index: LogIndex, _ body: @escaping (DatabaseError?) -> Void) {
        guard index > group.committedIndex else { return body(nil) }
        sagas.waiting.append((index, body))
    }

    // MARK: What is asked

    /// Begins a saga, or answers the one that is there.
    func startSaga(
        _ id: String, _ definition: SagaDefinition, session: UInt64,
        _ body: @escaping (Result<Saga, DatabaseError>) -> Void
    ) {
        if let known = sagas.residents[id] {
            return known.saga.definition == definition ? answer(id, body) : body(.failure(Self.other))
        }
        let limits = sagas.limits
        guard sagas.residents.count < limits.count, sagas.bytes + definition.size <= limits.bytes else {
            return body(.failure(Self.full))
        }
        guard mayWriteSagas() else { return body(.failure(Self.notNow)) }
        var saga = Saga(id: id, definition, session: max(session, 1), now: now)
        if sagas.active.count < limits.active, sagas.queue.isEmpty { saga.begin(now: now) }
        sagas.counts.started &+= 1
        sagas.add(.init(saga: saga))
        write(id)
        answer(id, body)
    }

    /// A saga as it stands.
    func saga(_ id: String, _ body: @escaping (Result<Saga, DatabaseError>) -> Void) { answer(id, body) }

    /// Cancels a saga, or tries a failed one again.
    func changeSaga(
        _ id: String, _ body: @escaping (Result<Saga, DatabaseError>) -> Void,
        _ change: (inout Saga, UInt64, Saga.Timing) throws(DatabaseError) -> Void
    ) {
        guard sagas.residents[id] != nil else { return body(.failure(missing)) }
        // Looked up afterwards: what is proposed may be committed at once.
        guard mayWriteSagas(), var resident = sagas.residents[id] else { return body(.failure(Self.notNow)) }
        let before = resident.saga.status
        do throws(DatabaseError) {
            try change(&resident.saga, now, sagas.limits.timing)
        } catch {
            return body(.failure(error))
        }
        sagas.residents[id] = resident
        if resident.saga.mustWrite { changed(id, from: before) }
        answer(id, body)
    }

    /// Forgets a saga that is over. Answers whether there was one.
    func deleteSaga(_ id: String, _ body: @escaping (Result<Bool, DatabaseError>) -> Void) {
        guard sagas.isRead else { return body(.failure(Self.notNow)) }
        guard let resident = sagas.residents[id] else {
            // It may have been deleted by an entry that is on its way.
            return whenCommitted(newestIndex) { body($0.map { .failure($0) } ?? .success(false)) }
        }
        guard resident.saga.mayBeDeleted else {
            return body(
                .failure(
                    DatabaseError(
                        .invalidArgument, "The saga is \(resident.saga.status.name): cancel it, or wait for its end")))
        }
        guard mayWriteSagas() else { return body(.failure(Self.notNow)) }
        let index = remove(id)
        whenCommitted(index) { body($0.map { .failure($0) } ?? .success(true)) }
    }

    /// Up to `limit` sagas behind an id, in the order of their ids, and whether there are more. What is not committed
    /// yet may be among them: `body` is called when it is.
    func listSagas(
        after id: String, limit: Int, _ statuses: Set<Saga.Status>,
        _ body: @escaping (Result<(sagas: [Saga], isComplete: Bool), DatabaseError>) -> Void
    ) {
        guard sagas.isRead else { return body(.failure(Self.notNow)) }
        var found: [Saga] = []
        for resident in sagas.residents.values
        where resident.saga.id > id && (statuses.isEmpty || statuses.contains(resident.saga.status)) {
            found.append(resident.saga)
        }
        found.sort { $0.id < $1.id }
        let page = Array(found.prefix(limit)), isComplete = found.count <= limit
        whenCommitted(newestIndex) { body($0.map { .failure($0) } ?? .success((page, isComplete))) }
    }

    // MARK: Records

    private func bucket(of id: String) -> BucketID {
        SagaKey.slot(of: id).bucket(of: transactions.participant.bucketCount)
    }

    /// Writes the saga into the open entry. What follows from it is sent when that is committed.
    private func write(_ id: String) {
        guard var resident = sagas.residents[id] else { return }
        let bucket = bucket(of: id)
        var key = ByteBuffer(capacity: 160), value = ByteBuffer(capacity: 512)
        if !resident.isDefinitionWritten {
            SagaKey.append(bucket, .definition, id: id, into: &key)
            resident.saga.definition.encode(into: &value)
            put(key.readable, value.readable)
            resident.isDefinitionWritten = true
            key.removeAll()
            value.removeAll()
        }
        SagaKey.append(bucket, .state, id: id, into: &key)
        resident.saga.encodeState(into: &value)
        put(key.readable, value.readable)
        resident.saga.written()
        resident.index = openIndex
        sagas.newestEntry = openIndex
        sagas.residents[id] = resident
        sagas.unsettled.insert(id)
        effectsAdded()
    }

    /// Answers the entry that removes it.
    private func remove(_ id: String) -> LogIndex {
        guard let resident = sagas.residents.removeValue(forKey: id) else { return .zero }
        sagas.bytes -= resident.saga.definition.size
        sagas.active.remove(id)
        sagas.unsettled.remove(id)
        let index = openIndex
        sagas.newestEntry = index
        for record in SagaKey.Record.allCases {
            var key = ByteBuffer(capacity: 160)
            SagaKey.append(bucket(of: id), record, id: id, into: &key)
            delete(key.readable)
        }
        effectsAdded()
        return index
    }

    /// Something has changed a saga: it is written, and counted.
    private func changed(_ id: String, from before: Saga.Status) {
        guard let saga = sagas.residents[id]?.saga else { return }
        if saga.status != before {
            sagas.file(saga)
            switch saga.status {
            case .completed: sagas.counts.completed &+= 1
            case .compensated: sagas.counts.compensated &+= 1
            case .failed: sagas.counts.failed &+= 1
            case .notStarted, .running, .compensating: break
            }
            if saga.isOver { sagas.counts.duration &+= saga.updatedAt &- min(saga.createdAt, saga.updatedAt) }
        }
        write(id)
        if saga.status != before, saga.isOver { startNext() }
    }

    /// Begins those that wait as long as there is room.
    private func startNext() {
        while sagas.active.count < sagas.limits.active, let id = sagas.queue.popFirst() {
            guard var resident = sagas.residents[id], resident.saga.status == .notStarted else { continue }
            resident.saga.begin(now: now)
            sagas.residents[id] = resident
            changed(id, from: .notStarted)
        }
    }

    /// Reads the sagas of the shard, unless they are known; before anything of them is done. False when they cannot be
    /// read.
    func restoreSagas() -> Bool {
        guard !sagas.isRead else { return true }
        sagas.reset()
        do {
            for bucket in buckets.joined() {
                let bucket = BucketID(rawValue: UInt16(truncatingIfNeeded: bucket))
                var definitions: [String: Bytes] = [:], isIntact = true
                try scanSagas(bucket) { record, id, value in
                    switch record {
                    case .definition: definitions[id] = value.bytes
                    case .state:
                        let saga = definitions.removeValue(forKey: id)?.withUnsafeBytes { definition in
                            Saga(id: id, definition: definition, state: value)
                        }
                        guard let saga else {
                            isIntact = false
                            return
                        }
                        sagas.add(.init(saga: saga, isDefinitionWritten: true))
                    }
                }
                guard isIntact, definitions.isEmpty else {
                    throw DatabaseError(.corruption, "the record of a saga is damaged")
                }
            }
        } catch {
            fail(error)
            return false
        }
        sagas.sortQueues()
        sagas.isRead = true
        return true
    }

    private func scanSagas(_ bucket: BucketID, _ body: (SagaKey.Record, String, ByteView) -> Void) throws {
        for record in SagaKey.Record.allCases {
            var key = ByteBuffer(capacity: 16)
            NativeKeyLayout.appendPrefix(bucket, .systemSagas, index: record.rawValue, into: &key)
            let from = key.readable.bytes
            NativeKeyLayout.makeRangeEnd(&key)
            let to = key.readable.bytes
            try from.withView { (from: ByteView) throws(StoreError) in
                try to.withView { (to: ByteView) throws(StoreError) in
                    try store.scan(from: from, to: to) { key, value in
                        if let (record, id) = SagaKey.parse(key) { body(record, id, value) }
                        return true
                    }
                }
            }
        }
    }

    // MARK: Going on

    /// Entries are committed: what follows from them is sent, who waits for them is answered. Writes nothing.
    func settleSagas(upTo index: LogIndex) {
        guard isServing, sagas.isRead else { return }
        if !sagas.unsettled.isEmpty {
            for id in sagas.unsettled.filter({ sagas.residents[$0].map { $0.index <= index } ?? true }) {
                sagas.unsettled.remove(id)
                send(id)
            }
        }
        guard !sagas.waiting.isEmpty else { return }
        let (ready, others) = (sagas.waiting.filter { $0.index <= index }, sagas.waiting.filter { $0.index > index })
        sagas.waiting = others
        for (_, body) in ready { body(nil) }
    }

    /// Sends what is due of a saga that is committed as it is.
    private func send(_ id: String) {
        guard isEvaluating, !restores.isActive, let resident = sagas.residents[id],
            resident.index <= group.committedIndex, !resident.saga.mustWrite, let call = resident.saga.call(now: now)
        else { return }
        sagas.residents[id]?.saga.sent()
        let life = sagas.life
        sagas.send(call) { [weak self] outcome in self?.answered(id, call.attempt, outcome, life: life) }
    }

    private func answered(_ id: String, _ attempt: UInt64, _ outcome: Saga.Outcome, life: UInt64) {
        guard life == sagas.life else { return }
        guard mayWriteSagas(), life == sagas.life else {
            // At most one for each that is under way.
            if life == sagas.life { sagas.unheard.append((id, attempt, outcome)) }
            return
        }
        guard var resident = sagas.residents[id] else { return }
        let before = resident.saga.status
        resident.saga.answered(attempt, outcome, now: now, sagas.limits.timing)
        sagas.residents[id] = resident
        guard resident.saga.mustWrite else { return }
        switch outcome {
        case .done: sagas.counts.actions &+= 1
        case .refused, .unknown: sagas.counts.obstacles &+= 1
        case .fenced: break
        }
        changed(id, from: before)
    }

    /// Called now and then: sends what is to be tried again, begins what waits, and lets go of what has long been over.
    func tickSagas() {
        guard !sagas.residents.isEmpty, isEvaluating else { return }
        let unheard = sagas.unheard
        sagas.unheard = []
        let life = sagas.life
        for item in unheard { answered(item.id, item.attempt, item.outcome, life: life) }
        for id in sagas.active where !sagas.unsettled.contains(id) { send(id) }
        guard mayWriteSagas() else { return }
        startNext()
        var left = 64
        while left > 0, let first = sagas.over.first, now &- min(first.at, now) >= sagas.limits.retentionMilliseconds {
            left -= 1
            _ = sagas.over.popFirst()
            guard let saga = sagas.residents[first.id]?.saga, saga.updatedAt == first.at, saga.mayBeDeleted,
                saga.status == .completed || saga.status == .compensated, mayWriteSagas()
            else { continue }
            _ = remove(first.id)
        }
    }
}

extension ShardSagas {
    /// After reading: the oldest goes first.
    fileprivate func sortQueues() {
        var ids: [String] = [], ended: [(at: UInt64, id: String)] = []
        while let id = queue.popFirst() { ids.append(id) }
        while let item = over.popFirst() { ended.append(item) }
        let createdAt = { [residents] (id: String) in residents[id]?.saga.createdAt ?? 0 }
        for id in ids.sorted(by: { (createdAt($0), $0) < (createdAt($1), $1) }) { queue.append(id) }
        for item in ended.sorted(by: { ($0.at, $0.id) < ($1.at, $1.id) }) { over.append(item) }
    }
}
