import Base

/// What happens to one stream. Called from `HTTP2Session.feed` and `notify`; a handler may open, answer, end and reset
/// streams from within, but never feeds or drains.
package protocol HTTP2StreamHandler: AnyObject {
    /// Response headers or trailers (the request's headers go to `HTTP2SessionDelegate.streamOpened`).
    func headersReceived(_ stream: HTTP2Stream, _ headers: HTTP2Headers, endsStream: Bool)
    /// A piece of data, valid during the call; pieces follow the peer's frames and our reads, not its messages.
    func dataReceived(_ stream: HTTP2Stream, _ data: ByteView)
    /// The peer sends no more.
    func endReceived(_ stream: HTTP2Stream)
    /// Output fell below the low mark after it had been above the high mark.
    func outputDrained(_ stream: HTTP2Stream)
    /// The last call. `.noError` after both sides ended.
    func streamClosed(_ stream: HTTP2Stream, _ code: HTTP2ErrorCode)
}

/// One stream of an `HTTP2Session`: a queue of output bytes, and who hears of its input.
///
/// Output is appended to `output` in place and handed to nghttp2 when the session is drained. Between draining dry
/// and the next append nghttp2 has the stream *deferred*; `source` follows that state exactly, because resuming a
/// stream that is not deferred is an error and forgetting to resume one loses its output for ever.
package final class HTTP2Stream {
    enum Source { case none, flowing, deferred }

    /// Given by nghttp2; 0 until the stream is opened.
    package internal(set) var id: Int32 = 0
    package var handler: (any HTTP2StreamHandler)?
    /// What waits for its DATA frames. After appending call `outputAppended`.
    @usableFromInline package var output = ByteBuffer(capacity: 256)
    /// The size of `output`, kept apart so that it can be read while a message is being built inside `output`.
    package internal(set) var queuedBytes = 0
    package var highMark = 1 << 20

    var session: HTTP2Session?
    var source = Source.none
    var endsOutput = false
    var trailers: HTTP2Headers?
    var isAboveHighMark = false

    package init() {}

    /// False once the peer or we closed it.
    package var isOpen: Bool { session != nil }

    /// False above the high mark until output has drained to a quarter of it.
    package var isWritable: Bool { !isAboveHighMark }

    /// True once `end` was called: nothing may be appended after it.
    package var isEnding: Bool { endsOutput }

    /// Tells the session that bytes were appended to `output`.
    @usableFromInline package func outputAppended() {
        queuedBytes = output.count
        if queuedBytes >= highMark { isAboveHighMark = true }
        if source == .deferred { session?.resume(self) }
    }

    /// Sends a response's headers (server side, once); data follows from `output` unless `endsStream`.
    package func respond(_ headers: HTTP2Headers, endsStream: Bool) {
        session?.respond(self, headers, endsStream: endsStream)
    }

    /// Ends our side after what is queued, with `trailers` if there are any.
    package func end(trailers: HTTP2Headers? = nil) {
        guard !endsOutput else { return }
        endsOutput = true
        self.trailers = trailers
        if source == .deferred { session?.resume(self) }
    }

    /// Abandons the stream in both directions. The handler's `streamClosed` follows when the session is drained.
    package func reset(_ code: HTTP2ErrorCode) {
        output.removeAll()
        queuedBytes = 0
        endsOutput = true
        session?.reset(self, code)
    }
}
