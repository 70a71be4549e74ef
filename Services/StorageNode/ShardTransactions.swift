import Actors
import Base
import Contracts
import DataModel
import Raft
import Storage
import Transactions

/// What a shard's leader has in memory of transactions over several shards: the protocol as a value, who waits for it,
/// and what it has asked for that is not done yet.
final class ShardTransactions {
    /// A call that waits for locks, as it came: a frame of one invocation.
    struct Waiting {
        let stream: InvocationStream
        let frame: Bytes
        let session: UInt64
        /// Of the catalog by which its locks were found.
        let schema: UInt64
    }

    /// How long a call waits for locks, in milliseconds.
    static let patience: UInt64 = 5000
    /// The same for a client's statement on one record: its gateway asks once more, where it can be called back.
    static let statementPatience: UInt64 = 200

    var participant: Participant
    private var waiting: [UInt64: Waiting] = [:]
    /// Who wants the answer to a step.
    private var askers: [UInt64: (stream: InvocationStream, id: UInt64)] = [:]
    private var lastToken: UInt64 = 0
    /// What the participant asked for and may cause further events, in order.
    fileprivate var queue = Queue<ParticipantDuty>()
    fileprivate var isDraining = false
    fileprivate let decoder = InvocationBatchDecoder()
    let partEffects = EffectBuffer()
    /// What open transactions have done.
    let scopes: ShardScopes
    let statementReply = ReplyBatchEncoder()
    /// At slot 0's shard: who waits for whom, everywhere.
    var waitGraph = WaitGraph()
    /// A report of waits is under way; the last one had some.
    var isReporting = false, hasReported = false
    var hasDuties: Bool { !queue.isEmpty }
    /// Sends a step to the leader of another slot's shard; `stepAnswered` follows.
    var send: (CommitStep, Slot, PartID) -> Void = { _, _, _ in }
    /// Reports waits to the shard that looks for circles; `reportAnswered` follows.
    var report: (TransactionStep) -> Void = { _ in }

    init(bucketCount: Int, limits: Participant.Limits, scopes: ShardScopes) {
        participant = Participant(bucketCount: bucketCount, limits: limits)
        self.scopes = scopes
    }

    func makeToken() -> UInt64 {
        lastToken &+= 1
        return lastToken
    }

    func keep(_ invocation: borrowing InvocationView, _ token: UInt64, schema: UInt64, on stream: InvocationStream) {
        var frame = ByteBuffer(capacity: invocation.encoded.count + 16)
        frame.append(InvocationView.tag)
        frame.append(varint: UInt64(invocation.encoded.count))
        frame.append(invocation.encoded)
        waiting[token] = Waiting(
            stream: stream, frame: frame.readable.bytes, session: stream.session, schema: schema)
    }

    fileprivate func takeWaiting(_ token: UInt64) -> Waiting? { waiting.removeValue(forKey: token) }

    fileprivate func ask(_ stream: InvocationStream, _ id: UInt64) -> UInt64 {
        let token = makeToken()
        askers[token] = (stream, id)
        return token
    }

    fileprivate func takeAsker(_ token: UInt64) -> (stream: InvocationStream, id: UInt64)? {
        askers.removeValue(forKey: token)
    }

    /// Begins anew with nothing; those who wait have not been heard, and are told to ask elsewhere.
    func reset(committed index: LogIndex, leader: NodeID?) {
        let (calls, asked) = (waiting, askers)
        (waiting, askers, queue) = ([:], [:], Queue())
        participant.reset(committed: index)
        scopes.removeAll()
        waitGraph = WaitGraph()
        // Not `decoder`: a call that it has handed out may be what this follows from.
        let replies = ReplyBatchEncoder(), decoder = InvocationBatchDecoder()
        for (_, call) in calls.sorted(by: { $0.key < $1.key }) {
            var id: UInt64 = 0
            call.frame.withUnsafeBytes { frame in try? decoder.decode(frame) { id = $0.id } }
            call.stream.refuse(id, leader: leader, replies: replies)
            call.stream.send(replies)
        }
        for (_, asker) in asked.sorted(by: { $0.key < $1.key }) {
            asker.stream.refuse(asker.id, leader: leader, replies: replies)
            asker.stream.send(replies)
        }
    }
}

