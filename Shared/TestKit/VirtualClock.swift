import Base

/// The clocks of one simulated machine: they run at a rate of their own, and the wall clock steps.
///
/// Not locked: a simulation has one thread.
package final class VirtualClock: Clock, @unchecked Sendable {  // One thread; `Clock` asks for Sendable.
    /// True time, kept up to date by the simulation.
    package var trueNanoseconds: UInt64 = 0 {
        didSet { if trueNanoseconds < oldValue { trueNanoseconds = oldValue } }
    }

    /// How much faster than true time it runs, in millionths; negative, slower.
    package private(set) var ratePartsPerMillion: Int64 = 0
    private var anchorTrue: UInt64 = 0
    private var anchorMonotonic: UInt64
    private var wallOffset: Int64

    package init(monotonicNanoseconds: UInt64 = 1_000_000_000, wallMilliseconds: UInt64 = 1_767_225_600_000) {
        anchorMonotonic = monotonicNanoseconds
        wallOffset = Int64(wallMilliseconds) - Int64(monotonicNanoseconds / 1_000_000)
    }

    package func monotonicNanoseconds() -> UInt64 {
        let passed = trueNanoseconds &- anchorTrue
        let gained = Int64(passed / 1000) * ratePartsPerMillion / 1000
        return UInt64(Int64(anchorMonotonic &+ passed) + gained)
    }

    package func wallMilliseconds() -> UInt64 {
        UInt64(max(0, wallOffset + Int64(monotonicNanoseconds() / 1_000_000)))
    }

    /// Runs at another rate from now on.
    package func run(atPartsPerMillion rate: Int64) {
        anchorMonotonic = monotonicNanoseconds()
        anchorTrue = trueNanoseconds
        ratePartsPerMillion = rate
    }

    /// Steps the wall clock; the monotonic one never steps.
    package func stepWall(milliseconds: Int64) { wallOffset += milliseconds }

    /// The true nanoseconds that pass while this clock counts `own`.
    package func trueDuration(of own: UInt64) -> UInt64 {
        UInt64(max(1, Int64(own) - Int64(own / 1000) * ratePartsPerMillion / 1000))
    }
}
