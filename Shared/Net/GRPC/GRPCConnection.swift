import Base

/// Who owns a gRPC connection: carries its bytes, keeps its clock.
package protocol GRPCConnectionOwner: AnyObject {
    /// Monotonic nanoseconds.
    var now: UInt64 { get }
    /// There is something to `drain`, at the end of this tick.
    func flushNeeded()
    /// `tick` is wanted no later than `time`.
    func wakeNeeded(at time: UInt64)
    /// The peer has said hello.
    func peerReady()
    /// The peer takes no new calls.
    func peerDraining()
}

/// One end of a connection that speaks gRPC, without its socket.
///
/// Bytes come by `feed`, leave by `drain` (then `notify`), time passes by `tick`. After each of them the owner looks
/// at `isFinished` and closes the socket when it is true. `lose` ends every call and cuts the links; it must be
/// called once when the connection is given up, whatever the reason.
package final class GRPCConnection: HTTP2SessionDelegate {
    package let session: HTTP2Session
    package let limits: GRPCLimits
    package let peer: PeerIdentity
    /// Set when the connection was given up: the status of every call it had.
    package private(set) var loss: GRPCStatus?
    /// The peer sent GOAWAY.
    package private(set) var isDraining = false
    /// The peer's SETTINGS have come.
    package private(set) var isReady = false
    /// Bytes of incomplete messages over all streams.
    var assembledBytes = 0

    private let services: GRPCServices?
    private var owner: (any GRPCConnectionOwner)?
    /// Calls with a deadline, by stream.
    private var timed: [Int32: GRPCStream] = [:]
    private var wakeTime = UInt64.max
    private let createdAt: UInt64
    private var lastHeard: UInt64
    private var pingSentAt: UInt64?
    private var failure: GRPCStatus?

    /// A server when `services` are given, else a client.
    package init(
        services: GRPCServices?, limits: GRPCLimits, peer: PeerIdentity, owner: any GRPCConnectionOwner
    ) throws(HTTP2Failure) {
        session = try HTTP2Session(role: services == nil ? .client : .server, limits: limits.http2)
        self.services = services
        self.limits = limits
        self.peer = peer
        self.owner = owner
        createdAt = owner.now
        lastHeard = createdAt
        session.delegate = self
        wake(at: createdAt &+ limits.handshakeNanoseconds)
        flushNeeded()
    }

    package var openCalls: Int { session.openStreams }

    /// True when the socket can be closed: the protocol ended, or the peer is held for dead.
    package var isFinished: Bool { failure != nil || session.isFinished }

    /// Why the connection is finished, if it did not end in order.
    package var failureReason: GRPCStatus? { failure }

    var now: UInt64 { owner?.now ?? lastHeard }

    // MARK: - Bytes and time

    /// Takes all of `input`.
    package func feed(_ input: ByteView) {
        lastHeard = now
        pingSentAt = nil
        do throws(HTTP2Failure) {
            try session.feed(input, now: lastHeard)
        } catch {
            fail("the peer does not speak HTTP/2: \(error)")
        }
        if session.wantsWrite { flushNeeded() }
    }

    /// Appends what is to be sent, up to the high mark of a connection's output. No handler is called; `notify`
    /// follows.
    package func drain(into output: inout ByteBuffer) {
        do throws(HTTP2Failure) {
            try session.drain(into: &output, upTo: limits.outputHighMark)
        } catch {
            fail("HTTP/2 failed: \(error)")
        }
    }

    /// Delivers what the last drain brought about.
    package func notify() { session.notify() }

    /// Passes time: deadlines, keep-alive, a peer that never says hello. The next wake is asked of the owner.
    package func tick() {
        wakeTime = .max
        let now = now
        if !isReady {
            let limit = createdAt &+ limits.handshakeNanoseconds
            if now >= limit { fail("no HTTP/2 settings from the peer in time") } else { wake(at: limit) }
        }
        keepAlive(now)
        for stream in timed.values where stream.deadline <= now { stream.deadlinePassed() }
        if let next = timed.values.lazy.map(\.deadline).filter({ $0 > now }).min() { wake(at: next) }
        if session.wantsWrite { flushNeeded() }
    }

    private func keepAlive(_ now: UInt64) {
        guard isReady, failure == nil else { return }
        if let sent = pingSentAt {
            let limit = sent &+ limits.keepAliveTimeoutNanoseconds
            if now >= limit { fail("the peer does not answer") } else { wake(at: limit) }
            return
        }
        let due = lastHeard &+ limits.keepAliveNanoseconds
        guard now >= due else {
            wake(at: due)
            return
        }
        pingSentAt = now
        session.ping()
        wake(at: now &+ limits.keepAliveTimeoutNanoseconds)
    }

    private func wake(at time: UInt64) {
        guard time < wakeTime else { return }
        wakeTime = time
        owner?.wakeNeeded(at: time)
    }

    @usableFromInline func flushNeeded() { owner?.flushNeeded() }

    private func fail(_ reason: String) {
        if failure == nil { failure = GRPCStatus(.unavailable, reason) }
    }

    // MARK: - Ending

    /// Takes no new calls; open ones go on, after their handlers heard `draining`. The connection is finished when the
    /// last has ended.
    package func shutDown() {
        session.goAway()
        for call in servedCalls { call.drain() }
        flushNeeded()
    }

    /// Ends the calls that are still being served.
    package func finishCalls(_ status: GRPCStatus) {
        for call in servedCalls { call.finish(status) }
    }

    private var servedCalls: [GRPCServerStream] { session.handlers.compactMap { $0 as? GRPCServerStream } }

    /// Gives the connection up: every call ends with `status`.
    package func lose(_ status: GRPCStatus) {
        guard loss == nil else { return }
        loss = status
        session.abort(.connectError)
        timed = [:]
        owner = nil
    }

    // MARK: - Calls

    /// Makes a call (client side). `authority` is the host as the server knows it.
    package func open(
        path: String, metadata: GRPCMetadata = GRPCMetadata(), deadline: UInt64 = .max, authority: String = "localhost",
        isEncrypted: Bool = false, handler: any GRPCStreamHandler
    ) throws(HTTP2Failure) -> GRPCClientStream {
        let stream = GRPCClientStream(
            path: path, metadata: metadata, deadline: deadline, handler: handler, limits: limits)
        try stream.start(on: self, authority: authority, isEncrypted: isEncrypted)
        return stream
    }

    func track(_ stream: GRPCStream) {
        guard stream.deadline != .max else { return }
        timed[stream.http.id] = stream
        wake(at: stream.deadline)
    }

    func forget(_ stream: GRPCStream) {
        if stream.deadline != .max { timed[stream.http.id] = nil }
    }

    package func streamOpened(
        _ stream: HTTP2Stream, _ headers: HTTP2Headers, endsStream: Bool
    ) -> (any HTTP2StreamHandler)? {
        guard let services else { return nil }
        guard headers.text(of: ":method") == "POST" else { return refuse(stream, httpStatus: "405") }
        guard headers.text(of: "content-type")?.hasPrefix("application/grpc") == true else {
            return refuse(stream, httpStatus: "415")
        }
        var deadline = UInt64.max
        var isTimeoutValid = true
        if let text = headers.text(of: "grpc-timeout") {
            if let timeout = GRPCTimeout.decode(text) {
                deadline = now.addingReportingOverflow(timeout).overflow ? .max : now + timeout
            } else {
                isTimeoutValid = false
            }
        }
        let call = GRPCServerStream(
            self, stream, path: headers.text(of: ":path") ?? "", metadata: GRPCMetadata(headers), deadline: deadline)
        // Until the method is known nobody listens, but the stream needs its end.
        call.handler = NoHandler()
        track(call)
        if !isTimeoutValid {
            call.finish(GRPCStatus(.invalidArgument, "grpc-timeout is not a timeout"))
        } else if let encoding = headers.text(of: "grpc-encoding"), encoding != "identity" {
            var trailers = GRPCMetadata()
            trailers.addReserved("grpc-accept-encoding", "identity")
            call.finish(GRPCStatus(.unimplemented, "compression \(encoding) is not supported"), trailers: trailers)
        } else {
            services.dispatch(call)
        }
        return call
    }

    /// Something that is not gRPC gets the answer HTTP has for it.
    private func refuse(_ stream: HTTP2Stream, httpStatus: String) -> (any HTTP2StreamHandler)? {
        var headers = HTTP2Headers()
        headers.append(":status", httpStatus)
        stream.respond(headers, endsStream: true)
        return nil
    }

    package func settingsReceived() {
        guard !isReady else { return }
        isReady = true
        wake(at: lastHeard &+ limits.keepAliveNanoseconds)
        owner?.peerReady()
    }

    /// Nothing more to note: any byte heard counts as life.
    package func pingAcknowledged() {}

    package func goAwayReceived(_ code: HTTP2ErrorCode) {
        guard !isDraining else { return }
        isDraining = true
        owner?.peerDraining()
    }
}
