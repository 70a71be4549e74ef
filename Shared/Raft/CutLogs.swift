import Base

/// Replicas whose logs were cut: at a start the log ended in bytes that are no whole record, and they were taken away.
///
/// Nearly always a power loss has torn what was never durable, and nothing is missing. But damage of the last write to
/// a log, which nothing later testifies to, looks the same, and then entries are gone that were acknowledged: telling
/// the two apart would take a second sync for every write. So every cut is treated as if it had lost entries, and
/// nothing else: the driver lets a vote, a term or a membership count as durable only when a later record that
/// testifies to it is durable too. Then damage of it is found, and refused. **Votes are never forgotten; entries may
/// be.**
///
/// From a cut on, over any number of starts, until it has caught up, such a replica takes part like this:
///
/// 1. It votes, and stands for election, with what log it has left, and says with its vote that it was cut.
/// 2. An election is won by a majority of replicas that were not cut, or by *all* voters, cut or not; while the
///    membership is joint, on both sides. The candidate's vote for itself is no exception, nor are pre-votes.
/// 3. It acknowledges entries to a leader that knows of the cut, hence counts nothing that was acknowledged before it.
/// 4. It asks its leader how far it must catch up. The leader answers with its commit index after a majority has
///    answered a round that was opened after the question. Once it has that durably, it is like the others. A leader
///    that was cut itself is, once it has an entry of its own term, committed and durable.
///
/// Why that is safe. One leader per term: all voters are a majority too, two majorities share a voter, and no voter
/// forgets its vote. Read rounds and leases rest on votes alone, so the answers of cut replicas count in them.
///
/// A leader has every entry e that was committed in a term before its own, provided that one of the replicas that
/// acknowledged e still has it. Suppose that a candidate lacks e, and is the first to win without it. If all voters
/// have voted for it, one of those that acknowledged e has done so: a majority of the candidate's membership has
/// acknowledged e, or the change of membership that the candidate lacks as well (which then stands for e here). Whoever
/// of them still has it has the longer log and refuses. If a majority that was not cut has voted for it, one of those
/// has acknowledged e, and we need that it has e when it votes:
///
/// - It was not cut since: then it has it.
/// - It was cut since, and has caught up with a leader of term m. If m is below the term of e, then the majority that
///   answered the round (4) and the one that elected the leader of e share a voter, which had voted in the higher term
///   before e came to be, and nevertheless answered in the lower one after that: no. If m is the term of e: that leader
///   has e; either e was committed when it answered, and is below its commit index, or it can be committed only by an
///   acknowledgement of after the cut. If m is higher: this leader was elected before the first one without e, so it
///   has e below the first entry of its own term, and its commit index is not below that one.
///
/// The last case wants e in the log of a leader that was elected before e was committed, when the acknowledgements for
/// it were under way already: they were given before their givers voted in term m, so of a majority of them that has
/// voted, each had e; and a vote that was given after a cut counts only beside all the others.
///
/// What is not covered: entries that everybody has lost who had acknowledged them. With one damaged disk of three there
/// is always another one; a store that is ahead of its log refuses candidates that end below it.
extension RaftCore {
    /// A cut replica is told by its leader that it knows, and how far to catch up.
    mutating func noteRejoin(_ heartbeat: Message.Heartbeat) {
        guard rejoin != 0, let answer = heartbeat.rejoin, answer.nonce == rejoin else { return }
        isKnownCut = true
        if answer.commit > .zero { rejoinTarget = max(rejoinTarget ?? .zero, answer.commit) }
    }

    /// A cut replica is like the others again once it durably has what it must have.
    mutating func checkRejoin(_ effects: inout Effects) {
        guard let target = isLeader ? firstOwnIndex : rejoinTarget, commitIndex >= target,
            writes.durableIndex >= target
        else { return }
        rejoin = 0
        rejoinTarget = nil
        isKnownCut = false
        effects.isWhole = true
    }

    /// What a leader knows of the log of a peer is void when that was cut. Answers of the peer's earlier life are told
    /// by their round.
    mutating func noteRejoin(_ reply: Message.HeartbeatReply, _ position: Int, _ effects: inout Effects) {
        guard reply.rejoin != peers[position].rejoin else { return }
        if reply.rejoin != 0 {
            peers[position].rejoin = reply.rejoin
            peers[position].matched = .zero
            peers[position].probe(from: log.end)
            peers[position].firstTrustedRound = rounds.current &+ 1
            startRound(&effects)
        } else if reply.round >= peers[position].firstTrustedRound {
            peers[position].rejoin = 0
        }
    }

    /// What this leader answers to a peer whose log was cut; zero until it knows that it still led after the question.
    func rejoinTarget(for peer: PeerProgress) -> LogIndex {
        hasOwnCommit && quorumRound >= peer.firstTrustedRound ? commitIndex : .zero
    }
}
