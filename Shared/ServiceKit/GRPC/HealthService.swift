import Base
import Contracts
import Net

/// The standard health service (`grpc.health.v1`): what a load balancer or a kubelet asks.
///
/// The empty name stands for the server as a whole. `Check` answers NOT_FOUND for a name nobody set, `Watch` answers
/// SERVICE_UNKNOWN and goes on watching, as the specification says.
package final class HealthService {
    private var states: [String: HealthCheckResponse.Status] = [:]
    private var watchers: [ObjectIdentifier: Watcher] = [:]

    /// A server that is not ready: `set(.serving)` when it is.
    package init() { states[""] = .notServing }

    /// Offers Check and Watch on `server`.
    package func register(on server: GRPCServer) {
        server.registerUnary(path: "/grpc.health.v1.Health/Check") { [self] request, call in check(request, call) }
        server.register(path: "/grpc.health.v1.Health/Watch") { [self] stream in Watcher(self, stream) }
    }

    /// Changes the state of `service` and tells who watches it.
    package func set(_ status: HealthCheckResponse.Status, for service: String = "") {
        guard states[service] != status else { return }
        states[service] = status
        for watcher in watchers.values where watcher.service == service { watcher.tell(status) }
    }

    /// Everything is NOT_SERVING from now on, and nobody watches any more: the process drains.
    package func shutDown() {
        for service in states.keys { set(.notServing, for: service) }
        for watcher in watchers.values { watcher.end() }
    }

    fileprivate func status(of service: String) -> HealthCheckResponse.Status? { states[service] }

    private func check(_ request: ByteView, _ call: GRPCUnaryCall) {
        do throws(DatabaseError) {
            let service = try HealthCheckRequest(decoding: request).service
            guard let status = states[service] else {
                call.fail(GRPCStatus(.notFound, "unknown service \(service)"))
                return
            }
            call.reply(HealthCheckResponse(status: status).encode())
        } catch {
            call.fail(GRPCStatus(error))
        }
    }

    fileprivate func add(_ watcher: Watcher) { watchers[ObjectIdentifier(watcher)] = watcher }

    fileprivate func remove(_ watcher: Watcher) { watchers[ObjectIdentifier(watcher)] = nil }
}

/// One Watch call.
private final class Watcher: GRPCStreamHandler {
    private let health: HealthService
    private let stream: GRPCServerStream
    private(set) var service: String?
    /// The last state that did not fit into a blocked stream; states in between are of no interest.
    private var untold: HealthCheckResponse.Status?

    init(_ health: HealthService, _ stream: GRPCServerStream) {
        self.health = health
        self.stream = stream
    }

    func received(_ message: ByteView) {
        do throws(DatabaseError) {
            guard service == nil else {
                throw DatabaseError(.protocolViolation, "Watch takes one request")
            }
            let service = try HealthCheckRequest(decoding: message).service
            self.service = service
            health.add(self)
            tell(health.status(of: service) ?? .serviceUnknown)
        } catch {
            stream.finish(GRPCStatus(error))
        }
    }

    func tell(_ status: HealthCheckResponse.Status) {
        guard stream.isWritable else {
            untold = status
            return
        }
        stream.send { $0.append(HealthCheckResponse(status: status).encode()) }
    }

    func writable() {
        guard let status = untold else { return }
        untold = nil
        tell(status)
    }

    func draining() { end() }

    func end() { stream.finish(GRPCStatus(.unavailable, "the server is shutting down")) }

    func closed(_ status: GRPCStatus) { health.remove(self) }
}
