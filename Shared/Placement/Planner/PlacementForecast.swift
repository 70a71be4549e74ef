import Base

/// What the planner would do from here if nothing else happened: for a dry run, and for progress.
package struct PlacementForecast: Hashable, Sendable {
    /// In the order in which they would be begun.
    package private(set) var moves: [PlacementMove] = []
    /// False when there are more than are counted.
    package private(set) var isComplete = true
    /// The shards at its end.
    package private(set) var shards: [PlannedShard]

    /// A forecast longer than this is cut: it is read by a person.
    package static let moveLimit = 4096

    package init(
        nodes: [PlannedNode], shards: [PlannedShard], settings: PlacementSettings,
        limits: PlacementLimits = PlacementLimits(), isRebalancing: Bool = false,
        moveLimit: Int = PlacementForecast.moveLimit
    ) {
        self.shards = shards
        for index in self.shards.indices { self.shards[index].succeed() }
        var place: [ShardID: Int] = [:]
        for (index, shard) in shards.enumerated() { place[shard.id] = index }
        while moves.count < moveLimit {
            let next = PlacementPlanner.plan(
                nodes: nodes, shards: self.shards, settings: settings, limits: limits, isRebalancing: isRebalancing)
            guard !next.isEmpty else { return }
            for move in next {
                moves.append(move)
                guard let index = place[move.shard] else { continue }
                do throws(DatabaseError) { try self.shards[index].membership.apply(move) } catch {
                    isComplete = false  // A plan that its own rules refuse: say no more than is known.
                    return
                }
                self.shards[index].succeed()
            }
        }
        isComplete = false
    }
}

extension PlannedShard {
    /// What is under way succeeds at once.
    fileprivate mutating func succeed() {
        isInForce = leader != nil
        caughtUp = Set(membership.learners)
        if let next = membership.transfer {
            leader = next
            membership.endTransfer()
        }
    }
}
