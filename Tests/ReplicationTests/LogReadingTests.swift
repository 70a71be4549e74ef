import Base
import Raft
import Replication
import TestKit
import Testing

/// Entries come back by index, and of two with the same index the later one.
struct LogReadingTests {
    private static let shard = ShardID(rawValue: 1)

    private func indexes(_ log: SegmentedLog, from first: UInt64, through last: UInt64, bytes: Int = .max) throws
        -> [UInt64]
    {
        try log.entries(
            of: Self.shard, from: LogIndex(rawValue: first), through: LogIndex(rawValue: last), bytes: bytes
        ).map(\.id.index.rawValue)
    }

    @Test func readsByIndexAcrossSegments() throws {
        let log = try LogFixture().open()
        for index in 1...200 as ClosedRange<UInt64> {
            try log.write([entry(index, size: 100), entry(index, shard: 2, size: 40)])
        }
        #expect(log.segmentCount > 4)
        #expect(try indexes(log, from: 1, through: 200) == Array(1...200))
        #expect(try indexes(log, from: 77, through: 79) == [77, 78, 79])
        #expect(try indexes(log, from: 150, through: 500) == Array(150...200))
        #expect(try indexes(log, from: 201, through: 300) == [])
        #expect(try indexes(log, from: 10, through: 200, bytes: 250) == [10, 11, 12])
        let found = try log.entries(of: Self.shard, from: LogIndex(rawValue: 9), through: LogIndex(rawValue: 9))
        #expect(found.map(\.payload) == [entry(9, size: 100).payload])
        #expect(found.first?.id == EntryID(term: Term(rawValue: 1), index: LogIndex(rawValue: 9)))
    }

    @Test func aShorterSuffixTakesThePlaceOfALongerOne() throws {
        let fixture = LogFixture()
        var log = try fixture.open()
        for index in 1...60 as ClosedRange<UInt64> { try log.write([entry(index, size: 100)], term: 1) }
        // The conflict lies in the middle of the log, and even inside one batch.
        try log.append([entry(61), entry(62), entry(50, size: 7), entry(51, size: 7)], term: 2)
        for _ in 0..<2 {
            #expect(log.state(1).lastIndex == LogIndex(rawValue: 51))
            #expect(log.state(1).term(at: LogIndex(rawValue: 49)) == Term(rawValue: 1))
            #expect(log.state(1).term(at: LogIndex(rawValue: 50)) == Term(rawValue: 2))
            #expect(try indexes(log, from: 1, through: 99) == Array(1...51))
            #expect(try log.entries().map(\.index) == Array(1...51))
            #expect(try log.entries().suffix(2).map(\.payload.count) == [7, 7])
            log = try fixture.crashAndOpen()
        }
        // What was replaced keeps no segment alive: everything that holds is flushed.
        try log.append([entry(1, shard: 2)])
        #expect(try log.truncate(flushed: [Self.shard: LogIndex(rawValue: 51)]) > 0)
        #expect(log.segmentCount == 1)
    }

    @Test func aRestartVoidsWhatWasBefore() throws {
        let fixture = LogFixture()
        var log = try fixture.open()
        for index in 1...30 as ClosedRange<UInt64> { try log.write([entry(index, size: 100)]) }
        let membership = Membership(voters: [NodeID(rawValue: 1), NodeID(rawValue: 2), NodeID(rawValue: 3)])
        var batch = LogBatch()
        batch.append(restartAt: EntryID(term: Term(rawValue: 4), index: LogIndex(rawValue: 20)), shard: Self.shard)
        batch.append(membership, at: LogIndex(rawValue: 20), shard: Self.shard)
        try log.write(&batch)
        try log.append([entry(21), entry(22)], term: 5)
        for _ in 0..<2 {
            #expect(try indexes(log, from: 21, through: 99) == [21, 22])
            #expect(try indexes(log, from: 20, through: 99) == [])
            #expect(try log.entries().map(\.index) == [21, 22])
            let restored = try log.restored(
                Self.shard, membership: Membership(voters: []), applied: LogIndex(rawValue: 21))
            #expect(restored.compacted == EntryID(term: Term(rawValue: 4), index: LogIndex(rawValue: 20)))
            #expect(restored.membership == membership)
            #expect(restored.entries.last == EntryID(term: Term(rawValue: 5), index: LogIndex(rawValue: 22)))
            #expect(restored.entries.count == 2 && restored.applied == LogIndex(rawValue: 21))
            log = try fixture.crashAndOpen()
        }
    }

