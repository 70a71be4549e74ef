import Actors
import Base
import Contracts
import DataModel
import Testing

/// The commands of `RandomHistoryTests`, in transactions that are open for a while.
@Suite("Random histories in scopes")
struct ScopeHistoryTests {
    typealias Run = RandomHistoryTests.Run

    private func tightScope(_ rig: Rig) -> ScopeRig {
        var limits = ScopeEvaluation.Limits()
        limits.memoryBytes = 20_000
        limits.effectBytes = 32 << 20
        return ScopeRig(rig, limits: limits)
    }

    @Test("statements, savepoints and commits are what a plain model says", arguments: 1...16 as ClosedRange<UInt64>)
    func histories(_ seed: UInt64) throws {
        let run = Run(seed: seed), scope = tightScope(run.rig)
        for round in 0..<25 {
            run.step = round
            for _ in 0..<run.pick(10) { run.command() }
            try transaction(run, scope)
            if run.pick(4) == 0 { run.inspect() }
        }
        try run.close()
    }

    private func transaction(_ run: Run, _ scope: ScopeRig) throws {
        run.finish()
        run.commit(.max)
        let outside = run.model
        scope.open(isRepeatable: run.pick(2) == 0)
        // The model before each statement.
        var before: [(number: UInt32, model: RandomHistoryTests.Model)] = []
        for _ in 0..<(1 + run.pick(8)) {
            before.append((scope.number, run.model))
            scope.begin()
            for _ in 0..<run.pick(6) { run.command() }
            if run.pick(5) == 0 { run.inspect() }
            if run.pick(10) == 0 { flush(run) }
            switch run.pick(8) {
            case 0:
                scope.undo()
                run.model = before[before.count - 1].model
            case 1:
                scope.end()
                let position = run.pick(before.count)
                run.model = before[position].model
                scope.scope.rollBack(to: before[position].number)
                before.removeSubrange(position...)
            default:
                scope.end()
            }
            if run.pick(3) == 0 { lookFromOutside(run, outside) }
            run.rig.now += UInt64(run.pick(20))
        }
        scope.run {
            run.inspect()
            scan(run)
        }
        lookFromOutside(run, outside)
        if run.pick(4) == 0 { run.model = outside } else { try scope.commit() }
        run.stable = run.model
    }

    private func lookFromOutside(_ run: Run, _ outside: RandomHistoryTests.Model) {
        let inside = run.model
        run.model = outside
        run.inspect()
        run.model = inside
    }

    private func flush(_ run: Run) {
        let database = run.database
        run.expect(run.rig.call(.flushDatabase, database: UInt8(database)), .ok, "flushdb")
        run.model.databases[database] = [:]
    }

    private func scan(_ run: Run) {
        for database in 0..<3 {
            let keys = run.model.databases[database].keys
                .filter { run.model.value(database, $0, run.rig.now) != nil }.sorted()
            let found = run.rig.scanAll(.scan, count: 3, database: UInt8(database))
            #expect(found.sorted() == keys, "seed \(run.seed) step \(run.step): scan in a scope")
            #expect(run.rig.call(.keys, "", ["*"], database: UInt8(database)).texts.sorted() == keys)
        }
    }

    @Test("the store ends up as if the calls had been calls of their own", arguments: 1...8 as ClosedRange<UInt64>)
    func sameStore(_ seed: UInt64) throws {
        let apart = Run(seed: seed), together = Run(seed: seed)
        for run in [apart, together] {
            for _ in 0..<30 { run.command() }
            run.finish()
            run.commit(.max)
        }
        let scope = tightScope(together.rig)
        for _ in 0..<40 {
            scope.begin()
            let count = apart.pick(5)
            #expect(count == together.pick(5))
            apart.rig.restart()
            _ = apart.rig.stamp  // The scope's floor took one.
            for _ in 0..<count {
                apart.command()
                together.command()
            }
            scope.end()
            apart.finish()
            apart.commit(.max)
        }
        try scope.commit()
        let (first, second) = (records(apart), records(together))
        #expect(!first.isEmpty && first == second, "seed \(seed)")
    }

    /// All records but counters of nothing: the end does not tell which counters have gone up and down.
    private func records(_ run: Run) -> [[Bytes]] {
        run.rig.records.keys.map { [$0, run.rig.records.value($0)] }.filter { record in
            guard case .counter? = record[0].withUnsafeBytes({ NativeKey(parsing: $0) }) else { return true }
            return record[1].contains { $0 != 0 }
        }
    }
}
