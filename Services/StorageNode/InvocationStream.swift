import Base
import Contracts
import Net

/// One gateway's stream: decodes its batches, hands each invocation to the executor of its shard, sends the replies.
///
/// Replies that depend on nothing pending gather in `ready` and leave at the end of the tick as one message; the others
/// are sent by their executor when their entry commits. `id` pairs them at the gateway, so they may overtake one
/// another.
final class InvocationStream: GRPCStreamHandler, TickFlushable {
    /// The largest reply of one call, and what a batch of replies may hold before another one is begun.
    static let replyLimit = 24 << 20, batchLimit = 4 << 20
    /// Batches of more bytes are looked ahead through: about four calls.
    static let lookAheadFrom = 160
    static var limits: GRPCLimits {
        var limits = GRPCLimits()
        limits.messageSize = 40 << 20
        return limits
    }

    private let loop: EventLoop
    private let node: Node
    private let stream: GRPCServerStream
    private let decoder = InvocationBatchDecoder()
    private let ready = ReplyBatchEncoder()
    var isFlushPending = false
    private(set) var isOpen = true
    /// A unary call is answered by one message: its replies gather in `ready` until the last is there.
    private let isUnary: Bool
    /// Invocations without a reply so far.
    private var owed = 0
    /// Bytes of replies that executors hold until their entry commits.
    private var heldBytes = 0
    /// The caller sends nothing more: the call ends after the last reply.
    private var hasEnded = false

    init(loop: EventLoop, node: Node, stream: GRPCServerStream, isUnary: Bool) {
        (self.loop, self.node, self.stream, self.isUnary) = (loop, node, stream, isUnary)
    }

    // MARK: From the gateway

    func received(_ message: ByteView) {
        guard isOpen else { return }
        var queued = stream.bufferedBytes
        let limit = node.settings.replyBacklog
        do {
            if message.count > Self.lookAheadFrom {
                // Reading the batch twice costs 20 ns a call; waiting for memory one call after the other costs more.
                try decoder.decode(message) { node.prefetch($0) }
                node.prefetched()
            }
            var refusal: DatabaseError?
            var isBookmarkKnown = false
            try decoder.decode(message) { invocation in
                owed += 1
                if !isBookmarkKnown {
                    isBookmarkKnown = true
                    refusal = node.observe(decoder.bookmark)
                }
                if let refusal {
                    ready.error(invocation.id, refusal)
                    return
                }
                guard queued &+ heldBytes &+ ready.size <= limit else {
                    // Replies are larger than calls: a few bytes that ask for megabytes must not take all memory.
                    ready.error(invocation.id, Self.backlogged)
                    return
                }
                node.dispatch(invocation, on: self, ready: ready)
                if ready.size > Self.batchLimit, !isUnary {
                    send(ready)
                    queued = stream.bufferedBytes
                }
            }
        } catch {
            fail(GRPCStatus(.invalidArgument, error.message))
        }
        if !ready.isEmpty { loop.flushUpstream(self) }
    }

    func receivedEnd() {
        hasEnded = true
        // What is ready leaves first, at the end of this tick.
        loop.flushUpstream(self)
    }

    /// A stream ends once it owes nothing; a unary call ends by itself.
    func draining() {
        if !isUnary { receivedEnd() }
    }

    func closed(_ status: GRPCStatus) { isOpen = false }

    func writable() {}

    // MARK: To the gateway

    /// Takes replies whose entry has committed, and empties the encoder.
    func send(_ replies: ReplyBatchEncoder) {
        guard isOpen else { return replies.reset() }
        if isUnary {
            if replies !== ready { replies.moveAll(to: ready) }
            if hasEnded, ready.count == owed { write(ready) }
        } else if !replies.isEmpty {
            write(replies)
        }
        if hasEnded, owed == 0, isOpen {
            isOpen = false
            stream.finish(.ok)
        }
    }

    /// An executor holds that many bytes of our replies more (or fewer).
    func holds(_ bytes: Int) { heldBytes &+= bytes }

    private func write(_ replies: ReplyBatchEncoder) {
        owed -= replies.count
        let isSent = stream.send { buffer in
            replies.write(bookmark: node.clock.last, mapEpoch: node.mapEpoch, into: &buffer)
        }
        replies.reset()
        // The caller must not wait for what does not come. Of streams no batch is that large; a unary call can ask for
        // too much.
        if !isSent { fail(GRPCStatus(.resourceExhausted, "the replies exceed what one message may hold")) }
    }

    private static let backlogged = DatabaseError(
        .busy, "Too many bytes of replies wait for the gateway; ask for less at a time")

    func flushAtTickEnd() { send(ready) }

    private func fail(_ status: GRPCStatus) {
        isOpen = false
        stream.finish(status)
    }
}
