import Base
import DataModel
import TestKit
import Testing

@Suite("Values in binary")
struct ValueBinaryTests {
    /// As PostgreSQL 15's send functions answer.
    @Test(
        "are what PostgreSQL sends",
        arguments: [
            ("t", DataType.bool, "01"), ("-2", .int16, "fffe"), ("-2", .int64, "fffffffffffffffe"),
            ("1.5", .float32, "3fc00000"), ("1.5", .float64, "3ff8000000000000"),
            ("12345.678", .decimal, "0003000100000003000109291a7c"), ("-0.0001", .decimal, "0001ffff400000040001"),
            ("NaN", .decimal, "00000000c0000000"), ("0.00", .decimal, "0000000000000002"),
            ("2000-01-02", .date, "00000001"), ("infinity", .date, "7fffffff"), ("00:00:01", .time, "00000000000f4240"),
            ("00:00:01+01", .timeWithZone, "00000000000f4240fffff1f0"),
            ("2000-01-01 00:00:01", .timestamp, "00000000000f4240"),
            ("1 mon 2 days 00:00:01", .interval, "00000000000f42400000000200000001"),
            (#"{"a": 1}"#, .jsonb, "017b2261223a20317d"),
            ("{1,NULL}", .int32.array, "00000001000000010000001700000002" + "0000000100000004" + "00000001ffffffff"),
        ] as [(String, DataType, String)])
    func golden(_ text: String, _ type: DataType, _ expected: String) throws {
        var buffer = ByteBuffer(capacity: 64)
        let value = try ValueText.parse(text, as: type)
        ValueBinary.append(value, as: type, into: &buffer)
        #expect(hex(buffer.readable.bytes) == expected)
        #expect(try ValueBinary.decode(buffer.readable, as: type) == value)
    }

    @Test("no bytes are a trap, for any type")
    func damage() {
        let seed = freshSeed("ValueBinary")
        var random = RandomValues(seed: seed)
        for _ in 0..<400 {
            let value = random.value()
            let type = value.plainType
            var buffer = ByteBuffer(capacity: 64)
            ValueBinary.append(value, as: type, into: &buffer)
            let bytes = buffer.readable.bytes
            for damaged in [bytes] + Damage.corruptions(of: bytes, count: 10, using: &random.random) {
                for kind in [type.kind] + DataType.Kind.allCases {
                    let types = [DataType(kind), DataType(kind).array]
                    for type in types {
                        guard
                            let value = try? damaged.withView({ view throws(StatementError) in
                                try ValueBinary.decode(view, as: type)
                            })
                        else { continue }
                        _ = ValueText.text(of: value, as: type)
                    }
                }
            }
        }
    }
}
