import Base
import DataModel

/// Parts of interactive transactions that change more than an entry of the log holds.
///
///     sealed ─► pieces, an entry each ─► intent: so many pieces ─► COMMIT ─► pieces applied, an entry each ─► verdict
///     COMMIT_ONE: pieces ─► committed, being applied ─► …
///
/// Pieces are records beside the part's (`TransactionKey`), and count for nothing before an intent names them: who
/// finds some without one, after a change of leader, removes them (`orphans`). What decides is as small as ever. From
/// there on each entry has the effects of one piece, with the timestamp of the commit, and how many are applied
/// (`ApplyingRecord`), so that the next leader goes on behind that; the last one removes the pieces too.
///
/// Invariants:
/// - One piece of a part is on its way: it is committed before the next is made. So a shard does other things between,
///   and the log does not fall behind.
/// - From the entry that decides to that of the last piece the part is what an undecided intent is to everybody else:
///   its keys are locked hard, nothing is closed beyond it, no feed gets past it. The store says that it shows half of
///   a transaction (`mark`), for replicas that answer without locks.
/// - A new leader knows no keys of it, and locks the whole shard.
extension Participant {
    /// How far a part is applied.
    struct Applying {
        let timestamp: Timestamp
        /// The entry that decides.
        let decided: LogIndex
        /// The next piece comes when this entry is committed.
        var after: LogIndex
        /// Pieces that are applied, or will be by that entry.
        var applied: UInt32 = 0
        /// Nobody but the anchor sees to the others.
        let isRecovering: Bool
    }

    /// Lost parts with pieces that are still stored.
    package var orphanCount: Int { orphans.count }

    /// Bytes of a piece, about.
    package var pieceSize: Int { limits.pieceSize }

    /// Whether what the sealed scope has changed, of so many bytes, is too much for one entry.
    package func needsPieces(_ id: PartID, bytes: Int) -> Bool {
        guard let state = parts[id], case .sealed(_, let isOnly) = state.stage else { return false }
        return bytes > limits.wholeSize || (!isOnly && !state.part.scope.isWithin(limits.intentSize - bytes))
    }

    // MARK: Writing

    /// Instead of `prepare` or `commitOne`: `writePiece` follows, as often as needed, and then `finishPieces`.
    package mutating func beginPieces(_ id: PartID, _ moment: Moment, into duties: inout [ParticipantDuty]) {
        guard case .sealed(let token, let isOnly) = parts[id]?.stage else { return }
        // Those of an earlier scope are about to be removed.
        guard !orphans.contains(id) else { return drop(id, .busy, moment, &duties) }
        parts[id]?.stage = .writing(token: token, isOnly: isOnly, after: .zero)
        parts[id]?.due = moment.now &+ limits.repeatMilliseconds
        duties.append(.writePiece(id))
    }

    /// The piece before is committed.
    package func mayWritePiece(_ id: PartID) -> Bool {
        guard case .writing(_, _, let after) = parts[id]?.stage else { return false }
        return after <= committedIndex
    }

    /// The next piece of what the scope has done.
    package mutating func writePiece(
        _ id: PartID, _ effects: Bytes, _ moment: Moment, into duties: inout [ParticipantDuty]
    ) {
        guard let state = parts[id], case .writing(let token, let isOnly, _) = state.stage else { return }
        duties.append(.put(key: key(id, piece: state.pieces), value: effects))
        parts[id]?.pieces += 1
        parts[id]?.stage = .writing(token: token, isOnly: isOnly, after: moment.entryIndex)
        wait(id, moment)
    }

    /// The last piece is in the open entry or before, and the timestamp above every moment that anybody has read at.
    package mutating func finishPieces(
        _ id: PartID, _ counters: [KeyCountChange], timestamp: Timestamp, _ moment: Moment,
        into duties: inout [ParticipantDuty]
    ) {
        guard var state = parts[id], case .writing(let token, let isOnly, _) = state.stage, state.pieces > 0
        else { return }
        close(&state)
        (state.effects, state.timestamp) = (PartEffects(counters: counters), timestamp)
        locks.markPrepared(id, at: timestamp)
        if isOnly {
            counts.scopesCommittedOne += 1
            beginApplying(state, at: timestamp, isRecovering: false, moment, &duties)
            return answer(token, .committed(timestamp), after: moment.entryIndex, &duties)
        }
        counts.scopesPrepared += 1
        state.stage = .preparing
        state.due = moment.now &+ limits.recoveryMilliseconds
        earliestDue = min(earliestDue, state.due)
        put(
            .intent(
                IntentRecord(
                    timestamp: timestamp, priority: state.part.priority, participants: state.part.participants,
                    scope: .shard, effects: state.effects, pieces: state.pieces)), id, &duties)
        parts[id] = state
        answer(token, .prepared(timestamp), after: moment.entryIndex, &duties)
        follow(.prepared(id), moment)
    }

    /// The pieces of a part that will not be are deleted.
    func removePieces(of state: State, _ duties: inout [ParticipantDuty]) {
        guard state.pieces > 0 else { return }
        for number in 0..<state.pieces { duties.append(.delete(key: key(state.part.id, piece: number))) }
    }

    // MARK: Applying

