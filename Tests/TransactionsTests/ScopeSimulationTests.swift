import Base
import Glibc
import TestKit
import Testing
import Transactions

/// Many small worlds of interactive transactions, each of one level, and what they show is checked. The seeds are
/// fixed, so a run says the same everywhere; `ORBIT_SEED` begins elsewhere, `ORBIT_HISTORIES=1000` looks at more.
@Suite("Simulation of interactive transactions", .serialized)
struct ScopeSimulationTests {
    static let first: UInt64 = {
        guard let seed = getenv("ORBIT_SEED"), String(cString: seed) != "1" else { return 1 }
        return freshSeed("worlds of interactive transactions")
    }()

    /// Histories of each level, in all weathers together.
    static let histories = getenv("ORBIT_HISTORIES").flatMap { UInt64(String(cString: $0)) } ?? 500

    struct Result {
        var committed = 0
        var interactive = 0
        var changes = 0
        /// Transactions whose pieces a leader left behind that was lost.
        var removals = 0
        var refusals: [PartRefusal: Int] = [:]

        mutating func add(_ world: ScopeWorld) {
            for attempt in world.attempts {
                guard case .completed = attempt.outcome else { continue }
                committed += 1
                if attempt.isInteractive { interactive += 1 }
            }
            changes += world.leaderChanges
            removals += world.shards.reduce(0) { $0 + $1.removals }
            refusals.merge(world.refusals) { $0 + $1 }
        }
    }

    private func world(
        _ seed: UInt64, _ level: Isolation, _ weather: Weather
    ) -> ScopeWorld {
        ScopeWorld(
            seed: seed, level, shards: 1 + Int(seed % 3), clients: 2 + Int(seed % 5), works: 5, weather)
    }

    @Test("nobody sees what his level forbids", arguments: Isolation.allCases)
    func levels(_ level: Isolation) {
        var result = Result()
        for seed in Self.first..<(Self.first &+ Self.histories) {
            let weather = [Weather.fair, .foul, .restless][Int(seed % 3)]
            let world = world(seed, level, weather)
            world.run()
            result.add(world)
            guard world.violations.isEmpty else {
                Issue.record("ORBIT_SEED=\(seed): \(world.violations[0])")
                break
            }
        }
        print("\(level), \(Self.histories) histories: \(result)")
        #expect(result.committed > Int(Self.histories) * 5 && result.changes > Int(Self.histories))
        #expect(result.removals > Int(Self.histories) / 40)
    }

    @Test("everybody wants the same keys: circles are broken, and no statement waits until its time is over")
    func storm() {
        var result = Result()
        for seed in Self.first..<(Self.first &+ 60) {
            let world = ScopeWorld(
                seed: seed, Isolation.allCases[Int(seed % 3)], shards: 1 + Int(seed % 3), clients: 12, works: 4, .fair,
                kinds: [.append, .lock])
            world.run()
            result.add(world)
            guard world.violations.isEmpty else {
                Issue.record("ORBIT_SEED=\(seed): \(world.violations[0])")
                break
            }
        }
        print("storm: \(result)")
        #expect(result.refusals[.deadlock, default: 0] > 50 && result.interactive > 300)
    }

    @Test("a session may cease to be before any of its messages", arguments: [Weather.fair, .foul])
    func deaths(_ weather: Weather) {
        for life in 0..<24 {
            for seed in Self.first..<(Self.first &+ 3) {
                let world = ScopeWorld(seed: seed, .serializable, shards: 3, clients: 2, works: 3, weather)
                world.firstLife = life
                world.run()
                #expect(world.violations.isEmpty, "ORBIT_SEED=\(seed), life \(life): \(world.violations)")
                if !world.violations.isEmpty { return }
            }
        }
    }

    @Test("every planted mistake is found", arguments: TransactionBugs.scopeCatalog.map(\.name))
    func planted(_ name: String) throws {
        let bug = try #require(TransactionBugs.scopeCatalog.first { $0.name == name }?.bug)
        let weathers: [Weather] =
            switch bug {
            case .overlookCircles: [.fair]
            case .hardenAtOnce: [Weather(longDelay: 6)]
            case _: [.fair, .restless, .foul]
            }
        let kinds: [ScopeWorld.Operation.Kind] = bug == .overlookCircles ? [.append, .lock] : [.read, .append]
        for seed in Self.first..<(Self.first &+ 1500) {
            for weather in weathers {
                let world = ScopeWorld(
                    seed: seed, bug == .overlookChanges ? .snapshot : .serializable, shards: 2, clients: 6, works: 5,
                    weather, kinds: kinds, bugs: bug)
                world.run()
                guard let violation = world.violations.first else { continue }
                return print("\(name): world \(seed &- Self.first &+ 1), \(violation.prefix(100))")
            }
        }
        Issue.record("\(name) was not found")
    }
}

extension TransactionBugs {
    /// The shard does not ask whether a key that it has locked was changed since the snapshot.
    static let overlookChanges = TransactionBugs(rawValue: 1 << 31)

    static let scopeCatalog: [(name: String, bug: TransactionBugs)] = [
        ("shareWithoutLook", .shareWithoutLook), ("readWithoutLocks", .readWithoutLocks),
        ("overlookChanges", .overlookChanges), ("keepPieces", .keepPieces),
        ("releaseBeforePieces", .releaseBeforePieces), ("forgetProgress", .forgetProgress),
        ("applyHalf", .applyHalf), ("leaveUnmarked", .leaveUnmarked),
    ]
}
