import Simulation
import TestKit
import Testing

/// A few whole clusters; `scripts/test simulate` runs a thousand.
struct ClusterSimulationTests {
    @Test func keepTheirPromises() {
        let first = freshSeed("cluster simulation") >> 16
        for seed in first..<first + 3 {
            let report = ClusterSimulation(seed: seed).run()
            #expect(report.violation == nil, "scripts/simulate \(seed)")
            #expect(report.virtualNanoseconds >= 60_000_000_000 && report.elections >= 3 && report.faults >= 5)
        }
    }

    @Test func aSeedReplays() {
        for seed in 1...2 as ClosedRange<UInt64> {
            let first = ClusterSimulation(seed: seed).run(steps: 8000)
            let second = ClusterSimulation(seed: seed).run(steps: 8000)
            #expect(first.digest == second.digest && first.acknowledged == second.acknowledged)
            #expect(ClusterSimulation(seed: seed + 1).run(steps: 8000).digest != first.digest)
        }
    }

    /// Those that show within a few seeds; `orbit-simulate bugs` looks for all.
    @Test(arguments: ["skipTruncateOnConflict", "snapshotForgetsTerm", "replyBeforeCommit", "keepActivations"])
    func plantedBugsAreFound(name: String) throws {
        let bug = try #require(ClusterBug(name: name))
        let found = (1...4 as ClosedRange<UInt64>).contains {
            ClusterSimulation(seed: $0, bug: bug).run().violation != nil
        }
        #expect(found, "\(name) goes unnoticed")
    }
}
