import Base
import CHTTPParser

/// Turns bytes into HTTP/1.1 messages, one at a time, by http_parser.
///
/// It stops after each message and leaves the rest, so that a pipelining client is answered in order. Limits: 16 KB
/// of headers (http_parser counts them), a body of `bodyLimit` (checked against the announced length before any of it
/// is kept).
final class HTTPParser {
    enum Kind { case request, response }

    enum Outcome {
        case incomplete
        case message
        /// The status that tells a client what was wrong.
        case failed(status: Int, reason: String)
    }

    static let headerLimit = 16 << 10

    private(set) var method = ""
    private(set) var target: Bytes = []
    private(set) var fields: [HTTPField] = []
    private(set) var body: Bytes = []
    private(set) var keepsAlive = false
    private(set) var isUpgrade = false
    /// The client waits for 100 before it sends the body; the owner clears it when that was said.
    var expectsContinue = false

    private let kind: Kind
    private let bodyLimit: Int
    private let parser: UnsafeMutablePointer<http_parser>
    /// A response to HEAD has the headers of a body and none.
    private let expectsBody: Bool
    private var name: Bytes = []
    private var value: Bytes = []
    private var isValueBegun = false
    private var areHeadersComplete = false
    private var isComplete = false
    private var isTooLarge = false

    init(_ kind: Kind, bodyLimit: Int, expectsBody: Bool = true) {
        self.kind = kind
        self.bodyLimit = bodyLimit
        self.expectsBody = expectsBody
        parser = .allocate(capacity: 1)
        parser.initialize(to: http_parser())
        _ = Self.limitHeaders
        http_parser_init(parser, kind == .request ? HTTP_REQUEST : HTTP_RESPONSE)
    }

    deinit { parser.deallocate() }

    var status: Int { Int(parser.pointee.status_code) }

    /// HTTP/1.1 demands it.
    var lacksHost: Bool {
        parser.pointee.http_major == 1 && parser.pointee.http_minor >= 1 && !fields.contains { $0.name == "host" }
    }

    /// Consumes up to the end of one message. After `.message` read the properties, then call again for the next one.
    func parse(_ input: inout ByteBuffer) -> Outcome {
        if isComplete { restart() }
        let consumed = execute(input.readable)
        input.consume(consumed)
        return outcome
    }

    /// The peer sent its last byte; a response without a length ends with it.
    func end() -> Outcome {
        guard !isComplete else { return .incomplete }
        _ = execute(ByteView(start: nil, count: 0))
        return outcome
    }

    /// True if nothing of a further message has arrived.
    var isIdle: Bool { isComplete || (!areHeadersComplete && target.isEmpty && fields.isEmpty && name.isEmpty) }

    private func execute(_ view: ByteView) -> Int {
        parser.pointee.data = Unmanaged.passUnretained(self).toOpaque()
        return withUnsafePointer(to: Self.settings) {
            http_parser_execute(parser, $0, view.baseAddress?.assumingMemoryBound(to: CChar.self), view.count)
        }
    }

    private var outcome: Outcome {
        if isTooLarge { return .failed(status: 413, reason: "the body is larger than \(bodyLimit) bytes") }
        if isComplete { return .message }
        let code = http_errno(rawValue: parser.pointee.http_errno)
        guard code != HPE_OK, code != HPE_PAUSED else { return .incomplete }
        if code == HPE_HEADER_OVERFLOW {
            return .failed(status: 431, reason: "the headers are larger than \(Self.headerLimit) bytes")
        }
        return .failed(status: 400, reason: String(cString: http_errno_description(code)))
    }

    private func restart() {
        http_parser_pause(parser, 0)
        isComplete = false
        areHeadersComplete = false
        method = ""
        target = []
        fields = []
        body = []
        name = []
        value = []
        isValueBegun = false
        isUpgrade = false
        expectsContinue = false
    }

    // MARK: Callbacks

    private func append(name bytes: ByteView) {
        if isValueBegun { finishField() }
        name += bytes
    }

    private func append(value bytes: ByteView) {
        isValueBegun = true
        value += bytes
    }

    private func finishField() {
        isValueBegun = false
        // Trailers after a chunked body are read over.
        if !areHeadersComplete, !name.isEmpty {
            fields.append(
                HTTPField(
                    String(decoding: name, as: UTF8.self).lowercased(), String(decoding: value, as: UTF8.self)))
        }
        name = []
        value = []
    }

    /// 0 goes on, 1 skips the body, -1 stops.
    private func headersComplete() -> Int32 {
        finishField()
        areHeadersComplete = true
        if kind == .request {
            method = String(cString: http_method_str(http_method(rawValue: UInt32(parser.pointee.method))))
        }
        let length = parser.pointee.content_length
        if length != .max, length > UInt64(bodyLimit) {
            isTooLarge = true
            return -1
        }
        expectsContinue = fields.contains { $0.name == "expect" && $0.value.lowercased() == "100-continue" }
        return expectsBody ? 0 : 1
    }

    private func append(body bytes: ByteView) -> Int32 {
        guard body.count + bytes.count <= bodyLimit else {
            isTooLarge = true
            return -1
        }
        body += bytes
        return 0
    }

    private func messageComplete() {
        isComplete = true
        isUpgrade = parser.pointee.upgrade != 0
        keepsAlive = http_should_keep_alive(parser) != 0 && !isUpgrade
        http_parser_pause(parser, 1)
    }

    /// Process-wide in http_parser; nothing else uses it.
    private static let limitHeaders: Void = http_parser_set_max_header_size(UInt32(headerLimit))

    private static let settings: http_parser_settings = {
        var settings = http_parser_settings()
        settings.on_url = { parser, bytes, count in
            HTTPParser.of(parser)?.target += ByteView(start: bytes, count: count)
            return 0
        }
        settings.on_header_field = { parser, bytes, count in
            HTTPParser.of(parser)?.append(name: ByteView(start: bytes, count: count))
            return 0
        }
        settings.on_header_value = { parser, bytes, count in
            HTTPParser.of(parser)?.append(value: ByteView(start: bytes, count: count))
            return 0
        }
        settings.on_headers_complete = { parser in HTTPParser.of(parser)?.headersComplete() ?? -1 }
        settings.on_body = { parser, bytes, count in
            HTTPParser.of(parser)?.append(body: ByteView(start: bytes, count: count)) ?? -1
        }
        settings.on_message_complete = { parser in
            HTTPParser.of(parser)?.messageComplete()
            return 0
        }
        return settings
    }()

    private static func of(_ parser: UnsafeMutablePointer<http_parser>?) -> HTTPParser? {
        guard let data = parser?.pointee.data else { return nil }
        return Unmanaged<HTTPParser>.fromOpaque(data).takeUnretainedValue()
    }
}
