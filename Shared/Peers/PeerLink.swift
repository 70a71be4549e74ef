import Base
import Contracts
import Net
import Raft

/// The way to one peer: our stream on a connection of our own.
///
///     waiting ──attempt──▶ connecting ──ready, who it is──▶ greeting ──its hello──▶ up
///        ▲                     │                               │                    │
///        └────── back-off ─────┴───────────── any end ─────────┴────────────────────┘
///
/// Messages gather in `batch`, also while the link is being made, and leave as one gRPC message at the end of the tick.
/// While the peer does not take them they stay there up to the bounds; what comes then is dropped. While the link waits
/// for its next attempt everything is dropped: Raft says it again in its own time, and an old message helps nobody.
final class PeerLink: GRPCStreamHandler, TickFlushable {
    private enum State { case waiting, connecting, greeting, up, closed }

    let node: NodeID
    let peer: PeerLinks.Peer
    private(set) var offset: ClockOffset
    /// Whether the peer answered lately.
    private(set) var isAlive = false
    var isFlushPending = false

    private unowned let owner: PeerLinks
    private let loop: EventLoop
    private let settings: PeerSettings
    private let figures: PeerFigures
    private var state = State.waiting
    private var channel: GRPCClientChannel?
    private var stream: GRPCClientStream?
    /// The next attempt, or the end of the present one.
    private var timer: LoopTimer?
    private var batch = PeerBatchEncoder()
    /// Messages that the stream holds, at most.
    private var buffered = 0
    private var isDropNoted = false
    private var failures: UInt64 = 0
    /// That there is no link has been logged, and since then there was none.
    private var isMissed = false
    /// Loop time of the newest answer.
    private var lastHeard: UInt64 = 0
    /// When the question was sent that is not answered yet; 0: none.
    private var probe: UInt64 = 0

    init(_ peer: PeerLinks.Peer, owner: PeerLinks, figures: PeerFigures) {
        (node, self.peer, self.owner, self.figures) = (peer.node, peer, owner, figures)
        loop = owner.loop
        settings = owner.settings
        offset = ClockOffset(maximumMilliseconds: settings.maximumOffsetMilliseconds)
        attempt()
    }

    // MARK: Sending

    func send(_ message: Message, of shard: ShardID, payload: (inout ByteBuffer) -> Void) -> Bool {
        switch state {
        case .up, .connecting, .greeting: break
        case .waiting, .closed:
            drop(1)
            return false
        }
        guard hasRoom(for: message) else {
            drop(1)
            return false
        }
        guard batch.append(message, of: shard, payload: payload) else {
            owner.logger.error("a message's payload does not fit its sizes", ["shard": .count(shard.rawValue)])
            drop(1)
            return false
        }
        if batch.size >= settings.batchBytes { flushAtTickEnd() } else { loop.flushUpstream(self) }
        return true
    }

    /// A closed timestamp helps nobody when it is late: without a link, or with much before it, it is left out.
    func send(_ note: ClosedTimestamp) {
        guard state == .up, batch.size < settings.batchBytes else { return }
        batch.append(note)
        loop.flushUpstream(self)
    }

    private func hasRoom(for message: Message) -> Bool {
        guard batch.count &+ buffered < settings.queueMessages else { return false }
        guard case .append(let body) = message.body, !batch.isEmpty else { return batch.size < settings.queueBytes }
        return batch.size &+ Int(clamping: body.entries.byteCount) < settings.queueBytes
    }

    func flushAtTickEnd() {
        guard state == .up, !batch.isEmpty, let stream, stream.isWritable else { return }
        write(on: stream, clock: nil)
    }

    func writable() { flushAtTickEnd() }

    private func write(on stream: GRPCClientStream, clock: PeerClock?) {
        if stream.bufferedBytes == 0 { buffered = 0 }
        let before = stream.bufferedBytes
        if stream.send({ batch.write(clock: clock, into: &$0) }) {
            buffered &+= batch.count
            figures.messagesSent.add(UInt64(batch.count))
            figures.bytesSent.add(UInt64(max(stream.bufferedBytes - before, 0)))
        } else {
            drop(batch.count)
        }
        batch.reset()
    }

    /// Messages are given up. The driver hears of it once, and later: it may be in the midst of a step.
    private func drop(_ count: Int) {
        figures.dropped.add(UInt64(count))
        guard !isDropNoted else { return }
        isDropNoted = true
        loop.runLater { [self] in
            isDropNoted = false
            if state != .closed { owner.receiver?.unreachable(node) }
        }
    }

    // MARK: Connecting

    private func attempt() {
        guard state == .waiting else { return }
        guard !peer.addresses.isEmpty else { return }
        state = .connecting
        timer = loop.schedule(afterMilliseconds: settings.attemptMilliseconds) { [weak self] in
            self?.end("no hello in time")
        }
        // Best first; a failure goes on to the next.
        let address = peer.addresses[Int(failures % UInt64(peer.addresses.count))]
        let channel = GRPCClientChannel(
            loop: loop, address: address, tls: address.host == nil ? nil : owner.tls, limits: PeerLinks.limits)
        self.channel = channel
        channel.onStateChange = { [unowned self] in channelChanged($0) }
        channel.connect()
    }

