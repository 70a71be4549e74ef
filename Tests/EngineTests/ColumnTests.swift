import Base
import DataModel
import Testing

@testable import Engine

@Suite("Columns")
struct ColumnTests {
    @Test("keys of rows sort as their values do, and equal values have equal keys")
    func keys() {
        var writer = RowKeyWriter()
        func key(_ value: Value, _ type: DataType, isDescending: Bool = false) -> Bytes {
            writer.buffer.removeAll()
            let column = Column.constant(value, type, count: 1)
            writer.append(column, row: 0, part: .init(isDescending: isDescending))
            return writer.buffer.readable.bytes
        }
        let integers: [Int64] = [.min, -1, 0, 1, 256, .max]
        for (low, high) in zip(integers, integers.dropFirst()) {
            #expect(key(.integer(low), .int64).lexicographicallyPrecedes(key(.integer(high), .int64)))
            #expect(
                key(.integer(high), .int64, isDescending: true).lexicographicallyPrecedes(
                    key(.integer(low), .int64, isDescending: true)))
        }
        let texts = ["", "\0", "\0a", "a", "a\0", "ab", "b"]
        for (low, high) in zip(texts, texts.dropFirst()) {
            #expect(key(.text(low), .text).lexicographicallyPrecedes(key(.text(high), .text)))
        }
        #expect(key(.float(0), .float64) == key(.float(-0.0), .float64))
        #expect(key(.text("a  "), .char) == key(.text("a"), .char))
        #expect(key(.float(.infinity), .float64).lexicographicallyPrecedes(key(.float(.nan), .float64)))
    }

    @Test("a key table numbers keys in the order in which they come")
    func table() {
        var table = KeyTable()
        for round in 0..<2 {
            for number in 0..<1000 {
                let key = Bytes("key\(number)".utf8)
                let (index, isNew) = key.withUnsafeBytes { table.insert($0) }
                #expect(index == number && isNew == (round == 0))
            }
        }
        let absent = Bytes("none".utf8)
        #expect(absent.withUnsafeBytes { table.find($0) } == nil)
    }
}
