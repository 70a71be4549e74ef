import Base
import Raft
import Replication
import TestKit
import Testing

struct LogFormatTests {
    private let segment = LogFormat.SegmentHeader(sequence: 3, salt: 0x1122_3344_5566_7788, size: 4096)

    private func header() -> LogFormat.BatchHeader {
        LogFormat.BatchHeader(
            length: 100, count: 2, sequence: 9, synced: LogPosition(segment: 2, offset: 512), chain: 77,
            bodyChecksum: 88)
    }

    private func encoded() -> Bytes {
        var bytes = Bytes(repeating: 0, count: 48)
        _ = bytes.withUnsafeMutableBytes { header().encode(into: $0, segment) }
        return bytes
    }

    private func decode(_ bytes: Bytes) -> LogFormat.BatchHeader? {
        bytes.withUnsafeBytes { LogFormat.BatchHeader.decode($0, segment) }
    }

    @Test func batchHeaderSurvives() {
        var expected = header()
        expected.headerChecksum = decode(encoded())?.headerChecksum ?? 0
        #expect(decode(encoded()) == expected)
        #expect(Damage.truncations(of: encoded()).allSatisfy { decode($0) == nil })
    }

    @Test func anyOtherByteIsNoBatchHeader() {
        let bytes = encoded()
        for offset in bytes.indices {
            for bit in 0..<8 {
                var copy = bytes
                copy[offset] ^= 1 << bit
                #expect(decode(copy) == nil, "byte \(offset) bit \(bit)")
            }
        }
        let other = LogFormat.SegmentHeader(sequence: 3, salt: 0x9922_3344_5566_7788, size: 4096)
        #expect(bytes.withUnsafeBytes { LogFormat.BatchHeader.decode($0, other) } == nil)
    }

    @Test func segmentHeaderSurvives() throws {
        let bytes = segment.encode()
        #expect(bytes.count == LogFormat.segmentHeaderSize)
        #expect(try bytes.withUnsafeBytes { try LogFormat.SegmentHeader.decode($0).get() } == segment)
        for damaged in Damage.truncations(of: bytes) {
            #expect(throws: LogError.self) {
                try damaged.withUnsafeBytes { try LogFormat.SegmentHeader.decode($0).get() }
            }
        }
        for offset in bytes.indices {
            var copy = bytes
            copy[offset] ^= 4
            #expect(throws: LogError.self) { try copy.withUnsafeBytes { try LogFormat.SegmentHeader.decode($0).get() } }
        }
    }

    @Test func recordsNeverTrap() throws {
        let seed = freshSeed("log records")
        var random = SplitMix64(seed: seed)
        var batch = LogBatch()
        for index in 1...5 as ClosedRange<UInt64> {
            _ = try batch.append(
                .entry, shard: ShardID(rawValue: 1), term: Term(rawValue: 2), index: LogIndex(rawValue: index)
            ) { $0.append(Bytes(repeating: 1, count: Int(index))) }
        }
        batch.append(HardState(term: Term(rawValue: 1), votedFor: NodeID(rawValue: 1)), shard: ShardID(rawValue: 1))
        batch.append(markAt: LogIndex(rawValue: 4), Term(rawValue: 1), shard: ShardID(rawValue: 1), firstSegment: 2)
        let whole = batch.records.bytes
        #expect(count(whole) == 7)
        for damaged in Damage.truncations(of: whole) { #expect(count(damaged) < 7) }
        for damaged in Damage.corruptions(of: whole, count: 20_000, using: &random) { #expect(count(damaged) <= 8) }
    }

    private func count(_ bytes: Bytes) -> Int {
        bytes.withUnsafeBytes { view in
            var reader = ByteReader(view)
            var count = 0
            while let record = LogFormat.nextRecord(&reader) {
                _ = LogFormat.hardState(of: record)
                _ = LogFormat.firstSegment(ofMark: record)
                count += 1
            }
            return count
        }
    }

    @Test func segmentNames() {
        #expect(LogSegment.name(255) == "segment-00000000000000ff.log")
        #expect(LogSegment.sequence(ofName: LogSegment.name(.max)) == .max)
        for name in ["", "segment-ff.log", "segment-00000000000000FF.log", "segment-00000000000000ff.log.new", "lock"] {
            #expect(LogSegment.sequence(ofName: name) == nil)
        }
    }
}
