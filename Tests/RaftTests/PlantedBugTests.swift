import Base
import Foundation
import Raft
import TestKit
import Testing

/// The tests are tested: every planted bug must be found. Each has a scenario that shows it, which ScenarioTests keeps
/// true; those that need no rare coincidence are found by random schedules too.
@Suite("Planted bugs")
struct PlantedBugTests {
    @Test("every one has a scenario that shows it")
    func shown() throws {
        let texts = try ScenarioTests.files.map {
            try String(contentsOf: ScenarioTests.folder.appendingPathComponent($0), encoding: .utf8)
        }
        for (name, _) in PlantedBugs.catalog {
            #expect(texts.contains { $0.contains(" bug \(name)\n") && $0.contains("VIOLATION") }, "\(name)")
        }
    }

    static let common: [(name: String, bug: PlantedBugs)] = PlantedBugs.catalog.filter {
        [
            "voteTwiceInTerm", "skipTruncateOnConflict", "readWithoutQuorum", "readBeforeOwnCommit",
            "commitBeyondMatch",
        ].contains($0.name)
    }

    @Test("are found by random schedules", arguments: common.map(\.name))
    func found(_ name: String) throws {
        let bug = try #require(PlantedBugs.catalog.first { $0.name == name }?.bug)
        let first = freshSeed("planted bug \(name)")
        for seed in first..<(first &+ 10_000) {
            var schedule = Schedule(voters: seed % 2 == 0 ? 3 : 5, seed: seed, bugs: bug)
            schedule.run(steps: 300)
            guard let violation = schedule.cluster.violations.first else { continue }
            print("planted bug \(name): after \(seed - first + 1) schedules, \(violation)")
            return
        }
        Issue.record("\(name) was not found")
    }
}