// The executor's side: calls in, duties done.
//
// An event of the participant may bring effects for the open entry: those are put there before anything else happens,
// so that they lie in the entry that the participant was told of. What may lead to further events waits in a queue, and
// nothing else is evaluated before it: a call that was woken must not be overtaken by a part that then has its locks.
extension ShardExecutor {
    /// Above this the open entry is proposed before an event: a part that it commits must fit beside.
    private static let crowded = 64 << 10
    /// Keys above which everything is forgotten, and not one after the other.
    private static let manyKeys = 64 << 10

    var moment: Participant.Moment {
        Participant.Moment(now: clock.wallMilliseconds, entryIndex: openIndex)
    }

    /// Lets something happen to the participant. False: nothing may happen now, or the entry cannot be kept small.
    @discardableResult
    func happen(_ event: (inout Participant, Participant.Moment, inout [ParticipantDuty]) -> Void) -> Bool {
        guard makeRoom() else { return false }
        var duties: [ParticipantDuty] = []
        event(&transactions.participant, moment, &duties)
        note(duties)
        return true
    }

    /// Proposes what is open if more might not fit beside it. False: nothing may happen now.
    func makeRoom() -> Bool {
        guard isEvaluating else { return false }
        if openBytes > Self.crowded { propose() }
        return isEvaluating && openBytes <= Self.entryTarget
    }

    /// Does at once what concerns the open entry, and queues the rest. The open entry may be proposed then.
    func note(_ duties: [ParticipantDuty]) {
        place(duties)
        effectsAdded()
    }

    /// The same, and the entry stays open.
    func place(_ duties: [ParticipantDuty]) {
        for duty in duties {
            switch duty {
            case .put(let key, let value): key.withUnsafeBytes { key in value.withUnsafeBytes { put(key, $0) } }
            case .delete(let key): key.withUnsafeBytes { delete($0) }
            case .apply(let part): adopt(part)
            case .adopt(let piece): adopt(piece)
            case .removePieces(let part): removePieces(of: part)
            case .mark(let isHalfDone): mark(isHalfDone)
            case .reread(let scope):
                if scope.shard == .exclusive || scope.exclusive.count > Self.manyKeys {
                    runtime.forgetCommitted()
                    runtime.forget(RowKey.database, ByteView(start: nil, count: 0))  // The catalog.
                } else {
                    for key in scope.exclusive { key.key.withUnsafeBytes { runtime.forget(key.database, $0) } }
                }
            case .answer, .refuse, .run, .again, .send, .dropScope, .rollBack, .seal, .writePiece, .applyPiece, .letGo:
                transactions.queue.append(duty)
            }
        }
        locksChanged()
        if transactions.hasDuties, !transactions.isDraining { scheduleProposal() }
    }

    /// Does what is queued, and what follows from it. Not while entries are being committed.
    func drainDuties() {
        guard transactions.hasDuties, !transactions.isDraining else { return }
        transactions.isDraining = true
        while isEvaluating, let duty = transactions.queue.popFirst() {
            switch duty {
            case .answer(let token, let answer): self.answer(token, answer)
            case .refuse(let token, let refusal): refuse(token, refusal)
            case .run(let token): run(token)
            case .again(let step, let slot, let token):
                let isHeard = happen { $0.handle(step, at: slot, token: token, $1, into: &$2) }
                if !isHeard { answer(token, .busy) }
            case .send(let step, let slot, let part): transactions.send(step, slot, part)
            case .put, .delete, .apply, .reread, .adopt, .removePieces, .mark: break  // Done at once.
            case .dropScope(let part): dropScope(part)
            case .rollBack(let part, let statement): rollBack(part, to: statement)
            case .seal(let part, let isOnly, let token): seal(part, isOnly: isOnly, token: token)
            case .writePiece(let part): clock.loop.runLater { [weak self] in self?.writePiece(of: part) }
            case .applyPiece(let part): clock.loop.runLater { [weak self] in self?.applyPiece(of: part) }
            case .letGo: clock.loop.runLater { [weak self] in self?.letGo() }
            }
        }
        transactions.isDraining = false
        locksChanged()
    }

