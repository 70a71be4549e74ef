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

    @Test("gives nothing before a bound is logged, then rising timestamps that follow the wall")
    func begins() throws {
        let clock = clock(above: .zero)
        tick(milliseconds: 1)
        #expect(clock.next() == nil)
        let bound = try #require(clock.boundToLog())
        clock.boundLogged(bound)
        var last = Timestamp.zero
        for _ in 0..<20 {
            tick(milliseconds: 10)
            for _ in 0..<3 {
                let next = try #require(clock.next())
                #expect(next > last && next < bound)
                last = next
            }
            #expect(last.milliseconds == clock.wallMilliseconds)
        }
    }

    @Test("while the log lags, timestamps are counted on below the bound; they are not refused at once")
    func lags() throws {
        let clock = clock(above: .zero)
        tick(milliseconds: 1)
        let bound = try #require(clock.boundToLog())
        clock.boundLogged(bound)
        var last = Timestamp.zero
        // Ten seconds without a bound that is logged: a disk that hangs.
        for _ in 0..<1000 {
            tick(milliseconds: 10)
            for _ in 0..<50 {
                let next = try #require(clock.next())
                #expect(next > last && next < bound)
                last = next
            }
        }
        clock.boundLogged(try #require(clock.boundToLog()))
        tick(milliseconds: 1)
        #expect(try #require(clock.next()).milliseconds == clock.wallMilliseconds)
    }

    @Test("a restart begins above every timestamp that was given, also when its wall clock is behind")
    func restarts() throws {
        let first = clock(above: .zero)
        tick(milliseconds: 1)
        let bound = try #require(first.boundToLog())
        first.boundLogged(bound)
        let last = try #require(first.next())
        let second = clock(above: bound)
        for _ in 0..<5 {
            tick(milliseconds: 10)
            #expect(second.next() == nil && second.wallMilliseconds < bound.milliseconds)
        }
        #expect(second.startDelayMilliseconds > 0)
        second.boundLogged(try #require(second.boundToLog()))
        let next = try #require(second.next())
        #expect(next > bound && next > last)
    }
}
