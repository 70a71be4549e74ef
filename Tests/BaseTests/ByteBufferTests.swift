import Base
import Testing

@Suite("ByteBuffer")
struct ByteBufferTests {
    @Test("keeps order across growth, consumption and compaction")
    func queue() {
        var buffer = ByteBuffer(capacity: 64)
        var expected: Bytes = []
        for round in 0..<1000 {
            buffer.append(UInt8(truncatingIfNeeded: round))
            expected.append(UInt8(truncatingIfNeeded: round))
            if round % 3 == 0 {
                buffer.consume(2)
                expected.removeFirst(min(2, expected.count))
            }
        }
        #expect(buffer.readable.bytes == expected)
    }

    @Test("writes decimals like String does", arguments: [0, 1, -1, 9, 10, 99, 100, Int64.max, Int64.min])
    func decimals(_ value: Int64) {
        var buffer = ByteBuffer()
        buffer.append(decimal: value)
        #expect(buffer.readable.bytes == Bytes(String(value).utf8))
    }

    @Test("reads back every varint it wrote", arguments: [0, 1, 127, 128, 300, UInt64(UInt32.max), UInt64.max])
    func varints(_ value: UInt64) {
        var buffer = ByteBuffer()
        buffer.append(varint: value)
        #expect(buffer.count == varintSize(value))
        var reader = ByteReader(buffer.readable)
        #expect(reader.varint() == value)
        #expect(reader.isAtEnd)
        var cut = ByteReader(ByteView(rebasing: buffer.readable.dropLast()))
        #expect(cut.varint() == nil)
    }
}
