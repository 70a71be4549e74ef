import Base
import DataModel
import TestKit
import Testing

struct HistoryKeyTests {
    private func key(_ record: Bytes, _ until: UInt64) -> Bytes {
        var buffer = ByteBuffer(capacity: 16)
        record.withUnsafeBytes { HistoryKey.append($0, until: Timestamp(rawValue: until), into: &buffer) }
        return buffer.readable.bytes
    }

    private func random(_ random: inout SplitMix64) -> Bytes {
        let bytes: Bytes = [0, 1, 2, 0xfe, 0xff]
        return (0..<random.next(below: 7)).map { _ in bytes[Int(random.next(below: 5))] }
    }

    @Test func liesInTheOrderOfRecordsAndTime() {
        let seed = freshSeed("history keys")
        var generator = SplitMix64(seed: seed)
        for _ in 0..<5000 {
            let first = (random(&generator), generator.next()), second = (random(&generator), generator.next())
            let isBefore =
                first.0 == second.0 ? first.1 < second.1 : first.0.lexicographicallyPrecedes(second.0)
            let keys = (key(first.0, first.1), key(second.0, second.1))
            #expect(keys.0.lexicographicallyPrecedes(keys.1) == isBefore, "seed \(seed) \(first) \(second)")
            var record = ByteBuffer(capacity: 16)
            let until = keys.0.withUnsafeBytes { HistoryKey.parse($0, record: &record) }
            #expect(record.readable.bytes == first.0 && until?.rawValue == first.1, "seed \(seed) \(first)")
            #expect(keys.0.withUnsafeBytes { HistoryKey.until(of: $0) }?.rawValue == first.1)
            for other in [first.0, second.0] {
                var position = ByteBuffer(capacity: 16)
                other.withUnsafeBytes { HistoryKey.appendPosition(of: $0, into: &position) }
                let isBelow = keys.0.lexicographicallyPrecedes(position.readable.bytes)
                #expect(isBelow == first.0.lexicographicallyPrecedes(other), "seed \(seed) \(first) \(other)")
            }
        }
    }

    @Test func anyBytesAreAKeyOrNone() {
        let seed = freshSeed("history keys damage")
        var generator = SplitMix64(seed: seed)
        for _ in 0..<5000 {
            var bytes = key(random(&generator), generator.next())
            if generator.oneIn(2) { bytes = Bytes(bytes.prefix(Int(generator.next(below: UInt64(bytes.count))))) }
            if !bytes.isEmpty {
                bytes[Int(generator.next(below: UInt64(bytes.count)))] = UInt8(generator.next() & 0xff)
            }
            bytes.withUnsafeBytes { view in
                var record = ByteBuffer(capacity: 16)
                _ = HistoryKey.parse(view, record: &record)
                _ = HistoryKey.until(of: view)
                _ = HistoryKey.isKept(view)
            }
        }
    }
}
