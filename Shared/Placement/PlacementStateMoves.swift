import Base

/// What changes who holds and who leads a shard, once it was shared out.
extension PlacementState {
    mutating func setDraining(_ id: NodeID, _ isDraining: Bool) throws(DatabaseError) -> [PlacementEvent] {
        guard let node = nodes[id] else { throw DatabaseError(.noSuchKey, "node \(id) is not registered") }
        guard node.isDraining != isDraining else { return [] }
        let held = shards.count { $0.membership.members.contains(id) }
        if isDraining, held > 0 {
            guard replicaLimit > 1 else {
                throw DatabaseError(
                    .featureNotSupported,
                    "node \(id) holds \(held) shards, and the storage nodes of this release cannot hand replicas over")
            }
            guard nodes.contains(where: { $0.key != id && !$0.value.isDraining }) else {
                throw DatabaseError(.busy, "node \(id) holds \(held) shards, and no other node could take them")
            }
        }
        nodes[id]?.isDraining = isDraining
        if isDraining { endTransfers(to: id) }
        return [changeMap()]
    }

    mutating func configure(_ settings: PlacementSettings) throws(DatabaseError) -> [PlacementEvent] {
        guard PlacementSettings.replicationFactors.contains(settings.replicationFactor) else {
            throw DatabaseError(
                .invalidArgument, "a shard has 1 to \(PlacementSettings.replicationFactors.upperBound) replicas")
        }
        self.settings = settings
        return []
    }

    mutating func allowReplicas(_ limit: Int) throws(DatabaseError) -> [PlacementEvent] {
        guard (1...ShardMembership.voterLimit).contains(limit) else {
            throw DatabaseError(.invalidArgument, "a shard has 1 to \(ShardMembership.voterLimit) replicas")
        }
        replicaLimit = max(replicaLimit, limit)
        return []
    }

    /// Takes what leaders say, each by itself: of several terms the highest holds, and what was in force stays so.
    mutating func note(_ reports: [LeaderReport]) -> [PlacementEvent] {
        let before = shards
        for report in reports {
            // Shards are in order of id, and their ids are their places.
            let index = Int(report.shard.rawValue)
            guard index < shards.count, isNews(report, of: shards[index]) else { continue }
            shards[index].leader = report.leader
            shards[index].term = report.term
            shards[index].versionInForce = max(shards[index].versionInForce, report.version)
            if shards[index].membership.transfer == report.leader { shards[index].membership.endTransfer() }
        }
        return shards == before ? [] : [changeMap()]
    }

    /// Whether a report may be believed. Two leaders of one term, or one that is to hold no vote, cannot be: they are
    /// late, or not of this cluster.
    private func isNews(_ report: LeaderReport, of shard: Shard) -> Bool {
        guard shard.id == report.shard, shard.membership.voters.contains(report.leader),
            report.version <= shard.version
        else { return false }
        if report.term == shard.term { return shard.leader == nil || shard.leader == report.leader }
        return report.term > shard.term
    }

    /// Whether a report would change anything: only then is it worth an entry of the log.
    package func isNews(_ report: LeaderReport) -> Bool {
        let index = Int(report.shard.rawValue)
        guard index < shards.count, isNews(report, of: shards[index]) else { return false }
        let shard = shards[index]
        return shard.leader != report.leader || shard.term != report.term || shard.versionInForce < report.version
            || shard.membership.transfer == report.leader
    }

    mutating func plan(_ move: PlacementMove) throws(DatabaseError) -> [PlacementEvent] {
        let index = Int(move.shard.rawValue)
        guard index < shards.count, shards[index].id == move.shard else {
            throw DatabaseError(.invalidArgument, "there is no shard \(move.shard)")
        }
        guard replicaLimit > 1 else {
            throw DatabaseError(.featureNotSupported, "the storage nodes of this release cannot hand replicas over")
        }
        guard nodes[move.node] != nil else { throw DatabaseError(.noSuchKey, "node \(move.node) is not registered") }
        guard shards[index].version == shards[index].versionInForce else {
            throw DatabaseError(.busy, "the last change of shard \(move.shard) is not in force yet")
        }
        var membership = shards[index].membership
        let before = membership.members
        let learners = membership.learners
        try membership.apply(move)
        guard membership.voters.count <= replicaLimit else {
            throw DatabaseError(.limitExceeded, "a shard has at most \(replicaLimit) replicas")
        }
        if let leader = shards[index].leader, !membership.voters.contains(leader) {
            throw DatabaseError(.busy, "node \(leader) leads shard \(move.shard): it hands over first")
        }
        shards[index].membership = membership
        if membership.members != before || membership.learners != learners { shards[index].version &+= 1 }
        return [.movePlanned(move), changeMap()]
    }

    /// Nobody is asked to lead who cannot.
    mutating func endTransfers(to node: NodeID) {
        for index in shards.indices where shards[index].membership.transfer == node {
            shards[index].membership.endTransfer()
        }
    }

    /// The planner's view of the shards, with what is known of them only now.
    package func plannedShards(_ reports: ReplicaReports) -> [PlannedShard] {
        shards.map { shard in
            let load = shard.leader.flatMap { reports[shard.id, $0] }
            return PlannedShard(
                id: shard.id, membership: shard.membership, leader: shard.leader,
                isInForce: shard.version == shard.versionInForce,
                caughtUp: Set(
                    shard.membership.learners.filter { reports.isCaughtUp($0, shard.id, leader: shard.leader) }),
                bytes: load?.bytes ?? 0, rate: load?.rate ?? 0)
        }
    }

    /// The planner's view of the nodes; `downMilliseconds` says how long each has been down.
    package func plannedNodes(_ downMilliseconds: (NodeID) -> UInt64) -> [PlannedNode] {
        nodes.map { id, node in
            PlannedNode(
                id: id, zone: node.zone, downMilliseconds: node.state == .up ? nil : downMilliseconds(id),
                isDraining: node.isDraining)
        }.sorted { $0.id < $1.id }
    }
}
