import Base

/// What nodes carry, by a strategy's weights: 1024 is the mean shard. Counted as if what is under way had ended.
struct PlannedLoads: Sendable {
    private let row: PlacementStrategy.Row
    private let meanBytes: UInt64
    private let meanRate: UInt64
    private var replicas: [NodeID: Int] = [:]
    private var leaders: [NodeID: Int] = [:]

    init(_ shards: [PlannedShard], _ row: PlacementStrategy.Row) {
        self.row = row
        let count = UInt64(max(1, shards.count))
        // Figures come from peers: sums must not overflow.
        meanBytes = max(1, shards.reduce(0) { $0 &+ $1.bytes / count })
        meanRate = max(1, shards.reduce(0) { $0 &+ $1.rate / count })
        for shard in shards {
            for node in shard.membership.settledMembers { replicas[node, default: 0] += weight(shard) }
            if let leader = shard.membership.transfer ?? shard.leader {
                leaders[leader, default: 0] += leaderWeight(shard)
            }
        }
    }

    func replica(_ node: NodeID) -> Int { replicas[node] ?? 0 }

    func leader(_ node: NodeID) -> Int { leaders[node] ?? 0 }

    /// What one replica of the shard weighs; at least 1, so that every move changes something.
    func weight(_ shard: PlannedShard) -> Int { weight(shard, row.replica) }

    func leaderWeight(_ shard: PlannedShard) -> Int { weight(shard, row.leader) }

    private func weight(_ shard: PlannedShard, _ weights: PlacementStrategy.Weights) -> Int {
        max(
            1,
            weights.count + Self.part(weights.bytes, shard.bytes, meanBytes)
                + Self.part(weights.rate, shard.rate, meanRate))
    }

    /// `weight` × figure ÷ mean, in sixteenths of the mean; a shard of more than 65 536 means weighs like one of those.
    private static func part(_ weight: Int, _ figure: UInt64, _ mean: UInt64) -> Int {
        guard weight > 0 else { return 0 }
        return Int(min(figure / max(1, mean / 16), 1 << 20)) * weight / 16
    }

    /// How far two nodes must differ beyond what is moved.
    func tolerance(among nodes: Int, isLeaders: Bool, percent: Int) -> Int {
        let total = (isLeaders ? leaders : replicas).values.reduce(0, &+)
        return total / max(1, nodes) / 100 * percent
    }

    mutating func move(_ shard: PlannedShard, from: NodeID?, to: NodeID) {
        replicas[to, default: 0] += weight(shard)
        if let from { replicas[from, default: 0] -= weight(shard) }
    }

    mutating func lead(_ shard: PlannedShard, from: NodeID, to: NodeID) {
        leaders[to, default: 0] += leaderWeight(shard)
        leaders[from, default: 0] -= leaderWeight(shard)
    }
}
