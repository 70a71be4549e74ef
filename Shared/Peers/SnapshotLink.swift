import Base
import Contracts
import Net
import Replication

/// One transfer to one peer, over as many streams as it takes.
final class SnapshotLink: GRPCStreamHandler {
    private enum State { case waiting, connecting, greeting, up, closed }

    private unowned let owner: SnapshotLinks
    private let peer: PeerLinks.Peer
    private let made: MadeSnapshot
    private let completion: (SnapshotLink, SnapshotSender.Outcome) -> Void
    private var sender: SnapshotSender
    private var state = State.waiting
    private var channel: GRPCClientChannel?
    private var stream: GRPCClientStream?
    /// The next attempt, the end of the present one, or the sender's wait.
    private var timer: LoopTimer?
    private var attempts = 0
    private var isReading = false

    init(
        _ owner: SnapshotLinks, _ peer: PeerLinks.Peer, _ made: MadeSnapshot, _ offer: SnapshotOffer,
        _ completion: @escaping (SnapshotLink, SnapshotSender.Outcome) -> Void
    ) {
        (self.owner, self.peer, self.made, self.completion) = (owner, peer, made, completion)
        sender = SnapshotSender(offer, limits: owner.limits.sender, now: owner.loop.now)
    }

    var bytesSent: UInt64 { sender.bytesSent }
    var offer: SnapshotOffer { sender.offer }
    var way: SnapshotLinks.Way { SnapshotLinks.Way(shard: sender.offer.shard, peer: peer.node) }

    func start() { attempt() }

    func close() { finish(.silent) }

    // MARK: Connecting

    private func attempt() {
        guard state == .waiting else { return }
        guard attempts < owner.limits.attempts, !peer.addresses.isEmpty else { return finish(.silent) }
        let address = peer.addresses[attempts % peer.addresses.count]
        attempts += 1
        state = .connecting
        wait(owner.peers.settings.attemptMilliseconds) { $0.lost() }
        let channel = GRPCClientChannel(
            loop: owner.loop, address: address, tls: address.host == nil ? nil : owner.peers.tls,
            limits: PeerLinks.limits)
        self.channel = channel
        channel.onStateChange = { [weak self] state in
            switch state {
            case .ready: self?.greet()
            case .failed: self?.lost()
            case .idle, .connecting, .closed: break
            }
        }
        channel.connect()
    }

    private func greet() {
        guard state == .connecting, let channel else { return }
        guard owner.peers.settings.refusal(of: channel.peer) == nil, let hello = owner.peers.hello(to: peer.node) else {
            return lost()
        }
        state = .greeting
        let stream = channel.open(path: SnapshotPath.send, handler: self)
        self.stream = stream
        stream.send { $0.append(SnapshotPartMessage.hello(hello).encode()) }
    }

    /// The stream is gone. The next one goes on where the receiver is.
    private func lost() {
        guard state != .closed, state != .waiting else { return }
        state = .waiting
        cut()
        sender.reconnected(now: owner.loop.now)
        wait(owner.limits.backOffMilliseconds) { $0.attempt() }
    }

    private func cut() {
        timer?.cancel()
        timer = nil
        let (stream, channel) = (stream, channel)
        (self.stream, self.channel) = (nil, nil)
        channel?.onStateChange = nil
        stream?.cancel()
        channel?.close()
    }

    private func wait(_ milliseconds: Int, _ body: @escaping (SnapshotLink) -> Void) {
        timer?.cancel()
        timer = owner.loop.schedule(afterMilliseconds: milliseconds) { [weak self] in
            guard let self else { return }
            timer = nil
            body(self)
        }
    }

    private func finish(_ outcome: SnapshotSender.Outcome) {
        guard state != .closed else { return }
        state = .closed
        cut()
        // Later: this may be the very call that began the transfer, or a loop over all of them.
        owner.loop.runLater { [self] in completion(self, outcome) }
    }

    // MARK: Sending

    private func pump() {
        while state == .up, !isReading, let stream, stream.isWritable {
            switch sender.next(now: owner.loop.now) {
            case .offer(let offer):
                stream.send { $0.append(SnapshotPartMessage.offer(SnapshotOfferMessage(offer)).encode()) }
            case .send(let transfer, let from, let count):
                read(transfer, from, count)
            case .wait(let until):
                let nanoseconds = until > owner.loop.now ? until &- owner.loop.now : 0
                return wait(Int(clamping: nanoseconds / 1_000_000 &+ 1)) { $0.pump() }
            case .finish(let outcome):
                return finish(outcome)
            }
        }
    }

    private func read(_ transfer: UInt64, _ from: SnapshotPosition, _ count: Int) {
        isReading = true
        owner.staging.read(made, from: from, count: count) { [self] bytes in
            isReading = false
            guard let bytes else { return finish(.impossible) }
            // A stream that came meanwhile has another number for the transfer, and its receiver another wish.
            if state == .up, transfer == sender.offer.transfer, let stream {
                let part = SnapshotPartMessage.data(
                    transfer: transfer, file: UInt32(clamping: from.file), offset: from.offset, bytes)
                stream.send { $0.append(part.encode()) }
            }
            pump()
        }
    }

    func writable() { pump() }

    // MARK: From the peer

    func received(_ message: ByteView) {
        let answer = try? SnapshotAnswerMessage(decoding: message)
        switch (state, answer) {
        case (.greeting, .hello(let hello)):
            guard owner.peers.refusal(of: hello, from: peer.node) == nil else { return lost() }
            timer?.cancel()
            timer = nil
            state = .up
        case (.up, .state):
            guard let progress = answer?.progress else { return }
            let before = sender.done
            sender.received(progress, now: owner.loop.now)
            if sender.done > before { attempts = 0 }
        case (.greeting, _), (.up, _): return lost()
        case (.waiting, _), (.connecting, _), (.closed, _): return
        }
        pump()
    }

    func closed(_ status: GRPCStatus) {
        guard stream != nil else { return }  // We cut it ourselves.
        lost()
    }
}
