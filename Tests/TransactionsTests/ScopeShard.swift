import Base
import DataModel
import Transactions

/// One shard of a world of open transactions: lists under keys with all their versions, a log whose entries are
/// committed some time after they are proposed, and a leader that may change at any moment.
final class ScopeShard {
    typealias Version = (timestamp: UInt64, values: [Int])

    enum Effect {
        case put(Bytes, Bytes)
        case delete(Bytes)
        case append(Int, Int, UInt64)
        case mark(Bool)
    }

    private enum Waiting {
        case statement(ScopeWorld.Statement)
        case part(Int, Int)
        case call(Int)
    }

    /// What a scope has done, as the executor keeps it.
    private struct Kept {
        let incarnation: UInt64
        let snapshot: UInt64
        var appends: [(statement: UInt32, key: Int, value: Int)] = []
    }

    let position: Int
    let slot: Slot
    private unowned let world: ScopeWorld
    private(set) var participant: Participant

    // Survives.
    private(set) var records: [Bytes: Bytes] = [:]
    private(set) var stored: [Int: [Version]] = [:]
    private(set) var clock: UInt64 = 0
    private var committedIndex: UInt64 = 0
    /// Half of a transaction may be there.
    private var isHalf = false
    /// What transactions change that are written in pieces; and how often pieces were removed that were left.
    private var pieced: [[(key: Int, value: Int)]] = []
    private(set) var removals = 0

    // The log under way.
    private var proposed: [(index: UInt64, effects: [Effect])] = []
    private var open: [Effect] = []
    private var openIndex: UInt64 = 1

    // The leader's memory.
    private var pending: [Int: [Version]] = [:]
    private var changed: [Int: UInt64] = [:]
    private var kept: [PartID: Kept] = [:]
    private var waiting: [UInt64: Waiting] = [:]
    private var asked: [UInt64: (CommitStep.Kind, StepOrigin)] = [:]
    private var held: [(index: UInt64, message: ScopeWorld.Message)] = []
    private var tokens: UInt64 = 0
    private var silentUntil: UInt64 = 0
    private var duties: [ParticipantDuty] = []
    private var isCarrying = false
    private var reportedAt: UInt64 = 0
    private var hasReported = false
    /// The participant wants to let go of more locks.
    private(set) var isLettingGo = false

    init(_ position: Int, in world: ScopeWorld) {
        (self.position, self.world) = (position, world)
        slot = Slot(rawValue: UInt16(position * 700 + 5))
        participant = Participant(bucketCount: 64, limits: world.limits)
    }

    var isSilent: Bool { world.now < silentUntil }

    var isQuiet: Bool {
        participant.partCount == 0 && participant.locks.isFree && waiting.isEmpty && proposed.isEmpty && open.isEmpty
            && held.isEmpty && kept.isEmpty
            && (participant.orphanCount == 0 || world.limits.bugs.contains(.keepPieces))
    }

    private var moment: Participant.Moment {
        Participant.Moment(now: world.now, entryIndex: LogIndex(rawValue: openIndex))
    }

    private func token() -> UInt64 {
        tokens += 1
        return tokens
    }

    /// A timestamp that was never given here.
    func tickClock() -> UInt64 {
        clock = max(clock + 1, world.now << 8)
        return clock
    }

    private func waitingCall(_ token: UInt64, lane: Int) -> WaitingCall {
        WaitingCall(token: token, lane: UInt64(lane + 1), bytes: 100, deadline: world.now + world.patience)
    }

    // MARK: What comes

    func receive(_ message: ScopeWorld.Message) {
        var duties: [ParticipantDuty] = []
        switch message {
        case .statement(let statement): return receive(statement)
        case .part(let attempt, let part): receivePart(attempt, part)
        case .call(let call): receiveCall(call)
        case .step(let step, _, let origin):
            let token = token()
            asked[token] = (step.kind, origin)
            participant.handle(step, at: slot, token: token, moment, into: &duties)
        case .stepAnswer(let kind, let from, .shard(_, let part), let answer):
            participant.answered(kind, from: world.shards[from].slot, to: part, answer, moment, into: &duties)
        case .victims(_, let transactions):
            for transaction in transactions { participant.refuseVictim(transaction, moment, into: &duties) }
        case .stepAnswer, .statementReply, .partReply, .callReply, .waits: return
        }
        carryOut(duties)
    }

