import Base
import CNghttp2

/// What happens to a connection as a whole.
package protocol HTTP2SessionDelegate: AnyObject {
    /// A peer's request. The handler returned gets the stream's further events; nil leaves it without one.
    func streamOpened(_ stream: HTTP2Stream, _ headers: HTTP2Headers, endsStream: Bool) -> (any HTTP2StreamHandler)?
    /// The peer's SETTINGS: the first mean that it speaks HTTP/2.
    func settingsReceived()
    func pingAcknowledged()
    /// The peer opens or accepts no more streams.
    func goAwayReceived(_ code: HTTP2ErrorCode)
}

/// One end of an HTTP/2 connection without its socket: bytes in by `feed`, bytes out by `drain`.
///
/// nghttp2 does the protocol; this class owns the nghttp2 session, the table of streams and the limits nghttp2 lacks.
///
/// Invariants:
/// - Every stream in `streams` was accepted by nghttp2 and has not been reported closed; each handler hears
///   `streamClosed` exactly once, whichever comes first: nghttp2's report, a request that could not be sent, or
///   `abort`.
/// - Session, delegate, open streams and their handlers refer to one another strongly. Closing a stream cuts its
///   links and `abort` closes all, so whoever drops a connection calls `abort`.
/// - nghttp2 is entered once at a time: a handler that calls `feed` or `drain` from inside gets nothing done by it.
///
/// DATA frames are written without a copy in between: nghttp2 asks how much there is (`readData`), makes the frame
/// header, and `sendData` moves the bytes from the stream's queue straight behind it into the connection's output.
package final class HTTP2Session {
    package enum Role: Sendable { case client, server }

    package let role: Role
    package let limits: HTTP2Limits
    package var delegate: (any HTTP2SessionDelegate)?

    var streams: [Int32: HTTP2Stream] = [:]
    /// The header block being received; the blocks of one connection never interleave.
    var incomingHeaders = HTTP2Headers()
    /// Where `drain` gathers; set only while it runs.
    var sink: UnsafeMutablePointer<ByteBuffer>?
    var sinkLimit = 0
    /// What `drain` leaves for `notify`.
    var drained: [HTTP2Stream] = []
    private var closed: [(handler: any HTTP2StreamHandler, stream: HTTP2Stream, code: HTTP2ErrorCode)] = []
    private(set) var isAborted = false

    private var raw: OpaquePointer?
    private var now: UInt64 = 0
    private var isEntered = false
    private var resets = RateWindow()
    private var controls = RateWindow()

    /// A session whose first drain sends the preface and our SETTINGS.
    package init(role: Role, limits: HTTP2Limits = HTTP2Limits()) throws(HTTP2Failure) {
        self.role = role
        self.limits = limits
        try Self.check(makeRaw())
        try Self.check(submitSettings())
    }

    deinit { nghttp2_session_del(raw) }

    private func makeRaw() -> Int32 {
        var callbacks: OpaquePointer?
        var option: OpaquePointer?
        guard nghttp2_session_callbacks_new(&callbacks) == 0, let callbacks else { return NGHTTP2_ERR_NOMEM.rawValue }
        defer { nghttp2_session_callbacks_del(callbacks) }
        guard nghttp2_option_new(&option) == 0, let option else { return NGHTTP2_ERR_NOMEM.rawValue }
        defer { nghttp2_option_del(option) }
        HTTP2Callbacks.install(in: callbacks)
        nghttp2_option_set_max_outbound_ack(option, limits.outboundAcknowledgements)
        nghttp2_option_set_no_closed_streams(option, 1)
        // Ours counts resets that we are made to send as well, and answers with the code that says why.
        nghttp2_option_set_stream_reset_rate_limit(option, 1 << 32, 1 << 32)
        let own = Unmanaged.passUnretained(self).toOpaque()
        switch role {
        case .client: return nghttp2_session_client_new2(&raw, callbacks, own, option)
        case .server: return nghttp2_session_server_new2(&raw, callbacks, own, option)
        }
    }

    private func submitSettings() -> Int32 {
        func entry(_ id: nghttp2_settings_id, _ value: UInt32) -> nghttp2_settings_entry {
            nghttp2_settings_entry(settings_id: Int32(id.rawValue), value: value)
        }
        var entries = [
            entry(NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, min(limits.streamWindow, UInt32(Int32.max))),
            entry(NGHTTP2_SETTINGS_MAX_FRAME_SIZE, min(max(limits.frameSize, 1 << 14), 1 << 24 - 1)),
            entry(NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, limits.headerListSize),
        ]
        switch role {
        case .client: entries.append(entry(NGHTTP2_SETTINGS_ENABLE_PUSH, 0))
        case .server: entries.append(entry(NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, limits.concurrentStreams))
        }
        let flags = UInt8(NGHTTP2_FLAG_NONE.rawValue)
        let result = nghttp2_submit_settings(raw, flags, entries, entries.count)
        guard result == 0 else { return result }
        // SETTINGS do not touch the connection's window.
        let window = Int32(clamping: limits.connectionWindow)
        return nghttp2_session_set_local_window_size(raw, flags, 0, window)
    }

    private static func check(_ result: Int32) throws(HTTP2Failure) {
        if result != 0 { throw HTTP2Failure(result) }
    }

    // MARK: - Bytes

    /// Takes all of `input`; `now` is monotonic, in nanoseconds. After a failure the session is of no use; an error
    /// of the peer that HTTP/2 has an answer for is not a failure, but makes the session `isFinished` once drained.
    package func feed(_ input: ByteView, now: UInt64) throws(HTTP2Failure) {
        guard !isEntered, !isAborted, input.count > 0 else { return }
        self.now = now
        isEntered = true
        let result = withExtendedLifetime(self) {
            nghttp2_session_mem_recv(raw, input.baseAddress?.assumingMemoryBound(to: UInt8.self), input.count)
        }
        isEntered = false
        if result < 0 { throw HTTP2Failure(Int32(truncatingIfNeeded: result)) }
    }

    /// Appends what is to be sent to `output`, until there is nothing more or `output` holds `limit` bytes. No
    /// handler is called; `notify` does that afterwards.
    package func drain(into output: inout ByteBuffer, upTo limit: Int = .max) throws(HTTP2Failure) {
        guard !isEntered, !isAborted else { return }
        isEntered = true
        var failure: Int32 = 0
        withExtendedLifetime(self) {
            withUnsafeMutablePointer(to: &output) { target in
                sink = target
                sinkLimit = limit
                while target.pointee.count < limit, !isAborted {
                    var piece: UnsafePointer<UInt8>?
                    let count = nghttp2_session_mem_send(raw, &piece)
                    if count < 0 { failure = Int32(truncatingIfNeeded: count) }
                    guard count > 0 else { break }
                    target.pointee.append(ByteView(start: piece, count: count))
                }
                sink = nil
            }
        }
        isEntered = false
        if failure != 0 { throw HTTP2Failure(failure) }
    }

    /// Tells handlers what the last drain brought about: streams that closed, and streams that can take output again.
    /// Apart from `drain`, because a handler may well want the connection whose output is being drained into.
    package func notify() {
        while !closed.isEmpty || !drained.isEmpty {
            let (ended, ready) = (closed, drained)
            closed.removeAll(keepingCapacity: true)
            drained.removeAll(keepingCapacity: true)
            for entry in ended { entry.handler.streamClosed(entry.stream, entry.code) }
            for stream in ready { stream.handler?.outputDrained(stream) }
        }
    }

    /// True while `drain` has something to write.
    package var wantsWrite: Bool { !isAborted && nghttp2_session_want_write(raw) != 0 }

    /// True when the protocol has ended: the socket can be closed after the last drain.
    package var isFinished: Bool {
        isAborted || (nghttp2_session_want_read(raw) == 0 && nghttp2_session_want_write(raw) == 0)
    }

    package var openStreams: Int { streams.count }

    /// Who handles the open streams, in the order of their ids.
    var handlers: [any HTTP2StreamHandler] {
        streams.sorted { $0.key < $1.key }.compactMap(\.value.handler)
    }

    // MARK: - Streams

    /// Opens `stream` towards the server with a request's headers. Its output may have been filled before.
    package func open(_ stream: HTTP2Stream, _ headers: HTTP2Headers) throws(HTTP2Failure) {
        guard !isAborted else { throw HTTP2Failure(NGHTTP2_ERR_SESSION_CLOSING.rawValue) }
        let pointer = Unmanaged.passUnretained(stream).toOpaque()
        var provider = HTTP2Callbacks.provider(stream)
        let id = headers.withNameValues { list, count in
            nghttp2_submit_request(raw, nil, list, count, &provider, pointer)
        }
        guard id > 0 else { throw HTTP2Failure(id) }
        stream.id = id
        stream.session = self
        stream.source = .flowing
        streams[id] = stream
    }

    func respond(_ stream: HTTP2Stream, _ headers: HTTP2Headers, endsStream: Bool) {
        guard !isAborted, role == .server, stream.source == .none else { return }
        var provider = HTTP2Callbacks.provider(stream)
        let result = headers.withNameValues { list, count in
            endsStream
                ? nghttp2_submit_response(raw, stream.id, list, count, nil)
                : nghttp2_submit_response(raw, stream.id, list, count, &provider)
        }
        // A stream that closed meanwhile; `streamClosed` reports it.
        guard result == 0 else { return }
        stream.source = .flowing
        stream.endsOutput = endsStream
    }

    func resume(_ stream: HTTP2Stream) {
        guard !isAborted else { return }
        stream.source = .flowing
        nghttp2_session_resume_data(raw, stream.id)
    }

    func reset(_ stream: HTTP2Stream, _ code: HTTP2ErrorCode) {
        guard !isAborted else { return }
        nghttp2_submit_rst_stream(raw, UInt8(NGHTTP2_FLAG_NONE.rawValue), stream.id, code.rawValue)
    }

    func submitTrailers(_ stream: HTTP2Stream, _ trailers: HTTP2Headers) -> Int32 {
        trailers.withNameValues { list, count in nghttp2_submit_trailer(raw, stream.id, list, count) }
    }

    // MARK: - Connection

    /// Asks the peer for a sign of life: `pingAcknowledged`.
    package func ping() {
        guard !isAborted else { return }
        nghttp2_submit_ping(raw, UInt8(NGHTTP2_FLAG_NONE.rawValue), nil)
    }

    /// Refuses streams not yet seen, lets open ones finish.
    package func goAway(_ code: HTTP2ErrorCode = .noError) {
        guard !isAborted else { return }
        let last = nghttp2_session_get_last_proc_stream_id(raw)
        nghttp2_submit_goaway(raw, UInt8(NGHTTP2_FLAG_NONE.rawValue), last, code.rawValue, nil, 0)
    }

    /// Sends GOAWAY and then nothing: the session is finished once that is drained.
    package func terminate(_ code: HTTP2ErrorCode) {
        guard !isAborted else { return }
        nghttp2_session_terminate_session(raw, code.rawValue)
    }

    /// Forgets the connection: every open stream is reported closed with `code`, nothing is sent any more.
    package func abort(_ code: HTTP2ErrorCode) {
        guard !isAborted else { return }
        isAborted = true
        delegate = nil
        // In order of their ids, so that a run can be repeated.
        for id in streams.keys.sorted() { close(id, code) }
        notify()
    }

    func close(_ id: Int32, _ code: HTTP2ErrorCode) {
        guard let stream = streams.removeValue(forKey: id) else { return }
        stream.session = nil
        stream.source = .none
        let handler = stream.handler
        stream.handler = nil
        guard let handler else { return }
        if sink == nil { handler.streamClosed(stream, code) } else { closed.append((handler, stream, code)) }
    }

    // MARK: - Limits

    func countReset() {
        if role == .server, resets.exceeds(limits.resetsPerSecond, now: now) { terminate(.enhanceYourCalm) }
    }

    func countControlFrame() {
        if controls.exceeds(limits.controlFramesPerSecond, now: now) { terminate(.enhanceYourCalm) }
    }

    func remoteEnded(_ id: Int32) -> Bool { nghttp2_session_get_stream_remote_close(raw, id) != 0 }
}

extension HTTP2Failure {
    init(_ code: Int32) {
        self.init(code: code, description: String(cString: nghttp2_strerror(code)))
    }
}
