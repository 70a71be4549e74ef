import Base

/// By what replicas and leaders are evened out. A row of weights: the planner knows no strategy by name.
/// Raw values are on disk: never renumber.
package enum PlacementStrategy: UInt8, CaseIterable, Hashable, Sendable {
    /// As many replicas and as many leaders on every node.
    case spread = 1
    /// As many bytes and as much work on every node.
    case leastLoaded = 2
    /// Replicas stay where they are; they move only for a loss, a drain or the replication factor.
    case sticky = 3

    package var row: Row {
        switch self {
        case .spread:
            Row(
                name: "spread", replica: Weights(count: 1024, bytes: 0, rate: 0),
                leader: Weights(count: 1024, bytes: 0, rate: 0), tolerancePercent: 0, evensOut: true)
        case .leastLoaded:
            Row(
                name: "least-loaded", replica: Weights(count: 128, bytes: 512, rate: 384),
                leader: Weights(count: 256, bytes: 0, rate: 768), tolerancePercent: 10, evensOut: true)
        case .sticky:
            Row(
                name: "sticky", replica: Weights(count: 1024, bytes: 0, rate: 0),
                leader: Weights(count: 1024, bytes: 0, rate: 0), tolerancePercent: 0, evensOut: false)
        }
    }

    /// The strategy of that name.
    package init?(named name: String) {
        guard let found = Self.allCases.first(where: { $0.row.name == name }) else { return nil }
        self = found
    }

    /// What one shard weighs, in 1024ths of the mean shard.
    package struct Weights: Hashable, Sendable {
        package let count: Int, bytes: Int, rate: Int
    }

    package struct Row: Hashable, Sendable {
        package let name: String
        package let replica: Weights, leader: Weights
        /// Two nodes differ enough to move something when it is by more than this share of the mean load: figures that
        /// are measured never stand still.
        package let tolerancePercent: Int
        /// Whether a replica moves or a leader changes only to even the load out.
        package let evensOut: Bool
    }
}

/// What an operator may set about placement.
package struct PlacementSettings: Hashable, Sendable {
    /// Voters of a shard; a cluster with fewer nodes has fewer.
    package var replicationFactor: Int
    package var strategy: PlacementStrategy
    /// How long a node may be down before its replicas are made anew elsewhere.
    package var replacementDelayMilliseconds: UInt64

    package static let replicationFactors = 1...9

    package init(
        replicationFactor: Int = 3, strategy: PlacementStrategy = .spread,
        replacementDelayMilliseconds: UInt64 = 300_000
    ) {
        self.replicationFactor = replicationFactor
        self.strategy = strategy
        self.replacementDelayMilliseconds = replacementDelayMilliseconds
    }
}
