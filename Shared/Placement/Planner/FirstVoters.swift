import Base

extension PlacementPlanner {
    /// Who holds the shards of a new cluster. First voters follow the order of shards, so that neighbours lie together
    /// and nodes differ by one; the others lie where a shard shares no zone, and then where there is least.
    static func firstVoters(shards: Int, zones: [NodeID: String], replicas: Int) -> [[NodeID]] {
        let ids = zones.keys.sorted()
        guard !ids.isEmpty else { return Array(repeating: [], count: shards) }
        var voters = (0..<shards).map { [ids[$0 * ids.count / shards]] }
        var counts: [NodeID: Int] = [:]
        for first in voters.joined() { counts[first, default: 0] += 1 }
        for _ in 1..<max(1, min(replicas, ids.count)) {
            for shard in voters.indices {
                func cost(_ node: NodeID) -> (Int, Int, NodeID) {
                    (voters[shard].count { zones[$0] == zones[node] }, counts[node, default: 0], node)
                }
                guard let next = ids.filter({ !voters[shard].contains($0) }).min(by: { cost($0) < cost($1) }) else {
                    continue
                }
                voters[shard].append(next)
                counts[next, default: 0] += 1
            }
        }
        return voters
    }
}
