import Base

/// Moves that are not needed, only better. They touch shards that are whole: every voter up and staying, nothing under
/// way.
extension PlacementPlanner {
    private func isWhole(_ shard: PlannedShard) -> Bool {
        let voters = shard.membership.voters
        return !busy.contains(shard.id) && voters.count == target(shard) && voters.allSatisfy(isEligible)
    }

    // MARK: Zones

    /// Moves a replica out of a zone that holds two more of its shard than another could.
    mutating func spreadOverZones() {
        let places = Dictionary(grouping: nodeIDs.filter(isEligible)) { nodes[$0]?.zone ?? "" }
        guard places.count > 1 else { return }
        for shard in shards where movesLeft > 0 && isWhole(shard) {
            if let (from, to) = betterZone(for: shard, places) { begin(shard, on: to, replacing: from) }
        }
    }

    private func betterZone(for shard: PlannedShard, _ places: [String: [NodeID]]) -> (NodeID, NodeID)? {
        let voters = shard.membership.voters
        var inZone: [String: Int] = [:]
        for voter in voters { inZone[nodes[voter]?.zone ?? "", default: 0] += 1 }
        guard let most = inZone.values.max(), most > 1 else { return nil }
        let free = places.filter { inZone[$0.key, default: 0] + 2 <= most }.values.joined()
            .filter { !voters.contains($0) && takesMore($0) }
        let to = free.min {
            (zoneMates($0, voters), loads.replica($0), $0) < (zoneMates($1, voters), loads.replica($1), $1)
        }
        let from = voters.filter { zoneMates($0, voters) + 1 == most }
            .max { wornness($0, shard) < wornness($1, shard) }
        guard let from, let to else { return nil }
        return (from, to)
    }

    /// The leader stays if another may go; else the node that carries most gives.
    private func wornness(_ node: NodeID, _ shard: PlannedShard) -> (Int, Int, NodeID) {
        (node == shard.leader ? 0 : 1, loads.replica(node), node)
    }

    // MARK: Replicas

    /// Moves replicas from the node that carries most to the one that carries least, for as long as that narrows the
    /// difference between the two and no shard gets closer together in its zones.
    mutating func evenReplicasOut() {
        let places = nodeIDs.filter(isEligible)
        guard movesLeft > 0, places.count > 1 else { return }
        var onNode: [NodeID: [PlannedShard]] = [:]
        for shard in shards where isWhole(shard) {
            for voter in shard.membership.voters { onNode[voter, default: []].append(shard) }
        }
        let percent = isRebalancing ? 0 : row.tolerancePercent
        let tolerance = loads.tolerance(among: places.count, isLeaders: false, percent: percent)
        while movesLeft > 0, let (shard, from, to) = bestExchange(places, onNode, tolerance) {
            begin(shard, on: to, replacing: from)
        }
    }

    private func bestExchange(
        _ places: [NodeID], _ onNode: [NodeID: [PlannedShard]], _ tolerance: Int
    ) -> (PlannedShard, NodeID, NodeID)? {
        let ascending = places.sorted { (loads.replica($0), $0) < (loads.replica($1), $1) }
        for from in ascending.reversed() {
            for to in ascending where takesMore(to) {
                let gap = loads.replica(from) - loads.replica(to)
                guard gap > tolerance else { break }
                if let shard = bestShard(onNode[from] ?? [], from, to, gap, tolerance) { return (shard, from, to) }
            }
        }
        return nil
    }

    /// The shard whose move narrows the gap most; among equals not one that `from` leads, and the first.
    private func bestShard(
        _ candidates: [PlannedShard], _ from: NodeID, _ to: NodeID, _ gap: Int, _ tolerance: Int
    ) -> PlannedShard? {
        var best: (shard: PlannedShard, key: (Int, Int))?
        for shard in candidates where !busy.contains(shard.id) && !shard.membership.voters.contains(to) {
            let weight = loads.weight(shard)
            guard gap > weight + tolerance else { continue }
            let rest = shard.membership.voters.filter { $0 != from }
            guard zoneMates(to, rest) <= zoneMates(from, rest) else { continue }
            let key = (weight * (gap - weight), shard.leader == from ? 0 : 1)
            if best == nil || best.map({ $0.key < key }) == true { best = (shard, key) }
        }
        return best?.shard
    }

    // MARK: Leaders

    /// Hands leadership from the node that leads most to a voter that leads least, for as long as that narrows the
    /// difference.
    mutating func evenLeadersOut() {
        let percent = isRebalancing ? 0 : row.tolerancePercent
        let places = nodeIDs.filter(isEligible)
        let tolerance = loads.tolerance(among: places.count, isLeaders: true, percent: percent)
        var led: [NodeID: [PlannedShard]] = [:]
        for shard in shards where !busy.contains(shard.id) {
            if let leader = shard.leader, isEligible(leader) { led[leader, default: []].append(shard) }
        }
        while transfersLeft > 0, let (shard, from, to) = bestHandover(places, led, tolerance) {
            transfer(shard, from: from, to: to)
        }
    }

    private func bestHandover(
        _ places: [NodeID], _ led: [NodeID: [PlannedShard]], _ tolerance: Int
    ) -> (PlannedShard, NodeID, NodeID)? {
        let ascending = places.sorted { (loads.leader($0), $0) < (loads.leader($1), $1) }
        for from in ascending.reversed() {
            for to in ascending {
                let gap = loads.leader(from) - loads.leader(to)
                guard gap > tolerance else { break }
                let shard = (led[from] ?? []).first { shard in
                    !busy.contains(shard.id) && shard.membership.voters.contains(to)
                        && gap > loads.leaderWeight(shard) + tolerance
                }
                if let shard { return (shard, from, to) }
            }
        }
        return nil
    }
}
