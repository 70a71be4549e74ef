import Base
import Crypto

/// The limits of an HTTP server.
package struct HTTPLimits: Hashable, Sendable {
    package var bodyLimit = 64 << 10
    /// From the connection's begin, or from the last answer, until the next request is complete.
    package var idleMilliseconds = 30_000
    /// From a request until its route answers; then the client gets 503.
    package var answerMilliseconds = 30_000
    package var listener = ListenerLimits()

    package init() {
        listener.maximumConnections = 256
        listener.connection.outputLimit = 64 << 20
    }
}

/// An HTTP/1.1 server for administration: probes, metrics, a few commands. Small bodies, keep-alive, exact paths.
///
/// Requests of one connection are answered in order, one at a time: while a route has not answered, the connection is
/// not read. HEAD is answered wherever GET is.
package final class HTTPServer {
    /// The place for the answer; may be kept and answered later, on the loop, once.
    package final class Reply {
        private var connection: HTTPServerConnection?

        init(_ connection: HTTPServerConnection) { self.connection = connection }

        /// Sends the answer. A second answer, or one after the client left, is dropped.
        package func send(_ response: HTTPResponse) {
            connection?.answer(response, for: self)
            connection = nil
        }
    }

    package typealias Route = (HTTPRequest, Reply) -> Void

    let limits: HTTPLimits
    private var listener: Listener?
    private var routes: [String: [String: Route]] = [:]

    /// Binds the address; serves from `start` on.
    package init(
        loop: EventLoop, address: SocketAddress, tls: TLSContext? = nil, limits: HTTPLimits = HTTPLimits()
    ) throws(NetError) {
        self.limits = limits
        listener = try Listener(loop: loop, address: address, tls: tls, limits: limits.listener) { [self] connection in
            HTTPServerConnection(server: self).attach(connection)
        }
    }

    package var boundAddress: SocketAddress? { listener?.boundAddress }

    /// Answers `path` (exact, without query) with what `body` returns.
    package func route(_ path: String, method: String = "GET", _ body: @escaping (HTTPRequest) -> HTTPResponse) {
        routes[path, default: [:]][method] = { request, reply in reply.send(body(request)) }
    }

    /// Answers `path` when `body` gets round to it.
    package func routeLater(_ path: String, method: String = "GET", _ body: @escaping Route) {
        routes[path, default: [:]][method] = body
    }

    package func start() throws(SystemError) { try listener?.start() }

    /// Stops accepting and lets go of the routes; open connections end after their answer.
    package func close() {
        listener?.close()
        listener = nil
        routes = [:]
    }

    var isClosed: Bool { listener == nil }

    func handle(_ request: HTTPRequest, _ reply: Reply) {
        guard let methods = routes[request.path] else {
            reply.send(HTTPResponse(status: 404, text: "no such path\n"))
            return
        }
        if let route = methods[request.method] ?? (request.method == "HEAD" ? methods["GET"] : nil) {
            route(request, reply)
            return
        }
        var allowed = methods.keys.sorted()
        if methods["GET"] != nil { allowed.append("HEAD") }
        var response = HTTPResponse(status: 405, text: "method not allowed\n")
        response.fields.append(HTTPField("allow", allowed.joined(separator: ", ")))
        reply.send(response)
    }
}

/// One client of an HTTP server.
final class HTTPServerConnection: ConnectionHandler {
    private let server: HTTPServer
    private let parser: HTTPParser
    private var connection: Connection?
    /// The answer being waited for.
    private var pending: HTTPServer.Reply?
    private var isHead = false

    init(server: HTTPServer) {
        self.server = server
        parser = HTTPParser(.request, bodyLimit: server.limits.bodyLimit)
    }

    func attach(_ connection: Connection) {
        self.connection = connection
        connection.handler = self
        connection.setDeadline(afterMilliseconds: server.limits.idleMilliseconds)
    }

    func received(_ connection: Connection, _ input: inout ByteBuffer) {
        while pending == nil, connection.isOpen, !input.isEmpty {
            switch parser.parse(&input) {
            case .incomplete:
                if parser.expectsContinue {
                    parser.expectsContinue = false
                    connection.output.append("HTTP/1.1 100 Continue\r\n\r\n")
                    connection.setNeedsFlush()
                }
                return
            case .message where parser.lacksHost:
                refuse(connection, HTTPResponse(status: 400, text: "a request needs a host field\n"))
                return
            case .message: dispatch(connection)
            case .failed(let status, let reason):
                refuse(connection, HTTPResponse(status: status, text: reason + "\n"))
                return
            }
        }
    }

    private func dispatch(_ connection: Connection) {
        let reply = HTTPServer.Reply(self)
        pending = reply
        isHead = parser.method == "HEAD"
        let target = parser.target
        let path = target.prefix { $0 != UInt8(ascii: "?") }
        let query = path.count < target.count ? String(decoding: target[(path.count + 1)...], as: UTF8.self) : nil
        let request = HTTPRequest(
            method: parser.method, path: String(decoding: path, as: UTF8.self), query: query, fields: parser.fields,
            body: parser.body, peer: connection.peer)
        connection.setDeadline(afterMilliseconds: server.limits.answerMilliseconds)
        server.handle(request, reply)
        // What else arrives waits in the kernel until the route answers.
        if pending != nil { connection.pauseReading() }
    }

    func answer(_ response: HTTPResponse, for reply: HTTPServer.Reply) {
        guard pending === reply, let connection else { return }
        pending = nil
        guard connection.isOpen else { return }
        let keepsAlive = parser.keepsAlive && !server.isClosed
        response.encode(into: &connection.output, keepsAlive: keepsAlive, isHead: isHead)
        guard keepsAlive else {
            connection.close(afterFlush: true)
            return
        }
        connection.setNeedsFlush()
        connection.setDeadline(afterMilliseconds: server.limits.idleMilliseconds)
        connection.resumeReading()
    }

    private func refuse(_ connection: Connection, _ response: HTTPResponse) {
        response.encode(into: &connection.output, keepsAlive: false, isHead: false)
        connection.close(afterFlush: true)
    }

    func inputEnded(_ connection: Connection) {
        // A client that half-closes after its request still reads the answer; `answer` closes then.
        if pending == nil { connection.close(afterFlush: true) }
    }

    func deadlineReached(_ connection: Connection) {
        if let reply = pending {
            reply.send(HTTPResponse(status: 503, text: "no answer in time\n"))
            connection.close(afterFlush: true)
        } else if parser.isIdle {
            connection.close(reason: .deadline)
        } else {
            refuse(connection, HTTPResponse(status: 408, text: "the request took too long\n"))
        }
    }

    func closed(_ connection: Connection, _ reason: CloseReason) {
        self.connection = nil
        pending = nil
    }
}
