import Base

/// How a leader sees one of its peers.
package struct PeerStatus: Hashable, Sendable {
    /// How entries get to it.
    package enum Mode: Hashable, Sendable {
        /// One append at a time, until it is known where the logs match.
        case probe
        /// Appends are sent ahead of their acknowledgements.
        case replicate
        /// It needs entries that the log no longer has; a snapshot is on its way.
        case snapshot
    }

    package var id: NodeID
    package var mode: Mode
    /// The peer's durable log equals the leader's up to here.
    package var matched: LogIndex
    /// It has answered within the last election timeout.
    package var isActive: Bool

    package init(id: NodeID, mode: Mode, matched: LogIndex, isActive: Bool) {
        self.id = id
        self.mode = mode
        self.matched = matched
        self.isActive = isActive
    }
}

/// A replica for people and for placement.
package struct RaftStatus: Hashable, Sendable {
    /// What it is doing.
    package enum Role: String, Hashable, Sendable { case follower, preCandidate, candidate, leader }

    package var role: Role
    package var term: Term
    package var leader: NodeID?
    package var last: EntryID
    package var commit: LogIndex
    package var membership: Membership
    package var mayVote: Bool
    package var isQuiescent: Bool
    /// On a leader, everybody else; else empty.
    package var peers: [PeerStatus]
}
