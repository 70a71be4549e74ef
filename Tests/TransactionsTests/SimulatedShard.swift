import Base
import DataModel
import Transactions

/// One shard: lists of numbers under keys, a log whose entries are committed some time after they are proposed, and a
/// leader that may change at any moment. What the store has survives that, what memory has does not, and of the
/// entries under way some prefix does.
final class SimulatedShard {
    /// What an entry does to the store.
    enum Effect {
        case put(Bytes, Bytes)
        case delete(Bytes)
        case append(Int, UInt64)
    }

    /// Who waits for locks.
    private enum Waiting {
        case part(Int, Int)
        case call(Int)
    }

    let position: Int
    let slot: Slot
    private unowned let world: SimulatedWorld
    private(set) var participant: Participant

    // Survives.
    private(set) var records: [Bytes: Bytes] = [:]
    private(set) var lists: [Int: [UInt64]] = [:]
    private var committedIndex: UInt64 = 0

    // The log under way.
    private var proposed: [(index: UInt64, effects: [Effect])] = []
    private var open: [Effect] = []
    private var openIndex: UInt64 = 1

    // The leader's memory.
    private var activations: [Int: [UInt64]] = [:]
    private var changed: [Int: UInt64] = [:]
    private var waiting: [UInt64: Waiting] = [:]
    private var asked: [UInt64: (CommitStep.Kind, StepOrigin)] = [:]
    private var held: [(index: UInt64, message: Message)] = []
    private var tokens: UInt64 = 0
    private var clock: UInt64 = 0
    private var silentUntil: UInt64 = 0
    private var duties: [ParticipantDuty] = []
    private var isCarrying = false
    /// The participant wants to let go of more locks.
    private(set) var isLettingGo = false

    init(_ position: Int, in world: SimulatedWorld) {
        (self.position, self.world) = (position, world)
        slot = Slot(rawValue: UInt16(position * 700 + 5))
        participant = Participant(bucketCount: 64, limits: world.limits)
    }

    var isSilent: Bool { world.now < silentUntil }

    /// Nothing is under way, locked or asked.
    var isQuiet: Bool {
        participant.partCount == 0 && participant.locks.isFree && waiting.isEmpty && proposed.isEmpty && open.isEmpty
            && held.isEmpty
    }

    private var moment: Participant.Moment {
        Participant.Moment(now: world.now, entryIndex: LogIndex(rawValue: openIndex))
    }

    private func token() -> UInt64 {
        tokens += 1
        return tokens
    }

    private func waitingCall(_ token: UInt64, lane: Int) -> WaitingCall {
        WaitingCall(token: token, lane: UInt64(lane + 1), bytes: 100, deadline: world.now + 20_000)
    }

    // MARK: What comes

    func receive(_ message: Message) {
        switch message {
        case .part(let attempt, let part): receivePart(attempt, part)
        case .call(let call): receiveCall(call)
        case .step(let step, _, let origin):
            let token = token()
            asked[token] = (step.kind, origin)
            var duties: [ParticipantDuty] = []
            participant.handle(step, at: slot, token: token, moment, into: &duties)
            carryOut(duties)
        case .stepAnswer(let kind, let from, .shard(_, let part), let answer):
            var duties: [ParticipantDuty] = []
            participant.answered(kind, from: world.shards[from].slot, to: part, answer, moment, into: &duties)
            carryOut(duties)
        case .stepAnswer, .partReply, .callReply: return
        }
    }

    private func receivePart(_ attempt: Int, _ part: Int) {
        let token = token()
        switch participant.admit(
            world.part(attempt, part), waitingCall(token, lane: world.attempts[attempt].client), moment)
        {
        case .evaluate: evaluatePart(attempt, part)
        case .wait: waiting[token] = .part(attempt, part)
        case .refuse(let refusal): world.send(.partReply(attempt, part, .init(refusal), [:]))
        }
    }

    private func receiveCall(_ call: Int) {
        let token = token(), item = world.calls[call]
        let scope = item.isWhole ? LockScope.shard : .keys([world.lockKey(item.operation.key)])
        let admission =
            participant.locks.isFree
            ? .evaluate : participant.admit(scope, waitingCall(token, lane: item.client))
        switch admission {
        case .evaluate: evaluateCall(call)
        case .wait: waiting[token] = .call(call)
        case .refuse: world.send(.callReply(call, false, [:]))
        }
    }

    // MARK: Evaluating

    private func list(_ key: Int) -> [UInt64] {
        if let known = activations[key] { return known }
        let stored = lists[key] ?? []
        activations[key] = stored
        return stored
    }

    private func evaluateCall(_ call: Int) {
        let item = world.calls[call], key = item.operation.key
        if item.operation.isWrite {
            activations[key] = list(key) + [item.id]
            changed[key] = openIndex
            open.append(.append(key, item.id))
        }
        var seen: [Int: [UInt64]] = [:], observed: UInt64 = 0
        for key in item.isWhole ? world.keys(of: position) : [key] {
            seen[key] = list(key)
            observed = max(observed, changed[key] ?? 0)
        }
        hold(.callReply(call, true, seen), until: observed)
    }

