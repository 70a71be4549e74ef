import Base
import Net
import ServiceKit
import Storage

/// Writes the shards' overlays to the store in the background, and has the log cut when that is durable.
///
/// Write-behind keeps the store off the hot path: a key written a thousand times between two flushes costs the store
/// one put. A flush is due when the overlays hold much, when the log has grown so that a restart would take long to
/// replay it, when the oldest unflushed entry has some age, or when the log's disk is full. Overlays are frozen on the
/// loop, written and synced by a worker.
final class StoreFlusher {
    struct Policy {
        /// Overlay bytes over all shards.
        var overlayBytes = 96 << 20
        /// Log bytes since the last flush: about a second of replay at the next start.
        var logBytes = 192 << 20
        var ageMilliseconds: UInt64 = 30_000
        /// The age while the log's disk is full: not at once, or a disk that stays full sees nothing but flushes.
        var fullMilliseconds: UInt64 = 500
    }

    private let loop: EventLoop
    private let workers: WorkerPool
    private let store: any Store
    private let policy: Policy
    private let shards: () -> [ShardStore]
    private let history: HistoryRetention
    /// Called on the loop when a flush is durable: `flushedIndex` of the shards has moved.
    private let onFlushed: () -> Void
    private let onFailure: (StoreError) -> Void

    private var isRunning = false
    private var oldestUnflushed: UInt64?
    private var waiters: [() -> Void] = []
    /// Who waits for one flush: that begins next; that runs.
    private var next: [() -> Void] = [], current: [() -> Void] = []
    private(set) var flushes: UInt64 = 0

    init(
        loop: EventLoop, workers: WorkerPool, store: any Store, history: HistoryRetention, policy: Policy = Policy(),
        shards: @escaping () -> [ShardStore], onFlushed: @escaping () -> Void,
        onFailure: @escaping (StoreError) -> Void
    ) {
        (self.loop, self.workers, self.store, self.policy) = (loop, workers, store, policy)
        (self.shards, self.onFlushed, self.onFailure) = (shards, onFlushed, onFailure)
        self.history = history
    }

    /// Looks whether a flush is due; called a few times a second. While the log's disk is full one is due soon, for
    /// it is what makes room; and when nothing is new the groups are told, who let go of what they keep for followers.
    func check(logBytesSinceFlush: Int, isLogFull: Bool) {
        guard !isRunning else { return }
        let all = shards()
        guard all.contains(where: { $0.appliedIndex > $0.flushedIndex }) else {
            oldestUnflushed = nil
            if isLogFull { onFlushed() }
            return
        }
        let since = oldestUnflushed ?? loop.now
        oldestUnflushed = since
        let isDue =
            all.reduce(0) { $0 + $1.overlayBytes } > policy.overlayBytes || logBytesSinceFlush > policy.logBytes
            || loop.now &- since > (isLogFull ? policy.fullMilliseconds : policy.ageMilliseconds) * 1_000_000
        if isDue { begin() }
    }

    /// Flushes what is applied now, then calls `done`: the drain.
    func flush(then done: @escaping () -> Void) {
        waiters.append(done)
        if !isRunning { begin() }
    }

    /// Flushes what is applied now, and how far the past may be read, then calls `done`; what comes meanwhile waits for
    /// the next flush.
    func flushOnce(then done: @escaping () -> Void) {
        next.append(done)
        if !isRunning { begin() }
    }

    private func begin() {
        let all = shards(), budget = history.budget(for: all, now: loop.now), isAsked = !next.isEmpty
        (current, next) = (next, [])
        let jobs = all.compactMap { shard in
            shard.beginFlush(historyBudget: budget, ofFloor: isAsked).map { (shard, $0) }
        }
        guard !jobs.isEmpty else {
            finish()
            return
        }
        isRunning = true
        oldestUnflushed = nil
        let work = jobs.map(\.1)
        let bound = LoopBound((self, jobs), loop: loop)
        let (loop, store) = (loop, store)
        let accepted = workers.submit {
            let failure = Self.write(work, to: store)
            loop.execute {
                let (flusher, jobs) = bound.value
                flusher.ended(jobs, failure)
            }
        }
        // The worker's queue holds flushes and password checks; it being full is no reason to lose a frozen overlay.
        if !accepted { ended(jobs, Self.write(work, to: store)) }
    }

    private static func write(_ jobs: [FlushJob], to store: any Store) -> StoreError? {
        do throws(StoreError) {
            for job in jobs { try job.write() }
            try store.flush()
            return nil
        } catch {
            return error
        }
    }

    private func ended(_ jobs: [(ShardStore, FlushJob)], _ failure: StoreError?) {
        if let failure {
            onFailure(failure)
            return
        }
        for (shard, job) in jobs {
            shard.finishFlush(job)
            history.wrote(job, of: shard)
        }
        isRunning = false
        flushes &+= 1
        onFlushed()
        finish()
    }

    private func finish() {
        let ended = current
        current = []
        for waiter in ended { waiter() }
        guard !isRunning else { return }
        if !next.isEmpty { return begin() }
        guard !waiters.isEmpty else { return }
        // What came in while a flush ran belongs to the drain as well.
        if shards().contains(where: { $0.appliedIndex > $0.flushedIndex }) {
            begin()
            return
        }
        let done = waiters
        waiters = []
        for waiter in done { waiter() }
    }
}
