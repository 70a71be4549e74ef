import Base
import Contracts
import DataModel
import Net
import Storage
import TestKit
import Testing
import Transactions

@testable import StorageNode

/// Money that transactions move between shards, while drivers die and the process is killed again and again.
private final class Bank {
    private static let accounts = 5

    private var random: SplitMix64
    /// What each attempt's client was told, by its id; nil: nothing.
    private var told: [UInt64: CommitDriver.Answer?] = [:]
    private var runs: [MortalDriver] = []
    private var priority: UInt64 = 0
    /// Of each shard, its accounts.
    private var names: [[String]] = []
    private(set) var committed = 0, looks = 0

    init(seed: UInt64) { random = SplitMix64(seed: seed) }

    private func prepare(_ stage: Stage) {
        guard names.isEmpty else { return }
        let pairs = (0..<Self.accounts).map { stage.pair("account\($0)") }
        names = [pairs.map(\.0), pairs.map(\.1)]
    }

    /// Moves money for a while; then the process is killed, or drained, in the midst of it.
    func live(_ stage: Stage, attempts: Int) {
        prepare(stage)
        var left = attempts
        stage.poll { [self] in
            runs.removeAll { $0.isDead || $0.answer != nil }
            while left > 0, runs.count < 8 {
                left -= 1
                switch random.next(below: 6) {
                case _ where random.next(below: 40) == 0: leave(stage)
                case 0: look(stage)
                case 1: disturb(stage)
                default: move(stage)
                }
            }
            guard left == 0, runs.count < 4 else { return false }
            for run in runs { run.die() }
            runs = []
            stage.finish(random.next(below: 2) == 0 ? .kill : .drain)
            return true
        }
    }

    /// A shard ceases to be led here, and what waits and is pending is lost; then it is led again.
    private func leave(_ stage: Stage) {
        let executor = stage.node.executors[Int(random.next(below: 2))]
        executor.fence(true)
        stage.poll {
            executor.fence(false)
            return true
        }
    }

    private func move(_ stage: Stage) {
        priority += 1
        let first = Int(random.next(below: 2))
        let from = names[first][Int(random.next(below: UInt64(Self.accounts)))]
        let to = names[1 - first][Int(random.next(below: UInt64(Self.accounts)))]
        let isShort = random.next(below: 4) == 0
        attempt(
            stage, from, to, Int64(random.next(below: 100)), priority, life: isShort ? Int(random.next(below: 8)) : .max
        )
    }

    private func attempt(
        _ stage: Stage, _ from: String, _ to: String, _ amount: Int64, _ priority: UInt64, life: Int
    ) {
        let id = random.next() | 1
        told[id] = .some(nil)
        let run = MortalDriver(
            stage, id: id, priority: priority,
            parts: [
                .init(at: from) {
                    $0.add(.incrementBy, from, numbers: [-amount])
                    $0.set("{\(from)}mark\(id)", "1")
                },
                .init(at: to) {
                    $0.set("{\(to)}mark\(id)", "1")
                    $0.add(.incrementBy, to, numbers: [amount])
                },
            ], life: life
        ) { [self] answer in
            told[id] = answer
            switch answer {
            case .committed: committed += 1
            case .aborted: attempt(stage, from, to, amount, priority, life: .max)
            case .failed, .unknown: break
            }
        }
        marks[id] = ("{\(from)}mark\(id)", "{\(to)}mark\(id)")
        runs.append(run)
        run.begin()
    }

    private var marks: [UInt64: (String, String)] = [:]

