import Base
import Contracts
import DataModel
import QueryLanguages
import TestKit
import Testing

@testable import Engine

@Suite("Window functions")
struct WindowTests {
    /// The values of the only column that a query without tables gives.
    private func values(_ query: String, memory: Int = 256 << 20) throws -> [Value] {
        var settings = EngineSettings()
        settings.memoryLimit = memory
        let plan = try SQLParser.parse(Bytes(query.utf8))[0].plan
        let prepared = try PreparedPlan(plan, catalog: Catalog(), settings: settings)
        let execution = try prepared.execute([], settings: settings, access: nil)
        var values: [Value] = []
        while true {
            switch try execution.next() {
            case .batch(let batch):
                for row in 0..<batch.count { values.append(batch.columns[0].value(at: row)) }
            case .paused: continue
            case .waiting, .end: return values
            }
        }
    }

    @Test("frames that slide give what each of them gives alone")
    func sliding() throws {
        let seed = freshSeed("frames that slide")
        var random = SplitMix64(seed: seed)
        for _ in 0..<20 {
            let count = 1 + Int(random.next() % 1500)
            let low = Int(random.next() % 81) - 40, high = Int(random.next() % 81) - 40
            func bound(_ offset: Int) -> String { offset < 0 ? "\(-offset) PRECEDING" : "\(offset) FOLLOWING" }
            // What the grammar refuses: a frame that ends before it begins, said so.
            guard low <= high else { continue }
            let window = "(ORDER BY i ROWS BETWEEN \(bound(low)) AND \(bound(high)))"
            let source = "FROM generate_series(1, \(count)) i"
            let sums = try values("SELECT sum(i * 7919 % 1009) OVER \(window) \(source)")
            let least = try values("SELECT min(i * 7919 % 1009) OVER \(window) \(source)")
            let given = (1...count).map { Int64($0 * 7919 % 1009) }
            for row in 0..<count {
                let from = max(row + low, 0), to = min(row + high, count - 1)
                let frame = from <= to ? Array(given[from...to]) : []
                #expect(sums[row] == (frame.isEmpty ? .null : .integer(frame.reduce(0, +))), "seed \(seed)")
                #expect(least[row] == (frame.min().map { .integer($0) } ?? .null), "seed \(seed)")
            }
        }
    }

    @Test("a window holds no more than its statement may")
    func memory() throws {
        #expect(throws: StatementError.self) {
            try values("SELECT sum(i) OVER (ORDER BY i) FROM generate_series(1, 100000) i", memory: 1 << 20)
        }
    }
}
