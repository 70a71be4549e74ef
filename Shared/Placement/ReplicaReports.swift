import Base

/// What a node says of one of its replicas, with each renewal of its lease.
package struct ReplicaReport: Hashable, Sendable {
    package var shard: ShardID
    package var term: Term
    /// Whether it leads the shard in that term.
    package var isLeader: Bool
    /// From a leader: the newest version of the planned membership that is in force.
    package var version: UInt64
    package var applied: LogIndex
    package var committed: LogIndex
    package var bytes: UInt64
    /// Invocations in a second.
    package var rate: UInt64

    package init(
        shard: ShardID, term: Term, isLeader: Bool, version: UInt64, applied: LogIndex, committed: LogIndex,
        bytes: UInt64, rate: UInt64
    ) {
        self.shard = shard
        self.term = term
        self.isLeader = isLeader
        self.version = version
        self.applied = applied
        self.committed = committed
        self.bytes = bytes
        self.rate = rate
    }

    /// Replicas of which one renewal may speak.
    package static let limit = PlacementState.Limits.shards
}

/// The newest report of every replica. Not durable: a coordinator that starts again waits for the next ones.
package struct ReplicaReports: Sendable {
    private struct Entry {
        var report: ReplicaReport
        /// What it had committed at its report before this one, if it led then as now.
        var committedBefore: LogIndex?
    }

    private var entries: [NodeID: [ShardID: Entry]] = [:]

    package init() {}

    /// Takes all that a node says; what it does not mention it does not hold.
    package mutating func take(_ reports: [ReplicaReport], from node: NodeID) {
        var fresh: [ShardID: Entry] = [:]
        for report in reports.prefix(ReplicaReport.limit) {
            let before = entries[node]?[report.shard]?.report
            let isSameReign = report.isLeader && before?.isLeader == true && before?.term == report.term
            fresh[report.shard] = Entry(report: report, committedBefore: isSameReign ? before?.committed : nil)
        }
        entries[node] = fresh
    }

    /// The node is down: what it said is not so any more.
    package mutating func forget(_ node: NodeID) { entries[node] = nil }

    /// The newest report of a replica.
    package subscript(shard: ShardID, node: NodeID) -> ReplicaReport? { entries[node]?[shard]?.report }

    /// Whether a replica has all that the leader had committed at its report before the last: what it lacks is the work
    /// of moments, and its vote will not be waited for.
    package func isCaughtUp(_ node: NodeID, _ shard: ShardID, leader: NodeID?) -> Bool {
        guard let leader, let before = entries[leader]?[shard]?.committedBefore,
            let applied = self[shard, node]?.applied
        else { return false }
        return applied >= before
    }

    /// All reports, in order of shard and node.
    package var all: [(node: NodeID, report: ReplicaReport)] {
        entries.flatMap { node, replicas in replicas.values.map { (node, $0.report) } }
            .sorted { ($0.report.shard, $0.node) < ($1.report.shard, $1.node) }
    }
}