    private func receive(_ statement: ScopeWorld.Statement) {
        let attempt = world.attempts[statement.attempt], id = PartID(attempt.id, slot), token = token()
        func keys(_ kinds: ScopeWorld.Operation.Kind...) -> [LockKey] {
            statement.operations.filter { kinds.contains($0.kind) }.map { world.lockKey($0.key) }
        }
        clock = max(clock, attempt.snapshot)
        let isWhole = statement.operations.contains { $0.kind == .readAll }
        let scope = ScopeStatement(
            id: id, priority: attempt.priority, isolation: attempt.level,
            snapshot: Timestamp(rawValue: attempt.snapshot), incarnation: statement.incarnation,
            number: statement.number, locks: LockScope(exclusive: keys(.append, .lock), shared: keys(.share)),
            reads: LockScope(shared: keys(.read), shard: isWhole ? .shared : nil), policy: statement.policy)
        var duties: [ParticipantDuty] = []
        let admission = participant.admit(
            scope, waitingCall(token, lane: attempt.client), timestamp: Timestamp(rawValue: tickClock()), moment,
            into: &duties)
        switch admission {
        case .evaluate(let grant): evaluate(statement, skipped: grant.skipped)
        case .wait: waiting[token] = .statement(statement)
        case .refuse(let refusal): world.send(.statementReply(statement, nil, refusal, []))
        }
        carryOut(duties)
    }

    private func receivePart(_ attempt: Int, _ part: Int) {
        let token = token()
        let call = waitingCall(token, lane: world.attempts[attempt].client)
        switch participant.admit(world.part(attempt, part), call, moment) {
        case .evaluate: evaluatePart(attempt, part)
        case .wait: waiting[token] = .part(attempt, part)
        case .refuse(let refusal): world.send(.partReply(attempt, part, .init(refusal), []))
        }
    }

    private func receiveCall(_ call: Int) {
        let token = token(), item = world.calls[call], key = world.lockKey(item.key)
        let scope = LockScope(exclusive: item.value == nil ? [] : [key], shared: item.value == nil ? [key] : [])
        let isFree = participant.locks.isFree
        switch isFree ? .evaluate : participant.admit(scope, waitingCall(token, lane: item.client)) {
        case .evaluate: evaluateCall(call)
        case .wait: waiting[token] = .call(call)
        case .refuse: world.send(.callReply(call, false, []))
        }
    }

    // MARK: Evaluating

    private func versions(_ key: Int) -> [Version] {
        if let known = pending[key] { return known }
        pending[key] = stored[key] ?? []
        return stored[key] ?? []
    }

    private func newest(_ key: Int) -> UInt64 { versions(key).last?.timestamp ?? 0 }

    private func values(_ key: Int, _ attempt: ScopeWorld.Attempt) -> [Int] {
        if attempt.level == .readCommitted { return versions(key).last?.values ?? [] }
        return versions(key).last { $0.timestamp <= attempt.snapshot }?.values ?? []
    }

    private func evaluate(_ statement: ScopeWorld.Statement, skipped: [LockKey] = []) {
        let attempt = world.attempts[statement.attempt], id = PartID(attempt.id, slot)
        guard let scope = participant.scope(id) else {
            return world.send(.statementReply(statement, nil, .aborted, []))
        }
        var own = kept[id] ?? Kept(incarnation: scope.incarnation, snapshot: attempt.snapshot)
        if own.incarnation != scope.incarnation { world.violations.append("the remains of another scope") }
        var reads: [(Int, [Int])] = [], observed: UInt64 = 0
        for operation in statement.operations where !skipped.contains(world.lockKey(operation.key)) {
            let all = operation.kind == .readAll ? world.keys(of: position) : [operation.key]
            if attempt.level != .readCommitted, operation.kind.isLock, newest(operation.key) > attempt.snapshot,
                !world.limits.bugs.contains(.overlookChanges)
            {
                var duties: [ParticipantDuty] = []
                participant.dropScope(id, .serializationFailure, moment, into: &duties)
                world.send(.statementReply(statement, nil, .serializationFailure, []))
                return carryOut(duties)
            }
            for key in all {
                observed = max(observed, changed[key] ?? 0)
                if operation.kind == .append {
                    own.appends.append((statement.number, key, operation.value))
                } else {
                    reads.append((key, values(key, attempt) + own.appends.filter { $0.key == key }.map(\.value)))
                }
            }
        }
        kept[id] = own
        let done = statement.operations.filter { !skipped.contains(world.lockKey($0.key)) }.map(\.key)
        hold(.statementReply(statement, (scope.incarnation, reads), nil, done), until: observed)
    }

