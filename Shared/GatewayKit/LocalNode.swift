import Base
import Net

/// A storage node in this very process: who routes calls inside it reaches it without a socket.
package protocol LocalNode: AnyObject {
    /// Begins a stream of invocations; nil while the node takes none. Its answers come to `handler` as messages, on
    /// the same loop, and never from inside `send`.
    func openStream(to handler: any GRPCStreamHandler) -> (any LocalStream)?
}

/// The calling side of a stream to a node in this process.
package protocol LocalStream: AnyObject {
    /// Takes an encoded `InvocationBatch`; it is evaluated later in this tick.
    func send(_ batch: ByteView)
    /// The same, evaluated before this returns; what can be answered at once is heard by then, too. False: something
    /// that was sent before is not evaluated yet, or this comes from inside of such a call; nothing was taken.
    func evaluate(_ batch: ByteView) -> Bool
    /// Nothing more is sent, and nothing that is answered is heard.
    func end()
}

/// How a router's stream reaches its node: over a connection, or inside the process.
enum NodeWay {
    case remote(GRPCClientStream)
    case local(any LocalStream)

    /// False where nothing has left, and nothing will.
    func send(_ message: ByteView) -> Bool {
        switch self {
        case .remote(let stream): return stream.send(message)
        case .local(let stream):
            stream.send(message)
            return true
        }
    }

    /// Nothing more is sent; what was is answered.
    func end() {
        switch self {
        case .remote(let stream): stream.end()
        case .local(let stream): stream.end()
        }
    }

    /// Whatever was sent is forgotten.
    func cancel() {
        switch self {
        case .remote(let stream): stream.cancel()
        case .local(let stream): stream.end()
        }
    }
}
