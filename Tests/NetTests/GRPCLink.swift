import Base
import Net
import Testing

/// Writes down what happens to a call, and does what its closures say.
final class CallRecorder: GRPCStreamHandler {
    var messages: [Bytes] = []
    var ended = false
    var closed: [GRPCStatus] = []
    var headers: GRPCMetadata?
    var writables = 0
    var drainings = 0
    var onMessage: ((ByteView) -> Void)?
    var onEnd: (() -> Void)?
    var onClosed: (() -> Void)?

    func received(_ message: ByteView) {
        messages.append(message.bytes)
        onMessage?(message)
    }

    func receivedEnd() {
        ended = true
        onEnd?()
    }

    func closed(_ status: GRPCStatus) {
        closed.append(status)
        onMessage = nil
        onEnd = nil
        onClosed?()
        onClosed = nil
    }

    func writable() { writables += 1 }
    func draining() { drainings += 1 }
    func receivedHeaders(_ metadata: GRPCMetadata) { headers = metadata }
}

/// Owns one end of a gRPC connection in memory.
final class ConnectionEnd: GRPCConnectionOwner {
    var connection: GRPCConnection?
    var now: UInt64 = 1_000_000_000
    var wake = UInt64.max
    var isReady = false
    var isDraining = false
    var flushes = 0
    private var output = ByteBuffer()

    init(_ services: GRPCServices?, _ limits: GRPCLimits) throws {
        connection = try GRPCConnection(services: services, limits: limits, peer: .none, owner: self)
    }

    func flushNeeded() { flushes += 1 }
    func wakeNeeded(at time: UInt64) { wake = min(wake, time) }
    func peerReady() { isReady = true }
    func peerDraining() { isDraining = true }

    func take() -> Bytes {
        connection?.drain(into: &output)
        connection?.notify()
        let bytes = output.readable.bytes
        output.removeAll()
        return bytes
    }

    func feed(_ bytes: Bytes) { bytes.withUnsafeBytes { connection?.feed($0) } }

    /// Lets time pass, with every wake that was asked for.
    func advance(to time: UInt64) {
        while wake <= time {
            now = max(now, wake)
            wake = .max
            connection?.tick()
        }
        now = time
    }
}

/// A gRPC client and a server joined in memory.
final class CallLink {
    let services = GRPCServices()
    let client: ConnectionEnd
    let server: ConnectionEnd
    private var generator: SplitMix64

    init(client: GRPCLimits = GRPCLimits(), server: GRPCLimits = GRPCLimits(), seed: UInt64 = 1) throws {
        self.client = try ConnectionEnd(nil, client)
        self.server = try ConnectionEnd(services, server)
        generator = SplitMix64(seed: seed)
    }

    func settle(_ delivery: Delivery = .whole) {
        for _ in 0..<10_000 {
            let up = client.take()
            for piece in pieces(up, delivery, &generator) { server.feed(piece) }
            let down = server.take()
            for piece in pieces(down, delivery, &generator) { client.feed(piece) }
            if up.isEmpty, down.isEmpty { return }
        }
        Issue.record("the two ends never come to rest")
    }

    /// Lets time pass on both ends, carrying bytes every 100 ms.
    func advance(milliseconds: UInt64) {
        let goal = client.now + milliseconds * 1_000_000
        while client.now < goal {
            let next = min(goal, client.now + 100_000_000)
            client.advance(to: next)
            server.advance(to: next)
            settle()
        }
    }

    func open(
        _ path: String, metadata: GRPCMetadata = GRPCMetadata(), deadline: UInt64 = .max
    ) throws -> (GRPCClientStream, CallRecorder) {
        let recorder = CallRecorder()
        let connection = try #require(client.connection)
        let stream = try connection.open(path: path, metadata: metadata, deadline: deadline, handler: recorder)
        return (stream, recorder)
    }

    /// Registers a method whose recorder and stream can be looked at by the test.
    func serve(_ path: String, _ prepare: @escaping (GRPCServerStream, CallRecorder) -> Void = { _, _ in }) -> Served {
        let served = Served()
        services.register(path: path) { stream in
            let recorder = CallRecorder()
            prepare(stream, recorder)
            served.calls.append((stream, recorder))
            return recorder
        }
        return served
    }

    final class Served {
        var calls: [(stream: GRPCServerStream, recorder: CallRecorder)] = []
    }
}

extension GRPCStream {
    @discardableResult
    func send(_ bytes: Bytes) -> Bool { send { $0.append(bytes) } }
}
