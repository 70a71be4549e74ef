import Base
import DataModel
import TestKit
import Testing

@testable import Engine

/// Blocks of columns between shards and the executing node, and what becomes of damaged ones.
@Suite("Fragments")
struct FragmentTests {
    static let types: [DataType] = [.int64, .float64, .bool, .text, .decimal, .date]

    private static func batch(_ random: inout SplitMix64, rows: Int) -> ColumnBatch {
        var builders = types.map { ColumnBuilder($0) }
        for row in 0..<rows {
            let number = Int64(bitPattern: random.next())
            let values: [Value] = [
                .integer(number), .float(Double(number) / 7), .bool(number & 1 == 0), .text("row \(row) \(number)"),
                .decimal(Decimal(number)), .date(Int32(truncatingIfNeeded: number >> 40)),
            ]
            for (index, value) in values.enumerated() { builders[index].append(random.next() % 5 == 0 ? .null : value) }
        }
        return ColumnBatch(builders.map { $0.finish() }, count: rows)
    }

    @Test("a block is read as it was written, and a damaged one is no block or another, but never a trap")
    func blocks() {
        let seed = freshSeed("fragments")
        var random = SplitMix64(seed: seed)
        for rows in [0, 1, 63, 64, 65, 200] {
            let batch = Self.batch(&random, rows: rows)
            var buffer = ByteBuffer(capacity: 64)
            ColumnBlockCoding.append(batch, to: &buffer)
            let bytes = buffer.readable.bytes
            let read = bytes.withUnsafeBytes { ColumnBlockCoding.decode($0, Self.types) }
            #expect(read?.count == rows, "seed \(seed)")
            for row in 0..<rows { #expect(read?.row(row) == batch.row(row), "seed \(seed)") }
            #expect(bytes.withUnsafeBytes { ColumnBlockCoding.decode($0, [.int64]) } == nil || rows == 0)
            for cut in 0..<min(bytes.count, 300) {
                let head = Bytes(bytes.prefix(cut))
                #expect(head.withUnsafeBytes { ColumnBlockCoding.decode($0, Self.types) } == nil, "seed \(seed)")
            }
            for _ in 0..<300 where !bytes.isEmpty {
                var damaged = bytes
                let place = Int(truncatingIfNeeded: random.next() % UInt64(bytes.count))
                damaged[place] = UInt8(truncatingIfNeeded: random.next())
                if let other = damaged.withUnsafeBytes({ ColumnBlockCoding.decode($0, Self.types) }) {
                    for row in 0..<other.count { _ = other.row(row) }
                }
            }
        }
    }

    @Test("states of aggregates that are damaged are refused")
    func damagedStates() {
        for accumulator in [
            CountAccumulator(), IntegerSumAccumulator(.decimal), FloatSumAccumulator(isAverage: true, kind: .float64),
        ] as [any PartialAccumulator] {
            accumulator.grow(to: 1)
            for state in [Value.text("x"), .bytes([]), .bytes([1, 2, 3])] {
                #expect(throws: StatementError.self) { try accumulator.merge(state: state, into: 0) }
            }
        }
    }

    @Test("an aggregate over parts of its rows is the one over all of them")
    func parts() throws {
        let seed = freshSeed("fragments")
        var random = SplitMix64(seed: seed)
        let whole = IntegerSumAccumulator(.decimal), merged = IntegerSumAccumulator(.decimal)
        whole.grow(to: 1)
        merged.grow(to: 1)
        for _ in 0..<20 {
            let rows = Int(random.next() % 50) + 1
            let values = (0..<rows).map { _ in Int64(bitPattern: random.next()) }
            let column = Column(.int64, .integers(values), count: rows)
            whole.addAll([column], count: rows)
            let part = IntegerSumAccumulator(.decimal)
            part.grow(to: 1)
            for value in values { part.addAll([Column(.int64, .integers([value]), count: 1)], count: 1) }
            try merged.merge(state: part.state(of: 0), into: 0)
        }
        #expect(whole.sums == merged.sums && whole.counts == merged.counts, "seed \(seed)")
    }
}
