import Base
import TestKit
import Testing

/// Histories of databases of each level, with and without anomalies planted in them. All seeds are fixed: what a level
/// promises is decided here once, not looked for.
@Suite("Isolation of transactions")
struct IsolationTests {
    @Test("ten thousand transactions of a good database")
    func long() {
        var database = ReferenceDatabase(.strictSerializable, seed: 1, clients: 20)
        let history = database.history(10_000)
        let start = SystemClock().monotonicNanoseconds()
        let report = IsolationChecker().check(history)
        let milliseconds = (SystemClock().monotonicNanoseconds() - start) / 1_000_000
        print("\(history.transactions.count) transactions checked in \(milliseconds) ms")
        #expect(report.anomalies.isEmpty, "\(Self.told(report))")
        #expect(report.committed > 8000)
        #expect(report.level == .strictSerializable)
    }

    /// Every read might come before every write here; that must not take for ever, nor go unnoticed.
    @Test("a database that forgets everything")
    func forgetful() {
        let history = TransactionHistory(
            (0..<1500).map { number in
                let (list, register) = (number % 4 * 2, number % 3 * 2 + 1)
                return RecordedTransaction(
                    client: number % 20,
                    operations: [
                        .readList(key: list, values: []), .append(key: (list + 2) % 8, value: number),
                        .readRegister(key: register, value: nil), .write(key: (register + 2) % 6, value: number),
                    ], invoked: UInt64(number * 10), outcome: .completed(UInt64(number * 10 + 200)))
            })
        #expect(IsolationChecker().check(history).level == .snapshot)
    }

    /// Each database passes at its level; and over many seeds it is found out at the next one.
    @Test("every level is told from the next", arguments: IsolationLevel.allCases)
    func levels(_ level: IsolationLevel) {
        var foundOut: [IsolationLevel: Int] = [:]
        for seed in 1...20 as ClosedRange<UInt64> {
            var database = ReferenceDatabase(level, seed: seed)
            let report = IsolationChecker().check(database.history(250))
            #expect(report.violations(of: level).isEmpty, "seed \(seed): \(Self.told(report))")
            for other in IsolationLevel.allCases where !report.violations(of: other).isEmpty {
                foundOut[other, default: 0] += 1
            }
        }
        for other in IsolationLevel.allCases where other > level {
            #expect(foundOut[other, default: 0] > 5, "\(other)")
        }
    }

    @Test("what is planted is found, and nothing else", arguments: PlantedAnomaly.catalog)
    func planted(_ anomaly: PlantedAnomaly) {
        for seed in 1...10 as ClosedRange<UInt64> {
            var random = SplitMix64(seed: seed)
            var database = ReferenceDatabase(.strictSerializable, seed: seed)
            let (history, places) = anomaly.planted(in: database.history(200), using: &random)
            let report = IsolationChecker().check(history)
            #expect(report.anomalies.map(\.kind) == [anomaly.kind], "seed \(seed): \(Self.told(report))")
            #expect(Set(report.anomalies.flatMap(\.transactions)) == Set(anomaly.guilty.map { places[$0] }))
            for level in IsolationLevel.allCases {
                #expect(report.violations(of: level).isEmpty == (level < anomaly.kind.level))
            }
        }
    }

    @Test("every kind of anomaly is planted") func catalog() {
        #expect(Set(PlantedAnomaly.catalog.map(\.kind)) == Set(IsolationAnomaly.Kind.allCases))
    }

    @Test("what is strange and allowed is let be", arguments: PlantedAnomaly.harmless)
    func harmless(_ anomaly: PlantedAnomaly) {
        for seed in 1...10 as ClosedRange<UInt64> {
            var random = SplitMix64(seed: seed)
            var database = ReferenceDatabase(.strictSerializable, seed: seed)
            let (history, _) = anomaly.planted(in: database.history(200), using: &random)
            let report = IsolationChecker().check(history)
            #expect(report.anomalies.isEmpty, "seed \(seed): \(Self.told(report))")
        }
    }