    private func evaluateCall(_ call: Int) {
        let item = world.calls[call]
        let seen = versions(item.key).last?.values ?? []
        if let value = item.value {
            let timestamp = tickClock()
            pending[item.key, default: []].append((timestamp, seen + [value]))
            changed[item.key] = openIndex
            open.append(.append(item.key, value, timestamp))
        }
        hold(.callReply(call, true, seen), until: changed[item.key] ?? 0)
    }

    private func evaluatePart(_ attempt: Int, _ part: Int) {
        let item = world.attempts[attempt], id = PartID(item.id, slot)
        guard participant.isAdmitted(id) else { return world.violations.append("a part is run without its locks") }
        var duties: [ParticipantDuty] = [], reads: [(Int, [Int])] = [], observed: UInt64 = 0
        var payload = ByteBuffer()
        for operation in item.plan where world.position(of: operation.key) == position {
            observed = max(observed, changed[operation.key] ?? 0)
            if operation.kind == .append {
                append(operation.key, operation.value, to: &payload)
            } else {
                reads.append((operation.key, versions(operation.key).last?.values ?? []))
            }
        }
        let timestamp = Timestamp(rawValue: tickClock())
        let reply = ScopeWorld.Message.partReply(attempt, part, .done(timestamp), reads)
        if item.isReadOnly {
            participant.hold(id, timestamp: timestamp, moment)
            hold(reply, until: observed)
        } else {
            participant.prepare(
                id, PartEffects(payload: payload.readable.bytes), timestamp: timestamp, moment, into: &duties)
            hold(reply, until: openIndex)
        }
        carryOut(duties)
    }

    private func append(_ key: Int, _ value: Int, to payload: inout ByteBuffer) {
        payload.append(littleEndian: UInt32(key))
        payload.append(littleEndian: UInt64(value))
    }

    private func seal(_ id: PartID, isOnly: Bool) {
        var duties: [ParticipantDuty] = []
        let own = kept[id], reads = participant.readSet(of: id)
        let keys = reads.shard == nil ? reads.shared.map(world.key) : world.keys(of: position)
        if keys.contains(where: { newest($0) > (own?.snapshot ?? 0) }) {
            kept[id] = nil
            participant.fail(id, .serializationFailure, moment, into: &duties)
            return carryOut(duties)
        }
        if own?.appends.isEmpty == false, world.random.oneIn(2) {
            pieced.append(own?.appends.map { ($0.key, $0.value) } ?? [])
            participant.beginPieces(id, moment, into: &duties)
            return carryOut(duties)
        }
        kept[id] = nil
        let timestamp = tickClock()
        if isOnly {
            for item in own?.appends ?? [] { open.append(.append(item.key, item.value, timestamp)) }
            participant.commitOne(id, timestamp: Timestamp(rawValue: timestamp), moment, into: &duties)
        } else {
            var payload = ByteBuffer()
            for item in own?.appends ?? [] { append(item.key, item.value, to: &payload) }
            participant.prepare(
                id, PartEffects(payload: payload.readable.bytes), timestamp: Timestamp(rawValue: timestamp), moment,
                into: &duties)
        }
        carryOut(duties)
    }

