import Base
import CNghttp2

/// The C functions nghttp2 calls, and what each does to the session.
///
/// They are closures without captures: the session travels as nghttp2's user data, the stream as its stream user data
/// or as the data source, both unretained; the session's table keeps streams alive for as long as nghttp2 knows them.
enum HTTP2Callbacks {
    private typealias Raw = UnsafeMutableRawPointer
    private static let failure = NGHTTP2_ERR_CALLBACK_FAILURE.rawValue
    private static let streamFailure = NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE.rawValue

    private static func session(_ pointer: Raw?) -> HTTP2Session? {
        guard let pointer else { return nil }
        let session = Unmanaged<HTTP2Session>.fromOpaque(pointer).takeUnretainedValue()
        return session.isAborted ? nil : session
    }

    private static func stream(_ raw: OpaquePointer?, _ id: Int32) -> HTTP2Stream? {
        guard let pointer = nghttp2_session_get_stream_user_data(raw, id) else { return nil }
        return Unmanaged<HTTP2Stream>.fromOpaque(pointer).takeUnretainedValue()
    }

    static func install(in callbacks: OpaquePointer) {
        nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks) { raw, frame, user in
            guard let session = HTTP2Callbacks.session(user), let frame else { return HTTP2Callbacks.failure }
            return HTTP2Callbacks.beginHeaders(session, raw, frame)
        }
        nghttp2_session_callbacks_set_on_header_callback(callbacks) {
            _, frame, name, nameCount, value, valueCount, _, user in
            guard let session = HTTP2Callbacks.session(user), let frame else { return HTTP2Callbacks.failure }
            return HTTP2Callbacks.header(
                session, frame, ByteView(start: name, count: nameCount), ByteView(start: value, count: valueCount))
        }
        nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks) { raw, frame, user in
            guard let session = HTTP2Callbacks.session(user), let frame else { return HTTP2Callbacks.failure }
            HTTP2Callbacks.frameReceived(session, raw, frame)
            return session.isAborted ? HTTP2Callbacks.failure : 0
        }
        nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks) { raw, _, id, data, count, user in
            guard let session = HTTP2Callbacks.session(user) else { return HTTP2Callbacks.failure }
            if count > 0, let stream = HTTP2Callbacks.stream(raw, id) {
                stream.handler?.dataReceived(stream, ByteView(start: data, count: count))
            }
            return session.isAborted ? HTTP2Callbacks.failure : 0
        }
        nghttp2_session_callbacks_set_on_stream_close_callback(callbacks) { _, id, code, user in
            HTTP2Callbacks.session(user)?.close(id, HTTP2ErrorCode(rawValue: code))
            return 0
        }
        nghttp2_session_callbacks_set_on_frame_send_callback(callbacks) { _, frame, user in
            guard let session = HTTP2Callbacks.session(user), let frame else { return HTTP2Callbacks.failure }
            HTTP2Callbacks.frameSent(session, frame)
            return 0
        }
        nghttp2_session_callbacks_set_on_frame_not_send_callback(callbacks) { _, frame, _, user in
            guard let session = HTTP2Callbacks.session(user), let frame else { return HTTP2Callbacks.failure }
            // A request refused before it was sent (GOAWAY, cancelled while queued) gets no other report.
            if frame.pointee.isRequest { session.close(frame.pointee.hd.stream_id, .refusedStream) }
            return 0
        }
        nghttp2_session_callbacks_set_data_source_read_length_callback(callbacks) {
            _, _, _, sessionWindow, streamWindow, peerFrameSize, user in
            guard let session = HTTP2Callbacks.session(user) else { return Int(HTTP2Callbacks.failure) }
            return min(
                Int(sessionWindow), Int(streamWindow), Int(peerFrameSize), Int(max(session.limits.frameSize, 1 << 14)))
        }
        nghttp2_session_callbacks_set_send_data_callback(callbacks) { _, _, header, count, source, user in
            guard let session = HTTP2Callbacks.session(user), let header, let pointer = source?.pointee.ptr else {
                return HTTP2Callbacks.failure
            }
            let stream = Unmanaged<HTTP2Stream>.fromOpaque(pointer).takeUnretainedValue()
            return HTTP2Callbacks.sendData(session, stream, header, count)
        }
    }

    // MARK: - Receiving

    private static func beginHeaders(
        _ session: HTTP2Session, _ raw: OpaquePointer?, _ frame: UnsafePointer<nghttp2_frame>
    ) -> Int32 {
        session.incomingHeaders.removeAll()
        guard session.role == .server, frame.pointee.isRequest else { return 0 }
        let stream = HTTP2Stream()
        stream.id = frame.pointee.hd.stream_id
        stream.session = session
        session.streams[stream.id] = stream
        return nghttp2_session_set_stream_user_data(raw, stream.id, Unmanaged.passUnretained(stream).toOpaque())
    }

    private static func header(
        _ session: HTTP2Session, _ frame: UnsafePointer<nghttp2_frame>, _ name: ByteView, _ value: ByteView
    ) -> Int32 {
        session.incomingHeaders.append(name: name, value: value)
        guard session.incomingHeaders.listSize > Int(session.limits.headerListSize) else { return 0 }
        // The rest of the block is still decompressed, as the connection's table needs it, but no longer kept.
        session.incomingHeaders.removeAll()
        if let stream = session.streams[frame.pointee.hd.stream_id] { session.reset(stream, .enhanceYourCalm) }
        session.countReset()
        return streamFailure
    }

    private static func frameReceived(
        _ session: HTTP2Session, _ raw: OpaquePointer?, _ frame: UnsafePointer<nghttp2_frame>
    ) {
        let header = frame.pointee.hd
        let endsStream = header.flags & UInt8(NGHTTP2_FLAG_END_STREAM.rawValue) != 0
        let isAcknowledgement = header.flags & UInt8(NGHTTP2_FLAG_ACK.rawValue) != 0
        switch UInt32(header.type) {
        case NGHTTP2_DATA.rawValue:
            if endsStream, let stream = stream(raw, header.stream_id) {
                stream.handler?.endReceived(stream)
            } else if header.length == 0 {
                session.countControlFrame()
            }
        case NGHTTP2_HEADERS.rawValue:
            guard let stream = stream(raw, header.stream_id) else { return }
            headersReceived(session, stream, isRequest: frame.pointee.isRequest, endsStream: endsStream)
        case NGHTTP2_RST_STREAM.rawValue:
            session.countReset()
        case NGHTTP2_SETTINGS.rawValue:
            guard !isAcknowledgement else { return }
            session.countControlFrame()
            session.delegate?.settingsReceived()
        case NGHTTP2_PING.rawValue:
            if isAcknowledgement { session.delegate?.pingAcknowledged() } else { session.countControlFrame() }
        case NGHTTP2_PRIORITY.rawValue:
            session.countControlFrame()
        case NGHTTP2_GOAWAY.rawValue:
            session.delegate?.goAwayReceived(HTTP2ErrorCode(rawValue: frame.pointee.goaway.error_code))
        default:
            break  // WINDOW_UPDATE is nghttp2's business; extensions are ignored, as HTTP/2 demands.
        }
    }

    private static func headersReceived(
        _ session: HTTP2Session, _ stream: HTTP2Stream, isRequest: Bool, endsStream: Bool
    ) {
        let headers = session.incomingHeaders
        if session.role == .server, isRequest {
            let handler = session.delegate?.streamOpened(stream, headers, endsStream: endsStream)
            guard stream.isOpen else {  // The connection was given up meanwhile.
                handler?.streamClosed(stream, .connectError)
                return
            }
            stream.handler = handler
            if endsStream { handler?.endReceived(stream) }
        } else {
            let handler = stream.handler
            handler?.headersReceived(stream, headers, endsStream: endsStream)
            if endsStream { handler?.endReceived(stream) }
        }
    }

    // MARK: - Sending

    static func provider(_ stream: HTTP2Stream) -> nghttp2_data_provider {
        var provider = nghttp2_data_provider()
        provider.source.ptr = Unmanaged.passUnretained(stream).toOpaque()
        provider.read_callback = { _, _, _, length, flags, source, user in
            guard let session = HTTP2Callbacks.session(user), let flags, let pointer = source?.pointee.ptr else {
                return Int(HTTP2Callbacks.failure)
            }
            let stream = Unmanaged<HTTP2Stream>.fromOpaque(pointer).takeUnretainedValue()
            return HTTP2Callbacks.readData(session, stream, length, flags)
        }
        return provider
    }

    /// Says how much of the stream's output goes into the next DATA frame; `sendData` then writes exactly that.
    private static func readData(
        _ session: HTTP2Session, _ stream: HTTP2Stream, _ length: Int, _ flags: UnsafeMutablePointer<UInt32>
    ) -> Int {
        let available = stream.output.count
        let count = min(available, length)
        if count < available || !stream.endsOutput {
            guard count > 0 else {
                stream.source = .deferred
                return Int(NGHTTP2_ERR_DEFERRED.rawValue)
            }
            flags.pointee |= NGHTTP2_DATA_FLAG_NO_COPY.rawValue
            return count
        }
        flags.pointee |= NGHTTP2_DATA_FLAG_EOF.rawValue
        if count > 0 { flags.pointee |= NGHTTP2_DATA_FLAG_NO_COPY.rawValue }
        if let trailers = stream.trailers {
            guard session.submitTrailers(stream, trailers) == 0 else { return Int(streamFailure) }
            flags.pointee |= NGHTTP2_DATA_FLAG_NO_END_STREAM.rawValue
        }
        return count
    }

    private static func sendData(
        _ session: HTTP2Session, _ stream: HTTP2Stream, _ header: UnsafePointer<UInt8>, _ count: Int
    ) -> Int32 {
        guard let sink = session.sink else { return failure }
        guard sink.pointee.count < session.sinkLimit else { return NGHTTP2_ERR_WOULDBLOCK.rawValue }
        // `reset` may have emptied the queue between the two callbacks.
        guard stream.output.count >= count else { return streamFailure }
        sink.pointee.reserve(frameHeaderSize + count)
        sink.pointee.append(ByteView(start: header, count: frameHeaderSize))
        sink.pointee.append(ByteView(rebasing: stream.output.readable[0..<count]))
        stream.output.consume(count)
        stream.output.trim(to: keptOutputCapacity)  // After a burst: streams live for days.
        stream.queuedBytes = stream.output.count
        if stream.isAboveHighMark, stream.queuedBytes <= stream.highMark / 4 {
            stream.isAboveHighMark = false
            session.drained.append(stream)
        }
        return 0
    }

    private static let frameHeaderSize = 9
    private static let keptOutputCapacity = 256 << 10

    private static func frameSent(_ session: HTTP2Session, _ frame: UnsafePointer<nghttp2_frame>) {
        let header = frame.pointee.hd
        switch UInt32(header.type) {
        case NGHTTP2_RST_STREAM.rawValue:
            // We reset for the peer's errors at the peer's pace, so these count; giving up and finishing early do not.
            let code = HTTP2ErrorCode(rawValue: frame.pointee.rst_stream.error_code)
            if code != .noError, code != .cancel { session.countReset() }
        case NGHTTP2_HEADERS.rawValue, NGHTTP2_DATA.rawValue:
            guard session.role == .server, header.flags & UInt8(NGHTTP2_FLAG_END_STREAM.rawValue) != 0 else { return }
            // A server that has answered wants no more of the request; without this the stream stays until the client
            // ends.
            guard !session.remoteEnded(header.stream_id), let stream = session.streams[header.stream_id] else { return }
            session.reset(stream, .noError)
        default:
            break
        }
    }
}

extension nghttp2_frame {
    /// The HEADERS that open a stream, not those of a response or trailers.
    var isRequest: Bool { UInt32(hd.type) == NGHTTP2_HEADERS.rawValue && headers.cat == NGHTTP2_HCAT_REQUEST }
}