    private func evaluatePart(_ attempt: Int, _ part: Int) {
        let item = world.attempts[attempt], id = PartID(item.id, slot)
        var duties: [ParticipantDuty] = []
        if world.random.oneIn(40) {  // A condition does not hold.
            participant.withdraw(id, moment, into: &duties)
            world.send(.partReply(attempt, part, .failed, [:]))
            return carryOut(duties)
        }
        clock = max(clock + 1, world.now << 8)
        var reads: [Int: [UInt64]] = [:], observed: UInt64 = 0
        var payload = ByteBuffer()
        for operation in item.operations where world.position(of: operation.key) == position {
            var seen = list(operation.key)
            observed = max(observed, changed[operation.key] ?? 0)
            if operation.isWrite {
                seen.append(item.id.rawValue)
                payload.append(littleEndian: UInt32(operation.key))
            } else {
                reads[operation.key] = seen
            }
        }
        let reply = Message.partReply(attempt, part, .done(Timestamp(rawValue: clock)), reads)
        if item.isReadOnly {
            participant.hold(id, timestamp: Timestamp(rawValue: clock), moment)
            hold(reply, until: observed)
        } else {
            participant.prepare(
                id, PartEffects(payload: payload.readable.bytes), timestamp: Timestamp(rawValue: clock),
                moment, into: &duties)
            hold(reply, until: world.limits.bugs.contains(.trustOpenIntent) ? 0 : openIndex)
        }
        carryOut(duties)
    }

    private func hold(_ message: Message, until index: UInt64) {
        if index <= committedIndex { return world.send(message) }
        held.append((index, message))
    }

    // MARK: Duties

    /// One after another: what follows from carrying one out comes behind those that are there.
    private func carryOut(_ list: [ParticipantDuty]) {
        duties += list
        guard !isCarrying else { return }
        isCarrying = true
        while !duties.isEmpty { carryOut(duties.removeFirst()) }
        isCarrying = false
    }

    private func carryOut(_ duty: ParticipantDuty) {
        switch duty {
        case .put(let key, let value): open.append(.put(key, value))
        case .delete(let key): open.append(.delete(key))
        case .apply(let part): apply(part)
        case .reread(let scope):
            for key in scope.exclusive { activations[world.key(key)] = nil }
            if scope.shard == .exclusive { activations = [:] }
        case .letGo: isLettingGo = true
        case .dropScope, .rollBack, .seal, .writePiece, .applyPiece, .adopt, .removePieces, .mark:
            world.violations.append("there is no scope")
        case .answer(let token, let answer):
            guard let (kind, origin) = asked.removeValue(forKey: token) else { return }
            world.send(.stepAnswer(kind, position, origin, answer))
        case .refuse(let token, let refusal):
            switch waiting.removeValue(forKey: token) {
            case .part(let attempt, let part): world.send(.partReply(attempt, part, .init(refusal), [:]))
            case .call(let call): world.send(.callReply(call, false, [:]))
            case nil: world.violations.append("a token that nobody has is refused")
            }
        case .run(let token):
            switch waiting.removeValue(forKey: token) {
            case .part(let attempt, let part): evaluatePart(attempt, part)
            case .call(let call): evaluateCall(call)
            case nil: world.violations.append("a token that nobody has is woken")
            }
        case .again(let step, _, let token):
            var duties: [ParticipantDuty] = []
            participant.handle(step, at: slot, token: token, moment, into: &duties)
            carryOut(duties)
        case .send(let step, let target, let part):
            guard let shard = world.shards.first(where: { $0.slot == target }) else { return }
            world.send(.step(step, shard.position, .shard(position, part)))
        }
    }

    private func apply(_ part: CommittedPart) {
        clock = max(clock, part.timestamp.rawValue)
        world.note(part, at: self)
        part.effects.payload.withUnsafeBytes { view in
            var reader = ByteReader(view)
            while let key: UInt32 = reader.littleEndian() {
                open.append(.append(Int(key), part.id.transaction.rawValue))
            }
        }
    }

    // MARK: The log

    func propose() {
        guard !open.isEmpty else { return }
        proposed.append((openIndex, open))
        open = []
        openIndex += 1
    }

    /// The oldest entry under way is durable.
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
            case .append(let key, let id): lists[key, default: []].append(id)
            }
        }
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
    }

    /// Another replica leads: it has what was committed, and some of what was under way.
    func changeLeader() {
        let survivors = Int(world.random.next(below: UInt64(proposed.count + 1)))
        for entry in proposed.prefix(survivors) { settle(entry) }
        (proposed, open) = ([], [])
        committedIndex += 1
        openIndex = committedIndex + 1
        (activations, changed) = ([:], [:])
        silentUntil = world.now + world.random.next(below: 800)
        abandonCallers()
        isLettingGo = false
        participant.reset(committed: LogIndex(rawValue: committedIndex))
        for (key, value) in records {  // In any order.
            let isIntact = key.withUnsafeBytes { key in
                value.withUnsafeBytes { participant.restore(key: key, value: $0, now: world.now) }
            }
            if !isIntact { world.violations.append("a stored record is damaged") }
        }
    }

    /// Who waited is told that nobody knows, or nothing; what was certainly not done may be sent again.
    private func abandonCallers() {
        for (_, message) in held {
            switch message {
            case .partReply(let attempt, let part, _, _): world.lose(.partReply(attempt, part, .unknown, [:]))
            case .callReply(let call, _, _): world.send(.callReply(call, nil, [:]))
            case .part, .call, .step, .stepAnswer: continue
            }
        }
        held = []
        for token in waiting.keys.sorted() {
            switch waiting[token] {
            case .part(let attempt, let part): world.send(.part(attempt, part))
            case .call(let call): world.send(.callReply(call, false, [:]))
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