    private func writePiece(_ id: PartID) {
        guard participant.mayWritePiece(id), let own = kept[id] else { return }
        var duties: [ParticipantDuty] = [], payload = ByteBuffer()
        let count = min(own.appends.count, Int(world.random.next(below: 2)))  // Some are empty: there are more then.
        for item in own.appends.prefix(count) { append(item.key, item.value, to: &payload) }
        kept[id]?.appends.removeFirst(count)
        participant.writePiece(id, payload.readable.bytes, moment, into: &duties)
        if own.appends.count == count {
            kept[id] = nil
            participant.finishPieces(id, [], timestamp: Timestamp(rawValue: tickClock()), moment, into: &duties)
        }
        carryOut(duties)
    }

    private func adopt(_ effects: Bytes, at timestamp: Timestamp) {
        clock = max(clock, timestamp.rawValue)
        effects.withUnsafeBytes { view in
            var reader = ByteReader(view)
            while let key: UInt32 = reader.littleEndian(), let value: UInt64 = reader.littleEndian() {
                open.append(.append(Int(key), Int(value), timestamp.rawValue))
            }
        }
    }

    private func piece(_ key: Bytes) -> PartID? {
        key.withUnsafeBytes { TransactionKey.parsePiece($0) }
            .map { PartID(TransactionID(rawValue: $0.transaction), $0.slot) }
    }

    /// Something is being written, or applied, in pieces.
    var hasPieces: Bool { !pieced.isEmpty && records.keys.contains { piece($0) != nil } }

    private func removePieces(_ id: PartID) {
        removals += 1
        for key in records.keys.sorted(by: { $0.lexicographicallyPrecedes($1) }) where piece(key) == id {
            open.append(.delete(key))
        }
        participant.removedPieces(of: id)
    }

    /// Whoever asks a replica without asking for locks sees all of a transaction or nothing, unless he is told.
    private func checkPieces() {
        guard !isHalf else { return }
        for changes in pieced {
            let found = changes.count { stored[$0.key]?.last?.values.contains($0.value) ?? false }
            if found != 0, found != changes.count { world.violations.append("half of a transaction is there") }
        }
    }

    private func hold(_ message: ScopeWorld.Message, until index: UInt64) {
        if index <= committedIndex { return world.send(message) }
        held.append((index, message))
    }

    // MARK: Duties

    private func carryOut(_ list: [ParticipantDuty]) {
        duties += list
        guard !isCarrying else { return }
        isCarrying = true
        while !duties.isEmpty { carryOut(duties.removeFirst()) }
        isCarrying = false
    }

    private func carryOut(_ duty: ParticipantDuty) {
        var more: [ParticipantDuty] = []
        switch duty {
        case .put(let key, let value): open.append(.put(key, value))
        case .delete(let key): open.append(.delete(key))
        case .apply(let part): adopt(part.effects.payload, at: part.timestamp)
        case .adopt(let piece):
            guard let effects = records[piece.key] else { return world.violations.append("a piece is not there") }
            adopt(effects, at: piece.timestamp)
        case .mark(let isHalf): open.append(.mark(isHalf))
        case .reread(let scope):
            for key in scope.exclusive { pending[world.key(key)] = nil }
            if scope.shard == .exclusive { pending = [:] }
        case .answer(let token, let answer):
            guard let (kind, origin) = asked.removeValue(forKey: token) else { return }
            world.send(.stepAnswer(kind, position, origin, answer))
        case .refuse(let token, let refusal):
            switch waiting.removeValue(forKey: token) {
            case .statement(let statement): world.send(.statementReply(statement, nil, refusal, []))
            case .part(let attempt, let part): world.send(.partReply(attempt, part, .init(refusal), []))
            case .call(let call): world.send(.callReply(call, false, []))
            case nil: world.violations.append("a token that nobody has is refused")
            }
        case .run(let token):
            switch waiting.removeValue(forKey: token) {
            case .statement(let statement): evaluate(statement)
            case .part(let attempt, let part): evaluatePart(attempt, part)
            case .call(let call): evaluateCall(call)
            case nil: world.violations.append("a token that nobody has is woken")
            }
        case .again(let step, _, let token):
            participant.handle(step, at: slot, token: token, moment, into: &more)
        case .send(let step, let target, let part):
            guard let shard = world.shards.first(where: { $0.slot == target }) else { return }
            world.send(.step(step, shard.position, .shard(position, part)))
        case .dropScope(let id): kept[id] = nil
        case .rollBack(let id, let statement): kept[id]?.appends.removeAll { $0.statement > statement }
        case .seal(let id, let isOnly, _): seal(id, isOnly: isOnly)
        case .writePiece(let id): writePiece(id)
        case .applyPiece(let id): participant.applyPiece(id, moment, into: &more)
        case .removePieces(let id): removePieces(id)
        case .letGo: isLettingGo = true
        }
        carryOut(more)
    }

