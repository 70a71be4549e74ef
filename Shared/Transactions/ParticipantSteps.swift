import Base
import DataModel

/// Steps: what is said about parts, in every order and as often as anybody likes.
///
///     what is here        COMMIT      ABORT       FORGET      RESOLVE     FENCE       CONFIRM
///     nothing             nothing     fence       nothing     fence       fence       not held
///     waiting for locks   nothing     fence       nothing     fence       fence       expelled, not held
///     locks of reads      nothing     released    nothing     fence       fence       released, held
///     scope               nothing     dropped     nothing     fence       fence       not held
///     intent, not durable all of them wait for its entry                              not held
///     pieces, no intent   nothing     dropped     nothing     busy        busy        not held
///     intent              committed   aborted     prepared    recovery    prepared    not held
///     being applied       committed   committed   committed   committed   committed   not held
///     committed (anchor)  committed   committed   verdict     committed   committed   not held
///     verdict             the verdict, to all of them                                 not held
///
/// "fence" is the verdict "aborted" for a part that was not there, firm; the answer, like every other, waits for its
/// entry. ABORT to a participant of a transaction whose anchor has committed it cannot come from a correct driver.
/// ABORT, FENCE and RESOLVE drop a scope. Of ABORT with an incarnation no fence is left: a scope comes into being with
/// an incarnation that never was before, so a PREPARE of one that is gone finds nothing.
extension Participant {
    /// A step for the part at `slot`; the duty `answer` with `token` follows, now or later.
    package mutating func handle(
        _ step: CommitStep, at slot: Slot, token: UInt64, _ moment: Moment, into duties: inout [ParticipantDuty]
    ) {
        let id = PartID(step.transaction, slot)
        if step.kind == .confirm { return confirm(id, step.timestamp, token, moment, &duties) }
        if handleScope(step, id, token, moment, &duties) { return }
        if let verdict = verdicts[id] { return answer(token, verdict.record.answer, after: verdict.index, &duties) }
        guard let state = parts[id] else { return handleAbsent(step, id, token, moment, &duties) }
        switch state.stage {
        case .waiting, .admitted, .held, .open, .sealing, .sealed:
            handleAbsent(step, id, token, moment, &duties)
        case .writing where step.kind == .resolve || step.kind == .fence:
            answer(token, .busy, &duties)  // The intent comes soon.
        case .writing:
            handleAbsent(step, id, token, moment, &duties)
        case .preparing where limits.bugs.contains(.trustOpenIntent) && step.kind == .fence:
            answer(token, .prepared(state.timestamp), &duties)
        case .preparing:
            if step.kind == .abort { locks.markEnding(id) }
            ask(step, id, token, &duties)
        case .prepared:
            handlePrepared(step, state, token, moment, &duties)
        case .applying(let applying):
            answer(token, .committed(applying.timestamp), after: applying.decided, &duties)
        case .committed(let timestamp, let index):
            if step.kind == .forget {
                let isFirm = state.answers != nil
                conclude(id, committed: timestamp, isFirm: isFirm, moment, &duties)
                if limits.bugs.contains(.forgetEarly) { verdicts[id] = nil }
                answer(token, .committed(timestamp), after: moment.entryIndex, &duties)
            } else {
                answer(token, .committed(timestamp), after: index, &duties)
            }
        }
    }

    /// There is no intent here.
    private mutating func handleAbsent(
        _ step: CommitStep, _ id: PartID, _ token: UInt64, _ moment: Moment, _ duties: inout [ParticipantDuty]
    ) {
        switch step.kind {
        case .commit, .forget, .confirm:
            answer(token, .nothing, &duties)
        case .rollbackTo, .keepAlive:
            answer(token, .notHeld, &duties)
        case .prepare, .commitOne:
            answer(token, .refused(.aborted), &duties)
        case .fence where limits.bugs.contains(.recoverWithoutFence):
            answer(token, .aborted, &duties)
        case .abort where parts[id]?.part.isReadOnly == true:
            expel(id, moment, &duties)
            answer(token, .aborted, &duties)
        case .resolve where step.participants.first != id.slot:
            answer(token, .nothing, &duties)  // Only the anchor may say what has become of a transaction.
        case .abort, .resolve, .fence:
            guard firmVerdicts.count < limits.firmVerdicts else { return answer(token, .busy, &duties) }
            if step.kind == .resolve { counts.recovered += 1 }
            expel(id, moment, &duties)
            conclude(id, committed: nil, isFirm: true, moment, &duties)
            answer(token, .aborted, after: moment.entryIndex, &duties)
        }
    }

