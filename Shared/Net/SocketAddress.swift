import Base
import CSystem
import Glibc

/// Where a socket listens or connects: `127.0.0.1:6379`, `[::1]:6379`, `unix:/path`, or `name:6379`.
package enum SocketAddress: Hashable, Sendable, CustomStringConvertible {
    case ipv4(address: UInt32, port: UInt16)
    case ipv6(high: UInt64, low: UInt64, port: UInt16)
    case unix(path: String)
    /// A host name, resolved anew for every connection.
    case name(String, port: UInt16)

    /// The longest path of a Unix socket, without its terminating zero.
    package static let maximumPathLength = MemoryLayout.size(ofValue: sockaddr_un().sun_path) - 1

    package init(parsing text: String) throws(DatabaseError) {
        if text.hasPrefix("unix:") {
            let path = String(text.dropFirst(5))
            guard !path.isEmpty, !path.utf8.contains(0) else {
                throw DatabaseError(.invalidArgument, "the address '\(text)' has no path")
            }
            guard path.utf8.count <= Self.maximumPathLength else {
                throw DatabaseError(
                    .invalidArgument,
                    "the path of a Unix socket has at most \(Self.maximumPathLength) bytes: '\(path)'")
            }
            self = .unix(path: path)
            return
        }
        guard let colon = text.lastIndex(of: ":"), let port = Self.port(text[text.index(after: colon)...]) else {
            throw DatabaseError(
                .invalidArgument,
                "'\(text)' is not an address: write 127.0.0.1:6379, [::1]:6379, name:6379 or unix:/path")
        }
        let host = text[..<colon]
        if host.hasPrefix("["), host.hasSuffix("]") {
            var raw = in6_addr()
            guard inet_pton(AF_INET6, String(host.dropFirst().dropLast()), &raw) == 1 else {
                throw DatabaseError(.invalidArgument, "'\(host)' is not an IPv6 address")
            }
            self = Self.ipv6(raw, port: port)
            return
        }
        var raw = in_addr()
        if inet_pton(AF_INET, String(host), &raw) == 1 {
            self = .ipv4(address: UInt32(bigEndian: raw.s_addr), port: port)
            return
        }
        guard Self.isName(host) else {
            throw DatabaseError(.invalidArgument, "'\(host)' is neither an address nor a host name")
        }
        self = .name(String(host), port: port)
    }

    private static func port(_ text: Substring) -> UInt16? {
        guard !text.isEmpty, text.utf8.allSatisfy({ $0 >= 48 && $0 <= 57 }) else { return nil }
        return UInt16(text)
    }

    private static func isName(_ text: Substring) -> Bool {
        guard !text.isEmpty, text.utf8.count <= 253 else { return false }
        // All digits and dots would be a mistyped IPv4 address.
        guard !text.utf8.allSatisfy({ $0 == 46 || ($0 >= 48 && $0 <= 57) }) else { return false }
        return text.utf8.allSatisfy { byte in
            switch byte {
            case 48...57, 65...90, 97...122, 45, 46, 95: true
            default: false
            }
        }
    }

    private static func ipv6(_ raw: in6_addr, port: UInt16) -> SocketAddress {
        var raw = raw
        return withUnsafeBytes(of: &raw) { bytes in
            let high = UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 0, as: UInt64.self))
            let low = UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
            return .ipv6(high: high, low: low, port: port)
        }
    }

    /// The port, or nil for a Unix socket.
    package var port: UInt16? {
        switch self {
        case .ipv4(_, let port), .ipv6(_, _, let port), .name(_, let port): port
        case .unix: nil
        }
    }

    /// True if the address reaches only this machine.
    package var isLocal: Bool {
        switch self {
        case .ipv4(let address, _): address >> 24 == 127
        case .ipv6(let high, let low, _): high == 0 && low == 1
        case .unix: true
        case .name(let name, _): name == "localhost"
        }
    }

    /// The host as TLS verifies it: an address in text form, or the name; nil for a Unix socket.
    package var host: String? {
        switch self {
        case .ipv4(let address, _):
            return (0..<4).map { String(address >> (24 - UInt32($0) * 8) & 0xff) }.joined(separator: ".")
        case .ipv6(let high, let low, _):
            var raw = (high.bigEndian, low.bigEndian)
            var text = [CChar](repeating: 0, count: 64)
            guard inet_ntop(AF_INET6, &raw, &text, socklen_t(text.count)) != nil else { return nil }
            return String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        case .unix: return nil
        case .name(let name, _): return name
        }
    }

    package var description: String {
        switch self {
        case .ipv4(_, let port): "\(host ?? ""):\(port)"
        case .ipv6(_, _, let port): "[\(host ?? "")]:\(port)"
        case .unix(let path): "unix:\(path)"
        case .name(let name, let port): "\(name):\(port)"
        }
    }

    // MARK: The kernel's form

    var family: Int32 {
        switch self {
        case .ipv4: AF_INET
        case .ipv6: AF_INET6
        case .unix: AF_UNIX
        case .name: AF_UNSPEC
        }
    }

    /// Calls `body` with the address as `sockaddr`; a name must be resolved first and gives `AF_UNSPEC`.
    func withSocketAddress<Result>(_ body: (UnsafePointer<sockaddr>, socklen_t) -> Result) -> Result {
        var storage = sockaddr_storage()
        return withUnsafeMutableBytes(of: &storage) { raw in
            let length = fill(raw)
            return raw.withMemoryRebound(to: sockaddr.self) { pointer in
                guard let base = pointer.baseAddress else { preconditionFailure("sockaddr_storage has an address") }
                return body(UnsafePointer(base), socklen_t(length))
            }
        }
    }

    private func fill(_ raw: UnsafeMutableRawBufferPointer) -> Int {
        switch self {
        case .ipv4(let address, let port):
            var value = sockaddr_in()
            value.sin_family = sa_family_t(AF_INET)
            value.sin_port = port.bigEndian
            value.sin_addr = in_addr(s_addr: address.bigEndian)
            raw.storeBytes(of: value, as: sockaddr_in.self)
            return MemoryLayout<sockaddr_in>.size
        case .ipv6(let high, let low, let port):
            var value = sockaddr_in6()
            value.sin6_family = sa_family_t(AF_INET6)
            value.sin6_port = port.bigEndian
            raw.storeBytes(of: value, as: sockaddr_in6.self)
            let offset = MemoryLayout<sockaddr_in6>.offset(of: \.sin6_addr) ?? 8
            raw.storeBytes(of: high.bigEndian, toByteOffset: offset, as: UInt64.self)
            raw.storeBytes(of: low.bigEndian, toByteOffset: offset + 8, as: UInt64.self)
            return MemoryLayout<sockaddr_in6>.size
        case .unix(let path):
            raw.storeBytes(of: sa_family_t(AF_UNIX), as: sa_family_t.self)
            let bytes = Array(path.utf8.prefix(Self.maximumPathLength))
            let offset = MemoryLayout<sa_family_t>.size
            UnsafeMutableRawBufferPointer(rebasing: raw[offset..<offset + bytes.count]).copyBytes(from: bytes)
            return offset + bytes.count + 1
        case .name:
            return MemoryLayout<sa_family_t>.size
        }
    }

    /// From the kernel's form; a Unix client without a name is `unix:`.
    init(_ storage: sockaddr_storage, length: socklen_t) {
        let family = Int32(storage.ss_family)
        self = withUnsafeBytes(of: storage) { raw in
            switch family {
            case AF_INET:
                let value = raw.loadUnaligned(as: sockaddr_in.self)
                return .ipv4(address: UInt32(bigEndian: value.sin_addr.s_addr), port: UInt16(bigEndian: value.sin_port))
            case AF_INET6:
                let value = raw.loadUnaligned(as: sockaddr_in6.self)
                return Self.ipv6(value.sin6_addr, port: UInt16(bigEndian: value.sin6_port))
            default:
                let offset = MemoryLayout<sa_family_t>.size
                let path = raw[min(offset, Int(length))..<min(Int(length), raw.count)].prefix { $0 != 0 }
                return .unix(path: String(decoding: path, as: UTF8.self))
            }
        }
    }
}
