import Base

/// Proposing, replicating, committing.
extension RaftCore {
    mutating func becomeLeader(_ effects: inout Effects) {
        role = .leader
        leader = id
        transfer = nil
        hasForfeitedLease = false
        reads.removeAll()
        quorumCheckDue = now &+ configuration.electionTimeout.lowerBound
        lastTraffic = now
        isQuiescent = false
        uncommittedBytes = log.bytes(from: commitIndex.next, through: log.last.index)
        peers = membership.everyone.filter { $0 != id }.map { PeerProgress(id: $0, next: log.end) }
        rounds.start(at: now)
        heartbeatDue = now &+ configuration.heartbeatInterval
        // What earlier leaders left is committed by this entry, and only by it.
        var first = EntryRun(first: log.end)
        first.append(term: term, size: 0, content: .empty)
        firstOwnIndex = first.first
        appendOwn(first, &effects)
    }

    mutating func propose(_ sizes: [UInt32], _ effects: inout Effects) {
        guard isLeader else {
            effects.refusal = .notLeader(leader)
            return
        }
        guard transfer == nil else {
            effects.refusal = .transferring
            return
        }
        guard !sizes.isEmpty else { return }
        guard uncommittedBytes < configuration.uncommittedBytes else {
            effects.refusal = .busy
            return
        }
        noteTraffic(&effects)
        appendOwn(EntryRun(first: log.end, term: term, sizes: sizes), &effects)
    }

    /// Appends to this leader's log and sends to everybody who is ready for it.
    mutating func appendOwn(_ run: EntryRun, _ effects: inout Effects) {
        log.append(run)
        if effects.entries.isEmpty {
            effects.entries = run
        } else {
            for index in run.indexes.lazy.map({ LogIndex(rawValue: $0) }) {
                effects.entries.append(term: term, size: run.size(at: index), content: run.content(at: index))
            }
        }
        uncommittedBytes &+= run.byteCount
        if !run.specials.isEmpty { refreshMembership(&effects) }
        for position in peers.indices { sendAppends(to: position, &effects) }
        if has(.applyBeforePersist) { advanceCommit(&effects) }
    }

    // MARK: Sending

    /// Sends what the peer's mode and its limits allow.
    mutating func sendAppends(to position: Int, _ effects: inout Effects) {
        switch peers[position].mode {
        case .snapshot:
            return
        case .probe:
            guard !peers[position].isProbeSent else { return }
            peers[position].isProbeSent = true
            sendAppend(to: position, &effects)
        case .replicate:
            while peers[position].mode == .replicate, peers[position].next <= log.last.index,
                peers[position].inFlight.count < configuration.inFlightMessages,
                peers[position].inFlight.bytes < configuration.inFlightBytes
            {
                sendAppend(to: position, &effects)
            }
        }
    }

    private mutating func sendAppend(to position: Int, asQuestion: Bool = false, _ effects: inout Effects) {
        let next = peers[position].next
        guard let term = log.term(at: next.previous) else {
            peers[position].awaitSnapshot()
            effects.snapshotsWanted.append(peers[position].id)
            return
        }
        let run =
            asQuestion
            ? EntryRun(first: next)
            : log.run(
                from: next, maximumEntries: configuration.appendEntries, maximumBytes: configuration.appendBytes)
        let append = Message.Append(
            previous: EntryID(term: term, index: next.previous), entries: run, commit: commitIndex,
            round: rounds.current)
        effects.messages.append(message(to: peers[position].id, .append(append)))
        guard peers[position].mode == .replicate, let last = run.last else { return }
        peers[position].next = run.end
        peers[position].inFlight.add(last: last.index, bytes: run.byteCount)
    }

    // MARK: Answers

    private func position(of peer: NodeID) -> Int? { peers.firstIndex { $0.id == peer } }

    mutating func receive(_ reply: Message.AppendReply, from peer: NodeID, _ effects: inout Effects) {
        guard let position = position(of: peer) else { return }
        peers[position].isActive = true
        guard reply.round >= peers[position].firstTrustedRound else { return }
        noteAnswer(reply.round, position, &effects)
        switch reply.outcome {
        case .matched(let index):
            guard index <= log.last.index else { return }  // No correct follower has more than it was sent.
            noteMatch(index, position, &effects)
        case .rejected(let previous, let hint):
            noteRejection(previous, hint, position)
        }
        // Committing may have changed the membership (and so the positions), or ended leadership.
        if isLeader, let position = self.position(of: peer) { sendAppends(to: position, &effects) }
        handOver(&effects)
    }

    private mutating func noteMatch(_ index: LogIndex, _ position: Int, _ effects: inout Effects) {
        let isNews = index > peers[position].matched
        if isNews {
            peers[position].matched = index
            peers[position].next = max(peers[position].next, index.next)
        }
        peers[position].inFlight.free(through: index)
        switch peers[position].mode {
        case .probe:
            if index >= peers[position].next.previous || isNews {
                peers[position].next = max(peers[position].matched.next, index.next)
                peers[position].replicate()
            }
        case .snapshot:
            if peers[position].matched >= log.base.index {
                peers[position].next = peers[position].matched.next
                peers[position].replicate()
            }
        case .replicate:
            break
        }
        if isNews { advanceCommit(&effects) }
    }