    /// The part is committed; its first piece is applied when that is durable.
    mutating func beginApplying(
        _ state: State, at timestamp: Timestamp, isRecovering: Bool, _ moment: Moment,
        _ duties: inout [ParticipantDuty]
    ) {
        var state = state
        let id = state.part.id, asked = state.asked
        let applying = Applying(
            timestamp: timestamp, decided: moment.entryIndex, after: moment.entryIndex, isRecovering: isRecovering)
        (state.stage, state.asked, state.answers) = (.applying(applying), [], nil)
        parts[id] = state
        put(.applying(record(of: state, applying)), id, &duties)
        halves += 1
        if halves == 1, !limits.bugs.contains(.leaveUnmarked) { duties.append(.mark(true)) }
        if isRecovering { tellOthers(.commit, state, timestamp, moment, &duties) }
        for (_, token) in asked { answer(token, .committed(timestamp), after: moment.entryIndex, &duties) }
        locks.markEnding(id)
        if limits.bugs.contains(.releaseBeforePieces) { follow(.release(id, forgetting: state.part.scope), moment) }
        wait(id, moment)
    }

    private func record(of state: State, _ applying: Applying) -> ApplyingRecord {
        ApplyingRecord(
            timestamp: applying.timestamp, prepared: state.timestamp, priority: state.part.priority,
            pieces: state.pieces, applied: limits.bugs.contains(.forgetProgress) ? 0 : applying.applied,
            participants: state.part.participants, counters: state.effects.counters)
    }

    /// The next piece is applied by the open entry, if the one before is committed.
    package mutating func applyPiece(_ id: PartID, _ moment: Moment, into duties: inout [ParticipantDuty]) {
        guard var state = parts[id], case .applying(var applying) = state.stage, applying.after <= committedIndex
        else { return }
        duties.append(.adopt(StoredPiece(key: key(id, piece: applying.applied), timestamp: applying.timestamp)))
        applying.applied += 1
        applying.after = moment.entryIndex
        state.stage = .applying(applying)
        parts[id] = state
        guard applying.applied == state.pieces else {
            put(.applying(record(of: state, applying)), id, &duties)
            return wait(id, moment)
        }
        finishApplying(state, applying, moment, &duties)
    }

    private mutating func finishApplying(
        _ state: State, _ applying: Applying, _ moment: Moment, _ duties: inout [ParticipantDuty]
    ) {
        let id = state.part.id, scope = state.part.scope, timestamp = applying.timestamp
        duties.append(.apply(CommittedPart(id: id, timestamp: timestamp, effects: state.effects, scope: scope)))
        removePieces(of: state, &duties)
        halves -= 1
        if halves == 0, !limits.bugs.contains(.leaveUnmarked) { duties.append(.mark(false)) }
        if isAnchor(state), !others(state).isEmpty {
            put(.committed(TransactionRecord(timestamp: timestamp, participants: state.part.participants)), id, &duties)
            var rest = state
            rest.stage = .committed(timestamp, moment.entryIndex)
            (rest.effects, rest.pieces) = (PartEffects(), 0)
            rest.answers = applying.isRecovering ? [:] : nil
            rest.due = moment.now &+ limits.recoveryMilliseconds
            earliestDue = min(earliestDue, rest.due)
            parts[id] = rest
        } else {
            conclude(id, committed: timestamp, isFirm: false, moment, &duties)
        }
        follow(.release(id, forgetting: scope), moment)
    }

    // MARK: Going on

    /// The next piece comes when the open entry is committed; `tick` looks after it, should nobody have.
    private mutating func wait(_ id: PartID, _ moment: Moment) {
        let due = moment.now &+ limits.repeatMilliseconds
        parts[id]?.due = due
        earliestDue = min(earliestDue, due)
        follow(.goOn(id), moment)
    }

    /// The next piece, if there is one: said too often, it does no harm.
    func goOn(_ id: PartID, _ duties: inout [ParticipantDuty]) {
        switch parts[id]?.stage {
        case .writing: duties.append(.writePiece(id))
        case .applying: duties.append(.applyPiece(id))
        case _: return
        }
    }

    func key(_ id: PartID, piece number: UInt32) -> Bytes {
        var buffer = ByteBuffer(capacity: 64)
        TransactionKey.append(
            piece: number, id.slot.bucket(of: bucketCount), transaction: id.transaction.rawValue, slot: id.slot,
            into: &buffer)
        return buffer.readable.bytes
    }

    // MARK: After a change of leader

    /// A part that is half applied.
    mutating func restore(_ record: ApplyingRecord, _ id: PartID, _ now: UInt64) {
        let part = Part(
            id: id, priority: record.priority, participants: record.participants, isReadOnly: false, scope: .shard)
        let isWhole = limits.bugs.contains(.applyHalf)
        let applying = Applying(
            timestamp: record.timestamp, decided: .zero, after: .zero,
            applied: isWhole ? record.pieces - 1 : record.applied, isRecovering: true)
        var state = State(part: part, stage: .applying(applying), due: now, timestamp: record.prepared)
        (state.effects, state.pieces) = (PartEffects(counters: record.counters), record.pieces)
        parts[id] = state
        halves += 1
        earliestDue = min(earliestDue, now)
        locks.restore(.shard, id, part.rank, preparedAt: record.prepared)
        locks.markEnding(id)
    }

    /// There are pieces of a part; said when all records are restored. Without a record they are what a leader has
    /// left that was lost.
    package mutating func restore(piecesOf id: PartID) {
        if parts[id]?.pieces ?? 0 == 0 { orphans.insert(id) }
    }

    /// All pieces of a lost part are deleted, with the open entry.
    package mutating func removedPieces(of id: PartID) { orphans.remove(id) }
}
