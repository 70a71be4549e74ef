import Base
import Contracts
import TestKit
import Testing

@testable import GatewayKit

private final class Nobody: ReplyReceiver {
    func completed(_ ticket: UInt64, _ reply: borrowing ReplyView) {}
    func failed(_ ticket: UInt64, _ error: DatabaseError) {}
}

@Suite("InFlightRing")
struct InFlightRingTests {
    private let nobody = Nobody()

    private func entry(_ ticket: UInt64) -> InFlightRing.Entry {
        .init(receiver: nobody, ticket: ticket, isWrite: ticket % 2 == 0, deadline: ticket)
    }

    @Test("behaves as a dictionary does, whatever the order of the answers")
    func model() {
        let seed = freshSeed("InFlightRing")
        var random = SplitMix64(seed: seed)
        for _ in 0..<40 {
            var ring = InFlightRing(capacity: Int(random.next(below: 40)))
            var model: [UInt64: UInt64] = [:]
            var nextID: UInt64 = 1
            // Above a half it grows, below it drains: both happen in each round.
            var bias: UInt64 = 50
            for step in 0..<1500 {
                if step % 100 == 0 { bias = 20 + random.next(below: 60) }
                if random.next(below: 100) < bias {
                    let id = ring.insert(entry(nextID &* 7))
                    #expect(id == nextID)
                    model[id] = nextID &* 7
                    nextID += 1
                } else {
                    // Known, answered, never given, 0 and the largest: all are asked for.
                    let id =
                        switch random.next(below: 20) {
                        case 0: UInt64(0)
                        case 1: nextID &+ random.next(below: 3)
                        case 2: UInt64.max
                        case 3...6: ring.first?.id ?? 1
                        default: 1 + random.next(below: nextID)
                        }
                    #expect(ring.remove(id)?.ticket == model.removeValue(forKey: id))
                }
                let oldest = model.keys.min()
                #expect(ring.count == model.count)
                #expect(ring.first?.id == oldest)
                #expect(ring.first?.entry.ticket == oldest.flatMap { model[$0] })
                #expect(ring.oldest <= oldest ?? ring.next && ring.next == nextID)
            }
            while let (id, _) = ring.first { #expect(ring.remove(id)?.ticket == model.removeValue(forKey: id)) }
            #expect(model.isEmpty && ring.count == 0 && ring.span == 0)
        }
    }

    @Test("an answered place is taken again only when all older ones are answered")
    func holes() {
        var ring = InFlightRing(capacity: 16)
        for ticket in 1...16 as ClosedRange<UInt64> { _ = ring.insert(entry(ticket)) }
        for id in 2...16 as ClosedRange<UInt64> { #expect(ring.remove(id) != nil) }
        #expect(ring.count == 1 && ring.span == 16)
        #expect(ring.insert(entry(17)) == 17)  // Grows: 1 keeps its place.
        #expect(ring.remove(1)?.ticket == 1)
        #expect(ring.span == 1 && ring.remove(17)?.ticket == 17 && ring.remove(17) == nil)
    }

    @Test("powers of two")
    func powers() {
        for (value, power) in [
            (1, 1), (2, 2), (3, 4), (16, 16), (17, 32), (1 << 40, 1 << 40), ((1 << 40) + 1, 1 << 41),
        ] {
            #expect(value.nextPowerOfTwo == power)
        }
    }
}
