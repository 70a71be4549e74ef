import Base
import Glibc
import Synchronization

/// What the loop and the log thread share.
///
/// Four locks. `queue` guards what is handed over, and is held for moments only. `logLock` guards the log; the thread
/// and the loop take it, and so it is never held during a sync or while a file is made. `syncLock` is held during a
/// sync, `readLock` while entries are read back, so that no file is closed under it. They are taken in the order
/// `syncLock`, `readLock`, `logLock`, `queue`.
///
/// A third, short-lived thread fills the next segment with zeros as soon as one is begun.
final class LogCore: @unchecked Sendable {
    /// How far a shard's store has flushed, in which life of its replica (`ShardLogState.life`).
    struct FlushedIndex {
        var index: LogIndex
        var life: Int
    }

    private let durability: Durability
    /// False in a simulation, which runs the rounds itself (`runRound`): nothing depends on real time then.
    private let isThreaded: Bool
    private let syncNanoseconds: UInt64
    private let inlineSyncNanoseconds: UInt64
    private let onDurable: @Sendable (LogTicket) -> Void
    private let onFailure: @Sendable (LogError) -> Void

    private let queue = Monitor()
    // Guarded by `queue`:
    private var waiting = LogBatch()
    private var waitingTicket: LogTicket = 0
    private var isWriting = false
    private var flushed: [ShardID: FlushedIndex] = [:]
    private var isFlushedNew = false
    private var isStopping = false
    private var waitingBytes = 0
    private var writingBytes = 0
    private var mustPrepare = false
    private var preparation: PreparationState = .none
    private var counters = LogStatistics()

    private enum PreparationState {
        case none
        case running
        case ready(LogSegment)
        case failed(LogError, retryAt: UInt64)
    }

    private let syncLock = Monitor()
    private let readLock = Monitor()
    private let logLock = Monitor()
    // Guarded by `logLock`:
    private let log: SegmentedLog

    // The thread's own:
    private var writing = LogBatch()
    private var preparer: LogThread?
    /// A truncation had no room to begin; it is tried again when there is a new segment.
    private var isTruncationDue = false

    let isFull = Atomic<Bool>(false)
    let queuedBytes = Atomic<Int>(0)
    /// Duration of the last sync, on whichever thread it ran.
    private let lastSync = Atomic<UInt64>(0)
    private let hasFailed = Atomic<Bool>(false)

    /// How long to wait before trying again to make a segment on a full disk.
    private static let retryNanoseconds: UInt64 = 250_000_000

    init(
        log: SegmentedLog, durability: Durability, syncNanoseconds: UInt64, isThreaded: Bool = true,
        onDurable: @escaping @Sendable (LogTicket) -> Void, onFailure: @escaping @Sendable (LogError) -> Void
    ) {
        self.log = log
        self.durability = durability
        self.isThreaded = isThreaded
        self.syncNanoseconds = syncNanoseconds
        inlineSyncNanoseconds = log.options.inlineSyncNanoseconds
        self.onDurable = onDurable
        self.onFailure = onFailure
        counters.segments = log.segmentCount
    }

    // MARK: The loop's calls

    func enqueue(_ batch: inout LogBatch, _ ticket: LogTicket) {
        queue.lock()
        if waiting.isEmpty {
            swap(&waiting, &batch)
        } else {
            waiting.append(recordsOf: batch)
        }
        waitingTicket = ticket
        waitingBytes = waiting.byteCount
        queuedBytes.store(waitingBytes + writingBytes, ordering: .relaxed)
        queue.signal()
        queue.unlock()
        batch.removeAll()
    }

    /// Writes on the calling thread, and syncs under `always`. False when earlier batches still wait (a full disk, a
    /// sync that runs), a sync does not pay here, the batch needs more than one, or the next segment is not ready: then
    /// the batch must be enqueued.
    func writeInline(_ batch: inout LogBatch) -> Bool {
        if batch.needsSeal { return false }
        if durability == .always {
            guard isThreaded else { return false }
            guard lastSync.load(ordering: .relaxed) < inlineSyncNanoseconds else { return false }
        }
        guard appendInline(&batch) else { return false }
        guard durability == .always else { return true }
        sync()
        return !hasFailed.load(ordering: .acquiring)
    }

