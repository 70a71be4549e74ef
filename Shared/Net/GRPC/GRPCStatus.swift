import Base

/// How a call ended: the codes of the gRPC specification and a message for people.
package struct GRPCStatus: Error, Hashable, Sendable, CustomStringConvertible {
    /// The numbers are the wire form.
    package enum Code: UInt8, CaseIterable, Hashable, Sendable {
        case ok = 0, cancelled, unknown, invalidArgument, deadlineExceeded, notFound, alreadyExists, permissionDenied
        case resourceExhausted, failedPrecondition, aborted, outOfRange, unimplemented, internalError, unavailable
        case dataLoss, unauthenticated
    }

    package let code: Code
    package let message: String

    package init(_ code: Code, _ message: String = "") {
        self.code = code
        self.message = message
    }

    package static let ok = GRPCStatus(.ok)

    package var isOK: Bool { code == .ok }

    package var description: String { message.isEmpty ? "\(code)" : "\(code): \(message)" }
}

extension GRPCStatus {
    /// The catalog's gRPC column.
    package init(_ error: DatabaseError) {
        self.init(Code(rawValue: error.code.row.grpc) ?? .unknown, error.message)
    }

    /// What a stream that ended without a status means (gRPC over HTTP/2, "HTTP2 Transport Mapping").
    init(streamClosed code: HTTP2ErrorCode) {
        switch code {
        case .refusedStream: self.init(.unavailable, "the peer refused the stream before working on it")
        case .cancel: self.init(.cancelled, "the peer cancelled the call")
        case .enhanceYourCalm: self.init(.resourceExhausted, "the peer asks for less")
        case .inadequateSecurity: self.init(.permissionDenied, "the peer asks for more security")
        case .connectError: self.init(.unavailable, "the connection was lost")
        default: self.init(.internalError, "the stream ended with HTTP/2 error \(code.rawValue) and no status")
        }
    }

    /// What an answer of something that does not speak gRPC (a proxy) means (http-grpc-status-mapping).
    init(httpStatus: String) {
        let code: Code =
            switch httpStatus {
            case "400": .internalError
            case "401": .unauthenticated
            case "403": .permissionDenied
            case "404": .unimplemented
            case "429", "502", "503", "504": .unavailable
            default: .unknown
            }
        self.init(code, "the peer answered with HTTP status \(httpStatus)")
    }
}

/// The `grpc-message` encoding: printable ASCII stays, everything else and `%` becomes `%XX` of its UTF-8.
package enum PercentEncoding {
    private static let digits: StaticString = "0123456789ABCDEF"

    /// At most `limit` bytes of text are kept, so that a long message cannot exceed the peer's header limit.
    package static func encode(_ text: String, limit: Int = 2048) -> Bytes {
        var result: Bytes = []
        for byte in text.utf8.prefix(limit) {
            if (0x20...0x7e).contains(byte), byte != UInt8(ascii: "%") {
                result.append(byte)
            } else {
                result.append(UInt8(ascii: "%"))
                result.append(digits.utf8Start[Int(byte >> 4)])
                result.append(digits.utf8Start[Int(byte & 15)])
            }
        }
        return result
    }

    /// What is no valid escape stays as it is: a broken message is still worth reading.
    package static func decode(_ bytes: Bytes) -> String {
        var result: Bytes = []
        var index = 0
        while index < bytes.count {
            if bytes[index] == UInt8(ascii: "%"), index + 2 < bytes.count, let high = nibble(bytes[index + 1]),
                let low = nibble(bytes[index + 2])
            {
                result.append(high << 4 | low)
                index += 3
            } else {
                result.append(bytes[index])
                index += 1
            }
        }
        return String(decoding: result, as: UTF8.self)
    }

    private static func nibble(_ byte: UInt8) -> UInt8? {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
        case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
        case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
        default: nil
        }
    }
}

/// The `grpc-timeout` header: up to eight digits and a unit.
package enum GRPCTimeout {
    private static let units: [(letter: Character, nanoseconds: UInt64)] = [
        ("n", 1), ("u", 1_000), ("m", 1_000_000), ("S", 1_000_000_000), ("M", 60_000_000_000),
        ("H", 3_600_000_000_000),
    ]

    /// The finest unit that fits, rounded up: a call is never given less time than its caller waits.
    package static func encode(_ nanoseconds: UInt64) -> String {
        for (letter, unit) in units {
            let count = nanoseconds / unit + (nanoseconds % unit == 0 ? 0 : 1)
            if count < 100_000_000 { return "\(count)\(letter)" }
        }
        return "99999999H"
    }

    /// Nanoseconds, or nil when the text is not a timeout. Saturates instead of overflowing.
    package static func decode(_ text: String) -> UInt64? {
        guard let letter = text.last, text.utf8.count <= 9 else { return nil }
        let digits = text.dropLast()
        guard !digits.isEmpty, digits.utf8.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }),
            let count = UInt64(digits), let unit = units.first(where: { $0.letter == letter })?.nanoseconds
        else { return nil }
        let (product, overflow) = count.multipliedReportingOverflow(by: unit)
        return overflow ? .max : product
    }
}
