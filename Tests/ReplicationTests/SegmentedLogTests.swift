import Base
import Glibc
import Raft
import Replication
import TestKit
import Testing

struct SegmentedLogTests {
    @Test func anEmptyLogIsEmptyAgain() throws {
        let fixture = LogFixture()
        let log = try fixture.open()
        #expect(log.recovery.batches == 0 && !log.recovery.wasCut)
        let again = try fixture.crashAndOpen()
        #expect(try again.entries() == [])
        #expect(again.recovery.segments == 1)
    }

    @Test func syncedEntriesSurviveACrash() throws {
        let fixture = LogFixture()
        let log = try fixture.open()
        try log.append([entry(1), entry(2), entry(1, shard: 2, size: 0)])
        try log.append([entry(3)], term: 4)
        let again = try fixture.crashAndOpen()
        #expect(try again.entries() == [entry(1), entry(2), entry(1, shard: 2, size: 0), entry(3)])
        #expect(again.state(1).lastIndex == LogIndex(rawValue: 3))
        #expect(again.state(1).lastTerm == Term(rawValue: 4))
        #expect(again.state(1).term(at: LogIndex(rawValue: 2)) == Term(rawValue: 1))
        #expect(again.state(3).lastIndex == .zero)
        #expect(again.recovery.batches == 2 && again.recovery.records == 4)
    }

    @Test func rollsThroughSegments() throws {
        let fixture = LogFixture()
        var log = try fixture.open()
        var expected: [Entry] = []
        for index in 1...100 as ClosedRange<UInt64> {
            expected.append(entry(index, size: Int(index * 7 % 300)))
            try log.append([expected[expected.count - 1]])
            if index % 30 == 0 {
                log = try fixture.crashAndOpen()
                #expect(try log.entries() == expected)
            }
        }
        #expect(log.segmentCount > 4)
    }

    @Test func aBatchLargerThanASegmentIsWrittenInParts() throws {
        let fixture = LogFixture()
        let log = try fixture.open()
        let entries = (1...40).map { entry(UInt64($0), size: 500) }
        try log.append(entries)
        #expect(try fixture.crashAndOpen().entries() == entries)
    }