    private func appendInline(_ batch: inout LogBatch) -> Bool {
        queue.lock()
        let isBehind = !waiting.isEmpty || isWriting || isStopping
        queue.unlock()
        guard !isBehind, !hasFailed.load(ordering: .acquiring) else { return false }
        logLock.lock()
        defer { logLock.unlock() }
        installPrepared()
        if log.needsNextSegment(batch.byteCount), log.prepared == nil || !log.fitsInSegment(batch) { return false }
        do throws(LogError) {
            try log.write(&batch)
        } catch {
            fail(error)
            return false
        }
        count(batch)
        batch.removeAll()
        if log.prepared == nil {  // It was begun just now: the thread must fill another.
            queue.lock()
            mustPrepare = true
            queue.signal()
            queue.unlock()
        }
        return true
    }

    func entries(of shard: ShardID, _ range: Range<LogIndex>, bytes: Int) throws(LogError) -> [LoggedEntry] {
        readLock.lock()
        defer { readLock.unlock() }
        var room = bytes
        var found: [LoggedEntry] = []
        logLock.lock()
        let plan = log.readPlan(shard, range)
        logLock.unlock()
        try plan.run(bytes: &room) { found.append($0) }
        return found
    }

    func noteFlushed(_ shard: ShardID, _ index: FlushedIndex) {
        queue.lock()
        let known = flushed[shard]
        if known?.life != index.life || index.index > known?.index ?? .zero {
            flushed[shard] = index
            isFlushedNew = true
            queue.signal()
        }
        queue.unlock()
    }

    /// The log holds nothing of the shard any more: perhaps a segment can go.
    func noteGone(_ shard: ShardID) {
        queue.lock()
        flushed[shard] = nil
        isFlushedNew = true
        queue.signal()
        queue.unlock()
    }

    /// Makes durable what is written, on the calling thread.
    func syncNow() { sync() }

    func stop() {
        queue.lock()
        isStopping = true
        queue.signal()
        queue.unlock()
    }

    func statistics() -> LogStatistics {
        queue.lock()
        defer { queue.unlock() }
        var result = counters
        result.isFull = isFull.load(ordering: .relaxed)
        return result
    }

    // MARK: The thread

    func run() {
        var nextSync = Monitor.now() &+ syncNanoseconds
        startPreparation()
        while !hasFailed.load(ordering: .acquiring) {
            let work = waitForWork(nextSync)
            if work.hasBatch { writeWaiting(work.ticket) }
            if hasFailed.load(ordering: .acquiring) { break }
            if durability == .everySecond, work.mustSync || Monitor.now() >= nextSync {
                sync()
                nextSync = Monitor.now() &+ syncNanoseconds
            }
            if let indexes = work.flushed { truncate(indexes) }
            startPreparation()
            if isTruncationDue { retryTruncation() }
            if work.isLast { break }
        }
        preparer?.join()
        logLock.lock()
        defer { logLock.unlock() }
        guard !hasFailed.load(ordering: .acquiring) else { return }
        do throws(LogError) { try log.close() } catch { fail(error) }
    }

    /// What the thread does between two waits, on the calling thread. On a full disk what waits goes on waiting.
    func runRound() {
        guard !isThreaded, !hasFailed.load(ordering: .acquiring) else { return }
        startPreparation()
        queue.lock()
        let byteCount = waitingBytes
        queue.unlock()
        logLock.lock()
        installPrepared()
        let mustWait = byteCount > 0 && log.prepared == nil && log.needsNextSegment(byteCount)
        logLock.unlock()
        var work = Work()
        queue.lock()
        if !mustWait {
            work = takeWork()
        } else if isFlushedNew {
            work.flushed = flushed
            isFlushedNew = false
        }
        queue.unlock()
        if work.hasBatch { writeWaiting(work.ticket) }
        if durability == .everySecond { sync() }
        if hasFailed.load(ordering: .acquiring) { return }
        if let indexes = work.flushed { truncate(indexes) }
        if isTruncationDue { retryTruncation() }
    }

    /// Ends the log on the calling thread.
    func runLastRounds() {
        guard !isThreaded else { return }
        runRound()
        guard !hasFailed.load(ordering: .acquiring) else { return }
        logLock.lock()
        defer { logLock.unlock() }
        do throws(LogError) { try log.close() } catch { fail(error) }
    }

