import Base
import CSystem
import Crypto
import Glibc

/// A byte stream to a peer: TCP or a Unix socket, plain or under TLS.
///
/// Reading: once per tick into the loop's one scratch buffer; only what the handler leaves unconsumed is kept here,
/// so an idle connection owns two buffers of 64 bytes. Writing: append to `output`, then `setNeedsFlush`; at the end
/// of the tick everything goes out in one `send`. What the kernel does not take waits for EPOLLOUT.
///
/// Closing: `open` → `flushing` (output is sent, input discarded) → `lingering` (our direction is shut, the peer's is
/// read to its end) → `closed`. Each of these states has a deadline, as the TLS handshake and an unread output have:
/// no peer can hold a connection by doing nothing. `closed` is delivered at the end of the tick, never from inside
/// another call.
@usableFromInline package final class Connection: EventSource, TickFlushable, DeadlineHolder {
    enum Phase: UInt8 { case handshaking, open, flushing, lingering, closed }

    package let loop: EventLoop
    package let remoteAddress: SocketAddress
    package internal(set) var peer: PeerIdentity
    package var handler: (any ConnectionHandler)?
    @usableFromInline var store = LentBuffer()
    /// Bytes for the peer: append, then `setNeedsFlush`.
    @inlinable package var output: ByteBuffer {
        _read { yield store.buffer }
        _modify {
            if store.spare == nil { borrowOutput() }
            yield &store.buffer
        }
    }
    /// For the owner: any number it wants to find again.
    package var tag: UInt64 = 0
    package var options: ConnectionOptions

    package var isFlushPending = false
    package var deadlineTicket = DeadlineTicket()

    private(set) var fd: Int32
    private(set) var phase: Phase
    private var closeReason = CloseReason.local
    /// What the handler has not consumed.
    private var input = ByteBuffer(capacity: 64)
    private var interest: IOEvents = .readable
    /// The kernel took less than was offered; EPOLLOUT is awaited.
    private var isBlocked = false
    private var isPaused = false
    private var isInputEnded = false
    private var isCongested = false
    private var isTrimPending = false
    private var isRedeliveryPending = false
    /// A hang-up was reported while nothing was awaited: out of epoll, which would report it for ever.
    private var isDormant = false
    private var ownerDeadline: UInt64 = 0
    private var ownDeadline: UInt64 = 0
    private var tls: TLSLayer?
    /// Called once: nil when the handshake is done, else why it failed.
    var handshakeEnded: ((CloseReason?) -> Void)?
    /// Called once, after the handler's `closed`.
    var onClosed: (() -> Void)?

    /// Kept input of at least this size is read into directly instead of by way of the scratch buffer.
    private static let directReadSize = 32 << 10
    /// Kept input at most this large is not given back.
    private static let keptSize = 512

    /// Takes over a connected, non-blocking descriptor, also when it throws.
    package init(
        loop: EventLoop, fd: Int32, remoteAddress: SocketAddress, options: ConnectionOptions = ConnectionOptions(),
        engine: TLSEngine? = nil
    ) throws(SystemError) {
        self.loop = loop
        self.fd = fd
        self.remoteAddress = remoteAddress
        self.options = options
        if case .unix = remoteAddress { peer = .process(of: fd) } else { peer = .none }
        tls = engine.map { TLSLayer(engine: $0) }
        phase = tls == nil ? .open : .handshaking
        do throws(SystemError) {
            try loop.register(fd: fd, interest: .readable, source: self)
        } catch {
            phase = .closed
            Glibc.close(fd)
            throw error
        }
        if tls != nil {
            setOwnDeadline(options.handshakeMilliseconds)
            // A client's first flight waits in the engine.
            setNeedsFlush()
        }
    }

    @usableFromInline func borrowOutput() { store.borrow(from: loop) }

    // MARK: For the owner

    /// False once the connection is closing: nothing more is received, nothing appended will be sent.
    package var isOpen: Bool { phase == .open }

    /// Bytes that wait for the peer.
    package var bufferedOutput: Int { store.buffer.count + (tls?.ciphertext.buffer.count ?? 0) }

    /// The protocol agreed by ALPN, if any.
    package var applicationProtocol: String? { tls?.engine.applicationProtocol }

    package var isEncrypted: Bool { tls != nil }

    /// Sends `output` at the end of this tick.
    package func setNeedsFlush() { loop.flushDownstream(self) }

    /// Stops reading; bytes already read and not consumed are kept. The peer is held back by the transport.
    package func pauseReading() {
        guard !isPaused else { return }
        isPaused = true
        updateInterest()
    }

    /// Reads on; kept bytes are delivered again first.
    package func resumeReading() {
        guard isPaused, phase == .open else { return }
        isPaused = false
        if isDormant {
            isDormant = false
            interest = wantedInterest
            do throws(SystemError) {
                try loop.register(fd: fd, interest: interest, source: self)
            } catch {
                finish(.failed(error))
                return
            }
        }
        updateInterest()
        guard !input.isEmpty, !isRedeliveryPending else { return }
        isRedeliveryPending = true
        loop.runLater { [self] in redeliver() }
    }

    /// Ends the connection: at once, dropping what is not sent; or after sending it, within a bounded time.
    package func close(afterFlush: Bool = false) {
        guard afterFlush else {
            finish(.local)
            return
        }
        guard phase == .open else {
            if phase == .handshaking { finish(.local) }
            return
        }
        phase = .flushing
        ownerDeadline = 0
        setOwnDeadline(options.closeMilliseconds)
        // The peer may be stuck in a write of its own: its bytes are read and dropped.
        isPaused = false
        updateInterest()
        setNeedsFlush()
    }

    /// Ends the connection at once and reports `reason` to the handler.
    package func close(reason: CloseReason) { finish(reason) }

    /// Ends the connection at once, and has the kernel forget what it has not delivered: a peer that is reached again
    /// later must not be given it then.
    package func reset() {
        if phase != .closed { Socket.discardUnsent(fd) }
        finish(.local)
    }

    /// Puts an open connection under TLS, as the engine's role says: what is in `output` goes out as it is, everything
    /// behind it is encrypted, and so is everything that the peer sends from now on. Nothing may have been received
    /// that is not consumed. `handshakeEnded` is called with nil when the handshake is done, else with why it failed,
    /// and nothing is delivered before.
    package func startTLS(_ engine: TLSEngine, then handshakeEnded: @escaping (CloseReason?) -> Void) {
        guard phase == .open, tls == nil else { return }
        flush()
        guard phase == .open else { return }
        // A peer that has not even taken the answer to its request: encrypted, the rest of it would be nonsense.
        guard store.buffer.isEmpty, input.isEmpty else { return finish(.stalled) }
        tls = TLSLayer(engine: engine)
        phase = .handshaking
        self.handshakeEnded = handshakeEnded
        setOwnDeadline(options.handshakeMilliseconds)
        setNeedsFlush()
    }

    /// Calls `deadlineReached` about that long from now (100 ms coarse, never early), replacing the deadline before.
    package func setDeadline(afterMilliseconds delay: Int) {
        guard phase == .open else { return }
        ownerDeadline = loop.now + UInt64(max(delay, 1)) * 1_000_000
        updateDeadline()
    }

    /// Forgets the deadline of `setDeadline`.
    package func clearDeadline() {
        ownerDeadline = 0
        updateDeadline()
    }

    // MARK: Reading

    package func ready(_ events: IOEvents) {
        if events.contains(.writable) {
            isBlocked = false
            flush()
        }
        guard phase != .closed else { return }
        if interest.contains(.readable) {
            if !events.isDisjoint(with: [.readable, .hangup, .error]) { inputReady() }
        } else if events.contains(.error) {
            finish(.failed(Socket.pendingError(fd)))
        } else if events.contains(.hangup) {
            guard phase == .open else {
                finish(closeReason)
                return
            }
            // The peer of a Unix socket is gone, but what it sent before may be read after `resumeReading`.
            isDormant = true
            loop.deregister(fd: fd)
        }
        if phase != .closed { updateInterest() }
    }

    private func inputReady() {
        if let tls {
            readEncrypted(tls)
            return
        }
        let isSwapped = takeInput()
        let room = loop.scratch.prepare(EventLoop.scratchSize)
        let count = recv(fd, room.baseAddress, room.count, Int32(MSG_DONTWAIT))
        let code = errno
        if count > 0 {
            loop.scratch.commit(count)
            deliver()
        }
        keepInput(isSwapped)
        if count <= 0 { readEnded(count, code) }
    }

    private func readEncrypted(_ tls: TLSLayer) {
        let room = loop.scratch.prepare(EventLoop.scratchSize)
        let count = recv(fd, room.baseAddress, room.count, Int32(MSG_DONTWAIT))
        let code = errno
        guard count > 0 else {
            readEnded(count, code)
            return
        }
        tls.engine.feed(ByteView(start: room.baseAddress, count: count))
        let isSwapped = takeInput()
        let kept = loop.scratch.count
        let state = tls.engine.read(into: &loop.scratch)
        // Handshake flights, alerts and key updates.
        if tls.engine.hasOutput { setNeedsFlush() }
        if phase == .handshaking, state == .established || state == .peerClosed { handshakeSucceeded(tls) }
        if loop.scratch.count > kept { deliver() }
        keepInput(isSwapped)
        switch state {
        case .handshaking, .established: break
        case .peerClosed: inputEnded()
        case .failed(let error):
            flush()  // The alert that tells the peer why.
            finish(.tls(error))
        }
    }

    private func handshakeSucceeded(_ tls: TLSLayer) {
        phase = .open
        ownDeadline = 0
        updateDeadline()
        if let subject = tls.engine.peerSubject { peer = .certificate(subject) }
        let callback = handshakeEnded
        handshakeEnded = nil
        callback?(nil)
    }

    /// Puts the kept input into the scratch buffer, by copy or, when large, by exchange.
    private func takeInput() -> Bool {
        guard input.count < Self.directReadSize else {
            swap(&input, &loop.scratch)
            return true
        }
        guard !input.isEmpty else { return false }
        loop.scratch.append(input.readable)
        input.removeAll()
        return false
    }

    /// Takes back what the handler left.
    private func keepInput(_ isSwapped: Bool) {
        if isSwapped {
            swap(&input, &loop.scratch)
            noteSize(Self.directReadSize)
        } else if !loop.scratch.isEmpty {
            if phase == .open {
                noteSize(loop.scratch.count)
                input.append(loop.scratch.readable)
            }
            loop.scratch.removeAll()
        }
    }

    private func deliver() {
        guard phase == .open, !isPaused else {
            // Closing: the peer's bytes are dropped. Paused (by the call before): they are kept.
            if phase != .open { loop.scratch.removeAll() }
            return
        }
        guard let handler else {
            finish(.local)
            return
        }
        handler.received(self, &loop.scratch)
        // Output that was looked at and not written to would keep its memory until the next flush.
        if store.buffer.isEmpty { store.giveBack(to: loop) }
    }

    private func redeliver() {
        isRedeliveryPending = false
        guard phase == .open, !isPaused, !input.isEmpty else { return }
        let isSwapped = takeInput()
        deliver()
        keepInput(isSwapped)
    }

    private func readEnded(_ count: Int, _ code: Int32) {
        guard phase != .closed else { return }
        if count == 0 {
            inputEnded()
        } else if code != EAGAIN, code != EINTR {
            finish(.failed(SystemError("recv", code: code)))
        }
    }

    private func inputEnded() {
        guard !isInputEnded, phase != .closed else { return }
        isInputEnded = true
        switch phase {
        case .handshaking, .lingering: finish(phase == .lingering ? closeReason : .endOfStream)
        case .flushing: updateInterest()
        case .open:
            updateInterest()
            closeReason = .endOfStream
            if let handler { handler.inputEnded(self) } else { finish(.endOfStream) }
        case .closed: break
        }
    }

    // MARK: Writing

    package func flushAtTickEnd() {
        if phase == .closed { deliverClosed() } else { flush() }
    }

    /// Sends what waits, now: for owners that gather by themselves and flush upstream. Others use `setNeedsFlush`.
    package func flush() {
        guard phase != .closed else { return }
        if let tls {
            var before: Int
            repeat {
                before = store.buffer.count
                tls.encrypt(&store.buffer, isLast: phase == .flushing, loop: loop)
                if !isBlocked { send(&tls.ciphertext.buffer) }
            } while phase != .closed && !isBlocked && !store.buffer.isEmpty && store.buffer.count < before
            tls.ciphertext.giveBack(to: loop)
        } else if !isBlocked {
            send(&store.buffer)
        }
        store.giveBack(to: loop)
        guard phase != .closed else { return }
        let waiting = bufferedOutput
        if waiting == 0 {
            if phase == .flushing { shutOutput() }
        } else if waiting > options.outputLimit {
            finish(.outputLimit)
            return
        }
        if !isCongested, waiting > options.outputHighWatermark {
            isCongested = true
            if phase == .open { handler?.outputCongested(self) }
        } else if isCongested, waiting <= options.outputLowWatermark {
            isCongested = false
            if phase == .open { handler?.outputDrained(self) }
        }
    }

    private func send(_ buffer: inout ByteBuffer) {
        let count = buffer.count
        guard count > 0 else { return }
        let sent = Glibc.send(fd, buffer.readable.baseAddress, count, Int32(MSG_NOSIGNAL | MSG_DONTWAIT))
        if sent == count {
            buffer.removeAll()
            if ownDeadline != 0, phase == .open {
                ownDeadline = 0
                updateDeadline()
            }
        } else if sent >= 0 || errno == EAGAIN || errno == EINTR || errno == ENOBUFS {
            buffer.consume(sent)
            isBlocked = true
            if phase == .open, sent > 0 || ownDeadline == 0 { setOwnDeadline(options.stallMilliseconds) }
        } else {
            finish(.failed(SystemError("send")))
            return
        }
        updateInterest()
    }

    /// Everything is sent: says so to the peer, and waits a little for its own end.
    private func shutOutput() {
        guard !isInputEnded, shutdown(fd, Int32(SHUT_WR)) == 0 else {
            finish(closeReason)
            return
        }
        phase = .lingering
        setOwnDeadline(options.lingerMilliseconds)
        updateInterest()
    }

    // MARK: State

    private var wantedInterest: IOEvents {
        var wanted: IOEvents = isBlocked ? .writable : []
        if !isPaused, !isInputEnded { wanted.insert(.readable) }
        return wanted
    }

    private func updateInterest() {
        let wanted = wantedInterest
        guard wanted != interest, phase != .closed, !isDormant else { return }
        interest = wanted
        loop.modify(fd: fd, interest: wanted)
    }

    private func setOwnDeadline(_ milliseconds: Int) {
        ownDeadline = loop.now + UInt64(max(milliseconds, 1)) * 1_000_000
        updateDeadline()
    }

    private func updateDeadline() {
        let deadline = min(ownerDeadline &- 1, ownDeadline &- 1) &+ 1  // The smaller one that is not 0.
        if deadline == 0 || phase == .closed {
            loop.deadlines.clear(self)
        } else {
            loop.deadlines.set(self, deadline: deadline)
        }
    }

    package func deadlinePassed() {
        if ownDeadline != 0, ownDeadline <= loop.now {
            switch phase {
            case .handshaking: finish(.handshakeTimeout)
            case .open: finish(.stalled)
            case .flushing: finish(.stalled)
            case .lingering: finish(closeReason)
            case .closed: break
            }
            return
        }
        if ownerDeadline != 0, ownerDeadline <= loop.now, phase == .open {
            ownerDeadline = 0
            if let handler { handler.deadlineReached(self) } else { finish(.deadline) }
        }
        updateDeadline()
    }

    private func finish(_ reason: CloseReason) {
        guard phase != .closed else { return }
        phase = .closed
        closeReason = reason
        if !isDormant { loop.deregister(fd: fd) }
        Glibc.close(fd)
        fd = -1
        loop.deadlines.clear(self)
        // Not here: the caller may be deep inside the handler.
        loop.flushDownstream(self)
    }

    private func deliverClosed() {
        store.buffer.removeAll()
        store.giveBack(to: loop)
        tls?.ciphertext.buffer.removeAll()
        tls?.ciphertext.giveBack(to: loop)
        input.removeAll()
        input.trim(to: 64)
        let (handler, handshakeEnded, onClosed) = (handler, handshakeEnded, onClosed)
        (self.handler, self.handshakeEnded, self.onClosed) = (nil, nil, nil)
        handshakeEnded?(closeReason)
        handler?.closed(self, closeReason)
        onClosed?()
    }

    // MARK: Memory

    private func noteSize(_ count: Int) {
        guard count > Self.keptSize, !isTrimPending else { return }
        isTrimPending = true
        loop.trimLater(self)
    }

    /// Gives the memory of kept input back when it is empty; looked at again when it is not.
    func trim() {
        isTrimPending = false
        input.trim(to: 64)
        if !input.isEmpty { noteSize(Self.directReadSize) }
    }
}

/// The TLS session of a connection and the ciphertext that waits for the kernel.
final class TLSLayer {
    let engine: TLSEngine
    var ciphertext = LentBuffer()
    private var isClosed = false
    /// Plaintext is left alone while this much ciphertext waits.
    private static let enough = 1 << 20

    init(engine: TLSEngine) { self.engine = engine }

    /// Moves plaintext to ciphertext; the last one is followed by the close notice.
    func encrypt(_ plaintext: inout ByteBuffer, isLast: Bool, loop: EventLoop) {
        if !plaintext.isEmpty, ciphertext.buffer.count < Self.enough {
            plaintext.consume(engine.write(plaintext.readable))
        }
        if isLast, plaintext.isEmpty, !isClosed {
            isClosed = true
            engine.close()
        }
        guard engine.hasOutput else { return }
        ciphertext.borrow(from: loop)
        engine.drain(into: &ciphertext.buffer)
    }
}
