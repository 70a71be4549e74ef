import Simulation
import Testing

/// A few whole clusters; `scripts/test simulate` runs a thousand.
struct ClusterSimulationTests {
    @Test(arguments: FaultProfile.allCases) func keepTheirPromises(profile: FaultProfile) {
        let report = ClusterSimulation(seed: 1, profile: profile).run()
        #expect(report.violation == nil, "scripts/simulate 1 --profile \(profile)")
        #expect(report.virtualNanoseconds >= 60_000_000_000 && report.elections >= 3 && report.faults >= 5)
    }

    @Test func mostSeedsMixAllFaultsAndSomeEachOfTheOthers() {
        let profiles = (1...1000 as ClosedRange<UInt64>).map { FaultProfile(seed: $0) }
        for profile in FaultProfile.allCases {
            let count = profiles.count { $0 == profile }
            #expect(profile == .mixed ? count > 600 : count > 20, "\(profile): \(count)")
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
    @Test(arguments: [
        "skipTruncateOnConflict", "snapshotForgetsTerm", "replyBeforeCommit", "keepActivations",
        "commitEarlierTermByCount", "leaseWithoutFencing", "ackBeforeHardState", "readBeforeOwnCommit",
        "readWithoutQuorum",
    ])
    func plantedBugsAreFound(name: String) throws {
        let bug = try #require(ClusterBug(name: name))
        let found = (1...4 as ClosedRange<UInt64>).contains {
            ClusterSimulation(seed: $0, bug: bug, profile: bug.profile).run().violation != nil
        }
        #expect(found, "\(name) goes unnoticed")
    }
}
