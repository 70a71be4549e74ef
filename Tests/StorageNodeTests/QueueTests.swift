import Base
import TestKit
import Testing

@testable import StorageNode

@Suite("Queue")
struct QueueTests {
    @Test("behaves as an array does, also where the ring wraps and grows")
    func model() {
        var random = SplitMix64(seed: freshSeed("Queue"))
        for _ in 0..<20 {
            var queue = Queue<Int>()
            var model: [Int] = []
            for step in 0..<800 {
                if random.next(below: 100) < (step < 400 ? 60 : 40) {
                    queue.append(step)
                    model.append(step)
                } else {
                    #expect(queue.popFirst() == (model.isEmpty ? nil : model.removeFirst()))
                }
                #expect(queue.count == model.count && queue.first == model.first && queue.isEmpty == model.isEmpty)
            }
        }
    }

    @Test("what was taken out is let go")
    func releases() {
        final class Object {}
        var queue = Queue<Object>()
        weak var seen: Object?
        do {
            let object = Object()
            seen = object
            queue.append(object)
        }
        #expect(seen != nil)
        _ = queue.popFirst()
        #expect(seen == nil && queue.popFirst() == nil)
    }
}