    /// A large transaction is over: more of its locks go.
    private func letGo() {
        drainDuties()
        guard !happen({ $0.letGo($1, into: &$2) }), isServing else { return }
        clock.loop.schedule(afterMilliseconds: 10) { [weak self] in self?.letGo() }
    }

    /// The effects of a part that is committed.
    private func adopt(_ part: CommittedPart) {
        do {
            try append(part.effects.payload, committedAt: part.timestamp)
            try runtime.adoptPart(part.effects.counters, entryIndex: openIndex, into: open)
            try noteChanges(part.effects.payload, at: clock.last)
        } catch {
            fail(error)
        }
    }

    // MARK: Calls that meet locks

    /// What the call or batch touches.
    private func scope(of operation: OperationView) -> LockScope? {
        var touched = TouchedKeys(runtime)
        switch operation {
        case .call(let call): touched.add(call)
        case .batch(let batch): touched.add(batch)
        case .record, .step, .home, .unknown: return nil
        }
        return touched.scope
    }

    private func scope(of batch: CallBatchView) -> LockScope {
        var touched = TouchedKeys(runtime)
        touched.add(batch)
        return touched.scope
    }

    func waitingCall(
        _ invocation: borrowing InvocationView, on stream: InvocationStream, patience given: UInt64 = 0
    ) -> WaitingCall {
        var patience = given == 0 ? ShardTransactions.patience : given
        if case .call(let call) = invocation.operation, call.method == .rowModify || call.method == .rowQuery {
            patience = ShardTransactions.statementPatience
        }
        if invocation.deadlineMilliseconds != 0 { patience = min(patience, UInt64(invocation.deadlineMilliseconds)) }
        return WaitingCall(
            token: transactions.makeToken(), lane: stream.lane(of: invocation.connection),
            bytes: invocation.encoded.count, deadline: clock.wallMilliseconds &+ patience)
    }

    /// Some key is locked, or nothing is evaluated: whether the call may be evaluated now. If not, it is refused here,
    /// or kept until it may.
    @inline(never)
    func meetLocks(
        _ invocation: borrowing InvocationView, asOf moment: Timestamp? = nil, on stream: InvocationStream,
        ready: ReplyBatchEncoder
    ) -> Bool {
        if isEvaluating { drainDuties() }
        guard isEvaluating else {
            stream.refuse(invocation.id, leader: group.leader, replies: ready)
            return false
        }
        guard !restores.isActive else {
            ready.error(invocation.id, Self.beingRestored)
            return false
        }
        if case .batch(let batch) = invocation.operation, batch.isPart { return true }  // Asks by itself.
        if let refusal = reservation(invocation.operation) {
            ready.error(invocation.id, refusal)
            return false
        }
        guard var scope = scope(of: invocation.operation) else { return true }
        if moment != nil { scope = scope.readOnly }
        let call = waitingCall(invocation, on: stream)
        switch transactions.participant.admit(scope, asOf: moment, call) {
        case .evaluate: return true
        case .wait: transactions.keep(invocation, call.token, schema: schemaVersion, on: stream)
        case .refuse(let refusal): ready.error(invocation.id, refusal.error)
        }
        return false
    }

    /// Evaluates a call that has waited for locks.
    func evaluateKept(
        _ invocation: borrowing InvocationView, session: UInt64, on stream: InvocationStream, ready: ReplyBatchEncoder
    ) {
        if invocation.hasScope { return readPast(invocation, on: stream, ready: ready) }
        guard invocation.isIdempotent, InvocationTerms.isWrite(invocation.operation) else {
            return evaluateNow(invocation, on: stream, ready: ready)
        }
        let bucket = Int(invocation.slot) * transactions.participant.bucketCount / Slot.count
        do throws(DatabaseError) {
            let token = try InvocationToken(invocation, session: session, bucket: bucket)
            evaluateNow(invocation, token, on: stream, ready: ready)
        } catch {
            ready.error(invocation.id, error)
        }
    }

