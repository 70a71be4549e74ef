import Base

/// One call being made. It may be filled before the channel has a connection; what was sent then waits.
package final class GRPCClientStream: GRPCStream {
    /// The server's metadata that came with the status; for `closed`.
    package private(set) var trailers = GRPCMetadata()
    private var isResponseKnown = false
    private var isEnded = false
    private var status: GRPCStatus?
    /// Why we gave the call up; what the stream says afterwards no longer matters.
    private var ownReason: GRPCStatus?

    init(
        path: String, metadata: GRPCMetadata, deadline: UInt64, handler: any GRPCStreamHandler, limits: GRPCLimits
    ) {
        super.init(path: path, metadata: metadata, deadline: deadline, http: HTTP2Stream(), limits: limits)
        self.handler = handler
    }

    /// No more messages from us.
    package func end() {
        guard !isEnded else { return }
        isEnded = true
        http.end()
        connection?.flushNeeded()
    }

    /// Gives the call up: `closed(.cancelled)` comes before this returns.
    package func cancel() { fail(GRPCStatus(.cancelled, "cancelled by the caller")) }

    func start(on connection: GRPCConnection, authority: String, isEncrypted: Bool) throws(HTTP2Failure) {
        var headers = HTTP2Headers()
        headers.append(":method", "POST")
        headers.append(":scheme", isEncrypted ? "https" : "http")
        headers.append(":path", path)
        headers.append(":authority", authority)
        headers.append("te", "trailers")
        headers.append("content-type", "application/grpc")
        headers.append("user-agent", "orbit")
        if deadline != .max {
            let now = connection.now
            headers.append("grpc-timeout", GRPCTimeout.encode(deadline > now ? deadline - now : 1))
        }
        metadata.append(to: &headers)
        http.handler = self
        try connection.session.open(http, headers)
        self.connection = connection
        connection.track(self)
        connection.flushNeeded()
    }

    @usableFromInline override func prepareToSend() -> Bool { !isEnded && isOpen }

    override var acceptsMessages: Bool { status == nil && ownReason == nil && isResponseKnown }

    override func fail(_ status: GRPCStatus) {
        guard isOpen, ownReason == nil else { return }
        ownReason = status
        let connection = connection
        http.reset(.cancel)
        connection?.flushNeeded()
        close(status)
    }

    override func deadlinePassed() { fail(GRPCStatus(.deadlineExceeded, "the call's deadline passed")) }

    package override func headersReceived(_ stream: HTTP2Stream, _ headers: HTTP2Headers, endsStream: Bool) {
        guard isOpen else { return }
        if isResponseKnown {
            trailers = GRPCMetadata(headers)
            status = Self.status(in: headers) ?? GRPCStatus(.unknown, "trailers without a status")
            return
        }
        let httpStatus = headers.text(of: ":status") ?? ""
        if httpStatus.utf8.first == UInt8(ascii: "1") { return }  // An interim answer: the real one follows.
        isResponseKnown = true
        guard httpStatus == "200" else {
            fail(GRPCStatus(httpStatus: httpStatus))
            return
        }
        guard headers.text(of: "content-type")?.hasPrefix("application/grpc") == true else {
            fail(GRPCStatus(.unknown, "the peer answered with something that is not gRPC"))
            return
        }
        if endsStream {
            trailers = GRPCMetadata(headers)
            status = Self.status(in: headers) ?? GRPCStatus(.unknown, "an answer without a status")
        } else if let encoding = headers.text(of: "grpc-encoding"), encoding != "identity" {
            fail(GRPCStatus(.unimplemented, "compressed messages are not supported"))
        } else {
            handler?.receivedHeaders(GRPCMetadata(headers))
        }
    }

    private static func status(in headers: HTTP2Headers) -> GRPCStatus? {
        guard let text = headers.text(of: "grpc-status") else { return nil }
        let message = headers.value(of: "grpc-message").map(PercentEncoding.decode) ?? ""
        guard let number = UInt8(text), let code = GRPCStatus.Code(rawValue: number) else {
            return GRPCStatus(.unknown, "status \(text.prefix(20)): \(message)")
        }
        return GRPCStatus(code, message)
    }

    package override func endReceived(_ stream: HTTP2Stream) {
        guard isOpen else { return }
        if status?.isOK != false, endsInMessage {
            fail(GRPCStatus(.internalError, "the answer ended within a message"))
            return
        }
        let status = status ?? GRPCStatus(.internalError, "the answer ended without trailers")
        let http = http
        handler?.receivedEnd()
        // The server has the last word: what we had still to say is dropped with the stream.
        if !isEnded, http.isOpen {
            http.reset(.cancel)
            connection?.flushNeeded()
        }
        close(status)
    }

    package override func streamClosed(_ stream: HTTP2Stream, _ code: HTTP2ErrorCode) {
        close(connection?.loss ?? status ?? GRPCStatus(streamClosed: code))
    }
}
