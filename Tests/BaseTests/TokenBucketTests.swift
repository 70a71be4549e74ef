import Base
import Testing

@Suite("Token bucket")
struct TokenBucketTests {
    /// `#expect` takes no mutating call.
    private func expect(_ granted: Bool, _ wanted: Bool, _ place: SourceLocation = #_sourceLocation) {
        #expect(granted == wanted, sourceLocation: place)
    }

    @Test("gives what was saved up, then what the rate brings")
    func rate() {
        var bucket = TokenBucket(rate: 1000, burst: 100, now: 5)
        let granted = (0..<3).map { _ in bucket.take(50, now: 5) }
        #expect(granted == [true, true, false])
        #expect(bucket.ready(50, now: 5) == 50_000_005)
        expect(bucket.take(50, now: 50_000_004), false)
        expect(bucket.take(50, now: 50_000_005), true)
        expect(bucket.take(1, now: 3), false)
        // An hour saves up no more than the burst.
        let later: UInt64 = 3_600_000_000_000
        expect(bucket.take(100, now: later), true)
        expect(bucket.take(1, now: later), false)
    }

    @Test("never starves what is larger than the burst, and survives the ends of its range")
    func ends() {
        var bucket = TokenBucket(rate: 10, burst: 5, now: 0)
        expect(bucket.take(1_000_000, now: 0), true)
        #expect(bucket.ready(1_000_000, now: 0) == 500_000_000)
        expect(bucket.take(.max, now: 499_999_999), false)
        expect(bucket.take(.max, now: 500_000_000), true)
        var unlimited = TokenBucket(rate: 0, burst: 0, now: 0)
        expect(unlimited.take(.max, now: 0), true)
        #expect(unlimited.ready(.max, now: 7) == 7)
        var fast = TokenBucket(rate: .max, burst: .max, now: 0)
        expect(fast.take(.max, now: 1), true)
        expect(fast.take(.max, now: .max), true)
    }
}
