/// A scheduled call on an event loop. Dropping it does not cancel it; `cancel` does.
package final class LoopTimer {
    let interval: UInt64
    fileprivate(set) var deadline: UInt64 = 0
    var body: (() -> Void)?
    private let loop: EventLoop
    fileprivate(set) var sequence: UInt64 = 0
    /// The position in the heap, or -1: lets `cancel` remove at once instead of leaving a corpse until its deadline.
    fileprivate var index = -1

    init(loop: EventLoop, interval: UInt64, body: @escaping () -> Void) {
        self.loop = loop
        self.interval = interval
        self.body = body
    }

    /// True until the timer fired (once) or was cancelled.
    package var isScheduled: Bool { index >= 0 }

    package func cancel() {
        loop.cancel(self)
        body = nil
    }
}

/// A binary heap by deadline; equal deadlines fire in the order they were set.
struct TimerHeap {
    private var heap: [LoopTimer] = []
    /// The number of the timer that was set last.
    private(set) var newest: UInt64 = 0

    var first: LoopTimer? { heap.first }
    var count: Int { heap.count }

    mutating func insert(_ timer: LoopTimer, deadline: UInt64) {
        newest += 1
        timer.sequence = newest
        timer.deadline = deadline
        timer.index = heap.count
        heap.append(timer)
        siftUp(timer.index)
    }

    mutating func remove(_ timer: LoopTimer) {
        let index = timer.index
        guard index >= 0 else { return }
        timer.index = -1
        let last = heap.removeLast()
        guard last !== timer else { return }
        place(last, index)
        siftDown(index)
        siftUp(index)
    }

    mutating func reschedule(_ timer: LoopTimer, deadline: UInt64) {
        remove(timer)
        insert(timer, deadline: deadline)
    }

    private mutating func place(_ timer: LoopTimer, _ index: Int) {
        heap[index] = timer
        timer.index = index
    }

    private func isBefore(_ left: LoopTimer, _ right: LoopTimer) -> Bool {
        left.deadline != right.deadline ? left.deadline < right.deadline : left.sequence < right.sequence
    }

    private mutating func siftUp(_ start: Int) {
        let timer = heap[start]
        var index = start
        while index > 0 {
            let parent = (index - 1) / 2
            guard isBefore(timer, heap[parent]) else { break }
            place(heap[parent], index)
            index = parent
        }
        place(timer, index)
    }

    private mutating func siftDown(_ start: Int) {
        let timer = heap[start]
        var index = start
        while true {
            var child = index * 2 + 1
            guard child < heap.count else { break }
            if child + 1 < heap.count, isBefore(heap[child + 1], heap[child]) { child += 1 }
            guard isBefore(heap[child], timer) else { break }
            place(heap[child], index)
            index = child
        }
        place(timer, index)
    }
}
