import Base

/// A node as the planner sees it.
package struct PlannedNode: Hashable, Sendable {
    package let id: NodeID
    /// What fails together; the empty label is a zone like any other.
    package var zone: String
    /// Nil while it holds a lease.
    package var downMilliseconds: UInt64?
    /// It is to give up its replicas.
    package var isDraining: Bool

    package init(id: NodeID, zone: String = "", downMilliseconds: UInt64? = nil, isDraining: Bool = false) {
        self.id = id
        self.zone = zone
        self.downMilliseconds = downMilliseconds
        self.isDraining = isDraining
    }

    package var isUp: Bool { downMilliseconds == nil }
    /// May be given replicas and leadership.
    package var isEligible: Bool { isUp && !isDraining }
}

/// A shard as the planner sees it.
package struct PlannedShard: Hashable, Sendable {
    package let id: ShardID
    package var membership: ShardMembership
    package var leader: NodeID?
    /// The leader has said that the planned membership is in force.
    package var isInForce: Bool
    /// Learners that hold all but the newest entries.
    package var caughtUp: Set<NodeID>
    package var bytes: UInt64
    /// Invocations in a second.
    package var rate: UInt64

    package init(
        id: ShardID, membership: ShardMembership, leader: NodeID?, isInForce: Bool = true,
        caughtUp: Set<NodeID> = [], bytes: UInt64 = 0, rate: UInt64 = 0
    ) {
        self.id = id
        self.membership = membership
        self.leader = leader
        self.isInForce = isInForce
        self.caughtUp = caughtUp
        self.bytes = bytes
        self.rate = rate
    }
}

/// How much may be under way at once. Copies cost disk and network of nodes that serve at the same time.
package struct PlacementLimits: Hashable, Sendable {
    /// Shards whose replicas are changing.
    package var moves = 8
    /// Copies that one node takes in.
    package var movesPerNode = 2
    /// Changes of leader that are asked for.
    package var transfers = 16

    package init() {}
}
