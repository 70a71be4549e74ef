import Base
import Dispatch
import Glibc
import Raft
import Replication
import Synchronization
import TestKit
import Testing

/// What the log thread posts, for a test that plays the loop.
private final class Mailbox: Sendable {
    private let state = Mutex<(tickets: [LogTicket], failure: LogError?)>(([], nil))
    private let arrived = DispatchSemaphore(value: 0)

    func post(_ ticket: LogTicket) {
        state.withLock { $0.tickets.append(ticket) }
        arrived.signal()
    }

    func post(_ failure: LogError) {
        state.withLock { $0.failure = failure }
        arrived.signal()
    }

    var failure: LogError? { state.withLock { $0.failure } }

    /// Runs `complete` for what has come.
    func serve(_ writer: LogWriter) {
        let tickets = state.withLock { state in
            defer { state.tickets = [] }
            return state.tickets
        }
        for ticket in tickets { writer.complete(upTo: ticket) }
        sched_yield()
    }

    /// Runs `complete` for what comes, until `isDone`.
    func serve(_ writer: LogWriter, until isDone: () -> Bool) throws {
        while true {
            serve(writer)
            if isDone() { return }
            let isHere = arrived.wait(timeout: .now() + .seconds(HangLimit.seconds)) == .success
            try #require(isHere, "the log thread is silent")
        }
    }
}

struct LogWriterTests {
    /// Two shards with one replica each, whose first entry (Raft's own, index 1 of the first life) is committed.
    private func start(
        _ fixture: LogFixture, _ durability: Durability, _ mailbox: Mailbox, syncEvery: UInt64 = 1000
    ) throws -> (LogWriter, ReplicaGroup, ReplicaGroup) {
        let log = try fixture.open()
        let writer = LogStart(try Self.recovered(log, 1), try Self.recovered(log, 2))
        return try writer.run(
            try LogWriter(
                log: log, durability: durability, syncEveryMilliseconds: syncEvery, onDurable: { mailbox.post($0) },
                onFailure: { mailbox.post($0) }), mailbox)
    }

    /// What a restart finds of a shard whose store holds all that was in the log, or more.
    private static func recovered(
        _ log: SegmentedLog, _ shard: UInt32, applied: UInt64 = 0
    ) throws -> RecoveredReplica {
        let last = log.state(shard).lastIndex
        return try log.recovered(
            ShardID(rawValue: shard), applied: max(last, LogIndex(rawValue: applied)), on: NodeID(rawValue: 1))
    }

    private struct LogStart {
        let replicas: [RecoveredReplica]
        init(_ replicas: RecoveredReplica...) { self.replicas = replicas }

        func groups(_ writer: LogWriter) -> [ReplicaGroup] {
            let id = NodeID(rawValue: 1)
            let shared = ReplicaGroups(id: id, writer: writer, clock: SystemClock(), onFailure: { _ in })
            return replicas.map { replica in
                let group = shared.add(replica, founding: Membership(voters: [id]))
                group.start()
                return group
            }
        }

        func run(_ writer: LogWriter, _ mailbox: Mailbox) throws -> (LogWriter, ReplicaGroup, ReplicaGroup) {
            let groups = groups(writer)
            writer.submit()
            try mailbox.serve(writer) { groups.allSatisfy { $0.committedIndex == $0.lastIndex } }
            return (writer, groups[0], groups[1])
        }
    }

    @Test func commitsAfterTheSync() throws {
        let fixture = LogFixture()
        let mailbox = Mailbox()
        let (writer, first, second) = try start(fixture, .always, mailbox)
        var committed: [LogIndex] = []
        first.onCommitted = { committed.append($0) }
        #expect(try first.propose { $0.append(Bytes("a".utf8)) } == LogIndex(rawValue: 2))
        var seen: Bytes = []
        #expect(try first.propose({ $0.append(Bytes("b".utf8)) }, { seen = $1.bytes }) == LogIndex(rawValue: 3))
        #expect(seen == Bytes("b".utf8))
        _ = try second.propose { $0.append(Bytes("c".utf8)) }
        #expect(first.committedIndex == LogIndex(rawValue: 1) && first.lastIndex == LogIndex(rawValue: 3))
        writer.submit()
        try mailbox.serve(writer) { second.committedIndex == LogIndex(rawValue: 2) }
        #expect(committed == [LogIndex(rawValue: 3)])
        fixture.waitForSegment(2)
        let log = try fixture.crashAndOpen()
        #expect(try log.entries().map(\.index) == [2, 3, 2])
        #expect(log.state(1).hardState.term == Term(rawValue: 1))
    }