    // MARK: The log

    func propose() {
        guard !open.isEmpty else { return }
        proposed.append((openIndex, open))
        open = []
        openIndex += 1
    }

    func commitOne() {
        guard let entry = proposed.first else { return }
        proposed.removeFirst()
        settle(entry)
        while let first = held.firstIndex(where: { $0.index <= committedIndex }) {
            world.send(held.remove(at: first).message)
        }
        var duties: [ParticipantDuty] = []
        participant.committed(upTo: LogIndex(rawValue: committedIndex), now: world.now, into: &duties)
        carryOut(duties)
    }

    private func settle(_ entry: (index: UInt64, effects: [Effect])) {
        committedIndex = entry.index
        for effect in entry.effects {
            switch effect {
            case .put(let key, let value): records[key] = value
            case .delete(let key): records[key] = nil
            case .mark(let isHalf): self.isHalf = isHalf
            case .append(let key, let value, let timestamp):
                let last = stored[key]?.last
                if let last, last.timestamp > timestamp { world.violations.append("timestamps of a key fall") }
                stored[key, default: []].append((timestamp, (last?.values ?? []) + [value]))
            }
        }
        checkPieces()
    }

    func letGo() {
        isLettingGo = false
        var duties: [ParticipantDuty] = []
        participant.letGo(moment, into: &duties)
        carryOut(duties)
    }

    func tick() {
        var duties: [ParticipantDuty] = []
        participant.tick(moment, into: &duties)
        carryOut(duties)
        guard world.now >= reportedAt + 100 else { return }
        let edges = participant.edges(waitingSince: world.now - 100, count: 1000)
        guard !edges.isEmpty || hasReported else { return }
        (reportedAt, hasReported) = (world.now, !edges.isEmpty)
        world.send(.waits(position, edges))
    }

    func changeLeader() {
        let survivors = Int(world.random.next(below: UInt64(proposed.count + 1)))
        for entry in proposed.prefix(survivors) { settle(entry) }
        (proposed, open) = ([], [])
        committedIndex += 1
        openIndex = committedIndex + 1
        (pending, changed, kept) = ([:], [:], [:])
        silentUntil = world.now + world.random.next(below: 800)
        abandonCallers()
        isLettingGo = false
        participant.reset(committed: LogIndex(rawValue: committedIndex))
        for (key, value) in records where piece(key) == nil {
            let isIntact = key.withUnsafeBytes { key in
                value.withUnsafeBytes { participant.restore(key: key, value: $0, now: world.now) }
            }
            if !isIntact { world.violations.append("a stored record is damaged") }
        }
        for key in records.keys.sorted(by: { $0.lexicographicallyPrecedes($1) }) {
            if let id = piece(key) { participant.restore(piecesOf: id) }
        }
    }

    private func abandonCallers() {
        for (_, message) in held { world.lose(message) }
        held = []
        for token in waiting.keys.sorted() {
            switch waiting[token] {
            case .statement(let statement): world.send(.statementReply(statement, nil, .aborted, []))
            case .part(let attempt, let part): world.send(.part(attempt, part))
            case .call(let call): world.send(.callReply(call, false, []))
            case nil: continue
            }
        }
        waiting = [:]
        for token in asked.keys.sorted() {
            if let (kind, origin) = asked[token] { world.lose(.stepAnswer(kind, position, origin, nil)) }
        }
        asked = [:]
    }
}
