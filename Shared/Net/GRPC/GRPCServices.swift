import Base

/// The methods a server offers, by path (`/package.Service/Method`).
package final class GRPCServices {
    /// Makes the handler of one call. It may already send and finish; messages follow afterwards.
    package typealias Factory = (GRPCServerStream) -> any GRPCStreamHandler

    private var methods: [String: Factory] = [:]
    /// Asked before every call, if set: a status other than nil refuses it. For authentication by peer or metadata.
    package var admission: ((GRPCServerStream) -> GRPCStatus?)?

    package init() {}

    /// Offers a method of any kind.
    package func register(path: String, _ factory: @escaping Factory) { methods[path] = factory }

    /// Offers a method with one request and one response. `body` gets the request, valid during the call, and answers
    /// by `GRPCUnaryCall.reply` or `fail`, at once or later.
    package func registerUnary(path: String, _ body: @escaping (ByteView, GRPCUnaryCall) -> Void) {
        methods[path] = { UnaryHandler(GRPCUnaryCall($0), body) }
    }

    /// The names of the services that have a method here, sorted.
    package var serviceNames: [String] {
        Set(methods.keys.compactMap { $0.split(separator: "/").first.map(String.init) }).sorted()
    }

    func dispatch(_ call: GRPCServerStream) {
        guard let factory = methods[call.path] else {
            call.finish(GRPCStatus(.unimplemented, "unknown method \(call.path)"))
            return
        }
        if let refusal = admission?(call) {
            call.finish(refusal)
            return
        }
        call.handler = factory(call)
    }
}

/// A call with one request, to be answered once.
package final class GRPCUnaryCall {
    /// For metadata, peer and deadline.
    package let stream: GRPCServerStream

    init(_ stream: GRPCServerStream) { self.stream = stream }

    /// False once it was answered, cancelled or lost: an answer then does nothing.
    package var isOpen: Bool { stream.isOpen && !stream.isFinished }

    /// Answers with the message that `build` appends, and OK.
    package func reply(_ build: (inout ByteBuffer) -> Void) {
        if stream.send(build) {
            stream.finish(.ok)
        } else {
            stream.finish(GRPCStatus(.resourceExhausted, "the response exceeds the message limit"))
        }
    }

    /// Answers with `message` and OK.
    package func reply(_ message: Bytes) { reply { $0.append(message) } }

    package func fail(_ status: GRPCStatus, trailers: GRPCMetadata = GRPCMetadata()) {
        stream.finish(status, trailers: trailers)
    }
}

/// Collects the request of a unary call; it counts when the client has ended.
private final class UnaryHandler: GRPCStreamHandler {
    private let call: GRPCUnaryCall
    private var body: ((ByteView, GRPCUnaryCall) -> Void)?
    private var request: Bytes?

    init(_ call: GRPCUnaryCall, _ body: @escaping (ByteView, GRPCUnaryCall) -> Void) {
        self.call = call
        self.body = body
    }

    func received(_ message: ByteView) {
        guard request == nil else {
            call.fail(GRPCStatus(.unimplemented, "a unary method takes one message"))
            return
        }
        request = message.bytes
    }

    func receivedEnd() {
        guard let request, let body else {
            call.fail(GRPCStatus(.unimplemented, "a unary method needs a message"))
            return
        }
        self.body = nil
        request.withUnsafeBytes { body($0, call) }
    }

    func closed(_ status: GRPCStatus) { body = nil }
}

/// Hears the end of calls that were refused before they had a handler.
final class NoHandler: GRPCStreamHandler {
    func received(_ message: ByteView) {}
    func closed(_ status: GRPCStatus) {}
}