    /// A call that has waited need not any longer.
    private func run(_ token: UInt64) {
        guard let call = transactions.takeWaiting(token) else { return }
        let replies = ReplyBatchEncoder()
        call.frame.withUnsafeBytes { frame in
            try? transactions.decoder.decode(frame) { invocation in  // It has been decoded before.
                if let refusal = staleness(invocation.operation, since: call.schema) {
                    if case .batch(let batch) = invocation.operation, let view = batch.part {
                        withdraw(part(view, batch, at: invocation.slot).id)
                    }
                    replies.error(invocation.id, refusal)
                } else if invocation.transaction != 0 {
                    runStatement(invocation, token: token, on: call.stream, ready: replies)
                } else if case .batch(let batch) = invocation.operation, let view = batch.part {
                    let part = part(view, batch, at: invocation.slot)
                    evaluateAdmitted(part, batch, invocation, on: call.stream, ready: replies)
                } else if call.stream.isOpen {
                    evaluateKept(invocation, session: call.session, on: call.stream, ready: replies)
                }
            }
        }
        if !replies.isEmpty { call.stream.send(replies) }
    }

    func refuse(_ token: UInt64, _ refusal: PartRefusal) {
        guard let call = transactions.takeWaiting(token) else { return }
        let replies = ReplyBatchEncoder()
        call.frame.withUnsafeBytes { frame in
            try? transactions.decoder.decode(frame) { replies.error($0.id, refusal.error) }
        }
        call.stream.send(replies)
    }

    // MARK: Parts

    private func part(_ view: TransactionPartView, _ batch: CallBatchView, at slot: UInt32) -> Part {
        let transaction = TransactionID(rawValue: view.id)
        return Part(
            id: PartID(transaction, Self.slot(slot) ?? Slot(rawValue: 0)), priority: view.priority,
            participants: view.participants.slots.compactMap { Self.slot($0) },
            isReadOnly: view.isReadOnly, scope: scope(of: batch))
    }

    /// A part has come: evaluated now, kept until its locks are free, or refused.
    func take(
        _ batch: CallBatchView, _ invocation: borrowing InvocationView, on stream: InvocationStream,
        ready: ReplyBatchEncoder
    ) {
        guard let view = batch.part else { return }
        if let refusal = refusal(ofPart: batch, view) ?? reservation(.batch(batch)) {
            return ready.error(invocation.id, refusal)
        }
        let part = part(view, batch, at: invocation.slot), call = waitingCall(invocation, on: stream)
        switch transactions.participant.admit(part, call, moment) {
        case .evaluate:
            locksChanged()
            evaluateAdmitted(part, batch, invocation, on: stream, ready: ready)
        case .wait: transactions.keep(invocation, call.token, schema: schemaVersion, on: stream)
        case .refuse(let refusal): ready.error(invocation.id, refusal.error)
        }
    }

    private func refusal(ofPart batch: CallBatchView, _ view: TransactionPartView) -> DatabaseError? {
        guard view.participants.slots.allSatisfy({ Self.slot($0) != nil }) else { return Self.wrongSlot }
        var calls = batch.calls
        while let call = calls.next() {
            guard call.method.isKeyless || runtime.owns(call.database, call.key) else {
                return Self.misplaced(call)
            }
            if call.method.isWrite, view.isReadOnly {
                return DatabaseError(.invalidArgument, "A transaction that only reads has a part that writes")
            }
        }
        return nil
    }

