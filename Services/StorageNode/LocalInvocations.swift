import Base
import GatewayKit
import Net

/// Where an invocation stream sends its replies.
protocol ReplyChannel: AnyObject {
    /// Bytes of replies that have not left.
    var bufferedBytes: Int { get }
    /// Sends the message that `build` appends; false where it is larger than a message may be.
    func send(_ build: (inout ByteBuffer) -> Void) -> Bool
    /// Sends nothing more.
    func end(_ status: GRPCStatus)
}

extension GRPCServerStream: ReplyChannel {
    func end(_ status: GRPCStatus) { finish(status) }
}

/// Calls of this node's own routers to shards that it leads itself: the same streams, batches and replies as over a
/// connection, handed over in memory. Statements that a node executes, and transactions that it drives, are mostly for
/// its own shards, and two journeys through the kernel would cost more than the calls.
final class LocalInvocations: LocalNode {
    private unowned let node: Node

    init(_ node: Node) { self.node = node }

    func openStream(to handler: any GRPCStreamHandler) -> (any LocalStream)? { LocalPipe(node, handler) }
}

/// Both directions of one stream. Messages wait for the next step of the loop: neither side is called from inside of
/// its own call, but for callers that expect it (`evaluate`).
private final class LocalPipe: LocalStream, ReplyChannel {
    private let loop: EventLoop
    private weak var caller: (any GRPCStreamHandler)?
    private var callee: InvocationStream?
    private var calls: [Bytes] = [], replies: [Bytes] = []
    private var isScheduled = false
    private var status: GRPCStatus?
    private(set) var bufferedBytes = 0
    /// A call is evaluated inside of the caller's own, and then answered there: the answer lies in `answer`.
    private var isUrgent = false
    private var answer = ByteBuffer(capacity: 1024)

    init(_ node: Node, _ caller: any GRPCStreamHandler) {
        (loop, self.caller) = (node.loop, caller)
        callee = InvocationStream(
            loop: loop, node: node, channel: self, isUnary: false, rights: CallerRights(mayNamePrincipal: true))
    }

    // MARK: The caller's side

    func send(_ batch: ByteView) {
        calls.append(batch.bytes)
        schedule()
    }

    func evaluate(_ batch: ByteView) -> Bool {
        guard calls.isEmpty, !isUrgent, status == nil, let callee else { return false }
        isUrgent = true
        callee.receivedUrgent(batch)
        if !answer.isEmpty {
            caller?.received(answer.readable)
            answer.removeAll()
            answer.trim(to: 64 << 10)
        }
        isUrgent = false
        return true
    }

    func end() {
        caller = nil
        end(GRPCStatus(.cancelled, "the caller has gone"))
    }

    // MARK: The node's side

    func send(_ build: (inout ByteBuffer) -> Void) -> Bool {
        if isUrgent, answer.isEmpty {
            build(&answer)
            guard answer.count <= InvocationStream.limits.messageSize else {
                answer.removeAll()
                return false
            }
            return true
        }
        var buffer = ByteBuffer(capacity: 256)
        build(&buffer)
        guard buffer.count <= InvocationStream.limits.messageSize else { return false }
        bufferedBytes += buffer.count
        replies.append(buffer.readable.bytes)
        schedule()
        return true
    }

    func end(_ status: GRPCStatus) {
        guard self.status == nil else { return }
        self.status = status
        schedule()
    }

    // MARK: Between

    private func schedule() {
        guard !isScheduled else { return }
        isScheduled = true
        loop.runLater { [self] in
            isScheduled = false
            deliver()
        }
    }

    private func deliver() {
        let (calls, replies) = (self.calls, self.replies)
        (self.calls, self.replies, bufferedBytes) = ([], [], 0)
        for call in calls where status == nil { call.withUnsafeBytes { callee?.received($0) } }
        for reply in replies { reply.withUnsafeBytes { caller?.received($0) } }
        if !replies.isEmpty { callee?.writable() }
        guard let status, self.replies.isEmpty, callee != nil else { return }
        callee?.closed(status)
        callee = nil
        caller?.closed(status)
        caller = nil
    }
}