    /// As when a node is stopped while the first entries of a term are on their way to the disk.
    @Test func whatIsReportedAfterTheEndNeedsNoLog() throws {
        let fixture = LogFixture()
        let mailbox = Mailbox()
        let log = try fixture.open()
        let writer = try LogWriter(
            log: log, durability: .always, onDurable: { mailbox.post($0) }, onFailure: { mailbox.post($0) })
        let id = NodeID(rawValue: 1)
        let groups = ReplicaGroups(id: id, writer: writer, clock: SystemClock(), onFailure: { mailbox.post($0) })
        let group = groups.add(try Self.recovered(log, 1), founding: Membership(voters: [id]))
        group.start()
        groups.close()
        mailbox.serve(writer)
        #expect(mailbox.failure == nil)
        #expect(try fixture.open().state(1).lastIndex == group.lastIndex)
    }

    @Test(arguments: [Durability.always, .everySecond]) func termsGrowAndIndexesGoOn(durability: Durability) throws {
        let fixture = LogFixture()
        for life in 1...3 as ClosedRange<UInt64> {
            let mailbox = Mailbox()
            let (writer, group, _) = try start(fixture, durability, mailbox)
            #expect(group.term == Term(rawValue: life))
            #expect(group.committedIndex == LogIndex(rawValue: (life - 1) * 11 + 1))
            for _ in 0..<10 {
                _ = try group.propose { $0.append(Bytes(repeating: 3, count: 200)) }
                writer.submit()
            }
            try mailbox.serve(writer) { group.committedIndex == group.lastIndex }
            writer.close()
            #expect(mailbox.failure == nil)
        }
        #expect(try fixture.crashAndOpen().entries().map(\.index) == Array(2...11) + Array(13...22) + Array(24...33))
    }

    @Test func everySecondCommitsAtOnceAndSyncsLater() throws {
        let fixture = LogFixture(segmentBytes: 1 << 16)
        let mailbox = Mailbox()
        let (writer, group, _) = try start(fixture, .everySecond, mailbox, syncEvery: 3_600_000)
        let syncs = fixture.disk.syncs
        var committed = 0
        group.onCommitted = { _ in committed += 1 }
        for index in 1...20 as ClosedRange<UInt64> {
            _ = try group.propose { $0.append(Bytes("x".utf8)) }
            writer.submit()
            #expect(group.committedIndex == LogIndex(rawValue: index + 1))
        }
        #expect(committed == 20)
        // At most the sync of the next segment, which another thread prepares.
        #expect(fixture.disk.syncs <= syncs + 1)
        writer.close()
        #expect(try fixture.crashAndOpen().entries().count == 20)
    }

    @Test func everySecondSyncsByItself() throws {
        let fixture = LogFixture()
        let mailbox = Mailbox()
        let (writer, group, _) = try start(fixture, .everySecond, mailbox, syncEvery: 1)
        // What the start has written did not wait for the second.
        let syncs = writer.statistics.syncs
        #expect(syncs >= 1)
        _ = try group.propose { $0.append(Bytes("x".utf8)) }
        writer.submit()
        while writer.statistics.syncs == syncs { sched_yield() }
        fixture.waitForSegment(2)
        #expect(try fixture.crashAndOpen().entries().count == 1)
    }

    /// A vote that was given is there at the next start, or the start is refused: whichever byte of it is damaged.
    @Test(arguments: [Durability.always, .everySecond]) func aVoteIsNotLostUnnoticed(durability: Durability) throws {
        let records = LogFormat.segmentHeaderSize + LogFormat.batchHeaderSize
        for offset in stride(from: LogFormat.segmentHeaderSize, to: records + 2 * LogFormat.recordHeaderSize, by: 3) {
            let fixture = LogFixture()
            let mailbox = Mailbox()
            let (writer, group, _) = try start(fixture, durability, mailbox)
            #expect(group.term == Term(rawValue: 1))
            fixture.waitForSegment(2)
            fixture.disk.crash()  // And the process with it.
            try fixture.disk.corrupt(try fixture.path(0), at: offset)
            switch fixture.tryOpen() {
            case .success: Issue.record("damage at \(offset) was not noticed")
            case .failure(let error): #expect(error.kind == .damaged)
            }
            withExtendedLifetime(writer) {}
        }
    }