    @Test func membershipsAreRememberedAcrossTruncation() throws {
        let fixture = LogFixture()
        var log = try fixture.open()
        func change(_ index: UInt64, _ voters: [UInt32]) throws {
            let membership = Membership(voters: voters.map { NodeID(rawValue: $0) })
            var batch = LogBatch()
            _ = try batch.append(
                .configuration, shard: Self.shard, term: Term(rawValue: 1), index: LogIndex(rawValue: index)
            ) { $0.append(membership.encoded()) }
            try log.write(&batch)
        }
        for index in 1...100 as ClosedRange<UInt64> {
            switch index {
            case 10: try change(10, [1])
            case 20: try change(20, [1, 2])
            case 90: try change(90, [1, 2, 3])
            default: try log.write([entry(index, size: 100)])
            }
        }
        #expect(try log.truncate(flushed: [Self.shard: LogIndex(rawValue: 60)]) > 0)
        log = try fixture.crashAndOpen()
        let restored = try log.restored(Self.shard, membership: Membership(voters: []), applied: .zero)
        #expect(restored.compacted.index == LogIndex(rawValue: 60))
        #expect(restored.membership.voters.count == 2)
        #expect(restored.entries.specials.map(\.index) == [LogIndex(rawValue: 90)])
        // A conflict takes a change of membership back.
        try log.append([entry(90)], term: 2)
        #expect(log.state(1).membership?.voters.count == 2)
    }

    /// Random appends, conflicts, truncations and crashes against a list in memory.
    @Test(arguments: 1...40) func agreesWithAModel(run: Int) throws {
        let seed = freshSeed("log reading")
        var random = SplitMix64(seed: seed)
        let fixture = LogFixture(seed: seed)
        var log = try fixture.open()
        var model: [Entry] = []
        var (term, flushed): (UInt64, UInt64) = (1, 0)
        for _ in 0..<150 {
            switch random.next(below: 12) {
            case 0 where UInt64(model.count) > flushed:
                term += 1
                let kept = flushed + random.next(below: UInt64(model.count) - flushed)
                model.removeLast(model.count - Int(kept))
                fallthrough
            case 1..<9:
                var batch: [Entry] = [entry(random.next(), shard: 2, size: 3)]
                for _ in 0...random.next(below: 3) {
                    var new = entry(UInt64(model.count) + 1, size: Int(random.next(below: 300)))
                    new.payload = random.bytes(new.payload.count)
                    model.append(new)
                    batch.append(new)
                }
                try log.append(batch, term: term)
            case 9:
                flushed += random.next(below: UInt64(model.count) - flushed + 1)
                try log.truncate(
                    flushed: [Self.shard: LogIndex(rawValue: flushed), ShardID(rawValue: 2): LogIndex(rawValue: .max)])
            case 10:
                log = try fixture.crashAndOpen()
            default:
                guard flushed < model.count else { continue }
                let first = flushed + 1 + random.next(below: UInt64(model.count) - flushed)
                let found = try log.entries(
                    of: Self.shard, from: LogIndex(rawValue: first), through: LogIndex(rawValue: .max - 1),
                    bytes: random.oneIn(2) ? .max : 500)
                let expected = model[Int(first - 1)...].prefix(found.count)
                #expect(found.map(\.payload) == expected.map { $0.payload }, "seed \(seed)")
                #expect(!found.isEmpty && found.first?.id.index.rawValue == first, "seed \(seed)")
            }
            #expect(log.state(1).lastIndex.rawValue == UInt64(model.count), "seed \(seed)")
        }
        let kept = try log.entries().filter { $0.shard == 1 }
        #expect(kept == Array(model.suffix(kept.count)) && kept.count >= model.count - Int(flushed), "seed \(seed)")
    }
}
