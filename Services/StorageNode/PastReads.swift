import Base
import Contracts

/// Reads at a time.
extension ShardExecutor {
    /// Answers SAMPLE: the node's time, above that of everything acknowledged here. As of a strong read it is told only
    /// by who leads for certain, so that nobody can have acknowledged something later before.
    func tellTime(_ id: UInt64, on stream: InvocationStream, ready: ReplyBatchEncoder) {
        let mark = ready.size
        ready.integer(id, Int64(bitPattern: clock.next().rawValue))
        answered(from: mark, .zero, on: stream, ready: ready)
    }
}