    @Test func refusesAnEntryThatIsTooLarge() throws {
        let log = try LogFixture().open()
        var batch = LogBatch()
        #expect(throws: LogError.self) {
            _ = try batch.append(
                .entry, shard: ShardID(rawValue: 1), term: Term(rawValue: 1), index: LogIndex(rawValue: 1),
                limit: log.options.maximumPayload
            ) { $0.append(Bytes(repeating: 0, count: log.options.maximumPayload + 1)) }
        }
        #expect(batch.isEmpty && batch.byteCount == LogBatch().byteCount)
    }

    @Test func keepsHardState() throws {
        let fixture = LogFixture()
        let log = try fixture.open()
        var batch = LogBatch()
        batch.append(HardState(term: Term(rawValue: 7), votedFor: NodeID(rawValue: 3)), shard: ShardID(rawValue: 5))
        batch.append(HardState(term: Term(rawValue: 8), votedFor: nil), shard: ShardID(rawValue: 6))
        try log.write(&batch)
        try log.sync()
        let again = try fixture.crashAndOpen()
        #expect(again.state(5).hardState == HardState(term: Term(rawValue: 7), votedFor: NodeID(rawValue: 3)))
        #expect(again.state(6).hardState == HardState(term: Term(rawValue: 8), votedFor: nil))
    }

    @Test func aReplacedSuffixIsVoid() throws {
        let fixture = LogFixture()
        let log = try fixture.open()
        try log.append([entry(1), entry(2), entry(3)], term: 1)
        try log.append([entry(2, size: 5)], term: 2)
        let state = try fixture.crashAndOpen().state(1)
        #expect(state.lastIndex == LogIndex(rawValue: 2) && state.lastTerm == Term(rawValue: 2))
        #expect(state.term(at: LogIndex(rawValue: 1)) == Term(rawValue: 1))
    }

    // MARK: Truncation

    @Test func idleShardsDoNotPinSegments() throws {
        let fixture = LogFixture()
        var log = try fixture.open()
        var batch = LogBatch()
        batch.append(HardState(term: Term(rawValue: 2), votedFor: nil), shard: ShardID(rawValue: 2))
        try log.write(&batch)
        try log.append([entry(1, shard: 2), entry(2, shard: 2)], term: 2)
        for index in 1...60 as ClosedRange<UInt64> { try log.append([entry(index, size: 200)]) }
        let before = log.segmentCount
        let flushed = [ShardID(rawValue: 1): LogIndex(rawValue: 50), ShardID(rawValue: 2): LogIndex(rawValue: 2)]
        #expect(try log.truncate(flushed: [ShardID(rawValue: 1): LogIndex(rawValue: 50)]) == 0)
        #expect(try log.truncate(flushed: flushed) > 0)
        #expect(log.segmentCount < before)
        log = try fixture.crashAndOpen()
        let state = log.state(2)
        #expect(state.lastIndex == LogIndex(rawValue: 2) && state.lastTerm == Term(rawValue: 2))
        #expect(state.hardState.term == Term(rawValue: 2))
        #expect(log.state(1).lastIndex == LogIndex(rawValue: 60))
        let kept = try log.entries().filter { $0.shard == 1 }.map(\.index)
        #expect(kept.last == 60 && kept.first! <= 51 && kept == Array(kept.first!...60))
        try log.append([entry(3, shard: 2)], term: 3)
        #expect(try fixture.crashAndOpen().state(2).lastIndex == LogIndex(rawValue: 3))
    }

    @Test func truncationKeepsWhatIsNotFlushed() throws {
        let fixture = LogFixture()
        let log = try fixture.open()
        for index in 1...60 as ClosedRange<UInt64> { try log.append([entry(index, size: 200)]) }
        #expect(try log.truncate(flushed: [:]) == 0)
        #expect(try log.truncate(flushed: [ShardID(rawValue: 1): LogIndex(rawValue: 1)]) == 0)
        #expect(try fixture.crashAndOpen().entries().count == 60)
    }

    @Test func aCrashDuringTruncationLosesNothing() throws {
        for changes in 0..<12 {
            let fixture = LogFixture(seed: UInt64(changes))
            let log = try fixture.open()
            for index in 1...80 as ClosedRange<UInt64> { try log.append([entry(index, size: 200)]) }
            fixture.disk.losePower(afterChanges: changes)
            _ = try? log.truncate(flushed: [ShardID(rawValue: 1): LogIndex(rawValue: 70)])
            let again = try fixture.crashAndOpen()
            let kept = try again.entries().map(\.index)
            #expect(kept.first! <= 71 && kept == Array(kept.first!...80), "changes \(changes)")
        }
    }

    // MARK: Faults

    @Test func aFailedSyncIsFinal() throws {
        let fixture = LogFixture()
        let log = try fixture.open()
        try log.append([entry(1)])
        try log.write([entry(2)])
        fixture.disk.failSyncs(1)
        #expect(throws: LogError.self) { try log.sync() }
        #expect(throws: LogError.self) { try log.sync() }
        #expect(throws: LogError.self) { try log.write([entry(3)]) }
        #expect(try fixture.crashAndOpen().entries() == [entry(1)])
    }

    @Test func aFailedWriteIsFinal() throws {
        let fixture = LogFixture()
        let log = try fixture.open()
        try log.append([entry(1)])
        fixture.disk.failWrites(1)
        #expect(throws: LogError.self) { try log.write([entry(2)]) }
        #expect(throws: LogError.self) { try log.sync() }
    }

    @Test func aFullDiskChangesNothing() throws {
        let fixture = LogFixture()
        let log = try fixture.open()
        fixture.disk.capacity = 3 * 4096 + 100
        var index: UInt64 = 0
        var refusal: LogError?
        while refusal == nil {
            do throws(LogError) {
                try log.append([entry(index + 1, size: 300)])
                index += 1
            } catch { refusal = error }
        }
        #expect(refusal?.kind == .full && refusal?.databaseError.code == .diskFull)
        // Refused, but not broken: what is flushed can go, and then there is room.
        #expect(try log.truncate(flushed: [ShardID(rawValue: 1): LogIndex(rawValue: index)]) == 2)
        try log.append([entry(index + 1, size: 300)])
        let kept = try fixture.crashAndOpen().entries().map(\.index)
        #expect(kept.last == index + 1 && kept.first.map { Array($0...index + 1) } == kept)
    }

    @Test func leftoverDraftsAreRemoved() throws {
        let fixture = LogFixture()
        _ = try fixture.open()
        let draft = try fixture.path(0) + ".new"
        _ = try fixture.disk.open(draft, create: true)
        try fixture.disk.syncDirectory(LogFixture.directory)
        _ = try fixture.crashAndOpen()
        #expect(!fixture.disk.exists(draft))
    }
}