    /// The intent is durable, and nothing is decided.
    private mutating func handlePrepared(
        _ step: CommitStep, _ state: State, _ token: UInt64, _ moment: Moment, _ duties: inout [ParticipantDuty]
    ) {
        let id = state.part.id
        switch step.kind {
        case .commit:
            commit(state, at: step.timestamp, moment, &duties)
            answer(token, .committed(max(step.timestamp, state.timestamp)), after: moment.entryIndex, &duties)
        case .abort:
            abort(state, moment, &duties)
            answer(token, .aborted, after: moment.entryIndex, &duties)
        case .resolve where isAnchor(state):
            ask(step, id, token, &duties)
            // While it runs, whoever asks waits for its end; `look` repeats it.
            if state.answers == nil { recover(id, moment, &duties) }
        case .resolve, .fence, .forget, .prepare:
            answer(token, .prepared(state.timestamp), &duties)
        case .commitOne:
            answer(token, .refused(.over), &duties)
        case .keepAlive:
            answer(token, .held, &duties)
        case .confirm, .rollbackTo:
            answer(token, .notHeld, &duties)
        }
    }

    /// Only whoever leads with a valid lease may say so: the executor treats the answer as that of a read.
    private mutating func confirm(
        _ id: PartID, _ timestamp: Timestamp, _ token: UInt64, _ moment: Moment, _ duties: inout [ParticipantDuty]
    ) {
        guard let state = parts[id], state.part.isReadOnly else { return answer(token, .notHeld, &duties) }
        if case .held = state.stage, state.timestamp == timestamp {
            answer(token, .held, &duties)
            expel(id, isConfirmed: true, moment, &duties)
        } else {
            answer(token, .notHeld, &duties)
            expel(id, moment, &duties)
        }
    }

    /// The step waits at the part.
    private mutating func ask(
        _ step: CommitStep, _ id: PartID, _ token: UInt64, _ duties: inout [ParticipantDuty]
    ) {
        guard let count = parts[id]?.asked.count, count < limits.askers else {
            return answer(token, .busy, &duties)
        }
        parts[id]?.asked.append((step, token))
    }

    func isAnchor(_ state: State) -> Bool { state.part.participants.first == state.part.id.slot }

    // MARK: Deciding

    /// The transaction is committed: every participant has its intent.
    mutating func commit(
        _ state: State, at decided: Timestamp, isRecovering: Bool = false, _ moment: Moment,
        _ duties: inout [ParticipantDuty]
    ) {
        let id = state.part.id, timestamp = max(decided, state.timestamp)
        counts.committed += 1
        if isRecovering { counts.recovered += 1 }
        if state.pieces > 0 { return beginApplying(state, at: timestamp, isRecovering: isRecovering, moment, &duties) }
        duties.append(
            .apply(
                CommittedPart(id: id, timestamp: timestamp, effects: state.effects, scope: state.part.scope)))
        if isAnchor(state) {
            put(.committed(TransactionRecord(timestamp: timestamp, participants: state.part.participants)), id, &duties)
            intentBytes -= state.effects.payload.count
            var rest = state
            rest.stage = .committed(timestamp, moment.entryIndex)
            (rest.effects, rest.asked, rest.answers) = (PartEffects(), [], isRecovering ? [:] : nil)
            rest.due = moment.now &+ limits.recoveryMilliseconds
            parts[id] = rest
            if isRecovering { tellOthers(.commit, rest, timestamp, moment, &duties) }
        } else {
            conclude(id, committed: timestamp, isFirm: false, moment, &duties)
        }
        for (_, token) in state.asked { answer(token, .committed(timestamp), after: moment.entryIndex, &duties) }
        // Nobody may look before the store shows it.
        if limits.bugs.contains(.releaseBeforeApply) {
            release(id, moment, &duties)
        } else {
            locks.markEnding(id)
            follow(.release(id, forgetting: state.part.scope), moment)
        }
    }

    /// The transaction is aborted: one participant has no intent and never will, or its driver has given up.
    mutating func abort(_ state: State, _ moment: Moment, _ duties: inout [ParticipantDuty]) {
        let id = state.part.id
        counts.aborted += 1
        locks.markEnding(id)
        removePieces(of: state, &duties)
        conclude(id, committed: nil, isFirm: false, moment, &duties)
        for (_, token) in state.asked { answer(token, .aborted, after: moment.entryIndex, &duties) }
        follow(.release(id, forgetting: nil), moment)
    }

    /// When the decision is durable, the other participants hear of it.
    func others(_ state: State) -> [Slot] { state.part.participants.filter { $0 != state.part.id.slot } }

    mutating func tellOthers(
        _ kind: CommitStep.Kind, _ state: State, _ timestamp: Timestamp, _ moment: Moment,
        _ duties: inout [ParticipantDuty]
    ) {
        let step = CommitStep(
            kind, state.part.id.transaction, timestamp: timestamp, participants: state.part.participants)
        follow(.tell(state.part.id, step, others(state)), moment)
    }
}