    /// Reads all accounts at once.
    private func look(_ stage: Stage, priority old: UInt64? = nil) {
        priority += 1
        let priority = old ?? priority
        var run: MortalDriver?
        run = MortalDriver(
            stage, id: random.next() | 1, priority: priority,
            parts: names.map { names in .init(at: names[0]) { for name in names { $0.add(.get, name) } } },
            isReadOnly: true
        ) { [self] answer in
            // Growing older, it waits instead of giving way.
            if answer == .aborted { return look(stage, priority: priority) }
            guard case .committed = answer, let run else { return }
            looks += 1
            let values = run.replies.flatMap { reply -> [Reply] in
                if case .batch(let replies)? = reply { replies } else { [] }
            }
            #expect(values.count == 2 * Self.accounts && Self.sum(values) == 0)
        }
        if let run {
            runs.append(run)
            run.begin()
        }
    }

    private static func sum(_ values: [Reply]) -> Int {
        values.reduce(0) { sum, reply in
            if case .text(let text) = reply { sum + (Int(text) ?? 1 << 40) } else { sum }
        }
    }

    /// Calls outside transactions, on the same keys.
    private func disturb(_ stage: Stage) {
        let name = names[Int(random.next(below: 2))][Int(random.next(below: UInt64(Self.accounts)))]
        stage.caller.call(.incrementBy, name, numbers: [0], connection: 1 + random.next(below: 4))
        stage.caller.call(.databaseSize, name, connection: 9)
        stage.caller.batch(at: name, connection: 3) {
            $0.add(.incrementBy, name, numbers: [-3])
            $0.add(.incrementBy, name, numbers: [3])
        }
    }

    /// Once everything is decided: nothing is half done, and nobody was told what is not so.
    func audit(_ stage: Stage) {
        prepare(stage)
        var isAsked = false, accounts: [UInt64] = [], found: [UInt64: (UInt64, UInt64)] = [:], sizes: [UInt64] = []
        stage.poll { [self] in
            guard stage.isQuiet else { return false }
            let caller = stage.caller
            if !isAsked {
                isAsked = true
                accounts = names.joined().map { caller.get($0) }
                sizes = names.map { caller.call(.databaseSize, $0[0]) }
                for (id, mark) in marks { found[id] = (caller.call(.exists, mark.0), caller.call(.exists, mark.1)) }
            }
            guard caller.isSettled else { return false }
            let values = accounts.compactMap { ticket -> Reply? in
                if case .reply(let reply)? = caller[ticket] { reply } else { nil }
            }
            #expect(values.count == accounts.count && Self.sum(values) == 0)
            var there = 0
            for (id, (first, second)) in found {
                #expect(caller[first] == caller[second], "transaction \(id) is half done")
                let isDone = caller[first] == .reply(.integer(1))
                if isDone { there += 1 }
                switch told[id] ?? nil {
                case .committed: #expect(isDone, "transaction \(id) was committed")
                case .aborted, .failed: #expect(!isDone, "transaction \(id) was not committed")
                case .unknown, nil: break
                }
            }
            let keys = sizes.reduce(0 as Int64) { sum, ticket in
                if case .reply(.integer(let size))? = caller[ticket] { sum + size } else { sum }
            }
            let existing = values.count { $0 != .null }
            #expect(keys == Int64(2 * there + existing), "the counters of keys")
            stage.finish()
            return true
        }
    }
}

@Suite("Histories of transactions", .serialized)
struct TransactionHistoryTests {
    @Test("what was said stays true, whoever dies: drivers, and the process four times")
    func bank() throws {
        let bank = Bank(seed: freshSeed("Transactions.bank"))
        func quick(_ settings: inout NodeSettings) {
            (settings.transactions.recoveryMilliseconds, settings.transactions.repeatMilliseconds) = (20, 20)
            settings.transactions.holdMilliseconds = 50
        }
        try Stage.withDirectory { directory in
            for _ in 0..<4 {
                try Stage.run(directory, shards: 2, settings: quick, disk: PosixDisk(), store: nil) {
                    bank.live($0, attempts: 80)
                }
            }
            try Stage.run(directory, shards: 2, settings: quick, disk: PosixDisk(), store: nil) { bank.audit($0) }
        }
        #expect(bank.committed > 20 && bank.looks > 0, "\(bank.committed) and \(bank.looks)")
    }
}