    @Test func manyBatchesShareASync() throws {
        var fixture = LogFixture(segmentBytes: 1 << 20)
        fixture.options.inlineSyncNanoseconds = 0  // As on a slow disk.
        let mailbox = Mailbox()
        let (writer, first, second) = try start(fixture, .always, mailbox)
        for _ in 0..<5000 {
            _ = try first.propose { $0.append(Bytes("x".utf8)) }
            _ = try second.propose { $0.append(Bytes("y".utf8)) }
            writer.submit()
        }
        try mailbox.serve(writer) {
            first.committedIndex == first.lastIndex && second.committedIndex == second.lastIndex
        }
        #expect(writer.statistics.batches <= 5000 && writer.statistics.syncs >= 1)
        writer.close()
        #expect(try fixture.crashAndOpen().entries().count == 10_000)
    }

    /// On a fast disk batches are synced by the caller, on a slow one, and while it is busy, by the thread: each is
    /// durable when it is committed, and the order holds where the two ways meet.
    @Test func batchesOnAFastDiskAreDurableWhenSubmitReturns() throws {
        let fixture = LogFixture(segmentBytes: 1 << 20)
        let mailbox = Mailbox()
        let (writer, group, _) = try start(fixture, .always, mailbox)
        var inline = 0
        for round in 1...60 as ClosedRange<UInt64> {
            let size = round % 3 == 0 ? 20 << 10 : 100
            _ = try group.propose { $0.append(Bytes(repeating: UInt8(round), count: size)) }
            writer.submit()
            if group.committedIndex == LogIndex(rawValue: round + 1) { inline += 1 }
            try mailbox.serve(writer) { group.committedIndex == LogIndex(rawValue: round + 1) }
        }
        #expect(inline > 0)
        writer.close()
        #expect(try fixture.crashAndOpen().entries().map(\.index) == Array(2...61))
    }

    /// A loop that has other work leaves the syncs to the thread, however fast the disk is.
    @Test func nothingIsSyncedOnALoopThatHasOtherWork() throws {
        let fixture = LogFixture(segmentBytes: 1 << 20)
        let mailbox = Mailbox()
        let (writer, group, _) = try start(fixture, .always, mailbox)
        writer.maySyncInline = false
        for round in 1...20 as ClosedRange<UInt64> {
            _ = try group.propose { $0.append(Bytes("x".utf8)) }
            writer.submit()
            #expect(group.committedIndex == LogIndex(rawValue: round))
            try mailbox.serve(writer) { group.committedIndex == LogIndex(rawValue: round + 1) }
        }
        writer.close()
        #expect(try fixture.crashAndOpen().entries().map(\.index) == Array(2...21))
    }

    @Test func aFailedSyncOnTheLoopAcknowledgesNothing() throws {
        let fixture = LogFixture(segmentBytes: 1 << 20)
        let mailbox = Mailbox()
        let (writer, group, _) = try start(fixture, .always, mailbox)
        fixture.waitForSegment(2)
        fixture.disk.failSyncs(.max)
        _ = try group.propose { $0.append(Bytes(repeating: 7, count: 20 << 10)) }
        writer.submit()
        try mailbox.serve(writer) { mailbox.failure != nil }
        #expect(mailbox.failure?.kind == .inputOutput && group.committedIndex == LogIndex(rawValue: 1))
        writer.close()
    }

