import Base
import Contracts
import Net

/// A peer's stream as it arrives here: its hello, then batches, which are handed on as they are read.
final class PeerStream: GRPCStreamHandler {
    private let owner: PeerLinks
    private let stream: GRPCServerStream
    private let decoder = PeerBatchDecoder()
    private var node: NodeID?
    private var figures: PeerFigures?
    private var isOpen = true
    private var timer: LoopTimer?

    init(_ owner: PeerLinks, _ stream: GRPCServerStream) {
        self.owner = owner
        self.stream = stream
        if let refusal = owner.settings.refusal(of: stream.peer) {
            finish(refusal)
        } else {
            timer = owner.loop.schedule(afterMilliseconds: owner.settings.attemptMilliseconds) { [weak self] in
                self?.finish(GRPCStatus(.deadlineExceeded, "no hello in time"))
            }
        }
    }

    func received(_ message: ByteView) {
        guard isOpen else { return }
        let sender = node
        var isBroken = false
        do throws(DatabaseError) {
            var count: UInt64 = 0
            try decoder.decode(message) { wire in
                guard isOpen, !isBroken, let sender, let identity = owner.identity,
                    let message = wire.message(from: sender, to: identity.node)
                else {
                    isBroken = true
                    return
                }
                count &+= 1
                owner.receiver?.received(message, of: wire.shard, payload: wire.entries.payload)
            }
            figures?.messagesReceived.add(count)
            figures?.bytesReceived.add(UInt64(message.count))
            guard isOpen else { return }
            if sender != nil, !isBroken { for note in decoder.closed { owner.onClosed?(note) } }
            switch (sender, decoder.hello) {
            case (nil, .some(let hello)) where !isBroken: greeted(by: hello)
            case (.some, nil) where !isBroken: answer()
            case (nil, _), (.some, _): finish(GRPCStatus(.invalidArgument, "this is not what a peer sends"))
            }
        } catch {
            finish(GRPCStatus(.invalidArgument, error.message))
        }
    }

    private func greeted(by hello: PeerHello) {
        if let refusal = owner.refusal(of: hello, from: nil) { return finish(refusal) }
        guard let answer = owner.hello(to: hello.node, answering: hello.clock) else {
            return finish(GRPCStatus(.unavailable, "this process has no identity"))
        }
        timer?.cancel()
        timer = nil
        node = hello.node
        figures = owner.figures(of: hello.node)
        owner.add(self, of: hello.node)
        stream.send { $0.append(PeerAnswer(hello: answer).encode()) }
    }

    private func answer() {
        guard let question = decoder.clock else { return }
        let time = Timestamp(milliseconds: owner.clock().wallMilliseconds)
        stream.send { $0.append(PeerAnswer(clock: PeerClock(sent: question.sent, time: time)).encode()) }
    }

    /// Ends the stream; what it brings afterwards is not read.
    func finish(_ status: GRPCStatus) {
        guard isOpen else { return }
        isOpen = false
        timer?.cancel()
        timer = nil
        if !status.isOK { figures?.refused.add() }
        stream.finish(status)
    }

    func receivedEnd() { finish(.ok) }

    func draining() { finish(GRPCStatus(.unavailable, "the process is shutting down")) }

    func writable() {}

    func closed(_ status: GRPCStatus) {
        isOpen = false
        timer?.cancel()
        timer = nil
        if let node { owner.remove(self, of: node) }
    }
}
