import Base
import CSystem
import Crypto
import Glibc

/// The limits of a listener.
package struct ListenerLimits: Hashable, Sendable {
    /// Connections at the same time, those in the TLS handshake included; one more is refused.
    package var maximumConnections = 10_000
    /// What a refused client is told (without TLS only), in the words of its protocol.
    package var refusal: Bytes = []
    package var backlog: Int32 = 4096
    /// Several loops may listen on the same port; the kernel spreads the connections.
    package var reusesPort = false
    package var connection = ConnectionOptions()

    package init() {}
}

/// Accepts connections on one address.
///
/// A Unix socket is made for its owner only, and its file is removed at `close`. A file left behind by a dead process
/// is replaced; one that a process still answers on is an address in use. Without descriptors (EMFILE) accepting
/// pauses for 100 ms: the clients wait in the kernel's queue instead of the loop spinning on a listener that stays
/// readable.
package final class Listener: EventSource {
    private static let acceptsPerTick = 64
    private static let backOffMilliseconds = 100

    package let loop: EventLoop
    /// The address in effect: the port chosen by the kernel where 0 was asked for.
    package let boundAddress: SocketAddress
    package let limits: ListenerLimits
    /// Connections alive now.
    package private(set) var connectionCount = 0
    package private(set) var acceptedTotal: UInt64 = 0
    package private(set) var refusedTotal: UInt64 = 0
    package private(set) var handshakeFailuresTotal: UInt64 = 0
    /// Told when accepting had to back off; for the log.
    package var onTrouble: ((SystemError) -> Void)?

    private let tls: TLSContext?
    private var onConnection: ((Connection) -> Void)?
    private var fd: Int32
    private var isStarted = false
    private var backOff: LoopTimer?
    /// The identity of our socket file, so that `close` does not remove a successor's.
    private var socketFile: (device: dev_t, inode: ino_t)?

    /// Binds and listens; connections are taken from `start` on. `onConnection` sets the handler of a new connection,
    /// which is past its TLS handshake.
    package init(
        loop: EventLoop, address: SocketAddress, tls: TLSContext? = nil, limits: ListenerLimits = ListenerLimits(),
        onConnection: @escaping (Connection) -> Void
    ) throws(NetError) {
        self.loop = loop
        self.tls = tls
        self.limits = limits
        self.onConnection = onConnection
        let concrete = try Self.resolved(address)
        do throws(SystemError) {
            fd = try Socket.make(family: concrete.family)
        } catch {
            throw .system(error)
        }
        do throws(NetError) {
            try Self.bind(fd, concrete, reusesPort: limits.reusesPort)
            guard listen(fd, limits.backlog) == 0 else {
                throw errno == EADDRINUSE ? .addressInUse(address) : .system(SystemError("listen on \(address)"))
            }
        } catch {
            Glibc.close(fd)
            throw error
        }
        boundAddress = Socket.localAddress(fd) ?? concrete
        if case .unix(let path) = concrete {
            var status = stat()
            if lstat(path, &status) == 0 { socketFile = (status.st_dev, status.st_ino) }
        }
    }

    deinit {
        if fd >= 0 { Glibc.close(fd) }
    }

    private static func resolved(_ address: SocketAddress) throws(NetError) -> SocketAddress {
        guard case .name(let name, let port) = address else { return address }
        switch Socket.resolve(name, port: port) {
        case .success(let found):
            // IPv4 first: `localhost` is what clients mean by 127.0.0.1.
            return found.first { $0.family == AF_INET } ?? found[0]
        case .failure(let error): throw error
        }
    }

    private static func bind(_ fd: Int32, _ address: SocketAddress, reusesPort: Bool) throws(NetError) {
        if case .unix(let path) = address {
            // The mode of the socket is the mode of the file that bind makes: owner-only without touching the umask.
            guard fchmod(fd, 0o600) == 0 else { throw .system(SystemError("fchmod")) }
            if tryBind(fd, address) { return }
            guard errno == EADDRINUSE else { throw .system(SystemError("bind \(address)")) }
            guard removeStaleSocket(path, address) else { throw .addressInUse(address) }
            guard tryBind(fd, address) else {
                throw errno == EADDRINUSE ? .addressInUse(address) : .system(SystemError("bind \(address)"))
            }
            return
        }
        Socket.set(fd, SOL_SOCKET, SO_REUSEADDR, 1)
        if reusesPort { Socket.set(fd, SOL_SOCKET, SO_REUSEPORT, 1) }
        if case .ipv6 = address { Socket.set(fd, Int32(IPPROTO_IPV6), IPV6_V6ONLY, 1) }
        guard tryBind(fd, address) else {
            throw errno == EADDRINUSE ? .addressInUse(address) : .system(SystemError("bind \(address)"))
        }
    }

    private static func tryBind(_ fd: Int32, _ address: SocketAddress) -> Bool {
        address.withSocketAddress { Glibc.bind(fd, $0, $1) == 0 }
    }

    /// Removes a socket file on which nobody answers; false if somebody does, or if it is no socket.
    private static func removeStaleSocket(_ path: String, _ address: SocketAddress) -> Bool {
        var status = stat()
        guard lstat(path, &status) == 0 else { return errno == ENOENT }
        guard status.st_mode & S_IFMT == S_IFSOCK else { return false }
        guard let probe = try? Socket.make(family: AF_UNIX) else { return false }
        defer { Glibc.close(probe) }
        let answered = address.withSocketAddress { connect(probe, $0, $1) == 0 }
        guard !answered, errno == ECONNREFUSED else { return false }
        return unlink(path) == 0 || errno == ENOENT
    }

    /// Begins to accept; on the loop's thread.
    package func start() throws(SystemError) {
        guard !isStarted, fd >= 0 else { return }
        try loop.register(fd: fd, interest: .readable, source: self)
        isStarted = true
    }

    /// Stops accepting and gives the address up; accepted connections live on.
    package func close() {
        guard fd >= 0 else { return }
        if isStarted { loop.deregister(fd: fd) }
        backOff?.cancel()
        removeSocketFile()
        Glibc.close(fd)
        fd = -1
        onConnection = nil
    }

    private func removeSocketFile() {
        guard case .unix(let path) = boundAddress, let socketFile else { return }
        var status = stat()
        guard lstat(path, &status) == 0, status.st_dev == socketFile.device, status.st_ino == socketFile.inode else {
            return
        }
        unlink(path)
    }

    package func ready(_ events: IOEvents) {
        for _ in 0..<Self.acceptsPerTick {
            guard fd >= 0 else { return }
            var storage = sockaddr_storage()
            var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
            let accepted = withUnsafeMutablePointer(to: &storage) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { orbit_accept(fd, $0, &length) }
            }
            guard accepted >= 0 else {
                acceptFailed(errno)
                return
            }
            take(accepted, SocketAddress(storage, length: length))
        }
    }

    private func acceptFailed(_ code: Int32) {
        switch code {
        case EMFILE, ENFILE, ENOBUFS, ENOMEM:
            pause(SystemError("accept on \(boundAddress)", code: code))
        default:
            break  // EAGAIN: done. Others are the fate of one client (ECONNABORTED, network errors).
        }
    }

    private func pause(_ error: SystemError) {
        guard backOff == nil else { return }
        loop.modify(fd: fd, interest: [])
        backOff = loop.schedule(afterMilliseconds: Self.backOffMilliseconds) { [self] in
            backOff = nil
            if fd >= 0 { loop.modify(fd: fd, interest: .readable) }
        }
        onTrouble?(error)
    }

    private func take(_ accepted: Int32, _ address: SocketAddress) {
        guard connectionCount < limits.maximumConnections else {
            refuse(accepted)
            return
        }
        Socket.tune(accepted, address, stallMilliseconds: limits.connection.stallMilliseconds)
        var engine: TLSEngine?
        if let tls {
            guard let made = try? tls.makeEngine() else {
                refuse(accepted)
                return
            }
            engine = made
        }
        let connection: Connection
        do throws(SystemError) {
            connection = try Connection(
                loop: loop, fd: accepted, remoteAddress: address, options: limits.connection, engine: engine)
        } catch {
            refusedTotal += 1
            return
        }
        connectionCount += 1
        acceptedTotal += 1
        connection.onClosed = { [self] in connectionCount -= 1 }
        guard engine != nil else {
            onConnection?(connection)
            return
        }
        connection.handshakeEnded = { [self] failure in
            if failure != nil {
                handshakeFailuresTotal += 1
            } else if let onConnection {
                onConnection(connection)
            } else {
                connection.close()
            }
        }
    }

    private func refuse(_ accepted: Int32) {
        refusedTotal += 1
        if tls == nil, !limits.refusal.isEmpty {
            _ = limits.refusal.withUnsafeBytes {
                send(accepted, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL | MSG_DONTWAIT))
            }
        }
        Glibc.close(accepted)
    }
}
