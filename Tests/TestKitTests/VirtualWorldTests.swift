import Base
import TestKit
import Testing

@Suite("Virtual time, network and clocks")
struct VirtualWorldTests {
    @Test("events come in the order of their time, and time follows them")
    func order() {
        var scheduler = VirtualScheduler<UInt64>(seed: 1)
        var random = SplitMix64(seed: 2)
        for _ in 0..<1000 {
            let delay = random.next(below: 500)
            scheduler.schedule(delay, after: delay)
        }
        var last: UInt64 = 0
        while let event = scheduler.next() {
            #expect(event >= last && scheduler.now == event)
            last = event
        }
        #expect(scheduler.isEmpty)
    }

    @Test("the seed decides between events of one instant")
    func ties() {
        func order(_ seed: UInt64) -> [Int] {
            var scheduler = VirtualScheduler<Int>(seed: seed)
            for number in 0..<20 { scheduler.schedule(number, after: 5) }
            var result: [Int] = []
            while let event = scheduler.next() { result.append(event) }
            return result
        }
        #expect(order(1) == order(1))
        #expect(order(1) != order(2))
        #expect(order(1).sorted() == Array(0..<20))
    }

    @Test("what is too much is refused")
    func limit() {
        var scheduler = VirtualScheduler<Int>(seed: 1, limit: 2)
        let taken = (1...3).map { scheduler.schedule($0, after: 1) }
        #expect(taken == [true, true, false])
    }

    private func arrival(_ network: inout VirtualNetwork, _ from: UInt32, _ to: UInt32) -> UInt64? {
        network.deliveries(from: from, to: to, now: 0).first
    }

    @Test("a cut works in one direction, a partition in both, and healing ends it")
    func cuts() {
        var network = VirtualNetwork(seed: 1)
        network.cut(from: 1, to: 2)
        var works = [arrival(&network, 1, 2), arrival(&network, 2, 1)].map { $0 != nil }
        #expect(works == [false, true])
        network.partition([1], from: [1, 2, 3])
        works = [arrival(&network, 3, 1), arrival(&network, 3, 2)].map { $0 != nil }
        #expect(works == [false, true])
        network.heal()
        works = [arrival(&network, 1, 2)].map { $0 != nil }
        #expect(works == [true])
        #expect(network.lost == 2)
    }

    @Test("messages are lost, doubled and overtaken as often as told")
    func conditions() {
        var network = VirtualNetwork(seed: 3)
        network.conditions.dropPermille = 100
        network.conditions.duplicatePermille = 200
        network.conditions.slowPermille = 50
        var arrivals: [UInt64] = []
        for now in 0..<10_000 as Range<UInt64> {
            if let delay = network.deliveries(from: 1, to: 2, now: now).first { arrivals.append(now + delay) }
        }
        #expect((800...1200).contains(network.lost))
        #expect((1500...2100).contains(network.doubled))
        #expect(zip(arrivals, arrivals.dropFirst()).contains { $0 > $1 })
        network.conditions.isOrdered = true
        arrivals = []
        for now in 20_000..<21_000 as Range<UInt64> {
            if let delay = network.deliveries(from: 1, to: 2, now: now).first { arrivals.append(now + delay) }
        }
        #expect(zip(arrivals, arrivals.dropFirst()).allSatisfy { $0 < $1 })
    }

    @Test("a clock drifts at its rate, never goes back, and only the wall steps")
    func clock() {
        let clock = VirtualClock(monotonicNanoseconds: 0, wallMilliseconds: 1_000_000)
        clock.run(atPartsPerMillion: 100_000)
        clock.trueNanoseconds = 1_000_000_000
        #expect(clock.monotonicNanoseconds() == 1_100_000_000)
        clock.run(atPartsPerMillion: -100_000)
        #expect(clock.monotonicNanoseconds() == 1_100_000_000)
        clock.trueNanoseconds = 2_000_000_000
        #expect(clock.monotonicNanoseconds() == 2_000_000_000)
        #expect(clock.wallMilliseconds() == 1_002_000)
        clock.stepWall(milliseconds: -5000)
        #expect(clock.wallMilliseconds() == 997_000)
        clock.trueNanoseconds = 0
        #expect(clock.monotonicNanoseconds() == 2_000_000_000)
    }
}