    @Test("an explanation names who, what and why")
    func explanation() {
        let history = TransactionHistory(
            [
                RecordedTransaction(
                    client: 3, operations: [.readList(key: 0, values: []), .append(key: 1, value: 0)], invoked: 10,
                    outcome: .completed(20)),
                RecordedTransaction(
                    client: 4, operations: [.readList(key: 1, values: []), .append(key: 0, value: 1)], invoked: 12,
                    outcome: .unknown),
                RecordedTransaction(
                    client: 5, operations: [.readList(key: 0, values: [1])], invoked: 30, outcome: .completed(31)),
            ], keyNames: ["x", "y"], valueNames: ["a", "b"])
        #expect(
            IsolationChecker().check(history).anomalies.map(\.explanation) == [
                """
                G2-item, write skew: each of these came before the next one
                  T1 → T2: T1 read x with nothing, and T2's b came after that (rw)
                  T2 → T1: T2 read y with nothing, and T1's a came after that (rw)
                  T1 (client 3, begun at 10, committed at 20): read x as []; append a to y
                  T2 (client 4, begun at 12, outcome unknown): read y as []; append b to x
                """
            ])
    }

    /// A few transactions with random answers, and one that reads everything in the end: the checker agrees with trying
    /// every order.
    @Test("agrees with trying every order of few transactions", arguments: [false, true])
    func everyOrder(isStrict: Bool) {
        var random = SplitMix64(seed: isStrict ? 1 : 2)
        let level: IsolationLevel = isStrict ? .strictSerializable : .serializable
        var good = 0
        let rounds = 1500
        for round in 0..<rounds {
            let history = SmallHistory(random: &random).history
            let report = IsolationChecker().check(history)
            let hasOrder = SmallHistory.hasOrder(history.transactions, isStrict: isStrict)
            good += hasOrder ? 1 : 0
            #expect(
                report.violations(of: level).isEmpty == hasOrder,
                "round \(round): \(history.transactions) \(Self.told(report))")
        }
        #expect(good > rounds / 20 && good < rounds * 19 / 20, "both kinds must come up: \(good)")
    }

    private static func told(_ report: IsolationReport) -> String {
        report.anomalies.prefix(3).map(\.explanation).joined(separator: "\n")
    }
}

/// Up to five transactions on two lists, with answers that some order might explain.
private struct SmallHistory {
    private(set) var history = TransactionHistory()

    init(random: inout SplitMix64) {
        // What is appended to each list, in the order that it will have.
        var orders: [[Int]] = [[], []]
        var transactions: [RecordedTransaction] = []
        for number in 0..<3 + Int(random.next(below: 3)) {
            let begin = UInt64(number) * 10 + random.next(below: 30)
            var operations: [RecordedTransaction.Operation] = []
            for place in 0...Int(random.next(below: 3)) {
                let key = Int(random.next(below: 2))
                let value = number * 10 + place
                let isFresh = !operations.contains { if case .append(key, _) = $0 { true } else { false } }
                if random.oneIn(2) {
                    operations.append(.append(key: key, value: value))
                    orders[key].append(value)
                } else if isFresh {
                    operations.append(.readList(key: key, values: []))
                }
            }
            transactions.append(
                RecordedTransaction(
                    client: number, operations: operations, invoked: begin,
                    outcome: .completed(begin + 1 + random.next(below: 30))))
        }
        if random.oneIn(3) {
            let (first, second) = (Int(random.next(below: 2)), random.next(below: UInt64(max(orders[0].count, 1))))
            if Int(second) + 1 < orders[first].count { orders[first].swapAt(Int(second), Int(second) + 1) }
        }
        for number in transactions.indices {
            let begun = number * 10
            for (place, operation) in transactions[number].operations.enumerated() {
                guard case .readList(let key, _) = operation else { continue }
                // Mostly what had been appended by those before it, and sometimes anything.
                let before = orders[key].prefix { $0 < begun }.count
                let count = random.oneIn(3) ? Int(random.next(below: UInt64(orders[key].count + 1))) : before
                transactions[number].operations[place] = .readList(key: key, values: Array(orders[key].prefix(count)))
            }
        }
        let last = orders.enumerated().map { RecordedTransaction.Operation.readList(key: $0, values: $1) }
        transactions.append(
            RecordedTransaction(client: 9, operations: last, invoked: 1000, outcome: .completed(1001)))
        history = TransactionHistory(transactions)
    }

    /// Whether some order explains it, the last transaction at the end in any case.
    static func hasOrder(_ transactions: [RecordedTransaction], isStrict: Bool) -> Bool {
        search(Array(transactions.indices), transactions, [[], []], isStrict)
    }

    private static func search(
        _ left: [Int], _ all: [RecordedTransaction], _ state: [[Int]], _ isStrict: Bool
    ) -> Bool {
        if left.isEmpty { return true }
        for number in left where number != all.count - 1 || left.count == 1 {
            if isStrict, left.contains(where: { end(all[$0]) < all[number].invoked }) { continue }
            guard let after = apply(all[number], to: state) else { continue }
            if search(left.filter { $0 != number }, all, after, isStrict) { return true }
        }
        return false
    }

    private static func end(_ transaction: RecordedTransaction) -> UInt64 {
        if case .completed(let time) = transaction.outcome { time } else { .max }
    }

    private static func apply(_ transaction: RecordedTransaction, to state: [[Int]]) -> [[Int]]? {
        var state = state
        for operation in transaction.operations {
            switch operation {
            case .append(let key, let value): state[key].append(value)
            case .readList(let key, let values): if state[key] != values { return nil }
            case .write, .readRegister: return nil
            }
        }
        return state
    }
}
