import Base
import CSystem
import Glibc

/// A lock with a condition to wait for. (`Synchronization.Mutex` has none.)
final class Monitor: @unchecked Sendable {  // The two calls are thread-safe; their memory stays put.
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)

    init() {
        pthread_mutex_init(mutex, nil)
        var attributes = pthread_condattr_t()
        pthread_condattr_init(&attributes)
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
        pthread_cond_init(condition, &attributes)
        pthread_condattr_destroy(&attributes)
    }

    deinit {
        pthread_cond_destroy(condition)
        pthread_mutex_destroy(mutex)
        condition.deallocate()
        mutex.deallocate()
    }

    func lock() { pthread_mutex_lock(mutex) }
    func unlock() { pthread_mutex_unlock(mutex) }

    /// Wakes every waiter; call with the lock held.
    func signal() { pthread_cond_broadcast(condition) }

    /// Gives the lock up until somebody signals (or for no reason); call with the lock held.
    func wait() { pthread_cond_wait(condition, mutex) }

    /// As `wait`, but returns at `deadline` (nanoseconds of CLOCK_MONOTONIC) at the latest.
    func wait(until deadline: UInt64) {
        var time = timespec(tv_sec: Int(deadline / 1_000_000_000), tv_nsec: Int(deadline % 1_000_000_000))
        pthread_cond_timedwait(condition, mutex, &time)
    }

    static func now() -> UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec)
    }
}

/// A joinable thread with a name that runs one closure.
final class LogThread: Sendable {
    private let handle: pthread_t

    private final class Body {
        let name: String
        let run: @Sendable () -> Void
        init(_ name: String, _ run: @escaping @Sendable () -> Void) { (self.name, self.run) = (name, run) }
    }

    /// The name has 15 bytes at most.
    init(name: String, _ run: @escaping @Sendable () -> Void) throws(LogError) {
        var handle = pthread_t()
        let body = Unmanaged.passRetained(Body(name, run))
        let code = pthread_create(
            &handle, nil,
            { pointer in
                guard let pointer else { return nil }
                let body = Unmanaged<Body>.fromOpaque(pointer).takeRetainedValue()
                orbit_name_thread(body.name)
                body.run()
                return nil
            }, body.toOpaque())
        guard code == 0 else {
            body.release()
            throw LogError(.inputOutput, "no thread for the log: \(String(cString: strerror(code)))")
        }
        self.handle = handle
    }

    func join() { pthread_join(handle, nil) }
}
