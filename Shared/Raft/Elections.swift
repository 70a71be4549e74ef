import Base

/// Campaigning and voting.
extension RaftCore {
    mutating func resetElectionTimer() {
        let span = configuration.electionTimeout
        electionDeadline =
            now &+ span.lowerBound &+ random.next(below: span.upperBound &- span.lowerBound &+ 1)
    }

    /// Whether it may stand for election: as a voter, or, while the membership that leaves it out is not committed, as
    /// a voter of the one before. The change may have reached only those whom it leaves out, and then nobody else's
    /// log is long enough to win (Raft dissertation, 4.2.2).
    ///
    /// One that has left the group and is here again stands for nothing before it has as much as it had: its new log
    /// may be at a place where it was the only voter.
    private var mayStand: Bool {
        guard log.last.isUpToDate(with: floor) else { return false }
        if membership.isVoter(id) { return true }
        guard membershipIndex > commitIndex, membershipIndex > log.base.index else { return false }
        return log.membership(at: membershipIndex.previous).membership.isVoter(id)
    }

    /// Tries to become leader: asks first whether it could win, so that a replica that was cut off does not come back
    /// with a higher term and depose a leader that works.
    mutating func campaign(_ effects: inout Effects) {
        resetElectionTimer()
        guard mayStand, installing == nil, !isLeader else { return }
        if membership.isOnlyVoter(id) {
            // Nobody else to ask, nor to be ahead of. What a lone replica has, is all there is: a cut log is no reason
            // to wait for somebody.
            return becomeCandidate(isTransfer: false, &effects)
        }
        role = .preCandidate
        leader = nil
        forgetVotes()
        let request = Message.VoteRequest(last: log.last, isTransfer: false)
        for peer in membership.everyone where peer != id && membership.isVoter(peer) {
            effects.messages.append(
                Message(from: id, to: peer, term: term.next, body: .preVoteRequest(request)))
        }
        count(ownVote, of: id, &effects)
    }

    /// A candidate's vote for itself.
    var ownVote: Message.VoteReply { Message.VoteReply(isGranted: true, isCut: !mayVote) }

    private mutating func forgetVotes() {
        granted.removeAll(keepingCapacity: true)
        cutGrants.removeAll(keepingCapacity: true)
        refused.removeAll(keepingCapacity: true)
    }

    mutating func becomeCandidate(isTransfer: Bool, _ effects: inout Effects) {
        role = .candidate
        leader = nil
        hardState = HardState(term: term.next, votedFor: id)
        effects.hardState = hardState
        forgetVotes()
        resetElectionTimer()
        if membership.isOnlyVoter(id) {
            // Its vote and its first entry go in one write; nothing is committed before that is durable.
            return becomeLeader(&effects)
        }
        // Only when durable: a candidate that loses its log's end or its vote in a crash must not be elected by votes
        // that were given for it.
        let request = Message.VoteRequest(last: log.last, isTransfer: isTransfer)
        for peer in membership.everyone where peer != id && membership.isVoter(peer) {
            let ask = message(to: peer, .voteRequest(request))
            if has(.ackBeforeHardState) {
                effects.messages.append(ask)
            } else {
                effects.messagesAfterPersist.append(ask)
            }
        }
        if has(.ackBeforeHardState) { count(ownVote, of: id, &effects) }
    }

    /// Counts a vote or a pre-vote, whichever this replica is asking for.
    mutating func count(_ reply: Message.VoteReply, of voter: NodeID, _ effects: inout Effects) {
        if !reply.isGranted {
            if !refused.contains(voter) { refused.append(voter) }
        } else if !granted.contains(voter) {
            granted.append(voter)
            if reply.isCut { cutGrants.append(voter) }
        }
        // See CutLogs.swift for why the votes of replicas with cut logs count when everybody votes alike, and only
        // then.
        let isWon =
            membership.isQuorum { granted.contains($0) && !cutGrants.contains($0) }
            || membership.isUnanimous { granted.contains($0) }
        // Lost when those that have not answered cannot make it either any more.
        let isLost =
            !membership.isQuorum { !refused.contains($0) && !cutGrants.contains($0) }
            && !membership.isUnanimous { !refused.contains($0) }
        switch role {
        case .preCandidate:
            if isWon { becomeCandidate(isTransfer: false, &effects) } else if isLost { role = .follower }
        case .candidate:
            if isWon { becomeLeader(&effects) } else if isLost { role = .follower }
        case .follower, .leader:
            break
        }
    }

    /// Follows: in a new term, or a leader of this one.
    mutating func becomeFollower(_ newTerm: Term, leader newLeader: NodeID?, _ effects: inout Effects) {
        if newTerm > term {
            hardState = HardState(term: newTerm, votedFor: nil)
            effects.hardState = hardState
        }
        let wasLeader = isLeader
        role = .follower
        leader = newLeader
        isKnownCut = false
        forgetVotes()
        if wasLeader {
            peers.removeAll()
            reads.removeAll()
            transfer = nil
            isQuiescent = false
            resetElectionTimer()
        }
    }

