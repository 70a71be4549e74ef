import Base
import Crypto

/// How a channel waits between attempts to connect: longer each time, never quite the same.
package struct GRPCBackOff: Sendable {
    package var firstMilliseconds: UInt64 = 50
    package var maximumMilliseconds: UInt64 = 5_000
    package var connectTimeoutMilliseconds = 5_000

    package init() {}

    /// The wait before the attempt after `failures` failures: doubling, ±25 %.
    func delay(failures: Int, random: inout any RandomSource) -> Int {
        let base = min(firstMilliseconds << UInt64(min(max(failures - 1, 0), 20)), maximumMilliseconds)
        return Int(clamping: base - base / 4 + random.next(below: base / 2 + 1))
    }
}

/// A connection to one server that is made again whenever it is lost.
///
/// Calls opened while it connects wait for it; while it waits between attempts they fail at once with UNAVAILABLE, so
/// a caller can turn elsewhere. Losing the connection ends every open call with UNAVAILABLE: whether a request took
/// effect is then unknown, and only the caller knows if it may be repeated. A server that drains keeps its open calls
/// while new ones go to a new connection.
package final class GRPCClientChannel {
    package enum State: Hashable, Sendable {
        case idle
        case connecting
        case ready
        /// Waiting to try again.
        case failed(GRPCStatus)
        case closed
    }

    package let loop: EventLoop
    package let address: SocketAddress
    package private(set) var state = State.idle
    /// Told of every change, after it.
    package var onStateChange: ((State) -> Void)?

    private static let waitingLimit = 1024

    private let tls: TLSContext?
    private let serverName: String?
    private let limits: GRPCLimits
    private let backOff: GRPCBackOff
    private var random: any RandomSource
    private var failures = 0
    private var pending: PendingConnection?
    private var current: GRPCEndpoint?
    /// Connections whose server drains, until their calls have ended.
    private var retired: [ObjectIdentifier: GRPCEndpoint] = [:]
    private var waiting: [GRPCClientStream] = []
    private var timer: LoopTimer?

    /// A channel that connects on the first call, or on `connect`.
    package init(
        loop: EventLoop, address: SocketAddress, tls: TLSContext? = nil, serverName: String? = nil,
        limits: GRPCLimits = GRPCLimits(), backOff: GRPCBackOff = GRPCBackOff(),
        random: any RandomSource = SystemRandom()
    ) {
        self.loop = loop
        self.address = address
        self.tls = tls
        self.serverName = serverName
        self.limits = limits
        self.backOff = backOff
        self.random = random
    }

    /// Who serves, once connected.
    package var peer: PeerIdentity { current?.connection.peer ?? .none }

    // MARK: - Calls

    /// Opens a call. `deadline` is on the loop's clock (nanoseconds). Problems come as `closed`, never from inside
    /// this call.
    package func open(
        path: String, metadata: GRPCMetadata = GRPCMetadata(), deadline: UInt64 = .max,
        handler: any GRPCStreamHandler
    ) -> GRPCClientStream {
        let stream = GRPCClientStream(
            path: path, metadata: metadata, deadline: deadline, handler: handler, limits: limits)
        if case .idle = state { connect() }
        switch state {
        case .ready: start(stream)
        case .idle, .connecting: wait(stream)
        case .failed(let status): failLater(stream, status)
        case .closed: failLater(stream, GRPCStatus(.unavailable, "the channel is closed"))
        }
        return stream
    }

    /// One request, one response.
    @discardableResult
    package func unary(
        path: String, request: Bytes, metadata: GRPCMetadata = GRPCMetadata(), deadline: UInt64 = .max,
        completion: @escaping (Result<Bytes, GRPCStatus>) -> Void
    ) -> GRPCClientStream {
        let stream = open(path: path, metadata: metadata, deadline: deadline, handler: UnaryCaller(completion))
        if !stream.send({ $0.append(request) }) {
            failLater(stream, GRPCStatus(.resourceExhausted, "the request exceeds the message limit"))
        }
        stream.end()
        return stream
    }

    private func start(_ stream: GRPCClientStream) {
        guard let grpc = current?.grpc else {
            failLater(stream, GRPCStatus(.unavailable, "the connection was lost"))
            return
        }
        do throws(HTTP2Failure) {
            let authority = serverName ?? (address.host == nil ? "localhost" : "\(address)")
            try stream.start(on: grpc, authority: authority, isEncrypted: tls != nil)
        } catch {
            failLater(stream, GRPCStatus(.unavailable, "\(error)"))
            // Stream ids are used up, or the like: a new connection has new ones.
            retire()
        }
    }

    private func wait(_ stream: GRPCClientStream) {
        guard waiting.count < Self.waitingLimit else {
            failLater(stream, GRPCStatus(.unavailable, "too many calls wait for the connection"))
            return
        }
        waiting.append(stream)
        guard stream.deadline != .max else { return }
        let delay = stream.deadline > loop.now ? (stream.deadline - loop.now + 999_999) / 1_000_000 : 0
        // Once started the stream's connection watches the deadline too; ending twice is ending once.
        loop.schedule(afterMilliseconds: Int(clamping: delay)) { stream.deadlinePassed() }
    }

    private func failLater(_ stream: GRPCClientStream, _ status: GRPCStatus) {
        loop.runLater { stream.fail(status) }
    }

    // MARK: - Connecting

    /// Begins to connect, if it has not begun.
    package func connect() {
        switch state {
        case .idle, .failed: attempt()
        case .connecting, .ready, .closed: break
        }
    }

    private func attempt() {
        timer?.cancel()
        timer = nil
        change(to: .connecting)
        guard state == .connecting, pending == nil else { return }  // The callback closed the channel.
        pending = Connector.connect(
            loop: loop, to: address, tls: tls, serverName: serverName,
            timeoutMilliseconds: backOff.connectTimeoutMilliseconds
        ) { [self] result in
            pending = nil
            switch result {
            case .success(let connection): connected(connection)
            case .failure(let error): failed(GRPCStatus(.unavailable, "\(address): \(error)"))
            }
        }
    }

    private func connected(_ connection: Connection) {
        guard state == .connecting else {
            connection.close()
            return
        }
        do throws(HTTP2Failure) {
            let endpoint = try GRPCEndpoint(connection, services: nil, limits: limits)
            let key = ObjectIdentifier(endpoint)
            current = endpoint
            endpoint.onReady = { [self] in ready() }
            endpoint.onDraining = { [self] in retire() }
            endpoint.onClosed = { [self] status in lost(key, status) }
        } catch {
            connection.close()
            failed(GRPCStatus(.unavailable, "\(error)"))
        }
    }

    private func ready() {
        guard state == .connecting else { return }
        failures = 0
        change(to: .ready)
        let streams = waiting
        waiting = []
        for stream in streams where stream.isOpen { start(stream) }
    }

    private func lost(_ key: ObjectIdentifier, _ status: GRPCStatus) {
        if let current, ObjectIdentifier(current) == key {
            self.current = nil
            failed(status)
        } else {
            retired[key] = nil
        }
    }

    /// Leaves the connection to the calls it has, and makes a new one.
    private func retire() {
        guard let endpoint = current else { return }
        current = nil
        retired[ObjectIdentifier(endpoint)] = endpoint
        endpoint.grpc?.shutDown()
        guard state != .closed else { return }
        // Not at once: a server that shuts down at every connect would be asked without end.
        failed(GRPCStatus(.unavailable, "the server is shutting down"))
    }

    private func failed(_ status: GRPCStatus) {
        guard state != .closed else { return }
        failures += 1
        let delay = backOff.delay(failures: failures, random: &random)
        let streams = waiting
        waiting = []
        timer?.cancel()
        timer = loop.schedule(afterMilliseconds: delay) { [self] in
            timer = nil
            attempt()
        }
        change(to: .failed(status))
        for stream in streams { stream.fail(status) }
    }

    private func change(to next: State) {
        guard state != next else { return }
        state = next
        onStateChange?(next)
    }

    /// Gives up the connection to a server that is held for hung, and makes another one. Calls end with UNAVAILABLE,
    /// none of their answers comes later, and what has not been delivered never will be.
    package func abandon(_ reason: String) {
        guard state != .closed else { return }
        let endpoints = [current].compactMap { $0 } + retired.values
        for endpoint in endpoints { endpoint.abandon(GRPCStatus(.unavailable, reason)) }
    }

    /// Ends every call with UNAVAILABLE, and the channel.
    package func close() {
        guard state != .closed else { return }
        state = .closed
        timer?.cancel()
        timer = nil
        pending?.cancel()
        let status = GRPCStatus(.unavailable, "the channel was closed")
        let endpoints = [current].compactMap { $0 } + retired.values
        current = nil
        let streams = waiting
        waiting = []
        for endpoint in endpoints { endpoint.close(status) }
        for stream in streams { stream.fail(status) }
        onStateChange?(.closed)
        onStateChange = nil
    }
}

/// Collects the response of a unary call.
private final class UnaryCaller: GRPCStreamHandler {
    private let completion: (Result<Bytes, GRPCStatus>) -> Void
    private var response: Bytes?

    init(_ completion: @escaping (Result<Bytes, GRPCStatus>) -> Void) { self.completion = completion }

    func received(_ message: ByteView) { response = message.bytes }

    func closed(_ status: GRPCStatus) {
        if !status.isOK {
            completion(.failure(status))
        } else if let response {
            completion(.success(response))
        } else {
            completion(.failure(GRPCStatus(.internalError, "OK without a response")))
        }
    }
}
