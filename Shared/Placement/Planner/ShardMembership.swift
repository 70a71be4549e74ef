import Base

/// One step of placement, small enough to be safe by itself.
///
/// A move of a replica is a chain of these: a learner is added and copies the shard, it is promoted when it has caught
/// up, and in the same change of the Raft group the replica that it replaces leaves.
package enum PlacementMove: Hashable, Sendable {
    /// The node begins to copy the shard, without a vote. `replacing` leaves when the copy is complete.
    case addReplica(ShardID, NodeID, replacing: NodeID?)
    /// The learner becomes a voter; `replacing` leaves in the same (joint) change.
    case promote(ShardID, NodeID, replacing: NodeID?)
    /// The node is not to hold the shard any more.
    case removeReplica(ShardID, NodeID)
    /// The replica that was to leave stays, because the shard needs more by now.
    case keepReplica(ShardID, NodeID)
    /// The leader hands over to another voter.
    case transferLeader(ShardID, to: NodeID)

    package var shard: ShardID {
        switch self {
        case .addReplica(let shard, _, _), .promote(let shard, _, _), .removeReplica(let shard, _),
            .keepReplica(let shard, _), .transferLeader(let shard, _):
            shard
        }
    }

    /// The node that gains or loses by it.
    package var node: NodeID {
        switch self {
        case .addReplica(_, let node, _), .promote(_, let node, _), .removeReplica(_, let node),
            .keepReplica(_, let node), .transferLeader(_, let node):
            node
        }
    }
}

/// A move of a replica that is under way: why there is a learner, and who leaves in the end.
package struct ReplicaMove: Hashable, Sendable {
    package let adding: NodeID
    package let replacing: NodeID?

    package init(adding: NodeID, replacing: NodeID?) {
        self.adding = adding
        self.replacing = replacing
    }
}

/// Who is to hold a shard. The nodes make it so one step after the other; what is in force the leader reports.
///
/// Invariants: no node is named twice; there is at most one learner, so that each change of the group is one safe
/// step; a move names its learner, or a voter that is still to be removed.
package struct ShardMembership: Hashable, Sendable {
    /// In the order in which they came; empty only before the first share-out.
    package private(set) var voters: [NodeID]
    package private(set) var learners: [NodeID]
    package private(set) var move: ReplicaMove?
    /// Who is asked to lead next; nil when nobody is asked.
    package private(set) var transfer: NodeID?

    /// Voters of one shard; more only slow it down.
    package static let voterLimit = 16

    package init(voters: [NodeID] = []) {
        self.voters = voters
        learners = []
    }

    /// From parts, as a log or a peer has them; nil when they contradict each other.
    package init?(voters: [NodeID], learners: [NodeID], move: ReplicaMove?, transfer: NodeID?) {
        self.voters = voters
        self.learners = learners
        self.move = move
        self.transfer = transfer
        guard isConsistent else { return nil }
    }

    private var isConsistent: Bool {
        guard voters.count <= Self.voterLimit, learners.count <= 1, Set(members).count == members.count else {
            return false
        }
        if let move {
            guard members.contains(move.adding), move.replacing.map(voters.contains) ?? true,
                move.replacing != move.adding, learners.contains(move.adding) || move.replacing != nil
            else { return false }
        }
        return (learners.isEmpty || move != nil) && (transfer.map(voters.contains) ?? true)
    }

    /// Voters, then learners.
    package var members: [NodeID] { voters + learners }

    /// Where the replicas are when what is under way has ended.
    package var settledMembers: [NodeID] { members.filter { $0 != move?.replacing } }

    /// Voters without which nothing is decided.
    package static func quorum(_ voters: Int) -> Int { voters / 2 + 1 }

    /// Takes a step of this shard, or refuses it and stays as it is.
    package mutating func apply(_ step: PlacementMove) throws(DatabaseError) {
        var next = self
        switch step {
        case .addReplica(_, let node, let replacing):
            guard !members.contains(node) else { throw Self.refusal("node \(node) holds it already") }
            guard move == nil else { throw Self.refusal("a replica of it is being moved") }
            guard replacing.map(voters.contains) ?? true else { throw Self.refusal("nobody is to be replaced") }
            next.learners = [node]
            next.move = ReplicaMove(adding: node, replacing: replacing)
        case .promote(_, let node, let replacing):
            guard learners.contains(node) else { throw Self.refusal("node \(node) is no learner of it") }
            guard replacing == nil || replacing == move?.replacing else {
                throw Self.refusal("another replica is to leave")
            }
            next.learners = []
            next.voters = voters.filter { $0 != replacing } + [node]
        case .removeReplica(_, let node):
            guard members.contains(node) else { throw Self.refusal("node \(node) does not hold it") }
            guard voters != [node] else { throw Self.refusal("node \(node) holds its only voter") }
            next.voters.removeAll { $0 == node }
            next.learners.removeAll { $0 == node }
        case .keepReplica(_, let node):
            guard learners.isEmpty, move?.replacing == node else { throw Self.refusal("node \(node) was not to leave") }
            next.move = nil
        case .transferLeader(_, let node):
            guard voters.contains(node) else { throw Self.refusal("node \(node) is no voter of it") }
            next.transfer = node
        }
        next.forgetWhatIsDone()
        guard next.isConsistent else { throw Self.refusal("it would have too many replicas") }
        self = next
    }

    /// The leader is who it was to be, or cannot become it: nobody is asked any more.
    package mutating func endTransfer() { transfer = nil }

    private mutating func forgetWhatIsDone() {
        if let transfer, !voters.contains(transfer) { self.transfer = nil }
        guard let move else { return }
        let isLeaving = move.replacing.map(voters.contains) ?? false
        if learners.contains(move.adding) {
            // Who was to be replaced is gone by another way: the newcomer replaces nobody.
            if !isLeaving, move.replacing != nil { self.move = ReplicaMove(adding: move.adding, replacing: nil) }
        } else if !isLeaving || !voters.contains(move.adding) {
            self.move = nil
        }
    }

    private static func refusal(_ why: String) -> DatabaseError { DatabaseError(.invalidArgument, "the shard: \(why)") }
}
