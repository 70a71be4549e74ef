import Base
import Glibc
import Replication
import TestKit
import Testing

/// A log on a simulated disk, and what is needed to talk about it in few words.
struct LogFixture {
    static let directory = "/data/log"
    let disk: SimulatedDisk
    var options = SegmentedLog.Options()
    private var random: SplitMix64

    init(seed: UInt64 = 1, segmentBytes: Int = 4096) {
        disk = SimulatedDisk(seed: seed)
        options.segmentBytes = segmentBytes
        random = SplitMix64(seed: seed)
    }

    func open() throws(LogError) -> SegmentedLog {
        try SegmentedLog(disk: disk, directory: Self.directory, options: options, random: random)
    }

    /// As `open`, with the refusal as a value.
    func tryOpen() -> Result<SegmentedLog, LogError> {
        do throws(LogError) { return .success(try open()) } catch { return .failure(error) }
    }

    /// Opens after a crash of the disk.
    func crashAndOpen() throws(LogError) -> SegmentedLog {
        disk.crash()
        return try open()
    }

    /// A writer prepares the next segment on a thread of its own: a test that opens the log behind its back must wait
    /// for that.
    func waitForSegment(_ sequence: UInt64) {
        while !disk.exists(Self.directory + "/" + LogSegment.name(sequence)) { sched_yield() }
    }

    func path(_ number: Int) throws -> String {
        Self.directory + "/" + (try #require(try disk.list(Self.directory).dropFirst(number).first))
    }
}

/// One entry, to compare with.
struct Entry: Hashable, Comparable, CustomStringConvertible {
    var shard: UInt32 = 1
    var index: UInt64
    var payload: Bytes = []

    static func < (left: Entry, right: Entry) -> Bool { (left.shard, left.index) < (right.shard, right.index) }
    var description: String { "\(shard)/\(index)(\(payload.count))" }
}

extension SegmentedLog {
    /// Writes entries as one batch, without a sync.
    func write(_ entries: [Entry], term: UInt64 = 1) throws(LogError) {
        var batch = LogBatch()
        for entry in entries {
            _ = try batch.append(
                .entry, shard: ShardID(rawValue: entry.shard), term: Term(rawValue: term),
                index: LogIndex(rawValue: entry.index)
            ) { $0.append(entry.payload) }
        }
        try write(&batch)
    }

    func append(_ entries: [Entry], term: UInt64 = 1) throws(LogError) {
        try write(entries, term: term)
        try sync()
    }

    /// What holds, without Raft's own entries.
    func entries() throws -> [Entry] {
        var found: [Entry] = []
        try replay { record throws(DatabaseError) in
            guard record.kind == .entry else { return }
            found.append(
                Entry(shard: record.shard.rawValue, index: record.index.rawValue, payload: record.payload.bytes))
        }
        return found
    }

    func state(_ shard: UInt32) -> ShardLogState { state(of: ShardID(rawValue: shard)) }
}

func entry(_ index: UInt64, shard: UInt32 = 1, size: Int = 20) -> Entry {
    Entry(shard: shard, index: index, payload: Bytes(repeating: UInt8(truncatingIfNeeded: index), count: size))
}
