import Simulation
import TestKit
import Testing

struct ShardSimulationTests {
    @Test func loseNothing() {
        let first = freshSeed("shard simulation") >> 16
        for seed in first..<first + 10 {
            let report = ShardSimulation(seed: seed).run(steps: 300)
            #expect(report.violation == nil, "scripts/simulate \(seed) --steps 300")
        }
    }

    @Test func aSeedReplays() {
        for seed in 1...2 as ClosedRange<UInt64> {
            let first = ShardSimulation(seed: seed).run(steps: 300)
            let second = ShardSimulation(seed: seed).run(steps: 300)
            #expect(first.acknowledged == second.acknowledged && first.recoveries == second.recoveries)
            #expect(first.faults == second.faults && first.cuts == second.cuts)
        }
    }

    /// Whoever breaks a rule on purpose is found out, within few seeds.
    @Test(arguments: PlantedBug.allCases) func plantedBugsAreFound(bug: PlantedBug) {
        let found = (1...60 as ClosedRange<UInt64>).contains {
            ShardSimulation(seed: $0, bug: bug).run(steps: 300).violation != nil
        }
        #expect(found, "\(bug.rawValue) goes unnoticed")
    }
}
