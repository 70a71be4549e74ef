import Glibc

/// Where time comes from. Injected into every driver, so that tests and simulation own it; pure cores get values
/// instead.
package protocol Clock: AnyObject, Sendable {
    /// Milliseconds since 1970 UTC; may jump in both directions.
    func wallMilliseconds() -> UInt64
    /// Nanoseconds since some fixed point; never goes back, and stands still for nobody.
    func monotonicNanoseconds() -> UInt64
}

/// The kernel's clocks (about 20 ns a reading).
package final class SystemClock: Clock {
    package init() {}

    package func wallMilliseconds() -> UInt64 {
        let time = Self.read(CLOCK_REALTIME)
        return UInt64(time.tv_sec) &* 1000 &+ UInt64(time.tv_nsec) / 1_000_000
    }

    /// CLOCK_BOOTTIME, not CLOCK_MONOTONIC: a lease must also run out while the machine sleeps.
    package func monotonicNanoseconds() -> UInt64 {
        let time = Self.read(CLOCK_BOOTTIME)
        return UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec)
    }

    private static func read(_ clock: clockid_t) -> timespec {
        var time = timespec()
        clock_gettime(clock, &time)
        return time
    }
}
