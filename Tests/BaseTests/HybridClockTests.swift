import Base
import TestKit
import Testing

@Suite("HybridClock")
struct HybridClockTests {
    @Test("never goes back, whatever the wall clock does")
    func monotone() throws {
        let seed = freshSeed("HybridClock")
        var random = SplitMix64(seed: seed)
        let clock = ManualClock()
        let hybrid = HybridClock(clock: clock)
        var last = Timestamp.zero
        for _ in 0..<20_000 {
            switch random.next(below: 6) {
            case 0: clock.advance(nanoseconds: random.next(below: 20_000_000))
            case 1: clock.jumpWall(milliseconds: Int64(random.next(below: 2_000_000)) - 1_000_000)
            case 2: clock.jumpWall(milliseconds: Int64(random.next(below: 400)) - 200)
            case 3:
                let remote = Timestamp(milliseconds: hybrid.wallMilliseconds() + random.next(below: 250), counter: 9)
                try hybrid.observe(remote)
                #expect(hybrid.last >= remote)
            case _: break
            }
            let next = random.oneIn(3) ? hybrid.next() : hybrid.now()
            #expect(next > last, "seed \(seed)")
            last = next
        }
    }

    @Test("follows small corrections and ignores steps")
    func steps() {
        let clock = ManualClock(wallMilliseconds: 1_000_000)
        let hybrid = HybridClock(clock: clock)
        clock.jumpWall(milliseconds: 200)
        #expect(hybrid.now().milliseconds == 1_000_200)
        clock.jumpWall(milliseconds: 3_600_000)
        clock.advance(milliseconds: 10)
        #expect(hybrid.now().milliseconds == 1_000_210)
        #expect(hybrid.ignoredSteps > 0)
        clock.jumpWall(milliseconds: -3_600_000)
        clock.advance(milliseconds: 5)
        #expect(hybrid.now().milliseconds == 1_000_215)
    }

    @Test("counts within a millisecond and over its end")
    func counter() {
        let hybrid = HybridClock(clock: ManualClock(wallMilliseconds: 5))
        #expect(hybrid.now() == Timestamp(milliseconds: 5))
        #expect(hybrid.now() == Timestamp(milliseconds: 5, counter: 1))
        for _ in 0..<65534 { _ = hybrid.next() }
        #expect(hybrid.now() == Timestamp(milliseconds: 6))
    }

    @Test("refuses a timestamp that is too far ahead and is not moved by it")
    func farAhead() {
        let clock = ManualClock(wallMilliseconds: 1000)
        let hybrid = HybridClock(clock: clock)
        #expect(throws: DatabaseError.self) { try hybrid.observe(Timestamp(milliseconds: 1251)) }
        #expect(throws: Never.self) { try hybrid.observe(Timestamp(milliseconds: 1250)) }
        #expect(throws: DatabaseError.self) { try hybrid.observe(Timestamp(rawValue: .max)) }
        #expect(hybrid.now() == Timestamp(milliseconds: 1250, counter: 1))
    }

    @Test("stays below its logged bound and begins again above it, even with the wall clock set back")
    func bound() throws {
        let clock = ManualClock(wallMilliseconds: 10_000)
        let first = HybridClock(clock: clock, above: .zero)
        let bound = try #require(first.boundToLog())
        #expect(bound == Timestamp(milliseconds: 11_000))
        first.boundLogged(bound)
        #expect(first.boundToLog() == nil)
        clock.advance(milliseconds: 400)
        #expect(first.boundToLog() == nil)
        clock.advance(milliseconds: 100)
        #expect(first.boundToLog() == Timestamp(milliseconds: 11_500))
        clock.advance(milliseconds: 600)  // The log is slow: time goes on inside the bound.
        let late = first.now()
        #expect(late < bound && late > Timestamp.zero)
        #expect(throws: DatabaseError.self) { try first.observe(bound) }

        clock.jumpWall(milliseconds: -5000)
        let second = HybridClock(clock: clock, above: bound)
        #expect(second.startDelayMilliseconds == 4900)
        let next = try #require(second.boundToLog())
        second.boundLogged(next)
        #expect(second.now() > late && second.last >= bound)
        clock.advance(milliseconds: 4900)
        #expect(second.startDelayMilliseconds == 0)
    }

    @Test("the system's clocks move")
    func system() {
        let clock = SystemClock()
        #expect(clock.wallMilliseconds() > 1_700_000_000_000)
        let before = clock.monotonicNanoseconds()
        #expect(clock.monotonicNanoseconds() >= before)
    }
}
