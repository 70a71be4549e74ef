import Base
import DataModel
import TestKit
import Testing

@Suite("RecordEncoding")
struct RecordEncodingTests {
    @Test(
        "is frozen: records are on disk",
        arguments: [
            ([], "01"), ([(1, .integer(42)), (2, .text("Ada")), (4, .null)], "01" + "011154" + "0143416461" + "0200"),
            ([(300, .integer(0))], "01" + "ac0210"), ([(1, .integer(-1))], "01" + "011101"),
            ([(1, .bool(false)), (2, .bool(true))], "01" + "0101" + "0102"),
            ([(1, .float(1.5))], "01" + "01200000c03f"), ([(1, .float(0.1))], "01" + "01219a9999999999b93f"),
            ([(1, .uuid(high: 1, low: 2))], "01" + "0122" + "0000000000000001" + "0000000000000002"),
            ([(1, .date(-1))], "01" + "0123ffffffff"), ([(1, .timestamp(1))], "01" + "01260100000000000000"),
            ([(1, .timeWithZone(microseconds: 1, zone: 2))], "01" + "0125010000000000000002000000"),
            (
                [(1, .interval(Interval(months: 1, days: 2, microseconds: 3)))],
                "01" + "01270100000002000000"
                    + "0300000000000000"
            ),
            ([(1, .bytes([0, 1]))], "01" + "0161020001"), ([(1, .decimal(Decimal(1)))], "01" + "01620500000001" + "00"),
            ([(1, .json(JSONNode.null.binary))], "01" + "01630100"),
            ([(1, .array(ArrayValue(.int32, [.integer(1)])))], "01" + "01640703" + "01010102" + "1102"),
            ([(1, .tuple([.integer(1), .null]))], "01" + "016503110200"),
        ] as [([(UInt32, Value)], String)])
    func golden(_ columns: [(UInt32, Value)], _ expected: String) {
        #expect(hex(RecordEncoding.encode(columns.map { (column: $0.0, value: $0.1) })) == expected)
    }

    private func record(_ random: inout RandomValues) -> [(column: UInt32, value: Value)] {
        var column: UInt32 = 0
        return (0..<random.random.next(below: 8)).map { _ in
            column += UInt32(random.random.next(below: 300)) + 1
            return (column, random.value())
        }
    }

    private func isSame(_ left: [(column: UInt32, value: Value)], _ right: [(column: UInt32, value: Value)]) -> Bool {
        left.count == right.count && zip(left, right).allSatisfy { $0.column == $1.column && $0.value == $1.value }
    }

    @Test("reads back what was written, as a whole and column by column")
    func roundTrip() {
        let seed = freshSeed("RecordEncoding")
        var random = RandomValues(seed: seed)
        for _ in 0..<300 {
            let columns = record(&random)
            RecordEncoding.encode(columns).withUnsafeBytes { view in
                #expect(isSame(RecordEncoding.decode(view) ?? [], columns), "seed \(seed): \(columns)")
                var reader = ColumnReader(view)
                for (index, column) in columns.enumerated() where index % 2 == 0 {
                    #expect(reader?.field(column.column)?.value == column.value, "seed \(seed): \(column)")
                }
                for column in columns { check(ColumnReader(view), column, seed) }
            }
        }
    }

    private func check(_ reader: ColumnReader?, _ column: (column: UInt32, value: Value), _ seed: UInt64) {
        var reader = reader
        guard let field = reader?.field(column.column) else {
            Issue.record("seed \(seed): no column \(column)")
            return
        }
        if case .integer(let value) = column.value {
            #expect(field.integer == value)
        } else {
            #expect(field.integer == nil)
        }
        if case .text(let value) = column.value { #expect(field.text?.bytes == Array(value.utf8)) }
        if case .float(let value) = column.value { #expect(Value.order(field.float ?? 0, value) == 0) }
        if case .timestamp(let value) = column.value { #expect(field.moment == value) }
        #expect(field.isNull == column.value.isNull)
    }

    @Test("a column that is not there is none, and does not hide those behind it")
    func absence() {
        let bytes = RecordEncoding.encode([(2, .integer(2)), (5, .text("five")), (9, .null)])
        bytes.withUnsafeBytes { view in
            var reader = ColumnReader(view)
            #expect(reader?.field(1) == nil)
            #expect(reader?.field(2)?.integer == 2)
            #expect(reader?.field(3) == nil)
            #expect(reader?.field(5)?.value == .text("five"))
            #expect(reader?.field(9)?.isNull == true)
            #expect(reader?.field(10) == nil)
            #expect(reader?.isAtEnd == true)
        }
    }

    @Test("copies columns between records without decoding them")
    func copies() {
        let bytes = RecordEncoding.encode([(1, .integer(1)), (3, .text("three"))])
        var buffer = ByteBuffer(capacity: 64)
        bytes.withUnsafeBytes { view in
            guard var reader = ColumnReader(view) else { return }
            var writer = ColumnWriter(into: &buffer)
            while let field = reader.next() { writer.append(field, into: &buffer) }
        }
        #expect(buffer.readable.bytes == bytes)
    }

    @Test("damage is read as nil or as other values, never as a trap")
    func damage() {
        let seed = freshSeed("RecordEncoding damage")
        var random = RandomValues(seed: seed)
        for _ in 0..<200 {
            let bytes = RecordEncoding.encode(record(&random))
            let damaged =
                Damage.truncations(of: bytes) + Damage.corruptions(of: bytes, count: 30, using: &random.random)
            for bytes in damaged {
                guard let columns = bytes.withUnsafeBytes({ RecordEncoding.decode($0) }) else { continue }
                let again = RecordEncoding.encode(columns)
                #expect(isSame(again.withUnsafeBytes { RecordEncoding.decode($0) } ?? [], columns), "seed \(seed)")
                _ = columns.map { $0.value.hashValue }
            }
        }
        let deep = Bytes(repeating: 0x65, count: 100_000)
        #expect(deep.withUnsafeBytes { RecordEncoding.decode($0) } == nil)
    }
}