    private func channelChanged(_ channelState: GRPCClientChannel.State) {
        switch channelState {
        case .ready: greet()
        // Also when the server drains while our stream goes on: its process is about to end.
        case .failed(let status): end("\(status)")
        case .idle, .connecting, .closed: break
        }
    }

    private func greet() {
        guard state == .connecting, let channel else { return }
        if let refusal = settings.refusal(of: channel.peer) { return end("\(refusal)") }
        guard let hello = owner.hello(to: node) else { return end("this process has no identity") }
        state = .greeting
        let stream = channel.open(path: PeerPath.exchange, handler: self)
        self.stream = stream
        probe = hello.clock.sent
        stream.send { $0.append(hello.encodeBatch()) }
    }

    private func greeted(by hello: PeerHello) {
        if let refusal = owner.refusal(of: hello, from: node) { return end("\(refusal)") }
        timer?.cancel()
        timer = nil
        state = .up
        failures = 0
        isMissed = false
        figures.connects.add()
        owner.logger.info("peer connected", ["peer": .count(node.rawValue)])
        answered(hello.clock)
        flushAtTickEnd()
    }

    /// The link is lost, or was none. What it held is lost with it.
    private func end(_ reason: String) {
        switch state {
        case .waiting, .closed: return
        case .connecting, .greeting, .up: break
        }
        // Once: the attempts that follow fail at each of the peer's addresses in turn, each in its own words.
        let fields: Logger.Fields = ["peer": .count(node.rawValue), "reason": .text(reason)]
        if isMissed {
            owner.logger.debug("still no link to a peer", fields)
        } else {
            owner.logger.warning("no link to a peer", fields)
        }
        isMissed = true
        state = .waiting
        cut()  // What was on its way is lost too, perhaps: `unreachable` follows in any case.
        failures &+= 1
        let base = min(settings.firstBackOff << min(failures - 1, 16), settings.lastBackOff)
        let delay = base - base / 4 + owner.random(below: base / 2 + 1)
        timer = loop.schedule(afterMilliseconds: Int(delay)) { [weak self] in
            guard let self else { return }
            timer = nil
            attempt()
        }
        setAlive(false)
    }

    private func cut() {
        timer?.cancel()
        timer = nil
        let (stream, channel) = (stream, channel)
        (self.stream, self.channel) = (nil, nil)
        if stream?.bufferedBytes == 0 { buffered = 0 }
        stream?.cancel()
        channel?.close()
        drop(batch.count + buffered)
        batch.reset()
        buffered = 0
        probe = 0
    }

    func close() {
        guard state != .closed else { return }
        let wasAlive = isAlive
        state = .closed
        cut()
        isAlive = false
        figures.isUp.set(0)
        if wasAlive { owner.receiver?.peerDown(node) }
    }

    // MARK: From the peer

    func received(_ message: ByteView) {
        do throws(DatabaseError) {
            let answer = try PeerAnswer(decoding: message)
            switch (state, answer.hello) {
            case (.greeting, .some(let hello)): greeted(by: hello)
            case (.up, nil): if let clock = answer.clock { answered(clock) }
            case (.greeting, nil), (.up, .some): end("the peer does not keep to the protocol")
            case (.waiting, _), (.connecting, _), (.closed, _): break
            }
        } catch {
            end("unreadable answer: \(error.message)")
        }
    }

    func closed(_ status: GRPCStatus) {
        guard stream != nil else { return }  // We cut it ourselves.
        end("\(status)")
    }

    private func answered(_ clock: PeerClock) {
        guard probe != 0, clock.sent == probe else { return }
        probe = 0
        lastHeard = loop.now
        let wasBeyond = offset.isBeyond
        offset.note(clock, now: owner.clock())
        figures.offset.set(offset.milliseconds)
        if offset.isBeyond != wasBeyond { owner.offsetChanged(self) }
        setAlive(true)
    }

    // MARK: Liveness

    /// Called every `probeMilliseconds`.
    func check() {
        guard state == .up, let stream else { return }
        let silence = (loop.now &- lastHeard) / 1_000_000
        if silence > settings.patienceMilliseconds { return end("the peer is silent") }
        if silence > settings.silenceMilliseconds { setAlive(false) }
        guard probe == 0 else { return }
        let now = owner.clock()
        probe = now.monotonicNanoseconds
        write(on: stream, clock: PeerClock(sent: probe, time: Timestamp(milliseconds: now.wallMilliseconds)))
    }

    /// This process did not run for a while: silence proves nothing.
    func forgive() { lastHeard = loop.now }

    private func setAlive(_ alive: Bool) {
        guard alive != isAlive else { return }
        isAlive = alive
        figures.isUp.set(alive ? 1 : 0)
        if alive { owner.receiver?.peerUp(node) } else { owner.receiver?.peerDown(node) }
    }
}
