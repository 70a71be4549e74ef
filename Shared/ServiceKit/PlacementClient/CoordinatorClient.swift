import Base
import Contracts
import Crypto
import Net

/// The way to the coordinators, of which one leads: calls go to the one that led last, as far as is known.
///
/// A coordinator that does not lead did nothing and says who does: the call goes there, at once, and so do those after
/// it. One that cannot be reached, or does not answer in time, may have done something: its call fails, and the next
/// one goes to the next coordinator. So a caller that tries again, after a wait of its own, finds the leader.
///
/// Leaders' addresses only choose among those that are configured: nobody can send us elsewhere. Confined to its loop.
package final class CoordinatorClient {
    package let loop: EventLoop
    /// As configured, each once.
    package let addresses: [SocketAddress]

    private let tls: TLSContext?
    /// Made when they are needed: a gateway need not connect to three coordinators.
    private var channels: [GRPCClientChannel?]
    /// Where the next call goes.
    fileprivate private(set) var current = 0

    /// `tls` is for addresses that are not Unix sockets. There must be an address.
    package init(loop: EventLoop, addresses: [SocketAddress], tls: TLSContext? = nil) {
        precondition(!addresses.isEmpty, "the configuration names a coordinator")
        self.loop = loop
        self.tls = tls
        var unique: [SocketAddress] = []
        for address in addresses where !unique.contains(address) { unique.append(address) }
        self.addresses = unique
        channels = Array(repeating: nil, count: unique.count)
    }

    /// One request, one response. Problems come to `completion`, never from inside this call.
    package func unary(
        path: String, request: Bytes, deadline: UInt64 = .max, completion: @escaping (Result<Bytes, GRPCStatus>) -> Void
    ) {
        var response: Bytes?
        let call = CoordinatorCall(self, path: path, request: request, deadline: deadline)
        call.begin(onMessage: { response = $0.bytes }) { status in
            if !status.isOK {
                completion(.failure(status))
            } else if let response {
                completion(.success(response))
            } else {
                completion(.failure(GRPCStatus(.internalError, "OK without a response")))
            }
        }
    }

    /// One request, any number of responses, until `onClosed` says why there are no more.
    package func stream(
        path: String, request: Bytes, onMessage: @escaping (ByteView) -> Void,
        onClosed: @escaping (GRPCStatus) -> Void
    ) -> CoordinatorCall {
        let call = CoordinatorCall(self, path: path, request: request, deadline: .max)
        call.begin(onMessage: onMessage, onClosed: onClosed)
        return call
    }

    /// Ends every call, with UNAVAILABLE.
    package func close() {
        for channel in channels { channel?.close() }
    }

    fileprivate func channel(_ index: Int) -> GRPCClientChannel {
        if let channel = channels[index] { return channel }
        var limits = GRPCLimits()
        // A watch is silent for long: a coordinator that is gone without a word must be noticed.
        limits.keepAliveNanoseconds = 2_000_000_000
        limits.keepAliveTimeoutNanoseconds = 2_000_000_000
        var backOff = GRPCBackOff()
        backOff.maximumMilliseconds = 1_000
        backOff.connectTimeoutMilliseconds = 2_000
        let address = addresses[index]
        let channel = GRPCClientChannel(
            loop: loop, address: address, tls: address.host == nil ? nil : tls, limits: limits, backOff: backOff)
        channels[index] = channel
        return channel
    }

    /// A coordinator does not lead; `leader` is what it knows of who does.
    fileprivate func turn(from index: Int, to leader: String) {
        for part in leader.split(separator: ",") {
            guard let address = try? SocketAddress(parsing: String(part)),
                let hinted = addresses.firstIndex(of: address), hinted != index
            else { continue }
            current = hinted
            return
        }
        turn(from: index)
    }

    /// A coordinator did not answer. Others may have turned away from it before.
    fileprivate func turn(from index: Int) {
        if current == index { current = (index + 1) % addresses.count }
    }
}

/// A call on its way to the coordinator that leads.
package final class CoordinatorCall: GRPCStreamHandler {
    private let client: CoordinatorClient
    private let path: String
    private let request: Bytes
    private let deadline: UInt64
    private var onMessage: ((ByteView) -> Void)?
    private var onClosed: ((GRPCStatus) -> Void)?
    private var stream: GRPCClientStream?
    private var index = 0
    private var redirects = 0
    private var isAnswered = false

    fileprivate init(_ client: CoordinatorClient, path: String, request: Bytes, deadline: UInt64) {
        self.client = client
        self.path = path
        self.request = request
        self.deadline = deadline
    }

    fileprivate func begin(onMessage: @escaping (ByteView) -> Void, onClosed: @escaping (GRPCStatus) -> Void) {
        self.onMessage = onMessage
        self.onClosed = onClosed
        open()
    }

    private func open() {
        index = client.current
        let stream = client.channel(index).open(path: path, deadline: deadline, handler: self)
        self.stream = stream
        stream.send { $0.append(request) }
        stream.end()
    }

    /// Gives the call up; nothing more is heard of it.
    package func cancel() {
        (onMessage, onClosed) = (nil, nil)
        stream?.cancel()
    }

    package func received(_ message: ByteView) {
        isAnswered = true
        onMessage?(message)
    }

    package func closed(_ status: GRPCStatus) {
        let leader = stream?.trailers.text(PlacementPath.leaderTrailer)
        stream = nil
        guard let onClosed else { return }
        guard !status.isOK, let leader else {
            if Self.isNoAnswer(status) { client.turn(from: index) }
            (onMessage, self.onClosed) = (nil, nil)
            onClosed(status)
            return
        }
        client.turn(from: index, to: leader)
        // Coordinators that send us round in circles have no leader yet. What was answered in part is the caller's to
        // ask for again.
        guard !isAnswered, redirects < client.addresses.count else {
            (onMessage, self.onClosed) = (nil, nil)
            // Whatever code it came with: nothing is wrong with the request.
            onClosed(GRPCStatus(.unavailable, "the coordinator does not lead: \(status.message)"))
            return
        }
        redirects += 1
        client.loop.runLater { [self] in
            if self.onClosed != nil { open() }
        }
    }

    /// Whether the coordinator said nothing, as opposed to no.
    private static func isNoAnswer(_ status: GRPCStatus) -> Bool {
        switch status.code {
        case .unavailable, .deadlineExceeded, .unimplemented, .internalError, .unknown, .cancelled: true
        case .ok, .invalidArgument, .notFound, .alreadyExists, .permissionDenied, .resourceExhausted,
            .failedPrecondition, .aborted, .outOfRange, .dataLoss, .unauthenticated:
            false
        }
    }
}

extension Service {
    /// The coordinators of option `coordinator`, one or several with commas between.
    package func coordinators(tls: TLSContext?) throws -> CoordinatorClient {
        let addresses = try configuration.list("coordinator").map { try SocketAddress(parsing: $0) }
        guard !addresses.isEmpty else {
            throw ConfigurationError("--coordinator is needed: the addresses of the cluster's coordinators")
        }
        for address in addresses { _ = try requireTLS(tls, for: address) }
        return CoordinatorClient(loop: loop, addresses: addresses, tls: tls)
    }
}
