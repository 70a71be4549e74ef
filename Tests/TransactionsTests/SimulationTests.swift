import Base
import Glibc
import TestKit
import Testing
import Transactions

/// Many small worlds. The seeds are fixed, so a run says the same everywhere; `ORBIT_SEED` begins elsewhere.
@Suite("Simulation of transactions", .serialized)
struct TransactionSimulationTests {
    /// The first seed: 1, or that of `ORBIT_SEED`.
    static let first = getenv("ORBIT_SEED") == nil ? 1 : freshSeed("worlds of transactions")

    private func world(_ seed: UInt64, _ weather: Weather, bugs: TransactionBugs = []) -> SimulatedWorld {
        SimulatedWorld(
            seed: seed, shards: 2 + Int(seed % 3), clients: 2 + Int(seed % 4), works: 5, weather, bugs: bugs)
    }

    private func run(_ count: UInt64, _ weather: Weather) -> (committed: Int, recovered: Int, changes: Int) {
        var committed = 0, recovered = 0, changes = 0
        for seed in Self.first..<(Self.first &+ count) {
            let world = world(seed, weather)
            world.run()
            for attempt in world.attempts { if case .committed = attempt.answer { committed += 1 } }
            recovered += world.recoveries
            changes += world.leaderChanges
            guard world.violations.isEmpty else {
                Issue.record("ORBIT_SEED=\(seed): \(world.violations[0])")
                break
            }
        }
        return (committed, recovered, changes)
    }

    @Test("all or nothing, as the client was told, whatever is lost, doubled, late or dead")
    func foul() {
        let result = run(1000, .foul)
        print("foul weather: \(result)")
        #expect(result.committed > 3000 && result.recovered > 100 && result.changes > 3000)
    }

    @Test("leaders that change all the time")
    func restless() {
        let result = run(300, .restless)
        print("restless weather: \(result)")
        #expect(result.committed > 1000 && result.changes > 3000)
    }

    @Test("in fair weather everything is done, and nobody waits for long")
    func fair() {
        let result = run(300, .fair)
        print("fair weather: \(result)")
        #expect(result.committed > 1000 && result.recovered == 0)
    }

    /// A transaction has some twenty duties: the parts, the answer, COMMIT to all, FORGET; fewer if it is refused.
    @Test("a driver may cease to be before any of its duties", arguments: [Weather.fair, Weather.foul])
    func deaths(weather: Weather) {
        var recovered = 0
        for life in 0..<20 {
            for seed in Self.first..<(Self.first &+ 10) {
                let world = SimulatedWorld(seed: seed, shards: 4, clients: 2, works: 3, weather)
                world.firstLife = life
                world.run()
                recovered += world.recoveries
                #expect(world.violations.isEmpty, "ORBIT_SEED=\(seed), life \(life): \(world.violations)")
                if !world.violations.isEmpty { return }
            }
        }
        #expect(recovered > 0)
    }

    @Test("every planted mistake is found", arguments: TransactionBugs.catalog.map(\.name))
    func planted(_ name: String) throws {
        let bug = try #require(TransactionBugs.catalog.first { $0.name == name }?.bug)
        // Who waits in a circle is rescued by time-outs where everything else fails too.
        let weathers: [Weather] =
            switch bug {
            case .youngerWaits: [.fair]
            case .readWithoutConfirm: [.restless]
            case _: [.foul, .restless]
            }
        for seed in Self.first..<(Self.first &+ 1500) {
            for weather in weathers {
                let world = world(seed, weather, bugs: bug)
                world.run()
                guard let violation = world.violations.first else { continue }
                return print("\(name): world \(seed &- Self.first &+ 1), \(violation)")
            }
        }
        Issue.record("\(name) was not found")
    }
}
