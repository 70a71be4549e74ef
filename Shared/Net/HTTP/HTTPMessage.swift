import Base

/// A header field; names are compared without case and kept in lower case.
package struct HTTPField: Hashable, Sendable {
    package let name: String
    package let value: String

    package init(_ name: String, _ value: String) {
        self.name = name
        self.value = value
    }
}

/// A request as a route sees it.
package struct HTTPRequest: Hashable, Sendable {
    package var method: String
    /// The part of the target before `?`, percent-encoded as it came.
    package var path: String
    package var query: String?
    package var fields: [HTTPField]
    package var body: Bytes
    package var peer: PeerIdentity

    /// The first field of that name (in lower case).
    package func field(_ name: String) -> String? { fields.first { $0.name == name }?.value }
}

/// An answer.
package struct HTTPResponse: Hashable, Sendable {
    package var status: Int
    package var fields: [HTTPField]
    package var body: Bytes

    package init(status: Int = 200, fields: [HTTPField] = [], body: Bytes = []) {
        self.status = status
        self.fields = fields
        self.body = body
    }

    /// Text in UTF-8.
    package init(status: Int = 200, text: String, contentType: String = "text/plain; charset=utf-8") {
        self.init(status: status, fields: [HTTPField("content-type", contentType)], body: Array(text.utf8))
    }

    /// The first field of that name (in lower case).
    package func field(_ name: String) -> String? { fields.first { $0.name == name }?.value }

    /// The reason phrase of the codes that Orbit sends.
    static func phrase(_ status: Int) -> StaticString {
        switch status {
        case 200: "OK"
        case 201: "Created"
        case 202: "Accepted"
        case 204: "No Content"
        case 400: "Bad Request"
        case 401: "Unauthorized"
        case 403: "Forbidden"
        case 404: "Not Found"
        case 405: "Method Not Allowed"
        case 408: "Request Timeout"
        case 409: "Conflict"
        case 413: "Content Too Large"
        case 429: "Too Many Requests"
        case 431: "Request Header Fields Too Large"
        case 500: "Internal Server Error"
        case 501: "Not Implemented"
        case 503: "Service Unavailable"
        default: "Status"
        }
    }

    /// The wire form. The length is always given, so that the connection may live on; HEAD gets it without the body.
    func encode(into output: inout ByteBuffer, keepsAlive: Bool, isHead: Bool) {
        output.append("HTTP/1.1 ")
        output.append(decimal: Int64(status))
        output.append(" ")
        output.append(Self.phrase(status))
        output.append("\r\n")
        for field in fields {
            output.append(text: field.name)
            output.append(": ")
            // A line break in a value would end the header: the rest of such a value is dropped.
            output.append(text: String(field.value.prefix { $0 != "\r" && $0 != "\n" && $0 != "\r\n" }))
            output.append("\r\n")
        }
        output.append("content-length: ")
        output.append(decimal: Int64(body.count))
        output.append(keepsAlive ? "\r\n\r\n" : "\r\nconnection: close\r\n\r\n")
        if !isHead { output.append(body) }
    }
}
