import Base
import CSystem
import Crypto
import Glibc

/// The socket calls that listeners and connectors share.
enum Socket {
    /// A non-blocking, close-on-exec stream socket.
    static func make(family: Int32) throws(SystemError) -> Int32 {
        let type = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_NONBLOCK.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
        let fd = socket(family, type, 0)
        guard fd >= 0 else { throw SystemError("socket") }
        return fd
    }

    @discardableResult
    static func set(_ fd: Int32, _ level: Int32, _ option: Int32, _ value: Int32) -> Bool {
        var value = value
        return setsockopt(fd, level, option, &value, socklen_t(MemoryLayout<Int32>.size)) == 0
    }

    /// What every connection gets: no delay for small writes, and a kernel that notices a peer which is gone.
    static func tune(_ fd: Int32, _ address: SocketAddress, stallMilliseconds: Int) {
        if case .unix = address { return }
        set(fd, Int32(IPPROTO_TCP), TCP_NODELAY, 1)
        set(fd, SOL_SOCKET, SO_KEEPALIVE, 1)
        set(fd, Int32(IPPROTO_TCP), TCP_KEEPIDLE, 60)
        set(fd, Int32(IPPROTO_TCP), TCP_KEEPINTVL, 15)
        set(fd, Int32(IPPROTO_TCP), TCP_KEEPCNT, 4)
        set(fd, Int32(IPPROTO_TCP), TCP_USER_TIMEOUT, Int32(clamping: stallMilliseconds))
    }

    /// Closing it will drop what the kernel has not delivered, and reset the connection.
    static func discardUnsent(_ fd: Int32) {
        var option = linger(l_onoff: 1, l_linger: 0)
        _ = setsockopt(fd, SOL_SOCKET, SO_LINGER, &option, socklen_t(MemoryLayout<linger>.size))
    }

    /// The error the kernel holds for a socket.
    static func pendingError(_ fd: Int32) -> SystemError {
        var code: Int32 = 0
        var length = socklen_t(MemoryLayout<Int32>.size)
        guard getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &length) == 0 else { return SystemError("getsockopt") }
        return SystemError("socket", code: code == 0 ? ECONNRESET : code)
    }

    static func localAddress(_ fd: Int32) -> SocketAddress? {
        var storage = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let result = withUnsafeMutablePointer(to: &storage) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(fd, $0, &length) }
        }
        return result == 0 ? SocketAddress(storage, length: length) : nil
    }

    /// The addresses of a host name. Blocks: not on a loop's thread.
    static func resolve(_ name: String, port: UInt16) -> Result<[SocketAddress], NetError> {
        var hints = addrinfo()
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        var list: UnsafeMutablePointer<addrinfo>?
        let code = getaddrinfo(name, nil, &hints, &list)
        guard code == 0 else { return .failure(.resolution("\(name): \(String(cString: gai_strerror(code)))")) }
        defer { freeaddrinfo(list) }
        var found: [SocketAddress] = []
        var next = list
        while let entry = next?.pointee {
            next = entry.ai_next
            guard let address = entry.ai_addr, Int(entry.ai_addrlen) <= MemoryLayout<sockaddr_storage>.size else {
                continue
            }
            var storage = sockaddr_storage()
            withUnsafeMutableBytes(of: &storage) {
                $0.copyMemory(from: UnsafeRawBufferPointer(start: address, count: Int(entry.ai_addrlen)))
            }
            switch SocketAddress(storage, length: entry.ai_addrlen) {
            case .ipv4(let raw, _): found.append(.ipv4(address: raw, port: port))
            case .ipv6(let high, let low, _): found.append(.ipv6(high: high, low: low, port: port))
            case .unix, .name: break
            }
        }
        return found.isEmpty ? .failure(.resolution("\(name): no address")) : .success(found)
    }
}

/// Why a listener or a connection could not be made.
package enum NetError: Error, Hashable, Sendable, CustomStringConvertible {
    case system(SystemError)
    /// Somebody else listens there.
    case addressInUse(SocketAddress)
    case resolution(String)
    case timedOut(SocketAddress)
    case cancelled
    case tls(CryptoError)
    /// The peer closed the connection before it was of use.
    case closed(CloseReason)

    package var description: String {
        switch self {
        case .system(let error): "\(error)"
        case .addressInUse(let address): "the address \(address) is in use by another process"
        case .resolution(let text): text
        case .timedOut(let address): "no answer from \(address) in time"
        case .cancelled: "cancelled"
        case .tls(let error): "\(error)"
        case .closed(let reason): "connection closed: \(reason)"
        }
    }
}