    private struct Work {
        var hasBatch = false
        var ticket: LogTicket = 0
        var flushed: [ShardID: FlushedIndex]?
        var mustSync = false
        var isLast = false
    }

    private func waitForWork(_ nextSync: UInt64) -> Work {
        queue.lock()
        defer { queue.unlock() }
        while waiting.isEmpty, !isFlushedNew, !isStopping, !mustPrepare {
            if case .ready = preparation { break }
            if case .failed(_, let retryAt) = preparation {
                if Monitor.now() >= retryAt { break }
                queue.wait(until: retryAt)
                continue
            }
            if durability == .everySecond {
                // Woken by nobody when the loop writes inline; so it looks once per period.
                if Monitor.now() >= nextSync { break }
                queue.wait(until: nextSync)
            } else {
                queue.wait()
            }
        }
        return takeWork()
    }

    /// Takes what there is to do; call with `queue` held.
    private func takeWork() -> Work {
        mustPrepare = false
        var work = Work()
        if !waiting.isEmpty {
            swap(&writing, &waiting)
            writingBytes = waitingBytes
            waitingBytes = 0
            work.hasBatch = true
            work.ticket = waitingTicket
            isWriting = true
        }
        if isFlushedNew {
            work.flushed = flushed
            isFlushedNew = false
        }
        work.isLast = isStopping && !work.hasBatch
        work.mustSync = work.isLast
        return work
    }

    private func writeWaiting(_ ticket: LogTicket) {
        if log.fitsInSegment(writing) {  // Constant options only: needs no lock.
            guard write(&writing) else { return }
        } else {
            var part = LogBatch()
            var position = 0
            while log.fillPart(&part, from: writing, &position) {
                guard write(&part) else { return }
            }
        }
        if durability == .always || writing.needsSeal {
            sync()
            if hasFailed.load(ordering: .acquiring) { return }
        }
        if writing.needsSeal {
            guard writeSeal() else { return }
            sync()
            if hasFailed.load(ordering: .acquiring) { return }
        }
        writing.removeAll()
        queue.lock()
        isWriting = false
        writingBytes = 0
        queuedBytes.store(waitingBytes, ordering: .relaxed)
        queue.unlock()
        onDurable(ticket)
    }

    /// Writes a batch that says that all before it is durable. False when the log has failed.
    private func writeSeal() -> Bool {
        logLock.lock()
        installPrepared()
        let hasRoom = log.hasRoomForSeal
        logLock.unlock()
        guard hasRoom || waitForRoom(LogFormat.batchHeaderSize) else { return false }
        logLock.lock()
        defer { logLock.unlock() }
        do throws(LogError) {
            try log.writeSeal()
            return true
        } catch {
            fail(error)
            return false
        }
    }

    /// Writes a batch that fits in a segment, as soon as there is one. False when the log has failed.
    private func write(_ batch: inout LogBatch) -> Bool {
        guard waitForRoom(batch.byteCount) else { return false }
        logLock.lock()
        installPrepared()
        var isWritten = false
        do throws(LogError) {
            try log.write(&batch)
            isWritten = true
        } catch {
            fail(error)
        }
        logLock.unlock()
        if isWritten { count(batch) }
        return isWritten
    }

    /// Waits until the next segment is there, if this batch needs it. On a full disk that is until there is room:
    /// what was accepted must neither be lost nor refused any more. False when the log was stopped meanwhile.
    private func waitForRoom(_ byteCount: Int) -> Bool {
        while true {
            logLock.lock()
            installPrepared()
            let isReady = log.prepared != nil || !log.needsNextSegment(byteCount)
            logLock.unlock()
            if isReady { return true }
            startPreparation()
            queue.lock()
            let indexes = isFlushedNew ? flushed : nil
            isFlushedNew = false
            if indexes == nil {
                if case .running = preparation {
                    queue.wait()
                } else if case .failed(let error, let retryAt) = preparation {
                    if error.kind == .full, isStopping || !isThreaded {
                        // Nobody was told that these are safe; they end as they would in a crash.
                        queue.unlock()
                        fail(error)
                        return false
                    }
                    if Monitor.now() < retryAt { queue.wait(until: retryAt) }
                }
            }
            queue.unlock()
            if let indexes { truncate(indexes) }
            if hasFailed.load(ordering: .acquiring) { return false }
        }
    }