    // MARK: Voting

    /// Whether a candidate's log has all that this replica's log has, or had before the replica left the group. Where a
    /// log has lost its end, the store may still hold it: that is committed.
    private func isUpToDate(_ request: Message.VoteRequest) -> Bool {
        has(.voteWithoutLogCheck)
            || request.last.isUpToDate(with: log.last) && request.last.isUpToDate(with: floor)
                && (mayVote || request.last.index >= commitIndex)
    }

    private func isFenced(_ request: Message.VoteRequest) -> Bool {
        guard !request.isTransfer, !has(.leaseWithoutFencing) else { return false }
        return now < fencedUntil || isLeader
    }

    mutating func receivePreVote(
        _ request: Message.VoteRequest, from peer: NodeID, in wanted: Term, _ effects: inout Effects
    ) {
        if isQuiescent {
            // Somebody does not hear the leader, while we had no reason to listen. It will speak if it lives.
            wakeUp(&effects)
            if !isLeader { fencedUntil = now &+ configuration.electionTimeout.lowerBound }
        }
        let isGranted = wanted > term && !isFenced(request) && isUpToDate(request)
        // Promises nothing, so it waits for no disk.
        effects.messages.append(
            Message(
                from: id, to: peer, term: isGranted ? wanted : term,
                body: .preVoteReply(.init(isGranted: isGranted, isCut: !mayVote))))
    }

    /// In this replica's term; a higher one has been taken over before.
    mutating func receiveVote(_ request: Message.VoteRequest, from peer: NodeID, _ effects: inout Effects) {
        let isFree =
            hardState.votedFor == peer || (hardState.votedFor == nil && leader == nil) || has(.voteTwiceInTerm)
        let isGranted = isFree && !isLeader && isUpToDate(request)
        if isGranted {
            if hardState.votedFor != peer {
                hardState.votedFor = peer
                effects.hardState = hardState
            }
            resetElectionTimer()
        }
        let reply = message(to: peer, .voteReply(.init(isGranted: isGranted, isCut: !mayVote)))
        if has(.ackBeforeHardState) {
            effects.messages.append(reply)
        } else {
            effects.messagesAfterPersist.append(reply)
        }
    }

    // MARK: Terms

    mutating func receive(_ message: Message, _ effects: inout Effects) {
        guard message.to == id, message.from != id else { return }
        if case .preVoteRequest(let request) = message.body {
            return receivePreVote(request, from: message.from, in: message.term, &effects)
        }
        if case .preVoteReply(let reply) = message.body, reply.isGranted {
            if role == .preCandidate, message.term == term.next { count(reply, of: message.from, &effects) }
            return
        }
        // Before a term is taken over: a fenced replica does not even learn that there is an election.
        if case .voteRequest(let request) = message.body, message.term >= term, isFenced(request) {
            return isLeader ? wakeUp(&effects) : ()
        }
        if message.term < term { return answerThePast(message, &effects) }
        if message.term > term { becomeFollower(message.term, leader: nil, &effects) }
        switch message.body {
        case .preVoteRequest:
            break  // Dealt with above.
        case .preVoteReply(let reply):
            if role == .preCandidate { count(reply, of: message.from, &effects) }
        case .voteRequest(let request):
            receiveVote(request, from: message.from, &effects)
        case .voteReply(let reply):
            if role == .candidate { count(reply, of: message.from, &effects) }
        case .append(let append):
            if hear(message.from, &effects) { receive(append, from: message.from, &effects) }
        case .heartbeat(let heartbeat):
            if hear(message.from, &effects) { receive(heartbeat, from: message.from, &effects) }
        case .snapshot(let snapshot):
            if hear(message.from, &effects) { receive(snapshot, from: message.from, &effects) }
        case .appendReply(let reply):
            if isLeader { receive(reply, from: message.from, &effects) }
        case .heartbeatReply(let reply):
            if isLeader { receive(reply, from: message.from, &effects) }
        case .timeoutNow:
            if message.from == leader, membership.isVoter(id), mayStand, mayVote, installing == nil {
                becomeCandidate(isTransfer: true, &effects)
            }
        }
    }

    /// A message of an earlier term. Its sender is told of ours: a deposed leader or a candidate that is late.
    private func answerThePast(_ message: Message, _ effects: inout Effects) {
        switch message.body {
        case .append, .heartbeat, .snapshot:
            effects.messages.append(self.message(to: message.from, .heartbeatReply(.init(round: 0))))
        case .voteRequest:
            effects.messages.append(self.message(to: message.from, .voteReply(.init(isGranted: false))))
        case .preVoteRequest, .preVoteReply, .voteReply, .appendReply, .heartbeatReply, .timeoutNow:
            break
        }
    }
}
