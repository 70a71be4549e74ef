import Base
import Replication
import TestKit
import Testing

/// What recovery cuts, and what it refuses.
struct LogRecoveryTests {
    @Test func unsyncedBatchesAreCutAndNeverComeBack() throws {
        let first = freshSeed("unsynced batches")
        for seed in first..<first + 300 {
            let fixture = LogFixture(seed: seed)
            var random = SplitMix64(seed: seed)
            var acknowledged: [Entry] = []
            var log = try fixture.open()
            for life in 0..<4 {
                for _ in 0..<random.next(below: 5) {
                    acknowledged.append(
                        Entry(
                            index: UInt64(acknowledged.count + 1), payload: random.bytes(Int(random.next(below: 700)))))
                    try log.append([acknowledged[acknowledged.count - 1]])
                }
                var written = acknowledged
                for _ in 0..<random.next(below: 6) {
                    written.append(
                        Entry(index: UInt64(written.count + 1), payload: random.bytes(Int(random.next(below: 700)))))
                    try log.write([written[written.count - 1]])
                }
                log = try fixture.crashAndOpen()
                let found = try log.entries()
                #expect(found.starts(with: acknowledged), "seed \(seed) life \(life): an acknowledged entry is gone")
                #expect(written.starts(with: found), "seed \(seed) life \(life): entries nobody wrote")
                // What survived is the log now.
                acknowledged = found
            }
        }
    }

    @Test func aCrashDuringRecoveryIsHarmless() throws {
        for changes in 0..<8 {
            let fixture = LogFixture(seed: UInt64(changes))
            let log = try fixture.open()
            try log.append([entry(1), entry(2)])
            for index in 3...30 as ClosedRange<UInt64> { try log.write([entry(index, size: 150)]) }
            fixture.disk.crash()
            fixture.disk.losePower(afterChanges: changes)
            _ = try? fixture.open()
            let found = try fixture.crashAndOpen().entries()
            #expect(found.starts(with: [entry(1), entry(2)]))
        }
    }

    /// That the log was cut is known at every later start, until the replica says that it has caught up; also when the
    /// segment that tells it is gone, and when recovery itself is interrupted.
    @Test func aCutIsRemembered() throws {
        for changes in 0..<14 {
            let fixture = LogFixture(seed: UInt64(changes), segmentBytes: 2048)
            var log = try fixture.open()
            try log.append([entry(1), entry(1, shard: 2)])
            try Self.tearTail(fixture, log)
            fixture.disk.losePower(afterChanges: changes)
            _ = try? fixture.open()
            log = try fixture.crashAndOpen()
            #expect(log.state(1).isCut && log.state(2).isCut, "\(changes) changes")
            log = try fixture.crashAndOpen()
            #expect(!log.recovery.wasCut && log.state(1).isCut && !log.state(3).isCut)
            try log.append([entry(1, shard: 3)])

            var batch = LogBatch()
            batch.append(isCut: false, shard: ShardID(rawValue: 2))
            try log.write(&batch)
            try log.sync()
            for index in 2...60 as ClosedRange<UInt64> { try log.append([entry(index, size: 100)]) }
            let flushed = [1: 60, 2: 1, 3: 1].map { (ShardID(rawValue: $0), LogIndex(rawValue: $1)) }
            #expect(try log.truncate(flushed: Dictionary(uniqueKeysWithValues: flushed)) > 0)
            log = try fixture.crashAndOpen()
            #expect(log.state(1).isCut && !log.state(2).isCut && !log.state(3).isCut)
        }
    }

    /// Also when the torn batch was the first of its segment.
    @Test func aCutAtTheEdgeOfASegmentIsRemembered() throws {
        let fixture = LogFixture(segmentBytes: 1024)
        var log = try fixture.open()
        var index: UInt64 = 1
        while log.segmentCount < 2 {
            try log.append([entry(index, size: 90)])
            index += 1
        }
        try fixture.disk.corrupt(try fixture.path(1), at: LogFormat.segmentHeaderSize + 60)
        log = try fixture.open()
        #expect(log.recovery.wasCut && log.state(1).isCut && log.state(1).lastIndex.rawValue == index - 2)
        log = try fixture.crashAndOpen()
        #expect(!log.recovery.wasCut && log.state(1).isCut && log.state(1).lastIndex.rawValue == index - 2)
    }

    /// Damages the last batch, which nothing testifies to.
    private static func tearTail(_ fixture: LogFixture, _ log: SegmentedLog) throws {
        let start = log.end.offset
        try log.append([entry(2)])
        try fixture.disk.corrupt(try fixture.path(0), at: start + 60)
    }

