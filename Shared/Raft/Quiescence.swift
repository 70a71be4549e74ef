import Base

/// Idle groups are silent: a node may hold thousands.
///
/// While quiet, nobody in the group notices the loss of its leader; the driver does, by its own liveness of whole
/// nodes, and says so with `.peerDown`.
extension RaftCore {
    /// Something is asked of this leader.
    mutating func noteTraffic(_ effects: inout Effects) {
        lastTraffic = now
        if isQuiescent { wakeUp(&effects) }
    }

    mutating func wakeUp(_ effects: inout Effects) {
        if !isLeader, membership.isOnlyVoter(id) { return campaign(&effects) }
        guard isQuiescent else { return }
        isQuiescent = false
        lastTraffic = now
        guard isLeader else { return resetElectionTimer() }
        quorumCheckDue = now &+ configuration.electionTimeout.lowerBound
        for position in peers.indices { peers[position].isActive = false }
        startRound(&effects)
    }

    mutating func peerDown(_ peer: NodeID, _ effects: inout Effects) {
        if isLeader { unreachable(peer) }
        if isLeader ? membership.contains(peer) : leader == peer { wakeUp(&effects) }
    }

    /// Falls quiet if nothing has been asked for a while and everybody, heard of lately, has everything. True if so.
    mutating func fallQuiet(_ effects: inout Effects) -> Bool {
        let last = log.last.index
        guard let pause = configuration.quiesceAfter, now &- min(now, lastTraffic) >= pause, commitIndex == last,
            writes.durableIndex == last, reads.isEmpty, transfer == nil, !membership.isJoint,
            peers.allSatisfy({
                $0.mode == .replicate && $0.matched == last && $0.rejoin == 0
                    && rounds.isRecent($0.answeredRound, at: now, configuration.electionTimeout.lowerBound)
            })
        else { return false }
        isQuiescent = true
        for peer in peers { effects.messages.append(heartbeat(to: peer, isQuiescing: true)) }
        return true
    }
}
