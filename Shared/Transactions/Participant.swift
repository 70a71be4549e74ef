import Base
import DataModel

/// One shard's side of all transactions over several shards, as a value: calls in, duties out. No clock, no store, no
/// network; its driver is the shard's executor on the leader.
///
/// The protocol is two-phase commit with parallel commits (CockroachDB, 2019): a driver sends all parts at once; each
/// shard evaluates its part under locks and makes it durable as an *intent*; once all intents are durable the
/// transaction is committed, by that fact alone, and the client is answered after one round. Everything else is
/// tidying up. The *anchor*, the first participant, has the last word where the driver is gone: its intent stands for
/// "staging", its transaction record for "committed", and no trace means "aborted" (presumed abort, Mohan and Lindsay
/// 1983). Locks are granted by wait-die (`LockTable`). Everybody must be told is the exception: reads (`held`).
///
///     part ─► evaluated ─► intent in the open entry ─► intent durable ─► reply to the driver
///     COMMIT at the anchor ─► effects, record committed   COMMIT elsewhere ─► effects, verdict
///     FORGET at the anchor ─► verdict                      ABORT ─► verdict
///     RESOLVE at the anchor ─► FENCE at all others ─► all there: as COMMIT; one is not: as ABORT
///
/// Invariants:
/// - A part has one stored record at most: intent, then (at the anchor) committed, then the verdict, which expires.
/// - What is said outside is durable: answers, and steps for other shards, leave when the entry that they speak of is
///   committed. A step for a part whose intent is not yet committed waits for that.
/// - An intent goes by COMMIT or ABORT only. COMMIT is said to others only when the anchor's record is committed.
///
/// Why every recoverer reaches the same verdict, and a client that was answered is never contradicted:
/// 1. Only two decide: the driver, that all intents are durable, and the anchor. The anchor's decisions are entries of
///    its log, so there is one. What others do follows from the anchor's word.
/// 2. The driver said *committed*: all intents were durable. They stay until the anchor decides, and it decides
///    "aborted" only if (a) this driver asks, which it does not any more, or (b) a participant has answered FENCE that
///    the intent is not there, and then a durable fence keeps it from ever coming: it cannot have been there before,
///    since only the anchor's decision takes it away. So recovery finds all of them and commits, with the same
///    timestamp: it is the highest of the intents.
/// 3. The driver said *aborted*: the anchor has said so first, durably, as verdict or as fence. Its intent is gone, or
///    will never be there, so no recovery finds all intents.
/// 4. The anchor forgets a commit only when all participants have the effects. Who asks later has none to ask for, but
///    a driver whose messages were lost may: the verdict stays longer than a driver lives (`firm`).
/// All of this takes for granted that a part does not come again after its verdict has expired (a minute at least):
/// the transport repeats only what was certainly not done.
///
/// After a change of leader the new one calls `reset` and `restore` with every stored record before it serves. Intents
/// lock their keys again; waiting calls, locks of reads and running recoveries are gone, and those who asked are told
/// by the executor. An entry that is abandoned is the same: begin again from what is stored.
///
/// An interactive transaction has a *scope* here until it is prepared (`ParticipantScopes.swift`); then it is a part
/// like any other. One that has changed more than an entry of the log holds is written, and applied, in pieces
/// (`ParticipantPieces.swift`).
package struct Participant: Sendable {
    /// What may be remembered, and when what is due.
    package struct Limits: Hashable, Sendable {
        package var locks = LockTable.Limits()
        /// Parts that are not over.
        package var parts = 8192
        /// Bytes of effects in intents; more parts are refused until some are decided.
        package var intentBytes = 256 << 20
        /// Bytes of one intent of an interactive transaction, with its keys: it lies in one entry of the log.
        package var intentSize = 15 << 20
        /// What an interactive transaction has changed here goes into one entry up to so many bytes, else into pieces.
        package var wholeSize = 8 << 20
        /// Bytes of a piece, about.
        package var pieceSize = 1 << 20
        /// Verdicts that are not firm; the oldest goes for a new one.
        package var verdicts = 65_536
        /// Firm verdicts; without room for one, steps that need it are answered `busy`.
        package var firmVerdicts = 65_536
        /// How long a verdict is kept.
        package var verdictMilliseconds: UInt64 = 60_000
        package var firmMilliseconds: UInt64 = 600_000
        /// An intent without news for so long is asked about; the anchor sees after a commit that nobody finished.
        package var recoveryMilliseconds: UInt64 = 1000
        /// Between two questions about the same part.
        package var repeatMilliseconds: UInt64 = 1000
        /// Locks of reads that nobody confirms.
        package var holdMilliseconds: UInt64 = 5000
        /// After so long it is looked at again who need not wait behind whom.
        package var overtakeMilliseconds: UInt64 = 100
        /// Steps that wait at one part.
        package var askers = 16
        /// Interactive transactions with a scope here.
        package var scopes = 4096
        /// A scope that nothing was heard of for so long is over.
        package var idleMilliseconds: UInt64 = 15_000
        /// Keys that a transaction's reads are remembered by; more, and it is the whole shard.
        package var readKeys = 8192
        /// Scopes that are gone of which it is remembered why.
        package var departed = 1024
        /// Parts that one `tick` asks about, and verdicts that it deletes.
        package var tickStep = 512
        package var bugs: TransactionBugs = []

        package init() {
        }

        /// What an interactive transaction has changed goes into one entry up to so many bytes.
        package mutating func cut(above bytes: Int) {
            wholeSize = min(max(bytes, 1 << 10), 12 << 20)
            pieceSize = min(wholeSize, 1 << 20)
        }
    }

    /// When something happens: the wall clock in milliseconds, and the entry that is being built.
    package struct Moment: Hashable, Sendable {
        package let now: UInt64
        package let entryIndex: LogIndex

        package init(now: UInt64, entryIndex: LogIndex) {
            (self.now, self.entryIndex) = (now, entryIndex)
        }
    }

    /// What has happened since the process began. A transaction counts at each of its shards.
    package struct Counts: Hashable, Sendable {
        /// Parts that got their locks, or wait for them.
        package internal(set) var started: UInt64 = 0
        package internal(set) var committed: UInt64 = 0
        /// Also by a condition that did not hold, and by locks that did not come in time.
        package internal(set) var aborted: UInt64 = 0
        /// Parts that gave way to an older transaction before they began.
        package internal(set) var conflicts: UInt64 = 0
        /// Transactions that this shard, as their anchor, has decided without their driver.
        package internal(set) var recovered: UInt64 = 0
        /// Calls and parts that had to wait for locks.
        package internal(set) var waits: UInt64 = 0
        /// Scopes of interactive transactions; what becomes of them after PREPARE counts among parts.
        package internal(set) var scopesOpened: UInt64 = 0
        package internal(set) var scopesPrepared: UInt64 = 0
        package internal(set) var scopesCommittedOne: UInt64 = 0
        /// Why scopes were dropped; `aborted` also where the client wanted it.
        package internal(set) var scopesDropped: [PartRefusal: UInt64] = [:]
        /// Transactions that had to give way in a circle.
        package internal(set) var deadlocks: UInt64 = 0
        package internal(set) var lockTimeouts: UInt64 = 0
    }

    /// What to do with a call or a part that has come.
    package enum Admission: Hashable, Sendable {
        /// Evaluate it now. For a part, `prepare`, `hold` or `withdraw` must follow at once.
        case evaluate
        /// Keep it; `run` or `refuse` with its token follows.
        case wait
        case refuse(PartRefusal)
    }

    enum Stage {
        /// In the queue for locks.
        case waiting(token: UInt64)
        /// It has the locks and is being evaluated.
        case admitted
        /// Reads only: the locks are held in memory.
        case held
        /// An interactive transaction does one statement after the other; it has a `Scope`.
        case open
        /// It is to be prepared, or committed at once, and waits until nobody shares its keys.
        case sealing(token: UInt64, isOnly: Bool)
        /// Its executor is about to take what it has done.
        case sealed(token: UInt64, isOnly: Bool)
        /// What it has done goes to the log in pieces; the next one when the last, `after`, is committed.
        case writing(token: UInt64, isOnly: Bool, after: LogIndex)
        /// The intent lies in an entry that is not committed.
        case preparing
        /// The intent is durable.
        case prepared
        /// Committed, and its pieces are being applied.
        case applying(Applying)
        /// At the anchor: the record says committed.
        case committed(Timestamp, LogIndex)
    }

    /// What is known of a part that is not over.
    struct State {
        var part: Part
        var stage: Stage
        /// When somebody is asked about it, or it is given up.
        var due: UInt64
        var timestamp = Timestamp.zero
        var effects = PartEffects()
        /// Those that its effects lie in, or so far; 0: it has none.
        var pieces: UInt32 = 0
        var scope: Scope?
        /// Steps that wait for the intent, and askers that wait for the verdict.
        var asked: [(step: CommitStep, token: UInt64)] = []
        /// At the anchor: who has answered FENCE (the timestamps) or COMMIT; nil: nobody was asked.
        var answers: [Slot: Timestamp]?
    }

    struct Verdict {
        var record: VerdictRecord
        /// The entry that brings it.
        var index: LogIndex
    }

    /// What follows when an entry is committed.
    enum Sequel {
        case answer(UInt64, StepAnswer)
        case prepared(PartID)
        case release(PartID, forgetting: LockScope?)
        case tell(PartID, CommitStep, [Slot])
        /// The next piece.
        case goOn(PartID)
    }

    let limits: Limits
    /// Buckets of the cluster.
    package let bucketCount: Int
    /// Who has which keys. For questions; it changes through the participant only.
    package internal(set) var locks: LockTable
    var parts: [PartID: State] = [:]
    var verdicts: [PartID: Verdict] = [:]
    /// In the order of their time.
    var softVerdicts = VerdictQueue(), firmVerdicts = VerdictQueue()
    /// Parts that are open scopes.
    package internal(set) var scopeCount = 0
    /// Why scopes are gone; the oldest goes first.
    var departed: [PartID: Departure] = [:]
    var departures: [PartID] = []
    var sequels: [(index: LogIndex, sequel: Sequel)] = []
    var firstSequel = 0
    var committedIndex = LogIndex.zero
    /// Bytes of effects in intents.
    package internal(set) var intentBytes = 0
    /// `letGo` was asked for.
    private var isLettingGo = false
    /// Parts that are being applied in pieces.
    var halves = 0
    /// Lost parts with pieces that are still stored.
    var orphans: Set<PartID> = []
    /// No part is due before.
    var earliestDue = UInt64.max
    /// Answers that no correct peer gives: a participant aborted what the anchor has committed.
    package internal(set) var contradictions = 0
    package internal(set) var counts = Counts()

    package init(bucketCount: Int, limits: Limits = .init()) {
        (self.bucketCount, self.limits) = (bucketCount, limits)
        locks = LockTable(limits: limits.locks, bugs: limits.bugs)
    }

    /// Parts that are not over.
    package var partCount: Int { parts.count }

    /// Parts whose effects lie in the log, or will, and are not decided.
    package var intentCount: Int {
        parts.values.count {
            switch $0.stage {
            case .preparing, .prepared, .applying: true
            case .waiting, .admitted, .held, .open, .sealing, .sealed, .writing, .committed: false
            }
        }
    }

    /// Verdicts that are remembered.
    package var verdictCount: Int { verdicts.count }

    /// Up to which time, `now` at most, everything that a client was told of is decided here: intents that are not may
    /// have been answered any time after they were evaluated.
    package func closedMilliseconds(at now: UInt64) -> UInt64 {
        parts.values.reduce(now) { closed, state in
            switch state.stage {
            case .preparing, .prepared, .applying: min(closed, max(state.timestamp.milliseconds, 1) - 1)
            case .waiting, .admitted, .held, .open, .sealing, .sealed, .writing, .committed: closed
            }
        }
    }

    // MARK: Calls outside transactions

    /// Whether a call may be evaluated now. Not asked while `locks.isFree`. A call that reads at a moment waits only
    /// for what may be committed at that moment or before; the shard's clock must have been set above it.
    package mutating func admit(
        _ scope: LockScope, asOf moment: Timestamp? = nil, _ call: WaitingCall
    ) -> Admission {
        switch locks.request(scope, asOf: moment, call) {
        case .granted:
            return .evaluate
        case .waits:
            counts.waits += 1
            return .wait
        case .refused(let refusal):
            return .refuse(refusal)
        }
    }

    /// Whether the part has its locks and is not evaluated: if not, it is over since it was woken.
    package func isAdmitted(_ id: PartID) -> Bool {
        if case .admitted = parts[id]?.stage { true } else { false }
    }

    // MARK: Parts

    /// A part has come. `.evaluate`: its locks are held.
    package mutating func admit(_ part: Part, _ call: WaitingCall, _ moment: Moment) -> Admission {
        guard part.isWellFormed else { return .refuse(.malformed) }
        guard verdicts[part.id] == nil else { return .refuse(.over) }
        guard parts[part.id] == nil else { return .refuse(.repeated) }
        guard parts.count < limits.parts, intentBytes < limits.intentBytes else { return .refuse(.busy) }
        // Nobody may sit on locks without evaluating: an executor that loses a call it was to run is found out.
        let due = max(call.deadline, moment.now) &+ limits.holdMilliseconds
        switch locks.request(part, call, now: moment.now) {
        case .granted:
            counts.started += 1
            parts[part.id] = State(part: part, stage: .admitted, due: due)
            earliestDue = min(earliestDue, due)
            return .evaluate
        case .waits:
            counts.started += 1
            counts.waits += 1
            parts[part.id] = State(part: part, stage: .waiting(token: call.token), due: due)
            earliestDue = min(earliestDue, due)
            return .wait
        case .refused(let refusal):
            if refusal == .conflict { counts.conflicts += 1 }
            return .refuse(refusal)
        }
    }

    /// The part is evaluated, or the scope is sealed; its effects are in no entry, and pending state does not show
    /// them. The reply to its driver waits for the open entry, which gets the intent. `timestamp` is above every moment
    /// that anybody has read at here, the transaction's own among them.
    package mutating func prepare(
        _ id: PartID, _ effects: PartEffects, timestamp: Timestamp, _ moment: Moment,
        into duties: inout [ParticipantDuty]
    ) {
        guard var state = parts[id] else { return }
        switch state.stage {
        case .admitted: break
        case .sealed(let token, isOnly: false):
            guard state.part.scope.isWithin(limits.intentSize - effects.payload.count) else {
                return drop(id, .tooLarge, moment, &duties)
            }
            answer(token, .prepared(timestamp), after: moment.entryIndex, &duties)
            close(&state)
            counts.scopesPrepared += 1
        case .waiting, .held, .open, .sealing, .sealed, .writing, .preparing, .prepared, .applying, .committed: return
        }
        state.stage = .preparing
        locks.markPrepared(id, at: timestamp)
        (state.effects, state.timestamp) = (effects, timestamp)
        state.due = moment.now &+ limits.recoveryMilliseconds
        earliestDue = min(earliestDue, state.due)
        intentBytes += effects.payload.count
        put(
            .intent(
                IntentRecord(
                    timestamp: timestamp, priority: state.part.priority, participants: state.part.participants,
                    scope: state.part.scope, effects: effects)), id, &duties)
        parts[id] = state
        follow(.prepared(id), moment)
    }

    /// The part of a transaction that only reads is evaluated: its locks stay until CONFIRM. `timestamp` is that of its
    /// reply; CONFIRM brings it back, so that a second copy of the part does not hold the locks for the first one.
    package mutating func hold(_ id: PartID, timestamp: Timestamp, _ moment: Moment) {
        guard case .admitted = parts[id]?.stage else { return }
        parts[id]?.stage = .held
        parts[id]?.timestamp = timestamp
        parts[id]?.due = moment.now &+ limits.holdMilliseconds
        earliestDue = min(earliestDue, moment.now &+ limits.holdMilliseconds)
    }

    /// Nothing was done: a condition does not hold, or the part cannot be evaluated. It never has an intent.
    package mutating func withdraw(_ id: PartID, _ moment: Moment, into duties: inout [ParticipantDuty]) {
        guard case .admitted = parts[id]?.stage else { return }
        parts[id] = nil
        counts.aborted += 1
        release(id, moment, &duties)
    }

    // MARK: Entries

    /// The entries up to `index` are committed and applied.
    package mutating func committed(
        upTo index: LogIndex, now: UInt64, into duties: inout [ParticipantDuty]
    ) {
        committedIndex = max(committedIndex, index)
        guard firstSequel < sequels.count else { return }
        while firstSequel < sequels.count, sequels[firstSequel].index <= index {
            let sequel = sequels[firstSequel].sequel
            firstSequel += 1
            carryOut(sequel, now, &duties)
        }
        if firstSequel == sequels.count {
            sequels.removeAll(keepingCapacity: true)
            firstSequel = 0
        } else if firstSequel > 1024 {
            sequels.removeSubrange(..<firstSequel)
            firstSequel = 0
        }
    }

    private mutating func carryOut(_ sequel: Sequel, _ now: UInt64, _ duties: inout [ParticipantDuty]) {
        switch sequel {
        case .answer(let token, let answer):
            duties.append(.answer(token, answer))
        case .prepared(let id):
            guard case .preparing = parts[id]?.stage else { return }
            parts[id]?.stage = .prepared
            let asked = parts[id]?.asked ?? []
            parts[id]?.asked = []
            // They may change the open entry, so they come back when there is one to change.
            for (step, token) in asked { duties.append(.again(step, at: id.slot, token)) }
        case .release(let id, let changed):
            if let changed { duties.append(.reread(changed)) }
            release(id, Moment(now: now, entryIndex: .zero), &duties)
        case .tell(let id, let step, let slots):
            for slot in slots { duties.append(.send(step, to: slot, from: id)) }
        case .goOn(let id): goOn(id, &duties)
        }
    }

    /// What follows when the open entry is committed.
    mutating func follow(_ sequel: Sequel, _ moment: Moment) { follow(sequel, after: moment.entryIndex) }

    mutating func follow(_ sequel: Sequel, after index: LogIndex) {
        sequels.append((max(index, sequels.last?.index ?? .zero), sequel))
    }

    /// Answers once `index` is committed; without a token nobody has asked.
    mutating func answer(
        _ token: UInt64?, _ answer: StepAnswer, after index: LogIndex = .zero, _ duties: inout [ParticipantDuty]
    ) {
        guard let token else { return }
        if index <= committedIndex {
            duties.append(.answer(token, answer))
        } else {
            follow(.answer(token, answer), after: index)
        }
    }

    // MARK: Locks

    mutating func release(_ id: PartID, _ moment: Moment, _ duties: inout [ParticipantDuty]) {
        var woken: [LockTable.Woken] = []
        locks.release(id, into: &woken)
        wake(woken, moment, &duties)
        goOnLettingGo(&duties)
    }

    private mutating func goOnLettingGo(_ duties: inout [ParticipantDuty]) {
        guard locks.isLeaving, !isLettingGo else { return }
        isLettingGo = true
        duties.append(.letGo)
    }

    /// Lets go of more of what large transactions that are over have locked.
    package mutating func letGo(_ moment: Moment, into duties: inout [ParticipantDuty]) {
        isLettingGo = false
        var woken: [LockTable.Woken] = []
        locks.letGo(into: &woken)
        wake(woken, moment, &duties)
        goOnLettingGo(&duties)
    }

    mutating func wake(_ woken: [LockTable.Woken], _ moment: Moment, _ duties: inout [ParticipantDuty]) {
        for call in woken {
            if let part = call.part {
                if call.isHardening {
                    sealed(part, moment, &duties)
                    continue
                }
                if case .waiting = parts[part]?.stage { parts[part]?.stage = .admitted }
            }
            duties.append(.run(call.token))
        }
    }

    /// A part without an intent goes: whoever waits for its evaluation is told, its locks are free.
    mutating func expel(
        _ id: PartID, isConfirmed: Bool = false, _ moment: Moment, _ duties: inout [ParticipantDuty]
    ) {
        if parts[id]?.scope != nil { return drop(id, .aborted, moment, &duties) }
        guard let state = parts.removeValue(forKey: id) else { return }
        if isConfirmed { counts.committed += 1 } else { counts.aborted += 1 }
        if case .waiting(let token) = state.stage {
            var woken: [LockTable.Woken] = []
            locks.cancel(token, into: &woken)
            duties.append(.refuse(token, .over))
            wake(woken, moment, &duties)
        } else {
            release(id, moment, &duties)
        }
    }

    // MARK: Records

    mutating func put(_ record: PartRecord, _ id: PartID, _ duties: inout [ParticipantDuty]) {
        var buffer = ByteBuffer(capacity: 256)
        record.encode(into: &buffer)
        duties.append(.put(key: key(id), value: buffer.readable.bytes))
    }

    func key(_ id: PartID) -> Bytes {
        var buffer = ByteBuffer(capacity: 64)
        TransactionKey.append(
            id.slot.bucket(of: bucketCount), transaction: id.transaction.rawValue, slot: id.slot, into: &buffer)
        return buffer.readable.bytes
    }

    /// Forgets everything in memory. The executor tells those who wait.
    package mutating func reset(committed index: LogIndex) {
        let (known, counted) = (contradictions, counts)
        self = Participant(bucketCount: bucketCount, limits: limits)
        (committedIndex, contradictions, counts) = (index, known, counted)
    }

    /// Takes over a stored record, before anything else happens. False if it is damaged.
    package mutating func restore(key: ByteView, value: ByteView, now: UInt64) -> Bool {
        guard let name = TransactionKey.parse(key), let record = PartRecord(decoding: value) else { return false }
        let id = PartID(TransactionID(rawValue: name.transaction), name.slot)
        let due = now &+ limits.recoveryMilliseconds
        switch record {
        case .intent(let intent):
            let part = Part(
                id: id, priority: intent.priority, participants: intent.participants, isReadOnly: false,
                scope: intent.scope)
            var state = State(part: part, stage: .prepared, due: due, timestamp: intent.timestamp)
            (state.effects, state.pieces) = (intent.effects, intent.pieces)
            intentBytes += intent.effects.payload.count
            parts[id] = state
            if !limits.bugs.contains(.restoreWithoutLocks) {
                locks.restore(part.scope, id, part.rank, preparedAt: intent.timestamp)
            }
        case .applying(let record): restore(record, id, now)
        case .committed(let transaction):
            let part = Part(
                id: id, priority: 0, participants: transaction.participants, isReadOnly: false, scope: .keys([]))
            parts[id] = State(part: part, stage: .committed(transaction.timestamp, .zero), due: due)
        case .over(let verdict):
            remember(Verdict(record: verdict, index: .zero), id)
        }
        earliestDue = min(earliestDue, due)
        return true
    }
}
