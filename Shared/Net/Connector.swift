import Base
import CSystem
import Crypto
import Glibc

/// Opens connections.
package enum Connector {
    /// Connects to `address`, under TLS when a context is given, and calls `completion` once, on the loop, later:
    /// with a connection that is ready for use and needs a handler, or with the reason. On the loop's thread.
    ///
    /// The certificate of a TLS peer must bear `serverName`; by default the host of the address (a Unix socket has
    /// none, there the authority alone decides).
    @discardableResult
    package static func connect(
        loop: EventLoop, to address: SocketAddress, tls: TLSContext? = nil, serverName: String? = nil,
        timeoutMilliseconds: Int = 5_000, options: ConnectionOptions = ConnectionOptions(),
        completion: @escaping (Result<Connection, NetError>) -> Void
    ) -> PendingConnection {
        let pending = PendingConnection(
            loop: loop, address: address, tls: tls, serverName: serverName ?? address.host, options: options,
            completion: completion)
        pending.start(timeoutMilliseconds: timeoutMilliseconds)
        return pending
    }
}

/// A connection on its way; keep it to be able to cancel.
package final class PendingConnection: EventSource {
    private let loop: EventLoop
    private let address: SocketAddress
    private let tls: TLSContext?
    private let serverName: String?
    private let options: ConnectionOptions
    private var completion: ((Result<Connection, NetError>) -> Void)?
    private var timer: LoopTimer?
    private var fd: Int32 = -1
    /// Addresses of the name still to be tried, last first.
    private var candidates: [SocketAddress] = []
    private var current: SocketAddress
    private var handshaking: Connection?

    fileprivate init(
        loop: EventLoop, address: SocketAddress, tls: TLSContext?, serverName: String?, options: ConnectionOptions,
        completion: @escaping (Result<Connection, NetError>) -> Void
    ) {
        self.loop = loop
        self.address = address
        self.tls = tls
        self.serverName = serverName
        self.options = options
        self.completion = completion
        current = address
    }

    /// Gives up: `completion` is called with `.cancelled`, unless it was called already.
    package func cancel() {
        loop.runLater { [self] in end(.failure(.cancelled)) }
    }

    fileprivate func start(timeoutMilliseconds: Int) {
        timer = loop.schedule(afterMilliseconds: timeoutMilliseconds) { [self] in end(.failure(.timedOut(address))) }
        guard case .name(let name, let port) = address else {
            candidates = [address]
            loop.runLater { [self] in tryNext(nil) }
            return
        }
        let bound = LoopBound(self, loop: loop)
        let loop = loop
        Thread.detach(name: "resolver") {
            let result = Socket.resolve(name, port: port)
            loop.execute { bound.value.resolved(result) }
        }
    }

    private func resolved(_ result: Result<[SocketAddress], NetError>) {
        switch result {
        case .success(let found):
            candidates = found.reversed()
            tryNext(nil)
        case .failure(let error): end(.failure(error))
        }
    }

    private func tryNext(_ failure: NetError?) {
        guard completion != nil else { return }
        guard let next = candidates.popLast() else {
            end(.failure(failure ?? .resolution("\(address): no address")))
            return
        }
        current = next
        do throws(SystemError) {
            fd = try Socket.make(family: next.family)
        } catch {
            tryNext(.system(error))
            return
        }
        let result = next.withSocketAddress { Glibc.connect(fd, $0, $1) }
        if result == 0 {
            connected()
        } else if errno == EINPROGRESS {
            do throws(SystemError) {
                try loop.register(fd: fd, interest: .writable, source: self)
            } catch {
                abandon(error)
            }
        } else {
            abandon(SystemError("connect to \(next)"))
        }
    }

    private func abandon(_ error: SystemError) {
        closeDescriptor()
        tryNext(.system(error))
    }

    private func closeDescriptor() {
        guard fd >= 0 else { return }
        loop.deregister(fd: fd)
        Glibc.close(fd)
        fd = -1
    }

    package func ready(_ events: IOEvents) {
        var code: Int32 = 0
        var length = socklen_t(MemoryLayout<Int32>.size)
        guard getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &length) == 0, code == 0 else {
            abandon(SystemError("connect to \(current)", code: code))
            return
        }
        loop.deregister(fd: fd)
        connected()
    }

    private func connected() {
        Socket.tune(fd, current, stallMilliseconds: options.stallMilliseconds)
        let owned = fd
        fd = -1
        var engine: TLSEngine?
        if let tls {
            do throws(CryptoError) {
                engine = try tls.makeEngine(serverName: serverName)
            } catch {
                Glibc.close(owned)
                end(.failure(.tls(error)))
                return
            }
        }
        do throws(SystemError) {
            let connection = try Connection(
                loop: loop, fd: owned, remoteAddress: current, options: options, engine: engine)
            guard engine != nil else {
                end(.success(connection))
                return
            }
            handshaking = connection
            connection.handshakeEnded = { [self] failure in handshakeEnded(connection, failure) }
        } catch {
            end(.failure(.system(error)))
        }
    }

    private func handshakeEnded(_ connection: Connection, _ failure: CloseReason?) {
        handshaking = nil
        switch failure {
        case nil: end(.success(connection))
        case .tls(let error): end(.failure(.tls(error)))
        case .failed(let error): end(.failure(.system(error)))
        case .handshakeTimeout: end(.failure(.timedOut(address)))
        case .some(let reason): end(.failure(.closed(reason)))
        }
    }

    private func end(_ result: Result<Connection, NetError>) {
        guard let completion else { return }
        self.completion = nil
        timer?.cancel()
        timer = nil
        closeDescriptor()
        handshaking?.close()
        handshaking = nil
        completion(result)
    }
}
