import Net
import ServiceKit

/// Work for the disk, one after another on the node's workers, with its results back on the loop. Loop-confined.
///
/// Who submits bounds what waits: the transfer of a snapshot reads one part at a time and takes a window of them.
final class WorkQueue {
    private let loop: EventLoop
    private let workers: WorkerPool
    private var waiting = Queue<() -> Void>()
    private var isRunning = false

    init(loop: EventLoop, workers: WorkerPool) { (self.loop, self.workers) = (loop, workers) }

    /// Runs `job` on a worker, then `completion` on the loop; never from inside this call.
    func submit<Value: Sendable>(_ job: @escaping @Sendable () -> Value, then completion: @escaping (Value) -> Void) {
        waiting.append { [self] in
            let bound = LoopBound((self, completion), loop: loop)
            let loop = loop
            let accepted = workers.submit {
                let value = job()
                loop.execute {
                    let (queue, completion) = bound.value
                    queue.isRunning = false
                    completion(value)
                    queue.advance()
                }
            }
            guard !accepted else { return }
            // The workers' queue is full, or closed by a drain: what was begun still ends.
            isRunning = false
            completion(job())
            loop.runLater { self.advance() }
        }
        loop.runLater { self.advance() }
    }

    private func advance() {
        guard !isRunning, let next = waiting.popFirst() else { return }
        isRunning = true
        next()
    }
}
