import Base

/// One call being served.
///
/// Headers leave with the first message (or at once with `sendHeaders`), the status with `finish`; a call finished
/// before anything was sent is answered by trailers alone.
package final class GRPCServerStream: GRPCStream {
    package let peer: PeerIdentity
    private var areHeadersSent = false
    private var finalStatus: GRPCStatus?

    init(_ connection: GRPCConnection, _ http: HTTP2Stream, path: String, metadata: GRPCMetadata, deadline: UInt64) {
        peer = connection.peer
        super.init(path: path, metadata: metadata, deadline: deadline, http: http, limits: connection.limits)
        self.connection = connection
    }

    /// True once `finish` was called.
    package var isFinished: Bool { finalStatus != nil }

    /// Sends the response's headers now, with metadata of our own. Once, before the first message.
    package func sendHeaders(_ metadata: GRPCMetadata = GRPCMetadata()) {
        guard !areHeadersSent, !isFinished, http.isOpen else { return }
        areHeadersSent = true
        var headers = Self.responseHeaders()
        metadata.append(to: &headers)
        http.respond(headers, endsStream: false)
        connection?.flushNeeded()
    }

    /// Ends the call after the messages sent so far. The handler hears `closed` when the trailers are on their way, and
    /// nothing else before.
    package func finish(_ status: GRPCStatus, trailers: GRPCMetadata = GRPCMetadata()) {
        guard !isFinished else { return }
        finalStatus = status
        guard http.isOpen else { return }
        if areHeadersSent {
            var fields = HTTP2Headers()
            Self.append(status, trailers, to: &fields)
            http.end(trailers: fields)
        } else {
            areHeadersSent = true
            var headers = Self.responseHeaders()
            Self.append(status, trailers, to: &headers)
            http.respond(headers, endsStream: true)
        }
        connection?.flushNeeded()
    }

    private static func responseHeaders() -> HTTP2Headers {
        var headers = HTTP2Headers()
        headers.append(":status", "200")
        headers.append("content-type", "application/grpc")
        return headers
    }

    private static func append(_ status: GRPCStatus, _ trailers: GRPCMetadata, to headers: inout HTTP2Headers) {
        headers.append("grpc-status", "\(status.code.rawValue)")
        if !status.message.isEmpty { headers.append("grpc-message", bytes: PercentEncoding.encode(status.message)) }
        trailers.append(to: &headers)
    }

    @usableFromInline override func prepareToSend() -> Bool {
        guard !isFinished, http.isOpen else { return false }
        if !areHeadersSent { sendHeaders() }
        return true
    }

    override var acceptsMessages: Bool { !isFinished }

    override func fail(_ status: GRPCStatus) { finish(status) }

    func drain() {
        if !isFinished { handler?.draining() }
    }

    /// The deadline passed. A status can follow what was sent only when that has left; else the stream is cut.
    override func deadlinePassed() {
        guard !isFinished else { return }
        let status = GRPCStatus(.deadlineExceeded, "the call's deadline passed")
        if http.queuedBytes == 0 {
            finish(status)
        } else {
            finalStatus = status
            http.reset(.cancel)
            connection?.flushNeeded()
        }
    }

    package override func endReceived(_ stream: HTTP2Stream) {
        guard !isFinished else { return }
        if endsInMessage {
            finish(GRPCStatus(.internalError, "the request ended within a message"))
        } else {
            handler?.receivedEnd()
        }
    }

    package override func streamClosed(_ stream: HTTP2Stream, _ code: HTTP2ErrorCode) {
        if let loss = connection?.loss {
            close(loss)
        } else if let finalStatus, code == .noError || finalStatus.code == .deadlineExceeded {
            close(finalStatus)
        } else {
            close(code == .noError ? GRPCStatus(.cancelled, "the stream ended") : GRPCStatus(streamClosed: code))
        }
    }
}
