import Base
import DataModel
import TestKit
import Testing
import Transactions

/// What is stored of a part, and what travels about it.
@Suite("Records of transactions")
struct RecordTests {
    static let records: [PartRecord] = [
        .intent(
            IntentRecord(
                timestamp: Timestamp(milliseconds: 7, counter: 3), priority: 99,
                participants: [Slot(rawValue: 3), Slot(rawValue: 16_383)],
                scope: .keys([LockKey(0, [97]), LockKey(15, [])]),
                effects: PartEffects(
                    payload: [1, 2, 3],
                    counters: [KeyCountChange(bucket: BucketID(rawValue: 63), database: 2, delta: -5)]))),
        .intent(
            IntentRecord(
                timestamp: .zero, priority: 0, participants: [Slot(rawValue: 0)], scope: .shard,
                effects: PartEffects())),
        .committed(
            TransactionRecord(timestamp: Timestamp(milliseconds: 9), participants: [Slot(rawValue: 1)])),
        .over(VerdictRecord(committed: nil, isFirm: true, notedAt: 5)),
        .over(VerdictRecord(committed: Timestamp(milliseconds: 9), isFirm: false, notedAt: 5)),
    ]

    private func encoded(_ record: PartRecord) -> Bytes {
        var buffer = ByteBuffer()
        record.encode(into: &buffer)
        return buffer.readable.bytes
    }

    private func decoded(_ bytes: Bytes) -> PartRecord? { bytes.withUnsafeBytes { PartRecord(decoding: $0) } }

    @Test("come back as they were", arguments: records)
    func roundTrip(_ record: PartRecord) { #expect(decoded(encoded(record)) == record) }

    @Test("have the bytes that are on disk")
    func frozen() {
        #expect(
            encoded(Self.records[0]) == [1, 1, 0] + [3, 0, 7, 0, 0, 0, 0, 0] + [99, 0, 0, 0, 0, 0, 0, 0]
                + [2, 3, 0, 255, 63] + [2, 0, 1, 97, 15, 0] + [1, 63, 0, 2, 251, 255, 255, 255, 255, 255, 255, 255]
                + [1, 2, 3])
        #expect(encoded(Self.records[2]) == [1, 2] + [0, 0, 9, 0, 0, 0, 0, 0] + [1, 1, 0])
        #expect(encoded(Self.records[4]) == [1, 3, 1] + [0, 0, 9, 0, 0, 0, 0, 0] + [5, 0, 0, 0, 0, 0, 0, 0])
    }

    @Test("damage gives nil or another record, never a trap", arguments: records)
    func damage(_ record: PartRecord) {
        var random = SplitMix64(seed: freshSeed("damaged records of transactions"))
        let bytes = encoded(record)
        for cut in Damage.truncations(of: bytes) {
            // A payload's end is the record's: what is cut there is another payload, and the checksum's business.
            if let found = decoded(cut), case .intent = record { #expect(found != record) }
        }
        for wrong in Damage.corruptions(of: bytes, count: 2000, using: &random) {
            guard let found = decoded(wrong) else { continue }
            #expect(decoded(encoded(found)) == found)
        }
    }

    @Test("a count that nothing follows is refused at once")
    func hugeCounts() {
        let start: Bytes = [1, 1, 0] + Bytes(repeating: 0, count: 16)
        let huge = Bytes(repeating: 0xff, count: 9) + [1]
        #expect(decoded(start + huge) == nil)
        #expect(decoded(start + [0] + huge) == nil)
        #expect(decoded(start + [0, 0] + huge) == nil)
        #expect(decoded(start + [0, 1, 0] + huge) == nil)
    }

    @Test("keys name bucket, transaction and slot, and nothing else is one")
    func keys() throws {
        var buffer = ByteBuffer()
        TransactionKey.append(BucketID(rawValue: 5), transaction: 0x0102, slot: Slot(rawValue: 0x304), into: &buffer)
        let key = buffer.readable.bytes
        #expect(key == [0, 5, 0, 0, 0, 18, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4])
        let name = try #require(key.withUnsafeBytes { TransactionKey.parse($0) })
        #expect(name.transaction == 0x0102 && name.slot == Slot(rawValue: 0x304))
        for cut in Damage.truncations(of: key) + [key + [0]] {
            #expect(cut.withUnsafeBytes { TransactionKey.parse($0) } == nil)
        }
    }

    @Test("answers come back as they were")
    func answers() {
        let all: [StepAnswer] = [
            .committed(Timestamp(milliseconds: 3)), .aborted, .prepared(Timestamp(milliseconds: 4)), .nothing, .held,
            .notHeld, .busy,
        ]
        for answer in all {
            var buffer = ByteBuffer()
            answer.encode(into: &buffer)
            let bytes = buffer.readable.bytes
            #expect(bytes.withUnsafeBytes { StepAnswer(decoding: $0) } == answer)
            for cut in Damage.truncations(of: bytes) + [bytes + [0], [0] + bytes.dropFirst()] {
                #expect(cut.withUnsafeBytes { StepAnswer(decoding: $0) } == nil)
            }
        }
    }
}
