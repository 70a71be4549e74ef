import Base
import Contracts
import Net
import Placement

/// Lets the planner look at the cluster as it is, and makes commands of the steps it proposes. Loop-confined.
///
/// What it knows beyond the state (reports, how long nodes have been down, that an operator wants to rebalance) is gone
/// with a restart or a fail-over, so it waits for as long as a lease lasts before it plans: by then every node that
/// lives has said what it holds.
package final class PlacementDirector {
    private let loop: EventLoop
    private let ledger: CommandLedger
    private let logger: Logger
    /// On the loop's clock: not before this.
    private var begin: UInt64
    private let patience: UInt64
    private var downSince: [NodeID: UInt64] = [:]
    private var isRoundDue = false
    /// What the nodes said last.
    package private(set) var reports = ReplicaReports()
    /// An operator wants the load evened out; until it is.
    package private(set) var isRebalancing = false

    /// Steps that are counted for a description; a longer way is not shown exactly.
    private static let descriptionLimit = 256

    init(loop: EventLoop, ledger: CommandLedger, patienceMilliseconds: UInt64, logger: Logger) {
        self.loop = loop
        self.ledger = ledger
        self.logger = logger
        patience = patienceMilliseconds &* 1_000_000
        begin = loop.now &+ patience
    }

    /// This coordinator leads from now on.
    func takeOver() {
        giveUp()
        begin = loop.now &+ patience
    }

    /// Somebody else leads and plans.
    func giveUp() {
        reports = ReplicaReports()
        downSince = [:]
        isRebalancing = false
    }

    // MARK: What nodes say

    /// Takes what a node says of its replicas; only what is new about leaders becomes a command.
    func take(_ reports: [ReplicaReport], from node: NodeID) {
        self.reports.take(reports, from: node)
        let news = reports.filter(\.isLeader)
            .map { LeaderReport(shard: $0.shard, leader: node, term: $0.term, version: $0.version) }
            .filter(ledger.state.isNews)
        guard !news.isEmpty else { return }
        ledger.submit(.reportLeaders(news)) { [logger] result in
            guard case .failure(let error) = result else { return }
            logger.error("leaders not noted", ["node": .count(node.rawValue), "error": .describing(error)])
        }
        roundSoon()
    }

    /// The node is down.
    func forget(_ node: NodeID) { reports.forget(node) }

    // MARK: Planning

    /// Plans with what comes in this tick, instead of when the period is over.
    func roundSoon() {
        guard !isRoundDue, mayPlan else { return }
        isRoundDue = true
        loop.schedule(afterMilliseconds: 0) { [weak self] in self?.round() }
    }

    private var mayPlan: Bool { ledger.isLeading && ledger.state.replicaLimit > 1 && loop.now >= begin }

    /// Asks the planner once and submits what it proposes.
    func round() {
        isRoundDue = false
        guard ledger.isLeading else { return }
        noteWhoIsDown()
        guard mayPlan else { return }
        let shards = ledger.state.plannedShards(reports)
        let moves = PlacementPlanner.plan(
            nodes: nodes, shards: shards, settings: settings, isRebalancing: isRebalancing)
        for move in moves { submit(move) }
        if isRebalancing, moves.isEmpty, shards.allSatisfy({ $0.isInForce && $0.membership.move == nil }) {
            isRebalancing = false
            logger.info("rebalanced")
        }
    }

    private func submit(_ move: PlacementMove) {
        let (shard, node, step) = (move.shard.rawValue, move.node.rawValue, move.name)
        ledger.submit(.move(move)) { [logger] result in
            switch result {
            case .success:
                logger.info(
                    "placement step", ["step": .text(step), "shard": .count(shard), "node": .count(node)])
            case .failure(let error):
                logger.warning(
                    "placement step refused",
                    [
                        "step": .text(step), "shard": .count(shard), "node": .count(node),
                        "error": .describing(error),
                    ])
            }
        }
    }

    private func noteWhoIsDown() {
        let down = Set(ledger.state.downNodes)
        downSince = downSince.filter { down.contains($0.key) }
        for node in down where downSince[node] == nil { downSince[node] = loop.now }
    }

    private var nodes: [PlannedNode] {
        ledger.state.plannedNodes { [loop, downSince] node in (loop.now &- (downSince[node] ?? loop.now)) / 1_000_000 }
    }

    /// As set, within what the nodes can keep.
    private var settings: PlacementSettings {
        var settings = ledger.state.settings
        settings.replicationFactor = min(settings.replicationFactor, ledger.state.replicaLimit)
        return settings
    }

    // MARK: Operators

    /// What evening out takes from here; unless it is a dry run it begins.
    func rebalance(isDryRun: Bool) throws(DatabaseError) -> PlacementForecast {
        guard ledger.state.replicaLimit > 1 else {
            throw DatabaseError(
                .featureNotSupported, "the storage nodes of this release cannot hand replicas over: nothing can move")
        }
        guard nodes.count(where: \.isEligible) > 1 else {
            throw DatabaseError(.busy, "fewer than two nodes are up and may hold replicas: there is nowhere to move to")
        }
        let forecast = forecast(limit: PlacementForecast.moveLimit, isRebalancing: true)
        if !isDryRun {
            isRebalancing = true
            roundSoon()
        }
        return forecast
    }

    private func forecast(limit: Int, isRebalancing: Bool) -> PlacementForecast {
        PlacementForecast(
            nodes: nodes, shards: ledger.state.plannedShards(reports), settings: settings,
            isRebalancing: isRebalancing, moveLimit: limit)
    }

    /// For `Describe`.
    var description: PlacementDescription {
        let state = ledger.state
        let left =
            state.replicaLimit > 1
            ? forecast(limit: Self.descriptionLimit, isRebalancing: isRebalancing).moves.count : 0
        return PlacementDescription(
            replicationFactor: UInt32(clamping: state.settings.replicationFactor),
            replicaLimit: UInt32(clamping: state.replicaLimit), strategy: state.settings.strategy.row.name,
            replacementDelayMilliseconds: state.settings.replacementDelayMilliseconds,
            movesLeft: UInt32(clamping: left), isRebalancing: isRebalancing)
    }
}

extension PlacementMove {
    /// For logs.
    fileprivate var name: String {
        switch self {
        case .addReplica: "add replica"
        case .promote: "promote"
        case .removeReplica: "remove replica"
        case .keepReplica: "keep replica"
        case .transferLeader: "transfer leadership"
        }
    }
}

extension RebalanceResponse.Move {
    fileprivate init(_ kind: UInt32, _ move: PlacementMove, replacing: NodeID? = nil) {
        self.init(
            kind: kind, shard: move.shard.rawValue, node: move.node.rawValue, replacing: replacing?.rawValue ?? 0)
    }

    /// The wire form of a step.
    init(_ move: PlacementMove) {
        switch move {
        case .addReplica(_, _, let replacing): self.init(1, move, replacing: replacing)
        case .promote(_, _, let replacing): self.init(2, move, replacing: replacing)
        case .removeReplica: self.init(3, move)
        case .keepReplica: self.init(4, move)
        case .transferLeader: self.init(5, move)
        }
    }
}