    /// The part has its locks. It is evaluated, and then is an intent in the open entry; or it is withdrawn.
    private func evaluateAdmitted(
        _ part: Part, _ batch: CallBatchView, _ invocation: borrowing InvocationView, on stream: InvocationStream,
        ready: ReplyBatchEncoder
    ) {
        let mark = ready.size, id = invocation.id
        guard transactions.participant.isAdmitted(part.id) else { return ready.error(id, PartRefusal.over.error) }
        guard stream.isOpen, isEvaluating, part.isReadOnly || beginPart(id, ready) else {
            if isEvaluating { withdraw(part.id) }
            if ready.size == mark { stream.refuse(id, leader: group.leader, replies: ready) }
            return
        }
        // What was open may have been abandoned just now, and everything begun anew.
        guard transactions.participant.isAdmitted(part.id) else {
            runtime.endPart()
            return ready.error(id, PartRefusal.over.error)
        }
        var observed = LogIndex.zero
        switch evaluateWatches(batch, id: id, ready: ready) {
        case .hold(let index):
            guard let seen = evaluateCalls(of: batch, id: id, observed: index, ready: ready) else {
                // Too much. Where something was changed the open entry is abandoned, and begun again from the store.
                if isEvaluating { withdraw(part.id) }
                return
            }
            observed = seen
        case .fail(let index):
            withdraw(part.id)
            return answered(from: mark, index, on: stream, ready: ready)
        }
        if part.isReadOnly {
            transactions.participant.hold(part.id, timestamp: clock.last, moment)
        } else {
            observed = openIndex
            let effects = transactions.partEffects
            effects.reset()
            let counters = runtime.finishPart(effects)
            let payload = effects.isEmpty ? [] : effects.payload.bytes
            let timestamp = clock.last
            var duties: [ParticipantDuty] = []
            transactions.participant.prepare(
                part.id, PartEffects(payload: payload, counters: counters), timestamp: timestamp,
                moment, into: &duties)
            place(duties)  // The reply must wait for the entry before the log can refuse that.
        }
        answered(from: mark, observed, on: stream, ready: ready)
    }

    /// Makes room for the intent. False when nothing can be written now; `ready` says why, if it can be said.
    private func beginPart(_ id: UInt64, _ ready: ReplyBatchEncoder) -> Bool {
        if hasOpenEffects { propose() }
        guard isEvaluating else { return false }
        guard !hasOpenEffects else {
            ready.error(id, Self.diskFull)
            return false
        }
        guard admit(true, id, ready) != nil else { return false }
        do throws(DatabaseError) {
            try runtime.beginPart()
            return true
        } catch {
            ready.error(id, error)
            return false
        }
    }

    /// Whatever the state of the open entry: nothing goes into it.
    private func withdraw(_ part: PartID) {
        runtime.endPart()
        var duties: [ParticipantDuty] = []
        transactions.participant.withdraw(part, moment, into: &duties)
        note(duties)
    }

    // MARK: Steps

    private static let wrongSlot = DatabaseError(.invalidArgument, "A slot that does not exist")
    private static let unknownStep = DatabaseError(.featureNotSupported, "This node does not know the step")

    /// A step of a transaction has come from its driver, or from another shard.
    func take(
        _ step: TransactionStepView, _ invocation: borrowing InvocationView, on stream: InvocationStream,
        ready: ReplyBatchEncoder
    ) {
        if step.kind == .sample { return tellTime(invocation.id, on: stream, ready: ready) }
        if step.kind == .waits { return takeReport(step, invocation.id, ready: ready) }
        guard let kind = CommitStep.Kind(rawValue: step.kind.rawValue) else {
            return ready.error(invocation.id, Self.unknownStep)
        }
        guard let slot = Self.slot(invocation.slot) else { return ready.error(invocation.id, Self.wrongSlot) }
        guard step.participants.count <= Part.participantLimit else {
            return ready.error(invocation.id, PartRefusal.malformed.error)
        }
        let participants = step.participants.slots.compactMap { Self.slot($0) }
        guard participants.count == step.participants.count else { return ready.error(invocation.id, Self.wrongSlot) }
        if kind == .prepare || kind == .commitOne {
            guard isEvaluating else { return stream.refuse(invocation.id, leader: group.leader, replies: ready) }
            guard admit(true, invocation.id, ready) != nil else { return }
        }
        var commitStep = CommitStep(
            kind, TransactionID(rawValue: step.id), timestamp: step.timestamp, participants: participants)
        (commitStep.incarnation, commitStep.statement) = (step.incarnation, step.statement)
        let token = transactions.ask(stream, invocation.id)
        let isHeard =
            !isLogFull && happen { $0.handle(commitStep, at: slot, token: token, $1, into: &$2) }
        if !isHeard { answer(token, .busy) }
    }

