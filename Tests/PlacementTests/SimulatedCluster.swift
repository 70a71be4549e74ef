import Base
import Placement
import Testing

/// Nodes that come, go, die and drain, and shards whose leaders carry out what is planned, late and in any order.
/// What must hold at every step is checked as it happens.
struct SimulatedCluster {
    var random: SplitMix64
    var settings: PlacementSettings
    let limits = PlacementLimits()
    private(set) var nodes: [PlannedNode] = []
    private(set) var shards: [PlannedShard] = []
    private(set) var taken: [PlacementMove] = []
    private(set) var violations: [String] = []
    private let zones: Int

    init(seed: UInt64, nodes: Int, shards: Int, zones: Int, settings: PlacementSettings) {
        random = SplitMix64(seed: seed)
        self.settings = settings
        self.zones = zones
        for _ in 0..<nodes { join() }
        for id in 0..<shards {
            // As bad as can be: everything on the first nodes.
            let voters = self.nodes.prefix(min(settings.replicationFactor, nodes)).map(\.id)
            self.shards.append(
                PlannedShard(
                    id: ShardID(rawValue: UInt32(id)), membership: ShardMembership(voters: Array(voters)),
                    leader: voters.first, bytes: random.next(below: 1 << 30), rate: random.next(below: 10_000)))
        }
    }

    // MARK: What happens to it

    mutating func join() {
        let id = NodeID(rawValue: UInt32(nodes.count + 1))
        nodes.append(PlannedNode(id: id, zone: zones == 0 ? "" : "zone-\(nodes.count % zones)"))
    }

    mutating func change(_ index: Int, _ body: (inout PlannedNode) -> Void) {
        body(&nodes[index])
        let gone = Set(nodes.filter { !$0.isEligible }.map(\.id))
        for shard in shards.indices where shards[shard].membership.transfer.map(gone.contains) == true {
            shards[shard].membership.endTransfer()
        }
    }

    /// One fault or its end. One node is down at a time, or everything would stand still.
    mutating func meddle() {
        let index = Int(random.next(below: UInt64(nodes.count)))
        switch random.next(below: 8) {
        case 0 where nodes.count < 20: join()
        case 1 where nodes.count(where: { !$0.isUp }) == 0: change(index) { $0.downMilliseconds = 0 }
        case 2, 3:
            for other in nodes.indices where !nodes[other].isUp { change(other) { $0.downMilliseconds = nil } }
        case 4 where nodes.count(where: \.isDraining) < nodes.count / 2: change(index) { $0.isDraining = true }
        case 5: change(index) { $0.isDraining = false }
        default: break
        }
    }

    mutating func calm() {
        for index in nodes.indices where !nodes[index].isUp { change(index) { $0.downMilliseconds = nil } }
    }

    /// Time passes: leaders are elected, copies go on, changes come into force. Each with a probability of a half.
    mutating func live(milliseconds: UInt64) {
        for index in nodes.indices {
            nodes[index].downMilliseconds = nodes[index].downMilliseconds.map { $0 + milliseconds }
        }
        for index in shards.indices where hasQuorum(shards[index].membership.voters) && random.oneIn(2) {
            var shard = shards[index]
            if !(shard.leader.map { isUp($0) && shard.membership.voters.contains($0) } ?? false) {
                shard.leader = shard.membership.voters.filter(isUp).randomElement(using: &random)
            }
            shard.isInForce = true
            for learner in shard.membership.learners where isUp(learner) && random.oneIn(3) {
                shard.caughtUp.insert(learner)
            }
            if let next = shard.membership.transfer, isUp(next) {
                shard.leader = next
                shard.membership.endTransfer()
            }
            shards[index] = shard
        }
    }

    // MARK: The planner's turn

    /// Plans and carries out; returns how many steps there were.
    @discardableResult
    mutating func plan(isRebalancing: Bool = false) -> Int {
        let moves = PlacementPlanner.plan(
            nodes: nodes, shards: shards, settings: settings, limits: limits, isRebalancing: isRebalancing)
        if Set(moves.map(\.shard)).count != moves.count { violations.append("two steps of one shard: \(moves)") }
        for move in moves { take(move) }
        let changing = shards.count { shard in
            shard.membership.move != nil && hasQuorum(shard.membership.voters) && shard.leader.map(isUp) ?? false
        }
        let begun = moves.contains { if case .addReplica = $0 { true } else { false } }
        if begun, changing > limits.moves { violations.append("\(changing) moves at once") }
        taken += moves
        return moves.count
    }

