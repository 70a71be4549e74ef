import Base
import Contracts
import Net
import Raft
import Replication

/// Where the snapshots of one shard come in, over all streams: the receiver, and the disk that does as it says.
final class SnapshotInbox {
    private unowned let owner: SnapshotLinks
    private let shard: ShardID
    private var receiver: SnapshotReceiver
    /// Who hears of which transfer: the newest few, so that the answer to a stale offer finds its stream.
    private var streams: [(transfer: UInt64, stream: SnapshotStream)] = []
    private var isClosed = false

    init(_ owner: SnapshotLinks, _ shard: ShardID) {
        (self.owner, self.shard) = (owner, shard)
        receiver = SnapshotReceiver(limits: owner.limits.receiver)
    }

    var isIdle: Bool { receiver.isIdle }

    func close() {
        isClosed = true
        streams = []
    }

    func offered(_ offer: SnapshotOffer, on stream: SnapshotStream) {
        streams.removeAll { $0.transfer == offer.transfer }
        streams.append((offer.transfer, stream))
        if streams.count > 4 { streams.removeFirst() }
        step(.offered(offer))
    }

    func part(_ transfer: UInt64, _ at: SnapshotPosition, _ bytes: Bytes, on stream: SnapshotStream) {
        // A receiver that was started anew hears parts before the offer.
        if !streams.contains(where: { $0.transfer == transfer }) { streams.append((transfer, stream)) }
        step(.part(transfer: transfer, at: at, count: bytes.count), bytes)
    }

    func ended(_ stream: SnapshotStream) { streams.removeAll { $0.stream === stream } }

    /// `bytes` are those of the part that the event tells of.
    func step(_ event: SnapshotReceiver.Event, _ bytes: Bytes = []) {
        guard !isClosed else { return }
        for action in receiver.step(event, now: owner.loop.now) { act(action, bytes) }
    }

    private func act(_ action: SnapshotReceiver.Action, _ bytes: Bytes) {
        switch action {
        case .open(let round, let offer):
            owner.staging.open(offer) { [self] result in
                switch result {
                case .success(let held): step(.opened(round: round, held: held))
                case .failure(let failure): fail(round, failure)
                }
            }
        case .write(let round, let at, let count):
            owner.staging.write(shard, at: at, bytes) { [self] result in
                switch result {
                case .success: step(.written(round: round, at: at, count: count))
                case .failure(let failure): fail(round, failure)
                }
            }
        case .check(let round, let file):
            owner.staging.check(shard, file: file) { [self] result in
                switch result {
                case .success(let isWhole): step(.checked(round: round, file: file, isWhole: isWhole))
                case .failure(let failure): fail(round, failure)
                }
            }
        case .stage(let offer): stage(offer)
        case .answer(let progress):
            let stream = streams.last { $0.transfer == progress.transfer }?.stream
            stream?.answer(SnapshotAnswerMessage(progress))
        case .discard: owner.staging.discard(shard)
        }
    }

    private func fail(_ round: UInt64, _ failure: SnapshotFailure) {
        owner.logger.warning(
            "a snapshot is refused", ["shard": .count(shard.rawValue), "reason": .text(failure.message)])
        step(.failed(round: round, failure.refusal))
    }

    /// Everything is there: the group gets the message that stands for it, from whoever sent the last of it.
    private func stage(_ offer: SnapshotOffer) {
        guard let sender = streams.last(where: { $0.transfer == offer.transfer })?.stream.node,
            let here = owner.peers.identity
        else { return }
        owner.loop.runLater { [self] in
            owner.peers.receiver?.received(
                offer.message(from: sender, to: here.node), of: shard, payload: ByteView(start: nil, count: 0))
        }
    }
}

/// A peer's stream of snapshots as it arrives here.
final class SnapshotStream: GRPCStreamHandler {
    private let owner: SnapshotLinks
    private let stream: GRPCServerStream
    /// Who sends; nil before its hello.
    private(set) var node: NodeID?
    private var inbox: SnapshotInbox?
    private var isOpen = true
    private var timer: LoopTimer?

    init(_ owner: SnapshotLinks, _ stream: GRPCServerStream) {
        (self.owner, self.stream) = (owner, stream)
        let settings = owner.peers.settings
        if let refusal = settings.refusal(of: stream.peer) {
            finish(refusal)
        } else {
            timer = owner.loop.schedule(afterMilliseconds: settings.attemptMilliseconds) { [weak self] in
                self?.finish(GRPCStatus(.deadlineExceeded, "no hello in time"))
            }
        }
    }

    func received(_ message: ByteView) {
        guard isOpen else { return }
        do throws(DatabaseError) {
            switch (node, try SnapshotPartMessage(decoding: message)) {
            case (nil, .hello(let hello)): greeted(by: hello)
            case (.some, .offer(let wire)): offered(wire)
            case (.some, .data(let transfer, let file, let offset, let bytes)):
                guard let inbox else { return finish(Self.nonsense) }
                inbox.part(transfer, SnapshotPosition(file: Int(file), offset: offset), bytes, on: self)
            case (nil, _), (.some, _): finish(Self.nonsense)
            }
        } catch {
            finish(GRPCStatus(.invalidArgument, error.message))
        }
    }

    private static let nonsense = GRPCStatus(.invalidArgument, "this is not what a peer sends")

    private func greeted(by hello: PeerHello) {
        if let refusal = owner.peers.refusal(of: hello, from: nil) { return finish(refusal) }
        guard let answer = owner.peers.hello(to: hello.node, answering: hello.clock) else {
            return finish(GRPCStatus(.unavailable, "this process has no identity"))
        }
        timer?.cancel()
        timer = nil
        node = hello.node
        self.answer(.hello(answer))
    }

    private func offered(_ wire: SnapshotOfferMessage) {
        guard let offer = wire.offer else { return finish(Self.nonsense) }
        guard let inbox = owner.inbox(of: offer.shard) else {
            let busy = SnapshotProgress(transfer: offer.transfer, round: 0, state: .refused(.busy))
            return answer(SnapshotAnswerMessage(busy))
        }
        if let before = self.inbox, before !== inbox { before.ended(self) }
        self.inbox = inbox
        inbox.offered(offer, on: self)
    }

    func answer(_ answer: SnapshotAnswerMessage) {
        guard isOpen else { return }
        // Answers are small and a sender waits for them: whoever does not read them is broken.
        guard stream.isWritable else { return finish(GRPCStatus(.resourceExhausted, "answers are not read")) }
        stream.send { $0.append(answer.encode()) }
    }

    private func finish(_ status: GRPCStatus) {
        guard isOpen else { return }
        isOpen = false
        timer?.cancel()
        timer = nil
        inbox?.ended(self)
        stream.finish(status)
    }

    func receivedEnd() { finish(.ok) }

    func draining() { finish(GRPCStatus(.unavailable, "the process is shutting down")) }

    func closed(_ status: GRPCStatus) {
        isOpen = false
        timer?.cancel()
        timer = nil
        inbox?.ended(self)
    }
}
