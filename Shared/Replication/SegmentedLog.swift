// Replication: how effects become durable, and in which order they count.
//
//     loop     group.propose { … }   encodes an entry of its shard into the batch of this tick
//     loop     writer.submit()       once per tick: the batch of all shards goes to the log thread
//     thread   log.write, log.sync   one pwrite and one fdatasync for all of it; meanwhile the next batch collects
//     loop     writer.complete       every group learns its committed index, and answers are let go
//
// `SegmentedLog` is the file part, synchronous, so that a simulation can run it on a disk that lies; `LogWriter` adds
// the thread; `ReplicaGroup` drives a Raft core over it, for one replica as for several; `ReplicaGroups` is what those
// of a process share.
//
// Invariants.
// 1. A batch is acknowledged only when a sync that began after its write has returned (`always`), or its write has
//    (`everySecond`; then power loss may cost the last second, death of the process nothing).
// 2. After a failed write or sync nothing more is written or acknowledged: the kernel may have dropped the pages,
//    and a second fsync that succeeds proves nothing. The process must stop; recovery reads what the disk holds, and
//    writes again what no batch proves to be durable.
// 3. A full disk is met when the next segment is made, before anything is written to it: nothing is in doubt then.
// 4. Recovery finds every batch that was acknowledged, or refuses. It walks the batches by sequence and chain; where
//    that ends, it searches the bytes behind for batch headers. If one says that the log was durable beyond that
//    place, bytes that were acknowledged are gone: an error that names the place. Otherwise this is the torn tail of
//    unsynced writes: it is cut, and zeroed before anything new is written there. What cannot be told apart is damage
//    of the very last round, to which no later header testifies (recovery and `close` write one for that reason; so
//    does a round that holds more than entries, before it counts as done). So the log remembers that it was cut, and a
//    replica of several votes like the others only when it has caught up: see Raft's CutLogs.swift.
// 5. Of two entries of a shard with the same index the later one holds, and what came between them is void: so a
//    replica replaces a suffix that was not committed. A `restart` voids everything before it: so a snapshot takes the
//    place of the log. `LogExtents` knows in each segment what holds; only that is handed out, and only that counts
//    for what a segment is needed for.
// 6. Segments are removed only from the front, only below every shard's flushed index, and only after the state of all
//    shards (hard state, membership, and where their log begins) was written again behind them. So an idle shard keeps
//    no segment alive.

import Base
import Raft

/// What recovery found.
package struct LogRecovery: Hashable, Sendable {
    package var segments = 0
    package var batches = 0
    package var records = 0
    /// Bytes of a torn tail were cut now: the last unacknowledged batches, or (never to be excluded) a damaged last
    /// one.
    package var wasCut = false
    /// A later batch testifies to everything that was found: damage of it will be refused, not cut. False only on a
    /// full disk.
    package var isSealed = true
    package var end = LogPosition(segment: 1, offset: LogFormat.segmentHeaderSize)
}

