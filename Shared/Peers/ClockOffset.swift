import Base
import Contracts

/// How far another process's clock is from ours, by question and answer.
///
/// An answer that took `r` proves the offset up to r/2, whatever the network did; so a slow network or a process that
/// was stopped makes the sample useless, never wrong. Only what lies beyond the maximum for certain counts, and only
/// three times in a row: a pause between reading the two clocks of one sample is no fault of a clock.
struct ClockOffset {
    static let samplesInARow = 3

    let maximumMilliseconds: UInt64
    /// Of the newest sample: theirs minus ours.
    private(set) var milliseconds: Int64 = 0
    /// The newest sample may be wrong by this.
    private(set) var uncertainty: UInt64 = 0
    private(set) var isKnown = false
    private var beyondInARow = 0

    init(maximumMilliseconds: UInt64) { self.maximumMilliseconds = maximumMilliseconds }

    /// The clocks are too far apart.
    var isBeyond: Bool { beyondInARow >= Self.samplesInARow }

    /// Takes an answer that came at `now`.
    mutating func note(_ answer: PeerClock, now: HLC.Sample) {
        // Not later than asked: an answer to a question that was never put.
        guard answer.sent <= now.monotonicNanoseconds else { return }
        let half = (now.monotonicNanoseconds - answer.sent) / 2_000_000
        // Of 48 bits and of a clock in milliseconds: neither the difference nor its magnitude overflows.
        let theirs = Int64(answer.time.milliseconds)
        let ours = Int64(clamping: min(now.wallMilliseconds, 1 << 48)) - Int64(clamping: min(half, 1 << 48))
        milliseconds = theirs - ours
        uncertainty = half + 1
        isKnown = true
        beyondInARow = milliseconds.magnitude > maximumMilliseconds + uncertainty ? beyondInARow + 1 : 0
    }
}
