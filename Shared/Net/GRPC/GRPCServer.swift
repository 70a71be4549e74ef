import Base
import Crypto

/// Serves gRPC on one loop: any number of addresses, one table of methods.
package final class GRPCServer {
    package let loop: EventLoop
    package let services = GRPCServices()
    package let limits: GRPCLimits

    private var listeners: [Listener] = []
    private var endpoints: [ObjectIdentifier: GRPCEndpoint] = [:]
    private var isDraining = false
    private var onDrained: (() -> Void)?
    private var drainTimer: LoopTimer?

    package init(loop: EventLoop, limits: GRPCLimits = GRPCLimits()) {
        self.loop = loop
        self.limits = limits
    }

    package var connectionCount: Int { endpoints.count }

    /// Calls being served.
    package var callCount: Int { endpoints.values.reduce(0) { $0 + ($1.grpc?.openCalls ?? 0) } }

    /// Offers a method of any kind; `factory` makes the handler of each call.
    package func register(path: String, _ factory: @escaping GRPCServices.Factory) {
        services.register(path: path, factory)
    }

    /// Offers a method with one request and one response.
    package func registerUnary(path: String, _ body: @escaping (ByteView, GRPCUnaryCall) -> Void) {
        services.registerUnary(path: path, body)
    }

    /// Starts to accept on `address` and returns the listener, which knows the address in effect.
    @discardableResult
    package func listen(
        on address: SocketAddress, tls: TLSContext? = nil, limits: ListenerLimits = ListenerLimits()
    ) throws(NetError) -> Listener {
        let listener = try bind(to: address, tls: tls, limits: limits)
        do throws(SystemError) { try listener.start() } catch { throw .system(error) }
        return listener
    }

    /// Takes an address without serving there yet: clients that connect wait until the listener's `start`.
    package func bind(
        to address: SocketAddress, tls: TLSContext? = nil, limits: ListenerLimits = ListenerLimits()
    ) throws(NetError) -> Listener {
        let listener = try Listener(loop: loop, address: address, tls: tls, limits: limits) { [self] in adopt($0) }
        listeners.append(listener)
        return listener
    }

    /// Serves a connection that somebody else accepted.
    package func adopt(_ connection: Connection) {
        guard !isDraining else {
            connection.close()
            return
        }
        do throws(HTTP2Failure) {
            let endpoint = try GRPCEndpoint(connection, services: services, limits: limits)
            let key = ObjectIdentifier(endpoint)
            endpoints[key] = endpoint
            endpoint.onClosed = { [self] _ in
                endpoints[key] = nil
                finishDrain()
            }
        } catch {
            connection.close()
        }
    }

    /// Stops accepting, tells clients to go elsewhere and handlers to come to an end (`draining`), and calls
    /// `completion` when the last connection is gone. Calls that are open after the grace period end with
    /// UNAVAILABLE.
    package func drain(graceMilliseconds: Int = 3_000, _ completion: @escaping () -> Void) {
        isDraining = true
        onDrained = completion
        for listener in listeners { listener.close() }
        listeners = []
        for endpoint in endpoints.values { endpoint.grpc?.shutDown() }
        drainTimer = loop.schedule(afterMilliseconds: graceMilliseconds) { [self] in
            let status = GRPCStatus(.unavailable, "the server is shutting down")
            for endpoint in endpoints.values { endpoint.grpc?.finishCalls(status) }
        }
        loop.runLater { [self] in finishDrain() }
    }

    private func finishDrain() {
        guard isDraining, endpoints.isEmpty, let onDrained else { return }
        self.onDrained = nil
        drainTimer?.cancel()
        onDrained()
    }

    /// Ends everything at once.
    package func close() {
        isDraining = true
        for listener in listeners { listener.close() }
        listeners = []
        for endpoint in endpoints.values { endpoint.close(GRPCStatus(.unavailable, "the server is shutting down")) }
    }
}
