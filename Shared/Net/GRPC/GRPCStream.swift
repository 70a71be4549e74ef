import Base

/// What happens on one call, on either side. Calls come on the loop, one at a time; a handler may send, finish or
/// cancel from within any of them.
package protocol GRPCStreamHandler: AnyObject {
    /// One complete message, valid during the call.
    func received(_ message: ByteView)
    /// The other side sends no more (on a client, `closed` follows at once with the status).
    func receivedEnd()
    /// The last call, exactly one: how the call ended. On a server OK means that the trailers were sent.
    func closed(_ status: GRPCStatus)
    /// Output fell to a quarter of the high mark after `isWritable` had become false.
    func writable()
    /// The server drains (server side only): end the call as soon as what was taken on is answered.
    func draining()
    /// The server's metadata (client side only), before the first message.
    func receivedHeaders(_ metadata: GRPCMetadata)
}

extension GRPCStreamHandler {
    package func receivedEnd() {}
    package func writable() {}
    package func draining() {}
    package func receivedHeaders(_ metadata: GRPCMetadata) {}
}

/// What the two sides of a call have in common: messages out, messages in, one ending.
///
/// A message is built in place, in the HTTP/2 stream's queue, behind a prefix whose length is patched afterwards.
/// Sending only marks the connection; everything sent in a tick leaves in one DATA frame and one write at the end of
/// it. The stream and its handler keep each other alive until `closed`.
package class GRPCStream: HTTP2StreamHandler {
    package final let path: String
    /// Server: the request's metadata. Client: what was sent.
    package final let metadata: GRPCMetadata
    /// On the loop's clock, nanoseconds; `.max` without one.
    package final let deadline: UInt64
    @usableFromInline final let http: HTTP2Stream

    final var connection: GRPCConnection?
    final var handler: (any GRPCStreamHandler)?
    private final var reader = GRPCMessageReader()
    private final var heldBytes = 0
    private final let messageLimit: Int

    init(path: String, metadata: GRPCMetadata, deadline: UInt64, http: HTTP2Stream, limits: GRPCLimits) {
        self.path = path
        self.metadata = metadata
        self.deadline = deadline
        self.http = http
        messageLimit = min(limits.messageSize, Int(UInt32.max))
        http.highMark = limits.streamHighMark
    }

    /// Bytes sent by us that have not left yet.
    package final var bufferedBytes: Int { http.queuedBytes }

    /// False above the high mark; `writable()` tells when it is true again.
    package final var isWritable: Bool { http.isWritable }

    /// True until `closed` was delivered.
    package final var isOpen: Bool { handler != nil }

    // MARK: - Sending

    /// Sends one message. False when the call is over, or the message exceeds the limit: nothing is sent then.
    @discardableResult
    package final func send(_ message: ByteView) -> Bool {
        send { $0.append(message) }
    }

    /// Sends the message that `build` appends to the buffer, which holds others before it: append only. Nothing of this
    /// stream may be sent from within `build`.
    @inlinable @discardableResult
    package final func send(_ build: (inout ByteBuffer) -> Void) -> Bool {
        guard prepareToSend() else { return false }
        let start = http.output.count
        http.output.append(0 as UInt8)
        http.output.append(bigEndian: 0 as UInt32)
        build(&http.output)
        return messageBuilt(at: start)
    }

    @usableFromInline final func messageBuilt(at start: Int) -> Bool {
        let length = http.output.count - start - GRPCMessageReader.prefixSize
        guard length >= 0, length <= messageLimit else {
            http.output.truncate(to: start)
            return false
        }
        http.output.mutableReadable.storeBytes(
            of: UInt32(truncatingIfNeeded: length).bigEndian, toByteOffset: start + 1, as: UInt32.self)
        http.outputAppended()
        connection?.flushNeeded()
        return true
    }

    /// True when a message may follow; a server sends its headers here.
    @usableFromInline func prepareToSend() -> Bool { false }

    // MARK: - Receiving

    package final func dataReceived(_ stream: HTTP2Stream, _ data: ByteView) {
        var piece = data
        while let handler, acceptsMessages {
            switch reader.next(from: &piece, limit: messageLimit) {
            case .message(let message):
                handler.received(message)
            case .needsMore:
                noteHeldBytes()
                return
            case .tooLarge(let announced):
                fail(
                    GRPCStatus(.resourceExhausted, "message of \(announced) bytes exceeds the limit of \(messageLimit)")
                )
            case .unknownEncoding:
                fail(GRPCStatus(.unimplemented, "compressed messages are not supported"))
            }
        }
    }

    private final func noteHeldBytes() {
        let held = reader.heldBytes
        guard held != heldBytes, let connection else { return }
        connection.assembledBytes += held - heldBytes
        heldBytes = held
        if connection.assembledBytes > connection.limits.assemblySize {
            fail(GRPCStatus(.resourceExhausted, "too many bytes in incomplete messages"))
        }
    }

    package final func outputDrained(_ stream: HTTP2Stream) { handler?.writable() }

    /// False when messages are no longer of interest.
    var acceptsMessages: Bool { true }

    /// True when the other side ended within a message.
    final var endsInMessage: Bool { reader.heldBytes > 0 }

    /// Ends the call for a reason of ours.
    func fail(_ status: GRPCStatus) {}

    func deadlinePassed() {}

    package func headersReceived(_ stream: HTTP2Stream, _ headers: HTTP2Headers, endsStream: Bool) {}

    package func endReceived(_ stream: HTTP2Stream) {}

    package func streamClosed(_ stream: HTTP2Stream, _ code: HTTP2ErrorCode) {}

    /// Delivers `closed`, once, and cuts the links.
    final func close(_ status: GRPCStatus) {
        guard let handler else { return }
        self.handler = nil
        if let connection {
            connection.assembledBytes -= heldBytes
            connection.forget(self)
            self.connection = nil
        }
        heldBytes = 0
        handler.closed(status)
    }
}
