import Base
import Crypto

/// Why a request got no answer.
package enum HTTPError: Error, Hashable, Sendable, CustomStringConvertible {
    case connect(NetError)
    /// Nothing complete came within the time given.
    case timedOut
    /// What came is not HTTP, or is larger than allowed.
    case malformed(String)
    case closed(CloseReason)

    package var description: String {
        switch self {
        case .connect(let error): "\(error)"
        case .timedOut: "no answer in time"
        case .malformed(let reason): "not an HTTP answer: \(reason)"
        case .closed(let reason): "closed before the answer was complete: \(reason)"
        }
    }
}

/// A small HTTP/1.1 client: one request, one connection.
package enum HTTPClient {
    /// The largest answer that is taken.
    package static let bodyLimit = 64 << 20

    /// GET, from any executor.
    package static func get(
        loop: EventLoop, _ address: SocketAddress, _ path: String, tls: TLSContext? = nil,
        timeoutMilliseconds: Int = 5_000
    ) async throws(HTTPError) -> HTTPResponse {
        try await request(
            loop: loop, address, path, method: "GET", body: [], tls: tls, timeoutMilliseconds: timeoutMilliseconds)
    }

    /// Any method, from any executor.
    package static func request(
        loop: EventLoop, _ address: SocketAddress, _ path: String, method: String, body: Bytes,
        tls: TLSContext? = nil, timeoutMilliseconds: Int = 5_000
    ) async throws(HTTPError) -> HTTPResponse {
        let result: Result<HTTPResponse, HTTPError> = await withCheckedContinuation { continuation in
            loop.execute {
                send(
                    loop: loop, address, path, method: method, body: body, tls: tls,
                    timeoutMilliseconds: timeoutMilliseconds
                ) { continuation.resume(returning: $0) }
            }
        }
        return try result.get()
    }

    /// Any method, on the loop's thread; `completion` is called once, later.
    package static func send(
        loop: EventLoop, _ address: SocketAddress, _ path: String, method: String = "GET", body: Bytes = [],
        tls: TLSContext? = nil, timeoutMilliseconds: Int = 5_000,
        completion: @escaping (Result<HTTPResponse, HTTPError>) -> Void
    ) {
        let deadline = loop.now + UInt64(max(timeoutMilliseconds, 1)) * 1_000_000
        Connector.connect(loop: loop, to: address, tls: tls, timeoutMilliseconds: timeoutMilliseconds) { result in
            switch result {
            case .failure(.timedOut): completion(.failure(.timedOut))
            case .failure(let error): completion(.failure(.connect(error)))
            case .success(let connection):
                let left = deadline > loop.now ? Int((deadline - loop.now) / 1_000_000) : 1
                let exchange = HTTPExchange(isHead: method == "HEAD", completion: completion)
                connection.handler = exchange
                connection.setDeadline(afterMilliseconds: left)
                encode(method, path, host: address, body, into: &connection.output)
                connection.setNeedsFlush()
            }
        }
    }

    private static func encode(
        _ method: String, _ path: String, host: SocketAddress, _ body: Bytes, into output: inout ByteBuffer
    ) {
        let host = if case .unix = host { "localhost" } else { "\(host)" }
        output.append(text: "\(method) \(path) HTTP/1.1\r\nhost: \(host)\r\nconnection: close\r\n")
        if !body.isEmpty || method != "GET" { output.append(text: "content-length: \(body.count)\r\n") }
        output.append("\r\n")
        output.append(body)
    }
}

/// One request on its way to an answer.
private final class HTTPExchange: ConnectionHandler {
    private let parser: HTTPParser
    private var completion: ((Result<HTTPResponse, HTTPError>) -> Void)?

    init(isHead: Bool, completion: @escaping (Result<HTTPResponse, HTTPError>) -> Void) {
        parser = HTTPParser(.response, bodyLimit: HTTPClient.bodyLimit, expectsBody: !isHead)
        self.completion = completion
    }

    func received(_ connection: Connection, _ input: inout ByteBuffer) {
        while !input.isEmpty, completion != nil {
            let outcome = parser.parse(&input)
            // 100 Continue and its like precede the answer.
            if case .message = outcome, (100..<200).contains(parser.status) { continue }
            if settle(connection, outcome) { return }
        }
    }

    func inputEnded(_ connection: Connection) {
        // An answer without a length ends with the connection.
        guard case .message = parser.end(), settle(connection, .message) else {
            end(connection, .failure(.closed(.endOfStream)))
            return
        }
    }

    func deadlineReached(_ connection: Connection) { end(connection, .failure(.timedOut)) }

    func closed(_ connection: Connection, _ reason: CloseReason) { end(connection, .failure(.closed(reason))) }

    private func settle(_ connection: Connection, _ outcome: HTTPParser.Outcome) -> Bool {
        switch outcome {
        case .incomplete: return false
        case .message:
            let response = HTTPResponse(status: parser.status, fields: parser.fields, body: parser.body)
            end(connection, .success(response))
        case .failed(_, let reason): end(connection, .failure(.malformed(reason)))
        }
        return true
    }

    private func end(_ connection: Connection, _ result: Result<HTTPResponse, HTTPError>) {
        let completion = completion
        self.completion = nil
        connection.close()
        completion?(result)
    }
}