    private mutating func take(_ move: PlacementMove) {
        let index = Int(move.shard.rawValue)
        let before = shards[index].membership
        do throws(DatabaseError) { try shards[index].membership.apply(move) } catch {
            violations.append("\(move) refused: \(error.message)")
            return
        }
        let after = shards[index].membership
        if !shards[index].isInForce { violations.append("\(move) before the last step was in force") }
        if !hasQuorum(before.voters) || !hasQuorum(after.voters) { violations.append("\(move) below quorum") }
        if before.voters != after.voters || before.learners != after.learners { shards[index].isInForce = false }
        switch move {
        case .addReplica(_, let node, _):
            if !isEligible(node) { violations.append("\(move): not a node to go to") }
            shards[index].caughtUp.remove(node)
        case .promote(_, let node, let replacing):
            if !shards[index].caughtUp.contains(node) { violations.append("\(move) before it has caught up") }
            if replacing == shards[index].leader { violations.append("\(move) takes the leader away") }
        case .removeReplica(_, let node):
            if node == shards[index].leader { violations.append("\(move) takes the leader away") }
        case .keepReplica: break
        case .transferLeader(_, let node):
            if !isEligible(node) { violations.append("\(move): not a node to lead") }
        }
        let upBefore = before.voters.count(where: isUp), upAfter = after.voters.count(where: isUp)
        let fewer = before.voters.count > after.voters.count
        let isForced = before.voters.count > settings.replicationFactor || nodes.contains { $0.isDraining }
        if fewer, upAfter < upBefore, !isForced { violations.append("\(move) gives a good replica up") }
    }

    // MARK: What is true of it

    func node(_ id: NodeID) -> PlannedNode { nodes[Int(id.rawValue) - 1] }
    func isUp(_ id: NodeID) -> Bool { node(id).isUp }
    func isEligible(_ id: NodeID) -> Bool { node(id).isEligible }

    func hasQuorum(_ voters: [NodeID]) -> Bool {
        voters.count(where: isUp) >= voters.count / 2 + 1
    }

    var replicas: [Int] {
        nodes.filter(\.isEligible).map { node in shards.count { $0.membership.voters.contains(node.id) } }
    }

    var leaders: [Int] { nodes.filter(\.isEligible).map { node in shards.count { $0.leader == node.id } } }

    /// Runs until nothing is proposed and nothing is under way; false when that takes too long.
    mutating func settle(rounds: Int, isRebalancing: Bool = false) -> Bool {
        for _ in 0..<rounds {
            let steps = plan(isRebalancing: isRebalancing)
            let isQuiet = shards.allSatisfy {
                $0.isInForce && $0.membership.move == nil && $0.membership.transfer == nil
            }
            if steps == 0, isQuiet { return true }
            live(milliseconds: 1000)
        }
        return false
    }

    /// What is wrong with a cluster that has settled.
    func complaints() -> [String] {
        let places = nodes.filter(\.isEligible)
        let target = min(settings.replicationFactor, max(1, places.count))
        var found = violations
        var zoneSizes: [String: Int] = [:]
        for place in places { zoneSizes[place.zone, default: 0] += 1 }
        for shard in shards {
            let voters = shard.membership.voters
            if !shard.membership.learners.isEmpty { found.append("shard \(shard.id) has a learner") }
            guard !places.isEmpty else { continue }
            if voters.count != target { found.append("shard \(shard.id) has \(voters.count) voters, not \(target)") }
            if voters.contains(where: { !isEligible($0) }) { found.append("shard \(shard.id) is where it must not be") }
            if !(shard.leader.map(isEligible) ?? false) { found.append("shard \(shard.id) has a bad leader") }
            // No zone that has a free node may lag two behind another, unless replicas stay where they are.
            guard settings.strategy != .sticky else { continue }
            var inZone: [String: Int] = [:]
            for voter in voters { inZone[node(voter).zone, default: 0] += 1 }
            for (zone, size) in zoneSizes where inZone[zone, default: 0] < size {
                if (inZone.values.max() ?? 0) >= inZone[zone, default: 0] + 2 {
                    found.append("shard \(shard.id) crowds in a zone")
                }
            }
        }
        return found
    }
}