    private mutating func noteRejection(_ previous: LogIndex, _ hint: EntryID, _ position: Int) {
        let peer = peers[position]
        guard peer.mode != .snapshot, previous > peer.matched, previous < peer.next else { return }
        // While probing, only the answer to the last question counts.
        guard peer.mode == .replicate || previous == peer.next.previous else { return }
        let match = hint.index < log.base.index ? hint.index : log.lastEntry(notBeyond: hint).index
        peers[position].probe(from: min(previous, match.next))
    }

    mutating func receive(_ reply: Message.HeartbeatReply, from peer: NodeID, _ effects: inout Effects) {
        guard let position = position(of: peer) else { return }
        peers[position].isActive = true
        noteRejoin(reply, position, &effects)
        guard let position = self.position(of: peer), reply.round >= peers[position].firstTrustedRound else { return }
        noteAnswer(reply.round, position, &effects)
        switch peers[position].mode {
        case .probe:
            peers[position].isProbeSent = false
            sendAppends(to: position, &effects)
        case .replicate:
            // An append or its answer may be lost; asking finds out, and is answered behind all that is under way.
            if peers[position].inFlight.count > 0 { sendAppend(to: position, asQuestion: true, &effects) }
            sendAppends(to: position, &effects)
        case .snapshot:
            break
        }
    }

    mutating func unreachable(_ peer: NodeID) {
        guard isLeader, let position = position(of: peer), peers[position].mode == .replicate else { return }
        peers[position].probe(from: peers[position].matched.next)
    }

    mutating func snapshotSent(to peer: NodeID) {
        guard isLeader, let position = position(of: peer), peers[position].mode == .snapshot else { return }
        // Done or not: its next heartbeat lets it be asked where it stands.
        peers[position].probe(from: log.base.index.next)
        peers[position].isProbeSent = true
    }

    // MARK: Committing

    /// The highest value that a majority (while joint: of both sides) has reached.
    func quorumValue(_ value: (NodeID) -> UInt64) -> UInt64 {
        func reached(by side: [NodeID]) -> UInt64 {
            var best: UInt64 = 0
            for node in side {
                let candidate = value(node)
                guard candidate > best else { continue }
                var count = 0
                for other in side where value(other) >= candidate { count += 1 }
                if count > side.count / 2 { best = candidate }
            }
            return best
        }
        let current = reached(by: membership.voters)
        guard let incoming = membership.incoming else { return current }
        return min(current, reached(by: incoming))
    }

    /// Commits what a majority has durably.
    mutating func advanceCommit(_ effects: inout Effects) {
        guard isLeader else { return }
        let own = has(.applyBeforePersist) ? log.last.index : writes.durableIndex
        let reached = quorumValue { node in
            if node == id { return own.rawValue }
            return position(of: node).map { peers[$0].matched.rawValue } ?? 0
        }
        let index = LogIndex(rawValue: reached)
        // An entry of an earlier term on a majority can still be overwritten (figure 8).
        guard index > commitIndex, log.term(at: index) == term || has(.commitEarlierTermByCount) else { return }
        let freed = log.bytes(from: commitIndex.next, through: index)
        uncommittedBytes = uncommittedBytes > freed ? uncommittedBytes &- freed : 0
        advanceCommit(to: index, &effects)
        membershipCommitted(&effects)
        answerReads(&effects)
        handOver(&effects)
    }

    // MARK: Leadership transfer

    mutating func transferLeadership(to target: NodeID, _ effects: inout Effects) {
        guard isLeader else {
            effects.refusal = .notLeader(leader)
            return
        }
        guard target != id else { return }
        guard membership.isVoter(target), position(of: target) != nil else {
            effects.refusal = .invalid
            return
        }
        guard transfer == nil else {
            effects.refusal = .transferring
            return
        }
        noteTraffic(&effects)
        transfer = Transfer(target: target, deadline: now &+ configuration.electionTimeout.lowerBound)
        handOver(&effects)
    }

    /// Tells the target to campaign once it has everything, and everything is known here to be committed: whoever
    /// proposed it has an answer then.
    private mutating func handOver(_ effects: inout Effects) {
        guard isLeader, let transfer, !transfer.isAsked, let position = position(of: transfer.target),
            peers[position].matched == log.last.index, commitIndex == log.last.index
        else { return }
        self.transfer?.isAsked = true
        hasForfeitedLease = true
        effects.messages.append(message(to: transfer.target, .timeoutNow))
    }

    // MARK: Time

    mutating func tickLeader(_ effects: inout Effects) {
        if let transfer, now >= transfer.deadline { self.transfer = nil }
        if now >= quorumCheckDue {
            quorumCheckDue = now &+ configuration.electionTimeout.lowerBound
            guard membership.isQuorum({ node in node == id || position(of: node).map { peers[$0].isActive } == true })
            else { return becomeFollower(term, leader: nil, &effects) }
            for position in peers.indices { peers[position].isActive = false }
        }
        if now >= heartbeatDue, !peers.isEmpty, !fallQuiet(&effects) { startRound(&effects) }
    }
}
