import Base

/// Which steps come next, from the cluster as it is. Pure and without memory: everything it knows is in its input.
///
///     continue what is under way   promote a copy that is complete, drop one that is not wanted any more,
///                                  take replicas away where there are too many
///     hand leadership over         from nodes that drain, and to even leaders out
///     begin what is needed         replace what is lost or draining, add what is missing
///     begin what is better         spread a shard over more zones, then even the load out
///
/// Why it ends: a needed copy makes a shard's need go away. A copy for the better lowers first the number of replicas
/// that share a zone and then the sum of squared loads, both counted as if what is under way had ended; neither can
/// fall for ever. A measured load has to differ by a tolerance, because it never stands still.
///
/// Why it is safe: a shard takes one step at a time, and only when the one before is in force, its leader is up and so
/// is a quorum, of the voters before the step as well as after it.
package struct PlacementPlanner: Sendable {
    let settings: PlacementSettings
    let limits: PlacementLimits
    let row: PlacementStrategy.Row
    /// Evening out is wished for now, whatever the strategy.
    let isRebalancing: Bool
    let nodes: [NodeID: PlannedNode]
    /// In order of id, so that equal input gives equal plans.
    let nodeIDs: [NodeID]
    let shards: [PlannedShard]
    /// As if everything under way had ended.
    var loads: PlannedLoads
    /// Copies that a node is taking in.
    var incoming: [NodeID: Int] = [:]
    /// Shards whose replicas are changing; they and those that take a step now are left alone.
    var busy: Set<ShardID> = []
    var movesLeft: Int
    var transfersLeft: Int
    private(set) var plan: [PlacementMove] = []

    /// The next steps; none when the cluster is as it should be, or nothing can be done yet.
    package static func plan(
        nodes: [PlannedNode], shards: [PlannedShard], settings: PlacementSettings,
        limits: PlacementLimits = PlacementLimits(), isRebalancing: Bool = false
    ) -> [PlacementMove] {
        var planner = PlacementPlanner(nodes, shards, settings, limits, isRebalancing)
        planner.run()
        return planner.plan
    }

    private init(
        _ nodes: [PlannedNode], _ shards: [PlannedShard], _ settings: PlacementSettings, _ limits: PlacementLimits,
        _ isRebalancing: Bool
    ) {
        self.settings = settings
        self.limits = limits
        self.isRebalancing = isRebalancing
        row = settings.strategy.row
        self.nodes = Dictionary(nodes.map { ($0.id, $0) }, uniquingKeysWith: { first, _ in first })
        nodeIDs = self.nodes.keys.sorted()
        self.shards = shards.sorted { $0.id < $1.id }
        loads = PlannedLoads(self.shards, row)
        movesLeft = limits.moves
        transfersLeft = limits.transfers
    }

    private mutating func run() {
        for shard in shards {
            for learner in shard.membership.learners { incoming[learner, default: 0] += 1 }
            let isChanging = shard.membership.move != nil || !shard.isInForce
            // A shard that cannot change holds nobody else up.
            if isChanging, canDecide(shard) { movesLeft -= 1 }
            if isChanging || !canDecide(shard) { busy.insert(shard.id) }
            if shard.membership.transfer != nil {
                busy.insert(shard.id)
                transfersLeft -= 1
            }
        }
        for shard in shards where shard.isInForce && canDecide(shard) && shard.membership.transfer == nil {
            if let step = continuation(of: shard) { take(step) }
        }
        leaveDrainingLeaders()
        beginRepairs()
        if row.evensOut || isRebalancing {
            spreadOverZones()
            evenReplicasOut()
            evenLeadersOut()
        }
    }

    mutating func take(_ step: PlacementMove) {
        plan.append(step)
        busy.insert(step.shard)
    }

    // MARK: What is true of nodes and shards

    func isUp(_ node: NodeID) -> Bool { nodes[node]?.isUp ?? false }

    func isEligible(_ node: NodeID) -> Bool { nodes[node]?.isEligible ?? false }

    func isDraining(_ node: NodeID) -> Bool { nodes[node]?.isDraining ?? false }

    /// Down for so long that its replicas are made anew. A node that is not known any more never comes back.
    func isLost(_ node: NodeID) -> Bool {
        guard let node = nodes[node] else { return true }
        return node.downMilliseconds.map { $0 >= settings.replacementDelayMilliseconds } ?? false
    }

    func hasQuorum(_ voters: [NodeID]) -> Bool {
        voters.count(where: isUp) >= ShardMembership.quorum(voters.count)
    }

    /// Its leader can be asked for a change, and the change would be decided.
    private func canDecide(_ shard: PlannedShard) -> Bool {
        shard.leader.map { isUp($0) && shard.membership.voters.contains($0) } ?? false
            && hasQuorum(shard.membership.voters)
    }

    /// How many voters a shard is to have: the replication factor, or what nodes there are. A node that is down keeps
    /// its place, for it may come back; one that drains does not.
    func target(_ shard: PlannedShard) -> Int {
        let places = nodeIDs.count { node in
            !isDraining(node) && (!isLost(node) || shard.membership.voters.contains(node))
        }
        return min(settings.replicationFactor, max(1, places))
    }

    /// Pairs of members that share a zone with `node`, itself left out.
    func zoneMates(_ node: NodeID, _ members: some Sequence<NodeID>) -> Int {
        let zone = nodes[node]?.zone
        return members.count { $0 != node && nodes[$0]?.zone == zone }
    }

    // MARK: Continuing

    private func continuation(of shard: PlannedShard) -> PlacementMove? {
        let membership = shard.membership
        if let learner = membership.learners.first { return conclusion(of: shard, learner) }
        if let leaving = membership.move?.replacing {
            if isStillWanted(leaving, shard) { return .keepReplica(shard.id, leaving) }
            if let step = removal(of: leaving, from: shard) { return step }
            // Nobody could lead without it, or too few would be left, because what came with the newcomer went again,
            // and none is too many. The move ends here, so that a repair can bring a replica that makes up for it.
            if membership.voters.count <= target(shard) { return .keepReplica(shard.id, leaving) }
        }
        // The worst goes: one that is lost or drains, else one whose zone has others; the leader last. It may be the
        // newcomer itself, when its node began to drain before the other could leave.
        guard membership.voters.count > target(shard), let victim = leastWanted(of: shard) else { return nil }
        return removal(of: victim, from: shard)
    }

    /// It was to leave, but by now the shard needs more replicas than it has.
    private func isStillWanted(_ leaving: NodeID, _ shard: PlannedShard) -> Bool {
        let places = shard.membership.voters.count
        return isEligible(leaving)
            && (shard.membership.learners.isEmpty ? places <= target(shard) : places < target(shard))
    }

    /// What becomes of a copy that is being made.
    private func conclusion(of shard: PlannedShard, _ learner: NodeID) -> PlacementMove? {
        let membership = shard.membership
        let replaced = membership.move?.replacing.flatMap { isStillWanted($0, shard) ? nil : $0 }
        // Its node is gone or going, or the replication factor was lowered: another copy is begun if one is needed.
        guard isEligible(learner), replaced != nil || membership.voters.count < target(shard) else {
            return .removeReplica(shard.id, learner)
        }
        guard shard.caughtUp.contains(learner) else { return nil }
        if let replaced, replaced == shard.leader {
            if let heir = heir(of: shard, without: replaced) { return .transferLeader(shard.id, to: heir) }
            // Nobody else could lead: the newcomer gets its vote first, then leads, then the other leaves.
            return hasQuorum(membership.voters + [learner]) ? .promote(shard.id, learner, replacing: nil) : nil
        }
        let after = membership.voters.filter { $0 != replaced } + [learner]
        return hasQuorum(after) ? .promote(shard.id, learner, replacing: replaced) : nil
    }

    private func removal(of victim: NodeID, from shard: PlannedShard) -> PlacementMove? {
        let rest = shard.membership.voters.filter { $0 != victim }
        guard !rest.isEmpty, hasQuorum(rest) else { return nil }
        guard victim == shard.leader else { return .removeReplica(shard.id, victim) }
        return heir(of: shard, without: victim).map { .transferLeader(shard.id, to: $0) }
    }

    /// The voter without which a shard that has too many is best off.
    private func leastWanted(of shard: PlannedShard) -> NodeID? {
        let voters = shard.membership.voters
        return voters.max { left, right in
            let (a, b) = (badness(left, shard), badness(right, shard))
            return a == b ? left < right : a.lexicographicallyPrecedes(b)
        }
    }

    private func badness(_ node: NodeID, _ shard: PlannedShard) -> [Int] {
        [
            isLost(node) ? 1 : 0, isDraining(node) ? 1 : 0, isUp(node) ? 0 : 1,
            zoneMates(node, shard.membership.voters), node == shard.leader ? 0 : 1, loads.replica(node),
        ]
    }

    /// Who should lead when `leader` does not: up, not draining, with the least to lead.
    func heir(of shard: PlannedShard, without leader: NodeID) -> NodeID? {
        shard.membership.voters.filter { $0 != leader && isEligible($0) }
            .min { (loads.leader($0), $0) < (loads.leader($1), $1) }
    }

    // MARK: Repairs

    /// A node that drains leads nothing, long before its replicas have left it.
    private mutating func leaveDrainingLeaders() {
        for shard in shards where shard.isInForce && shard.membership.transfer == nil && transfersLeft > 0 {
            guard let leader = shard.leader, isDraining(leader), canDecide(shard),
                !plan.contains(where: { $0.shard == shard.id }), let heir = heir(of: shard, without: leader)
            else { continue }
            transfer(shard, from: leader, to: heir)
        }
    }

    mutating func transfer(_ shard: PlannedShard, from leader: NodeID, to heir: NodeID) {
        take(.transferLeader(shard.id, to: heir))
        transfersLeft -= 1
        loads.lead(shard, from: leader, to: heir)
    }

    private struct Repair {
        let shard: PlannedShard
        let replacing: NodeID?
        /// Voters that may still be lost, then how grave it is.
        let urgency: [Int]
    }

    private mutating func beginRepairs() {
        guard movesLeft > 0 else { return }
        var repairs = shards.compactMap { busy.contains($0.id) ? nil : repair(of: $0) }
        repairs.sort { $0.urgency.lexicographicallyPrecedes($1.urgency) }
        for repair in repairs where movesLeft > 0 {
            let rest = repair.shard.membership.voters.filter { $0 != repair.replacing }
            if let node = bestPlace(for: repair.shard, beside: rest) {
                begin(repair.shard, on: node, replacing: repair.replacing)
            }
        }
    }

    private func repair(of shard: PlannedShard) -> Repair? {
        let voters = shard.membership.voters
        let spare = voters.count(where: isUp) - ShardMembership.quorum(voters.count)
        let id = Int(shard.id.rawValue)
        if let lost = voters.first(where: isLost) {
            return Repair(shard: shard, replacing: lost, urgency: [spare, 0, id])
        }
        if voters.count < target(shard) {
            return Repair(shard: shard, replacing: nil, urgency: [spare, 1, id])
        }
        // The leader leaves last: one hand-over instead of several.
        let draining = voters.filter { isDraining($0) && $0 != shard.leader } + voters.filter(isDraining)
        return draining.first.map { Repair(shard: shard, replacing: $0, urgency: [spare, 2, id]) }
    }

    /// The node that shares a zone with the fewest of `rest` and carries least. Nil when there is none, or the good
    /// ones take in as many copies as they may: it is better to wait than to settle in the wrong zone.
    private func bestPlace(for shard: PlannedShard, beside rest: [NodeID]) -> NodeID? {
        let members = Set(shard.membership.members)
        let places = nodeIDs.filter { isEligible($0) && !members.contains($0) }
        guard let fewest = places.map({ zoneMates($0, rest) }).min() else { return nil }
        return places.filter { zoneMates($0, rest) == fewest && takesMore($0) }
            .min { (loads.replica($0), $0) < (loads.replica($1), $1) }
    }

    func takesMore(_ node: NodeID) -> Bool { incoming[node, default: 0] < limits.movesPerNode }

    mutating func begin(_ shard: PlannedShard, on node: NodeID, replacing: NodeID?) {
        take(.addReplica(shard.id, node, replacing: replacing))
        movesLeft -= 1
        incoming[node, default: 0] += 1
        loads.move(shard, from: replacing, to: node)
    }
}