    private func sync() {
        syncLock.lock()
        defer { syncLock.unlock() }
        logLock.lock()
        let plan = log.beginSync()
        logLock.unlock()
        guard !plan.files.isEmpty else { return }
        let start = Monitor.now()
        do throws(SystemError) {
            try plan.run()
        } catch {
            return fail(LogError(.inputOutput, error.description))
        }
        let duration = Monitor.now() &- start
        logLock.lock()
        log.finishSync(plan)
        logLock.unlock()
        queue.lock()
        counters.syncs += 1
        counters.syncNanoseconds += duration
        counters.lastSyncNanoseconds = duration
        queue.unlock()
        lastSync.store(duration, ordering: .relaxed)
    }

    private func truncate(_ flushed: [ShardID: FlushedIndex]) {
        logLock.lock()
        installPrepared()
        // What was said of a replica that has left since is no news of one that is here again.
        let indexes = flushed.filter { log.state(of: $0.key).life == $0.value.life }.mapValues(\.index)
        let removable = log.removableSegments(indexes)
        var isBegun = false
        isTruncationDue = removable > 0 && log.prepared == nil && !log.canTruncateInPlace
        if removable > 0, !isTruncationDue {
            do throws(LogError) {
                try log.beginTruncation(removable, indexes)
                isBegun = true
            } catch {
                fail(error)
            }
        }
        logLock.unlock()
        guard isBegun else { return }
        sync()
        guard !hasFailed.load(ordering: .acquiring) else { return }
        logLock.lock()
        let truncation = log.finishTruncation(removable)
        logLock.unlock()
        // A sync or a read that began before may still use the files; one that begins now does not know them.
        syncLock.lock()
        syncLock.unlock()
        readLock.lock()
        readLock.unlock()
        do throws(SystemError) { try truncation.run() } catch { return fail(LogError(.inputOutput, error.description)) }
        queue.lock()
        counters.removedSegments += UInt64(removable)
        queue.unlock()
    }

    private func retryTruncation() {
        queue.lock()
        let indexes = flushed
        queue.unlock()
        truncate(indexes)
    }

    // MARK: The next segment

    /// Starts filling the next segment, when there is none and nobody is at it.
    private func startPreparation() {
        logLock.lock()
        installPrepared()
        let next = log.preparation()
        logLock.unlock()
        guard let next else { return }
        queue.lock()
        let mayRun =
            switch preparation {
            case .running, .ready: false
            case .failed(_, let retryAt): Monitor.now() >= retryAt
            case .none: true
            }
        if mayRun { preparation = .running }
        queue.unlock()
        guard mayRun else { return }
        guard isThreaded else { return prepare(next) }
        preparer?.join()  // It has ended: the state says so.
        do throws(LogError) {
            preparer = try LogThread(name: "log-prepare") { [self] in prepare(next) }
        } catch {
            fail(error)
        }
    }

    private func prepare(_ next: SegmentPreparation) {
        var result: PreparationState
        do throws(LogError) {
            result = .ready(try next.run())
        } catch {
            result = .failed(error, retryAt: isThreaded ? Monitor.now() &+ Self.retryNanoseconds : 0)
            if error.kind != .full { fail(error) }
        }
        logLock.lock()
        let room = log.room
        let reserve = min(4 << 20, log.options.segmentBytes / 4)
        logLock.unlock()
        queue.lock()
        preparation = result
        if case .failed = result {
            // Refusing begins while there is still room for what was accepted already.
            isFull.store(room - waitingBytes - writingBytes < reserve, ordering: .relaxed)
        } else {
            isFull.store(false, ordering: .relaxed)
        }
        queue.signal()
        queue.unlock()
    }

    /// Takes over a segment that is ready; call with `logLock` held.
    private func installPrepared() {
        queue.lock()
        if case .ready(let segment) = preparation {
            log.install(segment)
            preparation = .none
        }
        counters.segments = log.segmentCount
        queue.unlock()
    }

    private func count(_ batch: borrowing LogBatch) {
        queue.lock()
        counters.batches += 1
        counters.bytes += UInt64(batch.byteCount)
        queue.unlock()
    }

    private func fail(_ error: LogError) {
        guard !hasFailed.exchange(true, ordering: .acquiringAndReleasing) else { return }
        onFailure(error)
        queue.lock()
        isStopping = true
        queue.signal()
        queue.unlock()
    }
}
