import Base
import Net
import TestKit
import Testing

@testable import StorageNode

@Suite("NodeClock")
struct NodeClockTests {
    private let loop: EventLoop
    private let source = ManualClock()

    init() throws { loop = try EventLoop() }

    /// Lets time pass and the loop take a new sample.
    private func tick(milliseconds: UInt64) {
        source.advance(milliseconds: milliseconds)
        loop.execute { [loop] in loop.stop() }
        loop.run()
    }

    private func clock(above bound: Timestamp) -> NodeClock {
        NodeClock(loop: loop, clock: HybridClock(clock: source, above: bound))
    }

    @Test("gives rising timestamps that follow the wall")
    func rises() {
        let clock = clock(above: .zero)
        var last = Timestamp.zero
        for _ in 0..<20 {
            tick(milliseconds: 10)
            for _ in 0..<3 {
                let next = clock.next()
                #expect(next > last)
                last = next
            }
            #expect(last.milliseconds == clock.wallMilliseconds)
        }
    }

    @Test("a restart begins above the bound, also when its wall clock is behind")
    func restarts() {
        tick(milliseconds: 1)
        let bound = Timestamp(milliseconds: source.wallMilliseconds() + 400)
        let clock = clock(above: bound)
        #expect(clock.startDelayMilliseconds > 0)
        for _ in 0..<5 {
            tick(milliseconds: 10)
            #expect(clock.wallMilliseconds < bound.milliseconds && clock.next() > bound)
        }
    }

    @Test("a new leader waits until its wall clock is near the predecessor's bound, and is above it then")
    func catchesUp() {
        let clock = clock(above: .zero)
        tick(milliseconds: 1)
        let bound = Timestamp(milliseconds: source.wallMilliseconds() + ClockBoundRecord.aheadMilliseconds)
        #expect(!clock.catchUp(with: bound) && clock.next() < bound)
        tick(milliseconds: ClockBoundRecord.aheadMilliseconds - HLC.defaultMaxOffsetMilliseconds)
        #expect(clock.catchUp(with: bound) && clock.next() > bound)
    }
}