/// The log of a process: one sequence of batches over all its shards, in segments.
package final class SegmentedLog {
    /// Sizes; what is not set keeps its default.
    package struct Options: Sendable {
        /// Size of a segment, zero-filled before its first use.
        package var segmentBytes = 64 << 20
        /// Largest payload of an entry; less where segments are too small for it.
        package var maximumPayload = LogFormat.maximumPayload
        /// A batch is synced on the loop if the last sync took less: waking the log's thread and being woken by it
        /// costs more than a fast disk does, and what comes meanwhile waits in the sockets as the next batch. A slower
        /// disk would hold up reads, so its syncs run on the thread; the first fast one there brings them back.
        package var inlineSyncNanoseconds: UInt64 = 400_000
        /// A bug to plant: recovery believes damaged records. The simulator proves with it that it would notice.
        package var ignoresChecksums = false

        package init() {}
    }

    /// A segment that holds batches.
    struct Used {
        let segment: LogSegment
        /// Where the next batch goes, or went no more.
        var end: Int
        var syncedEnd: Int
        /// The entries of each shard in here that hold.
        var extents: [ShardID: LogExtents] = [:]
    }

    let disk: any Disk
    package let directory: String
    package let options: Options
    package internal(set) var recovery = LogRecovery()
    package internal(set) var shards: [ShardID: ShardLogState] = [:]
    var used: [Used] = []
    /// The next segment, ready for use.
    var prepared: LogSegment?
    var random: any RandomSource
    var nextSequence: UInt64 = 1
    /// The first segment that a mark says is still needed.
    var firstNeeded: UInt64 = 1
    var chain: UInt32 = 0
    /// The highest position that a batch says was durable.
    var proven = LogPosition(segment: 0, offset: 0)
    /// Where the last batch with records ends, as recovery found it.
    var lastRecords = LogPosition(segment: 0, offset: 0)
    package internal(set) var synced = LogPosition(segment: 1, offset: LogFormat.segmentHeaderSize)
    /// Set when a write or sync failed: nothing may follow it.
    package private(set) var failure: LogError?

    /// Opens the log in `directory`, makes it when there is none, and recovers. Throws `damaged` when bytes are gone
    /// that were durable; nothing has been changed then.
    package init(
        disk: any Disk, directory: String, options: Options = Options(), random: any RandomSource = SystemRandom()
    ) throws(LogError) {
        self.disk = disk
        self.directory = directory
        self.random = random
        var options = options
        let room = options.segmentBytes - LogFormat.segmentHeaderSize - LogFormat.batchHeaderSize - 64
        precondition(room >= 512 && options.segmentBytes < 1 << 32, "segments of 1 KiB to 4 GiB")
        options.segmentBytes = LogFormat.aligned(options.segmentBytes)
        options.maximumPayload = min(options.maximumPayload, LogFormat.maximumPayload, room)
        self.options = options
        do throws(SystemError) {
            // Every directory that is new must be durable in the one above it, or a crash takes the whole log away.
            var parents = [disk.directory(of: directory)]
            while let last = parents.last, !disk.exists(last), last != disk.directory(of: last) {
                parents.append(disk.directory(of: last))
            }
            try disk.makeDirectory(directory)
            for parent in parents.reversed() { try disk.syncDirectory(parent) }
        } catch {
            throw LogError.of(error)
        }
        try recover()
    }

    /// The state of a shard; of one that the log has never seen, that of an empty log.
    package func state(of shard: ShardID) -> ShardLogState { shards[shard] ?? ShardLogState() }

    /// Where the next batch goes.
    package var end: LogPosition {
        guard let last = used.last else { return LogPosition(segment: 1, offset: LogFormat.segmentHeaderSize) }
        return LogPosition(segment: last.segment.sequence, offset: last.end)
    }

    package var segmentCount: Int { used.count }

    // MARK: Writing

    /// Bytes that the current segment and a prepared one still take.
    package var room: Int {
        guard let last = used.last else { return 0 }
        return Int(last.segment.header.size) - last.end + (prepared?.capacity ?? 0)
    }

    /// Whether a batch of so many bytes needs the next segment.
    func needsNextSegment(_ byteCount: Int) -> Bool {
        lacksRoom(byteCount, sparing: stateReserve)
    }

    /// The end of each segment is kept for what a truncation writes, so that a full disk can be emptied.
    private var stateReserve: Int { min(64 << 10, options.segmentBytes / 16) }

    /// Whether a truncation can begin without a new segment.
    var canTruncateInPlace: Bool { !lacksRoom(stateSize, sparing: 0) }

    private func lacksRoom(_ byteCount: Int, sparing reserve: Int) -> Bool {
        guard let last = used.last else { return true }
        // An empty segment takes what it can hold, reserve or not: no other could take more.
        let spared = last.end == LogFormat.segmentHeaderSize ? 0 : reserve
        return Int(last.segment.header.size) - last.end - spared < LogFormat.aligned(byteCount)
    }

    /// What to run in the background so that the next segment is there in time; nil when it is.
    package func preparation() -> SegmentPreparation? {
        guard prepared == nil, failure == nil else { return nil }
        let header = LogFormat.SegmentHeader(
            sequence: (used.last?.segment.sequence ?? 0) + 1, salt: random.next(), size: UInt64(options.segmentBytes))
        return SegmentPreparation(disk: disk, directory: directory, header: header)
    }

    func install(_ segment: LogSegment) {
        precondition(segment.sequence == (used.last?.segment.sequence ?? 0) + 1, "segments follow one another")
        prepared = segment
    }

    /// Writes a batch; it is in the file when this returns, and durable after the next `sync`. `full` changes nothing
    /// and may be tried again. A batch larger than a segment is written as several.
    package func write(_ batch: inout LogBatch) throws(LogError) {
        guard !batch.isEmpty else { return }
        try checkAlive()
        if fitsInSegment(batch) {
            try writeOne(&batch)
        } else {
            try writeInParts(&batch)
        }
    }

    /// Writes the state of shards, also into the room kept for it.
    func writeState(_ batch: inout LogBatch) throws(LogError) {
        try checkAlive()
        if !batch.isEmpty { try writeOne(&batch, isState: true) }
    }

    /// Whether a batch fits in one segment, and so can be written as it is.
    func fitsInSegment(_ batch: borrowing LogBatch) -> Bool {
        LogFormat.aligned(batch.byteCount) <= options.segmentBytes - LogFormat.segmentHeaderSize
    }

    private func writeInParts(_ batch: inout LogBatch) throws(LogError) {
        var part = LogBatch()
        var position = 0
        while fillPart(&part, from: batch, &position) { try writePart(&part) }
    }

    /// Fills `part` with as many of the records of `batch` from `position` on as a segment takes; false at the end.
    func fillPart(_ part: inout LogBatch, from batch: borrowing LogBatch, _ position: inout Int) -> Bool {
        let capacity = options.segmentBytes - LogFormat.segmentHeaderSize - 8
        part.removeAll()
        let rest = ByteView(rebasing: batch.records[position...])
        var reader = ByteReader(rest)
        var start = 0
        while LogFormat.nextRecord(&reader) != nil {
            let record = ByteView(rebasing: rest[start..<reader.offset])
            if part.byteCount + record.count > capacity { break }
            part.append(rawRecord: record)
            start = reader.offset
        }
        position += start
        return !part.isEmpty
    }

    /// A part after the first may find the disk full; then something of the batch is written, and it cannot be tried
    /// again.
    private func writePart(_ part: inout LogBatch) throws(LogError) {
        do throws(LogError) {
            try writeOne(&part)
        } catch {
            throw fail(LogError(.inputOutput, error.message))
        }
    }

    private func writeOne(_ batch: inout LogBatch, isState: Bool = false, isCut: Bool = false) throws(LogError) {
        if lacksRoom(batch.byteCount, sparing: isState ? 0 : stateReserve) { try startNextSegment() }
        let last = used.count - 1
        let segment = used[last].segment
        let records = batch.records
        let header = LogFormat.BatchHeader(
            length: records.count, count: batch.recordCount, sequence: nextSequence, synced: synced, chain: chain,
            bodyChecksum: CRC32C.checksum(records), isCut: isCut)
        let checksum = header.encode(into: batch.buffer.mutableReadable, segment.header)
        let exact = batch.buffer.count
        while batch.buffer.count % 8 != 0 { batch.buffer.append(0) }
        let length = batch.buffer.count
        do throws(SystemError) {
            try segment.file.pwrite(batch.buffer.readable, at: used[last].end)
        } catch {
            throw fail(LogError(.inputOutput, "\(error) (the disk must hold what was zero-filled before)"))
        }
        batch.buffer.truncate(to: exact)
        let start = used[last].end
        used[last].end += length
        nextSequence += 1
        chain = checksum
        note(batch.records, in: last, batchAt: start)
    }

    private func startNextSegment() throws(LogError) {
        if prepared == nil, let preparation = preparation() {
            do throws(LogError) { prepared = try preparation.run() } catch {
                throw error.kind == .full ? error : fail(error)
            }
        }
        guard let next = prepared else { return }
        prepared = nil
        used.append(
            Used(segment: next, end: LogFormat.segmentHeaderSize, syncedEnd: LogFormat.segmentHeaderSize))
    }

    /// Takes over what the records of a batch say about their shards.
    func note(_ records: ByteView, in segment: Int, batchAt batch: Int) {
        var reader = ByteReader(records)
        var offset = batch + LogFormat.batchHeaderSize
        while let record = LogFormat.nextRecord(&reader) {
            switch record.kind {
            case .entry, .empty, .configuration:
                noteEntry(record, in: segment, batch, offset)
            case .hardState:
                if let state = LogFormat.hardState(of: record) {
                    shards[record.shard, default: ShardLogState()].hardState = state
                }
            case .mark:
                firstNeeded = max(firstNeeded, LogFormat.firstSegment(ofMark: record) ?? 1)
                shards[record.shard, default: ShardLogState()].note(markAt: record.index, record.term)
            case .membership:
                if let membership = Membership.decode(record.payload) {
                    shards[record.shard, default: ShardLogState()].note(membership, at: record.index)
                }
            case .restart:
                cut(record.shard, from: .zero)
                shards[record.shard, default: ShardLogState()].note(restartAt: record.index, record.term)
            case .removed:
                cut(record.shard, from: .zero)
                shards[record.shard, default: ShardLogState()].note(
                    removedAt: EntryID(term: record.term, index: record.index), record.payload.bytes)
            case .floor:
                shards[record.shard, default: ShardLogState()].note(
                    floor: EntryID(term: record.term, index: record.index))
            case .cut:
                if let isCut = LogFormat.isCut(record) {
                    shards[record.shard, default: ShardLogState()].isCut = isCut
                }
            case .installing:
                shards[record.shard, default: ShardLogState()].installing = Membership.decode(record.payload).map {
                    SnapshotMetadata(last: EntryID(term: record.term, index: record.index), membership: $0)
                }
            }
            offset = batch + LogFormat.batchHeaderSize + reader.offset
        }
    }

    private func noteEntry(_ record: LogRecord, in segment: Int, _ batch: Int, _ offset: Int) {
        if shards[record.shard, default: ShardLogState()].note(record.index, record.term) {
            cut(record.shard, from: record.index)
        }
        used[segment].extents[record.shard, default: LogExtents()].add(record.index, batch: batch, record: offset)
        if record.kind == .configuration, let membership = Membership.decode(record.payload) {
            shards[record.shard]?.note(membership, at: record.index)
        }
    }

    /// Entries of the shard from `index` on hold no more, wherever they are.
    private func cut(_ shard: ShardID, from index: LogIndex) {
        for position in used.indices { used[position].extents[shard]?.cut(from: index) }
    }

    // MARK: Syncing

    /// What a sync must do: taken under the owner's lock, run without it, ended under it.
    struct SyncPlan: Sendable {
        var files: [(file: any DiskFile, sequence: UInt64, end: Int)] = []
        var end: LogPosition

        func run() throws(SystemError) {
            for entry in files { try entry.file.sync() }
        }
    }

    func beginSync() -> SyncPlan {
        var plan = SyncPlan(end: end)
        for entry in used where entry.end > entry.syncedEnd {
            plan.files.append((entry.segment.file, entry.segment.sequence, entry.end))
        }
        return plan
    }

    func finishSync(_ plan: SyncPlan) {
        for done in plan.files {
            for position in used.indices where used[position].segment.sequence == done.sequence {
                used[position].syncedEnd = max(used[position].syncedEnd, done.end)
            }
        }
        synced = max(synced, plan.end)
    }

    /// Makes everything written so far durable. A failure is final.
    package func sync() throws(LogError) {
        try checkAlive()
        let plan = beginSync()
        do throws(SystemError) {
            try plan.run()
        } catch {
            throw fail(LogError(.inputOutput, error.description))
        }
        finishSync(plan)
    }

    func checkAlive() throws(LogError) {
        if let failure { throw failure }
    }

    /// From here on everything is refused.
    func fail(_ error: LogError) -> LogError {
        failure = failure ?? error
        return error
    }

    /// Syncs, and leaves a last word that everything before it was durable, so that even damage of the last batch is
    /// found.
    package func close() throws(LogError) {
        defer {
            for entry in used { entry.segment.file.close() }
            prepared?.file.close()
            _ = fail(LogError(.inputOutput, "the log is closed"))
        }
        try checkAlive()
        guard nextSequence > 1 else { return }
        try sync()
        try seal()
    }

    /// Leaves a batch without records, to say what is durable; unless that would take a new segment, and it may not
    /// begin one.
    func seal(mayBegin: Bool = false) throws(LogError) {
        guard mayBegin || hasRoomForSeal else { return }
        try writeSeal()
        try sync()
    }

    /// Whether a seal needs no new segment.
    var hasRoomForSeal: Bool { !lacksRoom(LogFormat.batchHeaderSize, sparing: 0) }

    /// Writes the batch without records, also into the room kept for the state of shards.
    func writeSeal(isCut: Bool = false) throws(LogError) {
        try checkAlive()
        var seal = LogBatch(capacity: 64)
        try writeOne(&seal, isState: true, isCut: isCut)
    }

    /// Takes note of a batch that says that the log was cut before it. Of a shard that the log does not know, nothing
    /// is lost: its first records are of those that are not lost unnoticed.
    func noteCut() {
        for shard in shards.keys { shards[shard]?.isCut = true }
    }
}
