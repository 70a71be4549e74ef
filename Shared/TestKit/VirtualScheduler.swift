import Base

/// Virtual time and what will happen in it: a heap of events. Time passes only from event to event.
///
/// What is due at the same instant comes in an order that the seed decides, because no real machine promises another.
package struct VirtualScheduler<Event> {
    private struct Item {
        var due: UInt64
        var order: UInt64
        var event: Event

        func comes(before other: Item) -> Bool { (due, order) < (other.due, other.order) }
    }

    /// Nanoseconds of true time, which no simulated clock need agree with.
    package private(set) var now: UInt64 = 0
    private var heap: [Item] = []
    private var random: SplitMix64
    /// A simulation that has more to do than this floods itself, and is broken.
    private let limit: Int

    package init(seed: UInt64, limit: Int = 1 << 20) {
        random = SplitMix64(seed: seed)
        self.limit = limit
        heap.reserveCapacity(1024)
    }

    package var isEmpty: Bool { heap.isEmpty }
    package var count: Int { heap.count }

    /// Lets `event` happen after `delay` nanoseconds. False when too much is waiting; the event is dropped then.
    @discardableResult
    package mutating func schedule(_ event: Event, after delay: UInt64) -> Bool {
        guard heap.count < limit else { return false }
        heap.append(Item(due: now &+ delay, order: random.next(), event: event))
        var child = heap.count - 1
        while child > 0 {
            let parent = (child - 1) / 2
            guard heap[child].comes(before: heap[parent]) else { break }
            heap.swapAt(child, parent)
            child = parent
        }
        return true
    }

    /// The next event; time has come to it. Nil when nothing will happen any more.
    package mutating func next() -> Event? {
        guard let first = heap.first else { return nil }
        let last = heap.removeLast()
        if !heap.isEmpty {
            heap[0] = last
            sink()
        }
        now = max(now, first.due)
        return first.event
    }

    private mutating func sink() {
        var parent = 0
        while true {
            var least = parent
            let left = 2 * parent + 1
            if left < heap.count, heap[left].comes(before: heap[least]) { least = left }
            if left + 1 < heap.count, heap[left + 1].comes(before: heap[least]) { least = left + 1 }
            if least == parent { return }
            heap.swapAt(parent, least)
            parent = least
        }
    }
}
