import Base
import Net
import TestKit
import Testing

@Suite struct DeadlineWheelTests {
    private final class Holder: DeadlineHolder {
        var deadlineTicket = DeadlineTicket()
        var firedAt: UInt64?
        var clock: () -> UInt64 = { 0 }
        var onFire: (() -> Void)?
        func deadlinePassed() {
            firedAt = clock()
            onFire?()
        }
    }

    private static let millisecond: UInt64 = 1_000_000

    /// Holders set, postponed, advanced and cleared at random fire exactly once, never early, at most one slot late.
    @Test func firesEachDeadlineOnceAndNeverEarly() {
        let seed = freshSeed("deadline wheel")
        var random = SplitMix64(seed: seed)
        var now: UInt64 = 5_000_000_000_000
        let wheel = DeadlineWheel(startingAt: now)
        var due: [ObjectIdentifier: UInt64] = [:]
        let holders = (0..<200).map { _ in Holder() }
        for holder in holders { holder.clock = { now } }
        for _ in 0..<20_000 {
            let holder = holders[Int(random.next() % 200)]
            let id = ObjectIdentifier(holder)
            switch random.next() % 8 {
            case 0:
                wheel.clear(holder)
                due[id] = nil
            case 1, 2:
                let deadline = now + random.next() % (70_000 * Self.millisecond)
                wheel.set(holder, deadline: deadline)
                due[id] = deadline
            default:
                now += random.next() % (200 * Self.millisecond)
                wheel.advance(to: now)
                for holder in holders {
                    guard let fired = holder.firedAt else { continue }
                    let deadline = due.removeValue(forKey: ObjectIdentifier(holder))
                    #expect(
                        deadline.map { $0 <= fired && fired - $0 <= 400 * Self.millisecond } == true, "seed \(seed)")
                    holder.firedAt = nil
                }
                #expect(due.values.allSatisfy { $0 + 100 * Self.millisecond > now }, "seed \(seed)")
                #expect(wheel.count == due.count, "seed \(seed)")
            }
        }
    }

    @Test func aHolderMayClearAnotherOfTheSameSlot() {
        let wheel = DeadlineWheel(startingAt: 1)
        let (first, second) = (Holder(), Holder())
        first.onFire = { wheel.clear(second) }
        second.onFire = { wheel.clear(first) }
        wheel.set(first, deadline: 10)
        wheel.set(second, deadline: 10)
        wheel.advance(to: 1_000 * Self.millisecond)
        #expect((first.firedAt == nil) != (second.firedAt == nil))
        #expect(wheel.count == 0)
    }

    @Test func aLongStallFiresEverythingDue() {
        let wheel = DeadlineWheel(startingAt: 0)
        let holders = (0..<1000).map { _ in Holder() }
        for (index, holder) in holders.enumerated() {
            wheel.set(holder, deadline: UInt64(index) * 50 * Self.millisecond)
        }
        wheel.advance(to: 3_600_000 * Self.millisecond)
        #expect(holders.allSatisfy { $0.firedAt != nil })
        #expect(wheel.count == 0)
    }
}
