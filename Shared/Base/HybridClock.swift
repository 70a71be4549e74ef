/// Hybrid logical clock: timestamps that are near wall time, never repeat, never go back, and exceed every timestamp
/// seen.
///
/// Invariants:
/// - `now` and `next` return strictly ascending timestamps.
/// - With a persisted bound, no timestamp at or above it is ever handed out; a restart begins at the bound, so that it
///   stays above everything its predecessor gave, however the wall clock was set meanwhile.
/// - A wall clock that moves by more than `maxOffsetMilliseconds` against the monotonic one has been stepped: the step
///   is ignored, and time goes on at the monotonic clock's pace.
/// - A timestamp from outside that is further ahead than `maxOffsetMilliseconds` is refused: one broken clock does not
///   drag the cluster's time along.
///
/// Pure: samples of the clocks come in as values. `HybridClock` drives it.
package struct HLC: Hashable, Sendable {
    /// One look at both clocks.
    package struct Sample: Hashable, Sendable {
        package var wallMilliseconds: UInt64
        package var monotonicNanoseconds: UInt64

        package init(wallMilliseconds: UInt64, monotonicNanoseconds: UInt64) {
            self.wallMilliseconds = wallMilliseconds
            self.monotonicNanoseconds = monotonicNanoseconds
        }
    }

    package static let defaultMaxOffsetMilliseconds: UInt64 = 250

    package let maxOffsetMilliseconds: UInt64
    /// The newest timestamp given or seen.
    package private(set) var last: Timestamp
    /// Timestamps stay below; what the log says, once it is durable.
    package private(set) var bound: Timestamp
    /// The last believed sample; the next one is judged by it.
    private var anchor: Sample
    /// How many samples were not believed: a metric, and a reason to log.
    package private(set) var ignoredSteps: UInt64 = 0

    /// A clock that begins above `above` and needs its bound raised before it gives its first timestamp; without
    /// `above` (gateways, tests) it has no bound.
    package init(
        _ sample: Sample, above: Timestamp? = nil, maxOffsetMilliseconds: UInt64 = HLC.defaultMaxOffsetMilliseconds
    ) {
        self.maxOffsetMilliseconds = maxOffsetMilliseconds
        anchor = sample
        last = above ?? .zero
        bound = above ?? Timestamp(rawValue: .max)
    }

    /// Wall time as this clock believes it.
    package mutating func believe(_ sample: Sample) -> UInt64 {
        let passed =
            sample.monotonicNanoseconds > anchor.monotonicNanoseconds
            ? (sample.monotonicNanoseconds - anchor.monotonicNanoseconds) / 1_000_000 : 0
        let expected = anchor.wallMilliseconds &+ passed
        let actual = sample.wallMilliseconds
        let difference = actual > expected ? actual - expected : expected - actual
        guard difference <= maxOffsetMilliseconds else {
            ignoredSteps &+= 1
            return expected
        }
        anchor = sample
        return actual
    }

    /// The timestamp of an event that happens now.
    package mutating func now(_ sample: Sample) -> Timestamp {
        let wall = Timestamp(milliseconds: believe(sample))
        // Past the bound the log lags: count on inside the bound (there are 65 536 steps to a millisecond).
        guard wall > last, wall < bound else { return next() }
        last = wall
        return wall
    }

    /// The next timestamp without looking at the clock: for the many writes of one tick.
    package mutating func next() -> Timestamp {
        precondition(last.rawValue &+ 1 < bound.rawValue, "the clock's bound was not logged in time")
        last = Timestamp(rawValue: last.rawValue + 1)
        return last
    }

    /// Takes note of a timestamp from another process, so that what happens next is later.
    package mutating func observe(_ remote: Timestamp, _ sample: Sample) throws(DatabaseError) {
        guard remote > last else { return }
        let limit = believe(sample) + maxOffsetMilliseconds
        guard remote.milliseconds <= limit else {
            throw DatabaseError(
                .invalidArgument,
                "timestamp \(remote) is \(remote.milliseconds - limit + maxOffsetMilliseconds) ms ahead of this clock")
        }
        guard remote.rawValue + 1 < bound.rawValue else {
            throw DatabaseError(.unavailable, "timestamp \(remote) is above this clock's logged bound")
        }
        last = remote
    }

    /// A bound to log now, or nil while the present one is far enough away (more than half of `ahead`).
    package mutating func boundToLog(_ sample: Sample, aheadMilliseconds ahead: UInt64) -> Timestamp? {
        guard bound.rawValue != .max else { return nil }
        let wall = max(believe(sample), last.milliseconds)
        guard wall + ahead / 2 >= bound.milliseconds else { return nil }
        return Timestamp(milliseconds: wall + ahead)
    }

    /// Declares that `bound` is durable.
    package mutating func boundLogged(_ bound: Timestamp) { self.bound = max(self.bound, bound) }
}

/// The hybrid logical clock of a loop: an `HLC` with the clock it reads.
///
/// A node's life with it: make it `above` the bound found in the log; log `boundToLog()`, and when that is durable call
/// `boundLogged`; wait `startDelayMilliseconds` before serving, so that peers do not see a clock that is ahead; then
/// once per tick `boundToLog()` again. Not thread-safe.
package final class HybridClock {
    private var hlc: HLC
    private let clock: any Clock
    /// How far ahead of now the bound is logged: the longest wait at a restart, twice the time between two log entries.
    private let aheadMilliseconds: UInt64

    package init(
        clock: any Clock, above: Timestamp? = nil, maxOffsetMilliseconds: UInt64 = HLC.defaultMaxOffsetMilliseconds,
        aheadMilliseconds: UInt64 = 1000
    ) {
        self.clock = clock
        self.aheadMilliseconds = aheadMilliseconds
        hlc = HLC(Self.sample(clock), above: above, maxOffsetMilliseconds: maxOffsetMilliseconds)
    }

    private static func sample(_ clock: any Clock) -> HLC.Sample {
        HLC.Sample(
            wallMilliseconds: clock.wallMilliseconds(), monotonicNanoseconds: clock.monotonicNanoseconds())
    }

    /// The newest timestamp given or seen: a session's bookmark.
    package var last: Timestamp { hlc.last }
    package var bound: Timestamp { hlc.bound }
    package var ignoredSteps: UInt64 { hlc.ignoredSteps }

    /// The timestamp of an event that happens now; reads the clocks (about 50 ns).
    package func now() -> Timestamp { hlc.now(Self.sample(clock)) }

    /// The next timestamp after `last`, without reading the clocks.
    package func next() -> Timestamp { hlc.next() }

    /// Takes note of a peer's timestamp; refuses one that is too far ahead.
    package func observe(_ remote: Timestamp) throws(DatabaseError) {
        if remote > hlc.last { try hlc.observe(remote, Self.sample(clock)) }
    }

    /// Wall time as this clock believes it: steps of the system's clock do not show.
    package func wallMilliseconds() -> UInt64 { hlc.believe(Self.sample(clock)) }

    package func boundToLog() -> Timestamp? {
        hlc.boundToLog(Self.sample(clock), aheadMilliseconds: aheadMilliseconds)
    }

    package func boundLogged(_ bound: Timestamp) { hlc.boundLogged(bound) }

    /// How long until wall time has caught up with where this clock began.
    package var startDelayMilliseconds: UInt64 {
        let wall = wallMilliseconds()
        return hlc.last.milliseconds > wall ? hlc.last.milliseconds - wall : 0
    }
}
