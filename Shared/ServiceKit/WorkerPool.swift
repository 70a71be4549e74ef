import Glibc
import Net
import Synchronization

/// A few threads for work that would hold up a loop: deriving password verifiers, writing a frozen overlay to the
/// store.
///
/// Jobs are taken in order. The queue is bounded: a caller that could fill it (a client's password) is told to refuse.
/// A hop to a thread and back costs 7–37 µs (RUNTIME.md), so nothing of the data path comes here.
package final class WorkerPool: Sendable {
    private struct State {
        var jobs: [@Sendable () -> Void] = []
        var head = 0
        var isClosed = false
        var running = 0
    }

    private let state = Mutex(State())
    private let wake: Semaphore
    private let limit: Int

    /// Starts `threads` threads; at most `limit` jobs wait.
    package init(threads: Int, limit: Int = 1024) {
        self.limit = limit
        wake = Semaphore()
        for number in 1...max(threads, 1) {
            // At start-up only: a process that gets no threads had better not start.
            precondition(
                Thread.start(name: "worker-\(number)") { [self] in work() } != nil, "the system gives no more threads")
        }
    }

    /// Queues a job; false when the queue is full or the pool is closed.
    package func submit(_ job: @escaping @Sendable () -> Void) -> Bool {
        let accepted = state.withLock { state in
            guard !state.isClosed, state.jobs.count - state.head < limit else { return false }
            state.jobs.append(job)
            return true
        }
        if accepted { wake.signal() }
        return accepted
    }

    /// Ends the threads once the queued jobs are done.
    package func close() {
        state.withLock { $0.isClosed = true }
        wake.signal()
    }

    private func work() {
        while true {
            wake.wait()
            let job = state.withLock { state -> (@Sendable () -> Void)? in
                guard state.head < state.jobs.count else { return nil }
                let job = state.jobs[state.head]
                state.head += 1
                if state.head == state.jobs.count {
                    state.jobs.removeAll(keepingCapacity: true)
                    state.head = 0
                }
                return job
            }
            if let job {
                job()
            } else if state.withLock({ $0.isClosed }) {
                wake.signal()  // Pass the news on to the next thread.
                return
            }
        }
    }
}

/// A counting semaphore of the system.
final class Semaphore: @unchecked Sendable {
    // Never moved and safe to use from every thread; destroyed with its last user.
    private let handle: UnsafeMutablePointer<sem_t>

    init() {
        handle = .allocate(capacity: 1)
        sem_init(handle, 0, 0)
    }

    deinit {
        sem_destroy(handle)
        handle.deallocate()
    }

    func signal() { sem_post(handle) }

    func wait() { while sem_wait(handle) != 0 && errno == EINTR {} }
}
