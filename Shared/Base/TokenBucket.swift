/// A rate limit as a value: tokens (bytes, say) come in at a steady rate up to a burst, and are taken out by use. Time
/// comes in, so that the simulator owns it.
package struct TokenBucket: Hashable, Sendable {
    /// Tokens a second; 0: no limit.
    package let rate: UInt64
    /// The most that can be saved up.
    package let burst: UInt64
    /// Saved up, in billionths of a token: at one token a second a nanosecond still counts.
    private var saved: UInt64
    private var last: UInt64

    private static let billion: UInt64 = 1_000_000_000

    /// A full bucket. `burst` is held between 1 and 16 billion.
    package init(rate: UInt64, burst: UInt64, now: UInt64) {
        self.rate = rate
        self.burst = min(max(burst, 1), 16 * Self.billion)
        saved = self.burst &* Self.billion
        last = now
    }

    /// Takes `count` tokens if there are as many (a count above the burst: if the bucket is full, and it owes
    /// nothing for the rest). Time that went back counts as none.
    package mutating func take(_ count: UInt64, now: UInt64) -> Bool {
        guard rate > 0 else { return true }
        fill(now)
        let price = min(count, burst) &* Self.billion
        guard saved >= price else { return false }
        saved &-= price
        return true
    }

    /// When `take(count)` will succeed; `now` when it would at once.
    package func ready(_ count: UInt64, now: UInt64) -> UInt64 {
        guard rate > 0 else { return now }
        var later = self
        later.fill(now)
        let price = min(count, burst) &* Self.billion
        guard later.saved < price else { return now }
        let missing = price &- later.saved
        return now &+ missing / rate &+ (missing % rate > 0 ? 1 : 0)
    }

    private mutating func fill(_ now: UInt64) {
        guard now > last else { return }
        let (gain, overflow) = (now &- last).multipliedReportingOverflow(by: rate)
        let full = burst &* Self.billion
        let room = full &- saved
        saved = overflow || gain >= room ? full : saved &+ gain
        last = now
    }
}
