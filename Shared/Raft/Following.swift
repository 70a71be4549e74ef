import Base

/// What a follower does with what its leader sends.
extension RaftCore {
    /// The leader of this term has spoken. False if it cannot be: there is another one (a peer that lies).
    mutating func hear(_ peer: NodeID, _ effects: inout Effects) -> Bool {
        guard !isLeader, leader == nil || leader == peer else { return false }
        if role != .follower || leader == nil { becomeFollower(term, leader: peer, &effects) }
        fencedUntil = now &+ configuration.electionTimeout.lowerBound
        resetElectionTimer()
        return true
    }

    mutating func receive(_ append: Message.Append, from peer: NodeID, _ effects: inout Effects) {
        let entries = append.entries
        // What no correct leader sends is dropped.
        guard entries.first == append.previous.index.next, entries.isWellFormed,
            entries.isEmpty || entries.firstTerm >= append.previous.term, (entries.last?.term ?? term) <= term
        else { return }
        isQuiescent = false
        guard installing == nil, rejoin == 0 || isKnownCut else { return }
        if append.previous.index < commitIndex {
            // Older than what is agreed; everything up to there matches.
            return acknowledge(.matched(commitIndex), append, peer, &effects)
        }
        if append.previous.index == commitIndex, commitIndex == log.base.index, commitIndex > .zero,
            append.previous.term > log.base.term
        {
            // Committed, so it is the leader's entry. A store that was ahead of its log after a crash knows the index
            // only, and began with the last term that the log had.
            log.correctBase(append.previous.term)
        }
        let ours = log.term(at: append.previous.index)
        guard ours == append.previous.term || (ours != nil && has(.acceptAppendWithoutLogCheck)) else {
            let hint = log.lastEntry(notBeyond: append.previous)
            let reply = Message.AppendReply(
                outcome: .rejected(previous: append.previous.index, hint: hint), round: append.round)
            effects.messages.append(message(to: peer, .appendReply(reply)))
            return
        }
        guard take(entries, &effects) else { return }
        let matched = append.previous.index.rawValue &+ UInt64(entries.count)
        advanceCommit(
            to: has(.commitBeyondMatch)
                ? min(append.commit, log.last.index) : min(append.commit, LogIndex(rawValue: matched)), &effects)
        acknowledge(.matched(LogIndex(rawValue: matched)), append, peer, &effects)
    }

    /// The part of what a leader sends that can be heard without writing an entry: up to where this log and the
    /// leader's agree. Nil when it would tell nothing new.
    ///
    /// For a disk that is full. What is committed is often known from these messages alone (a leader that does not know
    /// what this log holds names no commit index in its heartbeats), and only what is known to be committed is applied,
    /// flushed and cut from the log: a replica that heard nothing would stay full for good. Old news is not heard, or
    /// leader and follower would answer each other without a pause.
    package func hearable(_ append: Message.Append) -> Message.Append? {
        var heard = append
        guard append.entries.first == append.previous.index.next, append.entries.isWellFormed else { return nil }
        guard log.term(at: append.previous.index) == append.previous.term else {
            // Refused, so that the leader learns where this log ends; or older than what this log begins with.
            heard.entries = EntryRun(first: append.entries.first)
            return heard
        }
        var end = append.entries.first
        while end < append.entries.end, end <= log.last.index, log.term(at: end) == append.entries.term(at: end) {
            end = end.next
        }
        heard.entries = append.entries.prefix(upTo: end)
        return min(append.commit, end.previous) > commitIndex ? heard : nil
    }

    private func acknowledge(
        _ outcome: Message.AppendReply.Outcome, _ append: Message.Append, _ peer: NodeID, _ effects: inout Effects
    ) {
        let reply = message(to: peer, .appendReply(.init(outcome: outcome, round: append.round)))
        if has(.applyBeforePersist) {
            effects.messages.append(reply)
        } else {
            effects.messagesAfterPersist.append(reply)
        }
    }

    /// Makes the log equal to the leader's up to the end of `entries`. False if that would take back what is committed.
    private mutating func take(_ entries: EntryRun, _ effects: inout Effects) -> Bool {
        var firstNew = entries.first
        while firstNew < entries.end, firstNew <= log.last.index, log.term(at: firstNew) == entries.term(at: firstNew) {
            firstNew = firstNew.next
        }
        guard firstNew < entries.end else { return true }  // Known already: nothing is cut, as this may be old news.
        if firstNew <= log.last.index {
            guard firstNew > commitIndex else { return false }
            if has(.skipTruncateOnConflict) {
                firstNew = log.end
                guard firstNew < entries.end else { return true }
            } else {
                log.truncate(from: firstNew)
                writes.truncate(from: firstNew)
                effects.truncatedFrom = firstNew
            }
        }
        let new = entries.suffix(from: firstNew)
        log.append(new)
        effects.entries = new
        if effects.truncatedFrom != nil || !new.specials.isEmpty { refreshMembership(&effects) }
        return true
    }

    mutating func receive(_ heartbeat: Message.Heartbeat, from peer: NodeID, _ effects: inout Effects) {
        noteRejoin(heartbeat)
        if rejoin == 0 || isKnownCut { advanceCommit(to: min(heartbeat.commit, log.last.index), &effects) }
        isQuiescent =
            heartbeat.isQuiescing && log.last.index == heartbeat.commit && commitIndex == heartbeat.commit && mayVote
        let reply = Message.HeartbeatReply(round: heartbeat.round, rejoin: rejoin)
        effects.messages.append(message(to: peer, .heartbeatReply(reply)))
    }

    /// Moves the commit index; never back.
    mutating func advanceCommit(to index: LogIndex, _ effects: inout Effects) {
        guard index > commitIndex else { return }
        commitIndex = index
        effects.committed = index
    }

    // MARK: Snapshots

    /// A snapshot is staged here in full.
    mutating func receive(_ snapshot: SnapshotMetadata, from peer: NodeID, _ effects: inout Effects) {
        isQuiescent = false
        guard snapshot.membership.isWellFormed, snapshot.last.term <= term, installing == nil else { return }
        if snapshot.last.index > commitIndex, log.term(at: snapshot.last.index) != snapshot.last.term {
            installing = snapshot
            effects.snapshotToInstall = snapshot
            return
        }
        // The log has it all; only the news that it is committed was missing.
        advanceCommit(to: snapshot.last.index, &effects)
        let reply = Message.AppendReply(outcome: .matched(commitIndex), round: 0)
        effects.messagesAfterPersist.append(message(to: peer, .appendReply(reply)))
    }

    mutating func snapshotInstalled(_ snapshot: SnapshotMetadata, _ effects: inout Effects) {
        guard installing == snapshot else { return }
        installing = nil
        log.reset(to: snapshot, forgettingTerm: has(.snapshotForgetsTerm))
        writes.reset(to: snapshot.last.index)
        commitIndex = snapshot.last.index
        appliedIndex = snapshot.last.index
        effects.truncatedFrom = snapshot.last.index.next
        effects.committed = commitIndex
        refreshMembership(&effects)
        guard let leader, !isLeader else { return }
        let reply = Message.AppendReply(outcome: .matched(commitIndex), round: 0)
        effects.messages.append(message(to: leader, .appendReply(reply)))
    }
}