    @Test(arguments: [Durability.always, .everySecond]) func aFailedSyncStopsEverything(durability: Durability) throws {
        let fixture = LogFixture()
        let mailbox = Mailbox()
        let (writer, group, _) = try start(fixture, durability, mailbox, syncEvery: 1)
        fixture.disk.failSyncs(1000)
        var isFailed = false
        while !isFailed {
            _ = try? group.propose { $0.append(Bytes("x".utf8)) }
            writer.submit()
            isFailed = mailbox.failure != nil
        }
        #expect(mailbox.failure?.kind == .inputOutput)
        if durability == .always { #expect(group.committedIndex == LogIndex(rawValue: 1)) }
        let reached = group.committedIndex
        _ = try? group.propose { $0.append(Bytes("x".utf8)) }
        writer.submit()
        #expect(group.committedIndex == reached)
    }

    @Test(arguments: [Durability.always, .everySecond]) func aFullDiskRefusesAndRecovers(durability: Durability) throws
    {
        let fixture = LogFixture(segmentBytes: 1 << 16)
        let mailbox = Mailbox()
        let (writer, group, _) = try start(fixture, durability, mailbox)
        fixture.disk.capacity = 140_000
        var accepted: UInt64 = 0
        var refusal: DatabaseError?
        while refusal?.code != .diskFull, mailbox.failure == nil {
            do throws(DatabaseError) {
                _ = try group.propose { $0.append(Bytes(repeating: 1, count: 400)) }
                accepted += 1
                writer.submit()
                if accepted % 8 == 0, durability == .always {
                    while group.committedIndex.rawValue + 8 < accepted, !writer.isFull { mailbox.serve(writer) }
                }
            } catch { refusal = error }
        }
        #expect(refusal?.code == .diskFull)
        #expect(writer.statistics.isFull)
        // Flushed shards make room again, or somebody removes files.
        fixture.disk.capacity = .max
        while writer.isFull, mailbox.failure == nil { sched_yield() }
        _ = try group.propose { $0.append(Bytes("more".utf8)) }
        writer.submit()
        try mailbox.serve(writer) { group.committedIndex == group.lastIndex }
        #expect(group.lastIndex.rawValue == accepted + 2)
        writer.close()
        #expect(mailbox.failure == nil)
        #expect(try fixture.crashAndOpen().entries().count == Int(accepted) + 1)
    }

    @Test(arguments: [Durability.always, .everySecond]) func removesFlushedSegments(durability: Durability) throws {
        let fixture = LogFixture()
        let mailbox = Mailbox()
        let (writer, group, idle) = try start(fixture, durability, mailbox)
        _ = try idle.propose { $0.append(Bytes("once".utf8)) }
        for _ in 0..<200 {
            _ = try group.propose { $0.append(Bytes(repeating: 1, count: 100)) }
            writer.submit()
            try mailbox.serve(writer) { group.committedIndex == group.lastIndex }
        }
        idle.noteFlushed(idle.committedIndex)
        group.noteFlushed(LogIndex(rawValue: 190))
        while writer.statistics.removedSegments == 0 { sched_yield() }
        writer.close()
        let log = try fixture.crashAndOpen()
        #expect(log.state(2).lastIndex == LogIndex(rawValue: 2))
        let kept = try log.entries().filter { $0.shard == 1 }.map(\.index)
        #expect(kept == Array((kept.first ?? 0)...201) && (kept.first ?? 0) <= 191 && (kept.first ?? 0) > 100)
    }

    @Test func aStoreAheadOfTheLogMovesItForward() throws {
        let fixture = LogFixture()
        var mailbox = Mailbox()
        var log = try fixture.open()
        var start = LogStart(try Self.recovered(log, 1, applied: 41))
        var writer = try LogWriter(log: log, durability: .always, onDurable: { [mailbox] in mailbox.post($0) })
        let group = start.groups(writer)[0]
        #expect(try group.propose { $0.append(Bytes("x".utf8)) } == LogIndex(rawValue: 43))
        writer.submit()
        try mailbox.serve(writer) { group.committedIndex == LogIndex(rawValue: 43) }
        writer.close()
        log = try fixture.crashAndOpen()
        #expect(log.state(1).markIndex == LogIndex(rawValue: 41))
        #expect(try log.entries().map(\.index) == [43])
        mailbox = Mailbox()
        start = LogStart(try Self.recovered(log, 1, applied: 41))
        writer = try LogWriter(log: log, durability: .always, onDurable: { [mailbox] in mailbox.post($0) })
        let again = start.groups(writer)[0]
        #expect(again.committedIndex == LogIndex(rawValue: 43) && again.term == Term(rawValue: 2))
        writer.close()
    }

    @Test func onARealDisk() throws {
        var template = Array("/tmp/orbit-log-XXXXXX".utf8CString)
        let made = template.withUnsafeMutableBufferPointer { $0.baseAddress.flatMap { mkdtemp($0) } != nil }
        guard made else { throw SystemError("mkdtemp") }
        let directory = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        let disk = PosixDisk()
        defer {
            for name in (try? disk.list(directory)) ?? [] { try? disk.remove("\(directory)/\(name)") }
            try? disk.remove(directory)
        }
        var options = SegmentedLog.Options()
        options.segmentBytes = 1 << 20
        for life in 1...2 as ClosedRange<UInt64> {
            let mailbox = Mailbox()
            let log = try SegmentedLog(disk: disk, directory: directory, options: options)
            #expect(!log.recovery.wasCut)
            let start = LogStart(try Self.recovered(log, 1))
            let writer = try LogWriter(log: log, durability: .always, onDurable: { mailbox.post($0) })
            let group = start.groups(writer)[0]
            #expect(group.committedIndex.rawValue == (life - 1) * 301)
            for _ in 0..<300 {
                _ = try group.propose { $0.append(Bytes(repeating: 1, count: 10_000)) }
                writer.submit()
                try mailbox.serve(writer) { group.committedIndex == group.lastIndex }
            }
            writer.close()
        }
    }
}
