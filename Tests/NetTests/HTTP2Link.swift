import Base
import Net
import Testing

/// Writes down what happens to a stream, and answers as told.
final class StreamRecorder: HTTP2StreamHandler {
    var headers: [HTTP2Headers] = []
    var data: Bytes = []
    var chunks = 0
    var ended = false
    var closed: [HTTP2ErrorCode] = []
    var drains = 0
    var onEnd: ((HTTP2Stream) -> Void)?

    func headersReceived(_ stream: HTTP2Stream, _ headers: HTTP2Headers, endsStream: Bool) {
        self.headers.append(headers)
    }

    func dataReceived(_ stream: HTTP2Stream, _ data: ByteView) {
        self.data.append(contentsOf: data)
        chunks += 1
    }

    func endReceived(_ stream: HTTP2Stream) {
        ended = true
        onEnd?(stream)
    }

    func outputDrained(_ stream: HTTP2Stream) { drains += 1 }

    func streamClosed(_ stream: HTTP2Stream, _ code: HTTP2ErrorCode) { closed.append(code) }
}

/// One end of a connection in memory.
final class SessionEnd: HTTP2SessionDelegate {
    let session: HTTP2Session
    var output = ByteBuffer()
    var opened: [(stream: HTTP2Stream, headers: HTTP2Headers, recorder: StreamRecorder)] = []
    var settings = 0
    var pings = 0
    var goAways: [HTTP2ErrorCode] = []
    var failure: HTTP2Failure?
    var onOpen: ((HTTP2Stream, StreamRecorder) -> Void)?

    init(_ role: HTTP2Session.Role, _ limits: HTTP2Limits = HTTP2Limits()) throws {
        session = try HTTP2Session(role: role, limits: limits)
        session.delegate = self
    }

    func streamOpened(_ stream: HTTP2Stream, _ headers: HTTP2Headers, endsStream: Bool) -> (any HTTP2StreamHandler)? {
        let recorder = StreamRecorder()
        opened.append((stream, headers, recorder))
        onOpen?(stream, recorder)
        return recorder
    }

    func settingsReceived() { settings += 1 }
    func pingAcknowledged() { pings += 1 }
    func goAwayReceived(_ code: HTTP2ErrorCode) { goAways.append(code) }

    func feed(_ bytes: Bytes, now: UInt64 = 0) {
        guard failure == nil else { return }
        bytes.withUnsafeBytes { view in
            do throws(HTTP2Failure) { try session.feed(view, now: now) } catch { failure = error }
        }
    }

    /// What the session wants to send, at most `limit` bytes or so.
    func take(upTo limit: Int = .max) -> Bytes {
        guard failure == nil else { return [] }
        do throws(HTTP2Failure) {
            try session.drain(into: &output, upTo: limit)
        } catch {
            failure = error
        }
        session.notify()
        let bytes = output.readable.bytes
        output.removeAll()
        return bytes
    }
}

/// How bytes travel between two ends.
enum Delivery: CaseIterable, CustomTestStringConvertible {
    case whole, byteByByte, randomPieces

    var testDescription: String { "\(self)" }
}

/// Cuts bytes into the pieces of a delivery.
func pieces(_ bytes: Bytes, _ delivery: Delivery, _ generator: inout SplitMix64) -> [Bytes] {
    var all: [Bytes] = []
    var start = 0
    while start < bytes.count {
        let step =
            switch delivery {
            case .whole: bytes.count
            case .byteByByte: 1
            case .randomPieces: Int.random(in: 1...100, using: &generator)
            }
        let end = min(bytes.count, start + step)
        all.append(Bytes(bytes[start..<end]))
        start = end
    }
    return all
}

/// A client and a server joined in memory.
final class SessionLink {
    let client: SessionEnd
    let server: SessionEnd
    private var generator: SplitMix64

    init(client: HTTP2Limits = HTTP2Limits(), server: HTTP2Limits = HTTP2Limits(), seed: UInt64 = 1) throws {
        self.client = try SessionEnd(.client, client)
        self.server = try SessionEnd(.server, server)
        generator = SplitMix64(seed: seed)
    }

    /// Carries bytes both ways until neither end has any.
    func settle(_ delivery: Delivery = .whole, now: UInt64 = 0) {
        for _ in 0..<10_000 {
            let up = client.take()
            for piece in pieces(up, delivery, &generator) { server.feed(piece, now: now) }
            let down = server.take()
            for piece in pieces(down, delivery, &generator) { client.feed(piece, now: now) }
            if up.isEmpty, down.isEmpty { return }
        }
        Issue.record("the two ends never come to rest")
    }

    /// Opens a POST to `path`; the recorder hears the response.
    func request(_ path: String = "/", extra: [(String, String)] = []) throws -> (HTTP2Stream, StreamRecorder) {
        let stream = HTTP2Stream()
        let recorder = StreamRecorder()
        stream.handler = recorder
        var headers = HTTP2Headers()
        headers.append(":method", "POST")
        headers.append(":scheme", "http")
        headers.append(":path", path)
        headers.append(":authority", "orbit")
        for (name, value) in extra { headers.append(name, value) }
        try client.session.open(stream, headers)
        return (stream, recorder)
    }
}

extension HTTP2Stream {
    func write(_ bytes: Bytes) {
        output.append(bytes)
        outputAppended()
    }
}

func okHeaders() -> HTTP2Headers {
    var headers = HTTP2Headers()
    headers.append(":status", "200")
    headers.append("content-type", "application/grpc")
    return headers
}

func grpcTrailers() -> HTTP2Headers {
    var headers = HTTP2Headers()
    headers.append("grpc-status", "0")
    return headers
}
