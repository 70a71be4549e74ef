import Base

/// Changing who belongs to the group.
extension RaftCore {
    /// A change of learners alone takes one entry; one of voters takes two, the joint membership and, once that is
    /// committed, the final one, which the leader proposes by itself. A target that is in force already does nothing.
    mutating func propose(_ target: Membership, _ effects: inout Effects) {
        guard isLeader else {
            effects.refusal = .notLeader(leader)
            return
        }
        guard transfer == nil else {
            effects.refusal = .transferring
            return
        }
        guard target.isWellFormed, !target.isJoint else {
            effects.refusal = .invalid
            return
        }
        guard target.version >= membership.version else {
            effects.refusal = .outdated
            return
        }
        guard hasOwnCommit, membershipIndex <= commitIndex, !membership.isJoint else {
            effects.refusal = .membershipInProgress
            return
        }
        guard target != membership else { return }
        noteTraffic(&effects)
        if target.voters == membership.voters || has(.membershipWithoutJoint) {
            appendMembership(target, &effects)
        } else {
            appendMembership(
                Membership(
                    voters: membership.voters, incoming: target.voters, learners: target.learners,
                    version: target.version), &effects)
        }
    }

    private mutating func appendMembership(_ next: Membership, _ effects: inout Effects) {
        var run = EntryRun(first: log.end)
        run.append(
            term: term, size: UInt32(truncatingIfNeeded: next.encoded().count), content: .configuration(next))
        appendOwn(run, &effects)
    }

    /// Puts the newest membership of the log in force.
    mutating func refreshMembership(_ effects: inout Effects) {
        let newest = log.membership(at: log.last.index)
        membershipIndex = newest.index
        guard newest.membership != membership else { return }
        membership = newest.membership
        effects.membership = membership
        guard isLeader else { return }
        peers.removeAll { !membership.contains($0.id) }
        let added = membership.everyone.filter { node in node != id && !peers.contains { $0.id == node } }
        guard !added.isEmpty else { return }
        // Who comes may have been here before and given its log up: then what it said is void, and may still be on its
        // way. A round that begins now tells the two apart.
        rounds.start(at: now)
        for node in added {
            var peer = PeerProgress(id: node, next: log.end)
            peer.firstTrustedRound = rounds.current
            peers.append(peer)
        }
    }

    /// The leader's next step when something was committed: out of the joint membership, or out of office.
    mutating func membershipCommitted(_ effects: inout Effects) {
        guard isLeader, membershipIndex <= commitIndex else { return }
        if membership.isJoint { return appendMembership(membership.final, &effects) }
        guard !membership.isVoter(id) else { return }
        // It leads the others no longer. The one that has most takes over at once; not being leader, it has no lease.
        let heir = peers.filter { membership.isVoter($0.id) }.max { $0.matched < $1.matched }
        if let heir { effects.messages.append(message(to: heir.id, .timeoutNow)) }
        becomeFollower(term, leader: nil, &effects)
    }
}