    static func slot(_ number: UInt32) -> Slot? {
        number < UInt32(Slot.count) ? Slot(rawValue: UInt16(number)) : nil
    }

    /// Tells whoever asked; only a leader may say anything.
    private func answer(_ token: UInt64, _ answer: StepAnswer) {
        guard let asker = transactions.takeAsker(token) else { return }
        let replies = ReplyBatchEncoder()
        var data = ByteBuffer(capacity: 16)
        answer.encode(into: &data)
        replies.data(asker.id, data.readable)
        answered(from: 0, .zero, on: asker.stream, ready: replies)
        if !replies.isEmpty { asker.stream.send(replies) }
    }

    /// The answer to a step that `transactions.send` was asked for; nil: there is none.
    func stepAnswered(_ kind: CommitStep.Kind, from slot: Slot, to part: PartID, _ answer: StepAnswer?) {
        drainDuties()
        happen { $0.answered(kind, from: slot, to: part, answer, $1, into: &$2) }
    }

    // MARK: Time

    /// Called now and then.
    func tickTransactions() {
        guard !isLogFull else { return }
        drainDuties()
        happen { $0.tick($1, into: &$2) }
        tickScopes()
        reportWaits()
    }

    /// Entries are committed and applied.
    func settleTransactions(upTo index: LogIndex) {
        guard isServing else { return }
        var duties: [ParticipantDuty] = []
        transactions.participant.committed(upTo: index, now: clock.wallMilliseconds, into: &duties)
        if !duties.isEmpty { place(duties) }
        settleStatements(upTo: index)
    }

    /// Reads what is stored of transactions; before anything else is evaluated. False when it cannot be.
    func restoreTransactions() -> Bool {
        transactions.reset(committed: group.committedIndex, leader: group.leader)
        var isIntact = true
        let now = clock.wallMilliseconds
        do {
            for bucket in buckets.joined() {
                var key = ByteBuffer(capacity: 16)
                TransactionKey.appendPrefix(BucketID(rawValue: UInt16(truncatingIfNeeded: bucket)), into: &key)
                let from = key.readable.bytes
                NativeKeyLayout.makeRangeEnd(&key)
                let to = key.readable.bytes
                try from.withView { (from: ByteView) throws(StoreError) in
                    try to.withView { (to: ByteView) throws(StoreError) in
                        try store.scan(from: from, to: to) { key, value in
                            isIntact = transactions.participant.restore(key: key, value: value, now: now)
                            return isIntact
                        }
                    }
                }
                guard isIntact else { throw DatabaseError(.corruption, "the record of a transaction is damaged") }
            }
            try restorePieces()
        } catch {
            fail(error)
            return false
        }
        locksChanged()
        return true
    }

    // MARK: The open entry

    var isLogFull: Bool { log.writer.isFull }

    func put(_ key: ByteView, _ value: ByteView) { open.put(key: key, value: value) }

    func delete(_ key: ByteView) { open.delete(key: key) }

    /// Adds what a part has changed to the open entry, which gets a later timestamp than the transaction.
    func append(_ effects: Bytes, committedAt timestamp: Timestamp) throws {
        var isBelow = true
        do throws(DatabaseError) { try clock.observe(timestamp) } catch {
            isBelow = false  // Of a clock that is too far ahead; its own node is fenced.
        }
        try effects.withView { (view: ByteView) throws(StoreError) in
            if isBelow { try open.append(view, committedAt: timestamp) } else { try open.append(view) }
        }
    }

    /// The replica cannot go on.
    func fail(_ error: any Error) { onFatal(error) }
}
