import Base
import Glibc
import Raft
import Synchronization

/// When a write counts as done.
package enum Durability: Sendable {
    /// When it is on the disk: one fdatasync per round, on the loop while the disk is fast, else on the log thread.
    case always
    /// When it is in the file: one write on the loop thread, and an fdatasync each second on the log thread. Power
    /// loss may cost the last second; the death of the process costs nothing. Only votes, terms and memberships wait
    /// for the disk.
    case everySecond
}

/// The number of a submission; grows by one with each.
package typealias LogTicket = UInt64

/// The loop's side of the log: collects the records of all shards during a tick, submits them at its end, and tells
/// each group when its entries are committed. Loop-confined; what crosses threads is in `LogCore`.
///
/// The loop appends to `collecting`. `submit` swaps it with the batch that waits for the thread, or appends to that
/// when the thread is still busy with the one before: so the thread never waits for the loop, and one fdatasync
/// covers everything that came while the last one ran.
///
/// A full disk: see `LogCore.write`. While the log is full, `propose` refuses; what was accepted before stays
/// unanswered until there is room, because its outcome is not known.
package final class LogWriter {
    /// What was submitted under a ticket, for one group.
    private struct Submitted {
        let ticket: LogTicket
        let group: ReplicaGroup
        let progress: ReplicaGroup.WriteProgress
    }

    package let durability: Durability
    package let maximumPayload: Int
    /// Whether `submit` may sync on the loop under `always`, where the disk is fast enough for that. False while the
    /// loop has other work to do than what waits for the log.
    package var maySyncInline = true
    private let core: LogCore
    private var thread: LogThread?
    private var isClosed = false
    private var collecting = LogBatch()
    /// The groups with entries in `collecting`; a group is in here once.
    private var proposers: [ReplicaGroup] = []
    /// Submissions that are not committed yet, oldest first, from `oldest` on.
    private var submitted: [Submitted] = []
    private var oldest = 0
    private var lastTicket: LogTicket = 0
    /// Bytes submitted in all.
    private(set) var submittedBytes: UInt64 = 0

    /// Takes the log over and starts its thread.
    ///
    /// - Parameters:
    ///   - onDurable: called on the log thread when everything up to a ticket is committed; it posts
    ///     `complete(upTo:)` to the loop.
    ///   - onFailure: called once, on the thread that met a failed write or sync. Nothing is acknowledged any more;
    ///     the default says so and ends the process, which is what a node must do.
    package init(
        log: SegmentedLog, durability: Durability, syncEveryMilliseconds: UInt64 = 1000,
        onDurable: @escaping @Sendable (LogTicket) -> Void,
        onFailure: @escaping @Sendable (LogError) -> Void = LogWriter.endProcess
    ) throws(LogError) {
        self.durability = durability
        maximumPayload = log.options.maximumPayload
        let core = LogCore(
            log: log, durability: durability, syncNanoseconds: syncEveryMilliseconds &* 1_000_000, onDurable: onDurable,
            onFailure: onFailure)
        self.core = core
        thread = try LogThread(name: "log") { core.run() }
    }

    /// Takes the log over without a thread, for a simulation in one thread: the disk is touched in `runRound` only,
    /// and `onDurable` is called from there.
    package init(
        stepped log: SegmentedLog, durability: Durability, onDurable: @escaping @Sendable (LogTicket) -> Void,
        onFailure: @escaping @Sendable (LogError) -> Void
    ) {
        self.durability = durability
        maximumPayload = log.options.maximumPayload
        core = LogCore(
            log: log, durability: durability, syncNanoseconds: 0, isThreaded: false, onDurable: onDurable,
            onFailure: onFailure)
    }

    /// Does what the thread would do next: writes and syncs what was submitted, removes segments. For a writer without
    /// a thread.
    package func runRound() { core.runRound() }

    /// Ends as the death of a process would: nothing more is written. For a writer without a thread.
    func abandon() { isClosed = true }

    deinit { close() }

    /// Says on standard error what failed, and ends the process at once.
    package static let endProcess: @Sendable (LogError) -> Void = { error in
        var text = "FATAL: \(error). Nothing was acknowledged after it; a restart reads what the disk really holds.\n"
        text.withUTF8 { _ = Glibc.write(2, $0.baseAddress, $0.count) }
        _exit(74)
    }

    // MARK: Proposing

    /// What may wait for the disk; beyond it `propose` refuses with `busy`, so that a stalled disk cannot take all
    /// memory.
    package static let maximumQueuedBytes = 128 << 20

    /// Whether proposals are refused because the disk is full.
    package var isFull: Bool { core.isFull.load(ordering: .relaxed) }

    /// Bytes that were proposed and are not written yet: what back-pressure looks at.
    package var queuedBytes: Int { collecting.byteCount + core.queuedBytes.load(ordering: .relaxed) }

    /// Throws what a proposal must be refused with: `busy` or `diskFull`.
    func checkRoom() throws(DatabaseError) {
        if queuedBytes > Self.maximumQueuedBytes {
            throw DatabaseError(.busy, "the log is \(queuedBytes) bytes behind its disk")
        }
        if isFull { throw DatabaseError(.diskFull, "the log's disk is full; writes are refused until there is room") }
    }

    /// Appends an entry, and returns where its payload lies in the batch of this tick.
    func append(
        _ kind: RecordKind, _ id: EntryID, of group: ReplicaGroup, _ encode: (inout ByteBuffer) -> Void
    ) throws(DatabaseError) -> Range<Int> {
        let place: Range<Int>
        do throws(LogError) {
            place = try collecting.append(
                kind, shard: group.shard, term: id.term, index: id.index, limit: maximumPayload, encode)
        } catch {
            throw error.databaseError
        }
        note(group)
        return place
    }

    /// The payload that `append` has just put there.
    func payload(at place: Range<Int>) -> ByteView { collecting.payload(place) }

    /// Takes back what `append` has just put there.
    func takeBack(_ place: Range<Int>) {
        collecting.takeBack(from: place.lowerBound - LogFormat.recordHeaderSize)
    }

    func append(_ state: HardState, of group: ReplicaGroup) {
        collecting.append(state, shard: group.shard)
        note(group)
    }

    func append(markAt place: EntryID, of group: ReplicaGroup) {
        collecting.append(markAt: place.index, place.term, shard: group.shard, firstSegment: 1)
        note(group)
    }

    /// Appends the membership in force from `index` on.
    func append(_ membership: Membership, at index: LogIndex, of group: ReplicaGroup) {
        collecting.append(membership, at: index, shard: group.shard)
        note(group)
    }

    /// Appends that a snapshot is about to take the place of the shard's store, or that it has.
    func append(_ snapshot: SnapshotMetadata, isInstalled: Bool, of group: ReplicaGroup) {
        if isInstalled {
            collecting.append(restartAt: snapshot.last, shard: group.shard)
            collecting.append(snapshot.membership, at: snapshot.last.index, shard: group.shard)
        } else {
            collecting.append(installing: snapshot, shard: group.shard)
        }
        note(group)
    }

    /// Appends that the replica is gone, whose log ended at `end`, and what it must not forget nevertheless.
    func append(removedAt end: EntryID, note: Bytes, _ state: HardState, of group: ReplicaGroup) {
        collecting.append(removedAt: end, note: note, shard: group.shard)
        collecting.append(state, shard: group.shard)
        self.note(group)
    }

    /// Appends whether the group's log may lack its end.
    func append(isCut: Bool, of group: ReplicaGroup) {
        collecting.append(isCut: isCut, shard: group.shard)
        note(group)
    }

    private func note(_ group: ReplicaGroup) {
        guard !group.isWriting else { return }
        group.isWriting = true
        proposers.append(group)
    }

    /// Entries of the shard that were written, from the segments: at most `bytes` of payload but one entry at least;
    /// none when the log begins behind the first one, or it is not written yet.
    func entries(
        of shard: ShardID, from first: LogIndex, through last: LogIndex, bytes: Int
    ) throws(LogError) -> [LoggedEntry] {
        try core.entries(of: shard, first..<LogIndex(rawValue: last.rawValue &+ 1), bytes: bytes)
    }

    // MARK: Submitting

    /// What the next submission will be known by.
    var nextTicket: LogTicket { lastTicket &+ 1 }

    /// Whether there is something to submit.
    package var needsSubmit: Bool { !collecting.isEmpty }

    /// Hands over what this tick wrote: call it once at the end of a tick. Under `everySecond`, and under `always` on a
    /// fast disk, it is usually written and, with a single replica, committed when this returns; `onCommitted` of the
    /// groups is called from here then.
    package func submit() {
        guard !collecting.isEmpty else { return }
        lastTicket += 1
        submittedBytes &+= UInt64(collecting.byteCount)
        for group in proposers {
            group.isWriting = false
            submitted.append(Submitted(ticket: lastTicket, group: group, progress: group.progress(at: lastTicket)))
        }
        proposers.removeAll(keepingCapacity: true)
        if maySyncInline || durability != .always, core.writeInline(&collecting) {
            complete(upTo: lastTicket)
        } else {
            core.enqueue(&collecting, lastTicket)
        }
    }

    /// Tells the groups what of theirs is durable, up to `ticket`; the loop calls it for `onDurable`.
    package func complete(upTo ticket: LogTicket) {
        while oldest < submitted.count, submitted[oldest].ticket <= ticket {
            let entry = submitted[oldest]
            oldest += 1
            entry.group.persisted(entry.progress)  // May propose: that appends to `collecting`, not to `submitted`.
        }
        if oldest == submitted.count {
            submitted.removeAll(keepingCapacity: true)
            oldest = 0
        } else if oldest > 256 {
            submitted.removeFirst(oldest)
            oldest = 0
        }
    }

    /// A shard's store holds everything up to `index` durably: the log thread may remove segments.
    func noteFlushed(_ group: ReplicaGroup, _ index: LogIndex) {
        core.noteFlushed(group.shard, LogCore.FlushedIndex(index: index, life: group.journal.life))
    }

    /// The replica is gone, and the log knows: the log thread may remove segments.
    func noteGone(_ shard: ShardID) { core.noteGone(shard) }

    /// What is written is on the disk when this returns. Under `always` nothing is reported before it is anyway; under
    /// `everySecond` this blocks the caller for a sync.
    func makeDurable() {
        if case .everySecond = durability { core.syncNow() }
    }

    /// Writes and syncs what was submitted, seals the log and ends the thread. Commits of what was submitted last are
    /// reported by `onDurable` before this returns. Submit first.
    package func close() {
        guard !isClosed else { return }
        isClosed = true
        core.stop()
        thread?.join()
        thread = nil
        core.runLastRounds()
    }

    /// What the log did so far.
    package var statistics: LogStatistics { core.statistics() }
}

/// Counters of the log, for metrics.
package struct LogStatistics: Hashable, Sendable {
    package var batches: UInt64 = 0
    package var bytes: UInt64 = 0
    package var syncs: UInt64 = 0
    /// Time spent in all syncs, and in the last one.
    package var syncNanoseconds: UInt64 = 0
    package var lastSyncNanoseconds: UInt64 = 0
    package var segments = 0
    package var removedSegments: UInt64 = 0
    package var isFull = false
}
