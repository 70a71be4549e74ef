import Base
import Synchronization

/// A clock that moves only when a test says so. Wall and monotonic time move together unless they are pulled apart.
package final class ManualClock: Clock {
    private struct Times {
        var wallMilliseconds: UInt64
        var monotonicNanoseconds: UInt64
    }

    private let times: Mutex<Times>

    /// Starts at 2026-01-01 00:00 UTC and at one second of monotonic time.
    package init(wallMilliseconds: UInt64 = 1_767_225_600_000, monotonicNanoseconds: UInt64 = 1_000_000_000) {
        times = Mutex(Times(wallMilliseconds: wallMilliseconds, monotonicNanoseconds: monotonicNanoseconds))
    }

    package func wallMilliseconds() -> UInt64 { times.withLock { $0.wallMilliseconds } }

    package func monotonicNanoseconds() -> UInt64 { times.withLock { $0.monotonicNanoseconds } }

    /// Lets time pass.
    package func advance(milliseconds: UInt64) { advance(nanoseconds: milliseconds * 1_000_000) }

    package func advance(nanoseconds: UInt64) {
        times.withLock {
            let before = $0.monotonicNanoseconds / 1_000_000
            $0.monotonicNanoseconds += nanoseconds
            $0.wallMilliseconds += $0.monotonicNanoseconds / 1_000_000 - before
        }
    }

    /// Steps the wall clock alone, forwards or backwards, as an administrator or NTP would.
    package func jumpWall(milliseconds: Int64) {
        times.withLock { $0.wallMilliseconds = UInt64(max(0, Int64($0.wallMilliseconds) + milliseconds)) }
    }
}
