import Base

/// The rounds that a leader has opened, and when.
struct Rounds: Sendable {
    private static let kept = 64
    /// The newest round; every append and heartbeat carries it, and its answer repeats it.
    private(set) var current: UInt64 = 0
    private var times = [UInt64](repeating: 0, count: kept)

    mutating func start(at now: UInt64) {
        current &+= 1
        times[Int(current % UInt64(Self.kept))] = now
    }

    /// When the round was opened: before any message that carries it was sent. Nil if that is long ago.
    func time(of round: UInt64) -> UInt64? {
        guard round > 0, round <= current, current &- round < UInt64(Self.kept) else { return nil }
        return times[Int(round % UInt64(Self.kept))]
    }

    /// Whether the round was opened within the last `span`.
    func isRecent(_ round: UInt64, at now: UInt64, _ span: UInt64) -> Bool {
        time(of: round).map { now &- min($0, now) <= span } ?? false
    }
}

/// A read that waits for a majority to answer a round opened after it came.
struct WaitingRead: Sendable {
    var token: UInt64
    var round: UInt64
}

/// Heartbeats, leases and reads.
extension RaftCore {
    /// Asks everybody whether this replica still leads.
    mutating func startRound(_ effects: inout Effects) {
        rounds.start(at: now)
        heartbeatDue = now &+ configuration.heartbeatInterval
        for peer in peers { effects.messages.append(heartbeat(to: peer, isQuiescing: false)) }
        if peers.isEmpty { answerReads(&effects) }
    }

    func heartbeat(to peer: PeerProgress, isQuiescing: Bool) -> Message {
        let answer = peer.rejoin != 0 ? Message.Rejoin(nonce: peer.rejoin, commit: rejoinTarget(for: peer)) : nil
        let commit = has(.commitBeyondMatch) ? commitIndex : min(commitIndex, peer.matched)
        return message(
            to: peer.id,
            .heartbeat(.init(commit: commit, round: rounds.current, isQuiescing: isQuiescing, rejoin: answer)))
    }

    /// Whether an entry of this leader's term is committed: only then it knows all that is.
    var hasOwnCommit: Bool { commitIndex >= firstOwnIndex }

    mutating func noteAnswer(_ round: UInt64, _ position: Int, _ effects: inout Effects) {
        guard isLeader, peers.indices.contains(position), round <= rounds.current else { return }
        guard round > peers[position].answeredRound else { return }
        peers[position].answeredRound = round
        answerReads(&effects)
    }

    /// The newest round that a majority has answered.
    var quorumRound: UInt64 {
        quorumValue { node in
            if node == id { return rounds.current }
            return peers.first { $0.id == node }?.answeredRound ?? 0
        }
    }

    /// Whether reads of this leader that were made before `now` was sampled may be answered without asking anybody:
    /// nobody else can lead yet. False for anybody but a leader, without leases, and while leadership is handed over.
    package func leaseIsValid(at now: UInt64) -> Bool {
        guard isLeader, hasOwnCommit || has(.readBeforeOwnCommit), configuration.isLeaseOn, transfer == nil,
            !hasForfeitedLease
        else { return false }
        if membership.isOnlyVoter(id) { return true }
        guard let start = rounds.time(of: quorumRound) else { return false }
        return now < start &+ configuration.leaseDuration
    }

    mutating func readIndex(_ token: UInt64, _ effects: inout Effects) {
        guard isLeader else {
            effects.refusal = .notLeader(leader)
            return
        }
        if has(.readWithoutQuorum) {
            return effects.reads.append(ReadReady(token: token, index: commitIndex, isUnderLease: false))
        }
        noteTraffic(&effects)
        if leaseIsValid(at: now) {
            return effects.reads.append(ReadReady(token: token, index: commitIndex, isUnderLease: true))
        }
        guard reads.count < configuration.pendingReads else {
            effects.refusal = .busy
            return
        }
        // One round of reads at a time: those that come meanwhile share the next.
        let isRoundOpen = reads.contains { $0.round <= rounds.current }
        reads.append(WaitingRead(token: token, round: rounds.current &+ 1))
        if !isRoundOpen { startRound(&effects) }
    }

    /// Answers the reads whose round is through, and opens a round for those that came since.
    mutating func answerReads(_ effects: inout Effects) {
        guard isLeader, !reads.isEmpty, hasOwnCommit || has(.readBeforeOwnCommit) else { return }
        let reached = quorumRound
        var count = 0
        // The commit index of now is not older than that of when the read came.
        while count < reads.count, reads[count].round <= reached {
            effects.reads.append(ReadReady(token: reads[count].token, index: commitIndex, isUnderLease: false))
            count += 1
        }
        guard count > 0 else { return }
        reads.removeFirst(count)
        if let first = reads.first, first.round > rounds.current { startRound(&effects) }
    }
}
