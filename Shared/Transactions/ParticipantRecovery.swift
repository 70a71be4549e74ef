import Base
import DataModel

/// What happens to transactions whose driver is silent.
///
/// Any shard with an intent asks the anchor (RESOLVE); the anchor asks all others (FENCE) and decides; its decision is
/// carried to the others by it, and fetched by those that ask. A commit whose driver never said FORGET is carried
/// round by the anchor in the same way. Questions are repeated without end, since an intent must not stay.
extension Participant {
    /// Time has passed: asks about what had no news for long, refuses calls that have waited too long, forgets
    /// verdicts.
    package mutating func tick(_ moment: Moment, into duties: inout [ParticipantDuty]) {
        if !locks.isFree {
            var woken: [LockTable.Woken] = []
            for call in locks.expire(moment.now, into: &woken) { expired(call, moment, &duties) }
            locks.overtake(waitingSince: moment.now &- min(moment.now, limits.overtakeMilliseconds), into: &woken)
            wake(woken, moment, &duties)
        }
        expireVerdicts(moment.now, &duties)
        if let lost = orphans.first, !limits.bugs.contains(.keepPieces) { duties.append(.removePieces(lost)) }
        guard moment.now >= earliestDue else { return }
        var due = parts.filter { $0.value.due <= moment.now }.map { (due: $0.value.due, id: $0.key) }
        due.sort { ($0.due, $0.id) < ($1.due, $1.id) }
        for (_, id) in due.prefix(limits.tickStep) { look(id, moment, &duties) }
        earliestDue = parts.values.reduce(UInt64.max) { min($0, $1.due) }
    }

    private mutating func look(_ id: PartID, _ moment: Moment, _ duties: inout [ParticipantDuty]) {
        guard let state = parts[id] else { return }
        parts[id]?.due = moment.now &+ limits.repeatMilliseconds
        switch state.stage {
        case .waiting, .preparing: return
        case .admitted, .held: expel(id, moment, &duties)
        case .open: lookAtScope(id, moment, &duties)
        case .sealing: return
        case .sealed: drop(id, .aborted, moment, &duties)
        case .writing, .applying: goOn(id, &duties)
        case .prepared where isAnchor(state): recover(id, moment, &duties)
        case .prepared:
            guard let anchor = state.part.participants.first else { return }
            duties.append(.send(step(.resolve, state), to: anchor, from: id))
        case .committed(let timestamp, let index):
            guard index <= committedIndex else { return }
            finish(id, timestamp, moment, &duties)
        }
    }

    private func step(_ kind: CommitStep.Kind, _ state: State, _ timestamp: Timestamp = .zero) -> CommitStep {
        CommitStep(kind, state.part.id.transaction, timestamp: timestamp, participants: state.part.participants)
    }

    /// At the anchor: asks everybody who has not answered whether the intent is there.
    mutating func recover(_ id: PartID, _ moment: Moment, _ duties: inout [ParticipantDuty]) {
        guard let state = parts[id] else { return }
        let answers = state.answers ?? [:]
        parts[id]?.answers = answers
        parts[id]?.due = moment.now &+ limits.repeatMilliseconds
        earliestDue = min(earliestDue, moment.now &+ limits.repeatMilliseconds)
        for slot in others(state) where answers[slot] == nil {
            duties.append(.send(step(.fence, state), to: slot, from: id))
        }
        decideIfComplete(id, moment, &duties)
    }

    private mutating func decideIfComplete(_ id: PartID, _ moment: Moment, _ duties: inout [ParticipantDuty]) {
        guard let state = parts[id], let answers = state.answers, answers.count == others(state).count else { return }
        if limits.bugs.contains(.abortComplete) { return abort(state, moment, &duties) }
        commit(state, at: answers.values.max() ?? .zero, isRecovering: true, moment, &duties)
    }

    /// At the anchor: everybody hears of the commit, until all have it.
    private mutating func finish(
        _ id: PartID, _ timestamp: Timestamp, _ moment: Moment, _ duties: inout [ParticipantDuty]
    ) {
        guard let state = parts[id] else { return }
        let answers = state.answers ?? [:]
        parts[id]?.answers = answers
        for slot in others(state) where answers[slot] == nil {
            duties.append(.send(step(.commit, state, timestamp), to: slot, from: id))
        }
        forgetIfFinished(id, timestamp, moment, &duties)
    }

    private mutating func forgetIfFinished(
        _ id: PartID, _ timestamp: Timestamp, _ moment: Moment, _ duties: inout [ParticipantDuty]
    ) {
        guard let state = parts[id], let answers = state.answers, answers.count == others(state).count else { return }
        // Firm, as the driver may not know the outcome and may still ask.
        conclude(id, committed: timestamp, isFirm: true, moment, &duties)
    }

    /// The answer to a step that `send` asked for, from the participant at `slot`; nil: there is none, or nobody knows.
    package mutating func answered(
        _ kind: CommitStep.Kind, from slot: Slot, to id: PartID, _ answer: StepAnswer?, _ moment: Moment,
        into duties: inout [ParticipantDuty]
    ) {
        guard let state = parts[id], let answer else { return }
        switch (state.stage, kind) {
        case (.prepared, .fence):
            guard state.answers != nil, isAnchor(state), others(state).contains(slot) else { return }
            fenced(state, slot, answer, moment, &duties)
        case (.prepared, .resolve):
            guard !isAnchor(state), slot == state.part.participants.first else { return }
            switch answer {
            case .committed(let timestamp): commit(state, at: timestamp, moment, &duties)
            case .aborted: abort(state, moment, &duties)
            case .prepared, .nothing, .held, .notHeld, .busy, .refused: return
            }
        case (.committed(let timestamp, _), .commit):
            guard state.answers != nil, others(state).contains(slot) else { return }
            switch answer {
            case .committed, .nothing: break
            case .aborted: contradictions += 1
            case .prepared, .held, .notHeld, .busy, .refused: return
            }
            parts[id]?.answers?[slot] = timestamp
            forgetIfFinished(id, timestamp, moment, &duties)
        case (.waiting, _), (.admitted, _), (.held, _), (.open, _), (.sealing, _), (.sealed, _), (.writing, _),
            (.preparing, _), (.prepared, _), (.applying, _), (.committed, _):
            return  // An answer that comes late: the part has gone on.
        }
    }

    private mutating func fenced(
        _ state: State, _ slot: Slot, _ answer: StepAnswer, _ moment: Moment, _ duties: inout [ParticipantDuty]
    ) {
        switch answer {
        case .prepared(let timestamp):
            parts[state.part.id]?.answers?[slot] = timestamp
            decideIfComplete(state.part.id, moment, &duties)
        case .aborted, .committed:
            // "Committed", while this intent is undecided: the transaction was over long ago, and this is a part that
            // came again when nobody remembered it.
            counts.recovered += 1
            abort(state, moment, &duties)
            tellOthers(.abort, state, .zero, moment, &duties)
        case .nothing, .held, .notHeld, .busy, .refused: return
        }
    }
}
