import Base

/// When the leases of nodes end, on the coordinator's monotonic clock. Time comes in as a value.
///
/// It is not durable: a coordinator that starts again grants every holder a full lease from then on. That errs on the
/// safe side, because a node counts from the moment it *sent* its request and so never believes longer than we do.
package struct LeaseTable: Sendable {
    /// How long a lease lasts from its grant or renewal.
    package let durationNanoseconds: UInt64
    private var leases: [NodeID: (fencingToken: UInt64, deadline: UInt64)] = [:]

    package init(durationNanoseconds: UInt64) { self.durationNanoseconds = durationNanoseconds }

    /// Begins or prolongs the lease of a registration; the state machine has checked the token.
    package mutating func extend(_ node: NodeID, _ fencingToken: UInt64, now: UInt64) {
        leases[node] = (fencingToken, now &+ durationNanoseconds)
    }

    /// Forgets the lease, if it is still that registration's.
    package mutating func end(_ node: NodeID, _ fencingToken: UInt64) {
        if leases[node]?.fencingToken == fencingToken { leases[node] = nil }
    }

    /// Leases that have ended by `now`, in order of node. They stay until `end`, so that none is lost if the command
    /// fails.
    package func expired(now: UInt64) -> [(node: NodeID, fencingToken: UInt64)] {
        leases.filter { $0.value.deadline <= now }.map { ($0.key, $0.value.fencingToken) }.sorted { $0.0 < $1.0 }
    }

    /// How long each running lease still lasts, in order of node.
    package func remaining(now: UInt64) -> [(node: NodeID, nanoseconds: UInt64)] {
        leases.map { ($0.key, $0.value.deadline > now ? $0.value.deadline - now : 0) }.sorted { $0.0 < $1.0 }
    }

    /// When the next lease ends, nil without leases.
    package var nextDeadline: UInt64? { leases.values.map(\.deadline).min() }
}
