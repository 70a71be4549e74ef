import Base
import Raft
import TestKit

/// Bugs that can be planted in a cluster, to prove that the checkers find them: Raft's own, and those of what drives
/// it and stands on it.
package enum ClusterBug: Hashable, Sendable, CustomStringConvertible {
    case raft(Int)
    case driver(DriverBug)

    /// Mistakes outside the core.
    package enum DriverBug: String, CaseIterable, Hashable, Sendable {
        /// The log reports batches as durable when they are written.
        case acknowledgeBeforeSync
        /// The log is cut to what was applied, not to what the store has flushed.
        case truncateToApplied
        /// A write is answered when it is proposed, not when it is committed.
        case replyBeforeCommit
        /// Actors stay in memory when leadership is lost, and are used when it comes back.
        case keepActivations
        /// A read under a lease is answered without asking whether the lease still runs.
        case staleLeaseSample
        /// Whether a request was executed before is not remembered.
        case forgetSessions
    }

    /// All of them, Raft's first.
    package static var catalog: [ClusterBug] {
        PlantedBugs.catalog.indices.map { .raft($0) } + DriverBug.allCases.map { .driver($0) }
    }

    package init?(name: String) {
        guard let bug = Self.catalog.first(where: { $0.description == name }) else { return nil }
        self = bug
    }

    package var description: String {
        switch self {
        case .raft(let index): PlantedBugs.catalog[index].name
        case .driver(let bug): bug.rawValue
        }
    }

    var planted: PlantedBugs {
        switch self {
        case .raft(let index): PlantedBugs.catalog[index].bug
        case .driver: []
        }
    }
}

/// What the seed decides before a cluster starts.
struct ClusterPlan {
    /// Machines; three or five of them vote at first, the others wait to be asked.
    var machines: Int
    var voters: Int
    var shards: Int
    var keys: Int
    var clients: Int
    /// Actors: the leader evaluates against pending state, and entries are effects. Otherwise entries are commands,
    /// and every replica evaluates them when it applies them, as the coordinator does.
    var hasActors: Bool
    var isLeaseOn: Bool
    /// How far a clock may be off true time, in parts per million; with leases it keeps the clock assumption.
    var clockRate: UInt64
    var conditions: VirtualNetwork.Conditions
    var segmentBytes: Int
    var retainedBytes: UInt64
    var cacheBytes: Int
    var thinkNanoseconds: UInt64
    /// Entries of one append: few, so that what belongs together is torn apart.
    var appendEntries: Int

    /// 10 % is what the configuration allows between two clocks.
    static let clockRateWithLeases: UInt64 = 45_000

    init(_ random: inout SplitMix64) {
        voters = random.oneIn(4) ? 5 : 3
        machines = voters + Int(random.next(below: 2)) + (random.oneIn(3) ? 1 : 0)
        shards = random.oneIn(4) ? 2 : 1
        keys = 4 + Int(random.next(below: 6))
        clients = 4 + Int(random.next(below: 4))
        hasActors = !random.oneIn(3)
        isLeaseOn = !random.oneIn(3)
        // Without leases nothing is assumed.
        clockRate = isLeaseOn ? Self.clockRateWithLeases : 400_000
        conditions = VirtualNetwork.Conditions()
        conditions.minimumNanoseconds = 50_000
        conditions.maximumNanoseconds = [300_000, 2_000_000, 20_000_000][Int(random.next(below: 3))]
        conditions.dropPermille = random.oneIn(2) ? 0 : random.next(below: 20)
        conditions.duplicatePermille = random.oneIn(2) ? 0 : random.next(below: 20)
        conditions.slowPermille = random.oneIn(2) ? 0 : random.next(below: 10)
        conditions.isOrdered = random.oneIn(3)
        segmentBytes = [8192, 32768][Int(random.next(below: 2))]
        retainedBytes = random.oneIn(2) ? 2048 : 32768
        cacheBytes = random.oneIn(2) ? 1024 : 1 << 20
        appendEntries = random.oneIn(2) ? 1 + Int(random.next(below: 3)) : 4096
        thinkNanoseconds = 40_000_000 + random.next(below: 160_000_000)
    }

    func configuration(_ bug: ClusterBug?) -> RaftConfiguration {
        var configuration = RaftConfiguration(id: NodeID(rawValue: 0), seed: 0)
        configuration.isLeaseOn = isLeaseOn
        configuration.appendEntries = appendEntries
        configuration.plantedBugs = bug?.planted ?? []
        return configuration
    }
}

/// How a run of a cluster ended, and what it went through.
package struct ClusterReport: Sendable {
    /// What is wrong; nil when the run was clean.
    package var violation: String?
    package var steps = 0
    /// True time, in nanoseconds.
    package var virtualNanoseconds: UInt64 = 0
    package var elections = 0
    package var faults = 0
    package var acknowledged = 0
    package var refused = 0
    package var unknown = 0
    package var crashes = 0
    package var powerLosses = 0
    package var pauses = 0
    package var partitions = 0
    package var diskFaults = 0
    package var cutLogs = 0
    package var snapshots = 0
    package var memberships = 0
    package var transfers = 0
    /// Schedules that were played to their end.
    package var schedules = 0
    package var undecided = 0
    /// Of everything that happened in its order: two runs of a seed must agree.
    package var digest: UInt64 = 0

    mutating func add(_ other: ClusterReport) {
        steps += other.steps
        virtualNanoseconds &+= other.virtualNanoseconds
        for path in Self.counters { self[keyPath: path.1] += other[keyPath: path.1] }
    }

    nonisolated(unsafe) private static let counters: [(String, WritableKeyPath<ClusterReport, Int>)] = [
        ("elections", \.elections), ("faults", \.faults), ("acknowledged", \.acknowledged), ("refused", \.refused),
        ("unknown outcomes", \.unknown), ("crashes", \.crashes), ("power losses", \.powerLosses),
        ("pauses", \.pauses), ("partitions", \.partitions), ("disk faults", \.diskFaults), ("cut logs", \.cutLogs),
        ("snapshots", \.snapshots), ("memberships", \.memberships), ("transfers", \.transfers),
        ("schedules", \.schedules), ("undecided histories", \.undecided),
    ]

    var summary: String {
        let counts = Self.counters.map { "\(self[keyPath: $0.1]) \($0.0)" }
        return "\(virtualNanoseconds / 1_000_000_000) virtual seconds, " + counts.joined(separator: ", ")
    }

    /// What a long run must have met and has not.
    var unexercised: String? {
        Self.counters.dropLast().first { self[keyPath: $0.1] == 0 }?.0
    }
}