    /// After a failed sync the page cache shows what the disk does not have. A process that restarts without a power
    /// loss reads it, and answers for it: so it must get it to the disk.
    @Test func whatARestartReadsIsMadeDurable() throws {
        let fixture = LogFixture()
        var log = try fixture.open()
        try log.append([entry(1)])
        try log.write([entry(2)])
        fixture.disk.failSyncs(1)
        #expect(throws: LogError.self) { try log.sync() }
        log = try fixture.open()
        let found = try log.entries()
        #expect(found == [entry(1), entry(2)])
        log = try fixture.crashAndOpen()
        #expect(try log.entries() == found)
    }

    /// Damages each byte (sampled) of a log of several synced batches: the damage is found, or only the very last
    /// batch is cut.
    @Test func damageBelowTheSyncedOffsetIsRefused() throws {
        var fixture = LogFixture(segmentBytes: 2048)
        let log = try fixture.open()
        for index in 1...20 as ClosedRange<UInt64> { try log.append([entry(index, size: 100)]) }
        let names = try fixture.disk.list(LogFixture.directory)
        #expect(names.count >= 2)
        var refused = 0
        var cut = 0
        for name in names {
            let path = LogFixture.directory + "/" + name
            for offset in stride(from: 0, to: 2048, by: 7) {
                try fixture.disk.corrupt(path, at: offset, mask: 0x10)
                switch fixture.tryOpen() {
                case .success(let opened):
                    let found = try opened.entries()
                    let all = (1...20).map { entry(UInt64($0), size: 100) }
                    #expect(found == all || found == all.dropLast(), "\(name) \(offset)")
                    if found != all { #expect(opened.recovery.wasCut) }
                    cut += 1
                    // Opening repaired the tail; the next round needs the log as it was.
                    fixture = try Self.rebuilt()
                case .failure(let error):
                    #expect(error.kind == .damaged, "\(error)")
                    #expect(error.message.contains("segment-") && error.message.contains("offset"))
                    refused += 1
                    try fixture.disk.corrupt(path, at: offset, mask: 0x10)
                }
            }
        }
        // Only headers' unused bytes, zeros, and the last batch are no damage.
        #expect(refused > 250 && cut > 0)
    }

    private static func rebuilt() throws -> LogFixture {
        let fixture = LogFixture(segmentBytes: 2048)
        let log = try fixture.open()
        for index in 1...20 as ClosedRange<UInt64> { try log.append([entry(index, size: 100)]) }
        return fixture
    }

    @Test func afterACleanCloseEvenTheLastBatchIsGuarded() throws {
        let fixture = LogFixture()
        let log = try fixture.open()
        try log.append([entry(1), entry(2)])
        let end = log.end.offset
        try log.close()
        try fixture.disk.corrupt(try fixture.path(0), at: end - 20)
        #expect(throws: LogError.self) { try fixture.open() }
    }

    @Test func aMissingSegmentIsRefused() throws {
        for number in 0..<3 {
            let fixture = LogFixture(segmentBytes: 1024)
            let log = try fixture.open()
            for index in 1...30 as ClosedRange<UInt64> { try log.append([entry(index, size: 100)]) }
            try log.truncate(flushed: [ShardID(rawValue: 1): LogIndex(rawValue: 10)])
            #expect(log.segmentCount > 3)
            let path = try fixture.path(number)
            try fixture.disk.remove(path)
            switch fixture.tryOpen() {
            case .success:
                Issue.record("segment \(number) was not missed")
            case .failure(let error):
                #expect(error.message.contains(path) && error.message.contains("missing"))
            }
        }
    }

    @Test func aShortenedSegmentIsRefused() throws {
        let fixture = LogFixture()
        let log = try fixture.open()
        try log.append([entry(1)])
        let file = try fixture.disk.open(try fixture.path(0), create: false)
        try file.truncate(to: 100)
        #expect(throws: LogError.self) { try fixture.open() }
    }

    /// A client that stores the image of a batch cannot make recovery refuse or believe it: it does not know the salt.
    @Test func aStoredBatchImageIsNotMistakenForOne() throws {
        let fixture = LogFixture(seed: 3, segmentBytes: 8192)
        let log = try fixture.open()
        try log.append([entry(1)])
        // The bytes of a whole other log, claiming durability far ahead.
        let other = LogFixture(seed: 4, segmentBytes: 2048)
        let decoy = try other.open()
        for index in 1...8 as ClosedRange<UInt64> { try decoy.append([entry(index, size: 100)]) }
        let image = try other.disk.read(other.path(0))
        try log.write([Entry(index: 2, payload: image)])
        let torn = log.end.offset
        // The header of the torn batch is lost, its payload is there.
        try fixture.disk.open(try fixture.path(0), create: false).sync()
        try fixture.disk.corrupt(try fixture.path(0), at: torn - LogBatchImage.size(2048) + 3)
        let again = try fixture.open()
        #expect(again.recovery.wasCut)
        #expect(try again.entries() == [entry(1)])
    }

    private enum LogBatchImage {
        /// Batch header, record header and payload, as they lie in the log.
        static func size(_ payload: Int) -> Int { (48 + 28 + payload + 7) & ~7 }
    }
}
